"""Two runs, figure by figure."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from history_helpers import CLEAN, FOG, KEYS, a_run, answers, figures, kept

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.bootstrap import Bootstrap, proportion_figure
from pytest_cliprobust.figures.change import Change, change_between
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.outcomes import Outcomes, mean
from pytest_cliprobust.figures.paired import holm
from pytest_cliprobust.gating.baseline import Provenance
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.reporting.json import document
from pytest_cliprobust.results import compare as compare_module
from pytest_cliprobust.results.compare import (
    Compared,
    Sides,
    Word,
    changed_sides,
    compare,
    judged,
    matched_answers,
)
from pytest_cliprobust.results.earlier import Earlier, of_document

RIGHT = answers(0.8)


def runs(
    path: Path, before: Sequence[Figure], after: Sequence[Figure], **other: object
) -> list[Earlier]:
    return kept(
        path / "history.sqlite",
        a_run(before),
        a_run(after, **other),  # type: ignore[arg-type]
    )


def by_metric(rows: Sequence[Compared]) -> dict[str, Compared]:
    return {row.head.metric: row for row in rows}


def test_the_same_run_twice_is_identical(tmp_path: Path) -> None:
    base, head = runs(tmp_path, figures(RIGHT), figures(RIGHT))
    rows = by_metric(compare(base, head).rows)
    assert rows.pop("ece").word is Word.UNSEEN
    assert {row.word for row in rows.values()} == {Word.IDENTICAL}
    assert all(row.difference == 0.0 and row.p_value == 1.0 for row in rows.values())
    # Equal answers may be those of another model, so its interval has a width; equal areas are one's own.
    assert all(row.low <= 0.0 <= row.high for row in rows.values())
    assert (rows["auroc_energy"].low, rows["auroc_energy"].high) == (0.0, 0.0)
    assert all(row.sides == {} for row in rows.values())
    assert compare(base, head).losses == ()
    # Of other weights only equal scores are the same for sure; equal answers may part elsewhere.
    other = kept(
        tmp_path / "other.sqlite",
        a_run(figures(RIGHT)),
        a_run(figures(RIGHT), digest="cd34"),
    )
    rows = by_metric(compare(*other).rows)
    for metric in ("accuracy", "accuracy_drop"):
        assert rows[metric].word is Word.IDENTICAL
        assert rows[metric].low < rows[metric].difference == 0.0 < rows[metric].high
        assert rows[metric].p_value == 1.0
    assert (rows["nll"].low, rows["nll"].high) == (0.0, 0.0)


def test_a_loss_is_seen_sample_by_sample_with_the_samples_that_changed(tmp_path: Path) -> None:
    right = np.flatnonzero(RIGHT)
    wrong = np.flatnonzero(~RIGHT)
    after = RIGHT.copy()
    after[right[:30]] = False
    after[wrong[:2]] = True
    base, head = runs(tmp_path, figures(RIGHT), figures(after))
    made = compare(base, head)
    row = by_metric(made.rows)["accuracy"]
    assert row.word is Word.WORSE
    assert row.difference == pytest.approx(-28 / 200)
    assert row.low < row.difference < row.high < 0
    assert row.how == "paired, n = 200 in 100 drawings"
    assert row.sides["value"].lost == tuple(KEYS.ids[i] for i in right[:30])
    assert row.sides["value"].gained == tuple(KEYS.ids[i] for i in wrong[:2])
    direct = change_between(figures(after)[0], figures(RIGHT)[0])
    assert (row.low, row.high) == (direct.interval(0.95).low, direct.interval(0.95).high)
    assert row.p_value == direct.p_value
    assert row in made.losses
    assert by_metric(compare(head, base).rows)["accuracy"].word is Word.BETTER


def test_p_values_are_adjusted_for_all_figures(tmp_path: Path) -> None:
    base, head = runs(
        tmp_path,
        figures(RIGHT),
        figures(answers(0.8, flipped=range(40)), seed=1),
    )
    rows = compare(base, head).rows
    raw = [row.p_value for row in rows]
    assert all(p is not None for p in raw)
    np.testing.assert_allclose(
        [row.adjusted or 0.0 for row in rows], holm([p or 0.0 for p in raw]), rtol=0
    )
    assert any((row.adjusted or 0.0) > (row.p_value or 0.0) for row in rows)
    for row in rows:
        assert row.adjusted is not None
        assert (row.word in (Word.BETTER, Word.WORSE)) == (row.adjusted <= 0.05)


def test_figures_are_paired_as_in_a_session(tmp_path: Path) -> None:
    before, after = figures(RIGHT), figures(answers(0.8, flipped=range(25)), seed=1)
    base, head = runs(tmp_path, before, after)
    rows = by_metric(compare(base, head).rows)
    for now, then in zip(after, before, strict=True):
        row = rows[now.metric]
        if now.metric == "ece":  # as these tests make it up
            assert row.how.startswith("not paired: how ece follows from its samples is not kept")
            continue
        assert row.how == "paired, n = 200 in 100 drawings"
        direct = change_between(now, then)
        # To what float32 keeps of the numbers.
        assert row.difference == pytest.approx(direct.difference, abs=1e-7)
        assert row.low == pytest.approx(direct.interval(0.95).low, abs=1e-6)
        assert row.p_value == pytest.approx(direct.p_value, rel=1e-3)
        assert row.change is not None
        assert row.change.standard_error == pytest.approx(direct.standard_error, rel=1e-4)
    assert rows["accuracy_drop"].sides.keys() == {"clean", "shifted"}
    assert rows["nll"].change is not None
    assert rows["nll"].change.interval(0.9).method == "paired"


def test_only_the_samples_that_both_have_are_compared(tmp_path: Path) -> None:
    rows = np.arange(120)
    part = figures(RIGHT[rows], keys=KEYS.take(rows))
    after = RIGHT.copy()
    after[[0, 1, 150]] ^= True
    base, head = runs(tmp_path, part, figures(after))
    row = by_metric(compare(base, head).rows)["accuracy"]
    assert row.how == "paired, n = 120 in 60 drawings"
    assert row.change is not None
    assert row.change.before == pytest.approx(RIGHT[:120].mean())
    assert sum(len(s.lost) + len(s.gained) for s in row.sides.values()) == 2
    told = row.as_dict()
    assert told["before"] == pytest.approx(RIGHT[:120].mean())
    assert told["after"] != pytest.approx(row.head.figure.value)


def test_a_report_is_compared_by_its_intervals(tmp_path: Path) -> None:
    base = of_document(document(a_run(figures(RIGHT))), {}, "report.json")
    (head,) = kept(tmp_path / "h", a_run(figures(answers(0.8, flipped=range(10)))))
    rows = compare(base, head).rows
    assert all(row.how.startswith("not paired: the earlier run kept no outcomes") for row in rows)
    assert all(row.p_value is not None and 0.0 < row.p_value <= 1.0 for row in rows)
    back = compare(head, base).rows
    assert all(row.how.startswith("not paired: this figure has no outcomes") for row in back)


def test_what_is_no_number_or_was_measured_elsewhere_is_not_comparable(tmp_path: Path) -> None:
    nan = math.nan
    several = Condition("clean", over=(CLEAN, FOG), label="all_2d")
    fewer = replace(several, over=(FOG,))
    limited = replace(several, over=(replace(CLEAN, limit=9), FOG), limit=9)
    plain = proportion_figure("accuracy", RIGHT, Bootstrap(keys=KEYS))
    before = [
        plain.measured_on(CLEAN),
        plain.measured_on(several),
        Figure("nll", 1.0, 0.9, 1.1, 200, unit="nats").measured_on(CLEAN),
        Figure("ece", 0.1, 0.0, 0.2, 200).measured_on(CLEAN),
    ]
    broken = replace(plain, value=nan, low=nan, high=nan)
    after = [
        broken.measured_on(CLEAN),
        plain.measured_on(fewer),
        Figure("nll", 1.0, 0.9, 1.1, 200, unit="bits").measured_on(CLEAN),
        Figure("ece", 0.1, 0.0, 0.2, 200).measured_on(CLEAN),
    ]
    base, head = runs(tmp_path, before, after)
    rows = {(row.head.metric, row.head.perturbation): row for row in compare(base, head).rows}
    told = {
        ("accuracy", "clean"): "accuracy of head is nan [nan, nan]",
        ("accuracy", "all_2d"): "measured on other conditions than clean, all_2d of base",
        ("nll", "clean"): "nats then, bits now",
    }
    for key, words in told.items():
        assert rows[key].word is Word.NOT_COMPARABLE
        assert rows[key].how == words
        assert rows[key].p_value is None
        json.dumps(rows[key].as_dict(), allow_nan=False)
    assert rows["ece", "clean"].word is Word.UNSEEN
    (only,) = kept(tmp_path / "l", a_run([plain.measured_on(limited)]))
    assert compare(base, only).rows[0].word is Word.IDENTICAL


def test_a_metric_without_a_good_end_is_higher_or_lower(tmp_path: Path) -> None:
    before, after = (
        Figure("signed_gap", value, value - 0.01, value + 0.01, 200).measured_on(CLEAN)
        for value in (0.0, 0.2)
    )
    base, head = runs(tmp_path, [before], [after])
    assert compare(base, head).rows[0].word is Word.HIGHER
    assert compare(head, base).rows[0].word is Word.LOWER


def test_a_metric_that_nobody_knows_here_is_higher_or_lower() -> None:
    told = [
        document(
            a_run([Figure("my_own", value, value - 0.01, value + 0.01, 200).measured_on(CLEAN)])
        )
        for value in (0.0, 0.2)
    ]
    base, head = (of_document(one, {}, "report.json") for one in told)
    assert compare(base, head).rows[0].word is Word.HIGHER


def test_numerical_noise_is_no_change(tmp_path: Path) -> None:
    made = [
        Figure("nll", value, value - 1e-4, value + 1e-4, 200).measured_on(CLEAN)
        for value in (1.0, 1.01)
    ]
    base, head = runs(tmp_path, made[:1], made[1:])
    (row,) = compare(base, head).rows
    assert row.word is Word.WORSE
    noise = {row.key: 0.02}
    for then, now in ((base, replace(head, noise=noise)), (replace(base, noise=noise), head)):
        (quiet,) = compare(then, now).rows
        assert quiet.word is Word.UNSEEN
        assert quiet.low == pytest.approx(row.low - 0.02)
        assert quiet.high == pytest.approx(row.high + 0.02)


def test_figures_that_one_run_has_are_listed(tmp_path: Path) -> None:
    made = figures(RIGHT)
    base, head = runs(tmp_path, made[:3], made[1:])
    comparison = compare(base, head)
    assert comparison.only_base == ("mine/accuracy/clean/clean/reference",)
    assert comparison.only_head == (
        "mine/ece/clean/clean/reference",
        "mine/nll/clean/clean/reference",
    )
    assert len(comparison.rows) == 2


# --- Models ----------------------------------------------------------------------------------------


def test_models_of_other_names_are_compared_if_there_is_one_of_each(tmp_path: Path) -> None:
    base, head = kept(
        tmp_path / "h", a_run(figures(RIGHT), "old"), a_run(figures(RIGHT), "new", digest="cd34")
    )
    made = compare(base, head)
    assert len(made.rows) == 5
    assert made.rows[0].key.endswith("/new")
    assert made.rows[0].base.key.endswith("/old")
    assert "new is compared with old" in made.notes


def test_two_models_of_one_run(tmp_path: Path) -> None:
    full = a_run(figures(RIGHT), "full")
    small = a_run(figures(answers(0.8, flipped=range(60))), "small")
    both = replace(
        full, records=(*full.records, *small.records), models={**full.models, **small.models}
    )
    (run,) = kept(tmp_path / "h", both)
    made = compare(run, run, base_model="full", head_model="small")
    assert len(made.rows) == 5
    assert made.only_base == made.only_head == ()
    assert {row.head.model for row in made.rows} == {"small"}
    assert by_metric(made.rows)["accuracy"].word is Word.WORSE
    (other,) = kept(tmp_path / "o", a_run(figures(RIGHT), "third"))
    with pytest.raises(ClipRobustError, match="say with --base-model and --head-model"):
        compare(run, other)
    with pytest.raises(ClipRobustError, match=r"no figures of model 'smal'\. Did you mean 'small'"):
        compare(run, run, head_model="smal")


# --- What to know beside ---------------------------------------------------------------------------


def test_what_differs_beside_the_model_is_told(tmp_path: Path) -> None:
    base, head = runs(
        tmp_path, figures(RIGHT), figures(RIGHT), seed=7, complete=False, digest="ab12"
    )
    notes = compare(base, head).notes
    assert "run 2 did not come to its end" in notes
    assert "reference: the same weights in both" in notes
    assert any(note.startswith("seed 7, recorded with 0") for note in notes)


def test_a_perturbation_that_changed_since_is_not_paired(tmp_path: Path) -> None:
    base, head = runs(tmp_path, figures(RIGHT), figures(RIGHT))
    told = [
        replace(
            run,
            header={
                **run.header,
                "provenance": {
                    **run.header["provenance"],
                    "perturbations": {"fog_3d": version},
                },
            },
        )
        for run, version in ((base, "1"), (head, "2"))
    ]
    rows = by_metric(compare(*told).rows)
    assert "fog_3d has changed since (version 1 then, 2 now)" in rows["accuracy_drop"].how
    assert rows["accuracy"].how.startswith("paired")


def test_a_run_without_names_is_compared_with_one_that_has_them(tmp_path: Path) -> None:
    after = answers(0.8, flipped=range(20))
    base, head = kept(tmp_path / "h", a_run(figures(RIGHT)), a_run(figures(after)).unnamed())
    for made in (compare(base, head), compare(head, base)):
        row = by_metric(made.rows)["accuracy"]
        assert row.how == "paired, n = 200 in 100 drawings"
        named = {name for s in row.sides.values() for name in (*s.lost, *s.gained)}
        assert len(named) == 20
        assert not named & set(KEYS.ids)


def test_samples_of_other_content_are_not_matched(tmp_path: Path) -> None:
    before, after = (
        replace(KEYS, digests=tuple(f"{i if i < 150 else i + more}" for i in range(200)))
        for more in (0, 1000)
    )
    made = [
        proportion_figure("accuracy", RIGHT, Bootstrap(keys=keys)).measured_on(CLEAN)
        for keys in (before, after)
    ]
    base, head = runs(tmp_path, made[:1], made[1:])
    assert compare(base, head).rows[0].how == "paired, n = 150 in 75 drawings"


def test_the_comparison_as_data(tmp_path: Path) -> None:
    base, head = runs(tmp_path, figures(RIGHT), figures(answers(0.8, flipped=range(30))))
    told = json.loads(json.dumps(compare(base, head).as_dict(), allow_nan=False))
    assert (told["schema"], told["base"], told["head"]) == (1, "run 1", "run 2")
    figure = next(f for f in told["figures"] if "/accuracy/" in f["key"])
    assert figure["before"] + figure["difference"] == pytest.approx(figure["after"])
    assert figure["paired"] is True
    assert figure["n"] == 200
    assert figure["units"] == 100
    assert figure["changed"] == pytest.approx(0.15)
    lost = figure["samples"]["value"]["lost"]
    assert lost
    assert set(lost) <= set(KEYS.ids[:30])
    drop = next(f for f in told["figures"] if "/accuracy_drop/" in f["key"])
    assert drop["samples"].keys() == {"clean", "shifted"}
    assert all(drop["samples"].values())


def test_keys_alone_make_no_pair(tmp_path: Path) -> None:
    others = SampleKeys(tuple(f"x{i}" for i in range(200)), KEYS.units)
    base, head = runs(tmp_path, figures(RIGHT), figures(RIGHT, keys=others))
    assert all(
        "no samples in common" in row.how
        for row in compare(base, head).rows
        if row.head.metric != "ece"
    )


def row_of(value: float = 0.5, **more: Any) -> Compared:
    figure = Figure("accuracy", value, value - 0.1, value + 0.1, 40)
    measured = Measurement("accuracy", "m", figure.measured_on(Condition("clean", ())))
    return Compared(measured, measured, True, "", **more)


@pytest.mark.parametrize(
    ("difference", "adjusted", "better", "word"),
    [
        (0.2, 0.05, True, Word.BETTER),
        (0.2, 0.05001, True, Word.UNSEEN),
        (-0.2, 0.01, True, Word.WORSE),
        (0.2, 0.01, False, Word.WORSE),
        (-0.2, 0.01, False, Word.BETTER),
        (0.2, 0.01, None, Word.HIGHER),
        (-0.2, 0.01, None, Word.LOWER),
        (0.125, 0.0, True, Word.UNSEEN),  # as large as the noise
        (-0.125, 0.0, True, Word.UNSEEN),
        (-0.1251, 0.0, True, Word.WORSE),
    ],
)
def test_words(difference: float, adjusted: float, better: bool | None, word: Word) -> None:
    row = replace(row_of(difference=difference, noise=0.125), higher_is_better=better)
    assert compare_module._word(row, adjusted, 0.95 if adjusted != 0.05 else 1.0 - 0.05) is word


def test_an_error_rate_is_shared_by_all_that_can_be_compared() -> None:
    rows = [
        replace(row_of(difference=-0.3, p_value=p), head=replace(row_of().head, suite=f"s{i}"))
        for i, p in enumerate((0.02, None, 0.03, 0.001))
    ]
    found = judged(rows, 0.95)
    assert [row.adjusted for row in found] == pytest.approx([0.04, None, 0.04, 0.003])
    assert [row.word for row in found] == [
        Word.WORSE,
        Word.NOT_COMPARABLE,
        Word.WORSE,
        Word.WORSE,
    ]
    strict = judged(rows, 0.97)
    assert [row.word for row in strict] == [
        Word.UNSEEN,
        Word.NOT_COMPARABLE,
        Word.UNSEEN,
        Word.WORSE,
    ]
    assert judged([]) == []


def test_sides_are_those_of_every_column_of_yes_and_no() -> None:
    keys = SampleKeys(tuple("abcd"), tuple("abcd"))
    yes = np.array([True, True, False, False])
    other = np.array([True, False, True, False])
    columns = {
        "score": np.arange(4.0),
        "first": yes,
        "wide": np.stack([yes, yes], axis=1),
        "same": yes,
        "second": other,
    }
    before = Outcomes(columns, mean, keys=keys)
    after = replace(
        before, columns={**columns, "first": other, "second": yes, "score": -columns["score"]}
    )
    found = changed_sides(before, after)
    assert found == {
        "first": Sides(lost=("b",), gained=("c",)),
        "second": Sides(lost=("c",), gained=("b",)),
    }
    assert changed_sides(before, replace(after, keys=None)) == {}
    assert changed_sides(replace(before, keys=None), after) == {}
    assert changed_sides(None, after) == changed_sides(before, None) == {}
    # Only samples that both runs have, wherever they stand.
    less = SampleKeys(tuple("dcxb"), tuple("dcxb"))
    moved = Outcomes({"first": np.array([True, True, True, False])}, mean, keys=less)
    assert changed_sides(before, moved) == {"first": Sides(lost=("b",), gained=("c", "d"))}


def test_a_change_that_cannot_be_estimated_is_certain_or_none() -> None:
    nan = math.nan
    for difference, p in ((0.0, 1.0), (0.25, 0.0)):
        change = Change(difference, nan, True, 9, 9, 0.0, difference)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(compare_module, "change_of", lambda *rest, made=change, **more: made)
            found = compare_module._compared(row_of(noise=0.125), 0.95, 0, False)
        assert (found.p_value, found.difference) == (p, difference)
    sure = Change(0.25, 0.1, True, 9, 9, 0.0, 0.25)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(compare_module, "change_of", lambda *rest, **more: sure)
        found = compare_module._compared(row_of(noise=0.125), 0.95, 0, False)
    own = sure.interval(0.95)
    assert (found.low, found.high) == (own.low - 0.125, own.high + 0.125)
    assert found.p_value == sure.p_value


def models_of(path: Path, *names: str, digest: str = "ab12", limit: int | None = None) -> Earlier:
    """Return a run of several models."""
    each = [a_run(figures(RIGHT, seed), name, digest=digest) for seed, name in enumerate(names)]
    provenance = Provenance(
        "quick",
        0,
        dict.fromkeys(names, "fp32"),
        {name: f"{digest}{name}" for name in names},
        dict.fromkeys(names, "t"),
    )
    together = replace(
        each[0],
        config=replace(each[0].config, limit=limit),
        records=tuple(record for run in each for record in run.records),
        models={name: summary for run in each for name, summary in run.models.items()},
        provenance=provenance,
    )
    (found,) = kept(path, together)
    return found


def test_each_model_is_compared_with_its_own_and_one_without_is_left_out(tmp_path: Path) -> None:
    base = models_of(tmp_path / "b", "a", "b", "c")
    head = models_of(tmp_path / "h", "new", "b", "a")
    made = compare(base, head)
    pairs = {(row.base.model, row.head.model) for row in made.rows}
    assert pairs == {("a", "a"), ("b", "b")}
    assert len(made.rows) == 10
    # Of models that nobody is compared with nothing is listed.
    assert (made.only_base, made.only_head) == ((), ())
    assert made.notes == ("b: the same weights in both", "a: the same weights in both")
    # One model of the earlier run for all.
    made = compare(base, head, base_model="c")
    assert {(row.base.model, row.head.model) for row in made.rows} == {
        *(("c", "new"), ("c", "b"), ("c", "a")),
    }
    assert [note for note in made.notes if "compared" in note] == [
        *("new is compared with c", "b is compared with c", "a is compared with c"),
    ]
    other = models_of(tmp_path / "o", "x", "y")
    with pytest.raises(ClipRobustError) as caught:
        compare(base, other)
    assert str(caught.value) == (
        "run 1 is of a, b, c, run 1 of x, y: say with --base-model and --head-model which is compared with "
        "which"
    )
    with pytest.raises(ClipRobustError) as caught:
        compare(base, head, base_model="news")
    assert str(caught.value) == "run 1 has no figures of model 'news'. It has a, b, c"


def test_only_what_is_asked_for_is_compared_and_listed(tmp_path: Path) -> None:
    made = figures(RIGHT)
    base, head = runs(tmp_path, [made[0], made[1]], [made[0], *made[2:]])
    chosen = compare(base, head, only=lambda one: one.metric in ("accuracy", "nll"))
    assert [row.head.metric for row in chosen.rows] == ["accuracy"]
    assert chosen.only_base == ()
    assert chosen.only_head == ("mine/nll/clean/clean/reference",)
    assert compare(base, head, only=lambda one: one.metric == "accuracy_drop").only_base == (
        "mine/accuracy_drop/clean/fog_3d@3/reference",
    )


def test_limits_and_both_ends_of_unfinished_runs_are_told(tmp_path: Path) -> None:
    base = models_of(tmp_path / "b", "m", digest="x", limit=100)
    head = models_of(tmp_path / "h", "m", digest="y")
    cut = [replace(run, header={**run.header, "complete": False}) for run in (base, head)]
    end = "only samples that both have are compared one by one"
    assert compare(*cut).notes == (
        "run 1 did not come to its end",
        f"sample limit none, then 100: {end}",
    )
    assert compare(head, base).notes == (f"sample limit 100, then none: {end}",)
    # Without a digest nobody knows whose the weights are.
    bare = [
        replace(
            run, header={**run.header, "provenance": {**run.header["provenance"], "weights": {}}}
        )
        for run in (base, base)
    ]
    assert compare(*bare).notes == ()


def test_a_figure_that_is_no_number_in_either_run_says_in_which(tmp_path: Path) -> None:
    good = Figure("ece", 0.1, 0.0, 0.2, 200).measured_on(CLEAN)
    for broken in (
        Figure("ece", math.nan, math.nan, math.nan, 200),
        Figure("ece", 0.1, -math.inf, 0.2, 200),
        Figure("ece", 0.1, 0.0, math.inf, 200),
    ):
        bad = broken.measured_on(CLEAN)
        for place, (then, now) in {"base": (bad, good), "head": (good, bad)}.items():
            folder = tmp_path / f"{broken.low}{broken.high}{place}"
            (row,) = compare(*runs(folder, [then], [now])).rows
            assert row.word is Word.NOT_COMPARABLE
            assert row.how == f"ece of {place} is {broken.interval_text()}"
            told = row.as_dict()
            assert (told["n"], told["changed"], told["p"], told["paired"]) == (None,) * 3 + (False,)
            assert told["higher_is_better"] is False


@pytest.mark.parametrize("broken", ["text", "wide", "none", "no keys", "no outcomes"])
@pytest.mark.parametrize("which", ["before", "after"])
def test_answers_are_matched_only_where_both_runs_have_them(broken: str, which: str) -> None:
    yes = np.array([True, True, False])
    made = {
        "before": Outcomes(
            {"value": yes, "other": ~yes}, mean, keys=SampleKeys(tuple("abc"), tuple("abc"))
        )
    }
    made["after"] = Outcomes(
        {"value": np.array([True, False, False]), "other": yes},
        mean,
        keys=SampleKeys(tuple("cbx"), tuple("cbx")),
    )

    def row(before: Outcomes | None, after: Outcomes | None) -> Compared:
        base, head = (
            replace(one, figure=replace(one.figure, outcomes=outcomes).measured_on(CLEAN))
            for one, outcomes in ((row_of().base, before), (row_of().head, after))
        )
        return replace(row_of(), base=base, head=head)

    whole = row(made["before"], made["after"])
    # The later run's row of each sample that both have: c was wrong and is right, b was right and is not.
    assert sorted(matched_answers(whole)) == [(0, False, True), (1, True, False)]
    assert sorted(matched_answers(whole, "other")) == [(0, True, True), (1, False, True)]
    assert matched_answers(whole, "third") == []
    one = made[which]
    other: dict[str, Outcomes | None] = {
        "text": replace(one, columns={"value": np.array(["a", "b", "c"])}),
        "wide": replace(one, columns={"value": np.arange(3.0)}),
        "none": replace(one, columns={"third": yes}),
        "no keys": replace(one, keys=None),
        "no outcomes": None,
    }
    found = {**made, which: other[broken]}
    assert matched_answers(row(found["before"], found["after"])) == []


@pytest.mark.parametrize("unknown", ["base", "head", "both"])
def test_a_run_that_does_not_say_what_decided_it_is_compared_without_notes(
    tmp_path: Path, unknown: str
) -> None:
    base, head = runs(tmp_path, figures(RIGHT), figures(RIGHT), seed=7)
    assert len(compare(base, head).notes) == 2
    if unknown != "head":
        base = replace(base, header={**base.header, "provenance": None})
    if unknown != "base":
        head = replace(head, header={**head.header, "provenance": None})
    made = compare(base, head)
    assert made.notes == ()
    assert len(made.rows) == 5


def test_an_error_rate_that_is_reached_exactly_is_kept() -> None:
    for adjusted, word in ((0.5, Word.WORSE), (math.nextafter(0.5, 1.0), Word.UNSEEN)):
        row = row_of(difference=-0.2, p_value=adjusted)
        (found,) = judged([row], 0.5)
        assert found.word is word

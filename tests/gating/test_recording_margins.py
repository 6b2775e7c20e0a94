"""Recording margins: where they go, whose they are, and that nothing changes the second time."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gating_helpers import (
    HEAD,
    answered,
    answers,
    averaged,
    baseline_of,
    changed,
    condition,
    measure,
    same_again,
)
from helpers import keys_of

from pytest_cliprobust.figures.bootstrap import Bootstrap, bootstrap_figure
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.outcomes import Outcomes, mean
from pytest_cliprobust.gating import recording as module
from pytest_cliprobust.gating.margins import decidable
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.reading import load_thresholds, parse_thresholds
from pytest_cliprobust.gating.recording import RecordChange, record
from pytest_cliprobust.gating.verdict import judge

CLEAN = answered(answers(1000))
#: What :func:`recorded` writes of it.
SIZE, COMMENT = 0.027, "# measured 0.84 [0.816, 0.8614], n = 1000"
TOLD = "the smallest that n = 1,000 decides; 0.01 needs about 7,300"


def fog(severity: int, share: float, n: int = 1000) -> Measurement:
    return answered(answers(n, share), on=condition("clean", "fog_3d", severity))


def recorded(path: Path, text: str, run: list[Measurement], **how: Any) -> tuple[str, list[str]]:
    """Record a run twice; return the file and what was told of it.

    The second time changes nothing, and the run keeps its bounds against itself.
    """
    path.write_text(text)
    told = record(path, run, **how)
    after = path.read_text()
    again = record(path, run, **how)
    assert path.read_text() == after
    assert {change.action for change in again} <= {"unchanged", "skipped"}
    file = load_thresholds(path, profile=how.get("profile"))
    for one in run:
        rule = file.lookup(one)
        if rule is not None and one.figure.outcomes is not None:
            verdict = judge(one, rule, file.policy, baseline=same_again(*run))
            assert verdict.status == "pass", verdict
    return after, [str(change).replace(str(path), "t.toml") for change in told]


def exact(bounds: str, comment: str = "") -> str:
    """Return a file with one exact rule, a row."""
    mark = f"  {comment}" if comment else ""
    return (
        f'{HEAD}[[threshold]]\nsuite = "accuracy"\nmetric = "accuracy"\ndataset = "clean"\n'
        f'model = "reference"\nbounds = [\n    {{ perturbation = "clean", {bounds} }},{mark}\n]\n'
    )


def test_a_figure_with_outcomes_gets_a_margin(tmp_path: Path) -> None:
    after, told = recorded(tmp_path / "t.toml", HEAD, [CLEAN])
    assert after == HEAD + (
        '\n[[threshold]]\nsuite = "accuracy"\nmetric = "accuracy"\ndataset = "clean"\n'
        'model = "reference"\nbounds = [\n    { perturbation = "clean", max_decrease = 0.027 },'
        f"  {COMMENT}\n]\n"
    )
    found = decidable(CLEAN.figure, Policy())
    assert found is not None
    assert found.size == SIZE
    assert told == [
        "t.toml:9: max_decrease none → 0.027 (accuracy/accuracy/clean/clean/reference, "
        + TOLD
        + ")"
    ]


def test_the_direction_of_the_metric_is_that_of_the_margin(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    values = np.random.default_rng(0).normal(size=500)
    run = [
        averaged(values, metric=name) for name in ("nll", "signed_gap", "mean_confidence", "auroc")
    ]
    run = [one for one in run if one.metric in ("nll", "signed_gap")]
    recorded(path, HEAD, run)
    bounds = {rule.selectors["metric"][0]: set(rule.bounds) for rule in load_thresholds(path).rules}
    assert bounds == {"nll": {"max_increase"}, "signed_gap": {"max_increase", "max_decrease"}}


def test_a_figure_without_outcomes_keeps_its_absolute_bound(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    bare = Outcomes({"value": np.ones(20)}, mean)  # of arrays that nobody named
    figure = Figure("accuracy", 0.8, 0.78, 0.82, 1000, outcomes=bare).measured_on(condition())
    record(path, [measure(), Measurement("accuracy", "reference", figure)])
    assert [rule.bounds for rule in load_thresholds(path).rules] == [{"max": 0.19}, {"min": 0.76}]


def test_a_recorded_floor_becomes_a_margin_in_place(tmp_path: Path) -> None:
    floor = exact("min = 0.79", COMMENT.replace("0.84", "0.8399"))
    after, told = recorded(tmp_path / "t.toml", floor, [CLEAN])
    assert after == exact("max_decrease = 0.027", COMMENT)
    assert told == [
        "t.toml:8: max_decrease none → 0.027 (accuracy/accuracy/clean/clean/reference, instead of min "
        f"0.79; {TOLD})"
    ]


def test_what_a_person_wrote_behind_the_figures_stays_with_the_margin(tmp_path: Path) -> None:
    both = exact("because = 'users', min = 0.79", f"{COMMENT}; twice on ARM")
    after, _ = recorded(tmp_path / "t.toml", both, [CLEAN])
    assert after == both.replace("min = 0.79", "max_decrease = 0.027")


def test_a_recorded_table_becomes_a_margin_in_place(tmp_path: Path) -> None:
    table = (
        f'{HEAD}[[threshold]]\nsuite = "accuracy"\nmetric = "accuracy"\ndataset = "clean"\n'
        'perturbation = "clean"\nmodel = "reference"\n{}because = "recorded at 0.84, 95% interval '
        '0.816 to 0.8614, n = 1000"\n'
    )
    after, _ = recorded(tmp_path / "t.toml", table.format("  min  =  0.79\n"), [CLEAN])
    assert after == table.format("  max_decrease  =  0.027\n")


def test_a_band_becomes_two_margins(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    one = averaged(np.random.default_rng(0).normal(0.0, 0.3, 500), metric="signed_gap")
    ends = one.figure
    width = ends.high - ends.low
    low, high = round(ends.low - width / 2, 3), round(ends.high + width / 2, 3)
    mark = f"# measured {ends.value:.4g} [{ends.low:.4g}, {ends.high:.4g}], n = 500"
    text = exact(f"min = {low}, max = {high}", mark).replace("accuracy", "calibration")
    text = text.replace('metric = "calibration"', 'metric = "signed_gap"')
    after, told = recorded(path, text, [one])
    (rule,) = load_thresholds(path).rules
    assert set(rule.bounds) == {"max_increase", "max_decrease"}
    assert "min =" not in after
    assert "max =" not in after
    assert sorted(line.split("instead of ")[1].split()[0] for line in told) == ["max", "min"]


LIST = "# measured 0.8 [0.7741, 0.8236], 0.6 [0.5693, 0.6299], n = 1000"


def rows(bounds: str, comment: str = LIST) -> str:
    return (
        exact(bounds, comment)
        .replace('perturbation = "clean", ', 'perturbation = "fog_3d", severity = [1, 3], ')
        .replace("[[threshold]]", "[[threshold]] # fog")
    )


def test_recorded_floors_of_a_list_become_margins_in_place(tmp_path: Path) -> None:
    run = [fog(1, 0.8), fog(3, 0.6)]
    after, told = recorded(tmp_path / "t.toml", rows("min = [0.749, 0.539]"), run)
    assert after == rows("max_decrease = [0.027, 0.027]")
    assert [line.split("; ")[0].split(", ")[1] for line in told] == [
        "instead of min 0.749",
        "instead of min 0.539",
    ]
    # A person's in the list: all of it stays, and the margins stand beside it.
    after, _ = recorded(tmp_path / "t.toml", rows("min = [0.749, 0.55]"), run)
    assert after == rows("min = [0.749, 0.55], max_decrease = [0.027, 0.027]")
    # One number for all severities is a rule for all of them: the new one asks the same of each.
    after, _ = recorded(tmp_path / "t.toml", rows("min = 0.5"), run)
    new = '    { perturbation = "fog_3d", severity = [1, 3], min = [0.5, 0.5], max_decrease = [0.027, 0.027] },'
    assert after == rows("min = 0.5").replace(LIST + "\n", f"{LIST}\n{new}  {LIST}\n")


def test_a_list_becomes_margins_for_all_severities_or_for_none(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    for bounds in ("min = [0.749, 0.539]", "min = [0.749, 0.55]"):
        text = rows(bounds)
        after, (told,) = recorded(path, text, [fog(1, 0.8)])
        assert after == text
        assert told.startswith(
            "t.toml:8: not recorded: its row has no max_decrease, and severity 3 was not measured; "
            "record all of its severities"
        )
    # Once they are there, each is renewed by itself.
    margins = rows("max_decrease = [0.027, 0.027]")
    after, _ = recorded(path, margins, [fog(3, 0.6, 500)])
    size = decidable(fog(3, 0.6, 500).figure, Policy())
    assert size is not None
    assert (
        f"max_decrease = [0.027, {size.size}] }},  # measured 0.8 [0.7741, 0.8236], 0.6 [" in after
    )


def test_a_persons_floor_stays_and_the_margin_stands_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    after, _ = recorded(path, exact("min = 0.75"), [CLEAN])
    assert after == exact("min = 0.75, max_decrease = 0.027", COMMENT)
    # A comment of theirs stays, too.
    after, _ = recorded(path, exact("min = 0.75", "# ours"), [CLEAN])
    assert after == exact("min = 0.75, max_decrease = 0.027", "# ours")
    # Also one that they moved away from where it was recorded.
    after, _ = recorded(path, exact("min = 0.81", COMMENT), [CLEAN])
    assert after == exact("min = 0.81, max_decrease = 0.027", COMMENT)


def test_the_margin_beside_a_persons_floor_is_renewed(tmp_path: Path) -> None:
    """As often as one likes; the floor never moves."""
    path = tmp_path / "t.toml"
    recorded(path, exact("min = 0.75"), [CLEAN])
    for n in (500, 2000, 300):
        other = answered(answers(n, 0.9))
        after, _ = recorded(path, path.read_text(), [other])
        size = decidable(other.figure, Policy())
        assert size is not None
        assert f"min = 0.75, max_decrease = {size.size} }},  # measured 0.9 [" in after


def test_in_a_table_the_margin_says_what_it_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    table = (
        f'{HEAD}[[threshold]]\nsuite = "accuracy"\nmetric = "accuracy"\ndataset = "clean"\n'
        'perturbation = "clean"\nmodel = "reference"\nmin = 0.75 # ours\n'
    )
    after, _ = recorded(path, table, [CLEAN])
    assert after == f"{table}max_decrease = 0.027  {COMMENT}\n"
    after, _ = recorded(path, after, [answered(answers(500))])
    assert after.startswith(f"{table}max_decrease = 0.038  # measured 0.84 [")


def test_a_persons_margin_is_kept_and_told(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    text = exact("max_decrease = 0.01")
    after, (told,) = recorded(path, text, [CLEAN])
    assert after == text
    assert told == (
        "t.toml:8: max_decrease 0.01 stays (accuracy/accuracy/clean/clean/reference, smaller than the "
        "0.027 that n = 1,000 decides)"
    )
    # One that can be decided needs no word.
    after, (told,) = recorded(path, exact("max_decrease = 0.05"), [CLEAN])
    assert after == exact("max_decrease = 0.05")
    assert told == "t.toml:8: max_decrease 0.05 stays (accuracy/accuracy/clean/clean/reference)"
    # Beside a floor that an earlier version recorded.
    text = exact("min = 0.79, max_decrease = 0.01", COMMENT)
    after, (told,) = recorded(path, text, [CLEAN])
    assert after == text
    assert "0.01 stays" in told


def test_a_recorded_margin_is_renewed_up_or_down(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    for n, size in ((500, 0.038), (5000, 0.012)):
        text = exact("max_decrease = 0.027", COMMENT)
        after, (told,) = recorded(path, text, [answered(answers(n))])
        assert f"max_decrease = {size} }},  # measured 0.84 [" in after
        assert told.startswith(f"t.toml:8: max_decrease 0.027 → {size} (")


def broad(bounds: str) -> str:
    return f'{HEAD}[[threshold]]\nmetric = "accuracy"\n{bounds}\n'


def test_what_a_broader_rule_asks_for_is_taken_over(tmp_path: Path) -> None:
    """A new rule wins over it: neither a person's floor nor their margin must be lost."""
    path = tmp_path / "t.toml"
    # Nothing is new where a margin of theirs stands: the broader rule goes on judging.
    text = broad("min = 0.6\nmax_decrease = 0.01")
    after, told = recorded(path, text, [CLEAN])
    assert after == text
    assert told == [
        "t.toml:4: min 0.6 stays (accuracy/accuracy/clean/clean/reference)",
        "t.toml:5: max_decrease 0.01 stays (accuracy/accuracy/clean/clean/reference, smaller than the "
        "0.027 that n = 1,000 decides)",
    ]
    # A floor alone stands beside the new margin.
    after, told = recorded(path, broad("min = 0.6"), [CLEAN])
    assert (
        f'    {{ perturbation = "clean", min = 0.6, max_decrease = 0.027 }},  {COMMENT}\n' in after
    )
    assert told[0].endswith(f"max_decrease none → 0.027 ({CLEAN.key}, {TOLD})")
    assert told[1].endswith(f":12: min 0.6 stays ({CLEAN.key})")
    # A floor that recording wrote for any model is none of theirs: the margin takes its place.
    text = exact("min = 0.79", COMMENT).replace('model = "reference"\n', "")
    after, _ = recorded(path, text, [CLEAN])
    new = '    { perturbation = "clean", model = "reference", max_decrease = 0.027 },'
    assert after == text.replace(f"{COMMENT}\n", f"{COMMENT}\n{new}  {COMMENT}\n")


def test_the_strictest_of_several_broader_rules_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    text = HEAD + "".join(
        f'[[threshold]]\nmetric = "accuracy"\nmodel = "{model}"\nmin = {floor}\n'
        for model, floor in (("v1", 0.6), ("v2", 0.7), ("v3", 0.65))
    )
    run = [dataclasses.replace(CLEAN, model=model) for model in ("v1", "v2", "v3")]
    path.write_text(text)
    told = record(path, run, generic=("model",))
    assert [(change.bound, change.new, change.action) for change in told] == [
        ("max_decrease", 0.027, "added"),
        ("min", 0.7, "unchanged"),
    ]
    assert load_thresholds(path).rules[-1].bounds == {"min": 0.7, "max_decrease": 0.027}


def test_one_of_two_margins_of_a_broader_rule(tmp_path: Path) -> None:
    """Of a metric without a direction the person's side stays, and the other is new."""
    path = tmp_path / "t.toml"
    one = averaged(np.random.default_rng(0).normal(0.0, 0.3, 500), metric="signed_gap")
    text = f'{HEAD}[[threshold]]\nmetric = "signed_gap"\nmax_increase = 0.9\n'
    recorded(path, text, [one])
    new = load_thresholds(path).rules[-1]
    assert new.max_increase == 0.9
    assert new.max_decrease is not None
    assert new.max_decrease < 0.1


def test_a_shared_rule_gets_the_loosest_margin(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    run = [dataclasses.replace(answered(answers(n)), model=f"v{n}") for n in (1000, 300, 500)]
    path.write_text(HEAD)
    (change,) = record(path, run, generic=("model",))
    size = decidable(run[1].figure, Policy())
    assert size is not None
    assert (change.new, change.key) == (size.size, run[1].key)
    assert change.reason.startswith("the smallest that n = 300 decides; ")
    assert "n = 300\n" in path.read_text()


def test_defaults_that_name_the_model_keep_it_named(tmp_path: Path) -> None:
    """Recording leaves the model open for the next release, unless the file says whose bounds it holds."""
    path = tmp_path / "t.toml"
    named = f'{HEAD}[defaults]\nmodel = "reference"\ndataset = "clean"\n'
    after, _ = recorded(path, named, [CLEAN], generic=("model", "profile"), profile="quick")
    assert "model" not in after.removeprefix(named)
    (rule,) = load_thresholds(path).rules
    assert rule.selectors["model"] == ("reference",)
    assert "profile" not in rule.selectors
    after, _ = recorded(path, HEAD, [CLEAN], generic=("model", "profile"), profile="quick")
    (rule,) = load_thresholds(path).rules
    assert "model" not in rule.selectors
    # And the exact rule of such a file is renewed in place.
    text = after.replace("0.027", "0.05")
    assert recorded(path, text, [CLEAN], generic=("model", "profile"), profile="quick")[0] == after
    # Another model's is one of its own.
    other = dataclasses.replace(CLEAN, model="other")
    recorded(path, named, [other], generic=("model",))
    assert load_thresholds(path).rules[0].selectors["model"] == ("other",)


def test_drawings_count_in_the_margin_and_in_what_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    hits = np.repeat(answers(250), 4)
    units = answered(hits, keys_of(1000, np.arange(1000) // 4))
    _, (told,) = recorded(path, HEAD, [units])
    (rule,) = load_thresholds(path).rules
    assert rule.max_decrease is not None
    assert rule.max_decrease > SIZE
    assert "the smallest that n = 1,000 in 250 drawings decides; " in told
    text = exact("max_decrease = 0.01")
    _, (told,) = recorded(path, text, [units])
    assert told.endswith(
        f"smaller than the {rule.max_decrease} that n = 1,000 in 250 drawings decides)"
    )


def test_the_policy_of_the_file_is_that_of_the_margin(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    text = f"{HEAD}[policy]\nchurn = 0.02\nconfidence = 0.9\n"
    after, _ = recorded(path, text, [CLEAN])
    found = decidable(CLEAN.figure, Policy(churn=0.02, confidence=0.9))
    assert found is not None
    assert f"max_decrease = {found.size} " in after
    assert found.size < 0.6 * SIZE
    assert "n = 1000, at 90%\n" in after


def test_noise_is_left_room_for(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(HEAD)
    record(path, [CLEAN], noise={CLEAN.key: 0.01, "another": 0.1})
    file = load_thresholds(path)
    assert file.rules[0].max_decrease == 0.037
    verdict = judge(
        CLEAN, file.rules[0], file.policy, baseline=baseline_of(CLEAN), noise_floor=0.01
    )
    assert verdict.status == "pass"


def test_what_gets_no_margin_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    flat = averaged(np.full(50, 0.25))
    assert flat.figure.low == flat.figure.high
    two = answered(answers(2, 0.5))
    undefined = bootstrap_figure(
        "ece", math.nan, Outcomes({"value": np.ones(20)}, mean), Bootstrap(keys=keys_of(20))
    )
    none = Measurement("calibration", "reference", undefined.measured_on(condition()))
    wild = f"{HEAD}[policy]\nchurn = 0.5\n"
    path.write_text(wild)
    told = record(path, [flat, two, none])
    assert [change.action for change in told] == ["skipped"] * 3
    assert told[0].reason == "its spread is not known, so no margin can be proposed"
    assert told[1].reason.startswith("max_decrease 1 would gate nothing: no model misses it")
    assert told[2].reason.startswith("the figure is not finite (nan, ")
    assert path.read_text() == wild
    # A rule that exists stays as it is then.
    text = exact("min = 0.79", COMMENT).replace(HEAD, wild)
    path.write_text(text)
    assert [change.action for change in record(path, [two])] == ["skipped"]
    assert path.read_text() == text


def test_a_margin_replaces_nothing_where_it_was_measured_dry(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    text = exact("min = 0.79", COMMENT)
    path.write_text(text)
    (change,) = record(path, [CLEAN], dry_run=True)
    assert (change.bound, change.old, change.new) == ("max_decrease", None, SIZE)
    assert path.read_text() == text


def test_the_next_number_that_people_ask_for(tmp_path: Path) -> None:
    """Beside each margin stands what a smaller one needs."""
    path = tmp_path / "t.toml"
    for n, words in (
        (134, "0.05 needs about 330"),
        (1000, "0.01 needs about 7,300"),
        (5000, "0.005 needs about 29,000"),
        (50_000, "0.002 needs about 180,000"),
    ):
        path.write_text(HEAD)
        (change,) = record(path, [answered(answers(n))])
        assert change.reason == f"the smallest that n = {n:,} decides; {words}"


def test_a_change_tells_itself_in_one_line() -> None:
    plain = RecordChange("s/m/d/p/x", "max_decrease", 0.05, 0.027, "updated", "t.toml:3", "why")
    assert str(plain) == "t.toml:3: max_decrease 0.05 → 0.027 (s/m/d/p/x, why)"
    stays = dataclasses.replace(plain, action="unchanged", new=0.05, reason="")
    assert str(stays) == "t.toml:3: max_decrease 0.05 stays (s/m/d/p/x)"


def test_the_recorded_gate_sees_a_loss(tmp_path: Path) -> None:
    """From recording to the verdict, all by the real code."""
    path = tmp_path / "t.toml"
    before = answers(1000)
    run = [CLEAN, fog(1, 0.8), fog(3, 0.6)]
    recorded(path, HEAD, run)
    file = load_thresholds(path)
    after = answered(changed(before, 95, 25))
    verdict = judge(
        after, file.lookup(after), file.policy, baseline=baseline_of(*run), error_rate=1e-4
    )
    assert verdict.failed
    assert verdict.bound == "max_decrease 0.027"
    assert verdict.value == pytest.approx(0.07)


def test_what_a_bound_stands_in_place_of_is_told_before_what_decided_it() -> None:
    text = 'schema = 1\n[[threshold]]\nmetric = "accuracy"\nmax_decrease = 0.1\nmin = 0.5\n'
    (broad,) = parse_thresholds(text, "t.toml").rules
    bound = module._Bound(0.2, "a key", "the smallest")
    for entry, told in (
        (module._Pending(None, instead=broad), "instead of t.toml:4; the smallest"),
        (
            module._Pending(broad, replaced={"max_decrease": "min"}),
            "instead of min 0.5; the smallest",
        ),
        (module._Pending(None), "the smallest"),
    ):
        entry.bounds["max_decrease"] = bound
        change = module._change("max_decrease", entry, broad)
        assert str(change).endswith(f"(a key, {told})")

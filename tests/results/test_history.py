"""The history: what goes in comes back, old files go on, and whatever is wrong with one is a single line."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from history_helpers import FOG, KEYS, a_run, answers, figures, keep

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import METRICS, Metric
from pytest_cliprobust.gating.baseline import Anchor
from pytest_cliprobust.reporting.json import document
from pytest_cliprobust.results.history import (
    History,
    default_path,
    earlier_run,
    is_file,
    is_reference,
    series_of,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "history.sqlite"


@pytest.fixture
def history(path: Path) -> History:
    return History(path, create=True)


def test_a_run_comes_back_as_it_was(history: History) -> None:
    run = a_run(figures(answers()), notes=("a note",), thresholds="thresholds.toml", exit_status=1)
    number = keep(history, run, "release", "v1.0")
    earlier = history.run(number)
    assert (earlier.source, earlier.number, earlier.tags) == ("run 1", 1, ("release", "v1.0"))
    assert list(earlier.measurements) == [record.key for record in run.records]
    for record in run.records:
        figure, before = earlier.figures[record.key], record.figure
        assert replace(figure, details={}).as_dict() == replace(before, details={}).as_dict()
        assert figure.details == before.details
        assert figure.condition == before.condition
        assert figure.outcomes is not None
        assert before.outcomes is not None
        assert figure.outcomes.keys == KEYS
        for name, column in before.outcomes.columns.items():
            np.testing.assert_allclose(figure.outcomes[name], column, atol=1e-6)
        assert earlier.verdicts[record.key] == record.verdict.as_dict() | {
            k: str(v)
            for k, v in record.verdict.as_dict().items()
            if isinstance(v, float) and not math.isfinite(v)
        }
    assert earlier.provenance == run.provenance
    assert earlier.header["notes"] == ["a note"]
    assert earlier.header["thresholds"] == "thresholds.toml"
    assert earlier.complete
    assert earlier.named
    assert earlier.models == ("reference",)
    assert earlier.directions["mine/accuracy/clean/clean/reference"] is True
    assert earlier.directions["mine/nll/clean/clean/reference"] is False


def test_the_list_says_what_a_run_was(history: History) -> None:
    keep(history, a_run(figures(answers())), "b", "a")
    keep(history, a_run(figures(answers())[:2], suite="other", complete=False, exit_status=2))
    keep(history, a_run([], partial=True))
    first, second, third = history.entries()
    assert (first.number, first.suites, first.figures, first.failed) == (1, ("mine",), 5, 0)
    assert (first.tags, first.models, first.exit_status) == (("a", "b"), {"reference": "ab12"}, 0)
    assert first.config["profile"] == "quick"
    assert (second.suites, second.complete, second.exit_status) == (("other",), False, 2)
    assert (third.figures, third.partial, third.anchor) == (0, True, False)


def test_what_is_not_a_number_survives(history: History) -> None:
    nan = math.nan
    broken = Figure("accuracy", nan, nan, nan, 4).measured_on(Condition("clean"))
    endless = Figure("nll", math.inf, 1.0, math.inf, 4).measured_on(Condition("clean"))
    number = keep(history, a_run([broken, endless]))
    earlier = history.run(number)
    one, two = earlier.figures.values()
    assert math.isnan(one.value)
    assert (two.value, two.low, two.high) == (math.inf, 1.0, math.inf)
    points = [history.points(key)[0] for key in earlier.figures]
    assert math.isnan(points[0].value)
    assert points[1].value == math.inf


def test_outcomes_that_runs_share_are_kept_once(history: History) -> None:
    run = a_run(figures(answers()))
    keep(history, run)
    before = history.rows("SELECT count(*), sum(length(data)) FROM blobs")
    keep(history, run)
    assert history.rows("SELECT count(*), sum(length(data)) FROM blobs") == before
    keep(history, a_run(figures(answers(flipped=[3]))))
    after = history.rows("SELECT count(*) FROM blobs")[0][0]
    assert before[0][0] < after < 2 * before[0][0]


def test_references(history: History, tmp_path: Path) -> None:
    for number in range(1, 7):
        keep(
            history,
            a_run(
                figures(answers())[:1],
                "other" if number == 4 else "reference",
                complete=number != 6,
                partial=number == 5,
            ),
            *(["main"] if number in (1, 3) else []),
        )
    history.set_anchor(2)
    found = {
        reference: history.find(reference)
        for reference in ("1", "last", "last~0", "last~1", "last~3", "tag:main", "anchor")
    }
    assert list(found.values()) == [1, 4, 4, 3, 1, 3, 2]
    own = series_of({"models": ["reference"], "data": "embedded", "profile": "quick"})
    assert history.find("last", own) == 3
    assert history.find("last~1", own) == 2
    other = series_of({"models": ["other"], "data": "embedded", "profile": "quick"})
    assert history.find("last", other) == 4
    for reference, series, words in (
        ("7", None, "no run 7"),
        (f"{10**30}", None, "no run 1000"),
        ("9" * 5000, None, "no run 9999"),
        (f"last~{10**30}", None, "no such run that came to its end"),
        (f"last~{'9' * 5000}", None, "no such run that came to its end"),
        ("last~9", None, "last~9: no such run that came to its end"),
        ("last~1", other, "no such run of these models, data and profile"),
        ("tag:mian", None, "no run has the tag 'mian'. Did you mean 'main'"),
        ("tag:main", other, "of these models, data and profile has the tag"),
        ("anchor", other, "is the anchor; `cliprobust anchor RUN`"),
        (
            "lst",
            None,
            "'lst' is no run of a history: give its number, last, last~1, tag:NAME or an",
        ),
    ):
        with pytest.raises(ClipRobustError) as caught:
            history.find(reference, series)
        assert words in str(caught.value)


def test_what_means_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("12", "last", "main", "anchor"):
        Path(name).write_text("")
    files = {name for name in ("12", "last", "last~1", "anchor", "tag:main") if is_file(name)}
    assert files == set()
    assert is_file("main")
    assert is_file("missing.json")


def test_a_run_goes_through_a_file(history: History, path: Path, tmp_path: Path) -> None:
    number = keep(history, a_run(figures(answers())))
    out = tmp_path / "run.json"
    out.write_text(json.dumps(history.document(number)), encoding="utf-8")
    mine, theirs = earlier_run("last", path), earlier_run(str(out), path)
    assert list(mine.measurements) == list(theirs.measurements)
    for key, figure in mine.figures.items():
        one, other = figure.outcomes, theirs.figures[key].outcomes
        assert one is not None
        assert other is not None
        assert one.keys == other.keys
        for name, column in one.columns.items():
            np.testing.assert_array_equal(column, other[name])
    bare = history.document(number, samples=False)
    assert "blobs" not in bare
    assert "cat/" not in json.dumps(bare)
    out.write_text(json.dumps(bare), encoding="utf-8")
    assert all(f.outcomes is None for f in earlier_run(str(out), path).figures.values())


def test_a_baseline_has_the_anchor_of_its_series(history: History) -> None:
    keep(history, a_run(figures(answers())[:1]))
    keep(history, a_run(figures(answers(flipped=range(9)))[:1], written="2026-12-01T12:00:00+0000"))
    keep(history, a_run(figures(answers())[:1], "other"))
    assert history.run(2).baseline().anchors == {}
    history.set_anchor(1)
    (anchor,) = history.run(2).baseline().anchors.items()
    value = history.run(1).figures["mine/accuracy/clean/clean/reference"].value
    assert anchor == ("mine/accuracy/clean/clean", Anchor(value, "2026-11-26"))
    assert history.run(3).baseline().anchors == {}
    one, two = (a_run(figures(answers())[:1], name) for name in ("one", "two"))
    both = replace(
        one,
        config=replace(one.config, models=("one", "two")),
        records=(*one.records, *two.records),
        models={**one.models, **two.models},
    )
    history.set_anchor(keep(history, both))
    assert set(history.run(4).baseline().anchors) == {
        "mine/accuracy/clean/clean/one",
        "mine/accuracy/clean/clean/two",
    }


def test_where_a_report_will_do_the_mistake_says_so_and_where_not_it_does_not(
    history: History, path: Path
) -> None:
    keep(history, a_run([]))
    with pytest.raises(ClipRobustError, match=r"'lst' is no run: .*, anchor or a JSON report$"):
        earlier_run("lst", path)
    with pytest.raises(ClipRobustError, match="no run 7"):
        earlier_run("7", path)
    for name in ("lst", "report.json"):  # an export, an anchor or a tag of a report is none
        told = rf"'{name}' is no run of a history: .*, tag:NAME or anchor$"
        with pytest.raises(ClipRobustError, match=told):
            history.find(name)


def test_a_metric_of_ones_own_keeps_its_direction(history: History, path: Path) -> None:
    with METRICS.preserved():
        METRICS.add("my_error", Metric("my_error", False, "…"), module=__name__)
        figure = Figure("my_error", 0.5, 0.4, 0.6, 4).measured_on(Condition("clean"))
        keep(history, a_run([figure]))
    assert METRICS.find("my_error") is None
    earlier = history.run(1)
    assert earlier.directions == {"mine/my_error/clean/clean/reference": False}


# --- Tags, anchors, pruning ------------------------------------------------------------------------


def test_tags_come_and_go(history: History) -> None:
    keep(history, a_run([]), "a")
    history.tag(1, "b")
    history.tag(1, "b")
    assert history.entries()[0].tags == ("a", "b")
    history.tag(1, "a", remove=True)
    assert history.entries()[0].tags == ("b",)
    with pytest.raises(ClipRobustError, match="run 1 has no tag 'a'"):
        history.tag(1, "a", remove=True)
    for name in ("", "two words", "a:b", "x" * 3 + "\n"):
        with pytest.raises(ClipRobustError, match="a tag is made of"):
            history.tag(1, name)
        with pytest.raises(ClipRobustError, match="a tag is made of"):
            keep(history, a_run([]), name)
    assert len(history.entries()) == 1


def test_a_number_that_no_run_has_is_named_with_those_there_are(history: History) -> None:
    with pytest.raises(ClipRobustError, match=r"no run 1 \(in .*history.sqlite, which has none\)"):
        history.set_anchor(1)
    for _ in range(5):
        keep(history, a_run([]))
    with history.transaction() as connection:
        connection.execute("DELETE FROM runs WHERE id IN (1, 4)")
    calls = (
        history.set_anchor,
        history.drop_anchor,
        lambda number: history.tag(number, "a"),
        lambda number: history.tag(number, "a", remove=True),
        lambda number: history.find(str(number)),
        history.document,
        history.run,
        lambda number: history.outcomes_of(number, "k"),
    )
    for call in calls:
        for number in (0, 4, 6, 2**63):
            told = rf"^no run {number} \(in .*history.sqlite, which has 2–3, 5\)$"
            with pytest.raises(ClipRobustError, match=told):
                call(number)
    assert [entry.tags for entry in history.entries()] == [()] * 3


def test_of_many_gaps_between_numbers_the_last_are_told(history: History) -> None:
    for _ in range(13):
        keep(history, a_run([]))
    for gone, told in ((9, "1, 3, 5, 7, 9–13"), (11, "…, 3, 5, 7, 9, 11–13")):
        with history.transaction() as connection:
            connection.execute("DELETE FROM runs WHERE id % 2 = 0 AND id < ?", (gone,))
        with pytest.raises(ClipRobustError, match=rf", which has {told}\)$"):
            history.drop_anchor(2)


def test_a_series_has_one_anchor_and_the_first_stays(history: History) -> None:
    for model in ("one", "one", "two"):
        keep(history, a_run([], model))
    assert history.set_anchor(1, only_first=True)
    assert not history.set_anchor(2, only_first=True)
    assert history.set_anchor(1, only_first=True)
    assert history.set_anchor(3, only_first=True)
    assert [entry.anchor for entry in history.entries()] == [True, False, True]
    assert history.set_anchor(2)
    assert [entry.anchor for entry in history.entries()] == [False, True, True]
    history.drop_anchor(2)
    assert [entry.anchor for entry in history.entries()] == [False, False, True]


def test_pruning_keeps_anchors_tags_and_what_others_need(history: History) -> None:
    for day in range(1, 7):
        run = a_run(
            figures(answers(flipped=[day if day != 2 else 1])),
            written=f"2026-11-0{day}T12:00:00+0000",
        )
        keep(history, run, *(["release"] if day == 3 else []))
    history.set_anchor(4)
    assert history.prune(keep=1, try_only=True) == [1, 2, 5]
    assert len(history.entries()) == 6
    assert history.prune(before=datetime(2026, 11, 2, tzinfo=UTC)) == [1]
    figure = history.run(2).figures["mine/accuracy/clean/clean/reference"]
    assert figure.outcomes is not None  # run 1 had the same
    assert history.prune(keep=2, before=datetime(2026, 11, 5, 18, tzinfo=UTC)) == [2]
    assert history.prune(keep=0) == [5, 6]
    assert [entry.number for entry in history.entries()] == [3, 4]
    kept = history.rows("SELECT count(*) FROM blobs")[0][0]
    assert kept == history.rows("SELECT count(DISTINCT blob) FROM outcomes")[0][0]
    assert history.rows("SELECT DISTINCT run FROM figures ORDER BY run") == [(3,), (4,)]
    assert history.prune(keep=0) == []
    assert keep(history, a_run([])) == 7  # numbers are not used again


def test_a_figure_over_runs(history: History) -> None:
    for number in range(4):
        keep(history, a_run(figures(answers(flipped=range(number))), complete=number != 2))
    key = "mine/accuracy_drop/clean/fog_3d@3/reference"
    points = history.points(key)
    assert [point.number for point in points] == [1, 2, 4]
    assert points[0].status == "unbounded"
    assert all(point.low < point.value < point.high for point in points)
    assert (key, "accuracy_drop", "reference") in history.keys()  # noqa: SIM118
    single = history.outcomes_of(2, key)
    assert list(single.measurements) == [key]
    assert single.figures[key].condition == FOG
    assert single.figures[key].outcomes is not None


def test_a_run_is_there_as_a_whole_or_not_at_all(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(figures(answers()))
    told = document(run)
    told["measurements"].append(told["measurements"][0])  # a key twice
    with pytest.raises(ClipRobustError, match=r"UNIQUE constraint failed|not a history"):
        history.write(told, {})
    assert history.entries() == []
    assert history.rows("SELECT count(*) FROM blobs") == [(0,)]
    keep(history, run)


def test_a_damaged_run_is_told_by_its_number(history: History) -> None:
    keep(history, a_run(figures(answers())))
    with history.transaction() as connection:
        connection.execute("UPDATE runs SET document = x'00'")
    with pytest.raises(ClipRobustError, match="run 1 is damaged"):
        history.run(1)
    with pytest.raises(ClipRobustError, match="no run 2"):
        history.run(2)


def test_a_damaged_list_of_runs_is_one_line(history: History) -> None:
    keep(history, a_run(figures(answers())))
    for column, value in (("config", "x'00'"), ("models", "'{'"), ("config", "3")):
        with history.transaction() as connection:
            (before,) = connection.execute(f"SELECT {column} FROM runs").fetchone()
            connection.execute(f"UPDATE runs SET {column} = {value}")
        with pytest.raises(ClipRobustError, match="a damaged history"):
            history.entries()
        with history.transaction() as connection:
            connection.execute(f"UPDATE runs SET {column} = ?", (before,))
    assert len(history.entries()) == 1


def test_the_history_lies_in_the_cache_folder(tmp_path: Path) -> None:
    assert default_path(tmp_path) == tmp_path / "history.sqlite"
    assert default_path().name == "history.sqlite"
    assert default_path().parent.name == "pytest-cliprobust"


@pytest.mark.parametrize(
    ("text", "may"),
    [
        *(
            (text, True)
            for text in ("1", "907", "last", "last~0", "last~12", "anchor", "tag:v1", "tag:")
        ),
        *(
            (text, False)
            for text in ("", "v1", "last~", "last~x", "lst", "anchors", "1.5", "a.json")
        ),
    ],
)
def test_what_may_mean_a_run(text: str, may: bool, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_reference(text) is may
    assert not (may and is_file(text))


def test_a_metric_that_nobody_knows_here_has_no_direction(history: History) -> None:
    clean = Condition("clean")
    mine = Figure("of_nobodys", 0.5, 0.4, 0.6, 40).measured_on(clean)
    gap = Figure("signed_gap", 0.5, 0.4, 0.6, 40).measured_on(clean)
    earlier = history.run(keep(history, a_run([mine, gap])))
    assert dict(earlier.directions) == {
        "mine/of_nobodys/clean/clean/reference": None,
        "mine/signed_gap/clean/clean/reference": None,
    }
    assert earlier.figures["mine/of_nobodys/clean/clean/reference"].value == 0.5

"""Earlier runs: of the history, of reports and exports, with names and without."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from history_helpers import KEYS, a_run, answers, figures, keep

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.reporting.json import document
from pytest_cliprobust.results import journal
from pytest_cliprobust.results.history import History, earlier_run
from pytest_cliprobust.results.outcomes import pseudonymous
from pytest_cliprobust.results.record import Evidence


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "history.sqlite"


@pytest.fixture
def history(path: Path) -> History:
    return History(path, create=True)


def test_a_report_is_a_run_without_outcomes(tmp_path: Path) -> None:
    run = a_run(figures(answers()))
    out = tmp_path / "report.json"
    out.write_text(json.dumps(document(run)), encoding="utf-8")
    earlier = earlier_run(str(out), tmp_path / "none")
    assert list(earlier.measurements) == [record.key for record in run.records]
    assert earlier.provenance == run.provenance
    assert all(figure.outcomes is None for figure in earlier.figures.values())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not a JSON report"),
        ("[]", "not a JSON report of a run"),
        ("{}", "not a JSON report of a run"),
        ('{"schema": 99, "measurements": []}', "a report of schema 99, and this version reads 2"),
        ('{"schema": 2, "measurements": [{}]}', "measurement 0 is not as this version writes it"),
        ('{"schema": 2, "measurements": [], "blobs": {"a": "?"}}', "its outcomes are broken"),
        ('{"schema": 2, "measurements": [], "blobs": []}', "its outcomes are broken"),
    ],
)
def test_something_else_is_no_report(tmp_path: Path, content: str, words: str) -> None:
    out = tmp_path / "report.json"
    out.write_text(content, encoding="utf-8")
    with pytest.raises(ClipRobustError) as caught:
        earlier_run(str(out), tmp_path / "none")
    assert words in str(caught.value)
    with pytest.raises(ClipRobustError, match="cannot be read"):
        earlier_run(str(tmp_path / "missing.json"), tmp_path / "none")


@pytest.mark.parametrize("provenance", [{"seed": {}}, 3, []], ids=str)
def test_a_broken_header_is_told_at_once(tmp_path: Path, provenance: object) -> None:
    out = tmp_path / "report.json"
    told = json.loads(json.dumps(document(a_run(figures(answers())))))
    if isinstance(provenance, dict):
        provenance = {**told["provenance"], **provenance}
    out.write_text(json.dumps({**told, "provenance": provenance}), encoding="utf-8")
    with pytest.raises(ClipRobustError, match="its header is not as this version writes it"):
        earlier_run(str(out), tmp_path / "none")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": "?"}, "(config is '?')"),
        ({"config": None}, "(config is None)"),
        ({"config": {"seed": "0"}}, "(config.seed is '0')"),
        ({"config": {"limit": []}}, "(config.limit is [])"),
        ({"models": {"a": 3}}, "(models: a is 3)"),
        ({"models": {"a": {}}}, "(models.'a' has no architecture)"),
        ({"notes": 1}, "(notes is 1)"),
        ({"exit_status": None}, "(exit_status is None)"),
        ({"complete": "yes"}, "(complete is 'yes')"),
    ],
    ids=str,
)
def test_a_header_of_other_types_is_told_at_once(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    out = tmp_path / "report.json"
    told = json.loads(json.dumps(document(a_run(figures(answers())))))
    out.write_text(json.dumps({**told, **changes}), encoding="utf-8")
    with pytest.raises(ClipRobustError) as caught:
        earlier_run(str(out), tmp_path / "none")
    assert f"its header is not as this version writes it {words}" in str(caught.value)


def test_a_key_that_stands_there_twice_is_one_line(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    told = json.loads(json.dumps(document(a_run(figures(answers())))))
    told["measurements"].append(told["measurements"][0])
    out.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(ClipRobustError, match=r"report\.json: holds .* twice; run it again"):
        earlier_run(str(out), tmp_path / "none")


def test_a_measurement_goes_by_what_it_says_of_itself(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    run = a_run(figures(answers()))
    told = json.loads(json.dumps(document(run)))
    for entry in told["measurements"]:
        del entry["key"]
    out.write_text(json.dumps(told), encoding="utf-8")
    earlier = earlier_run(str(out), tmp_path / "none")
    assert list(earlier.tests) == list(earlier.measurements) == [r.key for r in run.records]


def test_nothing_is_too_deep_to_be_told(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    out.write_text("[" * 200_000, encoding="utf-8")
    with pytest.raises(ClipRobustError, match="not a JSON report") as caught:
        earlier_run(str(out), tmp_path / "none")
    assert "\n" not in str(caught.value)
    left = tmp_path / "report.json.unfinished"
    left.write_text("[" * 200_000 + '\n{"key": "a"}\n', encoding="utf-8")
    assert journal.read(left) == [{"key": "a"}]


def test_a_run_as_a_baseline(history: History) -> None:
    run = a_run(figures(answers()))
    baseline = history.run(keep(history, run)).baseline()
    assert baseline.models == ("reference",)
    assert baseline.provenance == run.provenance
    for record in run.records:
        found = baseline.find(record.measurement)
        assert found is not None
        assert found.value == record.figure.value
    cut = history.run(keep(history, replace(run, complete=False)))
    with pytest.raises(ClipRobustError, match="run 2: that run did not come to its end"):
        cut.baseline()


def test_without_names_runs_pair_and_tell_nothing(history: History, path: Path) -> None:
    run = a_run(figures(answers()))
    keep(history, run)
    bare = history.run(keep(history, run.unnamed()))
    assert not bare.named
    figure = bare.figures["mine/accuracy/clean/clean/reference"]
    assert figure.outcomes is not None
    assert figure.outcomes.keys == pseudonymous(KEYS)
    named = history.run(1).unnamed().figures["mine/accuracy/clean/clean/reference"]
    assert named.outcomes is not None
    assert named.outcomes.keys == figure.outcomes.keys
    assert named.condition == figure.condition
    assert bare.unnamed() is bare
    for one in history.run(1).unnamed().figures.values():
        assert one.outcomes is not None
        assert one.outcomes.keys == pseudonymous(KEYS)


def test_what_was_said_of_each_figure_comes_back(tmp_path: Path) -> None:
    """Tests, noise, verdicts, and the evidence of those that have any."""
    run = a_run(figures(answers()))
    shown = {
        number: Evidence(
            (("worst", f"at {number}"), ("then", "more")), {"a": 0.5, "b": number}, "c", "p.png"
        )
        for number in (1, 3)
    }
    records = tuple(
        replace(
            one, test=f"t.py::test_{number}", noise_floor=number / 8, evidence=shown.get(number)
        )
        for number, one in enumerate(run.records)
    )
    out = tmp_path / "report.json"
    out.write_text(json.dumps(document(replace(run, records=records))), encoding="utf-8")
    earlier = earlier_run(str(out), tmp_path / "none")
    keys = [one.key for one in records]
    assert earlier.tests == {key: f"t.py::test_{number}" for number, key in enumerate(keys)}
    assert earlier.noise == {key: number / 8 for number, key in enumerate(keys)}
    assert earlier.evidence == {keys[number]: one for number, one in shown.items()}
    assert {key: told["status"] for key, told in earlier.verdicts.items()} == dict.fromkeys(
        keys, "unbounded"
    )
    assert (earlier.number, earlier.tags, dict(earlier.anchors)) == (None, (), {})

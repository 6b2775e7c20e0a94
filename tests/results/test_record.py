"""Records and runs: typed inside, plain data at the borders, and the same on both sides of one."""

from __future__ import annotations

import json
import math
import resource
from dataclasses import replace
from pathlib import Path

import pytest
from history_helpers import answers, figures

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.gating import verdict as verdicts
from pytest_cliprobust.gating.margins import decidable
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.reporting import files
from pytest_cliprobust.reporting.json import document
from pytest_cliprobust.results.journal import Journal, read
from pytest_cliprobust.results.plain import plain
from pytest_cliprobust.results.record import Evidence, Record
from pytest_cliprobust.results.run import ModelSummary, Run


def record(
    value: float = 0.5, rule: str | None = "mine/accuracy", steps: tuple[Step, ...] = ()
) -> Record:
    figure = Figure(
        "accuracy", value, 0.4, 0.6, 40, replicates=(0.1, 0.2, 1 / 3), details={"bins": [1, 2]}
    ).measured_on(Condition("clean", steps, limit=40))
    measurement = Measurement("mine", "reference", figure)
    return Record(
        measurement,
        verdicts.judge(measurement, None, Policy()),
        "test_mine.py::test_mine[reference]",
        rule,
        ("mine/accuracy_drop",),
        0.001,
        Evidence((("worst", "at 0.3"),), {"scale": 0.3}, "cliprobust perturb", "a/b.png"),
    )


@pytest.mark.parametrize("value", [0.5, math.nan])
@pytest.mark.parametrize("steps", [(), (Step("fog_3d", 3), Step("contrast", None, (("a", 0.1),)))])
def test_a_record_survives_the_way_from_a_worker(value: float, steps: tuple[Step, ...]) -> None:
    before = record(value, steps=steps)
    sent = json.loads(json.dumps(before.as_dict(replicates=True)))
    after = Record.from_dict(sent)
    assert after.figure.replicates == before.figure.replicates
    assert after.figure.details == before.figure.details
    assert after.measurement.condition == before.measurement.condition
    assert after.key == before.key
    assert (after.test, after.rule, after.also_used) == (before.test, before.rule, before.also_used)
    assert (after.noise_floor, after.evidence) == (before.noise_floor, before.evidence)
    assert json.dumps(after.as_dict(replicates=True)) == json.dumps(sent)


def test_reports_keep_the_replicates_of_figures_with_a_bound_only() -> None:
    assert Record.from_dict(plain(record())).figure.replicates == (0.1, 0.2, 1 / 3)
    assert "replicates" not in plain(record(rule=None))["figure"]
    json.dumps(plain(record(math.inf)), allow_nan=False)


def test_something_else_is_no_record() -> None:
    data = record().as_dict()
    for missing in ("test", "verdict", "rule", "figure", "suite"):
        with pytest.raises(KeyError):
            Record.from_dict({k: v for k, v in data.items() if k != missing})
    data["verdict"] = {**data["verdict"], "status": "maybe"}
    with pytest.raises(ValueError, match="maybe"):
        Record.from_dict(data)


def test_a_models_summary_survives_too() -> None:
    summary = ModelSummary(
        *("reference", "vit", "own", "ab12"),
        ("a note",),
        {"k": "v"},
        "cpu",
        "fp32",
        3,
        4,
        (0.1, 0.2),
        5,
    )
    assert ModelSummary.from_dict(json.loads(json.dumps(summary.as_dict()))) == summary
    silent = replace(summary, noise=None)
    assert ModelSummary.from_dict(silent.as_dict()) == silent
    assert summary.as_dict()["images"] == {"encoded": 3, "cached": 4, "probed": 5}


def test_the_json_report_is_plain_and_versioned(tmp_path: Path) -> None:
    run = Run(RunConfig(("reference",), cache_dir=tmp_path), (record(),), {}, mistakes=("a slip",))
    told = document(run)
    assert told["schema"] == 2
    assert told["config"]["cache_dir"] == str(tmp_path)
    assert told["mistakes"] == ["a slip"]
    assert Record.from_dict(told["measurements"][0]).key == record().key
    for name, word in (("report.json", '"schema": 2'), ("report.md", "| `mine/accuracy/clean/")):
        files.write(tmp_path / "new" / name, run)
        assert word in (tmp_path / "new" / name).read_text(encoding="utf-8")
    with pytest.raises(ClipRobustError, match=r"end the name in \.json or \.md"):
        files.write(tmp_path / "report.xls", run)


def test_the_journal_goes_when_the_report_has_all_of_it(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    path = tmp_path / "report.json.unfinished"
    journal = Journal(report)
    journal.add([record()])
    assert [entry["key"] for entry in read(path)] == [record().key]
    # Killed: the last line is cut short, and a new run begins beside it.
    with path.open("a", encoding="utf-8") as file:
        file.write('{"key": "mine/acc')
    again = Journal(report)
    assert len(again.notes) == 1
    assert "its 1 figure is in" in again.notes[0]
    again.close(["another/key"])
    assert path.exists()
    third = Journal(report)
    third.close([record().key])
    assert not path.exists()


def test_a_report_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ClipRobustError, match=r"--clip-report .*cannot be written"):
        Journal(tmp_path / "file" / "report.json")
    run = Run(RunConfig(("reference",)), (), {})
    with pytest.raises(ClipRobustError, match=r"--clip-report .*"):
        files.write(tmp_path / "file" / "report.json", run)


def test_a_worker_s_figure_gets_the_margin_that_it_would_get_here() -> None:
    """The statistic stays in the worker; which figures are shares must be known without it."""
    policy = Policy()
    for figure in figures(answers()):
        measurement = Measurement("mine", "reference", figure)
        blobs: dict[str, bytes] = {}
        record = Record(measurement, verdicts.judge(measurement, None, policy), "test_it")
        told = json.loads(json.dumps(record.as_dict(replicates=True, blobs=blobs)))
        assert decidable(Record.from_dict(told, blobs).figure, policy) == decidable(figure, policy)


def test_a_journal_lies_beside_its_report_in_a_new_folder(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a" / "b" / "report.json")
    assert journal.notes == []
    journal.add([record(), record(0.25)])
    journal.leave()
    # Of one test that ran again the last figures count; what else stands there is no figure.
    (told,) = read(tmp_path / "a" / "b" / "report.json.unfinished")
    assert told["figure"]["value"] == 0.25
    assert read(tmp_path / "none") == []
    # No line of the first run is lost where the next begins.
    again = Journal(tmp_path / "a" / "b" / "report.json")
    again.add([replace(record(), measurement=replace(record().measurement, suite="other"))])
    again.leave()
    kept = read(tmp_path / "a" / "b" / "report.json.unfinished")
    assert [one["suite"] for one in kept] == ["mine", "other"]


@pytest.mark.parametrize("room", [0, 7])
def test_where_there_is_no_more_room_it_is_told_once(tmp_path: Path, room: int) -> None:
    """Whether nothing of a line could be written or a part of it."""
    journal = Journal(tmp_path / "report.json")
    journal.add([record()])
    path = tmp_path / "report.json.unfinished"
    size = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, hard))
    try:
        with pytest.raises(
            Unavailable, match=r"figures cannot be kept while the run lasts: .*make room"
        ):
            journal.add([record(), record()])
        journal.add([record()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.stat().st_size == size + room
    journal.add([record()])
    assert path.stat().st_size == size + room
    assert [entry["key"] for entry in read(path)] == [record().key]
    journal.close([])
    assert not path.exists()


def test_evidence_survives_whole() -> None:
    lines = (("worst", "at 0.3"), ("then", "at 0.5"))
    before = Evidence(lines, {"scale": 0.3, "angle": -2.0}, "cliprobust perturb", "a/b.png")
    assert Evidence.from_dict(json.loads(json.dumps(before.as_dict()))) == before
    one = replace(record(), weak=("a", "b"), also_used=("c", "d"), evidence=None)
    after = Record.from_dict(json.loads(json.dumps(one.as_dict())))
    assert (after.weak, after.also_used, after.evidence) == (("a", "b"), ("c", "d"), None)


def test_a_record_in_one_line() -> None:
    bare = record(0.5)
    assert bare.one_line() == "0.5 [0.4, 0.6] n=40: unbounded"
    bound = replace(bare.verdict, status="fail", kind="min", limit=0.7)
    assert replace(bare, verdict=bound).one_line() == "0.5 [0.4, 0.6] n=40: fail (min 0.7)"


def test_without_names_a_record_has_no_picture() -> None:
    hidden = record().unnamed()
    assert hidden.evidence is None
    assert hidden.key == record().key


def test_the_journal_stays_until_every_figure_in_it_was_written(tmp_path: Path) -> None:
    both = [
        replace(record(), measurement=replace(record().measurement, suite=name)) for name in "ab"
    ]
    keys = [one.key for one in both]
    path = tmp_path / "report.json.unfinished"
    first = Journal(tmp_path / "report.json")
    first.add(both)
    first.leave()
    for written, stays in ((keys[:1], True), (keys[1:], True), ([], True), (keys, False)):
        Journal(tmp_path / "report.json").close(written)
        assert path.exists() is stays

"""Reports for machines: SARIF, in-toto statements, annotations; all of them from the same findings."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_helpers import HARM, figures, the_run

from pytest_cliprobust.gating.verdict import Verdict
from pytest_cliprobust.reporting import json as report
from pytest_cliprobust.reporting import sarif, statement, workflow
from pytest_cliprobust.reporting.findings import findings
from pytest_cliprobust.results.run import NotMeasured, Run

KEY = "accuracy/accuracy/clean/clean/mine"


def run(**changes: Any) -> Run:
    """Return a run of which one bound fails."""
    return replace(the_run(figures((1, 2))), **changes)


def with_verdicts(found: Run, **changes: Any) -> Run:
    """Return the run with all its verdicts changed."""
    records = tuple(
        replace(record, verdict=replace(record.verdict, **changes)) for record in found.records
    )
    return replace(found, records=records)


def judged(found: Run, *statuses: tuple[str, str]) -> Run:
    """Return the run with (status, outcome) for its first figures."""
    records = list(found.records)
    for index, (status, outcome) in enumerate(statuses):
        told: Verdict = replace(records[index].verdict, status=status, outcome=outcome)  # type: ignore[arg-type]
        records[index] = replace(records[index], verdict=told)
    return replace(found, records=tuple(records))


# --- Findings --------------------------------------------------------------------------------------


def test_failures_come_first_then_what_misses_its_bound_by_most_of_it() -> None:
    found = judged(
        run(),
        ("inconclusive", "pass"),
        ("inconclusive", "warn"),
        ("fail", "fail"),
        ("fail", "fail"),
    )
    records = list(found.records)
    for index, (missed, limit) in enumerate([(0.5, 0.1), (0.5, 0.1), (0.1, 0.05), (0.3, 0.5)]):
        told = replace(records[index].verdict, missed_by=missed, limit=limit, kind="max")
        records[index] = replace(records[index], verdict=told)
    found = replace(found, records=tuple(records[:4]))
    wanted = [found.records[index].key for index in (2, 3, 1, 0)]
    assert [one.key for one in findings(found)] == wanted
    # Among equals a miss comes before what is not decided, and a limit of none is no share.
    others: list[tuple[Any, float, int]] = [("inconclusive", 0.05, 2), ("fail", 0.0, 3)]
    for status, limit, wanted_first in others:
        told = replace(
            records[3].verdict, outcome="fail", status=status, limit=limit, missed_by=2.1
        )
        own = replace(found, records=(*records[:3], replace(records[3], verdict=told)))
        assert findings(own)[0].key == records[wanted_first].key
    lost = replace(records[3].verdict, missed_by=None, limit=None, kind=None, where="")
    records[3] = replace(records[3], verdict=lost)
    first = findings(replace(found, records=tuple(records[:4])))[0]
    assert first.key == wanted[1]  # a figure that is not finite is the worst
    assert first.place.file == "test_accuracy.py"
    assert "bound" not in first.text.split(":")[1]


# --- JSON ------------------------------------------------------------------------------------------


def test_both_json_files_are_written_to_be_read() -> None:
    for form in (report, sarif):
        lines = form.text(run()).split("\n")
        assert lines[0] == "{"
        assert lines[1].startswith(' "')
        assert lines[-2:] == ["}", ""]


def test_paths_of_a_run_are_texts_or_null() -> None:
    plain = report.document(run(thresholds=""))
    assert (plain["config"]["cache_dir"], plain["config"]["font"], plain["thresholds"]) == (
        None,
    ) * 3
    places: dict[str, Any] = {"cache_dir": Path("/c"), "font": Path("/f.ttf")}
    told = report.document(run(config=replace(run().config, **places), thresholds="t.toml"))
    assert told["config"]["cache_dir"] == "/c"
    assert told["config"]["font"] == "/f.ttf"
    assert told["thresholds"] == "t.toml"


# --- SARIF -----------------------------------------------------------------------------------------


def test_sarif_shows_a_missed_bound_at_its_line() -> None:
    (told,) = json.loads(sarif.text(run()))["runs"]
    (result,) = told["results"]
    assert result["level"] == "error"
    assert result["ruleId"] == "accuracy/accuracy"
    assert told["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    (location,) = result["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "thresholds.toml"},
        "region": {"startLine": 51},
    }
    assert result["properties"]["figure"] == KEY
    assert "max_decrease 0.03" in result["message"]["text"]
    assert told["invocations"][0]["exitCode"] == 1
    assert told["invocations"][0]["executionSuccessful"] is True


def test_sarif_of_a_green_run_has_no_results_and_levels_follow_the_policy() -> None:
    (told,) = sarif.document(the_run(figures((1,)), fails=False))["runs"]
    assert told["results"] == []
    for outcome, level in (("warn", "warning"), ("pass", "note")):
        (told,) = sarif.document(judged(run(), ("inconclusive", outcome)))["runs"]
        assert level in {result["level"] for result in told["results"]}


def test_an_alert_stays_the_same_when_its_line_moves() -> None:
    def prints(found: Run) -> list[Any]:
        return [r["partialFingerprints"] for r in sarif.document(found)["runs"][0]["results"]]

    assert prints(run()) == prints(with_verdicts(run(), where="thresholds.toml:99", missed_by=0.4))
    assert prints(run()) != prints(with_verdicts(run(), kind="min"))


def test_sarif_is_cut_at_what_forges_take_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sarif, "MOST", 2)
    found = judged(run(), *[("fail", "fail")] * 3)
    (told,) = sarif.document(found)["runs"]
    assert len(told["results"]) == 2
    (left,) = told["invocations"][0]["toolExecutionNotifications"]
    assert left["message"]["text"] == "1 further result is left out of this file"
    monkeypatch.setattr(sarif, "MOST", len(findings(found)))
    (told,) = sarif.document(found)["runs"]
    assert len(told["results"]) == len(findings(found))
    assert told["invocations"][0]["toolExecutionNotifications"] == []


@pytest.mark.parametrize(
    ("complete", "mistakes", "successful"),
    [(True, (), True), (False, (), False), (True, ("no such model",), False)],
)
def test_sarif_says_whether_the_run_came_to_its_end(
    complete: bool, mistakes: tuple[str, ...], successful: bool
) -> None:
    (told,) = sarif.document(run(mistakes=mistakes, complete=complete))["runs"]
    assert told["invocations"][0]["executionSuccessful"] is successful


def test_sarif_tells_what_broke_a_run() -> None:
    missing = (
        NotMeasured("test_a.py::b", "a", "a worker died"),
        NotMeasured("test_a.py::c", "a", "it did not begin"),
    )
    broken = run(mistakes=(f"no such model{HARM}\n",), missing=missing, complete=False)
    (told,) = sarif.document(broken)["runs"]
    assert told["invocations"][0]["executionSuccessful"] is False
    lines = [n["message"]["text"] for n in told["invocations"][0]["toolExecutionNotifications"]]
    assert len(lines) == 4
    assert lines[1:3] == ["test_a.py::b: a worker died", "test_a.py::c: it did not begin"]
    assert all(line.isprintable() for line in lines)


def test_a_run_that_gates_nothing_is_told_everywhere() -> None:
    nothing = the_run(figures((1,)), fails=False)
    (told,) = sarif.document(nothing)["runs"]
    (note,) = told["invocations"][0]["toolExecutionNotifications"]
    assert "THIS RUN GATES NOTHING" in note["message"]["text"]
    (line,) = workflow.annotation_lines(nothing)
    assert line.startswith("::warning title=pytest-cliprobust::warning: no bound is for any")


# --- Statements ------------------------------------------------------------------------------------


def result(found: Run, model: str = "mine") -> str:
    return statement.result_of(found, model)


def test_what_a_run_says_of_a_model() -> None:
    assert result(run()) == "FAILED"
    green = judged(the_run(figures((1,)), fails=False), ("pass", "pass"))
    assert result(green) == "PASSED"
    assert result(replace(green, exit_status=6)) == "WARNED"
    assert result(replace(green, complete=False)) == "WARNED"
    assert result(the_run(figures((1,)), fails=False)) == "WARNED"  # nothing was judged
    assert result(judged(green, ("pass", "pass"), ("inconclusive", "pass"))) == "WARNED"
    for broken in (1, 2, 3, 4, 5, 7):  # 1: a test failed beside all bounds
        assert result(replace(green, exit_status=broken)) == "FAILED"


def test_one_models_loss_is_not_anothers() -> None:
    own = judged(the_run(figures((1,)), fails=False), ("pass", "pass"))
    other = the_run(figures((1, 2)), "other")
    both = replace(
        other, records=(*own.records, *other.records), models={**own.models, **other.models}
    )
    assert result(both, "other") == "FAILED"
    assert result(both, "mine") == "PASSED"
    written = statement.text(both).splitlines()
    assert list(map(json.loads, written)) == statement.statements(both)
    assert [line["predicate"]["result"] for line in statement.statements(both)] == [
        "PASSED",
        "FAILED",
    ]


@pytest.mark.slow  # in-toto's own classes, which older releases of protobuf do not read
def test_in_toto_reads_the_statement() -> None:
    from google.protobuf import json_format
    from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    found = judged(run(), ("fail", "fail"), ("inconclusive", "warn"), ("pass", "pass"))
    model = replace(found.models["mine"], weights={"a.safetensors": "ab" * 32, "b": "cd" * 32})
    (line,) = statement.text(
        replace(found, models={"mine": model}, thresholds="t.toml")
    ).splitlines()
    told = json.loads(line)
    made = Statement.copy_from_pb(json_format.ParseDict(told, statement_pb2.Statement()))
    made.validate()
    assert {one.name: dict(one.digest) for one in made.pb.subject} == {
        "a.safetensors": {"sha256": "ab" * 32},
        "b": {"sha256": "cd" * 32},
    }
    predicate = json_format.ParseDict(told["predicate"], test_result_pb2.TestResult())
    assert predicate.result == "FAILED"
    assert list(predicate.failed_tests) == [KEY]
    assert len(predicate.warned_tests) == len(predicate.passed_tests) == 1
    assert "t.toml" in [one.name for one in predicate.configuration]


def test_a_model_of_code_goes_by_the_digest_of_all_that_decides_it() -> None:
    (told,) = statement.statements(run())
    assert told["subject"] == [{"name": "mine", "digest": {"sha256": "cd34" * 16}}]


def test_a_statement_is_about_every_file_of_the_weights() -> None:
    weights = {"a.safetensors": "ab" * 32, "b.safetensors": "cd" * 32}
    own = replace(run().models["mine"], weights=weights)
    found = judged(
        run(models={"mine": own}, thresholds="t.toml"),
        ("fail", "fail"),
        ("inconclusive", "warn"),
        ("pass", "pass"),
        ("waived", "warn"),
    )
    (told,) = statement.statements(found)
    assert told["subject"] == [
        {"name": name, "digest": {"sha256": digest}} for name, digest in weights.items()
    ]
    predicate = told["predicate"]
    keys = [record.key for record in found.records]
    assert predicate["failedTests"] == keys[:1]
    assert predicate["warnedTests"] == [keys[1], keys[3]]
    assert predicate["passedTests"] == keys[2:3]
    assert [one["name"] for one in predicate["configuration"]] == ["pytest-cliprobust", "t.toml"]
    assert json.loads(statement.text(found)) == told


def test_a_verdict_on_a_planted_copy_is_none_on_its_file() -> None:
    found = run()
    own = replace(found.models["mine"], weights={"a.safetensors": "ab" * 32}, digest="noise:cd")
    planted = replace(
        found, models={"mine": own}, config=replace(found.config, plant="heavy_noise")
    )
    ((subject,),) = (told["subject"] for told in statement.statements(planted))
    assert subject["name"] == "mine, with heavy_noise planted in it"
    assert subject["digest"] == {"sha256": hashlib.sha256(b"noise:cd").hexdigest()}


# --- Annotations -----------------------------------------------------------------------------------


def test_annotations_are_for_jobs_that_read_them() -> None:
    assert workflow.wanted({"GITHUB_ACTIONS": "true"})
    assert not workflow.wanted({})


def test_an_annotation_stands_at_the_bounds_line() -> None:
    (line,) = workflow.annotation_lines(run())
    assert line.startswith(
        "::error file=thresholds.toml,line=51,title=accuracy/accuracy%3A fail::accuracy of accuracy on clean"
    )


def test_names_end_no_command() -> None:
    found = with_verdicts(run(), where="a,b:c%.toml:3", explanation="50% of\nall")
    line = workflow.annotation_lines(found)[0]
    assert "file=a%2Cb%3Ac%25.toml,line=3," in line
    assert line.endswith("50%25 of\\nall")
    assert len(line.splitlines()) == 1


def test_no_more_than_are_shown() -> None:
    mistakes = tuple(f"mistake {number}" for number in range(10))
    lines = workflow.annotation_lines(run(mistakes=mistakes[:9]))
    assert len(lines) == 10
    assert lines[-1].startswith("::error file=thresholds.toml,line=51,")  # all of them
    lines = workflow.annotation_lines(run(mistakes=mistakes))
    assert len(lines) == 10
    assert lines[-1].endswith("2 further findings stand in the report")


def test_what_is_printed_between_is_no_command() -> None:
    def printed(*lines: str, fails: bool = False) -> list[str]:
        said: list[str] = []

        def write() -> None:
            said.extend(lines)
            if fails:
                raise ValueError

        with contextlib.suppress(ValueError):
            workflow.without_commands(write, said.append)
        return said

    first, inner, last = printed("::error::no")
    token = first.removeprefix("::stop-commands::")
    assert (inner, last) == ("::error::no", f"::{token}::")
    assert len(token) == 32
    # A token that data could know would let them begin again; and whatever breaks, commands are read again.
    assert printed(fails=True)[0] != first
    assert len(printed(fails=True)) == 2

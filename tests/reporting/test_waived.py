"""Waived bounds in every report: a kind of their own, with owner, reason and last day; never a pass."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from helpers import check_schema
from report_helpers import HARM, figures, the_run

from pytest_cliprobust.gating.unjudged import Unjudged
from pytest_cliprobust.gating.waivers import Waived
from pytest_cliprobust.reporting import facts, markdown, sarif, statement, workflow
from pytest_cliprobust.reporting.earlier import earlier_of
from pytest_cliprobust.reporting.ending import last_words
from pytest_cliprobust.reporting.findings import findings
from pytest_cliprobust.reporting.html import page, plots
from pytest_cliprobust.reporting.json import text as json_text
from pytest_cliprobust.reporting.terminal import row_of, table, totals
from pytest_cliprobust.results.run import Run

KEY = "accuracy/accuracy/clean/clean/mine"
WAIVER = Waived("thresholds.toml:60", f"ticket 12{HARM}", "vision|team", "2026-12-31")


@pytest.fixture(scope="module")
def waived() -> Run:
    """A run of which one bound is missed under a waiver, and nothing else is judged."""
    found = the_run(figures((1, 2)), fails=True)
    records = [
        replace(r, verdict=replace(r.verdict, status="waived", outcome="warn", waiver=WAIVER))
        if r.key == KEY
        else r
        for r in found.records
    ]
    return replace(found, records=tuple(records), exit_status=0, ending="passed")


def judged(run: Run, index: int, **changes: Any) -> Run:
    """Return the run with another verdict of its figure of that index."""
    records = list(run.records)
    records[index] = replace(
        records[index], verdict=replace(records[index].verdict, kind="min", limit=0.5, **changes)
    )
    return replace(run, records=tuple(records))


def test_the_run_knows_them(waived: Run) -> None:
    assert [record.key for record in waived.waived] == [KEY]
    assert (waived.judged, waived.undecided) == (1, 0)


def test_what_is_said_last(waived: Run) -> None:
    (line,) = last_words(waived)
    assert line == (
        f"WAIVED: 1 bound is missed under 1 waiver ({KEY}); the first expires on 2026-12-31"
    )
    later = replace(WAIVER, where="thresholds.toml:70", expires="2027-01-31")
    two = judged(waived, 1, status="waived", outcome="warn", waiver=later)
    (line,) = last_words(two)
    assert line.startswith("WAIVED: 2 bounds are missed under 2 waivers (")
    assert line.endswith("the first expires on 2026-12-31")
    stale = replace(waived, unjudged=Unjudged(stale=[("error", "a"), ("warning", "b")]))
    assert last_words(stale)[-1] == "WAIVERS: 1 waiver is out of date"


def test_ship_with_waivers(waived: Run) -> None:
    head = earlier_of(waived)
    said = facts.headline_of(head, facts.lines_of(head, None))
    assert (said.tone, said.word) == ("unsure", "Ship with 1 waiver")
    assert said.sentence == (
        "No bound is missed without a waiver: 0 of 1 are met, 1 missed under a waiver."
    )
    two = judged(
        waived, 1, status="waived", outcome="warn", waiver=replace(WAIVER, where="t.toml:1")
    )
    two = judged(two, 2, status="inconclusive", outcome="warn")
    head = earlier_of(two)
    said = facts.headline_of(head, facts.lines_of(head, None))
    assert said.word == "Ship with 2 waivers"
    assert said.sentence.endswith("2 missed under a waiver, 1 cannot be decided on so few samples.")


def test_a_failure_beside_it_is_still_the_headline(waived: Run) -> None:
    failing = judged(waived, 1, status="fail", outcome="fail", missed_by=0.1)
    head = earlier_of(replace(failing, exit_status=1, ending="regression"))
    lines = facts.lines_of(head, None)
    assert facts.headline_of(head, lines).word == "Do not ship"
    assert [line.status for line in lines[:2]] == ["fail", "waived"]


def test_markdown(waived: Run) -> None:
    told = markdown.text(waived)
    assert told.startswith("# CLIP robustness: ship with 1 waiver\n")
    row = next(line for line in told.splitlines() if "2026-12-31 |" in line)
    assert "vision\\|team" in row
    assert "<script>" not in told
    assert "| waived |" in told
    assert "## Waived" not in markdown.text(the_run(figures((1, 2))))


def test_html(waived: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "inline", lambda *_: "")  # drawings take most of the time
    told = page.text(waived)
    assert '<h1 id="verdict">Ship with 1 waiver</h1>' in told
    assert "<b>1</b><span>waived</span>" in told
    assert 'data-kinds="waived judged' in told
    assert "until 2026-12-31 by vision|team: ticket 12" in told
    assert "<script>alert" not in told
    assert '<h2 id="waived">' not in page.text(the_run(figures((1, 2)), fails=False))


def test_the_terminal(waived: Run) -> None:
    lines = [str(line) for line in table(waived.records, 100)]
    at = lines.index("waived: the bound is missed, and a waiver says that it may be")
    assert lines[at + 1].endswith("waived")
    assert "waived until 2026-12-31 by vision|team: ticket 12" in lines[at + 2]
    assert str(totals(waived.records, True)).startswith("1 waived, ")
    assert row_of([waived.records[0]]).bad == (waived.records[0].key == KEY)


def test_json_follows_its_schema(waived: Run) -> None:
    told = json.loads(json_text(waived))
    check_schema(told)
    (one,) = [m["verdict"] for m in told["measurements"] if m["key"] == KEY]
    assert one["waiver"]["expires"] == "2026-12-31"
    del one["waiver"]
    with pytest.raises(Exception, match="'waiver' is a required property"):
        check_schema(told)


def test_sarif_suppresses_it_and_nothing_else(waived: Run) -> None:
    failing = judged(waived, 1, status="fail", outcome="fail", missed_by=0.1)
    first, second = sarif.document(failing)["runs"][0]["results"]
    assert first["suppressions"] == []
    (one,) = second["suppressions"]
    assert (one["kind"], one["status"]) == ("external", "accepted")
    assert one["justification"].startswith("waived until 2026-12-31 by vision|team")
    assert one["location"]["physicalLocation"]["region"] == {"startLine": 60}
    plain = sarif.document(the_run(figures((1, 2))))["runs"][0]["results"]
    assert not any("suppressions" in result for result in plain)


def test_findings_statement_and_annotations(waived: Run) -> None:
    (one,) = findings(waived)
    assert (one.status, one.outcome, one.waiver) == ("waived", "warn", WAIVER)
    assert one.text.endswith("(thresholds.toml:60)")
    (told,) = [json.loads(line) for line in statement.text(waived).splitlines()]
    assert told["predicate"]["result"] == "WARNED"
    assert told["predicate"]["warnedTests"] == [KEY]
    assert told["predicate"]["failedTests"] == told["predicate"]["passedTests"] == []
    commands = workflow.annotation_lines(waived)
    assert any(
        c.startswith("::warning file=thresholds.toml,line=51,title=accuracy") for c in commands
    )
    assert not any(command.startswith("::error") for command in commands)


def test_junit(waived: Run) -> None:
    (line,) = [record.one_line() for record in waived.records if record.key == KEY]
    assert ": waived (max_decrease 0.03), waived until 2026-12-31 by vision|team: ticket" in line

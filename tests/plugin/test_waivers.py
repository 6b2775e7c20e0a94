"""Waivers in a session: what is waived is told everywhere, and ends no run; what is out of date does."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from helpers import Sessions, report

from pytest_cliprobust.gating.waivers import today
from pytest_cliprobust.plugin.exits import Exit

SUITE = """
    from pytest_cliprobust.properties import accuracy

    def test_clean(clip, gate):
        gate(accuracy.accuracy_of(clip.on("clean")))
"""

KEY = "mine/accuracy/clean/clean/reference"


def thresholds(limit: float, expires: date | None = None) -> str:
    """Return a bound, at line 5, and its waiver, from line 6 on."""
    return f"""\
schema = 1
[[threshold]]
suite = "mine"
metric = "accuracy"
min = {limit}
[[waiver]]
suite = "mine"
metric = "accuracy"
reason = "the new tokenizer"
owner = "vision team"
expires = {expires or today() + timedelta(days=30)}
"""


def test_a_waived_bound_ends_no_run_and_is_told_everywhere(run: Sessions) -> None:
    reports = "--clip-report=r.json,r.md,r.sarif,r.intoto.jsonl"
    result = run(reports, "--junitxml=j.xml", suite=SUITE, thresholds=thresholds(0.99))
    assert result.ret == Exit.PASSED
    result.stdout.fnmatch_lines(
        [
            "waived: the bound is missed, and a waiver says that it may be",
            "*mine: accuracy*min 0.99*waived*",
            "*waived until * by vision team: the new tokenizer (thresholds.toml:6)*",
            "1 waived",
            f"WAIVED: 1 bound is missed under 1 waiver ({KEY}); the first expires on *",
        ]
    )
    told = report("r.json")
    (measured,) = told["measurements"]
    assert (told["exit_status"], told["ending"]) == (0, "passed")
    assert (measured["verdict"]["status"], measured["verdict"]["outcome"]) == ("waived", "warn")
    assert measured["verdict"]["waiver"]["where"] == "thresholds.toml:6"
    assert [line.partition(":")[0] for line in told["because"]] == ["WAIVED"]
    assert "ship with 1 waiver" in Path("r.md").read_text(encoding="utf-8")
    assert '"WARNED"' in Path("r.intoto.jsonl").read_text(encoding="utf-8")
    assert '"suppressions"' in Path("r.sarif").read_text(encoding="utf-8")
    junit = Path("j.xml").read_text(encoding="utf-8")
    assert 'failures="0"' in junit
    assert ": waived (min 0.99), waived until" in junit


@pytest.mark.parametrize(
    ("limit", "expires", "code", "words"),
    [
        (0.1, None, Exit.INCONCLUSIVE, "is not needed any more: its bound passes"),
        (0.99, date(2026, 1, 31), Exit.REGRESSION, "expired: 2026-01-31 was its last day"),
    ],
)
def test_one_that_is_out_of_date_fails_the_run_at_its_line(
    run: Sessions, limit: float, expires: date | None, code: Exit, words: str
) -> None:
    result = run(suite=SUITE, thresholds=thresholds(limit, expires))
    assert result.ret == code
    result.stdout.fnmatch_lines([f"error: thresholds.toml:6: the waiver *{words}*"])
    result.stdout.fnmatch_lines(["*WAIVERS: 1 waiver is out of date*"])


def test_recording_keeps_waivers_and_does_not_hide_behind_them(run: Sessions) -> None:
    text = thresholds(0.99)
    result = run("--clip-record", suite=SUITE, thresholds=text)
    assert result.ret == Exit.REGRESSION
    result.stdout.fnmatch_lines(["*recorded although it missed 1 of the bounds of before*"])
    after = (run.path / "thresholds.toml").read_text(encoding="utf-8")
    assert after != text
    assert text.partition("[[waiver]]")[2] in after

"""Workflow commands that put what was found at the line of its bound, where a forge shows changes.

A job of GitHub Actions shows ten annotations of a level and step, and drops the others in silence.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping

from pytest_cliprobust.errors import one_line
from pytest_cliprobust.reporting.ending import last_words
from pytest_cliprobust.reporting.findings import Finding, findings
from pytest_cliprobust.results.run import Run

#: So many are shown of a step.
MOST = 10

_COMMANDS = {"fail": "error", "warn": "warning", "pass": "notice"}


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process runs in a job that reads such commands."""
    return environment.get("GITHUB_ACTIONS") == "true"


def without_commands(lines: Callable[[], None], write: Callable[[str], None]) -> None:
    """Have lines written in which names that look like commands are none.

    A job reads commands from whatever is printed, and a line of a table may begin with a name from data.

    Args:
        lines: writes them.
        write: writes a line.
    """
    token = secrets.token_hex(16)
    write(f"::stop-commands::{token}")
    try:
        lines()
    finally:
        write(f"::{token}::")


def annotation_lines(run: Run) -> list[str]:
    """Return the commands, at most :data:`MOST`; the last one tells of those that are left out."""
    found = findings(run)
    mistakes = [
        f"::error title=pytest-cliprobust::{_message(one_line(line))}"
        for line in (*run.mistakes, *run.troubles)
    ]
    # A run that gates nothing, or not all that was asked for, must not look like one that is green.
    words = [
        f"::warning title=pytest-cliprobust::{_message(one_line(line))}" for line in last_words(run)
    ]
    told = [*mistakes, *words, *map(_command, found)]
    if len(told) <= MOST:
        return told
    left = len(told) - MOST + 1
    rest = f"::notice title=pytest-cliprobust::{left} further findings stand in the report"
    return [*told[: MOST - 1], rest]


def _command(finding: Finding) -> str:
    at = f"file={_property(finding.place.file)}"
    if finding.place.line:
        at += f",line={finding.place.line}"
    title = _property(f"{finding.rule}: {finding.status}")
    return f"::{_COMMANDS[finding.outcome]} {at},title={title}::{_message(finding.text)}"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")

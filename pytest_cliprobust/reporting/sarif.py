"""The report as SARIF 2.1.0: what code scanning of a forge shows, at the line of the bound.

Source: OASIS, *Static Analysis Results Interchange Format (SARIF) Version 2.1.0*.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pytest_cliprobust.errors import counted, one_line
from pytest_cliprobust.reporting.ending import last_words
from pytest_cliprobust.reporting.findings import Finding, findings
from pytest_cliprobust.reporting.places import Place
from pytest_cliprobust.results.run import Run

#: Forges read so many results of a run, and refuse a file with more.
MOST = 5000

_LEVELS: dict[str, Literal["error", "warning", "note"]] = {
    "fail": "error",
    "warn": "warning",
    "pass": "note",
}


def text(run: Run, folder: Path = Path()) -> str:
    """Return the report as the text of a file; ``folder`` is not looked at."""
    return json.dumps(document(run), indent=1, allow_nan=False) + "\n"


def document(run: Run) -> dict[str, Any]:
    """Return the report as JSON-able data: missed and undecided bounds, the worst first.

    What ended the run, and what kept it from being whole, are notifications of its invocation; so is the
    number of results beyond :data:`MOST`.
    """
    found = findings(run)
    told = [("error", line) for line in (*run.mistakes, *run.troubles)]
    told += [("warning", f"{entry.test}: {entry.reason}") for entry in run.missing]
    told += [("warning", line) for line in last_words(run)]
    if len(found) > MOST:
        more = counted(len(found) - MOST, "further result is", "further results are")
        told.append(("warning", f"{more} left out of this file"))
    # All results of a run say whether they are suppressed, or none does (3.27.23).
    waived = any(finding.waiver is not None for finding in found[:MOST])
    rules = list(dict.fromkeys(finding.rule for finding in found[:MOST]))
    return {
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "pytest-cliprobust",
                        "version": run.version,
                        "rules": [_rule(rule) for rule in rules],
                    }
                },
                "invocations": [
                    {
                        "executionSuccessful": run.complete and not run.mistakes,
                        "exitCode": run.exit_status,
                        "exitCodeDescription": run.ending,
                        "toolExecutionNotifications": [_notification(*one) for one in told],
                    }
                ],
                "columnKind": "unicodeCodePoints",
                "results": [
                    _result(finding, rules) | (_suppressions(finding) if waived else {})
                    for finding in found[:MOST]
                ],
            }
        ],
    }


def _rule(name: str) -> dict[str, Any]:
    suite, _, metric = name.partition("/")
    return {"id": name, "shortDescription": {"text": f"{metric} of the suite {suite}"}}


def _notification(level: str, line: str) -> dict[str, Any]:
    return {"level": level, "message": {"text": one_line(line)}}


def _result(finding: Finding, rules: Sequence[str]) -> dict[str, Any]:
    return {
        "ruleId": finding.rule,
        "ruleIndex": rules.index(finding.rule),
        "level": _LEVELS[finding.outcome],
        "message": {"text": finding.text},
        "locations": [_location(finding.place)],
        # The same bound of the same figure is one alert from run to run, whatever line it moves to.
        "partialFingerprints": {
            "figure/v1": hashlib.sha256(f"{finding.key} {finding.kind}".encode()).hexdigest()
        },
        "properties": {"figure": finding.key, "status": finding.status, "test": finding.test},
    }


def _suppressions(finding: Finding) -> dict[str, Any]:
    waiver = finding.waiver
    if waiver is None:
        return {"suppressions": []}
    accepted: dict[str, Any] = {
        "kind": "external",
        "status": "accepted",
        "justification": waiver.text(),
    }
    return {"suppressions": [accepted | {"location": _location(Place.of_bound(waiver.where))}]}


def _location(place: Place) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": place.uri}}
    if place.line:
        physical["region"] = {"startLine": place.line}
    return {"physicalLocation": physical}

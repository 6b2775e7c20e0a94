"""The verdict as in-toto statements, so that it belongs to files of weights and not to a name.

One statement a model and line (``.intoto.jsonl``), not signed: whoever releases the weights signs it, with
cosign or the attestations of a forge.

Source: the in-toto attestation framework, *Statement v1* and the predicate *Test Result v0.1*.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pytest_cliprobust.results.record import Record
from pytest_cliprobust.results.run import ModelSummary, Run

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"

Result = Literal["PASSED", "WARNED", "FAILED"]

#: Exit codes of a run that says nothing against any one model, if its own bounds don't.
_PASSED, _REGRESSION, _INCONCLUSIVE = 0, 1, 6


def text(run: Run, folder: Path = Path()) -> str:
    """Return a line for each model of the run; ``folder`` is not looked at."""
    return "".join(json.dumps(one, allow_nan=False) + "\n" for one in statements(run))


def statements(run: Run) -> list[dict[str, Any]]:
    """Return the statements of a run, as JSON-able data."""
    return [_statement(run, model) for model in run.models.values()]


def result_of(run: Run, model: str) -> Result:
    """Return what a run says of a model.

    FAILED: one of its bounds is missed, or the run broke, or failed for something that is not another
    model's bound. WARNED: a bound of its could not be decided, or is missed under a waiver, something that
    was asked for was not judged, or nothing was. PASSED: all its bounds are kept, and there is one.
    """
    own = _judged(run, model)
    others = any(record.verdict.failed for record in run.records if record.model != model)
    if any(record.verdict.failed for record in own):
        return "FAILED"
    if run.exit_status == _REGRESSION and not others:
        return "FAILED"
    if run.exit_status not in (_PASSED, _REGRESSION, _INCONCLUSIVE):
        return "FAILED"
    undecided = any(record.verdict.status in ("inconclusive", "waived") for record in own)
    if undecided or run.exit_status == _INCONCLUSIVE or not run.complete or not own:
        return "WARNED"
    return "PASSED"


def _judged(run: Run, model: str) -> list[Record]:
    """Return the records of a model that a bound decides on, or that fail without one."""
    return [r for r in run.records if r.model == model and r.verdict.status != "unbounded"]


def _statement(run: Run, model: ModelSummary) -> dict[str, Any]:
    own = _judged(run, model.name)
    return {
        "_type": STATEMENT,
        "subject": _subjects(model, run.config.plant),
        "predicateType": PREDICATE,
        "predicate": {
            "result": result_of(run, model.name),
            "configuration": _configuration(run),
            "passedTests": _keys(own, "pass"),
            "warnedTests": _keys(own, "inconclusive"),
            "failedTests": _keys(own, "fail"),
        },
    }


def _subjects(model: ModelSummary, plant: str | None) -> list[dict[str, Any]]:
    """Return the files of weights; of a model that comes from none, the digest of all that decides it.

    A copy in which a loss was planted is none of these files, and its verdict is not theirs.
    """
    files = model.weights or {model.name: model.digest}
    if plant is not None:
        digest = hashlib.sha256(model.digest.encode()).hexdigest()
        files = {f"{model.name}, with {plant} planted in it": digest}
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in files.items()]


def _configuration(run: Run) -> list[dict[str, Any]]:
    """Return what decided the result beside the weights: threshold file, baseline, this package."""
    found: list[dict[str, Any]] = [
        {"name": "pytest-cliprobust", "annotations": {"version": run.version, "ended": run.ending}}
    ]
    if run.thresholds:
        found.append({"name": run.thresholds})
    if run.baseline is not None:
        found.append({"name": f"baseline: {run.baseline.source}"})
    return found


def _keys(records: Sequence[Record], status: str) -> list[str]:
    """Return the keys of those figures whose outcome under the policy is that of a status."""
    return [record.key for record in records if _counts_as(record) == status]


def _counts_as(record: Record) -> str:
    if record.verdict.failed:
        return "fail"
    return "pass" if record.verdict.status == "pass" else "inconclusive"

"""The JSON report, with a versioned schema (``report.schema.json``); ``docs/report.md`` describes it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytest_cliprobust.gating import unjudged
from pytest_cliprobust.reporting.ending import last_words
from pytest_cliprobust.reporting.separation import DETAIL, Separation
from pytest_cliprobust.results.plain import SCHEMA, finite, plain
from pytest_cliprobust.results.run import Run


def document(run: Run) -> dict[str, Any]:
    """Return the whole report as JSON-able data."""
    config = asdict(run.config)
    config["cache_dir"] = str(config["cache_dir"]) if config["cache_dir"] else None
    config["font"] = str(config["font"]) if config["font"] else None
    return {
        "schema": SCHEMA,
        "complete": run.complete,
        "partial": run.partial,
        "exit_status": run.exit_status,
        "ending": run.ending,
        "because": last_words(run),
        "pytest_cliprobust": run.version,
        "began": run.began or run.written,
        "written": run.written,
        "config": config,
        "environment": asdict(run.environment),
        "models": {name: finite(model.as_dict()) for name, model in run.models.items()},
        "data": run.data.as_dict(),
        "thresholds": run.thresholds or None,
        "provenance": None if run.provenance is None else run.provenance.as_dict(),
        "held_against": run.held_against or None,
        "sections": {title: list(suites) for title, suites in run.sections.items()},
        "samples": run.named,
        "notes": list(run.notes),
        "measurements": [plain(record) for record in run.records],
        "skipped_samples": [one.as_dict() for one in run.skipped],
        "not_run": [asdict(entry) for entry in run.not_run],
        "missing": [asdict(entry) for entry in run.missing],
        "required_missing": list(run.lacking),
        "not_collected": list(run.not_collected),
        "bounds_not_judged": [line for _, line in unjudged.lines(run.unjudged)],
        "mistakes": list(run.mistakes),
        "troubles": list(run.troubles),
    }


def text(run: Run) -> str:
    """Return the report as the text of a file.

    It has no outcomes by sample; so what is made of scores has their curves among its details.
    """
    told = document(run)
    for entry, record in zip(told["measurements"], run.records, strict=True):
        curves = Separation.of_figure(record.figure)
        if curves is not None:
            entry["figure"]["details"][DETAIL] = finite(curves.as_dict())
    return json.dumps(told, indent=1, allow_nan=False) + "\n"


def schema_text() -> str:
    """Return the JSON Schema of the report."""
    return Path(__file__).with_name("report.schema.json").read_text(encoding="utf-8")

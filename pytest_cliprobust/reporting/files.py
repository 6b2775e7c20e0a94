"""Reports as files: JSON (versioned schema) and Markdown (for a CI job's summary)."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_cliprobust import __version__
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.figure import json_number, pack
from pytest_cliprobust.files import shown_path
from pytest_cliprobust.gating import unjudged as bounds
from pytest_cliprobust.gating.measurement import Measurement

if TYPE_CHECKING:
    import pytest

    from pytest_cliprobust.gating.thresholds import Rule
    from pytest_cliprobust.gating.verdict import Verdict
    from pytest_cliprobust.plugin import Session
    from pytest_cliprobust.search.stress import Evidence

SCHEMA = 1
"""Version of the JSON report; raised when a field changes its meaning or goes away."""


def record_of(
    measurement: Measurement, verdict: Verdict, rule: Rule | None, nodeid: str
) -> dict[str, Any]:
    """Return a JSON-able record of a measurement and its verdict."""
    return {
        **measurement.as_dict(replicates=True),
        "key": measurement.key,
        "metric": measurement.metric,
        "test": nodeid,
        "verdict": verdict.as_dict(),
        "rule": rule.id if rule else None,
    }


def measurement_of(record: dict[str, Any]) -> Measurement:
    """Return the measurement of a record."""
    return Measurement.from_dict(record)


def one_line(record: dict[str, Any]) -> str:
    """Return ``value [low, high] n=…: status (bound)``, as JUnit properties show it."""
    figure, verdict = record["figure"], record["verdict"]
    bound = f" ({verdict['bound']})" if verdict.get("bound") else ""
    return f"{interval_text(figure)} n={figure['n']}: {verdict['status']}{bound}"


def interval_text(figure: dict[str, Any]) -> str:
    """Return ``0.812 [0.786, 0.835]`` with the figure's unit."""
    unit = f" {figure['unit']}" if figure.get("unit") else ""
    value, low, high = (float(figure[name]) for name in ("value", "low", "high"))
    return f"{value:.4g} [{low:.4g}, {high:.4g}]{unit}"


def picture_folder(config: pytest.Config) -> Path:
    """Return the folder for pictures: beside the report, else in pytest's cache."""
    from pytest_cliprobust.plugin import reports_of

    for report in reports_of(config)[:1]:
        return report.with_name(f"{report.stem}-pictures")
    cache = getattr(config, "cache", None)
    return Path(cache.mkdir("cliprobust")) if cache else config.rootpath / "cliprobust-pictures"


def evidence_of(evidence: Evidence, key: str, folder: Path) -> dict[str, Any]:
    """Draw the picture of a missed bound, and return what reports show of it as JSON-able data."""
    path = folder / (re.sub(r"[^A-Za-z0-9._@-]+", "-", key) + ".png")
    return {
        "lines": [list(line) for line in evidence.lines],
        "parameters": dict(evidence.parameters),
        "reproduction": evidence.reproduction,
        "picture": str(shown_path(evidence.draw(path))),
    }


def evidence_text(evidence: dict[str, Any]) -> str:
    """Return evidence as lines that continue a failure message."""
    lines = [
        *evidence["lines"],
        ("picture", evidence["picture"]),
        ("see it", evidence["reproduction"]),
    ]
    return "\n".join(f"  {heading:<9} {text}" for heading, text in lines)


def compact(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record for a file.

    Of the bootstrap replicates, a thousand numbers a figure, only those of figures with a bound stay,
    packed: a later run is compared with them in pairs.
    """
    figure = {k: v for k, v in record["figure"].items() if k != "replicates"}
    replicates = record["figure"].get("replicates")
    if replicates and record["rule"]:
        figure["replicates"] = pack([float(value) for value in replicates])
    result: dict[str, Any] = finite({**record, "figure": figure})
    return result


def finite(value: Any) -> Any:
    """Return JSON-able data with NaN and infinity as texts, which JSON has no numbers for."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return json_number(value) if isinstance(value, float) else value


def document(session: Session) -> dict[str, Any]:
    """Return the whole report as JSON-able data; ``docs/report.md`` describes it."""
    import torch

    config = asdict(session.config)
    config["cache_dir"] = str(config["cache_dir"]) if config["cache_dir"] else None
    found = bounds.unjudged(session)
    return {
        "schema": SCHEMA,
        "complete": not session.interrupted,
        "exit_status": session.exit_status,
        "pytest_cliprobust": __version__,
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "config": config,
        "environment": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "platform": platform.platform(),
        },
        "models": {
            name: {**asdict(evaluation.target.info), "notes": list(evaluation.target.info.notes)}
            | {
                "device": str(evaluation.target.device),
                "precision": evaluation.encoder.precision,
                "run_notes": session.notes(),
                "images": session.encoded.get(name, {}),
                "noise": session.noise.get(name),
            }
            for name, evaluation in session.evaluations.items()
        },
        "thresholds": str(session.threshold_path) if session.threshold_path else None,
        "measurements": [compact(record) for record in session.records],
        "not_run": session.not_run,
        "bounds_not_judged": [line for _, line in bounds.lines(found)],
        "mistakes": session.mistakes,
    }


def markdown(session: Session, folder: Path = Path()) -> str:
    """Return the report as Markdown: a table, then what broke; ``folder`` is where it will lie."""
    lines = ["# CLIP robustness", "", *(f"- {line.strip()}" for line in session.header()), ""]
    lines += [
        "| property | measured (95% interval) | n | bound | verdict |",
        "|---|---|---|---|---|",
    ]
    for record in session.records:
        figure, verdict = record["figure"], record["verdict"]
        lines.append(
            f"| `{record['key']}` | {interval_text(figure)} | {figure['n']} | "
            f"{verdict.get('bound') or '–'} | {verdict['status']} |"
        )
    for record in session.records:
        if "evidence" in record:
            lines += ["", *_evidence_section(record, folder)]
    return "\n".join(lines) + "\n"


def _evidence_section(record: dict[str, Any], folder: Path) -> list[str]:
    evidence = record["evidence"]
    # A link in Markdown is relative to the file that holds it.
    link = os.path.relpath(evidence["picture"], folder).replace(os.sep, "/")
    return [
        f"## `{record['key']}`",
        "",
        *(f"- {heading}: {text}" for heading, text in evidence["lines"]),
        "",
        f"![{record['perturbation']} before and after](<{link}>)",
        "",
        f"    {evidence['reproduction']}",
    ]


def write(path: Path, session: Session) -> None:
    """Write the report to ``path``, in the format that its name asks for, in one step.

    Raises:
        ClipRobustError: another ending than ``.json`` or ``.md``, or a path that cannot be written.
    """
    if path.suffix == ".json":
        text = json.dumps(document(session), indent=1, allow_nan=False) + "\n"
    elif path.suffix == ".md":
        text = markdown(session, path.parent)
    else:
        raise ClipRobustError(f"--clip-report {path}: end the name in .json or .md")
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise ClipRobustError(
            f"--clip-report {path}: cannot be written: {error.strerror}"
        ) from None

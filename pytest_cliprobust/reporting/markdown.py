"""The Markdown report, for the summary of a CI job: a table, then what broke."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_cliprobust.gating import unjudged
from pytest_cliprobust.reporting.header import header_lines, not_run_lines
from pytest_cliprobust.results.record import Evidence, Record
from pytest_cliprobust.results.run import Run


def text(run: Run, folder: Path = Path()) -> str:
    """Return the report as Markdown; ``folder`` is where it will lie."""
    header = header_lines(run.config, run.models, run.thresholds)
    lines = ["# CLIP robustness", "", *(f"- {line.strip()}" for line in header), ""]
    told = said_of(run)
    lines += [*(f"- **{level}**: {line}" for level, line in told), *([""] if told else [])]
    lines += [
        "| property | measured (95% interval) | n | bound | verdict |",
        "|---|---|---|---|---|",
    ]
    for record in run.records:
        figure, verdict = record.figure, record.verdict
        lines.append(
            f"| `{record.key}` | {figure.interval_text()} | {figure.n} | {verdict.bound or '–'} | "
            f"{verdict.status} |"
        )
    for record in run.records:
        if record.evidence is not None:
            lines += ["", *_evidence_section(record, record.evidence, folder)]
    return "\n".join(lines) + "\n"


def said_of(run: Run) -> list[tuple[str, str]]:
    """Return (level, text) lines of what is missing, wrong or to be known beside the figures."""
    told = [] if run.complete else [("error", "the run did not end by itself: the figures so far")]
    told += [("error", mistake) for mistake in run.mistakes]
    told += unjudged.lines(run.unjudged)
    told += [("not run", line) for line in not_run_lines(run.not_run)]
    return [*told, *(("note", note) for note in run.notes)]


def _evidence_section(record: Record, evidence: Evidence, folder: Path) -> list[str]:
    # A link in Markdown is relative to the file that holds it.
    link = os.path.relpath(evidence.picture, folder).replace(os.sep, "/")
    return [
        f"## `{record.key}`",
        "",
        *(f"- {heading}: {text}" for heading, text in evidence.lines),
        "",
        f"![{record.measurement.perturbation} before and after](<{link}>)",
        "",
        f"    {evidence.reproduction}",
    ]

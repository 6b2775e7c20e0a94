"""The Markdown report, for the summary of a CI job: a table, then what broke."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_cliprobust.gating import unjudged
from pytest_cliprobust.reporting.ending import LISTED, ending_text, last_words, missing_lines
from pytest_cliprobust.reporting.header import header_lines
from pytest_cliprobust.reporting.remarks import remarks
from pytest_cliprobust.results.record import Evidence, Record
from pytest_cliprobust.results.run import Run


def text(run: Run, folder: Path = Path()) -> str:
    """Return the report as Markdown; ``folder`` is where it will lie."""
    header = header_lines(run.config, run.models, run.thresholds, data=run.data)
    lines = ["# CLIP robustness", "", f"- ending: **{ending_text(run)}**"]
    lines += [*(f"- {line.strip()}" for line in header), ""]
    found = remarks(run, gravest_first=True, most=LISTED)
    told = [f"- **{r.level.lower()}**: {r.text}" for r in found]
    lines += [*told, *([""] if told else [])]
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
    missing = missing_lines(run)
    if missing:
        lines += ["", "## Not run to the end", "", *(f"- {line}" for line in missing)]
    if len(run.unjudged.cut) > LISTED:  # else they are at the top
        waiting = unjudged.cut_lines(run.unjudged)
        lines += ["", "## Bounds that wait for it", "", *(f"- {line}" for line in waiting)]
    for line in last_words(run):
        lines += ["", f"**{line}**"]
    return "\n".join(lines) + "\n"


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

"""The Markdown report, for the summary of a CI job: a table, then what broke."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_cliprobust.errors import one_line
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
    lines += [*(f"- {_plain(line.strip())}" for line in header), ""]
    found = remarks(run, gravest_first=True, most=LISTED)
    told = [f"- **{r.level.lower()}**: {_plain(r.text)}" for r in found]
    lines += [*told, *([""] if told else [])]
    lines += [
        "| property | measured (95% interval) | n | bound | verdict |",
        "|---|---|---|---|---|",
    ]
    for record in run.records:
        figure, verdict = record.figure, record.verdict
        lines.append(
            f"| {_code(record.key, cell=True)} | {figure.interval_text()} | {figure.n} | "
            f"{_plain(verdict.bound, cell=True) or '–'} | {verdict.status} |"
        )
    for record in run.records:
        if record.evidence is not None:
            lines += ["", *_evidence_section(record, record.evidence, folder)]
    missing = missing_lines(run)
    if missing:
        lines += ["", "## Not run to the end", "", *(f"- {_plain(line)}" for line in missing)]
    if len(run.unjudged.cut) > LISTED:  # else they are at the top
        waiting = unjudged.cut_lines(run.unjudged)
        lines += ["", "## Bounds that wait for it", "", *(f"- {_plain(line)}" for line in waiting)]
    for line in last_words(run):
        lines += ["", f"**{_plain(line)}**"]
    return "\n".join(lines) + "\n"


def _evidence_section(record: Record, evidence: Evidence, folder: Path) -> list[str]:
    # A link in Markdown is relative to the file that holds it.
    link = os.path.relpath(evidence.picture, folder).replace(os.sep, "/")
    return [
        f"## {_code(record.key)}",
        "",
        *(f"- {heading}: {_plain(text)}" for heading, text in evidence.lines),
        "",
        f"![{record.measurement.perturbation} before and after](<{link}>)",
        "",
        f"    {one_line(evidence.reproduction)}",
    ]


def _plain(text: str, *, cell: bool = False) -> str:
    """Return a text that Markdown shows as it is: names in it may hold tags, and bars end cells."""
    shown = one_line(text).replace("&", "&amp;").replace("<", "&lt;")
    return shown.replace("|", "\\|") if cell else shown


def _code(text: str, *, cell: bool = False) -> str:
    """Return a text as code, whatever it holds; ``cell``: of a table."""
    shown = one_line(text).replace("|", "\\|") if cell else one_line(text)
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"

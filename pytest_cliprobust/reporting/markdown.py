"""The Markdown report, for the summary of a CI job or a comment on a change: what failed comes first.

What a forge takes of each is limited, and what is longer is refused as a whole; so the report is cut where it
gets too long, at its end, which tells least.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from pytest_cliprobust.errors import counted, one_line
from pytest_cliprobust.gating import unjudged
from pytest_cliprobust.reporting import facts
from pytest_cliprobust.reporting.earlier import earlier_of, held_against
from pytest_cliprobust.reporting.ending import LISTED, ending_text, last_words, missing_lines
from pytest_cliprobust.reporting.facts import Line
from pytest_cliprobust.reporting.header import header_lines, policy_lines
from pytest_cliprobust.reporting.remarks import remarks
from pytest_cliprobust.results.compare import Comparison
from pytest_cliprobust.results.earlier import Earlier
from pytest_cliprobust.results.record import Evidence, Record
from pytest_cliprobust.results.run import Run

#: Bytes that the summary of a step may have (1,024 KiB), and a comment (65,536 letters).
SUMMARY, COMMENT = 1024 * 1024, 65_536

#: What ends the text of a link; runs of what begins and ends code.
_LINK, _TICKS = re.compile(r"\](?=[(\[])"), re.compile("`+")

#: What begins the name of somebody who is notified.
_MENTION = re.compile(r"(?<![A-Za-z0-9_])@(?=\w)")

#: A space without width.
_NOTHING = "\u200b"

#: So much is left free of both, for what a workflow writes around the report.
_FREE = 1024


def text(run: Run, folder: Path = Path(), most: int = SUMMARY) -> str:
    """Return the report as Markdown.

    Args:
        run: what to tell of.
        folder: where the report will lie.
        most: bytes that there is room for.
    """
    head = earlier_of(run)
    shown = {r.key for r in run.records if r.verdict.failed} | set(facts.clean_accuracies(head))
    comparison, notes = held_against(run, head, shown)
    lines = facts.lines_of(head, comparison)
    parts = [
        *_top(run, head, lines),
        *_failures(lines),
        *_waived(run),
        *_classes(lines),
        *_remarks(run, notes),
        *_evidence(run, folder),
        *_missing(run),
        *_figures(run, lines),
        *_provenance(head, comparison),
    ]
    return _cut(parts, most - _FREE)


def comment(run: Run, folder: Path = Path()) -> str:
    """Return the report as Markdown that fits a comment."""
    return text(run, folder, COMMENT)


def _top(run: Run, head: Earlier, lines: Sequence[Line]) -> list[str]:
    """Return what is said first: ship or not, why, and what was under test."""
    said = facts.headline_of(head, lines)
    header = header_lines(run.config, run.models, run.thresholds, data=run.data)
    header += policy_lines(run.unjudged.policy)
    return [
        f"# CLIP robustness: {said.word.lower()}",
        "",
        _plain(said.sentence),
        "",
        *(f"**{_plain(line)}**\n" for line in reversed(last_words(run)) if line != said.sentence),
        f"- ending: **{ending_text(run)}**",
        *(f"- {_plain(line.strip())}" for line in header),
        "",
    ]


def _remarks(run: Run, notes: Sequence[str]) -> list[str]:
    """Return what a reader must know beside, the gravest first."""
    found = remarks(run, gravest_first=True, most=LISTED)
    told = [f"- **{r.level.lower()}**: {_plain(r.text)}" for r in found]
    told += [f"- **note**: {_plain(note)}" for note in notes]
    return [*told, ""] if told else []


def _failures(lines: Sequence[Line]) -> list[str]:
    """Return the bounds that fail, those that lost most first: what got worse, and by how much."""
    failed = [line for line in lines if line.failed]
    rows = [
        f"| {_code(line.key, cell=True)} | {line.measurement.figure.interval_text()} | "
        f"{'–' if line.before is None else facts.number(line.before)} | {line.change_text or '–'} | "
        f"{_plain(line.verdict.bound, cell=True) or '–'} | "
        f"{_code(line.verdict.where, cell=True) if line.verdict.where else '–'} |"
        for line in failed[: facts.WORST]
        if line.verdict is not None
    ]
    if not rows:
        return []
    more = len(failed) - len(rows)
    return [
        "## What failed",
        "",
        "| property | now (95% interval) | before | change | bound | where |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        *(
            [f"{counted(more, 'more stands', 'more stand')} first in the table of all figures.", ""]
            if more
            else []
        ),
    ]


def _waived(run: Run) -> list[str]:
    """Return which bounds are missed under a waiver, by whom, why and until when."""
    rows = [
        f"| {_code(r.key, cell=True)} | {r.figure.interval_text()} | {_plain(r.verdict.bound, cell=True)} | "
        f"{w.expires} | {_plain(w.owner, cell=True)} | {_plain(w.reason, cell=True)} | "
        f"{_code(w.where, cell=True)} |"
        for r in run.waived
        if (w := r.verdict.waiver) is not None
    ]
    if not rows:
        return []
    return [
        "## Waived",
        "",
        "| property | measured (95% interval) | bound | until | owner | why | waiver |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def _classes(lines: Sequence[Line]) -> list[str]:
    """Return which classes lost most against the earlier run, else what is taken for what.

    Nothing where answers were not kept.
    """
    losses = facts.class_losses(lines)
    if not losses:
        return _confusions(lines)
    rows = [
        f"| {_plain(one.name, cell=True)} | {one.lost} | {one.gained} | {one.n or '–'} | "
        f"{_plain(', '.join(f'{name} ({count})' for name, count in one.taken_for), cell=True)} |"
        for one in losses
    ]
    return [
        "## Classes that lost most, on clean pictures",
        "",
        "| class | right before, wrong now | wrong before, right now | n | taken for |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]


def _confusions(lines: Sequence[Line]) -> list[str]:
    clean = next((line for line in lines if facts.is_clean_accuracy(line.measurement)), None)
    found = () if clean is None else facts.confusions_of(clean)
    if not found:
        return []
    rows = [
        f"| {_plain(label, cell=True)} | {_plain(name, cell=True)} | {count} |"
        for label, name, count in found
    ]
    return [
        "## Most often confused, on clean pictures",
        "",
        "| class | taken for | times |",
        "|---|---|---|",
        *rows,
        "",
    ]


def _evidence(run: Run, folder: Path) -> list[str]:
    found: list[str] = []
    for record in run.records:
        if record.evidence is not None:
            found += [*_evidence_section(record, record.evidence, folder), ""]
    return found


def _evidence_section(record: Record, evidence: Evidence, folder: Path) -> list[str]:
    # A link in Markdown is relative to the file that holds it.
    link = os.path.relpath(evidence.picture, folder).replace(os.sep, "/")
    return [
        f"## {_code(record.key)}",
        "",
        *(f"- {heading}: {_plain(text)}" for heading, text in evidence.lines),
        "",
        f"![{_plain(record.measurement.perturbation)} before and after](<{link}>)",
        "",
        f"    {one_line(evidence.reproduction)}",
    ]


def _missing(run: Run) -> list[str]:
    lines: list[str] = []
    missing = missing_lines(run)
    if missing:
        lines += ["## Not run to the end", "", *(f"- {_plain(line)}" for line in missing), ""]
    if len(run.unjudged.cut) > LISTED:  # else they are at the top
        waiting = unjudged.cut_lines(run.unjudged)
        lines += ["## Bounds that wait for it", "", *(f"- {_plain(line)}" for line in waiting), ""]
    return lines


def _figures(run: Run, lines: Sequence[Line]) -> list[str]:
    """Return the table of all figures: those that failed first, then the others by their keys."""
    if not run.records:
        return []
    by_key = {record.key: record for record in run.records}
    failed = [by_key[line.key] for line in lines if line.failed]
    undecided = [
        r for r in run.records if not r.verdict.failed and r.verdict.status == "inconclusive"
    ]
    undecided = [*run.waived, *undecided]
    first = [*failed, *undecided]
    told = {record.key for record in first}
    rest = [record for record in run.records if record.key not in told]
    return [
        "## All figures",
        "",
        "| property | measured (95% interval) | n | bound | verdict |",
        "|---|---|---|---|---|",
        *map(_row, [*first, *rest]),
        "",
    ]


def _row(record: Record) -> str:
    figure, verdict = record.figure, record.verdict
    return (
        f"| {_code(record.key, cell=True)} | {figure.interval_text()} | {figure.n} | "
        f"{_plain(verdict.bound, cell=True) or '–'} | {verdict.status} |"
    )


def _provenance(head: Earlier, comparison: Comparison | None) -> list[str]:
    """Return what was under test: weights, data and prompts by digest, the baseline."""
    told = facts.provenance_lines(head, comparison)
    return [
        "## What was under test",
        "",
        *(f"- {_plain(f'{what}: {text}')}" for what, text in told),
    ]


def _cut(lines: Sequence[str], most: int) -> str:
    """Return the lines as a text of at most ``most`` bytes, and say what is left out."""
    sizes = [len(line.encode()) + 1 for line in lines]
    if sum(sizes) <= most:
        return "\n".join(lines).rstrip("\n") + "\n"
    room, kept = most - 300, 0
    while kept < len(lines) and sizes[kept] <= room:
        room -= sizes[kept]
        kept += 1
    more = counted(len(lines) - kept, "further line")
    rest = (
        f"*Cut here, as there is no room for more: {more}. The whole is in the "
        "HTML and JSON reports of the run (`--clip-report report.html,report.json`).*"
    )
    return "\n".join([*lines[:kept], "", rest]) + "\n"


def _plain(text: str, *, cell: bool = False) -> str:
    """Return a text that Markdown shows as it is, whatever names and reasons in it hold.

    No tags, no pictures or links to elsewhere, no code or emphasis that runs on, nobody who is notified by
    ``@name``; ``cell``: of a table, whose bars end cells.
    """
    shown = one_line(text).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    shown = _LINK.sub(r"\\]", shown)
    if shown.startswith("["):  # else it may define where links of that name lead
        shown = f"\\{shown}"
    for mark in "`*~":
        shown = shown.replace(mark, f"\\{mark}")
    # Forges look for names when the text is rendered, so that no escape keeps them from it.
    shown = _MENTION.sub(f"@{_NOTHING}", shown)
    return shown.replace("|", "\\|") if cell else shown


def _code(text: str, *, cell: bool = False) -> str:
    """Return a text as code, whatever it holds; ``cell``: of a table."""
    shown = one_line(text)
    if cell:
        # In code nothing escapes a backslash, and one before that of a bar would leave the bar alone.
        shown = shown.replace("\\|", f"\\{_NOTHING}|").replace("|", "\\|")
    longest = max(map(len, _TICKS.findall(shown)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {shown} {fence}" if longest else f"{fence}{shown}{fence}"

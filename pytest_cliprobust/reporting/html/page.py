"""The HTML report of a run: one file that holds all it shows, and asks nothing of any network.

All text from data goes through the template's escaping; drawings come from matplotlib, which escapes its
own. The content-security policy names the one script by its hash, and forbids every other.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pytest_cliprobust.errors import printable
from pytest_cliprobust.reporting import facts
from pytest_cliprobust.reporting.earlier import earlier_of, held_against
from pytest_cliprobust.reporting.facts import Line
from pytest_cliprobust.reporting.html import plots
from pytest_cliprobust.reporting.html.gallery import albums_of
from pytest_cliprobust.reporting.html.pictures import Pictures, file_uri
from pytest_cliprobust.reporting.html.sections import Plot, sections_of
from pytest_cliprobust.results.compare import Comparison
from pytest_cliprobust.results.earlier import Earlier
from pytest_cliprobust.results.run import Run

_PARTS = Path(__file__).with_name("parts")


# --- From a session --------------------------------------------------------------------------------


def text(run: Run, folder: Path = Path()) -> str:
    """Return the report of a session's run as HTML, beside the earlier run that it was held against.

    ``folder`` is where it will lie; the report stands alone, and does not need it.
    """
    head = earlier_of(run)
    comparison, notes = held_against(run, head)
    return page_of(head, comparison, notes)


# --- The page --------------------------------------------------------------------------------------


def page_of(head: Earlier, comparison: Comparison | None = None, notes: Sequence[str] = ()) -> str:
    """Return the report of a run as HTML.

    Args:
        head: the run.
        comparison: of it with an earlier one; None for a run alone.
        notes: what a reader must know beside.
    """
    lines = facts.lines_of(head, comparison)
    pictures = Pictures(head.header.get("config", {}))
    albums = albums_of(lines, pictures) if head.named and comparison is not None else ()
    script = (_PARTS / "report.js").read_text(encoding="utf-8")
    style = (_PARTS / "report.css").read_text(encoding="utf-8")
    return (
        environment()
        .get_template("report.html")
        .render(
            head=head,
            comparison=comparison,
            lines=lines,
            failed=[line for line in lines if line.failed],
            waived=[line for line in lines if line.verdict is not None and line.verdict.waiver],
            headline=facts.headline_of(head, lines),
            counts=facts.counts_of(lines),
            losses=_losses(lines),
            classes=facts.class_losses(lines),
            confusions=_confusions(lines),
            sections=sections_of(lines),
            albums=albums,
            no_albums=_why_no_albums(head, comparison, pictures),
            problems=list(pictures.problems),
            evidence={key: file_uri(Path(own.picture)) for key, own in head.evidence.items()},
            provenance=facts.provenance_lines(head, comparison),
            notes=[*notes, *_compared(lines, comparison), *map(str, head.header.get("notes", ()))],
            facts=facts,
            script=Markup(script),
            style=Markup(style),
            policy=policy_of(script),
        )
    )


def policy_of(script: str) -> str:
    """Return the content-security policy of a page with one script: nothing from anywhere else."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


@cache
def environment() -> jinja2.Environment:
    """Return where templates come from; whatever they are given is escaped, control letters too."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PARTS),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
    )
    made.filters |= {"number": facts.number, "words": facts.words, "signed": facts.signed}
    return made


def _finalize(value: Any) -> Any:
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value)
    return value


def _losses(lines: Sequence[Line]) -> Plot | None:
    """Return the largest losses as one drawing, those that fail first; None where there are none."""
    found = [
        line
        for line in lines
        if (line.failed or line.tone == "bad") and line.loss and not line.measurement.figure.unit
    ]
    found.sort(key=lambda line: -line.loss)
    shown = found[: facts.WORST]
    if not shown:
        return None
    rows = []
    for line in shown:
        made = line.compared
        assert made is not None  # else there were no loss
        low, high = sorted((abs(made.low), abs(made.high)))
        if made.low < 0 < made.high:
            low = -min(abs(made.low), abs(made.high))
        label = f"{line.place}: {line.spaces[0]}"
        rows.append(plots.Dot(label, line.loss, low, high, None, "bad" if line.failed else ""))
    more = len(found) - len(shown)
    caption = "Loss against the earlier run, with its interval; red: a bound fails."
    if more:
        caption += f" {more} smaller ones are in the table."
    return Plot(plots.dots(rows, "worst", "largest losses", zero=True), wide=True, caption=caption)


def _compared(lines: Sequence[Line], comparison: Comparison | None) -> list[str]:
    """Return how many figures have an earlier one beside them, where that is not all of them."""
    if comparison is None or len(comparison.rows) == len(lines):
        return []
    return [
        f"{comparison.base.source} has {len(comparison.rows)} of these {len(lines)} figures; the others "
        "stand without an earlier one."
    ]


def _confusions(lines: Sequence[Line]) -> tuple[tuple[str, str, int], ...]:
    for line in lines:
        if facts.is_clean_accuracy(line.measurement):
            return facts.confusions_of(line)
    return ()


def _why_no_albums(head: Earlier, comparison: Comparison | None, pictures: Pictures) -> str:
    if comparison is None:
        return "There is no earlier run beside this one, so no sample can have changed sides."
    if not head.named:
        return "Names of samples were left out of this run, and pictures with them."
    return (
        pictures.why_none
        or "No sample changed sides on any condition that both runs kept by sample."
    )

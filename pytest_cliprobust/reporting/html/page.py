"""The HTML report of a run: one file that holds all it shows, and asks nothing of any network.

All text from data goes through the template's escaping; drawings come from matplotlib, which escapes its
own. The content-security policy names the one script by its hash, and forbids every other.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pytest_cliprobust.errors import counted, printable
from pytest_cliprobust.reporting import facts
from pytest_cliprobust.reporting.comparison import paired_line
from pytest_cliprobust.reporting.earlier import earlier_of, held_against
from pytest_cliprobust.reporting.facts import Line
from pytest_cliprobust.reporting.html import plots, room
from pytest_cliprobust.reporting.html.gallery import albums_of
from pytest_cliprobust.reporting.html.pictures import Pictures, file_uri
from pytest_cliprobust.reporting.html.sections import Plot, sections_of
from pytest_cliprobust.results.compare import Comparison
from pytest_cliprobust.results.earlier import Earlier
from pytest_cliprobust.results.run import Run

_PARTS = Path(__file__).with_name("parts")

#: Most waivers on top of the page, and names of figures that only the earlier run has.
WAIVED, _NAMED = 100, 12

#: Bytes for the line that says how many rows are left out.
_NOTE = 1_000


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
    albums = room.samples(albums)
    sections = room.drawn(sections_of(lines, head.header.get("sections")))
    evidence = _evidence(lines, head)
    headline = facts.headline_of(head, lines)
    waived = [line for line in lines if line.verdict is not None and line.verdict.waiver]
    notes = [
        *notes,
        *_paired(lines, head),
        *_compared(lines, comparison),
        *map(str, head.header.get("notes", ())),
    ]
    script = (_PARTS / "report.js").read_text(encoding="utf-8")
    style = (_PARTS / "report.css").read_text(encoding="utf-8")
    told = {
        "head": head,
        "comparison": comparison,
        "against": _against(comparison),
        "lines": lines,
        "failed": any(line.failed for line in lines),
        "waived": waived[:WAIVED],
        "waived_left": len(waived[WAIVED:]),
        "headline": headline,
        "counts": facts.counts_of(lines),
        "losses": _losses(lines),
        "classes": facts.class_losses(lines),
        "confusions": _confusions(lines),
        "answered": next((x for x in lines if facts.is_clean_accuracy(x.measurement)), None),
        "sections": sections,
        "albums": albums,
        "no_albums": _why_no_albums(head, comparison, pictures),
        "problems": room.listed(list(pictures.problems)),
        "evidence": evidence,
        "provenance": _provenance(head, comparison),
        "notes": room.listed(notes),
        "not_run": _not_run(head, comparison),
        "script": Markup(script),
        "style": Markup(style),
        "policy": policy_of(script),
    }
    page = environment().get_template("report.html")
    left = room.PAGE - room.size(page.render(told, rows=()))
    linked = {line.key for line in waived[:WAIVED]} | set(evidence)
    linked |= {album.line.key for album in albums}
    named = [headline.worst, *(section.worst for section in sections)]
    linked |= {line.key for line in named if line is not None}
    return page.render(told, rows=_rows(lines, linked, left, beside=comparison is not None))


def _rows(
    lines: Sequence[Line], linked: Container[str], left: int, *, beside: bool
) -> list[Markup]:
    """Return the rows of figures that fit into so many bytes: those that the page names, then the first."""
    row = environment().get_template("macros.html").module.row  # type: ignore[attr-defined]

    def made() -> Iterator[tuple[tuple[int, Markup], int]]:
        for place in sorted(range(len(lines)), key=lambda place: lines[place].key not in linked):
            text = row(lines[place], beside)
            yield (place, text), room.size(text) + 1

    return [text for _, text in sorted(room.fitting(made(), left - _NOTE), key=itemgetter(0))]


@dataclass(frozen=True)
class NotRun:
    """Something that was not run, or not judged.

    Attributes:
        tone: its colour.
        word: what became of it.
        test: which test; empty where that is none.
        text: why.
    """

    tone: str
    word: str
    test: str
    text: str


def _not_run(head: Earlier, comparison: Comparison | None) -> tuple[list[NotRun], int]:
    """Return what was not run and why, as far as there is room, and how much more there is."""
    told = head.header

    def of(field: str) -> Sequence[Any]:
        return told.get(field) or ()

    found = [
        *(NotRun("bad", "not finished", one["test"], one["reason"]) for one in of("missing")),
        *(NotRun("bad", "not collected", one, "") for one in of("not_collected")),
        *(NotRun("bad", "error", "", one) for one in (*of("mistakes"), *of("troubles"))),
        *(NotRun("unsure", "skipped", one["test"], one["reason"]) for one in of("not_run")),
        *(NotRun("", "bound", "", one) for one in of("bounds_not_judged")),
    ]
    if comparison is not None and comparison.only_base:
        gone = comparison.only_base
        names = f": {', '.join(gone)}" if len(gone) <= _NAMED else ""
        have = counted(
            len(gone), "figure of the earlier run has", "figures of the earlier run have"
        )
        text = f"{have} no counterpart in this one{names}"
        found.append(NotRun("", "earlier run only", "", text))
    sizes = (room.size(room.shortened(one.test), room.shortened(one.text)) + 100 for one in found)
    kept = room.fitting(zip(found, sizes, strict=True), 3 * room.LIST)
    return kept, len(found) - len(kept)


def _provenance(head: Earlier, comparison: Comparison | None) -> list[tuple[str, str]]:
    told = facts.provenance_lines(head, comparison)
    sizes = (room.size(what, room.shortened(text)) + 50 for what, text in told)
    kept = room.fitting(zip(told, sizes, strict=True), 2 * room.LIST)
    if len(kept) < len(told):
        kept.append(("left out", f"{counted(len(told) - len(kept), 'line')} more: {room.WHERE}"))
    return kept


def _evidence(lines: Sequence[Line], head: Earlier) -> dict[str, str]:
    """Return the pictures of missed bounds by key, those that failed first, as far as there is room."""

    def made() -> Iterator[tuple[tuple[str, str], int]]:
        for line in lines:
            if line.evidence:
                picture = file_uri(Path(head.evidence[line.key].picture))
                texts = (text for pair in line.evidence for text in pair)
                yield (line.key, picture), room.size(picture, *map(room.shortened, texts)) + 1000

    return dict(room.fitting(made(), room.EVIDENCE))


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
    made.filters["counted"] = counted
    return made


def _finalize(value: Any) -> Any:
    if isinstance(value, str) and not isinstance(
        value, Markup
    ):  # pictures are safe, and stay whole
        return printable(room.shortened(value))
    return value


def _against(comparison: Comparison | None) -> list[str]:
    """Return the models of the earlier run that this one is held against."""
    if comparison is None:
        return []
    return sorted({row.base.model for row in comparison.rows}) or list(comparison.base.models)


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
        better = made.higher_is_better
        low, high = (-made.high, -made.low) if better else (made.low, made.high)
        label = f"{line.place}: {line.spaces[0]}"
        tone = "bad" if line.failed else ""
        rows.append(plots.Dot(label, line.loss, low, high, None, tone, line.whose))
    more = len(found) - len(shown)
    caption = "Loss against the earlier run, with its interval; red: a bound fails."
    if more:
        caption += f" {counted(more, 'smaller one is', 'smaller ones are')} in the table."
    drawn = partial(plots.dots, rows, "worst", "largest losses", zero=True)
    return Plot(drawn, wide=True, caption=caption)


def _compared(lines: Sequence[Line], comparison: Comparison | None) -> list[str]:
    """Return how many figures have an earlier one beside them, where that is not all of them."""
    if comparison is None or len(comparison.rows) == len(lines):
        return []
    return [
        f"{comparison.base.source} has {len(comparison.rows)} of these {len(lines)} figures; the others "
        "stand without an earlier one."
    ]


def _paired(lines: Sequence[Line], head: Earlier) -> list[str]:
    """Return what bounds on changes were held against, and on how many samples."""
    source = str(head.header.get("held_against") or "an earlier run")
    judged = [(line.verdict, line.measurement) for line in lines if line.verdict is not None]
    told = paired_line(judged, source)
    return [f"{told[:1].upper()}{told[1:]}."] if told else []


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

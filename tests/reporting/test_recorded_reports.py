"""What every report says of made-up runs, word for word, as ``reports/`` has it: see ``tests/records.py``."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import records
from _pytest._io import TerminalWriter
from markupsafe import Markup
from report_helpers import HARM, base, head
from whole_runs import RUNS

from pytest_cliprobust.reporting import (
    card,
    facts,
    findings,
    header,
    markdown,
    sarif,
    statement,
    terminal,
    trackers,
    workflow,
)
from pytest_cliprobust.reporting import (
    json as as_json,
)
from pytest_cliprobust.reporting.earlier import earlier_of
from pytest_cliprobust.reporting.html import page, plots
from pytest_cliprobust.results.compare import compare
from pytest_cliprobust.results.run import Run

pytestmark = pytest.mark.floors

FOLDER = Path(__file__).with_name("reports")

#: Runs of which JSON reports are recorded, which are long.
FEW = ("two models, bounds missed, waived and undecided", "names that do harm")

#: Forms of which only these are recorded.
LONG = ("json", "tracker", "card", "page", "sarif")


@cache
def run(name: str) -> Run:
    return RUNS[name]()


class Reporter:
    """What of pytest's own is written to; colours in words."""

    def __init__(self, width: int) -> None:
        self.file = io.StringIO()
        self._tw = TerminalWriter(self.file)
        self._tw.fullwidth = width

    def section(self, title: str, **options: str) -> None:
        self._tw.sep("=", title)

    def write_line(self, text: str, **markup: bool) -> None:
        how = " ".join(name for name, wanted in markup.items() if wanted)
        self._tw.line(f"{text}{f' <{how}>' if how else ''}")


def in_terminal(of: Run) -> str:
    parts = []
    for width, verbose in ((80, False), (120, True)):
        reporter = Reporter(width)
        terminal.summarise(reporter, of, verbose=verbose)
        terminal.say_last(reporter, of)
        parts.append(f"--- {width} columns{', -v' if verbose else ''}\n{reporter.file.getvalue()}")
    lines = header.header_lines(of.config, of.models, of.thresholds, of.notes, of.data)
    lines += header.policy_lines(of.unjudged.policy)
    return "\n".join(["--- header", *lines, *parts])


def in_json(of: Run) -> str:
    return by_line(as_json.document(of))


def by_line(told: Any, indent: str = "") -> str:
    """Return JSON that is easy to read: what is short enough stands in one line."""
    short = json.dumps(told, ensure_ascii=False)
    if len(short) <= 300 or not isinstance(told, dict | list):
        return short
    inner = indent + " "
    if isinstance(told, list):
        parts = [by_line(value, inner) for value in told]
    else:
        parts = [f"{json.dumps(name)}: {by_line(value, inner)}" for name, value in told.items()]
    ends = "[]" if isinstance(told, list) else "{}"
    return f"{ends[0]}\n" + ",\n".join(f"{inner}{part}" for part in parts) + f"\n{indent}{ends[1]}"


def in_card(of: Run) -> str:
    earlier, parts = earlier_of(of), list[str]()
    names = {"clean": "owner/clean", "near_ood": "owner/near"}
    for model in earlier.models:
        own = card.chosen(earlier, model)
        parts.append(card.model_index(own, "owner/model", {"clean": "owner/clean"}))
        parts += [
            f"{name}\n{text}"
            for name, text in card.eval_results(own, names, "2026-11-27T12:00:00+0000").items()
        ]
        parts += [one.key for one in card.chosen(earlier, model, ["*/fog*@3/*"])]
    return "\n".join(parts)


def in_tracker(of: Run) -> str:
    return "\n".join(
        by_line({**vars(trackers.logged(of, model)), "files": []}) for model in of.models.values()
    )


def in_workflow(of: Run) -> str:
    found = [str(one) for one in findings.findings(of)]
    return "\n".join([*workflow.annotation_lines(of), "--- findings", *found])


def in_facts(of: Run) -> str:
    earlier = earlier_of(of)
    lines = facts.lines_of(earlier, None)
    told = [str(facts.headline_of(earlier, lines)), str(facts.counts_of(lines))]
    return "\n".join([*told, *map(str, facts.provenance_lines(earlier, None))])


class Outline(HTMLParser):
    """A page's elements and text, scripts and styles left out: a block a line, with all that stands in it."""

    #: Elements that begin a line.
    BLOCKS = " section header main nav h1 h2 h3 p ul ol table tr dl details figure div form footer "

    def __init__(self, text: str) -> None:
        super().__init__()
        self.lines: list[str] = [""]
        self._skipped = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style"):
            self._skipped = tag
        if f" {tag} " in self.BLOCKS:
            self.lines.append("")
        left = ("content", "integrity")
        given = [(name, value or "") for name, value in attrs if name not in left]
        # Of a picture no more than what it is.
        shown = [f"{name}={value[:22] if name == 'src' else value}" for name, value in given]
        self.lines[-1] += f"<{' '.join([tag, *shown])}>"

    def handle_endtag(self, tag: str) -> None:
        self._skipped = "" if tag == self._skipped else self._skipped

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self.lines[-1] += " ".join(data.split()) and f" {' '.join(data.split())} "


def outline(text: str) -> str:
    return "\n".join(Outline(text).lines)


FORMS: dict[str, Callable[[Run], str]] = {
    "terminal": in_terminal,
    "markdown": markdown.text,
    "sarif": lambda of: by_line(sarif.document(of)),
    "statement": lambda of: "\n".join(map(by_line, statement.statements(of))),
    "workflow": in_workflow,
    "tracker": in_tracker,
    "card": in_card,
    "facts": in_facts,
    "json": in_json,
    "page": lambda of: outline(page.text(of)),
}


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say what is drawn in place of drawing it."""
    monkeypatch.setattr(
        plots, "inline", lambda figure, name, label: Markup("<svg>{}: {}</svg>").format(name, label)
    )


def said(form: str) -> Iterator[str]:
    for name in RUNS:
        if form not in LONG or name in FEW[: 1 if form == "json" else None]:
            yield f"===== {name}\n{FORMS[form](run(name))}"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("undrawn")
def test_reports_say_what_the_record_has(form: str) -> None:
    records.compare(FOLDER / f"{form}.txt", records.plain("\n".join(said(form))))


@pytest.mark.usefixtures("undrawn")
def test_the_page_of_pictures_is_that_of_the_record() -> None:
    """Samples that changed sides, with answers and pictures: beside an earlier run of embedded samples."""
    before, now = base(harm=HARM), head(harm=HARM)
    text = outline(page.page_of(now, compare(before, now)))
    records.compare(FOLDER / "pictures.txt", records.plain(text))

"""What the report draws: small plots of this run, and of the earlier one beside it.

Each function takes numbers and gives one drawing, small enough to be read on a phone; the page lays them
out in a grid. The earlier run is grey and dashed in all of them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from pytest_cliprobust.errors import printable
from pytest_cliprobust.reporting.html.svg import (
    BAD,
    BASE,
    GOOD,
    HEAD,
    MODELS,
    MUTED,
    RULE,
    drawing,
    inline,
)
from pytest_cliprobust.reporting.separation import Separation

#: Inches of a small plot, and the width of one that has labels on its left.
SMALL = (2.35, 1.75)
WIDE = 4.7


@dataclass(frozen=True)
class Dot:
    """A value with its interval, and the earlier run's.

    Attributes:
        label: of the row.
        value, low, high: of this run.
        before: of the earlier run; None where it has none.
        word: ``"bad"`` for a loss, ``"good"`` for a gain, else empty.
        whose: what ends the label, and stays where the label is cut.
    """

    label: str
    value: float
    low: float
    high: float
    before: float | None = None
    word: str = ""
    whose: str = ""


def dots(rows: Sequence[Dot], name: str, title: str, *, zero: bool = False) -> Markup:
    """Return a row for each value, with its interval; ``zero``: with a line at none."""
    with drawing(WIDE, 0.55 + 0.235 * len(rows)) as figure:
        panel = figure.subplots()
        colours = {"bad": BAD, "good": GOOD}
        for number, row in enumerate(rows):
            colour = colours.get(row.word, HEAD)
            if row.before is not None:
                panel.plot([row.before], [number], "|", color=BASE, markersize=9, mew=1.6)
            panel.plot(
                [row.low, row.high], [number, number], color=colour, linewidth=1.6, alpha=0.55
            )
            panel.plot([row.value], [number], "o", color=colour, markersize=4.2)
        if zero:
            panel.axvline(0.0, color=MUTED, linewidth=0.7)
        labels = [_labelled(row) for row in rows]
        panel.set_yticks(range(len(rows)), labels)
        panel.set_ylim(len(rows) - 0.4, -0.6)
        panel.tick_params(axis="y", length=0)
        panel.spines["left"].set_visible(False)
        panel.locator_params(axis="x", nbins=6)
        panel.grid(axis="x")
        said = "; ".join(
            f"{row.label}{row.whose} {row.value:.3g} from {row.low:.3g} to {row.high:.3g}"
            for row in rows[:8]
        )
        return inline(figure, name, f"{title}: {said}")


def _labelled(row: Dot) -> str:
    """Return the label of a row, whose end stays where there is no room for all."""
    if not row.whose:
        return _fitted(row.label)
    end = _fitted(row.whose.strip(), 24)
    return f"{_fitted(row.label, 42 - len(end))} {end}"


def _fitted(label: str, most: int = 40) -> str:
    text = printable(label)
    told = textwrap.shorten(text, most, placeholder=" …")
    return told if told != "…" else f"{text[: most - 1]}…"  # a name that is one long word


@dataclass(frozen=True)
class Line:
    """A line through points, with the ends of their intervals where there are any."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def curve(
    head: Line,
    base: Line | None,
    name: str,
    title: str,
    *,
    across: str = "",
    span: tuple[float, float] | None = (0.0, 1.0),
    limit: float | None = None,
    ticks: Sequence[float] | None = None,
) -> Markup:
    """Return one curve, the earlier run's beside it.

    Args:
        head: of this run.
        base: of the earlier one.
        name: of the drawing.
        title: above it.
        across: what runs along the bottom.
        span: ends of the upright axis; None: as the values are.
        limit: where a line crosses the plot.
        ticks: along the bottom.
    """
    with drawing(*SMALL) as figure:
        panel = figure.subplots()
        if base is not None:
            panel.plot(base.x, base.y, color=BASE, linewidth=1.3, linestyle=(0, (3, 2)))
        if head.low:
            panel.fill_between(head.x, head.low, head.high, color=HEAD, alpha=0.18, linewidth=0)
        panel.plot(head.x, head.y, color=HEAD, linewidth=1.7, marker="o", markersize=2.6)
        if limit is not None:
            panel.axhline(limit, color=BAD, linewidth=0.9, linestyle=(0, (1, 1.5)))
        _finish(panel, title, across, span)
        if ticks is not None:
            panel.set_xticks(ticks)
        ends = f"{head.y[0]:.3g} to {head.y[-1]:.3g}" if len(head.y) else "no values"
        return inline(figure, name, f"{title}: {ends}")


#: How the lines of several models differ beside their colours: no two of a page's six are alike in both.
STYLES: tuple[Any, ...] = ("-", (0, (5, 1)), (0, (1, 1)), "-", (0, (5, 1)), (0, (1, 1)))


def curves(
    models: Mapping[str, Line], name: str, title: str, *, across: str, ticks: Sequence[float]
) -> Markup:
    """Return the curves of several models, at most as many as there are colours (:data:`MODELS`)."""
    with drawing(*SMALL) as figure:
        panel = figure.subplots()
        for line, colour, style in zip(models.values(), MODELS, STYLES, strict=False):
            panel.fill_between(line.x, line.low, line.high, color=colour, alpha=0.12, linewidth=0)
            panel.plot(line.x, line.y, color=colour, linewidth=1.6, linestyle=style)
        _finish(panel, title, across, (0.0, 1.0))
        panel.set_xticks(ticks)
        said = "; ".join(
            f"{model} {own.y[0]:.3g} to {own.y[-1]:.3g}" for model, own in models.items()
        )
        return inline(figure, name, f"{title}: {said}")


def _finish(panel: Any, title: str, across: str, span: tuple[float, float] | None) -> None:
    panel.set_title(_fitted(title, 30))
    panel.set_xlabel(across)
    panel.grid(axis="y")
    panel.tick_params(length=2)
    if span is not None:
        room = 0.03 * (span[1] - span[0])
        panel.set_ylim(span[0] - room, span[1] + room)


def reliability(
    head: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]], name: str, title: str
) -> Markup:
    """Return a reliability diagram over its histogram, from what calibration figures hold by bin."""
    with drawing(SMALL[0], SMALL[1] + 0.55) as figure:
        panel, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        panel.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        for bins, colour, style in ((base, BASE, (0, (3, 2))), (head, HEAD, "-")):
            there = [entry for entry in bins if entry["n"]]
            x = [entry["confidence"] for entry in there]
            y = [entry["accuracy"] for entry in there]
            size = 2.6 if bins is head else 0
            panel.plot(
                x, y, color=colour, linestyle=style, linewidth=1.5, marker="o", markersize=size
            )
        middles = [(entry["low"] + entry["high"]) / 2 for entry in head]
        wide = 0.8 / max(len(head), 1)
        counts.bar(middles, [entry["n"] for entry in head], wide, color=HEAD, alpha=0.45)
        _finish(panel, title, "", (0.0, 1.0))
        panel.set_ylabel("accuracy")
        counts.set_xlabel("confidence")
        counts.set_xlim(0, 1)
        counts.set_yticks([])
        counts.spines["left"].set_visible(False)
        said = ", ".join(
            f"{entry['accuracy']:.2f} at {entry['confidence']:.2f}" for entry in head if entry["n"]
        )
        return inline(figure, name, f"{title}: accuracy by confidence: {said}")


def roc(head: Separation, base: Separation | None, name: str, title: str) -> Markup:
    """Return the ROC curve of a run, and of the earlier one."""
    with drawing(*SMALL) as figure:
        panel = figure.subplots()
        panel.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        for told, colour, style in ((base, BASE, (0, (3, 2))), (head, HEAD, "-")):
            if told is not None:
                taken = np.linspace(0, 1, len(told.found))
                panel.plot([0, *taken], [0, *told.found], color=colour, linestyle=style)
        _finish(panel, title, "OOD taken for ID", (0.0, 1.0))
        panel.set_ylabel("ID found")
        return inline(figure, name, f"ROC curve: {title}")


def histogram(told: Separation, name: str, title: str) -> Markup:
    """Return how scores are spread inside and outside."""
    with drawing(*SMALL) as figure:
        panel = figure.subplots()
        edges = np.linspace(told.low, told.high, len(told.inside) + 1)
        for shares, colour in ((told.outside, MUTED), (told.inside, HEAD)):
            panel.stairs(shares, edges, fill=True, color=colour, alpha=0.45)
        _finish(panel, title, "score", None)
        panel.locator_params(axis="x", nbins=4)
        panel.set_yticks([])
        panel.spines["left"].set_visible(False)
        inner, outer = told.medians
        said = f"median {inner:.3g} for ID and {outer:.3g} for OOD"
        return inline(figure, name, f"Scores: {title}: {said}")


def pairs(rows: Sequence[tuple[str, float, float]], name: str, title: str) -> Markup:
    """Return a bar to the right for what was gained, to the left for what was lost, in each row."""
    with drawing(WIDE, 0.55 + 0.2 * len(rows)) as figure:
        panel = figure.subplots()
        places = range(len(rows))
        panel.barh(places, [row[1] for row in rows], 0.62, color=GOOD)
        panel.barh(places, [-row[2] for row in rows], 0.62, color=BAD)
        panel.axvline(0.0, color=RULE, linewidth=0.8)
        panel.set_yticks(places, [_fitted(row[0]) for row in rows])
        panel.set_ylim(len(rows) - 0.4, -0.6)
        panel.tick_params(axis="y", length=0)
        panel.spines["left"].set_visible(False)
        panel.grid(axis="x")
        said = "; ".join(f"{row[0]} +{row[1]:.2g} -{row[2]:.2g}" for row in rows[:8])
        return inline(figure, name, f"{title}: {said}")

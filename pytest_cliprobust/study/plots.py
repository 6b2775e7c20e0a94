"""A study as pictures: scatter plots with their lines, and the effects with their intervals."""

from __future__ import annotations

import io
import math
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from pytest_cliprobust.errors import Unavailable
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.study.axes import Axis
from pytest_cliprobust.study.gather import Entry
from pytest_cliprobust.study.making import Property, Study

#: Panels of a picture, and of a row of it.
PANELS, ROW = 20, 4

#: Up to so many models have a colour each; more are coloured by their architecture.
NAMED = 12

#: Metrics that are shown first, of each suite.
_FIRST = (
    *("accuracy", "mean_corruption_accuracy", "relative_corruption_drop", "shape_bias"),
    *("auroc_mcm", "auroc_energy", "fpr95_mcm", "ece", "ece_scaled", "brier", "temperature"),
    *("frontier_strength", "worst_case_drop", "accuracy_drop", "attack_success"),
)

#: Shares at which a logit axis has ticks, from coarse to fine; the first that has three of them is taken.
_TICKS = (
    (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999),
    (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999),
    tuple(i / 20 for i in range(1, 20)),
    tuple(i / 50 for i in range(1, 50)),
    tuple(i / 200 for i in range(1, 200)),
    tuple(i / 2000 for i in range(1, 2000)),
)

#: So many letters of a title fit on an inch.
_LETTERS = 13

_MARKERS = "osD^vP*X<>ph"


def plots_of(study: Study, by: str | None = None) -> dict[str, bytes]:
    """Return the content of each PNG file by its name.

    Args:
        study: what is shown.
        by: factor whose levels have a colour each, and a line each where four models have one; None: a
            colour a model, or by architecture where there are too many.

    Raises:
        Unavailable: matplotlib is not there.
    """
    suites: dict[str, list[Property]] = defaultdict(list)
    for item in study.headlines:
        if item.line is not None:
            suites[item.sample.suite].append(item)
    pictures = {
        f"{suite}.png": scatter(study, items, by)
        for suite, items in suites.items()
        if chosen(items)
    }
    if any(item.regression is not None for item in study.headlines):
        pictures["effects.png"] = forest(study)
    return pictures


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise Unavailable(
            "the plots of a study need matplotlib: pip install matplotlib, or leave them out with --no-plots"
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": ""})
    return buffer.getvalue()


def chosen(items: Sequence[Property]) -> list[Property]:
    """Return the properties that have a panel, the most telling first.

    Those over several conditions stand before single ones. What is the same for all models has no panel.
    """

    def rank(item: Property) -> tuple[bool, int]:
        metric = item.sample.metric
        place = _FIRST.index(metric) if metric in _FIRST else len(_FIRST)
        return not item.sample.perturbation.startswith("all_"), place

    varied = [item for item in items if np.nanmax(item.y) - np.nanmin(item.y) > 1e-9]
    return sorted(varied, key=rank)[:PANELS]


def scatter(study: Study, items: Sequence[Property], by: str | None = None) -> bytes:
    """Return one picture of several properties against ID accuracy, each with its line and band."""
    if by is None and len(study.table.entries) > NAMED:
        by = "architecture"
    shown = chosen(items)
    columns = min(ROW, len(shown))
    rows = math.ceil(len(shown) / columns)
    width = max(3.6 * columns, 4.5)
    figure = _figure(width, 3.0 * rows + 0.9)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    labels = [_label(entry, by) for entry in study.table.entries]
    for panel, item in zip(panels, shown, strict=False):
        _panel(panel, study, item, labels)
        _group_lines(panel, item, labels, by)
    for panel in panels[max(0, len(shown) - columns) : len(shown)]:
        panel.set_xlabel(_across(study), fontsize=7)
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    handles, names = panels[0].get_legend_handles_labels()
    across = min(5, len(names), int(width / 1.6))
    figure.legend(handles, names, loc="outside lower center", ncols=across, fontsize=7)
    more = f" ({len(items) - len(shown)} more in lines.csv)" if len(items) > len(shown) else ""
    figure.suptitle(f"{items[0].sample.suite}: against ID accuracy{more}", fontsize=10)
    return _png(figure)


def _across(study: Study) -> str:
    """Return what the panels have from left to right."""
    return "ID accuracy, on a logit axis" if study.id_axis.is_logit else "ID accuracy"


def _label(entry: Entry, by: str | None) -> str:
    """Return what a model is called in a legend: its name, or its level of a factor."""
    return entry.model if by is None else str(getattr(entry.card, by) or "unknown")


def _group_lines(panel: Any, item: Property, labels: Sequence[str], by: str | None) -> None:
    known = list(dict.fromkeys(labels))
    for (factor, level), line in item.groups.items():
        if factor == by:
            own = np.isfinite(item.y) & np.array([label == level for label in labels])
            ends = np.array([item.x[own].min(), item.x[own].max()])
            colour = f"C{known.index(level) % 10}"
            panel.plot(ends, line.at(ends), color=colour, linewidth=1, linestyle="--")


def _panel(panel: Any, study: Study, item: Property, labels: Sequence[str]) -> None:
    line, bars = item.line, _bars(study, item)
    there = np.isfinite(item.x) & np.isfinite(item.y)
    known = list(dict.fromkeys(labels))
    for number, label in enumerate(known):
        own = there & np.array([name == label for name in labels])
        panel.errorbar(
            item.x[own],
            item.y[own],
            yerr=bars[:, own],
            fmt=_MARKERS[number % len(_MARKERS)],
            color=f"C{number % 10}",
            markersize=5,
            elinewidth=0.7,
            label=label,
        )
    if line is not None:
        x = np.linspace(item.x[there].min(), item.x[there].max(), 50)
        low, high = line.band(x)
        panel.plot(x, line.at(x), color="black", linewidth=1)
        panel.fill_between(x, low, high, color="black", alpha=0.12, linewidth=0)
        # All intervals are in sight; the band may go beyond.
        ends = [*(item.y - bars[0])[there], *(item.y + bars[1])[there], *line.at(x)]
        room = 0.08 * (max(ends) - min(ends)) + 1e-6
        # Above them is the correlation.
        panel.set_ylim(min(ends) - room, max(ends) + 2 * room)
        r = line.correlation
        panel.text(
            0.02,
            0.98,
            f"r = {r[0]:.2f} [{r[1]:.2f}, {r[2]:.2f}]",
            transform=panel.transAxes,
            va="top",
            fontsize=7,
        )
    _ticks(panel.xaxis, study.id_axis, panel.get_xlim())
    _ticks(panel.yaxis, item.axis, panel.get_ylim())
    panel.tick_params(labelsize=7)
    measurement = item.sample
    panel.set_title(
        f"{measurement.metric}\n{measurement.dataset}, {measurement.perturbation}", fontsize=8
    )


def _bars(study: Study, item: Property) -> Any:
    """Return how far the intervals of the figures reach below and above them (2, M), on the axis."""
    bars = np.zeros((2, len(item.y)))
    for number, entry in enumerate(study.table.entries):
        measurement = entry.measurements.get(item.key)
        if measurement is not None:
            made = measurement.figure
            ends = item.axis.to(np.array([made.low, made.high]), np.array([made.n, made.n]))
            bars[:, number] = np.nan_to_num(np.abs(ends - item.y[number]), posinf=0.0)
    return bars


def _ticks(which: Any, axis: Axis, limits: tuple[float, float]) -> None:
    if not axis.is_logit:
        which.get_major_formatter().set_useOffset(False)
        return
    low, high = axis.back(np.array(limits)).tolist()
    inside: list[float] = []
    for shares in _TICKS:
        inside = [share for share in shares if low <= share <= high]
        if len(inside) >= 3:
            break
    inside = inside[:: math.ceil(len(inside) / 6)] if inside else [(low + high) / 2]
    which.set_ticks(axis.to(np.array(inside)), [f"{share:.4g}" for share in inside])


def forest(study: Study) -> bytes:
    """Return one picture of all effects on the properties that stand for their suites."""
    items = [item for item in chosen_for_forest(study) if item.regression is not None]
    columns = study.design.columns
    width = 2.4 * max(1, len(columns)) + 3.0
    figure = _figure(width, 0.34 * len(items) + 1.8)
    panels = figure.subplots(1, max(1, len(columns)), squeeze=False, sharey=True)[0]
    for panel, column in zip(panels, columns, strict=False):
        panel.axvline(0.0, color="black", linewidth=0.8)
        for row, item in enumerate(items):
            _effect_row(panel, row, item, column)
        panel.set_title(
            column.name.replace(": ", ":\n").replace(" instead", "\ninstead"), fontsize=7
        )
        panel.tick_params(labelsize=7)
        panel.locator_params(axis="x", nbins=4)
        panel.set_ylim(len(items) - 0.5, -0.5)
    panels[0].set_yticks(range(len(items)), [_short(item) for item in items], fontsize=7)
    title = "effects with intervals; grey: twice the spread between seeds; red: the interval does not hold 0"
    figure.suptitle(textwrap.fill(title, int(_LETTERS * width)), fontsize=9)
    figure.supxlabel("effect, in each property's own unit", fontsize=8)
    return _png(figure)


def _effect_row(panel: Any, row: int, item: Property, column: Any) -> None:
    assert item.regression is not None
    found = next((e for e in item.regression.effects if e.column == column), None)
    if found is None or math.isnan(found.value):
        return
    value, low, high = item.change(found)
    if not math.isnan(item.spread.value):
        base = item.regression.base
        around = np.array([base, base - 2 * item.spread.value, base + 2 * item.spread.value])
        start, less, more = item.axis.back(around).tolist()
        panel.barh(row, more - less, left=less - start, height=0.8, color="0.88", linewidth=0)
    if not math.isnan(low):
        panel.plot([low, high], [row, row], color="C0", linewidth=1)
    clear = low > 0 or high < 0
    panel.plot([value], [row], "o", color="C3" if clear else "C0", markersize=4)


def _short(item: Property) -> str:
    measurement = item.sample
    return f"{measurement.metric}, {measurement.dataset}/{measurement.perturbation}"


def chosen_for_forest(study: Study, most: int = 40) -> list[Property]:
    """Return the properties of the picture of effects: ID accuracy, and a few of each suite."""
    suites: dict[str, list[Property]] = defaultdict(list)
    for item in study.headlines:
        # Nats, pixels and counts have no place on an axis of shares.
        known = METRICS.find(item.sample.metric)
        if not item.sample.figure.unit and (known is None or known.high == 1.0):
            suites[item.sample.suite].append(item)
    each = max(1, most // max(1, len(suites)))
    return [item for items in suites.values() for item in chosen(items)[:each]][:most]

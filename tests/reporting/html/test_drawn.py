"""A record of what each kind of drawing shows: lines, bars, areas, words and axes, in numbers.

Places in the picture are left out, as they depend on the version of matplotlib and on fonts. After a change
that is meant, look at what differs, and record anew with ``python tests/reporting/html/test_drawn.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from markupsafe import Markup

from pytest_cliprobust.properties.shape_bias import Decided, people_decided
from pytest_cliprobust.reporting import shape_bias
from pytest_cliprobust.reporting.html import plots, sections
from pytest_cliprobust.reporting.html.svg import drawing
from pytest_cliprobust.reporting.separation import Separation

RECORD = Path(__file__).with_name("drawings.txt")


def number(value: Any) -> str:
    """Return a number with four digits."""
    return f"{float(value) + 0.0:.4g}"


def numbers(values: Any) -> str:
    return " ".join(number(value) for value in np.ravel(np.asarray(values, dtype=float)))


def colour(value: Any) -> str:
    from matplotlib.colors import to_hex

    return to_hex(value, keep_alpha=True)


def lines_of(panel: Any) -> Iterator[str]:
    for line in panel.get_lines():
        style = line._unscaled_dash_pattern
        yield (
            f"line x {numbers(line.get_xdata())} y {numbers(line.get_ydata())} "
            f"{colour(line.get_color())} {number(line.get_alpha() or 1)} width "
            f"{number(line.get_linewidth())} dashes {number(style[0])} {numbers(style[1] or ())} marker "
            f"{line.get_marker()} {number(line.get_markersize())} {number(line.get_markeredgewidth())}"
        )


def areas_of(panel: Any) -> Iterator[str]:
    for area in panel.collections:
        points = [numbers(path.vertices) for path in area.get_paths()]
        yield (
            f"area {' / '.join(points)} {' '.join(map(colour, area.get_facecolor()))} "
            f"{numbers(area.get_linewidth())}"
        )
    for patch in panel.patches:
        points = patch.get_transform() - panel.transData
        shape = points.transform_path(patch.get_path()).vertices
        yield f"shape {numbers(shape)} {colour(patch.get_facecolor())}"


def words_of(panel: Any) -> Iterator[str]:
    from matplotlib.ticker import FixedLocator

    for name, axis in (("x", panel.xaxis), ("y", panel.yaxis)):
        locator = axis.get_major_locator()
        if isinstance(locator, FixedLocator):
            places: Any = locator
            labels = [label.get_text() for label in axis.get_ticklabels()]
            ticks = f"{numbers(places.locs)} {labels}"
        else:  # how many there are may depend on the room, and so on fonts
            ticks = f"{type(locator).__name__} {getattr(locator, '_nbins', '')}"
        (first,) = axis.get_major_ticks(1)
        yield (
            f"axis {name} {numbers(axis.get_view_interval())} label {axis.label.get_text()!r} ticks {ticks} "
            f"length {number(first.tick1line.get_markersize())} grid {first.gridline.get_visible()}"
        )
    shown = [name for name, spine in panel.spines.items() if spine.get_visible()]
    yield f"spines {' '.join(shown)} title {panel.get_title()!r}"
    for text in panel.texts:
        yield (
            f"text {text.get_text()!r} at {numbers(text.get_position())} {colour(text.get_color())} "
            f"size {number(text.get_fontsize())} {text.get_ha()} {text.get_va()}"
        )


def described(figure: Any) -> list[str]:
    """Return what a figure shows."""
    found = [f"inches {numbers(figure.get_size_inches())}"]
    for panel in figure.axes:
        found += [*words_of(panel), *lines_of(panel), *areas_of(panel)]
    for legend in figure.legends:
        found.append(f"legend {' | '.join(text.get_text() for text in legend.get_texts())}")
    return found


@contextmanager
def watched() -> Iterator[list[str]]:
    """Keep what is drawn inside in place of its picture."""
    kept: list[str] = []

    def keep(figure: Any, name: str, label: str) -> Markup:
        kept.extend([f"## {name}: {label}", *described(figure)])
        return Markup("")

    with mock.patch.object(plots, "inline", keep), mock.patch.object(sections, "inline", keep):
        yield kept


def all_drawings() -> list[str]:
    """Draw one of each kind, with all that it may show."""
    generator = np.random.default_rng(0)
    one, two = (
        Separation.of(generator.normal(size=60) + np.arange(60) / shift, np.arange(60) >= 30)
        for shift in (20, 60)
    )
    assert one is not None
    long = "a label that is far too long for the room that there is on the left of a drawing"
    rows = [
        plots.Dot("first", 0.5, 0.4, 0.6, 0.7, "bad"),
        plots.Dot("second", 0.2, 0.1, 0.35, None, "good", " (v2)"),
        plots.Dot(long, -0.1, -0.2, 0.05, 0.0, "", " (a model whose name is too long, too)"),
        *(plots.Dot(f"row {n}", n / 10, 0.0, 1.0) for n in range(6)),
    ]
    line = plots.Line((1, 3, 5), (0.8, 0.6, 0.3), (0.7, 0.5, 0.2), (0.9, 0.7, 0.4))
    other = plots.Line((1, 5), (0.9, 0.7))
    keys = ("low", "high", "n", "confidence", "accuracy")
    values = ((0.0, 0.25, 0, 0.0, 0.0), (0.25, 0.5, 7, 0.4, 0.3), (0.5, 1.0, 9, 0.8, 0.95))
    bins = [dict(zip(keys, own, strict=True)) for own in values]
    models = dict.fromkeys("abcdefg", line)
    with watched() as kept:
        plots.dots(rows, "dots", "many", zero=True)
        plots.dots(rows[:1], "dots-1", "one")
        plots.curve(line, other, "curve", "with all", across="severity", limit=0.5, ticks=(1, 3, 5))
        plots.curve(other, None, "curve-1", "alone", span=None)
        plots.curve(plots.Line((), ()), None, "curve-0", long, span=(-1.0, 3.0))
        plots.curves(models, "curves", "several", across="severity", ticks=(1, 3, 5))
        plots.reliability(bins, bins[1:], "reliability", "bins")
        plots.reliability([], [], "reliability-0", "none")
        plots.roc(one, two, "roc", "both")
        plots.roc(one, None, "roc-1", "alone")
        plots.histogram(one, "histogram", "scores")
        plots.pairs([("cat or dog", 0.5, 0.1), (long, 0.0, 0.25)], "pairs", "moved")
        sections._shapes({"now": classes(0), "earlier run": classes(1)}, "shapes", "shape bias")
    for count in (1, 2, 3):
        own = {f"model {n}": classes(n) for n in range(count)}
        with drawing(5.0, 6.0) as figure:
            shape_bias.draw(figure, own, people_decided(), ("#ff0000",) * count, "#888888")
            kept += [f"## shape bias of {count}", *described(figure)]
    return kept


def classes(seed: int) -> dict[str, Decided]:
    """Return decisions on all classes of the published figure, one of them without any."""
    names = list(people_decided())
    counts = np.random.default_rng(seed).integers(0, 20, (len(names), 3))
    counts[2, :2] = 0
    return {
        name: Decided(*(int(one) for one in own)) for name, own in zip(names, counts, strict=True)
    }


@pytest.mark.slow
def test_what_is_drawn_is_what_was_recorded() -> None:
    assert all_drawings() == RECORD.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    RECORD.write_text("\n".join(all_drawings()) + "\n", encoding="utf-8")

"""The class-wise picture of shape bias, as model-vs-human draws it (Geirhos et al. 2021)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pytest_cliprobust.errors import Unavailable
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.intervals import wilson
from pytest_cliprobust.properties.shape_bias import ENTRY_LEVEL_CLASSES, Decided

#: Of decisions by shape class.
Classes = Mapping[str, Decided]

#: Colours that are told apart without red and green (Okabe & Ito 2008), and markers beside.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKERS = ("o", "s", "^", "v", "P", "X")
PEOPLE_COLOUR = "#444444"


def classes_of(figure: Figure) -> dict[str, Decided]:
    """Return the decisions by shape class that a ``shape_bias`` figure holds in its details."""
    return {
        str(own["name"]): Decided(
            int(own["shape"]),
            int(own["texture"]),
            int(own["n"]) - int(own["shape"]) - int(own["texture"]),
        )
        for own in figure.details["per_class"]
    }


def same_classes(classes: Classes) -> bool:
    """Return whether the classes are the sixteen for which people's decisions are known."""
    return set(classes) <= set(ENTRY_LEVEL_CLASSES)


def picture(models: Mapping[str, Classes], people: Classes) -> bytes:
    """Return a PNG of :func:`draw`.

    Args:
        models: by name, what each decided by class.
        people: what people decided by class.

    Raises:
        Unavailable: matplotlib is not there.
    """
    drawing = _drawing()
    names = {name for classes in models.values() for name in classes}
    figure = drawing(figsize=(9.0, 1.9 + 0.3 * len(names)), layout="constrained")
    draw(figure, models, people)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": ""})
    return buffer.getvalue()


def draw(
    figure: Any,
    models: Mapping[str, Classes],
    people: Classes,
    colours: Sequence[str] = COLOURS,
    people_colour: str = PEOPLE_COLOUR,
) -> None:
    """Draw each class's share of shape decisions, and of decisions for neither cue.

    A row a class, a marker a model, with Wilson's interval of so many images (which knows nothing of
    drawings that they share); a line is a model's mean over classes. People are drawn by class where the
    classes are theirs, and else as a line alone, since those were other pictures.

    Args:
        figure: of matplotlib, empty.
        models: by name, what each decided by class.
        people: what people decided by class.
        colours: of the models.
        people_colour: of people.
    """
    names = sorted({name for classes in models.values() for name in classes}, reverse=True)
    shape, neither = figure.subplots(1, 2, width_ratios=(3, 1), sharey=True)
    drawn: dict[str, tuple[Classes, str, str]] = {
        name: (classes, colours[i % len(colours)], MARKERS[i % len(MARKERS)])
        for i, (name, classes) in enumerate(models.items())
    }
    theirs = all(map(same_classes, models.values()))
    if theirs:
        drawn["people (Geirhos et al. 2019)"] = (people, people_colour, "D")
    for number, (name, (classes, colour, marker)) in enumerate(drawn.items()):
        shift = (number - (len(drawn) - 1) / 2) * 0.6 / max(len(drawn), 2)
        _draw_model(shape, neither, (names, classes), (name, colour, marker), shift)
    if not theirs:
        shape.axvline(
            _mean(people),
            color=people_colour,
            linestyle=":",
            label="people, on other pictures (Geirhos et al. 2019)",
        )
    _label(shape, neither, names)


def _drawing() -> Any:
    try:
        from matplotlib.figure import Figure as Drawing
    except ImportError:
        raise Unavailable("this picture needs matplotlib: pip install matplotlib") from None
    return Drawing


def _mean(classes: Classes) -> float:
    """Return the mean over the classes that have a shape bias."""
    return float(np.mean([d.shape_bias for d in classes.values() if d.shape_bias is not None]))


def _draw_model(
    shape: Any,
    neither: Any,
    rows: tuple[Sequence[str], Classes],
    style: tuple[str, str, str],
    shift: float,
) -> None:
    """Draw one model's markers, its mean, and its shares for neither cue."""
    (names, classes), (label, colour, marker) = rows, style
    for row, name in enumerate(names):
        own = classes.get(name)
        if own is None:
            continue
        total = own.shape + own.texture + own.neither
        neither.plot(own.neither / total, row + shift, marker, color=colour, markersize=5)
        if own.shape_bias is None:
            continue
        found = wilson(own.shape, own.shape + own.texture)
        shape.plot([found.low, found.high], [row + shift] * 2, color=colour, linewidth=1, alpha=0.6)
        shape.plot(own.shape_bias, row + shift, marker, color=colour, markersize=6)
    mean = _mean(classes)
    # Off the picture, for the legend: one entry with the marker and the mean.
    shape.plot([], [], marker, color=colour, label=f"{label}: {mean:.2f} on average")
    shape.axvline(mean, color=colour, linewidth=1, linestyle="--")


def _label(shape: Any, neither: Any, names: Sequence[str]) -> None:
    shape.set_xlim(-0.02, 1.02)
    shape.set_yticks(range(len(names)), names)
    shape.set_ylim(-0.6, len(names) - 0.4)
    shape.set_xlabel("share of shape decisions among those for shape or texture")
    ticks = np.linspace(0, 1, 6)
    above = shape.secondary_xaxis("top")
    above.set_xticks(ticks, [f"{1 - x:.1f}" for x in ticks])
    above.set_xlabel("share of texture decisions")
    neither.set_xlim(-0.02, 1.02)
    neither.set_xlabel("share for neither cue")
    for axis in (shape, neither):
        axis.grid(axis="y", linewidth=0.4, alpha=0.6)
        axis.tick_params(axis="y", length=0)
    shape.figure.legend(
        *shape.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=9,
    )

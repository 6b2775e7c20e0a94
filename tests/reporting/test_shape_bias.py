"""The class-wise picture of shape bias: what it draws is what was decided."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pytest_cliprobust.errors import Unavailable
from pytest_cliprobust.properties.shape_bias import (
    NO_CLASS,
    Decided,
    people_decided,
    shape_bias_figures,
)
from pytest_cliprobust.reporting import shape_bias as drawing

Figure = pytest.importorskip("matplotlib.figure").Figure


class Axes:
    """Notes what is drawn."""

    def __init__(self) -> None:
        self.drawn: list[tuple[Any, Any, Any]] = []
        self.lines: list[float] = []

    def plot(self, x: Any, y: Any, marker: Any = None, **_: Any) -> None:
        self.drawn.append((x, y, marker))

    def axvline(self, x: float, **_: Any) -> None:
        self.lines.append(x)


def test_decisions_come_back_from_a_figure() -> None:
    decided = [0, 1, 2, NO_CLASS, 1, 1]
    figure = shape_bias_figures(decided, [0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 0, 0], ["a", "b", "c"])
    assert drawing.classes_of(figure["shape_bias"]) == {
        "a": Decided(1, 1, 2),
        "b": Decided(2, 0, 0),
    }


def test_markers_stand_where_the_shares_are() -> None:
    classes = {"a": Decided(3, 1, 4), "c": Decided(0, 0, 2)}
    shape, neither = Axes(), Axes()
    drawing._draw_model(shape, neither, (["c", "b", "a"], classes), ("m", "red", "o"), 0.25)
    assert neither.drawn == [(1.0, 0.25, "o"), (0.5, 2.25, "o")]
    assert (0.75, 2.25, "o") in shape.drawn
    (ends,) = (x for x, _, marker in shape.drawn if marker is None)
    assert ends[0] < 0.75 < ends[1]
    # Without a decision for either cue there is no share to draw, and none in the mean.
    assert [y for x, y, marker in shape.drawn if marker == "o" and np.ndim(x) == 0] == [2.25]
    assert shape.lines == [0.75]


@pytest.mark.parametrize("theirs", [True, False])
def test_people_stand_beside_by_class_on_their_own_pictures_only(
    theirs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = people_decided()
    classes = dict.fromkeys(people if theirs else ["tiger", "elephant"], Decided(5, 5, 1))
    assert drawing.same_classes(classes) == theirs
    labels: list[str] = []
    original = drawing._draw_model

    def note(*words: Any) -> None:
        labels.append(words[3][0])
        original(*words)

    monkeypatch.setattr(drawing, "_draw_model", note)
    picture = Image.open(io.BytesIO(drawing.picture({"one": classes, "two": classes}, people)))
    assert picture.width > 900
    assert labels == ["one", "two", *(["people (Geirhos et al. 2019)"] if theirs else [])]


def test_without_matplotlib_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(Unavailable, match="needs matplotlib: pip install matplotlib"):
        drawing.picture({"one": {"a": Decided(1, 1, 1)}}, people_decided())


def drawn(models: dict[str, dict[str, Decided]], people: Any, **more: Any) -> tuple[Any, Any]:
    """Return both panels of the picture, before it becomes pixels."""
    figure = Figure()
    drawing.draw(figure, models, people, **more)
    return figure.axes[0], figure.axes[1]


def heights(panel: Any, marker: str, colour: str) -> list[float]:
    return [
        float(line.get_ydata()[0])
        for line in panel.lines
        if (line.get_marker(), line.get_color()) == (marker, colour) and len(line.get_xdata()) == 1
    ]


def test_each_model_has_a_colour_a_marker_and_a_height_of_its_own() -> None:
    """Seven models: the seventh marker is the first again, the fourth of three colours, too."""
    models = {f"m{n}": {"ant": Decided(3, 1, 4), "bee": Decided(1, 3 + n, 0)} for n in range(7)}
    people = {"ant": Decided(9, 1, 0), "cow": Decided(7, 3, 0), "dog": Decided(0, 0, 9)}
    shape, neither = drawn(models, people, colours=("red", "blue", "green"), people_colour="pink")
    handles, labels = shape.get_legend_handles_labels()
    means = [(0.75 + 1 / (4 + n)) / 2 for n in range(7)]
    assert labels == [
        *(f"m{n}: {mean:.2f} on average" for n, mean in enumerate(means)),
        "people, on other pictures (Geirhos et al. 2019)",
    ]
    styles = [(one.get_color(), one.get_marker()) for one in handles[:-1]]
    colours = ("red", "blue", "green", "red", "blue", "green", "red")
    assert styles == list(zip(colours, "os^vPXo", strict=True))
    # Classes by name from above; within a class the models in their order, about its middle.
    assert [label.get_text() for label in shape.get_yticklabels()] == ["bee", "ant"]
    for n, (colour, marker) in enumerate(styles[1:6], start=1):
        assert heights(shape, marker, colour) == pytest.approx(
            [place + (n - 3) * 0.6 / 7 for place in (0, 1)]
        )
        assert heights(neither, marker, colour) == heights(shape, marker, colour)
    lines = [one for one in shape.lines if one.get_linestyle() in ("--", ":")]
    assert [one.get_xdata()[0] for one in lines] == pytest.approx([*means, 0.8])
    assert (lines[-1].get_color(), lines[-1].get_linestyle()) == ("pink", ":")
    assert shape.get_ylim() == (-0.6, 1.6)
    (above,) = shape.child_axes
    assert [label.get_text() for label in above.get_xticklabels()] == [
        *("1.0", "0.8", "0.6", "0.4", "0.2", "0.0")
    ]


def test_people_are_drawn_by_class_beside_models_on_their_pictures() -> None:
    people = people_decided()
    names = list(people)[:3]
    shape, _ = drawn({"one": {name: Decided(1, 1, 0) for name in names}}, people)
    _, labels = shape.get_legend_handles_labels()
    assert labels[0] == "one: 0.50 on average"
    assert labels[1].startswith("people (Geirhos et al. 2019): 0.9")
    assert heights(shape, "o", drawing.COLOURS[0]) == pytest.approx([-0.15, 0.85, 1.85])
    theirs = [
        float(line.get_xdata()[0])
        for line in shape.lines
        if line.get_marker() == "D" and len(line.get_xdata()) == 1
    ]
    assert theirs == [people[name].shape_bias for name in sorted(names, reverse=True)]
    alone, _ = drawn({"one": {"ant": Decided(1, 1, 0)}}, people)
    assert heights(alone, "o", drawing.COLOURS[0]) == [0.0]
    # One model of classes that are not people's is enough to leave these out.
    mixed = {"one": {"ant": Decided(1, 1, 0)}, "two": {names[0]: Decided(1, 1, 0)}}
    shape, _ = drawn(mixed, people)
    assert shape.get_legend_handles_labels()[1][2].startswith("people, on other pictures")


def test_a_picture_is_as_high_as_its_classes_need() -> None:
    people = people_decided()
    models = {"one": {"ant": Decided(1, 1, 1)}, "two": {"bee": Decided(1, 1, 1)}}
    for some, rows in ((dict(list(models.items())[:1]), 1), (models, 2)):
        found = Image.open(io.BytesIO(drawing.picture(some, people)))
        assert found.width == 990
        assert found.height == pytest.approx(110 * (1.9 + 0.3 * rows), abs=1)

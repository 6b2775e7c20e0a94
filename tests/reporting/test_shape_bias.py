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

pytest.importorskip("matplotlib")


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

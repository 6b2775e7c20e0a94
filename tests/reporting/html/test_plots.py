"""What drawings show, looked up in matplotlib's figure before it is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from pytest_cliprobust.reporting.html import plots
from pytest_cliprobust.reporting.html.svg import BAD, BASE, GOOD, HEAD, MODELS, MUTED
from pytest_cliprobust.reporting.separation import POINTS, Separation


@pytest.fixture(autouse=True)
def figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hand over the figure, the name and the label instead of an element."""
    monkeypatch.setattr(plots, "inline", lambda figure, name, label: (figure, name, label))


def lines(panel: Any, colour: str) -> list[Any]:
    return [np.array(line.get_xydata()) for line in panel.lines if line.get_color() == colour]


def test_a_curve_beside_that_of_before_with_its_interval_and_its_limit() -> None:
    head = plots.Line((1, 3, 5), (0.8, 0.6, 0.3), (0.7, 0.5, 0.2), (0.9, 0.7, 0.4))
    base = plots.Line((1, 3), (0.9, 0.7))
    made: Any = plots.curve(head, base, "a", "t", across="severity", limit=0.5, ticks=(1, 3, 5))
    figure, name, label = made
    (panel,) = figure.axes
    assert (name, label) == ("a", "t: 0.8 to 0.3")
    assert_allclose(lines(panel, HEAD)[0], [[1, 0.8], [3, 0.6], [5, 0.3]])
    assert_allclose(lines(panel, BASE)[0], [[1, 0.9], [3, 0.7]])
    assert_allclose(lines(panel, BAD)[0][:, 1], 0.5)
    assert_allclose(panel.get_ylim(), (-0.03, 1.03))
    assert panel.get_xlabel() == "severity"
    assert panel.get_xticks().tolist() == [1, 3, 5]
    (band,) = panel.collections
    (path,) = band.get_paths()
    assert_allclose([path.vertices[:, 1].min(), path.vertices[:, 1].max()], [0.2, 0.9])


def test_a_curve_alone_has_its_own_span() -> None:
    made: Any = plots.curve(plots.Line((0, 1), (2.0, 40.0)), None, "a", "t", span=None)
    (panel,) = made[0].axes
    assert len(panel.lines) == 1
    assert not panel.collections
    assert panel.get_ylim()[1] > 40
    empty: Any = plots.curve(plots.Line((), ()), None, "a", "t")
    assert empty[2] == "t: no values"


def test_reliability_by_bin() -> None:
    bins = [
        {"low": 0.0, "high": 0.5, "n": 3, "confidence": 0.4, "accuracy": 0.2},
        {"low": 0.5, "high": 0.75, "n": 0, "confidence": 0.0, "accuracy": 0.0},
        {"low": 0.75, "high": 1.0, "n": 9, "confidence": 0.9, "accuracy": 0.8},
    ]
    made: Any = plots.reliability(bins, bins[:1], "a", "t")
    figure, _, label = made
    panel, counts = figure.axes
    assert label == "t: accuracy by confidence: 0.20 at 0.40, 0.80 at 0.90"
    assert_allclose(lines(panel, HEAD)[0], [[0.4, 0.2], [0.9, 0.8]])
    assert_allclose(lines(panel, BASE)[0], [[0.4, 0.2]])
    assert_allclose([bar.get_height() for bar in counts.patches], [3, 0, 9])
    centres = [bar.get_x() + bar.get_width() / 2 for bar in counts.patches]
    assert_allclose(centres, [0.25, 0.625, 0.875])
    assert_allclose([bar.get_width() for bar in counts.patches], 0.8 / 3)
    assert counts.get_xlim() == (0, 1)


def test_reliability_without_bins() -> None:
    made: Any = plots.reliability([], [], "a", "t")
    figure, _, label = made
    assert label.startswith("t: accuracy by confidence")
    assert [len(axes.patches) for axes in figure.axes] == [0, 0]


def separation(scores: list[float], inside: list[bool]) -> Separation:
    found = Separation.of(np.array(scores), np.array(inside))
    assert found is not None
    return found


def test_a_roc_curve_known_by_hand() -> None:
    """Scores 4, 3, 2, 1 of in, out, in, out: half of the inner are found before an outer one."""
    inside = [True, False, True, False]
    head = separation([4.0, 3.0, 2.0, 1.0], inside)
    made: Any = plots.roc(head, None, "a", "t")
    figure, _, label = made
    (panel,) = figure.axes
    assert label == "ROC curve: t"
    assert lines(panel, BASE) == []
    (curve,) = lines(panel, HEAD)
    assert curve.shape == (POINTS + 1, 2)
    assert_allclose(curve[0], [0, 0])
    assert_allclose(curve[-1], [1, 1])
    middle = curve[(curve[:, 0] > 0.01) & (curve[:, 0] < 0.49)]
    assert_allclose(middle[:, 1], 0.5)
    assert_allclose(curve[curve[:, 0] > 0.51][:, 1], 1.0)
    both: Any = plots.roc(head, separation([-4.0, -3.0, -2.0, -1.0], inside), "a", "t")
    (before,) = lines(both[0].axes[0], BASE)
    assert_allclose(before[(before[:, 0] > 0.01) & (before[:, 0] < 0.49)][:, 1], 0.0)


def test_how_scores_are_spread() -> None:
    told = separation([0.0, 1.0, 2.0, 7.0, 8.0, 28.0], [True] * 3 + [False] * 3)
    made: Any = plots.histogram(told, "a", "t")
    (panel,) = made[0].axes
    assert made[2] == "Scores: t: median 1 for ID and 8 for OOD"
    outer, inner = (patch.get_data() for patch in panel.patches)
    # Edges are the whole numbers from 0 to 28; a third of each lies in a bin of width 1.
    for stairs in (inner, outer):
        assert_allclose(stairs.edges, np.arange(29))
    assert np.flatnonzero(inner.values).tolist() == [0, 1, 2]
    assert np.flatnonzero(outer.values).tolist() == [7, 8, 27]
    assert_allclose(inner.values[:3], 1 / 3, atol=1e-3)


def test_gains_to_the_right_and_losses_to_the_left() -> None:
    made: Any = plots.pairs([("a", 0.5, 0.25), ("b", 0.0, 0.125)], "a", "t")
    (panel,) = made[0].axes
    assert made[2] == "t: a +0.5 -0.25; b +0 -0.12"
    found = [(bar.get_facecolor()[:3], bar.get_width()) for bar in panel.patches]
    good, bad = (tuple(int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)) for c in (GOOD, BAD))
    assert found == [(good, 0.5), (good, 0.0), (bad, -0.25), (bad, -0.125)]
    assert [text.get_text() for text in panel.get_yticklabels()] == ["a", "b"]
    assert_allclose(panel.get_ylim(), (1.6, -0.6))  # the first on top
    many: Any = plots.pairs([(str(n), 0.0, 0.0) for n in range(10)], "a", "t")
    assert many[2].endswith("7 +0 -0")


def test_several_models_have_a_colour_and_a_style_each() -> None:
    own = {
        name: plots.Line((1, 3), (y, y / 2), (y - 0.1, 0.0), (y + 0.1, 0.5))
        for name, y in (("a", 0.8), ("b", 0.4))
    }
    made: Any = plots.curves(own, "n", "fog", across="severity", ticks=(1, 3))
    figure, _, label = made
    (panel,) = figure.axes
    assert label == "fog: a 0.8 to 0.4; b 0.4 to 0.2"
    assert_allclose(lines(panel, MODELS[0])[0], [[1, 0.8], [3, 0.4]])
    assert_allclose(lines(panel, MODELS[1])[0], [[1, 0.4], [3, 0.2]])
    assert len(panel.collections) == 2
    looks = list(zip(MODELS, plots.STYLES, strict=True))
    assert len({str(look) for look in looks}) == len(looks)


def test_a_label_that_is_cut_says_whose_it_is() -> None:
    rows = [
        plots.Dot("fog: accuracy", 0.5, 0.4, 0.6, whose=" (fleet:base)"),
        plots.Dot("elastic transform: mean corruption accuracy", 0.5, 0.4, 0.6, whose=" (m)"),
        plots.Dot("short", 0.5, 0.4, 0.6),
        plots.Dot("x" * 60, 0.5, 0.4, 0.6),
    ]
    made: Any = plots.dots(rows, "n", "t")
    (panel,) = made[0].axes
    assert [text.get_text() for text in panel.get_yticklabels()] == [
        "fog: accuracy (fleet:base)",
        "elastic transform: mean corruption … (m)",
        "short",
        "x" * 39 + "…",
    ]


def test_values_stand_in_rows_with_their_intervals() -> None:
    rows = [
        plots.Dot("a", 0.5, 0.4, 0.6, before=0.7, word="bad", whose=" (m)"),
        plots.Dot("b", -0.25, -0.5, 0.25, before=0.0, word="good"),
        plots.Dot("c", 0.1, 0.0, 0.2),
    ]
    made: Any = plots.dots(rows, "n", "t", zero=True)
    figure, name, label = made
    (panel,) = figure.axes
    assert (name, label) == (
        *("n", "t: a (m) 0.5 from 0.4 to 0.6; b -0.25 from -0.5 to 0.25; c 0.1 from 0 to 0.2"),
    )
    for number, (row, colour) in enumerate(zip(rows, (BAD, GOOD, HEAD), strict=True)):
        ends, point = lines(panel, colour)
        assert_allclose(ends, [[row.low, number], [row.high, number]])
        assert_allclose(point, [[row.value, number]])
    assert_allclose(np.concatenate(lines(panel, BASE)), [[0.7, 0], [0.0, 1]])
    assert_allclose(lines(panel, MUTED)[0][:, 0], 0.0)
    assert_allclose(panel.get_ylim(), (2.6, -0.6))
    assert_allclose(figure.get_size_inches(), (plots.WIDE, 0.55 + 3 * 0.235))
    plain: Any = plots.dots([rows[2]] * 9, "n", "t")
    assert lines(plain[0].axes[0], MUTED) == []
    assert plain[2].count("c 0.1 from 0 to 0.2") == 8


def test_labels_are_cut_where_there_is_no_room() -> None:
    assert plots._fitted("x" * 40) == "x" * 40
    assert plots._fitted("x" * 41) == "x" * 39 + "…"
    assert plots._fitted("two words", 8) == "two …"
    assert plots._fitted("a\x1bb", 8) == "a\\x1bb"
    told = plots._labelled(plots.Dot("y" * 60, 0.5, 0.4, 0.6, whose=f" ({'m' * 30})"))
    # What is left of 42 letters beside the model's name, which has 24 at most.
    assert told == f"{'y' * 17}… ({'m' * 22}…"
    assert len(told) == 43

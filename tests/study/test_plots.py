"""A study as pictures: what is drawn, looked at before it becomes pixels."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.special import expit, logit
from study_helpers import ACCURACY, BASE, FLEET, a_run

from pytest_cliprobust.study import plots
from pytest_cliprobust.study.axes import LINEAR, LOGIT
from pytest_cliprobust.study.effects import Effect
from pytest_cliprobust.study.making import Property, Study, study_of
from pytest_cliprobust.study.plots import PANELS, chosen, chosen_for_forest, forest, scatter

FOG = "corruption_3d/accuracy/clean/fog_3d"
NLL = "corruption_3d/nll/clean/fog_3d"
PLACES = dict(zip(FLEET, (0.0, 0.1, -0.1, 1.0, -0.5, 0.3, 0.2, 0.6), strict=True))


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Return figures where files are asked for: drawing takes seconds."""
    monkeypatch.setattr(plots, "_png", lambda figure: figure)


def a_study(**more: dict[str, float]) -> Study:
    values = {
        name: {
            ACCURACY: float(expit(place)),
            FOG: float(expit(0.5 * place - 1.0 + 0.2 * (-1) ** number)),
            NLL: 2.0 - place**2,
        }
        | more.get(name, {})
        for number, (name, place) in enumerate(PLACES.items())
    }
    return study_of([a_run(values, FLEET)])


def items_of(study: Study, *keys: str) -> list[Property]:
    return [item for item in study.properties if item.key in keys]


def test_a_panel_has_its_models_their_intervals_and_the_line() -> None:
    study = a_study()
    (item,) = items_of(study, FOG)
    figure: Any = scatter(study, [item])
    (panel,) = figure.axes
    assert panel.get_title() == "accuracy\nclean, fog_3d"
    assert figure.get_suptitle() == "corruption_3d: against ID accuracy"
    assert panel.get_xlabel() == "ID accuracy, on a logit axis"
    points = [container.lines[0].get_xydata()[0] for container in panel.containers]
    np.testing.assert_allclose(points, np.stack([item.x, item.y], axis=1))
    assert [container.get_label() for container in panel.containers] == list(FLEET)
    ends = logit(np.array([[v - 0.02, v + 0.02] for v in expit(item.y)]))
    bars = plots._bars(study, item)
    np.testing.assert_allclose(bars, np.abs(ends - item.y[:, None]).T)
    line = panel.lines[-1].get_xydata()
    assert (line[0, 0], line[-1, 0]) == (item.x.min(), item.x.max())
    assert item.line is not None
    np.testing.assert_allclose(line[:, 1], item.line.at(line[:, 0]))
    r = item.line.correlation
    assert [text.get_text() for text in panel.texts] == [f"r = {r[0]:.2f} [{r[1]:.2f}, {r[2]:.2f}]"]
    # Every interval is in sight, with a little room.
    low, high = panel.get_ylim()
    least, most = (item.y - bars[0]).min(), (item.y + bars[1]).max()
    assert 0.0 < least - low == pytest.approx(0.08 * (most - least), abs=1e-5)
    assert 0.0 < high - most == pytest.approx(0.16 * (most - least), abs=1e-5)
    markers = [container.lines[0].get_marker() for container in panel.containers]
    assert len(set(markers)) == len(FLEET)


def test_levels_of_a_factor_have_one_colour_and_a_line() -> None:
    study = a_study()
    (item,) = items_of(study, FOG)
    figure: Any = scatter(study, [item], by="architecture")
    (panel,) = figure.axes
    assert [container.get_label() for container in panel.containers] == ["ResNet", "ViT"]
    assert [len(container.lines[0].get_xdata()) for container in panel.containers] == [7, 1]
    dashed = [line for line in panel.lines if line.get_linestyle() == "--"]
    (own,) = dashed
    others = np.delete(item.x, 3)
    assert own.get_xdata().tolist() == [others.min(), others.max()]
    np.testing.assert_allclose(
        own.get_ydata(), item.groups["architecture", "ResNet"].at(own.get_xdata())
    )
    assert own.get_color() == "C0"
    assert plots._label(study.table.entries[3], "architecture") == "ViT"
    assert plots._label(study.table.entries[3], None) == "vit"
    assert plots._label(study.table.entries[3], "base") == "unknown"


def many(count: int) -> Study:
    values = {f"m{i}": {ACCURACY: 0.3 + 0.02 * i, FOG: 0.2 + 0.02 * i} for i in range(count)}
    facts = {
        name: BASE | {"architecture": "ViT" if i else "ResNet"} for i, name in enumerate(values)
    }
    return study_of([a_run(values, facts)])


def test_more_than_twelve_models_are_coloured_by_architecture() -> None:
    for count, labels in ((12, 12), (13, 2)):
        study = many(count)
        figure: Any = scatter(study, items_of(study, FOG))
        assert len(figure.axes[0].containers) == labels


def test_panels_stand_four_in_a_row_and_the_others_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plots, "PANELS", 5)
    keys = [f"corruption_3d/accuracy/clean/c{i}" for i in range(8)]
    values = {
        name: {ACCURACY: 0.4 + 0.1 * i} | dict.fromkeys(keys, 0.3 + 0.1 * i)
        for i, name in enumerate("abc")
    }
    study = study_of([a_run(values)])
    items = items_of(study, *keys)
    figure: Any = scatter(study, items)
    assert figure.get_suptitle().endswith("against ID accuracy (3 more in lines.csv)")
    assert [panel.axison for panel in figure.axes] == [True] * 5 + [False] * 3
    assert figure.get_size_inches().tolist() == pytest.approx([14.4, 6.9])
    one: Any = scatter(study, items[:1])
    assert one.get_suptitle().endswith("against ID accuracy")
    assert one.get_size_inches().tolist() == pytest.approx([4.5, 3.9])


class Ticks:
    """Notes the ticks that an axis is given."""

    def __init__(self) -> None:
        self.places: list[float] = []
        self.names: list[str] = []
        self.offset = True

    def set_ticks(self, places: Any, names: list[str]) -> None:
        self.places, self.names = list(places), names

    def get_major_formatter(self) -> Any:
        return self

    def set_useOffset(self, wanted: bool) -> None:  # noqa: N802  (matplotlib's name)
        self.offset = wanted


@pytest.mark.parametrize(
    ("low", "high", "names"),
    [
        (0.005, 0.95, ["0.01", "0.1", "0.5", "0.9"]),
        (0.099, 0.55, ["0.1", "0.2", "0.3", "0.5"]),
        (0.41, 0.59, ["0.45", "0.5", "0.55"]),
        # At most six: every second one of nine.
        (0.501, 0.549, ["0.505", "0.515", "0.525", "0.535", "0.545"]),
        (0.50001, 0.50002, ["0.5"]),
    ],
)
def test_a_logit_axis_has_round_shares(low: float, high: float, names: list[str]) -> None:
    ticks = Ticks()
    plots._ticks(ticks, LOGIT, (float(logit(low)), float(logit(high))))
    assert ticks.names == names
    np.testing.assert_allclose(expit(ticks.places), [float(n) for n in names], atol=2e-5)
    plots._ticks(ticks, LINEAR, (low, high))
    assert (ticks.names, ticks.offset) == (names, False)


def test_effects_stand_in_rows_beside_the_spread_of_seeds() -> None:
    study = a_study()
    figure: Any = forest(study)
    items = [item for item in chosen_for_forest(study) if item.regression is not None]
    assert {item.key for item in items} == {ACCURACY, FOG}  # nats have no place among shares
    panels = figure.axes
    assert len(panels) == len(study.design.columns) == 5
    assert panels[0].get_title() == "architecture:\nViT\ninstead of ResNet"
    assert [label.get_text() for label in panels[0].get_yticklabels()] == [
        plots._short(item) for item in items
    ]
    assert plots._short(items[0]) == "accuracy, clean/clean"
    assert panels[0].get_ylim() == (1.5, -0.5)
    assert figure.get_supxlabel() == "effect, in each property's own unit"
    assert " ".join(figure.get_suptitle().split()).startswith("effects with intervals; grey: twice")
    for panel, column in zip(panels, study.design.columns, strict=True):
        drawn = iter(panel.lines[1:])
        bars = iter(panel.patches)
        for row, item in enumerate(items):
            assert item.regression is not None
            effect = next(e for e in item.regression.effects if e.column == column)
            value, low, high = item.change(effect)
            ends, point = next(drawn), next(drawn)
            assert ends.get_xydata().tolist() == [[low, row], [high, row]]
            assert point.get_xydata().tolist() == [[value, row]]
            assert point.get_color() == ("C3" if not low <= 0 <= high else "C0")
            base, two = item.regression.base, 2 * item.spread.value
            bar = next(bars)
            less, more = (expit(base + sign * two) - expit(base) for sign in (-1, 1))
            assert bar.get_x() == pytest.approx(less)
            assert bar.get_width() == pytest.approx(more - less)
            assert bar.get_y() == pytest.approx(row - 0.4)


def test_a_title_is_no_wider_than_the_effects_of_one_factor() -> None:
    """Seeds and half the drawings make one column, where a title of one line was cut at both ends."""
    names = ("base", "base1", "base2", "half")
    values = {name: {ACCURACY: float(expit(place))} for name, place in PLACES.items()}
    study = study_of([a_run({n: values[n] for n in names}, {n: FLEET[n] for n in names})])
    assert len(study.design.columns) == 1
    figure: Any = forest(study)
    figure.draw_without_rendering()
    box = figure._suptitle.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


def test_what_is_shown_of_many_properties() -> None:
    keys = [f"corruption_3d/accuracy/clean/c{i}" for i in range(30)]
    keys += [f"corruption_3d/accuracy/clean/{name}" for name in ("all_3d", "same")]
    values = {
        name: {ACCURACY: 0.4 + 0.1 * i, NLL: 1.0 + i}
        | {key: 0.3 + 0.1 * i * ("same" not in key) for key in keys}
        | {"corruption_3d/top5_accuracy/clean/c0": 0.5 + 0.1 * i}
        for i, name in enumerate("ab")
    }
    study = study_of([a_run(values)])
    items = items_of(study, *keys, "corruption_3d/top5_accuracy/clean/c0")
    names = [item.key.rpartition("/")[2] for item in chosen(items)]
    assert names[:2] == ["all_3d", "c0"]
    assert len(names) == PANELS
    assert "same" not in names
    # Two suites share forty places.
    told = chosen_for_forest(study)
    assert [item.key for item in told].count(ACCURACY) == 1
    assert len(told) == 1 + PANELS
    assert len(chosen_for_forest(study, 8)) == 1 + 4
    assert len(chosen_for_forest(study, 1)) == 1


def test_an_effect_that_is_not_known_is_not_drawn() -> None:
    study = a_study()
    (item,) = items_of(study, FOG)
    assert item.regression is not None
    one, *others = item.regression.effects
    for effects in (others, [Effect(one.column, math.nan, why="confounded"), *others]):
        made = replace(item, regression=replace(item.regression, effects=tuple(effects)))
        panel: Any = Figure().subplots()
        plots._effect_row(panel, 0, made, one.column)
        assert (list(panel.lines), list(panel.patches)) == ([], [])
    # Without an interval there is the value alone, and without a spread no bar.
    alone = replace(item.regression, effects=(Effect(one.column, 0.25, why="few"), *others))
    lone = replace(item, regression=alone, spread=replace(item.spread, value=math.nan))
    plots._effect_row(panel, 3, lone, one.column)
    (point,) = panel.lines
    assert point.get_xydata().tolist() == [[lone.change(alone.effects[0])[0], 3.0]]
    assert point.get_color() == "C0"
    assert not panel.patches

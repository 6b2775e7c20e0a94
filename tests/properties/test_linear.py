"""Values of which a figure is the mean, to first order: held against the figure's own derivative.

An interval rests on their spread. A statistic at weights a little off, by central differences, tells what
each sample adds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pytest_cliprobust.figures.arrays import Floats, Ints
from pytest_cliprobust.figures.bootstrap import DEFAULT
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.means import quotient_values, relative_drop_values
from pytest_cliprobust.figures.outcomes import Outcomes
from pytest_cliprobust.properties import (
    accuracy,
    factors,
    shape_bias,
    shift,
    tasks,
)

RNG = np.random.default_rng(5)
COUNT = 60
LABELS = RNG.integers(0, 4, COUNT)
ANSWERS = np.where(RNG.random(COUNT) < 0.6, LABELS, RNG.integers(0, 6, COUNT))
CLEAN, SHIFTED = RNG.random((2, COUNT)) < [[0.8], [0.5]]
SHAPES, TEXTURES = LABELS, (LABELS + 1 + np.arange(COUNT) % 2) % 4
DECIDED = np.where(RNG.random(COUNT) < 0.4, SHAPES, np.where(CLEAN, TEXTURES, -1))
HITS = RNG.random((COUNT, 3)) < 0.4
NAMES = ("a", "b", "c", "d")
FEATURES = RNG.normal(size=(COUNT // 2, 8))
TEXTS = FEATURES.repeat(2, axis=0) + 0.9 * RNG.normal(size=(COUNT, 8))


def templates() -> Outcomes:
    columns = {"hits": HITS, "trials": HITS | (RNG.random((COUNT, 3)) < 0.5)}
    return Outcomes(columns, shape_bias._mean_of_templates)


def changed() -> Figure:
    decided = {f"hits_{when}": HITS[:, i] for i, when in enumerate(("before", "after"))}
    trials = {f"trials_{when}": HITS[:, i] | CLEAN for i, when in enumerate(("before", "after"))}
    return shape_bias._change_figure(decided | trials, DEFAULT)


def shifted() -> Figure:
    return shift.shift_drop_figure(CLEAN, SHIFTED[:40], bootstrap=DEFAULT)


def balanced() -> Figure:
    logits = np.eye(4)[ANSWERS % 4] + 0.01 * np.arange(4)
    return accuracy.balanced_accuracy(logits, LABELS)


def errors_of_a_factor() -> Outcomes:
    return Outcomes(
        {"wrong": ~CLEAN}, factors._error_ratio, attributes={"member": np.arange(COUNT) % 3 == 0}
    )


def both_ways() -> Figure:
    return tasks.mean_recall(FEATURES, TEXTS, np.arange(COUNT) // 2)


CASES: dict[str, tuple[Callable[[], Figure | Outcomes], Callable[[Outcomes], Floats], str]] = {
    "relative drop": (
        lambda: accuracy.relative_drop_figure(CLEAN, SHIFTED),
        relative_drop_values,
        "",
    ),
    "shape bias": (
        lambda: shape_bias.shape_bias_figures(DECIDED, SHAPES, TEXTURES, NAMES)["shape_bias"],
        quotient_values,
        "",
    ),
    "shape bias of templates": (templates, shape_bias._template_values, ""),
    "change of shape bias": (changed, shape_bias._difference_values, ""),
    "macro F1": (lambda: tasks.macro_f1(ANSWERS % 4, LABELS, 4), tasks._f1_values, ""),
    "macro F1, answers that nothing is": (
        lambda: tasks.macro_f1(ANSWERS, LABELS, 6),
        tasks._f1_values,
        "",
    ),
    "error of a factor": (errors_of_a_factor, factors._error_values, ""),
    "recall both ways": (both_ways, tasks._both_ways_values, ""),
    # Of groups whose sizes are given, not drawn.
    "balanced accuracy": (balanced, accuracy._weighted, "group"),
    "natural shift": (shifted, shift._difference_values, "clean"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_figure_moves_as_its_values_say(name: str) -> None:
    make, linear, strata = CASES[name]
    made = make()
    outcomes = made.outcomes if isinstance(made, Figure) else made
    assert outcomes is not None
    values, count = linear(outcomes), len(outcomes)
    assert values.mean() == pytest.approx(outcomes.value())
    steps = np.random.default_rng(1).normal(size=(8, count))
    if strata:
        group: Ints = np.unique(outcomes[strata], return_inverse=True)[1]
        for number in np.unique(group):
            steps[:, group == number] -= steps[:, group == number].mean(axis=1, keepdims=True)
    far, near = (outcomes.statistic(1.0 + 1e-5 * sign * steps, outcomes) for sign in (1, -1))
    moved = (far - near) / 2e-5
    assert moved == pytest.approx(steps @ (values - values.mean()) / count, abs=1e-7)

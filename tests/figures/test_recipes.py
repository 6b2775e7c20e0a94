"""The recipe of a stored figure is the one that gives its value."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.figures.auroc import area
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.means import SUPPOSED
from pytest_cliprobust.figures.outcomes import Outcomes, drop, mean, quotient, relative_drop
from pytest_cliprobust.figures.recipes import RECIPES, recipe_of, register_recipe
from pytest_cliprobust.properties.accuracy import balanced_accuracy, worst_group_accuracy
from pytest_cliprobust.properties.calibration import calibration_figures
from pytest_cliprobust.properties.ood import detection_figures
from pytest_cliprobust.properties.shape_bias import shape_bias_figures

N = 200
IDS = tuple(map(str, range(N)))
KEYS = SampleKeys(IDS, IDS, IDS, "sample")
GENERATOR = np.random.default_rng(3)
CLEAN, SHIFTED = GENERATOR.random(N) < 0.8, GENERATOR.random(N) < 0.5
SIZES = GENERATOR.integers(0, 4, N)


def made(outcomes: Outcomes) -> Figure:
    value = float(np.ravel(outcomes.at(np.ones((1, N))))[0])
    return Figure("accuracy", value, 0.0, 1.0, N, outcomes=outcomes.of(KEYS))


@pytest.mark.parametrize(
    ("outcomes", "wanted"),
    [
        (Outcomes({"value": CLEAN}, mean), "mean"),
        (Outcomes({"value": CLEAN}, mean, parameters={SUPPOSED: (1.0, 0.0)}), "mean"),
        (Outcomes({"clean": CLEAN, "shifted": SHIFTED}, drop), "drop"),
        (Outcomes({"clean": CLEAN, "shifted": SHIFTED}, relative_drop), "relative drop"),
        (Outcomes({"hits": SIZES * CLEAN, "trials": SIZES}, quotient), "quotient"),
        (Outcomes({"value": CLEAN}, mean, attributes={"other": SIZES}), None),
        (Outcomes({"value": np.stack([CLEAN, CLEAN], axis=1)}, mean), None),
        (
            Outcomes(
                {"clean": CLEAN, "shifted": np.stack([SHIFTED, SHIFTED], axis=1)},
                lambda weights, outcomes: drop(
                    weights, Outcomes({"clean": CLEAN, "shifted": SHIFTED}, drop)
                ),
            ),
            None,
        ),
        (Outcomes({"wrong": CLEAN}, mean), None),
        (Outcomes({"value": CLEAN}, mean, parameters={"at": (1.0,)}), None),
    ],
)
def test_the_recipe_is_the_one_that_gives_the_figure(
    outcomes: Outcomes, wanted: str | None
) -> None:
    found = recipe_of(made(outcomes))
    assert found is (None if wanted is None else RECIPES[wanted])


def test_every_figure_has_its_own_recipe() -> None:
    logits = GENERATOR.normal(0.0, 2.0, (N, 5))
    labels = GENERATOR.integers(0, 5, N)
    bootstrap = Bootstrap(replicates=50, keys=KEYS)
    calibrated = calibration_figures(logits, labels, bootstrap=bootstrap)
    inside, outside = GENERATOR.normal(0.5, 1, 120), GENERATOR.normal(0, 1, 80)
    detected = detection_figures(inside, outside, "mcm", bootstrap=bootstrap)
    groups = tuple("abc"[i % 3] for i in range(N))
    figures = {
        "ece": calibrated["ece"],
        "adaptive_ece": calibrated["adaptive_ece"],
        "mean": calibrated["nll"],
        "area": detected["auroc_mcm"],
        "aupr_in": detected["aupr_in_mcm"],
        "aupr_out": detected["aupr_out_mcm"],
        "fpr95": detected["fpr95_mcm"],
        "quotient": shape_bias_figures(
            GENERATOR.integers(0, 3, N),
            GENERATOR.integers(0, 3, N),
            GENERATOR.integers(0, 3, N),
            ["a", "b", "c"],
            bootstrap=bootstrap,
        )["shape_bias"],
        "balanced accuracy": balanced_accuracy(logits, labels, bootstrap=bootstrap),
        "worst group": worst_group_accuracy(CLEAN, groups, bootstrap=bootstrap),
    }
    for name, figure in figures.items():
        assert recipe_of(figure) is RECIPES[name], name
        assert figure.outcomes is not None
        recipe = RECIPES[name]
        # What is compared is what the session compares.
        assert (recipe.compare is None) == (figure.outcomes.compare is None), name


def test_a_recipe_must_give_every_figure() -> None:
    right, other = made(Outcomes({"value": CLEAN}, mean)), made(Outcomes({"value": SHIFTED}, mean))
    assert recipe_of(right, other) is RECIPES["mean"]
    assert recipe_of(right, replace(other, value=other.value + 1e-3)) is None
    assert recipe_of(right, replace(other, outcomes=None)) is None
    assert recipe_of(replace(right, n=N + 1)) is None


def test_a_name_is_given_once() -> None:
    with pytest.raises(ClipRobustError, match="mean"):
        register_recipe("mean", ["value"], partial(area))


def test_a_recipe_of_a_function_with_some_arguments_given_is_of_the_functions_module() -> None:
    def other(weights: Floats, outcomes: Outcomes, power: int) -> Floats:
        return mean(weights, outcomes) ** power

    with RECIPES.preserved():
        register_recipe("square", ["value"], partial(other, power=2), metrics="made_*")
        assert recipe_of(made(Outcomes({"value": CLEAN}, partial(other, power=2)))) is None
        squared = made(Outcomes({"value": CLEAN}, partial(other, power=2)))
        assert recipe_of(replace(squared, metric="made_so")) is RECIPES["square"]
        # Its own module may register it again, another one must not.
        register_recipe("square", ["value"], partial(other, power=2))
        with pytest.raises(ClipRobustError, match="square"):
            register_recipe("square", ["score"], partial(area))


def test_a_recipe_that_takes_other_columns_gives_no_figure() -> None:
    def refusing(weights: Floats, outcomes: Outcomes) -> Floats:
        raise ClipRobustError("these hold something else")

    with RECIPES.preserved():
        register_recipe("refusing", ["odd"], refusing)
        assert RECIPES.modules()["refusing"] == refusing.__module__
        odd = made(
            Outcomes(
                {"odd": CLEAN}, lambda weights, own: mean(weights, Outcomes({"value": CLEAN}, mean))
            )
        )
        assert recipe_of(odd) is None

"""Prompt sensitivity: by hand, and replicates by loops."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.properties import prompts

FEW = Bootstrap(replicates=200)


def test_prompt_figures_by_hand() -> None:
    correct = np.array(
        [[True, True, False, False], [True, False, False, False], [True, True, True, False]]
    )
    ensemble = np.array([True, True, True, True])
    figures = prompts.prompt_figures(correct, ["a", "b", "c"], ensemble, bootstrap=FEW)
    assert {name: figure.value for name, figure in figures.items()} == pytest.approx(
        {
            "prompt_mean_accuracy": 0.5,
            "prompt_worst_accuracy": 0.25,
            "prompt_best_accuracy": 0.75,
            "prompt_accuracy_spread": 0.5,
            "prompt_accuracy_std": np.std([0.5, 0.25, 0.75]),
            "prompt_ensemble_accuracy": 1.0,
            "prompt_ensemble_gain": 0.5,
        }
    )
    assert figures["prompt_worst_accuracy"].details["template"] == "b"
    assert set(figures) <= set(METRICS)
    assert "basic" in figures["prompt_accuracy_spread"].method
    assert "basic" not in figures["prompt_mean_accuracy"].method
    with pytest.raises(ClipRobustError, match="2 templates"):
        prompts.prompt_figures(correct, ["a", "b"], ensemble)


def test_equal_templates_have_no_spread_but_no_certainty_either() -> None:
    row = np.random.default_rng(0).random(50) < 0.5
    figures = prompts.prompt_figures(np.stack([row, row]), ["a", "a"], row, bootstrap=FEW)
    assert figures["prompt_accuracy_spread"].value == 0.0
    assert figures["prompt_accuracy_spread"].high > 0.0
    assert figures["prompt_ensemble_gain"].low < 0.0 < figures["prompt_ensemble_gain"].high

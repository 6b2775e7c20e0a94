"""Prompt sensitivity: by hand, and replicates by loops."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import drawn_rows, keys_of, replicates_of, times_as_wide

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import IntervalMethod
from pytest_cliprobust.figures.intervals import wilson
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.samples import SampleArrays
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
    assert figures["prompt_best_accuracy"].details["template"] == "c"
    assert figures["prompt_mean_accuracy"].details["templates"] == [
        {"template": "a", "accuracy": 0.5},
        {"template": "b", "accuracy": 0.25},
        {"template": "c", "accuracy": 0.75},
    ]
    # What resampling biases is reflected, or simultaneous over the templates.
    assert {name: figure.interval for name, figure in figures.items()} == {
        "prompt_mean_accuracy": IntervalMethod.STUDENT,
        "prompt_worst_accuracy": IntervalMethod.SIMULTANEOUS,
        "prompt_best_accuracy": IntervalMethod.SIMULTANEOUS,
        "prompt_accuracy_spread": IntervalMethod.BASIC,
        "prompt_accuracy_std": IntervalMethod.BASIC,
        "prompt_ensemble_accuracy": IntervalMethod.WILSON,
        "prompt_ensemble_gain": IntervalMethod.STUDENT,
    }
    with pytest.raises(ClipRobustError, match="2 templates"):
        prompts.prompt_figures(correct, ["a", "b"], ensemble)


def test_equal_templates_have_no_spread_but_no_certainty_either() -> None:
    row = np.random.default_rng(0).random(50) < 0.5
    figures = prompts.prompt_figures(np.stack([row, row]), ["a", "a"], row, bootstrap=FEW)
    assert figures["prompt_accuracy_spread"].value == 0.0
    assert figures["prompt_accuracy_spread"].high > 0.0
    assert figures["prompt_ensemble_gain"].low < 0.0 < figures["prompt_ensemble_gain"].high
    # What cannot be negative has no rule of three but Wilson's interval.
    assert figures["prompt_accuracy_spread"].low == 0.0
    assert figures["prompt_accuracy_spread"].method.startswith("Wilson")
    # A gain that 50 samples would show with a probability of 0.98 is left out, one of 0.9 is not.
    gain = figures["prompt_ensemble_gain"]
    assert 0.02 < (1.0 - gain.high) ** 50 < 0.1
    assert gain.low == pytest.approx(-gain.high)


def test_replicates_are_the_metrics_of_the_drawn_samples() -> None:
    rng = np.random.default_rng(4)
    correct, joint = rng.random((3, 40)) < 0.6, rng.random(40) < 0.7
    boot = Bootstrap(replicates=15, keys=keys_of(40))
    figures = prompts.prompt_figures(correct, ["a", "b", "c"], joint, bootstrap=boot)
    values = {
        name: replicates_of(figure, boot)
        for name, figure in figures.items()
        if name != "prompt_ensemble_accuracy"
    }
    for number, drawn in enumerate(drawn_rows(boot, 40)):
        means, whole = correct[:, drawn].mean(axis=1), joint[drawn].mean()
        want = {
            "prompt_mean_accuracy": means.mean(),
            "prompt_worst_accuracy": means.min(),
            "prompt_best_accuracy": means.max(),
            "prompt_accuracy_spread": means.max() - means.min(),
            "prompt_accuracy_std": means.std(),
            "prompt_ensemble_gain": whole - means.mean(),
        }
        assert {name: float(drawn[number]) for name, drawn in values.items()} == pytest.approx(want)
    for name in ("prompt_accuracy_spread", "prompt_accuracy_std"):
        np.testing.assert_array_equal(figures[name].replicates, values[name])
    more = Bootstrap(replicates=400)
    assert 0.9 < times_as_wide(figures["prompt_mean_accuracy"], more) < 1.2
    assert 0.9 < times_as_wide(figures["prompt_ensemble_gain"], more) < 1.2
    # All three templates' intervals at once: at 1 - 0.05 / 3, and Student's of one is near Wilson's.
    ends = [wilson(int(row.sum()), 40, 1.0 - 0.05 / 3.0) for row in correct]
    for name, of in (("prompt_worst_accuracy", min), ("prompt_best_accuracy", max)):
        assert figures[name].low == pytest.approx(of(end.low for end in ends), abs=0.04)
        assert figures[name].high == pytest.approx(of(end.high for end in ends), abs=0.04)
    assert {figure.n for figure in figures.values()} == {40}
    for figure in figures.values():
        assert figure.outcomes is not None
        assert figure.outcomes.keys == boot.keys
        assert figure.outcomes.value() == pytest.approx(figure.value)


def test_the_ensemble_is_a_share() -> None:
    correct, joint = np.ones((2, 40), bool), np.arange(40) < 30
    figure = prompts.prompt_figures(correct, ["a", "b"], joint)["prompt_ensemble_accuracy"]
    assert (figure.low, figure.high) == (wilson(30, 40).low, wilson(30, 40).high)
    assert figure.outcomes is not None
    assert figure.outcomes.is_share


def test_a_gain_can_be_a_loss() -> None:
    correct = np.ones((2, 20), bool)
    figures = prompts.prompt_figures(correct, ["a", "b"], ~correct[0], bootstrap=FEW)
    assert figures["prompt_ensemble_gain"].value == figures["prompt_ensemble_gain"].low == -1.0


@pytest.mark.parametrize(
    ("correct", "words"),
    [
        (np.ones((2, 4)), "booleans of shape .* float64"),
        (np.ones(2, bool), r"bool of shape \(2,\)"),
        (np.ones((3, 4), bool), "2 templates"),
        (np.ones((2, 5), bool), "5 and 4 samples"),
    ],
)
def test_answers_of_another_shape_are_refused(correct: np.ndarray, words: str) -> None:
    with pytest.raises(ClipRobustError, match=words):
        prompts.prompt_figures(correct, ["a", "b"], np.ones(4, bool))


def test_without_templates_there_is_nothing_to_measure() -> None:
    with pytest.raises(ClipRobustError, match="no prompt templates"):
        prompts.prompt_figures(np.ones((0, 4), dtype=bool), [], np.ones(4, dtype=bool))


def test_prompts_of_samples() -> None:
    rng = np.random.default_rng(4)
    ids, labels = tuple(map(str, range(40))), np.arange(40) % 3

    def answered() -> SampleArrays:
        return SampleArrays(Condition("clean"), ids, labels, rng.normal(size=(40, 3)))

    joint, single = answered(), {name: answered() for name in ("a {}", "b {}", "c {}")}
    found = prompts.prompts_of(joint, iter(single.items()))
    want = prompts.prompt_figures(
        np.stack([view.correct for view in single.values()]),
        list(single),
        joint.correct,
        bootstrap=joint.bootstrap,
    )
    assert {f.metric: (f.value, f.low, f.high) for f in found} == {
        name: (f.value, f.low, f.high) for name, f in want.items()
    }
    assert {f.condition for f in found} == {Condition("clean")}
    other = SampleArrays(Condition("clean"), tuple("xyz"), labels[:3], np.eye(3))
    with pytest.raises(ClipRobustError, match=r"template 'a {}' answers other samples"):
        prompts.prompts_of(joint, [("a {}", other)])

"""A figure cannot be filed under a condition that it was not measured on, whatever one may try."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from helpers import Sessions, report

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.measure import measure
from pytest_cliprobust.figures.samples import SampleArrays
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.properties import accuracy

FOG, SNOW = (Condition("clean", (Step(name, 3),)) for name in ("fog_3d", "snow"))


def samples(condition: Condition = FOG, count: int = 40) -> SampleArrays:
    generator = np.random.default_rng(0)
    return SampleArrays(
        condition,
        tuple(f"s/{i}" for i in range(count)),
        labels=generator.integers(0, 4, count),
        logits=generator.normal(size=(count, 4)),
    )


def test_fog_cannot_be_filed_as_snow() -> None:
    figure = accuracy.accuracy_of(samples())
    assert figure.condition == FOG
    with pytest.raises(ClipRobustError, match=r"measured on clean, fog_3d .* filed as .* snow"):
        figure.measured_on(SNOW)
    assert figure.measured_on(FOG) == figure
    with pytest.raises((TypeError, ValueError)):
        replace(figure, condition=SNOW)
    with pytest.raises(TypeError):
        Figure("accuracy", 0.5, 0.4, 0.6, 40, condition=SNOW)  # type: ignore[call-arg]
    with pytest.raises(FrozenInstanceError):
        figure.condition = SNOW  # type: ignore[misc]


def test_a_changed_copy_has_lost_its_condition_and_cannot_be_judged() -> None:
    copy = replace(accuracy.accuracy_of(samples()), value=0.99)
    assert copy.condition is None
    with pytest.raises(ClipRobustError, match="does not say what it was measured on"):
        Measurement("mine", "reference", copy)


def test_figures_of_another_condition_are_other_figures() -> None:
    figure = Figure("accuracy", 0.5, 0.4, 0.6, 40)
    assert figure.measured_on(FOG) != figure.measured_on(SNOW)
    assert Figure.from_dict(figure.measured_on(FOG).as_dict()).condition == FOG


@pytest.mark.parametrize("count", [39, 41, 1, 0])
def test_values_are_one_for_each_sample(count: int) -> None:
    with pytest.raises(ClipRobustError, match=rf"{count} values for the 40 samples of clean, fog"):
        measure("accuracy", samples(), lambda _: np.ones(count, dtype=bool))


def test_arrays_of_other_lengths_are_no_samples() -> None:
    whole = samples()
    with pytest.raises(ClipRobustError, match="39 labels"):
        replace(whole, labels=whole.labels[:-1])
    with pytest.raises(ClipRobustError, match="39 rows of logits"):
        replace(whole, logits=whole.logits[:-1])


def test_the_gate_refuses_a_figure_from_bare_arrays_in_one_line(run: Sessions) -> None:
    suite = """
        from pytest_cliprobust.properties import accuracy

        def test_mine(clip, gate):
            gate(accuracy.accuracy_figure(clip.on("clean", "fog_3d", 3).correct))
    """
    result = run("--clip-report=report.json", suite=suite)
    result.assert_outcomes(failed=1)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(
        ["ERROR: accuracy does not say what it was measured on: make it from a view*measure"]
    )
    assert report()["measurements"] == []


def test_the_gate_has_no_words_for_another_condition(run: Sessions) -> None:
    suite = """
        import pytest
        from pytest_cliprobust import ClipRobustError
        from pytest_cliprobust.properties import accuracy

        def test_mine(clip, gate):
            figure = accuracy.accuracy_of(clip.on("clean", "contrast", 3))
            with pytest.raises(TypeError):
                gate(figure, perturbation="snow", severity=3)
            with pytest.raises(ClipRobustError, match="gate takes figures"):
                gate({"accuracy": [0.5]})
            gate({"a": [figure]})
    """
    run("--clip-report=report.json", suite=suite).assert_outcomes(passed=1)
    (record,) = report()["measurements"]
    assert record["key"] == "mine/accuracy/clean/contrast@3/reference"


def test_values_are_asked_of_the_samples_and_not_handed_over() -> None:
    """An array does not say whose it is: another view's would be filed under this one's name."""
    with pytest.raises(ClipRobustError, match=r"give a function of the samples, .* not an array"):
        measure("accuracy", samples(), np.ones(40, dtype=bool))  # type: ignore[arg-type]
    assert measure("accuracy", samples(), lambda own: own.correct).condition == FOG

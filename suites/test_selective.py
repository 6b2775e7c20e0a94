"""Knowing when to keep silent: selective prediction, abstention per class, and conformal sets.

Thresholds come from the calibration split and are then held fixed, under corruption and shift, too.
"""

from __future__ import annotations

import pytest

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import selective

PERTURBED = [(), ("fog_3d", 3), ("iso_noise", 3)]
perturbations = pytest.mark.parametrize(
    "perturbed", PERTURBED, ids=["clean", "fog_3d", "iso_noise"]
)


@perturbations
def test_selective_prediction(clip: Evaluation, gate: Gate, perturbed: tuple[str, int]) -> None:
    gate(selective.selective_of(clip.on("clean", *perturbed)))


@perturbations
def test_abstention(
    clip: Evaluation, gate: Gate, calibration: str, perturbed: tuple[str, int]
) -> None:
    gate(selective.abstention_of(clip.on("clean", *perturbed), clip.on(calibration)))


@perturbations
def test_conformal_sets(
    clip: Evaluation, gate: Gate, calibration: str, perturbed: tuple[str, int]
) -> None:
    gate(selective.conformal_of(clip.on("clean", *perturbed), clip.on(calibration)))


def test_under_natural_shift(clip: Evaluation, gate: Gate, shift: str, calibration: str) -> None:
    view, known = clip.on(shift), clip.on(calibration)
    gate(selective.selective_of(view))
    gate(selective.abstention_of(view, known), selective.conformal_of(view, known))

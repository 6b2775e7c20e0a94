"""Calibrated confidence, before and after temperature scaling, on ID data and under shift.

The temperature is fitted by NLL on the calibration split, which shares no sample with any of the
sets below, and is then held fixed. What it costs to fit it on fifty samples, or on other classes, is told.
"""

from __future__ import annotations

import pytest

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import calibration as properties
from pytest_cliprobust.properties import scaling

SECTION = "Safety", 1
PERTURBED = [(), ("fog_3d", 3), ("iso_noise", 3)]
scalings = pytest.mark.parametrize("scaled", [False, True], ids=["as_is", "temperature_scaled"])

#: Every corruption at the middle severity, on the samples that the corruption suites take.
CODECS = registry.names("codec")
CORRUPTIONS = [
    name
    for family in ("common", "depth", "codec")
    for name in registry.names(family)
    if (name, 3) not in PERTURBED
]
SAMPLES = {"quick": 32, "standard": 134, "full": None}
CODEC_SAMPLES = {"quick": 16, "standard": 67, "full": None}


@scalings
@pytest.mark.parametrize("perturbed", PERTURBED, ids=["clean", "fog_3d", "iso_noise"])
def test_calibration(
    clip: Evaluation, gate: Gate, fewer: int | None, perturbed: tuple[str, int], scaled: bool
) -> None:
    view = clip.on("clean", *perturbed, limit=fewer if perturbed else None)
    gate(properties.calibration_of(view, clip.temperature if scaled else None))


@pytest.mark.parametrize("corrupted", CORRUPTIONS)
def test_under_corruption(clip: Evaluation, gate: Gate, corrupted: str) -> None:
    limit = (CODEC_SAMPLES if corrupted in CODECS else SAMPLES)[clip.config.profile]
    gate(properties.calibration_of(clip.on("clean", corrupted, 3, limit=limit), clip.temperature))


@scalings
def test_under_natural_shift(clip: Evaluation, gate: Gate, shift: str, scaled: bool) -> None:
    gate(properties.calibration_of(clip.on(shift), clip.temperature if scaled else None))


def test_temperature(clip: Evaluation, gate: Gate, calibration: str) -> None:
    gate(properties.temperature_of(clip.on(calibration)))


def test_temperature_from_few_samples(clip: Evaluation, gate: Gate, calibration: str) -> None:
    gate(scaling.few_samples_of(clip.on("clean"), clip.on(calibration)))


def test_temperature_of_other_classes(clip: Evaluation, gate: Gate, calibration: str) -> None:
    gate(scaling.label_sets_of(clip.on("clean"), clip.on(calibration)))

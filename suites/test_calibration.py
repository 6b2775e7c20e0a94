"""Calibrated confidence, before and after temperature scaling, on ID data and under shift.

The temperature is fitted by NLL on the calibration split, which shares no sample with any of the
sets below, and is then held fixed.
"""

from __future__ import annotations

import pytest

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import calibration as properties

PERTURBED = [(), ("fog_3d", 3), ("iso_noise", 3)]
scalings = pytest.mark.parametrize("scaled", [False, True], ids=["as_is", "temperature_scaled"])


@scalings
@pytest.mark.parametrize("perturbed", PERTURBED, ids=["clean", "fog_3d", "iso_noise"])
def test_calibration(
    clip: Evaluation, gate: Gate, perturbed: tuple[str, int], scaled: bool
) -> None:
    view = clip.on("clean", *perturbed)
    gate(properties.calibration_of(view, clip.temperature if scaled else None))


@scalings
def test_under_natural_shift(clip: Evaluation, gate: Gate, shift: str, scaled: bool) -> None:
    gate(properties.calibration_of(clip.on(shift), clip.temperature if scaled else None))


def test_temperature(clip: Evaluation, gate: Gate, calibration: str) -> None:
    gate(properties.temperature_of(clip.on(calibration)))

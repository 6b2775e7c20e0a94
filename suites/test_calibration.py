"""Calibrated confidence, before and after temperature scaling, on ID data and under shift.

The temperature is fitted by NLL on the calibration split, which shares no sample with any of the
sets below, and is then held fixed.
"""

from __future__ import annotations

import pytest

from pytest_cliprobust.properties import calibration

SHIFTS = [
    ("clean", "clean", None),
    ("clipart", "clean", None),
    ("clean", "fog_3d", 3),
    ("clean", "iso_noise", 3),
]


@pytest.mark.usefixtures("needs_embedded")
@pytest.mark.parametrize(("dataset", "perturbation", "severity"), SHIFTS)
@pytest.mark.parametrize("scaled", [False, True], ids=["as_is", "temperature_scaled"])
def test_calibration(clip, check, dataset, perturbation, severity, scaled):
    data = clip.dataset(dataset)
    figures = calibration.calibration_figures(
        clip.logits(data, perturbation, severity),
        clip.labels(data),
        probability=clip.target.probability,
        temperature=clip.temperature if scaled else None,
        ids=data.ids,
        bootstrap=clip.resampling(data),
    )
    check(figures, dataset=dataset, perturbation=perturbation, severity=severity)


@pytest.mark.usefixtures("needs_embedded")
def test_temperature(clip, check):
    data = clip.dataset("calibration")
    _, figure = calibration.temperature_figure(clip.logits(data), clip.labels(data), data.ids)
    check(figure, dataset="calibration")

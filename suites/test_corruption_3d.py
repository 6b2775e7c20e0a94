"""3D common corruptions (Kar et al. 2022) at severities 1 to 5, against the same images clean."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_cliprobust.properties import accuracy, corruption

CORRUPTIONS = [
    "near_focus",
    "far_focus",
    "fog_3d",
    "flash",
    "low_light",
    "xy_motion_blur",
    "z_motion_blur",
    "iso_noise",
    "color_quant",
]
SEVERITIES = [1, 2, 3, 4, 5]
SAMPLES = {"quick": 100, "standard": 200, "full": None}


def grid(clip, name):
    """Return the data set and whether each sample is right at each severity, (S, N) bool."""
    data = clip.dataset("clean", SAMPLES[clip.config.profile])
    return data, np.stack([clip.correct(data, name, severity) for severity in SEVERITIES])


@pytest.mark.usefixtures("needs_embedded")
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruption(clip, check, name):
    data, correct = grid(clip, name)
    for severity, row in zip(SEVERITIES, correct, strict=True):
        figure = accuracy.accuracy_of(row, bootstrap=clip.resampling(data))
        check(figure, perturbation=name, severity=severity)
    figures = corruption.corruption_figures(
        clip.correct(data), correct[None], [name], SEVERITIES, bootstrap=clip.resampling(data)
    )
    check(figures, perturbation=name)


@pytest.mark.usefixtures("needs_embedded")
def test_all(clip, check):
    """All corruptions together, each and each severity weighing the same."""
    grids = [grid(clip, name) for name in CORRUPTIONS]
    data = grids[0][0]
    figures = corruption.corruption_figures(
        clip.correct(data),
        np.stack([correct for _, correct in grids]),
        CORRUPTIONS,
        SEVERITIES,
        bootstrap=clip.resampling(data),
    )
    check(figures, perturbation="all_3d")

"""2D common corruptions (Hendrycks & Dietterich 2019) at severities 1 to 5, against the same images clean.

Means are over the fifteen that the benchmark's own mean is over; its four extra ones stand apart.
"""

from __future__ import annotations

import numpy as np
import pytest

from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.properties import accuracy, corruption

NAMES = registry.names("common")
FIFTEEN = [name for name in NAMES if not registry.get(name).extra]
SEVERITIES = [1, 2, 3, 4, 5]
SAMPLES = {"quick": 50, "standard": 134, "full": None}


@pytest.mark.parametrize("name", NAMES)
def test_corruption(clip, check, corruption_grid, name):
    data, correct = corruption_grid(name, SAMPLES[clip.config.profile])
    for severity, row in zip(SEVERITIES, correct, strict=True):
        figure = accuracy.accuracy_figure(row, bootstrap=clip.resampling(data))
        check(figure, perturbation=name, severity=severity)
    figures = corruption.corruption_figures(
        clip.correct(data), correct[None], [name], SEVERITIES, bootstrap=clip.resampling(data)
    )
    check(figures, perturbation=name)


def test_all(clip, check, corruption_grid):
    """The fifteen together, each and each severity weighing the same."""
    grids = [corruption_grid(name, SAMPLES[clip.config.profile]) for name in FIFTEEN]
    data = grids[0][0]
    figures = corruption.corruption_figures(
        clip.correct(data),
        np.stack([correct for _, correct in grids]),
        FIFTEEN,
        SEVERITIES,
        bootstrap=clip.resampling(data),
    )
    check(figures, perturbation="all_2d")

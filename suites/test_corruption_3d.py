"""3D common corruptions (Kar et al. 2022) at severities 1 to 5, against the same images clean.

Without depth (or without an encoder) a test is not run, and the summary says what to do.
"""

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
    "h265_crf",
    "h265_abr",
    "bit_error",
]
SEVERITIES = [1, 2, 3, 4, 5]
SAMPLES = {"quick": 50, "standard": 134, "full": None}
# The encoder takes longer than the model under test.
CODECS = ("h265_crf", "h265_abr", "bit_error")
CODEC_SAMPLES = {"quick": 50, "standard": 67, "full": None}


def samples_of(clip, name):
    """Return how many samples a corruption is measured on; None: all."""
    return (CODEC_SAMPLES if name in CODECS else SAMPLES)[clip.config.profile]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruption(clip, check, corruption_grid, name):
    data, correct = corruption_grid(name, samples_of(clip, name))
    for severity, row in zip(SEVERITIES, correct, strict=True):
        figure = accuracy.accuracy_figure(row, bootstrap=clip.resampling(data))
        check(figure, perturbation=name, severity=severity)
    figures = corruption.corruption_figures(
        clip.correct(data), correct[None], [name], SEVERITIES, bootstrap=clip.resampling(data)
    )
    check(figures, perturbation=name)


def test_all(clip, check, corruption_grid):
    """All corruptions together, each and each severity weighing the same, on the samples they share."""
    grids = [corruption_grid(name, samples_of(clip, name)) for name in CORRUPTIONS]
    data = min((data for data, _ in grids), key=len)
    figures = corruption.corruption_figures(
        clip.correct(data),
        np.stack([correct[:, : len(data)] for _, correct in grids]),
        CORRUPTIONS,
        SEVERITIES,
        bootstrap=clip.resampling(data),
    )
    check(figures, perturbation="all_3d")

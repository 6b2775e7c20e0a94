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
    "h265_crf",
    "h265_abr",
    "bit_error",
]
SEVERITIES = [1, 2, 3, 4, 5]
SAMPLES = {"quick": 100, "standard": 200, "full": None}
# The encoder takes longer than the model under test.
CODECS = ("h265_crf", "h265_abr", "bit_error")
CODEC_SAMPLES = {"quick": 50, "standard": 100, "full": None}


def grid(clip, name):
    """Return the data set and whether each sample is right at each severity, (S, N) bool.

    Without depth (or without an encoder) the test is not run, and the summary says what to do.
    """
    samples = CODEC_SAMPLES if name in CODECS else SAMPLES
    data = clip.dataset("clean", samples[clip.config.profile])
    return data, np.stack([clip.correct(data, name, severity) for severity in SEVERITIES])


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


def test_all(clip, check):
    """All corruptions together, each and each severity weighing the same, on the samples they share."""
    grids = [grid(clip, name) for name in CORRUPTIONS]
    data = min((data for data, _ in grids), key=len)
    figures = corruption.corruption_figures(
        clip.correct(data),
        np.stack([correct[:, : len(data)] for _, correct in grids]),
        CORRUPTIONS,
        SEVERITIES,
        bootstrap=clip.resampling(data),
    )
    check(figures, perturbation="all_3d")

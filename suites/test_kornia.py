"""Augmentations of kornia, by the names that ``[[perturbation]]`` tables of the threshold file give them."""

from __future__ import annotations

import pytest

from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.properties import accuracy

SAMPLES = {"quick": 100, "standard": 100, "full": None}


def test_kornia(clip, check):
    names = registry.names("kornia_adapter")
    if not names:
        pytest.skip("the threshold file has no [[perturbation]]; see docs/thresholds.md")
    data = clip.dataset("clean", SAMPLES[clip.config.profile])
    clean, bootstrap = clip.correct(data), clip.resampling(data)
    for name in names:
        for severity in range(1, len(registry.get(name).severities) + 1) or [None]:
            correct = clip.correct(data, name, severity)
            check(
                [
                    accuracy.accuracy_of(correct, bootstrap=bootstrap),
                    accuracy.accuracy_drop(clean, correct, bootstrap=bootstrap),
                ],
                perturbation=name,
                severity=severity,
            )

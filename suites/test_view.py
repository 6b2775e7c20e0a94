"""Changes of view: the camera turns, zooms or moves, and what it newly sees is filled in by depth."""

from __future__ import annotations

import pytest

from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.properties import accuracy

NAMES = [name for name in registry.names("depth") if name.startswith("view_")]
SEVERITIES = [1, 3, 5]
SAMPLES = {"quick": 50, "standard": 100, "full": None}


@pytest.mark.parametrize("name", NAMES)
def test_view(clip, check, name):
    data = clip.dataset("clean", SAMPLES[clip.config.profile])
    clean, bootstrap = clip.correct(data), clip.resampling(data)
    for severity in SEVERITIES:
        correct = clip.correct(data, name, severity)
        check(
            [
                accuracy.accuracy_of(correct, bootstrap=bootstrap),
                accuracy.accuracy_drop(clean, correct, bootstrap=bootstrap),
            ],
            perturbation=name,
            severity=severity,
        )

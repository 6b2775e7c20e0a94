"""Occlusion: a share of the object is hidden, by another object or by a plain patch."""

from __future__ import annotations

import pytest

from pytest_cliprobust.properties import accuracy

SEVERITIES = [1, 3, 5]
SAMPLES = {"quick": 100, "standard": 100, "full": None}


@pytest.mark.usefixtures("needs_embedded")
@pytest.mark.parametrize("name", ["occlusion", "patch_occlusion"])
def test_occlusion(clip, check, name):
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

"""Typographic attack (Goh et al. 2021): the name of another class, written on the image."""

from __future__ import annotations

from pytest_cliprobust import stress
from pytest_cliprobust.properties import accuracy

SEVERITIES = [1, 3, 5]
SAMPLES = {"quick": 100, "standard": 100, "full": None}


def test_typographic(clip, check):
    data = clip.dataset("clean", SAMPLES[clip.config.profile])
    clean, bootstrap = clip.correct(data), clip.resampling(data)
    for severity in SEVERITIES:
        correct = clip.correct(data, "typographic", severity)
        check(
            [
                accuracy.accuracy_of(correct, bootstrap=bootstrap),
                accuracy.accuracy_drop(clean, correct, bootstrap=bootstrap),
                stress.attack_success(clip, data, severity),
            ],
            perturbation="typographic",
            severity=severity,
        )

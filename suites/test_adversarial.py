"""Adversarial lower bound: APGD on the image, for the zero-shot head, with few steps.

Slow (each step is a forward and a backward pass): in the full profile, or with ``-m adversarial``.
"""

from __future__ import annotations

from pytest_cliprobust.search import stress

SAMPLES = {"quick": 32, "standard": 64, "full": 256}
STEPS = {"quick": 5, "standard": 10, "full": 20}
EPSILON = 1 / 255


def test_apgd(clip, check):
    profile = clip.config.profile
    data = clip.dataset("clean", SAMPLES[profile])
    figures = stress.adversarial_figures(clip, data, epsilon=EPSILON, steps=STEPS[profile])
    check(figures, perturbation="apgd")

"""Robustness frontier: the largest strength of each perturbation at which the accuracy drop is allowed.

The drop allowed is this suite's bound on ``accuracy_drop``, or half of the clean accuracy without one.
"""

from __future__ import annotations

from pytest_cliprobust.search import stress

FEW = ["gaussian_noise", "contrast", "fog_3d"]
MANY = [*FEW, "gaussian_blur", "brightness", "patch_occlusion", "near_focus", "texture_fill"]
NAMES = {"quick": FEW, "standard": FEW, "full": MANY}
SAMPLES = {"quick": 100, "standard": 100, "full": None}


def test_frontier(clip, check, name):
    data = clip.dataset("clean", SAMPLES[clip.config.profile])
    allowed = check.limit("accuracy_drop", perturbation=name)
    found = stress.frontier(clip, name, data, allowed=allowed)
    check(found.figure, perturbation=name, explain=found.explain)

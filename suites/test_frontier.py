"""Robustness frontier: the largest strength of each perturbation at which the accuracy drop is allowed.

The drop allowed is this suite's bound on ``accuracy_drop``, or half of the clean accuracy without one.
"""

from __future__ import annotations

from functools import partial

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.search import frontier

SECTION = "Visual factors", 11
FEW = ["gaussian_noise", "contrast", "fog_3d"]
MANY = [*FEW, "gaussian_blur", "brightness", "patch_occlusion", "near_focus", "texture_fill"]
NAMES = {"quick": ["contrast"], "standard": FEW, "full": MANY}
SAMPLES = {"quick": 64, "standard": 100, "full": None}


def test_frontier(clip: Evaluation, gate: Gate, limit: int | None, name: str) -> None:
    clean = clip.on("clean", limit=limit)
    found = frontier.frontier(clip, clean, name, allowed=partial(gate.limit, "accuracy_drop"))
    gate(found.figure, explain=found.explain)

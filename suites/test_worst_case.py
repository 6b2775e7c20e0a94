"""Worst case: the largest accuracy drop anywhere in a perturbation's envelope, found by Hypothesis.

The bound, ``max`` of ``worst_case_drop``, stands for "a drop of at most this for every parameter".
See docs/worst-case.md.
"""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.search import worst_case

SECTION = "Visual factors", 12
FEW = ["contrast", "saturate"]
MANY = [*FEW, "gaussian_blur", "patch_occlusion", "fog_3d", "near_focus", "typographic"]
NAMES = {"quick": ["saturate"], "standard": FEW, "full": MANY}
SAMPLES = {"quick": 96, "standard": 200, "full": None}
EXAMPLES = {"quick": 5, "standard": 15, "full": 60}


def test_worst_case(clip: Evaluation, gate: Gate, limit: int | None, name: str) -> None:
    clean = clip.on("clean", limit=limit)
    found = worst_case.worst_case_drop(clip, clean, name, examples=EXAMPLES[clip.config.profile])
    gate(found.figure, explain=found.explain)

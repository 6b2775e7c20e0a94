"""Adversarial lower bound: APGD on the image, for the zero-shot head, with few steps.

Slow (each step is a forward and a backward pass): in the full profile, or with ``-m adversarial``.
"""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.search import adversarial

SECTION = "Visual factors", 13
SAMPLES = {"quick": 32, "standard": 64, "full": 256}
STEPS = {"quick": 5, "standard": 10, "full": 20}
EPSILON = 1 / 255


def test_apgd(clip: Evaluation, gate: Gate, limit: int | None) -> None:
    clean = clip.on("clean", limit=limit)
    gate(
        *adversarial.adversarial_of(clip, clean, epsilon=EPSILON, steps=STEPS[clip.config.profile])
    )

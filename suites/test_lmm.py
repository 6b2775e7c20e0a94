"""Hard choices (Tu et al. 2025): does a multimodal model settle what its CLIP confuses?"""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import multimodal

SAMPLES = {"quick": 128, "standard": None, "full": None}


def test_hard_choices(clip: Evaluation, gate: Gate, lmm: str, limit: int | None) -> None:
    interviewer = clip.multimodal
    view = clip.on(lmm, limit=limit)
    choices = multimodal.hard_choices(view, clip.phrases)
    gate(multimodal.multimodal_of(view, choices, interviewer.answers(view, choices)))

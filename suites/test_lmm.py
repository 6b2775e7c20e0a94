"""Hard choices (Tu et al. 2025): does a multimodal model settle what its CLIP confuses?"""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import multimodal

SECTION = "In multimodal models"

#: How many are asked about. The pairs come of all samples: of a class with a single one, which the CLIP has
#: wrong, the CLIP would settle none.
SAMPLES = {"quick": 64, "standard": None, "full": None}


def test_hard_choices(clip: Evaluation, gate: Gate, lmm: str, limit: int | None) -> None:
    interviewer = clip.multimodal
    view = clip.on(lmm, limit=limit)
    choices = multimodal.hard_choices(view, clip.phrases, chosen_on=clip.on(lmm))
    gate(multimodal.multimodal_of(view, choices, interviewer.answers(view, choices)))

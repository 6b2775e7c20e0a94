"""Shape bias (Geirhos et al. 2019): which cue decides when shape and texture disagree.

As the pictures are, under corruptions, and with each prompt template alone.
"""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import shape_bias

SECTION = "Visual factors", 5
FEW = ["gaussian_noise", "gaussian_blur"]
MANY = [*FEW, "contrast", "jpeg_compression", "pixelate", "fog"]
NAMES = {"quick": ["gaussian_noise"], "standard": FEW, "full": MANY}
SEVERITIES = {"quick": [1, 3, 5], "standard": [1, 3, 5], "full": [1, 2, 3, 4, 5]}
SAMPLES = {"quick": 32, "standard": 160, "full": None}


def test_shape_bias(clip: Evaluation, gate: Gate, cue_conflict: str) -> None:
    gate(shape_bias.shape_bias_of(clip.on(cue_conflict)))


def test_corruption(
    clip: Evaluation, gate: Gate, limit: int | None, cue_conflict: str, name: str
) -> None:
    clean = clip.on(cue_conflict, limit=limit)
    for severity in SEVERITIES[clip.config.profile]:
        view = clip.on(cue_conflict, name, severity, limit=limit)
        gate(shape_bias.shape_bias_of(view), shape_bias.shape_bias_change(clean, view))


def test_prompts(clip: Evaluation, gate: Gate, cue_conflict: str) -> None:
    """Not the model's alone: how much of it the wording of the prompt decides."""
    view = clip.on(cue_conflict)
    gate(shape_bias.shape_bias_over_prompts(view, clip.under_each_template(view)))

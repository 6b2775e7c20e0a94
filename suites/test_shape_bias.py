"""Shape bias (Geirhos et al. 2019): which cue decides when shape and texture disagree."""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import shape_bias


def test_shape_bias(clip: Evaluation, gate: Gate, cue_conflict: str) -> None:
    gate(shape_bias.shape_bias_of(clip.on(cue_conflict)))

"""Out-of-distribution detection: near and far OOD apart; ID is the positive class throughout."""

from __future__ import annotations

import pytest

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import ood

scores = pytest.mark.parametrize("score", ood.SCORES)


@scores
def test_near_ood(clip: Evaluation, gate: Gate, near_ood: str, score: str) -> None:
    gate(ood.detection(clip.on("clean"), clip.on(near_ood), [score]))


@scores
def test_far_ood(clip: Evaluation, gate: Gate, far_ood: str, score: str) -> None:
    gate(ood.detection(clip.on("clean"), clip.on(far_ood), [score]))

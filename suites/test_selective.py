"""Knowing when to keep silent: selective prediction, abstention per class, and conformal sets.

Thresholds come from the calibration split and are then held fixed, under corruption and shift, too.
"""

from __future__ import annotations

import pytest

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.engine.view import View
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import selective

SECTION = "Safety", 3
PERTURBED = [(), ("fog_3d", 3), ("iso_noise", 3)]


@pytest.fixture(params=PERTURBED, ids=["clean", "fog_3d", "iso_noise"])
def view(request: pytest.FixtureRequest, clip: Evaluation, fewer: int | None) -> View:
    """The clean samples, as they are and under corruption."""
    return clip.on("clean", *request.param, limit=fewer if request.param else None)


def test_selective_prediction(gate: Gate, view: View) -> None:
    gate(selective.selective_of(view))


def test_abstention(clip: Evaluation, gate: Gate, calibration: str, view: View) -> None:
    gate(selective.abstention_of(view, clip.on(calibration)))


def test_conformal_sets(clip: Evaluation, gate: Gate, calibration: str, view: View) -> None:
    gate(selective.conformal_of(view, clip.on(calibration)))


def test_under_natural_shift(clip: Evaluation, gate: Gate, shift: str, calibration: str) -> None:
    view, known = clip.on(shift), clip.on(calibration)
    gate(selective.selective_of(view))
    gate(selective.abstention_of(view, known), selective.conformal_of(view, known))

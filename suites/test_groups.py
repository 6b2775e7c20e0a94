"""Subgroups: the worst group, the gap between groups, and whether their error rates are equal.

For accuracy, as the pictures are and under corruption, calibration, OOD detection, shape bias and retrieval;
over each column of the data that names subgroups (embedded: drawing style and super-category). Small groups
are named, and are no candidates for the worst.
"""

from __future__ import annotations

from functools import partial

import pytest

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import groups as properties

SECTION = "Visual factors", 3
CORRUPTED = [("fog_3d", 3), ("iso_noise", 3)]


def test_accuracy(clip: Evaluation, gate: Gate, groups: str) -> None:
    view = clip.on(groups)
    gate(properties.over_columns(view, partial(properties.accuracy_over, view)))


@pytest.mark.parametrize("corrupted", CORRUPTED, ids=["fog_3d", "iso_noise"])
def test_under_corruption(
    clip: Evaluation, gate: Gate, groups: str, fewer: int | None, corrupted: tuple[str, int]
) -> None:
    view = clip.on(groups, *corrupted, limit=fewer)
    gate(properties.over_columns(view, partial(properties.accuracy_over, view)))


def test_calibration(clip: Evaluation, gate: Gate, groups: str) -> None:
    view = clip.on(groups)
    gate(properties.over_columns(view, partial(properties.calibration_over, view)))


def test_near_ood(clip: Evaluation, gate: Gate, groups: str, near_ood: str) -> None:
    """Each group of ID pictures against all OOD ones."""
    view = clip.on(groups)
    measure = partial(properties.detection_over, view, clip.on(near_ood))
    gate(properties.over_columns(view, measure))


def test_far_ood(clip: Evaluation, gate: Gate, groups: str, far_ood: str) -> None:
    view = clip.on(groups)
    measure = partial(properties.detection_over, view, clip.on(far_ood))
    gate(properties.over_columns(view, measure))


def test_shape_bias(clip: Evaluation, gate: Gate, cue_conflict: str) -> None:
    view = clip.on(cue_conflict)
    gate(properties.over_columns(view, partial(properties.shape_bias_over, view)))


def test_retrieval(clip: Evaluation, gate: Gate, retrieval: str) -> None:
    view = clip.on(retrieval)
    gate(properties.over_columns(view, partial(properties.retrieval_over, view)))

"""Occlusion: a share of the object is hidden, by another object or by a plain patch.

Where the data does not say where the object is, the patch hides a share of the picture; another object
to hide it with comes with the embedded benchmark only.
"""

from __future__ import annotations

import pytest

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import accuracy

SECTION = "Visual factors", 10
OCCLUDERS = ["occlusion", "patch_occlusion"]
SEVERITIES = {"quick": [3], "standard": [1, 3, 5], "full": [1, 3, 5]}
SAMPLES = {"quick": 32, "standard": 100, "full": None}
#: Name of all of them together, each sample under one of them.
MIXED = "mixed_occlusion"


@pytest.mark.parametrize("occluder", OCCLUDERS)
def test_occlusion(clip: Evaluation, gate: Gate, limit: int | None, occluder: str) -> None:
    clean = clip.on("clean", limit=limit)
    for severity in SEVERITIES[clip.config.profile]:
        view = clip.on("clean", occluder, severity, limit=limit)
        gate(accuracy.accuracy_of(view), accuracy.accuracy_drop(clean, view))


def test_mixed(clip: Evaluation, gate: Gate, mixed_limit: int | None) -> None:
    """Their mean by more samples: each under one of the two at one severity, drawn by its id."""
    conditions = [(name, severity) for name in OCCLUDERS for severity in SEVERITIES["full"]]
    view = clip.mixed("clean", conditions, name=MIXED, limit=mixed_limit)
    gate(
        accuracy.accuracy_of(view),
        accuracy.accuracy_drop(clip.on("clean", limit=mixed_limit), view),
    )

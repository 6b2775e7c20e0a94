"""Changes of view: the camera turns, zooms or moves, and what it newly sees is filled in by depth."""

from __future__ import annotations

import pytest

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import accuracy

CHANGES = registry.names("view")
SEVERITIES = [1, 3, 5]
SAMPLES = {"quick": 50, "standard": 100, "full": None}


@pytest.mark.parametrize("change", CHANGES)
def test_view(clip: Evaluation, gate: Gate, limit: int | None, change: str) -> None:
    clean = clip.on("clean", limit=limit)
    for severity in SEVERITIES:
        view = clip.on("clean", change, severity, limit=limit)
        gate(accuracy.accuracy_of(view), accuracy.accuracy_drop(clean, view))

"""Changes of view: the camera turns, zooms or moves, and what it newly sees is filled in by depth."""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import accuracy

SECTION = "3D awareness", 2
EVERY = list(registry.names("view"))
NAMES = {"quick": ["view_yaw"], "standard": EVERY, "full": EVERY}
SEVERITIES = {"quick": [3], "standard": [1, 3, 5], "full": [1, 3, 5]}
SAMPLES = {"quick": 32, "standard": 100, "full": None}
#: Name of all of them together, each sample under one of them.
MIXED = "mixed_view"


def test_view(clip: Evaluation, gate: Gate, limit: int | None, name: str) -> None:
    clean = clip.on("clean", limit=limit)
    for severity in SEVERITIES[clip.config.profile]:
        view = clip.on("clean", name, severity, limit=limit)
        gate(accuracy.accuracy_of(view), accuracy.accuracy_drop(clean, view))


def test_mixed(clip: Evaluation, gate: Gate, mixed_limit: int | None) -> None:
    """Their mean by more samples: each under one change of view at one severity, drawn by its id."""
    conditions = [(name, severity) for name in EVERY for severity in SEVERITIES["full"]]
    view = clip.mixed("clean", conditions, name=MIXED, limit=mixed_limit)
    gate(
        accuracy.accuracy_of(view),
        accuracy.accuracy_drop(clip.on("clean", limit=mixed_limit), view),
    )

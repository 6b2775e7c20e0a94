"""2D common corruptions (Hendrycks & Dietterich 2019) at severities 1 to 5, against the same images clean.

Means are over the fifteen that the benchmark's own mean is over; its four extra ones stand apart.
"""

from __future__ import annotations

import pytest

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import accuracy, corruption, corruption_error

SECTION = "Visual factors", 6
pytestmark = pytest.mark.corruption

CORRUPTIONS = registry.names("common")
FIFTEEN = [name for name in CORRUPTIONS if not registry.get(name).extra]
NAMES = {"quick": FIFTEEN, "standard": list(CORRUPTIONS), "full": list(CORRUPTIONS)}
SEVERITIES = [1, 2, 3, 4, 5]
SAMPLES = {"quick": 32, "standard": 134, "full": None}
#: Name of all of them together, each sample under one of them.
MIXED = "mixed_2d"


def test_corruption(clip: Evaluation, gate: Gate, limit: int | None, name: str) -> None:
    views = [clip.on("clean", name, severity, limit=limit) for severity in SEVERITIES]
    gate(
        [accuracy.accuracy_of(view) for view in views],
        corruption.corruption_of(clip.on("clean", limit=limit), views),
    )


def test_all(clip: Evaluation, gate: Gate, limit: int | None) -> None:
    """The fifteen together, each and each severity weighing the same."""
    views = [clip.on("clean", name, s, limit=limit) for name in FIFTEEN for s in SEVERITIES]
    gate(corruption.corruption_of(clip.on("clean", limit=limit), views, name="all_2d"))


def test_corruption_error(clip: Evaluation, gate: Gate, limit: int | None) -> None:
    """Relative to the errors of a reference model on the same data (embedded: the fleet's base)."""
    views = [clip.on("clean", name, s, limit=limit) for name in FIFTEEN for s in SEVERITIES]
    clean = clip.on("clean", limit=limit)
    gate(corruption_error.corruption_error_of(clean, views, name="all_2d"))


def test_mixed(clip: Evaluation, gate: Gate, mixed_limit: int | None) -> None:
    """Their mean by more samples: each under one of the fifteen at one severity, drawn by its id."""
    conditions = [(name, severity) for name in FIFTEEN for severity in SEVERITIES]
    view = clip.mixed("clean", conditions, name=MIXED, limit=mixed_limit)
    gate(
        accuracy.accuracy_of(view),
        accuracy.accuracy_drop(clip.on("clean", limit=mixed_limit), view),
    )

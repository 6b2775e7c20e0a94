"""Augmentations of kornia, by the names that ``[[perturbation]]`` tables of the threshold file give them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import accuracy

SECTION = "Visual factors", 8
SAMPLES = {"quick": 32, "standard": 100, "full": None}
#: Name of all of them together, each sample under one of them.
MIXED = "mixed_kornia"


Conditions = Sequence[tuple[str, int | None]]


@pytest.fixture
def conditions(clip: Evaluation) -> Conditions:
    """Every augmentation of the threshold file, at each of its severities."""
    names = registry.names("kornia_adapter")
    if not names:
        pytest.skip("the threshold file has no [[perturbation]]; see docs/thresholds.md")
    found: list[tuple[str, int | None]] = []
    for name in names:
        steps: Sequence[int | None] = range(1, len(registry.get(name).severities) + 1) or [None]
        found += [(name, severity) for severity in steps]
    return found


def test_kornia(clip: Evaluation, gate: Gate, limit: int | None, conditions: Conditions) -> None:
    clean = clip.on("clean", limit=limit)
    for name, severity in conditions:
        view = clip.on("clean", name, severity, limit=limit)
        gate(accuracy.accuracy_of(view), accuracy.accuracy_drop(clean, view))


def test_mixed(
    clip: Evaluation, gate: Gate, mixed_limit: int | None, conditions: Conditions
) -> None:
    """Their mean by more samples: each under one augmentation, drawn by its id."""
    view = clip.mixed("clean", conditions, name=MIXED, limit=mixed_limit)
    gate(
        accuracy.accuracy_of(view),
        accuracy.accuracy_drop(clip.on("clean", limit=mixed_limit), view),
    )

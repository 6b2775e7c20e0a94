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


def test_kornia(clip: Evaluation, gate: Gate, limit: int | None) -> None:
    names = registry.names("kornia_adapter")
    if not names:
        pytest.skip("the threshold file has no [[perturbation]]; see docs/thresholds.md")
    clean = clip.on("clean", limit=limit)
    for name in names:
        steps: Sequence[int | None] = range(1, len(registry.get(name).severities) + 1) or [None]
        for severity in steps:
            view = clip.on("clean", name, severity, limit=limit)
            gate(accuracy.accuracy_of(view), accuracy.accuracy_drop(clean, view))

"""Resampling: other filters, no antialias, a thumbnail, less colour, another decoder, wrong proportions.

What people hardly see; vision-language models do (VLM-RobustBench 2026). Against the same images clean.
"""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import accuracy, corruption

SECTION = "Visual factors", 9
EVERY = list(registry.names("resampling"))
NAMES = {"quick": ["aspect_squash"], "standard": EVERY, "full": EVERY}
SEVERITIES = [1, 3, 5]
SAMPLES = {"quick": 32, "standard": 50, "full": None}
#: Name of all of them together, each sample under one of them.
MIXED = "mixed_resampling"


def test_resampling(clip: Evaluation, gate: Gate, limit: int | None, name: str) -> None:
    views = [clip.on("clean", name, severity, limit=limit) for severity in SEVERITIES]
    gate(
        [accuracy.accuracy_of(view) for view in views],
        corruption.corruption_of(clip.on("clean", limit=limit), views),
    )


def test_mixed(clip: Evaluation, gate: Gate, mixed_limit: int | None) -> None:
    """Their mean by more samples: each under one of them at one severity, drawn by its id."""
    conditions = [(name, severity) for name in EVERY for severity in SEVERITIES]
    view = clip.mixed("clean", conditions, name=MIXED, limit=mixed_limit)
    gate(
        accuracy.accuracy_of(view),
        accuracy.accuracy_drop(clip.on("clean", limit=mixed_limit), view),
    )

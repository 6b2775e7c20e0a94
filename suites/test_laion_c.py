"""LAION-C's six distortions (Li et al. 2025), which web-scale training data holds nothing like.

Against the same images clean. The published benchmark tells sixteen superclasses apart; here it is the data
set's own classes, as everywhere.
"""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import accuracy, corruption

SECTION = "Visual factors", 7
SEVERITIES = [1, 3, 5]
SAMPLES = {"quick": 32, "standard": 50, "full": None}
DISTORTIONS = list(registry.names("laion_c"))
#: The six together, each and each severity weighing the same.
ALL = "all_laion_c"
#: Name of all of them together, each sample under one of them.
MIXED = "mixed_laion_c"
NAMES = {
    "quick": ["mosaic"],
    "standard": [*DISTORTIONS, ALL],
    "full": [*DISTORTIONS, ALL],
}


def test_distortion(clip: Evaluation, gate: Gate, limit: int | None, name: str) -> None:
    clean = clip.on("clean", limit=limit)
    distortions = DISTORTIONS if name == ALL else [name]
    views = [clip.on("clean", kind, s, limit=limit) for kind in distortions for s in SEVERITIES]
    if name == ALL:
        gate(corruption.corruption_of(clean, views, name=ALL))
    else:
        gate([accuracy.accuracy_of(view) for view in views], corruption.corruption_of(clean, views))


def test_mixed(clip: Evaluation, gate: Gate, mixed_limit: int | None) -> None:
    """Their mean by more samples: each under one distortion at one severity, drawn by its id."""
    conditions = [(name, severity) for name in DISTORTIONS for severity in SEVERITIES]
    view = clip.mixed("clean", conditions, name=MIXED, limit=mixed_limit)
    gate(
        accuracy.accuracy_of(view),
        accuracy.accuracy_drop(clip.on("clean", limit=mixed_limit), view),
    )

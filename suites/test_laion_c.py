"""LAION-C's six distortions (Li et al. 2025), which web-scale training data holds nothing like.

Against the same images clean. The published benchmark tells sixteen superclasses apart; here it is the data
set's own classes, as everywhere.
"""

from __future__ import annotations

import pytest

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import accuracy, corruption

SEVERITIES = [1, 3, 5]
SAMPLES = {"quick": 32, "standard": 50, "full": None}
DISTORTIONS = registry.names("laion_c")


@pytest.mark.parametrize("distorted", DISTORTIONS)
def test_distortion(clip: Evaluation, gate: Gate, limit: int | None, distorted: str) -> None:
    views = [clip.on("clean", distorted, severity, limit=limit) for severity in SEVERITIES]
    gate(
        [accuracy.accuracy_of(view) for view in views],
        corruption.corruption_of(clip.on("clean", limit=limit), views),
    )


def test_all(clip: Evaluation, gate: Gate, limit: int | None) -> None:
    """The six together, each and each severity weighing the same."""
    views = [clip.on("clean", name, s, limit=limit) for name in DISTORTIONS for s in SEVERITIES]
    gate(corruption.corruption_of(clip.on("clean", limit=limit), views, name="all_laion_c"))

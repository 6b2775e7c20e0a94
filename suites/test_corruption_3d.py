"""3D common corruptions (Kar et al. 2022) at severities 1 to 5, against the same images clean.

Without depth (or without an encoder) a test is not run, and the summary says what to do.
"""

from __future__ import annotations

import pytest

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.engine.view import View
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import accuracy, corruption

SECTION = "3D awareness", 1
pytestmark = pytest.mark.corruption

CODECS = registry.names("codec")
CORRUPTIONS = (*registry.names("depth"), *CODECS)
SEVERITIES = [1, 2, 3, 4, 5]
SAMPLES = {"quick": 32, "standard": 134, "full": None}
# The encoder takes longer than the model under test.
CODEC_SAMPLES = {"quick": 16, "standard": 67, "full": None}
#: Name of all of them together, each sample under one of them.
MIXED = "mixed_3d"


def views_of(clip: Evaluation, name: str) -> list[View]:
    """Return the clean set under a corruption, one view for each severity."""
    limit = (CODEC_SAMPLES if name in CODECS else SAMPLES)[clip.config.profile]
    return [clip.on("clean", name, severity, limit=limit) for severity in SEVERITIES]


@pytest.mark.parametrize("corrupted", CORRUPTIONS)
def test_corruption(clip: Evaluation, gate: Gate, limit: int | None, corrupted: str) -> None:
    views = views_of(clip, corrupted)
    gate(
        [accuracy.accuracy_of(view) for view in views],
        corruption.corruption_of(clip.on("clean", limit=limit), views),
    )


def test_all(clip: Evaluation, gate: Gate, limit: int | None) -> None:
    """All corruptions together, each and each severity weighing the same, on the samples they share."""
    views = [view for name in CORRUPTIONS for view in views_of(clip, name)]
    gate(corruption.corruption_of(clip.on("clean", limit=limit), views, name="all_3d"))


def test_mixed(clip: Evaluation, gate: Gate, mixed_limit: int | None) -> None:
    """Their mean by more samples: each under one corruption at one severity, drawn by its id."""
    conditions = [(name, severity) for name in CORRUPTIONS for severity in SEVERITIES]
    view = clip.mixed("clean", conditions, name=MIXED, limit=mixed_limit)
    gate(
        accuracy.accuracy_of(view),
        accuracy.accuracy_drop(clip.on("clean", limit=mixed_limit), view),
    )

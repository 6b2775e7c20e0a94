"""Without labels: what perturbations do to answers and features, and where a baseline model disagrees.

For a folder of production pictures; the label set is that of the role ``clean``. On the embedded benchmark
the clean pictures are taken, and nobody looks at their labels.
"""

from __future__ import annotations

import pytest

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import unlabelled as properties

SECTION = "Safety", 4

#: Every corruption at the middle severity, on as many samples as the corruption suites take.
CODECS = registry.names("codec")
PERTURBATIONS = [name for f in ("common", "depth", "codec") for name in registry.names(f)]
SEVERITY = 3
SAMPLES = {"quick": 32, "standard": 134, "full": None}
CODEC_SAMPLES = {"quick": 16, "standard": 67, "full": None}


@pytest.mark.parametrize("perturbation", PERTURBATIONS)
def test_perturbed(clip: Evaluation, gate: Gate, unlabelled: str, perturbation: str) -> None:
    limit = (CODEC_SAMPLES if perturbation in CODECS else SAMPLES)[clip.config.profile]
    changed = clip.on(unlabelled, perturbation, SEVERITY, limit=limit)
    gate(properties.perturbed_of(clip.on(unlabelled, limit=limit), changed))


def test_against_a_baseline_model(
    clip: Evaluation, clip_against: Evaluation, gate: Gate, unlabelled: str
) -> None:
    """With ``--clip-against MODEL``: on how many pictures the two disagree."""
    gate(properties.between_models(clip_against.on(unlabelled), clip.on(unlabelled)))

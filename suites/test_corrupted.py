"""Pictures corrupted by others (ImageNet-C, ImageNet-3DCC), as published: each corruption and severity apart.

Where the clean pictures are those that they were made of, each is compared with its own. Means are over all
corruptions and severities. Where all of a benchmark is there, errors are also set in relation to those of its
reference model (mCE).
"""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import corrupted as properties
from pytest_cliprobust.properties import corruption_error


def test_corrupted(clip: Evaluation, gate: Gate, corrupted: str) -> None:
    gate(properties.corrupted_of(clip.on("clean"), clip.on(corrupted)))


def test_corrupted_mean(clip: Evaluation, gate: Gate, corrupted: str) -> None:
    gate(properties.means_over(clip.on("clean"), clip.on(corrupted)))


def test_corruption_error(clip: Evaluation, gate: Gate, corrupted: str) -> None:
    """Relative to AlexNet's published errors on ImageNet-C; not run where no model's are known."""
    gate(corruption_error.corruption_error_in(clip.on("clean"), clip.on(corrupted)))

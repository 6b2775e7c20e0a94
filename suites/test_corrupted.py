"""Pictures corrupted by others (ImageNet-C, ImageNet-3DCC), as published: each corruption and severity apart.

Where the clean pictures are those that they were made of, each is compared with its own.
"""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import corrupted as properties


def test_corrupted(clip: Evaluation, gate: Gate, corrupted: str) -> None:
    gate(properties.corrupted_of(clip.on("clean"), clip.on(corrupted)))

"""Zero-shot retrieval between images and captions, both ways; and with captions that are said otherwise."""

from __future__ import annotations

import pytest

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import captions
from pytest_cliprobust.properties import retrieval as properties

SECTION = "Image and text", 1


def test_retrieval(clip: Evaluation, gate: Gate, retrieval: str) -> None:
    gate(properties.retrieval_of(clip.on(retrieval)))


@pytest.mark.parametrize("change", captions.CHANGES)
def test_captions(clip: Evaluation, gate: Gate, retrieval: str, change: str) -> None:
    """Typing mistakes and paraphrases: what each caption finds then, against what it found."""
    gate(captions.caption_drop(clip.on(retrieval), change))

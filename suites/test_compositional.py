"""Compositional understanding: a true caption against false ones of nearly the same words."""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import compositional as properties

SECTION = "Image and text", 2


def test_choices(clip: Evaluation, gate: Gate, compositional: str) -> None:
    """By kind: relation, swap, object, attribute, order, negation; or what the data calls them."""
    gate(properties.choices_of(clip.on(compositional)))


def test_matching(clip: Evaluation, gate: Gate, compositional: str) -> None:
    """Two images, two captions (Winoground): not run where the data has no such pairs."""
    gate(properties.matching_of(clip.on(compositional)))

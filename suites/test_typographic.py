"""Typographic attack (Goh et al. 2021): the name of another class, written on the image."""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import accuracy
from pytest_cliprobust.properties import typographic as properties

SECTION = "Image and text", 4
SEVERITIES = {"quick": [3], "standard": [1, 3, 5], "full": [1, 3, 5]}
SAMPLES = {"quick": 32, "standard": 100, "full": None}
#: Name of all of them together, each sample under one of them.
MIXED = "mixed_typographic"


def test_typographic(clip: Evaluation, gate: Gate, limit: int | None) -> None:
    clean = clip.on("clean", limit=limit)
    for severity in SEVERITIES[clip.config.profile]:
        view = clip.on("clean", "typographic", severity, limit=limit)
        gate(
            accuracy.accuracy_of(view),
            accuracy.accuracy_drop(clean, view),
            properties.attack_success(clean, view),
        )


def test_written(clip: Evaluation, gate: Gate, typographic: str) -> None:
    """On pictures with the word already on them; each variant of these apart (SCAM's, ``scam:NoSCAM``)."""
    view = clip.on(typographic)
    variants = [view.where(properties.VARIANT, v) for v in view.values(properties.VARIANT)]
    for part in variants or [view]:
        gate(
            accuracy.accuracy_of(part),
            properties.written_success(part),
            properties.label_over_word(part),
        )


def test_mixed(clip: Evaluation, gate: Gate, mixed_limit: int | None) -> None:
    """Their mean by more samples: each under one severity, drawn by its id."""
    conditions = [("typographic", severity) for severity in SEVERITIES["full"]]
    view = clip.mixed("clean", conditions, name=MIXED, limit=mixed_limit)
    gate(
        accuracy.accuracy_of(view),
        accuracy.accuracy_drop(clip.on("clean", limit=mixed_limit), view),
    )

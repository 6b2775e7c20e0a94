"""Captions and prompt templates of the embedded benchmark; ``{}`` takes "a dog", "an ant" …"""

from __future__ import annotations

EMBEDDED_TEMPLATES: tuple[str, ...] = (
    "a drawing of {}.",
    "an icon of {}.",
    "a picture of {}.",
    "an image of {}.",
    "an illustration of {}.",
    "{}.",
    "a cartoon of {}.",
    "clip art of {}.",
)
"""Templates of the zero-shot head on embedded data."""

TRAINING_TEMPLATES: tuple[str, ...] = (
    *EMBEDDED_TEMPLATES,
    "a sketch of {}.",
    "this is {}.",
    "there is {} in the scene.",
    "a photo of {}.",
)
"""Templates that captions are drawn from in training."""

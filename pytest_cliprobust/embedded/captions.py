"""Captions and prompt templates of the embedded benchmark; ``{}`` takes "a dog", "an ant" …

No dependency beyond the standard library: the trainer and the documentation read this too.
"""

from __future__ import annotations

import hashlib

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

CAPTION_TEMPLATES: tuple[str, ...] = (
    "a drawing of {}.",
    "a picture of {}.",
    "an illustration of {}.",
    "there is {} in the scene.",
    "this is {}.",
    "a cartoon of {}.",
    "an image of {}.",
    "clip art of {}.",
)
"""Templates of the captions of evaluation samples."""


def phrase(article: str, label: str) -> str:
    """Return what fills a template: ``phrase("a pair of", "skis")`` is ``"a pair of skis"``."""
    return f"{article} {label}".strip()


def captions(sample: str, filler: str, count: int = 5) -> tuple[str, ...]:
    """Return ``count`` different captions of a sample, the same ones every time.

    Five captions an image is what Flickr30k and MS-COCO have.

    Args:
        sample: the sample's id; which templates are used, and their order, is a hash of it.
        filler: what the picture shows, e.g. ``"a dog"``.
        count: at most ``len(CAPTION_TEMPLATES)``.

    Raises:
        ValueError: more captions are wanted than there are templates.
    """
    if not 0 <= count <= len(CAPTION_TEMPLATES):
        raise ValueError(f"between 0 and {len(CAPTION_TEMPLATES)} captions, not {count}")

    return tuple(template.replace("{}", filler) for template in ordered_templates(sample)[:count])


def ordered_templates(sample: str) -> tuple[str, ...]:
    """Return the templates of captions in an order that is a hash of the sample's id."""

    def rank(template: str) -> bytes:
        return hashlib.blake2b(f"{sample}\0{template}".encode(), digest_size=8).digest()

    return tuple(sorted(CAPTION_TEMPLATES, key=rank))


def caption(sample: str, filler: str) -> str:
    """Return the first of :func:`captions`."""
    return captions(sample, filler, 1)[0]

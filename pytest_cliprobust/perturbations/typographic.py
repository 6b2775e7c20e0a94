"""Typographic attack: a written word on the image.

CLIP reads. Goh et al. (2021, "Multimodal neurons in artificial neural networks", Distill) labelled an
apple "iPod" and CLIP saw an iPod; Materzynska et al. (2022, "Disentangling visual and written concepts
in CLIP") and Azuma & Matsui (2023, "Defense-Prefix") measure it by writing the name of another class
on the images (letters of 20 to 40 pixels at 224). Glyphs are drawn once, on the CPU, into a texture
(:func:`render_text`); laying them over images is a batched operation on the device.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.perturbations import lettering, random
from pytest_cliprobust.perturbations.filters import in_small_batches
from pytest_cliprobust.perturbations.occlusion import (
    paste,
    prefilter,
    premultiplied,
    sticker_grid,
)
from pytest_cliprobust.perturbations.registry import register

Colour = tuple[int, int, int]

# Where the rows of copies stand, cyclically, from the first: three are spread evenly, the next ones go
# between them, and none moves when another joins.
_ROWS = (0.0, 1 / 3, 2 / 3, 1 / 6, 1 / 2, 5 / 6, 1 / 12, 7 / 12)
# A word is fitted into a box this many times wider than high.
_BOX_ASPECT = 2.0


def _lines(text: str, longest: int) -> list[str]:
    """Return ``text`` broken at blanks into lines of at most ``longest`` letters where it can be."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= longest:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines or [""]


@functools.lru_cache(maxsize=4)
def _boxes(
    texts: tuple[str, ...], height: int, font: str | None, rim: int
) -> tuple[tuple[float, float, float, float], ...]:
    """Return the bounding box of each text: measured once for all batches of a data set."""
    from PIL import Image, ImageDraw

    probe = ImageDraw.Draw(Image.new("L", (1, 1)))
    face = lettering.face(height, font)
    return tuple(
        probe.multiline_textbbox((0, 0), text, font=face, align="center", stroke_width=rim)
        for text in texts
    )


def render_text(
    strings: Sequence[str],
    height: int = 48,
    font: str | Path | None = None,
    *,
    ink: Colour = (0, 0, 0),
    outline: Colour | None = (255, 255, 255),
    card: Colour | None = None,
    line_length: int = 14,
    rows: Sequence[int] | None = None,
) -> Tensor:
    """Return stickers (N, 4, h, w), RGBA with straight alpha in [0, 1], float32 on the CPU.

    Every sticker has the same size (that of the largest), its text centred. Whoever has many names
    passes them all, and ``rows`` for those of one batch.

    Args:
        strings: the texts; long ones are broken at blanks.
        height: font size in pixels; about twice the height that the letters shall have on the image.
        font: a TrueType/OpenType file; by default the font that Pillow carries (Aileron, CC0; Latin
            letters only). :func:`~pytest_cliprobust.perturbations.lettering.font_for` finds one with the
            letters.
        ink: colour of the letters, 0 to 255.
        outline: colour of a rim around the letters that keeps them legible on any ground, or None.
        card: colour of a card behind the letters, as with Goh's paper labels, or None.
        line_length: break lines longer than this many letters.
        rows: render only these, in the size that all of ``strings`` need; by default all.

    Raises:
        ClipRobustError: no text, or the font cannot be read.
    """
    from PIL import Image, ImageDraw

    if not strings or any(not text.strip() for text in strings):
        raise ClipRobustError(
            "render_text got an empty text; give each sticker at least one letter"
        )
    face = lettering.face(height, None if font is None else str(font))
    rim = max(1, height // 12) if outline is not None else 0
    pad = rim + 2 + (height // 4 if card is not None else 0)
    texts = ["\n".join(_lines(text, line_length)) for text in strings]
    boxes = _boxes(tuple(texts), height, None if font is None else str(font), rim)
    full_width = math.ceil(max(box[2] - box[0] for box in boxes)) + 2 * pad
    full_height = math.ceil(max(box[3] - box[1] for box in boxes)) + 2 * pad
    chosen = range(len(texts)) if rows is None else rows
    stickers = torch.empty((len(chosen), 4, full_height, full_width))
    for row, index in enumerate(chosen):
        text, box = texts[index], boxes[index]
        ground = card or outline or ink
        picture = Image.new("RGBA", (full_width, full_height), (*ground, 0))
        draw = ImageDraw.Draw(picture)
        left = (full_width - (box[2] - box[0])) / 2
        top = (full_height - (box[3] - box[1])) / 2
        if card is not None:
            draw.rectangle(
                (left - pad, top - pad, full_width - left + pad, full_height - top + pad),
                fill=(*card, 255),
            )
        draw.multiline_text(
            (left - box[0], top - box[1]),
            text,
            font=face,
            fill=(*ink, 255),
            align="center",
            stroke_width=rim,
            stroke_fill=None if outline is None else (*outline, 255),
        )
        pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        stickers[row] = pixels.reshape(full_height, full_width, 4).permute(2, 0, 1) / 255
    return stickers


def distractors(
    ids: Sequence[str], labels: Sequence[int], class_names: Sequence[str], seed: int
) -> list[int]:
    """Return for each sample the index of a class with another name, which the attack shall write.

    The choice depends on the sample's id and the seed alone. Names are compared, not indices: two
    classes may share one ("crane"). Samples without a class (label -1) take any class.

    Raises:
        ClipRobustError: all classes have the same name.
    """
    if len(set(class_names)) < 2:
        raise ClipRobustError(
            "a typographic attack needs at least two different class names; this data set has "
            f"{len(set(class_names))}"
        )
    chosen = []
    for sample, label in zip(ids, labels, strict=True):
        digest = hashlib.blake2b(f"{seed}\0distractor\0{sample}".encode(), digest_size=8).digest()
        own = class_names[label] if label >= 0 else None
        others = [index for index, name in enumerate(class_names) if name != own]
        chosen.append(others[int.from_bytes(digest, "little") % len(others)])
    return chosen


def _extent(alpha: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return first and last index (B,), as floats, of what is not transparent along an axis."""
    present = (alpha.amax(dim=dim) > 0.1).to(torch.int32)
    count = present.shape[1]
    first = present.argmax(dim=1)
    last = count - 1 - present.flip(1).argmax(dim=1)
    return first.to(torch.float32), last.to(torch.float32)


@register(
    severities=(
        {"size": 0.2, "copies": 1.0, "contrast": 0.7},
        {"size": 0.3, "copies": 1.0, "contrast": 0.85},
        {"size": 0.4, "copies": 1.0, "contrast": 1.0},
        {"size": 0.4, "copies": 2.0, "contrast": 1.0},
        {"size": 0.5, "copies": 3.0, "contrast": 1.0},
    ),
    envelope={"size": (0.1, 0.8), "copies": (1.0, 4.0), "contrast": (0.0, 1.0)},
    inputs=("seeds", "text"),
    source="Goh et al. 2021; Materzynska et al. 2022; letters within the 20 to 40 pixels at 224 of "
    "Azuma & Matsui 2023; the five steps are ours",
)
@in_small_batches
def typographic(
    images: Tensor,
    *,
    size: float,
    copies: float = 1.0,
    contrast: float = 1.0,
    seeds: Tensor,
    text: Tensor,
) -> Tensor:
    """Write a word on the image.

    The word's tight box is fitted into one of ``size`` times the image's width, and half of that
    in height, at a seeded place inside the image, tilted by up to 8 degrees. Further copies spread
    over the height; a fraction of a copy (2.4) is a copy of that opacity, so that the scale is
    continuous.

    Args:
        images: (B, 3, H, W) in [0, 1].
        size: width of the box relative to the image's, 0 to 1.
        copies: number of times the word is written, 1 to 8.
        contrast: opacity of the writing, 0 to 1; 0 is the identity.
        seeds: (B,) int64.
        text: (B, 4, h, w) RGBA stickers, straight alpha, in [0, 1], as of :func:`render_text`.

    Raises:
        ClipRobustError: more than 8 copies.
    """
    if contrast <= 0 or size <= 0 or copies <= 0:
        return images
    if copies > len(_ROWS):
        raise ClipRobustError(f"typographic: copies={copies:g}, but {len(_ROWS)} is the most")
    height, width = images.shape[-2:]
    dtype = images.dtype
    stickers = premultiplied(text, dtype)
    left, right = _extent(stickers[:, 3].to(torch.float32), 1)
    top, bottom = _extent(stickers[:, 3].to(torch.float32), 2)
    wide, high = right - left + 1, bottom - top + 1
    anchor = torch.stack((left + right + 1, top + bottom + 1), dim=1) * 0.5
    box = size * width
    scale = torch.minimum(box / wide, box / _BOX_ASPECT / high)
    stickers = prefilter(stickers, scale.to(dtype))
    draws = random.uniform(seeds, (2,), stream=10)
    mirror = torch.ones_like(scale)
    # The word may touch the rim but not leave the image; one larger than the image is centred.
    reach_x = (width - scale * wide).clamp(min=0)
    reach_y = (height - scale * high).clamp(min=0)
    result = images
    for copy in range(math.ceil(copies)):
        place = random.uniform(seeds, (2,), stream=11 + copy)
        row = draws[:, 0] + _ROWS[copy]
        row = row - row.floor()
        x = width * 0.5 + (place[:, 0] - 0.5) * reach_x
        y = height * 0.5 + (row - 0.5) * reach_y
        tilt = (place[:, 1] - 0.5) * 0.14  # tangent of half an angle of up to 8 degrees
        grid = sticker_grid(
            size=(height, width),
            sticker_size=(stickers.shape[2], stickers.shape[3]),
            centre=torch.stack((x, y), dim=1).to(dtype),
            anchor=anchor.to(dtype),
            half_tangent=tilt.to(dtype),
            mirror=mirror.to(dtype),
        )
        opacity = contrast * min(1.0, copies - copy)
        result = paste(result, stickers, grid.at(scale.to(dtype)), opacity)
    return result

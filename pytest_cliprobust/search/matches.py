"""Pictures of matches: two views side by side, with a line for each match, right or wrong."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from pytest_cliprobust.datasets.subset import load_pairs, whole_of
from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.engine.view import View
from pytest_cliprobust.figures.arrays import Bools, Floats
from pytest_cliprobust.gating.verdict import Verdict
from pytest_cliprobust.properties.correspondence import errors_of
from pytest_cliprobust.search.evidence import Evidence, save_picture
from pytest_cliprobust.targets.base import LAST, Layer

if TYPE_CHECKING:
    from PIL.Image import Image

#: Colours that are told apart without red and green (Okabe & Ito 2008).
RIGHT, WRONG = (0, 158, 115), (213, 94, 0)

_CELL, _GAP, _TEXT = 288, 8, 22
_LINES = 24
_SHOWN = 6


def explained(
    clip: Evaluation, view: View, layer: Layer = LAST, among: Iterable[int] | None = None
) -> Callable[[Verdict], Evidence]:
    """Return what a missed bound of correspondence shows: pairs with their matches, the worst first.

    Args:
        clip: the run.
        view: the pairs.
        layer: of the model's image tower.
        among: rows of the pairs that the bound is about; None: all.
    """

    def explain(verdict: Verdict) -> Evidence:
        limit = middle_limit(view)
        rows = worst_pairs(view, layer, limit, among=among)
        words = ["cliprobust", "matches", f"--clip-model={clip.config.source(clip.model)}"]
        if clip.config.pretrained is not None:
            words.append(f"--clip-pretrained={clip.config.pretrained}")
        words += [f"--clip-data={_source(view)}", f"--clip-profile={clip.config.profile}"]
        words += [f"--layer={layer}", f"--sample={view.ids[rows[0]]}"]
        worst = view.ids[rows[0]], described(view, rows[0], layer, limit)
        return Evidence(
            (("worst", "{}: {}".format(*worst)),),
            {},
            shlex.join(words),
            lambda path: save_picture(draw_pairs(view, rows, layer, limit), path),
        )

    return explain


def _source(view: View) -> str:
    """Return what a command line calls the data of a view."""
    whole, name = whole_of(view.data), view.data.name
    if hasattr(whole, "source"):
        return str(whole.source)
    root = getattr(whole, "root", None)
    return name if root is None else f"{name.partition(':')[0]}:{root}"


def middle_limit(view: View) -> float:
    """Return the middle one of the distances by which the data judges matches."""
    return sorted(view.limits)[len(view.limits) // 2]


def worst_pairs(
    view: View,
    layer: Layer,
    limit: float,
    count: int = _SHOWN,
    among: Iterable[int] | None = None,
) -> list[int]:
    """Return the rows of ``count`` pairs: the worse half is the worst, the other half is typical.

    ``among``: rows to choose from; None: all.
    """
    matches = view.matches(layer)
    rows = list(range(len(matches)) if among is None else among)
    recalls = np.array([(errors_of(matches[row]) < limit).mean() for row in rows])
    order = [int(rows[place]) for place in np.argsort(recalls, kind="stable")]
    worst = order[: (count + 1) // 2]
    start = max(len(worst), (len(order) - count // 2) // 2)
    return [*worst, *order[start : start + count // 2]]


def described(view: View, row: int, layer: Layer, limit: float) -> str:
    """Return ``12 of 166 matches right (within 10 px), views 34° apart``."""
    errors = errors_of(view.matches(layer)[row])
    text = f"{int((errors < limit).sum())} of {len(errors)} matches right (within {limit:g}"
    text += " of the box)" if limit < 1 else " px)"
    return text + (
        f", views {float(view.groups['angle'][row]):.0f}° apart" if "angle" in view.groups else ""
    )


def draw_pairs(view: View, rows: Sequence[int], layer: Layer, limit: float) -> Image:
    """Return a picture of some pairs, two to a line, with at most 24 matches of each.

    A line goes from a place in the first picture to its match in the second; a wrong one has a ring where
    the place really is.
    """
    from PIL import Image, ImageDraw, ImageFont

    columns = min(2, len(rows))
    width, height = 2 * _CELL + 3 * _GAP, _CELL + _TEXT + 2 * _GAP
    lines = -(-len(rows) // columns)
    sheet = Image.new("RGB", (columns * width, lines * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, row in enumerate(rows):
        pair = load_pairs(view.data, [row])
        corner = (number % columns * width + _GAP, number // columns * height + _GAP)
        text = f"{view.ids[row]}: {described(view, row, layer, limit)}"
        draw.text(corner, text, fill="black", font=font)
        matches = view.matches(layer)[row]
        picture = draw_matches(
            (pair.first.images[0], pair.second.images[0]),
            matches,
            errors_of(matches) < limit,
        )
        sheet.paste(picture, (corner[0], corner[1] + _TEXT))
    return sheet


def draw_matches(pictures: tuple[Tensor, Tensor], matches: Floats, right: Bools) -> Image:
    """Return two pictures side by side with lines between them.

    Args:
        pictures: (3, H, W) uint8 each, of one size.
        matches: (K, 9 or more), see :data:`~pytest_cliprobust.properties.correspondence.COLUMNS`.
        right: (K,) which of them are right.
    """
    from PIL import Image, ImageDraw

    height, wide = pictures[0].shape[-2:]
    zoom = _CELL / max(height, wide)
    image = Image.new("RGB", (2 * _CELL + _GAP, _CELL), "white")
    for number, own in enumerate(pictures):
        shown = Image.fromarray(own.permute(1, 2, 0).numpy())
        size = (round(wide * zoom), round(height * zoom))
        image.paste(shown.resize(size, Image.Resampling.BICUBIC), (number * (_CELL + _GAP), 0))
    draw = ImageDraw.Draw(image)
    # Evenly over the picture, not over the order, in which the first match best.
    places = np.lexsort((matches[:, 0], matches[:, 1]))
    spread = np.linspace(0, len(places) - 1, min(_LINES, len(places))).round().astype(int)
    chosen = sorted(places[spread], key=lambda k: not right[k])
    for k in chosen:
        colour = RIGHT if right[k] else WRONG
        start, end, true = (
            (float(x) * zoom + shift, float(y) * zoom)
            for (x, y), shift in zip(
                matches[k, :6].reshape(3, 2), (0, _CELL + _GAP, _CELL + _GAP), strict=True
            )
        )
        draw.line([start, end], fill="white", width=3)
        draw.line([start, end], fill=colour, width=1)
        for x, y in (start, end):
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=colour, outline="white")
        if not right[k]:
            x, y = true
            draw.ellipse([x - 4, y - 4, x + 4, y + 4], outline=colour, width=1)
    return image

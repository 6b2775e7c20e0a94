"""Evidence: what a failure shows beside its figures."""

from __future__ import annotations

import io
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pytest_cliprobust.datasets.base import Dataset
from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.datasets.subset import whole_of
from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.engine.view import View
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.files import not_written, replace_file, shown_path
from pytest_cliprobust.gating.verdict import Verdict
from pytest_cliprobust.search.envelope import Drops, Parameters, reproduction, settings_text

if TYPE_CHECKING:
    from PIL.Image import Image

_SHOWN = 6
#: The side at which ``cliprobust perturb`` frames a picture, unless it is told another.
_SIDE = 224
_CELL = 128


@dataclass(frozen=True)
class Evidence:
    """What a failure shows beside its figures.

    Attributes:
        lines: (heading, text) pairs for the message, in order.
        parameters: of the perturbation that tells most.
        reproduction: a command that shows it.
        draw: writes the picture of it to a path.
    """

    lines: tuple[tuple[str, str], ...]
    parameters: Mapping[str, float]
    reproduction: str
    draw: Callable[[Path], Path]


@dataclass(frozen=True)
class Searched:
    """A figure that a search found, and how to explain it if it breaks its bound.

    Attributes:
        figure: what was measured, with its condition.
        explain: called with the verdict of a failure; shrinking happens only then.
    """

    figure: Figure
    explain: Callable[[Verdict], Evidence] = field(repr=False, compare=False)


def broken_maximum(verdict: Verdict) -> float | None:
    """Return the bound that a verdict is about, if it is a ``max``."""
    return verdict.limit if verdict.kind == "max" else None


def drop_text(drop: Figure) -> str:
    """Return ``drop 0.103 [0.030, 0.173]``."""
    return f"drop {drop.value:.3f} [{drop.low:.3f}, {drop.high:.3f}]"


def evidence_of(
    drops: Drops, parameters: Parameters, lines: tuple[tuple[str, str], ...]
) -> Evidence:
    """Return the evidence for a drop: pictures of the samples that it rests on, and a command.

    Args:
        drops: what measured it.
        parameters: where in the envelope.
        lines: (heading, text) pairs for the message.
    """
    clip, clean, perturbation = drops.clip, drops.clean, drops.perturbation
    after = drops.view(parameters)
    # What the perturbation broke first, then what was wrong before, then what survived.
    order = np.lexsort((np.arange(len(after)), ~clean.correct, after.correct))
    rows = [int(row) for row in order[:_SHOWN]]
    command = reproduction(
        perturbation.name,
        parameters,
        clip.config.seed,
        image=image_argument(clip, clean.data, rows[0]),
        load=[] if perturbation.origin is None else [shown_path(perturbation.origin)],
    )

    def draw(path: Path) -> Path:
        return draw_before_after(drops, parameters, rows, path)

    return Evidence(lines, dict(parameters), command, draw)


def image_argument(clip: Evaluation, data: Dataset, row: int) -> str:
    """Return what ``cliprobust perturb`` calls a sample of a data set, quoted for a shell.

    ``IMAGE`` for a data set of a user's own making, which no command line can name.
    """
    whole, name = whole_of(data), data.ids[row]
    root = getattr(whole, "source", None) or getattr(whole, "root", None)
    if isinstance(whole, EmbeddedDataset):
        if name.startswith(f"{whole.name}-"):
            return f"--embedded {name}"
        root = f"embedded:{whole.name}"
    if root is None:
        return "IMAGE"
    words = ["--clip-data", str(root), "--sample", name]
    side = getattr(whole, "size", _SIDE)
    if side != _SIDE:
        words += ["--size", str(side)]
    if clip.config.depth is not None and not getattr(whole, "has_depth", False):
        words += ["--clip-depth", clip.config.depth]
    return shlex.join(words)


def draw_before_after(
    drops: Drops, parameters: Parameters, rows: Sequence[int], path: Path
) -> Path:
    """Write a picture of some samples before and after a perturbation, with what the model sees.

    Raises:
        Unavailable: the disk is full.
        ClipRobustError: the picture cannot be written.
    """
    from pytest_cliprobust.perturbations.contact_sheet import Row, contact_sheet

    clean, perturbation = drops.clean, drops.perturbation
    before, after = drops.clip.encoder.pictures(
        clean.data, rows, perturbation, parameters=parameters
    )
    settings = settings_text(parameters)
    sheet = contact_sheet(
        [
            Row("before", before, _captions(clean, rows)),
            Row("after", after, _captions(drops.view(parameters), rows), note=settings),
        ],
        [clean.class_names[int(clean.labels[row])] for row in rows],
        title=f"{perturbation.name}, {settings}",
        cell=_CELL,
    )
    return save_picture(sheet, path)


def save_picture(picture: Image, path: Path) -> Path:
    """Write a picture as PNG and return its path.

    Raises:
        Unavailable: the disk is full.
        ClipRobustError: it cannot be written.
    """
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=True)
    try:
        replace_file(path, content.getvalue())
    except OSError as error:
        raise not_written(f"{path}: cannot be written", error) from None
    return path


def _captions(view: View, rows: Sequence[int]) -> tuple[str, ...]:
    """Return what the model takes the samples at ``rows`` for."""
    return tuple(
        "right"
        if view.correct[row]
        else f"taken for {view.class_names[int(view.predictions[row])]}"
        for row in rows
    )

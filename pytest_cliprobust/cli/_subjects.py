"""The images that ``cliprobust perturb`` perturbs, each with the inputs that perturbations need."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from pytest_cliprobust.cli._images import crop, load_depth, load_image
from pytest_cliprobust.cli._perturb_options import Options
from pytest_cliprobust.datasets.base import Dataset
from pytest_cliprobust.datasets.depth.base import DepthSource, require_shape
from pytest_cliprobust.datasets.depth.loading import load_depth_source
from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.datasets.loading import load_dataset
from pytest_cliprobust.datasets.subset import Subset
from pytest_cliprobust.engine.encoding import text_writer, to_float
from pytest_cliprobust.errors import ClipRobustError, NotRun, did_you_mean
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.perturbations.typographic import render_text

#: What is written on an image whose class is unknown.
_TEXT = "iPod"


@dataclass(frozen=True)
class Subject:
    """One image to perturb.

    Attributes:
        name: of its sheet.
        sample: its sample id, from which its seeds come.
        image: (1, 3, H, W) float32 in [0, 1].
        inputs: what comes with it for perturbations, by name.
    """

    name: str
    sample: str
    image: Tensor
    inputs: dict[str, Tensor]


def subjects(options: Options, device: torch.device) -> Iterator[Subject]:
    """Yield all images that the options name, with all inputs that there are, on ``device``.

    Raises:
        ClipRobustError: a file or a sample that isn't there or can't be read.
    """
    given = _given_inputs(options)
    for subject in itertools.chain(
        _file_subjects(options),
        (_embedded_subject(options, word) for word in options.embedded),
        _sample_subjects(options),
    ):
        inputs = {**subject.inputs, **given}
        if "text" not in inputs:
            inputs["text"] = render_text([_TEXT])
        there = {name: value.to(device) for name, value in inputs.items()}
        yield replace(subject, image=subject.image.to(device), inputs=there)


def _given_inputs(options: Options) -> dict[str, Tensor]:
    """Return the inputs that options name for all images."""
    given: dict[str, Tensor] = {}
    if options.text is not None:
        given["text"] = render_text([options.text])
    if options.mask is not None:
        grey = load_image(options.mask).mean(1, keepdim=True)
        given["mask"] = crop(grey, options.size).clamp(0, 1)
    if options.occluder is not None:
        given["occluder"] = load_image(options.occluder, alpha=True)
    if options.texture is not None:
        given["texture"] = crop(load_image(options.texture), options.size).clamp(0, 1)
    return given


def _file_subjects(options: Options) -> Iterator[Subject]:
    """Yield the image files, with the depth maps that options name."""
    depths, size = options.depth or [], options.size
    for index, path in enumerate(options.images):
        image = load_image(path)
        inputs: dict[str, Tensor] = {}
        if depths:
            file = depths[min(index, len(depths) - 1)]
            depth = load_depth(file, options.depth_kind, options.depth_scale)
            require_shape(file, tuple(depth.shape[-2:]), path, tuple(image.shape[-2:]))
            inputs["depth"] = crop(depth, size, smooth=False)
        yield Subject(path.stem, path.stem, crop(image, size).clamp(0, 1), inputs)


def _embedded_subject(options: Options, word: str) -> Subject:
    """Return a scene of the bundled benchmark, by number or id.

    Raises:
        ClipRobustError: there is none; the message names the nearest.
    """
    match = re.fullmatch(r"(?:(.+)-)?(\d{1,9})", word, re.ASCII)
    if match is None:
        raise ClipRobustError(
            f"--embedded {word}: give a number, or the id of a sample, such as clean-00012"
        )
    name, row = match[1] or "clean", int(match[2])
    data = EmbeddedDataset(name, profile="full", limit=row + 1, size=options.size)
    if match[1] and word in data.ids:
        row = data.ids.index(word)
    elif match[1] or row >= len(data):
        every = EmbeddedDataset(name, profile="full", size=options.size).ids
        near = f"{name}-{row:05d}"
        near = f" Did you mean {near!r}?" if near in every else ""
        raise ClipRobustError(
            f"--embedded {word}: there is no such sample.{near} There are {every[0]} to {every[-1]}"
        )
    return _data_subject(options, data, row)


def _sample_subjects(options: Options) -> Iterator[Subject]:
    """Yield the samples of ``--clip-data``.

    Raises:
        ClipRobustError: there is no such data set, sample or depth.
    """
    if options.clip_data is None:
        return
    data = load_dataset(options.clip_data, profile="full", size=options.size)
    depth = None
    if options.clip_depth is not None:
        depth = load_depth_source(options.clip_depth, options.device)
    for word in options.sample:
        if word not in data.ids:
            raise ClipRobustError(
                f"--sample {word}: {options.clip_data} has no such sample."
                f"{did_you_mean(word, data.ids)} Its ids look like {data.ids[0]!r}"
            )
        yield _data_subject(options, data, data.ids.index(word), depth)


def _data_subject(
    options: Options, data: Dataset, row: int, source: DepthSource | None = None
) -> Subject:
    """Return a sample of a data set, with all that a run of its tests gives to perturbations.

    ``source`` gives depth where the data set has none.
    """
    name = data.ids[row]
    sample = Subset(data, [row])
    batch = sample.load([0])
    if options.text is None and sample.labels[0] >= 0:
        with suppress(NotRun):  # no font has the letters: another word is written
            write = text_writer(registry.get("typographic"), sample, options.seed)
            batch = batch if write is None else write(batch)
    depth = batch.depth
    if depth is None and source is not None:
        depth = source.depth(data, [name])
    inputs = {"depth": depth, "mask": batch.mask, **batch.extras}
    there = {name: value for name, value in inputs.items() if value is not None}
    file = "-".join(Path(name).with_suffix("").parts)
    return Subject(file, name, to_float(batch.images), there)

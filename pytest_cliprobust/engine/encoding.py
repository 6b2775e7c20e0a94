"""The engine: runs each forward pass that the selected tests need once, in batches, and caches it.

Figures must not depend on ``--clip-batch-size``, on test order or on the number of workers, to the last
digit. Perturbations are row-wise by contract; the model is not (matrix kernels may sum in another order
for another batch size). So the forward pass always runs on chunks of one size, which the kind of device
alone decides (:func:`chunk_on`), the last one padded, and sample i always sits at the same place of the same
chunk; the batch size decides only how many images are loaded and perturbed at a time.

An accelerator is told what to do and not waited for: pictures come from pinned memory (:mod:`.transfer`), and
features are fetched several passes at a time.
"""

from __future__ import annotations

import gc
import itertools
import json
import sys
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pytest_cliprobust.blame import users_code
from pytest_cliprobust.cache import FeatureCache, Unfinished
from pytest_cliprobust.datasets.base import Batch, Dataset, PairBatch
from pytest_cliprobust.datasets.depth.base import REMEDY, DepthSource, MissingDepth
from pytest_cliprobust.datasets.fingerprints import workers
from pytest_cliprobust.datasets.framing import keeps_shapes, load_squeezed
from pytest_cliprobust.datasets.subset import Subset, load_pairs, whole_of
from pytest_cliprobust.engine.loaded import Loaded
from pytest_cliprobust.engine.memory import as_out_of_memory, in_parts, lazy_extras, part_of
from pytest_cliprobust.engine.probe import PICTURES, TEXTS, check_target, checked_rows
from pytest_cliprobust.engine.store import OddPictures, Stores, framing_to_keep
from pytest_cliprobust.engine.text_table import TextTable
from pytest_cliprobust.engine.transfer import Fetched, moved, pinned, pinned_tensor
from pytest_cliprobust.errors import ClipRobustError, NotRun, Unavailable, counted
from pytest_cliprobust.figures.arrays import Ints
from pytest_cliprobust.figures.condition import Step
from pytest_cliprobust.perturbations import lettering, registry
from pytest_cliprobust.properties import correspondence
from pytest_cliprobust.targets.base import LAST, DenseTarget, Layer, Target
from pytest_cliprobust.targets.dense import no_patches
from pytest_cliprobust.targets.preprocessing import Preprocessing

FORWARD_CHUNK = 32
"""Images per forward pass on a CPU; halved only when the device runs out of memory (and then reported).

All rows of a pass over a data set come from passes of one size, which is part of their cache key where it is
not this: rows that were computed with little memory are never another run's."""

ACCELERATOR_CHUNK = 256
"""The same on an accelerator, which passes of 32 leave idle: docs/accelerator.md has what was measured."""

TEXT_BLOCK = 256
"""Texts that are cached together for a model whose rows depend on what else is in a pass."""


def chunk_on(device: torch.device) -> int:
    """Return how many images, or texts, a forward pass takes: one number for each kind of device."""
    return FORWARD_CHUNK if device.type == "cpu" else ACCELERATOR_CHUNK


#: Perturbations in their order, each with the step that asked for it.
Chain = list[tuple[Step, registry.Perturbation]]

KEPT_BYTES = 2**30
"""Memory for loaded samples that are kept between perturbations: of small data sets, and of composed ones.

Those of a large data set of files are in a store on disk instead (:mod:`.store`)."""

PERTURBED, LOADED = "pictures perturbed", "pictures loaded"
"""What may be fewer at a time without any figure changing."""

SHAPED_CHUNK = 16
"""Images per forward pass at most where each picture keeps its shape: of most shapes there are few."""

SAVE_SECONDS = 20.0
"""How often the rows of a long pass are saved, so that a killed run loses no more than this."""


@dataclass(frozen=True)
class Seen:
    """What the model sees of samples under a condition.

    Attributes:
        pixels: of a data set, what makes the model's input (B, 3, h, w) of a batch of it.
        beside: names of the inputs that this takes beside the pictures.
    """

    pixels: Callable[[Dataset], Callable[[Batch], Tensor]]
    beside: frozenset[str]


class Progress(Protocol):
    """Told how far a long piece of work is."""

    def __call__(self, description: str, done: int, total: int) -> None:
        """Note that ``done`` of ``total`` samples of ``description`` are finished."""
        ...


def silent(description: str, done: int, total: int) -> None:
    """Report nothing: the progress when output is not a terminal."""


def untold(line: str) -> None:
    """Tell nobody."""


@dataclass
class Encoder:
    """Features of one target, cached.

    Attributes:
        target: the model under test.
        cache: where features are kept.
        batch_size: images loaded and perturbed at a time; 0: as many as a forward pass takes.
        precision: part of the cache key.
        seed: of all perturbations.
        progress: called after each batch.
        depth: gives depth to data sets that have none of their own.
        chunk: images per forward pass; 0: as :func:`chunk_on` has it.
        text_chunk: texts per forward pass; 0: as :func:`chunk_on` has it.
        font: file of the font that class names are written in; None: one that has their letters.
        stores: keep decoded pictures on disk; None: nothing does.
        notes: what a reader of the report must know (out-of-memory back-offs).
        forwarded: images that really went through the model (cache misses), for tests and reports.
        cached: images whose features were there already.
        probed: images that went through the model to see whether its features can be trusted.
    """

    target: Target
    cache: FeatureCache
    batch_size: int = 0
    precision: str = "fp32"
    seed: int = 0
    progress: Progress = silent
    depth: DepthSource | None = None
    chunk: int = 0
    text_chunk: int = 0
    font: Path | None = None
    stores: Stores | None = None
    notes: list[str] = field(default_factory=list)
    forwarded: int = 0
    cached: int = 0
    probed: int = 0
    _loaded: Loaded = field(default_factory=lambda: Loaded(KEPT_BYTES), repr=False)
    _at_once: int = sys.maxsize  # samples that are perturbed at a time
    _tables: dict[str, TextTable | None] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Choose the sizes that were left open."""
        self.chunk = self.chunk or chunk_on(self.target.device)
        self.text_chunk = self.text_chunk or chunk_on(self.target.device)
        self.batch_size = self.batch_size or self.chunk

    def probe(self, dataset: Dataset) -> None:
        """Raise if the model's features cannot be trusted, by the first pictures of a data set.

        Raises:
            ClipRobustError: see :func:`~pytest_cliprobust.engine.probe.check_target`.
        """
        rows = range(min(PICTURES, len(dataset)))
        # Out of memory with so few is for the passes themselves to tell, which take fewer at a time.
        with suppress(torch.OutOfMemoryError), as_out_of_memory():
            if keeps_shapes(dataset):
                shown = load_squeezed(dataset, rows, self.target.image_size)
            else:
                shown = self._load(dataset, rows).images
            images = to_float(shown.to(self.target.device))
            self.probed += check_target(self.target, images, self.precision)

    def text(self, texts: Sequence[str]) -> Tensor:
        """Return L2-normalised float32 features (N, D) of ``texts``, on the CPU.

        They are cached text by text where a text's features do not depend on its company, to the last bit,
        as is looked at once for each model; else in blocks of neighbours.

        Raises:
            ClipRobustError: features that are not finite, or of another shape.
        """
        while True:
            size = self.text_chunk
            sized = {"chunk": size} if size != FORWARD_CHUNK else {}
            try:
                return torch.from_numpy(self._text({**self._model_key(), **sized}, texts, size))
            except _BackedOff:
                continue

    def _text(
        self, key: Mapping[str, Any], texts: Sequence[str], size: int
    ) -> npt.NDArray[np.float32]:
        """Return features (N, D) of texts from passes of one size, from the cache or computed."""
        table = self._table_of_texts(key, size)
        if table is not None:
            return table.rows(texts)
        blocks = []
        for start in range(0, len(texts), TEXT_BLOCK):
            block = list(texts[start : start + TEXT_BLOCK])
            own = {**key, "kind": "text", "texts": block}
            blocks.append(self._cached(own, partial(self._block_of_texts, block, size)))
        return np.concatenate(blocks)

    def _table_of_texts(self, key: Mapping[str, Any], size: int) -> TextTable | None:
        """Return the table of texts; None where a text's features depend on its company."""
        name = json.dumps(key, sort_keys=True)
        if name not in self._tables:
            alone = self._cached({**key, "kind": "texts apart"}, partial(self._are_apart, size))
            table = TextTable(
                self.cache,
                {**key, "kind": "texts"},
                partial(self._passes_of_texts, size=size),
                lambda features, texts: self._checked(features, "text", texts),
                SAVE_SECONDS,
            )
            self._tables[name] = table if alone.all() else None
        return self._tables[name]

    def _are_apart(self, size: int) -> npt.NDArray[np.float32]:
        """Return 1 if a text has the same features at another place among other texts, else 0: (1, 1)."""
        texts = [TEXTS[n % len(TEXTS)] for n in range(size)]
        others = [text if n % 2 == 0 else "a" for n, text in enumerate(texts)][::-1]
        one, other = (
            self._checked(self._pass_of_texts(some, size), "text", some) for some in (texts, others)
        )
        return np.array([[np.array_equal(one[::2], other[::-1][::2])]], dtype=np.float32)

    def _block_of_texts(self, texts: Sequence[str], size: int) -> npt.NDArray[np.float32]:
        return self._checked(
            np.concatenate(list(self._passes_of_texts(texts, size))), "text", texts
        )

    def _backing_off(
        self,
        key: Mapping[str, Any],
        usual: int,
        chunk: Callable[[], int],
        compute: Callable[[int, Mapping[str, Any]], npt.NDArray[np.float32]],
    ) -> npt.NDArray[np.float32]:
        """Return rows from passes of one size, from the cache or computed.

        Where memory runs out everything begins anew with half the size, so that no row depends on when
        that was.

        Args:
            key: of the rows; a size other than the usual one is part of it.
            usual: the size whose rows have the key as it is.
            chunk: gives the size to try.
            compute: from the size and the key with it to the rows.
        """
        while True:
            size = chunk()
            sized = {**key, "chunk": size} if size != usual else dict(key)
            try:
                return self._cached(sized, partial(compute, size, sized))
            except _BackedOff:
                continue

    def _passes_of_texts(
        self, texts: Sequence[str], size: int
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the features of texts pass by pass; all passes have one size, the last one padded."""
        for start in range(0, len(texts), size):
            part = texts[start : start + size]
            yield self._pass_of_texts(part, size)
            if len(texts) > size:
                self.progress("texts", start + len(part), len(texts))

    def _pass_of_texts(self, texts: Sequence[str], size: int) -> npt.NDArray[np.float32]:
        """Return the features of at most ``size`` texts from one pass of that size.

        Raises:
            _BackedOff: memory ran out; passes take fewer texts from now on.
        """
        padded = [*texts, *[""] * (size - len(texts))]
        try:
            with torch.inference_mode(), self._encoder("encode_text"):
                features = self.target.encode_text(padded)
        except torch.OutOfMemoryError:
            self.text_chunk = self.halved(size, "texts")
            raise _BackedOff from None
        checked = checked_rows(self.target, "encode_text", features, size)
        return np.asarray(checked[: len(texts)].float().cpu().numpy())

    def images(self, dataset: Dataset, steps: Sequence[Step] = ()) -> Tensor:
        """Return L2-normalised float32 features (N, D) of a data set, on the CPU.

        Args:
            dataset: N samples.
            steps: perturbations, applied in this order; severity 0 changes nothing. Depth, mask and
                the like stay those of the sample as it is.

        Raises:
            NotRun: a perturbation needs what the data set does not have.
            ClipRobustError: unknown perturbation, an unreadable sample, or features that are not
                finite.
        """
        chain = self._chain(steps)
        key: dict[str, Any] = {
            **self._model_key(),
            "kind": "image",
            "data": dataset.digest,
            "ids": len(dataset),
        }
        described = self.described(dataset, steps)
        if len(described) == 1:
            key |= described[0]
        elif described:
            key["chain"] = described
        label = " · ".join([dataset.name, *(str(step) for step, _ in chain)])
        return torch.from_numpy(self._counted(dataset, self._seen(chain), key, label))

    def mixed(
        self, dataset: Dataset, conditions: Sequence[Sequence[Step]], own: Ints, label: str
    ) -> Tensor:
        """Return features (N, D) of samples, each under one of several conditions, on the CPU.

        Those of one condition are perturbed together, and go through the model with those of the next.

        Args:
            dataset: N samples.
            conditions: the perturbations of each condition, as :meth:`images` takes them.
            own: (N,) which condition is each sample's.
            label: what progress calls it.

        Raises:
            NotRun, ClipRobustError: as for :meth:`images`.
        """
        order = np.argsort(own, kind="stable")
        ordered = Subset(dataset, order.tolist())
        numbers = [int(number) for number in own[order]]
        taken = sorted({*numbers})
        key: dict[str, Any] = {
            **self._model_key(),
            "kind": "image",
            "data": dataset.digest,
            "ids": len(dataset),
            "mixed": {number: self.described(dataset, conditions[number]) for number in taken},
            "own": sha256(own.astype("<i8").tobytes()).hexdigest(),
        }
        chains = {number: self._chain(conditions[number]) for number in taken}
        seen = self._each_seen(chains, dict(zip(ordered.ids, numbers, strict=True)))
        features = self._counted(ordered, seen, key, f"{dataset.name} · {label}")
        found = np.empty_like(features)
        found[order] = features
        return torch.from_numpy(found)

    def _counted(
        self, dataset: Dataset, seen: Seen, key: Mapping[str, Any], label: str
    ) -> npt.NDArray[np.float32]:
        """Return features (N, D), and count those that were there already."""
        before = self.forwarded
        features = self._in_passes(dataset, seen, key, label)
        self.cached += len(features) - (self.forwarded - before)
        return features

    def described(self, dataset: Dataset, steps: Sequence[Step]) -> list[dict[str, Any]]:
        """Return what pictures depend on through each perturbation, JSON-able, for cache keys."""
        chain = self._chain(steps)
        return [self._described(dataset, step, apply) for step, apply in chain]

    def _in_passes(
        self,
        dataset: Dataset,
        seen: Seen,
        key: Mapping[str, Any],
        label: str,
        most: int = sys.maxsize,
        encode: Callable[[Tensor], Tensor] | None = None,
        width: int | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return features from forward passes of one size, at most ``most``, from the cache or computed.

        Where each picture keeps its shape, those of one shape go through together.
        """
        if not keeps_shapes(dataset):
            return self._of_one_shape(dataset, seen, key, label, most, encode, width)
        features = np.empty((len(dataset), width or self.target.embed_dim), dtype=np.float32)
        for (height, across), rows in self.by_shape(dataset).items():
            features[rows] = self._of_one_shape(
                Subset(dataset, rows),
                seen,
                {**key, "shape": [height, across]},
                f"{label} · {across}×{height}",
                min(most, SHAPED_CHUNK),
                encode,
                width,
            )
        return features

    def _of_one_shape(
        self,
        dataset: Dataset,
        seen: Seen,
        key: Mapping[str, Any],
        label: str,
        most: int,
        encode: Callable[[Tensor], Tensor] | None,
        width: int | None,
    ) -> npt.NDArray[np.float32]:
        """Return features of pictures of one shape; see :meth:`_in_passes`."""

        def compute(size: int, sized: Mapping[str, Any]) -> npt.NDArray[np.float32]:
            pixels, unfinished = seen.pixels(dataset), self.cache.unfinished(sized)
            features = self._forward(
                dataset, pixels, label, unfinished, size, seen.beside, encode, width
            )
            return self._checked(features, label, dataset.ids)

        features = self._backing_off(key, FORWARD_CHUNK, lambda: min(most, self.chunk), compute)
        return self._checked(features, label, dataset.ids)

    def by_shape(self, dataset: Dataset) -> dict[tuple[int, int], list[int]]:
        """Return the rows of a data set by the shape (height, width) of their pictures, each in order.

        All are loaded once for that; the shapes are cached.
        """
        key = {
            "kind": "shapes",
            "target": self.target.info.digest,
            "data": dataset.digest,
            "ids": len(dataset),
        }
        found: dict[tuple[int, int], list[int]] = {}
        for row, (height, width) in enumerate(self._cached(key, lambda: self._shapes(dataset))):
            found.setdefault((int(height), int(width)), []).append(row)
        return dict(sorted(found.items()))

    def _shapes(self, dataset: Dataset) -> npt.NDArray[np.float32]:
        """Return (height, width) of each picture of a data set, (N, 2)."""

        def shape(row: int) -> tuple[int, int]:
            height, width = self._decoded(dataset, [row]).images.shape[-2:]
            return height, width

        shapes = np.empty((len(dataset), 2), dtype=np.float32)
        with ThreadPoolExecutor(workers()) as pool:
            for row, own in enumerate(pool.map(shape, range(len(dataset)))):
                shapes[row] = own
                self.progress(f"{dataset.name}, shapes", row + 1, len(dataset))
        return shapes

    def alike(self, dataset: Dataset, size: int) -> Iterator[list[int]]:
        """Yield the rows of a data set, at most ``size`` at a time, whose pictures can be loaded together."""
        every = [list(range(len(dataset)))]
        groups = self.by_shape(dataset).values() if keeps_shapes(dataset) else every
        for rows in groups:
            for start in range(0, len(rows), size):
                yield rows[start : start + size]

    def rows(
        self,
        dataset: Dataset,
        steps: Sequence[Step],
        what: Mapping[str, str],
        encode: Callable[[Tensor], Tensor],
        width: int,
    ) -> npt.NDArray[np.float32]:
        """Return what another function than ``encode_image`` makes of each sample (N, ``width``), cached.

        Args:
            dataset: N samples.
            steps: perturbations, as for :meth:`images`.
            what: identifies the function, and what it depends on beside the model: part of the cache key.
            encode: from preprocessed pixels (B, 3, h, w) to rows (B, ``width``).
            width: numbers a sample.
        """
        chain = self._chain(steps)
        key: dict[str, Any] = {
            **self._model_key(),
            **what,
            "data": dataset.digest,
            "ids": len(dataset),
            "chain": self.described(dataset, steps),
        }
        label = " · ".join([dataset.name, *(str(step) for step, _ in chain), *what.values()][:3])
        return self._in_passes(dataset, self._seen(chain), key, label, encode=encode, width=width)

    @staticmethod
    def _chain(steps: Sequence[Step]) -> Chain:
        return [(step, registry.get(step.perturbation)) for step in steps if step.severity != 0]

    def _described(
        self, dataset: Dataset, step: Step, apply: registry.Perturbation
    ) -> dict[str, Any]:
        """Return what features depend on through one perturbation, for cache keys."""
        resolved = dict(apply.parameters(step.severity)) if step.severity else {}
        described: dict[str, Any] = {
            "perturbation": apply.name,
            "version": apply.version,
            "parameters": {**resolved, **step.settings},
            "seed": self.seed,
        }
        if apply.code:
            described["code"] = apply.code
        if "text" in apply.inputs and dataset.class_names:
            font = lettering.font_for(dataset.class_names, self.font)
            described |= {} if font is None else {"font": lettering.identity(font)}
        if self.depth is not None and self._lacks_depth(dataset, apply):
            described["depth"] = self.depth.key(dataset)
        return described

    def shown(self, dataset: Dataset, rows: Sequence[int], steps: Sequence[Step] = ()) -> Tensor:
        """Return some samples under a condition as pictures, (B, 3, H, W) uint8 on the CPU.

        They are what :meth:`images` shows the model, before the model's own preprocessing.

        Raises:
            NotRun: a perturbation needs what the data set does not have, or the model is shown each
                picture in its own shape.
            ClipRobustError: unknown perturbation, or an unreadable sample.
        """
        if keeps_shapes(dataset):
            raise NotRun(
                f"needs pictures of one shape: model {self.target.info.name!r} is shown those of "
                f"{dataset.name!r} in their own"
            )
        with torch.inference_mode():
            perturbed = self._spared(self._perturbed(dataset, self._chain(steps)))
            images = perturbed(self._load(dataset, list(rows)))
            return (images.clamp(0, 1) * 255).round().to(torch.uint8).cpu()

    def _seen(self, chain: Chain) -> Seen:
        """Return what the model sees of samples through perturbations."""
        return Seen(lambda dataset: self._pixels(dataset, chain), _inputs_of([chain]))

    def _each_seen(self, chains: Mapping[int, Chain], own: Mapping[str, int]) -> Seen:
        """Return what the model sees of samples, each through its own perturbations.

        Args:
            chains: perturbations by number.
            own: number by sample id.
        """

        def pixels(dataset: Dataset) -> Callable[[Batch], Tensor]:
            each = {number: self._pixels(dataset, chain) for number, chain in chains.items()}

            def some(batch: Batch) -> Tensor:
                parts, stop = [], 0
                for number, ids in itertools.groupby(batch.ids, own.__getitem__):
                    start, stop = stop, stop + len(list(ids))
                    parts.append(each[number](part_of(batch, slice(start, stop))))
                return torch.cat(parts)

            return some

        return Seen(pixels, _inputs_of(chains.values()))

    def _pixels(
        self, dataset: Dataset, chain: Chain, *, whole: bool = False
    ) -> Callable[[Batch], Tensor]:
        """Return what makes the model's input (B, 3, h, w) of a batch of the data set.

        ``whole``: nothing of a picture is cut away, and nothing added, so that places in it keep their share
        of its height and width.
        """
        perturbed = self._perturbed(dataset, chain)
        shown = partial(seen_whole, self.target) if whole else self.target.preprocess
        return self._spared(lambda batch: shown(perturbed(batch)))

    def _perturbed(self, dataset: Dataset, chain: Chain) -> Callable[[Batch], Tensor]:
        """Return what makes perturbed pictures (B, 3, H, W) in [0, 1] of a batch of the data set."""
        writers = [text_writer(apply, dataset, self.seed, self.font) for _, apply in chain]

        def some(batch: Batch) -> Tensor:
            images = to_float(moved(batch.images, self.target.device))
            for (step, apply), write in zip(chain, writers, strict=True):
                offered = batch if write is None else write(batch)
                offered = self._with_depth(dataset, offered, apply)
                require_inputs(apply, offered, dataset.name)
                images = apply_perturbation(
                    apply, images, offered, step.severity, step.settings, seed=self.seed
                )
            return images

        return some

    def _spared(self, function: Callable[[Batch], Tensor]) -> Callable[[Batch], Tensor]:
        """Return a function of batches that takes fewer samples at a time where memory runs out."""

        def fewer(count: int) -> int:
            self._at_once = self.halved(count, PERTURBED)
            return self._at_once

        return lambda batch: in_parts(function, batch, self._at_once, fewer)

    def matches(self, dataset: Dataset, layer: Layer = LAST) -> list[npt.NDArray[np.float64]]:
        """Return the matches (K, 9 + T) of each pair of a data set, K of its own each.

        See :func:`~pytest_cliprobust.properties.correspondence.match_pair`. Only they are kept: dense
        features are many times as large, and at no time are more than one forward pass's in memory.

        Raises:
            NotRun: the model has no such features, or the samples are no pairs.
            ClipRobustError: features that are not finite.
        """
        whole: Any = whole_of(dataset)
        limits, limits_cm = (
            tuple(float(limit) for limit in getattr(whole, name, ()))
            for name in ("limits", "limits_cm")
        )
        key = {
            **self._model_key(),
            "kind": "matches",
            "version": correspondence.VERSION,
            "data": dataset.digest,
            "ids": len(dataset),
            "layer": layer,
            "limits": limits,
            "limits_cm": limits_cm,
        }
        stored = self._backing_off(
            key,
            FORWARD_CHUNK,
            lambda: min(FORWARD_CHUNK, self.chunk),
            lambda size, _: self._match(dataset, layer, limits, limits_cm, size),
        )
        return [rows[~np.isnan(rows[:, 0])].astype(np.float64) for rows in stored]

    def _match(
        self,
        dataset: Dataset,
        layer: Layer,
        limits: tuple[float, ...],
        limits_cm: tuple[float, ...],
        chunk: int,
    ) -> npt.NDArray[np.float32]:
        """Return the matches of all pairs (N, K, 9 + T), NaN where a pair has fewer than K.

        ``chunk``: pictures per forward pass.
        """
        pixels = self._pixels(dataset, [], whole=True)
        found: list[npt.NDArray[np.float32]] = []
        total, step = len(dataset), FORWARD_CHUNK // 2
        for start in range(0, total, step):
            rows = range(start, min(start + step, total))
            pairs = self._load_pairs(dataset, rows)
            size = pairs.first.images.shape[-2:]
            with torch.inference_mode():
                both = torch.cat([pixels(pairs.first), pixels(pairs.second)])
                dense = self._dense(both, layer, chunk)
            for number, links in enumerate(pairs.links):
                features = dense[number].numpy(), dense[len(rows) + number].numpy()
                if not all(np.isfinite(part).all() for part in features):
                    raise ClipRobustError(
                        f"model {self.target.info.name!r} gives NaN or infinite patch features on "
                        f"{dataset.name}, for {pairs.first.ids[number]!r}; check the weights"
                    )
                matched = correspondence.match_pair(
                    *features, links, (size[0], size[1]), limits, limits_cm
                )
                found.append(matched.astype(np.float32))
            self.progress(f"{dataset.name}, pairs", rows.stop, total)
        longest = max(map(len, found))
        every = np.full((total, longest, found[0].shape[1]), np.nan, dtype=np.float32)
        for own, part in zip(every, found, strict=True):
            own[: len(part)] = part
        return every

    def _load_pairs(self, dataset: Dataset, rows: range) -> PairBatch:
        """Load pairs, or take them from memory: one data set is matched by several layers."""

        def load() -> PairBatch:
            with users_code(f"loading pairs of data set {dataset.name!r}"):
                return load_pairs(dataset, rows)

        return self._loaded.pairs((dataset.digest, rows.start, rows.stop), dataset.name, load)

    def _dense(self, pixels: Tensor, layer: Layer, size: int) -> Tensor:
        """Return patch features (B, C, h, w) on the CPU, by forward passes of ``size`` pictures.

        Raises:
            _BackedOff: memory ran out, and passes take fewer pictures from now on.
        """
        target = self.target
        if not isinstance(target, DenseTarget):
            raise no_patches(target.info.name, layer, "it has no method dense_features")
        # A target of the user's own may know the last layer alone.
        chosen: dict[str, Any] = {} if layer == LAST else {"layer": layer}
        parts: list[Tensor] = []
        for start in range(0, len(pixels), size):
            part = pixels[start : start + size]
            count = len(part)
            if count < size:
                part = torch.cat([part, part.new_zeros(size - count, *part.shape[1:])])
            try:
                with as_out_of_memory():
                    dense = target.dense_features(part, **chosen)
            except torch.OutOfMemoryError:
                self.chunk = self.halved(size, "images")
                raise _BackedOff from None
            parts.append(dense[:count].float().cpu())
            self.forwarded += count
        return torch.cat(parts)

    def regrouped(self, dataset: Dataset, chunk: int) -> Tensor:
        """Return clean features (N, D) from forward passes of another size.

        What differs from :meth:`images` is numerical noise, and its size is what matters here.
        """
        key = {
            **self._model_key(),
            "kind": "image",
            "data": dataset.digest,
            "ids": len(dataset),
        }
        return torch.from_numpy(self._in_passes(dataset, self._seen([]), key, dataset.name, chunk))

    def pictures(
        self,
        dataset: Dataset,
        rows: Sequence[int],
        perturbation: registry.Perturbation,
        severity: int | None = None,
        parameters: Mapping[str, float] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return samples before and after a perturbation, as the model is shown them.

        Both are (len(rows), 3, H, W) in [0, 1] on the model's device, before its preprocessing. Pictures that
        keep their shapes are put into the middle of white ones of one shape.
        """
        if len(rows) > 1 and keeps_shapes(dataset):
            each = [
                self.pictures(dataset, [row], perturbation, severity, parameters) for row in rows
            ]
            before, after = zip(*each, strict=True)
            return on_white(before), on_white(after)
        batch = self._load(dataset, rows)
        write = text_writer(perturbation, dataset, self.seed, self.font)
        if write is not None:
            batch = write(batch)
        batch = self._with_depth(dataset, batch, perturbation)
        images = to_float(batch.images.to(self.target.device))
        with torch.inference_mode():
            changed = apply_perturbation(
                perturbation, images, batch, severity, parameters, seed=self.seed
            )
        return images, changed

    @staticmethod
    def _lacks_depth(dataset: Dataset, perturbation: registry.Perturbation) -> bool:
        """Return whether a perturbation uses depth that the data set does not have itself."""
        uses = "depth" in perturbation.inputs | perturbation.optional
        return uses and not getattr(whole_of(dataset), "has_depth", False)

    def _with_depth(
        self, dataset: Dataset, batch: Batch, perturbation: registry.Perturbation
    ) -> Batch:
        """Add depth where a perturbation uses it and the data set has none.

        Raises:
            MissingDepth: there is none, and the perturbation cannot do without.
        """
        if batch.depth is not None or not self._lacks_depth(dataset, perturbation):
            return batch
        if self.depth is not None:
            return replace(batch, depth=self.depth.depth(dataset, batch.ids))
        if "depth" in perturbation.inputs:
            raise MissingDepth(
                f"data set {dataset.name!r} has no depth, which {perturbation.name!r} needs; {REMEDY}"
            )
        return batch

    def _model_key(self) -> dict[str, str]:
        """Return what every feature depends on: the model, and what computes it."""
        return {
            "target": self.target.info.digest,
            "precision": self.precision,
            "device": self.target.device.type,
            "torch": torch.__version__,
        }

    def _cached(
        self, key: Mapping[str, Any], compute: Callable[[], npt.NDArray[np.float32]]
    ) -> npt.NDArray[np.float32]:
        return self.cache.get_or_compute(key, compute)

    def _checked(
        self, features: npt.NDArray[np.float32], what: str, ids: Sequence[str]
    ) -> npt.NDArray[np.float32]:
        finite: npt.NDArray[np.bool_] = np.asarray(np.isfinite(features).all(axis=1))
        if not finite.all():
            culprit = int(np.flatnonzero(~finite)[0])
            raise ClipRobustError(
                f"model {self.target.info.name!r} gives NaN or infinite features on {what}, for "
                f"{int((~finite).sum())} of {len(finite)} samples (first: {ids[culprit]!r}); check "
                "the weights, or try --clip-precision fp32"
            )
        return features

    def _forward(
        self,
        dataset: Dataset,
        pixels: Callable[[Batch], Tensor],
        label: str,
        unfinished: Unfinished,
        size: int,
        beside: Collection[str] = (),
        encode: Callable[[Tensor], Tensor] | None = None,
        width: int | None = None,
    ) -> npt.NDArray[np.float32]:
        """Run the model over ``dataset`` in padded chunks of ``size``.

        It goes on from the rows that an interrupted run has saved, and saves its own now and then.

        ``beside``: names of the inputs that ``pixels`` uses beside the pictures; ``encode`` and ``width``:
        another function than ``encode_image``, and what it puts out.

        Raises:
            _BackedOff: memory ran out; less is done at a time from now on.
        """
        total, before = len(dataset), self.forwarded
        features = np.empty((total, width or self.target.embed_dim), dtype=np.float32)
        saved = self._resume(unfinished, features, size)
        rows = Fetched(features, saved)
        waiting: list[Tensor] = []
        when = time.monotonic()
        try:
            # Closed here, not by the garbage collector: it may come in the midst of starting another thread,
            # and wait for this one's for ever.
            with (
                torch.inference_mode(),
                closing(self._batches_of(dataset, range(saved, total), beside)) as batches,
            ):
                last = saved == total
                while not last:
                    try:
                        with as_out_of_memory():
                            batch, last = next(batches)
                    except torch.OutOfMemoryError:
                        self.forwarded = before
                        # Passes stay as large: several loads make up one.
                        self.batch_size = self.halved(self.batch_size, LOADED)
                        raise _BackedOff from None
                    try:
                        with as_out_of_memory():
                            waiting.append(pixels(batch))
                            ready = torch.cat(waiting) if len(waiting) > 1 else waiting[0]
                    except torch.OutOfMemoryError:
                        self.forwarded = before
                        if not self._load_fewer(size):
                            self.chunk = self.halved(size, "images")
                        raise _BackedOff from None
                    while len(ready) >= size or (last and len(ready)):
                        part = ready[:size]
                        try:
                            with as_out_of_memory():
                                rows.add(self._encode(part, size, encode))
                        except torch.OutOfMemoryError:
                            self.forwarded = before
                            self.chunk = self.halved(size, "images")
                            raise _BackedOff from None
                        self.forwarded += len(part)
                        ready = ready[len(part) :]
                    waiting = [ready] if len(ready) else []
                    self.progress(label, rows.given, total)
                    if not last and time.monotonic() - when > SAVE_SECONDS:
                        unfinished.save(features[: rows.fetch()])
                        saved, when = rows.done, time.monotonic()
                rows.fetch()
        except BaseException:
            with suppress(RuntimeError):  # a device that failed has no more rows to give
                rows.fetch()
            if rows.done > saved:
                with suppress(ClipRobustError):
                    unfinished.save(features[: rows.done])
            raise
        finally:
            self.progress(label, total, total)
        return features

    def _load_fewer(self, size: int) -> bool:
        """Load fewer pictures at a time if those of several passes did not fit; return whether they were.

        The rows so far are saved and taken up again, since passes are as large as before.
        """
        if self.batch_size <= size:
            return False
        self.batch_size = self.halved(self.batch_size, LOADED)
        return True

    @staticmethod
    def _resume(
        unfinished: Unfinished, features: npt.NDArray[np.float32], size: int = FORWARD_CHUNK
    ) -> int:
        """Copy the rows that an interrupted run has saved, whole chunks only; return their number."""
        rows = unfinished.load()
        if rows is None or rows.shape[1:] != features.shape[1:] or len(rows) > len(features):
            return 0
        count = len(rows) // size * size
        features[:count] = rows[:count]
        return count

    def _batches_of(
        self, dataset: Dataset, rows: range, beside: Collection[str]
    ) -> Generator[tuple[Batch, bool], None, None]:
        """Load samples batch by batch, the next one while the model works; tell which is the last.

        ``beside``: what goes to the device beside the pictures.
        """
        starts = list(rows[:: self.batch_size])

        def load(indices: Sequence[int]) -> Batch:
            return pinned(self._load(dataset, indices), self.target.device, beside)

        with ThreadPoolExecutor(1) as pool:
            ahead = None
            for number, start in enumerate(starts):
                ready = ahead
                if ready is None:
                    ready = pool.submit(load, self._rows(rows, start))
                last = number == len(starts) - 1
                batch = ready.result()
                if not last:
                    ahead = pool.submit(load, self._rows(rows, starts[number + 1]))
                yield batch, last

    def _rows(self, rows: range, start: int) -> range:
        return range(start, min(start + self.batch_size, rows.stop))

    def _load(self, dataset: Dataset, indices: Sequence[int]) -> Batch:
        """Load samples, or take them from memory: one data set goes through many perturbations."""
        if isinstance(dataset, Subset):
            return self._load(dataset.whole, [dataset.rows[i] for i in indices])
        if framing_to_keep(dataset) is not None:
            return self._stored(dataset, indices)
        known: Sequence[str] | None = getattr(dataset, "sample_keys", None)
        keys = [(dataset.digest, dataset.ids[i]) if known is None else known[i] for i in indices]
        return self._loaded.batch(
            keys, dataset.name, lambda some: self._decoded(dataset, [indices[i] for i in some])
        )

    def _stored(self, dataset: Dataset, indices: Sequence[int]) -> Batch:
        """Load samples of a large data set from its store, if it has one; none of them stays in memory."""
        store = self.stores.of(dataset) if self.stores is not None else None
        if store is None:
            return self._decoded(dataset, indices)

        def decode(rows: list[int]) -> Tensor:
            batch = self._decoded(dataset, rows)
            if batch.depth is not None or batch.mask is not None or batch.extras:
                raise OddPictures
            return batch.images

        try:
            images = store.get(indices, decode)
        except OddPictures:
            assert self.stores is not None
            self.stores.forget(dataset)
            return self._decoded(dataset, indices)
        return Batch(tuple(dataset.ids[i] for i in indices), images)

    @staticmethod
    def _decoded(dataset: Dataset, indices: Sequence[int]) -> Batch:
        """Load samples.

        Raises:
            OutOfMemoryError: torch's, for whatever means too little memory: no mistake in a layout.
            UserCodeError: a layout of the user's fails in another way.
            ClipRobustError: it gives other than one picture a sample.
        """
        what = f"loading samples of data set {dataset.name!r}"
        with users_code(what, passing=(torch.OutOfMemoryError,)), as_out_of_memory():
            batch = dataset.load(indices)
            given = len(batch.images)
        # A picture too few would be another sample's features, or end far from what is wrong.
        if given != len(indices):
            raise ClipRobustError(
                f"{what} gave {counted(given, 'picture')} for {counted(len(indices), 'sample')}: "
                "load must give one for each, in the order that was asked for"
            )
        return batch

    def _encode(
        self, part: Tensor, size: int, encode: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Return the rows of some pictures, on the device, from one pass of ``size``."""
        count = len(part)
        if count < size:
            part = torch.cat([part, part.new_zeros(size - count, *part.shape[1:])])
        if encode is None:
            with self._encoder("encode_image"):
                features = self.target.encode_image(part)
            features = checked_rows(self.target, "encode_image", features, len(part))
        else:
            features = encode(part)
        return features[:count].float()

    @contextmanager
    def _encoder(self, method: str) -> Iterator[None]:
        """Run a method of the model, which may be code of the user's.

        Raises:
            OutOfMemoryError: torch's, for whatever means too little memory.
            UserCodeError: it fails in another way.
        """
        what = f"{method} of model {self.target.info.name!r}"
        with users_code(what, passing=(torch.OutOfMemoryError,)), as_out_of_memory():
            yield

    def halved(self, count: int, what: str) -> int:
        """Return half of a number that was too many at once, after freeing what can be freed.

        Raises:
            Unavailable: it was one.
        """
        if count == 1:
            raise Unavailable(
                f"out of memory on {self.target.device} with a single image or text; choose another "
                "device with --clip-device, or --clip-precision bf16"
            )
        half = count // 2
        changes = ", so that figures may differ in the last digits from a run with more memory"
        self.notes.append(
            f"out of memory on {self.target.device}: {half} {what} at a time"
            + ("" if what in (PERTURBED, LOADED) else changes)
        )
        gc.collect()
        module: Any = getattr(torch, self.target.device.type, None)
        if hasattr(module, "empty_cache"):
            module.empty_cache()
        return half


class _BackedOff(Exception):  # noqa: N818
    """Memory ran out; the same can be tried with smaller passes."""


def _inputs_of(chains: Iterable[Chain]) -> frozenset[str]:
    """Return the names of all inputs that perturbations have or may have."""
    every = (apply for chain in chains for _, apply in chain)
    return frozenset(name for apply in every for name in apply.inputs | apply.optional)


def text_writer(
    perturbation: registry.Perturbation, dataset: Dataset, seed: int, font: Path | None = None
) -> Callable[[Batch], Batch] | None:
    """Return what adds the input ``text``, another class's name per sample; None if not needed.

    Any data set with class names has it, so none has to bring it along. ``font``: as for
    :func:`~pytest_cliprobust.perturbations.lettering.font_for`.

    Raises:
        NotRun: no font has the letters of the names.
    """
    if "text" not in perturbation.inputs:
        return None
    from pytest_cliprobust.perturbations.typographic import distractors, render_text

    chosen = distractors(dataset.ids, dataset.labels, dataset.class_names, seed)
    used = lettering.font_for(dataset.class_names, font)
    written = dict(zip(dataset.ids, chosen, strict=True))

    def write(batch: Batch) -> Batch:
        if "text" in batch.extras:
            return batch
        stickers = render_text(dataset.class_names, font=used, rows=[written[i] for i in batch.ids])
        return replace(batch, extras=lazy_extras(batch).joined(text=stickers))

    return write


def require_inputs(perturbation: registry.Perturbation, batch: Batch, dataset: str) -> None:
    """Raise if a perturbation needs what the samples do not bring along.

    Raises:
        NotRun: it does; the message names what is missing.
    """
    offered = {"seeds", *batch.extras}
    offered |= {"depth"} if batch.depth is not None else set()
    offered |= {"mask"} if batch.mask is not None else set()
    absent = sorted(perturbation.inputs - offered)
    if absent:
        raise NotRun(
            f"data set {dataset!r} has no {' and no '.join(absent)}, which {perturbation.name!r} "
            "needs; the embedded benchmark has it (leave --clip-data out)"
        )


def seen_whole(target: Target, images: Tensor) -> Tensor:
    """Return a model's input of pictures (B, 3, H, W) in [0, 1] without cutting any part of them away.

    They are squeezed to the model's size first where its own preprocessing would crop or pad them: a model
    whose input is no square, one that is resized to more than it sees.
    """
    own = getattr(target, "preprocessing", None)
    height, width = images.shape[-2:]
    rows, columns = target.image_size
    squeezed = (
        own.alters_shape((height, width))
        if isinstance(own, Preprocessing)
        else height * columns != width * rows
    )
    if squeezed:
        images = functional.interpolate(
            images, (rows, columns), mode="bicubic", antialias=True
        ).clamp(0, 1)
    return target.preprocess(images)


def on_white(images: Sequence[Tensor]) -> Tensor:
    """Return pictures (1, 3, H, W) in [0, 1] of any shapes as a batch, each in the middle of white."""
    height, width = (max(image.shape[axis] for image in images) for axis in (-2, -1))
    framed = []
    for image in images:
        down, across = height - image.shape[-2], width - image.shape[-1]
        sides = (across // 2, across - across // 2, down // 2, down - down // 2)
        framed.append(functional.pad(image, sides, value=1.0))
    return torch.cat(framed)


def to_float(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1]."""
    # In place: another batch of floats would cost more than the division.
    return images.to(torch.float32, copy=True).div_(255)


def apply_perturbation(
    perturbation: registry.Perturbation,
    images: Tensor,
    batch: Batch,
    severity: int | None = None,
    parameters: Mapping[str, float] | None = None,
    *,
    seed: int = 0,
) -> Tensor:
    """Apply ``perturbation`` to images (B, 3, H, W) in [0, 1], with the inputs that ``batch`` offers.

    Everything runs on the device of ``images``; the per-sample seeds depend on the sample ids alone.

    Raises:
        UserCodeError: the perturbation's function raises anything but an error of ours.
    """
    inputs: dict[str, Any] = {}
    wanted = perturbation.inputs | perturbation.optional
    offered = {"depth": batch.depth, "mask": batch.mask}
    for name in sorted(wanted & {*offered, *batch.extras}):
        tensor = batch.extras[name] if name in batch.extras else offered[name]
        if tensor is not None:
            inputs[name] = moved(tensor, images.device)
    if "seeds" in perturbation.inputs:
        seeds = registry.sample_seeds(batch.ids, perturbation.name, seed)
        inputs["seeds"] = moved(pinned_tensor(seeds, images.device), images.device)
    at = "" if severity is None else f" at severity {severity}"
    what = f"perturbation {perturbation.name!r}{at}"
    # Out of memory is told by whoever can do something about it.
    with (
        users_code(what, perturbation.origin, passing=(torch.OutOfMemoryError,)),
        as_out_of_memory(),
    ):
        return perturbation(images, severity, **inputs, **(parameters or {}))

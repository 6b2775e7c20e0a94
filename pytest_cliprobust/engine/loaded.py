"""Samples that were loaded of late: one data set goes through many perturbations, in other orders, too."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence

import torch
from torch import Tensor

from pytest_cliprobust.datasets.base import Batch, LazyExtras, PairBatch
from pytest_cliprobust.engine.memory import lazy_extras
from pytest_cliprobust.engine.recent import Recent

#: A batch, and the row in it that is a sample.
Place = tuple[Batch, int]


class Loaded:
    """Batches in memory. Those that were not loaded together are put together of their samples.

    Args:
        most: bytes that are kept at most.
    """

    def __init__(self, most: int) -> None:
        self._recent: Recent[Batch | PairBatch] = Recent(most, self._forget)
        self._places: dict[Hashable, tuple[tuple[Hashable, ...], int]] = {}

    def batch(
        self, keys: Sequence[Hashable], dataset: str, load: Callable[[list[int]], Batch]
    ) -> Batch:
        """Return samples from memory, and load those that are not there.

        Args:
            keys: of each of the samples what identifies it among all data sets; each once.
            dataset: name of the data set, whose samples don't make room for each other.
            load: from places in ``keys`` to these samples.
        """
        every = tuple(keys)
        kept = self._recent.get(every)
        if isinstance(kept, Batch):
            return kept
        found = [self._place(key) for key in every]
        missing = [number for number, place in enumerate(found) if place is None]
        if missing or not every:
            batch = load(missing)
            self._keep(tuple(every[number] for number in missing), batch, dataset)
            if len(missing) == len(every):
                return batch
            for row, number in enumerate(missing):
                found[number] = (batch, row)
        places = [place for place in found if place is not None]
        if len({own.images.shape[1:] for own, _ in places}) > 1:
            # A data set that brings each load to one size of its own.
            return load(list(range(len(every))))
        return gathered(places)

    def pairs(self, key: Hashable, dataset: str, load: Callable[[], PairBatch]) -> PairBatch:
        """Return pairs of pictures from memory, or load them."""
        kept = self._recent.get(("pairs", key))
        if isinstance(kept, PairBatch):
            return kept
        pairs = load()
        tensors = [
            *(t for b in (pairs.first, pairs.second) for t in (b.images, b.depth, b.mask)),
            *(t for own in pairs.links for t in vars(own).values() if isinstance(t, Tensor)),
        ]
        self._recent.keep(("pairs", key), pairs, bytes_of(tensors), dataset)
        return pairs

    def _place(self, key: Hashable) -> Place | None:
        """Return where a sample is; None if it is not there, or not any more."""
        if key not in self._places:
            return None
        together, row = self._places[key]
        kept = self._recent.get(together)
        return (kept, row) if isinstance(kept, Batch) else None

    def _keep(self, keys: tuple[Hashable, ...], batch: Batch, dataset: str) -> None:
        tensors = (batch.images, batch.depth, batch.mask, *lazy_extras(batch).ready.values())
        if self._recent.keep(keys, batch, bytes_of(tensors), dataset):
            self._places.update({key: (keys, row) for row, key in enumerate(keys)})

    def _forget(self, together: Hashable) -> None:
        """Forget where samples are that have made room for others."""
        for key in together if isinstance(together, tuple) else ():
            self._places.pop(key, None)


def gathered(places: Sequence[Place]) -> Batch:
    """Return samples of several batches of one kind as a batch; what is made on request stays so."""
    beside = [(lazy_extras(batch), row) for batch, row in places]
    ready = set.intersection(*(set(own.ready) for own, _ in beside))
    made = set.intersection(*(set(own.makers) for own, _ in beside))
    return Batch(
        ids=tuple(batch.ids[row] for batch, row in places),
        images=torch.stack([batch.images[row] for batch, row in places]),
        depth=_stacked([(batch.depth, row) for batch, row in places]),
        mask=_stacked([(batch.mask, row) for batch, row in places]),
        extras=LazyExtras(
            {name: torch.stack([own.ready[name][row] for own, row in beside]) for name in ready},
            {name: [own.makers[name][row] for own, row in beside] for name in made},
        ),
    )


def _stacked(places: Sequence[tuple[Tensor | None, int]]) -> Tensor | None:
    """Return rows of tensors as one; None where one of these is not there."""
    rows = [tensor[row] for tensor, row in places if tensor is not None]
    return torch.stack(rows) if len(rows) == len(places) else None


def bytes_of(tensors: Iterable[Tensor | None]) -> int:
    """Return how much memory tensors take."""
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)

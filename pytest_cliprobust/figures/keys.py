"""Which samples a figure rests on: their ids, what each was drawn from, and what is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Ints


@dataclass(frozen=True)
class SampleKeys:
    """Who the samples are, so that runs are compared in pairs and resampled as they were drawn.

    Attributes:
        ids: (N,) stable sample ids, each once.
        units: (N,) what each was drawn from (the drawing, the object, the scene): samples of one unit
            stand and fall together, so units are what is resampled.
        digests: (N,) what identifies the content, empty if that is not known; samples of two runs are
            the same only if their digests are.
        kind: what a unit is, for readers: ``"drawing"``.
    """

    ids: tuple[str, ...]
    units: tuple[str, ...]
    digests: tuple[str, ...] = ()
    kind: str = "sample"

    def __post_init__(self) -> None:
        """Check the lengths."""
        lengths = {len(self.ids), len(self.units), len(self.digests or self.ids)}
        if len(lengths) != 1:
            raise ClipRobustError(
                f"{len(self.ids)} sample ids, {len(self.units)} units and {len(self.digests)} digests; "
                "one of each is needed for a sample"
            )

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.ids)

    @cached_property
    def codes(self) -> Ints:
        """(N,) the unit of each sample as a number from 0, by the order of their names.

        Not by the order of the samples, on which no result may depend.
        """
        numbers = {name: number for number, name in enumerate(sorted(set(self.units)))}
        return np.array([numbers[unit] for unit in self.units], dtype=np.int64)

    @cached_property
    def order(self) -> Ints:
        """(N,) the rows in the order of the samples' ids."""
        return np.array(sorted(range(len(self)), key=self.ids.__getitem__), dtype=np.int64)

    @property
    def unit_count(self) -> int:
        """How many units there are."""
        return int(self.codes.max(initial=-1)) + 1

    @property
    def clustered(self) -> bool:
        """Whether any unit has several samples."""
        return self.unit_count < len(self)

    @cached_property
    def digest(self) -> str:
        """Hex digest of the ids in their order and of their units."""
        hasher = hashlib.blake2b(digest_size=12)
        for name in (*self.ids, *(self.units if self.clustered else ())):
            raw = name.encode()
            hasher.update(len(raw).to_bytes(8, "little") + raw)
        return hasher.hexdigest()

    @cached_property
    def contents(self) -> str:
        """Hex digest of the set of samples, whatever their order: their ids, and what is in them."""
        hasher = hashlib.blake2b(digest_size=12)
        for pair in sorted(zip(self.ids, self.digests or ("",) * len(self), strict=True)):
            for name in pair:
                raw = name.encode()
                hasher.update(len(raw).to_bytes(8, "little") + raw)
        return hasher.hexdigest()

    def singly(self) -> SampleKeys:
        """Return the keys of the same samples, each a unit of its own."""
        return SampleKeys(self.ids, self.ids, self.digests)

    def take(self, rows: Sequence[int] | Ints) -> SampleKeys:
        """Return the keys of the samples at ``rows``."""
        return SampleKeys(
            tuple(self.ids[row] for row in rows),
            tuple(self.units[row] for row in rows),
            tuple(self.digests[row] for row in rows) if self.digests else (),
            self.kind,
        )

    def beside(self, others: SampleKeys) -> SampleKeys:
        """Return the keys of these samples and of another data set's, which share nothing with them."""
        both = ((self, "in/"), (others, "out/"))
        return SampleKeys(
            tuple(mark + name for keys, mark in both for name in keys.ids),
            tuple(mark + name for keys, mark in both for name in keys.units),
            self.digests + others.digests if self.digests and others.digests else (),
            self.kind if self.kind == others.kind else "unit",
        )

    def text(self) -> str:
        """Return ``n = 536 in 268 drawings``, or ``n = 536`` where each sample is a unit of its own."""
        count = f"n = {len(self):,}"
        return f"{count} in {self.unit_count:,} {self.kind}s" if self.clustered else count


def matched(first: SampleKeys, second: SampleKeys) -> tuple[Ints, Ints]:
    """Return the rows (M,) of the samples that both have, in the order of ``first``.

    Samples are the same if their ids are, and their digests where both sides know them.
    """
    if first.ids == second.ids and (first.digests == second.digests or not second.digests):
        every = np.arange(len(first), dtype=np.int64)
        return every, every
    place = {name: row for row, name in enumerate(second.ids)}
    known = bool(first.digests and second.digests)
    pairs = [
        (row, place[name])
        for row, name in enumerate(first.ids)
        if name in place and (not known or first.digests[row] == second.digests[place[name]])
    ]
    rows = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return rows[:, 0], rows[:, 1]


def in_both(first: SampleKeys, second: SampleKeys) -> tuple[str, ...]:
    """Return the ids of the samples that both have: see :func:`matched`.

    Two folders of a user's may each have a ``cat/1.jpg`` of its own.
    """
    return tuple(first.ids[row] for row in matched(first, second)[0])

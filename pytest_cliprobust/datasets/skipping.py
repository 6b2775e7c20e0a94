"""Samples that cannot be read, left out where the user says so: counted, and listed with their reasons."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pytest_cliprobust.blame import users_code
from pytest_cliprobust.datasets.base import Dataset, PairedDataset
from pytest_cliprobust.datasets.framing import keeps_shapes
from pytest_cliprobust.datasets.subset import Subset
from pytest_cliprobust.errors import ClipRobustError, Unavailable, UserCodeError, one_line
from pytest_cliprobust.figures.arrays import Bools

#: Of a data set so large a share may be left out; more fails the run.
MOST = 0.01

#: Samples that are tried at a time.
_AT_ONCE = 32


@dataclass(frozen=True)
class Skipped:
    """What was left out of a data set.

    Attributes:
        data: its name.
        total: its samples, those that were left out included.
        samples: (id, reason) of each that was left out.
    """

    data: str
    total: int
    samples: tuple[tuple[str, str], ...]

    @property
    def too_many(self) -> bool:
        """Whether so many were left out that figures of the rest say little of the data."""
        return len(self.samples) > MOST * self.total

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        samples = [{"id": sample, "reason": reason} for sample, reason in self.samples]
        return {"data": self.data, "of": self.total, "samples": samples}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Skipped:
        """Return what :meth:`as_dict` wrote."""
        samples = tuple((str(one["id"]), str(one["reason"])) for one in data["samples"])
        return cls(str(data["data"]), int(data["of"]), samples)

    def unnamed(self) -> Skipped:
        """Return the same with samples that go by digests of their names, and without words of theirs."""
        samples = (
            hashlib.blake2b(sample.encode(), digest_size=10).hexdigest()
            for sample, _ in self.samples
        )
        return replace(self, samples=tuple((sample, "cannot be read") for sample in samples))

    def line(self, most: int | None = None) -> str:
        """Return it in one line; so many samples are listed at ``most``."""
        shown = [one_line(f"{sample} ({reason})") for sample, reason in self.samples[:most]]
        more = len(self.samples) - len(shown)
        shown += [f"{more} more"] if more else []
        return (
            f"{len(self.samples)} of {self.total} samples of {self.data} left out, as they cannot be read: "
            + "; ".join(shown)
        )

    def mistake(self) -> str:
        """Return the line that a run with too many fails with."""
        share = math.ceil(1000 * len(self.samples) / self.total) / 10
        return (
            f"{len(self.samples)} of {self.total} samples of {self.data} cannot be read, {share:g}%, and "
            f"--clip-bad-data skip leaves out 1% at most; the figures are of the others: repair or "
            "remove those files"
        )


def unreadable(data: Dataset, told: Callable[[int, int], None]) -> Bools:
    """Return which samples (N,) cannot be loaded, by loading all of them once.

    Args:
        data: N samples.
        told: is told how many of how many are tried.

    Raises:
        Unavailable: the environment lacks something.
        UserCodeError: a layout of the user's own fails.
    """
    total = len(data)
    bad = [False] * total
    at_once = 1 if keeps_shapes(data) else _AT_ONCE
    for start in range(0, total, at_once):
        rows = range(start, min(start + at_once, total))
        if _why_not(data, rows) is not None:
            for row in rows:
                bad[row] = _why_not(data, [row]) is not None
        told(rows.stop, total)
    return np.asarray(bad, dtype=np.bool_)


def without(data: Dataset, bad: Bools) -> tuple[Dataset, Skipped | None]:
    """Return a data set without samples that cannot be loaded, and what was left out.

    The digest of what is left says which those are; ids stay what they are.

    Args:
        data: N samples.
        bad: (N,) those that could not be loaded; one that can by now is kept.

    Raises:
        ClipRobustError: none can be loaded.
    """
    reasons = {row: _why_not(data, [row]) for row, own in enumerate(bad) if own}
    out = {row: reason for row, reason in reasons.items() if reason is not None}
    if not out:
        return data, None
    if len(out) == len(data):
        raise ClipRobustError(
            f"none of the {len(data)} samples of {data.name} can be read (first: "
            f"{data.ids[0]!r}, {out[0]}); check the files"
        )
    kept = Subset(data, [row for row in range(len(data)) if row not in out])
    skipped = tuple((data.ids[row], reason) for row, reason in out.items())
    return kept, Skipped(data.name, len(data), skipped)


def _why_not(data: Dataset, rows: Sequence[int]) -> str | None:
    """Return why samples cannot be loaded; None if they can."""
    try:
        with users_code(f"loading samples of data set {data.name!r}", passing=(MemoryError,)):
            if isinstance(data, PairedDataset):
                data.load_pairs(rows)
            else:
                data.load(rows)
    except (Unavailable, UserCodeError):
        raise
    except ClipRobustError as error:
        return str(getattr(error, "reason", error))
    return None

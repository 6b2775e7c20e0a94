"""Mixed conditions: each sample under one of several perturbations, drawn by its id.

A mean over severities and perturbations is usually taken with every sample under every one of them. Its
samples are then few, since each costs as many forward passes as there are conditions, and what a mean can
decide goes by the number of samples (and of what they were drawn from). With each sample under one condition
alone, the mean over samples has the same expectation, and the same passes buy as many samples as there
are conditions. Which condition is a sample's own depends on its id alone: two runs pair it as they do
any other, and a subset, another order or one condition more leaves (nearly) all as they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Ints

#: Ids that are looked at in one piece: with a hundred conditions 50 MB.
_AT_ONCE = 1 << 16

_Numbers = npt.NDArray[np.uint64]


def drawn(ids: Sequence[str], conditions: Sequence[str]) -> Ints:
    """Return for each sample the index (N,) of the condition that it is drawn for.

    Every condition has a hashed score with every id, and the highest wins (rendezvous hashing: Thaler &
    Ravishankar 1998), so that all are as likely, and a further condition takes its share of the samples
    without moving the others.

    Args:
        ids: (N,) of samples.
        conditions: (K,) their names, each once.

    Raises:
        ClipRobustError: no condition, or one twice.
    """
    if not conditions or len(set(conditions)) != len(conditions):
        raise ClipRobustError(
            f"mixed conditions: {len(conditions)} are given, {len(set(conditions))} of them different; "
            "each is needed once, and one at least"
        )
    names = _hashes(conditions)
    found = np.empty(len(ids), dtype=np.int64)
    for start in range(0, len(ids), _AT_ONCE):
        some = _hashes(ids[start : start + _AT_ONCE])
        found[start : start + len(some)] = _mixed(some[:, None] ^ names[None, :]).argmax(axis=1)
    return found


def _hashes(texts: Sequence[str]) -> _Numbers:
    """Return a hash (N,) of each text that is the same everywhere."""
    digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _mixed(numbers: _Numbers) -> _Numbers:
    """Return the numbers with their bits mixed (SplitMix64's finaliser, Steele et al. 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))

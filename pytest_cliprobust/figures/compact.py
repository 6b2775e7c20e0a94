"""Columns of outcomes in the smallest type that keeps what a comparison looks at, for files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_cliprobust.figures.change import SAME
from pytest_cliprobust.figures.outcomes import Column


def compact(column: Column) -> NDArray[Any]:
    """Return a column in the smallest type that keeps what a comparison looks at.

    Floats become float32 where that moves none of them by more than half of what counts as the same
    outcome; integers the smallest that hold them; booleans stay.

    Raises:
        TypeError: neither booleans nor numbers.
    """
    values = np.asarray(column)
    if values.dtype == np.bool_:
        return values
    if values.dtype.kind in "iu":
        ends = (int(values.min(initial=0)), int(values.max(initial=0)))
        return values.astype(np.result_type(*map(np.min_scalar_type, ends)))
    if values.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            short = values.astype(np.float32)
            moved = np.abs(short.astype(np.float64) - values) > SAME / 2.0
        return values.astype(np.float64) if moved.any() else short
    raise TypeError(f"a column of outcomes holds booleans or numbers, not {values.dtype}")


def unpacked(bits: NDArray[Any], shape: tuple[int, ...]) -> Column:
    """Return the booleans that ``np.packbits`` made one row of bytes of.

    Raises:
        ValueError: bits of another shape.
    """
    count = 1
    for size in shape:
        if size < 0:
            raise ValueError(f"{shape} is no shape")
        count *= size
    if len(bits) != -(-count // 8):
        raise ValueError(f"{len(bits)} bytes are not the bits of an array of shape {shape}")
    return np.unpackbits(bits, count=count).astype(np.bool_).reshape(shape)


def widened(values: NDArray[Any]) -> Column:
    """Return integers as int64, so that arithmetic does not overflow; floats stay, they are many."""
    return values.astype(np.int64) if values.dtype.kind in "iu" else values

"""Too little memory, of whichever kind: told as one class of error, so that whoever can retries with less.

torch has a class for it, which only some allocators raise; others say so in a RuntimeError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from pytest_cliprobust.datasets.base import Batch, LazyExtras
from pytest_cliprobust.errors import is_out_of_memory


@contextmanager
def as_out_of_memory() -> Iterator[None]:
    """Turn every error that means too little memory into torch's own.

    Raises:
        OutOfMemoryError: torch's, for any of them.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise torch.OutOfMemoryError(str(error)) from error


def lazy_extras(batch: Batch) -> LazyExtras:
    """Return what a batch has beside its pictures, none of it made yet that is made on request."""
    return batch.extras if isinstance(batch.extras, LazyExtras) else LazyExtras(batch.extras)


def part_of(batch: Batch, rows: slice) -> Batch:
    """Return some samples of a batch."""
    lazy = lazy_extras(batch)
    return replace(
        batch,
        ids=batch.ids[rows],
        images=batch.images[rows],
        depth=None if batch.depth is None else batch.depth[rows],
        mask=None if batch.mask is None else batch.mask[rows],
        extras=lazy.part(rows),
    )


def in_parts(
    compute: Callable[[Batch], Tensor], batch: Batch, size: int, halve: Callable[[int], int]
) -> Tensor:
    """Return what ``compute`` makes of a batch, of fewer samples at a time where memory runs out.

    Args:
        compute: from a batch to (B, …); its row i depends on sample i alone.
        batch: B samples.
        size: samples at a time to begin with.
        halve: told the number that was too many, returns the next; it raises where there is none.
    """
    done: list[Tensor] = []
    start, total = 0, len(batch.ids)
    while start < total:
        rows = slice(start, min(start + size, total))
        whole = rows == slice(0, total)
        try:
            with as_out_of_memory():
                done.append(compute(batch if whole else part_of(batch, rows)))
        except torch.OutOfMemoryError:
            size = halve(rows.stop - rows.start)
            continue
        start = rows.stop
    return done[0] if len(done) == 1 else torch.cat(done)

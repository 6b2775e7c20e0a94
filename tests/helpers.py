"""What several test files share."""

from __future__ import annotations

import weakref
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from _pytest.mark import ParameterSet
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pytest_cliprobust.figures.arrays import Ints
from pytest_cliprobust.figures.bootstrap import Bootstrap

ROOT = Path(__file__).parent.parent
SUITES = ROOT / "suites"
DOCS = ROOT / "docs"

#: Sides of pictures, in pixels.
SIZES = st.one_of(st.integers(16, 96), st.sampled_from((224, 512)))


Value = TypeVar("Value")


def mostly_slow(values: Iterable[Value], quick: Container[Value]) -> list[Value | ParameterSet]:
    """Return parameters of a test of which all but ``quick`` are marked as slow."""
    return [v if v in quick else pytest.param(v, marks=pytest.mark.slow) for v in values]


def check_result(result: Tensor, images: Tensor) -> None:
    assert result.shape == images.shape
    assert result.dtype == images.dtype
    assert result.device == images.device
    assert bool(result.isfinite().all())
    assert result.min() >= 0
    assert result.max() <= 1


class Watch(TorchDispatchMode):
    """Counts the bytes of live tensors and notices those that leave the accelerator."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self.live = self.peak = 0
        self._known: dict[int, int] = {}

    def _freed(self, key: int) -> None:
        self.live -= self._known.pop(key)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [x.device.type for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        for tensor in tree_leaves(out):
            if not isinstance(tensor, Tensor):
                continue
            assert not ("cuda" in given and tensor.device.type != "cuda"), f"{func} left the device"
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._known:
                self._known[key] = storage.nbytes()
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._freed, key)
        return out


def drawn_rows(settings: Bootstrap, count: int, strata: Ints | None = None) -> Ints:
    """Return which samples (R, ``count``) each replicate draws, from one place for all loops."""
    return np.concatenate(list(settings.plan(count, strata).indices()))

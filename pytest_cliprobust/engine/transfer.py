"""Between host and accelerator, without either waiting for the other.

A copy from ordinary memory makes the host wait until the device has done all that it was told before; a copy
from pinned memory does not, and is faster. Features go the other way several passes at a time, since each
fetch waits. On the CPU nothing is copied at all.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pytest_cliprobust.datasets.base import Batch

_SHARED = ("cpu", "mps")
"""Devices that work in the host's memory: there is nothing to pin."""

PASSES = 8
"""Forward passes whose rows are fetched together from an accelerator."""


def pinned(batch: Batch, device: torch.device, beside: Collection[str] = ()) -> Batch:
    """Return the batch with what ``device`` will ask for in pinned memory.

    Args:
        batch: samples in host memory.
        device: of the model.
        beside: which of ``depth`` and ``mask`` go there beside the pictures.
    """
    if device.type in _SHARED:
        return batch

    def wanted(name: str, tensor: Tensor | None) -> Tensor | None:
        return pinned_tensor(tensor, device) if tensor is not None and name in beside else tensor

    return replace(
        batch,
        images=pinned_tensor(batch.images, device),
        depth=wanted("depth", batch.depth),
        mask=wanted("mask", batch.mask),
    )


def pinned_tensor(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor in pinned memory; as it is where that can't be, or would be of no use."""
    if device.type in _SHARED or tensor.device.type != "cpu":
        return tensor
    try:
        return tensor.pin_memory()
    except (RuntimeError, NotImplementedError):  # not every device can, and the system may limit it
        return tensor


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on ``device``; from pinned memory the host does not wait for the copy."""
    if device.type in _SHARED or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.to(device, non_blocking=tensor.is_pinned())


class Fetched:
    """Rows of features on their way from the device into an array.

    Attributes:
        done: rows that are in the array.
        given: rows that were added, the former included.
    """

    def __init__(self, into: npt.NDArray[np.float32], done: int = 0) -> None:
        self._into = into
        self._waiting: list[Tensor] = []
        self.done = self.given = done

    def add(self, rows: Tensor) -> None:
        """Add the rows (n, D) of a pass, float32; those of the CPU are in the array at once."""
        self._waiting.append(rows)
        self.given += len(rows)
        if rows.device.type == "cpu" or len(self._waiting) == PASSES:
            self.fetch()

    def fetch(self) -> int:
        """Wait for the device, and return how many rows are in the array."""
        for rows in self._waiting:
            self._into[self.done : self.done + len(rows)] = rows.cpu().numpy()
            self.done += len(rows)
        self._waiting = []
        return self.done

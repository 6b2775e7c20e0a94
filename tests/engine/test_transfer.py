"""Between host and accelerator: what is pinned, what is waited for, what is fetched when."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pytest_cliprobust.datasets.base import Batch
from pytest_cliprobust.engine.transfer import PASSES, Fetched, moved, pinned, pinned_tensor

CPU, ACCELERATOR = torch.device("cpu"), torch.device("cuda")


def batch() -> Batch:
    return Batch(
        ("a", "b"), torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.ones(2, 1, 4, 4), None
    )


class Pins:
    """Notes which tensors are pinned, without an accelerator."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.seen: list[torch.dtype] = []

        def pin(tensor: Tensor) -> Tensor:
            if error is not None:
                raise error
            self.seen.append(tensor.dtype)
            return tensor.clone()

        monkeypatch.setattr(Tensor, "pin_memory", pin)


def test_nothing_is_pinned_for_devices_that_share_the_hosts_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pins = Pins(monkeypatch)
    for name in ("cpu", "mps"):
        device = torch.device(name)
        given = batch()
        assert pinned(given, device, {"depth"}) is given
        assert pinned_tensor(given.images, device) is given.images
    assert pins.seen == []


@pytest.mark.parametrize(
    ("beside", "seen"),
    [
        ((), [torch.uint8]),
        (("depth", "seeds"), [torch.uint8, torch.float32]),
        (("mask",), [torch.uint8]),  # there is none
    ],
)
def test_only_what_goes_to_the_device_is_pinned(
    monkeypatch: pytest.MonkeyPatch, beside: tuple[str, ...], seen: list[torch.dtype]
) -> None:
    pins, given = Pins(monkeypatch), batch()
    ready = pinned(given, ACCELERATOR, beside)
    assert pins.seen == seen
    assert ready.ids == given.ids
    assert torch.equal(ready.images, given.images)
    assert ready.depth is not None
    assert given.depth is not None
    assert torch.equal(ready.depth, given.depth)
    assert ready.mask is None


@pytest.mark.parametrize("error", [RuntimeError("no memory to lock"), NotImplementedError("none")])
def test_what_cannot_be_pinned_goes_as_it_is(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    Pins(monkeypatch, error)
    given = batch()
    assert pinned(given, ACCELERATOR).images is given.images


@pytest.mark.parametrize("is_pinned", [False, True])
def test_the_host_waits_for_a_copy_from_ordinary_memory_only(
    monkeypatch: pytest.MonkeyPatch, is_pinned: bool
) -> None:
    waits: list[bool] = []

    def to(tensor: Tensor, device: torch.device, non_blocking: bool = False) -> Tensor:
        waits.append(not non_blocking)
        return tensor

    monkeypatch.setattr(Tensor, "to", to)
    monkeypatch.setattr(Tensor, "is_pinned", lambda tensor: is_pinned)
    moved(torch.zeros(2), ACCELERATOR)
    assert waits == [not is_pinned]


def test_tensors_arrive_on_the_device() -> None:
    assert torch.equal(moved(torch.arange(3), CPU), torch.arange(3))
    with FakeTensorMode():
        there = moved(torch.empty(2, 3), ACCELERATOR)
        assert there.device.type == "cuda"
        assert moved(there, ACCELERATOR) is there
        assert pinned_tensor(there, ACCELERATOR) is there  # nothing on a device is pinned


class Far:
    """Rows on another device, which say when they are fetched."""

    def __init__(self, rows: Tensor, fetched: list[int]) -> None:
        self._rows, self._fetched = rows, fetched
        self.device = ACCELERATOR

    def __len__(self) -> int:
        return len(self._rows)

    def cpu(self) -> Tensor:
        self._fetched.append(len(self._rows))
        return self._rows


def test_rows_of_the_cpu_are_there_at_once() -> None:
    into = np.full((5, 2), np.nan, np.float32)
    rows = Fetched(into, 1)
    rows.add(torch.ones(2, 2))
    assert (rows.done, rows.given) == (3, 3)
    assert into[:, 0].tolist()[1:3] == [1, 1]
    assert np.isnan(into[[0, 3, 4]]).all()


def test_rows_of_an_accelerator_are_fetched_several_passes_at_a_time() -> None:
    fetched: list[int] = []
    into = np.zeros((2 * PASSES + 3, 1), np.float32)
    rows = Fetched(into)
    for number in range(2 * PASSES + 3):
        far: Any = Far(torch.full((1, 1), float(number)), fetched)
        rows.add(far)
        assert rows.given == number + 1
        assert rows.done == len(fetched) == (number + 1) // PASSES * PASSES
    assert rows.fetch() == rows.done == len(into)
    assert into[:, 0].tolist() == list(range(len(into)))
    assert rows.fetch() == len(into)  # again: there is nothing left
    assert len(fetched) == len(into)

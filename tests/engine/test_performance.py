"""Passes that are timed, and the memory that one needs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_cliprobust.datasets.base import Batch
from pytest_cliprobust.datasets.framing import Framing
from pytest_cliprobust.engine.performance import Passes, allocated_by, weights_of
from pytest_cliprobust.errors import NotRun

CPU = torch.device("cpu")


class Model:
    """A made-up target: what it holds and what it allocates are known."""

    def __init__(self, **held: Any) -> None:
        self.device = CPU
        self.info = SimpleNamespace(name="mine")
        self.seen: list[Tensor] = []
        self.__dict__.update(held)

    def preprocess(self, images: Tensor) -> Tensor:
        return 2.0 * images

    def encode_image(self, pixels: Tensor) -> Tensor:
        assert torch.is_inference_mode_enabled()
        self.seen.append(pixels)
        torch.zeros(1000, 1000)
        return torch.zeros(len(pixels), 8)


def passes(model: Any, count: int = 4) -> Passes:
    images = torch.full((count, 3, 2, 2), 255, dtype=torch.uint8)
    view: Any = SimpleNamespace(
        data=SimpleNamespace(load=lambda rows: SimpleNamespace(images=images[list(rows)])),
        __len__=lambda: count,
    )

    class View(SimpleNamespace):
        def __len__(self) -> int:
            return count

    return Passes(model, View(data=view.data))  # type: ignore[arg-type]


def test_a_pass_encodes_all_pictures_preprocessed() -> None:
    model = Model()
    one = passes(model)
    one()
    one()
    assert len(model.seen) == 2
    assert model.seen[0].shape == (4, 3, 2, 2)
    assert (model.seen[0] == 2.0).all()


def test_the_most_that_is_held_at_one_time() -> None:
    def one_after_the_other() -> None:
        for _ in range(3):
            torch.zeros(1_000_000)

    def side_by_side() -> None:
        kept = [torch.zeros(1_000_000) for _ in range(3)]
        del kept

    assert 4_000_000 <= allocated_by(one_after_the_other, CPU) < 4_100_000
    assert 12_000_000 <= allocated_by(side_by_side, CPU) < 12_100_000


def test_what_was_there_before_does_not_count() -> None:
    before = [torch.zeros(1_000_000) for _ in range(2)]

    def frees() -> None:
        before.clear()
        torch.zeros(1_000_000)

    assert allocated_by(frees, CPU) < 4_100_000
    assert allocated_by(lambda: None, CPU) == 0


def test_weights_count_once() -> None:
    tied = nn.Linear(10, 10, bias=False)
    tower = nn.Sequential(tied, nn.Linear(10, 20))
    tower[1].register_buffer("scale", torch.zeros(5))
    own = 4 * (100 + 200 + 20 + 5)
    assert weights_of(Model(model=tower, again=tied)) == own  # type: ignore[arg-type]
    assert weights_of(Model(parent=Model(model=tower))) == own  # type: ignore[arg-type]
    assert weights_of(Model(encoder=tower)) == own  # type: ignore[arg-type]
    assert weights_of(Model(encoder=SimpleNamespace(visual=tower))) == own  # type: ignore[arg-type]


def test_peak_memory_is_weights_and_what_a_pass_holds() -> None:
    tower = nn.Linear(100, 100, bias=False)
    model = Model(model=tower)
    found = passes(model).peak_memory()
    assert 4_040_000 <= found < 4_140_000
    assert passes(model).peak_memory() == found


def test_what_torch_does_not_hold_is_not_counted() -> None:
    with pytest.raises(NotRun, match="'mine' has no weights in it"):
        passes(Model()).peak_memory()


# --- Other devices and shapes -----------------------------------------------------------------------


class Counts:
    """A device's allocator: what it holds now, and the most since it was reset."""

    def __init__(self, held: int) -> None:
        self.held = self.most = held
        self.most += 500  # of something before

    def reset_peak_memory_stats(self, device: torch.device) -> None:
        self.most = self.held

    def memory_allocated(self, device: torch.device) -> int:
        return self.held

    def max_memory_allocated(self, device: torch.device) -> int:
        return self.most


def test_an_accelerator_counts_what_it_allocates(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counts(held=1000)
    monkeypatch.setattr(torch, "get_device_module", lambda device: counts)

    def work() -> None:
        counts.most = max(counts.most, counts.held + 70)
        counts.held += 30  # what stays is no peak

    assert allocated_by(work, torch.device("cuda")) == 70


def test_a_device_that_does_not_count_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_device_module", lambda device: SimpleNamespace())
    with pytest.raises(NotRun, match="counts what it allocates: mps does not"):
        allocated_by(lambda: pytest.fail("worked"), torch.device("mps"))


def test_a_pass_waits_for_its_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    model = Model()
    one = passes(model)
    one()
    assert waited == []  # the CPU is done when it returns
    model.device = torch.device("meta")
    one()
    assert waited == [torch.device("meta")]


def test_pictures_that_keep_their_shapes_are_squeezed_into_the_models() -> None:
    """Of another shape each, they can't be stacked before."""
    shapes = [(6, 12), (12, 6), (8, 8)]
    pictures = [
        torch.full((3, *shape), 51 * i, dtype=torch.uint8) for i, shape in enumerate(shapes)
    ]

    class View(SimpleNamespace):
        def __len__(self) -> int:
            return 3

    def load(rows: Any) -> Any:
        (row,) = rows
        images = pictures[row][None]
        return Batch((str(row),), images, None, None)

    data = SimpleNamespace(framing=Framing("whole", None), load=load, ids=("a", "b", "c"))
    model = Model(image_size=(4, 5))
    Passes(model, View(data=data))()  # type: ignore[arg-type]
    (seen,) = model.seen
    assert seen.shape == (3, 3, 4, 5)
    assert seen[:, 0, 2, 2].tolist() == pytest.approx([0.0, 0.4, 0.8], abs=1e-6)

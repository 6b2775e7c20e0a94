"""Samples that were loaded in one order serve any other, and are the same."""

from __future__ import annotations

from functools import partial

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pytest_cliprobust.datasets.base import Batch, LazyExtras, PairBatch
from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.engine.loaded import Loaded, bytes_of, gathered

#: Bytes of a sample of :class:`Data`: a picture of 2 × 2, its depth and its number.
SAMPLE = 12 + 16 + 8


class Data:
    """Samples whose pictures and so on are their numbers; tells what was loaded, and what made."""

    def __init__(self) -> None:
        self.loaded: list[list[int]] = []
        self.made: list[int] = []

    def texture(self, number: int) -> Tensor:
        self.made.append(number)
        return torch.tensor(float(number))

    def load(self, numbers: list[int]) -> Batch:
        self.loaded.append(numbers)
        shown = torch.tensor(numbers)[:, None, None, None]
        return Batch(
            tuple(map(str, numbers)),
            shown.expand(-1, 3, 2, 2).to(torch.uint8),
            depth=shown.expand(-1, 1, 2, 2).float(),
            extras=LazyExtras(
                {"focal": torch.tensor(numbers)},
                {"texture": [partial(self.texture, number) for number in numbers]},
            ),
        )

    def take(self, loaded: Loaded, numbers: list[int], name: str = "clean") -> Batch:
        """Return samples by number, and look that they are these."""
        batch = loaded.batch(
            [f"{name} {number}" for number in numbers],
            name,
            lambda places: self.load([numbers[place] for place in places]),
        )
        assert batch.ids == tuple(map(str, numbers))
        assert batch.images.shape == (len(numbers), 3, 2, 2)
        assert batch.images[:, 2, 1, 1].tolist() == numbers
        assert batch.depth is not None
        assert batch.depth[:, 0, 1, 0].tolist() == numbers
        assert batch.mask is None
        assert set(batch.extras) == {"focal", "texture"}
        assert batch.extras["focal"].tolist() == numbers
        assert not self.made
        assert batch.extras["texture"].tolist() == numbers
        assert self.made == numbers
        self.made.clear()
        return batch


def test_samples_are_loaded_once_in_whatever_order_they_are_asked_for() -> None:
    data, loaded = Data(), Loaded(1000)
    first = data.take(loaded, [0, 1, 2])
    assert data.take(loaded, [0, 1, 2]) is first
    data.take(loaded, [2, 0])
    data.take(loaded, [5, 1, 4, 0])
    data.take(loaded, [4, 3, 2])
    assert data.loaded == [[0, 1, 2], [5, 4], [3]]
    data.take(loaded, [0], "other")
    assert data.loaded[3:] == [[0]]
    assert loaded.batch([], "clean", data.load).ids == ()
    data.take(loaded, [9])
    assert data.loaded[4:] == [[], [9]]


def test_what_has_made_room_is_loaded_again() -> None:
    data, loaded = Data(), Loaded(4 * SAMPLE)
    data.take(loaded, [0, 1])
    data.take(loaded, [2])
    data.take(loaded, [5, 6], "other")  # pushes the first two out
    data.take(loaded, [2, 1])
    assert data.loaded == [[0, 1], [2], [5, 6], [1]]
    # A data set's own samples don't make room for more of it.
    data.take(loaded, [3, 1])
    data.take(loaded, [7, 8, 1])
    data.take(loaded, [3, 7, 8])
    assert data.loaded[4:] == [[3], [7, 8], [7, 8]]


@given(
    st.integers(0, 8),
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 9), min_size=1, max_size=5, unique=True),
            st.sampled_from(["clean", "other"]),
        ),
        max_size=12,
    ),
)
def test_samples_are_right_whatever_is_in_memory(
    room: int, asked: list[tuple[list[int], str]]
) -> None:
    data, loaded = Data(), Loaded(room * SAMPLE)
    for numbers, name in asked:
        data.take(loaded, numbers, name)
        # Of no more samples than are there it is known where they are.
        assert len(loaded._places) == loaded._recent._bytes // SAMPLE <= room


def test_a_data_set_that_brings_each_load_to_a_size_of_its_own_is_loaded_anew() -> None:
    def load(places: list[int]) -> Batch:
        side = len(places)
        return Batch(tuple(map(str, places)), torch.zeros(side, 3, side, side, dtype=torch.uint8))

    loaded = Loaded(1000)
    assert loaded.batch(["0", "1"], "clean", load).images.shape == (2, 3, 2, 2)
    assert loaded.batch(["0", "1", "2"], "clean", load).images.shape == (3, 3, 3, 3)


def test_what_not_all_have_is_left_out() -> None:
    images, ones = torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.ones(1, 1, 2, 2)
    focal, make = {"focal": torch.ones(1)}, partial(torch.zeros, 2)
    whole = Batch(("a",), images, ones, ones, LazyExtras(focal, {"texture": [make]}))
    for other in (Batch(("b",), images), Batch(("b",), images, extras={"more": torch.ones(1)})):
        both = gathered([(whole, 0), (other, 0)])
        assert (both.ids, both.depth, both.mask, dict(both.extras)) == (("a", "b"), None, None, {})
    both = gathered([(whole, 0), (Batch(("b",), images, ones, ones, focal), 0)])
    assert both.depth is not None
    assert both.mask is not None
    assert both.depth.shape == both.mask.shape == (2, 1, 2, 2)
    assert {name: tensor.tolist() for name, tensor in both.extras.items()} == {"focal": [1, 1]}


def test_pairs_are_loaded_once() -> None:
    loaded, made = Loaded(1000), []

    def load(key: str) -> PairBatch:
        made.append(key)
        batch = Batch(("a",), torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
        return PairBatch(batch, batch, ())

    for key in "aba":
        loaded.pairs(key, "two_view", partial(load, key))
    assert made == ["a", "b"]
    assert bytes_of([torch.zeros(3), None, torch.zeros(2, dtype=torch.uint8)]) == 14


def test_composed_samples_are_the_same_put_together() -> None:
    data, loaded = EmbeddedDataset("clean", limit=6, size=64), Loaded(2**24)

    def take(rows: list[int]) -> Batch:
        keys = [data.sample_keys[row] for row in rows]
        return loaded.batch(keys, "clean", lambda some: data.load([rows[place] for place in some]))

    take([0, 1, 2])
    put, drawn = take([4, 2, 0]), data.load([4, 2, 0])
    assert put.ids == drawn.ids
    for one, other in (
        (put.images, drawn.images),
        (put.depth, drawn.depth),
        (put.mask, drawn.mask),
    ):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)
    assert set(put.extras) == set(drawn.extras) == {"focal", "occluder", "texture"}
    assert all(torch.equal(put.extras[name], drawn.extras[name]) for name in put.extras)

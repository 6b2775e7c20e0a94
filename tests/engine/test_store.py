"""The store of decoded pictures: each is decoded once, whatever happens to the file or to the process."""

from __future__ import annotations

import errno
import os
import re
import shutil
import warnings
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from helpers import full_disk, write_pictures
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pytest_cliprobust.cache import FeatureCache
from pytest_cliprobust.datasets.base import Batch
from pytest_cliprobust.datasets.framing import Framing, framing_of
from pytest_cliprobust.datasets.layouts.imagefolder import shortest_side
from pytest_cliprobust.datasets.loading import load_dataset
from pytest_cliprobust.datasets.subset import whole_of
from pytest_cliprobust.engine import store as module
from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.engine.encoding import Encoder
from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.engine.store import OddPictures, PictureStore, Stores
from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.figures.condition import Step
from pytest_cliprobust.targets.loading import load_target

COUNT, SIDE = 40, 16


def pictures(rows: Sequence[int]) -> Tensor:
    """Return the pictures (B, 3, SIDE, SIDE) at some rows, each from its own number."""
    made = [
        np.random.default_rng(row).integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8) for row in rows
    ]
    return torch.from_numpy(np.stack(made))


class Decoder:
    """Decodes, and notes what."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, rows: list[int]) -> Tensor:
        self.rows += rows
        return pictures(rows)


def refuse(rows: list[int]) -> NoReturn:
    raise AssertionError(f"{rows} are decoded although they are there")


def made(path: Path) -> PictureStore:
    return PictureStore(path / "pictures" / "a.pictures", COUNT, (SIDE, SIDE))


def filled(path: Path) -> PictureStore:
    made(path).get(range(COUNT), pictures)
    return made(path)


@given(st.lists(st.lists(st.integers(0, COUNT - 1), max_size=12), max_size=8))
@settings(max_examples=25, deadline=None)
def test_each_picture_is_decoded_once_in_whatever_order(
    tmp_path_factory: pytest.TempPathFactory, asked: list[list[int]]
) -> None:
    path, decode, known = tmp_path_factory.mktemp("store"), Decoder(), set[int]()
    for rows in asked:
        # A store of its own each time, as in another run.
        decode.rows = []
        got = made(path).get(rows, decode)
        assert got.shape == (len(rows), 3, SIDE, SIDE)
        if rows:
            assert torch.equal(got, pictures(rows))
        assert set(decode.rows) == set(rows) - known
        known |= set(rows)


def test_the_file_has_the_size_that_was_said(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert store.path.stat().st_size == store.size
    assert COUNT * 3 * SIDE * SIDE < store.size < COUNT * 3 * SIDE * SIDE + 2 * 4096


def damaged_at(where: int) -> Any:
    def damage(path: Path, size: int) -> None:
        with path.open("r+b") as file:
            file.seek(where % size)
            (byte,) = file.read(1)
            file.seek(where % size)
            file.write(bytes([byte ^ 0xFF]))

    return damage


def cut_short(path: Path, size: int) -> None:
    os.truncate(path, size - 1)


def too_long(path: Path, size: int) -> None:
    os.truncate(path, size + 1)


def emptied(path: Path, size: int) -> None:
    os.truncate(path, 0)


def swapped(path: Path, size: int) -> None:
    """Two pictures at each other's place, their checksums with them."""
    content = bytearray(path.read_bytes())
    for start, length in ((32, 16), (size - COUNT * 3 * SIDE * SIDE, 3 * SIDE * SIDE)):
        first, second = slice(start, start + length), slice(start + length, start + 2 * length)
        content[first], content[second] = content[second], content[first]
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "again"),
    [
        (damaged_at(-1), [COUNT - 1]),  # the last byte of the last picture
        (damaged_at(32), [0]),  # the first checksum
        (damaged_at(0), list(range(COUNT))),  # the header
        (cut_short, list(range(COUNT))),
        (too_long, list(range(COUNT))),
        (emptied, list(range(COUNT))),
        (swapped, [0, 1]),
    ],
)
def test_damage_is_noticed_and_mended(tmp_path: Path, damage: Any, again: list[int]) -> None:
    store, decode = filled(tmp_path), Decoder()
    damage(store.path, store.size)
    with pytest.warns(UserWarning, match="is damaged") as caught:
        assert torch.equal(store.get(range(COUNT), decode), pictures(range(COUNT)))
    assert len(caught) == 1
    assert decode.rows == again
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(made(tmp_path).get(range(COUNT), refuse), pictures(range(COUNT)))


def test_what_an_interrupted_run_has_decoded_stays(tmp_path: Path) -> None:
    def stop(rows: list[int]) -> NoReturn:
        raise KeyboardInterrupt

    first = made(tmp_path)
    first.get(range(10), pictures)
    with pytest.raises(KeyboardInterrupt):
        first.get(range(10, 20), stop)
    decode = Decoder()
    made(tmp_path).get(range(20), decode)
    assert decode.rows == list(range(10, 20))


def test_a_picture_without_its_checksum_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a crash between the two leaves; nothing is damaged by it."""
    real, puts = module._put, []

    def put(*args: Any) -> None:
        puts.append(args)
        if len(puts) == 2:
            raise KeyboardInterrupt
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_put", put)
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path).get([3], pictures)
    decode = Decoder()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(made(tmp_path).get([3], decode), pictures([3]))
    assert decode.rows == [3]


def test_two_at_once_write_the_same(tmp_path: Path) -> None:
    """They share nothing but the file: here the second does all its work while the first decodes."""
    first, second = made(tmp_path), made(tmp_path)

    def meanwhile(rows: list[int]) -> Tensor:
        assert torch.equal(second.get(range(COUNT), pictures), pictures(range(COUNT)))
        return pictures(rows)

    assert torch.equal(first.get(range(10, 20), meanwhile), pictures(range(10, 20)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for store in (first, second, made(tmp_path)):
            assert torch.equal(store.get(range(COUNT), refuse), pictures(range(COUNT)))


def test_a_file_that_another_run_made_anew_is_taken_as_it_is(tmp_path: Path) -> None:
    first = filled(tmp_path)
    first.get(range(COUNT), refuse)
    first.path.unlink()
    made(tmp_path).get([5], pictures)
    decode = Decoder()
    assert torch.equal(first.get([4, 5, 6], decode), pictures([4, 5, 6]))
    assert decode.rows == [4, 6]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    told = r"cannot keep .*make room.*--clip-store=off"
    with pytest.raises(Unavailable, match=told) as caught, full_disk():
        made(tmp_path).get([0], pictures)
    assert "\n" not in str(caught.value)


def test_a_disk_that_fills_up_on_the_way_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_put", full)
    with pytest.raises(Unavailable, match=r"\(No space left on device\); make room"):
        made(tmp_path).get([0], pictures)


def test_what_lies_in_its_place_is_one_line(tmp_path: Path) -> None:
    for number, put in enumerate((os.mkfifo, os.mkdir)):
        store = made(tmp_path / str(number))
        store.path.parent.mkdir(parents=True)
        put(store.path)
        with pytest.raises(ClipRobustError, match="cannot keep decoded pictures"):
            store.get([0], pictures)


@pytest.mark.parametrize("odd", [torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, SIDE, SIDE)])
def test_pictures_of_another_kind_are_not_kept(tmp_path: Path, odd: Tensor) -> None:
    with pytest.raises(OddPictures):
        made(tmp_path).get([0], lambda rows: odd)
    assert not list(tmp_path.rglob("*.pictures"))


@pytest.mark.parametrize(("asked", "came"), [(3, 1), (3, 2), (2, 3)])
def test_other_than_one_picture_a_row_is_one_line(tmp_path: Path, asked: int, came: int) -> None:
    store, rows = made(tmp_path), range(asked)
    told = f"{came} pictures? came of {asked} rows that were asked for"
    with pytest.raises(ClipRobustError, match=told):
        store.get(rows, lambda rows: pictures(range(came)))
    assert torch.equal(store.get(rows, pictures), pictures(rows))


# --- Which data sets have one ----------------------------------------------------------------------


def data(**changes: Any) -> Any:
    """Return what a store asks of a data set: by default just large enough."""
    count = module.LEAST_BYTES // (3 * 64 * 64) + 1
    own = {
        "name": "d",
        "digest": "e" * 64,
        "framing": Framing("cut", (64, 64)),
        "ids": range(count),
    }
    made = SimpleNamespace(**{**own, **changes})

    class Sized(SimpleNamespace):
        def __len__(self) -> int:
            return len(self.ids)

    return Sized(**vars(made))


def stores(path: Path, mode: str = "auto") -> tuple[Stores, list[str]]:
    told: list[str] = []
    return Stores(path / "pictures", mode, told.append), told


def test_the_size_is_told_before(tmp_path: Path) -> None:
    all_of_them, told = stores(tmp_path, "on")
    store = all_of_them.of(data())
    assert store is not None
    assert not store.path.exists()
    assert told == [
        f"clip store: the 5462 decoded pictures of d (67 MB) are kept in {tmp_path / 'pictures'}"
    ]
    assert all_of_them.of(data()) is store
    assert len(told) == 1


@pytest.mark.parametrize(
    "changes", [{"framing": None}, {"ids": range(9)}, {"framing": Framing("cut", (63, 63))}]
)
def test_few_pictures_or_of_unknown_framing_have_none(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    assert stores(tmp_path, "on")[0].of(data(**changes)) is None
    assert stores(tmp_path, "off")[0].of(data()) is None


def test_other_data_framing_or_decoder_has_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        stores(tmp_path, "on")[0].of(own)
        for own in (
            data(),
            data(digest="f" * 64),
            data(framing=Framing("squash", (64, 64))),
            data(framing=Framing("cut", (65, 65))),
        )
    ]
    monkeypatch.setattr("PIL.__version__", "0")
    found.append(stores(tmp_path, "on")[0].of(data()))
    assert len({store.path for store in found if store is not None}) == 5


def test_free_space_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    for free, mode, words in (
        (10**9, "auto", "are kept in"),
        (10**8, "auto", r"are not kept, as 100 MB are free .*--clip-store=on"),
        (10**8, "on", "are kept in"),
    ):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage(free))
        own, told = stores(tmp_path, mode)
        assert (own.of(data()) is None) == ("not" in words)
        assert len(told) == 1
        assert re.search(words, told[0])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6))
    with pytest.raises(
        Unavailable, match=r"no room for the 5462 .*1 MB are free.*--clip-store=off"
    ):
        stores(tmp_path, "on")[0].of(data())


def test_a_store_that_is_there_is_taken_up_whatever_room_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores(tmp_path, "on")[0].of(data())
    assert store is not None
    store.path.parent.mkdir(parents=True)
    store.path.write_bytes(b"")
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0))
    for mode in ("auto", "on"):
        own, told = stores(tmp_path, mode)
        again = own.of(data())
        assert again is not None
        assert (again.path, told) == (store.path, [])
        own.forget(data())
        assert own.of(data()) is None


def test_a_store_may_take_a_tenth_of_what_is_free_and_all_of_it_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores(tmp_path, "on")[0].of(data())
    assert store is not None
    usage = namedtuple("usage", "free")
    for mode, least in (("auto", 10 * store.size), ("on", store.size)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=least: usage(free))
        assert stores(tmp_path, mode)[0].of(data()) is not None
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10 * store.size - 11))
    assert stores(tmp_path, "auto")[0].of(data()) is None
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(store.size - 1))
    with pytest.raises(Unavailable, match="no room"):
        stores(tmp_path, "on")[0].of(data())


def test_data_that_just_fills_the_least_has_a_store(tmp_path: Path) -> None:
    own = data(framing=Framing("cut", (256, 256)))  # 196608 bytes a picture
    for count, has in ((341, False), (342, True)):
        own.ids = range(count)
        assert (module.framing_to_keep(own) is not None) == has
    # To the byte.
    square = data(framing=Framing("cut", (1, 1)), ids=range(-(-module.LEAST_BYTES // 3)))
    assert module.framing_to_keep(square) is not None
    square.ids = range(module.LEAST_BYTES // 3)
    assert module.framing_to_keep(square) is None


# --- With a model ----------------------------------------------------------------------------------


def test_framing_is_told_by_what_decides_the_pictures() -> None:
    target = load_target("reference")
    known = framing_of(target.frame, 224)
    assert known is not None
    assert "squash" in known.how or "shortest" in known.how
    assert "mean" not in known.how
    assert framing_of(shortest_side, 224) is None
    assert framing_of(None, 224) is None
    assert framing_of(lambda image, size: image, 224) is None


@pytest.mark.slow
def test_features_are_the_same_bits_with_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_BYTES", 0)
    target = load_target("reference")
    photos = write_pictures(tmp_path / "photos", each=6)
    found: dict[str, list[Tensor]] = {}
    for mode, times in (("off", 2), ("on", 1), ("again", 0)):
        data = load_dataset(str(photos), frame=target.frame, size=224)
        decoded: list[int] = []
        real = data.load

        def load(rows: Sequence[int], real: Any = real, decoded: Any = decoded) -> Batch:
            decoded += rows
            batch: Batch = real(rows)
            return batch

        monkeypatch.setattr(data, "load", load)
        encoder = Encoder(target, FeatureCache(tmp_path / mode))
        if mode != "off":
            encoder.stores = Stores(tmp_path / "pictures", "on", print)
        noise = [Step("gaussian_noise", 2)]
        found[mode] = [encoder.images(data, steps) for steps in ([], noise)]
        assert encoder.forwarded == 2 * len(data)
        assert len(decoded) == times * len(data)
    for other in ("on", "again"):
        for one, two in zip(found["off"], found[other], strict=True):
            assert torch.equal(one, two)


def test_data_with_more_than_pictures_does_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_BYTES", 0)
    photos = write_pictures(tmp_path / "photos", each=5)
    options = RunConfig(("reference",), data=str(photos), cache_dir=tmp_path / "c", store="on")
    clip = Evaluation(options, "reference")
    clean = whole_of(clip.dataset("clean"))
    real = clean.load

    def load(rows: Sequence[int]) -> Batch:
        batch = real(rows)
        return Batch(batch.ids, batch.images, depth=torch.ones(len(rows), 1, 224, 224))

    monkeypatch.setattr(clean, "load", load)
    assert len(clip.on("clean").features) == len(clean)
    assert clip.encoder.stores is not None
    assert clip.encoder.stores.of(clean) is None


def test_amounts_as_they_are_told() -> None:
    amounts = {0: "0 MB", 1.4e6: "1 MB", 999e6: "999 MB", 1e9: "1.0 GB", 1.26e9: "1.3 GB"}
    assert {size: module._amount(size) for size in amounts} == amounts

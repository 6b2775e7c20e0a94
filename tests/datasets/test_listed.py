"""What layouts have in common: order, digests, what is refused."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layout_helpers import picture, pixels_of

from pytest_cliprobust.datasets.depth.base import Framed
from pytest_cliprobust.datasets.fingerprints import (
    UNREADABLE,
    fingerprints,
    fingerprints_or_none,
    joined,
)
from pytest_cliprobust.datasets.listed import (
    Labels,
    Listed,
    Row,
    in_rounds,
    pictures_in,
    place_of,
    shuffled,
    tree_of,
)
from pytest_cliprobust.datasets.providers import provider_of
from pytest_cliprobust.datasets.provision import Provision
from pytest_cliprobust.datasets.skipping import unreadable
from pytest_cliprobust.datasets.sources import read_sources
from pytest_cliprobust.errors import ClipRobustError


@given(st.lists(st.integers(-1, 5), max_size=40))
def test_every_prefix_is_balanced(labels: list[int]) -> None:
    rows = [Row(str(n), "", label) for n, label in enumerate(labels)]
    found = in_rounds(rows)
    assert sorted(found, key=lambda row: int(row.id)) == rows
    total = Counter(labels)
    for end in range(len(found) + 1):
        seen = Counter(row.label for row in found[:end])
        fewest = min((seen[label] for label in total if seen[label] < total[label]), default=99)
        assert all(seen[label] <= fewest + 1 for label in total)


@given(st.permutations([str(n) for n in range(12)]))
def test_a_random_order_is_the_same_every_time(ids: list[str]) -> None:
    found = [row.id for row in shuffled(Row(name, "") for name in ids)]
    assert found == [row.id for row in shuffled(Row(str(n), "") for n in range(12))]
    assert found != sorted(found)


def test_a_data_set(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png", ord(name), (16, 16))
    rows = [
        Row("1", "a.png", 0, {"x": "p"}, unit="u"),
        Row("2", "b.png", 1),
        Row("3", "b.png", -1, {"y": "q"}, captions=("t",)),
    ]
    data = Listed("mine", tmp_path, rows, Labels(("one", "two")), size=16)
    assert data.groups == {"x": ("p", "", ""), "y": ("", "", "q")}
    assert data.units == ("u", "2", "3")
    assert data.captions == ((), (), ("t",))
    assert data.choices == ()
    assert isinstance(data, Framed)  # maps of depth may lie beside its pictures
    images = data.load([2, 0]).images.numpy()
    assert np.array_equal(images[0], pixels_of(ord("b")))
    assert np.array_equal(images[1], pixels_of(ord("a")))
    assert data.load([]).images.shape == (0, 3, 16, 16)
    assert data.sample_digests[1] == data.sample_digests[2] != data.sample_digests[0]
    other = Listed("mine", tmp_path, rows, Labels(("one", "too")), size=16)
    assert other.digest != data.digest


def test_what_most_rows_have_not_stands_in_digests_where_it_is(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    plain = Row("1", "a.png", 0)
    assert plain.described == repr(plain)  # digests of data without it stay what they were
    found = [
        Listed("mine", tmp_path, [row], Labels(("x", "y")), size=8, frame=lambda image, size: image)
        for row in (plain, replace(plain, border=2), replace(plain, further=(1,)))
    ]
    assert len({data.digest for data in found}) == 3
    assert [data.further_labels for data in found] == [(), (), ((1,),)]
    shapes = [tuple(data.load([0]).images.shape[2:]) for data in found]
    assert shapes == [(20, 24), (16, 20), (20, 24)]


def test_a_box_is_cut_out_before_a_border(tmp_path: Path) -> None:
    """Known: columns 3 to 8 and rows 4 to 13, then without one pixel at each side."""
    picture(tmp_path / "a.png", 1)
    rows = [
        Row("1", "a.png", box=(3, 4, 9, 14)),
        Row("2", "a.png", box=(-5, -5, 6, 10)),
        Row("3", "a.png", border=1),
    ]
    data = Listed("mine", tmp_path, rows, Labels(), size=8, frame=lambda image, size: image)
    whole = pixels_of(1, (24, 20))
    expected = (whole[:, 4:14, 3:9], whole[:, :10, :6], whole[:, 1:-1, 1:-1])
    for row, wanted in enumerate(expected):
        assert np.array_equal(data.load([row]).images[0].numpy(), wanted)


def test_mistakes(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(ClipRobustError, match="has no pictures in this layout"):
        Listed("mine", tmp_path, [], Labels())
    with pytest.raises(ClipRobustError, match="limit of 0"):
        Listed("mine", tmp_path, [Row("1", "a.png")], Labels(), limit=0)
    with pytest.raises(ClipRobustError, match="two samples have the id '1'"):
        Listed("mine", tmp_path, [Row("1", "a.png"), Row("1", "a.png")], Labels())
    with pytest.raises(ClipRobustError, match="two samples have the id '2'"):
        Listed("mine", tmp_path, [Row(name, "a.png") for name in "122"], Labels())
    assert (
        len(Listed("mine", tmp_path, [Row(name, "a.png") for name in "12"], Labels(), limit=1)) == 1
    )
    with pytest.raises(ClipRobustError, match="is no ABC: it has no 'x' or 'y'"):
        place_of(tmp_path, "ABC", "x", "y")


def test_a_picture_that_is_not_there_is_a_sample_that_cannot_be_read(tmp_path: Path) -> None:
    """What is told of it, and whether it ends the run, is for those to say who know the options."""
    picture(tmp_path / "a.png")
    data = Listed("mine", tmp_path, [Row("1", "gone.png"), Row("2", "a.png")], Labels(), size=8)
    assert data.unreadable is not None
    assert data.unreadable.endswith(
        "gone.png' (No such file or directory); repair or remove the file"
    )
    assert list(unreadable(data, lambda done, total: None)) == [True, False]
    with pytest.raises(ClipRobustError, match=r"gone\.png.*repair or remove"):
        data.load([0])
    (tmp_path / "t.csv").write_text("image,label\na.png,x\ngone.png,y\n")
    source = f"groups=manifest:{tmp_path}/t.csv"
    provider = provider_of(read_sources([source]))
    with pytest.raises(ClipRobustError, match=r"manifest:t: cannot read .*gone\.png"):
        Provision(provider, size=8).loaded(source)
    skipping = Provision(provider, size=8, unreadable=lambda d: unreadable(d, lambda *_: None))
    assert skipping.loaded(source).ids == ("a.png",)
    assert skipping.skipped["manifest:t"].total == 2


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    for name in ("c10/x.jpg", "c2/x.jpg", "c2/.y.jpg", ".d/x.jpg", "__MACOSX/x.jpg"):
        picture(tmp_path / name)
    (tmp_path / "c2" / "readme.txt").touch()
    assert pictures_in(tree_of(tmp_path, "mine"), [""]) == [("", "c2/x.jpg"), ("", "c10/x.jpg")]
    assert tree_of(tmp_path, "mine").folders() == ["c2", "c10"]
    with pytest.raises(ClipRobustError, match=r"mine: .*gone' does not exist"):
        tree_of(tmp_path / "gone", "mine")
    with pytest.raises(ClipRobustError, match=r"readme.txt' is a file; give the folder"):
        tree_of(tmp_path / "c2" / "readme.txt", "mine")


def test_digests_are_of_the_content(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        picture(folder / "a.png", 1)
    cache = tmp_path / "cache"
    before = fingerprints(one, ["a.png", "a.png"], cache)
    assert before == fingerprints(two, ["a.png"], cache) * 2
    picture(one / "a.png", 2)
    os.utime(one / "a.png", (1, 1))
    assert fingerprints(one, ["a.png"], cache) != before[:1]
    for store in cache.iterdir():
        store.write_text("[")  # a damaged store is no store
    assert fingerprints(two, ["a.png"], cache) == before[:1]


def test_what_is_known_of_files_is_kept_whichever_of_them_changed(tmp_path: Path) -> None:
    """A file of the same size and time is taken for the same: so it shows what is kept."""
    names, cache = ["a", "b", "c"], tmp_path / "cache"
    for name in names:
        (tmp_path / name).write_text(f"first {name}")
    first = fingerprints(tmp_path, names, cache)
    assert len(set(first)) == 3
    for number, name in enumerate(names):
        path = tmp_path / name
        path.write_text(f"second, longer {name}")
        os.utime(path, ns=(number, number))
        second = fingerprints(tmp_path, names, cache)
        assert [a != b for a, b in zip(first, second, strict=True)] == [n == name for n in names]
        path.write_text(f"THIRD., longer {name}")
        os.utime(path, ns=(number, number))
        assert fingerprints(tmp_path, names, cache) == second
        os.utime(path, ns=(number, number + 1))
        first = fingerprints(tmp_path, names, cache)
        assert first != second
    # Of some files alone nothing is forgotten of the others.
    (tmp_path / "a").write_text("FOURTH, longer a")
    os.utime(tmp_path / "a", ns=(0, 1))
    fingerprints(tmp_path, ["c"], cache)
    assert fingerprints(tmp_path, names, cache) == first


def test_files_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    for name in "ac":
        (tmp_path / name).write_text(name)
    names = ["a", "b", "c", "d"]
    found, told = fingerprints_or_none(tmp_path, names, tmp_path / "cache")
    assert [digest == UNREADABLE for digest in found] == [False, True, False, True]
    assert found[0] == hashlib.blake2b(b"a", digest_size=20).hexdigest()
    assert told == (
        f"cannot read '{tmp_path}/b' (No such file or directory), nor 1 more of 4 files; repair or remove "
        "them"
    )
    with pytest.raises(ClipRobustError, match="nor 1 more of 4 files; repair or remove them"):
        fingerprints(tmp_path, names, tmp_path / "cache")
    _, one = fingerprints_or_none(tmp_path, ["a", "d"], tmp_path / "cache")
    assert (
        one == f"cannot read '{tmp_path}/d' (No such file or directory); repair or remove the file"
    )
    assert fingerprints_or_none(tmp_path, [], tmp_path / "cache") == ([], None)


def test_large_files_are_read_to_their_end(tmp_path: Path) -> None:
    content = bytes(range(256)) * (3 * 2**20 // 256) + b"rest"
    (tmp_path / "a").write_bytes(content)
    (found,) = fingerprints(tmp_path, ["a"], tmp_path / "cache")
    assert found == hashlib.blake2b(content, digest_size=20).hexdigest()
    assert joined(["a", "bc"]) == hashlib.sha256(b"\0a\0bc").hexdigest()
    assert joined([]) == hashlib.sha256().hexdigest()

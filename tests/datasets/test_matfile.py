"""MATLAB's files, against scipy, and damaged at random."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from pytest_cliprobust.datasets.matfile import (
    _elements,
    _entries,
    _head,
    _numbers,
    _value,
    read_structs,
)
from pytest_cliprobust.errors import ClipRobustError

FIELDS = ("ILSVRC2012_ID", "WNID")
ROWS = [
    (number, f"n{number:08d}", "a word", 0.5, np.arange(number)) for number in (1, 2, 300, 70_000)
]


def write(path: Path, **options: Any) -> Path:
    kinds = [(name, "O") for name in (*FIELDS, "words", "share", "children")]
    content = {"other": np.eye(3), "synsets": np.array(ROWS, dtype=kinds)}
    savemat(path, content, **options)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_struct_arrays_are_read_as_scipy_reads_them(compressed: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "meta.mat", do_compression=compressed)
    theirs = loadmat(path, squeeze_me=True)["synsets"]
    found = read_structs(path, "synsets", (*FIELDS, "words", "share"))
    for own, entry in zip(found, theirs, strict=True):
        assert own == {name: entry[name] for name in own}
    with pytest.raises(ValueError, match="no struct array 'other'"):
        read_structs(path, "other", FIELDS)
    with pytest.raises(ValueError, match="its entries have ILSVRC2012_ID, WNID, words"):
        read_structs(path, "synsets", ("gloss",))
    with pytest.raises(ValueError, match="numbers, not one"):
        read_structs(path, "synsets", ("children",))


def element(kind: int, content: bytes, order: str) -> bytes:
    """An element with its tag, filled up to a multiple of eight bytes."""
    return struct.pack(f"{order}II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("kind", "encoding"),
    [(1, "latin-1"), (4, "utf-16"), (16, "utf-8"), (17, "utf-16"), (18, "utf-32")],
)
def test_texts_in_every_encoding(order: str, kind: int, encoding: str) -> None:
    ending = {"<": "-le", ">": "-be"}[order] if kind in (4, 17, 18) else ""
    array = (
        element(6, struct.pack(f"{order}II", 4, 0), order)
        + element(5, struct.pack(f"{order}ii", 1, 3), order)
        + element(1, b"", order)
        + element(kind, "aßc".encode(encoding + ending), order)
    )
    assert _value((14, array), order) == "aßc"


def test_a_head_of_an_array() -> None:
    def head(flags: bytes, *sizes: int) -> tuple[int, int, str]:
        told = [(6, flags), (5, struct.pack(f"<{len(sizes)}i", *sizes)), (1, b"name")]
        return _head(iter(told), "<")

    assert head(struct.pack("<II", 0x0802, 0), 2, 3) == (2, 6, "name")
    assert head(struct.pack("<II", 6, 0), 0, 3) == (6, 0, "name")
    for flags, sizes in ((b"", (2, 3)), (b"\2\0\0\0", (2, -3))):
        with pytest.raises(ValueError, match="an array lacks something"):
            head(flags, *sizes)


def test_numbers_and_elements_end_where_they_say() -> None:
    assert _numbers((3, struct.pack("<hhh", 1, -2, 3) + b"\1"), "<") == (1, -2, 3)
    short = struct.pack("<I", (3 << 16) | 1) + b"abc\0"  # within its tag
    content = short + element(1, b"defgh", "<") + element(15, b"xyz", "<")[:11]
    assert list(_elements(content, "<")) == [(1, b"abc"), (1, b"defgh"), (15, b"xyz")]
    with pytest.raises(ValueError, match="ends behind the end of the file"):
        list(_elements(element(1, b"defgh", "<")[:12], "<"))


@pytest.mark.parametrize("length", [(), (0,), (-4,), (4, 4)])
def test_names_of_fields_have_one_length(length: tuple[int, ...]) -> None:
    content = element(5, struct.pack(f"<{len(length)}i", *length), "<")
    content += element(1, b"ab\0\0", "<")
    with pytest.raises(ValueError, match="an array lacks something"):
        _entries(iter(_elements(content, "<")), 1, (), "<")


def test_a_field_that_is_no_array_is_told() -> None:
    with pytest.raises(ValueError, match="a field is no array"):
        _value((1, b"text"), "<")


def test_what_is_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(200))
    with pytest.raises(ValueError, match="no MAT file of version 5"):
        read_structs(tmp_path / "a.mat", "synsets", FIELDS)
    with pytest.raises(ClipRobustError, match="is a folder, not a file"):
        read_structs(tmp_path, "synsets", FIELDS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, bytes]:
    """What a file holds, plain and compressed."""
    path = tmp_path_factory.mktemp("whole") / "meta.mat"
    return {own: write(path, do_compression=own).read_bytes() for own in (False, True)}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    places=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=5),
    compressed=st.booleans(),
    cut=st.integers(0, 3000),
)
def test_damage_is_told(
    places: list[tuple[int, int]],
    compressed: bool,
    cut: int,
    whole: dict[bool, bytes],
    tmp_path: Path,
) -> None:
    path = tmp_path / "meta.mat"
    content = bytearray(whole[compressed])
    for place, value in places:
        content[place % len(content)] = value
    path.write_bytes(content[: len(content) - cut % 100])
    try:
        found = read_structs(path, "synsets", FIELDS)
    except ValueError:
        return
    assert all(set(entry) == set(FIELDS) for entry in found)

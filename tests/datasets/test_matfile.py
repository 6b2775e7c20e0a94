"""MATLAB's files, against scipy, and damaged at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from pytest_cliprobust.datasets.matfile import read_structs
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


def test_what_is_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(200))
    with pytest.raises(ValueError, match="no MAT file of version 5"):
        read_structs(tmp_path / "a.mat", "synsets", FIELDS)
    with pytest.raises(ClipRobustError, match="is a folder, not a file"):
        read_structs(tmp_path, "synsets", FIELDS)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    places=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=5),
    compressed=st.booleans(),
    cut=st.integers(0, 3000),
)
def test_damage_is_told(
    places: list[tuple[int, int]], compressed: bool, cut: int, tmp_path: Path
) -> None:
    path = write(tmp_path / "meta.mat", do_compression=compressed)
    content = bytearray(path.read_bytes())
    for place, value in places:
        content[place % len(content)] = value
    path.write_bytes(content[: len(content) - cut % 100])
    try:
        found = read_structs(path, "synsets", FIELDS)
    except ValueError:
        return
    assert all(set(entry) == set(FIELDS) for entry in found)

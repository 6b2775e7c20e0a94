"""Damaged files, a few hundred of those that ``tests/fuzz.py`` makes; and that it would notice."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import fuzz
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_cliprobust.errors import ClipRobustError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, fuzz.Kind]:
    return fuzz.kinds(tmp_path_factory.mktemp("fuzz") / "files")


@pytest.mark.slow
def test_sound_files_are_read(made: dict[str, fuzz.Kind]) -> None:
    for name, kind in made.items():
        if name == "checkpoint-w-npz":
            with pytest.raises(ClipRobustError, match="NumPy arrays"):
                kind.read(kind.path)
        else:
            kind.read(kind.path)


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.integers(0, 100), seed=st.integers(0, 2**32))
def test_damaged_files_are_read_or_refused_in_one_line(
    made: dict[str, fuzz.Kind], name: int, seed: int
) -> None:
    chosen = list(made)[name % len(made)]
    wrong = fuzz.attempt(made[chosen], seed)
    assert wrong is None, f"{chosen}, seed {seed}: {wrong}"


def connects(path: Path) -> None:
    socket.create_connection(("127.0.0.1", 9))


def says_much(path: Path) -> None:
    raise ClipRobustError("two\nlines")


def waits(path: Path) -> None:
    time.sleep(3)


def divides(path: Path) -> float:
    return 1 / 0


def grows(path: Path) -> None:
    bytes(bytearray(b"x") * (300 * 2**20))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("read", "words"),
    [
        (connects, "asked for a connection"),
        (says_much, "a message of 9 letters"),
        (waits, "more than 1 s"),
        (divides, "ZeroDivisionError"),
        (grows, "the process has grown by"),
        (lambda path: None, None),
    ],
)
def test_what_goes_wrong_is_noticed(
    read: Callable[[Path], object],
    words: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if read is waits:  # on a busy machine the others may take as long
        monkeypatch.setattr(fuzz, "SECONDS", 1)
    monkeypatch.setattr(fuzz, "BYTES", 200 * 2**20)
    if os.access("/proc/self/clear_refs", os.W_OK):
        grows(tmp_path)  # what ran before in this process is not the file's growth
    path = tmp_path / "file"
    path.write_bytes(b"sound")
    found = fuzz.attempt(fuzz.Kind(path, read), 0)
    assert (found is None) if words is None else words in str(found)
    assert path.read_bytes() == b"sound"


def test_damage_is_the_same_each_time_and_never_none() -> None:
    from random import Random

    content = os.urandom(300)
    made = [fuzz.damaged(content, Random(seed)) for seed in range(200)]
    assert made == [fuzz.damaged(content, Random(seed)) for seed in range(200)]
    assert sum(one != content for one in made) > 190

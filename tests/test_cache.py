"""The feature cache: keys, damage, and two processes at once."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from pytest_cliprobust.cache import FeatureCache
from pytest_cliprobust.errors import ClipRobustError


def refuse() -> np.ndarray:
    raise AssertionError("computed although it is cached")


def test_computes_once_and_returns_the_same_bits(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    array = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    first = cache.get_or_compute({"a": 1, "b": 2}, lambda: array)
    second = cache.get_or_compute({"b": 2, "a": 1}, refuse)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("other", [{"a": 2}, {"a": "1"}, {"a": 1, "b": None}])
def test_every_part_of_a_key_counts(tmp_path: Path, other: dict[str, object]) -> None:
    cache = FeatureCache(tmp_path)
    cache.get_or_compute({"a": 1}, lambda: np.zeros((1, 1), np.float32))
    fresh = cache.get_or_compute(other, lambda: np.ones((1, 1), np.float32))
    assert fresh[0, 0] == 1


@pytest.mark.parametrize("keep", [0, 10, 40, -1])
def test_a_file_cut_short_is_named_and_computed_anew(tmp_path: Path, keep: int) -> None:
    cache = FeatureCache(tmp_path)
    array = np.arange(12, dtype=np.float32).reshape(4, 3)
    cache.get_or_compute({"a": 1}, lambda: array)
    path = cache.path({"a": 1})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.warns(UserWarning, match=f"{path.name} is damaged"):
        again = cache.get_or_compute({"a": 1}, lambda: array)
    np.testing.assert_array_equal(again, array)
    np.testing.assert_array_equal(cache.get_or_compute({"a": 1}, refuse), array)


def test_a_failed_computation_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)

    def fail() -> np.ndarray:
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        cache.get_or_compute({"a": 1}, fail)
    assert not [p for p in tmp_path.rglob("*") if p.suffix in {".part", ".features"}]


def _slow(root: Path, log: Path) -> None:
    def compute() -> np.ndarray:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.5)
        return np.ones((2, 2), np.float32)

    FeatureCache(root).get_or_compute({"shared": True}, compute)


def test_two_processes_compute_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_slow, args=(tmp_path / "c", log)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert len(log.read_text().splitlines()) == 1


def test_an_unwritable_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ClipRobustError, match="--clip-cache-dir"):
        FeatureCache(tmp_path / "file" / "cache")

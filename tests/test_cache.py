"""The feature cache: keys, damage, and two processes at once."""

from __future__ import annotations

import errno
import hashlib
import io
import multiprocessing
import os
import signal
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from helpers import full_disk

from pytest_cliprobust.cache import FORMAT, MAPPED_BYTES, Array, FeatureCache, _checksum
from pytest_cliprobust.errors import ClipRobustError, Unavailable


def refuse() -> Array:
    raise AssertionError("computed although it is cached")


def test_computes_once_and_returns_the_same_bits(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    array = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    first = cache.get_or_compute({"a": 1, "b": 2}, lambda: array)
    second = cache.get_or_compute({"b": 2, "a": 1}, refuse)
    np.testing.assert_array_equal(first, second)


def test_where_an_entry_lies(tmp_path: Path) -> None:
    """Elsewhere it would not be found again, and whole caches be computed anew."""
    name = hashlib.sha256(f'{{"a": 1, "b": [2], "format": {FORMAT}}}'.encode()).hexdigest()
    wanted = tmp_path / name[:2] / f"{name}.features"
    assert FeatureCache(tmp_path).path({"b": [2], "a": 1}) == wanted


def test_what_is_there_is_read_without_a_lock(tmp_path: Path) -> None:
    """Readers do not wait for each other, and need not be able to write."""
    cache = FeatureCache(tmp_path)
    array = np.ones((2, 2), np.float32)
    cache.get_or_compute({"a": 1}, lambda: array)
    lock = cache.path({"a": 1}).with_name(f"{cache.path({'a': 1}).name}.lock")
    lock.unlink(missing_ok=True)
    lock.mkdir()
    np.testing.assert_array_equal(cache.get_or_compute({"a": 1}, refuse), array)


def test_an_entry_that_somebody_removes_at_once_is_still_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(tmp_path)
    large = np.ones((MAPPED_BYTES // 4, 1), np.float32)
    monkeypatch.setattr(cache, "_write", lambda path, array: None)
    np.testing.assert_array_equal(cache.get_or_compute({"a": 1}, lambda: large), large)


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

    def fail() -> Array:
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        cache.get_or_compute({"a": 1}, fail)
    assert left_behind(tmp_path) == []
    # Nor does the lock stay: another cache computes at once.
    array = np.ones((2, 2), np.float32)
    again = FeatureCache(tmp_path).get_or_compute({"a": 1}, lambda: array)
    np.testing.assert_array_equal(again, array)


def left_behind(root: Path) -> list[str]:
    """Return the files below ``root``, locks aside."""
    return sorted(p.name for p in root.rglob("*") if p.is_file() and p.suffix != ".lock")


def test_a_full_disk_is_one_clear_line_and_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    large = np.ones((100, 100), np.float32)
    with pytest.raises(ClipRobustError) as caught, full_disk():
        cache.get_or_compute({"a": 1}, lambda: large)
    assert str(caught.value) == (
        f"cannot write to the cache folder {tmp_path} ({os.strerror(errno.EFBIG)}); make room, or "
        "choose another with --clip-cache-dir DIR"
    )
    assert left_behind(tmp_path) == []
    (file := tmp_path / "file").touch()
    with pytest.raises(ClipRobustError) as caught:
        FeatureCache(file).get_or_compute({"a": 1}, lambda: large)
    assert str(caught.value) == (
        f"cannot write to the cache folder {file} (it is a file); choose another with --clip-cache-dir DIR"
    )
    file.unlink()
    with pytest.raises(ClipRobustError, match="make room"), full_disk():
        cache.unfinished({"a": 1}).save(large)
    assert left_behind(tmp_path) == []
    np.testing.assert_array_equal(cache.get_or_compute({"a": 1}, lambda: large), large)


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ClipRobustError, "No space left"),
        (OSError("odd"), ClipRobustError, r"\(odd\); choose another"),
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
    ],
)
@pytest.mark.parametrize("step", ["tempfile.mkstemp", "os.replace"])
def test_whatever_stops_the_writing_leaves_nothing_behind(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: BaseException,
    raised: type[BaseException],
    message: str,
) -> None:
    cache = FeatureCache(tmp_path)
    (tmp_path / cache.path({"a": 1}).parent.name).mkdir()
    before = np.zeros((2, 2), np.float32)
    cache.unfinished({"a": 1}).save(before)

    def fail(*_: Any, **__: Any) -> NoReturn:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(step, fail)
        with pytest.raises(raised, match=message):
            cache.get_or_compute({"a": 1}, lambda: before + 1)
    # What an earlier run has saved is still there, and goes once the whole is.
    assert left_behind(tmp_path) == [cache.path({"a": 1}).with_suffix(".unfinished").name]
    np.testing.assert_array_equal(cache.unfinished({"a": 1}).load(), before)
    cache.get_or_compute({"a": 1}, lambda: before + 1)
    assert left_behind(tmp_path) == [cache.path({"a": 1}).name]
    np.testing.assert_array_equal(cache.get_or_compute({"a": 1}, refuse), before + 1)


def test_a_folder_that_cannot_be_made_for_a_key_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(tmp_path)

    def fail(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(ClipRobustError, match=r"cannot write .*No space left"):
        cache.get_or_compute({"a": 1}, refuse)


def folder_there(path: Path) -> None:
    path.mkdir(parents=True)


def pipe_there(path: Path) -> None:
    path.parent.mkdir(parents=True)
    os.mkfifo(path)


def loop_there(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.symlink_to(path)


def device_there(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.symlink_to("/dev/zero")


def file_above(path: Path) -> None:
    path.parent.write_text("")


@pytest.mark.parametrize("put", [folder_there, pipe_there, loop_there, device_there, file_above])
@pytest.mark.parametrize("ending", ["", ".lock"])
def test_what_lies_in_the_place_of_a_file_is_one_clear_line(
    put: Callable[[Path], None], ending: str, tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path)
    path = cache.path({"a": 1})
    put(path.with_name(path.name + ending))
    with pytest.raises(ClipRobustError, match=r"cache f.*--clip-cache-dir") as caught:
        cache.get_or_compute({"a": 1}, refuse)
    assert "\n" not in str(caught.value)


def test_a_disk_without_locks_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("pytest_cliprobust.cache.FileLock.acquire", fail)
    with pytest.raises(ClipRobustError, match="support flock"):
        FeatureCache(tmp_path).get_or_compute({"a": 1}, refuse)


def test_entries_in_each_others_places_are_computed_anew(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    keys = [{"a": number} for number in range(4)]
    for key in keys:
        cache.get_or_compute(key, lambda key=key: np.full((2, 3), key["a"], np.float32))  # type: ignore[misc]
    contents = [cache.path(key).read_bytes() for key in keys]
    for key, content in zip(keys, [*contents[1:], contents[0]], strict=True):
        cache.path(key).write_bytes(content)
    for key in keys:
        with pytest.warns(UserWarning, match="is damaged"):
            found = cache.get_or_compute(key, lambda key=key: np.full((2, 3), key["a"], np.float32))  # type: ignore[misc]
        assert (found == key["a"]).all()
    # Nor do the first rows of one pass for the whole of it.
    cache.unfinished(keys[0]).save(np.full((1, 3), 9, np.float32))
    os.replace(cache.unfinished(keys[0])._path, cache.path(keys[0]))
    with pytest.warns(UserWarning, match="is damaged"):
        assert len(cache.get_or_compute(keys[0], lambda: np.zeros((2, 3), np.float32))) == 2


def test_another_shape_under_the_same_numbers_is_damage(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    cache.get_or_compute({"a": 1}, lambda: array)
    path = cache.path({"a": 1})
    path.write_bytes(path.read_bytes().replace(b"(3, 4)", b"(4, 3)"))
    with pytest.warns(UserWarning, match="is damaged"):
        found = cache.get_or_compute({"a": 1}, lambda: array)
    assert found.shape == (3, 4)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2)),
        np.array([{"an": "object"}], dtype=object),
        np.asfortranarray(np.zeros((2, 3), np.float32)),
        np.zeros((2, 2), ">f4"),
    ],
    ids=str,
)
def test_arrays_that_are_not_ours_are_computed_anew(tmp_path: Path, array: Any) -> None:
    """Whoever can write to the cache can make a checksum, too; no object is made all the same."""
    cache = FeatureCache(tmp_path)
    path = cache.path({"a": 1})
    path.parent.mkdir()
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    path.write_bytes(_checksum(path, [buffer.getvalue()]) + buffer.getvalue())
    with pytest.warns(UserWarning, match="is damaged"):
        cache.get_or_compute({"a": 1}, lambda: np.zeros((2, 2), np.float32))


def test_a_cache_may_be_shared(tmp_path: Path) -> None:
    """Whoever may read what this user writes may read its cache, too."""
    cache = FeatureCache(tmp_path)
    old = os.umask(0o027)
    try:
        cache.get_or_compute({"a": 1}, lambda: np.ones((2, 2), np.float32))
    finally:
        os.umask(old)
    assert stat.S_IMODE(cache.path({"a": 1}).stat().st_mode) == 0o640


def test_rows_saved_on_the_way(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.path({"a": 1}).parent.mkdir()
    unfinished = cache.unfinished({"a": 1})
    assert unfinished.load() is None
    unfinished.remove()  # nothing there: no error
    for rows in (2, 3):
        unfinished.save(np.full((rows, 2), rows, np.float32))
        np.testing.assert_array_equal(unfinished.load(), np.full((rows, 2), rows, np.float32))
    assert cache.unfinished({"a": 2}).load() is None
    unfinished.remove()
    assert left_behind(tmp_path) == []


def test_arrays_come_back_as_float32_in_one_piece(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    made: Any = np.arange(12.0).reshape(3, 4).T  # float64, columns first
    for compute in (lambda: made, refuse):
        found = cache.get_or_compute({"a": 1}, compute)
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, made)


@pytest.mark.parametrize("shape", [(0, 3), (1,), (5, 3), (513, 512)])
def test_a_file_is_a_checksum_and_what_numpy_saves(tmp_path: Path, shape: tuple[int, ...]) -> None:
    cache = FeatureCache(tmp_path)
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.testing.assert_array_equal(cache.get_or_compute({"a": 1}, lambda: array), array)
    np.testing.assert_array_equal(cache.get_or_compute({"a": 1}, refuse), array)
    saved = io.BytesIO()
    np.save(saved, array)
    content = cache.path({"a": 1}).read_bytes()
    name = cache.path({"a": 1}).name.encode()
    assert content[:32] == hashlib.sha256(name + b"\0" + saved.getvalue()).digest()
    assert content[32:] == saved.getvalue()


def on_disk(array: Any) -> bool:
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False


def test_a_large_array_stays_on_the_disk(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    large = np.random.default_rng(0).normal(size=(MAPPED_BYTES // 4 // 64, 64)).astype(np.float32)
    for compute in (lambda: large, refuse):
        found = cache.get_or_compute({"a": 1}, compute)
        assert on_disk(found)
        np.testing.assert_array_equal(found, large)
        found[0] = 7  # whoever works in place changes what is theirs alone
    for compute in (lambda: large[1:], refuse):
        assert not on_disk(cache.get_or_compute({"a": 2}, compute))
    path = cache.path({"a": 1})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged"):
        np.testing.assert_array_equal(cache.get_or_compute({"a": 1}, lambda: large), large)


def _slow(root: Path, log: Path) -> None:
    def compute() -> Array:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.5)
        return np.ones((2, 2), np.float32)

    FeatureCache(root).get_or_compute({"shared": True}, compute)


@pytest.mark.slow
def test_two_processes_compute_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_slow, args=(tmp_path / "c", log)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(600)  # a busy machine imports torch slowly
        assert worker.exitcode == 0
    assert len(log.read_text().splitlines()) == 1


def test_an_unwritable_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ClipRobustError, match="--clip-cache-dir"):
        FeatureCache(tmp_path / "file" / "cache")


def test_a_folder_that_takes_no_file_is_noticed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_files(*_: Any, **__: Any) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    # Permissions do not bind the administrator, whom containers run as.
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse_files)
    with pytest.raises(ClipRobustError, match=r"\(Permission denied\).*--clip-cache-dir"):
        FeatureCache(tmp_path)


def test_the_platforms_cache_folder_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_cliprobust.cache.user_cache_path", lambda name: tmp_path / name)
    assert FeatureCache().root == tmp_path / "pytest-cliprobust" / "features"
    assert FeatureCache().root.is_dir()


def test_what_lies_beside_an_entry_is_in_nobodys_way(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    path = cache.path({"a": 1})
    odd = path.with_name(f".{path.stem}.x.part")
    (odd / "inner").mkdir(parents=True)
    array = np.ones((2, 2), np.float32)
    np.testing.assert_array_equal(cache.get_or_compute({"a": 1}, lambda: array), array)
    assert odd.is_dir()

    def compute() -> Array:
        cache.path({"a": 2}).with_suffix(".unfinished").mkdir(parents=True)
        return array

    np.testing.assert_array_equal(cache.get_or_compute({"a": 2}, compute), array)
    np.testing.assert_array_equal(cache.get_or_compute({"a": 2}, refuse), array)


def killed_in_writing(root: Path, key: dict[str, int], *, finished: bool) -> None:
    """Write an entry, or the rows so far, and die before it has its name."""

    def die(*_: Any) -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    os.replace = die  # type: ignore[assignment]
    cache = FeatureCache(root)
    array = np.ones((2, 2), np.float32)
    if finished:
        cache.get_or_compute(key, lambda: array)
    cache.unfinished(key).save(array)


@pytest.mark.parametrize("finished", [True, False])
def test_what_a_killed_process_was_writing_goes_with_the_next_run(
    finished: bool, tmp_path: Path
) -> None:
    started = multiprocessing.get_context("fork").Process(
        target=killed_in_writing, args=(tmp_path, {"a": 1}), kwargs={"finished": finished}
    )
    started.start()
    started.join(60)
    assert started.exitcode == -signal.SIGKILL
    (left,) = left_behind(tmp_path)
    assert left.endswith(".part")
    cache = FeatureCache(tmp_path)
    path = cache.path({"a": 1})
    (path.parent / ".other.features.abc.part").touch()  # another key's, which may be being written
    # Of several that were killed nothing stays; what is no file is in nobody's way, wherever it stands.
    (path.parent / f".{path.stem}.features.aaa.part").mkdir()
    for name in ("bbb", "yyy"):
        (path.parent / f".{path.stem}.features.{name}.part").touch()
    array = np.ones((2, 2), np.float32)
    np.testing.assert_array_equal(cache.get_or_compute({"a": 1}, lambda: array), array)
    assert left_behind(tmp_path) == sorted([path.name, ".other.features.abc.part"])


def test_a_full_disk_is_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache(tmp_path)
    for number, kind in ((errno.ENOSPC, Unavailable), (errno.EACCES, ClipRobustError)):

        def fail(*_: Any, number: int = number, **__: Any) -> NoReturn:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(tempfile, "mkstemp", fail)
        with pytest.raises(ClipRobustError) as caught:
            cache.get_or_compute({"a": number}, lambda: np.ones((1, 1), np.float32))
        assert type(caught.value) is kind

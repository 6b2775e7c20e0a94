"""Paths as messages show them, and files that are replaced in one step."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pytest_cliprobust.errors import ClipRobustError, Unavailable, one_line
from pytest_cliprobust.files import (
    not_written,
    own_name,
    read_json,
    replace_file,
    require_regular,
    shown_path,
    split_name,
    try_writing,
)


def test_paths_are_shown_as_the_reader_can_type_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a")
    assert shown_path(inside) == Path("b")
    assert shown_path(Path("b")) == Path("b")
    assert shown_path(tmp_path / "other") == tmp_path / "other"


def test_a_new_file_has_the_usual_permissions_and_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "t.txt"
    old = os.umask(0o027)
    try:
        replace_file(path, "é\r\n")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(old)
    assert path.read_bytes() == b"\xc3\xa9\r\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_where_nobody_is_kept_out_all_may_read_and_write(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        replace_file(tmp_path / "t.txt", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "t.txt").stat().st_mode) == 0o666


def test_a_replaced_file_keeps_permissions_and_links(tmp_path: Path) -> None:
    path, link = tmp_path / "t.bin", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o1605)
    link.symlink_to(path)
    replace_file(link, b"\x00new", durable=True)
    assert link.is_symlink()
    assert path.read_bytes() == b"\x00new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o1605
    assert sorted(os.listdir(tmp_path)) == ["link", "t.bin"]


@pytest.mark.parametrize("broken", ["replace", "chmod", "fsync"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_whatever_fails_the_old_file_stays_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, error: BaseException
) -> None:
    path = tmp_path / "t.txt"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(type(error)):
        replace_file(path, "new", durable=True)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["t.txt"]


def test_only_what_must_last_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    replace_file(tmp_path / "t", "x")
    assert calls == []
    replace_file(tmp_path / "t", "x", durable=True)
    assert len(calls) == 1


# --- Names and writability -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v2=./v1", ("v2", "./v1")),
        ("a.b-c+1=x=y", ("a.b-c+1", "x=y")),
        ("plain", (None, "plain")),
        ("./lr=1", (None, "./lr=1")),
        ("/a=b", (None, "/a=b")),
        ("~/a=x", (None, "~/a=x")),
        ("sub/lr=1", (None, "sub/lr=1")),
        ("hf-hub:o=x", (None, "hf-hub:o=x")),
        ("here=1", (None, "here=1")),
    ],
)
def test_a_name_stands_before_the_first_sign(
    text: str, expected: tuple[str | None, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here=1").touch()
    monkeypatch.chdir(tmp_path)
    assert split_name(text, "--flag") == expected


@pytest.mark.parametrize("text", ["=x", "x=", "a b=x", "é!=x", "-a=x"])
def test_a_name_that_is_none_names_its_option(text: str) -> None:
    with pytest.raises(ClipRobustError, match=rf"^--flag {text}: .*write NAME=PATH$"):
        split_name(text, "--flag")


def test_the_own_name_of_a_path_is_its_last_component(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    given = ["a/b", "a/b/", "/x/b", "./b", "a/../b", "~/b", "link", ".", "~", "/"]
    wanted = ["b"] * 6 + ["link", tmp_path.name, "me", ""]
    assert [own_name(path) for path in given] == wanted


def test_a_full_disk_is_no_mistake() -> None:
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        told = not_written("x: cannot be written", OSError(number, "no room"))
        assert isinstance(told, Unavailable)
        assert str(told) == "x: cannot be written: no room; make room"
    told = not_written("x", OSError(errno.EACCES, "Permission denied"))
    assert not isinstance(told, Unavailable)
    assert str(told) == "x: Permission denied"
    assert str(not_written("x", OSError("odd"))) == "x: odd"


def test_writing_is_tried_and_nothing_stays(tmp_path: Path) -> None:
    try_writing(tmp_path / "a" / "b" / "r.json")
    assert os.listdir(tmp_path) == []
    old = tmp_path / "r.json"
    old.write_text("old")
    try_writing(old)
    assert old.read_text() == "old"
    (tmp_path / "folder").mkdir()
    for path, words in (
        (old / "r.json", "is a file"),
        (old / "a" / "r.json", "is a file"),
        (tmp_path / "folder", "it is a folder"),
        (tmp_path / "new" / f"{'x' * 300}.json", "too long"),
    ):
        with pytest.raises(OSError, match=words):
            try_writing(path)
    assert sorted(os.listdir(tmp_path)) == ["folder", "r.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to the administrator")
def test_a_folder_that_is_not_for_writing(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(PermissionError):
        try_writing(tmp_path / "r.json")


def test_a_folder_that_takes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(PermissionError):
        try_writing(tmp_path / "new" / "r.json")
    assert os.listdir(tmp_path) == []


def test_what_is_read_only_stays_as_it_is(tmp_path: Path) -> None:
    """Also for the administrator, whom the system lets write."""
    old = tmp_path / "r.json"
    old.write_text("old")
    old.chmod(0o444)
    for write in (partial(try_writing, old), partial(replace_file, old, "new")):
        with pytest.raises(PermissionError, match="it is read-only"):
            write()
    assert (old.read_text(), os.listdir(tmp_path)) == ("old", ["r.json"])
    old.chmod(0o555)
    with pytest.raises(PermissionError, match="it is read-only"):
        try_writing(old)


@pytest.mark.parametrize("mode", [0o200, 0o020, 0o002])
def test_what_somebody_may_write_is_not_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    """Whether that is us, the system knows."""
    old = tmp_path / "r.json"
    old.touch()
    old.chmod(mode)
    for allowed in (True, False):
        monkeypatch.setattr(os, "access", lambda *_, allowed=allowed: allowed)
        with nullcontext() if allowed else pytest.raises(PermissionError):
            try_writing(old)


@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_a_folder_that_another_process_removes_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A few runs may try the same place at the same time; beyond that it is an error."""
    left = [FileNotFoundError(errno.ENOENT, "gone")] * times
    real = tempfile.NamedTemporaryFile

    def removed(**more: Any) -> Any:
        if left:
            raise left.pop()
        return real(**more)

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", removed)
    with nullcontext() if times < 3 else pytest.raises(FileNotFoundError, match="gone"):
        try_writing(tmp_path / "new" / "r.json")
    assert left == []
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="a device of Linux")
def test_a_device_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    for name in ("full", "null"):
        (tmp_path / name).symlink_to(f"/dev/{name}")
        try_writing(tmp_path / name)
    replace_file(tmp_path / "null", "lost")
    with pytest.raises(OSError, match="No space left"):
        replace_file(tmp_path / "full", "lost")
    assert Path("/dev/full").is_char_device()
    assert Path("/dev/null").is_char_device()
    assert sorted(os.listdir(tmp_path)) == ["full", "null"]
    os.mkfifo(tmp_path / "pipe")
    pipe = tmp_path / "pipe"
    for write in (partial(try_writing, pipe), partial(replace_file, pipe, "lost")):
        with pytest.raises(OSError, match="a pipe or a socket"):
            write()


# --- Files that are read ---------------------------------------------------------------------------


def test_only_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "broken").symlink_to("none")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    require_regular(tmp_path / "file", "checkpoint")
    require_regular(tmp_path / "link", "checkpoint")
    for path, words in {
        tmp_path / "folder": "is a folder, not a file; give a file",
        tmp_path / "pipe": "is a pipe, not a file; give a file",
        Path("/dev/null"): "is a device, not a file; give a file",
        tmp_path / "broken": "cannot be read (No such file or directory); check the path",
        tmp_path / "a\0b": "cannot be read (embedded null byte); check the path",
    }.items():
        with pytest.raises(ClipRobustError) as caught:
            require_regular(path, "checkpoint")
        assert str(caught.value) == f"checkpoint {one_line(str(path))} {words}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1}', None),
        ('{"a": 12}', "cannot be read (ValueError: 9 bytes, more than 8)"),
        ("[1]", "must hold a JSON object"),
        ("{", "cannot be read (JSONDecodeError: Expecting"),
    ],
)
def test_a_json_object_of_a_model(tmp_path: Path, text: str, words: str | None) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    if words is None:
        assert read_json(path, "configuration", limit=8) == {"a": 1}
        return
    with pytest.raises(ClipRobustError) as caught:
        read_json(path, "configuration", limit=8)
    assert str(caught.value).startswith(f"{path} {words}")

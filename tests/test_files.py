"""Paths as messages show them, and files that are replaced in one step."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pytest_cliprobust.files import replace_file, shown_path


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


def test_a_replaced_file_keeps_permissions_and_links(tmp_path: Path) -> None:
    path, link = tmp_path / "t.bin", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o604)
    link.symlink_to(path)
    replace_file(link, b"\x00new", durable=True)
    assert link.is_symlink()
    assert path.read_bytes() == b"\x00new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
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

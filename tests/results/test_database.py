"""The file of the history: old ones go on, processes share one, and what is wrong is a single line."""

from __future__ import annotations

import errno
import multiprocessing
import os
import sqlite3
from pathlib import Path

import pytest
from history_helpers import a_run, answers, figures, keep

from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.results import database
from pytest_cliprobust.results.history import History


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "history.sqlite"


def test_a_file_of_layout_0_becomes_one_of_today(path: Path) -> None:
    path.parent.mkdir()
    sqlite3.connect(path).close()
    path.touch()
    with History(path) as history:
        assert history.rows("PRAGMA user_version") == [(len(database.MIGRATIONS),)]
        assert history.rows("PRAGMA journal_mode") == [("wal",)]
        assert keep(history, a_run(figures(answers()))) == 1


def test_folders_are_made_for_a_new_file_alone(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "history.sqlite"
    with pytest.raises(
        ClipRobustError, match=r"history\.sqlite: no history there; a run with a model"
    ):
        History(deep)
    assert not (tmp_path / "a").exists()
    for _ in range(2):
        with History(deep, create=True) as history:
            assert history.rows("PRAGMA foreign_keys") == [(1,)]
    assert deep.is_file()
    with pytest.raises(ClipRobustError, match="the history is a file, and this is a folder"):
        History(deep.parent, create=True)


def test_an_older_file_goes_on_with_all_that_is_in_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with History(path, create=True) as history:
        keep(history, a_run(figures(answers())), "old")

    def further(connection: sqlite3.Connection) -> None:
        connection.execute("ALTER TABLE runs ADD COLUMN weather TEXT")
        connection.execute("UPDATE runs SET weather = 'fog'")

    def last(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE runs SET weather = weather || ' and snow'")

    monkeypatch.setattr(database, "MIGRATIONS", [*database.MIGRATIONS, further, last])
    for _ in range(2):
        with History(path) as history:
            assert history.rows("SELECT id, weather FROM runs") == [(1, "fog and snow")]
            assert history.rows("PRAGMA user_version") == [(3,)]
    with History(path) as history:
        assert history.run(history.find("tag:old")).figures
    monkeypatch.undo()
    with pytest.raises(ClipRobustError, match=r"layout 3, this one knows 1\); update it"):
        History(path)


def test_a_step_that_fails_leaves_the_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with History(path, create=True) as history:
        keep(history, a_run([]))

    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM runs")
        connection.execute("DROP TABLE weather")

    monkeypatch.setattr(database, "MIGRATIONS", [*database.MIGRATIONS, broken])
    with pytest.raises(ClipRobustError, match="no such table: weather"):
        History(path)
    monkeypatch.undo()
    with History(path) as history:
        assert len(history.entries()) == 1


def test_text_that_is_none_is_told_in_one_line(path: Path) -> None:
    """Python says so itself, without a code of SQLite's, and quotes all of it."""
    with History(path, create=True) as history:
        keep(history, a_run(figures(answers())))
        history.connection.execute("UPDATE runs SET config = CAST(x'7bff0a0a' AS TEXT)")
    with (
        pytest.raises(ClipRobustError, match=r"damaged one \(Could not decode") as caught,
        History(path) as history,
    ):
        history.entries()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("found", [b"\xff CREATE", b"(\n\n\n CREATE"])
def test_a_layout_that_cannot_be_read_is_told_in_one_line(path: Path, found: bytes) -> None:
    with History(path, create=True) as history:
        keep(history, a_run(figures(answers())))
        history.connection.execute("PRAGMA journal_mode = DELETE")
    raw = path.read_bytes()
    place = raw.index(b"CREATE TABLE")
    path.write_bytes(raw[:place] + found + raw[place + len(found) :])
    with pytest.raises(ClipRobustError, match=r"a damaged one \(") as caught, History(path):
        pass
    assert "\n" not in str(caught.value)


def test_something_else_is_told_in_one_line(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no database at all, but long enough to be looked at " * 40)
    foreign = tmp_path / "foreign.sqlite"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE mine (x)")
    connection.commit()
    connection.close()
    cut = tmp_path / "cut.sqlite"
    with History(cut, create=True) as history:
        keep(history, a_run(figures(answers())))
    raw = cut.read_bytes()
    cut.write_bytes(raw[: len(raw) // 2])
    negative = tmp_path / "negative.sqlite"
    with History(negative, create=True) as history:
        history.connection.execute("PRAGMA user_version = -1")
    for path, words in (
        (negative, "a damaged one (layout -1)"),
        (tmp_path / "missing", "no history there; a run with a model writes one"),
        (text, "not a history, or a damaged one"),
        (foreign, "a database of something else"),
        (tmp_path, "the history is a file, and this is a folder"),
        (text / "below", "no history there"),
        (cut, "damaged"),
    ):
        with pytest.raises(ClipRobustError) as caught, History(path) as history:
            history.run(1)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
        assert str(path.name) in str(caught.value)
    for path in (text / "below", Path("/proc/self/nowhere/history.sqlite")):
        with pytest.raises(ClipRobustError, match="the history cannot be used"):
            History(path, create=True)
    assert foreign.read_bytes()[:15] == b"SQLite format 3"


def test_what_is_no_mistake_of_the_users_is_told_apart(path: Path) -> None:
    full, locked = sqlite3.OperationalError("is full"), sqlite3.OperationalError("is locked")
    full.sqlite_errorcode, locked.sqlite_errorcode = sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY
    failing = sqlite3.OperationalError("disk I/O error")
    failing.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    shown = f"{path}: the history cannot be"
    told: list[tuple[Exception, type[ClipRobustError], str]] = [
        (full, Unavailable, f"{shown} written: is full; make room"),
        (
            locked,
            Unavailable,
            f"{shown} used: another program has held it for 30 s (is locked)",
        ),
        (
            failing,
            Unavailable,
            f"{shown} used: disk I/O error; the disk fails, or files may not grow as large here (ulimit -f)",
        ),
        (OSError(errno.ENOSPC, "no room"), Unavailable, f"{shown} written: no room; make room"),
        (
            OSError(errno.EACCES, "not yours"),
            ClipRobustError,
            f"{shown} used (not yours); name another file",
        ),
    ]
    with History(path, create=True) as history:
        for error, kind, message in told:
            with pytest.raises(ClipRobustError) as caught, history.told():
                raise error
            assert (type(caught.value), str(caught.value)) == (kind, message)


def test_a_folder_that_cannot_be_written_can_be_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with History(path, create=True) as history:
        keep(history, a_run(figures(answers())))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with History(path) as history:
        assert history.run(1).figures
        with pytest.raises(ClipRobustError, match="cannot be used"):
            keep(history, a_run([]))


def _write(path: Path, count: int) -> None:
    for number in range(count):
        with History(path, create=True) as history:
            keep(history, a_run(figures(answers(flipped=[number]))[:1]), f"by-{os.getpid()}")


def test_several_processes_write_one_file(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write, args=(path, 5)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    with History(path) as history:
        entries = history.entries()
        assert [entry.number for entry in entries] == list(range(1, 21))
        assert len({entry.tags for entry in entries}) == 4
        assert history.rows("PRAGMA integrity_check") == [("ok",)]

"""The file of the history: its tables, how an older one comes to have them, and what can be wrong with it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.files import FULL, not_written, shown_path

#: Marks the file as one of ours ("CLRB").
APPLICATION = 0x434C5242

#: Seconds to wait for another process that writes.
PATIENCE = 30.0


def _first(connection: sqlite3.Connection) -> None:
    for statement in (
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            began TEXT NOT NULL,
            written TEXT NOT NULL,
            version TEXT NOT NULL,
            series TEXT NOT NULL,
            config TEXT NOT NULL,
            environment TEXT NOT NULL,
            models TEXT NOT NULL,
            thresholds TEXT,
            exit_status INTEGER NOT NULL,
            complete INTEGER NOT NULL,
            partial INTEGER NOT NULL,
            anchor INTEGER NOT NULL DEFAULT 0,
            document BLOB NOT NULL
        )""",
        """CREATE TABLE tags (
            run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
            name TEXT NOT NULL,
            PRIMARY KEY (name, run)
        ) WITHOUT ROWID""",
        """CREATE TABLE figures (
            run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
            key TEXT NOT NULL,
            suite TEXT NOT NULL,
            metric TEXT NOT NULL,
            dataset TEXT NOT NULL,
            perturbation TEXT NOT NULL,
            severity INTEGER,
            model TEXT NOT NULL,
            value REAL,
            low REAL,
            high REAL,
            confidence REAL NOT NULL,
            n INTEGER NOT NULL,
            units INTEGER,
            unit TEXT NOT NULL,
            higher_is_better INTEGER,
            status TEXT NOT NULL,
            outcome TEXT NOT NULL,
            bound TEXT NOT NULL,
            PRIMARY KEY (run, key)
        ) WITHOUT ROWID""",
        "CREATE INDEX figures_by_key ON figures (key, run)",
        "CREATE TABLE blobs (id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, data BLOB NOT NULL)",
        """CREATE TABLE outcomes (
            run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
            blob INTEGER NOT NULL REFERENCES blobs,
            PRIMARY KEY (run, blob)
        ) WITHOUT ROWID""",
        "CREATE INDEX outcomes_by_blob ON outcomes (blob)",
    ):
        connection.execute(statement)


#: Step i leads from version i of the layout to version i + 1.
MIGRATIONS: list[Callable[[sqlite3.Connection], None]] = [_first]


class Database:
    """An SQLite file of ours, opened and up to date.

    Attributes:
        path: the file.
        shown: its path as messages say it.
        connection: to it.

    Args:
        path: the file.
        create: whether to make it (and its folder) if it is not there.

    Raises:
        ClipRobustError: it is not there, cannot be opened, or is something else.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        self.shown = str(shown_path(path))
        if not create and not path.exists():
            raise ClipRobustError(
                f"{self.shown}: no history there; a run with a model writes one (--clip-history FILE "
                "names another place)"
            )
        with self.told():
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise ClipRobustError(f"{self.shown}: the history is a file, and this is a folder")
            self.connection = self._opened(path)
        try:
            with self.told():
                self._prepare()
        except BaseException:
            self.connection.close()
            raise

    @staticmethod
    def _opened(path: Path) -> sqlite3.Connection:
        place = path.absolute().as_uri()
        if path.exists() and not os.access(path.parent, os.W_OK):
            place += "?immutable=1"  # nothing can be written beside it, not even to read it
        # Without isolation_level the module begins no transactions of its own.
        return sqlite3.connect(place, timeout=PATIENCE, isolation_level=None, uri=True)

    def _prepare(self) -> None:
        """Check whose file it is, and bring an older layout up to date."""
        connection = self.connection
        connection.execute("PRAGMA foreign_keys = ON")
        if self._version() != len(MIGRATIONS):
            # Readers do not wait for the writer, nor it for them. Some network folders know no WAL:
            # then the file is as safe, and slower.
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode = WAL")
            with self.transaction():
                self._migrate(connection)

    def _version(self) -> int:
        """Return the version of the layout, 0 for a new file.

        Raises:
            ClipRobustError: a newer one, or a database of something else.
        """
        with self._moment():
            (tables,) = self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            (version,) = self.connection.execute("PRAGMA user_version").fetchone()
            (application,) = self.connection.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION and (tables or version):
            raise ClipRobustError(
                f"{self.shown}: a database of something else, not a history; name another file"
            )
        if version < 0:
            raise ClipRobustError(
                f"{self.shown}: not a history, or a damaged one (layout {version}); move it away, or name "
                "another file"
            )
        if version > len(MIGRATIONS):
            raise ClipRobustError(
                f"{self.shown}: a newer version of pytest-cliprobust wrote this history (layout "
                f"{version}, this one knows {len(MIGRATIONS)}); update it, or name another file"
            )
        return int(version)

    @contextlib.contextmanager
    def _moment(self) -> Iterator[None]:
        """Read several things of one moment, whoever writes meanwhile."""
        if self.connection.in_transaction:
            yield
            return
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.execute("ROLLBACK")

    def _migrate(self, connection: sqlite3.Connection) -> None:
        # Asked again, now that nobody else writes: another process may have been faster.
        for number in range(self._version(), len(MIGRATIONS)):
            MIGRATIONS[number](connection)
            connection.execute(f"PRAGMA user_version = {number + 1}")
        connection.execute(f"PRAGMA application_id = {APPLICATION}")

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Turn what goes wrong with the file into one line."""
        try:
            yield
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code is None:  # Python's own, of a text that is none
                raise self._damaged(error) from None
            if code == sqlite3.SQLITE_FULL:
                raise Unavailable(
                    f"{self.shown}: the history cannot be written: {error}; make room"
                ) from None
            if code & 0xFF == sqlite3.SQLITE_IOERR:
                raise Unavailable(
                    f"{self.shown}: the history cannot be used: {error}; the disk fails, or files may not "
                    "grow as large here (ulimit -f)"
                ) from None
            if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise Unavailable(
                    f"{self.shown}: the history cannot be used: another program has held it for "
                    f"{PATIENCE:.0f} s ({error})"
                ) from None
            raise ClipRobustError(
                f"{self.shown}: the history cannot be used ({error}); name another file"
            ) from None
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise self._damaged(error) from None
        except OSError as error:
            if error.errno in FULL:
                raise not_written(f"{self.shown}: the history cannot be written", error) from None
            raise ClipRobustError(
                f"{self.shown}: the history cannot be used ({error.strerror}); name another file"
            ) from None

    def _damaged(self, error: Exception) -> ClipRobustError:
        """Return what is told of a file whose content is broken; the messages quote what they found."""
        found = " ".join(str(error).split())[:120]
        return ClipRobustError(
            f"{self.shown}: not a history, or a damaged one ({found}); move it away, or name another file"
        )

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Do all of something or nothing, while nobody else writes."""
        with self.told():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
            self.connection.execute("COMMIT")

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return what a question finds."""
        with self.told():
            return self.connection.execute(statement, values).fetchall()

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def __enter__(self) -> Self:
        """Return the history; it is closed at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

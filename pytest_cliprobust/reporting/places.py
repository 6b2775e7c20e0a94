"""Where in a user's files something stands: ``thresholds.toml:17``, as programs want it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from urllib.parse import quote


@dataclass(frozen=True)
class Place:
    """A line of a file.

    Attributes:
        file: as messages show it.
        line: counted from 1; 0 if it is the file as a whole.
    """

    file: str
    line: int = 0

    @classmethod
    def of_bound(cls, where: str) -> Place:
        """Return the place of a bound, ``thresholds.toml:17``."""
        file, _, line = where.rpartition(":")
        return cls(file, int(line)) if file and line.isdecimal() else cls(where)

    @classmethod
    def of_test(cls, test: str) -> Place:
        """Return the file of a test, from its node id."""
        return cls(test.partition("::")[0])

    @property
    def uri(self) -> str:
        """The file as a URI, relative to the folder of the run unless the path is absolute."""
        path = PurePath(self.file)
        if path.is_absolute():
            return Path(path).as_uri()
        return quote(str(PurePosixPath(*path.parts)))

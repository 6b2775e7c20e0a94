"""Where things stand in a TOML text: tables, keys, rows and the elements of lists.

Values are read by a TOML library, which forgets where they stood. Messages need the line, recording the
very characters, so that all the rest of a file stays byte by byte as it was.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pytest_cliprobust.gating import toml

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Statement:
    """A header, a key with its value, or an element of a list; offsets into the text.

    Attributes:
        path: keys and indices, as they lead through the parsed document.
        kind: ``table`` and ``array`` are headers; a ``pair`` is a line of its own; a ``key`` stands in
            an inline table; an ``item`` is an element of a list.
        start: of the header, the key, or the element.
        value_start, value_end: of the value.
        end: behind the newline of a header or pair; of what stands inside a value: behind the value.
    """

    path: Path
    kind: Literal["table", "array", "pair", "key", "item"]
    start: int
    value_start: int
    value_end: int
    end: int


_BARE = re.compile(r"[A-Za-z0-9_-]+")


class Positions:
    """Scans a document that is known to be valid TOML and says where each statement stands."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self.statements = tuple(self._scan())
        self._by_path: dict[Path, Statement] = {}
        self._inside: dict[Path, list[Statement]] = {}
        for statement in self.statements:
            # A dotted key or a sub-table defines its parents too; the first mention counts.
            for size in range(1, len(statement.path) + 1):
                self._by_path.setdefault(statement.path[:size], statement)
            if statement.kind in ("pair", "key"):
                self._inside.setdefault(statement.path[:-1], []).append(statement)

    def at(self, *path: str | int) -> Statement | None:
        """Return the statement of exactly this path, or None."""
        found = self._by_path.get(path)
        return found if found is not None and found.path == path else None

    def inside(self, *path: str | int) -> list[Statement]:
        """Return the pairs of a table, or the keys of an inline table, in their order."""
        return self._inside.get(path, [])

    def line(self, *path: str | int) -> int:
        """Return the line of ``path``, or of its nearest parent that stands in the text."""
        for size in range(len(path), 0, -1):
            statement = self._by_path.get(path[:size])
            if statement is not None:
                return self.line_at(statement.start)
        return 1

    def line_at(self, offset: int) -> int:
        """Return the line, from 1, that holds the character at ``offset``."""
        return bisect_right(self._line_starts, offset)

    def line_start(self, offset: int) -> int:
        """Return the offset at which the line of ``offset`` begins."""
        return self._line_starts[self.line_at(offset) - 1]

    def line_end(self, offset: int) -> int:
        """Return the offset behind the newline of the line of ``offset``."""
        stop = self.text.find("\n", offset)
        return len(self.text) if stop < 0 else stop + 1

    def after(self, offset: int) -> int:
        """Return the offset of what follows: blanks, newlines and comments are passed over."""
        text = self.text
        while offset < len(text):
            if text[offset] in " \t\r\n":
                offset += 1
            elif text[offset] == "#":
                offset = self.line_end(offset)
            else:
                break
        return offset

    def _scan(self) -> Iterator[Statement]:
        text, at = self.text, self.after(0)
        prefix: Path = ()
        counts: dict[Path, int] = {}
        while at < len(text):
            if text[at] == "[":
                array = text.startswith("[[", at)
                key, stop = self._key(at + 1 + array)
                prefix = _header_path(key, array, counts)
                end = self.line_end(stop)
                yield Statement(prefix, "array" if array else "table", at, stop, stop, end)
            else:
                key, stop = self._key(at)
                value = self.after(stop + 1)
                inner: list[Statement] = []
                value_end = self._value(value, (*prefix, *key), inner)
                end = self.line_end(value_end)
                yield Statement((*prefix, *key), "pair", at, value, value_end, end)
                yield from inner
            at = self.after(end)

    def _key(self, at: int) -> tuple[tuple[str, ...], int]:
        """Read a dotted key; the offset is that of what follows it (``=`` or ``]``)."""
        text, parts = self.text, []
        while True:
            if text[at] in " \t.":
                at += 1
            elif text[at] in "\"'":
                stop = self._string(at)
                parts.append(str(toml.loads(f"key = {text[at:stop]}")["key"]))
                at = stop
            else:
                match = _BARE.match(text, at)
                if match is None:
                    return tuple(parts), at
                parts.append(match.group())
                at = match.end()

    def _string(self, at: int) -> int:
        """Return the offset behind the string that starts at ``at``."""
        text, quote = self.text, self.text[at]
        closing = quote * 3 if text.startswith(quote * 3, at) else quote
        at += len(closing)
        while not text.startswith(closing, at):
            at += 2 if quote == '"' and text[at] == "\\" else 1
        at += len(closing)
        if len(closing) == 3:
            # Up to two quotes may stand right before the closing three.
            for _ in range(2):
                at += text.startswith(quote, at)
        return at

    def _value(self, at: int, path: Path, found: list[Statement]) -> int:
        """Return the offset behind the value that starts at ``at``; ``found`` takes what is in it."""
        text = self.text
        if text[at] in "\"'":
            return self._string(at)
        if text[at] in "[{":
            return self._contents(at, path, found)
        stop = at
        while stop < len(text) and text[stop] not in "#\n,]}":
            stop += 1
        return at + len(text[at:stop].rstrip())

    def _contents(self, at: int, path: Path, found: list[Statement]) -> int:
        """Scan a list or an inline table, and return the offset behind it."""
        text, table, count = self.text, self.text[at] == "{", 0
        at = self.after(at + 1)
        while text[at] not in "]}":
            start = at
            key: Path = (count,)
            if table:
                key, stop = self._key(at)
                at = self.after(stop + 1)
            position = len(found)
            end = self._value(at, (*path, *key), found)
            # Before what is in it, as for pairs.
            statement = Statement((*path, *key), "key" if table else "item", start, at, end, end)
            found.insert(position, statement)
            count += 1
            at = self.after(end)
            if text[at] == ",":
                at = self.after(at + 1)
        return at + 1


def _header_path(key: tuple[str, ...], array: bool, counts: dict[Path, int]) -> Path:
    """Return the path of a header; ``counts`` has how many tables each array has so far, less one."""
    path: Path = ()
    for position, part in enumerate(key):
        path += (part,)
        if array and position == len(key) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path += (counts[path],)
    return path

"""A threshold file's text, parsed, with the line of everything: what complaints need."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_cliprobust.errors import ClipRobustError, as_toml, did_you_mean
from pytest_cliprobust.files import require_regular, shown_path
from pytest_cliprobust.gating import toml
from pytest_cliprobust.gating.positions import Positions

#: Version of the layout of threshold files and packs.
SCHEMA = 1

_HUGE = re.compile(r"[0-9_]{4300}")


def has_controls(text: str) -> bool:
    """Whether a text holds characters that steer a terminal, or turn the direction of writing."""
    return printable(text) != text.replace("\t", "\\t")


def printable(text: str) -> str:
    """Return ``text`` with such characters written out, as Python writes them in a string."""
    return "".join(
        c.encode("unicode_escape").decode()
        if unicodedata.category(c) in _CONTROLS or c in _TURNS
        else c
        for c in text
    )


#: Control characters, lone surrogates, separators of lines; and marks that turn what follows around.
_CONTROLS = ("Cc", "Cs", "Zl", "Zp")
_TURNS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class Document:
    """A parsed TOML text; every complaint about it has its line.

    Attributes:
        name: what messages call the file.
        data: what it holds.
        positions: where it stands.

    Raises:
        ClipRobustError: the text is no TOML.
    """

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        if text.startswith("\ufeff"):
            raise ClipRobustError(
                f"{name}:1: not valid TOML: the file begins with a byte order mark; save it as UTF-8 "
                "without one"
            )
        try:
            self.data = toml.loads(text)
            self.positions = Positions(text)
        except toml.TOMLDecodeError as error:
            raise self._syntax(text, str(error)) from None
        except RecursionError:
            raise ClipRobustError(f"{name}:1: not valid TOML: nested too deeply") from None
        except ValueError:
            # Python turns no text of more than 4,300 digits into an integer.
            line = next((i for i, t in enumerate(text.split("\n"), 1) if _HUGE.search(t)), 1)
            raise ClipRobustError(
                f"{name}:{line}: not valid TOML: an integer of too many digits"
            ) from None

    def _syntax(self, text: str, message: str) -> ClipRobustError:
        conflict = re.search(r"^(<{7}|={7}|>{7})", text, re.MULTILINE)
        if conflict:
            line = text.count("\n", 0, conflict.start()) + 1
            return ClipRobustError(
                f"{self.name}:{line}: not valid TOML: a merge is not finished, its marks "
                f"({conflict.group()}) are in the file"
            )
        match = re.search(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$", message)
        line = text.count("\n") + 1
        if match:
            message = message[: match.start()]
            if match.group(1):
                line = int(match.group(1))
                message += f" at column {match.group(2)}"
        return ClipRobustError(f"{self.name}:{line}: not valid TOML: {message}")

    def line(self, *path: str | int) -> int:
        """Return the line of ``path``."""
        return self.positions.line(*path)

    def error(self, message: str, *path: str | int) -> ClipRobustError:
        """Return the error with file and line."""
        return ClipRobustError(f"{self.name}:{self.line(*path)}: {message}")

    def check_schema(self) -> None:
        """Refuse a document of another version, or of none."""
        schema = self.data.get("schema")
        if schema != SCHEMA or isinstance(schema, bool):
            found = "is missing" if schema is None else f"is {as_toml(schema)}"
            raise self.error(f"schema {found}; this version reads 'schema = {SCHEMA}'", "schema")

    def check_keys(
        self, table: Mapping[str, Any], known: Iterable[str], what: str, *path: str | int
    ) -> None:
        """Refuse keys that are not known: one that is misspelt would silently do nothing."""
        known = tuple(known)
        for key in table:
            if key not in known:
                hint = did_you_mean(key[:100], known) or f" Known: {', '.join(known)}"
                raise self.error(f"unknown key {as_toml(key)} in {what}.{hint}", *path, key)

    def number(self, value: Any, name: str, *path: str | int) -> float:
        """Return a finite number, called ``name`` in messages."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(f"{name} must be a number, not {as_toml(value)}", *path)
        try:
            result = float(value)
        except OverflowError:
            result = math.inf
        if not math.isfinite(result):
            raise self.error(f"{name} must be finite, not {as_toml(result)}", *path)
        return result

    def text(self, value: Any, *path: str | int) -> str:
        """Return a text that is not blank."""
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"{path[-1]} must be a text, not {as_toml(value)}", *path)
        if has_controls(value) and path[-1] != "because":
            raise self.error(f"{path[-1]} holds control characters: {as_toml(value)}", *path)
        return value

    def choice(self, value: Any, choices: tuple[str, ...], *path: str | int) -> str:
        """Return one of a few words."""
        if value not in choices:
            *first, last = map(repr, choices)
            listed = f"{', '.join(first)} or {last}"
            raise self.error(f"{path[-1]} must be {listed}, not {as_toml(value)}", *path)
        return str(value)

    def table(self, name: str) -> dict[str, Any]:
        """Return the table ``[name]``; empty if there is none."""
        table = self.data.get(name, {})
        if not isinstance(table, dict):
            raise self.error(f"{name} must be a table, [{name}]", name)
        return table

    def tables(self, name: str, what: str) -> list[dict[str, Any]]:
        """Return the tables under ``[[name]]``; they must be written that way."""
        tables = self.data.get(name, [])
        headers = [
            statement
            for statement in self.positions.statements
            if statement.kind == "array" and statement.path[:-1] == (name,)
        ]
        if not isinstance(tables, list) or len(headers) != len(tables):
            raise self.error(f"{what} are written as tables under [[{name}]]", name)
        return tables


def read_text(path: Path) -> str:
    """Return a threshold file's text, line endings as they are.

    Raises:
        ClipRobustError: there is no such file, it cannot be read, or it is no UTF-8.
    """
    shown = shown_path(path)
    if path.exists():
        require_regular(path, "threshold file")
    try:
        # Bytes, so that no line ending is translated.
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ClipRobustError(
            f"{shown}: no such threshold file; record one with --clip-record, or see "
            "docs/thresholds.md"
        ) from None
    except OSError as error:
        raise ClipRobustError(f"{shown}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ClipRobustError(f"{shown}:{line}: not valid TOML: not UTF-8 text") from None

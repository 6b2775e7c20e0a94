"""Where commands find the history: where pytest, called in the same folder, keeps it."""

from __future__ import annotations

import argparse
import configparser
import os
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_cliprobust.errors import ClipRobustError

if TYPE_CHECKING:
    from pytest_cliprobust.results.earlier import Earlier
    from pytest_cliprobust.results.history import History

#: What a run can be called, for help texts.
REFERENCE = "its number, last, last~1, tag:NAME or anchor"

#: Files in which pytest looks for its settings, and the table or section that holds them.
_FILES = (
    ("pytest.toml", ("pytest",)),
    (".pytest.toml", ("pytest",)),
    ("pytest.ini", ("pytest",)),
    (".pytest.ini", ("pytest",)),
    ("pyproject.toml", ("tool", "pytest", "ini_options")),
    ("pyproject.toml", ("tool", "pytest")),
    ("tox.ini", ("pytest",)),
    ("setup.cfg", ("tool:pytest",)),
)


def add_history_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--history``."""
    parser.add_argument(
        "--history",
        metavar="FILE",
        help="the history (default: where pytest keeps it when it is called in this folder)",
    )


def open_history(options: argparse.Namespace) -> History:
    """Return the history that the options mean.

    Raises:
        ClipRobustError: it is not there, or cannot be used.
    """
    from pytest_cliprobust.results.history import History

    return History(history_path(options))


def earlier_runs(options: argparse.Namespace, references: Sequence[str]) -> list[Earlier]:
    """Return runs of the history, or of JSON reports; where all are reports no history is needed.

    Raises:
        ClipRobustError: no such run, or no history to look in.
    """
    from pytest_cliprobust.results.history import earlier_run, is_file

    path = Path() if all(map(is_file, references)) else history_path(options)
    return [earlier_run(reference, path) for reference in references]


def history_path(options: argparse.Namespace) -> Path:
    """Return where the history is.

    Raises:
        ClipRobustError: pytest keeps none here.
    """
    from pytest_cliprobust.results.history import default_path

    if options.history:
        return Path(options.history)
    found = _settings(Path.cwd())
    added = [*_words(found.get("addopts", "")), *_words(os.environ.get("PYTEST_ADDOPTS", ""))]
    file, folder = (
        _option(added, name) or str(found.get(name.replace("-", "_"), ""))
        for name in ("clip-history", "clip-cache-dir")
    )
    if file == "none":
        raise ClipRobustError(
            "pytest keeps no history here (clip_history = none); name one with --history FILE"
        )
    return Path(file) if file else default_path(Path(folder) if folder else None)


def _words(text: Any) -> list[str]:
    if isinstance(text, list):
        return [str(word) for word in text]
    try:
        return shlex.split(str(text))
    except ValueError:  # pytest itself complains of it
        return []


def _option(words: list[str], name: str) -> str:
    """Return the last value that the words of a command line give an option; empty without one."""
    value = ""
    for number, word in enumerate(words):
        if word == f"--{name}":
            value = words[number + 1] if number + 1 < len(words) else ""
        elif word.startswith(f"--{name}="):
            value = word.partition("=")[2]
    return value


def _settings(folder: Path) -> Mapping[str, Any]:
    """Return pytest's settings for a folder: of the nearest file that has any."""
    for place in (folder, *folder.parents):
        for name, table in _FILES:
            found = _table(place / name, table)
            if found is not None:
                return found
    return {}


def _table(path: Path, names: tuple[str, ...]) -> Mapping[str, Any] | None:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            found: Any = tomllib.loads(text)
            for name in names:
                found = found[name]
            return found if isinstance(found, dict) else None
        parser = configparser.RawConfigParser()
        parser.read_string(text)
        return dict(parser[names[0]])
    except (OSError, ValueError, KeyError, TypeError, configparser.Error):
        return None  # pytest itself complains of it

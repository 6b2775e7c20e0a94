"""Pages of documentation that are followed: files are written, commands run, output is what comes out."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import forked
from helpers import DOCS, ROOT

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
EXIT = re.compile(r"# exit code (\d)")


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Yield (language, text) of the fenced blocks of a page of documentation."""
    for match in BLOCK.finditer((DOCS / page).read_text(encoding="utf-8")):
        yield match.group(1), match.group(2)


def run(command: str, folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run one line of a console block, check its exit code, and return its output."""
    words = shlex.split(command, comments=True)
    wanted = EXIT.search(command)
    if words[0] == "cliprobust":
        words[0] = "pytest_cliprobust.cli"
    given = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **(environment or {})}
    code, said = forked.command(words, folder, given)
    assert code == (int(wanted.group(1)) if wanted else 0), said
    return said


def same(line: str) -> str:
    """Return a line of output without what differs from machine to machine: spaces, weights, paths."""
    return " ".join(line.split())


def follow(
    page: str,
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    alike: Callable[[str], str] = same,
) -> int:
    """Do what a page says in an empty folder, check what it shows, and return the number of commands.

    ``alike``: what of a line of output must be as the page shows it.
    """
    said = ""
    commands = 0
    for language, text in blocks(page):
        if language in ("python", "toml"):
            name = text.splitlines()[0].removeprefix("# ")
            (folder / name).write_text(text, encoding="utf-8")
        elif language == "console":
            for line in text.splitlines():
                said = run(line.removeprefix("$ "), folder, environment)
                commands += 1
        elif language == "text":
            shown = [alike(line) for line in said.splitlines()]
            for line in text.splitlines():
                assert line == "..." or alike(line) in shown, f"{line!r} is not in\n{said}"
    return commands

"""The tutorial does what it says: its files are written, its commands run, its output is what comes out."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import DOCS, ROOT

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
EXIT = re.compile(r"# exit code (\d)")


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Yield (language, text) of the fenced blocks of a page of documentation."""
    for match in BLOCK.finditer((DOCS / page).read_text(encoding="utf-8")):
        yield match.group(1), match.group(2)


def run(command: str, folder: Path) -> str:
    """Run one line of a console block, check its exit code, and return its output."""
    words = shlex.split(command, comments=True)
    wanted = EXIT.search(command)
    result = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = result.stdout + result.stderr
    assert result.returncode == (int(wanted.group(1)) if wanted else 0), said
    return said


def same(line: str) -> str:
    """Return a line of output without what differs from machine to machine: spaces, weights, paths."""
    return " ".join(line.split())


@pytest.mark.slow
def test_the_tutorial(tmp_path: Path) -> None:
    said = ""
    commands = 0
    for language, text in blocks("index.md"):
        if language in ("python", "toml"):
            name = text.splitlines()[0].removeprefix("# ")
            (tmp_path / name).write_text(text, encoding="utf-8")
        elif language == "console":
            for line in text.splitlines():
                said = run(line.removeprefix("$ "), tmp_path)
                commands += 1
        elif language == "text":
            shown = [same(line) for line in said.splitlines()]
            for line in text.splitlines():
                assert line == "..." or same(line) in shown, f"{line!r} is not in\n{said}"
    assert commands == 5


def test_the_readme_shows_the_suite_of_the_tutorial() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for language, text in blocks("index.md"):
        if language in ("python", "toml") and "margin" not in text:
            assert text.split("\n", 1)[1] in readme

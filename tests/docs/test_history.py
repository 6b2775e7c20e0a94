"""The page of the history does what it says."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from helpers import DOCS, ROOT
from pages import follow, same

from pytest_cliprobust import cli
from pytest_cliprobust.results.history import History


def loosely(line: str) -> str:
    """Return a line without numbers, which another processor may change in the last digits."""
    line = re.sub(r"\d+ (lost|gained): .*", r"\1", same(line))
    return re.sub(r"[-+]?\d+\.\d+(e-\d+)?|\d+e-\d+", "#", line)


@pytest.mark.long
def test_the_page_of_the_history(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTEST_ADDOPTS": ""}
    assert follow("history.md", folder, environment=cache, alike=loosely) == 18


def test_the_page_names_all_tables_and_commands(tmp_path: Path) -> None:
    page = (DOCS / "history.md").read_text(encoding="utf-8")
    with History(tmp_path / "history.sqlite", create=True) as history:
        tables = {
            name: [column[1] for column in history.rows(f"PRAGMA table_info({name})")]
            for (name,) in history.rows(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            )
        }
    assert tables.keys() == {"runs", "tags", "figures", "blobs", "outcomes"}
    for name in (*tables, *tables["runs"][1:]):
        assert f"`{name}`" in page, name
    others = {"perturb", "perturbations", "doctor", "models", "matches", "shape-bias", "study"}
    others |= {"data", "report", "schema", "card", "explain", "init"}
    for command in sorted(set(cli.commands()) - others):
        assert f"cliprobust {command}" in page, command
    assert sqlite3.sqlite_version_info > (3, 24)


def test_the_readme_has_the_options() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for option in ("history=FILE", "tag=NAME", "no-samples"):
        assert f"| `--clip-{option}` |" in readme

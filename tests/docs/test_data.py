"""What docs/data.md says of roles, layouts and options is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from helpers import DOCS

from pytest_cliprobust.datasets.providers import provider_of
from pytest_cliprobust.datasets.registry import LAYOUTS, told_of
from pytest_cliprobust.datasets.roles import ROLES
from pytest_cliprobust.datasets.sources import read_sources, read_table

TEXT = (DOCS / "data.md").read_text(encoding="utf-8")


def test_every_role_has_a_section_and_every_layout_a_row() -> None:
    assert set(ROLES) <= set(re.findall(r"^### (\w+)$", TEXT, re.MULTILINE))
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (\w+) \|", TEXT, re.MULTILINE))
    assert rows == {name: told_of(name).plays[0] for name in LAYOUTS if name in rows}
    # Tests of a user's own layouts leave theirs behind.
    ours = {name for name, module in LAYOUTS.modules().items() if module.startswith("pytest_cl")}
    assert ours <= set(rows)


def test_the_commands_are_read() -> None:
    commands = TEXT.replace("\\\n", "").splitlines()
    given = [re.findall(r"--clip-data=(\S+)", line) for line in commands if "pytest --" in line]
    assert len(given) >= len(ROLES) - 1
    for texts in given:
        assert provider_of(read_sources(texts)).sets


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL))
def test_the_toml_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: str
) -> None:
    monkeypatch.setenv("DATA", "/data")
    assert tomllib.loads(block)["data"]
    (tmp_path / "data.toml").write_text(block, encoding="utf-8")
    assert provider_of(read_table(tmp_path / "data.toml")).of("clean")

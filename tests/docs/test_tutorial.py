"""The tutorial does what it says: its files are written, its commands run, its output is what comes out."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import ROOT
from pages import blocks, follow


@pytest.mark.long
def test_the_tutorial(tmp_path: Path) -> None:
    assert follow("index.md", tmp_path) == 5


def test_the_readme_shows_the_suite_of_the_tutorial() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for language, text in blocks("index.md"):
        if language in ("python", "toml") and "margin" not in text:
            assert text.split("\n", 1)[1] in readme

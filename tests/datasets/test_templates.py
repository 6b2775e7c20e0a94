"""Prompt templates of the user's own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pytest_cliprobust.datasets.templates import (
    TemplateSummary,
    checked_templates,
    digest_of,
    read_templates,
)
from pytest_cliprobust.errors import ClipRobustError


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("﻿# mine\n\na photo of a {c}.\n  art of {} \n", encoding="utf-8")
    assert read_templates(path) == ("a photo of a {}.", "art of {}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "has no template"),
        (b"a photo", "no place for the class"),
        (b"\xff{}", "cannot be read"),
    ],
)
def test_mistakes(tmp_path: Path, text: bytes, words: str) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(text)
    with pytest.raises(ClipRobustError, match=words):
        read_templates(path)
    with pytest.raises(ClipRobustError, match="cannot be read"):
        read_templates(tmp_path / "nowhere.txt")


def test_digest() -> None:
    assert digest_of(["a", "b"]) == hashlib.sha256(b"\1a\1b").hexdigest()
    assert digest_of(["a", "b"]) != digest_of(["b", "a"])
    assert str(TemplateSummary("mine", 2, "0123456789abcdef")) == "mine (2, digest 0123456789ab)"
    assert checked_templates(["{c} and {}"], "x") == ("{} and {}",)

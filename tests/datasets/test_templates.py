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
    unfit,
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


@pytest.mark.parametrize(
    ("text", "in_a_line", "in_lines"),
    [
        ("a photo of a café\u00a0noir 猫", False, False),
        ("می\u200cخواهم \u200d", False, False),
        ("one\ttwo\r\n", True, False),
        ("bell\x07", True, True),
        ("turned\u202e", True, True),
        ("half\ud83d", True, True),
        ("line\u2028", True, True),
        ("end\u2029", True, True),
    ],
)
def test_letters_that_no_prompt_is_meant_to_hold(
    text: str, in_a_line: bool, in_lines: bool
) -> None:
    assert unfit(text) is in_a_line
    assert unfit(text, lines=True) is in_lines


def test_digest() -> None:
    assert digest_of(["a", "b"]) == hashlib.sha256(b"\1a\1b").hexdigest()
    assert digest_of(["a", "b"]) != digest_of(["b", "a"])
    assert str(TemplateSummary("mine", 2, "0123456789abcdef")) == "mine (2, digest 0123456789ab)"
    assert checked_templates(["{c} and {}"], "x") == ("{} and {}",)

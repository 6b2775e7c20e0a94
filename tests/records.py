"""Records of what is said: text files beside the tests, held against what is said now, line by line.

A record does not say that its words are right, but that none of them moves unnoticed. It is made to be read:
whoever changes what is said looks at what differs, and records anew with :data:`HOW`.

What differs from machine to machine stands in a record as a word in angle brackets (``<version>``).
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

import pytest

import pytest_cliprobust

#: Records everything anew.
HOW = "RECORD=1 python -m pytest -q tests/*/test_recorded_*.py"

#: Lines of a difference that a failing test shows.
SHOWN = 40

#: What no record holds: (pattern, word).
_OWN = (
    (re.compile(r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*[0-9])[0-9a-f]{12,}\b"), "<digest>"),
    (re.compile(rf"\b{re.escape(pytest_cliprobust.__version__)}\b(?!\.)"), "<version>"),
    # Longer than what people are shown; the last digits of arithmetic are the machine's.
    (re.compile(r"-?\d+\.\d{6,}(?:e-?\d+)?"), lambda found: f"{float(found[0]):.4g}"),
)


def plain(text: str, *folders: Path) -> str:
    """Return a text without what differs from machine to machine; each of ``folders`` is ``<folder>``."""
    for folder in sorted(map(str, folders), key=len, reverse=True):
        text = text.replace(folder, "<folder>")
    for pattern, word in _OWN:
        text = pattern.sub(word, text)
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def compare(record: Path, now: str) -> None:
    """Fail with a short difference unless a text is as it was recorded; record it if ``RECORD`` is set."""
    if os.environ.get("RECORD"):
        record.write_text(now, encoding="utf-8")
        pytest.skip(f"{record.name} recorded anew")
    then = record.read_text(encoding="utf-8")
    if now == then:
        return
    lines = list(
        difflib.unified_diff(
            then.splitlines(), now.splitlines(), record.name, "now", n=1, lineterm=""
        )
    )
    more = [f"… and {len(lines) - SHOWN} lines more"] if len(lines) > SHOWN else []
    how = f"If this is meant, record anew: {HOW}"
    pytest.fail("\n".join([*lines[:SHOWN], *more, how]), pytrace=False)

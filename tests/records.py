"""Records of what is said: text files beside the tests, held against what is said now, line by line.

A record does not say that its words are right, but that none of them moves unnoticed. It is made to be read:
whoever changes what is said looks at what differs, and records anew with :data:`HOW`.

What differs from machine to machine stands in a record as a word in angle brackets (``<version>``).
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
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


# --- Records in parts, whose numbers may differ in their last digits -----------------------------------

#: A number with a fraction or an exponent: its last digits may differ from machine to machine.
_NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?|-?\d+e[+-]?\d+")

#: Such numbers are equal within this, absolute and relative.
TOLERANCE = 5e-3


def equal(one: str, other: str, tolerance: float = TOLERANCE) -> bool:
    """Return whether two lines say the same, up to the last digits of numbers with a fraction."""
    if one == other:
        return True
    if _NUMBER.sub("#", one) != _NUMBER.sub("#", other):
        return False
    pairs = zip(_NUMBER.findall(one), _NUMBER.findall(other), strict=True)
    return all(
        np.isclose(float(a), float(b), rtol=tolerance, atol=tolerance, equal_nan=True)
        for a, b in pairs
    )


def sections(text: str) -> dict[str, list[str]]:
    """Return the lines of each part of a record; ``# NAME`` begins one."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("# "):
            lines = found.setdefault(line[2:], [])
        else:
            lines.append(line)
    return found


def written(path: Path, parts: dict[str, list[str]]) -> None:
    """Write a record."""
    lines = (line for name, told in parts.items() for line in (f"# {name}", *told))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def check(
    path: Path, parts: Iterable[str], part: str, now: list[str], tolerance: float = TOLERANCE
) -> None:
    """Fail where a part of a record is no longer what it says; record it if ``RECORD`` is set.

    Args:
        path: the record.
        parts: all that it has, in their order; others go when it is recorded.
        part: the one that is compared.
        now: its lines.
        tolerance: of numbers with a fraction.
    """
    every = sections(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept, now = every.get(part, []), "\n".join(now).splitlines()
    if os.environ.get("RECORD"):
        written(path, {name: now if name == part else every.get(name, []) for name in parts})
        pytest.skip(f"{part} of {path.name} recorded anew")
    if len(kept) == len(now) and all(equal(*two, tolerance) for two in zip(kept, now, strict=True)):
        return
    # Lines that say the same up to rounding are no difference.
    same = [new if equal(old, new, tolerance) else old for old, new in zip(kept, now, strict=False)]
    same += kept[len(same) :]
    told = [*_different(same, now)]
    shown = "\n".join(told[:SHOWN]) + (
        f"\n… and {len(told) - SHOWN} more lines" if len(told) > SHOWN else ""
    )
    raise AssertionError(
        f"{path.name} says otherwise of {part}; if that is meant, look at what differs and record anew: "
        f"{HOW}\n{shown}"
    )


def _different(kept: list[str], now: list[str]) -> Iterator[str]:
    for line in difflib.unified_diff(kept, now, "recorded", "now", n=0, lineterm=""):
        if not line.startswith(("---", "+++", "@@")):
            yield line

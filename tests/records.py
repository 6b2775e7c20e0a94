"""Records of outputs as readable text: how they are written, and what is said where they differ."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

#: A number with a fraction or an exponent: its last digits may differ from machine to machine.
_NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?|-?\d+e[+-]?\d+")

#: Such numbers are equal within this, absolute and relative.
TOLERANCE = 5e-3

#: So many lines of a difference are told.
SHOWN = 24


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


def check(path: Path, part: str, now: list[str], test: str, tolerance: float = TOLERANCE) -> None:
    """Fail where a part of a record is no longer what it says, with what differs and how it is renewed.

    ``test``: the file that writes the record when it is run. ``tolerance``: of numbers with a fraction.
    """
    kept = sections(path.read_text(encoding="utf-8")).get(part, [])
    now = "\n".join(now).splitlines()
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
        f"PYTHONPATH=tests python {test}\n{shown}"
    )


def _different(kept: list[str], now: list[str]) -> Iterator[str]:
    for line in difflib.unified_diff(kept, now, "recorded", "now", n=0, lineterm=""):
        if not line.startswith(("---", "+++", "@@")):
            yield line

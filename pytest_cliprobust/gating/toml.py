"""Reading and writing TOML values; the only place that knows which library does it."""

from __future__ import annotations

import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: What :func:`loads` raises.
TOMLDecodeError = tomllib.TOMLDecodeError


def loads(text: str) -> dict[str, Any]:
    """Return the document that ``text`` holds.

    Raises:
        TOMLDecodeError: it is no TOML.
    """
    document: dict[str, Any] = tomllib.loads(text)
    return document


def written(value: str | float | list[float] | list[int]) -> str:
    """Return ``value`` as TOML: a text, a number, or a list of numbers."""
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, str):
        import tomlkit

        return tomlkit.item(value).as_string()
    if isinstance(value, int):
        return str(value)
    # TOML wants a digit behind the point and allows no bare exponent: repr fits.
    return repr(float(value))

"""Reading and writing TOML values; the only place that knows which library does it."""

from __future__ import annotations

import tomllib
from typing import Any

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
    """Return ``value`` as TOML: a text, a number, or a list of numbers.

    What messages show of a value is :func:`~pytest_cliprobust.errors.as_toml`'s.
    """
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, str):
        import tomlkit

        return tomlkit.item(value).as_string()
    if isinstance(value, int):
        return str(value)
    # TOML wants a digit behind the point and allows no bare exponent: repr fits.
    return repr(float(value))

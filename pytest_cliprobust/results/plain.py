"""Records as plain data, for files."""

from __future__ import annotations

from typing import Any

from pytest_cliprobust.figures.figure import json_number
from pytest_cliprobust.results.record import Record

SCHEMA = 2
"""Version of the JSON report; raised when a field changes its meaning or goes away."""


def plain(record: Record) -> dict[str, Any]:
    """Return a record as JSON-able data.

    Of the bootstrap replicates, a thousand numbers a figure, only those of figures with a bound stay,
    packed: a later run is compared with them in pairs.
    """
    data: dict[str, Any] = finite(record.as_dict(replicates=record.rule is not None))
    return data


def finite(value: Any) -> Any:
    """Return JSON-able data with NaN and infinity as texts, which JSON has no numbers for."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return json_number(value) if isinstance(value, float) else value

"""Which tests a run leaves out."""

from __future__ import annotations

import re

import pytest


def order(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark whatever starts whole pytest sessions as slow: it takes most of the time of all tests.

    Those marked as ``smoke`` stay in the tight loop. A plain ``pytest`` leaves out what is marked ``long``;
    what is marked ``exhaustive`` runs only where ``-m`` names it. Both are slow, and so is what is marked
    ``floors``: too long for the tight loop, but run with the lowest declared versions, too.
    """
    wanted = config.option.markexpr
    left_out = (
        {"exhaustive"} - set(re.findall(r"\w+", wanted)) if wanted else {"long", "exhaustive"}
    )
    kept: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        (others if marks & left_out else kept).append(item)
        starts = "pytester" in getattr(item, "fixturenames", ())
        if marks & {"long", "exhaustive", "floors"} or (starts and "smoke" not in marks):
            item.add_marker(pytest.mark.slow)
    config.hook.pytest_deselected(items=others)
    items[:] = kept

"""What a session with a model does before it evaluates one."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest

from pytest_cliprobust.plugin.waiting import Waiting


def frozen_after_collecting() -> int:
    """Collect as a session does, and return how many objects the collector no longer looks at."""
    assert gc.isenabled()
    before = gc.get_freeze_count()
    collecting = Waiting.pytest_collection(object())  # type: ignore[arg-type]  # it uses nothing of its own
    next(collecting)
    assert not gc.isenabled()
    with pytest.raises(StopIteration) as ended:
        collecting.send("collected")
    assert ended.value.value == "collected"
    assert gc.isenabled()
    return gc.get_freeze_count() - before


def test_suites_import_torch_without_the_collector_in_between(monkeypatch: Any) -> None:
    """What they import stays to the end, and is not looked at again; what is there already is left alone."""
    kept = [[number] for number in range(1000)]
    monkeypatch.setitem(sys.modules, "torch", gc)
    assert frozen_after_collecting() == 0
    monkeypatch.delitem(sys.modules, "torch")
    try:
        assert frozen_after_collecting() >= len(kept)
    finally:
        gc.unfreeze()
        gc.freeze()  # as tests/conftest.py has left it


def test_a_collection_that_fails_leaves_the_collector_as_it_was() -> None:
    collecting = Waiting.pytest_collection(object())  # type: ignore[arg-type]
    next(collecting)
    with pytest.raises(pytest.UsageError, match="a mistake"):
        collecting.throw(pytest.UsageError("a mistake"))
    assert gc.isenabled()

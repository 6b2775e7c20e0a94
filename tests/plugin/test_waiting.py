"""What a session with a model does before it evaluates one."""

from __future__ import annotations

import gc
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_cliprobust.plugin import waiting
from pytest_cliprobust.plugin.exits import Exit
from pytest_cliprobust.plugin.state import DeadWorkers
from pytest_cliprobust.plugin.waiting import NOT_COLLECTED, Waiting


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


# --- What it hands over ----------------------------------------------------------------------------


class Handed:
    """Stands in place of what evaluates models, and notes what it is given."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.session: Any = SimpleNamespace(remarks=[], listen=self.told.append)

    def take_up(self, not_collected: list[str], dead: DeadWorkers) -> None:
        self.told.append(("takes up", list(not_collected)))

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.told.append(report)

    def pytest_sessionfinish(self, session: Any, exitstatus: int) -> None:
        self.told.append(("ends", exitstatus))


class Alone(Waiting):
    """One without a session of pytest around it."""

    def __init__(self, model: str = "a", *, listing: bool = False) -> None:
        option = SimpleNamespace(collectonly=listing)
        self._config: Any = SimpleNamespace(option=option, getoption=lambda name: model)
        self._collected, self._dead = 0, DeadWorkers()
        self._not_collected: list[str] = []
        self._deselected: dict[str, list[str]] = {}
        self.handed = Handed()

    def _evaluator(self) -> Any:
        return self.handed


def down(output: dict[str, Any] | None, error: Any = None) -> Alone:
    """Return one whose worker went down."""
    one, node = Alone(), SimpleNamespace(gateway=SimpleNamespace(id="gw1"))
    if output is not None:
        node.workeroutput = {"cliprobust": output}
    one._collected = 3
    one.pytest_testnodedown(node, error)
    return one


@pytest.mark.parametrize("name", ["models", "mistakes", "troubles"])
def test_a_worker_that_has_something_to_say_is_heard(name: str) -> None:
    for told, heard in ((["x"], True), ([], False)):
        output = {"collected": 5, name: told}
        one = down(output, "an error")
        assert one.handed.told == ([output] if heard else [])
        assert (one._collected, one._dead.names) == (5, [])
    assert down({"collected": 2})._collected == 3


def test_a_worker_that_died_is_named() -> None:
    assert down(None, "an error")._dead.names == ["gw1"]
    assert down(None)._dead.names == []


def test_a_report_of_a_test_with_a_model_is_handed_over_with_what_is_known_of_workers() -> None:
    for mark in ("clip_suite", "clip_plan"):
        one = Alone()
        one._not_collected = ["x"]
        report: Any = SimpleNamespace(when="call", **{mark: ""})
        one.pytest_runtest_logreport(report)
        assert one.handed.told == [("takes up", ["x"]), report]
        assert not one._dead.heard
    for when in ("setup", "call", "teardown", "???"):  # the last: a worker died over the test
        one, report = Alone(), SimpleNamespace(when=when)
        one.pytest_runtest_logreport(report)
        assert (one._dead.heard, one._dead.reports) == (
            (False, [report]) if when == "???" else (True, [])
        )
        assert one.handed.told == []


def test_what_was_not_collected_and_what_was_left_out_is_noted(monkeypatch: Any) -> None:
    one = Alone()
    for failed in (True, False):
        collected: Any = SimpleNamespace(failed=failed, nodeid=f"failed {failed}")
        one.pytest_collectreport(collected)
    assert one._not_collected == ["failed True"]
    monkeypatch.setattr(waiting, "needs_model", lambda item: item.needs)
    monkeypatch.setattr(waiting, "suite_of", lambda item: item.suite)
    items: Any = [
        SimpleNamespace(needs=needs, suite=suite, nodeid=f"{suite}{number}")
        for number, (needs, suite) in enumerate(
            [(True, "a"), (False, "a"), (True, "b"), (True, "a")]
        )
    ]
    monkeypatch.setattr(waiting, "mark_suites", lambda config, items: items)
    one._suites = {"c"}
    one.pytest_collection_modifyitems(items)
    assert one._suites == {"a", "b", "c"}
    one.pytest_deselected(items)
    assert one._deselected == {"a": ["a0", "a3"], "b": ["b2"]}


@pytest.mark.parametrize("model", ["a", ""])
@pytest.mark.parametrize("reports", [(), ("x.json",)])
@pytest.mark.parametrize("listing", [False, True])
@pytest.mark.parametrize("not_collected", [[], ["x"]])
@pytest.mark.parametrize("items", [[], ["test"]])
@pytest.mark.parametrize("status", [Exit.INTERRUPTED, 0])
def test_a_report_that_was_asked_for_is_written_where_tests_with_a_model_may_be_missing(
    monkeypatch: Any,
    model: str,
    reports: tuple[str, ...],
    listing: bool,
    not_collected: list[str],
    items: list[str],
    status: int,
) -> None:
    monkeypatch.setattr(waiting, "reports_of", lambda config: reports)
    one = Alone(model, listing=listing)
    one._not_collected = not_collected
    one.pytest_sessionfinish(SimpleNamespace(items=items), status)  # type: ignore[arg-type]
    interrupted = status == Exit.INTERRUPTED and not items
    closes = bool(model and reports and not listing and (interrupted or not_collected))
    assert one.handed.told == ([("takes up", not_collected), ("ends", status)] if closes else [])
    assert one.handed.session.remarks == ([NOT_COLLECTED] if closes and interrupted else [])


def test_workers_that_told_of_no_test_may_have_had_the_model(monkeypatch: Any) -> None:
    monkeypatch.setattr(waiting, "reports_of", lambda config: ())
    for reports, heard in (([1], False), ([1], True), ([], False)):
        one = Alone()
        one._dead.reports, one._dead.heard = reports, heard  # type: ignore[assignment]
        one.pytest_sessionfinish(SimpleNamespace(items=[]), 1)  # type: ignore[arg-type]
        assert bool(one.handed.told) == (bool(reports) and not heard)

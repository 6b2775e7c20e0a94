"""Mistakes that show when a file of the user's is imported: whose they are, and who tells them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from _pytest.config import ConftestImportFailure

from pytest_cliprobust.plugin import imports
from pytest_cliprobust.plugin.imports import ImportMistakes, conftest_mistake, line_of


@pytest.fixture(autouse=True)
def _of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take each error that is a ValueError for one of a user's registration."""
    monkeypatch.setattr(
        imports, "import_mistake", lambda e: f"line: {e}" if type(e) is ValueError else None
    )


def collect_error(cause: Exception | None) -> Exception:
    error = pytest.Collector.CollectError("as pytest shows it")
    error.__cause__ = cause
    return error


SLIP = ValueError("a slip")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (SLIP, "line: a slip"),
        (collect_error(SLIP), "line: a slip"),
        (ConftestImportFailure(Path("conftest.py"), cause=SLIP), "line: a slip"),
        (collect_error(KeyError("theirs")), None),
        (collect_error(None), None),
        (KeyError("theirs"), None),
    ],
)
def test_whose_an_error_is(error: Exception, line: str | None) -> None:
    assert line_of(error) == line


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"help": False, "version": 0}, True),
        ({"help": False}, True),  # before pytest knows of the option
        # Whoever asks for help gets it, whatever stands in conftest.py.
        ({"help": True, "version": 0}, False),
        ({"help": False, "version": 1}, False),
    ],
)
def test_a_conftest_with_a_mistake(options: dict[str, Any], told: bool) -> None:
    config: Any = SimpleNamespace(known_args_namespace=SimpleNamespace(**options))
    failure = ConftestImportFailure(Path("conftest.py"), cause=SLIP)
    assert conftest_mistake(config, failure) == ("line: a slip" if told else None)


def mistakes(worker: bool = False, evaluates: bool = True, goes_on: bool = False) -> ImportMistakes:
    config: Any = SimpleNamespace(getoption=lambda name: goes_on)
    if worker:
        config.workerinput = {}
    return ImportMistakes(config, evaluates=evaluates)


def collected(by: ImportMistakes, error: Exception | None, *, asked: bool = True) -> Any:
    """Return the report of a file that could not be imported, or could."""
    info = None if error is None else SimpleNamespace(value=error)
    plain: Any = SimpleNamespace(
        outcome="failed" if error else "passed", failed=bool(error), longrepr="long", result=None
    )
    if asked:
        plain.call = SimpleNamespace(excinfo=info)
    steps = by.pytest_make_collect_report()
    next(steps)
    with pytest.raises(StopIteration) as stop:
        steps.send(plain)
    return stop.value.value


def test_a_mistake_is_told_once_all_files_are_collected() -> None:
    own = mistakes()
    report = collected(own, SLIP)
    assert (report.outcome, report.longrepr, report.result) == ("passed", None, [])
    collected(own, ValueError("a slip"))
    collected(own, ValueError("another"))
    assert own.lines == ["line: a slip", "line: another"]
    session: Any = SimpleNamespace(items=["t"])
    with pytest.raises(pytest.UsageError) as ended:
        own.pytest_collection_finish(session)
    assert ended.value.args == ("line: a slip", "line: another")


def test_what_is_not_ours_to_tell_stays_in_the_report() -> None:
    own = mistakes()
    for report in (
        collected(own, KeyError("theirs")),
        collected(own, None),
        collected(own, SLIP, asked=False),
    ):
        assert (report.longrepr, report.result, own.lines) == ("long", None, [])
    # A skipped file has an error, too, and did not fail.
    skipped: Any = collected(own, None)
    assert skipped.outcome == "passed"
    own.pytest_collection_finish(SimpleNamespace(items=["t"]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("how", "kept"),
    [
        ({}, False),
        ({"evaluates": False}, False),
        ({"goes_on": True}, True),
        # A worker's collection is told by the other process only where a model is evaluated.
        ({"worker": True}, False),
        ({"worker": True, "evaluates": False}, True),
        ({"worker": True, "goes_on": True}, True),
    ],
)
def test_where_the_line_stands_in_the_report_of_the_file(how: dict[str, bool], kept: bool) -> None:
    own = mistakes(**how)
    report = collected(own, SLIP)
    assert (report.outcome, report.longrepr) == (
        ("failed", "line: a slip") if kept else ("passed", None)
    )
    assert own.lines == ([] if kept else ["line: a slip"])


def test_a_worker_runs_nothing_and_leaves_it_to_the_other_process() -> None:
    own = mistakes(worker=True)
    session: Any = SimpleNamespace(items=["t"])
    own.pytest_collection_finish(session)
    assert session.items == ["t"]
    collected(own, SLIP)
    own.pytest_collection_finish(session)
    assert session.items == []

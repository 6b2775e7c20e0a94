"""Tests in another order, and only some of them: those that failed last, those from the last failure on."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from helpers import Sessions, report

from pytest_cliprobust.plugin.exits import Exit
from pytest_cliprobust.results import database

SUITE = """
    import pytest
    from pytest_cliprobust.properties import accuracy, ood

    @pytest.mark.parametrize("name", ["clean", "clipart"])
    def test_accuracy(clip, gate, name):
        gate(accuracy.accuracy_of(clip.on(name)))

    def test_ood(clip, gate, near_ood):
        gate(ood.detection(clip.on("clean"), clip.on(near_ood), ["max_logit"]))

    def test_last(clip, gate):
        gate(accuracy.accuracy_of(clip.on("calibration")))
"""

#: As pytest-randomly and its like do.
SHUFFLES = """
import os
import random

import pytest

@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    if os.environ.get("SHUFFLE"):
        random.Random(int(os.environ["SHUFFLE"])).shuffle(items)
"""


def bounds(clipart: float) -> str:
    rules = "".join(
        f'[[threshold]]\nsuite = "mine"\nmetric = "accuracy"\ndataset = "{name}"\nmin = {least}\n'
        'because = "it is a test"\n'
        for name, least in (("clean", 0.01), ("clipart", clipart), ("calibration", 0.01))
    )
    return f"schema = 1\n{rules}"


def seen(data: dict[str, Any]) -> dict[str, Any]:
    """Return what a report says of each figure, but for when it was measured."""
    return {m["key"]: (m["figure"], m["verdict"]) for m in data["measurements"]}


def test_the_order_of_tests_changes_nothing(run: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    run.pytester.makeconftest(SHUFFLES)
    reports = []
    for seed in ("", "1", "3"):
        monkeypatch.setenv("SHUFFLE", seed)
        result = run("--clip-report=report.json", "-v", suite=SUITE, thresholds=bounds(0.99))
        assert result.ret == Exit.REGRESSION
        reports.append(report())
    assert seen(reports[0]) == seen(reports[1]) == seen(reports[2])
    for name in ("because", "bounds_not_judged", "missing", "complete", "partial"):
        assert len({str(one[name]) for one in reports}) == 1, name


def test_those_that_failed_come_first_and_nothing_else_changes(run: Sessions) -> None:
    run("--clip-report=report.json", suite=SUITE, thresholds=bounds(0.99))
    plain = report()
    result = run.again("--clip-report=report.json", "--ff", "-v")
    assert result.ret == Exit.REGRESSION
    (first, *_) = [line for line in result.outlines if line.startswith("test_mine.py::")]
    assert "clipart" in first
    told = report()
    assert seen(told) == seen(plain)
    assert (told["complete"], told["partial"]) == (True, False)


def test_of_those_that_failed_last_the_others_are_not_known(run: Sessions) -> None:
    """Pytest leaves tests out while it collects and tells nobody: their bounds are no slips."""
    run(suite=SUITE, thresholds=bounds(0.99))
    result = run("--clip-report=report.json", "--lf", suite=SUITE, thresholds=bounds(0.01))
    assert result.ret == Exit.PASSED
    told = report()
    assert [m["dataset"] for m in told["measurements"]] == ["clipart"]
    assert (told["complete"], told["partial"]) == (True, True)
    assert told["bounds_not_judged"] == []
    # Nothing has failed last now, so that nothing is left out.
    assert run.again("--clip-report=report.json", "--lf").ret == Exit.PASSED
    told = report()
    assert len(told["measurements"]) == 7
    assert told["partial"] is False


def test_a_stepwise_run_is_one_of_single_tests_from_its_second_step_on(run: Sessions) -> None:
    result = run("--clip-report=report.json", "--sw", suite=SUITE, thresholds=bounds(0.99))
    assert result.ret == Exit.INTERRUPTED  # pytest's own word for it
    told = report()
    assert (told["complete"], told["partial"], len(told["missing"])) == (False, False, 2)
    assert any(line.startswith("PARTIAL: 2 of 4 tests") for line in told["because"])
    result = run("--clip-report=report.json", "--sw", suite=SUITE, thresholds=bounds(0.01))
    assert result.ret == Exit.PASSED
    told = report()
    assert (told["complete"], told["partial"]) == (True, True)
    assert len(told["measurements"]) == 6
    assert told["bounds_not_judged"] == []


def test_a_history_that_another_program_holds_is_the_environments(
    run: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--clip-history=history.sqlite", "-k", "clean")
    assert run(*options, suite=SUITE).ret == Exit.PASSED
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    other = sqlite3.connect(Path(run.path, "history.sqlite"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        result = run.again(*options)
    finally:
        other.close()
    result.assert_outcomes(passed=1, deselected=3)
    assert result.ret == Exit.ENVIRONMENT
    result.stdout.fnmatch_lines(["ENVIRONMENT: history.sqlite: *another program has held it*"])
    assert run.again(*options).ret == Exit.PASSED

"""How far a long piece of work is: when the line is drawn, what it says, and the time that is left."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pytest_cliprobust.plugin.progress import ProgressLine, duration
from pytest_cliprobust.plugin.stopwatch import Stopwatch


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.2, "1 s"),
        (99.0, "99 s"),
        (99.1, "1:40 min"),
        (185.0, "3:05 min"),
        (3599.0, "59:59 min"),
        (3599.5, "1:00 h"),
        (7500.0, "2:05 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Terminal:
    """A configuration whose terminal keeps what is written on it."""

    def __init__(self, width: int = 80, *, isatty: bool = True) -> None:
        self.file = io.StringIO()
        writer = SimpleNamespace(_file=self.file, fullwidth=width, _current_line="test_a.py ..")
        self.reporter = SimpleNamespace(isatty=isatty, _tw=writer)
        self.pluginmanager = SimpleNamespace(
            get_plugin=lambda name: self.reporter if name == "terminalreporter" else None
        )

    def lines(self) -> list[str]:
        """Return what was drawn since, each on the same line of the terminal."""
        text = self.file.getvalue()
        self.file.truncate(0)
        self.file.seek(0)
        return text.split("\r\x1b[2K")[1:]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_a_line_with_a_bar_and_the_time_that_is_left(clock: list[float]) -> None:
    there = Terminal()
    line = ProgressLine(there)  # type: ignore[arg-type]
    line("features", 10, 100)
    assert there.lines() == []  # the pace is not known yet
    clock[0] += 2.0
    line("features", 30, 100)  # 20 in two seconds
    assert there.lines() == [f"  features {'━' * 6}{'╌' * 14} 30/100, 7 s left"]
    clock[0] += 0.09
    line("features", 31, 100)
    assert there.lines() == []
    clock[0] += 0.01 + 1e-9
    line("features", 50, 100)
    assert there.lines() == [f"  features {'━' * 10}{'╌' * 10} 50/100, 3 s left"]
    clock[0] += 1.0
    line("features", 98, 100)
    assert there.lines() == [f"  features {'━' * 20} 98/100, 1 s left"]
    line("features", 100, 100)
    assert there.lines() == ["test_a.py .."]  # pytest's own line comes back
    line("features", 100, 100)
    assert there.lines() == []


def test_other_work_has_its_own_pace(clock: list[float]) -> None:
    there = Terminal(30)
    line = ProgressLine(there)  # type: ignore[arg-type]
    line("a", 0, 100)
    clock[0] += 1.0
    line("b", 50, 100)
    assert there.lines() == []
    clock[0] += 1.0
    line("b", 50, 100)  # nothing since: as if one were done
    (text,) = there.lines()
    assert text == f"  b {'━' * 10}{'╌' * 10} 50/1"[:29]
    assert len(text) == 29


@pytest.mark.parametrize("case", ["no terminal", "a worker", "no reporter", "uncaptured"])
def test_a_line_of_its_own_is_written_by_the_process_that_reports(case: str) -> None:
    there: Any = Terminal(isatty=case != "no terminal")
    told: list[str] = []
    there.reporter.ensure_newline = lambda: told.append("newline")
    there.reporter.write_line = told.append
    uncaptured: list[str] = []

    @contextlib.contextmanager
    def disabled() -> Iterator[None]:
        uncaptured.append("off")
        yield

    capture = SimpleNamespace(global_and_fixture_disabled=disabled)
    plugins = {"terminalreporter": there.reporter, "capturemanager": capture}
    if case == "a worker":
        there.workerinput = {}
    if case in ("no reporter", "uncaptured"):
        del plugins["terminalreporter" if case == "no reporter" else "capturemanager"]
    there.pluginmanager.get_plugin = plugins.get
    ProgressLine(there).tell("16 of 20 parts are here")
    silent = case in ("a worker", "no reporter")
    assert told == ([] if silent else ["newline", "16 of 20 parts are here"])
    assert uncaptured == ([] if silent or case == "uncaptured" else ["off"])


@pytest.mark.parametrize("case", ["no terminal", "a worker", "no reporter"])
def test_nothing_is_drawn_where_nobody_looks(case: str, clock: list[float]) -> None:
    there: Any = Terminal(isatty=case != "no terminal")
    if case == "a worker":
        there.workerinput = {}
    if case == "no reporter":
        there.pluginmanager.get_plugin = lambda name: None
    line = ProgressLine(there)
    for done in (0, 10, 20, 100):
        clock[0] += 1.0
        line("a", done, 100)
    assert there.lines() == []


class Benchmark:
    """pytest-benchmark's fixture, whose clock counts calls."""

    def __init__(self) -> None:
        self.stats = SimpleNamespace(stats=SimpleNamespace(data=[]))

    def pedantic(self, run: Any, setup: Any, rounds: int, warmup_rounds: int) -> None:
        """Run as it does: some rounds that do not count, then those that do."""
        for number in range(warmup_rounds + rounds):
            arguments, named = setup()
            run(*arguments, **named)
            if number >= warmup_rounds:
                self.stats.stats.data.append(float(number))


def test_two_pieces_of_work_are_timed_in_turn() -> None:
    done: list[str] = []
    benchmark = Benchmark()
    watch = Stopwatch(benchmark)
    seconds = watch.in_turn(lambda: done.append("own"), lambda: done.append("other"), 3)
    assert done == ["own", "other"] * 5  # two rounds of each to warm up
    assert np.array_equal(seconds, [[4.0, 5.0], [6.0, 7.0], [8.0, 9.0]])
    assert benchmark.stats.stats.data == [4.0, 6.0, 8.0]

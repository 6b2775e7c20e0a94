"""``--clip-logger``: tried before the run, handed over after it, never in the way of what was measured."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers import Sessions, report

from pytest_cliprobust.plugin.exits import Exit
from pytest_cliprobust.reporting.trackers import LOGGERS

SUITE = """
    from pytest_cliprobust.properties import accuracy

    def test_clean(clip, gate):
        gate(accuracy.accuracy_of(clip.on("clean")))
"""

LOGGER = """
    from pytest_cliprobust import register_logger

    @register_logger("board", library="json")
    def log(told):
        value = told.metrics["mine/accuracy/clean/clean"]
        return f"at {value > 0}, {told.tags['cliprobust.ending']}, {[f.name for f in told.files]}"

    @register_logger("broken", library="json")
    def fail(told):
        raise ConnectionError("no server")

    @register_logger("absent", library="not_a_library_of_anybodys")
    def absent(told):
        raise AssertionError("never called")
"""


@pytest.fixture(autouse=True)
def _forgotten(run: Sessions) -> Iterator[None]:
    run.pytester.makeconftest(LOGGER)
    with LOGGERS.preserved():
        yield


def test_a_run_is_handed_over_with_its_reports(run: Sessions) -> None:
    run.pytester.makeini("[pytest]\nclip_logger = broken board\n")
    result = run("--clip-report=r.json", suite=SUITE)
    assert result.ret == Exit.PASSED
    result.stdout.fnmatch_lines(
        [
            "logged to board: reference is at True, passed, ?'r.json'?",
            "warning: --clip-logger broken: reference could not be handed over, and nothing measured is "
            "lost: ConnectionError: no server",
        ]
    )
    assert report("r.json")["troubles"] == []


def test_where_it_must_be_handed_over_the_run_is_not_green(run: Sessions) -> None:
    options = ("--clip-logger=broken", "--clip-logger-required")
    result = run("--clip-report=r.json", *options, suite=SUITE)
    assert result.ret == Exit.ENVIRONMENT
    told = report("r.json")
    assert (told["exit_status"], len(told["measurements"])) == (Exit.ENVIRONMENT, 1)
    (trouble,) = told["troubles"]
    assert trouble.startswith("--clip-logger broken: reference could not be handed over")
    assert result.stdout.str().count("ConnectionError") == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent", "absent: not_a_library_of_anybodys cannot be imported"),
        ("bord", "unknown logger 'bord'. Did you mean 'board'?"),
    ],
)
def test_what_is_not_there_ends_the_run_before_it_begins(
    run: Sessions, name: str, words: str
) -> None:
    result = run(f"--clip-logger={name}", suite=SUITE)
    assert result.ret == Exit.MISTAKE
    (line,) = [line for line in result.stderr.lines if words in line]
    assert line.startswith("ERROR: ")

"""Sections of the report: each suite's file says its own, and nothing else has to name it."""

from __future__ import annotations

import re
import textwrap

import pytest
from helpers import SUITES, Sessions, one_line, report

from pytest_cliprobust.plugin.suites import placed, placed_by_file, sections, shipped
from pytest_cliprobust.reporting.html.sections import PAPER

SUITE = """
    from pytest_cliprobust.properties import accuracy

    def test_it(clip, gate):
        gate(accuracy.accuracy_of(clip.on("clean")))
"""

#: What is in none of the paper's sections: judged as others publish it, or not about answers.
OTHERS = {"corrupted", "performance", "tasks"}


def test_each_shipped_suite_says_where_it_stands() -> None:
    told = {suite: placed_by_file(suite) for suite in shipped()}
    assert {suite for suite, place in told.items() if place is None} == OTHERS
    assert {place[0] for place in told.values() if place is not None} == set(PAPER)
    # No two claim one place.
    known = [place for place in told.values() if place is not None]
    assert len(set(known)) == len(known)
    assert sections(shipped(), {})["Safety"] == ("calibration", "ood", "selective", "unlabelled")
    assert sections(shipped(), {})["Visual factors"][:3] == ("accuracy", "factors", "groups")


@pytest.mark.parametrize(
    ("told", "place"),
    [
        ("Safety", ("Safety", float("inf"))),
        (("Safety", 2), ("Safety", 2.0)),
        (["Safety", 1.5], ("Safety", 1.5)),
        (("Safety", True), ("Safety", float("inf"))),
        (" ", None),
        (7, None),
        (None, None),
        (("a", "b", "c"), None),
    ],
)
def test_what_a_file_may_say(told: object, place: tuple[str, float] | None) -> None:
    assert placed(told) == place


def _sections(page: str) -> dict[str, list[str]]:
    """Return the suites of each section of a page, in their order."""
    found: dict[str, list[str]] = {}
    for part in page.split("<section id=")[1:]:
        title = re.search(r"<h2[^>]*>([^<]*)</h2>", part)
        if title is not None and 'class="suite"' in part:
            found[title[1]] = re.findall(r'class="suite" id="suite-([^"]*)"', part)
    return found


@pytest.mark.parametrize("workers", [(), ("-n", "1", "-p", "no:benchmark")])
def test_a_new_suite_stands_where_its_file_says(run: Sessions, workers: tuple[str, ...]) -> None:
    files = {
        "test_birds": 'SECTION = "Safety", 1.5\n',
        "test_late": 'SECTION = "Safety"\n',
        "test_cameras": 'SECTION = "Cameras of ours"\n',
        "test_rest": "",
        # A suite of one's own of a shipped one's name stands where that one does.
        "test_ood": "",
    }
    for name, head in files.items():
        (run.path / f"{name}.py").write_text(head + textwrap.dedent(SUITE), encoding="utf-8")
    own = [f"{name}.py" for name in files]
    given = ["--clip-report=report.html", "--clip-report=report.json", f"--rootdir={run.path}"]
    run(*own, f"{SUITES}/test_accuracy.py", *given, *workers, process=True)  # it draws
    expected = {
        "Visual factors": ["accuracy"],
        "Safety": ["birds", "ood", "late"],
        "Cameras of ours": ["cameras"],
        "Other suites": ["rest"],
    }
    assert _sections((run.path / "report.html").read_text(encoding="utf-8")) == expected
    told = report()["sections"]
    assert told == {title: own for title, own in expected.items() if title != "Other suites"}


def test_two_tests_that_pytest_calls_alike_are_refused(run: Sessions) -> None:
    """Outside of pytest's root folder a file on the command line has no name: figures would take turns."""
    for name in ("a", "b"):
        (run.path / f"test_{name}.py").write_text(textwrap.dedent(SUITE), encoding="utf-8")
    root = run.path / "elsewhere"
    root.mkdir()
    result = run("test_a.py", "test_b.py", f"--rootdir={root}")
    told = one_line(result)
    assert "test_a.py and" in told
    assert f"give --rootdir={run.path}" in told
    assert result.ret == 4
    run("test_a.py", "test_b.py", f"--rootdir={run.path}").assert_outcomes(passed=2)

"""What is said beside the figures: the same lines in the terminal and in Markdown, in fitting orders."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.unjudged import Unjudged
from pytest_cliprobust.reporting import markdown, terminal
from pytest_cliprobust.reporting import remarks as remarks_module
from pytest_cliprobust.results.run import NotMeasured, Run

RULE = 'schema = 1\n[[threshold]]\nmetric = "accuracy"\nmin = 0.5\n'


def run(**options: Any) -> Run:
    """Return a run without figures."""
    return Run(config=RunConfig(("reference",)), records=(), models={}, **options)


def skipped(policy: Policy) -> dict[str, Any]:
    """Return what a run knows of a bound whose tests were skipped."""
    (rule,) = parse_thresholds(RULE).rules
    tests = (("test_a.py::a", "ood"), ("test_a.py::b", "ood"), ("test_b.py::c", "view"))
    return {
        "unjudged": Unjudged(skipped=[rule], policy=policy),
        "not_run": tuple(NotMeasured(test, suite, "no depth") for test, suite in tests),
    }


class Terminal:
    """Keeps what is written, with its colours."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, set[str]]] = []

    def write_line(self, text: str, **markup: bool) -> None:
        """Keep a line."""
        self.lines.append((text, {name for name, on in markup.items() if on}))


def shown(found: Run) -> list[tuple[str, set[str]]]:
    """Return the lines of the terminal with their colours."""
    there = Terminal()
    terminal.summarise(there, found)
    return there.lines


def told(found: Run) -> list[str]:
    """Return the remarks of the Markdown report."""
    return [line for line in markdown.text(found).splitlines() if line.startswith("- **")]


def test_both_say_the_same_the_gravest_next_to_the_prompt_and_on_top() -> None:
    found = run(
        notes=("passes of 16 images",),
        mistakes=("no such model",),
        **skipped(Policy(skipped="fail")),
    )
    (not_run, note, bound, count, mistake) = shown(found)
    assert not_run == ("not run: 3 tests of ood, view: no depth", set())
    assert note == ("note: passes of 16 images", set())
    assert bound[0].startswith("error: ")
    assert bound[0].endswith("was not measured: skipped")
    assert count == (
        "error: not measured, as tests were skipped: 1 of the bounds (no depth): the run fails",
        {"red"},
    )
    assert mistake == ("ERROR: no such model", {"red"})
    lines = [text.replace("ERROR", "error") for text, _ in shown(found)]
    expected = [f"- **{level}**: {text}" for level, _, text in (x.partition(": ") for x in lines)]
    assert told(found) == expected[::-1]


def test_a_policy_makes_a_warning_of_it() -> None:
    (*_, (line, colours)) = shown(run(**skipped(Policy(skipped="warn"))))
    assert line.endswith("1 of the bounds (no depth): a warning, as the policy says")
    assert (line.partition(":")[0], colours) == ("warning", {"yellow"})


def test_every_note_and_every_logger_that_failed_is_told() -> None:
    found = run(notes=("one", "two"), not_logged=("a: no server", "b: no server"))
    lines = [text for text, _ in shown(found)]
    assert lines == ["note: one", "note: two", "warning: a: no server", "warning: b: no server"]


def weak(*lines: tuple[str, ...]) -> Run:
    """Return a run whose figures have bounds that hardly gate them."""
    records: Any = tuple(SimpleNamespace(weak=own) for own in lines)
    return replace(run(), records=records)


def test_weak_bounds_are_listed_once_and_beyond_some_counted() -> None:
    found = weak(("a", "b"), ("b", "c"))
    assert remarks_module._weak_lines(found, None) == ["a", "b", "c"]
    assert remarks_module._weak_lines(found, 3) == ["a", "b", "c"]
    assert remarks_module._weak_lines(found, 1) == ["a", "2 more bounds hardly gate their figures"]


def test_a_report_without_remarks_has_none() -> None:
    assert shown(run()) == []
    assert told(run()) == []

"""The HTML report: what it says, that it is safe, and that it stands alone."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from markupsafe import Markup
from report_helpers import HARM, Elements, base, figures, head, the_run

from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.gating.baseline import Baseline, bare_key
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.verdict import Verdict
from pytest_cliprobust.reporting import facts
from pytest_cliprobust.reporting.facts import Line, anchor_of
from pytest_cliprobust.reporting.html import page as page_module
from pytest_cliprobust.reporting.html import plots
from pytest_cliprobust.reporting.html.page import page_of, text
from pytest_cliprobust.results.compare import Compared, Word, compare
from pytest_cliprobust.results.run import Run

pytestmark = pytest.mark.floors


@cache
def page(harm: str = "") -> str:
    """The report of a run that lost twelve samples, beside the one before it."""
    return page_of(head(harm=harm), compare(base(harm=harm), head(harm=harm)))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes most of the time, where it is not asked for: drawings by matplotlib."""
    monkeypatch.setattr(plots, "inline", lambda figure, name, label: Markup(""))


def words(of: str) -> str:
    return " ".join(Elements(of).words.split())


def test_it_opens_with_the_verdict_the_loss_and_its_interval() -> None:
    said = words(page())
    first = said[: said.index("Samples that changed sides")]
    assert "Do not ship" in first
    assert "Accuracy on clean fell by 0.2 [0.11, 0.31], from 0.983 to 0.8" in first
    assert "a margin of 0.03 was allowed. 1 of 1 bounds fail." in first
    assert "Robustness of mine" in first
    assert "against old in this run" in first


def test_which_classes_lost_and_what_they_are_taken_for() -> None:
    said = words(page())
    # Sample 0 is of class 0, and is taken for the next.
    row = re.search(r"now taken for (.*?) Clean pictures", said)
    assert row is not None
    assert re.search(r"\b1 0 1 \w", row[1])
    assert "cat" in row[1]


def test_a_row_has_its_bound_its_line_what_n_decides_and_its_command() -> None:
    said = words(page())
    assert "max_decrease 0.03, thresholds.toml:51" in said
    assert "a margin of 0.025" in said
    assert "pytest test_accuracy.py::test_it --clip-model=mine --clip-profile=quick" in said
    assert "needs depth" in said
    ids = [own["id"] for own in Elements(page()).all("tr") if own.get("id")]
    assert anchor_of("accuracy/accuracy/clean/fog@3/mine") in ids
    assert len(ids) == len(head().measurements)


def test_the_samples_that_changed_sides_with_both_answers_and_pictures() -> None:
    found = Elements(page())
    said = words(page())
    assert "12 lost, 1 gained (9 of them shown); accuracy 0.983 before, 0.8 now" in said
    assert re.search(r"lost cat before cat \(0\.\d+\) now [\w' -]+ \(0\.\d\d\) clean-00000", said)
    shown = [own for own in found.all("img") if str(own["src"]).startswith("data:image/jpeg")]
    assert len(shown) >= 11
    assert all(own.get("alt") for own in found.all("img"))
    assert "cat under clean, fog at severity" in str([own["alt"] for own in shown])


def test_nothing_in_it_points_outside_and_ids_are_single() -> None:
    found = Elements(page())
    for _, attributes in found.found:
        for name in ("src", "href", "action", "data", "poster", "srcset", "formaction"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:image/")), (name, target)
    assert "http" not in page().replace("http-equiv", "")
    assert "@import" not in page()
    ids = Counter(own["id"] for _, own in found.found if own.get("id"))
    assert [name for name, count in ids.items() if count > 1] == []
    links = {str(own["href"])[1:].split("?")[0] for own in found.all("a")}
    assert links <= set(ids)


def test_the_policy_lets_its_own_script_run_and_no_other() -> None:
    found = Elements(page(HARM))
    policies = [own for own in found.all("meta") if own.get("http-equiv")]
    assert [own["http-equiv"] for own in policies] == ["Content-Security-Policy"]
    assert len(found.all("script")) == 1
    digest = base64.b64encode(hashlib.sha256(found.script.encode()).digest()).decode()
    policy = str(policies[0]["content"])
    assert f"script-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe-eval" not in policy


def test_text_from_data_is_escaped_wherever_it_stands() -> None:
    found = Elements(page(HARM))
    assert "alert(1)" not in found.script
    assert {tag for tag, _ in found.found} == {tag for tag, _ in Elements(page()).found}
    assert not [a for _, own in found.found for a in own if a.startswith("on")]
    assert all(str(own["src"]).startswith("data:") for own in found.all("img"))
    assert "\x1b" not in page(HARM)
    assert "\\x1b[31m" in found.words
    for place in ("thresholds.toml:51", "a note", "needs depth", "the loss is real", "mine", "fog"):
        assert f"{place}\"'><script>alert(1)</script>" in found.words, place


@pytest.mark.usefixtures("undrawn")
def test_a_run_alone_and_one_without_names() -> None:
    alone = words(page_of(head()))
    assert "There is no earlier run beside this one" in alone
    assert "Most often confused" in alone
    hidden = page_of(head().unnamed(), compare(base(), head()))
    assert "clean-000" not in hidden
    assert "Names of samples were left out" in words(hidden)


@pytest.mark.usefixtures("undrawn")
def test_pictures_of_other_data_are_not_drawn_and_it_says_so() -> None:
    mine = head()
    other = replace(
        mine, header={**mine.header, "config": {**mine.header["config"], "data": "/photos"}}
    )
    made = page_of(other, compare(base(), other))
    assert "data:image/jpeg" not in made
    assert "The run was on data that are not drawn again here." in words(made)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"exit_status": 0}, "No gate"),
        ({"exit_status": 6}, "Not decided"),
        ({"exit_status": 0, "complete": False}, "Not decided"),
        ({"exit_status": 1}, "Do not ship"),
    ],
)
def test_a_run_that_gates_nothing_is_never_green(changes: dict[str, object], word: str) -> None:
    own = head(fails=False)
    made = page_of(replace(own, header={**own.header, **changes}))
    assert f'<h1 id="verdict">{word}</h1>' in made


def test_a_run_that_gates_nothing_names_what_got_worse() -> None:
    own = head(fails=False)
    passed = replace(own, header={**own.header, "exit_status": 0})
    said = words(page_of(passed, compare(base(), passed)))
    assert "so this run gates nothing. " in said
    assert re.search(
        r"of them (is|are) worse than in the earlier run: accuracy on clean by −0\.18\d \[−0\.",
        said,
    )
    assert "worse than in the earlier run:" not in words(page_of(passed, compare(passed, passed)))


def of_baseline(run: Run) -> Baseline:
    found = {(bare_key(r.measurement), r.model): r.figure for r in run.records}
    return Baseline("thresholds.baseline.safetensors", found, run.provenance)


@pytest.mark.usefixtures("undrawn")
def test_a_sessions_run_is_held_against_its_baseline() -> None:
    before = the_run(figures((59,)), "old", fails=False)
    now = replace(the_run(figures(range(12))), baseline=of_baseline(before))
    said = words(text(now, Path()))
    assert "against old in thresholds.baseline.safetensors" in said
    assert "fell by 0.2 [0.11, 0.31]" in said
    two = replace(
        now,
        baseline=Baseline(
            "b", {**of_baseline(before).figures, ("x/y/z/w", "c"): before.records[0].figure}
        ),
    )
    assert "not compared with an earlier run" in words(text(two, Path()))


@pytest.mark.slow
def test_a_thousand_figures_fit() -> None:
    own = head()
    one = next(iter(own.measurements.values()))
    many = {f"{one.key}{i}": one for i in range(1500)}
    verdicts = dict.fromkeys(many, own.verdicts[one.key])
    made = page_of(replace(own, measurements=many, verdicts=verdicts, tests={}))
    assert len(made.encode()) < 5_000_000


# --- Parts -----------------------------------------------------------------------------------------


def a_line(
    metric: str,
    difference: float,
    low: float,
    high: float,
    *,
    better: bool | None = True,
    word: Word = Word.WORSE,
    unit: str = "",
    fails: bool = False,
    several: bool = False,
) -> Line:
    figure = Figure(metric, 0.5, 0.4, 0.6, 40, unit=unit)
    one = Measurement("s", "m", figure.measured_on(Condition("clean", (Step("fog", 3),))))
    row = Compared(one, one, better, "paired", word, difference, low, high)
    numbers = (0.5, 0.4, 0.6, 0.95, 40)
    failed = Verdict("fail", "fail", "k", "min", 0.7, "t:1", "", "why", *numbers)
    return Line(one, failed if fails else None, row, "t", "", several=several)


def test_the_largest_losses_are_drawn_as_sizes_with_their_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[tuple[Any, ...]] = []

    def dots(*given: Any, **more: Any) -> Markup:
        drawn.append((*given, more))
        return Markup("")

    monkeypatch.setattr(plots, "dots", dots)
    lines = [
        a_line("accuracy", -0.25, -0.5, -0.125),
        a_line("ece", 0.5, 0.25, 0.75, better=False, several=True),
        a_line("fails", -0.0625, -0.25, 0.125, word=Word.UNSEEN, fails=True),
        a_line("reaches", 0.03125, -0.5, 0.25, better=False),
        a_line("unseen", -0.5, -0.75, 0.25, word=Word.UNSEEN),
        a_line("better", 0.5, 0.25, 0.75, word=Word.BETTER),
        a_line("nll", 3.0, 2.0, 4.0, better=False, unit="nats"),
    ]
    plot = page_module._losses(lines)
    assert plot is not None
    assert plot.wide
    assert plot.caption == "Loss against the earlier run, with its interval; red: a bound fails."
    assert not drawn  # it is drawn when it is asked for
    assert plot.svg == ""
    ((rows, name, label, more),) = drawn
    assert (name, label, more) == ("worst", "largest losses", {"zero": True})
    assert rows == [
        plots.Dot("fog 3: ece", 0.5, 0.25, 0.75, None, "", " (m)"),
        plots.Dot("fog 3: accuracy", 0.25, 0.125, 0.5, None, "", ""),
        plots.Dot("fog 3: fails", 0.0625, -0.125, 0.25, None, "bad", ""),
        plots.Dot("fog 3: reaches", 0.03125, -0.5, 0.25, None, "", ""),
    ]
    assert page_module._losses(lines[4:]) is None
    monkeypatch.setattr(facts, "WORST", 3)
    for more, said in (([], "1 smaller one is"), (lines[:1], "2 smaller ones are")):
        short = page_module._losses([*lines, *more])
        assert short is not None
        assert short.caption == f"{plot.caption} {said} in the table."


def test_how_many_figures_have_an_earlier_one() -> None:
    lines = [a_line("accuracy", -0.25, -0.5, -0.125)] * 3
    rows = [line.compared for line in lines]
    base = SimpleNamespace(source="v1.json", models=("x", "y"))

    def made(count: int) -> Any:
        return SimpleNamespace(base=base, rows=rows[:count])

    assert page_module._compared(lines, None) == page_module._compared(lines, made(3)) == []
    assert page_module._compared(lines, made(2)) == [
        "v1.json has 2 of these 3 figures; the others stand without an earlier one."
    ]
    assert page_module._against(None) == []
    assert page_module._against(made(2)) == ["m"]
    assert page_module._against(made(0)) == ["x", "y"]


def test_what_was_not_run_and_what_the_earlier_run_had_alone() -> None:
    own = head()
    gone = [f"s/m/clean/p{n}/m" for n in range(40)]

    def told(count: int, **header: object) -> tuple[list[Any], int]:
        made: Any = SimpleNamespace(only_base=gone[:count])
        return page_module._not_run(replace(own, header=header), made if count else None)

    missing = [{"test": "t.py::a", "reason": "cut"}]
    found, left = told(
        1,
        missing=missing,
        not_collected=["x.py"],
        mistakes=["a slip"],
        troubles=["no disk"],
        not_run=[{"test": "t.py::b", "reason": "skipped"}],
        bounds_not_judged=["a bound"],
    )
    assert left == 0
    assert [(one.tone, one.word, one.test, one.text) for one in found] == [
        ("bad", "not finished", "t.py::a", "cut"),
        ("bad", "not collected", "x.py", ""),
        ("bad", "error", "", "a slip"),
        ("bad", "error", "", "no disk"),
        ("unsure", "skipped", "t.py::b", "skipped"),
        ("", "bound", "", "a bound"),
        (
            *("", "earlier run only", ""),
            f"1 figure of the earlier run has no counterpart in this one: {gone[0]}",
        ),
    ]
    ((one,), _) = told(2)
    assert one.text == (
        f"2 figures of the earlier run have no counterpart in this one: {gone[0]}, {gone[1]}"
    )
    named = [
        told(count)[0][0].text.endswith(gone[count - 1])
        for count in (page_module._NAMED, page_module._NAMED + 1)
    ]
    assert named == [True, False]
    assert told(0) == ([], 0)


def test_of_many_that_were_not_run_the_rest_is_counted() -> None:
    own = bare = head()
    many = [{"test": f"t.py::t{n}", "reason": "x" * 200} for n in range(2000)]
    kept, left = page_module._not_run(replace(own, header={"not_run": many}), None)
    assert 0 < left < 2000
    assert len(kept) + left == 2000
    assert [one.test for one in kept] == [one["test"] for one in many[: len(kept)]]
    models = dict.fromkeys((f"m{n}" for n in range(2000)), own.header["models"]["mine"])
    own = replace(own, header={**own.header, "models": models})
    *lines, (last, told) = page_module._provenance(own, None)
    total = len(facts.provenance_lines(own, None))
    assert last == "left out"
    assert told.startswith(f"{total - len(lines):,} lines more: ")
    assert page_module._provenance(bare, None) == list(facts.provenance_lines(bare, None))

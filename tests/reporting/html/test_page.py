"""The HTML report: what it says, that it is safe, and that it stands alone."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from markupsafe import Markup
from report_helpers import HARM, Elements, base, figures, head, the_run

from pytest_cliprobust.gating.baseline import Baseline, bare_key
from pytest_cliprobust.reporting.facts import anchor_of
from pytest_cliprobust.reporting.html import plots
from pytest_cliprobust.reporting.html.page import page_of, text
from pytest_cliprobust.results.compare import compare
from pytest_cliprobust.results.run import Run


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

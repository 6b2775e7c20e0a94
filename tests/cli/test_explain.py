"""``cliprobust explain``: which rule judges a figure, which lose, and what its samples decide."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from history_helpers import a_run, answers, figures

from pytest_cliprobust import cli
from pytest_cliprobust.reporting.json import text

Capture = pytest.CaptureFixture[str]
KEY = "mine/accuracy/clean/clean/reference"

RULES = """schema = 1
[[threshold]]
metric = "accuracy"
min = 0.5
[[threshold]]
metric = "accuracy"
suite = "mine"
max_decrease = 0.05
[[threshold]]
metric = "ece"
profile = "standard"
max = 0.2
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a report and its threshold file."""
    monkeypatch.chdir(tmp_path)
    run = a_run(figures(answers(0.8)), thresholds="thresholds.toml")
    told: dict[str, Any] = {
        "status": "inconclusive",
        "kind": "max_decrease",
        "limit": 0.05,
        "decidable": 0.1,
    }
    records = tuple(
        replace(r, verdict=replace(r.verdict, explanation="who knows", **told))
        if r.key == KEY
        else r
        for r in run.records
    )
    Path("run.json").write_text(text(replace(run, records=records)))
    Path("thresholds.toml").write_text(RULES)
    return tmp_path


def explained(capsys: Capture, *words: str) -> str:
    assert cli.main(["explain", *words, "--run", "run.json"]) == 0
    return capsys.readouterr().out


def test_it_says_who_wins_and_what_the_samples_decide(folder: Path, capsys: Capture) -> None:
    lines = explained(capsys, KEY).splitlines()
    assert lines[0] == f"{KEY} (profile quick)"
    assert lines[1].startswith(
        "  wins  thresholds.toml:5  max_decrease 0.05  [suite=mine metric=accuracy]"
    )
    assert lines[2].startswith(
        "  loses thresholds.toml:2  min 0.5  [metric=accuracy]  (less specific"
    )
    assert lines[3].startswith("  measured  0.")
    assert lines[4] == "  inconclusive  who knows"
    # Twice the margin takes a quarter of the samples.
    assert lines[5] == (
        "  n = 200 decides a margin of 0.1; the 0.05 in force needs about 800 samples"
    )


def test_it_says_why_no_rule_matches(folder: Path, capsys: Capture) -> None:
    out = explained(capsys, "*/ece/*")
    assert "no rule of thresholds.toml matches: the figure is unbounded" in out
    assert "profile is 'quick', not 'standard'" in out


def test_a_glob_explains_several(folder: Path, capsys: Capture) -> None:
    assert explained(capsys, "mine/*").count("measured") == 5


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["mine/acuracy/clean/clean/reference"], f"Did you mean '{KEY}'?"),
        ([KEY, "--thresholds", "other.toml"], "threshold file other.toml is not there"),
        ([KEY, "--run", "none.json"], "none.json"),
    ],
)
def test_mistakes_are_one_line(folder: Path, capsys: Capture, given: list[str], words: str) -> None:
    assert cli.main(["explain", "--run", "run.json", *given]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_run_without_a_threshold_file(folder: Path, capsys: Capture) -> None:
    Path("run.json").write_text(text(a_run(figures(answers(0.8)))))
    assert cli.main(["explain", KEY, "--run", "run.json"]) == 4
    assert "had no threshold file; name one with --thresholds FILE" in capsys.readouterr().err
    assert "wins" in explained(capsys, KEY, "--thresholds", "thresholds.toml")


def test_of_many_figures_some_are_explained(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for most, shown in ((4, 4), (5, 5)):
        monkeypatch.setattr("pytest_cliprobust.cli.explain._MOST", most)
        text = explained(capsys, "mine/*")
        assert text.count("measured") == shown
        assert ("… and 1 more figure of that name" in text) == (most == 4)


def test_what_the_samples_decide_is_told_where_both_are_known(
    folder: Path, capsys: Capture
) -> None:
    """A verdict without a margin, or of an earlier version, has one of the two alone."""
    whole = json.loads(Path("run.json").read_text())
    for decidable, limit in ((0.05, 0.02), (0.05, None), (None, 0.02)):
        for entry in whole["measurements"]:
            entry["verdict"] |= {"decidable": decidable, "limit": limit}
        Path("run.json").write_text(json.dumps(whole))
        told = explained(capsys, KEY)
        assert ("decides a margin of 0.05" in told) == (None not in (decidable, limit))


@pytest.mark.parametrize(
    "explanation",
    [
        "who knows; 150 samples decide a margin of 0.1; one of 0.05 needs about 600",
        "it allows any loss; write a smaller margin: 150 samples decide one of 0.1",
    ],
)
def test_what_the_verdict_tells_already_is_not_told_again(
    folder: Path, capsys: Capture, explanation: str
) -> None:
    whole = json.loads(Path("run.json").read_text())
    for entry in whole["measurements"]:
        # Of the run's 200 samples the earlier run has 150.
        entry["verdict"] |= {"n": 150, "explanation": explanation}
    Path("run.json").write_text(json.dumps(whole))
    assert "decides a margin" not in explained(capsys, KEY)
    for entry in whole["measurements"]:
        entry["verdict"] |= {"explanation": "who knows"}
    Path("run.json").write_text(json.dumps(whole))
    assert "  n = 150 decides a margin of 0.1; the 0.05 in force needs about 600 samples" in (
        explained(capsys, KEY).splitlines()
    )

"""``cliprobust compare``: two runs, figure by figure."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from history_helpers import KEYS, a_run, answers, figures, keep

from pytest_cliprobust import cli
from pytest_cliprobust.cli import compare as command
from pytest_cliprobust.cli._tables import print_table
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.reporting.json import document
from pytest_cliprobust.results.compare import Compared, Sides, Word
from pytest_cliprobust.results.history import History

Capture = pytest.CaptureFixture[str]
RIGHT = answers(0.8)
KEY = "mine/accuracy/clean/clean/reference"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a history of two runs, the second of which lost 30 samples and gained 2."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--clip-history=history.sqlite")
    flipped = [*np.flatnonzero(RIGHT)[:30], *np.flatnonzero(~RIGHT)[:2]]
    with History(tmp_path / "history.sqlite", create=True) as history:
        keep(history, a_run(figures(RIGHT)))
        keep(history, a_run(figures(answers(0.8, flipped=flipped))[:4]))
    return tmp_path


def told(capsys: Capture, *words: str, code: int = 0) -> list[list[str]]:
    """Return what the command prints, as cells."""
    assert cli.main(["compare", *words]) == code
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def test_what_changed_the_worst_first(folder: Path, capsys: Capture) -> None:
    lines = told(capsys, "last~1", "last")
    assert lines[0] == ["run 1 and run 2"]
    assert lines[1] == ["note: reference: the same weights in both"]
    assert lines[2] == ["figure", "before", "after", "change [0.95]", "p", "verdict", "how"]
    row = lines[3]
    assert row[0] == KEY
    assert float(row[2]) - float(row[1]) == pytest.approx(-0.14)
    assert row[3].startswith("-0.140 [-0.2")
    assert float(row[4]) < 0.005
    assert row[5:] == ["worse", "paired, n = 200 in 100 drawings"]
    assert lines[-2][0].startswith("4 figures: 2 worse, ")
    assert lines[-2][0].endswith("(--all shows them)")
    assert lines[-1] == ["only in run 1: 1 figure: mine/ece/clean/clean/reference"]


def test_everything_and_the_samples(folder: Path, capsys: Capture) -> None:
    lines = told(capsys, "1", "2", "--all", "--samples")
    assert sum(len(line) == 7 for line in lines) == 5
    lost = [KEYS.ids[i] for i in np.flatnonzero(RIGHT)[:30]]
    gained = [KEYS.ids[i] for i in np.flatnonzero(~RIGHT)[:2]]
    assert [f"{KEY}: 30 lost: {', '.join(lost[:20])} and 10 more"] in lines
    assert [f"{KEY}: 2 gained: {', '.join(gained)}"] in lines
    assert any(
        line[0].startswith("mine/accuracy_drop/") and "(clean): 30 lost" in line[0]
        for line in lines
    )


def test_the_exit_code_is_0_unless_it_is_asked_for(folder: Path, capsys: Capture) -> None:
    told(capsys, "1", "2", "--fail-on-loss", code=1)
    told(capsys, "2", "1", "--fail-on-loss")
    told(capsys, "1", "1", "--fail-on-loss")


def test_a_loss_that_nobody_could_see_is_no_pass(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a suite was renamed: two runs without a figure in common."""
    monkeypatch.chdir(tmp_path)
    run = document(a_run(figures(RIGHT)))
    Path("a.json").write_text(json.dumps(run), encoding="utf-8")
    renamed = json.dumps(run).replace('"mine', '"yours')
    Path("b.json").write_text(renamed, encoding="utf-8")
    told(capsys, "a.json", "b.json", "--history=none.sqlite")
    words = ["compare", "a.json", "b.json", "--fail-on-loss", "--history=none.sqlite"]
    assert cli.main(words) == cli.USAGE_ERROR
    assert "no figure in common" in capsys.readouterr().err


def test_as_json(folder: Path, capsys: Capture) -> None:
    told(capsys, "1", "2", "--json=out/made.json")
    made = json.loads(Path("out/made.json").read_text(encoding="utf-8"))
    assert made["confidence"] == 0.95
    figure = next(f for f in made["figures"] if f["key"] == KEY)
    assert len(figure["samples"]["value"]["lost"]) == 30
    assert cli.main(["compare", "1", "2", "--json=history.sqlite/x"]) == 4
    assert "cannot be written" in capsys.readouterr().err


def test_two_models(folder: Path, capsys: Capture) -> None:
    with History(folder / "history.sqlite") as history:
        keep(history, a_run(figures(RIGHT), "small", digest="cd34"))
    lines = told(capsys, "1", "last", "--base-model=reference", "--head-model=small")
    assert ["note: small is compared with reference"] in lines
    assert cli.main(["compare", "1", "last", "--base-model=smal"]) == 4
    assert "has no figures of model 'smal'" in capsys.readouterr().err


def test_reports_need_no_history(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, right in (("a", RIGHT), ("b", ~RIGHT)):
        Path(f"{name}.json").write_text(
            json.dumps(document(a_run(figures(right)))), encoding="utf-8"
        )
    lines = told(capsys, "a.json", "b.json", "--fail-on-loss", "--history=none.sqlite", code=1)
    row = next(line for line in lines if line[0] == KEY)
    assert row[5] == "worse"
    assert row[6].startswith("not paired: this figure has no outcomes by sample")


def test_what_is_no_level_and_no_run(folder: Path, capsys: Capture) -> None:
    for words, wanted in (
        (("1", "2", "--confidence=95"), "a level lies between 0 and 1"),
        (("1", "7"), "no run 7"),
        (("1", "missing.json"), "missing.json: cannot be read"),
        (("1", "headd"), "'headd' is no run"),
    ):
        assert cli.main(["compare", *words]) == 4
        (line,) = capsys.readouterr().err.splitlines()
        assert wanted in line


def test_a_figure_that_cannot_be_compared_says_why(folder: Path, capsys: Capture) -> None:
    from pytest_cliprobust.figures.condition import Condition
    from pytest_cliprobust.figures.figure import Figure

    nan = float("nan")
    broken = Figure("accuracy", nan, nan, nan, 200).measured_on(Condition("clean"))
    with History(folder / "history.sqlite") as history:
        keep(history, a_run([broken]))
    lines = told(capsys, "1", "3")
    assert [
        KEY,
        lines[3][1],
        "nan",
        "–",
        "–",
        "not comparable",
        "accuracy of head is nan [nan, nan]",
    ] in lines
    assert lines[-1][0].endswith("4 figures (--all names them)")


def test_a_table_on_a_terminal(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["compare", "1", "2"]) == 0
    out = capsys.readouterr().out
    assert "\t" not in out
    assert "worse" in out


def test_on_a_narrow_terminal_a_row_keeps_its_name_in_one_line(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "24")
    print_table(("figure", "how"), [("a figure of mine", "paired over many samples")])
    head, *lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert head.split() == ["figure", "how"]
    assert lines[0].startswith("a figure of mine")
    assert len(lines) > 1  # what is said of it has several
    assert not any(line[:16].strip() for line in lines[1:])


def made_up(words: list[str], *, only_base: int = 0, only_head: int = 0) -> Any:
    """Return a comparison with a figure of each word, which lost less the later it stands."""
    before, after = (Figure("ece", value, 0.1, 0.5, 40) for value in (0.25, 1 / 3))

    def row(number: int, word: str) -> Compared:
        then, now = (
            Measurement("mine", "m", figure.measured_on(Condition(f"d{number}")))
            for figure in (before, after)
        )
        p = None if number % 2 else 0.5 - number / 10
        return Compared(then, now, True, f"how {number}", Word(word), adjusted=p)

    rows = [row(number, word) for number, word in enumerate(words)]
    base, head = (SimpleNamespace(source=name) for name in ("then", "now"))
    left = [
        tuple(f"{name}{n}" for n in range(c)) for name, c in (("b", only_base), ("h", only_head))
    ]
    return SimpleNamespace(
        base=base,
        head=head,
        rows=rows,
        notes=["a", "b"],
        confidence=0.9,
        only_base=left[0],
        only_head=left[1],
    )


def printed(capsys: Capture, made: Any, *, every: bool = False) -> list[str]:
    command._print(made, every=every, samples=False)
    return capsys.readouterr().out.splitlines()


def test_rows_stand_by_word_and_then_by_how_sure_they_are(capsys: Capture) -> None:
    words = ["better", "identical", "worse", "worse", "worse", "no change seen"]
    made = made_up(words)
    first, *notes, head = (lines := printed(capsys, made))[:4]
    assert (first, notes) == ("then and now", ["note: a", "note: b"])
    assert head.split("\t")[3] == "change [0.9]"
    rows = [line.split("\t") for line in lines[4:-1]]
    # Without a p-value it is as sure as can be.
    assert [row[0].split("/")[2] for row in rows] == ["d3", "d4", "d2", "d0"]
    assert rows[0][1:] == ["0.25", "0.3333", "–", "–", "worse", "how 3"]
    assert rows[1][4] == "0.1"
    assert lines[-1] == (
        "6 figures: 3 worse, 1 better, 1 no change seen, 1 identical (--all shows them)"
    )
    lines = printed(capsys, made, every=True)
    assert len(lines) == 4 + 6 + 1
    assert not lines[-1].endswith("them)")
    assert printed(capsys, made_up(["worse"]))[-1] == "1 figure: 1 worse"
    assert printed(capsys, made_up([]))[3:] == ["0 figures: none in both"]


@pytest.mark.parametrize("every", [False, True])
def test_three_figures_of_one_run_alone_are_named_and_more_where_all_is_asked_for(
    every: bool, capsys: Capture
) -> None:
    *_, before, after = printed(capsys, made_up([], only_base=3, only_head=4), every=every)
    assert before == "only in then: 3 figures: b0, b1, b2"
    names = ": h0, h1, h2, h3" if every else " (--all names them)"
    assert after == f"only in now: 4 figures{names}"
    assert printed(capsys, made_up([], only_head=1))[-1] == "only in now: 1 figure: h0"


def test_samples_that_changed_sides_are_named_by_column() -> None:
    (row,) = made_up(["worse"]).rows
    many = tuple(f"s{n}" for n in range(21))
    sides = {"value": Sides(many, ()), "clean": Sides((), many[:20]), "other": Sides((), ())}
    key = row.key
    assert command._samples(replace(row, sides=sides)) == [
        f"{key}: 21 lost: {', '.join(many[:20])} and 1 more",
        f"{key} (clean): 20 gained: {', '.join(many[:20])}",
    ]

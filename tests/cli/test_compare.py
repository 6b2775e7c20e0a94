"""``cliprobust compare``: two runs, figure by figure."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from history_helpers import KEYS, a_run, answers, figures, keep

from pytest_cliprobust import cli
from pytest_cliprobust.cli._tables import print_table
from pytest_cliprobust.reporting.json import document
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

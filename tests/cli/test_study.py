"""``cliprobust study``: what it prints and writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from history_helpers import a_run, answers, keep
from study_helpers import BASE

from pytest_cliprobust import cli
from pytest_cliprobust.figures.bootstrap import Bootstrap, proportion_figure
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.reporting.json import document
from pytest_cliprobust.results.history import History
from pytest_cliprobust.results.run import Run

Capture = pytest.CaptureFixture[str]
FACTS = {"a": BASE, "b": BASE | {"seed": "1"}, "c": BASE | {"loss": "sigmoid"}}


def model_run(model: str, share: float) -> Run:
    made = proportion_figure("accuracy", answers(share), Bootstrap(replicates=50))
    return a_run([made.measured_on(Condition("clean"))], model, digest=model, suite="accuracy")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a history of three models, and the cards of them."""
    monkeypatch.chdir(tmp_path)
    with History(tmp_path / "history.sqlite", create=True) as history:
        for model, share in (("a", 0.6), ("b", 0.7), ("c", 0.8)):
            keep(history, model_run(model, share))
    lines = [
        f"[model.{model}]\n" + "".join(f'{name} = "{value}"\n' for name, value in facts.items())
        for model, facts in FACTS.items()
    ]
    (tmp_path / "cards.toml").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def mistake(capsys: Capture, *words: str) -> str:
    assert cli.main(["study", *words]) == cli.USAGE_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_runs_of_the_history_become_a_folder(folder: Path, capsys: Capture) -> None:
    words = ["1", "2", "last", "--history=history.sqlite", "--cards=cards.toml", "--out=made"]
    assert cli.main(["study", *words]) == 0
    told = capsys.readouterr().out
    assert "3 models, 1 property\n" in told
    assert "Fine-tuning lowers shape bias\tnot measured" in told
    assert {path.name for path in (folder / "made").iterdir()} == {
        *("study.html", "models.csv", "figures.csv", "lines.csv", "effects.csv", "claims.csv"),
        "effects.png",
    }
    assert "sigmoid instead of softmax" in (folder / "made" / "study.html").read_text()


def test_json_reports_need_no_history(folder: Path, capsys: Capture) -> None:
    for name, share in (("a", 0.6), ("b", 0.7)):
        text = json.dumps(document(model_run(name, share)))
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    assert cli.main(["study", "a.json", "b.json", "--no-plots"]) == 0
    assert "2 models" in capsys.readouterr().out
    assert not list((folder / "study").glob("*.png"))


def test_mistakes_are_one_line(folder: Path, capsys: Capture) -> None:
    at = "--history=history.sqlite"
    assert "two models at least" in mistake(capsys, "1", at)
    for level in ("0", "1", "2"):
        assert "--confidence" in mistake(capsys, "1", "2", at, f"--confidence={level}")
    assert "nothing.toml: cannot be read" in mistake(capsys, "1", "2", at, "--cards=nothing.toml")
    assert "no run has the property 'x'" in mistake(capsys, "1", "2", at, "--id=x")
    (folder / "file").write_text("", encoding="utf-8")
    assert "file/models.csv: cannot be written" in mistake(capsys, "1", "2", at, "--out=file")


def test_without_matplotlib_the_remedy_is_named(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    words = ("1", "2", "3", "--history=history.sqlite", "--cards=cards.toml")
    assert "--no-plots" in mistake(capsys, *words)

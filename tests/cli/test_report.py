"""``cliprobust report`` and ``--clip-report FILE.html``: a page from the history, and from a session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import Sessions, one_line
from history_helpers import a_run, answers, figures, keep
from report_helpers import Elements

from pytest_cliprobust import cli
from pytest_cliprobust.results.history import History

Capture = pytest.CaptureFixture[str]
RIGHT = answers(0.8)

SUITE = """
    from pytest_cliprobust.properties import accuracy

    def test_accuracy(clip, gate):
        gate(accuracy.accuracy_of(clip.on("clean")), accuracy.accuracy_of(clip.on("clean", "fog", 5)))
"""
STRICT = """
schema = 1
[[threshold]]
metric = "accuracy"
perturbation = "fog"
min = 0.999
because = "it breaks"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a history of two runs, the second of which lost 30 samples."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--clip-history=history.sqlite")
    flipped = np.flatnonzero(RIGHT)[:30]
    with History(tmp_path / "history.sqlite", create=True) as history:
        keep(history, a_run(figures(RIGHT)))
        keep(history, a_run(figures(answers(0.8, flipped=flipped))))
    return tmp_path


def words(path: str) -> str:
    return " ".join(Elements(Path(path).read_text(encoding="utf-8")).words.split())


def test_a_run_beside_an_earlier_one(folder: Path, capsys: Capture) -> None:
    assert cli.main(["report", "last", "last~1", "--out=out/page.html"]) == 0
    assert capsys.readouterr().out == "written to out/page.html\n"
    said = words("out/page.html")
    assert "against reference in run 1" in said
    assert "30 lost, 0 gained" in said
    # The samples are no embedded ones, so that there is nothing to draw.
    assert "clean: some samples are others than the run's" in said


def test_a_run_alone(folder: Path) -> None:
    assert cli.main(["report", "2"]) == 0
    assert "There is no earlier run beside this one" in words("report.html")


def test_mistakes_are_one_line(folder: Path, capsys: Capture) -> None:
    assert cli.main(["report", "9"]) == cli.USAGE_ERROR
    assert "no run 9" in capsys.readouterr().err
    Path("blocked").write_text("a file", encoding="utf-8")
    assert cli.main(["report", "1", "--out=blocked/page.html"]) == cli.USAGE_ERROR
    assert "blocked/page.html: cannot be written" in capsys.readouterr().err
    assert cli.main(["report", "1", "--out=page.pdf"]) == cli.USAGE_ERROR
    assert "page.pdf: this writes a page; end the name in .html" in capsys.readouterr().err
    assert not Path("page.pdf").exists()


def test_a_session_writes_one_beside_what_it_was_held_against(run: Sessions) -> None:
    kept = "--clip-history=own.sqlite"
    run(kept, "--clip-report=first.html", suite=SUITE, thresholds=STRICT).assert_outcomes(failed=1)
    said = words("first.html")
    assert "Do not ship Accuracy on clean, fog at severity 5:" in said
    assert "it breaks" in said
    assert "There is no earlier run beside this one" in said
    command = "pytest 'test_mine.py::test_accuracy[reference]' --clip-model=reference --clip-profile=quick"
    assert f"{command} --clip-limit=40" in said
    # Twice the same model: nothing changed, and the page says so.
    again = run.again(kept, "--clip-baseline=1", "--clip-report=second.html")
    again.assert_outcomes(failed=1)
    said = words("second.html")
    assert "against reference in run 1" in said
    assert "2 identical" in said
    assert "No sample changed sides" in said


def test_the_ending_of_the_name_is_known(run: Sessions) -> None:
    result = run("--clip-report=report.htm", suite=SUITE)
    one_line(result, "--clip-report report.htm: end the name in .json or .md or .html")

"""``cliprobust history``, ``show``, ``trend``, ``prune``, ``export``, ``tag``, ``anchor``: what was kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from history_helpers import a_run, answers, figures, keep

from pytest_cliprobust import cli
from pytest_cliprobust.cli import _history, trend
from pytest_cliprobust.cli import history as history_command
from pytest_cliprobust.results.history import History

Capture = pytest.CaptureFixture[str]
KEY = "mine/accuracy/clean/clean/reference"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose pytest keeps four runs in its cache folder, one of them cut short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    (tmp_path / "pytest.ini").write_text("[pytest]\nclip_cache_dir = cache\n", encoding="utf-8")
    with History(tmp_path / "cache" / "history.sqlite", create=True) as history:
        for day, lost in enumerate((0, 6, 20, 20), start=1):
            run = a_run(
                figures(answers(0.8, flipped=range(lost))),
                written=f"2026-11-0{day}T12:00:00+0000",
                notes=("a note",),
                complete=day != 4,
                exit_status=2 if day == 4 else 0,
            )
            keep(history, run, *(["v1.0"] if day == 1 else []))
    return tmp_path


def told(capsys: Capture, *words: str, code: int = 0) -> list[list[str]]:
    """Return what a command prints, as cells."""
    assert cli.main(list(words)) == code
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def mistake(capsys: Capture, *words: str) -> str:
    """Return the one line that a command ends with."""
    assert cli.main(list(words)) == cli.USAGE_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_the_list(folder: Path, capsys: Capture) -> None:
    head, *rows = told(capsys, "history")
    assert head == [
        *("run", "when", "models", "data", "suites", "figures", "failed", "exit", "tags")
    ]
    assert rows[0] == [
        *("1", "2026-11-01 12:00", "reference ab12", "embedded, quick", "mine", "5", "0"),
        *("0", "v1.0"),
    ]
    assert rows[3][7] == "2 (cut short)"
    with History(folder / "cache" / "history.sqlite") as history:
        for _ in range(20):
            keep(history, a_run([], partial=True))
        one, two = a_run([]), a_run([], "v2", digest="cd3456789")
        keep(history, replace(one, models={**one.models, **two.models}))
    note, _, *newest = told(capsys, "history")
    assert note == ["5 older runs are not shown (--all)"]
    assert [row[0] for row in newest] == [str(n) for n in range(6, 26)]
    assert newest[0][7] == "0 (single tests)"
    assert newest[-1][2] == "reference ab12, v2 cd345678"
    assert len(told(capsys, "history", "--all")) == 26


def test_one_run(folder: Path, capsys: Capture) -> None:
    lines = told(capsys, "show", "tag:v1.0")
    assert lines[0] == [
        "run 1 (v1.0), 2026-11-01T12:00:00+0000, exit code 0, pytest-cliprobust 0.1.0"
    ]
    assert ["model: reference (ViT, own), weights ab12, cpu, precision fp32"] in lines
    assert ["data: embedded, profile quick, seed 0; thresholds: none"] in lines
    assert ["note: a note"] in lines
    rows = {line[0]: line for line in lines if len(line) == 5}
    assert rows[KEY][2:] == ["200", "–", "unbounded"]
    assert rows[KEY][1].startswith("0.725 [0.6")
    assert len(rows) == 6
    only = told(capsys, "show", "last", "--figure", "nll")
    assert [line[0] for line in only if len(line) == 5] == [
        "figure",
        KEY.replace("accuracy", "nll"),
    ]
    wrong = mistake(capsys, "show", "last", "--figure", "acuracy")
    assert "has no figure 'acuracy'. Did you mean 'accuracy'? Give a metric (accuracy, " in wrong
    assert "cut short" in told(capsys, "show", "4")[0][0]
    assert "no run 9" in mistake(capsys, "show", "9")


def test_a_figure_over_runs(folder: Path, capsys: Capture) -> None:
    key, head, *rows = told(capsys, "trend", KEY)
    assert key == [KEY]
    assert head == ["run", "when", "tags", "value [interval]", "n", "since run 1"]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert rows[0][5] == "–"
    difference, low, high = (float(x.strip("[],")) for x in rows[2][5].split())
    assert low < difference < high
    assert difference == pytest.approx(float(rows[2][3].split()[0]) - 0.725)
    told(capsys, "anchor", "2")
    _, head, *rows = told(capsys, "trend", KEY)
    assert head[5] == "since run 2 (anchor)"
    assert [row[5] == "–" for row in rows] == [False, True, False]


def test_several_figures_over_runs(folder: Path, capsys: Capture) -> None:
    told(capsys, "anchor", "1")
    head, *rows = told(capsys, "trend", "*/clean/clean/*")
    assert head[0] == "figure"
    assert len(rows) == 4
    row = next(row for row in rows if row[0] == KEY)
    assert row[1] == "run 1 (anchor)"
    assert row[3] == "run 3"
    assert row[6] in ("worse", "no change seen")
    same = next(row for row in rows if "/nll/" in row[0])
    assert same[6] == "identical"


def test_a_trend_as_csv_has_every_run_with_the_figure(folder: Path, capsys: Capture) -> None:
    with History(folder / "cache" / "history.sqlite") as history:
        run = a_run(figures(answers())[:1])
        for record in run.records:
            assert record.key == KEY
        keep(history, replace(run, config=replace(run.config, profile="full")))
    assert cli.main(["trend", "accuracy", "--csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "key,run,written,tags,value,low,high,n,unit,status,models,data,profile,limit"
    )
    assert [line.split(",")[1] for line in lines[1:]] == ["1", "2", "3", "5"]
    assert lines[-1].endswith(",reference,embedded,full,")
    assert lines[1].startswith(f"{KEY},1,2026-11-01T12:00:00+0000,v1.0,0.725,0.65")
    *_, last = told(capsys, "trend", KEY)
    assert last == [
        "run 1, run 2, run 3 are left out, as not comparable: profile quick, not full (--csv has them)"
    ]
    *_, last = told(capsys, "trend", "./reference")
    assert "run 1, run 2, run 3 are left out" in last[0]
    told(capsys, "prune", "--before", "2026-11-03T18:00:00+00:00")
    *_, last = told(capsys, "trend", KEY)
    assert last[0].startswith("run 1 is left out, as not comparable")


def test_a_trend_of_something_unknown(folder: Path, capsys: Capture) -> None:
    line = mistake(capsys, "trend", "acuracy")
    assert "Did you mean 'accuracy'?" in line
    assert "auroc_energy" in line
    with History(folder / "cache" / "history.sqlite") as history:
        keep(history, a_run(figures(answers())[:1], "cut", complete=False))
    assert "no run that came to its end has mine" in mistake(
        capsys, "trend", "mine/accuracy/clean/clean/cut"
    )


def test_pruning(folder: Path, capsys: Capture) -> None:
    assert "say what goes: --keep N or --before DATE" in mistake(capsys, "prune")
    assert told(capsys, "prune", "--keep", "1", "--dry-run") == [
        ["would remove runs: 2, 3; 2 remain"]
    ]
    assert told(capsys, "prune", "--before", "2026-11-02T18:00:00+00:00") == [
        ["removed runs: 2; 3 remain"]
    ]
    assert told(capsys, "prune", "--keep", "9") == [["removed runs: none; 3 remain"]]
    assert told(capsys, "prune", "--keep", "0") == [["removed runs: 3, 4; 1 remain"]]
    for words in (("--keep", "-1"), ("--keep", "few"), ("--before", "yesterday")):
        with pytest.raises(SystemExit):
            cli.main(["prune", *words])
        assert "invalid " in capsys.readouterr().err


def test_an_export_is_compared_like_the_run(folder: Path, capsys: Capture) -> None:
    assert told(capsys, "export", "1", "one.json")[0][0].startswith("run 1 written to one.json, ")
    last = told(capsys, "compare", "one.json", "1", "--all")
    assert last[-1][0].startswith("5 figures: 1 no change seen, 4 identical")
    told(capsys, "export", "1", "bare.json", "--no-samples")
    assert "cat/" not in Path("bare.json").read_text(encoding="utf-8")
    assert json.loads(Path("bare.json").read_text(encoding="utf-8"))["schema"] == 2
    assert "cannot be written" in mistake(capsys, "export", "1", "pytest.ini/one.json")


def test_tags_and_anchors(folder: Path, capsys: Capture) -> None:
    assert told(capsys, "tag", "last", "main", "nightly") == [["run 3: main, nightly"]]
    assert told(capsys, "tag", "3", "main", "nightly", "--remove") == [["run 3: no tags"]]
    assert "run 3 has no tag 'main'" in mistake(capsys, "tag", "3", "main", "--remove")
    assert "a tag is made of" in mistake(capsys, "tag", "3", "two words")
    assert told(capsys, "anchor", "last~1") == [["run 2 is now the anchor"]]
    assert told(capsys, "history")[2][8] == "(anchor)"
    assert told(capsys, "anchor", "anchor", "--remove") == [["run 2 is no longer the anchor"]]
    assert "makes one it" in mistake(capsys, "anchor", "anchor")


# --- Where the history is --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pytest.ini", "[pytest]\nclip_history = own.sqlite\n"),
        ("pytest.ini", "[pytest]\naddopts = -q --clip-history=own.sqlite\n"),
        ("tox.ini", "[pytest]\nclip_history = own.sqlite\n"),
        ("setup.cfg", "[tool:pytest]\nclip_history = own.sqlite\n"),
        ("pyproject.toml", '[tool.pytest.ini_options]\nclip_history = "own.sqlite"\n'),
        (
            "pyproject.toml",
            '[tool.pytest.ini_options]\naddopts = ["--clip-history", "own.sqlite"]\n',
        ),
    ],
)
def test_the_history_is_where_pytest_keeps_it(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, name: str, content: str
) -> None:
    (folder / "cache" / "history.sqlite").rename(folder / "own.sqlite")
    (folder / "pytest.ini").unlink()
    (folder / name).write_text(content, encoding="utf-8")
    assert len(told(capsys, "history")) == 5
    below = folder / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    assert "own.sqlite: no history there" in mistake(capsys, "history")
    assert len(told(capsys, "history", "--history", "../own.sqlite")) == 5
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--clip-history=elsewhere.sqlite")
    assert "elsewhere.sqlite: no history there" in mistake(capsys, "history")


@pytest.mark.parametrize("content", ["[pytest\n", "[pytest]\naddopts = '\n", "[other]\n", ""])
def test_without_settings_it_is_in_the_users_cache(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    (folder / "pytest.ini").write_text(content, encoding="utf-8")
    (folder / "pyproject.toml").write_text("[tool.pytest.ini_options\n", encoding="utf-8")
    monkeypatch.setattr(
        "pytest_cliprobust.results.history.user_cache_path", lambda _: folder / "users"
    )
    assert "users/history.sqlite: no history there" in mistake(capsys, "history")


def test_where_pytest_keeps_none(folder: Path, capsys: Capture) -> None:
    (folder / "pytest.ini").write_text("[pytest]\nclip_history = none\n", encoding="utf-8")
    assert "pytest keeps no history here" in mistake(capsys, "history")
    assert len(told(capsys, "history", "--history=cache/history.sqlite")) == 5


# --- A trend's words -------------------------------------------------------------------------------


def test_a_drift_in_words() -> None:
    def drift(value: float, low: float, high: float, **more: Any) -> Any:
        told = {"change": object(), "how": "paired", "difference": value, "low": low, "high": high}
        return SimpleNamespace(**{**told, **more})

    # Two digits of a tenth of the interval's width, and a plus where it is no loss.
    assert trend.drift_text(drift(0.123456, -0.0123456, 0.2)) == "+0.123 [-0.012, +0.200]"
    assert trend.drift_text(drift(-0.5, -1.5, 0.00001)) == "-0.50 [-1.50, 0.00]"
    assert trend.drift_text(drift(0.0, 0.0, 0.0)) == "0 [0, 0]"
    assert trend.drift_text(drift(0.1, 0.0, 0.2, change=None, how="another n")) == "another n"


def test_runs_that_are_left_out_stand_in_one_line_for_each_reason(capsys: Capture) -> None:
    def left(number: int, why: str, anchor: bool = False) -> Any:
        return SimpleNamespace(point=SimpleNamespace(number=number, anchor=anchor), why=why)

    trend._print_left_out([left(3, "limit"), left(1, "profile", True), left(3, "limit")])
    assert capsys.readouterr().out.splitlines() == [
        "run 3 is left out, as not comparable: limit (--csv has them)",
        "run 1 (anchor) is left out, as not comparable: profile (--csv has them)",
    ]
    trend._print_left_out([left(3, "limit"), left(1, "limit"), left(3, "other")])
    assert capsys.readouterr().out.splitlines() == [
        "run 3, run 1 are left out, as not comparable: limit (--csv has them)",
        "run 3 is left out, as not comparable: other (--csv has them)",
    ]
    trend._print_left_out([])
    assert capsys.readouterr().out == ""


def test_of_several_figures_a_single_point_has_no_drift(folder: Path, capsys: Capture) -> None:
    with History(folder / "cache" / "history.sqlite") as history:
        keep(history, a_run(figures(answers())[:2], "single"))
    rows = {row[0]: row for row in told(capsys, "trend", "*/clean/*")[1:] if len(row) == 7}
    alone = rows["mine/accuracy/clean/clean/single"]
    assert alone[1] == alone[3]
    assert alone[2] == alone[4]
    assert alone[5:] == ["–", "–"]
    first, last = rows[KEY][2], rows[KEY][4]
    assert float(last) - float(first) == pytest.approx(float(rows[KEY][5].split()[0]), abs=1e-3)


def test_the_newest_runs_are_listed_and_older_ones_counted(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shown, first in (
        (5, ["run", "when"]),
        (4, ["run", "when"]),
        (3, ["1 older run is not shown (--all)"]),
        (2, ["2 older runs are not shown (--all)"]),
    ):
        monkeypatch.setattr(history_command, "SHOWN", shown)
        lines = told(capsys, "history")
        assert lines[0][:2] == first
        assert [line[0] for line in lines if len(line) == 9][1:] == list("1234")[-shown:]
    one = a_run([])
    with History(folder / "cache" / "history.sqlite") as history:
        keep(history, replace(one, config=replace(one.config, limit=12)))
        history.set_anchor(keep(history, a_run([]), "b", "a"))
    *_, limited, tagged = told(capsys, "history")
    assert limited[3] == "embedded, quick, at most 12"
    assert tagged[8] == "a, b, (anchor)"


def test_a_run_of_two_models_with_a_mistake(folder: Path, capsys: Capture) -> None:
    one, two = a_run(figures(answers())[:1]), a_run([], "v2", digest="cd" * 10)
    both = replace(
        one,
        models={**one.models, **two.models},
        config=replace(one.config, limit=12),
        notes=("n", "o"),
        mistakes=("a slip", "another"),
        thresholds="t.toml",
    )
    with History(folder / "cache" / "history.sqlite") as history:
        keep(history, both, "x", "y")
    head, *lines = [line[0] for line in told(capsys, "show", "last")]
    assert head.startswith("run 5 (x, y), ")
    assert "cut short" not in head
    assert lines[:7] == [
        "model: reference (ViT, own), weights ab12, cpu, precision fp32",
        "model: v2 (ViT, own), weights cdcdcdcdcdcd, cpu, precision fp32",
        "data: embedded, profile quick, at most 12 samples, seed 0; thresholds: t.toml",
        *("note: n", "note: o", "mistake: a slip", "mistake: another"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("pytest.toml", "[pytest]\nclip_history = 'a'\n", {"clip_history": "a"}),
        ("pytest.toml", "pytest = 3\n", None),
        ("pytest.toml", "[other]\n", None),
        ("pytest.ini", "[pytest]\na = 1\nb = 2\n", {"a": "1", "b": "2"}),
        ("pytest.ini", "[other]\n", None),
        ("pytest.ini", "no section\n", None),
    ],
)
def test_a_table_of_settings(tmp_path: Path, name: str, content: str, found: object) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert _history._table(tmp_path / name, ("pytest",)) == found
    assert _history._table(tmp_path / "gone.ini", ("pytest",)) is None
    (tmp_path / "deep.toml").write_text("[tool.pytest]\nini_options = 3\n", encoding="utf-8")
    deep = ("tool", "pytest", "ini_options")
    assert _history._table(tmp_path / "deep.toml", deep) is None
    assert _history._table(tmp_path / "deep.toml", deep[:2]) == {"ini_options": 3}


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ([], ""),
        (["--clip-history", "a"], "a"),
        (["--clip-history=a=b"], "a=b"),
        (["--clip-history=a", "-q", "--clip-history", "b"], "b"),
        (["--clip-history", "a", "--clip-history=b"], "b"),
        (["--clip-history"], ""),
        (["--clip-history-of", "a", "--no-clip-history=b"], ""),
    ],
)
def test_the_last_value_of_an_option_counts(words: list[str], value: str) -> None:
    assert _history._option(words, "clip-history") == value

"""``cliprobust matches``: a picture of what a model matches."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pytest_cliprobust import cli
from pytest_cliprobust.search import matches


@pytest.mark.slow
def test_the_picture(
    tmp_path: Path, shared_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.png"
    words = [
        "matches",
        "--clip-model=reference",
        f"--clip-cache-dir={shared_cache}",
        f"--out={out}",
    ]
    assert cli.main([*words, "--sample=two_view-00003", "--layer=-2", "--within=5"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("two_view-00003: ")
    assert " matches right (within 5 px), views " in text
    assert Image.open(out).width < 700
    assert cli.main([*words, "--layer=-2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 7
    assert Image.open(out).width > 1100
    assert cli.main([*words, "--sample=two_view-0003", "--layer=-2"]) == 4
    assert "Did you mean 'two_view-000" in capsys.readouterr().err
    assert cli.main([*words, "--layer=values"]) == 4
    assert "no self-attention" in capsys.readouterr().err
    assert cli.main([*words, "--clip-data=captioned"]) == 4
    assert "'captioned' are no pairs" in capsys.readouterr().err


def test_a_layer_is_a_number_or_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["matches", "--clip-model=reference", "--layer=last"]) == 4
    assert "--layer last: give the number of a block, or values" in capsys.readouterr().err


class View:
    """Two pairs, known by their ids alone."""

    ids = ("a-1", "a-2")
    condition = "clean"

    def matches(self, layer: object) -> None:
        """Measure nothing."""


@pytest.mark.parametrize(
    ("words", "rows", "within"),
    [
        ([], [1], 25.0),  # the worst, at the data's middle distance
        (["--within=5"], [1], 5.0),
        (["--sample=a-1"], [0], 25.0),
        (["--sample=a-2", "--sample=a-1", "--within=0.5"], [1, 0], 0.5),
    ],
)
def test_which_pairs_are_drawn_and_what_is_right_in_them(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    rows: list[int],
    within: float,
) -> None:
    def drawn(view: View, rows: list[int], layer: object, within: float) -> str:
        return f"{rows} {layer} {within}"

    for name, made in (
        ("middle_limit", lambda view: 25.0),
        ("worst_pairs", lambda view, layer, within: [1]),
        ("draw_pairs", drawn),
        ("described", lambda view, row, layer, within: "seen"),
    ):
        monkeypatch.setattr(matches, name, made)
    monkeypatch.setattr("pytest_cliprobust.engine.evaluation.Evaluation.__init__", lambda *of: None)
    monkeypatch.setattr(
        "pytest_cliprobust.engine.evaluation.Evaluation.on", lambda self, data: View()
    )
    pictures: list[str] = []

    def save(picture: str, path: Path) -> Path:
        pictures.append(picture)
        return path

    monkeypatch.setattr("pytest_cliprobust.search.evidence.save_picture", save)
    given = ["matches", "--clip-model=any"]
    for layer in ("-3", "values"):
        assert cli.main([*given, f"--layer={layer}", *words]) == 0
        assert pictures.pop() == f"{rows} {layer} {within}"
    lines = [f"{View.ids[row]}: seen" for row in rows]
    assert capsys.readouterr().out.splitlines() == [*lines, "written to matches.png"] * 2
    for before in ([], ["--sample=a-2"]):
        assert cli.main([*given, *before, "--sample=a-3"]) == cli.USAGE_ERROR
        assert "--sample a-3: clean has no such pair. Did you mean" in capsys.readouterr().err

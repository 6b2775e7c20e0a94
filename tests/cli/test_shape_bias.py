"""``cliprobust shape-bias``: from runs to a picture and a table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from history_helpers import a_run, answers, figures
from PIL import Image

from pytest_cliprobust import cli
from pytest_cliprobust.cli import shape_bias as command
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.properties.shape_bias import Decided, shape_bias_figures
from pytest_cliprobust.reporting.json import document

pytest.importorskip("matplotlib")

NAMES = ["cat", "dog", "elephant"]


def report(path: Path, seed: int) -> str:
    shapes, textures = np.arange(60) % 3, (np.arange(60) + 1) % 3
    decided = np.random.default_rng(seed).integers(3, size=60)
    made = shape_bias_figures(decided, shapes, textures, NAMES)["shape_bias"]
    noisy = Condition("cue_conflict", (Step("contrast", 3),))
    both = [
        made.measured_on(Condition("cue_conflict")),
        shape_bias_figures(shapes, shapes, textures, NAMES)["shape_bias"].measured_on(noisy),
    ]
    path.write_text(json.dumps(document(a_run(both))))
    return str(path)


def test_models_and_people_by_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = report(tmp_path / "1.json", 1), report(tmp_path / "2.json", 2)
    out = tmp_path / "new" / "p.png"
    assert cli.main(["shape-bias", one, two, f"--out={out}"]) == 0
    assert Image.open(out).format == "PNG"
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["model", "shape class", "shape", "texture", "neither", "shape bias"]
    models = [row[0] for row in rows[1:-2]]
    assert models.count("reference") == 3  # as the pictures are, not under contrast
    assert sum(name.startswith("reference (") for name in models) == 3
    assert models.count("people") == 16
    row = next(row for row in rows if row[:2] == ["reference", "cat"])
    shapes = np.arange(60) % 3
    decided = np.random.default_rng(1).integers(3, size=60)[shapes == 0]
    counts = [int((decided == k).sum()) for k in range(3)]
    assert row[2:5] == [str(count) for count in counts]
    assert row[5] == f"{counts[0] / (counts[0] + counts[1]):.3f}"


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document(a_run(figures(answers())))))
    assert cli.main(["shape-bias", str(other)]) == 4
    assert "hold no shape bias; run the suite shape_bias" in capsys.readouterr().err
    (tmp_path / "file").touch()
    words = ["shape-bias", report(tmp_path / "1.json", 1), f"--out={tmp_path}/file/p.png"]
    assert cli.main(words) == 4
    assert "cannot be written" in capsys.readouterr().err


def test_people_are_told_beside_models_on_their_classes_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes = np.arange(60) % 3
    made = shape_bias_figures(shapes, shapes, (shapes + 1) % 3, ["cat", "dog", "tiger"])
    own = made["shape_bias"].measured_on(Condition("cue_conflict"))
    (tmp_path / "t.json").write_text(json.dumps(document(a_run([own]))))
    out = f"--out={tmp_path}/p.png"
    for runs in ([], [report(tmp_path / "1.json", 1)]):
        assert cli.main(["shape-bias", *runs, str(tmp_path / "t.json"), out]) == 0
        rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:-2]]
        assert len(rows) == 3 + 3 * len(runs)
        assert ["people"] not in [row[:1] for row in rows]
        assert rows[-1][1:] == ["tiger", "20", "0", "0", "1.000"]


def test_a_class_without_a_decision_has_no_bias() -> None:
    assert command._bias(Decided(0, 0, 4)) == "–"
    assert command._bias(Decided(1, 2, 4)) == "0.333"

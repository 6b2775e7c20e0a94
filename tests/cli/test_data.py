"""``cliprobust data``."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import write_pictures

from pytest_cliprobust import cli
from pytest_cliprobust.datasets.registry import LAYOUTS
from pytest_cliprobust.datasets.roles import ROLES


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert set(LAYOUTS) <= {line.partition("\t")[0] for line in lines}
    assert set(ROLES) <= {line.partition("\t")[0] for line in lines}


def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = write_pictures(tmp_path / "photos", ("cat", "dog"), each=2)
    shift = write_pictures(tmp_path / "drawn", ("dog",), each=1)
    assert cli.main(["data", "check", str(clean)]) == 0
    text = capsys.readouterr().out
    assert "clean imagefolder:photos: 4 samples" in text
    assert "2 of 2 classes, 2 samples each\n" in text
    # The first picture of the first class of either folder is the same.
    words = ["data", "check", f"clean={clean}", f"shift={shift}"]
    assert cli.main(words) == 1
    text = capsys.readouterr().out
    assert "1 of 2 classes" in text
    assert "without samples: cat" in text
    assert "1 picture is the same in clean imagefolder:photos and shift imagefolder:drawn" in text


def test_check_finds_what_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = write_pictures(tmp_path / "photos", each=1)
    (clean / "cat" / "0.png").write_bytes(b"\x89PNG")
    assert cli.main(["data", "check", f"far_ood={clean}"]) == 1
    text = capsys.readouterr().out
    assert "cat/0.png" in text
    assert "1 of 2 samples cannot be read" in text
    assert cli.main(["data", "check", "--fast", f"far_ood={clean}"]) == 0


def test_check_counts_all_files_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = write_pictures(tmp_path / "photos", ("cat", "dog"), each=3)
    (clean / "cat" / "0.png").write_bytes(b"junk")
    (clean / "cat" / "nowhere.jpg").symlink_to(tmp_path / "nowhere")
    (clean / "dog" / "nowhere.jpg").symlink_to(tmp_path / "nowhere")
    assert cli.main(["data", "check", str(clean)]) == 1
    text = capsys.readouterr().out
    assert "clean imagefolder:photos: 8 samples" in text
    assert "3 of 8 samples cannot be read" in text
    table = tmp_path / "table.csv"
    table.write_text(
        "image,label\nnone.png,cat\nphotos/dog/1.png,dog\nno.png,dog\n", encoding="utf-8"
    )
    assert cli.main(["data", "check", f"manifest:{table}"]) == 1
    told = capsys.readouterr().out
    assert "none.png' (No such file or directory); repair or remove the file" in told
    assert "2 of 3 samples cannot be read" in told


def test_check_finds_a_single_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pictures(tmp_path / "photos", ("cat",), each=2)
    table = tmp_path / "table.csv"
    table.write_text("image,label\nphotos/cat/0.png,cat\nphotos/cat/1.png,cat\n", encoding="utf-8")
    assert cli.main(["data", "check", f"manifest:{table}"]) == 1
    assert "a single class: every answer is right" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "name the data"),
        (["nowhere"], "does not exist"),
        (["clean=cue-conflict:."], "has no pictures in this layout"),
    ],
)
def test_mistakes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data", "check", *words]) == 4
    assert told in capsys.readouterr().err

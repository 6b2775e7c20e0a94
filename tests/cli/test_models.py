"""``cliprobust models list``."""

from __future__ import annotations

import pytest
from open_clip.pretrained import list_pretrained, list_pretrained_tags_by_model

from pytest_cliprobust.cli import main, models


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[list[str]]:
    assert main(["models", "list", *words]) == 0
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def test_every_model_of_open_clip_is_listed_with_its_tags(
    capsys: pytest.CaptureFixture[str],
) -> None:
    head, *rows = listed(capsys)
    assert head == ["model", "kind", "pixels", "note"]
    found = {row[0]: row[1:] for row in rows}
    assert len(found) == len(rows)
    assert {f"{name}/{tag}" for name, tag in list_pretrained()} <= set(found)
    assert found["reference"][0] == "bundled"
    assert found["ViT-B-32/laion2b_s34b_b79k"] == ["open_clip", "224", "ViT-B-32 alone"]
    assert found["ViT-B-32/openai"][2] == ""
    assert found["ViT-B-16-SigLIP-384/webli"][1] == "384"
    assert found["ViT-S-16"][2] == "no weights: ViT-S-16@CHECKPOINT"


def test_a_part_of_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    rows = listed(capsys, "--match", "mobileclip")[1:]
    assert rows
    assert all("mobileclip" in row[0].lower() for row in rows)
    # Of the names: what kind it is, and what the note says of it, are no part of them.
    assert main(["models", "list", "--match", "no weights"]) == 4
    assert main(["models", "list", "--match", "REFERENCE"]) == 0
    assert main(["models", "list", "--match", "no such model"]) == 4
    assert "no model's name holds" in capsys.readouterr().err


def test_what_is_no_model_of_open_clip_is_listed_without_a_size(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["mine", "ViT-S-16", "reference", "ViT-B-32", "mine"]
    monkeypatch.setattr("pytest_cliprobust.targets.loading.known_names", lambda: names)
    _, *rows = listed(capsys)
    assert rows[0] == ["mine", "registered", "", ""]
    assert rows[1][0] == "ViT-S-16"
    assert rows[2] == ["reference", "bundled", "", ""]
    tags = list_pretrained_tags_by_model("ViT-B-32")
    assert [row[0] for row in rows[3:]] == [f"ViT-B-32/{tag}" for tag in tags]
    assert sum(row[3] == "ViT-B-32 alone" for row in rows[3:]) == 1


def test_a_picture_that_is_no_square(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, size in (
        ({"image_size": [224, 384]}, "224x384"),
        ({"image_size": 336}, "336"),
        ({}, "224"),
    ):
        monkeypatch.setattr(
            "open_clip.factory.get_model_config", lambda name, told=told: {"vision_cfg": told}
        )
        assert models._image_size("any") == size

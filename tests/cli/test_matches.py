"""``cliprobust matches``: a picture of what a model matches."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pytest_cliprobust import cli


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

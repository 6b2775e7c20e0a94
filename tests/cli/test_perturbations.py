"""``cliprobust perturbations``: lists of what there is."""

from __future__ import annotations

import sys

import pytest

from pytest_cliprobust import cli


def test_the_list_is_plain_without_a_terminal_and_a_table_with_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["perturbations"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("\t") == ["name", "family", "severities", "inputs", "source", "envelope"]
    rows = {line.split("\t")[0]: line.split("\t") for line in lines[1:]}
    assert rows["occlusion"][1:4] == ["occlusion", "5", "occluder, seeds, [mask]"]
    assert rows["fog_3d"][1:4] == ["depth", "5", "depth"]
    assert rows["gaussian_noise"][4].startswith("Hendrycks & Dietterich 2019")
    assert cli.main(["perturbations", "--family", "typographic"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert cli.main(["perturbations", "--family", "typo"]) == 4
    assert "Did you mean 'typographic'" in capsys.readouterr().err
    assert cli.main(["perturbations", "--kornia"]) == 0
    assert "kornia:RandomPosterize\tbits=3" in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    assert cli.main(["perturbations"]) == 0
    table = capsys.readouterr().out
    assert "\t" not in table
    assert "[mask]" in table  # not taken for markup

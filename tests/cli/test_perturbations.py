"""``cliprobust perturbations``: lists of what there is."""

from __future__ import annotations

import inspect
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_cliprobust import cli
from pytest_cliprobust.cli import perturbations as command
from pytest_cliprobust.perturbations import kornia_adapter


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


def test_a_row_has_all_inputs_and_ranges() -> None:
    made: Any = SimpleNamespace(
        name="mine",
        family="own",
        severities=({}, {}),
        inputs={"seeds", "depth"},
        optional={"texture", "mask"},
        source="me",
        envelope={"sigma": (0.25, 4.0), "count": (1, 16)},
    )
    told = ("mine", "own", "2", "depth, seeds, [mask], [texture]", "me")
    assert command._row(made) == (*told, "sigma 0.25 to 4, count 1 to 16")
    bare = SimpleNamespace(
        **{**vars(made), "severities": (), "inputs": set(), "optional": set(), "envelope": {}}
    )
    assert command._row(bare) == ("mine", "own", "–", "–", "me", "–")  # type: ignore[arg-type]


def test_parameters_of_kornia_stand_with_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    def blur(size: int, sigma: float = 0.5, *, border: str = "reflect") -> None: ...

    def flip() -> None: ...

    monkeypatch.setattr(kornia_adapter, "available", lambda: {"Blur": blur, "Flip": flip})
    monkeypatch.setattr(
        kornia_adapter, "accepted_parameters", lambda kind: inspect.signature(kind).parameters
    )
    assert command._kornia_rows() == [
        ("kornia:Blur", "size, sigma=0.5, border='reflect'"),
        ("kornia:Flip", ""),
    ]

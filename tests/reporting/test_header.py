"""What stands above the tests and on top of reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.reporting.header import header_lines, policy_lines
from pytest_cliprobust.results.run import ModelSummary

MODEL = ModelSummary(
    "m", "ViT", "own", "0123456789abcdef", ("a note", "another"), {}, "cpu", "fp32"
)


def lines(*notes: str, thresholds: str = "", **options: Any) -> list[str]:
    config = RunConfig(("m",), profile="quick", **options)
    return header_lines(config, {"m": MODEL}, thresholds, notes)


def test_a_usual_run() -> None:
    assert lines() == [
        "clip model: m (ViT, own), weights 0123456789ab, cpu, precision fp32",
        "  note: a note",
        "  note: another",
        "clip data: embedded, profile quick, seed 0; thresholds: none",
    ]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"depth": "maps"}, "clip depth: maps (not needed: embedded data has its own)"),
        ({"depth": "maps", "data": "/photos"}, "clip depth: maps"),
        ({"lmm": "reference"}, "clip lmm: reference"),
        ({"font": Path("f.ttf")}, "clip font: f.ttf"),
        ({"bad_data": "skip"}, "clip data: samples that cannot be read are left out"),
    ],
)
def test_what_is_not_usual_has_a_line(options: dict[str, Any], line: str) -> None:
    assert lines(**options)[4:] == [line]


def test_limit_seed_thresholds_and_notes() -> None:
    *_, told, first, second = lines("one\ntwo", "three", thresholds="t.toml", limit=40, seed=7)
    assert told == (
        "clip data: embedded, profile quick, at most 40 samples, seed 7; thresholds: t.toml"
    )
    assert first.startswith("  note: one")
    assert "\n" not in first
    assert second == "  note: three"


def test_which_values_come_from_which_pack() -> None:
    assert policy_lines(Policy()) == []
    assert policy_lines(Policy(packs=("a", "b"))) == [
        "clip policy: extends a, b: all values are the threshold file's own"
    ]
    sources = {"skipped": "a", "inconclusive_share": "b", "unused": "a"}
    policy = Policy(
        packs=("a", "b"), sources=sources, skipped="fail", unused="warn", inconclusive_share=0.2
    )
    assert policy_lines(policy) == [
        "clip policy: extends a, b: skipped fail, unused warn (a); inconclusive_share 0.2 (b)"
    ]

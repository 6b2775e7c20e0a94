"""Look-up, use tracking, explaining."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gating_helpers import FILE, RULE, measure

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.gating.reading import parse_thresholds


def test_the_most_specific_rule_wins() -> None:
    file = parse_thresholds(FILE, "t.toml")

    def line(**where: Any) -> int | None:
        rule = file.lookup(measure(**where))
        return rule.line if rule else None

    assert line() == 7
    assert line(suite="ood") == 7
    assert line(perturbation="fog_3d") == 12
    assert line(perturbation="fog_3d", severity=3) == 12
    assert line(perturbation="fog_3d", severity=4) == 18
    assert line(perturbation="flash", severity=4) == 18
    assert line(perturbation="flash", severity=1) == 7
    assert line(metric="nll") is None


def test_uses_are_merged_from_workers() -> None:
    controller, one, two = (parse_thresholds(FILE, "t.toml") for _ in range(3))
    assert len(controller.unused()) == 3
    one.lookup(measure())
    two.lookup(measure(perturbation="fog_3d"))
    two.lookup(measure(metric="nll"))
    for worker in (one, two):
        controller.merge_uses(json.loads(json.dumps(worker.uses())))
    assert [rule.line for rule in controller.unused()] == [18]
    with pytest.raises(ClipRobustError, match="it changed during the run"):
        controller.merge_uses(["metric=gone"])


def test_rules_of_other_profiles_are_not_unused() -> None:
    text = RULE + 'max = 0.9\nprofile = "full"\n'
    assert parse_thresholds(text, profile="quick").unused() == []
    assert len(parse_thresholds(text, profile="full").unused()) == 1


def test_explaining_leaves_no_trace_and_says_why() -> None:
    file = parse_thresholds(FILE, "t.toml")
    text = file.explain(measure(perturbation="fog_3d", severity=5))
    assert text.splitlines() == [
        "calibration/ece/clean/fog_3d@5/reference",
        "  wins  t.toml:18  max 0.3  [suite=calibration metric=ece perturbation=flash|fog_3d "
        "severity=4|5]  (most specific: 2 exact, 2 lists of 4 names)",
        "  loses t.toml:12  max 0.2  [suite=calibration metric=ece perturbation=fog_*]  "
        "(less specific: 2 exact, 1 glob (4 characters))",
        "  loses t.toml:7  max 0.1  [metric=ece]  (less specific: 1 exact)",
    ]
    assert "the only rule that matches" in file.explain(measure())
    assert file.uses() == []
    none = parse_thresholds(RULE + 'dataset = "x"\nmax = 0.9\n', "t.toml")
    assert "dataset is 'clean', not 'x'" in none.explain(measure())
    assert "none has metric 'nll'" in none.explain(measure("nll"))
    assert "severity is None, not 4 or 5" in parse_thresholds(
        RULE + "max = 0.9\nseverity = [4, 5]\n"
    ).explain(measure())

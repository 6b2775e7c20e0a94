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


ASKED = {"models": ["reference"], "suites": ["calibration"]}
NAMES = 'suite = "calibration"\ndataset = "clean"\nperturbation = "fog"\n'


@pytest.mark.parametrize(
    ("text", "beyond"),
    [
        # Names all, and meets what is known.
        (NAMES, False),
        ('suite = "calibration"\ndataset = ["x", "clean"]\nperturbation = "fog"\n', False),
        # Leaves something open, or meets nothing.
        ('suite = "calibration"\ndataset = "clean"\n', True),
        (NAMES.replace("fog", "f*"), True),
        (NAMES.replace("fog", "snow"), True),
        (NAMES + "severity = 3\n", True),
        # For others than those asked for.
        (NAMES.replace("calibration", "ood").replace("fog", "snow"), False),
        (NAMES.replace("fog", "snow") + 'model = "another"\n', False),
        (NAMES.replace("fog", "snow") + 'model = "ref*"\n', True),
        (NAMES.replace("fog", "snow") + 'profile = "full"\n', False),
        (NAMES.replace("fog", "snow") + 'profile = "quick"\n', True),
    ],
)
def test_which_rules_may_judge_more_than_is_known(text: str, beyond: bool) -> None:
    known = [measure(perturbation="snow", dataset="x"), measure(perturbation="fog")]
    narrow = f"{RULE}max = 0.9\n{NAMES}"
    for rules in (
        RULE + "max = 0.5\n" + text,
        narrow + f'[[threshold]]\nmetric = "ece"\nmax = 0.5\n{text}',
    ):
        if rules.startswith(narrow) and text == NAMES:
            continue  # twice the same
        file = parse_thresholds(rules, profile="quick")
        assert file.reaches_beyond(known, **ASKED) is beyond
        assert file.reaches_beyond(known, ["reference"], []) is False
        assert file.reaches_beyond(known, [], ["calibration"]) is False
    assert parse_thresholds(RULE + "max = 0.5\n" + NAMES).reaches_beyond([], **ASKED)


def test_entries_of_lists_that_met_nothing() -> None:
    text = (
        RULE
        + 'max = 0.9\nsuite = ["calibration", "x"]\ndataset = ["clean", "sketch", "gone"]\nseverity = [1, 3]\n'
    )
    text += '[[threshold]]\nmetric = "nll"\nmax = 5\ndataset = ["clean", "never"]\n'
    text += (
        '[[threshold]]\nmetric = "brier"\nmax = 1\nprofile = "full"\ndataset = ["clean", "never"]\n'
    )
    file = parse_thresholds(text, profile="quick")
    run = [measure(severity=1), measure(dataset="sketch", severity=1)]
    assert file.unmet_entries(run) == []  # no rule has judged
    assert all(file.lookup(one) for one in run)
    assert [entry.id for entry in file.unmet_entries(run)] == [
        "suite=calibration|x metric=ece dataset=gone severity=1|3",
        "suite=calibration|x metric=ece dataset=clean|gone|sketch severity=3",
    ]
    assert [rule.id for rule in file.of_other_profiles()] == [
        "metric=brier dataset=clean|never profile=full"
    ]
    assert [rule.id for rule in file.unused()] == ["metric=nll dataset=clean|never"]
    assert file.applies(measure("nll"))
    assert not file.applies(measure("nll", dataset="sketch"))
    assert [rule.id for rule in file.unused()] == ["metric=nll dataset=clean|never"]


def test_a_narrow_rule_that_drops_the_bounds_on_the_change_of_broader_ones_is_told() -> None:
    text = RULE + "max_increase = 0.01\nmax_decrease = 0.02\n"
    text += '[[threshold]]\nmetric = "ece"\ndataset = "clean"\nmax_increase = 0.1\n'
    text += '[[threshold]]\nmetric = "ece"\ndataset = "clean"\nmodel = "reference"\nmax = 0.9\n'
    text += '[[threshold]]\nmetric = "ece"\ndataset = "sketch"\nmax_increase = 0.1\nmax_decrease = 0.3\n'
    file = parse_thresholds(
        text.replace("ece", "signed_gap").replace("max = 0.9", "max = 0.9\nbecause = 'x'"), "t.toml"
    )
    narrow, middle = (
        "t.toml:10: [metric=signed_gap dataset=clean model=reference]",
        "t.toml:6: [metric=signed_gap dataset=clean]",
    )
    broad = "[metric=signed_gap] of line 2"
    end = "; write it there, too, if it is to hold"
    run = [measure("signed_gap"), measure("signed_gap", perturbation="fog")]
    assert file.dropped_changes(run) == [
        f"{narrow} wins over {broad} and drops its max_increase 0.01{end}",
        f"{narrow} wins over {broad} and drops its max_decrease 0.02{end}",
    ]
    run = [measure("signed_gap", dataset="sketch"), measure("signed_gap", model="other")]
    assert file.dropped_changes(run) == [
        f"{middle} wins over {broad} and drops its max_decrease 0.02{end}"
    ]
    assert file.dropped_changes([measure("signed_gap", dataset="x"), measure("nll")]) == []


def test_rules_that_tie_are_told_to_tie() -> None:
    text = (
        RULE
        + 'max = 0.9\ndataset = "cl*"\n[[threshold]]\nmetric = "ece"\nmax = 0.8\ndataset = "*an"\n'
    )
    text += '[[threshold]]\nmetric = "ece"\nmax = 0.7\ndataset = "?lean"\n'
    file = parse_thresholds(text, "t.toml")
    assert [line[2:7] for line in file.explain(measure()).splitlines()[1:]] == [
        *("wins ", "loses", "loses"),
    ]
    tied = parse_thresholds(text.replace("*an", "*ean").replace("cl*", "cle*"), "t.toml")
    told = tied.explain(measure(dataset="clean")).splitlines()
    assert told[1].startswith("  wins  t.toml:10")
    equal = parse_thresholds(text.replace("?lean", "clea?").replace("cl*", "clea*"), "t.toml")
    told = equal.explain(measure()).splitlines()
    assert [line[2:7] for line in told[1:]] == ["ties ", "ties ", "loses"]
    assert told[1].endswith(
        "(equally specific: 1 exact, 1 glob (4 characters); an error, make one narrower)"
    )
    with pytest.raises(ClipRobustError, match="equally specific"):
        equal.lookup(measure())

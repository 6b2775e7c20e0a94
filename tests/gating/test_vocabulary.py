"""Names, directions and ties."""

from __future__ import annotations

import math
from typing import Any

import pytest
from gating_helpers import HEAD, RULE, complaint, measure

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.metrics import METRICS, Metric
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.vocabulary import (
    check_chance,
    direction,
    folded,
    is_slip,
    known_metrics,
    letters_apart,
    metric_range,
    slip_of,
)

VOCABULARIES: dict[str, Any] = {
    "known_suites": ["calibration", "ood"],
    "known_metrics": {"calibration": ["ece", "nll"], "ood": ["auroc_mcm", "fpr95_*"]},
    "known_datasets": ["clean", "imagefolder:*"],
    "known_perturbations": ["fog_3d", "flash"],
    "models": ["reference", "ViT-B-32", "hf-hub:*"],
    "known_profiles": ["quick", "full"],
}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            'suite = "calibratoin"',
            "t.toml:4: unknown suite 'calibratoin'. Did you mean 'calibration'?",
        ),
        ('suite = "Calibration"', "unknown suite 'Calibration'. Did you mean 'calibration'?"),
        ('suite = "OOD"', "t.toml:4: unknown suite 'OOD'. Did you mean 'ood'?"),
        ('suite = "calibration "', "unknown suite 'calibration '. Did you mean 'calibration'?"),
        ('suite = ["mine", "oood"]', "t.toml:4: unknown suite 'oood'. Did you mean 'ood'?"),
        ('suite = "c\u0430libration"', "Did you mean 'calibration'?"),
        ('suite = "Cal*"', "suite 'Cal*' matches no known suite. Did you mean 'calibration'?"),
        ('suite = "calbi*"', "suite 'calbi*' matches no known suite. Did you mean 'calibration'?"),
        ('dataset = "claen"', "t.toml:4: unknown dataset 'claen'. Did you mean 'clean'?"),
        ('perturbation = ["flash", "fog_3dd"]', "t.toml:4: unknown perturbation 'fog_3dd'."),
        ('model = "refrence"', "t.toml:4: unknown model 'refrence'. Did you mean 'reference'?"),
        ('profile = "fast"', "t.toml:4: unknown profile 'fast'."),
        ('suite = "ood"', "t.toml:3: suite ood does not measure 'ece', only auroc_mcm, fpr95_*"),
    ],
)
def test_unknown_names_are_errors_with_the_nearest(line: str, message: str) -> None:
    assert message in complaint(RULE + line + "\nmax = 0.9\n", **VOCABULARIES)


def test_unknown_metrics() -> None:
    text = HEAD + '[[threshold]]\nmax = 0.9\nmetric = "{}"\n'
    assert "t.toml:4: unknown metric 'ecee'. Did you mean 'ece'?" in complaint(text.format("ecee"))
    assert "t.toml:4: metric 'zz*' matches no known metric." in complaint(text.format("zz*"))
    for metric in ("*ece", "*_recall_at_1", "image_to_text_recall_at_1"):
        parse_thresholds(text.format(metric).replace("max = 0.9", "min = 0.1\nmax = 0.9"))


@pytest.mark.parametrize(
    "line",
    [
        'suite = "cal*"',
        'dataset = "imagefolder:/data/x"',
        'dataset = "imagefolder:/data/*"',
        'dataset = "image*"',
        'perturbation = "clean"',
        'perturbation = ["fog_*", "flash"]',
        'model = "hf-hub:org/name"',
        'model = "*"',
        'profile = "full"',
    ],
)
def test_known_names_and_open_ended_families_pass(line: str) -> None:
    file = parse_thresholds(RULE + line + "\nmax = 0.9\n", "t.toml", **VOCABULARIES)
    assert len(file.rules) == 1


def test_directions() -> None:
    assert direction("accuracy") == "higher"
    assert direction("auroc_mcm") == direction("text_to_image_recall_at_10") == "higher"
    assert direction("fpr95_mcm") == "lower"
    assert direction("signed_gap") == "neither"
    with pytest.raises(ClipRobustError, match=r"unknown metric 'acuracy'. Did you mean 'accuracy'"):
        direction("acuracy")


def test_a_family_is_known_by_its_glob() -> None:
    with METRICS.preserved():
        for metric in (
            Metric("my_*", True, "a family", low=-2.0, high=None),
            Metric("my_own", False, "one that is not as its family"),
        ):
            METRICS.add(metric.name, metric, module=__name__)
        assert (direction("my_recall_at_3"), direction("my_own")) == ("higher", "lower")
        assert metric_range("my_recall_at_3") == (-2.0, math.inf)
        assert metric_range("my_own") == metric_range("accuracy") == (0.0, 1.0)
        assert metric_range("unknown") == metric_range("relative_ce") == (-math.inf, math.inf)
        assert {"my_*", "my_own", "accuracy"} <= set(known_metrics())
        parse_thresholds(HEAD + '[[threshold]]\nmetric = "my_recall_at_3"\nmin = 0.5\n')
        assert "my_recall_at_3 is better when higher" in complaint(
            HEAD + '[[threshold]]\nmetric = "my_recall_at_3"\nmax = 0.5\n'
        )


def test_a_rule_for_a_suite_that_is_not_there_is_no_error() -> None:
    text = (
        HEAD
        + """
[[threshold]]
suite = "mine"
metric = "my_own_score"
dataset = "my_data"
perturbation = "my_noise"
max = 0.9

[[threshold]]
suite = ["mine", "theirs_*"]
metric = "ece"
max = 0.9
"""
    )
    file = parse_thresholds(text, **VOCABULARIES)
    assert [rule.selectors["suite"] for rule in file.rules] == [("mine",), ("mine", "theirs_*")]
    # Once the suite is there, its names count.
    there = {**VOCABULARIES, "known_suites": ["calibration", "ood", "mine"]}
    assert "unknown metric 'my_own_score'" in complaint(text, **there)
    # Names of models and profiles are the same for all suites.
    assert "unknown model 'refrence'" in complaint(text + 'model = "refrence"', **VOCABULARIES)
    # A rule that is for a suite of the run, too, is checked.
    both = text.replace('"mine"\n', '["mine", "ood"]\n')
    assert "unknown metric 'my_own_score'" in complaint(both, **VOCABULARIES)
    # One without a suite is for all of them.
    assert "unknown metric" in complaint(text.replace('suite = "mine"\n', ""), **VOCABULARIES)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("OOD", "ood"),
        ("odo", "ood"),
        ("calibrtion", "calibration"),
        ("calibratoins", "calibration"),
        ("corruption-2D", "corruption_2d"),
        ("corruption_4d", "corruption_2d"),
        ("cal*", "calibration"),
        ("Cal*", "calibration"),
        ("kalib*", "calibration"),
        ("mine", None),
        ("my_ood", None),
        ("calibration_mine", None),
        ("recalibrate_all", None),
        ("ca[lb]x*", None),
        ("mine_*", None),
        ("*_mine", None),
    ],
)
def test_what_is_a_slip(name: str, meant: str | None) -> None:
    assert slip_of(name, ["calibration", "ood", "corruption_2d"]) == meant


@pytest.mark.parametrize(
    ("one", "two", "slip"),
    [
        ("refrence", "reference", True),
        ("Reference", "reference", True),
        ("ViT-B-23", "ViT-B-32", True),
        ("candiadte", "candidate", True),
        ("v2", "v22", False),
        ("v1", "v2", False),
        ("v2", "v2b", False),
        ("dev", "dev2", False),
        ("candidate", "candidate-b", False),
        ("candidate.b", "candidate", False),
        ("candidateb", "candidate", True),
        ("old", "new", False),
        ("abc", "abd", True),
        ("abc", "axd", False),
        ("ViT-B-16", "ViT-L-16", False),
    ],
)
def test_names_of_models_that_are_nearly_one(one: str, two: str, slip: bool) -> None:
    assert is_slip(one, two) == slip
    assert is_slip(two, one) == slip


def test_a_rule_for_another_model_of_the_users_is_no_error() -> None:
    text = RULE + 'max = 0.9\nmodel = ["{}", "last"]\n'
    models: dict[str, Any] = {"models": ["candidate", "reference", "ViT-B-32"]}
    assert len(parse_thresholds(text.format("run7"), **models).rules) == 1
    assert len(parse_thresholds(text.format("run*"), **models).rules) == 1
    assert "unknown model 'candiate'. Did you mean 'candidate'?" in complaint(
        text.format("candiate"), **models
    )
    assert "model 'Candi*' matches no known model" in complaint(text.format("Candi*"), **models)


def test_ties_name_both_lines() -> None:
    text = RULE + 'max = 0.9\ndataset = "clean"\n[[threshold]]\nmetric = "ece"\nmax = 0.8\n{}\n'
    message = complaint(text.format('model = "reference"'))
    assert message == (
        "t.toml:6: [metric=ece model=reference] and [metric=ece dataset=clean] of line 2 are equally "
        "specific and both match the same measurements; make one of them narrower"
    )
    assert "has a rule already, in line 2" in complaint(text.format('dataset = "clean"'))
    # The same set in another order is the same rule.
    twice = RULE + 'max = 0.9\nmodel = ["b", "a"]\n[[threshold]]\nmetric = "ece"\nmax = 0.9\n'
    assert "has a rule already" in complaint(twice + 'model = ["a", "b", "a"]\n')
    # Different names of one field, or different severities, never meet.
    parse_thresholds(text.format('dataset = "other"'))
    parse_thresholds(
        (RULE + "max = 0.9\nseverity = [1, 2]\n")
        + '[[threshold]]\nmetric = "ece"\nmax = 0.9\nseverity = [3, 4]\n'
    )


def test_ties_between_globs() -> None:
    text = (
        RULE + 'max = 0.9\nmodel = "a*"\n[[threshold]]\nmetric = "ece"\nmax = 0.8\nmodel = "*b"\n'
    )
    assert "equally specific" in complaint(text, models=["ab", "cd"])
    # Without a vocabulary that shows it, the first measurement that both match does.
    file = parse_thresholds(text, "t.toml")
    assert file.lookup(measure(model="ax")) is not None
    with pytest.raises(ClipRobustError, match=r"t.toml:6: .* of line 2 .* both match .*/ab; make"):
        file.lookup(measure(model="ab"))
    assert "ties" in file.explain(measure(model="ab"))


def test_a_mapping_of_metrics_rules_out_impossible_ties() -> None:
    text = (
        HEAD
        + '[[threshold]]\nsuite = "ood"\nmetric = "auroc*"\nmin = 0.6\n'
        + '[[threshold]]\nsuite = "c*"\nmetric = "nll"\nmax = 0.9\n'
    )
    parse_thresholds(text, known_metrics={"ood": ["auroc_mcm"], "calibration": ["nll"]})
    parse_thresholds(text, known_suites=["ood", "calibration"])
    assert "equally" in complaint(
        text.replace('"ood"', '"*ood"')
        .replace('"c*"', '"c*od"')
        .replace('"nll"', '"auro*m"')
        .replace("max =", "min = 0.6\nmax ="),
        known_metrics={"cood": ["auroc_mcm"]},
    )


def test_a_mapping_of_metrics_shows_ties_of_one_metric_of_several() -> None:
    rule = '[[threshold]]\nmetric = "ece"\nmax = 0.9\n{}\n'
    text = HEAD + rule.format('dataset = "clean"') + rule.format('model = "reference"')
    known = {"calibration": ["nll", "ece"], "ood": ["auroc_mcm"]}
    assert "equally specific" in complaint(text, known_metrics=known)


@pytest.mark.parametrize(
    ("one", "two", "apart"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("abc", "", 3),
        ("abc", "abc", 0),
        ("abc", "abd", 1),
        ("abc", "acb", 1),
        ("abcd", "badc", 2),
        ("abc", "ab", 1),
        ("abc", "xabc", 1),
        ("kitten", "sitting", 3),
        ("ca", "abc", 3),  # a swapped pair is not changed again
        ("saturday", "sunday", 3),
    ],
)
def test_letters_apart_are_counted_with_swaps(one: str, two: str, apart: int) -> None:
    assert letters_apart(one, two) == letters_apart(two, one) == apart


def test_what_slips_change_most_is_left_out() -> None:
    assert folded("  My-Name one ") == "my_name_one"
    assert folded("\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0456") == "aceopxyi"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        # One letter of up to seven, two of eight and more.
        ("abcdefx", "abcdefg"),
        ("abcdexy", None),
        ("abcdefxy", "abcdefgh"),
        ("abcdexyz", None),
        ("xyz*", None),
        ("ab*", "abcdefg"),
        ("acb*", "abcdefg"),
        ("xc*", None),
    ],
)
def test_slips_by_the_length_of_a_name(name: str, meant: str | None) -> None:
    assert slip_of(name, ["abcdefg", "abcdefgh"]) == meant


def test_few_names_are_listed_and_of_many_the_nearest_is_named() -> None:
    rule = HEAD + '[[threshold]]\nmetric = "ece"\nperturbation = "{}"\nmax = 0.9\n'
    few = [f"known{i:02}xxxxxx" for i in range(11)]  # and "clean", which is always known
    listed = complaint(rule.format("qqqqqqq"), known_perturbations=few)
    assert " Known: " in listed
    assert all(name in listed for name in few)
    many = complaint(rule.format("qqqqqqq"), known_perturbations=[*few, "another"])
    assert "Known" not in many
    near = complaint(rule.format("anothr"), known_perturbations=[*few, "another"])
    assert "Did you mean 'another'?" in near


def test_each_of_several_metrics_may_be_the_one_that_a_suite_measures() -> None:
    for metrics in ('["ece", "auroc_mcm"]', '["auroc_mcm", "ece"]'):
        text = f'{HEAD}[[threshold]]\nsuite = "ood"\nmetric = {metrics}\nmin = 0.9\n'
        text += 'because = "it matters"\n'
        try:
            parse_thresholds(text, "t.toml", **VOCABULARIES)
        except ClipRobustError as error:
            assert "does not measure" not in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("metric", "bound", "instead"),
    [
        ("accuracy", "max", "min"),
        ("accuracy", "max_increase", "max_decrease"),
        ("ece", "min", "max"),
        ("ece", "max_decrease", "max_increase"),
    ],
)
def test_every_bound_on_the_good_side_is_told(metric: str, bound: str, instead: str) -> None:
    text = f'{HEAD}[[threshold]]\nmetric = "{metric}"\n{bound} = 0.5\n'
    assert f"{bound} alone would fail good models and pass bad ones; write {instead}" in complaint(
        text
    )


def test_bounds_weaker_than_guessing_among_the_classes_are_refused() -> None:
    """Whichever of a rule's bounds it is; what is not known, or has a reason, is not."""
    asked: list[int] = []

    def classes() -> int:
        asked.append(1)
        return 4

    def check(text: str, metric: str = "accuracy") -> str:
        rule = parse_thresholds(
            f'{HEAD}[[threshold]]\nmetric = "{metric}"\n{text}\n', "t.toml"
        ).rules[0]
        try:
            check_chance(rule, measure(metric, 0.9), classes)
        except ClipRobustError as error:
            return str(error)
        return ""

    weak = "t.toml:{}: min {} of accuracy is weaker than chance (25%)"
    assert check("min = 0.25").startswith(weak.format(4, 0.25))
    assert check("max_decrease = 0.1\nmin = 0.1").startswith(weak.format(5, 0.1))
    assert check("min = 0.26") == check("max_decrease = 0.9") == ""
    assert len(asked) == 4
    # Nobody has to load the data for what needs no number of classes.
    assert check("min = 0.1\nbecause = 'a model of noise'") == ""
    assert check("min = 0.6", "auroc_mcm") == check("max = 3.0", "nll") == ""
    assert len(asked) == 4

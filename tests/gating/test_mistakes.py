"""Mistakes that people made in a file that was to hold an accuracy at 0.80: none passes silently."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from gating_helpers import HEAD, complaint, measure

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.metrics import METRICS, Metric
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.reading import load_thresholds, parse_thresholds
from pytest_cliprobust.gating.unjudged import fails, find_unjudged, lines
from pytest_cliprobust.gating.unmet import Declared
from pytest_cliprobust.gating.weak import _worst, lucky_guess, weak_for

KNOWN: dict[str, Any] = {
    "known_suites": ["accuracy", "calibration"],
    "known_datasets": ["clean"],
    "known_perturbations": ["fog_3d"],
    "models": ["reference", "ViT-B-32", "ViT-B-32/*", "hf-hub:*"],
    "known_profiles": ["quick", "standard"],
}
#: A mistake in a rule, and what is said of it.
SLIPS = {
    'metric = "acuracy", min = 0.8': "unknown metric 'acuracy'. Did you mean 'accuracy'?",
    'metric = "ACCURACY", min = 0.8': "unknown metric 'ACCURACY'.",
    'metric = "accuracy ", min = 0.8': "unknown metric 'accuracy '. Did you mean 'accuracy'?",
    'metric = "\u0430ccur\u0430cy", min = 0.8': "Did you mean 'accuracy'?",
    'metric = "accuracy", mim = 0.8': "unknown key 'mim'",
    'metric = "accuracy", Min = 0.8': "unknown key 'Min'",
    'metric = "accuracy", min = "0.8"': "min must be a number, not '0.8'",
    'metric = "accuracy", min = nan': "min must be finite, not nan",
    'metric = "accuracy", min = -inf': "min must be finite, not -inf",
    'metric = "accuracy", min = true': "min must be a number, not true",
    'metric = "accuracy", min = 0.8, max = 0.7': "min 0.8 is above max 0.7",
    'metric = "accuracy", max = 0.8': "accuracy is better when higher",
    'metric = "accuracy", min = 0.8, min = 0.7': "not valid TOML",
    'metric = "accuracy", min = 0,8': "not valid TOML",
    'metric = "accuracy", max_decrease = -0.01': "cannot be negative",
    'metric = "accuracy", max_increase = 0.01': "write max_decrease",
    'metric = "acuracy*", min = 0.8': "metric 'acuracy*' matches no known metric.",
    'metric = "accuracy", perturbation = "fogg*", min = 0.8': "matches no known perturbation.",
    'metric = "accuracy", perturbation = "Fog_3d", min = 0.8': "Did you mean 'fog_3d'?",
    'metric = "accuracy", severity = 6, min = 0.8': "severity must be an integer from 0 to 5",
    'metric = "accuracy", suite = "ACCURACY", min = 0.8': "unknown suite 'ACCURACY'. Did you mean",
    'metric = "a*", max = 0.8': "of 'a*', is better when higher: max alone would fail good models",
    'metric = "ece", max = 5': "max 5 gates nothing, no model misses it: ece is never above 1",
    'metric = "ece", max = 1': "max 1 gates nothing, no model misses it: ece is never above 1",
    'metric = "*ece", max = 1.0': "max 1 gates nothing, no model misses it",
    'metric = "accuracy_drop", max = 2': "no model misses it: accuracy_drop is never above 1",
    'metric = "accuracy_drop", max = -2': "no model meets it: accuracy_drop is never below -1",
    'metric = "accuracy", max_decrease = 1': "no model misses it: accuracy cannot fall by more",
    'metric = "ece", max_increase = 1.5': "no model misses it: ece cannot rise by more",
    'metric = "accuracy_drop", max_increase = 1': "accuracy_drop cannot rise by more",
    'metric = "signed_gap", max_increase = 2': "no model misses it: signed_gap cannot rise by more",
    'metric = "accuracy", min = -0.8': "no model misses it: accuracy is never below 0",
    'metric = "accuracy", min = 0': "no model misses it: accuracy is never below 0",
    'metric = "accuracy", min = 80': "accuracy is never above 1 (80% is 0.8)",
    'metric = "ece", max_increase = 3': "ece cannot rise by more (3% is 0.03)",
    'metric = "accuracy", max_decrease = 100': "accuracy cannot fall by more (100% is 1)",
    'metric = "accuracy", min = 180': "no model meets it: accuracy is never above 1; write",
    'metric = "nll", max = 1e308': "no model misses it: nll is never above 1,000,000 or so",
    'metric = "nll", max_increase = 1e308': "no model misses it: nll cannot rise by more",
    'metric = "relative_ce", max = -1e308': "relative_ce is never below -1,000,000 or so",
    'metric = "auroc_mcm", min = 0.5': "min 0.5 of auroc_mcm is weaker than chance (50%)",
    'metric = "fpr95_mcm", max = 0.95': "max 0.95 of fpr95_mcm is weaker than chance (95%)",
    # Beside a bound that is right, too.
    'metric = "accuracy", min = 0.8, max = 1': "max 1 gates nothing, no model misses it",
    'metric = "ece", max = 0.2, min = 0.0': "min 0 gates nothing, no model misses it",
    'metric = "accuracy", min = 0.8, max_decrease = 1': "max_decrease 1 gates nothing",
    'metric = "auroc_mcm", max_decrease = 0.1, min = 0.5': "min 0.5 of auroc_mcm is weaker",
    'metric = "classwise_ece", max = 0.1, max_increase = 0.1': "classwise_ece cannot have a max_inc",
    'metric = "ece", max_increase = 0.1, min = 0.1, max_decrease = 0.1': "write max",
    'metric = "accuracy", min = 0.8, max_increase = 0.1': "write max_decrease",
    'metric = "severity_monotonicity", min = 0.9': "severity_monotonicity cannot have a min: one answer",
    'metric = "temperature", max = 3': "temperature cannot have a max: where few answers are wrong",
    'metric = "classwise_ece", max_increase = 0.01': "classwise_ece cannot have a max_increase: all",
    'metric = "classwise*", max_increase = 0.01': "classwise_ece, of 'classwise*', cannot have a max_increase",
    'metric = "accuracy", model = "./v2", min = 0.8': "model './v2' is a path, and models go by names",
    'metric = "accuracy", model = "/a/v2", min = 0.8': "write 'v2'",
    'metric = "accuracy", suite = "test_accuracy", min = 0.8': "the suite of test_accuracy.py is called",
    'metric = "accuracy", suite = "test_accuracy.py", min = 0.8': "is called 'accuracy', not 'test_acc",
    'metric = "accuracy", min = 0x1' + "0" * 2000: "min must be finite, not inf",
    'metric = "accuracy", severity = 0x1' + "0" * 5000: "severity must be an integer from 0 to 5",
    'metric = "accuracy", model = "\\u001b[2J", min = 0.8': 'model holds control characters: "\\u001B',
    'metric = "accuracy", profile = "fast", min = 0.8': "unknown profile 'fast'. Known: quick",
}


@pytest.mark.parametrize(("rule", "message"), SLIPS.items())
def test_a_slip_in_a_rule_is_told_in_either_form(rule: str, message: str) -> None:
    written = rule.replace(", ", "\n") if "0,8" not in rule else rule.replace(", m", "\nm")
    table = complaint(f"{HEAD}[[threshold]]\n{written}\n", **KNOWN)
    row = complaint(f"{HEAD}[[threshold]]\nbounds = [\n{{ {rule} }},\n]\n", **KNOWN)
    assert message in table
    assert message in row or "not valid TOML" in row
    assert row.startswith("t.toml:4: ")


RULE = '[[threshold]]\nmetric = "accuracy"\nmin = 0.8\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + RULE + RULE, "t.toml:5: [metric=accuracy] has a rule already, in line 2"),
        (
            HEAD + RULE + 'suite = "accuracy"\n' + RULE + 'model = "reference"\n',
            "equally specific",
        ),
        ("", "t.toml:1: schema is missing"),
        (HEAD + RULE.replace("[[threshold]]", "[threshold]"), "rules are written as tables under"),
        (HEAD + RULE.replace("[[threshold]]", "[[thresholds]]"), "Did you mean 'threshold'?"),
        ('schema = 1\ninconclusive = "fail"\n', "t.toml:2: unknown key 'inconclusive' in the file"),
        (HEAD + "[policy]\nconfidence = 95\n", "confidence must be in (0.5, 1), not 95"),
        (HEAD + "[policy]\nconfidence = 1.0\n", "confidence must be in (0.5, 1), not 1.0"),
        (HEAD + "[policy]\nconfidence = 0.4\n", "confidence must be in (0.5, 1), not 0.4"),
        (HEAD + "[policy]\nfamily_wise_error_rate = 5\n", "must be in [1e-09, 0.5], not 5"),
        (HEAD + "[policy]\nfamily_wise_error_rate = 1e-300\n", "must be in [1e-09, 0.5], not"),
        (
            HEAD + "[policy]\ninconclusive_share = 15\n",
            "inconclusive_share must be in [0, 1], not 15",
        ),
        (HEAD + "[policy]\ninconclusive_share = -0.1\n", "must be in [0, 1], not -0.1"),
        (HEAD + "[policy]\ninconclusive_share = nan\n", "inconclusive_share must be finite"),
        (HEAD + '[policy]\ninconclusive_share = "all"\n', "inconclusive_share must be a number"),
        (HEAD + '[policy]\nrequire_bound = "true"\n', "require_bound must be true or false"),
        (HEAD + "[policy]\nunused = 'pass'\n", "unused must be 'fail' or 'warn', not 'pass'"),
        (HEAD + '[policy]\nbaseline = "a\\u001bb"\n', "baseline holds control characters"),
        (HEAD + "[policy]\nconfidence = 1" + "0" * 5000, "t.toml:3: not valid TOML: an integer"),
        ("schema = 0x1" + "0" * 5000, "t.toml:1: schema is an integer of too many digits"),
        (
            "\ufeff" + HEAD + RULE,
            "t.toml:1: not valid TOML: the file begins with a byte order mark",
        ),
        (
            HEAD + "<<<<<<< HEAD\n[policy]\n=======\n>>>>>>> theirs\n",
            "t.toml:2: not valid TOML: a merge is not finished, its marks (<<<<<<<) are in the file",
        ),
        (HEAD + "x = " + "[" * 20000, "t.toml:1: not valid TOML: nested too deeply"),
        (HEAD + "x" * 9000 + " = 1\n", "t.toml:2: unknown key"),
        (HEAD + "[policy]\nskipped = 'pass'\n", "skipped must be 'fail' or 'warn', not 'pass'"),
        (HEAD.replace("1", "2") + RULE, "t.toml:1: schema is 2; this version reads 'schema = 1'"),
    ],
)
def test_a_slip_elsewhere_is_told(text: str, message: str) -> None:
    told = complaint(text, **KNOWN)
    assert message in told
    assert len(told) < 300


def test_another_encoding_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(HEAD + RULE, encoding="utf-16")
    with pytest.raises(ClipRobustError, match=r"t.toml:1: not valid TOML: not UTF-8 text"):
        load_thresholds(path)


@pytest.mark.parametrize(
    "rule",
    [
        'metric = "swapped_labels", max = 0.0',
        'metric = "frontier_strength", min = 1',
        'metric = "accuracy_drop", max = 0',
        'metric = "accuracy_drop", max = 0.99',
        'metric = "text_to_image_median_rank", max = 1',
        'metric = "accuracy", max_decrease = 0',
        'metric = "brier", max = 1.5',
        'metric = "nll", max = 12',
        'metric = "auroc_mcm", min = 0.4, because = "a model of noise"',
        'metric = "fpr95_mcm", max = 0.99, because = "a model of noise"',
    ],
)
def test_what_a_bad_model_misses_is_a_bound(rule: str) -> None:
    parse_thresholds(f"{HEAD}[[threshold]]\nbounds = [\n{{ {rule} }},\n]\n", **KNOWN)


#: A bound with its comment, and the figure that it is told to be far from.
FAR = {
    "min = 0.08 },  # measured 0.84 [0.82, 0.86], n = 134": "0.84",
    "min = 0.08 },  # measured 0.84": "0.84",
    "min = 0.43 },  # measured 0.84 [0.82, 0.86], n = 134": None,
    "min = 0.3 },  # measured 0.84 [0.5, 0.9], n = 3": None,
    "min = 0.08 },": None,
    "min = 0.08 },  # measured ?, n = ?": None,
    "severity = [1, 3], min = [0.8, 0.1] },  # measured 0.9 [0.8, 1.0], 0.7 [0.6, 0.8], n = 9": "0.7",
    "metric = 'ece', max = 0.6 },  # measured 0.05 [0.04, 0.06], n = 134": "0.05",
    "metric = 'ece', max = 0.5 },  # measured 0.05 [0.04, 0.06], n = 134": None,
    "metric = 'nll', max = 3 },  # measured 1.2 [1.1, 1.3], n = 134": "1.2",
    "metric = 'nll', max = 2.3 },  # measured 1.2 [1.1, 1.3], n = 134": None,
    "metric = 'auroc_mcm', min = 0.6 },  # measured 0.8 [0.79, 0.81], n = 134": "0.8",
    "metric = 'signed_gap', min = -0.9 },  # measured 0.1 [0.0, 0.2], n = 134": None,
    # Where the comment has fewer items than the list has severities, the first counts.
    "severity = [1, 3, 5], min = [0.8, 0.7, 0.1] },  # measured 0.9 [0.8, 1.0], 0.3 [0.2, 0.4], n = 9": "0.9",
    # So it does for one bound of several severities.
    "severity = [1, 3], min = 0.1 },  # measured 0.9 [0.8, 1.0], 0.15 [0.1, 0.2], n = 9": "0.9",
    "severity = [1, 3], min = 0.1 },  # measured 0.15 [0.1, 0.2], 0.9 [0.8, 1.0], n = 9": None,
    # Half of the way to the worst is not far; nor is a width beyond a wide interval.
    "min = 0.4 },  # measured 0.8 [0.78, 0.82], n = 134": None,
    "min = 0.399 },  # measured 0.8 [0.78, 0.82], n = 134": "0.8",
    "min = 0.2 },  # measured 0.8 [0.5, 0.8], n = 134": None,
    "min = 0.199 },  # measured 0.8 [0.5, 0.8], n = 134": "0.8",
    "metric = 'ece', max = 0.525 },  # measured 0.05 [0.04, 0.06], n = 134": None,
    "metric = 'ece', max = 0.526 },  # measured 0.05 [0.04, 0.06], n = 134": "0.05",
    "metric = 'ece', max = 0.75 },  # measured 0.25 [0.25, 0.5], n = 9": None,
    "metric = 'ece', max = 0.751 },  # measured 0.25 [0.25, 0.5], n = 9": "0.25",
    "metric = 'nll', max = 2.39 },  # measured 1.2 [1.1, 1.3], n = 134": None,
    "metric = 'nll', max = 2.41 },  # measured 1.2 [1.1, 1.3], n = 134": "1.2",
    "max_decrease = 0.03 },  # measured 0.84 [0.82, 0.86], n = 134": None,
    # A bound on the good side, or for several metrics, is not looked at.
    "min = 0.43, max = 0.99 },  # measured 0.84 [0.82, 0.86], n = 134": None,
    "metric = ['accuracy', 'top5_accuracy'], min = 0.08 },  # measured 0.84 [0.82, 0.86], n = 134": None,
    "metric = 'top?_accuracy', min = 0.08 },  # measured 0.84 [0.82, 0.86], n = 134": None,
}


@pytest.mark.parametrize(("row", "value"), FAR.items())
def test_a_bound_far_from_what_was_measured_is_told(row: str, value: str | None) -> None:
    metric = "" if "metric" in row else "metric = 'accuracy', "
    file = parse_thresholds(f"{HEAD}[[threshold]]\nbounds = [\n{{ {metric}{row}\n]\n", "t.toml")
    told = [f"is far from the {value} that was measured" in text for text in file.warnings]
    assert told == ([] if value is None else [True])


#: A bound, the figure and its n, the recorded figure, and what is told of it; there are 134 classes.
WEAK = {
    # Chance is 0.00746, and a guess in 1,072 comes to 0.0147 in one of 40 draws.
    ("accuracy", "min = 0.0075", 1072, None): "what guessing reaches by luck on 1,072 samples",
    ("accuracy", "min = 0.0145", 1072, None): "(0.0147): a model that guesses is not red",
    ("accuracy", "min = 0.0148", 1072, None): "",
    ("accuracy", "min = 0.0148", 100, None): "what guessing reaches by luck on 100 samples",
    ("accuracy", "min = 0.0145\nbecause = 'a toy'", 1072, None): "",
    ("accuracy", "min = 0.42", 1072, 0.84): "is far from the 0.84 that was recorded",
    ("accuracy", "min = 0.43", 1072, 0.84): "",
    ("accuracy", "min = 0.42\nbecause = 'a toy'", 1072, 0.84): "",
    ("accuracy", "max_decrease = 0.4", 1072, 0.84): "",
    # 0.84 - 0.833 is below the 0.00746 of a guess.
    (
        "accuracy",
        "max_decrease = 0.833",
        1072,
        0.84,
    ): "allows any loss: it was recorded at 0.84, and 0.00746",
    ("accuracy", "max_decrease = 0.832", 1072, 0.84): "",
    ("accuracy", "max_decrease = 0.9", 1072, None): "",
    ("accuracy", "max_decrease = 0.9\nbecause = 'a toy'", 1072, 0.84): "",
    ("auroc_mcm", "max_decrease = 0.35", 400, 0.84): "and 0.5 is the worst that a model comes to",
    ("auroc_mcm", "max_decrease = 0.33", 400, 0.84): "",
    ("fpr95_mcm", "max_increase = 0.25", 400, 0.78): "and 0.95 is the worst that a model comes to",
    ("accuracy_drop", "max_increase = 0.4", 400, 0.7): "and 1 is the worst that a model comes to",
    ("nll", "max_increase = 9", 400, 0.7): "",
    ("auroc_mcm", "min = 0.52", 400, None): "what guessing reaches by luck on 400 samples",
    ("auroc_mcm", "min = 0.56", 400, None): "",
    ("auroc_mcm", "min = 0.56", 400, 0.9): "is far from the 0.9 that was recorded",
    ("fpr95_mcm", "max = 0.94", 400, None): "(0.924): a model that guesses is not red",
    ("fpr95_mcm", "max = 0.92", 400, None): "",
    ("ece", "max = 0.6", 400, 0.05): "is far from the 0.05 that was recorded",
    ("signed_gap", "min = -0.9\nmax = 0.9", 400, 0.05): "",
}


@pytest.mark.parametrize(("case", "words"), WEAK.items())
def test_a_bound_that_hardly_gates_is_told_unless_it_says_why(
    case: tuple[str, str, int, float | None], words: str
) -> None:
    metric, bounds, n, value = case
    text = f"{HEAD}[[threshold]]\nmetric = '{metric}'\n{bounds}\n"
    rule = parse_thresholds(text, "t.toml").rules[0]
    recorded = None if value is None else measure(metric, value).figure
    told = weak_for(rule, measure(metric, 0.5, n=n), 134, recorded)
    assert len(told) == bool(words)
    assert not words or (words in told[0] and told[0].startswith("t.toml:4: m"))


def test_guessing_is_known_where_chance_is() -> None:
    accuracy, ece = METRICS.find("accuracy"), METRICS.find("ece")
    assert accuracy is not None
    assert ece is not None
    # scipy.stats.binomtest(8, 1072).proportion_ci(method="wilson").high
    assert lucky_guess(accuracy, 134, 1072) == pytest.approx(0.0146565, abs=1e-6)
    assert lucky_guess(accuracy, None, 1072) is None
    assert lucky_guess(accuracy, 134, 0) is None
    assert lucky_guess(ece, 134, 1072) is None
    # Of one sample Wilson's ends are (2p + z² ± z √(z² + 4p(1 - p))) / (2 + 2z²).
    z = 1.959963985
    half = z * math.sqrt(z * z + 1.0) / (2.0 + 2.0 * z * z)
    assert lucky_guess(accuracy, 2, 1) == pytest.approx(0.5 + half)
    assert lucky_guess(accuracy, 1, 1) == 1.0
    for higher, end in ((True, 0.5 + half), (False, 0.5 - half)):
        made = Metric("made_up", higher, "made up", chance=0.5)
        assert lucky_guess(made, None, 1) == pytest.approx(end)
    none, beyond = (Metric("made_up", True, "made up", chance=chance) for chance in (0.0, 1.01))
    assert lucky_guess(none, None, 1) == pytest.approx(z * z / (1.0 + z * z))
    assert lucky_guess(beyond, None, 1) is None


def test_the_worst_that_a_figure_comes_to() -> None:
    """What guessing reaches, else the end of the range; without one, twice the figure further."""
    share = Metric("made_up", True, "made up", chance=0.25)
    assert _worst(share, "min", 0.8, None) == 0.25
    drop = Metric("made_up", True, "made up", low=-1.0, high=2.0)
    assert (_worst(drop, "min", 0.8, None), _worst(drop, "max", 0.8, None)) == (0.0, 2.0)
    open_ = Metric("made_up", True, "made up", low=None, high=None)
    for value in (0.5, -0.5):
        assert _worst(open_, "min", value, None) == value - 1.0
        assert _worst(open_, "max", value, None) == value + 1.0


def test_a_narrow_rule_that_drops_the_bound_on_the_change_is_told() -> None:
    broad = HEAD + "[[threshold]]\nmetric = 'accuracy'\nmin = 0.8\nmax_decrease = 0.01\n"
    narrow = broad + "[[threshold]]\nmetric = 'accuracy'\nsuite = 'calibration'\nmin = 0.1\n"
    figures = [measure("accuracy", value) for value in (0.5, 0.6)]
    assert parse_thresholds(narrow, "t.toml").dropped_changes(figures) == [
        "t.toml:6: [suite=calibration metric=accuracy] wins over [metric=accuracy] of line 2 and "
        "drops its max_decrease 0.01; write it there, too, if it is to hold"
    ]
    kept = parse_thresholds(narrow + "max_decrease = 0.05\n", "t.toml")
    assert kept.dropped_changes(figures) == []


def test_a_reason_steers_no_terminal() -> None:
    reason = r'"why\nnot \u001b[31m\u0007 \u009b \u202e é ☂"'
    text = f"{HEAD}[[threshold]]\nmetric = 'ece'\nmax = 0.1\nbecause = {reason}\n"
    (rule,) = parse_thresholds(text).rules
    assert rule.because == r"why not \x1b[31m\x07 \x9b \u202e é ☂"


@pytest.mark.parametrize(
    ("model", "tested", "near"),
    [
        ("ViT-B-32", "ViT-B-32/laion2b_s34b_b79k", True),
        ("ViT-B-32/laion2b_s34b_b79", "ViT-B-32/laion2b_s34b_b79k", True),
        ("VIT-B-32*", "ViT-B-32/laion2b_s34b_b79k", True),
        ("hf-hub:laion/CLIP-ViT-B-32-laoin2B", "hf-hub:laion/CLIP-ViT-B-32-laion2B", True),
        ("hf-hub:org/Name", "hf-hub:org/name", True),
        ("ViT-B-16", "ViT-B-32", False),
        ("ViT-B-32/openai", "ViT-B-32/laion2b_s34b_b79k", False),
        ("ViT-L-14/laion400m_e31", "ViT-L-14/laion400m_e32", False),
        ("hf-hub:timm/ViT-B-16-SigLIP", "hf-hub:timm/ViT-L-16-SigLIP", False),
        ("./v1", "./v2", False),
        ("known", "knows", False),
        ("reference", "hf-hub:org/name", False),
    ],
)
def test_a_near_miss_of_a_tested_model_fails_the_run(model: str, tested: str, near: bool) -> None:
    text = f"{HEAD}[[threshold]]\nmetric = 'ece'\nmax = 0.1\nmodel = '{model}'\n"
    found = find_unjudged(
        parse_thresholds(text),
        used=(),
        suites_run=["calibration"],
        models=[tested],
        known_models=["known", "ViT-B-16", "ViT-B-32"],
    )
    assert (len(found.unused), found.other_models) == ((1, 0) if near else (0, 1))
    assert fails(found, Policy()) == near
    assert not fails(found, Policy(unused="warn"))
    assert any(f"the model under test is {tested!r}" in text for _, text in lines(found)) == near


def test_bounds_of_which_narrower_rules_took_all_figures_are_no_mistake() -> None:
    text = f"{HEAD}[[threshold]]\nmetric = 'ece'\nmax = 0.1\n"
    file = parse_thresholds(text + text.replace(HEAD, "") + "dataset = 'clean'\n", "t.toml")
    figure = measure()
    assert file.lookup(figure) is not None
    found = find_unjudged(
        file, used=(), suites_run=["calibration"], models=["reference"], measured=[figure]
    )
    assert not fails(found, Policy())
    ((level, told),) = lines(found)
    assert (level, told.partition("] ")[2][:14]) == ("note", "judges nothing")


def test_what_another_profile_measures_is_no_mistake() -> None:
    text = f"{HEAD}[[threshold]]\nmetric = 'ece'\nmax = 0.1\nperturbation = 'snow'\n"
    given: dict[str, Any] = {
        "used": (),
        "suites_run": ["calibration"],
        "models": ["reference"],
        "measured": [measure(perturbation="fog_3d", severity=1)],
    }
    assert fails(find_unjudged(parse_thresholds(text), **given), Policy())
    given["of_other_profiles"] = {"calibration": Declared({"snow", "fog_3d"})}
    found = find_unjudged(parse_thresholds(text), **given)
    assert lines(found) == [("note", "1 bound is for other profiles")]
    # Nor is it where another suite measures it in this one.
    given["measured"] = [*given["measured"], measure(perturbation="snow", suite="unlabelled")]
    found = find_unjudged(parse_thresholds(text), **given)
    assert lines(found) == [("note", "1 bound is for other profiles")]
    # A mean over some severities has a longer name.
    some = parse_thresholds(text.replace("snow", "snow@1+3+5"))
    assert lines(find_unjudged(some, **given)) == [("note", "1 bound is for other profiles")]
    # One that is measured in this one, but never at that severity, is.
    never = parse_thresholds(text.replace("snow", "fog_3d") + "severity = 2\n")
    (_, told), *_ = lines(find_unjudged(never, **given))
    assert told.endswith("was not used by any test: measured were severities 1")


def test_the_share_that_may_be_undecided() -> None:
    policy = parse_thresholds(HEAD + "[policy]\ninconclusive_share = 0.29\n").policy
    assert policy.inconclusive_share == 0.29
    assert (policy.too_many(29, 100), policy.too_many(30, 100)) == (False, True)
    assert Policy().inconclusive_share == 0.15
    assert not Policy(inconclusive_share=0.0).too_many(0, 5)
    assert not Policy().too_many(0, 0)
    assert not Policy(inconclusive_share=1.0).too_many(5, 5)

"""The threshold file: errors with lines, look-up, use tracking, recording, explaining."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import stat
import sys
from pathlib import Path

import pytest
from helpers import DOCS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.figure import Figure, Measurement
from pytest_cliprobust.figures.metrics import METRICS, Metric, register_metric
from pytest_cliprobust.gating import thresholds as t
from pytest_cliprobust.gating.verdict import judge

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = """\
schema = 1

[policy]
inconclusive = "fail"    # strict
confidence = 0.9

[[threshold]]            # line 7
metric = "ece"
max = 0.10
because = "the probabilities are shown to users"

[[threshold]]            # line 12
suite = "calibration"
metric = "ece"
perturbation = "fog_*"
max = 0.2

[[threshold]]            # line 18
suite = "calibration"
metric = "ece"
perturbation = ["fog_3d", "flash"]
severity = [4, 5]
max = 0.3
"""


def measure(
    metric: str = "ece",
    value: float = 0.15,
    *,
    suite: str = "calibration",
    model: str = "reference",
    dataset: str = "clean",
    perturbation: str = "clean",
    severity: int | None = None,
    half: float = 0.02,
    n: int = 1000,
) -> Measurement:
    figure = Figure(metric, value, value - half, value + half, n)
    return Measurement(suite, model, dataset, figure, perturbation, severity)


def complaint(text: str, **vocabularies: object) -> str:
    with pytest.raises(ClipRobustError) as caught:
        t.parse_thresholds(text, "t.toml", **vocabularies)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- Reading


def test_a_file_is_read_with_its_lines() -> None:
    file = t.parse_thresholds(FILE, "t.toml")
    assert file.policy == t.Policy("fail", 0.9, where="t.toml:3")
    assert [rule.line for rule in file.rules] == [7, 12, 18]
    assert file.rules[0].where_of("max") == "t.toml:9"
    assert file.rules[2].where_of("severity") == "t.toml:22"
    assert file.rules[0].because == "the probabilities are shown to users"
    assert file.rules[2].id == (
        "suite=calibration metric=ece perturbation=fog_3d|flash severity=4|5"
    ).replace("fog_3d|flash", "flash|fog_3d")
    assert file.rules[2].bounds == {"max": 0.3}


HEAD = "schema = 1\n"
RULE = HEAD + '[[threshold]]\nmetric = "ece"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema = 1\nx = = 2\n", "t.toml:2: not valid TOML: Invalid value at column 5"),
        ('schema = 1\nx = """open', "t.toml:2: not valid TOML: "),
        ("schema = 1\nx = 1\nx = 2\n", "t.toml:3: not valid TOML: Cannot overwrite a value"),
        ("\n\n", "t.toml:1: schema is missing; this version reads 'schema = 1'"),
        ("\nschema = 2\n", "t.toml:2: schema is 2; this version reads 'schema = 1'"),
        ("schema = true\n", "t.toml:1: schema is True"),
        (
            HEAD + "[[thresold]]\n",
            "t.toml:2: unknown key 'thresold' in the file. Did you mean 'thr",
        ),
        (HEAD + "threshold = 3\n", "t.toml:2: rules are written as tables under [[threshold]]"),
        (
            HEAD + 'threshold = [{metric = "ece", max = 1}]\n',
            "t.toml:2: rules are written as tables under [[threshold]]",
        ),
        (HEAD + "[threshold]\nmetric = 1\n", "t.toml:2: rules are written as tables"),
        (RULE + "mx = 0.1\n", "t.toml:4: unknown key 'mx' in [[threshold]]. Did you mean 'max'?"),
        (
            RULE + "qqqq = 1\n",
            "t.toml:4: unknown key 'qqqq' in [[threshold]]. Known: suite, metric",
        ),
        (RULE, "t.toml:2: [[threshold]] has no bound: add min, max, max_increase, max_decrease"),
        (HEAD + "\n[[threshold]]\nmax = 1\n", "t.toml:3: [[threshold]] lacks 'metric'"),
        (HEAD + '[[threshold]]\nmetric = "*"\nmax = 1', "t.toml:3: metric must be named"),
        (RULE + "max = '0.1'\n", "t.toml:4: max must be a number, not '0.1'"),
        (RULE + "max = true\n", "t.toml:4: max must be a number, not True"),
        (RULE + "max = nan\n", "t.toml:4: max must be finite, not nan"),
        (RULE + "max = inf\n", "t.toml:4: max must be finite"),
        (RULE + "max = 0.1\n\nmin = 0.2\n", "t.toml:6: min 0.2 is above max 0.1"),
        (RULE + "max_increase = -0.1\n", "t.toml:4: max_increase is a size and cannot be negative"),
        (RULE + "max = 1\nsuite = ''\n", "t.toml:5: suite must be a name, a glob, or a list"),
        (RULE + "max = 1\nsuite = []\n", "t.toml:5: suite must be a name, a glob, or a list"),
        (RULE + "max = 1\nmodel = ['a', 3]\n", "t.toml:5: model must be a name, a glob, or a list"),
        (RULE + "max = 1\nseverity = 6\n", "t.toml:5: severity must be an integer from 0 to 5"),
        (RULE + "max = 1\nseverity = 2.5\n", "t.toml:5: severity must be an integer from 0 to 5"),
        (RULE + "max = 1\nseverity = [1, true]\n", "t.toml:5: severity must be an integer"),
        (RULE + "max = 1\nseverity = []\n", "t.toml:5: severity must be an integer"),
        (RULE + "max = 1\nbecause = 3\n", "t.toml:5: because must be a text"),
        (
            RULE + "min = 1\n",
            "t.toml:4: ece is better when lower: min alone would fail good models",
        ),
        (
            HEAD + '[[threshold]]\nmetric = "auroc_*"\nmax_increase = 0.1\n',
            "t.toml:4: auroc_* is better when higher: max_increase alone would fail good models and "
            "pass bad ones; write max_decrease",
        ),
        (RULE + "max_decrease = 0.1\n", "and pass bad ones; write max_increase"),
        (HEAD + "policy = 1\n", "t.toml:2: policy must be a table"),
        (
            HEAD + "[policy]\n\ninconclusiv = 1\n",
            "t.toml:4: unknown key 'inconclusiv' in [policy].",
        ),
        (HEAD + "policy = {confidenc = 1}\n", "t.toml:2: unknown key 'confidenc' in [policy]."),
        (HEAD + "policy.confidenc = 1\n", "t.toml:2: unknown key 'confidenc' in [policy]."),
        (HEAD + "[policy]\ninconclusive = 'no'\n", "t.toml:3: inconclusive must be 'fail', 'warn'"),
        (HEAD + "[policy]\nconfidence = 95\n", "t.toml:3: confidence must be in [0.5, 1), not 95"),
        (HEAD + "[policy]\nrequire_bound = 1\n", "t.toml:3: require_bound must be true or false"),
        (HEAD + "[policy]\nfamily_wise_error_rate = 0\n", "t.toml:3: family_wise_error_rate must"),
        (HEAD + "[policy]\nbaseline = 3\n", "t.toml:3: baseline must be a text, not 3"),
        (
            HEAD + "[policy]\nfamily_wise_error_rate = 0.1\nconfidence = 0.9\n",
            "t.toml:3: confidence and family_wise_error_rate exclude each other",
        ),
    ],
)
def test_every_mistake_is_one_line_with_its_place(text: str, message: str) -> None:
    assert message in complaint(text)


def test_nothing_misleads_the_search_for_lines() -> None:
    text = '''\
schema = 1  # [[threshold]]
[policy]
"baseline" = """
[[threshold]]
metric = "no"
\\""" # still inside """
[[ "threshold" ]] # one
metric = [  # a list, "with a ] quote"
  'ece',    # ]
  "nll",
]
model = 'a\\'
because = \'\'\'
mx = 1 \'\'\'\'
suite = "a\\\\"; max = 0.1
'''.replace("; ", "\n")
    file = t.parse_thresholds(text, "t.toml")
    assert len(file.rules) == 1
    assert file.rules[0].line == 7
    assert dict(file.rules[0].lines) == {
        "metric": 8,
        "model": 12,
        "because": 13,
        "suite": 15,
        "max": 16,
    }
    assert file.rules[0].because == "mx = 1 '"
    crlf = t.parse_thresholds(FILE.replace("\n", "\r\n"), "t.toml")
    assert [rule.lines for rule in crlf.rules] == [
        rule.lines for rule in t.parse_thresholds(FILE, "t.toml").rules
    ]


PIECES = st.lists(
    st.sampled_from(
        [
            "# [[threshold]] max = 1\n",
            "\n",
            "  \t\n",
            'k{} = "a # \\" b"\n',
            "k{} = 'a \\'  # x\n",
            'k{} = """\n[[threshold]]\n""""\n',
            "k{} = '''x''y\n'''''\n",
            "k{} = [1, [2, # ]\n 'x]'], {{a = \"}}\"}}]\n",
            "k{}.'q.r'.s = 1979-05-27 07:32:00 # date\n",
            '  "k{} \\u00e9" = 0x1F\n',
            "[t{}.a]\n",
            "[[a{}.'b c']]\nx = 1\n[a{}.'b c'.sub]\ny = 2\n",
        ]
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(PIECES, st.booleans())
def test_the_position_scan_agrees_with_the_parser(pieces: list[str], crlf: bool) -> None:
    text = "".join(piece.format(i, i) for i, piece in enumerate(pieces))
    text = text.replace("\n", "\r\n") if crlf else text
    data = tomllib.loads(text)
    positions = t._Positions(text)
    pairs = [s for s in positions.statements if s.kind == "pair"]
    for statement in pairs:
        found = data
        for part in statement.path:
            found = found[part]  # type: ignore[index]
        value = text[statement.value_start : statement.value_end]
        assert tomllib.loads(f"v = {value}")["v"] == found
        assert positions.line(*statement.path) == text[: statement.start].count("\n") + 1

    def leaves(node: object) -> int:
        # Inline tables and arrays are one statement; here only k{} holds those.
        if isinstance(node, dict):
            return sum(leaves(child) for child in node.values())
        if isinstance(node, list) and node and all(isinstance(child, dict) for child in node):
            return sum(leaves(child) for child in node)
        return 1

    assert len(pairs) == leaves(data)


# --- Vocabularies

VOCABULARIES = {
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
        ('suite = "xyz"', "t.toml:4: unknown suite 'xyz'. Known: calibration, ood"),
        ('suite = "ca[lb]x*"', "t.toml:4: suite 'ca[lb]x*' matches no known suite."),
        ('dataset = "claen"', "t.toml:4: unknown dataset 'claen'. Did you mean 'clean'?"),
        ('perturbation = ["flash", "fog_3dd"]', "t.toml:4: unknown perturbation 'fog_3dd'."),
        ('model = "refrence"', "t.toml:4: unknown model 'refrence'. Did you mean 'reference'?"),
        ('profile = "fast"', "t.toml:4: unknown profile 'fast'."),
        ('suite = "ood"', "t.toml:3: suite ood does not measure 'ece', only auroc_mcm, fpr95_*"),
    ],
)
def test_unknown_names_are_errors_with_the_nearest(line: str, message: str) -> None:
    assert message in complaint(RULE + line + "\nmax = 1\n", **VOCABULARIES)


def test_unknown_metrics() -> None:
    text = HEAD + '[[threshold]]\nmax = 1\nmetric = "{}"\n'
    assert "t.toml:4: unknown metric 'ecee'. Did you mean 'ece'?" in complaint(text.format("ecee"))
    assert "t.toml:4: metric 'zz*' matches no known metric." in complaint(text.format("zz*"))
    for metric in ("*ece", "*_recall_at_1", "image_to_text_recall_at_1"):
        t.parse_thresholds(text.format(metric).replace("max = 1", "min = 0\nmax = 1"))


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
    file = t.parse_thresholds(RULE + line + "\nmax = 1\n", "t.toml", **VOCABULARIES)  # type: ignore[arg-type]
    assert len(file.rules) == 1


def test_metrics_can_be_registered() -> None:
    assert t.direction("accuracy") == "higher"
    assert t.direction("auroc_mcm") == t.direction("text_to_image_recall_at_10") == "higher"
    assert t.direction("fpr95_mcm") == "lower"
    assert t.direction("signed_gap") == "neither"
    with pytest.raises(ClipRobustError, match=r"unknown metric 'acuracy'. Did you mean 'accuracy'"):
        t.direction("acuracy")
    with METRICS.preserved():

        @register_metric("my_score", higher_is_better=True, meaning="mine", high=None)
        @register_metric("my_rank_at_*", higher_is_better=False, meaning="mine", high=None)
        def my_score() -> None: ...

        assert t.direction("my_score") == "higher"
        assert t.direction("my_rank_at_5") == "lower"
        assert "my_rank_at_*" in t.known_metrics()
        assert METRICS.named("my_score").inside(-0.5) == 0.0
        assert METRICS.named("my_score").inside(7.0) == 7.0
        with pytest.raises(
            ClipRobustError, match=r"'accuracy' is registered already, by .*accuracy"
        ):
            register_metric("accuracy", higher_is_better=False, meaning="mine")(my_score)
    assert "my_score" not in t.known_metrics()


# --- Look-up


def test_the_most_specific_rule_wins() -> None:
    file = t.parse_thresholds(FILE, "t.toml")

    def line(**where: object) -> int | None:
        rule = file.lookup(measure(**where))  # type: ignore[arg-type]
        return rule.line if rule else None

    assert line() == 7
    assert line(suite="ood") == 7
    assert line(perturbation="fog_3d") == 12
    assert line(perturbation="fog_3d", severity=3) == 12
    assert line(perturbation="fog_3d", severity=4) == 18
    assert line(perturbation="flash", severity=4) == 18
    assert line(perturbation="flash", severity=1) == 7
    assert line(metric="nll") is None


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ('dataset = "clean"', ""),
        ('dataset = "clean"', 'dataset = "cl*"'),
        ('dataset = "clean"', 'dataset = ["clean", "x"]'),
        ('dataset = ["clean", "x"]', 'dataset = ["clean", "x", "y"]'),
        ('dataset = ["clean", "x"]', 'dataset = "c*"'),
        ('dataset = "cle*"', 'dataset = "cl*"'),
        ('dataset = "c*"', 'dataset = "*"'),
        ("severity = 3", ""),
        ("severity = 3", "severity = [3, 4]"),
        ('dataset = "clean"\nmodel = "reference"', 'dataset = "clean"\nmodel = "ref*"'),
        ('suite = "calibration"\ndataset = "clean"', 'suite = "c*"\ndataset = "c*"\nmodel = "r*"'),
    ],
)
def test_specificity_by_example(narrow: str, wide: str) -> None:
    for order in (narrow, wide), (wide, narrow):
        text = HEAD + "".join(
            f'[[threshold]]\nmetric = "ece"\nmax = 0.{"12"[part == wide]}\n{part}\n'
            for part in order
        )
        rule = t.parse_thresholds(text).lookup(measure(severity=3))
        assert rule is not None
        assert rule.maximum == 0.1


NAMES = ("aa", "ab", "ba", "bb")
PATTERNS = st.one_of(
    st.none(),
    st.sampled_from(NAMES),
    st.sampled_from(["a*", "*b", "a?", "*"]),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3),
)
SELECTORS = st.fixed_dictionaries(
    {
        "suite": PATTERNS,
        "dataset": PATTERNS,
        "model": PATTERNS,
        "severity": st.one_of(
            st.none(), st.integers(0, 5), st.lists(st.integers(0, 5), min_size=1, max_size=3)
        ),
    }
)


def block(selector: dict[str, object], bound: str = "max = 1") -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in selector.items() if value is not None]
    return "\n".join(["[[threshold]]", 'metric = "ece"', *lines, bound, ""])


def places() -> list[Measurement]:
    return [
        measure(suite=suite, dataset=dataset, model=model, severity=severity)
        for suite, dataset, model in itertools.product(NAMES, repeat=3)
        for severity in (None, 0, 3, 5)
    ]


PLACES = places()


@settings(max_examples=60, deadline=None)
@given(SELECTORS, SELECTORS)
def test_narrower_in_every_field_is_more_specific(
    one: dict[str, object], two: dict[str, object]
) -> None:
    """What a rule matches decides: a subset never loses against its superset."""
    first, second = (t.parse_thresholds(HEAD + block(s)).rules[0] for s in (one, two))

    def names(rule: t.Rule, field: str) -> set[str]:
        return {n for n in NAMES if t._matches(rule.selectors.get(field, ()), n)}

    def subset(a: t.Rule, b: t.Rule) -> bool:
        levels = not b.severities or (a.severities and set(a.severities) <= set(b.severities))
        return bool(levels) and all(
            names(a, f) <= names(b, f) for f in ("suite", "dataset", "model")
        )

    # Globs that match the same names by chance ("a*" and "a?") are told apart by their text only.
    if subset(first, second) and not subset(second, first):
        globbed = [
            field
            for field in ("suite", "dataset", "model")
            if any(t._literal(p) is None for p in first.selectors.get(field, ()))
        ]
        if not globbed:
            assert first.specificity > second.specificity


@settings(max_examples=50, deadline=None)
@given(st.lists(SELECTORS, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_order_in_the_file_never_matters(
    selectors: list[dict[str, object]], random: object
) -> None:
    """Either the file is refused in every order, or every look-up is the same in every order."""
    blocks = [block(s) for s in selectors]
    shuffled = blocks[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    def outcomes(parts: list[str]) -> object:
        try:
            file = t.parse_thresholds(
                HEAD + "".join(parts),
                known_suites=NAMES,
                known_datasets=NAMES,
                models=NAMES,
            )
        except ClipRobustError as error:
            assert "line" in str(error)  # noqa: PT017
            return "refused"
        # With whole vocabularies no tie survives loading, so no look-up raises.
        found = [file.lookup(place) for place in PLACES]
        for rule, place in zip(found, PLACES, strict=True):
            matching = [r for r in file.rules if not r.mismatch(place)]
            assert (rule is None) == (not matching)
            assert all(r is rule or r.specificity < rule.specificity for r in matching)
        return [rule.id if rule else None for rule in found]

    assert outcomes(blocks) == outcomes(shuffled)


def test_ties_name_both_lines() -> None:
    text = RULE + 'max = 1\ndataset = "clean"\n[[threshold]]\nmetric = "ece"\nmax = 2\n{}\n'
    message = complaint(text.format('model = "reference"'))
    assert message == (
        "t.toml:6: [metric=ece model=reference] and [metric=ece dataset=clean] of line 2 are equally "
        "specific and both match the same measurements; make one of them narrower"
    )
    assert "has a rule already, in line 2" in complaint(text.format('dataset = "clean"'))
    # The same set in another order is the same rule.
    twice = RULE + 'max = 1\nmodel = ["b", "a"]\n[[threshold]]\nmetric = "ece"\nmax = 1\n'
    assert "has a rule already" in complaint(twice + 'model = ["a", "b", "a"]\n')
    # Different names of one field, or different severities, never meet.
    t.parse_thresholds(text.format('dataset = "other"'))
    t.parse_thresholds(
        (RULE + "max = 1\nseverity = [1, 2]\n")
        + '[[threshold]]\nmetric = "ece"\nmax = 1\nseverity = [3, 4]\n'
    )


def test_ties_between_globs() -> None:
    text = RULE + 'max = 1\nmodel = "a*"\n[[threshold]]\nmetric = "ece"\nmax = 2\nmodel = "*b"\n'
    assert "equally specific" in complaint(text, models=["ab", "cd"])
    # Without a vocabulary that shows it, the first measurement that both match does.
    file = t.parse_thresholds(text, "t.toml")
    assert file.lookup(measure(model="ax")) is not None
    with pytest.raises(ClipRobustError, match=r"t.toml:6: .* of line 2 .* both match .*/ab; make"):
        file.lookup(measure(model="ab"))
    assert "ties" in file.explain(measure(model="ab"))


def test_a_mapping_of_metrics_rules_out_impossible_ties() -> None:
    text = (
        HEAD
        + '[[threshold]]\nsuite = "ood"\nmetric = "au*"\nmin = 0\n'
        + '[[threshold]]\nsuite = "c*"\nmetric = "nll"\nmax = 1\n'
    )
    t.parse_thresholds(text, known_metrics={"ood": ["auroc_mcm"], "calibration": ["nll"]})
    t.parse_thresholds(text, known_suites=["ood", "calibration"])
    assert "equally" in complaint(
        text.replace('"ood"', '"*ood"')
        .replace('"c*"', '"c*od"')
        .replace('"nll"', '"a*m"')
        .replace("max =", "min = 0\nmax ="),
        known_metrics={"cood": ["auroc_mcm"]},
    )


def test_thousands_of_recorded_rules_are_read_quickly() -> None:
    import time

    parts = [
        block({"suite": "s", "dataset": f"d{i % 50}", "model": f"m{i}", "severity": i % 6})
        for i in range(1500)
    ]
    start = time.perf_counter()
    file = t.parse_thresholds(HEAD + "".join(parts))
    assert file.lookup(measure(suite="s", dataset="d9", model="m59", severity=5)) is not None
    assert time.perf_counter() - start < 5.0


def test_names_with_wildcard_characters_can_be_escaped() -> None:
    file = t.parse_thresholds(RULE + 'model = "run[[]1]/epoch[*]"\nmax = 1\n')
    assert file.lookup(measure(model="run[1]/epoch*")) is not None
    assert file.lookup(measure(model="run[1]/epoch7")) is None
    assert file.rules[0].specificity.exact == 2


def test_profiles() -> None:
    text = RULE + 'max = 1\n[[threshold]]\nmetric = "ece"\nmax = 2\nprofile = "full"\n'

    def bound(profile: str | None) -> float | None:
        rule = t.parse_thresholds(text, profile=profile).lookup(measure())
        return rule.maximum if rule else None

    assert [bound(p) for p in (None, "quick", "full")] == [1.0, 1.0, 2.0]


# --- Uses


def test_uses_are_merged_from_workers() -> None:
    controller, one, two = (t.parse_thresholds(FILE, "t.toml") for _ in range(3))
    assert len(controller.unused()) == 3
    one.lookup(measure())
    two.lookup(measure(perturbation="fog_3d"))
    two.lookup(measure(metric="nll"))
    for worker in (one, two):
        controller.merge_uses(json.loads(json.dumps(worker.uses())))
    assert [rule.line for rule in controller.unused()] == [18]
    assert controller.describe_unused() == [
        "t.toml:18: bound max 0.3 [suite=calibration metric=ece perturbation=flash|fog_3d "
        "severity=4|5] was not used by any test"
    ]
    with pytest.raises(ClipRobustError, match="it changed during the run"):
        controller.merge_uses(["metric=gone"])


def test_rules_of_other_profiles_are_not_unused() -> None:
    text = RULE + 'max = 1\nprofile = "full"\n'
    assert t.parse_thresholds(text, profile="quick").unused() == []
    assert len(t.parse_thresholds(text, profile="full").unused()) == 1


def test_explaining_leaves_no_trace_and_says_why() -> None:
    file = t.parse_thresholds(FILE, "t.toml")
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
    none = t.parse_thresholds(RULE + 'dataset = "x"\nmax = 1\n', "t.toml")
    assert "dataset is 'clean', not 'x'" in none.explain(measure())
    assert "none has metric 'nll'" in none.explain(measure("nll"))
    assert "severity is None, not 4 or 5" in t.parse_thresholds(
        RULE + "max = 1\nseverity = [4, 5]\n"
    ).explain(measure())


# --- Files


def test_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gates").mkdir()
    path = tmp_path / "gates" / "t.toml"
    path.write_text(HEAD + '[policy]\nbaseline = "old.json"\n')
    monkeypatch.chdir(tmp_path)
    file = t.load_thresholds(path)
    assert file.name == os.path.join("gates", "t.toml")
    assert file.policy.baseline == path.parent / "old.json"
    with pytest.raises(ClipRobustError, match=r"absent.toml: no such threshold file; record one"):
        t.load_thresholds("absent.toml")
    path.write_bytes(b"schema = 1\n# \xff\n")
    with pytest.raises(ClipRobustError, match=r"t.toml:2: not valid TOML: not UTF-8"):
        t.load_thresholds(path)
    with pytest.raises(ClipRobustError, match="cannot be read"):
        t.load_thresholds(tmp_path)


def test_load_baseline(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    first, second = measure(), measure("nll", 2.0)
    entries = [first.as_dict(), {"measurement": second.as_dict(), "verdict": {}}]
    path.write_text(json.dumps({"measurements": entries}))
    assert t.load_baseline(path) == {first.key: first.figure, second.key: second.figure}
    for content, message in (
        ("{", "not a JSON report"),
        ("[]", "no 'measurements' list"),
        ('{"measurements": [{"suite": "x"}]}', "measurement 0 is not as this version writes it"),
        ('{"measurements": [3]}', "measurement 0 is not as this version writes it"),
    ):
        path.write_text(content)
        with pytest.raises(ClipRobustError, match=message):
            t.load_baseline(path)
    with pytest.raises(ClipRobustError, match="no such baseline"):
        t.load_baseline(tmp_path / "none.json")
    assert t.baseline_key(first, t.Policy()) == first.key
    assert t.baseline_key(first, t.Policy(baseline_model="v1")).endswith("/v1")


# --- Recording


def test_a_record_changes_only_what_it_must(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    text = """\
# Gates of the release
schema = 1

[[threshold]]   # exact
  suite = "calibration"
  metric = "ece"   # the metric
  dataset = "clean"
  perturbation = "clean"
  model = "reference"
  max   =  0.10    # tight
  max_increase = 0.01
  because = "users see it"

[policy]        # stands between rules
confidence = 0.95

[[threshold]]
metric = "acc*"
min = 0.5
max_decrease = 0.02
# the end"""
    path.write_text(text)
    path.chmod(0o640)
    changes = t.record(path, [measure(), measure("accuracy", 0.8, suite="corruption")])
    after = path.read_text()
    added = """

[[threshold]]
suite = "corruption"
metric = "accuracy"
dataset = "clean"
perturbation = "clean"
model = "reference"
min = 0.76
max_decrease = 0.02
because = "recorded at 0.8, 95% interval 0.78 to 0.82, n = 1000"
"""
    assert after == text.replace("max   =  0.10 ", "max   =  0.19 ") + added
    assert [str(change).replace(str(path), "t.toml") for change in changes] == [
        "t.toml:10: max 0.1 → 0.19 (calibration/ece/clean/clean/reference)",
        "t.toml:29: min none → 0.76 (corruption/accuracy/clean/clean/reference)",
        "t.toml:30: max_decrease 0.02 stays (corruption/accuracy/clean/clean/reference)",
    ]
    assert [change.action for change in changes] == ["updated", "added", "unchanged"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["t.toml"]


def test_a_recorded_reason_is_renewed_and_a_missing_bound_added(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    t.record(path, [measure()])
    assert path.read_text().startswith("schema = 1\n\n[[threshold]]\n")
    path.write_text(path.read_text().replace("max = 0.19\n", "max_increase = 0.05\n"))
    (change,) = t.record(path, [measure(value=0.3)])
    assert (change.old, change.action) == (None, "updated")
    text = path.read_text()
    assert 'because = "recorded at 0.3,' in text
    assert text.endswith("max = 0.34\n")
    assert "max_increase = 0.05\n" in text
    before = path.read_text()
    assert t.record(path, [measure(value=0.3)])[0].action == "unchanged"
    assert path.read_text() == before


def test_dry_runs_and_skipped_figures(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "t.toml"
    bad = measure(value=math.nan)
    strange = measure("my_own_thing")
    changes = t.record(path, [measure(), bad, strange], dry_run=True)
    assert not path.exists()
    assert sorted(change.action for change in changes) == ["added", "skipped", "skipped"]
    assert "not recorded: the figure is not finite" in str(changes[0])
    assert "register_metric" in str(changes[1])
    t.record(path, [measure(), bad])
    assert len(t.load_thresholds(path).rules) == 1


def test_directions_and_bands(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    run = [
        measure("auroc_mcm", 0.9),
        measure("signed_gap", 0.05),
        measure("accuracy", 0.97),
        measure("accuracy", 0.01, dataset="hard"),
    ]
    t.record(path, run)
    by_id = {
        rule.selectors["metric"] + rule.selectors["dataset"]: rule
        for rule in t.load_thresholds(path).rules
    }
    assert by_id["auroc_mcm", "clean"].bounds == {"min": 0.86}
    assert by_id["signed_gap", "clean"].bounds == {"min": 0.01, "max": 0.09}
    # Inside the metric's range, unless the interval itself lies outside.
    assert by_id["accuracy", "hard"].bounds == {"min": -0.01}
    # A band of the user's stays one; a metric without direction keeps its one side.
    path.write_text(
        HEAD
        + block({"suite": "calibration"}, "max = 0.5\nmin = 0.4").replace("ece", "auroc_mcm")
        + block({"suite": "calibration"}, "max = 0.5").replace("ece", "signed_gap")
    )
    t.record(path, run[:2])
    rules = t.load_thresholds(path).rules
    assert rules[2].bounds == {"min": 0.86, "max": 0.94}
    assert rules[3].bounds == {"max": 0.09}


def test_generic_rules_hold_the_next_release(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    run = [measure(model="v1"), measure(model="v2", value=0.2)]
    changes = t.record(path, run, generic=("model",))
    assert [(change.new, change.key) for change in changes] == [(0.24, run[1].key)]
    file = t.load_thresholds(path)
    assert len(file.rules) == 1
    assert file.lookup(measure(model="v3")) is file.rules[0]
    assert "recorded at 0.2," in file.rules[0].because
    assert t.record(path, run, generic=("model",))[0].action == "unchanged"
    # Exactly recorded, one model gets a rule of its own.
    t.record(path, [measure(model="v1", value=0.05)])
    assert len(t.load_thresholds(path).rules) == 2
    with pytest.raises(ClipRobustError, match="'metric' open"):
        t.record(path, run, generic=("metric",))
    with pytest.raises(ClipRobustError, match="margin"):
        t.record(path, run, margin=-1)


def test_a_record_that_would_not_count_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    wide = {"suite": "calibration", "dataset": "clean", "perturbation": "clean", "model": "ref*"}
    path.write_text(HEAD + block(wide))
    before = path.read_text()
    with pytest.raises(
        ClipRobustError, match=r"nothing was recorded: .*t.toml:2 .* would win over"
    ):
        t.record(path, [measure()], generic=("model",))
    path.write_text(HEAD + block({"suite": "calibration", "model": "reference"}))
    with pytest.raises(ClipRobustError, match=r"nothing was recorded, .*equally specific"):
        t.record(path, [measure()], generic=("model", "perturbation"))
    path.write_text(before)
    t.record(path, [measure()])
    assert path.read_text().startswith(before)


def test_profiles_are_recorded_apart(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    t.record(path, [measure()], profile="quick")
    t.record(path, [measure(value=0.3)], profile="full")
    rules = t.load_thresholds(path).rules
    assert [rule.selectors["profile"] for rule in rules] == [("quick",), ("full",)]
    assert [rule.maximum for rule in rules] == [0.19, 0.34]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.toml"
    path.write_text(FILE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ClipRobustError, match=r"cannot be written: No space left"):
        t.record(path, [measure()])
    assert path.read_text() == FILE
    assert os.listdir(tmp_path) == ["t.toml"]


def test_links_are_followed(tmp_path: Path) -> None:
    real = tmp_path / "real.toml"
    real.write_text(FILE)
    link = tmp_path / "link.toml"
    link.symlink_to(real)
    t.record(link, [measure()])
    assert link.is_symlink()
    assert len(t.load_thresholds(real).rules) == 4


def test_suggested_bounds_are_round_and_never_inside_the_interval() -> None:
    info = Metric("m", False, "")
    assert t.suggest_bound(0.1634, 0.0423, 0.5, "max", info) == 0.185
    assert t.suggest_bound(0.1634, 0.0423, 0.0, "max", info) == 0.164
    assert t.suggest_bound(0.1211, 0.0423, 0.5, "min", info) == 0.099
    assert t.suggest_bound(0.99, 0.1, 0.5, "max", info) == 1.0
    assert t.suggest_bound(0.3, 0.0, 0.5, "max", info) == 0.3
    # Numerical noise must not put a figure without an interval in doubt.
    assert t.suggest_bound(0.3, 0.0, 0.5, "max", info, 1e-7) == 0.3001
    assert t.suggest_bound(1.0, 0.0, 0.5, "min", info, 6e-8) == 0.999
    assert t.suggest_bound(1.0, 0.0, 0.5, "min", info, 1e-11) == 1 - 1e-11
    assert t.suggest_bound(1.0, 0.0, 0.5, "max", info, 6e-8) == 1.0
    assert t.suggest_bound(0.1634, 0.0423, 0.5, "max", info, 1e-7) == 0.185
    assert t.suggest_bound(0.0, 0.0, 0.5, "max", info) == 0.0
    # The sum 0.07 + 0.02 is a hair above 0.09; that is no reason to round up to 0.091.
    assert t.suggest_bound(0.07, 0.04, 0.5, "max", info) == 0.09
    assert t.suggest_bound(1.2, 0.1, 0.5, "max", info) == 1.2
    assert (
        t.suggest_bound(1234.5, 80.0, 0.5, "max", Metric("m", False, "", low=None, high=None))
        == 1275.0
    )


NAME = st.text(alphabet="aé[*?]\"\\'#\t /:.-", min_size=1, max_size=6)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.data(),
    st.lists(
        st.tuples(
            st.sampled_from(["ece", "accuracy", "signed_gap", "mce", "image_to_text_recall_at_5"]),
            NAME,
            st.sampled_from([None, 1, 5]),
            st.floats(0, 1),
            st.floats(0, 0.3),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda entry: entry[:3],
    ),
    st.sampled_from(["", "# c\n", "\n\n", "  # no newline at the end"]),
    st.booleans(),
    st.floats(0, 2),
)
def test_record_round_trip(
    tmp_path: Path,
    data: st.DataObject,
    rows: list[tuple[str, str, int | None, float, float]],
    tail: str,
    crlf: bool,
    margin: float,
) -> None:
    """Whatever the file looks like: the run that was recorded passes, nothing else has changed."""
    run = [
        measure(metric, value, model=name, severity=severity, half=half)
        for metric, name, severity, value, half in rows
    ]
    blocks = ["schema = 1 # s\n", "[policy]\nconfidence = 0.9\n"]
    for measurement in data.draw(st.lists(st.sampled_from(run), unique_by=lambda m: m.key)):
        selector = {
            "suite": "calibration",
            "dataset": "clean",
            "perturbation": "clean",
            "model": measurement.model.translate({ord(c): f"[{c}]" for c in "*?["}),
            "severity": measurement.severity,
        }
        lines = [f"  {k} = {json.dumps(v)} # {k}\n" for k, v in selector.items() if v is not None]
        lines.append(f'  metric = "{measurement.metric}"\n')
        bound = data.draw(st.sampled_from(["min = -1\n  max = 2", "max = 7", "min = -3"]))
        if measurement.metric != "signed_gap":
            bound = "min = -1\n  max = 2"
        lines.append(f"  {bound}\n")
        blocks.append("[[threshold]] # rule\n" + "".join(data.draw(st.permutations(lines))))
    before = "\n# between\n".join([blocks[0], *data.draw(st.permutations(blocks[1:]))]) + tail
    if crlf:
        before = before.replace("\n", "\r\n")
    path = tmp_path / "t.toml"
    path.write_bytes(before.encode())
    changes = t.record(path, run, margin=margin)
    after = path.read_bytes().decode()

    file = t.load_thresholds(path)
    assert len(changes) >= len(run)
    for measurement in run:
        rule = file.lookup(measurement)
        assert rule is not None
        assert rule.specificity.exact == (5 if measurement.severity is None else 6)
        assert judge(measurement, rule, file.policy).status == "pass"
        loose = dataclasses.replace(file.policy, confidence=0.8)
        assert judge(measurement, rule, loose).status == "pass"
    for change in changes:
        line = after.splitlines()[int(change.where.rpartition(":")[2]) - 1]
        assert change.new is not None
        assert f"{change.bound} = {change.new!r}" in line

    # Line by line: only lines of a bound differ, and only in the number; the rest is appended.
    old, new = before.splitlines(), after.splitlines()
    touched = [(a, b) for a, b in zip(old, new, strict=False) if a != b]
    for one, two in touched:
        assert one.split("=")[0] == two.split("=")[0]
        assert one.split("=")[0].strip() in ("min", "max")
    assert ("\r\n" in after) == crlf
    assert not crlf or after.count("\n") == after.count("\r\n")

    again = t.record(path, run, margin=margin)
    assert {change.action for change in again} == {"unchanged"}
    assert path.read_bytes().decode() == after


# --- The documentation


def test_the_documented_example_says_what_it_does() -> None:
    page = (DOCS / "thresholds.md").read_text()
    example = page.split("```toml\n")[1].split("```")[0]
    file = t.parse_thresholds(example, known_perturbations=["fog_3d", "flash"])

    def bounds(**where: object) -> dict[str, float]:
        rule = file.lookup(measure(**where))  # type: ignore[arg-type]
        assert rule is not None
        return rule.bounds

    assert bounds() == {"max": 0.1}
    assert bounds(perturbation="fog_3d", severity=3) == {"max": 0.15}
    assert bounds(perturbation="fog_3d", severity=5) == {"max": 0.25}
    assert bounds(metric="accuracy") == {"min": 0.6, "max_decrease": 0.01}
    for key in (*t._POLICY_KEYS, *t._RULE_KEYS):
        assert f"`{key}`" in page


NAMED = """schema = 1
[[perturbation]]
name = "coarse"
kornia = "RandomPosterize"
parameters = { bits = [3, 3] }

[[perturbation]]
name = "turn"
kornia = "RandomRotation"
severities = [{ degrees = [5, 5] }, { degrees = [20, 20] }]
envelope = { degrees = [0, 45] }

[[threshold]]
metric = "accuracy"
perturbation = "coarse"
min = 0.1
"""


def test_named_perturbations_are_read_and_known_to_the_rules() -> None:
    file = t.parse_thresholds(NAMED, known_perturbations=("fog_3d",))
    coarse, turn = file.perturbations
    assert (coarse.name, coarse.kornia, coarse.parameters) == (
        "coarse", "RandomPosterize", {"bits": [3, 3]},
    )  # fmt: skip
    assert coarse.where == "thresholds.toml:2"
    assert [step["degrees"] for step in turn.severities] == [[5, 5], [20, 20]]
    assert turn.envelope == {"degrees": (0.0, 45.0)}
    with pytest.raises(ClipRobustError, match=r"toml:15: unknown perturbation 'coarze'.*'coarse'"):
        t.parse_thresholds(
            NAMED.replace('perturbation = "coarse"', 'perturbation = "coarze"'),
            known_perturbations=("fog_3d",),
        )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kornia = "RandomPosterize"', 'korna = "RandomPosterize"', "toml:4: *Did you mean 'kornia'"),
        ('kornia = "RandomPosterize"\n', "", "toml:2: *lacks 'kornia'"),
        ('name = "coarse"\n', 'name = "so coarse"\n', "toml:3: name may hold letters"),
        ('name = "turn"', 'name = "coarse"', "toml:7: perturbation 'coarse' stands in *toml:2"),
        ("{ bits = [3, 3] }", "3", "toml:5: parameters must be a table"),
        ("[{ degrees = [5, 5] }, ", "[5, ", "toml:10: severities must be a list"),
        ("[0, 45]", "[0]", r"toml:11: envelope of 'degrees' must be \[mildest, strongest\]"),
        ("[0, 45]", '[0, "x"]', "toml:11: degrees must be a number"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_named_perturbation_has_its_line(old: str, new: str, message: str) -> None:
    with pytest.raises(ClipRobustError, match=message.replace("*", ".*")) as caught:
        t.parse_thresholds(NAMED.replace(old, new))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("RandomPosterize", "RandomPosterise", "toml:2: kornia *Did you mean 'RandomPosterize'"),
        ("bits =", "bit =", "toml:2: *no parameter 'bit'.*'bits'"),
        ("degrees = [20, 20]", 'degrees = "x"', "toml:7: *refused by kornia"),
        (
            'name = "turn"',
            'name = "gaussian_noise"',
            "toml:7: *'gaussian_noise' is registered already",
        ),
    ],
)
def test_what_kornia_does_not_know_is_one_line(old: str, new: str, message: str) -> None:
    from pytest_cliprobust.perturbations import registry

    file = t.parse_thresholds(NAMED.replace(old, new))
    with (
        registry.PERTURBATIONS.preserved(),
        pytest.raises(ClipRobustError, match=message.replace("*", ".*")) as caught,
    ):
        file.register_perturbations()
    assert "\n" not in str(caught.value)

"""Rules: which is the more specific, and what it matches."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from gating_helpers import HEAD, RULE, block, measure
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.rules import Rule, literal, matches, names_of_test


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
        rule = parse_thresholds(text).lookup(measure(severity=3))
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
            st.none(),
            st.integers(0, 5),
            st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True),
        ),
    }
)


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
    first, second = (parse_thresholds(HEAD + block(s)).rules[0] for s in (one, two))

    def names(rule: Rule, field: str) -> set[str]:
        return {n for n in NAMES if matches(rule.selectors.get(field, ()), n)}

    def subset(a: Rule, b: Rule) -> bool:
        levels = not b.severities or (a.severities and set(a.severities) <= set(b.severities))
        return bool(levels) and all(
            names(a, f) <= names(b, f) for f in ("suite", "dataset", "model")
        )

    # Globs that match the same names by chance ("a*" and "a?") are told apart by their text only.
    if subset(first, second) and not subset(second, first):
        globbed = [
            field
            for field in ("suite", "dataset", "model")
            if any(literal(p) is None for p in first.selectors.get(field, ()))
        ]
        if not globbed:
            assert first.specificity > second.specificity


@settings(max_examples=50, deadline=None)
@given(st.lists(SELECTORS, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_order_in_the_file_never_matters(selectors: list[dict[str, object]], random: Any) -> None:
    """Either the file is refused in every order, or every look-up is the same in every order."""
    blocks = [block(s) for s in selectors]
    shuffled = blocks[:]
    random.shuffle(shuffled)

    def outcomes(parts: list[str]) -> object:
        try:
            file = parse_thresholds(
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
            assert all(r is rule or r.specificity < rule.specificity for r in matching if rule)
        return [rule.id if rule else None for rule in found]

    assert outcomes(blocks) == outcomes(shuffled)


def test_names_with_wildcard_characters_can_be_escaped() -> None:
    file = parse_thresholds(RULE + 'model = "run[[]1]/epoch[*]"\nmax = 0.9\n')
    assert file.lookup(measure(model="run[1]/epoch*")) is not None
    assert file.lookup(measure(model="run[1]/epoch7")) is None
    assert file.rules[0].specificity.exact == 2


def test_profiles() -> None:
    text = RULE + 'max = 0.9\n[[threshold]]\nmetric = "ece"\nmax = 0.8\nprofile = "full"\n'

    def bound(profile: str | None) -> float | None:
        rule = parse_thresholds(text, profile=profile).lookup(measure())
        return rule.maximum if rule else None

    assert [bound(p) for p in (None, "quick", "full")] == [0.9, 0.9, 0.8]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({}, True),
        ({"dataset": ["clean", "sketch"]}, True),
        ({"dataset": "run[[]1]"}, True),
        ({"dataset": "cl*"}, False),
        ({"perturbation": ["fog", "sno?"]}, False),
        ({"suite": None}, False),
    ],
)
def test_a_rule_names_all_that_it_is_for(changed: dict[str, object], named: bool) -> None:
    names = {"suite": "calibration", "dataset": "clean", "perturbation": "fog", **changed}
    rule = parse_thresholds(HEAD + block(names)).rules[0]
    assert rule.names_all is named


def test_of_a_list_its_globs_decide_wherever_they_stand() -> None:
    """A list with a glob is a glob, of the shortest of them."""
    for patterns in (["clean", "sket*"], ["sket*", "clean"], ["zz*aa", "sket*", "clean"]):
        found = parse_thresholds(HEAD + block({"dataset": patterns})).rules[0].specificity
        assert (found.exact, found.lists, found.globs, found.characters) == (1, 0, 1, 4)
    both = {"dataset": ["a*", "b"], "model": "[xy]abc?", "suite": ["a", "b"], "severity": [1, 2, 3]}
    found = parse_thresholds(HEAD + block(both)).rules[0].specificity
    assert str(found) == "1 exact, 2 lists of 5 names, 2 globs (4 characters)"
    one = parse_thresholds(HEAD + block({"suite": ["a", "b"], "model": "m*"})).rules[0].specificity
    assert str(one) == "1 exact, 1 list of 2 names, 1 glob (1 characters)"


@pytest.mark.parametrize(
    ("severity", "said"),
    [
        (None, "1 exact"),
        (3, "2 exact"),
        ([3], "2 exact"),
        ([3, 4], "1 exact, 1 list of 2 names"),
        ([3, 4, 5], "1 exact, 1 list of 3 names"),
    ],
)
def test_one_severity_is_a_name_and_several_are_a_list(severity: Any, said: str) -> None:
    rule = parse_thresholds(HEAD + block({"severity": severity})).rules[0]
    assert str(rule.specificity) == said


def test_the_id_of_a_rule_keeps_brackets_as_they_are_written() -> None:
    """But for those in the name of a test, which are no glob's."""
    selectors = {"metric": ("ece",), "dataset": ("run[[]1]", "x"), "test": ("test_a[[]3]", "b")}
    rule = Rule(0, 1, "t.toml", selectors, severities=(1, 3))
    assert rule.id == "metric=ece dataset=run[[]1]|x test=test_a[3]|b severity=1|3"


def test_a_rule_with_lists_is_one_of_each_entry() -> None:
    selectors = {
        "metric": ("ece", "nll"),
        "suite": ("one", "two"),
        "dataset": ("clean",),
        "perturbation": ("fog", "snow", "rain"),
    }
    rule = Rule(0, 1, "t.toml", selectors, severities=(1, 3))
    told = [
        (one.selectors["metric"], one.selectors["perturbation"], one.severities)
        for one in rule.entries()
    ]
    whole = (selectors["metric"], selectors["perturbation"], (1, 3))
    assert told == [
        (("ece",), *whole[1:]),
        (("nll",), *whole[1:]),
        *((whole[0], (name,), whole[2]) for name in selectors["perturbation"]),
        *((*whole[:2], (severity,)) for severity in (1, 3)),
    ]
    assert all(one.selectors["suite"] == ("one", "two") for one in rule.entries())
    assert list(Rule(0, 1, "t.toml", {"metric": ("ece",)}, severities=(2,)).entries()) == []


def test_what_a_test_may_be_called() -> None:
    assert names_of_test("a/test_m.py::test_x[p-[1]]") == (
        *("test_x[p-[1]]", "test_x"),
        *("test_m.py::test_x[p-[1]]", "test_m.py::test_x"),
        *("a/test_m.py::test_x[p-[1]]", "a/test_m.py::test_x"),
    )
    assert names_of_test("test_m.py::Case::test_x") == (
        *("Case::test_x", "test_m.py::Case::test_x", "test_m.py::Case::test_x"),
    )

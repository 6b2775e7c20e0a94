"""Why a bound that could have judged in a run met no figure: what was measured instead, what is near."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pytest_cliprobust.errors import did_you_mean
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.rules import Rule, literal, matches
from pytest_cliprobust.gating.vocabulary import folded, is_slip, slip_of

#: So many names are listed in a line.
_LISTED = 12

#: What a rule can miss, with what is said of it; severities come after these.
_FIELDS = {
    "metric": "measures",
    "dataset": "was measured on the data sets",
    "perturbation": "measured the perturbations",
}


def reason(rule: Rule, measured: Sequence[Measurement]) -> str:
    """Return what the rule's suites measured instead; empty if narrower rules took all its figures."""
    found = list(measured)
    if not found:
        return "its suite measured nothing"
    for name, verb in _FIELDS.items():
        patterns = rule.selectors.get(name, ())
        kept = [m for m in found if matches(patterns, getattr(m, name))]
        if not kept:
            return _missed(patterns, name, verb, found)
        found = kept
    if rule.severities:
        had = sorted({m.severity for m in found if m.severity is not None})
        if not set(had) & set(rule.severities):
            told = ", ".join(map(str, had))
            return f"measured were severities {told}" if had else "it was measured at no severity"
    return ""


def _missed(patterns: tuple[str, ...], name: str, verb: str, found: Sequence[Measurement]) -> str:
    known = list(dict.fromkeys(getattr(m, name) for m in found))
    suites = " or ".join(dict.fromkeys(m.suite for m in found))
    more = "" if len(known) <= _LISTED else f", and {len(known) - _LISTED} more"
    exact = literal(patterns[0])
    hint = did_you_mean(exact, known) if exact is not None else ""
    return f"suite {suites} {verb} {', '.join(known[:_LISTED])}{more}.{hint}"


# --- Models and data that are near -----------------------------------------------------------------


def slip_of_a_model(rule: Rule, tested: Sequence[str], known: Collection[str]) -> str:
    """Return which tested model the rule is nearly for; empty if it is for another one."""
    for pattern in rule.selectors.get("model", ()):
        for name in tested:
            if _nearly_a_model(pattern, name, known):
                return f"the model under test is {name!r}, not {pattern!r}"
    return ""


def _nearly_a_model(pattern: str, name: str, known: Collection[str]) -> bool:
    exact = literal(pattern)
    if exact is None:
        return slip_of(pattern, (name,)) is not None
    # ViT-B-32 for ViT-B-32/laion2b_s34b_b79k: the same architecture with its default weights.
    if folded(name).startswith(f"{folded(exact)}/"):
        return True
    return exact not in known and is_slip(exact, name)


def is_for_other_data(
    rule: Rule,
    measured: Collection[str],
    own: Collection[str],
    *,
    replaced: bool,
    published: Collection[str] = (),
) -> bool:
    """Return whether a rule is for data that was no part of the run, and no near miss of what was."""
    patterns = rule.selectors.get("dataset", ())
    if any(matches(patterns, name) for name in measured) or not patterns:
        return False
    if replaced and all(pattern.partition(":")[0] in own for pattern in patterns):
        return True
    for pattern in patterns:
        head, colon, tail = pattern.partition(":")
        if head in published and not any(name.partition(":")[0] == head for name in measured):
            continue
        if not colon or (head in own and not replaced):
            return False
        # Another folder of the user's is other data; one that differs in a letter is a slip.
        ends = (name.partition(":")[2] for name in measured)
        if any(end and is_slip(tail, end, max(1, len(end) // 3)) for end in ends):
            return False
    return True


# --- Tests -----------------------------------------------------------------------------------------


def names_of(rule: Rule) -> Iterator[str]:
    """Yield the perturbation and the data set that a rule names, by which tests are told apart."""
    for name in ("perturbation", "dataset"):
        patterns = rule.selectors.get(name, ())
        exact = literal(patterns[0]) if len(patterns) == 1 else None
        if exact is not None and exact != "clean":
            yield exact


def mentions(tests: Iterable[str], name: str) -> bool:
    """Return whether any test has ``name`` among its parameters."""
    word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
    return any(word.search(test.partition("[")[2]) for test in tests)


@dataclass
class Declared:
    """What the file of a suite says that it measures in other profiles only.

    Attributes:
        perturbations: by name.
        severities: 1 to 5; empty where they are the same in all profiles.
    """

    perturbations: set[str] = field(default_factory=set)
    severities: set[int] = field(default_factory=set)


def is_in_another_profile(rule: Rule, declared: Declared, measured: Sequence[Measurement]) -> bool:
    """Return whether a rule is for what its suite measures in other profiles only.

    That is a perturbation, or a severity of one that was measured.

    Args:
        rule: that no figure met.
        declared: what the suite's file says that it measures in other profiles only.
        measured: what it measured in this one.
    """
    patterns = rule.selectors.get("perturbation", ())
    # A mean over some severities is called as in "aspect_squash@1+3+5".
    patterns = (*patterns, *(pattern.partition("@")[0] for pattern in patterns))
    left_out = declared.perturbations - {m.perturbation for m in measured}
    if patterns and any(matches(patterns, name) for name in left_out):
        return True
    had = {m.severity for m in measured if matches(patterns, m.perturbation)}
    elsewhere = declared.severities - had
    return bool(had) and bool(rule.severities) and elsewhere.issuperset(rule.severities)

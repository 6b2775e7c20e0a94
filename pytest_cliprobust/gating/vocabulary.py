"""What a threshold file's names may be: checks of rules against what is known.

The one place of gating that reads the table of metrics.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pytest_cliprobust.errors import ClipRobustError, did_you_mean
from pytest_cliprobust.figures.metrics import METRICS, Metric
from pytest_cliprobust.files import is_path, own_name
from pytest_cliprobust.gating.limits import (
    chance_text,
    weaker_than_chance,
    why_not_gated,
    why_useless,
)
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.rules import FIELDS, Kind, Rule, Specificity, literal, matches

#: Names of one field, which may be globs where they are open-ended ("imagefolder:*"); None: unchecked.
Vocabulary = Iterable[str] | None

Direction = Literal["higher", "lower", "neither"]

#: So many names are listed in a message; more would hide what it says.
_LISTED = 12


# --- Metrics ---------------------------------------------------------------------------------------


def known_metrics() -> tuple[str, ...]:
    """Return the names (and globs of families) of the metrics registered so far."""
    return tuple(METRICS)


def metric_range(name: str) -> tuple[float, float]:
    """Return the values that a metric cannot leave; infinite where it can, or is unknown."""
    metric = METRICS.find(name)
    low = None if metric is None else metric.low
    high = None if metric is None else metric.high
    return -math.inf if low is None else low, math.inf if high is None else high


def direction(name: str) -> Direction:
    """Return which way is better, and so which bound recording writes (min, max, or both).

    Raises:
        ClipRobustError: the metric is unknown.
    """
    better = METRICS.named(name).higher_is_better
    if better is None:
        return "neither"
    return "higher" if better else "lower"


# --- Known names -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """What is known when a file is read.

    Attributes:
        names: by field; a field that is missing here is not checked.
        metrics_of: by suite, the metrics that it measures; may be empty.
        elsewhere: suites that are there, but no part of this run: their names are no slips.
    """

    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    metrics_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        *,
        suites: Vocabulary = None,
        metrics: Vocabulary | Mapping[str, Iterable[str]] = None,
        datasets: Vocabulary = None,
        perturbations: Vocabulary = None,
        models: Vocabulary = None,
        profiles: Vocabulary = None,
        elsewhere: Iterable[str] = (),
    ) -> Known:
        """Return the vocabularies; metrics may be a mapping from suite to its metrics."""
        metrics_of: dict[str, tuple[str, ...]] = {}
        if isinstance(metrics, Mapping):
            metrics_of = {suite: tuple(names) for suite, names in metrics.items()}
            metrics = tuple(dict.fromkeys(n for names in metrics_of.values() for n in names))
            suites = tuple(metrics_of) if suites is None else suites
        offered: dict[str, Vocabulary] = {
            "suite": suites,
            "metric": known_metrics() if metrics is None else metrics,
            "dataset": datasets,
            "perturbation": perturbations,
            "model": models,
            "profile": profiles,
        }
        names = {key: tuple(given) for key, given in offered.items() if given is not None}
        return cls(names, metrics_of, frozenset(elsewhere))


def check(rules: Sequence[Rule], known: Known) -> None:
    """Check rules against what is known.

    Raises:
        ClipRobustError: a name that is unknown, a bound on the good side, or one that no model misses,
            two rules of which neither is the more specific.
    """
    check_names(rules, known)
    for rule in rules:
        for pattern in rule.selectors["metric"]:
            found = _metrics_of(pattern)
            for metric in found:
                _check_gateable(rule, pattern, metric)
                _check_direction(rule, pattern, metric, among=found)
                _check_limits(rule, metric)
    for rank in dict.fromkeys(rule.rank for rule in rules):
        _check_ties([rule for rule in rules if rule.rank == rank], known)


def check_names(rules: Iterable[Rule], known: Known) -> None:
    """Check what rules select, and not their bounds.

    Raises:
        ClipRobustError: a name that is unknown, or a metric that the suites of a rule do not measure.
    """
    for rule in rules:
        _check_names(rule, known)
        _check_suite_measures(rule, known)


def _knows(vocabulary: tuple[str, ...], pattern: str) -> bool:
    """Whether ``pattern`` can match a name of ``vocabulary``, whose entries may be globs too."""
    exact = literal(pattern)
    if exact is not None:
        return any(exact == name or fnmatch.fnmatchcase(exact, name) for name in vocabulary)
    return any(
        fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(pattern, name)
        for name in vocabulary
    )


def _check_names(rule: Rule, known: Known) -> None:
    elsewhere = _is_for_other_suites(rule, known)
    for name, patterns in rule.selectors.items():
        vocabulary = known.names.get(name)
        # What other suites measure, and on what, is not known here.
        if vocabulary is None or (elsewhere and name in ("metric", "dataset", "perturbation")):
            continue
        for pattern in patterns:
            if _knows(vocabulary, pattern) or (name == "suite" and pattern in known.elsewhere):
                continue
            _check_form(rule, name, pattern, vocabulary)
            if name == "model" and not _nearly_a_model(pattern, vocabulary):
                continue  # another model of the user's, who calls it what they like
            if name != "suite" or slip_of(pattern, vocabulary):
                raise _unknown(rule, name, pattern, vocabulary)


def _check_form(rule: Rule, name: str, pattern: str, known: tuple[str, ...]) -> None:
    """Refuse what is written as the command line has it, where a rule has a name."""
    exact = literal(pattern)
    if name == "model" and exact is not None and is_path(exact):
        raise ClipRobustError(
            f"{rule.where_of(name)}: model {exact!r} is a path, and models go by names that are the same "
            f"everywhere; write {own_name(exact)!r}"
        )
    plain = pattern.removesuffix(".py").removeprefix("test_")
    if name == "suite" and plain != pattern and any(plain == suite for suite in known):
        raise ClipRobustError(
            f"{rule.where_of(name)}: the suite of test_{plain}.py is called {plain!r}, not {pattern!r}"
        )


def _nearly_a_model(pattern: str, known: tuple[str, ...]) -> bool:
    exact = literal(pattern)
    if exact is None:
        return slip_of(pattern, known) is not None
    return any(is_slip(exact, name) for name in known)


def _unknown(rule: Rule, name: str, pattern: str, known: tuple[str, ...]) -> ClipRobustError:
    exact = literal(pattern)
    meant = slip_of(pattern, known) if name == "suite" else None
    hint = f" Did you mean {meant!r}?" if meant else ""
    if not hint and exact is not None:
        hint = did_you_mean(exact, known)
    if not hint and len(known) <= _LISTED:
        hint = f" Known: {', '.join(known)}"
    if exact is None:
        text = f"{name} {pattern!r} matches no known {name}.{hint}"
    else:
        text = f"unknown {name} {exact!r}.{hint}"
    return ClipRobustError(f"{rule.where_of(name)}: {text}")


def _is_for_other_suites(rule: Rule, known: Known) -> bool:
    """Whether none of the suites that the rule names is part of this run."""
    suites, patterns = known.names.get("suite"), rule.selectors.get("suite")
    return (
        suites is not None and patterns is not None and not any(_knows(suites, p) for p in patterns)
    )


def _check_suite_measures(rule: Rule, known: Known) -> None:
    """A metric that the selected suites do not measure is never looked up."""
    if not known.metrics_of or _is_for_other_suites(rule, known):
        return
    suites = [s for s in known.metrics_of if matches(rule.selectors.get("suite", ()), s)]
    if any(
        _knows(known.metrics_of[s], pattern) for s in suites for pattern in rule.selectors["metric"]
    ):
        return
    wanted = " or ".join(map(repr, rule.selectors["metric"]))
    measured = sorted({name for suite in suites for name in known.metrics_of[suite]})
    raise ClipRobustError(
        f"{rule.where_of('metric')}: suite {' or '.join(suites)} does not measure {wanted}, "
        f"only {', '.join(measured)}"
    )


# --- Slips -----------------------------------------------------------------------------------------

#: Of names so short a letter after a number makes another version, and of longer ones it is a slip.
_SHORT = 8

#: Cyrillic letters that look like Latin ones.
_LOOKALIKES = str.maketrans("асеорхуі", "aceopxyi")


def slip_of(pattern: str, names: Iterable[str]) -> str | None:
    """Return the name that ``pattern`` is a slip of: another case, a letter or two wrong or swapped.

    Much stricter than :func:`~pytest_cliprobust.errors.did_you_mean`: a suite of one's own may be
    called much like a shipped one (``my_accuracy``). Of a glob its beginning is looked at.
    """
    wanted = folded(pattern)
    if literal(pattern) is not None:
        return next((n for n in names if _near(wanted, folded(n))), None)
    head = re.split(r"[*?\[]", wanted, maxsplit=1)[0]
    for name in names:
        known = folded(name)
        if fnmatch.fnmatchcase(known, wanted):
            return name
        if len(head) > 2 and _near(head, known[: len(head)]):
            return name
    return None


def is_slip(one: str, two: str, most: int = 2) -> bool:
    """Return whether names of models or data differ by a letter or two, but not as two things' would.

    Versions and sizes (``v1``, ``v2`` and ``v2b``, ``ViT-B`` and ``ViT-L``) are two things, and so is a name
    with a word more (``dev``, ``dev2`` and ``dev-b``). Of short names one letter counts.
    """
    short, long = sorted((folded(one), folded(two)), key=len)
    mine, theirs = (re.findall(r"[a-z]+|\d+", name) for name in (short, long))
    if len(mine) == len(theirs):
        pairs = [(a, b) for a, b in zip(mine, theirs, strict=True) if a != b]
        if pairs and all(_variants(a, b) for a, b in pairs):
            return False
    more = long.removeprefix(short) if long.startswith(short) else ""
    if re.fullmatch(r"[_.]\w+|\d+", more) or (
        len(short) <= _SHORT and short[-1:].isdigit() and re.fullmatch(r"[a-z]", more)
    ):
        return False
    return letters_apart(short, long) <= (most if len(short) > 4 else min(most, 1))


def _variants(one: str, two: str) -> bool:
    """Whether two words are a size or a version each: ``b`` and ``l``, ``16`` and ``32``."""
    return sorted(one) != sorted(two) and (
        len(one) == len(two) == 1 or (one.isdigit() and two.isdigit())
    )


def _near(one: str, two: str) -> bool:
    return letters_apart(one, two) <= max(1, len(two) // 4)


def folded(name: str) -> str:
    """Return a name without what slips change most: case, blanks, hyphens, letters of other alphabets."""
    return name.strip().casefold().translate(_LOOKALIKES).replace("-", "_").replace(" ", "_")


def letters_apart(one: str, two: str) -> int:
    """Return how many letters must be changed, left out, put in or swapped with their neighbour."""
    before: list[int] = []
    row = list(range(len(two) + 1))
    for i, a in enumerate(one, 1):
        last, row = row, [i]
        for j, b in enumerate(two, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == two[j - 2] and b == one[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before = last
    return row[-1]


# --- Bounds that gate nothing ----------------------------------------------------------------------


def _metrics_of(pattern: str) -> list[Metric]:
    """Return the registered metrics that a pattern means, as far as they are known."""
    exact = literal(pattern)
    if exact is not None:
        metric = METRICS.find(exact)
        return [] if metric is None else [metric]
    return [
        metric
        for name, metric in METRICS.items()
        if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(pattern, name)
    ]


def _check_direction(rule: Rule, pattern: str, metric: Metric, among: Sequence[Metric]) -> None:
    """A lone bound on the good side gates nothing, and is what a slip of min and max looks like."""
    if metric.higher_is_better is None:
        return
    for wrong, right in _opposites(metric.higher_is_better):
        if wrong in rule.bounds and right not in rule.bounds:
            agreed = len({other.higher_is_better for other in among}) == 1
            name = pattern if agreed else f"{metric.name}, of {pattern!r},"
            raise ClipRobustError(
                f"{rule.where_of(wrong)}: {name} is better when "
                f"{'higher' if metric.higher_is_better else 'lower'}: {wrong} alone would fail good "
                f"models and pass bad ones; write {right}"
            )


def _check_gateable(rule: Rule, pattern: str, metric: Metric) -> None:
    """A figure whose interval misses the truth too often is reported, and judged by no bound."""
    for kind in rule.bounds:
        why = why_not_gated(metric, kind)
        if why:
            meant = f"{metric.name}, of {pattern!r}," if literal(pattern) is None else pattern
            raise ClipRobustError(f"{rule.where_of(kind)}: {meant} cannot have a {kind}: {why}")


def _check_limits(rule: Rule, metric: Metric) -> None:
    """A bound that no model misses, or none meets, is a slip; one weaker than chance needs a reason."""
    for kind, limit in rule.bounds.items():
        why = why_useless(metric, kind, limit)
        if why:
            raise ClipRobustError(
                f"{rule.where_of(kind)}: {kind} {limit:.12g} gates nothing, {why}; write the bound "
                "that a bad model would miss"
            )
        chance = weaker_than_chance(metric, kind, limit)
        if chance is not None and not rule.because:
            raise ClipRobustError(
                f"{rule.where_of(kind)}: {kind} {limit:.12g} of {metric.name} is "
                f"{chance_text(chance)}"
            )


def check_chance(rule: Rule, measurement: Measurement, classes: Callable[[], int]) -> None:
    """Check the bounds of a rule against what guessing among the classes reaches.

    Raises:
        ClipRobustError: one is weaker, and the rule gives no reason.
    """
    metric = METRICS.find(measurement.metric)
    if metric is None or not callable(metric.chance) or rule.because:
        return
    for kind, limit in rule.bounds.items():
        chance = weaker_than_chance(metric, kind, limit, classes())
        if chance is not None:
            raise ClipRobustError(
                f"{rule.where_of(kind)}: {kind} {limit:.12g} of {metric.name} is "
                f"{chance_text(chance)}"
            )


def _opposites(higher_is_better: bool) -> Iterator[tuple[Kind, Kind]]:
    """Yield (bound on the good side, the one that was meant)."""
    if higher_is_better:
        yield from (("max", "min"), ("max_increase", "max_decrease"))
    else:
        yield from (("min", "max"), ("max_decrease", "max_increase"))


# --- Ties ------------------------------------------------------------------------------------------


def tie(first: Rule, second: Rule, example: str) -> ClipRobustError:
    """Return the error for two rules that are equally specific and match the same."""
    first, second = sorted((first, second), key=lambda rule: rule.index)
    return ClipRobustError(
        f"{second.where}: [{second.id}] and [{first.id}] of line {first.line} are equally specific "
        f"and both match {example}; make one of them narrower"
    )


def _check_ties(rules: Sequence[Rule], known: Known) -> None:
    """Find equally specific rules that overlap before hours of measuring, not after them."""
    seen: dict[str, Rule] = {}
    groups: dict[Specificity, dict[tuple[str, ...], list[Rule]]] = {}
    for rule in rules:
        if rule.id in seen:
            raise ClipRobustError(
                f"{rule.where}: [{rule.id}] has a rule already, in line {seen[rule.id].line}; "
                "keep one of them"
            )
        seen[rule.id] = rule
        fields = (*rule.selectors, *(("severity",) if rule.severities else ()))
        groups.setdefault(rule.specificity, {}).setdefault(tuple(sorted(fields)), []).append(rule)
    for specificity, shapes in groups.items():
        for first, second in _candidates(specificity, list(shapes.values())):
            if _overlap(first, second, known):
                raise tie(first, second, "the same measurements")


def _candidates(
    specificity: Specificity, shapes: Sequence[Sequence[Rule]]
) -> Iterator[tuple[Rule, Rule]]:
    """Yield the pairs of equally specific rules that may overlap; ``shapes`` by the fields named."""
    # Exact rules over the same fields overlap only if they are the same, which is ruled out before:
    # recorded files have thousands of them.
    plain = specificity.lists == 0 and specificity.globs == 0
    for position, one in enumerate(shapes):
        for others in shapes[position + plain :]:
            for first in one:
                for second in others:
                    if others is not one or first.index < second.index:
                        yield first, second


def _overlap(first: Rule, second: Rule, known: Known) -> bool:
    """Whether both selectors can match one measurement, as far as the vocabularies tell."""
    if known.metrics_of and not _measured_by_one_suite(first, second, known):
        return False
    one, two = set(first.severities), set(second.severities)
    if one and two and not one & two:
        return False
    return all(
        _share_a_name(
            first.selectors.get(name, ()), second.selectors.get(name, ()), known.names.get(name, ())
        )
        for name in FIELDS
    )


def _measured_by_one_suite(first: Rule, second: Rule, known: Known) -> bool:
    pair = (first, second)
    return any(
        all(matches(rule.selectors.get("suite", ()), suite) for rule in pair)
        and any(all(matches(rule.selectors["metric"], name) for rule in pair) for name in names)
        for suite, names in known.metrics_of.items()
    )


def _share_a_name(one: tuple[str, ...], two: tuple[str, ...], known: tuple[str, ...]) -> bool:
    if not one or not two or one == two:
        return True
    names = {literal(pattern) for pattern in (*one, *two, *known)}
    return any(matches(one, n) and matches(two, n) for n in names if n is not None)

"""Subgroups: does a model serve some of them worse than others?

For a column of the data (drawing style, super-category, skin tone …): the group that fares worst (Sagawa et
al. 2020), the gap between the best and the worst, and a test of whether all have the same error rate.

A worst group of three pictures, all wrong, is published as 0.0000. Here every group has its n and its
interval, and a group of fewer than :data:`MINIMUM` units is no candidate for the worst or the best: it is
named beside the figure, with an interval that says how little is known of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pytest_cliprobust.errors import NotRun
from pytest_cliprobust.figures.arrays import Bools, Floats, Ints, as_correct, distinct_groups
from pytest_cliprobust.figures.bootstrap import (
    DEFAULT,
    Bootstrap,
    ends_of_share,
    figure_of_ends,
    proportion_figure,
)
from pytest_cliprobust.figures.ends import Compared, Ends, EndsAt
from pytest_cliprobust.figures.extremes import compare_extremes, extreme_ends
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.means import codes_of
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.outcomes import Outcomes, mean, ratio, sums
from pytest_cliprobust.figures.samples import Samples
from pytest_cliprobust.properties.accuracy import worst_group_accuracy
from pytest_cliprobust.properties.calibration import calibration_figures

#: Units (drawings, people; samples where the data knows none) that a group needs to be the worst or the best.
MINIMUM = 20

#: Permutations of the test of equal error rates, and how many numbers they may be made of.
PERMUTATIONS = 9_999
_NUMBERS = 50_000_000


def accuracy_over(samples: Samples, column: str, *, minimum: int = MINIMUM) -> list[Figure]:
    """Return ``worst_group_accuracy`` and ``group_accuracy_gap`` over the groups of a column.

    They are filed as the part of the data set that the column names (``clean:style``).

    Raises:
        NotRun: fewer than two groups have ``minimum`` units, or the data lacks the column.
    """
    figures = accuracy_figures(
        samples.correct, _column(samples, column), minimum=minimum, bootstrap=samples.bootstrap
    )
    condition = samples.condition.part(column)
    return [figure.measured_on(condition) for figure in figures.values()]


def calibration_over(samples: Samples, column: str, *, minimum: int = MINIMUM) -> list[Figure]:
    """Return ``worst_group_ece`` and ``group_confidence_gap`` over the groups of a column.

    Raises:
        NotRun: as for :func:`accuracy_over`.
    """
    figures = calibration_by_group(
        samples.logits,
        samples.labels,
        _column(samples, column),
        minimum=minimum,
        bootstrap=samples.bootstrap,
    )
    condition = samples.condition.part(column)
    return [figure.measured_on(condition) for figure in figures.values()]


def _column(samples: Samples, column: str) -> tuple[str, ...]:
    if column not in samples.groups:
        known = ", ".join(samples.groups) or "none"
        raise NotRun(f"{samples.condition} has no column {column!r} of groups; it has {known}")
    return samples.groups[column]


@dataclass(frozen=True)
class _Split:
    """The groups of a column.

    Attributes:
        large: rows by group, of those with enough units.
        small: those with fewer.
        rows: (M,) the rows of all large groups, in order.
        settings: for those rows.
        note: names the small groups, for the figures' ``method``; empty without any.
    """

    large: Mapping[str, Ints]
    small: Mapping[str, Ints]
    rows: Ints
    settings: Bootstrap

    def within(self, index: Ints) -> Ints:
        """Return where the rows of a large group stand among those of all large ones."""
        return np.searchsorted(self.rows, index).astype(np.int64)


def _split(groups: Sequence[str], count: int, minimum: int, bootstrap: Bootstrap) -> _Split:
    rows = distinct_groups(groups, count, "groups")
    sizes = {name: bootstrap.subset(index).units(len(index)) for name, index in rows.items()}
    large = {name: index for name, index in rows.items() if sizes[name] >= minimum}
    if len(large) < 2:
        kind = "sample" if bootstrap.keys is None else bootstrap.keys.kind
        raise NotRun(
            f"subgroups need two groups of at least {minimum} {kind}s to be compared, and "
            f"{len(large)} of {len(rows)} have as many"
        )
    every = np.sort(np.concatenate(list(large.values())))
    return _Split(
        large,
        {name: index for name, index in rows.items() if name not in large},
        every,
        bootstrap.subset(every),
    )


@register_metric(
    "group_accuracy_gap",
    higher_is_better=False,
    meaning="accuracy of the best group minus that of the worst",
)
def accuracy_figures(
    correct: ArrayLike,
    groups: Sequence[str],
    *,
    minimum: int = MINIMUM,
    permutations: int = PERMUTATIONS,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Figure]:
    """Return ``worst_group_accuracy`` and ``group_accuracy_gap``, best minus worst, in [0, 1].

    Noise alone sets groups apart: the worst measures too low, and the gap too large. The intervals are
    simultaneous over the groups, and hold the true worst and the true gap, whichever groups those are of.

    The details hold, by group, accuracy, interval, n and units; ``small`` those of the groups left out; and
    the gap's ``equal`` a test of whether all groups have one error rate (:func:`equal_error_rates`).

    Args:
        correct: (N,) bool.
        groups: (N,) group of each sample.
        minimum: units that a group needs to be compared.
        permutations: of the test of equal error rates, at most.
        bootstrap: interval settings.

    Raises:
        NotRun: fewer than two groups have as many units.
    """
    right = as_correct(correct, "answers")
    split = _split(groups, len(right), minimum, bootstrap)
    parts = {
        name: proportion_figure("accuracy", right[index], bootstrap.subset(index))
        for name, index in {**split.large, **split.small}.items()
    }
    values = {name: parts[name].value for name in split.large}
    details = _details(parts, split, "accuracy")
    note = _note(parts, split, minimum)
    names = [groups[row] for row in split.rows]
    worst = worst_group_accuracy(right[split.rows], names, bootstrap=split.settings)
    gap = _gap_figure(
        "group_accuracy_gap",
        values,
        [ends_of_share(parts[name]) for name in split.large],
        Outcomes({"value": right[split.rows]}, _gap, attributes={"group": _codes(split)}),
        split,
        f"Wilson, simultaneous over {len(values)} groups",
        bounds=(0.0, 1.0),
        effect=max(parts[name].design_effect for name in split.large),
    )
    test = equal_error_rates(
        right[split.rows], names, permutations=permutations, bootstrap=split.settings
    )
    figures = [
        replace(worst, details={**worst.details, **details}, method=worst.method + note),
        replace(
            gap,
            details={**gap.details, **details, "equal": test},
            method=f"{gap.method}; equal error rates: p = {test['p_value']:.2g}{note}",
        ),
    ]
    return {figure.metric: figure for figure in figures}


@register_metric(
    "worst_group_ece",
    higher_is_better=False,
    meaning="calibration error of the group with the largest one",
    change_gateable=False,
    why_not_gateable="of small groups it is mostly bias, which no change can be told from; bound the change "
    "of group_confidence_gap",
)
@register_metric(
    "group_confidence_gap",
    higher_is_better=False,
    meaning="largest minus least over-confidence of a group",
    high=2.0,
)
def calibration_by_group(
    logits: ArrayLike,
    labels: ArrayLike,
    groups: Sequence[str],
    *,
    minimum: int = MINIMUM,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Figure]:
    """Return ``worst_group_ece`` and ``group_confidence_gap``.

    ``worst_group_ece``
        the largest ECE of a group. ECE of few samples is biased upwards; the interval allows for that;
    ``group_confidence_gap``
        over-confidence (mean confidence minus accuracy) of the group with the largest minus that of the
        one with the least, in [0, 2]: confidence that means one thing for some and another for others.

    Args:
        logits: (N, C) at the model's own logit scale.
        labels: (N,) class indices.
        groups: (N,) group of each sample.
        minimum: units that a group needs to be compared.
        bootstrap: interval settings.

    Raises:
        NotRun: fewer than two groups have as many units.
    """
    scores, truth = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    split = _split(groups, len(truth), minimum, bootstrap)
    found = {
        name: calibration_figures(scores[index], truth[index], bootstrap=bootstrap.subset(index))
        for name, index in {**split.large, **split.small}.items()
    }
    ece = {name: figures["ece"] for name, figures in found.items()}
    over = {name: figures["signed_gap"] for name, figures in found.items()}
    values = np.zeros(len(truth))
    for name, index in split.large.items():
        outcomes = over[name].outcomes
        assert outcomes is not None
        values[index] = next(iter(outcomes.columns.values()))
    largest = {name: ece[name].value for name in split.large}
    worst = max(largest, key=lambda name: largest[name])
    figures = [
        figure_of_ends(
            "worst_group_ece",
            largest[worst],
            extreme_ends([_at(ece[name]) for name in split.large], largest=True),
            Outcomes({"value": values[split.rows]}, mean),
            split.settings,
            IntervalMethod.SIMULTANEOUS,
            f"t, with the bins' bias, simultaneous over {len(largest)} groups",
            bounds=(0.0, 1.0),
            details={"worst": worst, **_details(ece, split, "ece")},
            effect=ece[worst].design_effect,
            comparable=False,
        ),
        _gap_figure(
            "group_confidence_gap",
            {name: over[name].value for name in split.large},
            [_at(over[name]) for name in split.large],
            Outcomes({"value": values[split.rows]}, _gap, attributes={"group": _codes(split)}),
            split,
            f"t, skewness corrected, simultaneous over {len(largest)} groups",
            bounds=(0.0, 2.0),
            effect=max(over[name].design_effect for name in split.large),
            details=_details(over, split, "signed_gap"),
        ),
    ]
    notes = [_note(parts, split, minimum) for parts in (ece, over)]
    return {
        figure.metric: replace(figure, method=figure.method + note)
        for figure, note in zip(figures, notes, strict=True)
    }


# --- The gap -----------------------------------------------------------------------------------------


def _gap_figure(
    metric: str,
    values: Mapping[str, float],
    parts: Sequence[EndsAt],
    outcomes: Outcomes,
    split: _Split,
    method: str,
    *,
    bounds: tuple[float, float],
    effect: float,
    details: Mapping[str, Any] | None = None,
) -> Figure:
    """Return the largest minus the least of several, with an interval simultaneous over them."""
    most, least = extreme_ends(parts, largest=True), extreme_ends(parts)

    def at(tails: Floats) -> tuple[Floats, Floats]:
        (high_low, high_high), (low_low, low_high) = most(tails), least(tails)
        return high_low - low_high, high_high - low_low

    best, worst = (choose(values, key=lambda name: values[name]) for choose in (max, min))
    return figure_of_ends(
        metric,
        values[best] - values[worst],
        at,
        replace(outcomes, compare=_compare_gap),
        split.settings,
        IntervalMethod.SIMULTANEOUS,
        method,
        bounds=bounds,
        details={"best": best, "worst": worst, **(details or {})},
        effect=effect,
    )


def _gap(weights: Floats, outcomes: Outcomes) -> Floats:
    """Return the largest minus the least mean of a group (R,)."""
    members = (outcomes["group"][:, None] == np.unique(outcomes["group"])).astype(np.float64)
    shares = ratio(sums(weights, members * outcomes["value"][:, None]), sums(weights, members))
    return np.asarray(np.nanmax(shares, axis=1) - np.nanmin(shares, axis=1))


def _compare_gap(before: Outcomes, after: Outcomes) -> Compared:
    """Return the change of the gap: that of the largest minus that of the least, both at half the chance."""
    groups, codes = after["group"], codes_of(after.keys)
    rows = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    then, now = (
        [side["value"][index].astype(np.float64) for index in rows] for side in (before, after)
    )
    units = [None if codes is None else codes[index] for index in rows]
    most = compare_extremes(then, now, units, largest=True)
    least = compare_extremes(then, now, units)

    def at(tails: Floats) -> tuple[Floats, Floats]:
        (high_low, high_high), (low_low, low_high) = (
            _read(side.ends, tails / 2.0) for side in (most, least)
        )
        return high_low - low_high, high_high - low_low

    return Compared(
        most.difference - least.difference,
        Ends.of(at),
        float(np.hypot(most.standard_error, least.standard_error)),
        max(most.design_effect, least.design_effect),
    )


def _read(ends: Ends, tails: Floats) -> tuple[Floats, Floats]:
    """Return the ends of a curve that leave out ``tails`` (L,) on either side."""
    found = [ends.at(1.0 - 2.0 * float(tail)) for tail in tails]
    return np.array([end.low for end in found]), np.array([end.high for end in found])


def _at(figure: Figure) -> EndsAt:
    """Return the ends of a figure that keeps them at every level."""
    assert figure.ends is not None
    return partial(_read, figure.ends)


def _codes(split: _Split) -> Ints:
    """Return the number of the group of each row of the large ones (M,)."""
    codes = np.zeros(len(split.rows), dtype=np.int64)
    for number, index in enumerate(split.large.values()):
        codes[split.within(index)] = number
    return codes


# --- What is said of each group ----------------------------------------------------------------------


def _details(parts: Mapping[str, Figure], split: _Split, word: str) -> dict[str, Any]:
    """Return value, interval, n and units of every group, the small ones apart."""

    def of(names: Mapping[str, Ints]) -> dict[str, Any]:
        return {
            name: {
                word: parts[name].value,
                "low": parts[name].low,
                "high": parts[name].high,
                "n": parts[name].n,
                "units": parts[name].units,
            }
            for name in names
        }

    return {"groups": of(split.large), "small": of(split.small)}


def _note(parts: Mapping[str, Figure], split: _Split, minimum: int) -> str:
    """Return a clause that names the small groups; empty without any."""
    if not split.small:
        return ""
    keys = split.settings.keys
    kind = "sample" if keys is None else keys.kind
    told = ", ".join(
        f"{name} {parts[name].interval_text()}, n = {parts[name].n}" for name in split.small
    )
    return f"; left out, of fewer than {minimum} {kind}s: {told}"


# --- Equal error rates -------------------------------------------------------------------------------


def equal_error_rates(
    correct: ArrayLike,
    groups: Sequence[str],
    *,
    permutations: int = PERMUTATIONS,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Any]:
    """Test whether all groups have the same error rate, by permutation of units.

    The statistic is Pearson's chi-square of the table of groups and answers. Its distribution, if groups
    make no difference, is that over random assignments of whole units to groups (Phipson & Smyth 2010 for
    the p-value, which is never 0). Where units lie in several groups, the samples' groups are exchanged
    within units only.

    Args:
        correct: (N,) bool.
        groups: (N,) group of each sample.
        permutations: so many at most; fewer where there are very many units.
        bootstrap: its seed, and the samples' keys.

    Returns:
        ``chi2``, ``p_value``, ``permutations``, and ``of``, what was permuted. JSON-able.
    """
    right = as_correct(correct, "answers")
    names, group = np.unique(np.asarray(groups, dtype=object), return_inverse=True)
    keys = bootstrap.keys
    units = np.arange(len(right)) if keys is None else keys.codes
    crossed = len(np.unique(np.stack([units, group]), axis=1)[0]) > len(np.unique(units))
    count = len(right) if crossed else int(units.max()) + 1
    number = int(min(permutations, max(199, _NUMBERS // max(1, count))))
    generator = np.random.default_rng([bootstrap.seed, 2])
    permuted = _within_units if crossed else _whole_units
    statistics = permuted(~right, group.astype(np.int64), units, len(names), number, generator)
    own = _chi_square(~right, group.astype(np.int64), len(names))
    reached = int((statistics >= own * (1.0 - 1e-12)).sum())
    kind = "sample" if keys is None or not keys.clustered else keys.kind
    return {
        "chi2": own,
        "p_value": (reached + 1) / (number + 1),
        "permutations": number,
        "of": f"samples within {kind}s" if crossed else f"{kind}s",
    }


def _chi_square(wrong: Bools, group: Ints, count: int) -> float:
    errors = np.bincount(group, weights=wrong, minlength=count)
    sizes = np.bincount(group, minlength=count).astype(np.float64)
    return float(_statistic(errors[None].astype(np.float64), sizes[None])[0])


def _statistic(errors: Floats, sizes: Floats) -> Floats:
    """Return Pearson's chi-square (R,) of errors (R, G) among samples (R, G); 0 where all are alike."""
    total = sizes.sum(axis=1, keepdims=True)
    rate = errors.sum(axis=1, keepdims=True) / total
    apart = np.square(errors - sizes * rate) / np.where(sizes > 0.0, sizes, 1.0)
    spread = (rate * (1.0 - rate))[:, 0]
    return np.asarray(
        np.where(spread > 0.0, apart.sum(axis=1) / np.where(spread > 0, spread, 1), 0.0)
    )


def _whole_units(
    wrong: Bools, group: Ints, units: Ints, count: int, number: int, rng: np.random.Generator
) -> Floats:
    """Return the statistic with the groups of units permuted (R,)."""
    errors, sizes = np.bincount(units, weights=wrong), np.bincount(units).astype(np.float64)
    of_unit = np.zeros(len(sizes), dtype=np.int64)
    of_unit[units] = group
    found = []
    for _ in range(number):
        mixed = of_unit[rng.permutation(len(sizes))]
        found.append(
            [
                np.bincount(mixed, weights=errors, minlength=count),
                np.bincount(mixed, weights=sizes, minlength=count),
            ]
        )
    table = np.array(found)
    return _statistic(table[:, 0], table[:, 1])


def _within_units(
    wrong: Bools, group: Ints, units: Ints, count: int, number: int, rng: np.random.Generator
) -> Floats:
    """Return the statistic with the groups of samples permuted within their units (R,)."""
    order = np.argsort(units, kind="stable")
    found = []
    for _ in range(number):
        mixed = np.empty_like(group)
        mixed[order] = group[np.lexsort((rng.random(len(units)), units))]
        found.append(np.bincount(mixed, weights=wrong, minlength=count))
    sizes = np.bincount(group, minlength=count).astype(np.float64)
    return _statistic(np.array(found), np.broadcast_to(sizes, (number, count)))

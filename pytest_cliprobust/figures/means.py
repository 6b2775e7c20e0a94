"""Means, and what is linear in the samples like a mean: intervals that hold in small samples.

Student's interval of a mean misses on the long side of a skewed distribution, and where the few samples
that would count most (a confident wrong answer among a hundred) happen not to be drawn. Two remedies are
joined:

* the skewness of the mean enters by Hall's monotone cubic transformation (Hall 1992, "On the removal of
  skewness by transformation"), which does what the bootstrap-t does, in closed form;
* samples that might have been drawn are *supposed*: one that is right and one that is wrong, as Agresti &
  Coull (1998) add successes and failures to a share.

The interval is the hull of Student's and Hall's on the samples and those supposed, and holds the mean
itself. ``benchmarks/coverage.py`` measures how often it holds the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from pytest_cliprobust.figures.arrays import Floats, Ints
from pytest_cliprobust.figures.clusters import size_effect
from pytest_cliprobust.figures.ends import GRID, Compared, Ends, EndsAt, within
from pytest_cliprobust.figures.intervals import student
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.outcomes import Outcomes

#: How many samples each supposed one stands for, in a mean and in the change of one.
IN_A_MEAN, IN_A_CHANGE = 0.5, 1.0

#: From outcomes to a value (N,) for each sample, of which the figure is the mean or nearly so.
Linear = Callable[[Outcomes], Floats]

#: The parameter of outcomes that holds what a right and a wrong sample would have as its value.
SUPPOSED = "supposed"


@dataclass(frozen=True)
class Means:
    """Means of K columns over samples whose units were drawn.

    Attributes:
        values: (K,) the means.
        centres: (K,) the means with the supposed samples.
        errors: (K,) standard errors with them.
        plain: (K,) standard errors of the samples alone.
        skews: (K,) skewness of the means, with the supposed samples.
        degrees: units minus 1.
        effects: (K,) design effects.
    """

    values: Floats
    centres: Floats
    errors: Floats
    plain: Floats
    skews: Floats
    degrees: float
    effects: Floats

    def ends(self, tails: Floats) -> tuple[Floats, Floats]:
        """Return lower and upper ends (L, K) that leave out ``tails`` (L,) on either side."""
        t = student(tails, self.degrees)[:, None]
        lows = np.minimum(self.centres - t * self.errors, self._cubic(t))
        highs = np.maximum(self.centres + t * self.errors, self._cubic(-t))
        return np.minimum(lows, self.values), np.maximum(highs, self.values)

    def _cubic(self, t: Floats) -> Floats:
        """Return where the transformed t statistic is ``t`` (L, 1)."""
        third = self.skews / 3.0
        third = np.where(np.abs(third) < 1e-9, 1e-9, third)
        root = np.cbrt(1.0 + 3.0 * third * (t - self.skews / 6.0))
        return np.asarray(self.centres - self.errors * (root - 1.0) / third)

    def column(self, number: int = 0) -> EndsAt:
        """Return the ends of one mean."""

        def at(tails: Floats) -> tuple[Floats, Floats]:
            lows, highs = self.ends(tails)
            return lows[:, number], highs[:, number]

        return at


def means_of(
    values: Floats,
    codes: Ints | None,
    supposed: Sequence[ArrayLike] = (),
    worth: float = IN_A_MEAN,
) -> Means:
    """Return the means of ``values`` (N,) or (N, K), and what is known of their error.

    Args:
        values: a row for each sample.
        codes: (N,) units; None: each sample is one.
        supposed: values (K,) that a sample might have had.
        worth: how many samples each of those stands for (times the design effect).
    """
    rows = values.reshape(len(values), -1).astype(np.float64)
    count = len(rows)
    means = rows.mean(axis=0)
    with np.errstate(invalid="ignore"):  # an infinite value is infinitely far from their mean
        apart = rows - means
    single = (apart**2).sum(axis=0)
    sums, units, alike = apart, count, 1.0
    if codes is not None:
        sums, alike = unit_sums(apart, codes), size_effect(codes)
        units = len(sums)
    nothing = np.full(rows.shape[1], math.nan)
    if units < 2:
        return Means(means, means, nothing, nothing, nothing, 0.0, np.full(rows.shape[1], alike))
    second = units / (units - 1.0) * (sums**2).sum(axis=0)
    third = (sums**3).sum(axis=0)
    single *= count / (count - 1.0)
    spread = single > 0.0
    effects = np.where(spread, second / np.where(spread, single, 1.0), alike)
    effects = np.clip(effects, 1.0, count)
    second = np.maximum(second, single)
    plain = np.sqrt(second) / count
    centres, total = means, float(count) * np.ones(rows.shape[1])
    if len(supposed):
        added = np.stack(
            [np.broadcast_to(np.asarray(s, np.float64), means.shape) for s in supposed]
        )
        each = worth * effects
        total = count + len(added) * each
        centres = (means * count + each * added.sum(axis=0)) / total
        off = (added - centres) * effects
        second = second + (means - centres) ** 2 * count * effects + worth * (off**2).sum(axis=0)
        third = third + worth * (off**3).sum(axis=0)
    errors = np.sqrt(second) / total
    scale = np.where(second > 0.0, second, 1.0) ** 1.5
    skews = np.where(second > 0.0, third / scale, 0.0)
    return Means(means, centres, errors, plain, skews, units - 1.0, effects)


def compared(
    step: Floats, codes: Ints | None, difference: float, degrees: float, least: float
) -> Compared:
    """Return the change of a figure, given how much more each sample adds to it now (N,), 0 on average.

    Supposed are two samples that change, either way, by as much as any did, and by ``least`` at least.

    Args:
        step: (N,).
        codes: (N,) units.
        difference: the change.
        degrees: of freedom.
        least: by how much a sample may well change, although none did.
    """
    most = max(float(np.abs(step).max()), least)
    found = means_of(step, codes, (most, -most), IN_A_CHANGE)
    at = moved(replace(found, degrees=degrees).column(), difference - float(found.values[0]))
    return Compared(difference, Ends.of(at), float(found.errors[0]), float(found.effects[0]))


def unknown() -> Compared:
    """Return a change that cannot be estimated."""
    nothing = (math.nan,) * len(GRID)
    return Compared(math.nan, Ends(nothing, nothing), math.inf)


def unit_sums(rows: Floats, codes: Ints) -> Floats:
    """Return the sums (U, K) of ``rows`` (N, K) over units (N,)."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    return np.asarray(np.add.reduceat(rows[order], starts, axis=0))


def ratio_values(hits: Floats, trials: Floats) -> Floats:
    """Return values (N,) of which a ratio of sums is the mean, up to what is quadratic in its error."""
    total = trials.mean()
    if not total > 0.0:
        return np.full(len(hits), math.nan)
    rate = hits.mean() / total
    return np.asarray(rate + (hits - rate * trials) / total, dtype=np.float64)


def column_values(outcomes: Outcomes) -> Floats:
    """Return the only column (N,) as numbers."""
    return np.asarray(next(iter(outcomes.columns.values())), dtype=np.float64)


def drop_values(outcomes: Outcomes) -> Floats:
    """Return the column ``clean`` less ``shifted`` (N,)."""
    return np.asarray(outcomes["clean"].astype(np.float64) - outcomes["shifted"], dtype=np.float64)


def relative_drop_values(outcomes: Outcomes) -> Floats:
    """Return values (N,) of which the drop as a share of ``clean``'s mean is the mean, nearly."""
    return ratio_values(drop_values(outcomes), outcomes["clean"].astype(np.float64))


def quotient_values(outcomes: Outcomes) -> Floats:
    """Return :func:`ratio_values` of the columns ``hits`` and ``trials``."""
    return ratio_values(outcomes["hits"].astype(np.float64), outcomes["trials"].astype(np.float64))


def group_values(hits: Floats, trials: Floats, groups: Ints, codes: Ints | None) -> Floats:
    """Return values (N,) of which the mean over groups of their rates is the mean, with its variance.

    A group's rate is the sum of its hits over that of its trials, and all weigh the same. A group with a
    single unit shows no spread, and one with few too little: its spread is taken about a rate shrunk
    towards the mean of all, (U·own + all) / (U + 1) for U units, and scaled by (U + 1) / U.
    """
    count = int(groups.max()) + 1
    sizes = np.bincount(groups, minlength=count)
    own = np.bincount(groups, weights=hits) / np.bincount(groups, weights=trials)
    every = float(own.mean())
    units = sizes.astype(np.float64)
    if codes is not None:
        pairs = np.unique(np.stack([groups, codes]), axis=1)[0]
        units = np.bincount(pairs, minlength=count).astype(np.float64)
    shrunk = (units * own + every) / (units + 1.0)
    weight = len(groups) / (count * np.bincount(groups, weights=trials)) * (units + 1.0) / units
    off = (hits - shrunk[groups] * trials) * weight[groups]
    return np.asarray(every + off - off.mean(), dtype=np.float64)


def codes_of(keys: SampleKeys | None) -> Ints | None:
    """Return the units of samples; None where each is one."""
    return keys.codes if keys is not None and keys.clustered else None


def compare_means(
    linear: Linear, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Callable[[Outcomes, Outcomes], Compared]:
    """Return the comparison of two runs for a figure that is the mean of ``linear``, or nearly so.

    What might have been drawn is supposed: a sample right in both runs, wrong in both, and one that each
    run alone has right, if the outcomes' parameters say what such a sample's value is; else one that
    changes as much as any did, either way (or, if none did, as much as any differs from the mean, or by 1).
    """

    def compare(before: Outcomes, after: Outcomes) -> Compared:
        return compare_values(
            linear(before), linear(after), before, after, after.value() - before.value(), bounds
        )

    return compare


def compare_values(
    then: Floats,
    now: Floats,
    before: Outcomes,
    after: Outcomes,
    difference: float,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Compared:
    """Return the change of a figure that is nearly the mean of ``now`` (N,), and was that of ``then``."""
    step = now - then
    worth = IN_A_CHANGE
    known = [outcomes.parameters.get(SUPPOSED) for outcomes in (before, after)]
    if known[0] is not None and known[1] is not None:
        supposed = [new - old for old in known[0] for new in known[1]]
    else:
        most = float(np.abs(step).max()) or float(np.abs(now - now.mean()).max()) or 1.0
        supposed, worth = [-most, most], IN_A_MEAN
    found = means_of(step, codes_of(after.keys), supposed, worth)
    shift = difference - float(found.values[0])
    at = within(moved(found.column(), shift), difference, bounds)
    return Compared(difference, Ends.of(at), float(found.errors[0]), float(found.effects[0]))


def moved(at: EndsAt, shift: float) -> EndsAt:
    """Return ends moved by ``shift``."""

    def away(tails: Floats) -> tuple[Floats, Floats]:
        lows, highs = at(tails)
        return lows + shift, highs + shift

    return away

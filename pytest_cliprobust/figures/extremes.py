"""The least or the largest of several figures on the same samples.

The least of K noisy shares lies below the least of the true ones, and resampling doubles that. The interval
is therefore *simultaneous*: with intervals for all K at once (each leaves out 1/K of what is left out in all,
Bonferroni), the least of the true values lies between the least of the lower and the least of the upper ends,
wherever it is. It holds too often rather than too seldom.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pytest_cliprobust.figures.arrays import Bools, Floats, Ints
from pytest_cliprobust.figures.ends import Compared, Ends, EndsAt
from pytest_cliprobust.figures.means import IN_A_MEAN, Means, means_of


def extreme_ends(parts: Sequence[EndsAt], *, largest: bool = False) -> EndsAt:
    """Return the ends of the least (or ``largest``) of several."""

    def at(tails: Floats) -> tuple[Floats, Floats]:
        lows, highs = _all(parts, tails)
        if largest:
            return lows.max(axis=0), highs.max(axis=0)
        return lows.min(axis=0), highs.min(axis=0)

    return at


def compare_extremes(
    before: Sequence[Floats],
    after: Sequence[Floats],
    codes: Sequence[Ints | None],
    *,
    largest: bool = False,
) -> Compared:
    """Return the change of the least (or ``largest``) of K means.

    min a - min b is at most a - b of the part that is least in b, and at least that of the part that is
    least in a; so the ends are the extremes of the parts' changes, over the parts that can be least.

    Args:
        before, after: of each part the values (N_k,) of its samples.
        codes: of each part the units (N_k,) of its samples.
        largest: rather than least.
    """
    sign = -1.0 if largest else 1.0
    old, new = (
        [means_of(sign * values, units) for values, units in zip(side, codes, strict=True)]
        for side in (before, after)
    )
    steps = [
        _step(sign * (now - then), units)
        for then, now, units in zip(before, after, codes, strict=True)
    ]
    values_old = np.array([float(part.values[0]) for part in old])
    values_new = np.array([float(part.values[0]) for part in new])
    difference = float(values_new.min() - values_old.min())
    spots = {int(values_new.argmin()), int(values_old.argmin())}
    error = max(float(steps[spot].errors[0]) for spot in spots)

    def at(tails: Floats) -> tuple[Floats, Floats]:
        lows, highs = _all([step.column() for step in steps], tails)
        low = np.where(_can_be_least(new, tails), lows, np.inf).min(axis=0)
        high = np.where(_can_be_least(old, tails), highs, -np.inf).max(axis=0)
        low, high = np.minimum(low, difference), np.maximum(high, difference)
        return (-high, -low) if largest else (low, high)

    effect = max(float(steps[spot].effects[0]) for spot in spots)
    return Compared(sign * difference, Ends.of(at), error, effect)


def _step(step: Floats, units: Ints | None) -> Means:
    most = float(np.abs(step).max()) or 1.0
    return means_of(step, units, (-most, most), IN_A_MEAN)


def _can_be_least(parts: Sequence[Means], tails: Floats) -> Bools:
    lows, highs = _all([part.column() for part in parts], tails)
    return np.asarray(~(lows > highs.min(axis=0)), dtype=np.bool_)


def _all(parts: Sequence[EndsAt], tails: Floats) -> tuple[Floats, Floats]:
    """Return the ends (K, L) of all parts at once."""
    lows, highs = zip(*(part(tails / len(parts)) for part in parts), strict=True)
    return np.stack(lows), np.stack(highs)

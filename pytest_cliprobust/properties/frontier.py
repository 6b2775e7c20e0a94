"""Robustness frontier: the largest strength of a perturbation at which the accuracy drop is allowed.

:mod:`pytest_cliprobust.search.frontier` looks for it, under the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from pytest_cliprobust.figures.arrays import Bools, Floats
from pytest_cliprobust.figures.bootstrap import DEFAULT, Bootstrap, figure_of_ends
from pytest_cliprobust.figures.ends import Compared, Ends, EndsAt, within
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.intervals import two_sided_z
from pytest_cliprobust.figures.means import Means, codes_of, means_of
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.outcomes import Outcomes
from pytest_cliprobust.figures.outcomes import means as averages

#: Share of the clean accuracy that a frontier allows to lose where the threshold file says nothing.
ALLOWED_LOSS = 0.5


#: Two frontiers are never taken to vary together more closely: they are read off curves with corners, at
#: strengths that differ, and that alone moves one of them and not the other.
MOST_SHARED = 0.9


@register_metric(
    "frontier_strength",
    higher_is_better=True,
    meaning="largest strength in the envelope, 0 to 1, at which the accuracy drop is still allowed",
)
def frontier_strength_figure(
    strengths: Floats,
    correct: Bools,
    allowed: float | None,
    details: Mapping[str, Any],
    bootstrap: Bootstrap = DEFAULT,
) -> Figure:
    """Return the strength up to which the accuracy drop is allowed, from the answers at some strengths.

    The interval is read off the curve's: its ends are where the upper and the lower ends of the excess of
    the drop over what is allowed first lie above 0. Each model is searched by itself, at strengths of its
    own; their change on the same samples is paired all the same: its interval is MOVER's for figures that
    depend on each other (Zou & Donner 2008), with the correlation of what each sample adds to the two
    curves, each where it crosses.

    Args:
        strengths: (K,) ascending, from 0 to 1.
        correct: (N, 1 + K) bool, the answers on the clean samples and at each strength.
        allowed: the largest drop that holds; None: :data:`ALLOWED_LOSS` of the clean accuracy.
        details: of the search; the curve is added.
        bootstrap: interval settings.
    """
    means = correct.mean(axis=0)
    outcomes = Outcomes(
        {"clean": correct[:, 0], "answers": correct[:, 1:]},
        partial(_crossings, allowed=allowed),
        parameters={"strengths": strengths.tolist()},
        compare=partial(_compare, allowed=allowed),
        keys=bootstrap.keys,
    )
    value, at = outcomes.value(), _ends(outcomes, allowed)
    effect = _excess(outcomes, allowed).effects
    return figure_of_ends(
        "frontier_strength",
        value,
        at,
        outcomes,
        bootstrap,
        IntervalMethod.CROSSING,
        "from the curve's intervals",
        bounds=(0.0, 1.0),
        details={
            **details,
            "curve": np.stack((strengths, means[1:]), axis=1).tolist(),
            "clean_accuracy": float(means[0]),
        },
        effect=float(effect[int(np.searchsorted(strengths, value).clip(0, len(effect) - 1))]),
    )


def _excesses(outcomes: Outcomes, allowed: float | None) -> Floats:
    """Return of each sample how far its drop exceeds what is allowed, at each strength (N, K)."""
    clean = outcomes["clean"].astype(np.float64)[:, None]
    limit = ALLOWED_LOSS * clean if allowed is None else allowed
    return np.asarray(clean - outcomes["answers"] - limit)


def _excess(outcomes: Outcomes, allowed: float | None) -> Means:
    """Return how far the drop exceeds what is allowed, at each strength."""
    most = 1.0 - (ALLOWED_LOSS if allowed is None else allowed)
    return means_of(_excesses(outcomes, allowed), codes_of(outcomes.keys), (most, -1.0))


def _ends(outcomes: Outcomes, allowed: float | None) -> EndsAt:
    """Return the ends of the strength at which the excess first lies above 0."""
    strengths = np.asarray(outcomes.parameters["strengths"])
    excess = _excess(outcomes, allowed)

    def at(tails: Floats) -> tuple[Floats, Floats]:
        lows, highs = excess.ends(tails)
        known = np.isfinite(lows).all(axis=1)
        nothing = np.zeros(len(tails))
        return (
            np.where(known, first_crossings(strengths, highs, nothing), np.nan),
            np.where(known, first_crossings(strengths, lows, nothing), np.nan),
        )

    return at


def _compare(before: Outcomes, after: Outcomes, *, allowed: float | None) -> Compared:
    """Return the change of a frontier."""
    then, now = before.value(), after.value()
    sides = [
        Ends.of(within(_ends(outcomes, allowed), value, (0.0, 1.0)))
        for outcomes, value in ((before, then), (after, now))
    ]
    old_low, old_high, new_low, new_high = (
        np.asarray(row) for side in sides for row in (side.lows, side.highs)
    )
    shared = _correlation(before, after, (then, now), allowed)
    lows = now - then - _length(now - new_low, old_high - then, shared)
    highs = now - then + _length(new_high - now, then - old_low, shared)
    ends = Ends(tuple(lows.tolist()), tuple(highs.tolist()))
    interval = ends.at(0.95)
    error = (interval.high - interval.low) / 2.0 / two_sided_z(0.95)
    effect = float(_excess(after, allowed).effects.max())
    return Compared(now - then, ends, error, effect)


def _length(one: Floats, other: Floats, correlation: float) -> Floats:
    """Return how far the difference of two figures reaches, each of which reaches so far."""
    squares = one**2 + other**2 - 2.0 * correlation * one * other
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)))


def _correlation(
    before: Outcomes, after: Outcomes, at: tuple[float, float], allowed: float | None
) -> float:
    """Return how two frontiers on the same samples vary together, from -1 to 1.

    To first order a frontier moves with the excess at its own crossing, and so with the sum over samples
    of their part in it; samples of one unit belong together.
    """
    parts = [
        _at(_excesses(outcomes, allowed), np.asarray(outcomes.parameters["strengths"]), where)
        for outcomes, where in zip((before, after), at, strict=True)
    ]
    codes = codes_of(after.keys)
    if codes is not None:
        parts = [
            np.asarray(np.bincount(codes, weights=part - part.mean()), dtype=np.float64)
            for part in parts
        ]
    deviations = [float(part.std()) for part in parts]
    if min(deviations) == 0.0:
        return 0.0
    return min(float(np.corrcoef(parts[0], parts[1])[0, 1]), MOST_SHARED)


def _at(values: Floats, strengths: Floats, where: float) -> Floats:
    """Return the columns (N, K) of ``values`` at a strength between theirs, linear between them (N,)."""
    right = int(np.searchsorted(strengths, where).clip(1, len(strengths) - 1))
    step = strengths[right] - strengths[right - 1]
    share = float(np.clip((where - strengths[right - 1]) / step, 0.0, 1.0)) if step > 0.0 else 0.0
    return np.asarray((1.0 - share) * values[:, right - 1] + share * values[:, right])


def _crossings(weights: Floats, outcomes: Outcomes, *, allowed: float | None) -> Floats:
    """Return where the drop first exceeds what is allowed (R,)."""
    strengths = np.asarray(outcomes.parameters["strengths"])
    clean = averages(weights, outcomes["clean"])
    drops = clean[:, None] - averages(weights, outcomes["answers"])
    limits = ALLOWED_LOSS * clean if allowed is None else np.full(len(clean), allowed)
    return first_crossings(strengths, drops, limits)


def first_crossing(strengths: Floats, drops: Floats, allowed: float) -> float:
    """Return where the drop first exceeds ``allowed``, linear between points; 1 if it never does.

    Args:
        strengths: (K,) ascending, from 0 to 1.
        drops: (K,) the drop at each.
        allowed: the largest drop that holds.
    """
    return float(first_crossings(strengths, drops[None], np.array([allowed]))[0])


def first_crossings(strengths: Floats, drops: Floats, allowed: Floats) -> Floats:
    """Return :func:`first_crossing` (R,) of each row of ``drops`` (R, K), with the limits (R,)."""
    beyond = drops > allowed[:, None]
    index = beyond.argmax(axis=1)
    rows, last = np.arange(len(drops)), np.maximum(index - 1, 0)
    before, after = drops[rows, last], drops[rows, index]
    rise = np.where(after > before, after - before, 1.0)
    step = (allowed - before) / rise * (strengths[index] - strengths[last])
    inside = np.where(index == 0, 0.0, strengths[last] + step)
    return np.asarray(np.where(beyond.any(axis=1), inside, 1.0), dtype=np.float64)

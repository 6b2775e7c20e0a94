"""One run against another on the same samples: tests, intervals of the change, many of them at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.intervals import Interval, agresti_min
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.figures.resampling import (
    Method,
    bootstrap,
    bootstrap_mean,
    replicate_interval,
)


@dataclass(frozen=True)
class PairedTest:
    """Second run minus first run, on the same samples.

    Attributes:
        difference: point estimate.
        low, high: ends of the interval at ``confidence``.
        p_value: two-sided, for "no difference".
        n: number of pairs.
        confidence: level of the interval.
        method: name of the test.
        gains: pairs right only in the second run (None unless right/wrong was compared).
        losses: pairs right only in the first run.
        replicates: (R,) of the bootstrap, empty for McNemar.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int
    confidence: float
    method: str
    gains: int | None = None
    losses: int | None = None
    replicates: tuple[float, ...] = ()


def mcnemar_p(gains: int, losses: int) -> float:
    """Return the two-sided exact p-value of McNemar's test (binomial test of the discordant pairs)."""
    if gains < 0 or losses < 0:
        raise ValueError(f"counts cannot be negative: {gains}, {losses}")
    discordant = gains + losses
    if discordant == 0:
        return 1.0
    return min(1.0, 2.0 * float(special.bdtr(min(gains, losses), discordant, 0.5)))


def mcnemar(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> PairedTest:
    """Compare right/wrong of two runs on the same samples: McNemar's exact test.

    The interval for the difference of the accuracies is that of :func:`agresti_min`.

    Args:
        first: (n,) of 0/1 or bool.
        second: (n,), of the same samples in the same order.
        confidence: level of the interval.

    Raises:
        ClipRobustError: no samples.
        ValueError: different shapes.
    """
    before = np.asarray(first).astype(bool)
    after = np.asarray(second).astype(bool)
    if before.ndim != 1 or before.shape != after.shape:
        raise ValueError(f"runs have shapes {before.shape} and {after.shape}; pairs are needed")
    n = len(before)
    if n == 0:
        raise ClipRobustError("two runs without samples cannot be compared; check the data set")
    gains = int((after & ~before).sum())
    losses = int((before & ~after).sum())
    ends = agresti_min(gains, losses, n, confidence)
    return PairedTest(
        difference=(gains - losses) / n,
        low=ends.low,
        high=ends.high,
        p_value=mcnemar_p(gains, losses),
        n=n,
        confidence=confidence,
        method="McNemar exact",
        gains=gains,
        losses=losses,
    )


def paired_bootstrap(
    statistic: Callable[..., Any],
    first: ArrayLike | tuple[ArrayLike, ...],
    second: ArrayLike | tuple[ArrayLike, ...],
    *,
    strata: ArrayLike | None = None,
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    method: Method = "percentile",
    weighted: bool = False,
) -> PairedTest:
    """Bootstrap ``statistic(*second) - statistic(*first)``, both on the same resamples.

    The p-value inverts the percentile interval: twice the smaller share of replicates on either side
    of zero, with one added above and below the line (Davison & Hinkley 1997, section 4.2).

    Args:
        statistic: as in :func:`bootstrap`.
        first: one array, or a tuple of the arrays that ``statistic`` takes.
        second: the same for the second run, of the same samples in the same order.
        strata: see :func:`bootstrap`.
        replicates: see :func:`bootstrap`.
        seed: see :func:`bootstrap`.
        confidence: level of the interval.
        method: see :func:`bootstrap`.
        weighted: see :func:`bootstrap`.

    Raises:
        ClipRobustError: no samples.
        ValueError: arrays of different lengths.
    """
    before = first if isinstance(first, tuple) else (first,)
    after = second if isinstance(second, tuple) else (second,)
    width = len(before)
    if statistic is np.mean and not weighted and width == 1 and len(after) == 1:
        one, two = np.asarray(before[0], np.float64), np.asarray(after[0], np.float64)
        if one.shape != two.shape:
            raise ValueError(f"runs have shapes {one.shape} and {two.shape}; pairs are needed")
        result = bootstrap_mean(
            two - one,
            strata=strata,
            replicates=replicates,
            seed=seed,
            confidence=confidence,
            method=method,
        )
    else:
        if weighted:

            def difference(*arguments: Any) -> Any:
                weights, *columns = arguments
                return statistic(weights, *columns[width:]) - statistic(weights, *columns[:width])

        else:

            def difference(*arguments: Any) -> Any:
                return statistic(*arguments[width:]) - statistic(*arguments[:width])

        result = bootstrap(
            difference,
            *before,
            *after,
            strata=strata,
            replicates=replicates,
            seed=seed,
            confidence=confidence,
            method=method,
            weighted=weighted,
        )
    drawn = result.replicates
    finite = drawn[np.isfinite(drawn)]
    p_value = math.nan
    if math.isfinite(result.low):
        smaller = min(np.count_nonzero(finite <= 0.0), np.count_nonzero(finite >= 0.0))
        p_value = min(1.0, 2.0 * (smaller + 1.0) / (len(finite) + 1.0))
    return PairedTest(
        difference=result.value,
        low=result.low,
        high=result.high,
        p_value=p_value,
        n=result.n,
        confidence=confidence,
        method=f"paired {result.method}",
        replicates=tuple(drawn.tolist()),
    )


def difference_interval(figure: Figure, baseline: Figure, confidence: float = 0.95) -> Interval:
    """Return the interval of ``figure.value - baseline.value``.

    If both have replicates on the same resamples of the same samples (equal, non-empty
    ``details["resampling"]``), it is the paired bootstrap's. Else the runs count as independent and
    the interval is recovered from the two figures' own (MOVER, Zou & Donner 2008, eq. 2), which is
    wider than needed where the samples were in truth the same. Two runs that agree on every sample
    differ by exactly 0 in every resample: an unchanged model never looks undecided.
    """
    mine, theirs = figure.details.get("resampling"), baseline.details.get("resampling")
    paired = bool(mine) and mine == theirs and figure.replicates
    if paired and len(figure.replicates) == len(baseline.replicates):
        drawn = np.asarray(figure.replicates) - np.asarray(baseline.replicates)
        ends = replicate_interval(figure.value - baseline.value, drawn, confidence)
        return Interval(ends.low, ends.high, confidence, "paired bootstrap")
    own, other = interval_at(figure, confidence), interval_at(baseline, confidence)
    low = math.hypot(figure.value - own.low, other.high - baseline.value)
    high = math.hypot(own.high - figure.value, baseline.value - other.low)
    change = figure.value - baseline.value
    return Interval(change - low, change + high, confidence, "MOVER, independent runs")


def _p_values(p_values: ArrayLike) -> Floats:
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0.0) & (values <= 1.0)).all():
        raise ValueError("p-values must be a flat array of numbers from 0 to 1")
    return values


def holm(p_values: ArrayLike) -> Floats:
    """Return p-values (m,) adjusted by Holm's step-down method (1979): family-wise error rate."""
    values = _p_values(p_values)
    order = np.argsort(values, kind="stable")
    m = len(values)
    adjusted = np.empty(m)
    steps = np.maximum.accumulate(values[order] * (m - np.arange(m))) if m else values
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted

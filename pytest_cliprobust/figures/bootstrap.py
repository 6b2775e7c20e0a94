"""From per-sample columns to Figures with bootstrap intervals.

Nearly every figure here is a function of sums over samples, so a bootstrap replicate is a row of
resampling counts (:class:`pytest_cliprobust.figures.resampling.Resampling`) times a matrix of per-sample
columns: one matrix product for all replicates, and the same counts for everything that is computed
together, which is what makes comparisons paired.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from pytest_cliprobust.figures.arrays import Bools, Floats, Ints
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.intervals import wilson
from pytest_cliprobust.figures.paired import mcnemar
from pytest_cliprobust.figures.resampling import (
    BootstrapResult,
    Method,
    Resampling,
    proportion,
    replicate_interval,
)


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
        replicates: number of bootstrap replicates.
        confidence: level of the two-sided intervals.
        seed: seed of the resampling.
        samples: identity of the samples (:func:`pytest_cliprobust.figures.resampling.samples_digest`), so
            that a later run on the same ones is compared in pairs; ``""`` if that is not wanted.
    """

    replicates: int = 1000
    confidence: float = 0.95
    seed: int = 0
    samples: str = ""

    def plan(self, count: int, strata: Ints | None = None) -> Resampling:
        """Return the resampling of ``count`` samples, each stratum (``count``,) kept at its size."""
        return Resampling(count, strata=strata, replicates=self.replicates, seed=self.seed)

    def unpaired(self) -> Bootstrap:
        """Return the same settings for other samples, which ``samples`` does not name."""
        return replace(self, samples="")

    def subset(self, rows: Ints) -> Bootstrap:
        """Return the same settings for the samples at ``rows`` only."""
        if not self.samples:
            return self
        part = hashlib.blake2b(rows.astype("<i8").tobytes(), digest_size=8).hexdigest()
        return replace(self, samples=f"{self.samples}/{part}")

    def fewer(self, replicates: int) -> Bootstrap:
        """Return the same settings with at most ``replicates`` replicates."""
        return replace(self, replicates=min(self.replicates, replicates))


DEFAULT = Bootstrap()

# Counts of up to this many numbers (64 MB) are kept for the next figure on equally many samples.
_KEPT = 8_000_000
_kept: dict[tuple[str, int], list[Floats]] = {}


def _counts(plan: Resampling) -> Iterable[Floats]:
    if plan.n * plan.replicates > _KEPT:
        return plan.counts()
    key = (plan.digest, plan.replicates)
    if key not in _kept:
        blocks = list(plan.counts())
        _kept.clear()
        _kept[key] = blocks
    return _kept[key]


def exact(columns: Floats, count: int) -> Floats:
    """Return ``columns`` on a binary grid so coarse that no sum over ``count`` samples rounds.

    Sums of resampling counts (``count`` in all) times columns then come out the same in every order
    of summation, so that replicates do not depend on the linear-algebra library or its threads. The
    grid is count·max/2**52 or finer: for 1,000 samples, 12 significant digits remain.
    """
    largest = float(np.abs(columns).max(initial=0.0)) * count
    if largest == 0.0 or not math.isfinite(largest):
        return columns
    exponent = 52 - math.frexp(largest)[1]
    return np.asarray(np.ldexp(np.rint(np.ldexp(columns, exponent)), -exponent), dtype=np.float64)


def resampled_counts(
    count: int, bootstrap: Bootstrap, strata: Ints | None = None
) -> Iterable[Floats]:
    """Return blocks (r, ``count``) of how often each sample occurs in each replicate."""
    return _counts(bootstrap.plan(count, strata))


def resampled_sums(
    columns: Floats | sparse.csr_array, bootstrap: Bootstrap, strata: Ints | None = None
) -> Floats:
    """Return the sums (R, K) of ``columns`` (N, K) over the samples of each replicate.

    Bit-identical on every machine: see :func:`exact`.
    """
    count = int(columns.shape[0])
    plan = bootstrap.plan(count, strata)
    if isinstance(columns, np.ndarray):
        fixed = exact(columns, count)
        return np.concatenate([counts @ fixed for counts in _counts(plan)])
    rows = sparse.csr_array(
        (exact(columns.data, count), columns.indices, columns.indptr), shape=columns.shape
    )
    transposed = rows.T.tocsr()
    return np.concatenate([np.asarray(transposed @ counts.T).T for counts in _counts(plan)])


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    """Return the quotient, NaN where the denominator is zero."""
    top, bottom = np.broadcast_arrays(
        np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    )
    out = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=out, where=bottom != 0)
    return out


def bootstrap_figure(
    metric: str,
    value: float,
    replicates: Floats,
    n: int,
    bootstrap: Bootstrap,
    *,
    strata: Ints | None = None,
    samples: int | None = None,
    method: Method = "percentile",
    bounds: tuple[float, float] = (-math.inf, math.inf),
    trials: int = 0,
    unit: str = "",
    details: Mapping[str, Any] | None = None,
) -> Figure:
    """Return a Figure with a bootstrap interval.

    Args:
        metric: the metric's name.
        value: point estimate; NaN gives a figure without an interval, on which nothing passes.
        replicates: (R,) from :func:`resampled_sums`.
        n: what the figure reports as its number of samples.
        bootstrap: the settings with which the replicates were drawn.
        strata: (samples,) that the replicates kept.
        samples: number of units that were resampled, if not ``n``.
        method: ``"basic"`` for statistics that resampling biases away from the truth, such as sums
            of absolute values or extremes: the percentile interval lies where the bias points,
            while the basic one (Davison & Hinkley 1997, section 5.2) reflects the replicates at the
            estimate, which takes the bias out.
        bounds: what the metric cannot leave.
        trials: number of independent samples behind a metric that is made of right and wrong
            answers: if the replicates have no spread (no sample differs from the others), which
            would claim certainty, the interval is Wilson's over as many trials; for a signed metric
            it is what so many samples without a change can exclude (the rule of three's share).
        unit: unit of the figure.
        details: JSON-able details.

    The interval is widened, if need be, to hold the estimate.
    """
    kind = "bootstrap" if strata is None else "stratified bootstrap"
    text = f"{kind}, {len(replicates)}" + (", basic" if method == "basic" else "")
    extra, how = dict(details or {}), IntervalMethod(method)
    ends = replicate_interval(value, replicates, bootstrap.confidence, method)
    low, high = ends.low, ends.high
    if math.isfinite(low) and math.isfinite(high):
        low = min(max(low, bounds[0]), value)
        high = max(min(high, bounds[1]), value)
    if trials and math.isfinite(value) and np.ptp(replicates) == 0.0:
        if bounds[0] >= 0.0:
            ends = wilson(value * trials, trials, bootstrap.confidence)
            low, high = ends.low, ends.high
            text, how = f"Wilson (the {kind} has no spread)", IntervalMethod.WILSON
            extra["trials"] = trials
        else:
            reach = 1.0 - ((1.0 - bootstrap.confidence) / 2.0) ** (1.0 / trials)
            low, high = max(value - reach, bounds[0]), min(value + reach, bounds[1])
            text, how = f"rule of three (the {kind} has no spread)", IntervalMethod.SCALED
            replicates = np.empty(0)
    plan = bootstrap.plan(n if samples is None else samples, strata)
    return BootstrapResult(
        value=float(value),
        low=low,
        high=high,
        replicates=np.asarray(replicates, dtype=np.float64),
        n=n,
        confidence=bootstrap.confidence,
        method=text,
        kind=how,
        resampling=f"{bootstrap.samples}:{plan.digest}" if bootstrap.samples else "",
    ).figure(metric, unit=unit, details=extra)


def proportion_figure(
    metric: str, hits: Bools, bootstrap: Bootstrap, details: Mapping[str, Any] | None = None
) -> Figure:
    """Return the share of True in ``hits`` (N,) with Wilson's interval; undefined where N is 0."""
    if len(hits) == 0:
        nan = math.nan
        return Figure(metric, nan, nan, nan, 0, bootstrap.confidence, "", details=details or {})
    return proportion(
        metric,
        hits,
        confidence=bootstrap.confidence,
        replicates=bootstrap.replicates,
        seed=bootstrap.seed,
        samples=bootstrap.samples,
        details=details,
    )


def paired_drop_figure(
    metric: str,
    before: Bools,
    after: Bools,
    bootstrap: Bootstrap,
    details: Mapping[str, Any] | None = None,
) -> Figure:
    """Return the mean of ``before - after`` (N,) with Agresti & Min's (2005) paired interval.

    That interval does not collapse where no sample changes sides. Bootstrap replicates are kept
    where they have spread.
    """
    count = len(before)
    test = mcnemar(before, after, bootstrap.confidence)
    change = before.astype(np.float64) - after
    drawn = resampled_sums(change[:, None], bootstrap)[:, 0] / count
    extra = {**(details or {}), "lost": test.losses, "gained": test.gains, "p_value": test.p_value}
    kept: tuple[float, ...] = ()
    if np.ptp(drawn) > 0.0:
        kept = tuple(drawn.tolist())
        if bootstrap.samples:
            extra["resampling"] = f"{bootstrap.samples}:{bootstrap.plan(count).digest}"
    return Figure(
        metric=metric,
        value=0.0 - test.difference,  # no negative zero
        low=-test.high,
        high=-test.low,
        n=count,
        confidence=bootstrap.confidence,
        method="paired, Agresti-Min",
        interval=IntervalMethod.AGRESTI_MIN,
        replicates=kept,
        details=extra,
    )

"""Intervals, paired tests and multiple-testing control, for figures measured on finite samples.

Everything here is numpy in float64, deterministic, and free of torch. Which interval for what:

* an accuracy on independent samples: :func:`proportion` (Wilson's score interval);
* a figure reported per class, or any other function of the samples: :func:`bootstrap`, stratified;
* an AUROC: :func:`auroc` (DeLong's variance on the logit scale);
* one run against another on the same samples: :func:`mcnemar` or :func:`paired_bootstrap`.

The resampling of the bootstrap depends on (n, strata, seed, number of the replicate) alone, so that
two figures measured on the same samples have *paired* replicates: their replicate-wise difference is
a paired bootstrap (:func:`difference_interval` uses this).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.figure import Figure, IntervalMethod

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Method = Literal["percentile", "bca", "basic"]

#: Resampled elements that are held at once; bounds the memory (about 32 MB), never the result.
_CHUNK = 1 << 21
#: Replicates that must lie beyond a quantile before it is read off; further out it is extrapolated.
_TAIL = 5
#: Leave-out groups of the jackknife behind BCa's acceleration.
_JACKKNIFE_GROUPS = 2000


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval."""

    low: float
    high: float
    confidence: float
    method: str


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence!r}")


def normal_quantile(probability: float) -> float:
    """Return the standard normal quantile of ``probability``."""
    return float(special.ndtri(probability))


def _two_sided_z(confidence: float) -> float:
    _check_confidence(confidence)
    # Through the lower tail: 1 - alpha/2 would round to 1 for very small alpha.
    return -normal_quantile((1.0 - confidence) / 2.0)


# --- Proportions -----------------------------------------------------------------------------------


def _check_count(successes: float, trials: int) -> None:
    if trials < 1:
        raise ClipRobustError("an accuracy over no samples has no interval; check the data set")
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes out of {trials} trials")


def wilson(successes: float, trials: int, confidence: float = 0.95) -> Interval:
    """Return the score interval for a proportion (Wilson 1927; Newcombe 1998, method 3).

    ``successes`` may be a fraction (an AUROC times its number of pairs, say).

    Raises:
        ClipRobustError: no trials.
        ValueError: more successes than trials, or a confidence outside (0, 1).
    """
    _check_count(successes, trials)
    z = _two_sided_z(confidence)
    share = successes / trials
    scale = 1.0 + z * z / trials
    centre = (share + z * z / (2.0 * trials)) / scale
    half = z / scale * math.sqrt(share * (1.0 - share) / trials + z * z / (4.0 * trials * trials))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(low, high, confidence, "Wilson")


# --- Bootstrap -------------------------------------------------------------------------------------


class Resampling:
    """Which samples each bootstrap replicate draws; shared by all figures on the same samples.

    Args:
        n: number of samples.
        strata: (n,) any labels; each stratum keeps its size in every replicate.
        replicates: number of replicates; the first k are the same whatever the total.
        seed: seed of the counter-based generator (Philox, Salmon et al. 2011).

    Raises:
        ClipRobustError: no samples.
        ValueError: fewer than one replicate, or strata of another length.
    """

    def __init__(
        self, n: int, *, strata: ArrayLike | None = None, replicates: int = 1000, seed: int = 0
    ) -> None:
        if n < 1:
            raise ClipRobustError("a figure over no samples has no interval; check the data set")
        if replicates < 1:
            raise ValueError(f"the bootstrap needs at least one replicate, not {replicates}")
        self.n = n
        self.replicates = replicates
        self.seed = seed
        self.codes: IntArray | None = None
        if strata is not None:
            labels = np.asarray(strata)
            if labels.shape != (n,):
                raise ValueError(f"strata have shape {labels.shape}, the samples ({n},)")
            self.codes = np.unique(labels, return_inverse=True)[1].astype(np.int64)

    @property
    def digest(self) -> str:
        """Hex digest of (n, strata, seed): equal digests draw the same positions."""
        hasher = hashlib.blake2b(f"{self.n}\0{self.seed}".encode(), digest_size=12)
        if self.codes is not None:
            hasher.update(self.codes.tobytes())
        return hasher.hexdigest()

    def indices(self) -> Iterator[IntArray]:
        """Yield positions in chunks of shape (rows, n), ``replicates`` rows in all."""
        generator = np.random.Generator(np.random.Philox(self.seed))
        order: IntArray | None = None
        sizes: FloatArray | float = float(self.n)
        starts: IntArray | int = 0
        if self.codes is not None:
            order = np.argsort(self.codes, kind="stable").astype(np.int64)
            count = np.bincount(self.codes)
            sizes = np.repeat(count, count).astype(np.float64)
            starts = np.repeat(np.cumsum(count) - count, count).astype(np.int64)
        rows = max(1, _CHUNK // self.n)
        for done in range(0, self.replicates, rows):
            # One double per draw: the stream then does not depend on how it is cut into chunks,
            # as rejection sampling of bounded integers could.
            draws = generator.random((min(rows, self.replicates - done), self.n))
            draws *= sizes
            positions = draws.astype(np.int64)
            positions += starts
            yield positions if order is None else order[positions]

    def counts(self) -> Iterator[FloatArray]:
        """Yield how often each sample was drawn (multinomial weights), chunks of (rows, n)."""
        for positions in self.indices():
            rows = len(positions)
            positions += np.arange(rows, dtype=np.int64)[:, None] * self.n
            drawn = np.bincount(positions.ravel(), minlength=rows * self.n)
            yield drawn.reshape(rows, self.n).astype(np.float64)

    def means(self, values: FloatArray) -> FloatArray:
        """Return the mean of ``values`` (n,) in every replicate, shape (replicates,)."""
        # Row sums instead of a matrix product: no BLAS, so no dependence on its number of threads.
        return np.concatenate([values[chunk].mean(axis=1) for chunk in self.indices()])


def _quantile(ordered: FloatArray, probability: float) -> float:
    """Quantile of sorted replicates; beyond what they can show, stretched along the normal tail.

    A family-wise error rate asks for far quantiles that 1,000 replicates cannot show. Past the last
    quantile with ``_TAIL`` replicates beyond it the distance from the median grows like the normal
    quantile, which keeps the skewness seen so far.
    """
    last = _TAIL / len(ordered)
    if last < 0.25 and not last <= probability <= 1.0 - last:
        end = last if probability < last else 1.0 - last
        median = float(np.quantile(ordered, 0.5))
        stretch = normal_quantile(probability) / normal_quantile(end)
        return median + (float(np.quantile(ordered, end)) - median) * stretch
    return float(np.quantile(ordered, probability))


def replicate_interval(
    estimate: float,
    replicates: ArrayLike,
    confidence: float = 0.95,
    method: Method = "percentile",
    acceleration: float = 0.0,
) -> Interval:
    """Return the interval that bootstrap ``replicates`` (R,) give at any level.

    ``percentile``; ``basic`` (reflected at the estimate); ``bca``: bias-corrected and accelerated
    (Efron 1987, eq. 2.3 with the jackknife's acceleration; plain BC where that is 0). Replicates
    that are not finite (a resample in which the statistic is undefined) are left out if they are at
    most 5%; beyond that, or with an estimate that is not finite, the ends are NaN: no verdict can be
    green on them. Quantiles that too few replicates support are extrapolated along the normal tail.
    """
    _check_confidence(confidence)
    values = np.asarray(replicates, dtype=np.float64).ravel()
    finite = np.sort(values[np.isfinite(values)])
    if not math.isfinite(estimate) or len(finite) < max(1.0, 0.95 * len(values)):
        return Interval(math.nan, math.nan, confidence, method)
    tail = (1.0 - confidence) / 2.0
    lower, upper = tail, 1.0 - tail
    if method == "bca" and finite[0] != finite[-1]:
        below = np.count_nonzero(finite < estimate) + 0.5 * np.count_nonzero(finite == estimate)
        # Half a replicate at each end: a finite bias even where all lie on one side.
        share = min(max(float(below), 0.5), len(finite) - 0.5) / len(finite)
        bias = normal_quantile(share)
        ends = []
        for z in (normal_quantile(tail), -normal_quantile(tail)):
            shrink = 1.0 - acceleration * (bias + z)
            if shrink <= 0:  # Outside the range of the transformation: as far as it goes.
                ends.append(float(special.ndtr(math.copysign(8.0, z))))
            else:
                ends.append(float(special.ndtr(bias + (bias + z) / shrink)))
        lower, upper = (min(max(end, 1e-15), 1.0 - 1e-15) for end in ends)
    low, high = _quantile(finite, lower), _quantile(finite, upper)
    if method == "basic":
        low, high = 2.0 * estimate - high, 2.0 * estimate - low
    return Interval(low, high, confidence, method)


@dataclass(frozen=True)
class BootstrapResult:
    """What :func:`bootstrap` gives back.

    Attributes:
        value: the statistic on the samples themselves.
        low, high: ends of the interval at ``confidence``.
        replicates: (R,) the statistic in every replicate.
        n: number of samples.
        confidence: level of the interval.
        method: e.g. ``"stratified bootstrap, 1000, BCa"``, as :attr:`Figure.method` has it.
        acceleration: BCa's acceleration, None unless ``"bca"`` was asked for.
        resampling: a digest that says which samples the replicates drew: replicates of two results
            with the same digest are paired. Empty unless ``samples`` was given.
        kind: how the interval was made, for arithmetic.
    """

    value: float
    low: float
    high: float
    replicates: FloatArray
    n: int
    confidence: float
    method: str
    acceleration: float | None = None
    resampling: str = ""
    kind: IntervalMethod = IntervalMethod.PERCENTILE

    def figure(
        self, metric: str, *, unit: str = "", details: Mapping[str, Any] | None = None
    ) -> Figure:
        """Return the result as a :class:`Figure`, replicates included."""
        extra: dict[str, Any] = dict(details or {})
        if self.acceleration is not None:
            extra["acceleration"] = self.acceleration
        if self.resampling:
            extra["resampling"] = self.resampling
        return Figure(
            metric=metric,
            value=self.value,
            low=self.low,
            high=self.high,
            n=self.n,
            confidence=self.confidence,
            method=self.method,
            unit=unit,
            replicates=tuple(self.replicates.tolist()),
            details=extra,
            interval=self.kind,
        )


#: The interval of replicates by what a figure says of its own.
_METHODS: dict[IntervalMethod, Method] = {
    IntervalMethod.PERCENTILE: "percentile",
    IntervalMethod.BASIC: "basic",
    IntervalMethod.BCA: "bca",
}


def _method_text(resampling: Resampling, method: Method) -> str:
    kind = "bootstrap" if resampling.codes is None else "stratified bootstrap"
    suffix = {"percentile": "", "bca": ", BCa", "basic": ", basic"}[method]
    return f"{kind}, {resampling.replicates}{suffix}"


def _samples_digest(resampling: Resampling, samples: str) -> str:
    return f"{samples}:{resampling.digest}" if samples else ""


def samples_digest(ids: Sequence[str]) -> str:
    """Return a hex digest of sample ids in their order, for ``samples=`` of :func:`bootstrap`."""
    hasher = hashlib.blake2b(digest_size=12)
    for name in ids:
        raw = name.encode()
        hasher.update(len(raw).to_bytes(8, "little") + raw)
    return hasher.hexdigest()


def _acceleration(leave_out: Callable[[NDArray[np.bool_]], float], resampling: Resampling) -> float:
    """Acceleration from a stratified (grouped) jackknife.

    Several-sample form of Efron (1987, eq. 6.6): sum over strata of sum(u^3)/m^3, over 6 times the
    3/2 power of sum(u^2)/m^2, with u the centred jackknife influences of the m groups. Above
    ``_JACKKNIFE_GROUPS`` samples whole groups are left out: third and second moments of the groups'
    influences add up like those of the samples, and the acceleration (of order n^-1/2) is then so
    small that its noise does not show.
    """
    n = resampling.n
    codes = np.zeros(n, dtype=np.int64) if resampling.codes is None else resampling.codes
    generator = np.random.Generator(np.random.Philox(resampling.seed + 1))
    third = second = 0.0
    for stratum in range(int(codes.max()) + 1):
        members = np.flatnonzero(codes == stratum)
        wanted = max(2, round(_JACKKNIFE_GROUPS * len(members) / n))
        if len(members) < 2:
            continue
        groups = np.array_split(generator.permutation(members), min(wanted, len(members)))
        left = np.empty(len(groups))
        for position, group in enumerate(groups):
            kept = np.ones(n, dtype=np.bool_)
            kept[group] = False
            left[position] = leave_out(kept)
        count = len(groups)
        influence = (count - 1) * (left.mean() - left)
        third += float((influence**3).sum()) / count**3
        second += float((influence**2).sum()) / count**2
    if not math.isfinite(third) or not second > 0.0:
        return 0.0
    return float(third / (6.0 * second**1.5))


def bootstrap(
    statistic: Callable[..., Any],
    *arrays: ArrayLike,
    strata: ArrayLike | None = None,
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    method: Method = "percentile",
    weighted: bool = False,
    samples: str = "",
) -> BootstrapResult:
    """Bootstrap ``statistic`` over samples (Efron & Tibshirani 1993, chapters 6, 13 and 14).

    Args:
        statistic: ``f(*arrays) -> float``. With ``weighted=True`` it is ``f(weights, *arrays)`` with
            weights (R, n) float64, the number of times that each sample was drawn, and gives back
            (R,): all replicates at once, the fast way for whatever is a function of weighted sums.
            ``numpy.mean`` of one array of shape (n,) takes the fast path of :func:`bootstrap_mean`.
        arrays: arrays whose first dimension is n; a row of all of them is one sample. Two
            populations (in- and out-of-distribution scores) are one array with the population as
            stratum.
        strata: (n,) labels, e.g. classes; each keeps its size in every replicate. A stratum of one
            sample never varies.
        replicates: how many; a percentile at 99% wants 1,000.
        seed: the same seed gives the same resamples, whatever the statistic.
        confidence: level of the interval given back.
        method: ``"percentile"``, ``"bca"`` or ``"basic"``, see :func:`replicate_interval`.
        weighted: see ``statistic``.
        samples: identity of the samples (:func:`samples_digest`); makes results comparable in pairs.

    Raises:
        ClipRobustError: no samples.
        ValueError: arrays of different lengths, or a weighted statistic of the wrong shape.
    """
    columns = [np.asarray(array) for array in arrays]
    if not columns or any(c.ndim < 1 or len(c) != len(columns[0]) for c in columns):
        raise ValueError(f"arrays must share their first dimension: {[c.shape for c in columns]}")
    if statistic is np.mean and not weighted and len(columns) == 1 and columns[0].ndim == 1:
        return bootstrap_mean(
            columns[0],
            strata=strata,
            replicates=replicates,
            seed=seed,
            confidence=confidence,
            method=method,
            samples=samples,
        )
    n = len(columns[0])
    plan = Resampling(n, strata=strata, replicates=replicates, seed=seed)

    def evaluate(weights: FloatArray) -> FloatArray:
        result = np.asarray(statistic(weights, *columns), dtype=np.float64)
        if result.shape != (len(weights),):
            raise ValueError(
                f"a weighted statistic gives back shape ({len(weights)},), not {result.shape}"
            )
        return result

    if weighted:
        value = float(evaluate(np.ones((1, n)))[0])
        drawn = np.concatenate([evaluate(chunk) for chunk in plan.counts()])

        def leave_out(kept: NDArray[np.bool_]) -> float:
            return float(evaluate(kept[None].astype(np.float64))[0])

    else:
        value = float(statistic(*columns))
        drawn = np.array(
            [
                float(statistic(*(column[row] for column in columns)))
                for chunk in plan.indices()
                for row in chunk
            ]
        )

        def leave_out(kept: NDArray[np.bool_]) -> float:
            return float(statistic(*(column[kept] for column in columns)))

    acceleration = _acceleration(leave_out, plan) if method == "bca" else None
    return _result(value, drawn, plan, confidence, method, acceleration, samples)


def _result(
    value: float,
    replicates: FloatArray,
    plan: Resampling,
    confidence: float,
    method: Method,
    acceleration: float | None,
    samples: str,
) -> BootstrapResult:
    interval = replicate_interval(value, replicates, confidence, method, acceleration or 0.0)
    return BootstrapResult(
        value=value,
        low=interval.low,
        high=interval.high,
        replicates=replicates,
        n=plan.n,
        confidence=confidence,
        method=_method_text(plan, method),
        kind=IntervalMethod(method),
        acceleration=acceleration,
        resampling=_samples_digest(plan, samples),
    )


def bootstrap_mean(
    values: ArrayLike,
    *,
    strata: ArrayLike | None = None,
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    method: Method = "percentile",
    samples: str = "",
) -> BootstrapResult:
    """Bootstrap the mean of ``values`` (n,), all replicates at once; arguments as :func:`bootstrap`.

    The acceleration has a closed form here (a sixth of the standardised third moment of the sum).

    Raises:
        ClipRobustError: no samples.
        ValueError: ``values`` are not one-dimensional.
    """
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise ValueError(f"values have shape {column.shape}, expected (n,)")
    plan = Resampling(len(column), strata=strata, replicates=replicates, seed=seed)
    acceleration: float | None = None
    if method == "bca":
        codes = np.zeros(plan.n, dtype=np.int64) if plan.codes is None else plan.codes
        count = np.bincount(codes)
        centred = column - (np.bincount(codes, weights=column) / count)[codes]
        # With the strata's shares held fixed, sum(u^3)/m^3 of a stratum is the sum of the cubed
        # deviations from its mean over n^3, and n cancels.
        second = float((centred**2).sum())
        acceleration = float((centred**3).sum()) / (6.0 * second**1.5) if second > 0.0 else 0.0
    return _result(
        float(column.mean()), plan.means(column), plan, confidence, method, acceleration, samples
    )


def proportion(
    metric: str,
    successes: ArrayLike,
    *,
    strata: ArrayLike | None = None,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
    samples: str = "",
    unit: str = "",
    details: Mapping[str, Any] | None = None,
) -> Figure:
    """Return a share of samples, e.g. an accuracy, as a figure.

    Without ``strata`` the interval is Wilson's; with them it is the
    stratified percentile bootstrap, save where that has no spread (all right, or all wrong), which
    would claim certainty: Wilson's then. Bootstrap replicates are kept in every case, so that a
    baseline on the same samples is compared in pairs; ``replicates=0`` leaves them out.

    Args:
        metric: name of the metric.
        successes: (n,) of 0/1 or bool.
        strata: see :func:`bootstrap`.
        confidence: level of the interval.
        replicates: see :func:`bootstrap`.
        seed: see :func:`bootstrap`.
        samples: see :func:`bootstrap`.
        unit: unit of the figure.
        details: see :class:`Figure`.

    Raises:
        ClipRobustError: no samples.
        ValueError: values other than 0 and 1.
    """
    hits = np.asarray(successes, dtype=np.float64)
    if hits.ndim != 1 or not np.isin(hits, (0.0, 1.0)).all():
        raise ValueError("successes must be a flat array of 0 and 1")
    count, n = int(hits.sum()), len(hits)
    extra = dict(details or {})
    drawn: tuple[float, ...] = ()
    ends = wilson(count, n, confidence)
    text, kind = ends.method, IntervalMethod.WILSON
    if replicates:
        result = bootstrap_mean(
            hits,
            strata=strata,
            replicates=replicates,
            seed=seed,
            confidence=confidence,
            samples=samples,
        )
        drawn = tuple(result.replicates.tolist())
        if result.resampling:
            extra["resampling"] = result.resampling
        if strata is not None:
            if result.low < result.high:
                ends = Interval(result.low, result.high, confidence, result.method)
                text, kind = result.method, result.kind
            else:
                text = f"{ends.method} (the stratified bootstrap has no spread)"
    return Figure(
        metric=metric,
        value=count / n,
        low=ends.low,
        high=ends.high,
        n=n,
        confidence=confidence,
        method=text,
        unit=unit,
        replicates=drawn,
        details=extra,
        interval=kind,
    )


def interval_at(figure: Figure, confidence: float) -> Interval:
    """Return a figure's interval at another level.

    At the figure's own level it is the figure's own. Else Wilson's, DeLong's and
    Agresti-Min's (a loss: ``details`` has ``lost`` and ``gained``) are computed anew; replicates give
    theirs (:func:`replicate_interval`); without replicates the two half-widths are scaled by the ratio
    of normal quantiles.
    """
    _check_confidence(confidence)
    if math.isclose(confidence, figure.confidence, rel_tol=0.0, abs_tol=1e-12):
        return Interval(figure.low, figure.high, figure.confidence, figure.method)
    if not all(math.isfinite(x) for x in (figure.value, figure.low, figure.high)):
        return Interval(math.nan, math.nan, confidence, figure.method)
    ends = _recomputed(figure, confidence)
    if ends is not None:
        return Interval(ends.low, ends.high, confidence, figure.method)
    stretch = _two_sided_z(confidence) / _two_sided_z(figure.confidence)
    if figure.interval is IntervalMethod.DELONG and 0.0 < figure.low < figure.high < 1.0:
        centre = float(special.logit(figure.value))
        low, high = (
            float(special.expit(centre + stretch * (float(special.logit(end)) - centre)))
            for end in (figure.low, figure.high)
        )
        return Interval(low, high, confidence, figure.method)
    return Interval(
        figure.value - stretch * (figure.value - figure.low),
        figure.value + stretch * (figure.high - figure.value),
        confidence,
        f"{figure.method} rescaled".strip(),
    )


def _recomputed(figure: Figure, confidence: float) -> Interval | None:
    """Return the interval from the counts or replicates that a figure keeps; None: it has none."""
    kind, details = figure.interval, figure.details
    trials = int(details.get("trials", figure.n))
    if kind is IntervalMethod.WILSON and trials > 0:
        return wilson(figure.value * trials, trials, confidence)
    if kind is IntervalMethod.AGRESTI_MIN and {"lost", "gained"} <= details.keys():
        return agresti_min(int(details["lost"]), int(details["gained"]), figure.n, confidence)
    if figure.replicates and kind is not IntervalMethod.DELONG:
        acceleration = float(details.get("acceleration", 0.0))
        method = _METHODS.get(kind, "percentile")
        return replicate_interval(figure.value, figure.replicates, confidence, method, acceleration)
    return None


# --- AUROC -----------------------------------------------------------------------------------------


def _midranks(values: FloatArray) -> FloatArray:
    """Ranks from 1, ties sharing their mean rank."""
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks: FloatArray = (last - (count - 1) / 2.0)[inverse]
    return ranks


def delong(positive: ArrayLike, negative: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return AUROCs and their covariance, for K scores on the same samples.

    DeLong, DeLong & Clarke-Pearson (1988), by the midrank algorithm of Sun & Xu (2014), in
    O(n log n). Larger scores speak for the positive class; ties count a half.

    Args:
        positive: (m,) or (K, m) scores of the positive samples.
        negative: (n,) or (K, n) scores of the negative samples.

    Returns:
        AUROCs (K,) and covariance (K, K).

    Raises:
        ClipRobustError: fewer than two samples of either class.
        ValueError: NaN, or shapes that do not fit.
    """
    above = np.atleast_2d(np.asarray(positive, dtype=np.float64))
    below = np.atleast_2d(np.asarray(negative, dtype=np.float64))
    if above.ndim != 2 or below.ndim != 2 or len(above) != len(below):
        raise ValueError(f"scores have shapes {above.shape} and {below.shape}")
    m, n = above.shape[1], below.shape[1]
    if m < 2 or n < 2:
        raise ClipRobustError(
            f"an AUROC's variance needs two samples of each class, not {m} positive and "
            f"{n} negative ones; check the data sets"
        )
    if np.isnan(above).any() or np.isnan(below).any():
        raise ValueError("scores contain NaN")
    areas = np.empty(len(above))
    v10 = np.empty(above.shape)
    v01 = np.empty(below.shape)
    for k in range(len(above)):
        joint = _midranks(np.concatenate([above[k], below[k]]))
        areas[k] = (joint[:m].sum() - m * (m + 1) / 2.0) / (m * n)
        v10[k] = (joint[:m] - _midranks(above[k])) / n
        v01[k] = 1.0 - (joint[m:] - _midranks(below[k])) / m
    covariance: FloatArray = np.atleast_2d(np.cov(v10)) / m + np.atleast_2d(np.cov(v01)) / n
    return areas, covariance


def auroc(
    metric: str,
    positive: ArrayLike,
    negative: ArrayLike,
    *,
    confidence: float = 0.95,
    details: Mapping[str, Any] | None = None,
) -> Figure:
    """Return an AUROC as a figure, with DeLong's variance on the logit scale (Pepe 2003, 5.2).

    Where the variance is zero (the classes are perfectly apart) it says nothing; the interval is
    then Wilson's over min(m, n) disjoint positive-negative pairs, which is valid and conservative.
    Scores with NaN give a NaN figure.

    Args:
        metric: name of the metric.
        positive: (m,) scores of the positive class.
        negative: (n,) scores of the negative class.
        confidence: level of the interval.
        details: see :class:`Figure`.

    Raises:
        ClipRobustError: fewer than two samples of either class.
    """
    above = np.asarray(positive, dtype=np.float64).ravel()
    below = np.asarray(negative, dtype=np.float64).ravel()
    extra = {**(details or {}), "positives": len(above), "negatives": len(below)}
    total = len(above) + len(below)
    if np.isnan(above).any() or np.isnan(below).any():
        nan = math.nan
        return Figure(metric, nan, nan, nan, total, confidence, "DeLong", details=extra)
    areas, covariance = delong(above, below)
    area, variance = float(areas[0]), float(covariance[0, 0])
    if variance > 0.0 and 0.0 < area < 1.0:
        centre = float(special.logit(area))
        half = _two_sided_z(confidence) * math.sqrt(variance) / (area * (1.0 - area))
        low, high = float(special.expit(centre - half)), float(special.expit(centre + half))
        method, kind = "DeLong", IntervalMethod.DELONG
    else:
        pairs = min(len(above), len(below))
        ends = wilson(area * pairs, pairs, confidence)
        low, high = ends.low, ends.high
        method, kind = "Wilson over disjoint pairs (DeLong's variance is 0)", IntervalMethod.WILSON
        extra["trials"] = pairs
    return Figure(metric, area, low, high, total, confidence, method, details=extra, interval=kind)


# --- Paired comparison -----------------------------------------------------------------------------


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


def agresti_min(gains: int, losses: int, n: int, confidence: float = 0.95) -> Interval:
    """Return the interval for ``(gains - losses) / n`` over ``n`` pairs (Agresti & Min 2005).

    Wald's, with half a pair added to each of the four cells; it does not collapse where no pair is
    discordant.
    """
    total = n + 2.0
    centre = (gains - losses) / total
    spread = (gains + losses + 1.0) - (gains - losses) ** 2 / total
    half = _two_sided_z(confidence) * math.sqrt(spread) / total
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    return Interval(low, high, confidence, "paired, Agresti-Min")


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


# --- Many comparisons ------------------------------------------------------------------------------


def _p_values(p_values: ArrayLike) -> FloatArray:
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0.0) & (values <= 1.0)).all():
        raise ValueError("p-values must be a flat array of numbers from 0 to 1")
    return values


def holm(p_values: ArrayLike) -> FloatArray:
    """Return p-values (m,) adjusted by Holm's step-down method (1979): family-wise error rate."""
    values = _p_values(p_values)
    order = np.argsort(values, kind="stable")
    m = len(values)
    adjusted = np.empty(m)
    steps = np.maximum.accumulate(values[order] * (m - np.arange(m))) if m else values
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def comparison_confidence(family_wise_error_rate: float, comparisons: int) -> float:
    """Return the confidence of each of ``comparisons`` intervals that keeps the family's error rate.

    Šidák's 1 − (1 − α)^(1/m) holds for two-sided intervals of jointly normal estimates whatever
    their correlation (Šidák 1967), which is what large-sample intervals over shared test images are;
    Bonferroni's α/m holds always and is at most a few percent wider. Holm's method is more powerful
    for tests but gives no intervals of its own: each step's level depends on the outcome of all other
    comparisons, which the single test, as it runs, cannot know. So: Šidák, single-step.

    Raises:
        ValueError: a rate outside (0, 1), or fewer than one comparison.
    """
    if not 0.0 < family_wise_error_rate < 1.0:
        raise ValueError(f"an error rate lies between 0 and 1, not {family_wise_error_rate!r}")
    if comparisons < 1:
        raise ValueError(f"at least one comparison is needed, not {comparisons}")
    return math.exp(math.log1p(-family_wise_error_rate) / comparisons)


# --- Sample size -----------------------------------------------------------------------------------


def samples_needed(
    value: float,
    low: float,
    high: float,
    n: int,
    bound: float,
    *,
    confidence: float = 0.95,
    power: float = 0.5,
) -> int | None:
    """Return the n at which the interval would lie wholly on one side of ``bound``.

    The half-width facing the bound shrinks with 1/sqrt(n). If the value stayed as it is, n times the
    square of half-width over distance would do; since it will not, that decides with probability 0.5
    only, and ``power`` asks for more: the distance must then be z(confidence) + z(power) standard
    errors.

    Args:
        value: the point estimate.
        low: lower end of the interval at ``confidence``.
        high: upper end of the interval at ``confidence``.
        n: present number of samples.
        bound: the bound to decide on.
        confidence: level of the interval.
        power: probability of a decision, 0.5 to below 1.

    Returns:
        The number of samples, at least 1; None if no number would do (the value sits on the bound,
        or is not finite).
    """
    if not 0.5 <= power < 1.0:
        raise ValueError(f"power must be at least 0.5 and below 1, not {power!r}")
    half = high - value if bound >= value else value - low
    distance = abs(bound - value)
    if not (math.isfinite(half) and math.isfinite(distance)) or distance == 0.0 or n < 1:
        return None
    z = _two_sided_z(confidence)
    ratio = max(half, 0.0) / distance * (1.0 + normal_quantile(power) / z)
    needed = n * ratio * ratio  # a power would raise where a product overflows to infinity
    return max(1, math.ceil(needed - 1e-9)) if math.isfinite(needed) else None

"""The bootstrap: which samples each replicate draws, and intervals from the replicates.

The resampling depends on (n, strata, seed, number of the replicate) alone, so that two figures measured
on the same samples have *paired* replicates: their replicate-wise difference is a paired bootstrap
(:func:`~pytest_cliprobust.figures.paired.difference_interval` uses this).
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
from pytest_cliprobust.figures.arrays import Floats, Ints
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.intervals import Interval, check_confidence, normal_quantile, wilson

#: Resampled elements that are held at once; bounds the memory (about 32 MB), never the result.
_CHUNK = 1 << 21


#: Replicates that must lie beyond a quantile before it is read off; further out it is extrapolated.
_TAIL = 5


#: Leave-out groups of the jackknife behind BCa's acceleration.
_JACKKNIFE_GROUPS = 2000


Method = Literal["percentile", "bca", "basic"]


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
        self.codes: Ints | None = None
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

    def indices(self) -> Iterator[Ints]:
        """Yield positions in chunks of shape (rows, n), ``replicates`` rows in all."""
        generator = np.random.Generator(np.random.Philox(self.seed))
        order: Ints | None = None
        sizes: Floats | float = float(self.n)
        starts: Ints | int = 0
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

    def counts(self) -> Iterator[Floats]:
        """Yield how often each sample was drawn (multinomial weights), chunks of (rows, n)."""
        for positions in self.indices():
            rows = len(positions)
            positions += np.arange(rows, dtype=np.int64)[:, None] * self.n
            drawn = np.bincount(positions.ravel(), minlength=rows * self.n)
            yield drawn.reshape(rows, self.n).astype(np.float64)

    def means(self, values: Floats) -> Floats:
        """Return the mean of ``values`` (n,) in every replicate, shape (replicates,)."""
        # Row sums instead of a matrix product: no BLAS, so no dependence on its number of threads.
        return np.concatenate([values[chunk].mean(axis=1) for chunk in self.indices()])


def _quantile(ordered: Floats, probability: float) -> float:
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
    check_confidence(confidence)
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
    replicates: Floats
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
METHODS: dict[IntervalMethod, Method] = {
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

    def evaluate(weights: Floats) -> Floats:
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
    replicates: Floats,
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

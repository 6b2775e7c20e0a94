"""The bootstrap: which samples each replicate draws, and intervals from the replicates.

The resampling depends on (n, strata, units, seed, number of the replicate) alone, so that whatever is
computed from the same samples is resampled together. Units are drawn by the order of their labels: what a
replicate holds does not depend on the order in which the samples came.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Floats, Ints
from pytest_cliprobust.figures.figure import IntervalMethod
from pytest_cliprobust.figures.intervals import Interval, check_confidence, normal_quantile

#: Resampled elements that are held at once; bounds the memory (about 32 MB), never the result.
_CHUNK = 1 << 21


#: Replicates that must lie beyond a quantile before it is read off; further out it is extrapolated.
_TAIL = 5


Method = Literal["percentile", "basic"]


class Resampling:
    """Which samples each bootstrap replicate draws; shared by all figures on the same samples.

    Args:
        n: number of samples.
        strata: (n,) any labels; each stratum keeps its size in every replicate.
        replicates: number of replicates; the first k are the same whatever the total.
        seed: seed of the counter-based generator (Philox, Salmon et al. 2011).
        units: (n,) any labels of what the samples were drawn from; whole units are drawn, with all of
            their samples (Davison & Hinkley 1997, section 3.8), so that a replicate holds n samples
            only on average. A stratum keeps its number of units then; strata that cut through units
            are not kept. Units of one sample each are samples that are drawn in the order of those labels.

    Raises:
        ClipRobustError: no samples.
        ValueError: fewer than one replicate, or strata or units of another length.
    """

    def __init__(
        self,
        n: int,
        *,
        strata: ArrayLike | None = None,
        replicates: int = 1000,
        seed: int = 0,
        units: ArrayLike | None = None,
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
        self._rows: Ints | None = None
        self._members: Ints | None = None
        self._of_units: Resampling | None = None
        if units is not None:
            self._draw_units(np.asarray(units))

    def _draw_units(self, units: NDArray[Any]) -> None:
        if units.shape != (self.n,):
            raise ValueError(f"units have shape {units.shape}, the samples ({self.n},)")
        _, first, members = np.unique(units, return_index=True, return_inverse=True)
        if len(first) == self.n:
            self._rows = first.astype(np.int64) if (np.diff(first) < 0).any() else None
            return
        strata = None
        if self.codes is not None and (self.codes[first][members] == self.codes).all():
            strata = self.codes[first]
        self._members = members.astype(np.int64)
        self._of_units = Resampling(
            len(first), strata=strata, replicates=self.replicates, seed=self.seed
        )

    @property
    def digest(self) -> str:
        """Hex digest of (n, strata, units, seed): equal digests draw the same samples."""
        hasher = hashlib.blake2b(f"{self.n}\0{self.seed}".encode(), digest_size=12)
        for codes in (self.codes, self._members, self._rows):
            hasher.update(b"\0" if codes is None else b"\1" + codes.tobytes())
        return hasher.hexdigest()

    @property
    def stratified(self) -> bool:
        """Whether strata keep their sizes, in samples or in units."""
        plan = self if self._of_units is None else self._of_units
        return plan.codes is not None

    def indices(self) -> Iterator[Ints]:
        """Yield positions in chunks of shape (rows, n), ``replicates`` rows in all.

        Raises:
            ValueError: whole units are drawn, so replicates differ in size; use :meth:`counts`.
        """
        if self._of_units is not None:
            raise ValueError("replicates of whole units differ in size: use counts()")
        generator = np.random.Generator(np.random.Philox(self.seed))
        order = self._rows
        sizes: Floats | float = float(self.n)
        starts: Ints | int = 0
        if self.codes is not None:
            codes = self.codes if order is None else self.codes[order]
            within = np.argsort(codes, kind="stable").astype(np.int64)
            order = within if order is None else order[within]
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
        if self._of_units is not None:
            rows = max(1, _CHUNK // self.n)
            for drawn_units in self._of_units.counts():
                for done in range(0, len(drawn_units), rows):
                    yield drawn_units[done : done + rows, self._members]
            return
        for positions in self.indices():
            rows = len(positions)
            positions += np.arange(rows, dtype=np.int64)[:, None] * self.n
            drawn = np.bincount(positions.ravel(), minlength=rows * self.n)
            yield drawn.reshape(rows, self.n).astype(np.float64)


def _quantile(ordered: Floats, probability: float) -> float:
    """Quantile, below 0.5, of sorted replicates; beyond what they can show, stretched along the normal tail.

    A family-wise error rate asks for far quantiles that 1,000 replicates cannot show. Past the last
    quantile with ``_TAIL`` replicates beyond it the distance from the median grows like the normal
    quantile, which keeps the skewness seen so far.
    """
    last = _TAIL / len(ordered)
    if last < 0.25 and probability < last:
        median = float(np.quantile(ordered, 0.5))
        stretch = normal_quantile(max(probability, 1e-300)) / normal_quantile(last)
        return median + (float(np.quantile(ordered, last)) - median) * stretch
    return float(np.quantile(ordered, probability))


def replicate_interval(
    estimate: float,
    replicates: ArrayLike,
    confidence: float = 0.95,
    method: Method = "percentile",
    *,
    units: int | None = None,
) -> Interval:
    """Return the interval that bootstrap ``replicates`` (R,) give at any level.

    ``percentile``; ``basic`` (reflected at the estimate). Given the number of ``units`` that were drawn,
    the quantiles lie as far out as Student's, for the replicates' variance is (units - 1) / units of what
    it should be ("expanded percentile", Hesterberg 2015); one unit gives no interval. Replicates
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
    if units is not None:
        if units < 2:
            return Interval(math.nan, math.nan, confidence, method)
        far = special.stdtrit(units - 1.0, tail) * math.sqrt(units / (units - 1.0))
        tail = float(special.ndtr(far))
    # The upper quantile through the lower tail: 1 - tail would round to 1 for a very small one.
    low, high = _quantile(finite, tail), -_quantile(-finite[::-1], tail)
    if method == "basic":
        low, high = 2.0 * estimate - high, 2.0 * estimate - low
    return Interval(low, high, confidence, method)


#: The interval of replicates by what a figure says of its own.
METHODS: dict[IntervalMethod, Method] = {
    IntervalMethod.PERCENTILE: "percentile",
    IntervalMethod.BASIC: "basic",
}

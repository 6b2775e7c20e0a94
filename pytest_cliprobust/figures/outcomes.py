"""What a figure is a function of: one row for each sample.

A property hands over columns and a statistic; the figure, its interval, and its change against an earlier
run on the same samples all follow from them::

    Outcomes({"value": correct}, mean)

The statistic is given *weights*, how often each sample counts, so that all bootstrap replicates are one
call. Statistics that several properties share stand below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Floats, Ints
from pytest_cliprobust.figures.ends import Compared
from pytest_cliprobust.figures.keys import SampleKeys

#: One row a sample: (N,) or (N, K), of booleans or numbers.
Column: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Outcomes:
    """What N samples came to, and the statistic that makes a figure of it.

    Attributes:
        columns: by name, (N,) or (N, K), what the model made of each sample.
        statistic: from weights (R, N) and the outcomes to (R,), see :data:`Statistic`.
        attributes: by name, (N,) or (N, K), what the samples are whatever the model (group, class,
            in- or out-of-distribution).
        parameters: numbers that the statistic or the comparison needs and that belong to the run (the
            strengths at which a frontier was measured).
        keys: who the samples are; None for bare arrays.
        fitted_on: digest of further samples that the figure hangs on (a temperature or a threshold was
            fitted on them, or scores are held against them); empty where there are none. Runs whose figures
            hang on other ones measured something else, though the samples and the model be the same.
        coarse: whether two models may well have the same columns: they are means of a few answers. Answers
            themselves, booleans, always are.
        compare: from an earlier run's outcomes and these to the change, with its interval; None: the
            bootstrap's. Both hold the same samples, and the earlier ones this run's attributes and
            statistic.
    """

    columns: Mapping[str, Column]
    statistic: Statistic = field(repr=False)
    attributes: Mapping[str, Column] = field(default_factory=dict, repr=False)
    parameters: Mapping[str, Sequence[float]] = field(default_factory=dict, repr=False)
    keys: SampleKeys | None = field(default=None, repr=False)
    fitted_on: str = ""
    coarse: bool = False
    compare: Compare | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check that all columns are of the same samples."""
        lengths = {len(column) for column in (*self.columns.values(), *self.attributes.values())}
        lengths |= set() if self.keys is None else {len(self.keys)}
        if len(lengths) != 1:
            raise ClipRobustError(
                f"outcomes of different samples: columns of {sorted(lengths)} rows"
            )

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(next(iter(self.columns.values())))

    def __getitem__(self, name: str) -> Column:
        """Return a column or an attribute."""
        return self.columns[name] if name in self.columns else self.attributes[name]

    def take(self, rows: Ints) -> Outcomes:
        """Return the outcomes of the samples at ``rows``."""
        return replace(
            self,
            columns={name: column[rows] for name, column in self.columns.items()},
            attributes={name: column[rows] for name, column in self.attributes.items()},
            keys=None if self.keys is None else self.keys.take(rows),
        )

    def of(self, keys: SampleKeys | None) -> Outcomes:
        """Return the same outcomes with the samples that they are of."""
        return replace(self, keys=keys)

    def at(self, weights: Floats) -> Floats:
        """Return the statistic (R,) at weights (R, N)."""
        return np.asarray(self.statistic(weights, self), dtype=np.float64)

    def value(self) -> float:
        """Return the statistic of the samples themselves, each counting once."""
        return float(self.at(np.ones((1, len(self))))[0])

    @property
    def is_share(self) -> bool:
        """Whether the figure is the share of samples of which something is true."""
        first = next(iter(self.columns.values()))
        return self.statistic is mean and len(self.columns) == 1 and first.dtype == np.bool_

    @property
    def tells_models_apart(self) -> bool:
        """Whether two models with the same columns are the same, as far as anyone can tell."""
        return not self.coarse and not all(c.dtype == np.bool_ for c in self.columns.values())


#: From weights (R, N) and outcomes of N samples to (R,).
Statistic: TypeAlias = Callable[[Floats, Outcomes], Floats]

#: From an earlier run's outcomes and this run's, of the same samples, to the change.
Compare: TypeAlias = Callable[[Outcomes, Outcomes], Compared]


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


#: A resample of whole units may hold more samples than there are: with float64's spare bit up to eight
#: times as many are added without rounding.
ROOM = 4


def sums(weights: Floats, column: Column) -> Floats:
    """Return the weighted sums of a column (N,) or (N, K), as (R,) or (R, K), without rounding."""
    values = exact(np.asarray(column, dtype=np.float64), ROOM * len(column))
    # Infinite values that are not drawn give NaN, and no warning.
    with np.errstate(invalid="ignore"):
        return np.asarray(weights @ values, dtype=np.float64)


def ratio(numerator: Any, denominator: Any) -> Floats:
    """Return the quotient, NaN where the denominator is zero."""
    top, bottom = np.broadcast_arrays(
        np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    )
    out = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=out, where=bottom != 0)
    return out


def means(weights: Floats, column: Column) -> Floats:
    """Return the weighted means of a column (N,) or (N, K), as (R,) or (R, K)."""
    totals = weights.sum(axis=1)
    added = sums(weights, column)
    return ratio(added, totals if added.ndim == 1 else totals[:, None])


def same_value(made: float, recorded: float) -> bool:
    """Return whether a figure and what its outcomes give are the same, as far as float32 keeps outcomes."""
    return abs(made - recorded) <= 1e-5 * max(1.0, abs(recorded))


def not_known(weights: Floats, outcomes: Outcomes) -> Floats:
    """Stand for the statistic of outcomes that were read from a file, which holds none.

    Raises:
        ClipRobustError: always; the run that compares brings its own.
    """
    raise ClipRobustError("outcomes that were read from a file have no statistic of their own")


def mean(weights: Floats, outcomes: Outcomes) -> Floats:
    """Return the weighted mean of the only column."""
    return means(weights, next(iter(outcomes.columns.values())))


def drop(weights: Floats, outcomes: Outcomes) -> Floats:
    """Return the weighted mean of the column ``clean`` minus that of ``shifted``."""
    return means(weights, outcomes["clean"]) - means(weights, outcomes["shifted"])


def relative_drop(weights: Floats, outcomes: Outcomes) -> Floats:
    """Return :func:`drop` as a share of the mean of ``clean``."""
    clean = means(weights, outcomes["clean"])
    return ratio(clean - means(weights, outcomes["shifted"]), clean)


def quotient(weights: Floats, outcomes: Outcomes) -> Floats:
    """Return the weighted sum of ``hits`` over that of ``trials``."""
    return ratio(sums(weights, outcomes["hits"]), sums(weights, outcomes["trials"]))

"""What a model costs beside another: throughput, latency, peak memory, as multiples of a baseline model's.

Seconds and bytes are those of one machine at one moment. Of two models that are timed in turn, round by
round, both have met the same machine: the ratio of a round is theirs alone, but for what happened within it.
The figure is the median of the rounds' ratios, which a few disturbed rounds do not move (on rounds, and on
ratios of times: Georges et al. 2007; Kalibera & Jones 2013). Its interval is that of order statistics, which
holds whatever the distribution of times (David & Nagaraja 2003, section 7.1), for rounds that do not hang on
each other.

The absolute figures (images a second, milliseconds, megabytes) are reported, and never judged.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.figures.bootstrap import DEFAULT, Bootstrap, figure_of_ends
from pytest_cliprobust.figures.ends import EndsAt
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.metrics import METRICS, register_metric
from pytest_cliprobust.figures.outcomes import Outcomes, not_known
from pytest_cliprobust.figures.samples import Samples
from pytest_cliprobust.figures.taken import takes_samples

#: Why nothing absolute is gated.
_ABSOLUTE = "another machine has another, and so has this one under load; bound relative_{}"

#: Why no change of a ratio is gated: an earlier run's rounds are not this one's.
_CHANGE = "an earlier run was timed at another moment, perhaps elsewhere; bound the ratio itself"


_relative = partial(
    register_metric, high=None, change_gateable=False, why_not_gateable=_CHANGE, recorded=False
)
_absolute = partial(register_metric, high=None, gateable=False)


@takes_samples
def throughput_of(samples: Samples, seconds: ArrayLike) -> list[Figure]:
    """Return ``relative_throughput`` and ``throughput`` (images a second).

    Args:
        samples: the N pictures of a pass.
        seconds: (rounds, 2) that a pass over them takes: of the model under test, and of the baseline model
            right beside it.

    Raises:
        ClipRobustError: see :func:`throughput_figures`.
    """
    figures = throughput_figures(seconds, len(samples.ids))
    return [figure.measured_on(samples.condition) for figure in figures]


@takes_samples
def latency_of(samples: Samples, seconds: ArrayLike) -> list[Figure]:
    """Return ``relative_latency`` and ``latency`` (milliseconds).

    Args:
        samples: what a pass is over: one picture.
        seconds: (rounds, 2), as for :func:`throughput_of`.

    Raises:
        ClipRobustError: see :func:`latency_figures`.
    """
    return [figure.measured_on(samples.condition) for figure in latency_figures(seconds)]


@takes_samples
def peak_memory_of(samples: Samples, own: ArrayLike, baseline: ArrayLike) -> list[Figure]:
    """Return ``relative_peak_memory`` and ``peak_memory`` (megabytes).

    Args:
        samples: the pictures of a pass.
        own, baseline: (passes,) bytes of the model under test and of the baseline model, weights included.

    Raises:
        ClipRobustError: see :func:`peak_memory_figures`.
    """
    figures = peak_memory_figures(own, baseline)
    return [figure.measured_on(samples.condition) for figure in figures]


@_relative(
    "relative_throughput",
    higher_is_better=True,
    meaning="images a second, as a multiple of the baseline model's in the same run",
)
@_absolute(
    "throughput",
    higher_is_better=True,
    meaning="images a second",
    unit="images/s",
    why_not_gateable=_ABSOLUTE.format("throughput"),
)
def throughput_figures(
    seconds: ArrayLike, images: int, *, bootstrap: Bootstrap = DEFAULT
) -> list[Figure]:
    """Return ``relative_throughput`` and ``throughput``: N images over the seconds of a pass.

    Args:
        seconds: (rounds, 2): the model's passes, and the baseline model's.
        images: N of a pass.
        bootstrap: the level.

    Raises:
        ClipRobustError: no rounds, or seconds that are none.
    """
    own, baseline = _rounds(seconds, "seconds")
    details = {"images": images, "baseline": images / float(np.median(baseline))}
    return [
        _median_figure("relative_throughput", baseline / own, bootstrap),
        _median_figure("throughput", images / own, bootstrap, details),
    ]


@_relative(
    "relative_latency",
    higher_is_better=False,
    meaning="time for one picture, as a multiple of the baseline model's in the same run",
)
@_absolute(
    "latency",
    higher_is_better=False,
    meaning="time for one picture",
    unit="ms",
    why_not_gateable=_ABSOLUTE.format("latency"),
)
def latency_figures(seconds: ArrayLike, *, bootstrap: Bootstrap = DEFAULT) -> list[Figure]:
    """Return ``relative_latency`` and ``latency``: the time of a pass over one picture.

    Args:
        seconds: (rounds, 2), as for :func:`throughput_figures`.
        bootstrap: the level.

    Raises:
        ClipRobustError: no rounds, or seconds that are none.
    """
    own, baseline = _rounds(seconds, "seconds")
    return [
        _median_figure("relative_latency", own / baseline, bootstrap),
        _median_figure(
            "latency", 1e3 * own, bootstrap, {"baseline": 1e3 * float(np.median(baseline))}
        ),
    ]


@_relative(
    "relative_peak_memory",
    higher_is_better=False,
    meaning="weights and the most that a pass needs beside them, as a multiple of the baseline model's",
)
@_absolute(
    "peak_memory",
    higher_is_better=False,
    meaning="weights and the most memory that a pass needs beside them",
    unit="MB",
    why_not_gateable=_ABSOLUTE.format("peak_memory"),
)
def peak_memory_figures(own: ArrayLike, baseline: ArrayLike) -> list[Figure]:
    """Return ``relative_peak_memory`` and ``peak_memory``, with the range of the passes for an interval.

    What a pass allocates does not hang on chance: passes that differ tell of an allocator, not of a sample.

    Args:
        own, baseline: (passes,) bytes of either model.

    Raises:
        ClipRobustError: no passes, or bytes that are none.
    """
    mine, theirs = _rounds(np.column_stack([own, baseline]), "bytes")
    ratios = np.outer(mine, 1.0 / theirs).ravel()
    return [
        _range_figure("relative_peak_memory", ratios, len(mine)),
        _range_figure("peak_memory", mine / 1e6, len(mine)),
    ]


def _rounds(values: ArrayLike, what: str) -> tuple[Floats, Floats]:
    """Return both columns (rounds,) of what was measured in turn."""
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 2 or found.shape[1] != 2 or not len(found):
        raise ClipRobustError(f"{what} of two models are (rounds, 2), not {found.shape}")
    if not (np.isfinite(found) & (found > 0.0)).all():
        raise ClipRobustError(
            f"{what} of a pass are positive numbers: {float(found.min()):g} is not"
        )
    return found[:, 0], found[:, 1]


def _median_figure(
    metric: str, values: Floats, bootstrap: Bootstrap, details: dict[str, float] | None = None
) -> Figure:
    """Return the median over rounds (R,), between the order statistics that hold it."""
    return figure_of_ends(
        metric,
        float(np.median(values)),
        median_ends(values),
        # Rounds are no samples that another run has, too.
        Outcomes({"value": values}, not_known),
        bootstrap,
        IntervalMethod.ORDER,
        f"order statistics of {len(values)} rounds",
        bounds=(0.0, math.inf),
        unit=METRICS.named(metric).unit,
        details=details,
        comparable=False,
    )


def median_ends(values: Floats) -> EndsAt:
    """Return the exact ends of a median at every level: the k-th smallest and the k-th largest value.

    As many of R values lie below the median as heads fall in R throws, so that k is the largest number for
    which fewer than k heads are as rare as is left out. Where even the extremes are not rare enough, the ends
    are 0 and infinity: times and sizes are positive.

    Args:
        values: (R,) positive numbers.
    """
    ordered, count = np.sort(values), len(values)
    # The chance of at most 0, 1, … heads.
    chances = special.bdtr(np.arange(count // 2 + 1), count, 0.5)

    def at(tails: Floats) -> tuple[Floats, Floats]:
        k = np.searchsorted(chances, tails, side="right").clip(max=(count + 1) // 2)
        inside = np.maximum(k, 1)
        return (
            np.where(k == 0, 0.0, ordered[inside - 1]),
            np.where(k == 0, math.inf, ordered[count - inside]),
        )

    return at


def _range_figure(metric: str, values: Floats, passes: int) -> Figure:
    return Figure(
        metric,
        value=float(np.median(values)),
        low=float(values.min()),
        high=float(values.max()),
        n=passes,
        method=f"range of {passes} passes",
        unit=METRICS.named(metric).unit,
        units=passes,
    )

"""From one value a sample to a figure with its interval: all that a metric of one's own needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.figures.bootstrap import bootstrap_figure, mean_figure, proportion_figure
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.outcomes import Outcomes
from pytest_cliprobust.figures.outcomes import Statistic as Weighted
from pytest_cliprobust.figures.samples import Samples

Statistic = Callable[[NDArray[Any]], float]
S = TypeVar("S", bound=Samples)


def measure(
    metric: str,
    samples: S,
    values: Callable[[S], ArrayLike],
    statistic: Statistic | None = None,
) -> Figure:
    """Return a figure of ``samples`` from one value (or row of values) a sample.

    The values are asked of the samples, so that those of one condition are not filed under another.

    Example:
        >>> def margins(view):
        ...     logits = np.sort(view.logits, axis=1)
        ...     return logits[:, -1] - logits[:, -2]
        >>> measure("margin", clip.on("clean"), margins)
        >>> measure("median_margin", clip.on("clean", "fog_3d", 3), margins, statistic=np.median)

    Args:
        metric: its registered name; its range bounds the interval.
        samples: N samples, such as ``clip.on("clean")``; they say what the figure was measured on.
        values: from ``samples`` to (N,) or (N, K), row i of sample i. Booleans are shares, with
            Wilson's interval; of numbers the mean is taken (:mod:`~pytest_cliprobust.figures.means`).
        statistic: from the values of some samples, (n,) or (n, K), to a number; resampled for the
            interval.

    Raises:
        ClipRobustError: an unknown metric, values that are no function, or not one row of values for
            each sample.
    """
    known = METRICS.named(metric)
    if not callable(values):
        raise ClipRobustError(
            f"metric {metric!r}: give a function of the samples, such as lambda view: view.correct, not "
            "an array: whose it is, an array does not say"
        )
    rows = np.asarray(values(samples))
    if len(rows) != len(samples.ids):
        raise ClipRobustError(
            f"metric {metric!r}: {len(rows)} values for the {len(samples.ids)} samples of "
            f"{samples.condition}; one for each is needed, in their order"
        )
    bootstrap = samples.bootstrap
    if statistic is None and rows.ndim == 1 and rows.dtype == np.bool_:
        figure = proportion_figure(metric, rows, bootstrap)
    elif statistic is None:
        if rows.ndim != 1:
            raise ClipRobustError(f"values of shape {rows.shape} need a statistic")
        figure = mean_figure(metric, rows, bootstrap, unit=known.unit, bounds=known.bounds)
    else:
        figure = bootstrap_figure(
            metric,
            float(statistic(rows)),
            Outcomes({"value": rows}, _weighted(statistic)),
            bootstrap,
            unit=known.unit,
            bounds=known.bounds,
        )
    return figure.measured_on(samples.condition)


def _weighted(statistic: Statistic) -> Weighted:
    """Return the statistic of values as one of weighted outcomes."""

    def drawn(weights: Floats, outcomes: Outcomes) -> Floats:
        values = outcomes["value"]
        return np.array(
            [float(statistic(np.repeat(values, w.astype(np.int64), axis=0))) for w in weights]
        )

    return drawn

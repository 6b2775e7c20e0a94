"""From one value a sample to a figure with its interval: all that a metric of one's own needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.bootstrap import (
    Bootstrap,
    bootstrap_figure,
    proportion_figure,
    resampled_sums,
)
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.samples import Samples

Statistic = Callable[[NDArray[Any]], float]


def measure(
    metric: str, samples: Samples, values: ArrayLike, statistic: Statistic | None = None
) -> Figure:
    """Return a figure of ``samples`` from one value (or row of values) a sample.

    Example:
        >>> measure("margin", view, top - second)
        >>> measure("median_margin", view, top - second, statistic=np.median)

    Args:
        metric: its registered name; its range bounds the interval.
        samples: N samples, such as ``clip.on("clean")``; they say what the figure was measured on.
        values: (N,) or (N, K), row i of sample i. Booleans are shares, with Wilson's interval; of
            numbers the mean is taken, with a bootstrap interval.
        statistic: from the values of some samples, (n,) or (n, K), to a number; resampled for the
            interval.

    Raises:
        ClipRobustError: an unknown metric, or not one row of values for each sample.
    """
    known = METRICS.named(metric)
    rows = np.asarray(values)
    if len(rows) != len(samples.ids):
        raise ClipRobustError(
            f"metric {metric!r}: {len(rows)} values for the {len(samples.ids)} samples of "
            f"{samples.condition}; one for each is needed, in their order"
        )
    bootstrap = samples.bootstrap
    if statistic is None and rows.ndim == 1 and rows.dtype == np.bool_:
        figure = proportion_figure(metric, rows, bootstrap)
    else:
        value, replicates = _resampled(rows, statistic, bootstrap)
        figure = bootstrap_figure(
            metric,
            value,
            replicates,
            len(rows),
            bootstrap,
            unit=known.unit,
            bounds=(
                -math.inf if known.low is None else known.low,
                math.inf if known.high is None else known.high,
            ),
        )
    return figure.measured_on(samples.condition)


def _resampled(
    rows: NDArray[Any], statistic: Statistic | None, bootstrap: Bootstrap
) -> tuple[float, NDArray[np.float64]]:
    """Return the statistic of the samples, and (R,) that of each resample."""
    if statistic is None:
        if rows.ndim != 1:
            raise ClipRobustError(f"values of shape {rows.shape} need a statistic")
        column = rows.astype(np.float64)
        sums = resampled_sums(column[:, None], bootstrap)[:, 0]
        return float(column.mean()), sums / len(rows)
    drawn = [
        float(statistic(rows[chosen]))
        for block in bootstrap.plan(len(rows)).indices()
        for chosen in block
    ]
    return float(statistic(rows)), np.array(drawn)

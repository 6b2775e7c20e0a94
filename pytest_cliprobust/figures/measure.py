"""From one value a sample to a figure with its interval: all that a metric of one's own needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pytest_cliprobust.errors import ClipRobustError, shortened
from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.figures.bootstrap import (
    Bootstrap,
    bootstrap_figure,
    mean_figure,
    proportion_figure,
)
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import METRICS, Metric
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
        ClipRobustError: an unknown metric, samples that are none, values that are no function or not one
            row of numbers for each sample, a statistic that gives no number, or a value outside the
            metric's range.
    """
    if not isinstance(metric, str) or not hasattr(samples, "bootstrap"):
        raise ClipRobustError(
            "measure takes the metric's name, samples such as clip.on('clean'), and a function of them, in "
            "this order"
        )
    known = METRICS.named(metric)
    rows = _rows(metric, samples, values)
    figure = _figure(known, rows, samples.bootstrap, statistic)
    if not known.can_be(figure.value):
        low, high = known.bounds
        raise ClipRobustError(
            f"metric {metric!r}: {figure.value:g} on {samples.condition} is outside its range, {low:g} to "
            f"{high:g}; register it with low and high that hold it (None: no limit)"
        )
    return figure.measured_on(samples.condition)


def _rows(metric: str, samples: S, values: Callable[[S], ArrayLike]) -> NDArray[Any]:
    """Return the values of samples, (N,) or (N, K), as numbers or booleans."""
    if not callable(values):
        raise ClipRobustError(
            f"metric {metric!r}: give a function of the samples, such as lambda view: view.correct, not "
            "an array: whose it is, an array does not say"
        )
    rows = np.asarray(values(samples))
    if rows.ndim == 0 or rows.dtype.kind not in "biuf":
        raise ClipRobustError(
            f"metric {metric!r}: one number for each sample is needed, not {shortened(rows)}"
        )
    if len(rows) != len(samples.ids):
        raise ClipRobustError(
            f"metric {metric!r}: {len(rows)} values for the {len(samples.ids)} samples of "
            f"{samples.condition}; one for each is needed, in their order"
        )
    return rows


def _figure(
    metric: Metric, rows: NDArray[Any], bootstrap: Bootstrap, statistic: Statistic | None
) -> Figure:
    if statistic is None:
        if rows.ndim != 1:
            raise ClipRobustError(
                f"metric {metric.name!r}: values of shape {rows.shape} need a statistic"
            )
        if rows.dtype == np.bool_:
            return proportion_figure(metric.name, rows, bootstrap)
        return mean_figure(metric.name, rows, bootstrap, unit=metric.unit, bounds=metric.bounds)
    return bootstrap_figure(
        metric.name,
        _number(metric.name, statistic, rows),
        Outcomes({"value": rows}, _weighted(statistic)),
        bootstrap,
        unit=metric.unit,
        bounds=metric.bounds,
    )


def _number(metric: str, statistic: Statistic, rows: NDArray[Any]) -> float:
    found: Any = statistic(rows) if callable(statistic) else statistic
    try:
        return float(found if np.ndim(found) == 0 else "no number")
    except (TypeError, ValueError):
        raise ClipRobustError(
            f"metric {metric!r}: a statistic is a function from values to one number, such as np.median, not "
            f"to {shortened(found)}"
        ) from None


def _weighted(statistic: Statistic) -> Weighted:
    """Return the statistic of values as one of weighted outcomes."""

    def drawn(weights: Floats, outcomes: Outcomes) -> Floats:
        values = outcomes["value"]
        return np.array(
            [float(statistic(np.repeat(values, w.astype(np.int64), axis=0))) for w in weights]
        )

    return drawn

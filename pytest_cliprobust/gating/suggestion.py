"""The bound that recording proposes for a figure."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Literal

from pytest_cliprobust.figures.metrics import Metric

Side = Literal["min", "max"]

#: The finest step that a bound is rounded to, as a power of ten.
_FINEST = -12


def suggest_bound(
    end: float, width: float, margin: float, side: Side, metric: Metric, noise: float = 0.0
) -> float:
    """Return a bound ``margin`` interval widths beyond ``end``, at least ``noise``, rounded outwards.

    The step of the rounding is the power of ten at or below a tenth of the interval's ``width`` (of
    a thousandth of the value if the width is 0), so that rounding adds less than a tenth of the
    width. The result stays inside the metric's range, and a measurement never fails its own bound.
    """
    away = max(margin * width, noise)
    edge = end + away if side == "max" else end - away
    scale = width / 10.0 if width > 0.0 else abs(end) / 1000.0
    exponent = math.floor(math.log10(scale)) if scale > 0.0 else -3
    step = Decimal(1).scaleb(max(exponent, _FINEST))
    # A millionth of a step is float noise of the sum above, not a reason for another step.
    slack = Decimal("1e-6")
    exact = Decimal(repr(edge)) / step
    if side == "max":
        steps = (exact - slack).to_integral_value(rounding=ROUND_CEILING)
        value = max(float(steps * step), end + noise)
    else:
        steps = (exact + slack).to_integral_value(rounding=ROUND_FLOOR)
        value = min(float(steps * step), end - noise)
    # The range first, the measured end last: a value beyond the stated range still gets its bound.
    if metric.low is not None:
        value = max(value, metric.low)
    if metric.high is not None:
        value = min(value, metric.high)
    # Adding zero turns -0.0 into 0.0.
    return 0.0 + (max(value, end) if side == "max" else min(value, end))

"""A measured figure: a value that always comes with its n and its interval."""

from __future__ import annotations

import base64
import math
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.ends import Ends, packed, unpacked
from pytest_cliprobust.figures.outcomes import Outcomes


class IntervalMethod(StrEnum):
    """How an interval was made, and so how it is made at another level.

    The words beside it, :attr:`Figure.method`, are for people.
    """

    WILSON = "wilson"
    PAIRED_SCORE = "paired score"
    DELONG = "delong"
    PERCENTILE = "percentile"
    BASIC = "basic"
    STUDENT = "student"
    """Student's t, with Hall's correction for skewness (:mod:`~pytest_cliprobust.figures.means`)."""
    LOGIT = "logit"
    """Student's t on logits."""
    BINNED = "binned"
    """Of a sum of absolute values over bins (:mod:`~pytest_cliprobust.figures.binned`)."""
    SIMULTANEOUS = "simultaneous"
    """Of a least or largest of several, each with an interval of its own."""
    ORDER = "order statistics"
    CROSSING = "crossing"
    """Of where a curve crosses a limit, from the intervals along the curve."""
    SCALED = "scaled"
    """None of the above: its half-widths are scaled by normal quantiles."""


def json_number(value: float) -> float | str:
    """Return ``value`` for JSON, which has no NaN or infinity: those become ``"nan"``, ``"inf"``."""
    return value if math.isfinite(value) else str(float(value))


def pack(values: Sequence[float]) -> str:
    """Return float64 numbers as base64 of their little-endian bytes: a report's thousand replicates."""
    numbers = array("d", values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode("ascii")


def unpack(text: str) -> tuple[float, ...]:
    """Return the numbers that :func:`pack` wrote.

    Raises:
        ValueError: ``text`` is something else.
    """
    numbers = array("d")
    numbers.frombytes(base64.b64decode(text, validate=True))
    if sys.byteorder == "big":
        numbers.byteswap()
    return tuple(numbers)


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        metric: e.g. ``"ece"``, ``"auroc"``, ``"shape_bias"``, ``"accuracy"``.
        value: the point estimate.
        low, high: ends of the two-sided confidence interval.
        n: number of samples that the figure rests on.
        confidence: level of the interval, 0.95 unless a family-wise error rate was asked for.
        method: how the interval was made, in words, e.g. ``"stratified bootstrap, 1000"``.
        unit: ``""`` for plain fractions, else e.g. ``"nats"``.
        replicates: the bootstrap replicates, if any, so that a verdict can take the interval at
            another level; left out of reports.
        details: whatever a report shows beside it (bins of a reliability diagram, …); JSON-able.
        interval: how the interval was made, for arithmetic.
        units: number of units (drawings, objects, scenes) that the samples were drawn from; None where
            that is not known.
        design_effect: how many times as large the variance is as with so many independent samples.
        outcomes: what the figure is a function of, by sample, for the comparison with another run; left
            out of reports. None where a figure cannot be compared sample by sample.
        ends: the ends at every level, where they follow from no few numbers; left out of reports.
        condition: what was measured on what; None for a figure from bare arrays, which cannot be judged.
            Set once, by :meth:`measured_on`.
    """

    metric: str
    value: float
    low: float
    high: float
    n: int
    confidence: float = 0.95
    method: str = ""
    unit: str = ""
    replicates: tuple[float, ...] = field(default=(), repr=False, compare=False)
    details: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    interval: IntervalMethod = IntervalMethod.SCALED
    units: int | None = None
    design_effect: float = 1.0
    outcomes: Outcomes | None = field(default=None, repr=False, compare=False)
    ends: Ends | None = field(default=None, repr=False, compare=False)
    condition: Condition | None = field(default=None, init=False)

    def measured_on(self, condition: Condition) -> Figure:
        """Return the figure with the condition that it was measured on.

        Raises:
            ClipRobustError: it was measured on another one.
        """
        if self.condition is not None and self.condition != condition:
            raise ClipRobustError(
                f"{self.metric} was measured on {self.condition}; it cannot be filed as one of "
                f"{condition}"
            )
        filed = replace(self)
        object.__setattr__(filed, "condition", condition)
        return filed

    def fitted_on(self, contents: str) -> Figure:
        """Return the figure as one that hangs on further samples, see :attr:`Outcomes.fitted_on`.

        Args:
            contents: their :attr:`~pytest_cliprobust.figures.keys.SampleKeys.contents`; empty if unknown.
        """
        if self.outcomes is None:
            return self
        changed = replace(self, outcomes=replace(self.outcomes, fitted_on=contents))
        return changed if self.condition is None else changed.measured_on(self.condition)

    def interval_text(self) -> str:
        """Return ``0.812 [0.786, 0.835]`` with the unit."""
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]{unit}"

    def as_dict(self, *, replicates: bool = False) -> dict[str, Any]:
        """Return the figure as JSON-able data; ``replicates`` (and ends) only if asked for, they are long."""
        data: dict[str, Any] = {
            "metric": self.metric,
            "value": json_number(self.value),
            "low": json_number(self.low),
            "high": json_number(self.high),
            "n": self.n,
            "confidence": self.confidence,
            "method": self.method,
            "interval": self.interval.value,
            "unit": self.unit,
            "units": self.units,
            "design_effect": self.design_effect,
            "details": dict(self.details),
        }
        if self.condition is not None:
            data["condition"] = self.condition.as_dict()
        if replicates and self.replicates:
            data["replicates"] = [json_number(value) for value in self.replicates]
        if replicates and self.ends is not None:
            data["ends"] = pack(packed(self.ends))
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Figure:
        """Return the figure that :meth:`as_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: ``data`` is something else.
        """
        replicates = data.get("replicates", ())
        figure = cls(
            metric=str(data["metric"]),
            value=float(data["value"]),
            low=float(data["low"]),
            high=float(data["high"]),
            n=int(data["n"]),
            confidence=float(data.get("confidence", 0.95)),
            method=str(data.get("method", "")),
            unit=str(data.get("unit", "")),
            replicates=(
                unpack(replicates)
                if isinstance(replicates, str)
                else tuple(float(value) for value in replicates)
            ),
            ends=unpacked(unpack(str(data["ends"]))) if "ends" in data else None,
            details=dict(data.get("details", {})),
            interval=IntervalMethod(data["interval"]),
            units=None if data.get("units") is None else int(data["units"]),
            design_effect=float(data.get("design_effect", 1.0)),
        )
        if "condition" not in data:
            return figure
        return figure.measured_on(Condition.from_dict(data["condition"]))

"""A measured figure: a value that always comes with its n and its interval."""

from __future__ import annotations

import base64
import math
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


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
        method: how the interval was made, e.g. ``"stratified bootstrap, 1000"``.
        unit: ``""`` for plain fractions, else e.g. ``"nats"``.
        replicates: the bootstrap replicates, if any, so that a verdict can take the interval at
            another level; left out of reports.
        details: whatever a report shows beside it (bins of a reliability diagram, …); JSON-able.
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

    def as_dict(self, *, replicates: bool = False) -> dict[str, Any]:
        """Return the figure as JSON-able data; ``replicates`` only if asked for, they are long."""
        data: dict[str, Any] = {
            "metric": self.metric,
            "value": json_number(self.value),
            "low": json_number(self.low),
            "high": json_number(self.high),
            "n": self.n,
            "confidence": self.confidence,
            "method": self.method,
            "unit": self.unit,
            "details": dict(self.details),
        }
        if replicates and self.replicates:
            data["replicates"] = [json_number(value) for value in self.replicates]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Figure:
        """Return the figure that :meth:`as_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: ``data`` is something else.
        """
        replicates = data.get("replicates", ())
        return cls(
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
            details=dict(data.get("details", {})),
        )


@dataclass(frozen=True)
class Measurement:
    """A figure and the coordinates of what was measured; thresholds are looked up by these."""

    suite: str
    model: str
    dataset: str
    figure: Figure
    perturbation: str = "clean"
    severity: int | None = None

    @property
    def metric(self) -> str:
        """The figure's metric."""
        return self.figure.metric

    @property
    def key(self) -> str:
        """``suite/metric/dataset/perturbation@severity/model``, the name in reports."""
        at = "" if self.severity is None else f"@{self.severity}"
        return f"{self.suite}/{self.metric}/{self.dataset}/{self.perturbation}{at}/{self.model}"

    def as_dict(self, *, replicates: bool = False) -> dict[str, Any]:
        """Return the measurement as JSON-able data: coordinates, ``key``, and the figure."""
        return {
            "key": self.key,
            "suite": self.suite,
            "model": self.model,
            "dataset": self.dataset,
            "perturbation": self.perturbation,
            "severity": self.severity,
            "figure": self.figure.as_dict(replicates=replicates),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Measurement:
        """Return the measurement that :meth:`as_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: ``data`` is something else.
        """
        severity = data.get("severity")
        return cls(
            suite=str(data["suite"]),
            model=str(data["model"]),
            dataset=str(data["dataset"]),
            figure=Figure.from_dict(data["figure"]),
            perturbation=str(data.get("perturbation", "clean")),
            severity=None if severity is None else int(severity),
        )

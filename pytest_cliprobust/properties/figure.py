"""A measured figure: a value that always comes with its n and its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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

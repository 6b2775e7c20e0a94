"""A figure with the suite and the model it belongs to: what rules are looked up for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure


@dataclass(frozen=True)
class Measurement:
    """A figure of a model, measured by a suite.

    Where it is filed follows from the figure's own condition.

    Raises:
        ClipRobustError: the figure has no condition: it comes from bare arrays.
    """

    suite: str
    model: str
    figure: Figure

    def __post_init__(self) -> None:
        """Refuse a figure that does not say what it was measured on."""
        if self.figure.condition is None:
            raise ClipRobustError(
                f"{self.figure.metric} does not say what it was measured on: make it from a view "
                "(accuracy.accuracy_of(clip.on('clean'))), or, from arrays of your own, with "
                "pytest_cliprobust.measure"
            )

    @property
    def condition(self) -> Condition:
        """What was measured on what."""
        assert self.figure.condition is not None
        return self.figure.condition

    @property
    def metric(self) -> str:
        """The figure's metric."""
        return self.figure.metric

    @property
    def dataset(self) -> str:
        """Name of the data set, or of the part of it."""
        return self.condition.dataset

    @property
    def perturbation(self) -> str:
        """Name of the perturbation, ``clean`` if there was none."""
        return self.condition.perturbation

    @property
    def severity(self) -> int | None:
        """Its severity, if it was one perturbation at one severity."""
        return self.condition.severity

    @property
    def key(self) -> str:
        """``suite/metric/dataset/perturbation@severity/model``, the name in reports."""
        at = "" if self.severity is None else f"@{self.severity}"
        return f"{self.suite}/{self.metric}/{self.dataset}/{self.perturbation}{at}/{self.model}"

    def as_dict(self, *, replicates: bool = False) -> dict[str, Any]:
        """Return JSON-able data: coordinates, ``key``, and the figure."""
        return {
            "key": self.key,
            "suite": self.suite,
            "model": self.model,
            "metric": self.metric,
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
        return cls(str(data["suite"]), str(data["model"]), Figure.from_dict(data["figure"]))

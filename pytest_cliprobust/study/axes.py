"""On which axis a property is compared: logits for shares, else as it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.figures.metrics import METRICS

#: A share of 0 or 1 is moved in as by half a sample; that far at the most, where n is not known.
CLIPPED = 1e-3


@dataclass(frozen=True)
class Axis:
    """The axis of a property.

    Attributes:
        is_logit: whether it shows log(p / (1 - p)), as accuracies of models are compared (Miller et al.,
            "Accuracy on the line", ICML 2021).
    """

    is_logit: bool

    def to(self, values: Floats, n: Floats | None = None) -> Floats:
        """Return ``values`` (M,) on the axis; shares of ``n`` (M,) samples stay off 0 and 1."""
        if not self.is_logit:
            return np.asarray(values, dtype=np.float64)
        margin = CLIPPED if n is None else np.minimum(0.5 / np.maximum(n, 1.0), 0.25)
        moved: Floats = logit(np.clip(values, margin, 1.0 - margin))
        return moved

    def back(self, values: Floats) -> Floats:
        """Return numbers on the axis as values of the property."""
        if not self.is_logit:
            return np.asarray(values, dtype=np.float64)
        shares: Floats = expit(values)
        return shares


LOGIT, LINEAR = Axis(True), Axis(False)


def axis_of(metric: str) -> Axis:
    """Return the axis of a metric: logits if it lies between 0 and 1."""
    known = METRICS.find(metric)
    return LOGIT if known is not None and (known.low, known.high) == (0.0, 1.0) else LINEAR

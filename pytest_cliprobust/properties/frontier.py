"""Robustness frontier: the largest strength of a perturbation at which the accuracy drop is allowed.

:mod:`pytest_cliprobust.search.frontier` looks for it, under the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from pytest_cliprobust.figures.arrays import Bools, Floats
from pytest_cliprobust.figures.bootstrap import DEFAULT, Bootstrap, bootstrap_figure
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.outcomes import Outcomes
from pytest_cliprobust.figures.outcomes import means as averages

#: Share of the clean accuracy that a frontier allows to lose where the threshold file says nothing.
ALLOWED_LOSS = 0.5


@register_metric(
    "frontier_strength",
    higher_is_better=True,
    meaning="largest strength in the envelope, 0 to 1, at which the accuracy drop is still allowed",
)
def frontier_strength_figure(
    strengths: Floats,
    correct: Bools,
    allowed: float | None,
    details: Mapping[str, Any],
    bootstrap: Bootstrap = DEFAULT,
) -> Figure:
    """Return the strength up to which the accuracy drop is allowed, from the answers at some strengths.

    The bootstrap resamples the samples and reads the strength off each resampled curve.

    Args:
        strengths: (K,) ascending, from 0 to 1.
        correct: (N, 1 + K) bool, the answers on the clean samples and at each strength.
        allowed: the largest drop that holds; None: :data:`ALLOWED_LOSS` of the clean accuracy.
        details: of the search; the curve is added.
        bootstrap: interval settings.
    """
    count, means = len(correct), correct.mean(axis=0)
    outcomes = Outcomes(
        {"clean": correct[:, 0], "answers": correct[:, 1:]},
        partial(_crossings, allowed=allowed),
        # Each model is searched by itself, so the strengths are its own.
        parameters={"strengths": strengths.tolist()},
    )
    return bootstrap_figure(
        "frontier_strength",
        outcomes.value(),
        outcomes,
        bootstrap,
        bounds=(0.0, 1.0),
        trials=count,
        details={
            **details,
            "curve": np.stack((strengths, means[1:]), axis=1).tolist(),
            "clean_accuracy": float(means[0]),
        },
    )


def _crossings(weights: Floats, outcomes: Outcomes, *, allowed: float | None) -> Floats:
    """Return where the drop first exceeds what is allowed (R,)."""
    strengths = np.asarray(outcomes.parameters["strengths"])
    clean = averages(weights, outcomes["clean"])
    drops = clean[:, None] - averages(weights, outcomes["answers"])
    limits = ALLOWED_LOSS * clean if allowed is None else np.full(len(clean), allowed)
    return np.array(
        [first_crossing(strengths, drop, limit) for drop, limit in zip(drops, limits, strict=True)]
    )


def first_crossing(strengths: Floats, drops: Floats, allowed: float) -> float:
    """Return where the drop first exceeds ``allowed``, linear between points; 1 if it never does.

    Args:
        strengths: (K,) ascending, from 0 to 1.
        drops: (K,) the drop at each.
        allowed: the largest drop that holds.
    """
    beyond = np.flatnonzero(drops > allowed)
    if not len(beyond):
        return 1.0
    index = int(beyond[0])
    if index == 0:
        return 0.0
    before, after = drops[index - 1], drops[index]
    share = (allowed - before) / (after - before)
    return float(strengths[index - 1] + share * (strengths[index] - strengths[index - 1]))

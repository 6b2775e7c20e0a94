"""What a search, or an attack, leaves of the accuracy: figures from answers that others have collected.

:mod:`pytest_cliprobust.search.stress` collects them, under the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pytest_cliprobust.figures.arrays import Bools, Floats
from pytest_cliprobust.figures.bootstrap import (
    DEFAULT,
    Bootstrap,
    bootstrap_figure,
    proportion_figure,
    resampled_sums,
)
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import register_metric

#: Share of the clean accuracy that a frontier allows to lose where the threshold file says nothing.
ALLOWED_LOSS = 0.5


@register_metric(
    "worst_case_drop",
    higher_is_better=False,
    meaning="accuracy drop at the worst parameters that a search of the envelope found",
    low=-1.0,
)
def worst_case_drop_figure(drop: Figure, search: Mapping[str, Any]) -> Figure:
    """Return the accuracy drop at the worst parameters as a figure of its own.

    Args:
        drop: the drop, on samples that the search did not see.
        search: what the search was, for the details.
    """
    return replace(drop, metric="worst_case_drop", details={**drop.details, **search})


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
    columns = correct.astype(np.float64)
    count = len(columns)
    drawn = resampled_sums(columns, bootstrap) / count
    means = columns.mean(axis=0)

    def crossing(accuracies: Floats) -> float:
        clean, drop = accuracies[0], accuracies[0] - accuracies[1:]
        return first_crossing(strengths, drop, ALLOWED_LOSS * clean if allowed is None else allowed)

    return bootstrap_figure(
        "frontier_strength",
        crossing(means),
        np.array([crossing(row) for row in drawn]),
        count,
        bootstrap,
        bounds=(0.0, 1.0),
        trials=count,
        details={
            **details,
            "curve": np.stack((strengths, means[1:]), axis=1).tolist(),
            "clean_accuracy": float(means[0]),
        },
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


@register_metric(
    "attack_success",
    higher_is_better=False,
    meaning="share of images decided for the class whose name is on them",
)
def attack_success_figure(written: Bools, clean: Bools, bootstrap: Bootstrap = DEFAULT) -> Figure:
    """Return the share of images decided for the class whose name is written on them.

    Args:
        written: (N,) bool, whether an image with the writing is decided for that class.
        clean: (N,) bool, the same without the writing; its share stands in the details.
        bootstrap: interval settings.
    """
    details = {"without_writing": float(clean.mean())}
    return proportion_figure("attack_success", written, bootstrap, details)

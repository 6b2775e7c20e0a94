"""Worst case: the accuracy drop at the worst parameters that a search of the envelope found.

:mod:`pytest_cliprobust.search.worst_case` searches, under the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import register_metric


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

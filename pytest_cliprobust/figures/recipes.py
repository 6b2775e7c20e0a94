"""How figures follow from their samples' outcomes, for comparing runs that are over.

A session brings the statistic of each figure along; what was stored of an earlier run holds numbers only, and
nothing that a file says is ever executed. A recipe is a statistic that is known here, together with the names
of the columns that it is of. The recipe of a stored figure is the one that gives its value.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.auroc import area, compare_areas
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.means import (
    SUPPOSED,
    column_values,
    compare_means,
    drop_values,
    quotient_values,
    relative_drop_values,
)
from pytest_cliprobust.figures.outcomes import (
    Compare,
    Outcomes,
    Statistic,
    drop,
    mean,
    quotient,
    relative_drop,
    same_value,
)
from pytest_cliprobust.registry import Registry


@dataclass(frozen=True)
class Recipe:
    """A statistic, and what it is of.

    Attributes:
        columns: names of the outcomes' columns.
        statistic: from weights and outcomes to the figure.
        compare: from two runs' outcomes to the change; None: the bootstrap's.
        attributes: names of the outcomes' attributes.
        metrics: a glob of the metrics that it can be of; two may give a figure the same value by chance.
    """

    columns: frozenset[str]
    statistic: Statistic
    compare: Compare | None = None
    attributes: frozenset[str] = frozenset()
    metrics: str = "*"

    def gives(self, figure: Figure) -> bool:
        """Return whether this is how the figure follows from its outcomes."""
        outcomes = figure.outcomes
        # A share of those samples that were decided at all has fewer than there are outcomes.
        if outcomes is None or figure.n > len(outcomes) or not self._fits(figure, outcomes):
            return False
        try:
            return same_value(self.of(outcomes).value(), figure.value)
        except ClipRobustError:  # columns of the same names that hold something else
            return False

    def of(self, outcomes: Outcomes) -> Outcomes:
        """Return outcomes with this statistic and comparison."""
        return replace(outcomes, statistic=self.statistic, compare=self.compare)

    def _fits(self, figure: Figure, outcomes: Outcomes) -> bool:
        return (
            fnmatch.fnmatchcase(figure.metric, self.metrics)
            and outcomes.columns.keys() == self.columns
            and outcomes.attributes.keys() == self.attributes
            and not outcomes.parameters.keys() - {SUPPOSED}
            and all(column.ndim == 1 for column in outcomes.columns.values())
        )


#: All recipes by name; each property registers those that are its own.
RECIPES: Registry[Recipe] = Registry("recipe", "pytest_cliprobust.properties")


def register_recipe(
    name: str,
    columns: Iterable[str],
    statistic: Statistic,
    compare: Compare | None = None,
    attributes: Iterable[str] = (),
    *,
    metrics: str = "*",
) -> None:
    """Make known how figures follow from their outcomes; see :class:`Recipe`.

    Raises:
        ClipRobustError: another module has registered that name.
    """
    made = Recipe(frozenset(columns), statistic, compare, frozenset(attributes), metrics)
    function = statistic.func if isinstance(statistic, partial) else statistic
    RECIPES.add(name, made, module=function.__module__)


register_recipe("mean", ["value"], mean, compare_means(column_values))
register_recipe("drop", ["clean", "shifted"], drop, compare_means(drop_values))
register_recipe(
    "relative drop", ["clean", "shifted"], relative_drop, compare_means(relative_drop_values)
)
register_recipe("quotient", ["hits", "trials"], quotient, compare_means(quotient_values))
register_recipe("area", ["score"], area, compare_areas, ["inside", "stratum"])


def recipe_of(*figures: Figure) -> Recipe | None:
    """Return the recipe that gives the values of all figures from their outcomes; None if none does."""
    RECIPES.load()
    return next((r for r in RECIPES.values() if all(map(r.gives, figures))), None)

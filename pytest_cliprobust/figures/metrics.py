"""The one table of metrics: the vocabulary of thresholds and reports.

Each stands as a decorator, :func:`register_metric`, on the function in ``properties/`` that computes it;
the table imports that folder at the first look-up. A user's own are registered the same way.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeVar

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.registry import Registry

Function = TypeVar("Function", bound=Callable[..., Any])

#: What guessing reaches: a value, or a function of the number of classes.
Chance = float | Callable[[int], float]


def one_in(classes: int) -> float:
    """Return the accuracy of guessing among so many classes."""
    return 1.0 / classes


@dataclass(frozen=True)
class Metric:
    """What a metric's name stands for.

    Attributes:
        name: as in :attr:`Figure.metric`; or a glob for a family (``"my_recall_at_*"``).
        higher_is_better: the good direction; None where neither is good in itself (a signed gap, a
            temperature).
        meaning: one line for reports.
        unit: ``""`` for plain fractions and ratios.
        low, high: values that the metric cannot leave; None where there is no such limit.
        chance: what guessing reaches, None where that is not known.
        gateable: whether a bound on the value can be held: its interval holds the truth as often as it
            says (``benchmarks/coverage.py``, docs/properties.md).
        change_gateable: the same of a bound on the change against a baseline.
        why_not_gateable: why either is not; empty if both are.
        recorded: whether recording writes a bound; False where only its user can say how good is good enough.
    """

    name: str
    higher_is_better: bool | None
    meaning: str
    unit: str = ""
    low: float | None = 0.0
    high: float | None = 1.0
    chance: Chance | None = None
    gateable: bool = True
    change_gateable: bool = True
    why_not_gateable: str = ""
    recorded: bool = True

    @property
    def bounds(self) -> tuple[float, float]:
        """The values that the metric cannot leave, infinite where there is no limit."""
        return (
            -math.inf if self.low is None else self.low,
            math.inf if self.high is None else self.high,
        )

    def inside(self, value: float) -> float:
        """Return ``value``, or the nearest that the metric can take."""
        if self.low is not None and value < self.low:
            return self.low
        return self.high if self.high is not None and value > self.high else value

    def can_be(self, value: float) -> bool:
        """Return whether the metric can take ``value``, to rounding; what is not finite, it may be."""
        return not math.isfinite(value) or math.isclose(value, self.inside(value), abs_tol=1e-9)


#: All metrics by name; :meth:`~pytest_cliprobust.registry.Registry.find` looks through globs, too.
METRICS: Registry[Metric] = Registry(
    "metric",
    "pytest_cliprobust.properties",
    remedy="A metric of your own is made known by the decorator pytest_cliprobust.register_metric",
    letters=(r"[\w.*?\[\]{}-]", "letters, digits, '_', '.' and '-', and of '*' for a family"),
)


def register_metric(
    name: str,
    *,
    higher_is_better: bool | None,
    meaning: str,
    unit: str = "",
    low: float | None = 0.0,
    high: float | None = 1.0,
    chance: Chance | None = None,
    each: Mapping[str, str] | None = None,
    gateable: bool = True,
    change_gateable: bool | None = None,
    why_not_gateable: str = "",
    recorded: bool = True,
) -> Callable[[Function], Function]:
    """Register the metric that the decorated function computes; the function stays as it is.

    A function that computes several has several decorators, or one with ``each``.

    Example:
        >>> @register_metric("agreement", higher_is_better=True, meaning="share of equal answers")
        ... def agreement(clean, shifted): ...

    Args:
        name: the metric's name, or a glob for a family (``"my_recall_at_*"``).
        higher_is_better: None where neither end is good in itself; both ends are then recorded.
        meaning: one line for reports.
        unit: ``""`` for plain fractions and ratios.
        low, high: values that the metric cannot leave; None where there is no such limit.
        chance: what guessing reaches, a value or a function of the number of classes: a bound that is
            weaker needs a ``because``.
        each: for a family of known members: the words that take the place of ``{}`` in ``name``, each
            with those that take it in ``meaning``.
        gateable: whether thresholds may bound the value; False for a figure that is reported only.
        change_gateable: whether they may bound its change against a baseline; as ``gateable`` unless given.
        why_not_gateable: the reason that whoever tries is told; needed where either is False.
        recorded: whether ``--clip-record`` writes bounds for it; False for a figure that is gated only where
            a person sets a bound.

    Raises:
        ClipRobustError: another module has registered that name, or it is none; ``low`` is not below
            ``high``, or a limit no number; or a metric that cannot be gated gives no reason.
    """
    change = gateable if change_gateable is None else change_gateable
    METRICS.check_name(name)
    if higher_is_better not in (True, False, None):
        raise ClipRobustError(
            f"metric {name!r}: higher_is_better is True, False or None, not {higher_is_better!r}"
        )
    if not (gateable and change) and not why_not_gateable:
        raise ClipRobustError(f"metric {name!r} cannot be gated: why_not_gateable must say why")
    _check_numbers(name, low=low, high=high, chance=None if callable(chance) else chance)
    if low is not None and high is not None and not low < high:
        raise ClipRobustError(f"metric {name!r}: low {low:g} is not below high {high:g}")
    words = {"": ""} if each is None else each

    def decorate(function: Function) -> Function:
        for word, sense in words.items():
            made = Metric(
                name.replace("{}", word),
                higher_is_better,
                meaning.replace("{}", sense),
                unit,
                low,
                high,
                chance,
                gateable,
                change,
                why_not_gateable,
                recorded,
            )
            METRICS.add(made.name, made, module=function.__module__)
        return function

    return decorate


def _check_numbers(name: str, **given: float | None) -> None:
    for argument, value in given.items():
        if value is not None and not isinstance(value, Real):
            raise ClipRobustError(
                f"metric {name!r}: {argument} is a number, or None for no such limit, not {value!r}"
            )


@METRICS.resolver()
def _family(name: str) -> Metric | None:
    return next((m for pattern, m in METRICS.items() if fnmatch.fnmatchcase(name, pattern)), None)

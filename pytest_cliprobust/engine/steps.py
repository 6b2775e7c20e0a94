"""From the arguments of ``clip.on`` to steps: which perturbations, at which strength, in which order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real

from pytest_cliprobust.errors import ClipRobustError, shortened
from pytest_cliprobust.figures.condition import CLEAN, Step


def steps_of(
    perturbation: str | Sequence[str | tuple[str, int | None]],
    severity: int | None = None,
    parameters: Mapping[str, float] | None = None,
) -> tuple[Step, ...]:
    """Return the steps that the arguments of :meth:`.evaluation.Evaluation.on` mean.

    Raises:
        ClipRobustError: a severity or parameters beside several perturbations or none, a parameter that is
            no finite number, or something else in place of a step.
    """
    settings = tuple(sorted((parameters or {}).items()))
    for name, value in settings:
        _check_parameter(name, value)
    if severity is not None and not _is_severity(severity):
        raise ClipRobustError(f"a severity is a whole number, not {severity!r}")
    if isinstance(perturbation, tuple) and any(isinstance(item, int) for item in perturbation):
        raise ClipRobustError(
            f"{perturbation!r} is one step: write a name and a severity without brackets, and several "
            "steps as a list of pairs, [('fog_3d', 3), …]"
        )
    if isinstance(perturbation, str):
        if perturbation != CLEAN:
            return (Step(perturbation, severity, settings),)
        if severity is None and not settings:
            return ()
        raise ClipRobustError("a severity or parameters need a perturbation: name it")
    if severity is not None or settings:
        raise ClipRobustError(
            "several perturbations have severities of their own: write [('fog_3d', 3), …]"
        )
    if isinstance(perturbation, Mapping) or not isinstance(perturbation, Iterable):
        raise ClipRobustError(
            f"a perturbation is a name or a list of steps, [('fog_3d', 3), …], not {shortened(perturbation)}"
        )
    return tuple(map(_step, perturbation))


def mixed_steps(conditions: Sequence[tuple[str, int | None]]) -> tuple[Step, ...]:
    """Return a step for each of the conditions that samples are mixed over.

    Raises:
        ClipRobustError: something else than a list of pairs, or one that leaves pictures as they are.
    """
    if not isinstance(conditions, list | tuple):
        raise ClipRobustError(
            f"mixed conditions are a list of pairs, [('fog', 3), …], not {shortened(conditions)}"
        )
    steps = tuple(map(_step, conditions))
    for step in steps:
        if step.perturbation == CLEAN or step.severity == 0:
            raise ClipRobustError(f"{step} changes nothing, so it is no condition to be mixed")
    return steps


def _step(item: str | tuple[str, int | None]) -> Step:
    if isinstance(item, str):
        return Step(item)
    match item:
        case (str(name), severity) if severity is None or _is_severity(severity):
            return Step(name, severity)
    raise ClipRobustError(
        f"a step is a perturbation's name or a pair such as ('fog_3d', 3), not {item!r}"
    )


def _is_severity(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_parameter(name: str, value: object) -> None:
    if not isinstance(value, Real) or not math.isfinite(value):
        raise ClipRobustError(f"parameter {name!r} is a finite number, not {shortened(value)}")

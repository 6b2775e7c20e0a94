"""Robustness frontier: how far a perturbation can be turned up before a bound breaks.

:func:`robustness_frontier` turns all parameters of the envelope up together and bisects for the largest
strength at which the bound still holds. It knows points and accuracies only; :func:`frontier` asks it
for a model, and makes a figure of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.engine.view import View
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.gating.verdict import Verdict
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.perturbations.registry import Perturbation
from pytest_cliprobust.properties.frontier import ALLOWED_LOSS, frontier_strength_figure
from pytest_cliprobust.search.envelope import (
    Drops,
    Parameters,
    Point,
    Points,
    at_strength,
    require_clean,
    require_envelope,
    searched_condition,
    settings_text,
)
from pytest_cliprobust.search.evidence import Evidence, Searched, drop_text, evidence_of


def frontier(
    clip: Evaluation,
    clean: View,
    name: str,
    *,
    allowed: float | Callable[[Condition], float | None] | None = None,
    grid: int = 4,
    tolerance: float = 1 / 32,
) -> Searched:
    """Return the largest strength at which the accuracy drop is still allowed, ``frontier_strength``.

    Strength turns all parameters of the envelope up together, 0 to 1. The figure interpolates
    between the last point that holds and the first that does not; its bootstrap resamples the
    samples and reads the frontier off each resampled curve.

    Example:
        >>> found = frontier(clip, clip.on("clean", limit=100), "fog_3d", allowed=0.1)
        >>> gate(found.figure, explain=found.explain)

    Args:
        clip: the model under test.
        clean: the samples as they are.
        name: a registered perturbation with an envelope.
        allowed: largest accuracy drop that is allowed, or what knows it for the condition of a drop
            (such as ``functools.partial(gate.limit, "accuracy_drop")``); None: half of the clean
            accuracy.
        grid, tolerance: see :func:`robustness_frontier`.

    Raises:
        ClipRobustError: no envelope, or samples that are perturbed already.
    """
    require_clean(clean)
    perturbation = registry.get(name)
    given = allowed(searched_condition(clean, name)) if callable(allowed) else allowed
    drops = Drops(clip, clean, perturbation)
    limit = ALLOWED_LOSS * float(clean.correct.mean()) if given is None else given
    found = robustness_frontier(
        perturbation, drops.points(0.95), -limit, grid=grid, tolerance=tolerance
    )

    def explain(verdict: Verdict) -> Evidence:
        past = next((p for s, p in found.curve if s >= found.bracket[1]), found.curve[-1][1])
        if found.strength is None:
            text = f"a drop of {limit:.3g} is broken at the mildest end already"
        else:
            text = f"a drop of {limit:.3g} is kept up to {settings_text(found.parameters)}"
        beyond = drop_text(drops.figure(past.parameters))
        lines = [
            ("frontier", text),
            ("beyond", f"{beyond} at {settings_text(past.parameters)}"),
        ]
        if found.warning:
            lines.append(("note", found.warning))
        return evidence_of(drops, past.parameters, tuple(lines))

    return Searched(_figure(drops, found, limit, relative=given is None), explain)


def _figure(drops: Drops, found: Frontier, limit: float, *, relative: bool) -> Figure:
    """Return ``frontier_strength`` from the points that the bisection looked at.

    ``relative``: the drop allowed is a share of the clean accuracy, in each resample of its own.
    """
    clean, name = drops.clean, drops.perturbation.name
    views = [drops.view(point.parameters) for _, point in found.curve]
    figure = frontier_strength_figure(
        np.array([strength for strength, _ in found.curve]),
        np.stack([clean.correct, *(view.correct for view in views)], axis=1),
        None if relative else limit,
        {
            "allowed_drop": limit,
            "parameters": dict(found.parameters),
            "bracket": list(found.bracket),
            "warning": found.warning,
        },
        clean.bootstrap,
    )
    return figure.measured_on(searched_condition(clean, name, over=views))


# --- The bisection ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frontier:
    """What a bisection found.

    Attributes:
        strength: the largest strength in [0, 1] known to hold, before the first failure; None if the
            bound fails at the mildest end already.
        parameters: the parameters at that strength (at strength 0 if it is None).
        bracket: the strengths between which the bound breaks, (holds, fails); (1, 1) if it holds
            throughout, (0, 0) if it never holds.
        warning: what is not monotone, or an empty string: on the points measured accuracy never rises
            with strength, and the bound never holds again after it has failed, both beyond what the
            intervals leave open.
        curve: strength and point, by strength.
    """

    strength: float | None
    parameters: Parameters
    bracket: tuple[float, float]
    warning: str
    curve: tuple[tuple[float, Point], ...]


def robustness_frontier(
    perturbation: Perturbation,
    points: Points,
    bound: float,
    *,
    grid: int = 5,
    tolerance: float = 1 / 64,
) -> Frontier:
    """Return the largest strength at which the accuracy still reaches ``bound``.

    Strength turns all parameters of the envelope up together, linearly. A coarse grid of ``grid``
    intervals is measured first: bisection alone would not notice a curve that is not monotone. The
    interval before the first failure is then bisected to ``tolerance``. Where the curve is not
    monotone the frontier is that of the first failure, and ``warning`` says so.

    With intervals (points from a :class:`Figure`) the point estimate decides where the bound breaks,
    and the intervals decide whether a rise in accuracy is more than noise.

    Args:
        perturbation: gives the envelope.
        points: from parameters to accuracy.
        bound: least accuracy that must hold.
        grid: intervals of the coarse grid, at least 1.
        tolerance: width of the final bracket, in strength.

    Raises:
        ClipRobustError: no envelope, a grid or tolerance that makes no sense, an accuracy of NaN.
    """
    require_envelope(perturbation)
    if grid < 1 or not 0 < tolerance <= 1:
        raise ClipRobustError(
            f"a frontier needs grid of at least 1 and tolerance in (0, 1]; got {grid}, {tolerance}"
        )
    curve: dict[float, Point] = {}

    def holds(strength: float) -> bool:
        curve[strength] = points(at_strength(perturbation, strength))
        return curve[strength].value >= bound

    verdicts = [(step / grid, holds(step / grid)) for step in range(grid + 1)]
    first_failure = next((s for s, good in verdicts if not good), None)
    strength: float | None
    if first_failure is None:
        strength, bracket = 1.0, (1.0, 1.0)
    elif first_failure == 0:
        strength, bracket = None, (0.0, 0.0)
    else:
        low, high = max(s for s, good in verdicts if good and s < first_failure), first_failure
        while high - low > tolerance:
            middle = (low + high) / 2
            low, high = (middle, high) if holds(middle) else (low, middle)
        strength, bracket = low, (low, high)
    ordered = tuple(sorted(curve.items()))
    warning = _not_monotone(ordered, bound)
    if warning:
        warning = f"not monotone: {warning}; the frontier is that of the first failure"
    return Frontier(
        strength=strength,
        parameters=at_strength(perturbation, strength or 0.0),
        bracket=bracket,
        warning=warning,
        curve=ordered,
    )


def _not_monotone(points: tuple[tuple[float, Point], ...], bound: float) -> str:
    """Return what is wrong with the order of the points, or an empty string."""
    failed_at: float | None = None
    lowest = points[0]
    rise = ""
    for strength, point in points:
        if point.high < bound:
            failed_at = strength if failed_at is None else failed_at
        elif failed_at is not None and point.low >= bound:
            return f"fails at strength {failed_at:.3g} and holds again at {strength:.3g}"
        if point.value < lowest[1].value:
            lowest = (strength, point)
        elif point.low > lowest[1].high and not rise:
            rise = (
                f"accuracy rises by {point.value - lowest[1].value:.4g} from strength "
                f"{lowest[0]:.3g} to {strength:.3g}"
            )
    return rise

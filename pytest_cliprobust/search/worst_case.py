"""Worst case: the largest accuracy drop anywhere in a perturbation's envelope.

Five published severities are five points. :func:`worst_case` searches the continuous parameters of a
perturbation (:attr:`Perturbation.envelope`) for a place where a bound is broken, with Hypothesis:
``hypothesis.target`` climbs towards low accuracy, and a failure is shrunk to the mildest one (every
parameter is drawn as a number of steps from its mildest end, which is what Hypothesis shrinks
towards). It knows points and accuracies only; :func:`worst_case_drop` asks it for a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pytest_cliprobust.datasets.base import Dataset
from pytest_cliprobust.datasets.subset import Subset
from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.engine.view import View
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.gating.verdict import Verdict
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.perturbations.registry import Perturbation
from pytest_cliprobust.properties.worst_case import worst_case_drop_figure
from pytest_cliprobust.search.envelope import (
    Drops,
    Point,
    Points,
    at_strength,
    require_clean,
    require_envelope,
    searched_condition,
    settings_text,
)
from pytest_cliprobust.search.evidence import (
    Evidence,
    Searched,
    broken_maximum,
    drop_text,
    evidence_of,
)

# Hypothesis draws integers from this offset on, not from 0: it favours small integers and integers
# that stand in the user's modules, and the search must neither cluster nor depend on what happens to
# be imported.
_OFFSET = 10_000_019

# Parameters are searched in percent of their envelope.
_RESOLUTION = 100


def split(data: Dataset, most: int = 64) -> tuple[Subset, Subset]:
    """Return the samples to search on (a third, at most ``most``) and the others, to confirm on.

    A maximum that is found and measured on the same samples is biased upwards; on samples that the
    search never saw it is not.

    Raises:
        ClipRobustError: fewer than three samples.
    """
    searched = min(most, len(data) // 3)
    return Subset(data, range(searched)), Subset(data, range(searched, len(data)))


def worst_case_drop(
    clip: Evaluation, clean: View, name: str, *, examples: int = 20, searched: int = 64
) -> Searched:
    """Return the largest accuracy drop in a perturbation's envelope, ``worst_case_drop``.

    Hypothesis climbs on a part of the samples (:func:`split`), and the drop at the worst parameters
    found is then measured on the others. It is a lower bound of the true maximum: nothing promises
    that a search with a budget finds it.

    If the bound is broken, a second search, on the samples that broke it, shrinks to the mildest
    parameters at which the whole interval of the drop still lies beyond the bound.

    Example:
        >>> found = worst_case_drop(clip, clip.on("clean", limit=200), "contrast")
        >>> gate(found.figure, explain=found.explain)

    Args:
        clip: the model under test.
        clean: all samples, for both parts, as they are.
        name: a registered perturbation with an envelope.
        examples: test cases that Hypothesis generates.
        searched: most samples to search on.

    Raises:
        ClipRobustError: no envelope, fewer than three samples, or samples that are perturbed already.
    """
    require_clean(clean)
    perturbation = registry.get(name)
    search_on, confirm_on = (
        clip.on(part, limit=clean.condition.limit) for part in split(clean.data, searched)
    )
    found = worst_case(
        perturbation,
        Drops(clip, search_on, perturbation).points(),
        -math.inf,
        seed=clip.config.seed,
        max_examples=examples,
        max_evaluations=examples + 2,
        resolution=_RESOLUTION,
    )
    confirm = Drops(clip, confirm_on, perturbation)
    worst = found.worst.parameters
    drop = confirm.figure(worst)
    figure = worst_case_drop_figure(
        drop,
        {
            "parameters": dict(worst),
            "strengths": dict(found.worst_strengths),
            "searched_on": len(search_on),
            "drop_while_searching": 0.0 - found.worst.value,
            "evaluations": found.evaluations,
            "seed": clip.config.seed,
        },
    ).measured_on(searched_condition(clean, name, over=[confirm.view(worst)]))

    def explain(verdict: Verdict) -> Evidence:
        line = ("worst", f"{drop_text(drop)} at {settings_text(worst)}")
        limit = broken_maximum(verdict)
        if limit is None or verdict.status != "fail":
            return evidence_of(confirm, worst, (line,))
        shrunk = worst_case(
            perturbation,
            confirm.points(verdict.confidence),
            -limit,
            seed=clip.config.seed,
            max_examples=max(examples // 2, 1),
            max_evaluations=2 * examples,
            resolution=_RESOLUTION,
            start=[found.worst_strengths],
        )
        return _mildest(confirm, shrunk, line)

    return Searched(figure, explain)


def _mildest(confirm: Drops, shrunk: WorstCase, worst: tuple[str, str]) -> Evidence:
    failure = shrunk.mildest_failure
    if failure is None:
        return evidence_of(confirm, shrunk.worst.parameters, (worst,))
    drop = confirm.figure(failure.parameters)
    share = ", ".join(f"{name} {value:.0%}" for name, value in shrunk.mildest_strengths.items())
    mildest = (
        "mildest",
        f"{drop_text(drop)} at {settings_text(failure.parameters)} ({share} of the envelope), the "
        "mildest that breaks the bound",
    )
    lines = [mildest, worst]
    if shrunk.exhausted:
        lines.append(("note", "shrinking used up its budget; milder parameters may break it, too"))
    return evidence_of(confirm, failure.parameters, tuple(lines))


# --- The search ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WorstCase:
    """What a search found.

    Attributes:
        worst: the point with the lowest accuracy.
        worst_strengths: its parameters as strengths in [0, 1].
        mildest_failure: the failure after shrinking; None if no point that was looked at breaks the
            bound (with intervals: if none lies wholly below it).
        mildest_strengths: its parameters as strengths in [0, 1]; empty if the bound holds.
        evaluations: number of points measured for this search.
        exhausted: the budget ended the search or the shrinking, so that a longer one may find more.
    """

    worst: Point
    worst_strengths: Mapping[str, float]
    mildest_failure: Point | None
    mildest_strengths: Mapping[str, float]
    evaluations: int
    exhausted: bool


class _BrokenBoundError(Exception):
    """Tells Hypothesis that this test case fails."""


def worst_case(
    perturbation: Perturbation,
    points: Points,
    bound: float,
    *,
    seed: int = 0,
    max_examples: int = 30,
    max_evaluations: int = 100,
    resolution: int = 256,
    start: Sequence[Mapping[str, float]] = (),
) -> WorstCase:
    """Search a perturbation's envelope for parameters at which the accuracy falls below ``bound``.

    First the strongest and the mildest corner (and ``start``) are measured, then Hypothesis generates
    and climbs (``max_examples`` test cases), then it shrinks what fails. A test case past
    ``max_evaluations`` that would need a new point counts as passing, which ends generation or
    shrinking early.

    With intervals (points from a :class:`Figure`), a point fails if its whole interval lies below the
    bound.

    Args:
        perturbation: gives the envelope.
        points: from parameters to accuracy; what it knows already costs nothing.
        bound: least accuracy that must hold everywhere.
        seed: the run's seed; nothing else decides the search (no example database is used).
        max_examples: test cases that Hypothesis generates.
        max_evaluations: new points allowed in all, and as many again for shrinking; at least 2.
        resolution: steps from the mildest to the strongest end of each parameter.
        start: strengths in [0, 1] of further points to look at first.

    Raises:
        ClipRobustError: no envelope, a budget or resolution too small, or an accuracy that is NaN.
    """
    require_envelope(perturbation)
    if max_evaluations < 2 or max_examples < 1 or resolution < 1:
        raise ClipRobustError(
            "a worst-case search needs max_evaluations of at least 2, max_examples and resolution of "
            f"at least 1; got {max_evaluations}, {max_examples} and {resolution}"
        )
    names = tuple(perturbation.envelope)
    grid = _Grid(perturbation, points, resolution, max_evaluations)
    grid.look((resolution,) * len(names))
    grid.look((0,) * len(names))
    for strengths in start:
        grid.look(tuple(round(strengths[name] * resolution) for name in names))
    _explore(grid.look, None, len(names), resolution, seed, max_examples)

    def fails(point: Point) -> bool:
        return point.high < bound

    failures = [steps for steps, point in grid.seen.items() if fails(point)]
    mildest: tuple[int, ...] | None = None
    if failures:
        # Shrinking needs budget of its own: as much again, so that a failure found late is not
        # reported as it was found.
        grid.most, grid.exhausted = 2 * max_evaluations, False
        mildest = _explore(grid.look, fails, len(names), resolution, seed, max_examples)
        if mildest is None:
            # Hypothesis stops generating where its own test cases end; a failure that only the probed
            # corner showed is walked back towards the mildest end by bisection.
            nearest = min(failures, key=lambda steps: (sum(steps), steps))
            mildest = _walk_back(nearest, lambda steps: _is(grid.look(steps), fails))

    # Of equally bad points the mildest is the worst.
    worst_at = min(grid.seen, key=lambda steps: (grid.seen[steps].value, sum(steps), steps))
    return WorstCase(
        worst=grid.seen[worst_at],
        worst_strengths=grid.strengths(worst_at),
        mildest_failure=None if mildest is None else grid.seen[mildest],
        mildest_strengths={} if mildest is None else grid.strengths(mildest),
        evaluations=grid.spent,
        exhausted=grid.exhausted,
    )


class _Grid:
    """An envelope in steps from the mildest to the strongest end, looked at while the budget lasts.

    Attributes:
        most: new points allowed in all.
        seen: the points that were looked at, by steps.
        exhausted: whether one was asked for that the budget did not allow.
    """

    def __init__(
        self, perturbation: Perturbation, points: Points, resolution: int, most: int
    ) -> None:
        self._perturbation, self._points, self._resolution = perturbation, points, resolution
        self._before = points.calls
        self.most = most
        self.seen: dict[tuple[int, ...], Point] = {}
        self.exhausted = False

    @property
    def spent(self) -> int:
        """New points so far."""
        return self._points.calls - self._before

    def strengths(self, steps: tuple[int, ...]) -> dict[str, float]:
        """Return steps as strengths in [0, 1], by parameter."""
        names = self._perturbation.envelope
        return {name: step / self._resolution for name, step in zip(names, steps, strict=True)}

    def look(self, steps: tuple[int, ...]) -> Point | None:
        """Return the point, or None when the budget does not allow it."""
        parameters = at_strength(self._perturbation, self.strengths(steps))
        if not self._points.known(parameters) and self.spent >= self.most:
            self.exhausted = True
            return None
        self.seen[steps] = self._points(parameters)
        return self.seen[steps]


def _is(point: Point | None, fails: Callable[[Point], bool]) -> bool:
    return point is not None and fails(point)


def _explore(
    look: Callable[[tuple[int, ...]], Point | None],
    fails: Callable[[Point], bool] | None,
    parameters: int,
    resolution: int,
    seed: int,
    max_examples: int,
) -> tuple[int, ...] | None:
    """Let Hypothesis generate test cases; with ``fails``, return its shrunk failure.

    Without ``fails`` nothing ever fails, so that the search goes on past the first failure. Equal
    seeds give equal test cases up to the first failure, so the second call finds it again (from the
    cache) and shrinks it.
    """
    import hypothesis
    from hypothesis import HealthCheck, Phase, Verbosity, strategies

    smallest: list[tuple[int, ...]] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=max_examples,
        database=None,
        derandomize=False,
        deadline=None,
        phases=(Phase.generate, Phase.target, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
        verbosity=Verbosity.quiet,
    )
    @hypothesis.given(
        strategies.tuples(
            *[strategies.integers(_OFFSET, _OFFSET + resolution) for _ in range(parameters)]
        )
    )
    def search(drawn: tuple[int, ...]) -> None:
        steps = tuple(number - _OFFSET for number in drawn)
        point = look(steps)
        if point is None:
            return
        hypothesis.target(-point.value, label="1 - accuracy")
        if fails is not None and fails(point):
            smallest[:] = [steps]
            raise _BrokenBoundError

    try:
        search()
    except _BrokenBoundError:
        # Hypothesis runs the shrunk test case last.
        return smallest[0]
    return None


def _walk_back(start: tuple[int, ...], fails: Callable[[tuple[int, ...]], bool]) -> tuple[int, ...]:
    """Return a failing point from which no parameter's bisection leads to a milder one."""
    point = list(start)
    # All together first: the mildest failure on the straight line to the mildest corner.
    low, high = 0, max(point)
    while high - low > 1:
        middle = (low + high) // 2
        candidate = tuple(round(step * middle / max(start)) for step in start)
        low, high = (low, middle) if fails(candidate) else (middle, high)
    scaled = [round(step * high / max(start)) for step in start] if max(start) else point
    if fails(tuple(scaled)):
        point = scaled
    for index in range(len(point)):
        low, high = -1, point[index]
        while high - low > 1:
            middle = (low + high) // 2
            candidate = (*point[:index], middle, *point[index + 1 :])
            low, high = (low, middle) if fails(candidate) else (middle, high)
        point[index] = high
    return tuple(point)

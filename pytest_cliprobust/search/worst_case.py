"""Worst case within an envelope, and how far each perturbation can be turned up.

Five published severities are five points. :func:`worst_case` searches the continuous parameters of a
perturbation (:attr:`Perturbation.envelope`) for a place where a bound is broken, with Hypothesis:
``hypothesis.target`` climbs towards low accuracy, and a failure is shrunk to the mildest one (every
parameter is drawn as a number of steps from its mildest end, which is what Hypothesis shrinks
towards). :func:`robustness_frontier` turns all parameters up together and bisects for the largest
strength at which the bound still holds.

Both ask one function, from parameters to an accuracy, and never ask it twice for the same parameters
when it is an :class:`Evaluations`. Higher is better; to bound a *drop* let the function return minus
the (paired) drop, and bound it by minus the largest drop.
"""

from __future__ import annotations

import math
import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.perturbations.registry import Perturbation

Parameters = Mapping[str, float]
#: From parameters to the accuracy, plain or with its interval.
Evaluate = Callable[[Parameters], "float | Figure"]
#: From the telling parameters to the file with the pictures before and after, or None.
Picture = Callable[[Parameters], "Path | None"]

# Hypothesis draws integers from this offset on, not from 0: it favours small integers and integers
# that stand in the user's modules, and the search must neither cluster nor depend on what happens to
# be imported.
_OFFSET = 10_000_019


@dataclass(frozen=True)
class Evaluation:
    """One point of the envelope: its parameters, the accuracy there and the accuracy's interval."""

    parameters: Parameters
    value: float
    low: float
    high: float


class Evaluations:
    """An evaluation function that remembers what it was asked.

    Attributes:
        calls: number of times the function itself was called.
    """

    def __init__(self, evaluate: Evaluate) -> None:
        """Wrap ``evaluate``."""
        self._evaluate = evaluate
        self._known: dict[tuple[tuple[str, float], ...], Evaluation] = {}
        self.calls = 0

    def known(self, parameters: Parameters) -> bool:
        """Return whether ``parameters`` were asked before."""
        return self._key(parameters) in self._known

    def __call__(self, parameters: Parameters) -> Evaluation:
        """Return the evaluation at ``parameters``.

        Raises:
            ClipRobustError: the accuracy is not a number; it could neither hold nor break a bound.
        """
        key = self._key(parameters)
        if key not in self._known:
            self.calls += 1
            result = self._evaluate(dict(parameters))
            figure = isinstance(result, Figure)
            value = float(result.value if isinstance(result, Figure) else result)
            low = float(result.low) if figure and isinstance(result, Figure) else value
            high = float(result.high) if figure and isinstance(result, Figure) else value
            if any(math.isnan(number) for number in (value, low, high)):
                raise ClipRobustError(
                    f"the accuracy at {_settings(parameters)} is not a number; check the model's "
                    "outputs there (`cliprobust perturb --set …` shows the images)"
                )
            self._known[key] = Evaluation(dict(parameters), value, low, high)
        return self._known[key]

    @property
    def all(self) -> tuple[Evaluation, ...]:
        """All evaluations so far, in order."""
        return tuple(self._known.values())

    @staticmethod
    def _key(parameters: Parameters) -> tuple[tuple[str, float], ...]:
        return tuple(sorted((name, float(value)) for name, value in parameters.items()))


def _settings(parameters: Parameters) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in parameters.items()) or "no parameters"


def _require_envelope(perturbation: Perturbation) -> None:
    if not perturbation.envelope:
        raise ClipRobustError(
            f"perturbation {perturbation.name!r} has no envelope of continuous parameters to search; "
            "register it with one (envelope={'parameter': (mildest, strongest)})"
        )


def at_strength(
    perturbation: Perturbation, strength: float | Mapping[str, float]
) -> dict[str, float]:
    """Return the parameters at ``strength``: 0 is the mildest end of the envelope, 1 the strongest.

    Args:
        perturbation: gives the envelope.
        strength: one number for all parameters, or one per parameter.

    Raises:
        ClipRobustError: the perturbation has no envelope, or the strength lies outside [0, 1].
    """
    _require_envelope(perturbation)
    result = {}
    for name, (mildest, strongest) in perturbation.envelope.items():
        share = strength[name] if isinstance(strength, Mapping) else strength
        if not 0 <= share <= 1:
            raise ClipRobustError(f"a strength lies between 0 and 1; got {share!r} for {name!r}")
        # Written so that both ends are met exactly.
        result[name] = strongest if share == 1 else mildest + share * (strongest - mildest)
    return result


def reproduction(
    perturbation: str,
    parameters: Parameters,
    seed: int,
    *,
    image: str = "IMAGE",
    load: Sequence[Path] = (),
) -> str:
    """Return the one line that shows this perturbation on an image.

    Args:
        perturbation: its name.
        parameters: its parameters.
        seed: the run's seed.
        image: an image file, or ``--embedded ID``; already quoted for a shell.
        load: files that define the perturbation, where it is not one of this package.
    """
    parts = ["cliprobust perturb", image, "--out worst-case", "--perturbation", perturbation]
    parts += [f"--set {name}={value!r}" for name, value in parameters.items()]
    parts += [f"--load {shlex.quote(str(path))}" for path in load]
    return " ".join([*parts, f"--seed {seed}"])


@dataclass(frozen=True)
class WorstCase:
    """What a search found.

    Attributes:
        perturbation: its name.
        bound: the accuracy that had to hold.
        holds: no evaluated point breaks the bound (with intervals: none lies wholly below it).
        conclusive: the verdict does not hang on an interval that contains the bound.
        worst: the evaluation with the lowest accuracy.
        worst_strengths: its parameters as strengths in [0, 1].
        mildest_failure: the failure after shrinking; None if the bound holds.
        mildest_strengths: its parameters as strengths in [0, 1]; empty if the bound holds.
        evaluations: number of times that accuracy was computed for this search.
        exhausted: the budget ended the search or the shrinking, so that a longer one may find more.
        seed: the seed of the search.
        picture: the file that shows images before and after, if a hook made one.
        reproduction: one line that shows the worst or mildest failing perturbation on any image.
    """

    perturbation: str
    bound: float
    holds: bool
    conclusive: bool
    worst: Evaluation
    worst_strengths: Mapping[str, float]
    mildest_failure: Evaluation | None
    mildest_strengths: Mapping[str, float]
    evaluations: int
    exhausted: bool
    seed: int
    picture: Path | None
    reproduction: str

    @property
    def message(self) -> str:
        """One line for the terminal."""
        worst = f"{self.worst.value:.4g} at {_short(self.worst.parameters)}"
        if self.mildest_failure is None:
            doubt = "" if self.conclusive else " (inconclusive: its interval contains the bound)"
            return (
                f"{self.perturbation}: {self.bound:.4g} holds in {self.evaluations} evaluations; "
                f"lowest {worst}{doubt}"
            )
        return (
            f"{self.perturbation}: {self.bound:.4g} fails; mildest failure "
            f"{self.mildest_failure.value:.4g} at {_short(self.mildest_failure.parameters)}; "
            f"worst {worst}; see it: {self.reproduction}"
        )


def _short(parameters: Parameters) -> str:
    return ", ".join(f"{name}={value:.4g}" for name, value in parameters.items())


class _BrokenBoundError(Exception):
    """Tells Hypothesis that this test case fails."""


def worst_case(
    perturbation: Perturbation,
    evaluate: Evaluate | Evaluations,
    bound: float,
    *,
    seed: int = 0,
    max_examples: int = 30,
    max_evaluations: int = 100,
    resolution: int = 256,
    start: Sequence[Mapping[str, float]] = (),
    picture: Picture | None = None,
) -> WorstCase:
    """Search a perturbation's envelope for parameters at which the accuracy falls below ``bound``.

    First the strongest and the mildest corner (and ``start``) are evaluated, then Hypothesis generates and climbs
    (``max_examples`` test cases), then it shrinks what fails. A test case past ``max_evaluations``
    that would need a new evaluation counts as passing, which ends generation or shrinking early.

    With intervals (:class:`Figure`), a point fails if its whole interval lies below the bound.

    Args:
        perturbation: gives name and envelope.
        evaluate: from parameters to accuracy; wrap it in :class:`Evaluations` to share what is known
            between calls (the number of evaluations reported is then that of the new ones).
        bound: least accuracy that must hold everywhere.
        seed: the run's seed; nothing else decides the search (no example database is used).
        max_examples: test cases that Hypothesis generates.
        max_evaluations: new evaluations allowed in all; at least 2.
        resolution: steps from the mildest to the strongest end of each parameter.
        start: strengths in [0, 1] of further points to look at first.
        picture: called once with the mildest failing (else the worst) parameters.

    Raises:
        ClipRobustError: no envelope, a budget or resolution too small, or an accuracy that is NaN.
    """
    _require_envelope(perturbation)
    if max_evaluations < 2 or max_examples < 1 or resolution < 1:
        raise ClipRobustError(
            "a worst-case search needs max_evaluations of at least 2, max_examples and resolution of "
            f"at least 1; got {max_evaluations}, {max_examples} and {resolution}"
        )
    evaluations = evaluate if isinstance(evaluate, Evaluations) else Evaluations(evaluate)
    calls_before = evaluations.calls
    names = tuple(perturbation.envelope)
    seen: dict[tuple[int, ...], Evaluation] = {}
    exhausted = False

    def look(steps: tuple[int, ...]) -> Evaluation | None:
        """Return the evaluation, or None when the budget does not allow it."""
        nonlocal exhausted
        strengths = {n: step / resolution for n, step in zip(names, steps, strict=True)}
        parameters = at_strength(perturbation, strengths)
        spent = evaluations.calls - calls_before
        if not evaluations.known(parameters) and spent >= max_evaluations:
            exhausted = True
            return None
        seen[steps] = evaluations(parameters)
        return seen[steps]

    def fails(evaluation: Evaluation) -> bool:
        return evaluation.high < bound

    look((resolution,) * len(names))
    look((0,) * len(names))
    for strengths in start:
        look(tuple(round(strengths[name] * resolution) for name in names))
    _explore(look, None, len(names), resolution, seed, max_examples)
    failures = {steps: e for steps, e in seen.items() if fails(e)}
    mildest: tuple[int, ...] | None = None
    if failures:
        # Shrinking needs budget of its own: as much again, so that a failure found late is not
        # reported as it was found.
        max_evaluations += max_evaluations
        exhausted = False
        mildest = _explore(look, fails, len(names), resolution, seed, max_examples)
        if mildest is None:
            # Hypothesis stops generating where its own test cases end; a failure that only the probed
            # corner showed is walked back towards the mildest end by bisection.
            nearest = min(failures, key=lambda steps: (sum(steps), steps))
            mildest = _walk_back(nearest, lambda steps: _is(look(steps), fails))

    def strengths_of(steps: tuple[int, ...] | None) -> dict[str, float]:
        return {n: step / resolution for n, step in zip(names, steps or (), strict=bool(steps))}

    # Of equally bad points the mildest is the worst.
    worst_at = min(seen, key=lambda steps: (seen[steps].value, sum(steps), steps))
    worst = seen[worst_at]
    failure = None if mildest is None else seen[mildest]
    telling = failure or worst
    return WorstCase(
        perturbation=perturbation.name,
        bound=bound,
        holds=failure is None,
        conclusive=failure is not None or all(e.low >= bound for e in seen.values()),
        worst=worst,
        worst_strengths=strengths_of(worst_at),
        mildest_failure=failure,
        mildest_strengths=strengths_of(mildest),
        evaluations=evaluations.calls - calls_before,
        exhausted=exhausted,
        seed=seed,
        picture=None if picture is None else picture(telling.parameters),
        reproduction=reproduction(perturbation.name, telling.parameters, seed),
    )


def _is(evaluation: Evaluation | None, fails: Callable[[Evaluation], bool]) -> bool:
    return evaluation is not None and fails(evaluation)


def _explore(
    look: Callable[[tuple[int, ...]], Evaluation | None],
    fails: Callable[[Evaluation], bool] | None,
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
        evaluation = look(steps)
        if evaluation is None:
            return
        hypothesis.target(-evaluation.value, label="1 - accuracy")
        if fails is not None and fails(evaluation):
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


@dataclass(frozen=True)
class Frontier:
    """How far a perturbation can be turned up before a bound breaks.

    Attributes:
        perturbation: its name.
        bound: the accuracy that had to hold.
        strength: the largest strength in [0, 1] known to hold, before the first failure; None if the
            bound fails at the mildest end already.
        parameters: the parameters at that strength (at strength 0 if it is None).
        bracket: the strengths between which the bound breaks, (holds, fails); (1, 1) if it holds
            throughout, (0, 0) if it never holds.
        monotone: on the evaluated points accuracy never rises with strength, and the bound never
            holds again after it has failed, both beyond what the intervals leave open.
        warning: what is not monotone, or an empty string.
        curve: strength and evaluation of every point, by strength.
        evaluations: number of times that accuracy was computed.
        reproduction: one line that shows the frontier's perturbation on any image.
    """

    perturbation: str
    bound: float
    strength: float | None
    parameters: Parameters
    bracket: tuple[float, float]
    monotone: bool
    warning: str
    curve: tuple[tuple[float, Evaluation], ...]
    evaluations: int
    reproduction: str

    @property
    def message(self) -> str:
        """One line for the terminal."""
        if self.strength is None:
            text = f"fails even at the mildest end ({_short(self.parameters)})"
        elif self.bracket == (1.0, 1.0):
            text = "holds up to the strongest end"
        else:
            text = f"holds up to strength {self.strength:.3g} ({_short(self.parameters)})"
        return f"{self.perturbation}: {self.bound:.4g} {text}" + (
            f"; {self.warning}" if self.warning else ""
        )


def robustness_frontier(
    perturbation: Perturbation,
    evaluate: Evaluate | Evaluations,
    bound: float,
    *,
    grid: int = 5,
    tolerance: float = 1 / 64,
    seed: int = 0,
) -> Frontier:
    """Return the largest strength at which the accuracy still reaches ``bound``.

    Strength turns all parameters of the envelope up together, linearly. A coarse grid of ``grid``
    intervals is evaluated first: bisection alone would not notice a curve that is not monotone. The
    interval before the first failure is then bisected to ``tolerance``. Where the curve is not
    monotone the frontier is that of the first failure, and a warning says so.

    With intervals (:class:`Figure`) the point estimate decides where the bound breaks, and the
    intervals decide whether a rise in accuracy is more than noise.

    Args:
        perturbation: gives name and envelope.
        evaluate: from parameters to accuracy, or :class:`Evaluations`.
        bound: least accuracy that must hold.
        grid: intervals of the coarse grid, at least 1.
        tolerance: width of the final bracket, in strength.
        seed: named in the reproduction, nothing else.

    Raises:
        ClipRobustError: no envelope, a grid or tolerance that makes no sense, an accuracy of NaN.
    """
    _require_envelope(perturbation)
    if grid < 1 or not 0 < tolerance <= 1:
        raise ClipRobustError(
            f"a frontier needs grid of at least 1 and tolerance in (0, 1]; got {grid}, {tolerance}"
        )
    evaluations = evaluate if isinstance(evaluate, Evaluations) else Evaluations(evaluate)
    calls_before = evaluations.calls
    curve: dict[float, Evaluation] = {}

    def holds(strength: float) -> bool:
        curve[strength] = evaluations(at_strength(perturbation, strength))
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
    points = tuple(sorted(curve.items()))
    warning = _not_monotone(points, bound)
    if warning:
        warning = f"not monotone: {warning}; the frontier is that of the first failure"
        warnings.warn(f"{perturbation.name}: {warning}", stacklevel=2)
    parameters = at_strength(perturbation, strength or 0.0)
    return Frontier(
        perturbation=perturbation.name,
        bound=bound,
        strength=strength,
        parameters=parameters,
        bracket=bracket,
        monotone=not warning,
        warning=warning,
        curve=points,
        evaluations=evaluations.calls - calls_before,
        reproduction=reproduction(perturbation.name, parameters, seed),
    )


def _not_monotone(points: tuple[tuple[float, Evaluation], ...], bound: float) -> str:
    """Return what is wrong with the order of the points, or an empty string."""
    failed_at: float | None = None
    lowest = points[0]
    rise = ""
    for strength, evaluation in points:
        if evaluation.high < bound:
            failed_at = strength if failed_at is None else failed_at
        elif failed_at is not None and evaluation.low >= bound:
            return f"fails at strength {failed_at:.3g} and holds again at {strength:.3g}"
        if evaluation.value < lowest[1].value:
            lowest = (strength, evaluation)
        elif evaluation.low > lowest[1].high and not rise:
            rise = (
                f"accuracy rises from {lowest[1].value:.4g} at strength {lowest[0]:.3g} to "
                f"{evaluation.value:.4g} at {strength:.3g}"
            )
    return rise

"""The envelope of a perturbation: its points, and the accuracy drop at them.

Every perturbation with continuous parameters has an envelope: for each parameter a range from the
mildest to the strongest value. A search asks for one point after the other; :class:`Points` remembers
what it was asked, and :class:`Drops` measures a point under a model.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.engine.view import View
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.perturbations.registry import Perturbation
from pytest_cliprobust.properties import accuracy

Parameters = Mapping[str, float]
#: From parameters to the accuracy, plain or with its interval.
Evaluate = Callable[[Parameters], "float | Figure"]


@dataclass(frozen=True)
class Point:
    """One point of the envelope: its parameters, the accuracy there and the accuracy's interval."""

    parameters: Parameters
    value: float
    low: float
    high: float


class Points:
    """The points of an envelope: each is measured when it is first asked for.

    Attributes:
        calls: number of points measured.
    """

    def __init__(self, evaluate: Evaluate) -> None:
        """Measure points with ``evaluate``, higher is better."""
        self._evaluate = evaluate
        self._known: dict[tuple[tuple[str, float], ...], Point] = {}
        self.calls = 0

    def known(self, parameters: Parameters) -> bool:
        """Return whether ``parameters`` were asked for before."""
        return self._key(parameters) in self._known

    def __call__(self, parameters: Parameters) -> Point:
        """Return the point at ``parameters``.

        Raises:
            ClipRobustError: the accuracy is not a number; it could neither hold nor break a bound.
        """
        key = self._key(parameters)
        if key not in self._known:
            self.calls += 1
            result = self._evaluate(dict(parameters))
            if isinstance(result, Figure):
                numbers = (float(result.value), float(result.low), float(result.high))
            else:
                numbers = (float(result),) * 3
            if any(math.isnan(number) for number in numbers):
                settings = ", ".join(f"{name}={value!r}" for name, value in parameters.items())
                raise ClipRobustError(
                    f"the accuracy at {settings} is not a number; check the model's outputs there "
                    "(`cliprobust perturb --set …` shows the images)"
                )
            self._known[key] = Point(dict(parameters), *numbers)
        return self._known[key]

    @staticmethod
    def _key(parameters: Parameters) -> tuple[tuple[str, float], ...]:
        return tuple(sorted((name, float(value)) for name, value in parameters.items()))


class Drops:
    """The paired accuracy drop of a perturbation, from its parameters.

    Attributes:
        clip: the model under test.
        clean: the samples as they are.
        perturbation: gives name and envelope.
    """

    def __init__(self, clip: Evaluation, clean: View, perturbation: Perturbation) -> None:
        """Measure drops from ``clean``."""
        self.clip, self.clean, self.perturbation = clip, clean, perturbation

    def view(self, parameters: Parameters) -> View:
        """Return the samples under the perturbation."""
        return self.clip.on(
            self.clean.data,
            self.perturbation.name,
            None,
            limit=self.clean.condition.limit,
            **parameters,
        )

    def figure(self, parameters: Parameters) -> Figure:
        """Return ``accuracy_drop`` at ``parameters``."""
        return accuracy.accuracy_drop(self.clean, self.view(parameters))

    def points(self, confidence: float | None = None) -> Points:
        """Return minus the drop, which a search keeps above minus the largest drop allowed.

        With ``confidence`` it comes with its interval at that level.
        """

        def evaluate(parameters: Parameters) -> float | Figure:
            drop = self.figure(parameters)
            if confidence is None:
                return 0.0 - drop.value  # no negative zero
            ends = interval_at(drop, confidence)
            return replace(
                drop, value=0.0 - drop.value, low=-ends.high, high=-ends.low, replicates=()
            )

        return Points(evaluate)


def require_clean(samples: View) -> None:
    """Refuse samples that are perturbed already.

    Raises:
        ClipRobustError: they are; a search would perturb the samples as they are, not these.
    """
    if samples.condition.steps:
        raise ClipRobustError(
            f"a search or an attack starts from samples as they are, not from {samples.condition}; "
            "give it clip.on(...) without a perturbation"
        )


def searched_condition(clean: View, label: str, over: Sequence[View] = ()) -> Condition:
    """Return the condition of a figure that a search or an attack found.

    Args:
        clean: the samples that it started from.
        label: the perturbation's name, or the attack's.
        over: the views that the figure is made of.
    """
    return Condition(
        clean.condition.dataset,
        limit=clean.condition.limit,
        over=tuple(view.condition for view in over),
        label=label,
    )


def require_envelope(perturbation: Perturbation) -> None:
    """Refuse a perturbation without an envelope.

    Raises:
        ClipRobustError: it has none.
    """
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
    require_envelope(perturbation)
    result = {}
    for name, (mildest, strongest) in perturbation.envelope.items():
        share = strength[name] if isinstance(strength, Mapping) else strength
        if not 0 <= share <= 1:
            raise ClipRobustError(f"a strength lies between 0 and 1; got {share!r} for {name!r}")
        # Written so that both ends are met exactly.
        result[name] = strongest if share == 1 else mildest + share * (strongest - mildest)
    return result


def settings_text(parameters: Parameters) -> str:
    """Return ``gain=8.6, lift=0.06``, for messages and pictures."""
    return ", ".join(f"{name}={value:.4g}" for name, value in parameters.items())


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

"""Aggregates over a grid of corruptions and severities, all measured on the same samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Bools, Floats, as_correct
from pytest_cliprobust.figures.bootstrap import (
    DEFAULT,
    Bootstrap,
    bootstrap_figure,
    figure_of_ends,
    mean_figure,
)
from pytest_cliprobust.figures.condition import together
from pytest_cliprobust.figures.ends import Compared
from pytest_cliprobust.figures.extremes import compare_extremes, extreme_ends
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.means import IN_A_CHANGE, codes_of, drop_values, means_of
from pytest_cliprobust.figures.metrics import one_in, register_metric
from pytest_cliprobust.figures.outcomes import Outcomes, drop
from pytest_cliprobust.figures.outcomes import means as averages
from pytest_cliprobust.figures.samples import Samples, shared
from pytest_cliprobust.figures.taken import takes_samples
from pytest_cliprobust.properties.accuracy import relative_drop_of

#: The severities that figures of a corruption are over, unless their name says otherwise.
SEVERITIES = (1, 2, 3, 4, 5)


@takes_samples
def corruption_of(
    clean: Samples, corrupted: Sequence[Samples], *, name: str = ""
) -> dict[str, Figure]:
    """Return the figures of a grid of corruptions and severities: see :func:`corruption_figures`.

    They rest on the samples that all views have, and are over the conditions of ``corrupted``.

    Args:
        clean: the samples as they are.
        corrupted: views of the same data set, one for each corruption and severity.
        name: name of several corruptions together, as in ``"all_2d"``; one alone has its own.

    Raises:
        ClipRobustError: a corruption lacks severities that another has, no sample in common, or
            several corruptions without a name.
    """
    kinds = list(dict.fromkeys(view.condition.perturbation for view in corrupted))
    steps = sorted({_severity(view) for view in corrupted})
    condition = together([view.condition for view in corrupted], name)
    if not name and steps != list(SEVERITIES):
        # A mean over some severities is no mean over all: it has another name, and other bounds.
        label = f"{condition.perturbation}@{'+'.join(map(str, steps))}"
        condition = replace(condition, label=label)
    common = shared(clean, *corrupted)
    cells = {
        (view.condition.perturbation, _severity(view)): view.correct[rows]
        for view, rows in zip(corrupted, common.rows[1:], strict=True)
    }
    missing = [f"{kind}@{step}" for kind in kinds for step in steps if (kind, step) not in cells]
    if missing or len(cells) != len(corrupted):
        raise ClipRobustError(
            f"{condition.perturbation}: each corruption is needed once at each severity; "
            f"{', '.join(missing) or 'some stand there twice'}"
        )
    grid = np.stack([np.stack([cells[kind, step] for step in steps]) for kind in kinds])
    figures = corruption_figures(
        clean.correct[common.rows[0]], grid, kinds, steps, bootstrap=common.bootstrap
    )
    return {metric: figure.measured_on(condition) for metric, figure in figures.items()}


def _severity(view: Samples) -> int:
    severity = view.condition.severity
    if severity is None:
        raise ClipRobustError(f"{view.condition}: a grid of corruptions needs severities")
    return severity


@register_metric(
    "mean_corruption_accuracy",
    higher_is_better=True,
    meaning="mean accuracy over corruptions and severities",
    chance=one_in,
)
@register_metric(
    "mean_corruption_drop",
    higher_is_better=False,
    meaning="clean minus mean corruption accuracy",
    low=-1.0,
)
@register_metric(
    "relative_corruption_drop",
    higher_is_better=False,
    meaning="mean corruption drop as a share of the clean accuracy",
    low=None,
)
@register_metric(
    "worst_corruption_drop",
    higher_is_better=False,
    meaning="largest drop of a single corruption",
    low=-1.0,
)
@register_metric(
    "severity_monotonicity",
    higher_is_better=True,
    meaning="share of severity steps at which accuracy does not rise",
    gateable=False,
    why_not_gateable="one answer makes a step rise or fall, so its interval misses up to a quarter "
    "of draws; bound mean_corruption_drop",
)
def corruption_figures(
    clean: ArrayLike,
    correct: ArrayLike,
    corruptions: Sequence[str],
    severities: Sequence[int],
    *,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Figure]:
    """Return the figures of a whole grid; a sample is resampled with all its corruptions.

    ``mean_corruption_accuracy``
        mean accuracy over corruptions and severities (every cell weighs the same);
    ``mean_corruption_drop``, ``relative_corruption_drop``
        clean accuracy minus that, and the same as a share of the clean accuracy;
    ``worst_corruption_drop``
        the largest of the corruptions' drops, each a mean over severities, with an interval that is
        simultaneous over them, since a maximum is biased upwards; its details name the corruption;
    ``severity_monotonicity``
        share of the steps from one severity to the next at which accuracy does not rise, over all
        corruptions: 1 if each corruption gets harder throughout. Its details hold Kendall's tau of
        accuracy and severity for each corruption (-1: falls at every step).

    The details of ``mean_corruption_accuracy`` hold the grid of accuracies.

    Args:
        clean: (N,) bool.
        correct: (K, S, N) bool, the same images in the same order.
        corruptions: (K,) names.
        severities: (S,), ascending.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: shapes that do not fit.
    """
    before, after = _grid(clean, correct, corruptions, severities)
    kinds, steps, count = after.shape
    answers = {"clean": before, "cells": after.reshape(kinds * steps, count).T}
    cells, clean_value = after.mean(axis=2), float(before.mean())
    overall, by_kind = float(cells.mean()), clean_value - cells.mean(axis=1)
    shown = {
        name: {str(s): float(cells[k, i]) for i, s in enumerate(severities)}
        for k, name in enumerate(corruptions)
    }
    # Per sample a mean over the cells says all that a mean figure needs, in one number.
    shifted = answers["cells"].mean(axis=1)
    reference = {"clean_accuracy": clean_value}
    drops = {name: float(d) for name, d in zip(corruptions, by_kind, strict=True)}
    figures = [
        mean_figure(
            "mean_corruption_accuracy",
            shifted,
            bootstrap,
            value=overall,
            supposed=(1.0, 0.0),
            coarse=True,
            bounds=(0.0, 1.0),
            details={"accuracies": shown, **reference},
        ),
        mean_figure(
            "mean_corruption_drop",
            before - shifted,
            bootstrap,
            outcomes=Outcomes({"clean": before, "shifted": shifted}, drop, coarse=True),
            linear=drop_values,
            value=clean_value - overall,
            supposed=(1.0, -1.0),
            worth=IN_A_CHANGE,
            bounds=(-1.0, 1.0),
            details=reference,
        ),
        relative_drop_of("relative_corruption_drop", before, shifted, bootstrap, reference),
        _worst(answers, steps, float(by_kind.max()), bootstrap, drops),
    ]
    if steps > 1:
        figures.append(
            bootstrap_figure(
                "severity_monotonicity",
                float((np.diff(cells, axis=1) <= 0).mean()),
                Outcomes(answers, partial(_monotonicity, steps=steps)),
                bootstrap,
                method="basic",
                bounds=(0.0, 1.0),
                details={
                    "kendall_tau": {name: _kendall(cells[k]) for k, name in enumerate(corruptions)}
                },
            )
        )
    return {made.metric: made for made in figures}


def _worst(
    answers: Mapping[str, Bools],
    steps: int,
    value: float,
    bootstrap: Bootstrap,
    drops: Mapping[str, float],
) -> Figure:
    """Return the largest of the corruptions' drops."""
    outcomes = Outcomes(
        answers,
        partial(_largest_drop, steps=steps),
        compare=partial(_compare_largest, steps=steps),
    )
    found = means_of(_by_kind(outcomes, steps), codes_of(bootstrap.keys), (1.0, -1.0))
    return figure_of_ends(
        "worst_corruption_drop",
        value,
        extreme_ends([found.column(k) for k in range(len(drops))], largest=True),
        outcomes,
        bootstrap,
        IntervalMethod.SIMULTANEOUS,
        f"t, skewness corrected, simultaneous over {len(drops)} corruptions",
        bounds=(-1.0, 1.0),
        details={"worst": max(drops, key=lambda name: drops[name]), "drops": dict(drops)},
        effect=float(found.effects.max()),
    )


def _by_kind(outcomes: Outcomes, steps: int) -> Floats:
    """Return each sample's drop by corruption (N, K), a mean over severities."""
    cells = outcomes["cells"]
    by_kind = cells.reshape(len(cells), -1, steps).mean(axis=2)
    return np.asarray(outcomes["clean"][:, None] - by_kind, dtype=np.float64)


def _compare_largest(before: Outcomes, after: Outcomes, *, steps: int) -> Compared:
    """Return the change of the largest drop of a corruption."""
    sides = [list(_by_kind(outcomes, steps).T) for outcomes in (before, after)]
    codes = [codes_of(after.keys)] * len(sides[0])
    return compare_extremes(sides[0], sides[1], codes, largest=True)


def _cells(weights: Floats, outcomes: Outcomes, steps: int) -> Floats:
    """Return the accuracies (R, K, S) of the grid."""
    drawn = averages(weights, outcomes["cells"])
    return drawn.reshape(len(weights), -1, steps)


def _largest_drop(weights: Floats, outcomes: Outcomes, *, steps: int) -> Floats:
    """Return the largest of the corruptions' drops, each a mean over severities."""
    by_kind = _cells(weights, outcomes, steps).mean(axis=2)
    return np.asarray(averages(weights, outcomes["clean"]) - by_kind.min(axis=1))


def _monotonicity(weights: Floats, outcomes: Outcomes, *, steps: int) -> Floats:
    """Return the share of severity steps at which accuracy does not rise."""
    rises = np.diff(_cells(weights, outcomes, steps), axis=2)
    return np.asarray((rises <= 0).mean(axis=(1, 2)), dtype=np.float64)


def _kendall(values: Floats) -> float:
    """Return Kendall's tau-a of ``values`` (S,) against their position, in [-1, 1]."""
    signs = np.sign(values[None, :] - values[:, None])
    return float(np.triu(signs, 1).sum() / (len(values) * (len(values) - 1) / 2))


def _grid(
    clean: ArrayLike, correct: ArrayLike, corruptions: Sequence[str], severities: Sequence[int]
) -> tuple[Bools, Bools]:
    before, after = as_correct(clean, "clean answers"), np.asarray(correct)
    expected = (len(corruptions), len(severities), len(before))
    if after.dtype != np.bool_ or after.shape != expected or 0 in expected:
        raise ClipRobustError(
            f"corruption grid: answers must be booleans of shape (corruptions, severities, N) = "
            f"{expected}, got {after.dtype} of shape {after.shape}."
        )
    if list(severities) != sorted(set(severities)):
        raise ClipRobustError(f"severities must ascend, got {list(severities)}.")
    return before, after

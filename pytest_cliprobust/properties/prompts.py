"""Prompt sensitivity: how much accuracy depends on the wording of the prompt template."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Floats, as_correct, same_samples
from pytest_cliprobust.figures.bootstrap import (
    DEFAULT,
    Bootstrap,
    bootstrap_figure,
    figure_of_ends,
    mean_figure,
    proportion_figure,
)
from pytest_cliprobust.figures.ends import Compared
from pytest_cliprobust.figures.extremes import compare_extremes, extreme_ends
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.means import IN_A_CHANGE, codes_of, means_of
from pytest_cliprobust.figures.metrics import one_in, register_metric
from pytest_cliprobust.figures.outcomes import Outcomes
from pytest_cliprobust.figures.outcomes import means as averages
from pytest_cliprobust.figures.samples import Samples
from pytest_cliprobust.figures.taken import takes_samples


@takes_samples
def prompts_of(samples: Samples, singles: Iterable[tuple[str, Samples]]) -> list[Figure]:
    """Return how the accuracy of ``samples`` varies over prompt templates: see :func:`prompt_figures`.

    Args:
        samples: answered by the ensemble of all templates.
        singles: each template with the same samples as it alone answers them
            (``clip.under_each_template(view)``).

    Raises:
        ClipRobustError: other samples under a template.
    """
    templates, answers = [], []
    for template, view in singles:
        if view.ids != samples.ids:
            raise ClipRobustError(f"template {template!r} answers other samples than the ensemble")
        templates.append(template)
        answers.append(view.correct)
    figures = prompt_figures(
        np.stack(answers), templates, samples.correct, bootstrap=samples.bootstrap
    )
    return [figure.measured_on(samples.condition) for figure in figures.values()]


@register_metric(
    "prompt_mean_accuracy",
    higher_is_better=True,
    meaning="mean accuracy over single prompt templates",
    chance=one_in,
)
@register_metric(
    "prompt_worst_accuracy",
    higher_is_better=True,
    meaning="accuracy with the worst prompt template",
    chance=one_in,
)
@register_metric(
    "prompt_best_accuracy",
    higher_is_better=True,
    meaning="accuracy with the best prompt template",
    chance=one_in,
)
@register_metric(
    "prompt_accuracy_spread",
    higher_is_better=False,
    meaning="best minus worst accuracy over templates",
    gateable=False,
    why_not_gateable="noise alone sets templates apart; bound prompt_worst_accuracy or prompt_ensemble_gain",
)
@register_metric(
    "prompt_accuracy_std",
    higher_is_better=False,
    meaning="standard deviation of accuracy over templates",
    gateable=False,
    why_not_gateable="noise alone sets templates apart; bound prompt_worst_accuracy or prompt_ensemble_gain",
)
@register_metric(
    "prompt_ensemble_accuracy",
    higher_is_better=True,
    meaning="accuracy of the ensemble of all templates",
    chance=one_in,
)
@register_metric(
    "prompt_ensemble_gain",
    higher_is_better=True,
    meaning="ensemble minus mean accuracy over templates",
    low=-1.0,
)
def prompt_figures(
    correct: ArrayLike,
    templates: Sequence[str],
    ensemble: ArrayLike,
    *,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Figure]:
    """Return how accuracy varies over prompt templates, all measured on the same samples.

    ``prompt_mean_accuracy``, ``prompt_worst_accuracy``, ``prompt_best_accuracy``
        over single templates (the lists of details: accuracy by template, in order);
    ``prompt_accuracy_spread``
        best minus worst;
    ``prompt_accuracy_std``
        standard deviation over templates (divisor T: these templates, not a sample of some);
    ``prompt_ensemble_accuracy``
        accuracy of the ensemble head (:func:`pytest_cliprobust.engine.head.zero_shot_head`);
    ``prompt_ensemble_gain``
        ensemble minus mean.

    Extremes and spreads over templates are biased by sampling noise: the intervals of the extremes are
    simultaneous over the templates, those of the spreads the basic bootstrap's.

    Args:
        correct: (T, N) bool, answers with each single template.
        templates: (T,) as text, for the details.
        ensemble: (N,) bool, answers with the ensemble of all templates.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: shapes that do not fit, or no templates.
    """
    single, joint = np.asarray(correct), as_correct(ensemble, "answers of the ensemble")
    _check(single, templates)
    count = same_samples("prompts", single.T, joint)
    columns = {"single": single.T, "ensemble": joint}
    means = single.mean(axis=1)
    ensemble_value = float(joint.mean())
    table = [
        {"template": text, "accuracy": float(value)}
        for text, value in zip(templates, means, strict=True)
    ]

    def spread(metric: str, value: float, of: Callable[[Floats, Floats], Floats]) -> Figure:
        return bootstrap_figure(
            metric,
            value,
            Outcomes(columns, partial(_of_templates, of=of)),
            bootstrap,
            method="basic",
            bounds=(0.0, 1.0),
            trials=count,
        )

    figures = [
        mean_figure(
            "prompt_mean_accuracy",
            single.mean(axis=0),
            bootstrap,
            value=float(means.mean()),
            supposed=(1.0, 0.0),
            coarse=True,
            bounds=(0.0, 1.0),
            details={"templates": table},
        ),
        *_extremes(columns, templates, bootstrap),
        spread(
            "prompt_accuracy_spread", float(np.ptp(means)), lambda each, whole: np.ptp(each, axis=1)
        ),
        spread("prompt_accuracy_std", float(means.std()), lambda each, whole: each.std(axis=1)),
        proportion_figure("prompt_ensemble_accuracy", joint, bootstrap),
        mean_figure(
            "prompt_ensemble_gain",
            joint - single.mean(axis=0),
            bootstrap,
            value=ensemble_value - float(means.mean()),
            supposed=(1.0, -1.0),
            worth=IN_A_CHANGE,
            coarse=True,
            bounds=(-1.0, 1.0),
        ),
    ]
    return {entry.metric: entry for entry in figures}


def _check(single: NDArray[Any], templates: Sequence[str]) -> None:
    if single.ndim != 2 or single.dtype != np.bool_ or len(single) != len(templates):
        raise ClipRobustError(
            f"prompts: answers must be booleans of shape (templates, N) with {len(templates)} "
            f"templates, got {single.dtype} of shape {single.shape}."
        )
    if not len(templates):
        raise ClipRobustError("no prompt templates, so there is nothing to measure.")


def _extremes(
    columns: Mapping[str, NDArray[Any]], templates: Sequence[str], bootstrap: Bootstrap
) -> Iterator[Figure]:
    """Yield the accuracies of the worst and of the best template."""
    single = columns["single"]  # (N, T)
    means = single.T.mean(axis=1)
    shares = means_of(single, codes_of(bootstrap.keys), (1.0, 0.0))
    ends = [shares.column(template) for template in range(len(templates))]
    for metric, chosen, of in (
        ("prompt_worst_accuracy", int(means.argmin()), _lowest),
        ("prompt_best_accuracy", int(means.argmax()), _highest),
    ):
        largest = of is _highest
        yield figure_of_ends(
            metric,
            float(means[chosen]),
            extreme_ends(ends, largest=largest),
            Outcomes(
                columns,
                partial(_of_templates, of=of),
                compare=partial(_compare_extremes, largest=largest),
            ),
            bootstrap,
            IntervalMethod.SIMULTANEOUS,
            f"t, skewness corrected, simultaneous over {len(templates)} templates",
            bounds=(0.0, 1.0),
            details={"template": templates[chosen]},
            effect=float(shares.effects[chosen]),
        )


def _lowest(each: Floats, whole: Floats) -> Floats:
    return np.asarray(each.min(axis=1))


def _highest(each: Floats, whole: Floats) -> Floats:
    return np.asarray(each.max(axis=1))


def _compare_extremes(before: Outcomes, after: Outcomes, *, largest: bool) -> Compared:
    """Return the change of the accuracy with the worst or the best template."""
    sides = [list(side["single"].T.astype(np.float64)) for side in (before, after)]
    codes = [codes_of(after.keys)] * len(sides[0])
    return compare_extremes(sides[0], sides[1], codes, largest=largest)


def _of_templates(
    weights: Floats, outcomes: Outcomes, *, of: Callable[[Floats, Floats], Floats]
) -> Floats:
    """Return ``of`` the accuracies of the templates (R, T) and of the ensemble (R,)."""
    return of(averages(weights, outcomes["single"]), averages(weights, outcomes["ensemble"]))

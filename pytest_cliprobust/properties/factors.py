"""Visual factors: accuracy and error ratio by factor, and effective robustness against a fleet.

ImageNet-X (Idrissi et al. 2022): each annotated image has a *top* factor. The error ratio of a
factor is (1 - accuracy on its images) / (1 - accuracy on all annotated images); above 1 the factor
is harder than average. The average runs over the annotated, retained images (46,110 of the
validation set), not over all 50,000: images without an annotation, and the class prototypes, are
left out.

Where a data set shows each picture anew with one factor changed (an intervention, as the embedded benchmark
does), the average is over the same pictures without the change, and everything is paired.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import (
    Bools,
    Floats,
    Ints,
    as_correct,
    as_vector,
    distinct_groups,
    same_samples,
)
from pytest_cliprobust.figures.bootstrap import (
    DEFAULT,
    Bootstrap,
    bootstrap_figure,
    mean_figure,
    proportion_figure,
    resampled_counts,
)
from pytest_cliprobust.figures.condition import against
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.means import quotient_values
from pytest_cliprobust.figures.metrics import one_in, register_metric
from pytest_cliprobust.figures.outcomes import Column, Outcomes, means, quotient, ratio, sums
from pytest_cliprobust.figures.samples import Samples, shared
from pytest_cliprobust.figures.taken import takes_samples
from pytest_cliprobust.properties.accuracy import accuracy_drop

#: Group values that mean "not annotated" and "the prototype others are compared with".
UNANNOTATED = ("", "none", "prototype")


@takes_samples
def factors_of(clean: Samples, samples: Samples) -> list[Figure]:
    """Return the figures of the visual factors that ``samples`` show, whichever way they show them.

    The column ``factor`` says which factor a sample shows. If it is one and the same for all, the data set is
    an intervention: its samples are those of ``clean`` with this factor changed, and are compared with them,
    paired by id: ``factor_accuracy``, ``accuracy_drop``, ``error_ratio``. Else the pictures are annotated
    (ImageNet-X), and each factor is compared with all that are: ``factor_accuracy``, ``error_ratio``, filed
    as parts of the data set (``NAME:pose``).

    Args:
        clean: the pictures without the change; annotated pictures do not need them.
        samples: with a column ``factor``; unannotated pictures and prototypes are left out.

    Raises:
        ClipRobustError: no such column, nothing annotated, or an intervention on other samples.
    """
    if "factor" not in samples.groups:
        known = ", ".join(samples.groups) or "none"
        raise ClipRobustError(
            f"{samples.condition} has no column 'factor', which says what each picture shows; it has {known}"
        )
    column = samples.groups["factor"]
    if len(set(column)) > 1 or set(column) <= set(UNANNOTATED):
        by_factor = factor_figures(samples.correct, column, bootstrap=samples.bootstrap)
        return [
            figure.measured_on(samples.condition.part(factor))
            for factor, figures in by_factor.items()
            for figure in figures.values()
        ]
    common = shared(clean, samples)
    before, after = (
        view.correct[rows] for view, rows in zip((clean, samples), common.rows, strict=True)
    )
    figures = intervention_figures(before, after, bootstrap=common.bootstrap)
    condition = against(samples.condition, clean.condition)
    return [
        *(figure.measured_on(condition) for figure in figures.values()),
        accuracy_drop(clean, samples),
    ]


def intervention_figures(
    clean: ArrayLike, changed: ArrayLike, *, bootstrap: Bootstrap = DEFAULT
) -> dict[str, Figure]:
    """Return ``factor_accuracy`` and ``error_ratio`` of pictures of which one factor was changed.

    The error ratio is (1 - accuracy) / (1 - accuracy of the same pictures without the change); NaN where the
    latter has no error.

    Args:
        clean, changed: (N,) bool, right or wrong, the same samples in the same order.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: different numbers of samples.
    """
    before, after = as_correct(clean, "clean answers"), as_correct(changed, "changed answers")
    same_samples("error_ratio", before, after)
    outcomes = Outcomes({"hits": ~after, "trials": ~before}, quotient)
    figures = [
        proportion_figure("factor_accuracy", after, bootstrap),
        mean_figure(
            "error_ratio",
            quotient_values(outcomes),
            bootstrap,
            outcomes=outcomes,
            linear=quotient_values,
            value=outcomes.value(),
            supposed=_supposed_changes(outcomes),
            bounds=(0.0, math.inf),
            details={
                "overall_accuracy": float(before.mean()),
                "factor_accuracy": float(after.mean()),
            },
        ),
    ]
    return {figure.metric: figure for figure in figures}


def _supposed_changes(outcomes: Outcomes) -> tuple[float, ...]:
    """Return what a picture would add that is wrong with the change alone, and one that is so without.

    No error with the change is no proof that there never is one.
    """
    value, every = outcomes.value(), float(outcomes["trials"].mean())
    return (value + 1.0 / every, value - value / every) if every else ()


@register_metric(
    "factor_accuracy",
    higher_is_better=True,
    meaning="accuracy on the images of one visual factor",
    chance=one_in,
)
@register_metric(
    "error_ratio",
    higher_is_better=False,
    meaning="error on a factor's images relative to all annotated images",
    high=None,
    gateable=False,
    why_not_gateable="a ratio of two small numbers of errors, whose interval misses four in ten draws "
    "where few answers are wrong; bound factor_accuracy",
)
def factor_figures(
    correct: ArrayLike,
    factors: Sequence[str],
    *,
    excluded: Sequence[str] = UNANNOTATED,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, dict[str, Figure]]:
    """Return ``factor_accuracy`` and ``error_ratio`` for each factor.

    Args:
        correct: (N,) bool.
        factors: (N,) top factor of each image; images whose value is in ``excluded`` are dropped
            from the factors and from the average alike.
        excluded: values that are no factor.
        bootstrap: interval settings; all annotated images are resampled together.

    Returns:
        Figures by factor, then metric. The details of ``error_ratio`` hold ``overall_accuracy`` and
        ``annotated``, the number of images behind it; a model without any error has no error ratio
        (NaN, which no threshold passes).

    Raises:
        ClipRobustError: no annotated image.
    """
    right = as_correct(correct, "answers")
    if len(factors) != len(right):
        raise ClipRobustError(f"factors: {len(right)} samples but {len(factors)} factor values.")
    kept = np.array([factor not in excluded for factor in factors], dtype=np.bool_)
    if not kept.any():
        raise ClipRobustError(f"none of the {len(right)} images is annotated with a factor.")
    right = right[kept]
    rows = distinct_groups(
        [f for f, k in zip(factors, kept, strict=True) if k], len(right), "factors"
    )
    wrong = (~right).astype(np.float64)
    inner = bootstrap if kept.all() else bootstrap.subset(np.flatnonzero(kept).astype(np.int64))
    overall_error = float(wrong.mean())
    figures: dict[str, dict[str, Figure]] = {}
    for factor, index in rows.items():
        member = np.zeros(len(right), dtype=np.bool_)
        member[index] = True
        outcomes = Outcomes({"wrong": ~right}, _error_ratio, attributes={"member": member})
        value = float(ratio(wrong[index].mean(), overall_error))
        figures[factor] = {
            "factor_accuracy": proportion_figure(
                "factor_accuracy", right[index], inner.subset(index)
            ),
            "error_ratio": mean_figure(
                "error_ratio",
                _error_values(outcomes),
                inner,
                outcomes=outcomes,
                linear=_error_values,
                value=value,
                supposed=_supposed_members(outcomes),
                n=len(index),
                bounds=(0.0, math.inf),
                details={
                    "overall_accuracy": 1.0 - overall_error,
                    "factor_accuracy": 1.0 - float(wrong[index].mean()),
                    "annotated": len(right),
                },
            ),
        }
    return figures


def _error_ratio(weights: Floats, outcomes: Outcomes) -> Floats:
    """Return the members' error over everybody's (R,)."""
    wrong, member = outcomes["wrong"], outcomes["member"]
    own = ratio(sums(weights, wrong & member), sums(weights, member))
    return ratio(own, means(weights, wrong))


def _error_values(outcomes: Outcomes) -> Floats:
    """Return values (N,) of which the ratio of the members' error to everybody's is the mean, nearly."""
    wrong, member = outcomes["wrong"].astype(np.float64), outcomes["member"].astype(np.float64)
    share, every = member.mean(), wrong.mean()
    if share == 0.0 or every == 0.0:
        return np.full(len(wrong), math.nan)
    return _added(wrong, member, wrong[member > 0.0].mean(), share, every)


def _added(wrong: Floats, member: Floats, own: float, share: float, every: float) -> Floats:
    """Return what samples (N,) add to a ratio of the errors ``own`` and ``every``."""
    relative = own / every
    return np.asarray(
        relative + ((wrong - own) * member / share - relative * (wrong - every)) / every,
        dtype=np.float64,
    )


def _supposed_members(outcomes: Outcomes) -> tuple[float, ...]:
    """Return what a wrong and a right picture of the factor would add: ten right ones are no proof."""
    wrong, member = outcomes["wrong"].astype(np.float64), outcomes["member"].astype(bool)
    every = float(wrong.mean())
    if not every:
        return ()
    own, share = float(wrong[member].mean()), float(member.mean())
    added = _added(np.array([1.0, 0.0]), np.ones(2), own, share, every)
    return float(added[0]), float(added[1])


@dataclass(frozen=True)
class AccuracyLine:
    """A line fitted to a fleet's logit-scaled accuracies: logit(shifted) = slope · logit(ID) + b.

    Attributes:
        slope, intercept: ordinary least squares.
        r_squared: share of the variance explained, in [0, 1] (1 for a fleet on a line).
        n: number of models.
    """

    slope: float
    intercept: float
    r_squared: float
    n: int

    def predict(self, id_accuracy: ArrayLike) -> Floats:
        """Return the accuracy under shift that the line predicts from ID accuracy, in (0, 1)."""
        x = logit(np.asarray(id_accuracy, dtype=np.float64))
        return np.asarray(expit(self.slope * x + self.intercept), dtype=np.float64)


def fit_accuracy_line(id_accuracies: ArrayLike, shifted_accuracies: ArrayLike) -> AccuracyLine:
    """Fit the line of a reference fleet (Taori et al. 2020; Miller et al. 2021), on logits.

    Args:
        id_accuracies, shifted_accuracies: (M,) in (0, 1), the same models in the same order.

    Raises:
        ClipRobustError: fewer than three models, accuracies of 0 or 1 (no logit; bring in the number
            of samples first, e.g. (k + 0.5) / (n + 1)), or all ID accuracies equal.
    """
    x, y = as_vector(id_accuracies, "ID accuracies"), as_vector(shifted_accuracies, "accuracies")
    count = same_samples("fleet", x, y)
    if count < 3:
        raise ClipRobustError(f"a line through a fleet needs at least 3 models, got {count}.")
    for values in (x, y):
        if ((values <= 0.0) | (values >= 1.0)).any():
            raise ClipRobustError(
                "effective robustness is measured on logits: accuracies must lie strictly between "
                f"0 and 1, got {values[(values <= 0) | (values >= 1)][0]}."
            )
    slope, intercept, r_squared = _least_squares(logit(x)[None], logit(y)[None])
    if not np.isfinite(slope[0]):
        raise ClipRobustError("all models of the fleet have the same ID accuracy: no line fits.")
    return AccuracyLine(float(slope[0]), float(intercept[0]), float(r_squared[0]), count)


def _least_squares(x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Return slope, intercept and R² of each row of ``x`` and ``y`` (R, M)."""
    dx, dy = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    sxx, sxy, syy = (dx * dx).sum(axis=1), (dx * dy).sum(axis=1), (dy * dy).sum(axis=1)
    slope = ratio(sxy, np.where(sxx > 1e-24, sxx, 0.0))
    intercept = y.mean(axis=1) - slope * x.mean(axis=1)
    varied = syy > 1e-24  # equal accuracies leave a rounding error, not zero
    r_squared = np.where(varied, ratio(sxy * sxy, sxx * np.where(varied, syy, 1.0)), 1.0)
    return slope, intercept, r_squared


@register_metric(
    "effective_robustness",
    higher_is_better=True,
    meaning="accuracy under shift above what a fleet's line predicts",
    low=-1.0,
    gateable=False,
    change_gateable=True,
    why_not_gateable="with some 25 units its interval misses a tenth of draws; bound accuracy_drop",
)
def effective_robustness(
    id_correct: ArrayLike,
    shifted_correct: ArrayLike,
    fleet_id: ArrayLike,
    fleet_shifted: ArrayLike,
    *,
    paired: bool = False,
    bootstrap: Bootstrap = DEFAULT,
) -> Figure:
    """Return effective robustness: accuracy under shift minus what the fleet's line predicts.

    Taori et al. 2020, section 2.2: ρ = acc_shift - β(acc_ID), β fitted on the logit-scaled
    accuracies of a reference fleet that does not hold the model itself. In [-1, 1]; positive = more
    robust than models of the same ID accuracy. The interval resamples the model's images *and* the
    models of the fleet. With three models a ninth of the redraws hold one of them alone, through which no
    line goes: there is no interval then, and the method says why.

    Args:
        id_correct: (N,) bool, the model's answers on ID data.
        shifted_correct: (M,) bool, its answers under shift.
        fleet_id, fleet_shifted: (K,) accuracies in (0, 1) of the fleet.
        paired: the two are the same images, perturbed; they are then resampled together.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: as for :func:`fit_accuracy_line`, or a model that is right or wrong on all
            ID samples.
    """
    inside, shifted = as_correct(id_correct, "ID answers"), as_correct(shifted_correct, "answers")
    line = fit_accuracy_line(fleet_id, fleet_shifted)
    id_value, shifted_value = float(inside.mean()), float(shifted.mean())
    if id_value in (0.0, 1.0):
        raise ClipRobustError(
            f"effective robustness: the model's ID accuracy is {id_value:.0f} exactly, which has no "
            "logit; measure on more samples."
        )
    # Replicates right or wrong on all ID samples have no logit: half a sample is taken off.
    margin = 0.5 / len(inside)

    def above_the_line(weights: Floats, own: Outcomes) -> Floats:
        id_part, shifted_part = _id_and_shifted(weights, own)
        return np.asarray(shifted_part - line.predict(np.clip(id_part, margin, 1.0 - margin)))

    columns, attributes, strata = _sides(inside, shifted, paired)
    outcomes = Outcomes(columns, above_the_line, attributes=attributes)
    blocks = [
        _id_and_shifted(w, outcomes) for w in resampled_counts(len(outcomes), bootstrap, strata)
    ]
    id_drawn, shifted_drawn = (np.concatenate(part) for part in zip(*blocks, strict=True))
    fleet = as_vector(fleet_id, "fleet"), as_vector(fleet_shifted, "fleet")
    predicted = _predicted_by_drawn_fleets(
        np.clip(id_drawn, margin, 1.0 - margin), *fleet, bootstrap.seed
    )
    figure = bootstrap_figure(
        "effective_robustness",
        shifted_value - float(line.predict(id_value)),
        outcomes,
        bootstrap,
        n=len(shifted),
        replicates=shifted_drawn - predicted,
        bounds=(-1.0, 1.0),
        details={
            "id_accuracy": id_value,
            "shifted_accuracy": shifted_value,
            "predicted_accuracy": float(line.predict(id_value)),
            "slope": line.slope,
            "intercept": line.intercept,
            "r_squared": line.r_squared,
            "fleet": line.n,
        },
    )
    alone = int((~np.isfinite(predicted)).sum())
    if alone and math.isnan(figure.low):
        figure = replace(
            figure, method=f"{figure.method}; {_no_line(alone, len(predicted), line.n)}"
        )
    return figure


def _sides(
    inside: Bools, shifted: Bools, paired: bool
) -> tuple[dict[str, Bools], dict[str, Column], Ints | None]:
    """Return answers of ID samples and under shift as columns, who is in which, and the strata.

    Paired, both columns are of the same samples, and there are no strata; else one side's samples follow the
    other's.
    """
    if paired:
        same_samples("effective_robustness", inside, shifted)
        both: dict[str, Column] = {
            name: np.ones(len(inside), dtype=np.bool_) for name in ("in_id", "in_shifted")
        }
        return {"id": inside, "shifted": shifted}, both, None
    strata = np.repeat(np.array([0, 1], dtype=np.int64), [len(inside), len(shifted)])
    nothing = [np.zeros(len(side), dtype=np.bool_) for side in (inside, shifted)]
    columns = {
        "id": np.concatenate([inside, nothing[1]]),
        "shifted": np.concatenate([nothing[0], shifted]),
    }
    return columns, {"in_id": strata == 0, "in_shifted": strata == 1, "stratum": strata}, strata


def _id_and_shifted(weights: Floats, outcomes: Outcomes) -> tuple[Floats, Floats]:
    """Return the accuracies (R,) on ID samples and under shift."""
    id_part, shifted_part = (
        ratio(sums(weights, outcomes[name]), sums(weights, outcomes[f"in_{name}"]))
        for name in ("id", "shifted")
    )
    return id_part, shifted_part


def _predicted_by_drawn_fleets(
    id_accuracy: Floats, fleet_id: Floats, fleet_shifted: Floats, seed: int
) -> Floats:
    """Return the accuracy under shift (R,) that the lines of fleets drawn anew predict of accuracy on ID."""
    x, y = logit(fleet_id), logit(fleet_shifted)
    models = np.random.default_rng([seed, 1]).integers(len(x), size=(len(id_accuracy), len(x)))
    slope, intercept, _ = _least_squares(x[models], y[models])
    return np.asarray(expit(slope * logit(id_accuracy) + intercept))


def _no_line(alone: int, drawn: int, models: int) -> str:
    """Return why there is no interval: a small fleet, drawn anew, is often one model several times."""
    return (
        f"no interval, as {alone} of {drawn} redraws of the fleet's {models} models give no line "
        "(one model several times); it takes 4 or more that differ in ID accuracy"
    )

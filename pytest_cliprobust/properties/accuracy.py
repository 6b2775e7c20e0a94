"""Accuracy: top-k, balanced, by group, paired drops, and corruption errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import (
    Bools,
    Floats,
    Ints,
    as_correct,
    as_labels,
    as_matrix,
    distinct_groups,
    same_samples,
)
from pytest_cliprobust.figures.bootstrap import (
    DEFAULT,
    Bootstrap,
    ends_of_share,
    figure_of_ends,
    mean_figure,
    paired_drop_figure,
    proportion_figure,
)
from pytest_cliprobust.figures.condition import against
from pytest_cliprobust.figures.ends import Compared
from pytest_cliprobust.figures.extremes import compare_extremes, extreme_ends
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.means import (
    codes_of,
    compare_means,
    group_values,
    relative_drop_values,
)
from pytest_cliprobust.figures.metrics import METRICS, one_in, register_metric
from pytest_cliprobust.figures.outcomes import Outcomes, ratio, relative_drop, sums
from pytest_cliprobust.figures.recipes import register_recipe
from pytest_cliprobust.figures.samples import Samples, shared
from pytest_cliprobust.figures.taken import takes_samples
from pytest_cliprobust.properties.answers import told_answers


@takes_samples
def accuracy_of(samples: Samples) -> Figure:
    """Return ``accuracy``, the share of samples with the right top-1 answer, in [0, 1].

    Wilson's interval. The details hold the ``answers`` (:mod:`~pytest_cliprobust.properties.answers`), of
    which reports show those that changed.
    """
    figure = accuracy_figure(samples.correct, bootstrap=samples.bootstrap)
    told = told_answers(samples)
    details = {**figure.details, **({"answers": told} if told else {})}
    return replace(figure, details=details).measured_on(samples.condition)


@takes_samples
def accuracy_drop(clean: Samples, shifted: Samples) -> Figure:
    """Return ``accuracy_drop``: clean minus shifted accuracy on the samples that both have, in [-1, 1].

    Positive = worse; paired, see :func:`accuracy_drop_figure`. It is a figure of ``shifted``'s condition,
    which also names ``clean``'s if that is perturbed itself.

    Raises:
        ClipRobustError: no sample is in both.
    """
    common = shared(clean, shifted)
    before, after = common.rows
    figure = accuracy_drop_figure(
        clean.correct[before], shifted.correct[after], bootstrap=common.bootstrap
    )
    return figure.measured_on(against(shifted.condition, clean.condition))


def correct_top_k(scores: ArrayLike, labels: ArrayLike, k: int = 1) -> Bools:
    """Return whether the true class is among the ``k`` highest scores, bool (N,).

    Equal scores are ranked by class index, so that the answer is the same on every machine: classes
    with one and the same prompt (duplicate names) tie exactly, and the first of them wins.

    Raises:
        ClipRobustError: more than C classes asked for, labels outside [0, C), or broken scores.
    """
    matrix = as_matrix(scores, "scores")
    count, classes = matrix.shape
    if not 1 <= k <= classes:
        raise ClipRobustError(f"top-{k} accuracy is not defined for {classes} classes.")
    truth = as_labels(labels, count, classes)
    own = matrix[np.arange(count), truth][:, None]
    ahead = (matrix > own).sum(axis=1)
    tied = ((matrix == own) & (np.arange(classes) < truth[:, None])).sum(axis=1)
    return np.asarray(ahead + tied < k, dtype=np.bool_)


def accuracy_metric(k: int) -> str:
    """Return the metric name of top-``k`` accuracy: ``accuracy`` or ``top5_accuracy``."""
    return "accuracy" if k == 1 else f"top{k}_accuracy"


@register_metric(
    "accuracy",
    higher_is_better=True,
    meaning="share of samples whose highest-scoring class is right",
    chance=one_in,
)
@register_metric(
    "top5_accuracy",
    higher_is_better=True,
    meaning="share of samples with the right class among the best five",
)
def accuracy(
    scores: ArrayLike, labels: ArrayLike, *, k: int = 1, bootstrap: Bootstrap = DEFAULT
) -> Figure:
    """Return top-``k`` accuracy in [0, 1] with Wilson's interval.

    Args:
        scores: (N, C), logits, cosines or probabilities; only their order matters.
        labels: (N,) class indices in [0, C).
        k: 1 for ``accuracy``, 5 for ``top5_accuracy``.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: as for :func:`correct_top_k`.
    """
    return accuracy_figure(
        correct_top_k(scores, labels, k), accuracy_metric(k), bootstrap=bootstrap
    )


def accuracy_figure(
    correct: ArrayLike, metric: str = "accuracy", *, bootstrap: Bootstrap = DEFAULT
) -> Figure:
    """Return the share of right answers (N,) in [0, 1] with Wilson's interval."""
    right = as_correct(correct, metric)
    return proportion_figure(metric, right, bootstrap)


@register_metric(
    "balanced_accuracy",
    higher_is_better=True,
    meaning="mean over classes of the per-class accuracy",
    chance=one_in,
)
def balanced_accuracy(
    scores: ArrayLike, labels: ArrayLike, *, bootstrap: Bootstrap = DEFAULT
) -> Figure:
    """Return the mean over classes of per-class accuracy, each class weighing the same.

    Classes without a sample do not count, and the numbers of samples of the others are taken as given. The
    details hold ``per_class``: ``{"class", "accuracy", "n"}`` for each class that has samples.

    Raises:
        ClipRobustError: as for :func:`correct_top_k`.
    """
    right = correct_top_k(scores, labels)
    present, index, sizes = np.unique(
        np.asarray(labels, dtype=np.int64), return_inverse=True, return_counts=True
    )
    shares = np.bincount(index, weights=right) / sizes
    per_class = [
        {"class": int(c), "accuracy": float(share), "n": int(s)}
        for c, share, s in zip(present, shares, sizes, strict=True)
    ]
    return mean_over_groups("balanced_accuracy", right, index, bootstrap, {"per_class": per_class})


def mean_over_groups(
    metric: str,
    right: Bools,
    groups: Ints,
    bootstrap: Bootstrap,
    details: Mapping[str, Any] | None = None,
) -> Figure:
    """Return the mean over groups of the share that is right, in [0, 1]; each group weighs the same.

    The groups' sizes are taken as given. Units may reach over several groups, as a picture does that is
    there under several corruptions.

    Args:
        metric: the metric's name.
        right: (N,) bool.
        groups: (N,) numbers of groups; each from 0 on has a sample.
        bootstrap: interval settings.
        details: JSON-able details.
    """
    strata = groups.astype(np.int64)
    values = right.astype(np.float64)
    return mean_figure(
        metric,
        group_values(values, np.ones(len(values)), strata, codes_of(bootstrap.keys)),
        bootstrap,
        outcomes=Outcomes({"value": right}, _mean_of_groups, attributes={"group": strata}),
        linear=_weighted,
        value=float(np.mean(np.bincount(strata, weights=values) / np.bincount(strata))),
        supposed=(1.0, 0.0),
        bounds=(0.0, 1.0),
        details=details,
    )


def _weighted(outcomes: Outcomes) -> Floats:
    """Return values (N,) of which the mean over groups is the mean."""
    _, index, sizes = np.unique(outcomes["group"], return_inverse=True, return_counts=True)
    weights = len(index) / (len(sizes) * sizes[index])
    return np.asarray(outcomes["value"] * weights, dtype=np.float64)


def _group_means(weights: Floats, outcomes: Outcomes) -> Floats:
    """Return the weighted mean of the column ``value`` in each group (R, G); NaN in an empty one."""
    groups, index = np.unique(outcomes["group"], return_inverse=True)
    members = np.zeros((len(outcomes), len(groups)))
    members[np.arange(len(outcomes)), index] = 1.0
    return ratio(sums(weights, members * outcomes["value"][:, None]), sums(weights, members))


def _mean_of_groups(weights: Floats, outcomes: Outcomes) -> Floats:
    return np.asarray(np.nanmean(_group_means(weights, outcomes), axis=1))


def _least_of_groups(weights: Floats, outcomes: Outcomes) -> Floats:
    return np.asarray(np.nanmin(_group_means(weights, outcomes), axis=1))


def accuracy_by_group(
    correct: ArrayLike,
    groups: Sequence[str],
    metric: str = "accuracy",
    *,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Figure]:
    """Return the accuracy of each group (style, scene, factor …), with Wilson's interval.

    Args:
        correct: (N,) bool.
        groups: (N,) group value per sample.
        metric: name of the figures.
        bootstrap: interval settings.
    """
    right = as_correct(correct, metric)
    return {
        value: proportion_figure(metric, right[rows], bootstrap.subset(rows))
        for value, rows in distinct_groups(groups, len(right), metric).items()
    }


@register_metric(
    "worst_group_accuracy",
    higher_is_better=True,
    meaning="accuracy of the group with the lowest one",
)
@register_metric(
    "worst_group_top5_accuracy",
    higher_is_better=True,
    meaning="share with the right class among the best five, of the group with the lowest one",
)
def worst_group_accuracy(
    correct: ArrayLike,
    groups: Sequence[str],
    metric: str = "worst_group_accuracy",
    *,
    bootstrap: Bootstrap = DEFAULT,
) -> Figure:
    """Return the accuracy of the group with the lowest one (Sagawa et al. 2020).

    A minimum over noisy groups is biased downwards; the interval is simultaneous over the groups
    (:mod:`pytest_cliprobust.figures.extremes`). The details hold every group's accuracy and n.
    """
    right = as_correct(correct, metric)
    rows = distinct_groups(groups, len(right), metric)
    strata = np.zeros(len(right), dtype=np.int64)
    for number, index in enumerate(rows.values()):
        strata[index] = number
    means = np.array([right[index].mean() for index in rows.values()])
    worst = list(rows)[int(means.argmin())]
    parts = list(accuracy_by_group(right, groups, bootstrap=bootstrap).values())
    return figure_of_ends(
        metric,
        float(means.min()),
        extreme_ends([ends_of_share(part) for part in parts]),
        Outcomes(
            {"value": right},
            _least_of_groups,
            attributes={"group": strata},
            compare=_compare_least,
        ),
        bootstrap,
        IntervalMethod.SIMULTANEOUS,
        f"Wilson, simultaneous over {len(rows)} groups",
        bounds=(0.0, 1.0),
        details={
            "worst": worst,
            "groups": {
                value: {"accuracy": float(mean), "n": len(index)}
                for (value, index), mean in zip(rows.items(), means, strict=True)
            },
        },
        effect=parts[int(means.argmin())].design_effect,
    )


def _compare_least(before: Outcomes, after: Outcomes) -> Compared:
    """Return the change of the least accuracy of a group."""
    groups, codes = after["group"], codes_of(after.keys)
    rows = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    then, now = (
        [side["value"][index].astype(np.float64) for index in rows] for side in (before, after)
    )
    return compare_extremes(then, now, [None if codes is None else codes[i] for i in rows])


@register_metric(
    "accuracy_drop",
    higher_is_better=False,
    meaning="clean minus shifted accuracy, same samples",
    low=-1.0,
)
def accuracy_drop_figure(
    clean: ArrayLike, shifted: ArrayLike, *, bootstrap: Bootstrap = DEFAULT
) -> Figure:
    """Return clean minus shifted accuracy on the same samples, in [-1, 1], positive = worse.

    Paired: only samples that change sides contribute, which at accuracy 0.63 and n = 1000 makes
    drops of 1.9 points visible where an unpaired comparison sees 5.4.

    Args:
        clean, shifted: (N,) bool, right or wrong, the same samples in the same order.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: different numbers of samples.
    """
    before, after = as_correct(clean, "clean answers"), as_correct(shifted, "shifted answers")
    same_samples("accuracy_drop", before, after)
    return paired_drop_figure(
        "accuracy_drop",
        before,
        after,
        bootstrap,
        {"clean_accuracy": float(before.mean()), "shifted_accuracy": float(after.mean())},
    )


@register_metric(
    "relative_drop",
    higher_is_better=False,
    meaning="accuracy drop as a share of the clean accuracy",
    low=None,
)
def relative_drop_figure(
    clean: ArrayLike, shifted: ArrayLike, *, bootstrap: Bootstrap = DEFAULT
) -> Figure:
    """Return (clean - shifted) / clean accuracy on the same samples; at most 1, positive = worse.

    Not defined (NaN, which no threshold passes) where the clean accuracy is zero.

    Raises:
        ClipRobustError: different numbers of samples.
    """
    before, after = as_correct(clean, "clean answers"), as_correct(shifted, "shifted answers")
    same_samples("relative_drop", before, after)
    return relative_drop_of(
        "relative_drop",
        before,
        after,
        bootstrap,
        {"clean_accuracy": float(before.mean()), "shifted_accuracy": float(after.mean())},
    )


def relative_drop_of(
    metric: str,
    clean: Bools,
    shifted: Bools | Floats,
    bootstrap: Bootstrap,
    details: Mapping[str, object],
) -> Figure:
    """Return the drop from ``clean`` to ``shifted`` (N,) as a share of the former's mean."""
    outcomes = Outcomes({"clean": clean, "shifted": shifted}, relative_drop, coarse=True)
    value = outcomes.value()
    share = float(clean.mean()) or math.nan
    return mean_figure(
        metric,
        relative_drop_values(outcomes),
        bootstrap,
        outcomes=outcomes,
        linear=relative_drop_values,
        value=value,
        # Lost and kept.
        supposed=(value + (1.0 - value) / share, value - value / share),
        details=details,
        bounds=(-math.inf, 1.0),
    )


def _severity_errors(correct: ArrayLike, what: str) -> Floats:
    array = np.asarray(correct)
    if array.ndim != 2 or array.dtype != np.bool_ or array.size == 0:
        raise ClipRobustError(
            f"{what}: answers must be booleans of shape (severities, N), got {array.dtype} of "
            f"shape {array.shape}."
        )
    return np.asarray(1.0 - array.astype(np.float64).T, dtype=np.float64)


@register_metric(
    "ce",
    higher_is_better=False,
    meaning="error summed over severities, relative to the baseline's (CE)",
    high=None,
)
@register_metric(
    "mce", higher_is_better=False, meaning="mean of the corruption errors (mCE)", high=None
)
@register_metric(
    "relative_ce",
    higher_is_better=False,
    meaning="error above the clean error, relative to the baseline's",
    low=None,
    high=None,
)
@register_metric(
    "relative_mce",
    higher_is_better=False,
    meaning="mean of the relative corruption errors",
    low=None,
    high=None,
)
def mean_corruption_error(
    correct: Mapping[str, ArrayLike],
    baseline_errors: Mapping[str, float],
    *,
    baseline: str,
    clean: ArrayLike | None = None,
    baseline_clean_error: float | None = None,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[tuple[str, str], Figure]:
    """Return CE for each corruption and their mean, mCE (Hendrycks & Dietterich 2019, section 4.1).

    With ``clean`` and ``baseline_clean_error`` also the relative versions, in which every error is
    taken above the clean error: Σ_s (E_s - E_clean) / Σ_s (E_s^baseline - E_clean^baseline).

    Args:
        correct: (S, N) bool by corruption; the same N samples in the same order for all.
        baseline_errors: mean error over severities by corruption; exactly the same corruptions,
            since a mean over a subset is no mCE.
        baseline: what the baseline is; every figure states it.
        clean: (N,) bool, answers on the clean samples.
        baseline_clean_error: the baseline's clean error rate.
        bootstrap: interval settings; one resampling for all corruptions.

    Returns:
        Figures by (metric, corruption), the means under corruption ``""``:
        ``("ce", "fog")``, ``("mce", "")``, ``("relative_mce", "")``.

    Raises:
        ClipRobustError: corruptions missing on either side, or a baseline that leaves nothing to
            divide by.
    """
    _check_baseline_errors(set(correct), baseline_errors, baseline)
    names = list(correct)
    errors = [_severity_errors(correct[name], f"corruption {name!r}") for name in names]
    same_samples("mce", *errors)
    columns = np.stack([e.mean(axis=1) for e in errors], axis=1)
    scale = np.array([baseline_errors[name] for name in names])
    about = [{"baseline": baseline, "baseline_error": float(error)} for error in scale]
    found = _corruption_errors(("ce", "mce"), columns, scale, 0.0, names, about, bootstrap)
    if clean is not None and baseline_clean_error is not None:
        clean_error = 1.0 - as_correct(clean, "clean answers").astype(np.float64)
        same_samples("relative_mce", clean_error, columns)
        excess = scale - baseline_clean_error
        if (excess <= 0).any():
            raise ClipRobustError(
                f"baseline {baseline!r} is no worse on {names[int(excess.argmin())]!r} than on "
                "clean images, so relative mCE is not defined."
            )
        values = columns - clean_error[:, None]
        found |= _corruption_errors(
            ("relative_ce", "relative_mce"), values, excess, -1.0, names, about, bootstrap
        )
    return found


def _check_baseline_errors(measured: set[str], errors: Mapping[str, float], baseline: str) -> None:
    """Raise unless the baseline has an error to divide by for each corruption measured, and for no other."""
    if measured != set(errors) or not measured:
        odd = sorted(measured ^ set(errors))
        raise ClipRobustError(
            f"mCE needs a baseline error for every corruption measured and no other; "
            f"unmatched: {', '.join(odd) or 'none given'}."
        )
    for name, error in errors.items():
        if not 0.0 < error <= 1.0:
            raise ClipRobustError(
                f"baseline {baseline!r} has error {error} on {name!r}; "
                "an error rate in (0, 1] is needed to divide by."
            )


def _corruption_errors(
    metrics: tuple[str, str],
    values: Floats,
    divisor: Floats,
    least: float,
    names: Sequence[str],
    about: Sequence[Mapping[str, Any]],
    bootstrap: Bootstrap,
) -> dict[tuple[str, str], Figure]:
    """Return an error for each corruption, divided by the baseline's, and their mean.

    Args:
        metrics: of one corruption, and of the mean.
        values: (N, C) errors of each sample, means over severities.
        divisor: (C,) the baseline's.
        least: the smallest of ``values`` that there can be.
        names: of the corruptions.
        about: details of each.
        bootstrap: interval settings.
    """
    single, mean = metrics
    means = values.mean(axis=0) / divisor
    figures = {
        (single, name): mean_figure(
            single,
            values[:, number] / divisor[number],
            bootstrap,
            value=float(means[number]),
            supposed=(1.0 / divisor[number], least / divisor[number]),
            coarse=True,
            bounds=METRICS.named(single).bounds,
            details=dict(about[number]),
        )
        for number, name in enumerate(names)
    }
    figures[mean, ""] = mean_figure(
        mean,
        (values / divisor).mean(axis=1),
        bootstrap,
        value=float(means.mean()),
        supposed=(float((1.0 / divisor).mean()), float((least / divisor).mean())),
        coarse=True,
        bounds=METRICS.named(mean).bounds,
        details={
            "baseline": about[0]["baseline"],
            "corruptions": {name: float(m) for name, m in zip(names, means, strict=True)},
        },
    )
    return figures


register_recipe(
    "balanced accuracy", ["value"], _mean_of_groups, compare_means(_weighted), ["group"]
)
register_recipe("worst group", ["value"], _least_of_groups, _compare_least, ["group"])

"""Knowing when to keep silent: selective prediction, abstention, and conformal sets.

Confidence is the largest softmax probability at the model's logit scale, the same for every model; only its
order matters for the risk-coverage curve, so that temperature scaling changes nothing there.

Selective prediction (Geifman & El-Yaniv 2017): the model answers the share of samples (coverage) that it is
surest of; the selective risk is the error among those. AURC is the mean of that risk over all coverages, and
excess AURC what it has above the best order of the same answers, all right ones first (Geifman, Uziel &
El-Yaniv 2019).

Split conformal sets (Vovk et al. 2005): the threshold is the ⌈(n + 1)(1 - α)⌉-th smallest score of n
calibration samples, and a set holds the true class with a probability of at least 1 - α, if calibration and
test samples are exchangeable; under a shift they are not, and how much coverage is lost is what the figure
says. Scores: LAC, one minus the class's probability (Sadinle et al. 2019), and APS, the probability of all
classes that are at least as likely (Romano et al. 2020; without its randomisation, so that sets are the
same in every run and a little too large).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.arrays import (
    Bools,
    Floats,
    Ints,
    as_correct,
    as_labels,
    as_matrix,
    as_vector,
    same_samples,
    softmax,
)
from pytest_cliprobust.figures.bootstrap import DEFAULT, Bootstrap, mean_figure, proportion_figure
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.means import compare_means
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.outcomes import Outcomes, ratio
from pytest_cliprobust.figures.recipes import register_recipe
from pytest_cliprobust.figures.samples import Samples, contents_of
from pytest_cliprobust.figures.taken import takes_samples

#: Coverages at which the details have the curve.
COVERAGES = tuple(round(0.1 * step, 1) for step in range(1, 11))

#: What conformal sets are to hold, and the share of calibration samples that is to be answered.
TARGET = 0.9

# Sums of a thousand probabilities are off by less.
_ROUNDING = 1e-12

#: Scores of conformal sets, and what reports call them.
SETS: Mapping[str, str] = MappingProxyType({"lac": "LAC", "aps": "APS"})


# --- Selective prediction -------------------------------------------------------------------------


@takes_samples
def selective_of(samples: Samples) -> list[Figure]:
    """Return ``aurc`` and ``excess_aurc`` of ``samples``: see :func:`selective_figures`."""
    confidence = softmax(samples.logits).max(axis=1)
    figures = selective_figures(confidence, samples.correct, bootstrap=samples.bootstrap)
    return [figure.measured_on(samples.condition) for figure in figures.values()]


@register_metric(
    "aurc",
    higher_is_better=False,
    meaning="area under the risk-coverage curve: mean error of what is answered, the surest first",
)
@register_metric(
    "excess_aurc",
    higher_is_better=False,
    meaning="area under the risk-coverage curve above that of the best order of the same answers",
)
def selective_figures(
    confidence: ArrayLike, correct: ArrayLike, *, bootstrap: Bootstrap = DEFAULT
) -> dict[str, Figure]:
    """Return ``aurc`` and ``excess_aurc``, both in [0, 1], lower is better.

    AURC = 1/N Σ_k (errors among the k surest) / k. Samples of equal confidence count with the mean error of
    their tie, which is the mean over all their orders. The best order has all right answers first, with the
    same number of errors. A model whose confidence says nothing has an AURC of about its error.

    The intervals are those of means of each sample's influence: as a sample's own error counts for the
    coverages at which it is answered, and makes room at those below.

    Args:
        confidence: (N,), any scale; higher = surer.
        correct: (N,) bool.
        bootstrap: interval settings.

    Returns:
        by metric; ``details["curve"]`` of ``aurc`` holds coverage, error and the number of samples answered.

    Raises:
        ClipRobustError: different numbers of samples, or a confidence that is not finite.
    """
    sure, right = as_vector(confidence, "confidence"), as_correct(correct, "answers")
    same_samples("aurc", sure, right)
    columns = {"confidence": sure, "correct": right}
    whole, excess = Outcomes(columns, _aurc), Outcomes(columns, _excess)
    wrong = 1.0 - float(right.mean())
    figures = [
        mean_figure(
            "aurc",
            _influence(whole),
            bootstrap,
            outcomes=whole,
            linear=_influence,
            value=whole.value(),
            # By a sample of middling confidence.
            supposed=(0.0, 1.0),
            bounds=(0.0, 1.0),
            details={"error": wrong, "curve": _curve(sure, right)},
        ),
        mean_figure(
            "excess_aurc",
            _excess_influence(excess),
            bootstrap,
            outcomes=excess,
            linear=_excess_influence,
            value=excess.value(),
            supposed=(0.0, 1.0),
            bounds=(0.0, 1.0),
            details={"best": whole.value() - excess.value()},
        ),
    ]
    return {figure.metric: figure for figure in figures}


def _curve(confidence: Floats, right: Bools) -> list[dict[str, Any]]:
    """Return the risk-coverage curve at :data:`COVERAGES`, JSON-able."""
    errors = np.cumsum(_shared_errors(confidence, right))
    answered = [math.ceil(share * len(right) - 1e-9) for share in COVERAGES]
    return [
        {"coverage": share, "error": float(errors[k - 1] / k), "n": k}
        for share, k in zip(COVERAGES, answered, strict=True)
    ]


def _shared_errors(confidence: Floats, right: Bools) -> Floats:
    """Return errors (N,), the surest first, those of equal confidence shared."""
    _, tie, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    shared = np.bincount(tie, weights=~right) / sizes
    return np.asarray(np.repeat(shared, sizes))


def _aurc(weights: Floats, outcomes: Outcomes) -> Floats:
    """Return the AURC (R,), samples counting as often as ``weights`` (R, N) say."""
    confidence, wrong = outcomes["confidence"], ~outcomes["correct"].astype(bool)
    _, tie, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    order = np.argsort(tie, kind="stable")
    starts = np.cumsum(sizes) - sizes
    sized = np.add.reduceat(weights[:, order], starts, axis=1)
    failed = np.add.reduceat((weights * wrong)[:, order], starts, axis=1)
    before = np.cumsum(sized, axis=1) - sized
    rate = np.where(sized > 0, failed / np.where(sized > 0, sized, 1.0), 0.0)
    missed = np.cumsum(failed, axis=1) - failed
    # Of a tie of m after b samples with e errors: Σ_j (e + j·rate) / (b + j), j = 1 … m.
    gone = _harmonic(before + sized) - _harmonic(before)
    total = (missed - rate * before) * gone + rate * sized
    return ratio(total.sum(axis=1), weights.sum(axis=1))


def _harmonic(counts: ArrayLike) -> Floats:
    """Return 1 + 1/2 + … + 1/n of whole numbers n."""
    whole = np.rint(counts).astype(np.int64)
    table = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, int(whole.max(initial=0)) + 1))])
    return np.asarray(table[whole])


def _best(weights: Floats, outcomes: Outcomes) -> Floats:
    """Return the AURC (R,) of the best order: all right answers first."""
    total = weights.sum(axis=1)
    wrong = (weights * ~outcomes["correct"].astype(bool)).sum(axis=1)
    # Σ_k max(0, k - right) / k for k = 1 … total.
    right = total - wrong
    return ratio(wrong - right * (_harmonic(total) - _harmonic(right)), total)


def _excess(weights: Floats, outcomes: Outcomes) -> Floats:
    return np.asarray(np.maximum(_aurc(weights, outcomes) - _best(weights, outcomes), 0.0))


def _influence(outcomes: Outcomes) -> Floats:
    """Return values (N,) of which the AURC is the mean, up to what is quadratic in its error.

    With G(c) the share of samples at least as sure as c, the AURC is the mean of error · -log G; a sample
    adds that, and by being there it lowers the others' share of the curve below it.
    """
    confidence = outcomes["confidence"].astype(np.float64)
    wrong = (~outcomes["correct"].astype(bool)).astype(np.float64)
    count = len(wrong)
    levels, place, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    least, most = np.cumsum(sizes) - sizes, np.cumsum(sizes)
    own = (_harmonic(np.full(1, count)) - 0.5 * (_harmonic(least) + _harmonic(most)))[place]
    share = most[place] / count
    added = np.bincount(place, weights=wrong / share / count, minlength=len(levels))
    # Errors of those that are no surer than the sample.
    below = np.cumsum(added[::-1])[::-1][place]
    values = wrong * own - below + wrong.mean()
    return np.asarray(values, dtype=np.float64)


def _excess_influence(outcomes: Outcomes) -> Floats:
    """Return values (N,) of which the excess AURC is nearly the mean: the best order's follows the error."""
    wrong = (~outcomes["correct"].astype(bool)).astype(np.float64)
    rate = min(float(wrong.mean()), 1.0 - 0.5 / len(wrong))
    best = rate + (1.0 - rate) * math.log1p(-rate)
    return np.asarray(_influence(outcomes) - best + math.log1p(-rate) * (wrong - rate))


# --- Abstention -----------------------------------------------------------------------------------


@takes_samples
def abstention_of(
    samples: Samples, calibration: Samples, *, target: float = TARGET
) -> list[Figure]:
    """Return ``abstention`` and ``answered_accuracy`` of ``samples``: see :func:`abstention_figures`."""
    sure = softmax(samples.logits).max(axis=1)
    known = softmax(_on_classes_of(samples, calibration)[0]).max(axis=1)
    figures = abstention_figures(
        sure, samples.labels, samples.correct, known, target=target, bootstrap=samples.bootstrap
    )
    return _held_against(calibration, samples, figures)


def _on_classes_of(samples: Samples, calibration: Samples) -> tuple[Floats, Ints]:
    """Return logits (M, C) and labels (M,) of the calibration samples among the classes of ``samples``.

    Where those are some of the classes (``head_rows``: ImageNet-R's 200 of the 1,000), so it is here: among
    more classes a model is less sure, and a threshold from there would say nothing.

    Raises:
        NotRun: no calibration sample is of one of the classes.
    """
    rows = getattr(samples, "head_rows", None)
    if rows is None or getattr(calibration, "head_rows", None) is not None:
        return calibration.logits, calibration.labels
    classes = np.asarray(rows, dtype=np.int64)
    mine = np.isin(calibration.labels, classes)
    if not mine.any():
        raise NotRun(f"no sample of {calibration.condition} is of a class of {samples.condition}")
    order = np.argsort(classes)
    labels = order[np.searchsorted(classes[order], calibration.labels[mine])]
    return calibration.logits[mine][:, classes], labels.astype(np.int64)


def _held_against(
    calibration: Samples, samples: Samples, figures: Mapping[str, Figure]
) -> list[Figure]:
    """Return figures of ``samples`` whose threshold comes from ``calibration``."""
    contents = contents_of(calibration)
    return [f.measured_on(samples.condition).fitted_on(contents) for f in figures.values()]


@register_metric(
    "abstention",
    higher_is_better=False,
    meaning="share of samples less sure than nine in ten of the calibration split",
)
@register_metric(
    "answered_accuracy",
    higher_is_better=True,
    meaning="accuracy among the samples at least as sure as nine in ten of the calibration split",
    change_gateable=False,
    why_not_gateable="its change is taken on the samples that both models answer, which is not quite the "
    "change of the figure, and holds it in 92% of draws; gate aurc, or write a min",
)
def abstention_figures(
    confidence: ArrayLike,
    labels: ArrayLike,
    correct: ArrayLike,
    calibration_confidence: ArrayLike,
    *,
    target: float = TARGET,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Figure]:
    """Return ``abstention`` and ``answered_accuracy`` at a threshold that answers ``target`` of ID samples.

    The threshold comes from the calibration split and is then held fixed. Both intervals are those of shares
    (of the samples; of the answered ones).

    Args:
        confidence: (N,), higher = surer.
        labels: (N,) class indices.
        correct: (N,) bool.
        calibration_confidence: (M,) of the calibration split.
        target: share of it that is answered.
        bootstrap: interval settings.

    Returns:
        by metric; ``details["per_class"]`` of ``abstention`` has, for each class with samples, its share, n
        and interval, the largest share first.

    Raises:
        ClipRobustError: different numbers of samples.
    """
    sure, right = as_vector(confidence, "confidence"), as_correct(correct, "answers")
    known = np.sort(as_vector(calibration_confidence, "calibration confidence"))[::-1]
    truth = np.asarray(labels, dtype=np.int64)
    same_samples("abstention", sure, right, truth)
    threshold = float(known[max(1, math.ceil(target * len(known) - 1e-9)) - 1])
    silent = sure < threshold
    per_class = []
    for label in np.unique(truth):
        rows = np.flatnonzero(truth == label)
        own = proportion_figure("abstention", silent[rows], bootstrap.subset(rows))
        per_class.append(
            {"class": int(label), "share": own.value, "low": own.low, "high": own.high, "n": own.n}
        )
    per_class.sort(key=lambda entry: (-float(entry["share"]), entry["class"]))
    details = {"threshold": threshold, "per_class": per_class}
    answered = np.flatnonzero(~silent)
    figures = [
        proportion_figure("abstention", silent, bootstrap, details),
        proportion_figure("answered_accuracy", right[answered], bootstrap.subset(answered)),
    ]
    return {figure.metric: figure for figure in figures}


# --- Conformal sets -------------------------------------------------------------------------------


@takes_samples
def conformal_of(samples: Samples, calibration: Samples, *, target: float = TARGET) -> list[Figure]:
    """Return coverage and mean size of the conformal sets of ``samples``: see :func:`conformal_figures`."""
    logits, labels = _on_classes_of(samples, calibration)
    figures = conformal_figures(
        softmax(samples.logits),
        samples.labels,
        softmax(logits),
        labels,
        target=target,
        bootstrap=samples.bootstrap,
    )
    return _held_against(calibration, samples, figures)


def lac_scores(probabilities: Floats) -> Floats:
    """Return the LAC score of each class (N, C): one minus its probability."""
    return np.asarray(1.0 - probabilities)


def aps_scores(probabilities: Floats) -> Floats:
    """Return the APS score of each class (N, C): the probability of all that are at least as likely.

    Of equally likely classes the first comes first.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sums = np.cumsum(np.take_along_axis(probabilities, order, axis=1), axis=1)
    # All classes together have 1, whatever rounding says: a threshold of 1 is no class left out.
    sums[sums > 1.0 - _ROUNDING] = 1.0
    scores = np.empty_like(sums)
    np.put_along_axis(scores, order, sums, axis=1)
    return scores


_SCORES: Mapping[str, Callable[[Floats], Floats]] = {"lac": lac_scores, "aps": aps_scores}


def conformal_threshold(scores: ArrayLike, target: float = TARGET) -> float:
    """Return the ⌈(n + 1) · target⌉-th smallest of the true classes' scores (n,) of a calibration split.

    Raises:
        NotRun: with so few samples no threshold promises as much.
        ClipRobustError: a target outside (0, 1).
    """
    ordered = np.sort(as_vector(scores, "conformal scores"))
    if not 0.0 < target < 1.0:
        raise ClipRobustError(f"the coverage of conformal sets lies between 0 and 1, not {target}")
    rank = math.ceil((len(ordered) + 1) * target - 1e-9)
    if rank > len(ordered):
        raise NotRun(
            f"{len(ordered)} calibration samples are too few for conformal sets with a coverage of {target:g}"
        )
    return float(ordered[rank - 1])


@register_metric(
    "conformal_coverage_{}",
    higher_is_better=True,
    meaning="share of samples whose conformal set for 90%, by {}, holds the true class",
    each=SETS,
)
@register_metric(
    "conformal_set_size_{}",
    higher_is_better=False,
    meaning="mean number of classes in the conformal set for 90%, by {}",
    unit="classes",
    high=None,
    each=SETS,
)
def conformal_figures(
    probabilities: ArrayLike,
    labels: ArrayLike,
    calibration_probabilities: ArrayLike,
    calibration_labels: ArrayLike,
    *,
    target: float = TARGET,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Figure]:
    """Return ``conformal_coverage_lac``, ``conformal_set_size_lac``, and the same for ``aps``.

    The threshold is taken as given: coverage of *these* sets varies with the calibration split by about
    √(target · (1 - target) / M) around the target even where all is exchangeable.

    Args:
        probabilities, labels: (N, C), (N,) of what is judged.
        calibration_probabilities, calibration_labels: (M, C), (M,).
        target: 1 - α.
        bootstrap: interval settings.

    Raises:
        NotRun: the calibration split is too small.
        ClipRobustError: broken probabilities or labels, or other classes in the calibration split.
    """
    matrix = _as_probabilities(probabilities, "probabilities")
    truth = as_labels(labels, *matrix.shape)
    known = _as_probabilities(calibration_probabilities, "calibration probabilities")
    if matrix.shape[1] != known.shape[1]:
        raise ClipRobustError(
            f"conformal sets: {matrix.shape[1]} classes, but {known.shape[1]} in the calibration split, for "
            "which its threshold is; calibrate on the same classes."
        )
    answers = as_labels(calibration_labels, *known.shape)
    figures = []
    for name, score in _SCORES.items():
        threshold = conformal_threshold(_of_truth(score(known), answers), target)
        sets = score(matrix) <= threshold
        covered: Bools = sets[np.arange(len(truth)), truth]
        sizes = sets.sum(axis=1).astype(np.float64)
        figures += [
            proportion_figure(
                f"conformal_coverage_{name}",
                covered,
                bootstrap,
                {"target": target, "threshold": threshold, "calibration": len(answers)},
            ),
            mean_figure(
                f"conformal_set_size_{name}",
                sizes,
                bootstrap,
                # A set might have been one smaller than any, or one larger.
                supposed=(max(0.0, sizes.min() - 1.0), sizes.max() + 1.0),
                coarse=True,
                unit="classes",
                bounds=(0.0, math.inf),
                details={"empty": float((sizes == 0).mean()), "largest": int(sizes.max())},
            ),
        ]
    return {figure.metric: figure for figure in figures}


def _as_probabilities(values: ArrayLike, what: str) -> Floats:
    matrix = as_matrix(values, what)
    if matrix.min() < 0.0 or matrix.max() > 1.0 + 1e-9:
        raise ClipRobustError(f"{what} lie in [0, 1], and these do not; apply the softmax first.")
    return matrix


def _of_truth(scores: Floats, labels: Ints) -> Floats:
    return np.asarray(scores[np.arange(len(labels)), labels])


for _name, _statistic, _linear in (
    ("aurc", _aurc, _influence),
    ("excess_aurc", _excess, _excess_influence),
):
    register_recipe(
        _name,
        ["confidence", "correct"],
        _statistic,
        compare_means(_linear),
        metrics=_name,
    )

"""Temperature scaling where the temperature is known badly: from few samples, or from other classes.

Both are costs in negative log-likelihood on the samples that are judged, above what the temperature fitted
on the whole calibration split (on the same classes) has. 0: nothing is lost; how much scaling gains at all
stands in the details.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.arrays import Floats, Ints, as_labels, as_matrix, log_softmax
from pytest_cliprobust.figures.bootstrap import DEFAULT, Bootstrap, mean_figure
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys, in_both
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.samples import Samples, contents_of
from pytest_cliprobust.figures.taken import takes_samples
from pytest_cliprobust.properties.calibration import fit_temperature

#: Samples that the temperature is fitted on, and how often they are drawn anew.
FEW, DRAWS = 50, 100


@takes_samples
def few_samples_of(
    samples: Samples, calibration: Samples, *, few: int = FEW, draws: int = DRAWS
) -> Figure:
    """Return ``few_sample_cost`` of ``samples``: see :func:`few_samples_figure`.

    The calibration samples are drawn by the order of their ids, so that it does not matter in which order
    they come.

    Raises:
        NotRun: the calibration split is not larger than ``few``.
        ClipRobustError: samples are in both sets.
    """
    _check_apart(samples, calibration)
    by_id = np.argsort(np.array(calibration.ids, dtype=object))
    figure = few_samples_figure(
        samples.logits,
        samples.labels,
        calibration.logits[by_id],
        calibration.labels[by_id],
        few=few,
        draws=draws,
        bootstrap=samples.bootstrap,
    )
    return figure.measured_on(samples.condition).fitted_on(contents_of(calibration))


@takes_samples
def label_sets_of(samples: Samples, calibration: Samples) -> list[Figure]:
    """Return ``label_set_cost`` of either half of the classes, filed as parts of the data set.

    ``clean:even_classes``: the classes with even numbers, by the temperature of the odd ones; and the other
    way round (:func:`label_set_figure`).

    Raises:
        NotRun: a half has fewer than two classes, or no samples.
        ClipRobustError: samples are in both sets.
    """
    _check_apart(samples, calibration)
    figures = []
    classes = np.arange(samples.logits.shape[1])
    for name, kept in (("even_classes", classes % 2 == 0), ("odd_classes", classes % 2 == 1)):
        rows = np.flatnonzero(kept[samples.labels])
        figure = label_set_figure(
            samples.logits,
            samples.labels,
            calibration.logits,
            calibration.labels,
            np.flatnonzero(kept),
            bootstrap=samples.bootstrap.subset(rows),
        )
        filed = figure.measured_on(samples.condition.part(name))
        figures.append(filed.fitted_on(contents_of(calibration)))
    return figures


def _check_apart(samples: Samples, calibration: Samples) -> None:
    keys = [one.bootstrap.keys or SampleKeys(one.ids, one.units) for one in (samples, calibration)]
    shared = in_both(*keys)
    if shared:
        raise ClipRobustError(
            f"{len(shared)} samples (such as {min(shared)!r}) are in the calibration split and in what is "
            "evaluated; leave them out of one"
        )


@register_metric(
    "few_sample_cost",
    higher_is_better=False,
    meaning="NLL with a temperature from 50 samples above that from the whole calibration split",
    unit="nats",
    low=None,
    high=None,
    gateable=False,
    why_not_gateable="it is next to nothing, and its interval leaves out that of the calibration split; "
    "bound nll_scaled",
)
def few_samples_figure(
    logits: ArrayLike,
    labels: ArrayLike,
    calibration_logits: ArrayLike,
    calibration_labels: ArrayLike,
    *,
    few: int = FEW,
    draws: int = DRAWS,
    bootstrap: Bootstrap = DEFAULT,
) -> Figure:
    """Return ``few_sample_cost``, in nats: what it costs to fit the temperature on ``few`` samples.

    ``draws`` times ``few`` calibration rows are drawn (without replacement, by the bootstrap's seed), a
    temperature is fitted on each, and the figure is the mean over draws and samples of the negative
    log-likelihood with it, less that with the temperature of the whole split. The draws are taken as given:
    the interval is over the samples that are judged.

    The details hold the temperature of the whole split, the 5, 50 and 95% points of the draws', the cost of
    the worst draw, the share of draws that are better than no scaling, and what scaling gains at all.

    Args:
        logits, labels: (N, C), (N,) of what is judged.
        calibration_logits, calibration_labels: (M, C), (M,), M above ``few``.
        few: samples that a temperature is fitted on.
        draws: how often.
        bootstrap: interval settings.

    Raises:
        NotRun: the calibration split is not larger than ``few``.
        ClipRobustError: broken logits or labels.
    """
    matrix, truth = _checked(logits, labels, "logits")
    known, answers = _checked(calibration_logits, calibration_labels, "calibration logits")
    if len(known) <= few:
        raise NotRun(
            f"a temperature from {few} samples needs a calibration split of more, and it has {len(known)}"
        )
    rng = np.random.default_rng(bootstrap.seed)
    whole = fit_temperature(known, answers).value
    found = []
    for _ in range(draws):
        rows = rng.choice(len(known), few, replace=False)
        found.append(fit_temperature(known[rows], answers[rows]).value)
    temperatures = np.array(found)
    best, plain = _nll(matrix, truth, whole), _nll(matrix, truth, 1.0)
    each = np.stack([_nll(matrix, truth, t) for t in temperatures], axis=1)
    costs = each.mean(axis=0) - best.mean()
    return mean_figure(
        "few_sample_cost",
        each.mean(axis=1) - best,
        bootstrap,
        unit="nats",
        details={
            "few": few,
            "draws": draws,
            "calibration": len(known),
            "temperature": whole,
            "temperatures": [float(q) for q in np.quantile(temperatures, (0.05, 0.5, 0.95))],
            "worst": float(costs.max()),
            "better_than_none": float((each.mean(axis=0) < plain.mean()).mean()),
            "gain": float((plain - best).mean()),
        },
    )


@register_metric(
    "label_set_cost",
    higher_is_better=False,
    meaning="NLL with the temperature of other classes above that with the own classes'",
    unit="nats",
    low=None,
    high=None,
    gateable=False,
    why_not_gateable="it is next to nothing, and its interval leaves out that of the calibration split; "
    "bound nll_scaled",
)
def label_set_figure(
    logits: ArrayLike,
    labels: ArrayLike,
    calibration_logits: ArrayLike,
    calibration_labels: ArrayLike,
    classes: Sequence[int] | Ints,
    *,
    bootstrap: Bootstrap = DEFAULT,
) -> Figure:
    """Return ``label_set_cost``, in nats: what a temperature costs that was fitted on other classes.

    The samples of ``classes`` are told apart among these alone; one temperature was fitted on the calibration
    samples of all other classes, told apart among those alone, and one on those of ``classes``. The figure is
    the mean of the negative log-likelihood with the former less that with the latter.

    Args:
        logits, labels: (N, C), (N,) of what is judged.
        calibration_logits, calibration_labels: (M, C), (M,).
        classes: those that are judged.
        bootstrap: interval settings for the samples of ``classes``.

    Raises:
        NotRun: fewer than two classes on a side, or no samples of one.
        ClipRobustError: broken logits or labels.
    """
    matrix, truth = _checked(logits, labels, "logits")
    known, answers = _checked(calibration_logits, calibration_labels, "calibration logits")
    own = np.asarray(classes, dtype=np.int64)
    others = np.setdiff1d(np.arange(matrix.shape[1]), own)
    mine, theirs = _among(known, answers, own), _among(known, answers, others)
    judged = _among(matrix, truth, own)
    if min(len(own), len(others)) < 2 or not (len(mine[1]) and len(theirs[1]) and len(judged[1])):
        raise NotRun(
            "a temperature across label sets needs samples of two classes and more on either side"
        )
    own_value, other_value = fit_temperature(*mine).value, fit_temperature(*theirs).value
    before, after = _nll(*judged, own_value), _nll(*judged, other_value)
    return mean_figure(
        "label_set_cost",
        after - before,
        bootstrap,
        unit="nats",
        details={
            "classes": len(own),
            "temperature": own_value,
            "temperature_of_others": other_value,
            "gain": float((_nll(*judged, 1.0) - before).mean()),
        },
    )


def _checked(logits: ArrayLike, labels: ArrayLike, what: str) -> tuple[Floats, Ints]:
    matrix = as_matrix(logits, what)
    return matrix, as_labels(labels, *matrix.shape)


def _among(logits: Floats, labels: Ints, classes: Ints) -> tuple[Floats, Ints]:
    """Return the samples of ``classes``, told apart among these: logits (K, len(classes)), labels (K,)."""
    place = np.full(logits.shape[1], -1)
    place[classes] = np.arange(len(classes))
    rows = place[labels] >= 0
    return logits[rows][:, classes], place[labels[rows]].astype(np.int64)


def _nll(logits: Floats, labels: Ints, temperature: float) -> Floats:
    """Return negative log-likelihoods (N,)."""
    return -log_softmax(logits / temperature)[np.arange(len(labels)), labels]

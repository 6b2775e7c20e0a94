"""Calibration: does the confidence say how often the model is right?

Confidence is the probability of the predicted (top) class. For softmax models that is the softmax
of the logits at the model's own logit scale (Guo et al. 2017; for CLIP: Minderer et al.
2021, LeVine et al. 2023, Tu et al. 2024).

SigLIP-type models give one sigmoid per image and text, and those do not sum to 1 over the classes.
Zero-shot classification is a forced choice among the classes, and its probability is the softmax
over the same logits (the practice of open_clip's maintainers, mlfoundations/open_clip#716; the bias
cancels). That is the headline for every model, so that models compare. For sigmoid models the top
class's sigmoid, "does this text belong to this image", is reported beside it as ``ece_sigmoid`` and
``signed_gap_sigmoid``.

The intervals are closed forms: those of means (:mod:`pytest_cliprobust.figures.means`), and of sums of
absolute values over bins (:mod:`pytest_cliprobust.figures.binned`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import (
    Bools,
    Floats,
    Ints,
    as_labels,
    as_matrix,
    log_softmax,
    sigmoid,
    softmax,
)
from pytest_cliprobust.figures.binned import Binned, binned, compare_binned, ends_of, largest_bias
from pytest_cliprobust.figures.bootstrap import (
    DEFAULT,
    Bootstrap,
    bootstrap_figure,
    figure_of_ends,
    mean_figure,
)
from pytest_cliprobust.figures.ends import Compared
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.keys import SampleKeys, in_both
from pytest_cliprobust.figures.means import codes_of, means_of
from pytest_cliprobust.figures.metrics import METRICS, register_metric
from pytest_cliprobust.figures.outcomes import Column, Outcomes, exact, mean, ratio, sums
from pytest_cliprobust.figures.recipes import register_recipe
from pytest_cliprobust.figures.samples import Samples, contents_of
from pytest_cliprobust.figures.taken import takes_samples

#: Number of bins of ECE and its relatives (Guo et al. 2017, section 4).
BINS = 15

# Probabilities whose bins are looked at together.
_CLASSWISE_CHUNK = 5_000_000

_LOG_TEMPERATURE = float(np.log(100.0))

# What the names of the figures end in, and what that means.
_SCALED = {"": "", "_scaled": ", after temperature scaling on ID data"}

Probability: TypeAlias = Literal["softmax", "sigmoid"]


def equal_width_bins(confidence: Floats, bins: int = BINS) -> Ints:
    """Return the bin (N,) of each confidence: [i/M, (i+1)/M), and the last one closed.

    A confidence of exactly 1 belongs to the last bin, not to one of its own.

    Raises:
        ClipRobustError: a confidence outside [0, 1], or no bins.
    """
    if bins < 1:
        raise ClipRobustError(f"the number of calibration bins must be at least 1, got {bins}.")
    outside = np.flatnonzero(~((confidence >= 0.0) & (confidence <= 1.0)))
    if len(outside):
        raise ClipRobustError(
            f"confidence {confidence[outside[0]]} of sample {outside[0]} is outside [0, 1]; "
            "calibration needs probabilities, not logits."
        )
    edges = np.arange(1, bins) / bins
    return np.searchsorted(edges, confidence, side="right").astype(np.int64)


def equal_mass_bins(confidence: Floats, correct: Floats, bins: int = BINS) -> tuple[Ints, Floats]:
    """Return bins (N,) that hold equally many samples each (to one), and shared correctness (N,).

    Samples of equal confidence cannot be ordered, yet a bin border may fall between them. Each of
    them therefore counts with the mean correctness of its tie, which is what an average over all
    orders would give: the result does not depend on the order of the samples.
    """
    count = len(confidence)
    order = np.argsort(confidence, kind="stable")
    rank = np.empty(count, dtype=np.int64)
    rank[order] = np.arange(count)
    used = min(bins, count)
    # As np.array_split: the first count % used bins take one sample more.
    starts = np.cumsum([0] + [count // used + (i < count % used) for i in range(used - 1)])
    _, tie, sizes = np.unique(confidence, return_inverse=True, return_counts=True)
    shared = (np.bincount(tie, weights=correct) / sizes)[tie]
    return (np.searchsorted(starts, rank, side="right") - 1).astype(np.int64), shared


def _bin_columns(bins: Ints, gaps: Floats, count: int) -> Floats:
    columns = np.zeros((len(gaps), count))
    columns[np.arange(len(gaps)), bins] = gaps
    return columns


def reliability(confidence: Floats, correct: Floats, bins: int = BINS) -> list[dict[str, Any]]:
    """Return the reliability diagram and confidence histogram, one entry per equal-width bin.

    Each: ``low``, ``high`` (bin edges), ``n``, and mean ``confidence`` and ``accuracy`` (None in
    an empty bin). JSON-able.
    """
    index = equal_width_bins(confidence, bins)
    sizes = np.bincount(index, minlength=bins)
    conf = np.bincount(index, weights=confidence, minlength=bins)
    hits = np.bincount(index, weights=correct, minlength=bins)
    return [
        {
            "low": b / bins,
            "high": (b + 1) / bins,
            "n": int(sizes[b]),
            "confidence": float(conf[b] / sizes[b]) if sizes[b] else None,
            "accuracy": float(hits[b] / sizes[b]) if sizes[b] else None,
        }
        for b in range(bins)
    ]


def expected_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, bins: int = BINS
) -> float:
    """Return ECE = Σ_b n_b/N · |accuracy_b - confidence_b| (Guo et al. 2017, equation 3).

    Args:
        confidence: (N,) in [0, 1].
        correct: (N,) bool or 0/1.
        bins: number of equal-width bins, last one closed.
    """
    conf, hits = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    gaps = np.bincount(equal_width_bins(conf, bins), weights=conf - hits, minlength=bins)
    return float(np.abs(gaps).sum() / len(conf))


def adaptive_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, bins: int = BINS
) -> float:
    """Return ECE over bins of equal mass (Nguyen & O'Connor 2015; Mukhoti et al. 2020, AdaECE).

    Args:
        confidence: (N,) in [0, 1].
        correct: (N,) bool or 0/1.
        bins: number of bins; never more than samples.
    """
    conf, hits = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    index, shared = equal_mass_bins(conf, hits, bins)
    return float(np.abs(np.bincount(index, weights=conf - shared)).sum() / len(conf))


def _classwise_cells(probabilities: Floats, labels: Ints, bins: int) -> tuple[Ints, Floats]:
    """Return, per sample and class, the cell class·bins + bin (N, C) and p - y (N, C)."""
    count, classes = probabilities.shape
    cells = equal_width_bins(probabilities.ravel(), bins).reshape(count, classes)
    cells += np.arange(classes) * bins
    gaps = probabilities.copy()
    gaps[np.arange(count), labels] -= 1.0
    return cells, gaps


@dataclass(frozen=True)
class Temperature:
    """A temperature fitted on a calibration split, from then on held fixed.

    Attributes:
        value: T > 0; calibrated probabilities are softmax(logits / T). Above 1: the model was
            over-confident.
        nll_before, nll_after: mean negative log-likelihood on the calibration split, nats.
        n: size of the calibration split.
        ids: the samples it was fitted on; evaluating on one of them, clean or perturbed, is
            refused.
        at_limit: no temperature between 1/100 and 100 is better than one of these limits (as on
            separable data, where the likelihood has no optimum); the value then means little.
        contents: digest of those samples; figures with this temperature hang on them.
        keys: who those samples are, where more is known of them than their ids.
    """

    value: float
    nll_before: float
    nll_after: float
    n: int
    ids: frozenset[str] = field(default=frozenset(), repr=False)
    at_limit: bool = False
    contents: str = ""
    keys: SampleKeys | None = field(default=None, repr=False)


def calibration_split(ids: Sequence[str], fraction: float = 0.5, seed: int = 0) -> Bools:
    """Return which samples (N,) belong to the calibration split, by a hash of their ids.

    A sample falls on the same side in every order, subset and perturbation of the data set.

    Args:
        ids: stable sample ids.
        fraction: expected share of the calibration split, in (0, 1).
        seed: another seed gives another split.

    Raises:
        ClipRobustError: a fraction outside (0, 1), or one side left empty.
    """
    if not 0.0 < fraction < 1.0:
        raise ClipRobustError(f"the calibration fraction must lie in (0, 1), got {fraction}.")
    limit = int(fraction * 2**64)
    chosen = np.array(
        [
            int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:8], "big") < limit
            for name in ids
        ],
        dtype=np.bool_,
    )
    if not chosen.any() or chosen.all():
        raise ClipRobustError(
            f"a calibration fraction of {fraction} leaves one side of {len(ids)} samples empty; "
            "use more samples or another fraction."
        )
    return chosen


def _mean_nll(logits: Floats, labels: Ints) -> float:
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: ArrayLike, labels: ArrayLike, ids: Sequence[str] = ()) -> Temperature:
    """Fit temperature scaling by maximum likelihood (Guo et al. 2017, section 4.2).

    The negative log-likelihood is convex in 1/T, hence unimodal in log T, over which a bounded
    scalar search runs (1/100 to 100, to 1e-8).

    Args:
        logits: (N, C) of the calibration split: in-distribution, disjoint from what is evaluated.
        labels: (N,) class indices.
        ids: the samples' ids, so that :func:`calibration_figures` can check that it is disjoint.

    Raises:
        ClipRobustError: broken logits or labels.
    """
    matrix = as_matrix(logits, "calibration logits")
    truth = as_labels(labels, *matrix.shape)
    found = minimize_scalar(
        lambda log_t: _mean_nll(matrix * np.exp(-log_t), truth),
        bounds=(-_LOG_TEMPERATURE, _LOG_TEMPERATURE),
        method="bounded",
        options={"xatol": 1e-8, "maxiter": 200},
    )
    before = _mean_nll(matrix, truth)
    log_t, after = float(found.x), float(found.fun)
    if after > before:  # the search may stop a rounding error above T = 1
        log_t, after = 0.0, before
    ends = [_mean_nll(matrix * np.exp(end), truth) for end in (_LOG_TEMPERATURE, -_LOG_TEMPERATURE)]
    return Temperature(
        value=float(np.exp(log_t)),
        nll_before=before,
        nll_after=after,
        n=len(truth),
        ids=frozenset(ids),
        at_limit=min(ends) <= after + 1e-9,
    )


@takes_samples
def fitted_temperature(samples: Samples) -> Temperature:
    """Return the temperature that fits ``samples`` best (:func:`fit_temperature`), which knows them.

    Raises:
        ClipRobustError: broken logits or labels.
    """
    fitted = fit_temperature(samples.logits, samples.labels, samples.ids)
    return replace(fitted, contents=contents_of(samples), keys=samples.bootstrap.keys)


@takes_samples
def calibration_of(
    samples: Samples, temperature: Temperature | None = None, *, bins: int = BINS
) -> dict[str, Figure]:
    """Return every calibration figure of ``samples``: see :func:`calibration_figures`.

    Args:
        samples: with labels of the label set.
        temperature: fitted on other samples (``clip.temperature``), here held fixed; the names of the
            figures then end in ``_scaled``.
        bins: number of bins.

    Raises:
        ClipRobustError: broken logits or labels, or samples on which the temperature was fitted.
    """
    figures = calibration_figures(
        samples.logits,
        samples.labels,
        probability=samples.probability,
        temperature=temperature,
        ids=samples.ids,
        bins=bins,
        bootstrap=samples.bootstrap,
    )
    contents = "" if temperature is None else temperature.contents
    return {
        name: figure.measured_on(samples.condition).fitted_on(contents)
        for name, figure in figures.items()
    }


@takes_samples
def temperature_of(samples: Samples) -> Figure:
    """Return the ``temperature`` that fits ``samples`` best by NLL; above 1 = over-confident.

    Raises:
        ClipRobustError: broken logits or labels.
    """
    _, figure = temperature_figure(
        samples.logits, samples.labels, samples.ids, bootstrap=samples.bootstrap
    )
    return figure.measured_on(samples.condition)


@register_metric(
    "ece{}",
    higher_is_better=False,
    meaning="expected calibration error, 15 equal-width bins{}",
    each=_SCALED,
)
@register_metric(
    "adaptive_ece{}",
    higher_is_better=False,
    meaning="calibration error over bins of equal mass{}",
    each=_SCALED,
)
@register_metric(
    "classwise_ece{}",
    higher_is_better=False,
    meaning="mean calibration error of the classes{}",
    change_gateable=False,
    why_not_gateable="all probabilities of all samples would have to be kept to compare two runs in pairs; "
    "bound the change of brier or nll",
    each=_SCALED,
)
@register_metric(
    "nll{}",
    higher_is_better=False,
    meaning="mean negative log-likelihood{}",
    unit="nats",
    high=None,
    each=_SCALED,
)
@register_metric(
    "brier{}",
    higher_is_better=False,
    meaning="Brier score, summed over classes{}",
    high=2.0,
    each=_SCALED,
)
@register_metric(
    "signed_gap{}",
    higher_is_better=None,
    meaning="mean confidence minus accuracy, positive = over-confident{}",
    low=-1.0,
    each=_SCALED,
)
@register_metric(
    "ece_sigmoid",
    higher_is_better=False,
    meaning="calibration error of the top class's sigmoid (SigLIP)",
)
@register_metric(
    "signed_gap_sigmoid",
    higher_is_better=None,
    meaning="mean top-class sigmoid minus accuracy (SigLIP)",
    low=-1.0,
)
def calibration_figures(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    probability: Probability = "softmax",
    temperature: Temperature | None = None,
    ids: Sequence[str] = (),
    bins: int = BINS,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Figure]:
    """Return every calibration figure of one data set, from one set of resamples.

    ``ece``, ``adaptive_ece``, ``classwise_ece``, ``nll`` (nats), ``brier`` (sum over classes of
    squared errors, Brier 1950: 0 to 2), ``signed_gap`` (mean confidence minus accuracy; positive
    = over-confident); for sigmoid models also ``ece_sigmoid`` and ``signed_gap_sigmoid``. With a
    ``temperature`` the same names end in ``_scaled``. ``ece``'s details hold the reliability
    diagram and confidence histogram.

    ECE is biased upwards in small samples (a perfectly calibrated model measures about 0.037 at
    n = 1000 and 15 bins). Its interval allows for that at its lower end, and the change between two runs
    is estimated without it: see :mod:`pytest_cliprobust.figures.binned`.

    Args:
        logits: (N, C) at the model's own logit scale.
        labels: (N,) class indices in [0, C).
        probability: ``"sigmoid"`` for SigLIP-type models, see the module's docstring.
        temperature: fitted on other samples, here held fixed.
        ids: (N,) sample ids, needed with a ``temperature`` that knows its own.
        bins: number of bins.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: broken logits or labels, or samples on which the temperature was fitted.
    """
    matrix = as_matrix(logits, "logits")
    count, classes = matrix.shape
    truth = as_labels(labels, count, classes)
    if temperature is not None:
        _check_disjoint(temperature, ids, count, bootstrap.keys)
        matrix = matrix / temperature.value
    suffix = "" if temperature is None else "_scaled"
    probs = softmax(matrix)
    top = probs.argmax(axis=1)
    judged = _Judged(probs[np.arange(count), top], top == truth)
    diagram = {**judged.diagram(bins), "accuracy": float(judged.correct.mean())}
    if temperature is not None:
        diagram["temperature"] = temperature.value
    columns = judged.columns
    figures = [
        _binned_figure(f"ece{suffix}", columns, _equal_width, bins, bootstrap, diagram),
        _binned_figure(f"adaptive_ece{suffix}", columns, _equal_mass, bins, bootstrap, {}),
        _classwise_figure(f"classwise_ece{suffix}", probs, truth, bins, bootstrap),
    ]
    means = {
        f"nll{suffix}": _log_scores(matrix, truth, top),
        f"brier{suffix}": _brier_scores(probs, truth, top),
        f"signed_gap{suffix}": judged.gap,
    }
    if probability == "sigmoid" and temperature is None:
        own = _Judged(sigmoid(matrix).max(axis=1), judged.correct)
        details = own.diagram(bins)
        figures.append(
            _binned_figure("ece_sigmoid", own.columns, _equal_width, bins, bootstrap, details)
        )
        means["signed_gap_sigmoid"] = own.gap
    figures += [
        _mean_of_scores(metric, scores, judged.correct, bootstrap)
        for metric, scores in means.items()
    ]
    return {figure.metric: figure for figure in figures}


def _mean_of_scores(metric: str, scores: _Scores, right: Bools, bootstrap: Bootstrap) -> Figure:
    known = METRICS.named(metric)
    return mean_figure(
        metric,
        scores.values,
        bootstrap,
        supposed=scores.supposed(right),
        unit=known.unit,
        bounds=known.bounds,
    )


@dataclass(frozen=True)
class _Judged:
    """How sure the model is of each answer, and whether it is right.

    Attributes:
        confidence: (N,) probability of the class on top.
        correct: (N,) whether that is the true one.
    """

    confidence: Floats
    correct: Bools

    @property
    def columns(self) -> dict[str, Any]:
        """What calibration errors are functions of."""
        return {"confidence": self.confidence, "correct": self.correct}

    @property
    def gap(self) -> _Scores:
        """Confidence minus correctness."""
        return _Scores.of_gap(self.confidence, self.correct.astype(np.float64))

    def diagram(self, bins: int) -> dict[str, Any]:
        """Return the reliability diagram and the mean confidence, JSON-able."""
        return {
            "reliability": reliability(self.confidence, self.correct.astype(np.float64), bins),
            "mean_confidence": float(self.confidence.mean()),
        }


@dataclass(frozen=True)
class _Scores:
    """One number a sample, and what it would be if the answer were right, or were wrong.

    Attributes:
        values: (N,) as it is.
        if_right: (N,) if the class on top were the true one.
        if_wrong: (N,) expected, by the model's own probabilities, if it were not.
    """

    values: Floats
    if_right: Floats
    if_wrong: Floats

    @classmethod
    def of_gap(cls, confidence: Floats, right: Floats) -> _Scores:
        """Return those of confidence minus correctness."""
        return cls(confidence - right, confidence - 1.0, confidence)

    def supposed(self, right: Bools) -> tuple[float, float]:
        """Return what a right and a wrong sample would have: the mean over those, and one of the model's."""
        wrong = ~right
        return (
            float((self.values[right].sum() + self.if_right.mean()) / (right.sum() + 1.0)),
            float((self.values[wrong].sum() + self.if_wrong.mean()) / (wrong.sum() + 1.0)),
        )


def _log_scores(logits: Floats, truth: Ints, top: Ints) -> _Scores:
    """Return the negative log-likelihoods."""
    rows = np.arange(len(truth))
    log_probs = log_softmax(logits)
    others = _among_others(logits, top)
    wrong = -(others * np.where(others > 0.0, log_probs, 0.0)).sum(axis=1)
    right = -log_probs[rows, top]
    return _Scores(-log_probs[rows, truth], right, wrong if logits.shape[1] > 1 else right)


def _brier_scores(probs: Floats, truth: Ints, top: Ints) -> _Scores:
    """Return the squared errors, summed over classes."""
    rows = np.arange(len(truth))
    squared = probs.copy()
    squared[rows, truth] -= 1.0
    squares = (probs * probs).sum(axis=1) + 1.0
    with np.errstate(divide="ignore"):
        others = _among_others(np.log(probs), top)
    right = squares - 2.0 * probs[rows, top]
    wrong = squares - 2.0 * (others * probs).sum(axis=1)
    return _Scores((squared * squared).sum(axis=1), right, wrong if probs.shape[1] > 1 else right)


def _among_others(logits: Floats, top: Ints) -> Floats:
    """Return the probabilities (N, C) if the class on top is out of the question."""
    left = logits.copy()
    left[np.arange(len(top)), top] = -np.inf
    highest = left.max(axis=1, keepdims=True)
    raised = np.exp(left - np.where(np.isfinite(highest), highest, 0.0))
    total = raised.sum(axis=1, keepdims=True)
    return np.asarray(raised / np.where(total > 0.0, total, 1.0))


#: From confidence, correctness and number of bins to the bin (N,) and the shared correctness of each sample.
_Kind: TypeAlias = Callable[[Floats, Floats, int], tuple[Ints, Floats]]


def _binned_figure(
    metric: str,
    columns: Mapping[str, Column],
    kind: _Kind,
    bins: int,
    bootstrap: Bootstrap,
    details: Mapping[str, Any],
) -> Figure:
    """Return the sum over bins of how far confidence and accuracy are apart."""
    outcomes = Outcomes(
        columns,
        partial(_binned_error, kind=kind, bins=bins),
        compare=partial(_compare_binned, kind=kind, bins=bins),
        keys=bootstrap.keys,
    )
    value, codes = outcomes.value(), codes_of(bootstrap.keys)
    parts = _parts(outcomes, kind, bins)
    signed = means_of(parts.signed, codes, parts.supposed)
    return figure_of_ends(
        metric,
        value,
        ends_of(value, signed, parts.largest_bias),
        outcomes,
        bootstrap,
        IntervalMethod.BINNED,
        "t, with the bins' bias",
        bounds=(0.0, 1.0),
        details={"bins": bins, "debiased": max(0.0, parts.debiased), **details},
        effect=float(signed.effects[0]),
    )


def _parts(outcomes: Outcomes, kind: _Kind, bins: int) -> Binned:
    """Return what a calibration error is made of."""
    confidence = outcomes["confidence"].astype(np.float64)
    correct = outcomes["correct"].astype(np.float64)
    index, _ = kind(confidence, correct, bins)
    members = np.zeros((len(index), bins))
    members[np.arange(len(index)), index] = 1.0
    if kind is _equal_mass:
        # Where a border falls among equal confidences, each of them lies in each bin in part.
        _, tie, sizes = np.unique(confidence, return_inverse=True, return_counts=True)
        shares = np.zeros((len(sizes), bins))
        np.add.at(shares, (tie, index), 1.0)
        members = (shares / sizes[:, None])[tie]
    return binned(members, confidence, correct, codes_of(outcomes.keys))


def _compare_binned(before: Outcomes, after: Outcomes, *, kind: _Kind, bins: int) -> Compared:
    """Return the change of a calibration error."""
    return compare_binned(
        _parts(before, kind, bins), _parts(after, kind, bins), codes_of(after.keys)
    )


def _equal_width(confidence: Floats, correct: Floats, bins: int) -> tuple[Ints, Floats]:
    """Return the equal-width bin and the correctness of each sample (N,)."""
    return equal_width_bins(confidence, bins), correct


def _equal_mass(confidence: Floats, correct: Floats, bins: int) -> tuple[Ints, Floats]:
    """Return the equal-mass bin and the shared correctness of each sample (N,)."""
    return equal_mass_bins(confidence, correct, bins)


def _binned_error(weights: Floats, outcomes: Outcomes, *, kind: _Kind, bins: int) -> Floats:
    """Return Σ_b |Σ_i in b w_i (confidence_i - correct_i)| / Σ w_i in each replicate (R,)."""
    confidence = outcomes["confidence"].astype(np.float64)
    index, correct = kind(confidence, outcomes["correct"].astype(np.float64), bins)
    gaps = sums(weights, _bin_columns(index, confidence - correct, bins))
    return ratio(np.abs(gaps).sum(axis=1), weights.sum(axis=1))


def _check_disjoint(
    temperature: Temperature, ids: Sequence[str], count: int, keys: SampleKeys | None
) -> None:
    if not temperature.ids:
        return
    if len(ids) != count:
        raise ClipRobustError(
            f"{count} samples but {len(ids)} ids; pass the sample ids, so that they can be checked "
            "against the calibration split."
        )
    shared = temperature.ids.intersection(ids)
    if temperature.keys is not None and keys is not None and keys.ids == tuple(ids):
        shared = shared.intersection(in_both(keys, temperature.keys))
    if shared:
        raise ClipRobustError(
            f"{len(shared)} samples (such as {min(shared)!r}) were used to fit the temperature; "
            "leave the calibration split out of what is evaluated."
        )


def _classwise_figure(
    name: str, probs: Floats, labels: Ints, bins: int, bootstrap: Bootstrap
) -> Figure:
    count, classes = probs.shape
    codes = codes_of(bootstrap.keys)
    cells, gaps = _classwise_cells(probs, labels, bins)
    value, bias, signed = 0.0, 0.0, np.zeros(count)
    step = max(1, _CLASSWISE_CHUNK // count)
    for first in range(0, classes, step):
        part = slice(first, min(first + step, classes))
        flat = cells[:, part].ravel() - first * bins
        size = (part.stop - first) * bins
        added = exact(gaps[:, part], count).ravel()
        own: Floats = np.asarray(np.bincount(flat, weights=added, minlength=size) / count)
        value += float(np.abs(own).sum())
        errors = _cell_errors(flat, gaps[:, part], probs[:, part], own, codes)
        bias += largest_bias(own, errors)
        signs = np.where(own >= 0.0, 1.0, -1.0)[flat].reshape(count, -1)
        signed += (signs * gaps[:, part]).sum(axis=1)
    # A sample adds nothing if it is right for sure, and 2 if it is wrong for sure.
    found = means_of(signed / classes, codes, (0.0, 2.0 / classes))
    return figure_of_ends(
        name,
        value / classes,
        ends_of(value / classes, found, bias / classes),
        Outcomes({"signed": signed}, mean),
        bootstrap,
        IntervalMethod.BINNED,
        "t, with the bins' bias",
        bounds=(0.0, 1.0),
        details={"bins": bins, "classes": classes},
        effect=float(found.effects[0]),
        # All probabilities of all samples: too much to keep for a comparison.
        comparable=False,
    )


def _cell_errors(
    flat: Ints, gaps: Floats, probs: Floats, own: Floats, codes: Ints | None
) -> Floats:
    """Return the standard errors (K,) of the cells' means; ``flat`` is the cell of each gap, row by row."""
    count, size = len(gaps), len(own)
    raw = gaps.ravel()
    single = np.bincount(flat, weights=raw * raw, minlength=size) / count**2 - own**2 / count
    model = (probs * (1.0 - probs)).ravel()
    expected = np.bincount(flat, weights=model, minlength=size) / count**2
    largest = np.maximum(single, expected)
    if codes is not None:
        units = int(codes.max()) + 1
        spots = np.repeat(codes, gaps.shape[1]) * size + flat
        used, place = np.unique(spots, return_inverse=True)
        by_unit = np.bincount(place, weights=raw)
        drawn = np.bincount(used % size, weights=by_unit**2, minlength=size) / count**2
        largest = np.maximum(largest, (drawn - own**2 / units) * units / max(1, units - 1))
    return np.sqrt(np.maximum(largest, 0.0))


@register_metric(
    "temperature",
    higher_is_better=None,
    meaning="fitted temperature, above 1 = the model was over-confident",
    high=None,
    gateable=False,
    why_not_gateable="where few answers are wrong its interval misses the truth in up to half of all draws; "
    "bound nll_scaled or ece_scaled",
)
def temperature_figure(
    logits: ArrayLike,
    labels: ArrayLike,
    ids: Sequence[str] = (),
    *,
    bootstrap: Bootstrap = DEFAULT,
) -> tuple[Temperature, Figure]:
    """Fit the temperature and return it with a Figure ``temperature``.

    A resampled log-likelihood
    is a weighted sum of per-sample terms, which all replicates share: they are computed on a grid of
    log T (optimum ± 1 in steps of 1/40), and each replicate's minimum is refined by a parabola.

    Raises:
        ClipRobustError: broken logits or labels.
    """
    fitted = fit_temperature(logits, labels, ids)
    matrix = as_matrix(logits, "calibration logits")
    truth = as_labels(labels, *matrix.shape)
    rows = np.arange(len(truth))
    grid = np.clip(
        np.log(fitted.value) + np.linspace(-1.0, 1.0, 81), -_LOG_TEMPERATURE, _LOG_TEMPERATURE
    )
    terms = np.stack([-log_softmax(matrix * np.exp(-t))[rows, truth] for t in grid], axis=1)
    outcomes = Outcomes(
        {"nll": terms}, lambda weights, own: _best_temperature(grid, sums(weights, own["nll"]))
    )
    figure = bootstrap_figure(
        "temperature",
        fitted.value,
        outcomes,
        bootstrap,
        details={
            "nll_before": fitted.nll_before,
            "nll_after": fitted.nll_after,
            "at_limit": fitted.at_limit,
        },
        comparable=False,
    )
    return fitted, figure


def _best_temperature(grid: Floats, values: Floats) -> Floats:
    return np.asarray(np.exp(_parabolic_minimum(grid, values)))


def _parabolic_minimum(grid: Floats, values: Floats) -> Floats:
    """Return the minimum (R,) of each row of ``values`` (R, G), refined between grid points."""
    index = np.clip(values.argmin(axis=1), 1, len(grid) - 2)
    rows = np.arange(len(values))
    left, centre, right = (values[rows, index + step] for step in (-1, 0, 1))
    curvature = left - 2.0 * centre + right
    step = np.where(curvature > 0, 0.5 * (left - right) / np.where(curvature > 0, curvature, 1), 0)
    return np.asarray(
        grid[index] + np.clip(step, -1.0, 1.0) * (grid[index + 1] - grid[index]), dtype=np.float64
    )


for _name, _kind in (("ece", _equal_width), ("adaptive_ece", _equal_mass)):
    register_recipe(
        _name,
        ["confidence", "correct"],
        partial(_binned_error, kind=_kind, bins=BINS),
        partial(_compare_binned, kind=_kind, bins=BINS),
        metrics=f"{_name}*",
    )

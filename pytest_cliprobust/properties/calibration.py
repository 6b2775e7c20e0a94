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

The error of a bin is a sum over samples, so all bootstrap replicates are one matrix product.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
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
from pytest_cliprobust.figures.bootstrap import DEFAULT, Bootstrap, bootstrap_figure
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.outcomes import (
    ROOM,
    Column,
    Outcomes,
    exact,
    mean,
    ratio,
    sums,
)
from pytest_cliprobust.figures.samples import Samples

#: Number of bins of ECE and its relatives (Guo et al. 2017, section 4).
BINS = 15

# Class-wise ECE has N·C·replicates terms; beyond this many, fewer replicates are drawn.
_CLASSWISE_TERMS = 2_000_000_000
_FEWEST_REPLICATES = 100
# Terms that are held as a sparse matrix at once.
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


def classwise_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS
) -> float:
    """Return class-wise ECE: the mean over classes of each class probability's own ECE.

    (1/C) Σ_c Σ_b n_bc/N · |frequency_bc - probability_bc| over all samples (Kull et al. 2019;
    Nixon et al. 2019, SCE).

    Args:
        probabilities: (N, C) in [0, 1].
        labels: (N,) class indices.
        bins: number of equal-width bins, last one closed.
    """
    matrix = as_matrix(probabilities, "probabilities")
    truth = as_labels(labels, *matrix.shape)
    cells, gaps = _classwise_cells(matrix, truth, bins)
    sums = np.bincount(cells.ravel(), weights=gaps.ravel(), minlength=matrix.shape[1] * bins)
    return float(np.abs(sums).sum() / matrix.size)


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
    """

    value: float
    nll_before: float
    nll_after: float
    n: int
    ids: frozenset[str] = field(default=frozenset(), repr=False)
    at_limit: bool = False


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
    return {name: figure.measured_on(samples.condition) for name, figure in figures.items()}


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
    n = 1000 and 15 bins), and percentile intervals of it miss the truth (measured coverage at n =
    1000: 0% at a true ECE of 0.02, 95% at 0.1). The basic bootstrap used here covers 84 to 92%
    there, but about half the time only where the true value is exactly 0 (it starts just above).

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
    suffix = ""
    if temperature is not None:
        _check_disjoint(temperature, ids, count)
        matrix, suffix = matrix / temperature.value, "_scaled"
    probs = softmax(matrix)
    top = probs.argmax(axis=1)
    confidence = probs[np.arange(count), top]
    right = (top == truth).astype(np.float64)
    with_sigmoid = probability == "sigmoid" and temperature is None
    top_sigmoid = sigmoid(matrix).max(axis=1) if with_sigmoid else None
    diagram = {
        "reliability": reliability(confidence, right, bins),
        "mean_confidence": float(confidence.mean()),
        "accuracy": float(right.mean()),
    }
    if temperature is not None:
        diagram["temperature"] = temperature.value
    rows = np.arange(count)
    squared = probs.copy()
    squared[rows, truth] -= 1.0
    nll = -log_softmax(matrix)[rows, truth]
    confident = {"confidence": confidence, "correct": right > 0}
    figures = [
        _binned_figure(f"ece{suffix}", confident, _equal_width, bins, bootstrap, diagram),
        _binned_figure(f"adaptive_ece{suffix}", confident, _equal_mass, bins, bootstrap, {}),
        _classwise_figure(f"classwise_ece{suffix}", probs, truth, bins, bootstrap),
        _mean_figure(f"nll{suffix}", nll, bootstrap, "nats"),
        _mean_figure(f"brier{suffix}", (squared * squared).sum(axis=1), bootstrap),
        _mean_figure(f"signed_gap{suffix}", confidence - right, bootstrap),
    ]
    if top_sigmoid is not None:
        details = {
            "reliability": reliability(top_sigmoid, right, bins),
            "mean_confidence": float(top_sigmoid.mean()),
        }
        judged = {"confidence": top_sigmoid, "correct": right > 0}
        figures += [
            _binned_figure("ece_sigmoid", judged, _equal_width, bins, bootstrap, details),
            _mean_figure("signed_gap_sigmoid", top_sigmoid - right, bootstrap),
        ]
    return {figure.metric: figure for figure in figures}


def _mean_figure(metric: str, values: Floats, bootstrap: Bootstrap, unit: str = "") -> Figure:
    """Return the mean of one value a sample."""
    outcomes = Outcomes({"value": values}, mean)
    return bootstrap_figure(metric, float(values.mean()), outcomes, bootstrap, unit=unit)


def _binned_figure(
    metric: str,
    columns: Mapping[str, Column],
    kind: Callable[[Floats, Floats, int], tuple[Ints, Floats]],
    bins: int,
    bootstrap: Bootstrap,
    details: Mapping[str, Any],
) -> Figure:
    """Return the sum over bins of how far confidence and accuracy are apart."""
    outcomes = Outcomes(columns, partial(_binned_error, kind=kind, bins=bins))
    count = len(outcomes)
    return bootstrap_figure(
        metric,
        outcomes.value(),
        outcomes,
        bootstrap,
        method="basic",
        bounds=(0.0, 1.0),
        trials=count,
        details={"bins": bins, **details},
    )


def _equal_width(confidence: Floats, correct: Floats, bins: int) -> tuple[Ints, Floats]:
    """Return the equal-width bin and the correctness of each sample (N,)."""
    return equal_width_bins(confidence, bins), correct


def _equal_mass(confidence: Floats, correct: Floats, bins: int) -> tuple[Ints, Floats]:
    """Return the equal-mass bin and the shared correctness of each sample (N,)."""
    return equal_mass_bins(confidence, correct, bins)


def _binned_error(
    weights: Floats,
    outcomes: Outcomes,
    *,
    kind: Callable[[Floats, Floats, int], tuple[Ints, Floats]],
    bins: int,
) -> Floats:
    """Return Σ_b |Σ_i in b w_i (confidence_i - correct_i)| / Σ w_i in each replicate (R,)."""
    confidence = outcomes["confidence"].astype(np.float64)
    index, correct = kind(confidence, outcomes["correct"].astype(np.float64), bins)
    gaps = sums(weights, _bin_columns(index, confidence - correct, bins))
    return ratio(np.abs(gaps).sum(axis=1), weights.sum(axis=1))


def _check_disjoint(temperature: Temperature, ids: Sequence[str], count: int) -> None:
    if not temperature.ids:
        return
    if len(ids) != count:
        raise ClipRobustError(
            f"{count} samples but {len(ids)} ids; pass the sample ids, so that they can be checked "
            "against the calibration split."
        )
    shared = temperature.ids.intersection(ids)
    if shared:
        raise ClipRobustError(
            f"{len(shared)} samples (such as {min(shared)!r}) were used to fit the temperature; "
            "leave the calibration split out of what is evaluated."
        )


def _classwise_figure(
    name: str, probs: Floats, labels: Ints, bins: int, bootstrap: Bootstrap
) -> Figure:
    count, classes = probs.shape
    fewer = bootstrap.fewer(max(_FEWEST_REPLICATES, _CLASSWISE_TERMS // (count * classes)))
    outcomes = Outcomes({"probabilities": probs, "label": labels}, partial(_classwise, bins=bins))
    return bootstrap_figure(
        name,
        outcomes.value(),
        outcomes,
        fewer,
        method="basic",
        bounds=(0.0, 1.0),
        trials=count,
        details={"bins": bins, "classes": classes},
        # All probabilities of all samples: too much to keep for a comparison.
        comparable=False,
    )


def _classwise(weights: Floats, outcomes: Outcomes, *, bins: int) -> Floats:
    """Return class-wise ECE in each replicate (R,), a few classes at a time."""
    probs, labels = outcomes["probabilities"], outcomes["label"]
    count, classes = probs.shape
    cells, gaps = _classwise_cells(probs, labels, bins)
    total = np.zeros(len(weights))
    step = max(1, _CLASSWISE_CHUNK // count)
    for first in range(0, classes, step):
        part = slice(first, min(first + step, classes))
        flat = cells[:, part].ravel()
        used = np.bincount(flat) > 0
        column = np.cumsum(used) - 1
        rows = np.arange(0, len(flat) + 1, len(flat) // count)
        values = exact(gaps[:, part].ravel(), ROOM * count)
        columns = sparse.csr_array((values, column[flat], rows), shape=(count, int(used.sum())))
        drawn = np.asarray(columns.T.tocsr() @ weights.T)
        total += np.abs(drawn).sum(axis=0)
    return ratio(total, weights.sum(axis=1) * classes)


@register_metric(
    "temperature",
    higher_is_better=None,
    meaning="fitted temperature, above 1 = the model was over-confident",
    high=None,
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

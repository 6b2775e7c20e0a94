"""Out-of-distribution detection: scores, and how well they separate in- from out-of-distribution.

Every score is *higher for in-distribution* samples, and in-distribution (ID) is the positive class
throughout: FPR95 is the share of OOD samples accepted where at least 95% of ID samples are accepted.
(Some libraries return the negative, or call OOD positive; a slip turns an AUROC of 0.85 into 0.15.)

Which similarity a score takes matters: MCM takes raw cosines at temperature 1; MSP, MaxLogit and
Energy take logits at the model's own scale. With cosines in [-1, 1], MCM is nearly a monotone
function of max-cosine minus mean-cosine, while MSP at scale 100 looks at the few best classes only.

Near and far OOD sets are measured apart and never pooled (:func:`detection_by_set`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from pytest_cliprobust.errors import ClipRobustError, NotRun, did_you_mean
from pytest_cliprobust.figures.arrays import (
    Floats,
    Ints,
    as_labels,
    as_matrix,
    as_vector,
    softmax,
    unit_rows,
)
from pytest_cliprobust.figures.auroc import auroc
from pytest_cliprobust.figures.bootstrap import DEFAULT, Bootstrap, figure_of_ends, resampled
from pytest_cliprobust.figures.clusters import design_effect_of_mean, size_effect
from pytest_cliprobust.figures.condition import Condition, against
from pytest_cliprobust.figures.ends import Compared, Ends, EndsAt, hull, on_logits, share_ends
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.intervals import student
from pytest_cliprobust.figures.means import compared, unit_sums, unknown
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.outcomes import Outcomes, ratio
from pytest_cliprobust.figures.recipes import register_recipe
from pytest_cliprobust.figures.samples import Embedded, Samples, contents_of
from pytest_cliprobust.figures.taken import takes_samples

#: The scores, and what reports call them; each has its own AUROC, AUPR and FPR95.
OOD_SCORES: Mapping[str, str] = MappingProxyType(
    {
        "mcm": "MCM (softmax over cosines at temperature 1)",
        "msp": "maximum softmax probability at the model's logit scale",
        "max_logit": "largest logit",
        "energy": "negative energy (log-sum-exp of the logits)",
        "neglabel": "NegLabel (negative labels)",
        "gl_mcm": "GL-MCM (global and patch features)",
        "knn": "distance to the k-th nearest ID feature",
        "mahalanobis": "Mahalanobis distance to the nearest ID class mean",
    }
)

#: True-positive rate at which the false-positive rate is read off.
RECALL = 0.95

# Replicates with which the design effect of a change is estimated.
_FOR_EFFECT = 400

# Replicates of a curve are computed in blocks of so many numbers, which fit a processor's cache.
_CACHED = 1 << 16


# --- Scores ---------------------------------------------------------------------------------------


def mcm(cosines: ArrayLike, temperature: float = 1.0) -> Floats:
    """Return Maximum Concept Matching (N,) in [1/C, 1] (Ming et al. 2022).

    The largest softmax over the cosine similarities (N, C), divided by ``temperature`` (1 in the
    paper) and not multiplied by the model's logit scale.
    """
    matrix = _cosines(cosines, "MCM")
    return np.asarray(softmax(matrix / _positive(temperature, "temperature")).max(axis=1))


def msp(logits: ArrayLike) -> Floats:
    """Return the maximum softmax probability (N,) at the logits' scale (Hendrycks & Gimpel 2017)."""
    return np.asarray(softmax(as_matrix(logits, "logits")).max(axis=1))


def max_logit(logits: ArrayLike) -> Floats:
    """Return the largest logit (N,) (Hendrycks et al. 2022, "Scaling OOD detection")."""
    return np.asarray(as_matrix(logits, "logits").max(axis=1))


def energy(logits: ArrayLike) -> Floats:
    """Return the negative energy (N,), log Σ exp(logit) (Liu et al. 2020, at T = 1).

    Negated, so that it is higher for ID samples.
    """
    return _log_sum_exp(as_matrix(logits, "logits"))


def neglabel(
    cosines: ArrayLike,
    negative_cosines: ArrayLike,
    *,
    groups: int = 100,
    temperature: float = 0.01,
    seed: int = 0,
) -> Floats:
    """Return NegLabel with its grouping strategy (N,) in [0, 1] (Jiang et al. 2024).

    For each group of negative labels: the share of the softmax over ID and the group's labels that
    falls on ID labels; the score is the mean over groups. As in the reference, the labels that do
    not fill the last group are dropped (before shuffling, so that they are the least negative ones
    if the labels are sorted as :func:`mine_negative_labels` returns them).

    At this temperature the score of many ID samples is 1 to the last digit of a float64, and their order is
    lost; :func:`neglabel_log_odds` keeps it.

    Args:
        cosines: (N, C) similarities to the ID labels.
        negative_cosines: (N, M) similarities to the negative labels.
        groups: number of groups (100 in the paper, for 10,000 labels); at most M.
        temperature: 0.01 in the paper.
        seed: of the random grouping, the same for every sample and data set.

    Raises:
        ClipRobustError: fewer negative labels than groups, or different numbers of samples.
    """
    odds = neglabel_log_odds(
        cosines, negative_cosines, groups=groups, temperature=temperature, seed=seed
    )
    return np.asarray(special.expit(odds))


def neglabel_log_odds(
    cosines: ArrayLike,
    negative_cosines: ArrayLike,
    *,
    groups: int = 100,
    temperature: float = 0.01,
    seed: int = 0,
) -> Floats:
    """Return the log odds (N,) of :func:`neglabel`, log S - log (1 - S), any finite number.

    They rank samples as the score S does, and tell apart those whose S rounds to 1 or to 0.

    Args:
        cosines, negative_cosines, groups, temperature, seed: as for :func:`neglabel`.

    Raises:
        ClipRobustError: as for :func:`neglabel`.
    """
    positive = _cosines(cosines, "NegLabel")
    negative = _cosines(negative_cosines, "NegLabel (negative labels)")
    if len(positive) != len(negative):
        raise ClipRobustError(
            f"NegLabel: {len(positive)} samples have similarities to the ID labels but "
            f"{len(negative)} to the negative ones."
        )
    labels = negative.shape[1]
    if not 1 <= groups <= labels:
        raise ClipRobustError(
            f"NegLabel: {labels} negative labels cannot form {groups} groups; give more labels or "
            "fewer groups."
        )
    size = labels // groups
    negative = negative[:, : size * groups]
    order = np.random.default_rng(seed).permutation(size * groups).reshape(groups, size)
    scale = 1.0 / _positive(temperature, "temperature")
    inside = _log_sum_exp(positive * scale)
    odds = np.stack(
        [inside - _log_sum_exp(negative[:, members] * scale) for members in order], axis=1
    )
    # S is the mean over groups of expit(odds), and 1 - S that of expit(-odds): both as logarithms.
    return _log_sum_exp(special.log_expit(odds)) - _log_sum_exp(special.log_expit(-odds))


def _log_sum_exp(rows: Floats) -> Floats:
    """Return log Σ exp (N,) of each row (N, K); nothing overflows."""
    top = rows.max(axis=1, keepdims=True)
    return np.asarray(top[:, 0] + np.log(np.exp(rows - top).sum(axis=1)))


def mine_negative_labels(
    candidates: ArrayLike, id_text: ArrayLike, *, keep: int, percentile: float = 0.95
) -> Ints:
    """Return the indices of the ``keep`` candidates farthest from the ID labels (NegMining).

    Jiang et al. 2024: a candidate's similarity to the label set is the ``percentile``
    (there: 5% from the top) of its cosines to the ID labels, robust to a few similar ones; the least
    similar candidates are kept (15% of WordNet's nouns and adjectives in the paper, each of the two
    mined by itself), least similar first; of equal ones, the first.

    Args:
        candidates: (M, D) unit text features.
        id_text: (C, D) unit text features of the ID labels.
        keep: how many.
        percentile: in (0, 1).
    """
    pool, own = as_matrix(candidates, "candidate labels"), as_matrix(id_text, "ID labels")
    if not 1 <= keep <= len(pool):
        raise ClipRobustError(f"cannot keep {keep} of {len(pool)} candidate negative labels.")
    similarity = np.quantile(pool @ own.T, percentile, axis=1)
    return np.argsort(similarity, kind="stable")[:keep].astype(np.int64)


def gl_mcm(
    cosines: ArrayLike,
    patch_cosines: ArrayLike,
    *,
    weight: float = 1.0,
    temperature: float = 1.0,
) -> Floats:
    """Return GL-MCM (N,), MCM plus ``weight`` times local MCM (Miyai et al. 2025).

    Args:
        cosines: (N, C) of the global image feature.
        patch_cosines: (N, P, C), see :func:`local_mcm`.
        weight: λ, 1 in the paper.
        temperature: 1 in the paper.
    """
    local = local_mcm(patch_cosines, temperature)
    whole = mcm(cosines, temperature)
    if len(local) != len(whole):
        raise ClipRobustError(
            f"GL-MCM: {len(whole)} images but patch similarities for {len(local)}."
        )
    return np.asarray(whole + weight * local)


def local_mcm(patch_cosines: ArrayLike, temperature: float = 1.0) -> Floats:
    """Return local MCM (N,): the largest softmax over classes among all patches (Miyai et al. 2025).

    Args:
        patch_cosines: (N, P, C) of the patch features, projected into the joint space (value
            features of the last attention block through the final layer norm and projection).
        temperature: 1 in the paper.
    """
    patches = np.asarray(patch_cosines, dtype=np.float64)
    if patches.ndim != 3 or not np.isfinite(patches).all() or patches.size == 0:
        raise ClipRobustError(
            f"GL-MCM: patch similarities must be finite, of shape (N, P, C), got {patches.shape}."
        )
    flat = _cosines(patches.reshape(-1, patches.shape[2]), "GL-MCM (patches)")
    local = softmax(flat / _positive(temperature, "temperature")).max(axis=1)
    return np.asarray(local.reshape(patches.shape[:2]).max(axis=1))


def knn(features: ArrayLike, bank: ArrayLike, *, k: int = 50) -> Floats:
    """Return minus the distance to the k-th nearest feature of an ID bank (N,) (Sun et al. 2022).

    Features are L2-normalised first, as the paper insists. k is 50 for CIFAR-10's training set and
    1,000 for ImageNet's in the paper; it grows with the bank.

    Args:
        features: (N, D).
        bank: (M, D) features of ID images that are not evaluated.
        k: in [1, M].
    """
    queries, stored = unit_rows(features), unit_rows(bank, dataset="ID bank")
    if not 1 <= k <= len(stored):
        raise ClipRobustError(f"kNN: k = {k}, but the ID bank holds {len(stored)} features.")
    _same_width(queries, stored, "kNN")
    out = np.empty(len(queries))
    step = max(1, 4_000_000 // len(stored))
    for first in range(0, len(queries), step):
        similarity = queries[first : first + step] @ stored.T
        kth = np.partition(similarity, len(stored) - k, axis=1)[:, len(stored) - k]
        out[first : first + step] = -np.sqrt(np.maximum(2.0 - 2.0 * kth, 0.0))
    return out


def mahalanobis(
    features: ArrayLike,
    bank: ArrayLike,
    bank_labels: ArrayLike,
    *,
    covariance: Literal["ledoit_wolf", "empirical"] = "ledoit_wolf",
) -> Floats:
    """Return minus the smallest squared Mahalanobis distance to a class mean (N,) (Lee et al. 2018).

    The covariance is shared by the classes and taken within them (the paper's equation 1; MCM's
    comparison code takes it around the common mean instead). The paper's empirical estimate is
    singular with fewer samples than dimensions, so the default shrinks it (Ledoit & Wolf 2004).

    Args:
        features: (N, D).
        bank: (M, D) features of ID images that are not evaluated.
        bank_labels: (M,) their classes.
        covariance: estimator.

    Raises:
        NotRun: the bank has one sample of each class.
        ClipRobustError: ``"empirical"`` with too few samples for the dimensions.
    """
    queries, stored = as_matrix(features, "features"), as_matrix(bank, "ID bank")
    _same_width(queries, stored, "Mahalanobis")
    labels = np.asarray(bank_labels)
    labels = as_labels(labels, len(stored), int(labels.max(initial=0)) + 1, "ID bank labels")
    classes, index = np.unique(labels, return_inverse=True)
    if len(classes) == len(stored):
        raise NotRun(
            f"Mahalanobis: the ID bank has one sample of each of {len(classes)} classes, which does not say "
            "how they differ within a class"
        )
    means = np.stack([stored[labels == c].mean(axis=0) for c in classes])
    centred = stored - means[index]
    if covariance == "ledoit_wolf":
        from sklearn.covariance import ledoit_wolf

        shared = np.asarray(ledoit_wolf(centred, assume_centered=True)[0])
    else:
        shared = centred.T @ centred / len(stored)
        if len(stored) - len(classes) < stored.shape[1]:
            raise ClipRobustError(
                f"Mahalanobis: {len(stored)} samples of {len(classes)} classes leave a singular "
                f"covariance in {stored.shape[1]} dimensions; use covariance='ledoit_wolf'."
            )
    try:
        factor = np.linalg.cholesky(shared)
    except np.linalg.LinAlgError as error:
        raise ClipRobustError(
            "Mahalanobis: the features of the ID bank have a singular covariance; "
            "they hardly differ within their classes."
        ) from error
    whitened = np.linalg.solve(factor, queries.T).T
    centres = np.linalg.solve(factor, means.T).T
    best = np.full(len(queries), np.inf)
    for centre in centres:
        best = np.minimum(best, ((whitened - centre) ** 2).sum(axis=1))
    return -best


def _cosines(values: ArrayLike, what: str) -> Floats:
    matrix = as_matrix(values, f"{what}: cosines")
    if np.abs(matrix).max() > 1.0 + 1e-6:
        raise ClipRobustError(
            f"{what} takes cosine similarities in [-1, 1], got {np.abs(matrix).max():.3g}; "
            "these look like logits."
        )
    return matrix


def _same_width(first: Floats, second: Floats, what: str) -> None:
    if first.shape[1] != second.shape[1]:
        raise ClipRobustError(
            f"{what}: features have {first.shape[1]} dimensions, those of the bank "
            f"{second.shape[1]}; both must come from the same model."
        )


def _positive(value: float, what: str) -> float:
    if not value > 0:
        raise ClipRobustError(f"{what} must be positive, got {value}.")
    return value


# --- Detection ------------------------------------------------------------------------------------


#: From samples to a score (N,), higher = more in-distribution.
ScoreOf: TypeAlias = Callable[[Samples], Floats]

#: Scores that need nothing but a view, by name.
SCORES: Mapping[str, ScoreOf] = MappingProxyType(
    {
        "mcm": lambda samples: mcm(samples.cosines),
        "msp": lambda samples: msp(samples.logits),
        "max_logit": lambda samples: max_logit(samples.logits),
        "energy": lambda samples: energy(samples.logits),
    }
)

#: Negative labels a group of NegLabel holds: 100 groups of 10,000 labels in the paper.
LABELS_A_GROUP = 100

#: Share of a bank behind k: 1,000 of ImageNet's 1.28 million training pictures is 0.08%, 50 of CIFAR-10's
#: 50,000 is 0.1% (Sun et al. 2022); a bank of a thousand then gives 1.
K_SHARE = 0.001


@takes_samples
def apart(inside: Samples, bank: Samples) -> tuple[Ints, Ints]:
    """Return the rows of ID samples and of a bank that share no unit (drawing, object, patient).

    A bank that holds another picture of the very thing measures whether it is recognised, not whether it is
    of a known class. Where units are shared, the bank keeps half of each class's units, rounded up, by a
    hash of their names; of the ID samples those count whose unit the bank does not have.

    Raises:
        NotRun: hardly an ID sample is left, as each class has a single unit.
    """
    mine, stored = np.asarray(inside.units), np.asarray(bank.units)
    if not np.isin(mine, stored).any():
        return np.arange(len(mine)), np.arange(len(stored))
    kept: set[str] = set()
    for label in np.unique(bank.labels):
        units = sorted({str(unit) for unit in stored[bank.labels == label]}, key=_hashed)
        kept.update(units[: (len(units) + 1) // 2])
    names = np.array(sorted(kept))
    rows = np.flatnonzero(~np.isin(mine, names))
    if len(rows) < 2:
        raise NotRun(
            f"{bank.condition} shows the very things that {inside.condition} shows, one of each class: a "
            "score against a bank needs ID pictures of others"
        )
    return rows, np.flatnonzero(np.isin(stored, names))


def _hashed(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


@dataclass(frozen=True)
class BankScore:
    """A score against a bank of ID samples, on which figures then hang, too.

    Attributes:
        of: from features (N, D) to the score (N,).
        contents: digest of the samples in the bank.
    """

    of: Callable[[Floats], Floats]
    contents: str

    def __call__(self, samples: Samples) -> Floats:
        """Return the score (N,) of samples, which need features."""
        return self.of(_features_of(samples))


@takes_samples
def bank_scores(bank: Embedded) -> dict[str, ScoreOf]:
    """Return the scores ``knn`` and ``mahalanobis`` against ID samples that are not evaluated.

    k is a thousandth of the bank (:data:`K_SHARE`), at least 1; for Mahalanobis the classes are the bank's
    labels.

    Args:
        bank: with features and labels, as the calibration split has; :func:`apart` from what is evaluated.
    """
    stored = np.asarray(bank.features, dtype=np.float64)
    k = max(1, round(K_SHARE * len(stored)))
    scores: dict[str, Callable[[Floats], Floats]] = {
        "knn": lambda features: knn(features, stored, k=k),
        "mahalanobis": lambda features: mahalanobis(features, stored, bank.labels),
    }
    return {name: BankScore(score, contents_of(bank)) for name, score in scores.items()}


def _features_of(samples: Samples) -> Floats:
    features = getattr(samples, "features", None)
    if features is None:
        raise ClipRobustError(f"{samples.condition}: a score against a bank needs features")
    return np.asarray(features, dtype=np.float64)


def neglabel_score(
    cosines: Callable[[Samples], tuple[Floats, Floats]],
) -> dict[str, ScoreOf]:
    """Return the score ``neglabel`` as log odds, in groups of :data:`LABELS_A_GROUP` labels (one at least).

    Args:
        cosines: from samples to their similarities to the ID labels (N, C) and to the negative ones (N, M).
    """

    def score(samples: Samples) -> Floats:
        inside, outside = cosines(samples)
        groups = max(1, outside.shape[1] // LABELS_A_GROUP)
        return neglabel_log_odds(inside, outside, groups=groups)

    return {"neglabel": score}


def gl_mcm_score(local: Callable[[Samples], Floats]) -> dict[str, ScoreOf]:
    """Return the score ``gl_mcm``; ``local`` gives samples' :func:`local_mcm` (N,)."""
    return {"gl_mcm": lambda samples: np.asarray(mcm(samples.cosines) + local(samples))}


@takes_samples
def detection(
    inside: Samples,
    outside: Samples,
    scores: Sequence[str] | Mapping[str, ScoreOf] = tuple(SCORES),
) -> dict[str, Figure]:
    """Return AUROC, AUPR and FPR95 of telling ID from OOD samples: see :func:`detection_figures`.

    They are figures of ``outside``'s condition, over both. Where both were perturbed alike it is that
    perturbation's.

    Args:
        inside: in-distribution samples, the positive class.
        outside: out-of-distribution samples.
        scores: names of :data:`SCORES`, or scores by name (:func:`bank_scores` …).

    Raises:
        ClipRobustError: an unknown score, or fewer than two samples on a side.
    """
    condition = condition_of(inside, outside)
    bootstrap = bootstrap_of_both(inside.bootstrap, outside.bootstrap)
    figures: dict[str, Figure] = {}
    for name, score in scores_of(scores).items():
        figures |= _held_against(
            score, detection_figures(score(inside), score(outside), name, bootstrap=bootstrap)
        )
    return {metric: figure.measured_on(condition) for metric, figure in figures.items()}


@takes_samples
def condition_of(inside: Samples, outside: Samples) -> Condition:
    """Return the condition that detection is filed under: that of ``outside``, over both."""
    condition = outside.condition
    if inside.condition.steps != condition.steps:
        condition = against(condition, inside.condition)
    return replace(condition, over=(inside.condition, outside.condition))


@takes_samples
def full_spectrum(
    inside: Sequence[Samples],
    outside: Samples,
    scores: Sequence[str] | Mapping[str, ScoreOf] = tuple(SCORES),
) -> dict[str, Figure]:
    """Return the figures of :func:`detection` where ID samples under a shift count as ID, too.

    Full-spectrum detection (Yang et al. 2023; OpenOOD 1.5, Zhang et al. 2023): a detector that takes
    whatever looks unfamiliar for something unknown rejects the shifted pictures, and is found out. The
    samples of all ID sets weigh the same. Filed under the name ``full_spectrum``.

    Args:
        inside: ID sets, the clean one first.
        outside: out-of-distribution samples.
        scores: as for :func:`detection`.

    Raises:
        ClipRobustError: as for :func:`detection`, or no ID set.
    """
    if not inside:
        raise ClipRobustError("full-spectrum detection needs an in-distribution data set")
    condition = replace(
        outside.condition,
        label="full_spectrum",
        over=(*(samples.condition for samples in inside), outside.condition),
    )
    every = inside[0].bootstrap
    for samples in inside[1:]:
        every = bootstrap_of_both(every, samples.bootstrap)
    bootstrap = bootstrap_of_both(every, outside.bootstrap)
    figures: dict[str, Figure] = {}
    for name, score in scores_of(scores).items():
        known = np.concatenate([score(samples) for samples in inside])
        figures |= _held_against(
            score, detection_figures(known, score(outside), name, bootstrap=bootstrap)
        )
    return {metric: figure.measured_on(condition) for metric, figure in figures.items()}


def _held_against(score: ScoreOf, figures: Mapping[str, Figure]) -> dict[str, Figure]:
    """Return figures that know the bank behind their score, if it has one."""
    contents = score.contents if isinstance(score, BankScore) else ""
    return {metric: figure.fitted_on(contents) for metric, figure in figures.items()}


def scores_of(scores: Sequence[str] | Mapping[str, ScoreOf]) -> Mapping[str, ScoreOf]:
    """Return the scores by name: those of :data:`SCORES`, or as given.

    Raises:
        ClipRobustError: an unknown name.
    """
    if isinstance(scores, Mapping):
        return scores
    unknown = [name for name in scores if name not in SCORES]
    if unknown:
        raise ClipRobustError(
            f"unknown OOD score {unknown[0]!r}.{did_you_mean(unknown[0], SCORES)} "
            f"There are {', '.join(SCORES)}"
        )
    return {name: SCORES[name] for name in scores}


def bootstrap_of_both(inside: Bootstrap, outside: Bootstrap) -> Bootstrap:
    """Return settings for the samples of one data set and then of another."""
    if inside.keys is None or outside.keys is None:
        return inside.of(None)
    return inside.of(inside.keys.beside(outside.keys))


def fpr_at_recall(id_scores: ArrayLike, ood_scores: ArrayLike, recall: float = RECALL) -> float:
    """Return the share of OOD samples at or above the highest threshold with TPR >= ``recall``.

    ID is positive. The operating point is one that the data have: the first threshold, from above,
    at which *at least* ``recall`` of the ID samples are accepted (MCM's code takes the one whose TPR
    is nearest to 0.95, be it below).
    """
    inside = np.sort(as_vector(id_scores, "ID scores"))[::-1]
    outside = as_vector(ood_scores, "OOD scores")
    threshold = inside[_needed(len(inside), recall) - 1]
    return float((outside >= threshold).mean())


def _needed(count: int, recall: float) -> int:
    # 0.95 · 20 is 19.000000000000004 or 18.99…: a whisker must not cost a sample.
    return max(1, int(np.ceil(recall * count - 1e-9)))


@register_metric(
    "auroc_{}",
    higher_is_better=True,
    meaning="AUROC of ID against OOD by {}",
    chance=0.5,
    each=OOD_SCORES,
)
@register_metric(
    "aupr_in_{}",
    higher_is_better=True,
    meaning="average precision, ID positive, by {}",
    each=OOD_SCORES,
)
@register_metric(
    "aupr_out_{}",
    higher_is_better=True,
    meaning="average precision, OOD positive, by {}",
    each=OOD_SCORES,
)
@register_metric(
    "fpr95_{}",
    higher_is_better=False,
    meaning="share of OOD accepted at an ID recall of 95%, by {}",
    chance=0.95,
    each=OOD_SCORES,
)
def detection_figures(
    id_scores: ArrayLike,
    ood_scores: ArrayLike,
    score: str,
    *,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Figure]:
    """Return ``auroc_<score>``, ``aupr_in_<score>``, ``aupr_out_<score>`` and ``fpr95_<score>``.

    AUROC by scikit-learn's definition (interval: :func:`~pytest_cliprobust.figures.auroc.auroc`); average
    precision with ID (``aupr_in``) or OOD (``aupr_out``, scores negated) as the positive class, with the
    jackknife's interval on logits; and FPR at a TPR of at least 95% with ID as the positive class, with an
    interval on logits from the bootstrap, which keeps the numbers of ID and OOD samples and chooses the
    threshold anew in each replicate. AUPR depends on the ratio of those numbers: ``details["id"]`` and
    ``details["ood"]`` state them.

    Args:
        id_scores, ood_scores: (N,), (M,), higher = more in-distribution; N, M >= 2.
        score: name of the score, part of the metric names.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: fewer than two samples on a side, or NaN scores.
    """
    from sklearn.metrics import average_precision_score

    inside = as_vector(id_scores, f"{score}: ID scores")
    outside = as_vector(ood_scores, f"{score}: OOD scores")
    both = np.concatenate([inside, outside])
    is_id = np.concatenate([np.ones(len(inside), np.int64), np.zeros(len(outside), np.int64)])
    details = {"id": len(inside), "ood": len(outside)}
    area = auroc(
        f"auroc_{score}",
        inside,
        outside,
        bootstrap=bootstrap,
        details={**details, "positive": "id"},
    )
    aupr_in = float(average_precision_score(is_id, both))
    aupr_out = float(average_precision_score(1 - is_id, -both))
    figures = [
        area,
        _curve_figure(f"aupr_in_{score}", 0, aupr_in, inside, outside, bootstrap),
        _curve_figure(f"aupr_out_{score}", 1, aupr_out, inside, outside, bootstrap),
        fpr95_figure(f"fpr95_{score}", inside, outside, bootstrap=bootstrap),
    ]
    return {figure.metric: figure for figure in figures}


def fpr95_figure(
    metric: str, id_scores: ArrayLike, ood_scores: ArrayLike, *, bootstrap: Bootstrap = DEFAULT
) -> Figure:
    """Return FPR at a TPR of at least 95%, as :func:`detection_figures` has it.

    Args:
        metric: name of the figure.
        id_scores, ood_scores: (N,), (M,), higher = more in-distribution; N, M >= 2.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: NaN scores.
    """
    inside = as_vector(id_scores, f"{metric}: ID scores")
    outside = as_vector(ood_scores, f"{metric}: OOD scores")
    return _curve_figure(metric, 2, fpr_at_recall(inside, outside), inside, outside, bootstrap)


def _curve_figure(
    metric: str, number: int, value: float, inside: Floats, outside: Floats, bootstrap: Bootstrap
) -> Figure:
    """Return AUPR-in (0), AUPR-out (1) or FPR95 (2) as a figure."""
    is_id = np.repeat(np.array([1, 0], dtype=np.int64), [len(inside), len(outside)])
    outcomes = Outcomes(
        {"score": np.concatenate([inside, outside])},
        partial(_curve, number=number),
        {"inside": is_id, "stratum": is_id},
        keys=bootstrap.keys,
        compare=_compare_rate if number == 2 else partial(_compare_precision, number=number),
    )
    spread = _spread_of_rate if number == 2 else _spread_of_precision
    at, effect = spread(value, outcomes, bootstrap, number)
    return figure_of_ends(
        metric,
        value,
        at,
        outcomes,
        bootstrap,
        IntervalMethod.LOGIT,
        "bootstrap t on logits, and Wilson" if number == 2 else "jackknife t on logits",
        bounds=(0.0, 1.0),
        details={
            "id": len(inside),
            "ood": len(outside),
            "positive": "ood" if number == 1 else "id",
        },
        effect=effect,
    )


def _units(outcomes: Outcomes) -> tuple[Ints, Ints]:
    """Return the units of ID and of OOD samples."""
    inside = outcomes["inside"].astype(bool)
    codes = np.arange(len(inside)) if outcomes.keys is None else outcomes.keys.codes
    return codes[inside], codes[~inside]


def _degrees(outcomes: Outcomes) -> float:
    """Return the degrees of freedom that the side with fewer units leaves."""
    return min(len(np.unique(codes)) for codes in _units(outcomes)) - 1.0


def _spread_of_rate(
    value: float, outcomes: Outcomes, bootstrap: Bootstrap, number: int
) -> tuple[EndsAt, float]:
    """Return the ends of FPR95 at every level, and its design effect.

    The bootstrap moves the threshold as well, and its standard error is taken on logits, with half a sample
    on either side (Zhou & Qin 2005 do likewise). Where no OOD sample lies near the threshold it is too
    small; then Wilson's interval of the share at the threshold, as it is, is the wider one.
    """
    inside = outcomes["inside"].astype(bool)
    accepted = (
        outcomes["score"][~inside]
        >= np.sort(outcomes["score"][inside])[::-1][_needed(int(inside.sum()), RECALL) - 1]
    )
    count = len(accepted)
    _, codes = _units(outcomes)
    effect = design_effect_of_mean(
        accepted.astype(np.float64), np.unique(codes, return_inverse=True)[1]
    )
    degrees = _degrees(outcomes)
    drawn = resampled(outcomes, bootstrap, outcomes["stratum"].astype(np.int64))
    error = float(special.logit((drawn * count + 0.5) / (count + 1.0)).std(ddof=1))
    near = on_logits((value * count + 0.5) / (count + 1.0), error, degrees)
    return hull(near, share_ends(value, count / effect, degrees)), effect


def _spread_of_precision(
    value: float, outcomes: Outcomes, bootstrap: Bootstrap, number: int
) -> tuple[EndsAt, float]:
    """Return the ends of an average precision at every level, and its design effect.

    The standard error is the jackknife's, on logits, and so is the bias, which an average precision of few
    samples has upwards: the interval is the hull of those with and without it. Scores that are wholly apart
    show no error; the interval is then Wilson's over as many disjoint pairs as there are units of the rarer
    class.
    """
    degrees = _degrees(outcomes)
    error, bias, effect = _logit_jackknife(value, _influences(outcomes, number), outcomes)
    inside = outcomes["inside"].astype(bool)
    first, second = outcomes["score"][inside], outcomes["score"][~inside]
    apart = first.min() > second.max() or second.min() > first.max()
    if error > 1e-9 and not apart:
        centre = float(special.expit(special.logit(value) - bias))
        own = on_logits(value, error, degrees)
        return hull(own, on_logits(centre, error, degrees)), effect
    return share_ends(value, degrees + 1.0, degrees), effect


def _logit_jackknife(
    value: float, influences: Floats, outcomes: Outcomes
) -> tuple[float, float, float]:
    """Return the jackknife's standard error and bias of an average precision's logit, and a design effect."""
    inside = outcomes["inside"].astype(bool)
    drawn = single = bias = 0.0
    centre = float(special.logit(np.clip(value, 1e-9, 1.0 - 1e-9)))
    for side, codes in zip((inside, ~inside), _units(outcomes), strict=True):
        each = _logits(value - influences[side])
        units = _logits(value - unit_sums(influences[side][:, None], codes)[:, 0])
        single += float((len(each) - 1.0) * each.var())
        drawn += float((len(units) - 1.0) * units.var())
        bias += (len(units) - 1.0) * (float(units.mean()) - centre)
    effect = max(1.0, drawn / single) if single > 0.0 else size_effect(_units(outcomes)[0])
    return math.sqrt(max(drawn, single)), bias, effect


def _logits(shares: Floats) -> Floats:
    return np.asarray(special.logit(np.clip(shares, 1e-9, 1.0 - 1e-9)), dtype=np.float64)


def _influences(outcomes: Outcomes, number: int) -> Floats:
    """Return what each sample adds to an average precision (N,): what leaving it out takes away.

    Leaving out a positive sample takes away its own precision, and lowers those below it; leaving out a
    negative one raises those below. All of them follow from running sums over the thresholds.
    """
    positive = outcomes["inside"].astype(bool)
    scores = outcomes["score"].astype(np.float64)
    if number == 1:
        positive, scores = ~positive, -scores
    _, place = np.unique(-scores, return_inverse=True)
    thresholds = int(place.max()) + 1
    gained = np.bincount(place, weights=positive, minlength=thresholds)
    hits, accepted = np.cumsum(gained), np.cumsum(np.bincount(place, minlength=thresholds))
    total = float(positive.sum())
    whole = float((gained * hits / accepted).sum()) / total
    fewer = np.maximum(accepted - 1.0, 1.0)
    above = np.concatenate([[0.0], np.cumsum(gained * hits / accepted)])[:-1]

    def below(values: Floats) -> Floats:
        return np.cumsum((gained * values)[::-1])[::-1]

    without_hit = above + below((hits - 1.0) / fewer) - (hits - 1.0) / fewer
    without_miss = above + below(hits / fewer)
    left = np.where(
        positive, without_hit[place] / max(1.0, total - 1.0), without_miss[place] / total
    )
    return np.asarray(whole - left, dtype=np.float64)


def _compare_precision(before: Outcomes, after: Outcomes, *, number: int) -> Compared:
    """Return the change of an average precision."""
    inside = after["inside"].astype(bool)
    if inside.all() or not inside.any():
        return unknown()
    adds = []
    for outcomes in (before, after):
        own = _influences(outcomes, number) * len(outcomes)
        for side in (inside, ~inside):
            own[side] -= own[side].mean()
        adds.append(own)
    difference = after.value() - before.value()
    degrees = _degrees(after)
    codes = np.arange(len(inside)) if after.keys is None else after.keys.codes
    # A unit may come to lie behind one of the other side.
    few = min(inside.sum(), (~inside).sum())
    least = size_effect(codes) * len(inside) / few / (degrees + 1.0)
    return compared(adds[1] - adds[0], codes, difference, degrees, float(least))


def _compare_rate(before: Outcomes, after: Outcomes) -> Compared:
    """Return the change of FPR95: Student's t with the bootstrap's standard error, thresholds anew.

    Half an OOD unit that changes sides, either way, is added to the variance (as Agresti & Min 2005 do for
    shares), so that it does not collapse where none lies near the thresholds.
    """
    inside = after["inside"].astype(bool)
    if inside.all() or not inside.any():
        return unknown()
    settings, strata = Bootstrap(keys=after.keys), after["stratum"].astype(np.int64)
    drawn = resampled(after, settings, strata) - resampled(before, settings, strata)
    variance, effect = float(drawn.var(ddof=1)), 1.0
    if settings.clustered:
        alone = settings.singly().fewer(_FOR_EFFECT)
        single = float((resampled(after, alone, strata) - resampled(before, alone, strata)).var())
        effect = max(1.0, variance / single) if single > 0.0 else 1.0
        variance = max(variance, single)
    _, codes = _units(after)
    whole = size_effect(np.unique(codes, return_inverse=True)[1]) / len(codes)
    variance += 2.0 * (whole / 2.0) ** 2
    error, degrees = math.sqrt(variance), _degrees(after)
    difference = after.value() - before.value()

    def at(tails: Floats) -> tuple[Floats, Floats]:
        half = student(tails, degrees) * error
        return difference - half, difference + half

    return Compared(difference, Ends.of(at), error, effect)


def _curve(weights: Floats, outcomes: Outcomes, *, number: int) -> Floats:
    """Return AUPR-in (0), AUPR-out (1) or FPR95 (2), thresholds chosen anew in each replicate (R,)."""
    scores, is_id = outcomes["score"], outcomes["inside"].astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    positive = is_id[order]
    step = max(1, _CACHED // len(scores))
    blocks = []
    for first in range(0, len(weights), step):
        drawn = weights[first : first + step][:, order]
        tp = np.cumsum(drawn * positive, axis=1)[:, ends]
        fp = np.cumsum(drawn, axis=1)[:, ends] - tp
        blocks.append(_read_off(tp, fp, number))
    return np.concatenate(blocks)


def _read_off(tp: Floats, fp: Floats, number: int) -> Floats:
    """Return a figure of each curve (r, T): accepted ID and OOD samples at T falling thresholds."""
    total_in, total_out = tp[:, -1:], fp[:, -1:]
    if number == 2:
        needed = np.maximum(1.0, np.ceil(RECALL * total_in - 1e-9))
        reached = (tp >= needed).argmax(axis=1)
        return ratio(fp[np.arange(len(fp)), reached], total_out[:, 0])
    zero = np.zeros((len(tp), 1))
    tp_before = np.concatenate([zero, tp[:, :-1]], axis=1)
    fp_before = np.concatenate([zero, fp[:, :-1]], axis=1)
    if number == 0:
        # From above: precision of ID at each threshold, weighted by the recall gained there.
        precision = tp / np.maximum(tp + fp, 1.0)
        return ratio(((tp - tp_before) * precision).sum(axis=1), total_in[:, 0])
    # From below, for OOD: what lies at or under each threshold.
    tn, fn = total_out - fp_before, total_in - tp_before
    precision = tn / np.maximum(tn + fn, 1.0)
    return ratio(((fp - fp_before) * precision).sum(axis=1), total_out[:, 0])


def detection_by_set(
    id_scores: ArrayLike,
    ood_scores: Mapping[str, ArrayLike],
    score: str,
    *,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, dict[str, Figure]]:
    """Return :func:`detection_figures` for each OOD set by name; sets are never pooled.

    Args:
        id_scores: (N,).
        ood_scores: (M,) by the name of the set (``"near_ood"``, ``"far_ood"``, ``"iNaturalist"`` …).
        score: name of the score.
        bootstrap: interval settings; its keys are of one set, so they are left out.

    Raises:
        ClipRobustError: no OOD set.
    """
    if not ood_scores:
        raise ClipRobustError(f"{score}: no OOD data set to tell from in-distribution data.")
    return {
        name: detection_figures(id_scores, values, score, bootstrap=bootstrap.of(None))
        for name, values in ood_scores.items()
    }


for _number, _name in enumerate(("aupr_in", "aupr_out", "fpr95")):
    register_recipe(
        _name,
        ["score"],
        partial(_curve, number=_number),
        _compare_rate if _number == 2 else partial(_compare_precision, number=_number),
        ["inside", "stratum"],
        metrics=f"{_name}_*",
    )

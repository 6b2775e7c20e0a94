"""Collections of data sets, each measured as it is published: DataComp's 38 tasks (Gadre et al. 2023).

Most are judged by accuracy; others by the mean per class, the worst group (WILDS, GeoDE, Dollar Street),
macro F1 (iWildCam), recall at 1 both ways (Flickr30k, COCO) or the Jaccard index (WinoGAViL). What a data set
is judged by is its :class:`~pytest_cliprobust.figures.samples.Task`.

The published figures are shares without n or interval. A worst group of three pictures is published as
0.0000; here the interval says how little that is, and the details name the group and its n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.arrays import (
    Bools,
    Floats,
    Ints,
    as_labels,
    as_vector,
    same_samples,
    unit_rows,
)
from pytest_cliprobust.figures.bootstrap import DEFAULT, Bootstrap, figure_of_ends, mean_figure
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.figures.means import compare_means, ratio_values
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.outcomes import Outcomes, mean, means, quotient, ratio
from pytest_cliprobust.figures.recipes import register_recipe
from pytest_cliprobust.figures.samples import Captioned, Task
from pytest_cliprobust.figures.taken import takes_samples
from pytest_cliprobust.properties import accuracy
from pytest_cliprobust.properties.retrieval import captions_of, retrieval_ranks

#: The columns of a sample that is a candidate picture for a cue: which cue, and whether they belong together.
INSTANCE, ASSOCIATED, CANDIDATES = "instance", "associated", "candidates"

#: WinoGAViL's main figure is over cues with ten and twelve candidates (Bitton et al. 2022).
LEAST_CANDIDATES = 10


class TaskSamples(Captioned, Protocol):
    """Samples that know what they are judged by."""

    @property
    def task(self) -> Task:
        """What the data set is judged by where it is published."""
        ...


@takes_samples
def score_of(samples: TaskSamples) -> Figure:
    """Return a data set's main figure, by the metric that it is published with.

    Raises:
        NotRun: the data lacks the column of groups, or the captions, that the metric needs.
        ClipRobustError: no such metric.
    """
    task = samples.task
    if task.metric not in _MEASURES:
        raise ClipRobustError(
            f"{samples.condition}: no data set is judged by {task.metric!r}; known are "
            f"{', '.join(_MEASURES)}"
        )
    if task.column and task.column not in samples.groups:
        raise NotRun(f"{samples.condition} has no column {task.column!r} of groups")
    return _MEASURES[task.metric](samples).measured_on(samples.condition)


@dataclass(frozen=True)
class _Score:
    """The main figure of a data set, and what it counts in."""

    task: Task
    figure: Figure


@register_metric(
    "task_mean",
    higher_is_better=True,
    meaning="plain mean of the main figures of a collection's data sets",
    gateable=False,
    why_not_gateable="it is of another make whenever another data set is there, and some figures in it have "
    "intervals that do not hold; bound the figures of the data sets",
)
@takes_samples
def means_over(views: Iterable[TaskSamples]) -> list[Figure]:
    """Return for each collection ``task_mean``, the plain mean of the main figures that are there.

    How many of the collection's data sets that is stands in the details (``count``, ``of``) and the method:
    a mean over seven of 38 is not the published one. Data sets without a figure are named (``not_run``). The
    data sets are taken as drawn apart, and the squared half-widths of their intervals added (Zou & Donner
    2008).

    Raises:
        NotRun: none of the data sets counts in a collection and has a figure.
    """
    packs: dict[str, list[_Score]] = {}
    lacking: dict[str, str] = {}
    for samples in views:
        if samples.task.pack:
            try:
                score = _Score(samples.task, score_of(samples))
                packs.setdefault(samples.task.pack, []).append(score)
            except NotRun as error:
                lacking[str(samples.condition)] = str(error)
    if not packs:
        raise NotRun(
            "none of the data sets that play tasks has a figure that counts in a collection"
        )
    return [_mean_of(pack, own, lacking) for pack, own in packs.items()]


def _mean_of(pack: str, scores: Sequence[_Score], lacking: Mapping[str, str]) -> Figure:
    figures = [score.figure for score in scores]
    values = np.array([figure.value for figure in figures])
    of = max(score.task.of for score in scores)

    def at(tails: Floats) -> tuple[Floats, Floats]:
        ends = [
            [interval_at(figure, 1.0 - 2.0 * float(tail)) for figure in figures] for tail in tails
        ]
        lows = np.array([[end.low for end in row] for row in ends])
        highs = np.array([[end.high for end in row] for row in ends])
        below = np.sqrt(((values - lows) ** 2).sum(axis=1)) / len(values)
        above = np.sqrt(((highs - values) ** 2).sum(axis=1)) / len(values)
        return values.mean() - below, values.mean() + above

    conditions = [figure.condition for figure in figures if figure.condition is not None]
    limit = next((condition.limit for condition in conditions if condition.limit is not None), None)
    figure = figure_of_ends(
        "task_mean",
        float(values.mean()),
        at,
        Outcomes({"value": values}, mean),
        DEFAULT,
        IntervalMethod.SCALED,
        f"squared half-widths added, {len(values)} of {of} data sets",
        n=sum(figure.n for figure in figures),
        bounds=(0.0, 1.0),
        details={
            "count": len(values),
            "of": of,
            "not_run": dict(lacking),
            "tasks": {
                str(figure.condition): {"metric": figure.metric, "value": figure.value}
                for figure in figures
            },
        },
        comparable=False,
    )
    return replace(figure, units=None).measured_on(
        Condition(pack, limit=limit, over=tuple(conditions))
    )


# --- Macro F1 --------------------------------------------------------------------------------------


@register_metric(
    "macro_f1",
    higher_is_better=True,
    meaning="mean over classes of the F1 score",
    gateable=False,
    why_not_gateable="of classes with few samples it is mostly bias, which its interval does not allow for; "
    "bound balanced_accuracy",
)
def macro_f1(
    predictions: ArrayLike, labels: ArrayLike, classes: int, *, bootstrap: Bootstrap = DEFAULT
) -> Figure:
    """Return the mean of the F1 scores of the classes that have samples, as WILDS has it for iWildCam.

    F1 of a class is twice the number of its right answers over that of its samples and of the answers that
    name it. A class that is answered and has no sample does not count itself.

    Args:
        predictions: (N,) class indices in [0, C).
        labels: (N,) class indices in [0, C).
        classes: C.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: different lengths, or classes outside [0, C).
    """
    truth = np.asarray(labels)
    truth = as_labels(truth, len(truth), classes)
    answers = as_labels(predictions, len(truth), classes, "predictions")
    outcomes = Outcomes({"answer": answers}, _macro_f1, attributes={"label": truth})
    return mean_figure(
        "macro_f1",
        _f1_values(outcomes),
        bootstrap,
        outcomes=outcomes,
        linear=_f1_values,
        value=outcomes.value(),
        supposed=(1.0, 0.0),
        bounds=(0.0, 1.0),
        details={"classes": len(np.unique(truth))},
    )


def _counts(weights: Floats, codes: Ints, known: Ints) -> Floats:
    """Return the weighted number (R, C) of samples with each of the codes ``known``; others are left out."""
    place = np.searchsorted(known, codes).clip(max=len(known) - 1)
    counts = np.zeros((len(weights), len(known)))
    inside = known[place] == codes
    for row, own in enumerate(weights):
        counts[row] = np.bincount(place[inside], weights=own[inside], minlength=len(known))
    return counts


def _macro_f1(weights: Floats, outcomes: Outcomes) -> Floats:
    answers, labels = (np.asarray(outcomes[name], np.int64) for name in ("answer", "label"))
    known = np.unique(labels)
    named, own = _counts(weights, answers, known), _counts(weights, labels, known)
    right = _counts(weights * (answers == labels), labels, known)
    scores = np.where(own > 0.0, ratio(2.0 * right, named + own), np.nan)
    return np.asarray(np.nanmean(scores, axis=1))


def _f1_values(outcomes: Outcomes) -> Floats:
    """Return values (N,) of which macro F1 is the mean, up to what is quadratic in its error."""
    answers, labels = (np.asarray(outcomes[name], np.int64) for name in ("answer", "label"))
    known = np.unique(labels)
    everyone = np.ones((1, len(labels)))
    named, own = _counts(everyone, answers, known)[0], _counts(everyone, labels, known)[0]
    right = _counts(everyone * (answers == labels), labels, known)[0]
    totals = (named + own) / len(labels)
    scores = 2.0 * right / (named + own)
    place = np.searchsorted(known, labels)
    answered = np.searchsorted(known, answers).clip(max=len(known) - 1)
    inside = known[answered] == answers
    step = (2.0 * (answers == labels) - scores[place]) / totals[place]
    step = step - np.where(inside, scores[answered] / totals[answered], 0.0)
    return np.asarray(scores.mean() + step / len(known))


# --- Recall at 1, both ways ------------------------------------------------------------------------


@register_metric(
    "mean_recall_at_1",
    higher_is_better=True,
    meaning="mean of recall at 1, image to text and text to image",
)
def mean_recall(
    image_features: ArrayLike,
    text_features: ArrayLike,
    image_of_text: ArrayLike,
    *,
    bootstrap: Bootstrap = DEFAULT,
) -> Figure:
    """Return the mean of image-to-text and text-to-image recall at 1; images are the samples.

    Args:
        image_features, text_features, image_of_text: as for
            :func:`~pytest_cliprobust.properties.retrieval.retrieval_ranks`.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: as for that.
    """
    image_rank, text_rank = retrieval_ranks(image_features, text_features, image_of_text)
    owner, count = np.asarray(image_of_text, dtype=np.int64), len(image_rank)
    outcomes = Outcomes(
        {
            "found": image_rank == 1,
            "hits": np.bincount(owner, weights=text_rank == 1, minlength=count),
        },
        _both_ways,
        attributes={"trials": np.bincount(owner, minlength=count)},
        coarse=True,
    )
    return mean_figure(
        "mean_recall_at_1",
        _both_ways_values(outcomes),
        bootstrap,
        outcomes=outcomes,
        linear=_both_ways_values,
        value=outcomes.value(),
        supposed=(1.0, 0.0),
        bounds=(0.0, 1.0),
        details={
            "image_to_text": float((image_rank == 1).mean()),
            "text_to_image": float((text_rank == 1).mean()),
        },
    )


def _both_ways(weights: Floats, outcomes: Outcomes) -> Floats:
    return np.asarray(0.5 * (means(weights, outcomes["found"]) + quotient(weights, outcomes)))


def _both_ways_values(outcomes: Outcomes) -> Floats:
    texts = ratio_values(outcomes["hits"].astype(np.float64), outcomes["trials"].astype(np.float64))
    return np.asarray(0.5 * (outcomes["found"].astype(np.float64) + texts))


# --- Jaccard index ---------------------------------------------------------------------------------


@register_metric(
    "jaccard_index",
    higher_is_better=True,
    meaning="mean over cues of the overlap of the pictures chosen and the right ones",
)
def jaccard_index(
    similarities: Sequence[ArrayLike],
    associated: Sequence[ArrayLike],
    *,
    bootstrap: Bootstrap = DEFAULT,
) -> Figure:
    """Return the mean Jaccard index of cues, in [0, 1] (WinoGAViL, Bitton et al. 2022).

    For each cue as many pictures are chosen as belong to it, those that are most similar; of equal ones the
    later, as the reference has it. The index is the number of right ones among them over that of all that
    are chosen or right.

    Args:
        similarities: per cue, (K,) of its candidates.
        associated: per cue, (K,) bool, which candidates belong to it; one at least.
        bootstrap: interval settings, of the cues.

    Raises:
        ClipRobustError: no cues, different numbers of candidates, or a cue to which nothing belongs.
    """
    if not len(similarities):
        raise ClipRobustError("no cues, so there is nothing to measure")
    same_samples("jaccard_index", similarities, associated)
    values = [_overlap(row, right) for row, right in zip(similarities, associated, strict=True)]
    return mean_figure(
        "jaccard_index",
        np.array(values),
        bootstrap,
        supposed=(1.0, 0.0),
        coarse=True,
        bounds=(0.0, 1.0),
    )


def _overlap(similarities: ArrayLike, associated: ArrayLike) -> float:
    row, right = as_vector(similarities, "similarities"), np.asarray(associated, dtype=np.bool_)
    same_samples("jaccard_index", row, right)
    count = int(right.sum())
    if not count:
        raise ClipRobustError("a cue has no picture that belongs to it")
    chosen: Bools = np.zeros(len(row), dtype=np.bool_)
    chosen[np.argsort(row, kind="stable")[-count:]] = True
    return float((chosen & right).sum() / (chosen | right).sum())


def _jaccard_of(samples: TaskSamples) -> Figure:
    """Return the index over the cues with :data:`LEAST_CANDIDATES` that are there as a whole."""
    cues: dict[str, list[int]] = {}
    for row, name in enumerate(samples.groups[INSTANCE]):
        cues.setdefault(name, []).append(row)
    sizes = samples.groups[CANDIDATES]
    cues = {
        name: rows
        for name, rows in cues.items()
        if len(rows) == int(sizes[rows[0]]) and len(rows) >= LEAST_CANDIDATES
    }
    if not cues:
        raise NotRun(
            f"{samples.condition} has no whole cue of {LEAST_CANDIDATES} candidates; raise --clip-limit"
        )
    images = unit_rows(samples.features, dataset=samples.condition.dataset, ids=samples.ids)
    prompts = [samples.captions[rows[0]][0] for rows in cues.values()]
    words = unit_rows(samples.text_features(prompts), dataset="cues")
    belongs = np.array([value == "1" for value in samples.groups[ASSOCIATED]])
    return jaccard_index(
        [images[rows] @ word for rows, word in zip(cues.values(), words, strict=True)],
        [belongs[rows] for rows in cues.values()],
        bootstrap=samples.bootstrap.of(_cue_keys(samples.bootstrap.keys, cues)),
    )


def _cue_keys(keys: SampleKeys | None, cues: Mapping[str, list[int]]) -> SampleKeys | None:
    """Return the keys of cues: each is known by the content of all its pictures."""
    if keys is None:
        return None
    digests: tuple[str, ...] = ()
    if keys.digests:
        digests = tuple(
            "".join(sorted(keys.digests[row] for row in rows)) for rows in cues.values()
        )
    return SampleKeys(tuple(cues), tuple(cues), digests, "cue")


# --- By name ---------------------------------------------------------------------------------------


def _worst_group(samples: TaskSamples) -> Figure:
    groups = samples.groups[samples.task.column]
    return accuracy.worst_group_accuracy(samples.correct, groups, bootstrap=samples.bootstrap)


def _worst_group_of_five(samples: TaskSamples) -> Figure:
    groups = samples.groups[samples.task.column]
    right = accuracy.correct_top_k(samples.logits, samples.labels, min(5, len(samples.class_names)))
    return accuracy.worst_group_accuracy(
        right, groups, "worst_group_top5_accuracy", bootstrap=samples.bootstrap
    )


def _balanced(samples: TaskSamples) -> Figure:
    return accuracy.balanced_accuracy(samples.logits, samples.labels, bootstrap=samples.bootstrap)


def _macro_f1_of(samples: TaskSamples) -> Figure:
    answers = samples.logits.argmax(axis=1)
    return macro_f1(answers, samples.labels, len(samples.class_names), bootstrap=samples.bootstrap)


def _recall_of(samples: TaskSamples) -> Figure:
    return mean_recall(*captions_of(samples), bootstrap=samples.bootstrap)


_MEASURES: Mapping[str, Callable[[TaskSamples], Figure]] = {
    "accuracy": accuracy.accuracy_of,
    "balanced_accuracy": _balanced,
    "worst_group_accuracy": _worst_group,
    "worst_group_top5_accuracy": _worst_group_of_five,
    "macro_f1": _macro_f1_of,
    "mean_recall_at_1": _recall_of,
    "jaccard_index": _jaccard_of,
}

register_recipe("macro f1", ["answer"], _macro_f1, compare_means(_f1_values), ["label"])
register_recipe(
    "recall both ways",
    ["found", "hits"],
    _both_ways,
    compare_means(_both_ways_values),
    ["trials"],
)

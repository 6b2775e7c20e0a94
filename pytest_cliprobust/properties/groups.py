"""Subgroups: does a model serve some of them worse than others?

For a column of the data (drawing style, super-category, skin tone …): the group that fares worst (Sagawa et
al. 2020), the gap between the best and the worst, and a test of whether all have the same error rate.

For accuracy and calibration; for shape bias and retrieval, whose figures are shares as well; and for OOD
detection, where the groups are of ID pictures, each against all OOD ones.

A worst group of three pictures, all wrong, is published as 0.0000. Here every group has its n and its
interval, and a group of fewer than :data:`MINIMUM` units is no candidate for the worst or the best: it is
named beside the figure, with an interval that says how little is known of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from pytest_cliprobust.errors import NotRun
from pytest_cliprobust.figures.arrays import (
    Bools,
    Floats,
    Ints,
    as_correct,
    as_vector,
    distinct_groups,
)
from pytest_cliprobust.figures.auroc import auroc
from pytest_cliprobust.figures.bootstrap import (
    DEFAULT,
    Bootstrap,
    ends_of_share,
    figure_of_ends,
    proportion_figure,
)
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.ends import Compared, Ends, EndsAt
from pytest_cliprobust.figures.extremes import compare_extremes, extreme_ends
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.means import codes_of, compare_means, quotient_values
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.outcomes import (
    Compare,
    Outcomes,
    Statistic,
    mean,
    quotient,
    ratio,
    sums,
)
from pytest_cliprobust.figures.samples import Captioned, Samples
from pytest_cliprobust.figures.taken import takes_samples
from pytest_cliprobust.properties.accuracy import worst_group_accuracy
from pytest_cliprobust.properties.calibration import calibration_figures
from pytest_cliprobust.properties.error_rates import PERMUTATIONS, equal_error_rates
from pytest_cliprobust.properties.ood import (
    OOD_SCORES,
    ScoreOf,
    bootstrap_of_both,
    condition_of,
    fpr95_figure,
    scores_of,
)
from pytest_cliprobust.properties.retrieval import caption_keys, captions_of, retrieval_ranks
from pytest_cliprobust.properties.shape_bias import cue_decisions

#: Units (drawings, people; samples where the data knows none) that a group needs to be the worst or the best.
MINIMUM = 20

#: The same of cue conflicts, which combine a few drawings of each class; sixteen classes, as a rule
#: (Geirhos et al. 2019).
CUE_MINIMUM = 16

#: The number of the group of samples that every group is compared with (OOD ones).
EVERY = -1


#: A column with more values than this names samples rather than subgroups.
MOST_VALUES = 50


class Divided(Protocol):
    """Samples with columns that name subgroups."""

    @property
    def condition(self) -> Condition:
        """What was measured on what."""
        ...

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Columns (N,) by name."""
        ...

    @property
    def subgroups(self) -> tuple[str, ...]:
        """The names of those that may be compared."""
        ...


def over_columns(view: Divided, measure: Callable[[str], list[Figure]]) -> Iterator[list[Figure]]:
    """Yield the figures of each column that names subgroups, of which two to fifty are compared.

    Args:
        view: the samples.
        measure: :func:`accuracy_over` or the like, of these samples: from a column to figures.

    Raises:
        NotRun: after the figures of the others, that a column has too few samples; or no column names
            subgroups, as in most published data.
    """
    columns = [c for c in view.subgroups if 2 <= len(set(view.groups[c])) <= MOST_VALUES]
    if not columns:
        raise NotRun(
            f"{view.condition.dataset} has no column of two to {MOST_VALUES} subgroups to compare; a "
            "manifest can have some"
        )
    lacking: NotRun | None = None
    for column in columns:
        try:
            yield measure(column)
        except NotRun as error:
            lacking = lacking or error
    if lacking is not None:
        raise lacking


@takes_samples
def accuracy_over(samples: Samples, column: str, *, minimum: int = MINIMUM) -> list[Figure]:
    """Return ``worst_group_accuracy`` and ``group_accuracy_gap`` over the groups of a column.

    They are filed as the part of the data set that the column names (``clean:style``).

    Raises:
        NotRun: fewer than two groups have ``minimum`` units, or the data lacks the column.
    """
    figures = accuracy_figures(
        samples.correct, _column(samples, column), minimum=minimum, bootstrap=samples.bootstrap
    )
    condition = samples.condition.part(column)
    return [figure.measured_on(condition) for figure in figures.values()]


@takes_samples
def calibration_over(samples: Samples, column: str, *, minimum: int = MINIMUM) -> list[Figure]:
    """Return ``worst_group_ece`` and ``group_confidence_gap`` over the groups of a column.

    Raises:
        NotRun: as for :func:`accuracy_over`.
    """
    figures = calibration_by_group(
        samples.logits,
        samples.labels,
        _column(samples, column),
        minimum=minimum,
        bootstrap=samples.bootstrap,
    )
    condition = samples.condition.part(column)
    return [figure.measured_on(condition) for figure in figures.values()]


@takes_samples
def shape_bias_over(samples: Samples, column: str, *, minimum: int = CUE_MINIMUM) -> list[Figure]:
    """Return ``worst_group_shape_bias`` (the least) and ``group_shape_bias_gap`` of cue conflicts.

    Raises:
        NotRun: as for :func:`accuracy_over`, or every image of a group was decided for neither cue.
        ClipRobustError: the samples hold no cue conflicts.
    """
    decided, groups = cue_decisions(samples), _column(samples, column)
    rows = np.flatnonzero(decided.conflict)
    figures = shape_bias_by_group(
        decided.shape[rows],
        decided.either[rows],
        [groups[row] for row in rows],
        minimum=minimum,
        bootstrap=samples.bootstrap.subset(rows),
    )
    condition = samples.condition.part(column)
    return [figure.measured_on(condition) for figure in figures.values()]


@register_metric(
    "worst_group_image_to_text_recall_at_1",
    higher_is_better=True,
    meaning="recall at 1, image to text, of the group with the lowest one",
)
@register_metric(
    "group_image_to_text_recall_at_1_gap",
    higher_is_better=False,
    meaning="recall at 1, image to text, of the best group minus that of the worst",
)
@register_metric(
    "worst_group_text_to_image_recall_at_1",
    higher_is_better=True,
    meaning="recall at 1, text to image, of the group with the lowest one",
)
@register_metric(
    "group_text_to_image_recall_at_1_gap",
    higher_is_better=False,
    meaning="recall at 1, text to image, of the best group minus that of the worst",
)
@takes_samples
def retrieval_over(samples: Captioned, column: str, *, minimum: int = MINIMUM) -> list[Figure]:
    """Return worst group and gap of recall at 1 both ways, over groups of pictures.

    ``worst_group_image_to_text_recall_at_1``, ``group_image_to_text_recall_at_1_gap``, and the same of
    ``text_to_image``, where a caption belongs to its picture's group. All pictures and captions compete.

    Raises:
        NotRun: as for :func:`accuracy_over`, or the data has no captions.
    """
    groups = _column(samples, column)
    features, texts, owner = captions_of(samples)
    of_image, of_text = retrieval_ranks(features, texts, owner)
    bootstrap = samples.bootstrap
    captions = bootstrap.of(caption_keys(bootstrap.keys, owner))
    figures = {
        **_share_figures(
            "image_to_text_recall_at_1", of_image == 1, groups, minimum=minimum, bootstrap=bootstrap
        ),
        **_share_figures(
            "text_to_image_recall_at_1",
            of_text == 1,
            [groups[row] for row in owner],
            minimum=minimum,
            bootstrap=captions,
        ),
    }
    condition = samples.condition.part(column)
    return [figure.measured_on(condition) for figure in figures.values()]


@takes_samples
def detection_over(
    inside: Samples,
    outside: Samples,
    column: str,
    scores: Sequence[str] | Mapping[str, ScoreOf] = ("mcm",),
    *,
    minimum: int = MINIMUM,
) -> list[Figure]:
    """Return worst group and gap of AUROC and FPR95: see :func:`detection_by_group`.

    They are filed as a part of ``outside`` that says whose groups they are of (``near_ood:clean:style``).

    Args:
        inside: in-distribution samples, whose groups are compared.
        outside: out-of-distribution samples, all of which each group is told from.
        column: of ``inside``.
        scores: as for :func:`~pytest_cliprobust.properties.ood.detection`.
        minimum: units that a group needs to be compared.

    Raises:
        NotRun: as for :func:`accuracy_over`.
        ClipRobustError: an unknown score.
    """
    groups = _column(inside, column)
    bootstrap = bootstrap_of_both(inside.bootstrap, outside.bootstrap)
    condition = condition_of(inside, outside).part(f"{inside.condition.dataset}:{column}")
    figures: list[Figure] = []
    for name, score in scores_of(scores).items():
        found = detection_by_group(
            score(inside), score(outside), groups, name, minimum=minimum, bootstrap=bootstrap
        )
        figures += [figure.measured_on(condition) for figure in found.values()]
    return figures


def _column(samples: Samples, column: str) -> tuple[str, ...]:
    if column not in samples.groups:
        known = ", ".join(samples.groups) or "none"
        raise NotRun(f"{samples.condition} has no column {column!r} of groups; it has {known}")
    return samples.groups[column]


@dataclass(frozen=True)
class _Split:
    """The groups of a column.

    Attributes:
        large: rows by group, of those with enough units.
        small: those with fewer.
        rows: (M,) the rows of all large groups, in order.
        settings: for those rows.
        note: names the small groups, for the figures' ``method``; empty without any.
    """

    large: Mapping[str, Ints]
    small: Mapping[str, Ints]
    rows: Ints
    settings: Bootstrap

    def within(self, index: Ints) -> Ints:
        """Return where the rows of a large group stand among those of all large ones."""
        return np.searchsorted(self.rows, index).astype(np.int64)


def _split(groups: Sequence[str], count: int, minimum: int, bootstrap: Bootstrap) -> _Split:
    rows = distinct_groups(groups, count, "groups")
    sizes = {name: bootstrap.subset(index).units(len(index)) for name, index in rows.items()}
    large = {name: index for name, index in rows.items() if sizes[name] >= minimum}
    if len(large) < 2:
        kind = "sample" if bootstrap.keys is None else bootstrap.keys.kind
        raise NotRun(
            f"subgroups need two groups of at least {minimum} {kind}s to be compared, and "
            f"{len(large)} of {len(rows)} have as many"
        )
    every = np.sort(np.concatenate(list(large.values())))
    return _Split(
        large,
        {name: index for name, index in rows.items() if name not in large},
        every,
        bootstrap.subset(every),
    )


@register_metric(
    "group_accuracy_gap",
    higher_is_better=False,
    meaning="accuracy of the best group minus that of the worst",
)
def accuracy_figures(
    correct: ArrayLike,
    groups: Sequence[str],
    *,
    minimum: int = MINIMUM,
    permutations: int = PERMUTATIONS,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Figure]:
    """Return ``worst_group_accuracy`` and ``group_accuracy_gap``, best minus worst, in [0, 1].

    Noise alone sets groups apart: the worst measures too low, and the gap too large. The intervals are
    simultaneous over the groups, and hold the true worst and the true gap, whichever groups those are of.

    The details hold, by group, accuracy, interval, n and units; ``small`` those of the groups left out; and
    the gap's ``equal`` a test of whether all groups have one error rate (:func:`equal_error_rates`).

    Args:
        correct: (N,) bool.
        groups: (N,) group of each sample.
        minimum: units that a group needs to be compared.
        permutations: of the test of equal error rates, at most.
        bootstrap: interval settings.

    Raises:
        NotRun: fewer than two groups have as many units.
    """
    right = as_correct(correct, "answers")
    return _share_figures(
        "accuracy",
        right,
        groups,
        minimum=minimum,
        permutations=permutations,
        bootstrap=bootstrap,
    )


def _share_figures(
    word: str,
    hits: Bools,
    groups: Sequence[str],
    *,
    minimum: int,
    permutations: int = PERMUTATIONS,
    bootstrap: Bootstrap,
) -> dict[str, Figure]:
    """Return ``worst_group_<word>`` and ``group_<word>_gap`` of a share of which more is better."""
    split = _split(groups, len(hits), minimum, bootstrap)
    parts = {
        name: proportion_figure(word, hits[index], bootstrap.subset(index))
        for name, index in {**split.large, **split.small}.items()
    }
    values = {name: parts[name].value for name in split.large}
    details = _details(parts, split, word)
    note = _note(parts, split, minimum)
    names = [groups[row] for row in split.rows]
    worst = worst_group_accuracy(hits[split.rows], names, bootstrap=split.settings)
    gap = _gap_figure(
        f"group_{word}_gap",
        values,
        [ends_of_share(parts[name]) for name in split.large],
        Outcomes(
            {"value": hits[split.rows]},
            _gap,
            attributes={"group": _codes(split)},
            compare=_compare_gap,
        ),
        split,
        f"Wilson, simultaneous over {len(values)} groups",
        bounds=(0.0, 1.0),
        effect=max(parts[name].design_effect for name in split.large),
    )
    test = equal_error_rates(
        hits[split.rows], names, permutations=permutations, bootstrap=split.settings
    )
    figures = [
        replace(
            worst,
            metric=f"worst_group_{word}",
            details={**worst.details, **details},
            method=worst.method + note,
        ),
        replace(
            gap,
            details={**gap.details, **details, "equal": test},
            method=f"{gap.method}; equal error rates: p = {test['p_value']:.2g}{note}",
        ),
    ]
    return {figure.metric: figure for figure in figures}


@register_metric(
    "worst_group_ece",
    higher_is_better=False,
    meaning="calibration error of the group with the largest one",
    change_gateable=False,
    why_not_gateable="of small groups it is mostly bias, which no change can be told from; bound the change "
    "of group_confidence_gap",
)
@register_metric(
    "group_confidence_gap",
    higher_is_better=False,
    meaning="largest minus least over-confidence of a group",
    high=2.0,
)
def calibration_by_group(
    logits: ArrayLike,
    labels: ArrayLike,
    groups: Sequence[str],
    *,
    minimum: int = MINIMUM,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Figure]:
    """Return ``worst_group_ece`` and ``group_confidence_gap``.

    ``worst_group_ece``
        the largest ECE of a group. ECE of few samples is biased upwards; the interval allows for that;
    ``group_confidence_gap``
        over-confidence (mean confidence minus accuracy) of the group with the largest minus that of the
        one with the least, in [0, 2]: confidence that means one thing for some and another for others.

    Args:
        logits: (N, C) at the model's own logit scale.
        labels: (N,) class indices.
        groups: (N,) group of each sample.
        minimum: units that a group needs to be compared.
        bootstrap: interval settings.

    Raises:
        NotRun: fewer than two groups have as many units.
    """
    scores, truth = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    split = _split(groups, len(truth), minimum, bootstrap)
    found = {
        name: calibration_figures(scores[index], truth[index], bootstrap=bootstrap.subset(index))
        for name, index in {**split.large, **split.small}.items()
    }
    ece = {name: figures["ece"] for name, figures in found.items()}
    over = {name: figures["signed_gap"] for name, figures in found.items()}
    values = np.zeros(len(truth))
    for name, index in split.large.items():
        outcomes = over[name].outcomes
        assert outcomes is not None
        values[index] = next(iter(outcomes.columns.values()))
    largest = {name: ece[name].value for name in split.large}
    worst = max(largest, key=lambda name: largest[name])
    figures = [
        figure_of_ends(
            "worst_group_ece",
            largest[worst],
            extreme_ends([_at(ece[name]) for name in split.large], largest=True),
            Outcomes({"value": values[split.rows]}, mean),
            split.settings,
            IntervalMethod.SIMULTANEOUS,
            f"t, with the bins' bias, simultaneous over {len(largest)} groups",
            bounds=(0.0, 1.0),
            details={"worst": worst, **_details(ece, split, "ece")},
            effect=ece[worst].design_effect,
            comparable=False,
        ),
        _gap_figure(
            "group_confidence_gap",
            {name: over[name].value for name in split.large},
            [_at(over[name]) for name in split.large],
            Outcomes(
                {"value": values[split.rows]},
                _gap,
                attributes={"group": _codes(split)},
                compare=_compare_gap,
            ),
            split,
            f"t, skewness corrected, simultaneous over {len(largest)} groups",
            bounds=(0.0, 2.0),
            effect=max(over[name].design_effect for name in split.large),
            details=_details(over, split, "signed_gap"),
        ),
    ]
    notes = [_note(parts, split, minimum) for parts in (ece, over)]
    return {
        figure.metric: replace(figure, method=figure.method + note)
        for figure, note in zip(figures, notes, strict=True)
    }


@register_metric(
    "worst_group_shape_bias",
    higher_is_better=True,
    meaning="shape bias of the group with the least",
)
@register_metric(
    "group_shape_bias_gap",
    higher_is_better=False,
    meaning="largest minus least shape bias of a group",
)
def shape_bias_by_group(
    shape: Bools,
    either: Bools,
    groups: Sequence[str],
    *,
    minimum: int = CUE_MINIMUM,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Figure]:
    """Return ``worst_group_shape_bias``, the least, and ``group_shape_bias_gap``, largest minus least.

    Which images are decided for a cue depends on the model: runs are compared over all of them.

    Args:
        shape: (N,) whether an image with a conflict was decided for its shape.
        either: (N,) whether it was decided for one of the two cues.
        groups: (N,) group of each image.
        minimum: units that a group needs to be compared; they are few here, as a set of cue conflicts
            combines a few drawings of each of its classes.
        bootstrap: interval settings.

    Raises:
        NotRun: fewer than two groups have as many units, or every image of one was decided for neither cue.
    """
    split = _split(groups, len(either), minimum, bootstrap)
    parts = {}
    for name, index in {**split.large, **split.small}.items():
        rows = index[either[index]]
        if not len(rows) and name in split.large:
            raise NotRun(f"no image of group {name!r} was decided for its shape or its texture")
        parts[name] = proportion_figure("shape_bias", shape[rows], bootstrap.subset(rows))
    ends = {name: ends_of_share(parts[name]) for name in split.large}
    return _extremes(
        ("worst_group_shape_bias", "group_shape_bias_gap"),
        parts,
        ends,
        Outcomes(
            {"hits": shape[split.rows], "trials": either[split.rows]},
            quotient,
            attributes={"group": _codes(split)},
            compare=compare_means(quotient_values),
        ),
        split,
        "shape_bias",
        f"Wilson, simultaneous over {len(ends)} groups{_note(parts, split, minimum)}",
        split.settings,
    )


@register_metric(
    "worst_group_auroc_{}",
    higher_is_better=True,
    meaning="AUROC of the ID group that is worst told from OOD, by {}",
    chance=0.5,
    each=OOD_SCORES,
)
@register_metric(
    "group_auroc_gap_{}",
    higher_is_better=False,
    meaning="largest minus least AUROC of an ID group, by {}",
    each=OOD_SCORES,
)
@register_metric(
    "worst_group_fpr95_{}",
    higher_is_better=False,
    meaning="FPR95 of the ID group with the largest one, by {}",
    each=OOD_SCORES,
)
@register_metric(
    "group_fpr95_gap_{}",
    higher_is_better=False,
    meaning="largest minus least FPR95 of an ID group, by {}",
    each=OOD_SCORES,
)
def detection_by_group(
    id_scores: ArrayLike,
    ood_scores: ArrayLike,
    groups: Sequence[str],
    score: str,
    *,
    minimum: int = MINIMUM,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Figure]:
    """Return worst group and gap of AUROC and of FPR95, each group of ID samples against all OOD ones.

    ``worst_group_auroc_<score>`` is the least AUROC, ``worst_group_fpr95_<score>`` the largest share of OOD
    accepted where at least 95% of the group's own samples are; ``group_auroc_gap_<score>`` and
    ``group_fpr95_gap_<score>`` largest minus least. Positive is ID, as everywhere.

    Args:
        id_scores, ood_scores: (N,), (M,), higher = more in-distribution.
        groups: (N,) group of each ID sample.
        score: name of the score, part of the metric names.
        minimum: units that a group needs to be compared.
        bootstrap: interval settings, its keys those of the N ID and then of the M OOD samples.

    Raises:
        NotRun: fewer than two groups have as many units.
        ClipRobustError: NaN scores.
    """
    inside = as_vector(id_scores, f"{score}: ID scores")
    outside = as_vector(ood_scores, f"{score}: OOD scores")
    beyond = len(inside) + np.arange(len(outside), dtype=np.int64)
    own = bootstrap.subset(np.arange(len(inside), dtype=np.int64))
    split = _split(groups, len(inside), minimum, own)
    rows = np.concatenate([split.rows, beyond])
    codes = np.concatenate([_codes(split), np.full(len(outside), EVERY)])
    is_id = codes != EVERY
    figures: dict[str, Figure] = {}
    for word, make in (("auroc", auroc), ("fpr95", fpr95_figure)):
        parts = {
            name: make(
                f"{word}_{score}",
                inside[index],
                outside,
                bootstrap=bootstrap.subset(np.concatenate([index, beyond])),
            )
            for name, index in split.large.items()
        }
        first = next(iter(parts.values())).outcomes
        assert first is not None
        figures |= _extremes(
            (f"worst_group_{word}_{score}", f"group_{word}_gap_{score}"),
            parts,
            {name: _at(figure) for name, figure in parts.items()},
            Outcomes(
                {"score": np.concatenate([inside, outside])[rows]},
                first.statistic,
                attributes={
                    "inside": is_id if word == "auroc" else is_id.astype(np.int64),
                    "stratum": is_id.astype(np.int64),
                    "group": codes,
                },
                compare=first.compare,
            ),
            replace(split, small={}),
            word,
            f"simultaneous over {len(parts)} groups{_left_out(split, minimum)}",
            bootstrap.subset(rows),
            higher_is_better=word == "auroc",
        )
    return figures


def _left_out(split: _Split, minimum: int) -> str:
    """Return a clause that names the small groups, of which nothing was computed; empty without any."""
    if not split.small:
        return ""
    keys = split.settings.keys
    kind = "sample" if keys is None else keys.kind
    told = ", ".join(f"{name}, n = {len(index)}" for name, index in split.small.items())
    return f"; left out, of fewer than {minimum} {kind}s: {told}"


def _extremes(
    metrics: tuple[str, str],
    parts: Mapping[str, Figure],
    ends: Mapping[str, EndsAt],
    outcomes: Outcomes,
    split: _Split,
    word: str,
    method: str,
    settings: Bootstrap,
    *,
    higher_is_better: bool = True,
) -> dict[str, Figure]:
    """Return the worst group's figure, and the largest minus the least one.

    Args:
        metrics: their names.
        parts: the figure of each group, the small ones' too.
        ends: of the large ones.
        outcomes: of all large groups' samples, with the statistic and comparison of one group's, and the
            attribute ``group``: numbers, or :data:`EVERY` where a sample belongs to each.
        split: the groups.
        word: what a group's figure is called in the details.
        method: how the intervals were made, in words.
        settings: of the outcomes' samples.
        higher_is_better: whether the worst is the least.
    """
    values = {name: parts[name].value for name in split.large}
    worst = (min if higher_is_better else max)(values, key=lambda name: values[name])
    effect = max(parts[name].design_effect for name in split.large)
    one, compare = outcomes.statistic, outcomes.compare
    assert compare is not None
    details = _details(parts, split, word)
    figures = [
        figure_of_ends(
            metrics[0],
            values[worst],
            extreme_ends(list(ends.values()), largest=not higher_is_better),
            replace(
                outcomes,
                statistic=partial(_extreme, one=one, largest=not higher_is_better),
                compare=partial(_compare_all, one=one, compare=compare, gap=False),
            ),
            settings,
            IntervalMethod.SIMULTANEOUS,
            method,
            bounds=(0.0, 1.0),
            details={"worst": worst, **details},
            effect=effect,
        ),
        _gap_figure(
            metrics[1],
            values,
            list(ends.values()),
            replace(
                outcomes,
                statistic=partial(_largest_minus_least, one=one),
                compare=partial(_compare_all, one=one, compare=compare, gap=True),
            ),
            split,
            method,
            bounds=(0.0, 1.0),
            effect=effect,
            details=details,
            settings=settings,
            higher_is_better=higher_is_better,
        ),
    ]
    return {figure.metric: figure for figure in figures}


def _group_rows(outcomes: Outcomes) -> list[Ints]:
    """Return the rows of each group, those that belong to every group among them."""
    group = outcomes["group"]
    shared = group == EVERY
    return [np.flatnonzero(shared | (group == number)) for number in np.unique(group[~shared])]


def _by_group(weights: Floats, outcomes: Outcomes, one: Statistic) -> Floats:
    """Return a statistic of each group (R, G)."""
    each = [one(weights[:, rows], outcomes.take(rows)) for rows in _group_rows(outcomes)]
    return np.stack(each, axis=1)


def _extreme(weights: Floats, outcomes: Outcomes, *, one: Statistic, largest: bool) -> Floats:
    found = _by_group(weights, outcomes, one)
    return np.asarray(found.max(axis=1) if largest else found.min(axis=1))


def _largest_minus_least(weights: Floats, outcomes: Outcomes, *, one: Statistic) -> Floats:
    found = _by_group(weights, outcomes, one)
    return np.asarray(found.max(axis=1) - found.min(axis=1))


def _compare_all(
    before: Outcomes, after: Outcomes, *, one: Statistic, compare: Compare, gap: bool
) -> Compared:
    """Return the change of the least or largest of several, or with ``gap`` of the largest minus the least.

    An extreme changes by something between the least and the largest change of a group; of the gap each side
    does.
    """
    sides = [replace(side, statistic=one) for side in (before, after)]
    changes = [compare(sides[0].take(rows), sides[1].take(rows)) for rows in _group_rows(after)]
    difference = after.value() - before.value()

    def at(tails: Floats) -> tuple[Floats, Floats]:
        low, high = _hull(changes, tails)
        if gap:
            low, high = low - high, high - low
        return np.minimum(low, difference), np.maximum(high, difference)

    error = max(change.standard_error for change in changes)
    effect = max(change.design_effect for change in changes)
    return Compared(difference, Ends.of(at), error, effect)


def _hull(changes: Sequence[Compared], tails: Floats) -> tuple[Floats, Floats]:
    """Return the ends that hold all of several changes at once."""
    lows, highs = zip(*(_read(part.ends, tails / len(changes)) for part in changes), strict=True)
    return np.asarray(np.min(lows, axis=0)), np.asarray(np.max(highs, axis=0))


# --- The gap -----------------------------------------------------------------------------------------


def _gap_figure(
    metric: str,
    values: Mapping[str, float],
    parts: Sequence[EndsAt],
    outcomes: Outcomes,
    split: _Split,
    method: str,
    *,
    bounds: tuple[float, float],
    effect: float,
    details: Mapping[str, Any] | None = None,
    settings: Bootstrap | None = None,
    higher_is_better: bool = True,
) -> Figure:
    """Return the largest minus the least of several, with an interval simultaneous over them.

    ``settings``: of the outcomes' samples, where they are more than the groups'.
    """
    most, least = extreme_ends(parts, largest=True), extreme_ends(parts)
    highest, lowest = (choose(values, key=lambda name: values[name]) for choose in (max, min))
    best, worst = (highest, lowest) if higher_is_better else (lowest, highest)
    return figure_of_ends(
        metric,
        values[highest] - values[lowest],
        lambda tails: _apart(most(tails), least(tails)),
        outcomes,
        split.settings if settings is None else settings,
        IntervalMethod.SIMULTANEOUS,
        method,
        bounds=bounds,
        details={"best": best, "worst": worst, **(details or {})},
        effect=effect,
    )


def _gap(weights: Floats, outcomes: Outcomes) -> Floats:
    """Return the largest minus the least mean of a group (R,)."""
    members = (outcomes["group"][:, None] == np.unique(outcomes["group"])).astype(np.float64)
    shares = ratio(sums(weights, members * outcomes["value"][:, None]), sums(weights, members))
    return np.asarray(np.nanmax(shares, axis=1) - np.nanmin(shares, axis=1))


def _compare_gap(before: Outcomes, after: Outcomes) -> Compared:
    """Return the change of the gap: that of the largest minus that of the least, both at half the chance."""
    groups, codes = after["group"], codes_of(after.keys)
    rows = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    then, now = (
        [side["value"][index].astype(np.float64) for index in rows] for side in (before, after)
    )
    units = [None if codes is None else codes[index] for index in rows]
    most = compare_extremes(then, now, units, largest=True)
    least = compare_extremes(then, now, units)

    def at(tails: Floats) -> tuple[Floats, Floats]:
        return _apart(_read(most.ends, tails / 2.0), _read(least.ends, tails / 2.0))

    return Compared(
        most.difference - least.difference,
        Ends.of(at),
        float(np.hypot(most.standard_error, least.standard_error)),
        max(most.design_effect, least.design_effect),
    )


def _apart(most: tuple[Floats, Floats], least: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Return the ends of a difference of two from those of each."""
    return most[0] - least[1], most[1] - least[0]


def _read(ends: Ends, tails: Floats) -> tuple[Floats, Floats]:
    """Return the ends of a curve that leave out ``tails`` (L,) on either side."""
    found = [ends.at(1.0 - 2.0 * float(tail)) for tail in tails]
    return np.array([end.low for end in found]), np.array([end.high for end in found])


def _at(figure: Figure) -> EndsAt:
    """Return the ends of a figure that keeps them at every level."""
    assert figure.ends is not None
    return partial(_read, figure.ends)


def _codes(split: _Split) -> Ints:
    """Return the number of the group of each row of the large ones (M,)."""
    codes = np.zeros(len(split.rows), dtype=np.int64)
    for number, index in enumerate(split.large.values()):
        codes[split.within(index)] = number
    return codes


# --- What is said of each group ----------------------------------------------------------------------


def _details(parts: Mapping[str, Figure], split: _Split, word: str) -> dict[str, Any]:
    """Return value, interval, n and units of every group, the small ones apart."""

    def of(names: Mapping[str, Ints]) -> dict[str, Any]:
        return {
            name: {
                word: parts[name].value,
                "low": parts[name].low,
                "high": parts[name].high,
                "n": parts[name].n,
                "units": parts[name].units,
            }
            for name in names
        }

    return {"groups": of(split.large), "small": of(split.small)}


def _note(parts: Mapping[str, Figure], split: _Split, minimum: int) -> str:
    """Return a clause that names the small groups; empty without any."""
    if not split.small:
        return ""
    keys = split.settings.keys
    kind = "sample" if keys is None else keys.kind
    told = ", ".join(
        f"{name} {parts[name].interval_text()}, n = {parts[name].n}" for name in split.small
    )
    return f"; left out, of fewer than {minimum} {kind}s: {told}"

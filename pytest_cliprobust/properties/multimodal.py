"""Hard choices: does a multimodal model settle what its CLIP confuses? (Tu et al. 2025)

For each class there is a wrong class that the CLIP takes it for most often. A large multimodal model
(LMM) is shown the pictures of that class and asked which of the two it sees, once with the true option
first and once with it second: a model that always takes the first option is right half of the time, not
always. It answers twice, by the likelihood of each option and in its own words. Words that name both
options, or neither, are no answer; they are counted, and wrong.

The CLIP itself makes the same choice by its scores of the two classes. Its pairs are those that it gets
wrong, on the very samples that are asked: its accuracy on them is low by selection, and a gain over it
holds some regression to the mean. So both are reported, and not gated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.arrays import Bools, Floats, Ints, as_labels, as_matrix
from pytest_cliprobust.figures.bootstrap import (
    DEFAULT,
    Bootstrap,
    mean_figure,
    paired_drop_figure,
    proportion_figure,
)
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.samples import Samples
from pytest_cliprobust.figures.taken import takes_samples

QUESTION = "Which of these is in the picture: {first} or {second}? Answer with one of the two."
"""The forced choice, with the options as they would stand in a sentence."""

ORDERS = ("true option first", "true option second")

#: What answers tell about their model where it has another image encoder than the CLIP: whose.
SEES_THROUGH = "sees_through"

_SELECTED = (
    "the pairs are those that this CLIP gets wrong on the same samples, so the interval is not one of "
    "other samples; bound lmm_accuracy"
)


class Answer(IntEnum):
    """What an answer in words names."""

    NEITHER = 0
    TRUE = 1
    OTHER = 2
    BOTH = 3


@dataclass(frozen=True)
class HardChoices:
    """Forced choices between the true class and the one that a CLIP takes it for most often.

    Attributes:
        rows: (M,) which samples are asked about, in their order.
        true: (M,) their class.
        other: (M,) the class that the CLIP takes that one for most often.
        unconfused: classes with samples that are taken for no other.
        tied: classes that are taken for several others equally often.
        single: whether the pairs come of one sample of each class, the very one that is asked about: the CLIP
            then has all of them wrong, by selection.
    """

    rows: Ints
    true: Ints
    other: Ints
    unconfused: tuple[int, ...] = ()
    tied: tuple[int, ...] = ()
    single: bool = False

    def __len__(self) -> int:
        """Return the number of choices."""
        return len(self.rows)


@dataclass(frozen=True)
class ChoiceAnswers:
    """What a multimodal model answered to M choices, each asked in both :data:`ORDERS`.

    Attributes:
        likelihoods: (M, 2, 2) log-likelihood by order, of the true and of the other option.
        words: (M, 2) what it said, as :class:`Answer` codes, by order.
        said: (M, 2) what it said, in its own words.
        about: which model it is, with its vision tower, for reports.
    """

    likelihoods: Floats
    words: Ints
    said: tuple[tuple[str, str], ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def scores(self) -> Floats:
        """(M, 2) 1 where the true option is the likelier one, 0.5 where both are alike, else 0."""
        apart = self.likelihoods[..., 0] - self.likelihoods[..., 1]
        return np.asarray((np.sign(apart) + 1.0) / 2.0)


def confused_classes(
    scores: ArrayLike, labels: ArrayLike, texts: Sequence[str] = ()
) -> tuple[Ints, tuple[int, ...]]:
    """Return by class (C,) the wrong class that it is taken for most often, and which classes were tied.

    Only wrong answers count: a class without any has -1. Of several classes that are answered equally
    often, the one with the higher mean score over the class's samples is taken, then the first.

    Args:
        scores: (N, C) logits or cosines.
        labels: (N,) class indices.
        texts: (C,) what the classes are called; answers that are called as the true class (ImageNet's
            two cranes) cannot be asked about and do not count.

    Raises:
        ClipRobustError: labels outside [0, C), broken scores, or another number of texts.
    """
    matrix = as_matrix(scores, "scores")
    count, classes = matrix.shape
    truth = as_labels(labels, count, classes)
    if texts and len(texts) != classes:
        raise ClipRobustError(f"{len(texts)} class texts for {classes} classes")
    called = np.unique(np.array(texts or range(classes)), return_inverse=True)[1]
    answers = matrix.argmax(axis=1)
    wrong = called[answers] != called[truth]
    found, tied = np.full(classes, -1, dtype=np.int64), []
    for label in np.unique(truth[wrong]).tolist():
        times = np.bincount(answers[wrong & (truth == label)], minlength=classes)
        most = np.flatnonzero(times == times.max())
        if len(most) > 1:
            tied.append(label)
        found[label] = most[matrix[truth == label][:, most].mean(axis=0).argmax()]
    return found, tuple(tied)


@takes_samples
def hard_choices(
    samples: Samples, texts: Sequence[str] = (), *, chosen_on: Samples | None = None
) -> HardChoices:
    """Return the choice that each sample of a confused class is asked about.

    Args:
        samples: as a CLIP sees them.
        texts: (C,) what the classes are called in a question; the class names unless given.
        chosen_on: samples of the same classes whose confusions make the pairs; ``samples`` themselves
            unless given. On others, what the CLIP settles is no longer low by selection.

    Raises:
        NotRun: the CLIP takes no sample for another class, so that nothing is hard.
        ClipRobustError: as for :func:`confused_classes`.
    """
    seen = chosen_on or samples
    other, tied = confused_classes(seen.logits, seen.labels, texts or samples.class_names)
    rows = np.flatnonzero(other[samples.labels] >= 0)
    if not len(rows):
        raise NotRun(
            f"needs classes that the model confuses, and it answers all {len(seen.ids)} samples of "
            f"{seen.condition} rightly"
        )
    true = samples.labels[rows]
    present = np.unique(samples.labels)
    unconfused = tuple(int(label) for label in present[other[present] < 0])
    once = np.bincount(seen.labels[other[seen.labels] >= 0]).max(initial=0) == 1
    single = bool(once) and set(samples.ids) >= set(seen.ids)
    return HardChoices(rows, true, other[true], unconfused, tied, single)


@takes_samples
def clip_scores(samples: Samples, choices: HardChoices) -> Bools:
    """Return (M,) whether the CLIP scores the true class above the other one."""
    logits = samples.logits[choices.rows]
    every = np.arange(len(choices))
    right: Bools = logits[every, choices.true] > logits[every, choices.other]
    return right


def named_option(answer: str, true: Sequence[str], other: Sequence[str]) -> Answer:
    """Return which of two options an answer in words names.

    Case, punctuation, hyphens and an article at the beginning do not count, and an option counts as a
    whole word: ``"A cat."`` names "a cat", ``"catfish"`` does not. Where one option's words hold the
    other's ("apple", "apple pie"), the longer one is looked for first, and what it covers is left out.

    Args:
        answer: what was said.
        true, other: what each option may be called, "a pair of skis" and "skis".
    """
    text = _plain(answer)
    codes = dict.fromkeys(map(_bare, true), Answer.TRUE)
    for name in map(_bare, other):
        codes[name] = Answer.BOTH if codes.get(name) == Answer.TRUE else Answer.OTHER
    codes.pop("", None)  # a name of signs alone
    found: set[Answer] = set()
    for name in sorted(codes, key=len, reverse=True):
        text, times = re.subn(rf"(?<!\w){re.escape(name)}(?!\w)", "\N{BULLET}", text)
        found |= {codes[name]} if times else set()
    if len(found) > 1:
        return Answer.BOTH
    return next(iter(found), Answer.NEITHER)


def _plain(text: str) -> str:
    """Return a text in lower case, with single spaces between its words and hyphens as spaces."""
    return " ".join(re.sub(r"[^\w']+", " ", text.casefold()).split())


def _bare(name: str) -> str:
    """Return a name as it is looked for, without an article."""
    return re.sub(r"^(an?|the)\s+(?=\S)", "", _plain(name))


@takes_samples
def multimodal_of(
    samples: Samples, choices: HardChoices, answers: ChoiceAnswers
) -> dict[str, Figure]:
    """Return the figures of hard choices on a view: see :func:`multimodal_figures`.

    Two runs are compared on the samples that both ask the same question about.

    Raises:
        ClipRobustError: answers to another number of choices.
    """
    own = samples.bootstrap.subset(choices.rows)
    figures = multimodal_figures(
        choices,
        answers,
        clip_scores(samples, choices),
        samples.class_names,
        bootstrap=own.of(_asked(own.keys, choices, samples.class_names)),
    )
    return {metric: figure.measured_on(samples.condition) for metric, figure in figures.items()}


def _asked(
    keys: SampleKeys | None, choices: HardChoices, names: Sequence[str]
) -> SampleKeys | None:
    """Return keys that are the same in two runs only if the same question was asked."""
    if keys is None:
        return None
    digests = tuple(
        f"{digest} or {names[other]}"
        for digest, other in zip(keys.digests or keys.ids, choices.other.tolist(), strict=True)
    )
    return replace(keys, digests=digests)


@register_metric(
    "lmm_accuracy",
    higher_is_better=True,
    meaning="share of hard choices that the multimodal model settles by likelihood, mean of both orders",
    chance=0.5,
)
@register_metric(
    "lmm_generated_accuracy",
    higher_is_better=True,
    meaning="share of hard choices that it settles in its own words, mean of both orders",
)
@register_metric(
    "lmm_by_position",
    higher_is_better=False,
    meaning="share of hard choices whose answer is the option at one place, whatever stands there",
)
@register_metric(
    "lmm_order_gap",
    higher_is_better=None,
    meaning="its accuracy with the true option first less that with it second",
    low=-1.0,
)
@register_metric(
    "lmm_named_both",
    higher_is_better=False,
    meaning="share of its answers in words that name both options",
)
@register_metric(
    "lmm_named_neither",
    higher_is_better=False,
    meaning="share of its answers in words that name neither option",
)
@register_metric(
    "clip_choice_accuracy",
    higher_is_better=True,
    meaning="share of the same hard choices that the CLIP settles",
    gateable=False,
    why_not_gateable=_SELECTED,
)
@register_metric(
    "lmm_gain",
    higher_is_better=True,
    meaning="accuracy of the multimodal model less that of its CLIP, same hard choices",
    low=-1.0,
    gateable=False,
    why_not_gateable=_SELECTED,
)
@register_metric(
    "lmm_gained",
    higher_is_better=True,
    meaning="share of hard choices that only the multimodal model settles",
    gateable=False,
    why_not_gateable=_SELECTED,
)
@register_metric(
    "lmm_lost",
    higher_is_better=False,
    meaning="share of hard choices that only the CLIP settles",
    gateable=False,
    why_not_gateable=_SELECTED,
)
def multimodal_figures(
    choices: HardChoices,
    answers: ChoiceAnswers,
    clip_right: ArrayLike,
    class_names: Sequence[str],
    *,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Figure]:
    """Return the figures of M hard choices, by metric, all over the same M samples.

    A sample counts as the mean of its two orders, so ``lmm_gain`` is ``lmm_gained`` less ``lmm_lost`` to
    the last bit: a choice settled in one order only is half gained. Equal likelihoods are half right. The
    pairs are taken as given.

    The details of ``lmm_accuracy`` hold the accuracy by order and which model it is; those of
    ``lmm_gain`` hold ``pairs``, the gains and losses of each pair of classes, the largest change first,
    and how many classes are confused with none, or with several equally often; those of
    ``lmm_named_neither`` some of the answers. Where the model sees through another image encoder than the
    CLIP's, gains and losses compare two encoders, and say so.

    Args:
        choices: what was asked.
        answers: what was answered.
        clip_right: (M,) bool, whether the CLIP scores the true class above the other one.
        class_names: (C,), for the details; kept by index.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: lengths that differ, no choices, or likelihoods that are NaN.
    """
    _check(choices, answers)
    likely, right = answers.scores.mean(axis=1), np.asarray(clip_right, dtype=np.bool_)
    if right.shape != likely.shape:
        raise ClipRobustError(f"{len(right)} answers of the CLIP to {len(likely)} choices")
    beside = [
        proportion_figure("clip_choice_accuracy", right, bootstrap),
        *_gains(choices, likely, right, class_names, bootstrap),
    ]
    if choices.single:
        beside = [_by_selection(figure) for figure in beside]
    other = answers.about.get(SEES_THROUGH, "")
    if other:
        beside[1:] = [_of_two_encoders(figure, other) for figure in beside[1:]]
    figures = [*_settled(answers, bootstrap), *_by_place(answers, bootstrap)]
    figures += [*_named(answers, bootstrap), *beside]
    return {figure.metric: figure for figure in figures}


def _share(
    metric: str, values: Floats, bootstrap: Bootstrap, details: dict[str, Any] | None = None
) -> Figure:
    """Return the mean of values in [0, 1] that are 0, half or 1."""
    return mean_figure(
        metric,
        np.asarray(values, dtype=np.float64),
        bootstrap,
        supposed=(1.0, 0.0),
        coarse=True,
        bounds=(0.0, 1.0),
        details=details,
    )


def _settled(answers: ChoiceAnswers, bootstrap: Bootstrap) -> list[Figure]:
    """Return how often the true option wins, by likelihood and in words."""
    likely, told = answers.scores, answers.words == Answer.TRUE
    about = {"by_order": _by_order(likely), **answers.about}
    words = {"by_order": _by_order(told)}
    return [
        _share("lmm_accuracy", likely.mean(axis=1), bootstrap, about),
        _share("lmm_generated_accuracy", told.mean(axis=1), bootstrap, words),
    ]


def _by_order(right: Floats | Bools) -> dict[str, float]:
    """Return the share of each order of (M, 2)."""
    return dict(zip(ORDERS, right.mean(axis=0).tolist(), strict=True))


def _by_place(answers: ChoiceAnswers, bootstrap: Bootstrap) -> list[Figure]:
    """Return how much hangs on where the true option stands."""
    first, second = answers.scores.T > 0.5
    details = {
        "first": float((first & ~second).mean()),
        "second": float((second & ~first).mean()),
    }
    return [
        proportion_figure("lmm_by_position", first != second, bootstrap, details),
        paired_drop_figure("lmm_order_gap", first, second, bootstrap),
    ]


def _named(answers: ChoiceAnswers, bootstrap: Bootstrap) -> list[Figure]:
    """Return how often answers in words name both options, and neither."""
    both, neither = ((answers.words == code).mean(axis=1) for code in (Answer.BOTH, Answer.NEITHER))
    return [
        _share("lmm_named_both", both, bootstrap),
        _share("lmm_named_neither", neither, bootstrap, {"said": _unnamed(answers)}),
    ]


def _gains(
    choices: HardChoices,
    likely: Floats,
    right: Bools,
    class_names: Sequence[str],
    bootstrap: Bootstrap,
) -> list[Figure]:
    """Return what the multimodal model gains over its CLIP, and of that what it gains and loses apart."""
    details = {
        "pairs": pairs_of(choices, likely, right, class_names),
        "classes_without_confusion": len(choices.unconfused),
        "classes_with_ties": len(choices.tied),
    }
    gain = mean_figure(
        "lmm_gain",
        likely - right,
        bootstrap,
        supposed=(1.0, -1.0),
        coarse=True,
        bounds=(-1.0, 1.0),
        details=details,
    )
    gained = _share("lmm_gained", likely * ~right, bootstrap)
    return [gain, gained, _share("lmm_lost", (1.0 - likely) * right, bootstrap)]


def _by_selection(figure: Figure) -> Figure:
    """Return a figure that says that the CLIP's share is 0 whatever the models are."""
    words = f"{figure.method}, the CLIP's share being 0 by selection (one sample of each class)"
    return replace(figure, method=words)


def _of_two_encoders(figure: Figure, other: str) -> Figure:
    """Return a gain or loss that says whose image encoder the multimodal model has."""
    return replace(
        figure,
        method=f"{figure.method}, of two encoders (the multimodal model has {other}'s)",
        details={**figure.details, SEES_THROUGH: other},
    )


def _check(choices: HardChoices, answers: ChoiceAnswers) -> None:
    count = len(choices)
    if not count:
        raise ClipRobustError("there are no hard choices to make figures of")
    if answers.likelihoods.shape != (count, 2, 2) or answers.words.shape != (count, 2):
        raise ClipRobustError(
            f"{count} choices in two orders, but likelihoods {answers.likelihoods.shape} and answers "
            f"{answers.words.shape}"
        )
    if np.isnan(answers.likelihoods).any():
        row = int(np.flatnonzero(np.isnan(answers.likelihoods).any(axis=(1, 2)))[0])
        raise ClipRobustError(f"the likelihoods of choice {row} are NaN; check the model's weights")


def pairs_of(
    choices: HardChoices, likely: Floats, right: Bools, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return what became of each pair, JSON-able, the largest gain or loss first.

    Args:
        choices: what was asked.
        likely: (M,) share of the orders in which the multimodal model is right.
        right: (M,) whether the CLIP is.
        class_names: (C,).
    """
    pairs = []
    for label in np.unique(choices.true).tolist():
        rows = choices.true == label
        other = int(choices.other[rows][0])
        pairs.append(
            {
                "class": label,
                "name": class_names[label],
                "other": other,
                "other_name": class_names[other],
                "n": int(rows.sum()),
                "clip": float(right[rows].mean()),
                "lmm": float(likely[rows].mean()),
                "gained": float((likely * ~right)[rows].mean()),
                "lost": float(((1.0 - likely) * right)[rows].mean()),
            }
        )
    return sorted(pairs, key=lambda pair: (-abs(pair["lmm"] - pair["clip"]), pair["class"]))


def _unnamed(answers: ChoiceAnswers, most: int = 5) -> list[str]:
    """Return some of the answers that name neither option."""
    said = [
        text
        for row, texts in enumerate(answers.said)
        for order, text in enumerate(texts)
        if answers.words[row, order] == Answer.NEITHER
    ]
    return list(dict.fromkeys(said))[:most]

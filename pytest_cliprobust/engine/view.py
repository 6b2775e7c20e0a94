"""A view: samples of a data set under a condition, as one model sees them.

``clip.on("clean", "fog_3d", 3)`` is a view. It satisfies
:class:`~pytest_cliprobust.figures.samples.Samples`, so every property takes it; what it is asked for is
computed at the first request, all of the same samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from pytest_cliprobust.datasets.base import Dataset
from pytest_cliprobust.datasets.subset import Subset, whole_of
from pytest_cliprobust.engine import head
from pytest_cliprobust.errors import ClipRobustError, NotRun, did_you_mean
from pytest_cliprobust.figures.arrays import Bools, Floats, Ints
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.samples import Choice, Probability, Task, right_answers
from pytest_cliprobust.targets.base import LAST, Layer

#: From texts to their features (M, D).
TextFeatures = Callable[[Sequence[str]], Tensor]

#: From a layer to the matches of each pair (K, 9 + T).
MatchesOf = Callable[[Layer], Sequence[Floats]]

#: A column with more values than this names samples rather than subgroups.
_MOST_SUBGROUPS = 50


@dataclass(frozen=True)
class Classifier:
    """The zero-shot head of a model, and what turns cosines into its logits.

    Attributes:
        weights: (C, D) unit rows, float64.
        logit_scale: the factor, not its logarithm.
        logit_bias: of SigLIP-type models.
        probability: what turns logits into the model's probabilities.
    """

    weights: Tensor
    logit_scale: float
    logit_bias: float | None
    probability: Probability

    def cosines(self, features: Tensor, dataset: Dataset) -> Floats:
        """Return cosine similarities (N, C) of features (N, D), float64."""
        return head.cosine_similarities(
            features, self.weights, dataset=dataset.name, ids=dataset.ids
        )

    def logits(self, cosines: Floats) -> Floats:
        """Return logits (N, C) at the model's scale (and bias), float64."""
        return head.zero_shot_logits(cosines, self.logit_scale, self.logit_bias)


class View:
    """N samples under one condition, under one model.

    Attributes:
        data: the samples themselves.
        seed: of the run: perturbations and bootstrap.
    """

    def __init__(
        self,
        condition: Condition,
        data: Dataset,
        features: Callable[[], Tensor],
        classifier: Callable[[], Classifier],
        seed: int = 0,
        text_features: TextFeatures | None = None,
        matches: MatchesOf | None = None,
    ) -> None:
        self._condition = condition
        self.data = data
        self.seed = seed
        self._features = features
        self._classifier = classifier
        self._text_features = text_features
        self._matches = matches

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.data)

    def __repr__(self) -> str:
        """``<view of clean, fog_3d at severity 3: 134 samples>``."""
        return f"<view of {self.condition}: {len(self)} samples>"

    @property
    def condition(self) -> Condition:
        """What this is a view of; every figure made from it carries it."""
        return self._condition

    @property
    def ids(self) -> tuple[str, ...]:
        """(N,) stable sample ids."""
        return self.data.ids

    @cached_property
    def units(self) -> tuple[str, ...]:
        """(N,) what each sample was drawn from; the samples themselves where the data does not say."""
        return tuple(getattr(self.data, "units", self.data.ids))

    @property
    def class_names(self) -> tuple[str, ...]:
        """(C,) names by class index."""
        return self.data.class_names

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Further columns (N,) by name."""
        return self.data.groups

    @property
    def head_rows(self) -> tuple[int, ...] | None:
        """Which classes of ``clean`` the head has, where it is restricted to some; None: all of them."""
        return getattr(self.data, "head_rows", None)

    @property
    def further_labels(self) -> tuple[tuple[int, ...], ...]:
        """(N,) the classes that are right of each sample beside its label; () where none has any."""
        return tuple(getattr(self.data, "further_labels", ()))

    @property
    def captions(self) -> tuple[tuple[str, ...], ...]:
        """(N,) the captions of each sample; () where the data has none."""
        return tuple(getattr(self.data, "captions", ()))

    @property
    def choices(self) -> tuple[tuple[Choice, ...], ...]:
        """(N,) the choices between captions that each sample poses; () where the data has none."""
        return tuple(getattr(self.data, "choices", ()))

    @property
    def task(self) -> Task:
        """How the data is measured where it is published: by accuracy unless it says otherwise."""
        told = getattr(self.data, "task", None)
        return told if isinstance(told, Task) else Task()

    @property
    def subgroups(self) -> tuple[str, ...]:
        """The columns whose values are subgroups to be compared, as the data says.

        Where it does not say: those with two to fifty values.
        """
        known = getattr(self.data, "subgroups", None)
        if known is not None:
            return tuple(known)
        return tuple(c for c in self.groups if 2 <= len(self.values(c)) <= _MOST_SUBGROUPS)

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Return L2-normalised features (M, D) of texts, float32 on the CPU.

        Raises:
            ClipRobustError: the view was made without a text encoder.
        """
        if self._text_features is None:
            raise ClipRobustError(
                f"{self.condition}: this view has no text encoder; use clip.on(…)"
            )
        return self._text_features(texts)

    @property
    def limits(self) -> tuple[float, ...]:
        """Distances within which a match between the pictures of a pair is right; () without pairs."""
        return tuple(getattr(whole_of(self.data), "limits", ()))

    @property
    def limits_cm(self) -> tuple[float, ...]:
        """The same in space, in centimetres; () where the data does not know places in space."""
        return tuple(getattr(whole_of(self.data), "limits_cm", ()))

    @property
    def angle_edges(self) -> tuple[float, ...]:
        """Edges in degrees of the bins of viewpoint change; () without."""
        return tuple(getattr(whole_of(self.data), "angle_edges", ()))

    def matches(self, layer: Layer = LAST) -> Sequence[Floats]:
        """Return the nearest-neighbour matches between the two pictures of each pair.

        For each pair rows (K, 9 + T): see
        :func:`~pytest_cliprobust.properties.correspondence.match_pair`.

        Raises:
            NotRun: the model has no such features, the samples are no pairs, or they are perturbed.
        """
        if self._matches is None or self.condition.steps:
            raise NotRun(f"{self.condition}: pairs are matched as they are, without perturbations")
        return self._matches(layer)

    @property
    def probability(self) -> Probability:
        """What turns logits into the model's own probabilities."""
        return self._classifier().probability

    @cached_property
    def keys(self) -> SampleKeys:
        """Who the samples are: ids, units, and what identifies their content."""
        digests = tuple(getattr(self.data, "sample_digests", ()))
        return SampleKeys(self.ids, self.units, digests, getattr(self.data, "unit", "sample"))

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """How intervals are made, with the identity of these samples, so that runs can be paired."""
        return Bootstrap(seed=self.seed, keys=self.keys)

    @cached_property
    def labels(self) -> Ints:
        """(N,) class indices; -1 where a sample has no class of the label set."""
        return np.asarray(self.data.labels, dtype=np.int64)

    @cached_property
    def features(self) -> Tensor:
        """(N, D) L2-normalised image features, float32 on the CPU."""
        return self._features()

    @cached_property
    def cosines(self) -> Floats:
        """(N, C) cosine similarities to the zero-shot head."""
        return self._classifier().cosines(self.features, self.data)

    @cached_property
    def logits(self) -> Floats:
        """(N, C) zero-shot logits at the model's logit scale (and bias)."""
        return self._classifier().logits(self.cosines)

    @cached_property
    def predictions(self) -> Ints:
        """(N,) the class of the largest logit."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @cached_property
    def correct(self) -> Bools:
        """(N,) whether the top-1 answer is right: the label, or another class that is right of it."""
        right, further = right_answers(self.predictions, self), self.further_labels
        if not any(further):
            return right
        also = [int(p) in own for p, own in zip(self.predictions, further, strict=True)]
        return right | np.array(also, dtype=np.bool_)

    def values(self, column: str) -> tuple[str, ...]:
        """Return what stands in a column of ``groups``, each value once, sorted; () without the column."""
        return tuple(sorted(set(self.groups.get(column, ()))))

    def where(self, column: str, value: str) -> View:
        """Return the samples with ``value`` in a column, as a view of its own: ``clean:noto``.

        Raises:
            ClipRobustError: no such column, or no sample with that value.
        """
        rows = [row for row, own in enumerate(self.groups.get(column, ())) if own == value]
        if not rows:
            known = self.values(column) if column in self.groups else tuple(self.groups)
            what = f"{column} {value!r}" if column in self.groups else f"column {column!r}"
            raise ClipRobustError(
                f"{self.condition} has no {what}.{did_you_mean(value, known)} "
                f"There are {', '.join(known) or 'none'}"
            )
        return self._part(rows, self.condition.part(value))

    def take(self, rows: Sequence[int] | Ints) -> View:
        """Return the samples at ``rows``, as a view under the same condition.

        Raises:
            ClipRobustError: no rows, or one that is not there.
        """
        return self._part([int(row) for row in rows], self.condition)

    def _part(self, rows: list[int], condition: Condition) -> View:
        return View(
            condition,
            Subset(self.data, rows),
            lambda: self.features[rows],
            self._classifier,
            seed=self.seed,
            text_features=self._text_features,
            matches=lambda layer: [self.matches(layer)[row] for row in rows],
        )

    def answered_by(self, classifier: Callable[[], Classifier], change: str = "") -> View:
        """Return the same samples with the answers of another zero-shot head.

        ``change`` names what is said otherwise in its texts, and stands in the condition.
        """
        return View(
            self.condition.in_other_words(change) if change else self.condition,
            self.data,
            lambda: self.features,
            classifier,
            seed=self.seed,
            text_features=self._text_features,
        )

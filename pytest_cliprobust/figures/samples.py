"""What a property works with: samples, what a model answered to them, and the condition they were in.

The engine's views are such samples. Without a model, :class:`SampleArrays` makes them from arrays::

    samples = SampleArrays(Condition("mine"), ids, logits=logits, labels=labels)
    accuracy.accuracy_of(samples)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Bools, Floats, Ints
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.keys import SampleKeys

Probability = Literal["softmax", "sigmoid"]


@runtime_checkable
class Samples(Protocol):
    """N samples under one condition, with what a model makes of them."""

    @property
    def condition(self) -> Condition:
        """What was measured on what."""
        ...

    @property
    def ids(self) -> tuple[str, ...]:
        """(N,) stable sample ids."""
        ...

    @property
    def units(self) -> tuple[str, ...]:
        """(N,) what each sample was drawn from (the drawing, the object, the scene)."""
        ...

    @property
    def labels(self) -> Ints:
        """(N,) class indices; -1 where a sample has no class of the label set."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """(C,) names by class index."""
        ...

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Further columns (N,) by name (``style``, ``shape_label`` …)."""
        ...

    @property
    def cosines(self) -> Floats:
        """(N, C) cosine similarities to the zero-shot head, in [-1, 1]."""
        ...

    @property
    def logits(self) -> Floats:
        """(N, C) zero-shot logits at the model's logit scale (and bias)."""
        ...

    @property
    def correct(self) -> Bools:
        """(N,) whether the top-1 answer is right; an error where a sample has no class."""
        ...

    @property
    def probability(self) -> Probability:
        """What turns logits into the model's own probabilities."""
        ...

    @property
    def bootstrap(self) -> Bootstrap:
        """How intervals are made, with the identity of these samples, so that runs can be paired."""
        ...


class Choice(NamedTuple):
    """A caption that is true of a sample, and others that are not.

    Attributes:
        kind: what the others get wrong, as figures and bounds call it: ``"relation"``, ``"negation"`` …
        true: the caption.
        false: the hard negatives, one or more.
    """

    kind: str
    true: str
    false: tuple[str, ...]


class Task(NamedTuple):
    """How a data set is measured where it is published.

    Attributes:
        metric: the name of its main metric.
        column: of groups that the metric is over; empty for none.
        pack: the collection of data sets whose plain mean it counts in; empty for none.
        of: how many data sets the whole collection has.
    """

    metric: str = "accuracy"
    column: str = ""
    pack: str = ""
    of: int = 0


class Embedded(Samples, Protocol):
    """Samples with their image features."""

    @property
    def features(self) -> Any:
        """(N, D) image features, an array or a tensor."""
        ...


class Captioned(Embedded, Protocol):
    """Samples with captions, under a model that encodes texts."""

    @property
    def captions(self) -> tuple[tuple[str, ...], ...]:
        """(N,) the captions of each sample, all of them true; () where the data has none."""
        ...

    @property
    def choices(self) -> tuple[tuple[Choice, ...], ...]:
        """(N,) the choices between captions that each sample poses; () where the data has none."""
        ...

    def text_features(self, texts: Sequence[str]) -> Any:
        """Return features (M, D) of texts, an array or a tensor."""
        ...


@dataclass(frozen=True)
class SampleArrays:
    """Samples from plain arrays, for properties without the engine.

    Attributes:
        condition: what was measured on what.
        ids: (N,) stable sample ids.
        labels: (N,) class indices.
        logits: (N, C) at the model's logit scale.
        cosines: (N, C) in [-1, 1]; for scores that need them.
        class_names: (C,); the indices as text unless given.
        groups: further columns (N,) by name.
        units: (N,) what was sampled; the samples themselves unless given.
        probability: ``"sigmoid"`` for SigLIP-type models.
        seed: of the bootstrap.

    Raises:
        ClipRobustError: arrays of different lengths.
    """

    condition: Condition
    ids: tuple[str, ...]
    labels: Ints
    logits: Floats
    cosines: Floats = field(default_factory=lambda: np.empty((0, 0)), repr=False)
    class_names: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    units: tuple[str, ...] = ()
    probability: Probability = "softmax"
    seed: int = 0

    def __post_init__(self) -> None:
        """Fill in what follows from the rest, and check the lengths."""
        count = len(self.ids)
        if len(self.labels) != count or len(self.logits) != count:
            raise ClipRobustError(
                f"{self.condition}: {count} ids, {len(self.labels)} labels and {len(self.logits)} "
                "rows of logits; they must be of the same samples"
            )
        if not self.units:
            object.__setattr__(self, "units", self.ids)
        if not self.class_names:
            names = tuple(map(str, range(self.logits.shape[1])))
            object.__setattr__(self, "class_names", names)

    @property
    def correct(self) -> Bools:
        """(N,) whether the top-1 answer is right."""
        return right_answers(self.logits.argmax(axis=1), self)

    @property
    def keys(self) -> SampleKeys:
        """Who the samples are."""
        return SampleKeys(self.ids, self.units)

    @property
    def bootstrap(self) -> Bootstrap:
        """How intervals are made."""
        return Bootstrap(seed=self.seed, keys=self.keys)


def right_answers(predictions: Ints, samples: Samples) -> Bools:
    """Return whether the classes (N,) that were predicted are the samples' own (N,).

    Raises:
        ClipRobustError: a sample's label is no class of the label set, so that no answer is right or wrong.
    """
    labels, classes = np.asarray(samples.labels), len(samples.class_names)
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(outside):
        first = outside[0]
        raise ClipRobustError(
            f"{samples.condition}: {len(outside)} of {len(labels)} samples have a label outside the "
            f"{classes} classes (first: {labels[first]} of {samples.ids[first]}), so their answers are "
            "neither right nor wrong; leave such samples out of accuracies"
        )
    right: Bools = np.asarray(predictions) == labels
    return right


def contents_of(samples: Samples) -> str:
    """Return the digest of who the samples are, for figures that hang on them; empty if that is not known."""
    keys = samples.bootstrap.keys
    return "" if keys is None else keys.contents


@dataclass(frozen=True)
class Shared:
    """The samples that several views have in common.

    Attributes:
        ids: (M,) their ids, in the order of the first view.
        rows: of each view the rows (M,) at which they stand.
        bootstrap: settings that know these samples.
    """

    ids: tuple[str, ...]
    rows: tuple[Ints, ...]
    bootstrap: Bootstrap


def shared(*views: Samples) -> Shared:
    """Return the samples that all ``views`` have in common, for paired figures.

    Raises:
        ClipRobustError: there are none.
    """
    first = views[0]
    if first.ids and all(view.ids == first.ids for view in views):
        every = np.arange(len(first.ids), dtype=np.int64)
        return Shared(first.ids, (every,) * len(views), first.bootstrap)
    known = set(first.ids).intersection(*(view.ids for view in views[1:]))
    ids = tuple(name for name in first.ids if name in known)
    if not ids:
        named = " and ".join(dict.fromkeys(str(view.condition) for view in views))
        raise ClipRobustError(f"{named} have no sample in common, so they cannot be paired")
    rows = []
    for view in views:
        place = {name: row for row, name in enumerate(view.ids)}
        rows.append(np.array([place[name] for name in ids], dtype=np.int64))
    bootstrap = first.bootstrap
    if len(ids) != len(first.ids):
        bootstrap = bootstrap.subset(rows[0])
    return Shared(ids, tuple(rows), bootstrap)

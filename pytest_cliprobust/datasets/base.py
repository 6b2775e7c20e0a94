"""What the harness needs to know of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError

#: From one image (3, H, W) uint8 and a side to (3, side, side) uint8: a target's own resize and crop.
Frame = Callable[[Tensor, int], Tensor]


def check_limit(limit: int | None) -> None:
    """Refuse a limit that leaves no sample.

    Raises:
        ClipRobustError: it is not positive.
    """
    if limit is not None and limit < 1:
        raise ClipRobustError(f"a limit of {limit} samples leaves none; give a positive number")


class LazyExtras(Mapping[str, Tensor]):
    """Per-sample tensors by name, of which some are made only when they are asked for.

    Few perturbations need a texture or an occluder, and both are larger than the picture itself.

    Args:
        ready: tensors (B, …) that are there already.
        makers: of each of the others a function a sample, which makes its row anew at each request.
    """

    def __init__(
        self,
        ready: Mapping[str, Tensor],
        makers: Mapping[str, Sequence[Callable[[], Tensor]]] | None = None,
    ) -> None:
        self.ready = dict(ready)
        self.makers = dict(makers or {})

    def __getitem__(self, name: str) -> Tensor:
        """Return the tensor called ``name``, (B, …)."""
        if name in self.ready:
            return self.ready[name]
        return torch.stack([make() for make in self.makers[name]])

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter({**self.makers, **self.ready})

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len({*self.makers, *self.ready})

    def joined(self, **tensors: Tensor) -> LazyExtras:
        """Return the same with further tensors."""
        return LazyExtras({**self.ready, **tensors}, self.makers)

    def part(self, rows: slice) -> LazyExtras:
        """Return the same of some samples."""
        ready = {name: tensor[rows] for name, tensor in self.ready.items()}
        return LazyExtras(ready, {name: makers[rows] for name, makers in self.makers.items()})


@dataclass(frozen=True)
class Batch:
    """Some samples of a data set, on the CPU.

    Attributes:
        ids: stable sample ids, unique within the data set.
        images: (B, 3, H, W) uint8.
        depth: (B, 1, H, W) float32 metres along the optical axis, if the data set has it.
        mask: (B, 1, H, W) float32 in [0, 1], coverage of the main object, if the data set has it.
        extras: other per-sample tensors with leading dimension B, by name (``texture``,
            ``occluder``, ``focal`` …), offered to perturbations that ask for them.
    """

    ids: tuple[str, ...]
    images: Tensor
    depth: Tensor | None = None
    mask: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class Dataset(Protocol):
    """A finite, ordered, deterministic data set.

    Attributes:
        name: e.g. ``"clean"``, ``"near_ood"``, ``"imagefolder:photos"``; never a path.
        digest: hex sha256 that changes whenever any sample would change.
        ids: one stable id per sample.
        labels: class index per sample; -1 where the sample has no class of the label set (OOD).
        class_names: names by index; may hold duplicates (so nothing is ever keyed by name).
        groups: further per-sample columns by name (``style``, ``factor``, ``texture_label`` …).

    A data set may also have ``units``, one text per sample: what it was drawn from (the drawing, the
    object, the scene), where several samples come from one, and ``unit``, the word for one of them
    (``"drawing"``); ``sample_digests``, one text per sample that identifies its content, by which the
    samples of two runs are matched; ``content``, a digest that does not change with the size at which a
    model is shown the pictures, as ``sample_digests`` do not; ``phrases`` and ``templates``, what its
    classes' prompts are made of; ``negative_phrases``, words of the same form for things outside the label
    set, of which NegLabel's negative labels are mined; and ``sample_keys``, one text per sample that
    identifies the sample among all data sets: samples with equal keys are equal, so what is loaded for one
    data set serves another; ``captions``, of each sample the texts that are true of it (five, in the
    retrieval benchmarks); ``choices``, of each sample those between a true caption and false ones
    (:class:`~pytest_cliprobust.figures.samples.Choice`); ``task``, how it is measured where it is published
    (:class:`~pytest_cliprobust.figures.samples.Task`); ``subgroups``, the columns of ``groups`` whose values
    are subgroups to be compared (``style``, ``category``); ``further_labels``, of each sample the classes
    that are right of it beside its label (a picture of several things; ObjectNet's chairs, which are three
    classes of ImageNet); ``own_classes``, whether it keeps its classes where others play ``clean``, and the
    zero-shot head is made of them; ``label_mistake``, what keeps its classes from being a label set, with the
    remedy, which ends a run in which it plays ``clean``; ``unreadable``, what is wrong with samples that are
    seen at once to be no pictures, with the remedy, which ends a run unless they are to be left out;
    ``framing`` (:class:`~pytest_cliprobust.datasets.framing.Framing`), how its pictures are framed, where
    that is known; and ``notes``, what a reader of the report must know of it, one line each.
    """

    name: str
    digest: str
    ids: tuple[str, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def load(self, indices: Sequence[int]) -> Batch:
        """Load the samples at ``indices`` (any order); the same sample is always the same tensor."""
        ...


@dataclass(frozen=True)
class Links:
    """What corresponds in the two pictures of a pair.

    Places are (x, y) in pixels of the pictures, pixel centres at half-integers.

    Attributes:
        points: (P, 2) places in the first picture, each visible in the second; or its keypoints.
        truth: (P, 2) where each of them lies in the second picture.
        candidates: (Q, 2) places of the second picture among which to look (the object's, say); None:
            the centres of the model's patches.
        scale: what distances in pixels are divided by before they are compared with a threshold: the
            longer side of the second object's box for PCK, 4 where pixels count at a quarter of the
            resolution (ScanNet in Probe3D).
        truth_3d: (P, 3) the place of each of ``points`` in space, in metres; None where depth or camera
            is not known.
        candidates_3d: (Q, 3) that of each of ``candidates``, in the same frame of reference.
    """

    points: Tensor
    truth: Tensor
    candidates: Tensor | None = None
    scale: float = 1.0
    truth_3d: Tensor | None = None
    candidates_3d: Tensor | None = None


@dataclass(frozen=True)
class PairBatch:
    """Some pairs of pictures, on the CPU.

    Attributes:
        first, second: B samples each, of equal ids and of square pictures of one size.
        links: of each pair what corresponds.
    """

    first: Batch
    second: Batch
    links: tuple[Links, ...]


@runtime_checkable
class PairedDataset(Protocol):
    """What a :class:`Dataset` has besides that plays ``correspondence`` or ``semantic_correspondence``.

    Its samples are pairs, and ``load`` gives the first picture of each. The column ``angle`` of
    ``groups``, where there is one, holds the change of viewpoint in degrees.

    Attributes:
        limits: distances below which a match counts as right, in pixels (``(5, 25, 50)`` for NAVI) or,
            for keypoints, as shares of the box (``(0.1,)``).
        angle_edges: ascending edges in degrees of the bins of viewpoint change; () for none.

    It may also have ``limits_cm``: distances in space, in centimetres (``(1, 2, 5)`` for NAVI), where its
    links know the places in space.
    """

    limits: tuple[float, ...]
    angle_edges: tuple[float, ...]

    def load_pairs(self, indices: Sequence[int]) -> PairBatch:
        """Load the pairs at ``indices`` (any order); the same pair is always the same tensors."""
        ...

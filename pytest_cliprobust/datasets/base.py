"""What the harness needs to know of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor


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
    extras: dict[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class Dataset(Protocol):
    """A finite, ordered, deterministic data set.

    Attributes:
        name: e.g. ``"clean"``, ``"near_ood"``, ``"imagefolder:/data/x"``.
        digest: hex sha256 that changes whenever any sample would change.
        ids: one stable id per sample.
        labels: class index per sample; -1 where the sample has no class of the label set (OOD).
        class_names: names by index; may hold duplicates (so nothing is ever keyed by name).
        groups: further per-sample columns by name (``style``, ``factor``, ``texture_label`` …).
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

"""Preprocessing of models that take pictures of any shape: SigLIP 2 "NaFlex" (Tschannen et al. 2025)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pytest_cliprobust.targets.preprocessing import Preprocessing

#: Scales between which transformers' processor looks for the largest that fits, and how closely.
_SMALLEST, _LARGEST, _CLOSE = 1e-6, 100.0, 1e-5


@dataclass(frozen=True)
class NaFlexPreprocessing(Preprocessing):
    """Every picture keeps its shape, as nearly as whole patches allow.

    Attributes:
        size: (height, width) that a square picture has.
        patch: side of a patch in pixels.
        most_patches: patches of a picture at most.
    """

    patch: int = 16
    most_patches: int = 256

    @property
    def any_shape(self) -> bool:
        """Whether the model takes pictures of any shape: it does."""
        return True

    def takes(self, shape: Sequence[int]) -> bool:
        """Return whether (height, width) are whole patches, and not too many."""
        height, width = shape
        rows, columns = height // self.patch, width // self.patch
        whole = (rows * self.patch, columns * self.patch) == (height, width)
        return whole and 0 < rows * columns <= self.most_patches

    def own_shape(self, source: Sequence[int]) -> tuple[int, int]:
        """Return (height, width) that a picture of ``source`` is resized to.

        The largest scale at which its patches, begun ones counted, are no more than ``most_patches``, found
        by halving as transformers' ``get_image_size_for_max_num_patches`` finds it: where the search ends
        is where a picture's shape is decided.
        """
        low, high = _SMALLEST, _LARGEST
        while high - low >= _CLOSE:
            scale = (low + high) / 2
            if math.prod(self._patches(source, scale)) <= self.most_patches:
                low = scale
            else:
                high = scale
        rows, columns = self._patches(source, low)
        return rows * self.patch, columns * self.patch

    def fit(self, images: Tensor) -> Tensor:
        """Resize floats (B, 3, H, W) in [0, 1] to their own shape (B, 3, h, w); differentiable.

        Framed pictures have it already.
        """
        return self._resized(images, self.own_shape(images.shape[-2:]))

    def alters_shape(self, source: Sequence[int]) -> bool:
        """Return whether pictures are cropped or padded on their way to the model: never."""
        return False

    def _framed(self, image: Tensor, size: int) -> Tensor:
        return self._resized(image, self.own_shape(image.shape[-2:]))

    def _patches(self, source: Sequence[int], scale: float) -> tuple[int, int]:
        rows, columns = (math.ceil(edge * scale / self.patch) for edge in source)
        return rows, columns

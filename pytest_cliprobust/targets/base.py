"""What the harness needs to know of a model under test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from pytest_cliprobust.targets.layers import LAST as LAST
from pytest_cliprobust.targets.layers import Layer as Layer

Interpolation = Literal["bicubic", "bilinear", "nearest"]
ResizeMode = Literal["shortest", "longest", "squash", "keep"]


@dataclass(frozen=True)
class TargetInfo:
    """The identity of a target, as reports and cache keys use it.

    Attributes:
        name: what the user asked for, e.g. ``"ViT-B-32/laion2b_s34b_b79k"`` or ``"reference"``.
        architecture: the open_clip/transformers architecture actually built (after a QuickGELU
            correction, say).
        pretrained: tag, path or hub name of the weights.
        digest: hex sha256 over weights, preprocessing and tokenizer: equal digests, equal features.
        notes: what a reader of the report must know, one sentence each ("activation QuickGELU, as
            tag 'openai' was trained with", "no tag given: took open_clip's default 'x'").
        tags: model-card facts for the six-factor study (architecture, training data, size, loss …).
        weights: the files that its weights were read from; none where code of the user's made them.
    """

    name: str
    architecture: str
    pretrained: str
    digest: str
    notes: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    weights: tuple[Path, ...] = ()


@runtime_checkable
class Target(Protocol):
    """A CLIP-like model on one device, in evaluation mode.

    ``encode_image`` and ``encode_text`` return L2-normalised float32 features; precision (autocast)
    is the target's own business. Everything runs under ``torch.inference_mode`` unless the caller
    enabled gradients (the adversarial property does).
    """

    info: TargetInfo
    device: torch.device
    image_size: tuple[int, int]
    embed_dim: int
    logit_scale: float
    logit_bias: float | None
    probability: Literal["softmax", "sigmoid"]

    def frame(self, image: Tensor, size: int) -> Tensor:
        """Resize and crop one image (3, H, W) uint8, the way this model's own preprocessing does
        (mode, interpolation, antialias), but to the shape of its input with a longer side of ``size``:
        (3, size, size) where that is a square; uint8 in, uint8 out.
        """
        ...

    def preprocess(self, images: Tensor) -> Tensor:
        """From (B, 3, H, W) floats in [0, 1] on the device to the normalised input of the model."""
        ...

    def encode_image(self, pixels: Tensor) -> Tensor:
        """From preprocessed pixels (B, 3, h, w) to features (B, D)."""
        ...

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """From N strings to features (N, D); tokenised (and canonicalised) as the model wants it."""
        ...


@runtime_checkable
class DenseTarget(Protocol):
    """A target that also gives a feature for each patch of a picture; none has to."""

    def dense_features(self, pixels: Tensor, layer: Layer = LAST) -> Tensor:
        """From preprocessed pixels (B, 3, H, W) to patch features (B, C, h, w), without CLS token.

        Args:
            pixels: as :meth:`Target.preprocess` makes them.
            layer: the block whose tokens (or the stage whose map) are wanted; or ``"values"``.

        Raises:
            NotRun: this model offers no patch features, or none of that layer.
        """
        ...

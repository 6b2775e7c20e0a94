"""What every target shares: device, precision, gradients, normalisation of features."""

from __future__ import annotations

import abc
import contextlib
import math
import os
import re
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError, NotRun, did_you_mean
from pytest_cliprobust.targets.base import LAST, Layer, TargetInfo
from pytest_cliprobust.targets.precision import PRECISIONS, Precision
from pytest_cliprobust.targets.preprocessing import Preprocessing

#: Devices whose autocast is known to handle float16; "auto" stays at float32 on others.
_HALF_PRECISION_DEVICES = ("cuda", "xpu", "mps")


def worker_number(environment: str | None = None) -> int:
    """Return the number N of pytest-xdist's worker ``gwN``, 0 outside of xdist."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "") if environment is None else environment
    match = re.fullmatch(r"gw(\d+)", name)
    return int(match[1]) if match else 0


def accelerator() -> tuple[str, int] | None:
    """Return type and number of the visible accelerators, or None on a machine without one.

    Only what the process can see counts, so that ``CUDA_VISIBLE_DEVICES`` and its like are respected.
    """
    api = getattr(torch, "accelerator", None)
    if api is not None:  # torch 2.6
        current = api.current_accelerator() if api.is_available() else None
        return None if current is None else (current.type, int(api.device_count()))
    if torch.cuda.is_available():
        return "cuda", torch.cuda.device_count()
    return ("mps", 1) if torch.backends.mps.is_available() else None


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device that ``device`` names.

    ``"auto"`` is torch's accelerator if there is one, else the CPU. Where no index is given, the
    workers of pytest-xdist take the visible accelerators in turn (worker gwN gets N modulo their
    number), instead of all piling up on the first.

    Raises:
        ClipRobustError: not a device, or one that this machine does not have.
    """
    found = accelerator()
    if device == "auto":
        kind, index = (found[0], None) if found else ("cpu", None)
    else:
        try:
            parsed = torch.device(device)
        except (RuntimeError, TypeError, ValueError):
            raise ClipRobustError(
                f"{str(device)!r} is not a device; give --clip-device auto, cpu, or a torch device "
                "such as cuda:0"
            ) from None
        kind, index = parsed.type, parsed.index
    if kind == "cpu":
        return torch.device("cpu")
    if kind == "meta" or found is None or found[0] != kind:
        there = f"this machine offers {found[0]}" if found else "torch finds no accelerator here"
        raise ClipRobustError(
            f"device {str(device)!r} is not available: {there}; use --clip-device auto or cpu"
        )
    count = max(found[1], 1)
    if index is None:
        index = worker_number() % count
    if index >= count:
        raise ClipRobustError(
            f"device {str(device)!r} does not exist: {count} {kind} device"
            f"{'s are' if count > 1 else ' is'} visible; use --clip-device auto"
        )
    return torch.device(kind, index)


def resolve_precision(precision: str, device: torch.device) -> Precision:
    """Return the precision of the forward pass on ``device``.

    ``"auto"`` is fp32 on the CPU and fp16 (autocast) on accelerators. fp16 on the CPU is refused
    rather than silently replaced: it is slower there than fp32 and changes the features.

    Raises:
        ClipRobustError: unknown precision, or fp16 on the CPU.
    """
    if precision not in PRECISIONS:
        raise ClipRobustError(
            f"unknown precision {precision!r}.{did_you_mean(precision, PRECISIONS)} "
            f"Give --clip-precision {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}"
        )
    if precision == "auto":
        return "fp16" if device.type in _HALF_PRECISION_DEVICES else "fp32"
    if precision == "fp16" and device.type == "cpu":
        raise ClipRobustError(
            "--clip-precision fp16 needs an accelerator, and the model is on the CPU; use fp32 or bf16"
        )
    return "fp16" if precision == "fp16" else "bf16" if precision == "bf16" else "fp32"


class TorchTarget(abc.ABC):
    """A target made of torch modules; see :class:`~pytest_cliprobust.targets.base.Target`.

    **Gradients.** ``encode_image`` and ``preprocess`` follow autograd when gradients are enabled and
    their input requires them (``images.requires_grad_()``), so that an attack differentiates through
    both; in every other case they run without, under ``torch.inference_mode``. What they return is an
    ordinary tensor either way, which later computations may use with gradients.

    **Precision.** Weights stay float32; fp16 and bf16 are ``torch.autocast`` on the model's device.
    Features leave as float32 and are normalised in float32.
    """

    def __init__(
        self,
        info: TargetInfo,
        *,
        preprocessing: Preprocessing,
        device: torch.device,
        precision: Precision,
        embed_dim: int,
        logit_scale: float,
        logit_bias: float | None,
        probability: Literal["softmax", "sigmoid"] | None = None,
    ) -> None:
        if not (math.isfinite(logit_scale) and logit_scale > 0):
            raise ClipRobustError(
                f"model {info.name!r} has a logit scale of {logit_scale:g}, with which no probability can be "
                "computed; check its weights"
            )
        if logit_bias is not None and not math.isfinite(logit_bias):
            raise ClipRobustError(
                f"model {info.name!r} has a logit bias of {logit_bias:g}; check its weights"
            )
        self.info = info
        self.preprocessing = preprocessing
        self.device = device
        self.precision: Precision = precision
        self.image_size = preprocessing.size
        self.embed_dim = embed_dim
        self.logit_scale = logit_scale
        self.logit_bias = logit_bias
        self.probability: Literal["softmax", "sigmoid"] = probability or (
            "softmax" if logit_bias is None else "sigmoid"
        )
        self._mean, self._std = preprocessing.constants(device)

    @abc.abstractmethod
    def _encode_image(self, pixels: Tensor) -> Tensor:
        """From pixels (B, 3, h, w) to features (B, D), not normalised."""

    @abc.abstractmethod
    def _encode_text(self, texts: list[str]) -> Tensor:
        """From N strings to features (N, D), not normalised."""

    @abc.abstractmethod
    def _dense_features(self, pixels: Tensor, layer: Layer) -> Tensor:
        """From pixels (B, 3, h, w) to (B, C, h', w')."""

    def frame(self, image: Tensor, size: int) -> Tensor:
        """Resize and crop one image (3, H, W) uint8 as this model does, to a longer side of ``size``.

        What comes out, uint8 too, has the shape of the model's input.
        """
        return self.preprocessing.frame(image, size)

    def preprocess(self, images: Tensor) -> Tensor:
        """From (B, 3, H, W) floats in [0, 1] to the normalised float32 input (B, 3, h, w).

        Raises:
            ClipRobustError: not a float batch of images with three channels.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ClipRobustError(
                "images to preprocess must be (B, 3, H, W) floats in [0, 1], got "
                f"{tuple(images.shape)} {images.dtype}"
            )
        with torch.set_grad_enabled(_wanted(images)):
            fitted = self.preprocessing.fit(images.to(self.device, torch.float32))
            return (fitted - self._mean) / self._std

    def encode_image(self, pixels: Tensor) -> Tensor:
        """From preprocessed pixels (B, 3, h, w) to L2-normalised float32 features (B, D).

        Raises:
            ClipRobustError: pixels of another shape than the model's.
        """
        self._check(pixels)
        with self._running(_wanted(pixels)):
            features = F.normalize(self._encode_image(pixels.to(self.device)).float(), dim=-1)
        return _ordinary(features)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """From N strings to L2-normalised float32 features (N, D), without gradients.

        Raises:
            ClipRobustError: a single string, something that is not a string, or nothing at all.
        """
        if isinstance(texts, str) or not texts or not all(isinstance(t, str) for t in texts):
            raise ClipRobustError(f"encode_text wants a list of strings, got {texts!r:.80}")
        with self._running(False):
            features = F.normalize(self._encode_text(list(texts)).float(), dim=-1)
        return _ordinary(features)

    def dense_features(self, pixels: Tensor, layer: Layer = LAST) -> Tensor:
        """From preprocessed pixels to float32 patch features (B, C, h', w') of a layer.

        Transformers: the tokens that the block puts out, without CLS or other prefix tokens, before the
        final layer norm and before the projection into the joint space (as Probe3D takes them, El Banani
        et al. 2024). Convolutional towers: the map of the stage. ``"values"``: see
        :func:`~pytest_cliprobust.targets.dense.value_features`. Not normalised.

        Raises:
            NotRun: this model offers no patch features, or none of that layer.
            ClipRobustError: pixels of another shape.
        """
        self._check(pixels)
        with self._running(_wanted(pixels)):
            features = self._dense_features(pixels.to(self.device), layer).float()
        return _ordinary(features)

    def local_features(self, pixels: Tensor) -> Tensor:
        """From preprocessed pixels to L2-normalised float32 patch features (B, P, D) in the joint space.

        What a patch says by itself, comparable with texts. Vision transformers: the values of the last
        attention block, through its output projection and what the tower does with its last tokens: the
        final layer norm, attention pooling over this token alone, the projection (Zhou et al. 2022; as
        GL-MCM, Miyai et al. 2025, takes them). Convolutional towers that average their last
        map: each place of the map through the same layers as the average.

        Raises:
            NotRun: this kind of tower has none.
            ClipRobustError: pixels of another shape.
        """
        self._check(pixels)
        with self._running(False):
            features = F.normalize(self._local_features(pixels.to(self.device)).float(), dim=-1)
        return _ordinary(features)

    def _local_features(self, pixels: Tensor) -> Tensor:
        """From pixels (B, 3, h, w) to (B, P, D), not normalised."""
        raise self._nothing_local("only ViT and averaged convolutional towers do")

    def _nothing_local(self, why: str) -> NotRun:
        return NotRun(
            f"model {self.info.name!r} gives no patch features in the space of its texts ({why})"
        )

    def _check(self, pixels: Tensor) -> None:
        if (
            pixels.ndim != 4
            or pixels.shape[1] != 3
            or not self.preprocessing.takes(pixels.shape[-2:])
        ):
            height, width = self.image_size
            such_as = "such as " if self.preprocessing.any_shape else ""
            raise ClipRobustError(
                f"model {self.info.name!r} takes pixels {such_as}(B, 3, {height}, {width}), got "
                f"{tuple(pixels.shape)}; call preprocess() first"
            )

    @contextlib.contextmanager
    def _running(self, gradients: bool) -> Iterator[None]:
        dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(self.precision)
        with contextlib.ExitStack() as stack:
            stack.enter_context(_gradients_if(gradients))
            if dtype is not None:
                stack.enter_context(torch.autocast(self.device.type, dtype=dtype))
            yield


class TwoTowerTarget(TorchTarget):
    """A target of which texts become tokens first, so that another program may encode the same tokens."""

    @abc.abstractmethod
    def tokens(self, texts: list[str]) -> dict[str, Tensor]:
        """From N strings to what the text tower reads: ``input_ids`` (N, L), perhaps ``attention_mask``."""

    @abc.abstractmethod
    def encode_tokens(self, tokens: dict[str, Tensor]) -> Tensor:
        """From tokens to features (N, D), not normalised."""

    def _encode_text(self, texts: list[str]) -> Tensor:
        return self.encode_tokens(self.tokens(texts))


def _wanted(images: Tensor) -> bool:
    return torch.is_grad_enabled() and images.requires_grad


def _gradients_if(wanted: bool) -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext() if wanted else torch.inference_mode()


def _ordinary(features: Tensor) -> Tensor:
    # A tensor made under inference_mode can never meet autograd; a copy made outside of it can.
    return features.clone() if features.is_inference() else features

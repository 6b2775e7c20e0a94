"""The user's own encoder as a target: any object with ``encode_image`` and ``encode_text``."""

from __future__ import annotations

import hashlib
import inspect
from typing import Any, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pytest_cliprobust.blame import told
from pytest_cliprobust.errors import ClipRobustError, brief
from pytest_cliprobust.perturbations.random import uniform
from pytest_cliprobust.targets.base import LAST, Layer, Target, TargetInfo
from pytest_cliprobust.targets.dense import no_patches
from pytest_cliprobust.targets.digest import canonical, model_digest
from pytest_cliprobust.targets.precision import Precision
from pytest_cliprobust.targets.preprocessing import OPENAI_MEAN, OPENAI_STD, Preprocessing, as_pair
from pytest_cliprobust.targets.registry import arguments_for
from pytest_cliprobust.targets.runtime import TorchTarget

_PROBE_TEXTS = ("a photo of a cat.", "two red cars, seen from above")

#: What a complete target has, from which an encoder that needs the adapter is told apart.
_TARGET_MEMBERS = (
    "info",
    "device",
    "image_size",
    "embed_dim",
    "logit_scale",
    "logit_bias",
    "probability",
    "frame",
    "preprocess",
    "encode_image",
    "encode_text",
)


class CallableTarget(TorchTarget):
    """Adapter of an object with two methods.

    ``encode_image(pixels)``: from normalised pixels (B, 3, h, w) float32 on the target's device to
    features (B, D). ``encode_text(texts)``: from a list of N strings to features (N, D). Neither needs
    to normalise. Optional attributes, with their defaults: ``image_size`` (224), ``mean`` and ``std``
    (OpenAI's), ``interpolation`` ("bicubic"), ``resize_mode`` ("shortest"), ``logit_scale`` (100.0,
    the factor itself), ``logit_bias`` (None), ``probability`` ("softmax", or "sigmoid" with a bias),
    ``dense_features(pixels)`` or ``dense_features(pixels, layer)``, (B, C, h, w);
    ``version`` (any text; change it when the encoder changes in a way that
    its weights and its features on two probe images do not show).
    """

    #: It may compute in half precision, or quantise, whatever was asked for: see ``engine/probe.py``.
    rounding = "bf16"

    def __init__(self, encoder: Any, **shared: Any) -> None:
        super().__init__(**shared)
        self.encoder = encoder

    def _encode_image(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.encoder.encode_image(pixels)
        return features.to(self.device)

    def _encode_text(self, texts: list[str]) -> Tensor:
        features: Tensor = self.encoder.encode_text(texts)
        return features.to(self.device)

    def _dense_features(self, pixels: Tensor, layer: Layer) -> Tensor:
        method = getattr(self.encoder, "dense_features", None)
        if not callable(method):
            raise no_patches(
                self.info.name,
                layer,
                "its encoder has no method dense_features(pixels) -> (B, C, h, w)",
            )
        chooses = "layer" in inspect.signature(method).parameters
        if layer != LAST and not chooses:
            raise no_patches(
                self.info.name, layer, "its encoder's dense_features takes no argument layer"
            )
        features: Any = method(pixels, layer=layer) if chooses else method(pixels)
        if not isinstance(features, Tensor) or features.ndim != 4 or len(features) != len(pixels):
            raise ClipRobustError(
                f"model {self.info.name!r}: dense_features must return (B, C, h, w), got "
                f"{_described(features)}"
            )
        return features


def adapt(
    name: str,
    value: Any,
    *,
    pretrained: str | None,
    device: torch.device,
    precision: Precision,
    explicit_precision: bool,
    activation: str | None,
    source: str | None = None,
) -> Target:
    """Make a target of ``value``.

    Args:
        name: what the user called it.
        value: a target; an object with ``encode_image`` and ``encode_text``; or a callable that
            returns either, called with those of ``pretrained``, ``device``, ``precision``,
            ``activation`` that its signature names.
        pretrained, activation: options of the user, for the callable.
        device, precision: resolved.
        explicit_precision: whether the user asked for ``precision``; under ``auto`` a user's encoder
            runs as it is, since its precision is its own business.
        source: what a loader of a kind of models loads: it is given ``name`` and ``source`` as well,
            and ``precision`` resolved.

    Raises:
        ClipRobustError: it is nothing of the kind, it fails, or its features are not what they must be.
    """
    options: dict[str, Any] = {
        "pretrained": pretrained,
        "device": device,
        "precision": precision if explicit_precision or source is not None else "auto",
        "activation": activation,
    }
    if source is not None:
        options |= {"name": name, "source": source}
    if not _is_encoder(value):
        if not callable(value):
            raise ClipRobustError(
                f"model {name!r} is a {type(value).__name__}; it must be a target, an object with "
                "encode_image and encode_text, or a callable that returns one"
            )
        accepted = arguments_for(name, value, options)
        try:
            value = value(**accepted)
        except ClipRobustError:
            raise
        except (Exception, SystemExit) as error:  # sys:exit, or a script's own end
            raise ClipRobustError(f"model {name!r} could not be made ({told(error)})") from error
    elif pretrained or activation:
        option = "pretrained" if pretrained else "activation"
        raise ClipRobustError(f"model {name!r} is an object, not a factory; drop --clip-{option}")
    if not _is_encoder(value):
        raise ClipRobustError(
            f"model {name!r} gave a {type(value).__name__} without "
            f"{' and '.join(m for m in ('encode_image', 'encode_text') if not hasattr(value, m))}; "
            "return a target or an object with both methods"
        )
    missing = [member for member in _TARGET_MEMBERS if not hasattr(value, member)]
    if not missing:
        return cast(Target, value)
    if isinstance(getattr(value, "info", None), TargetInfo):
        raise ClipRobustError(f"target {name!r} lacks {', '.join(missing)}; see targets/base.py")
    return _adapted(name, value, device, precision if explicit_precision else "fp32")


def _is_encoder(value: Any) -> bool:
    return not inspect.isclass(value) and all(
        callable(getattr(value, method, None)) for method in ("encode_image", "encode_text")
    )


def _adapted(name: str, encoder: Any, device: torch.device, precision: Precision) -> CallableTarget:
    if isinstance(encoder, nn.Module):
        encoder.eval().requires_grad_(False).to(device)
    elif isinstance(getattr(encoder, "device", None), str | torch.device):
        device = torch.device(encoder.device)
    said = _attributes(name, encoder)
    target = CallableTarget(
        encoder,
        info=TargetInfo(name, type(encoder).__name__, "", ""),
        preprocessing=said.preprocessing,
        device=device,
        precision=precision,
        embed_dim=0,
        logit_scale=said.logit_scale,
        logit_bias=said.logit_bias,
        probability=said.probability,
    )
    image, text = _probe(target)
    target.embed_dim = image.shape[1]
    target.info = TargetInfo(
        name=name,
        architecture=type(encoder).__name__,
        pretrained=str(getattr(encoder, "pretrained", "") or ""),
        digest=_digest(target, image, text),
        notes=("the user's own encoder",),
        tags={str(k): str(v) for k, v in dict(getattr(encoder, "tags", None) or {}).items()},
    )
    return target


class _Attributes(NamedTuple):
    """What an encoder says of itself, or what is taken for granted."""

    preprocessing: Preprocessing
    logit_scale: float
    logit_bias: float | None
    probability: Literal["softmax", "sigmoid"] | None


def _attributes(name: str, encoder: Any) -> _Attributes:
    """Return the attributes of an encoder.

    Raises:
        ClipRobustError: one of them cannot be used.
    """
    for attribute in ("logit_scale", "logit_bias"):
        # CLIP keeps the logarithm in this parameter: taken for the factor it would pass unnoticed.
        if isinstance(getattr(encoder, attribute, None), nn.Parameter):
            raise ClipRobustError(
                f"model {name!r}: {attribute} is a trainable parameter, whose meaning is not known "
                "here; give plain numbers (for CLIP: logit_scale.exp().item())"
            )
    try:
        preprocessing = Preprocessing(
            size=as_pair(getattr(encoder, "image_size", 224)),
            mean=tuple(getattr(encoder, "mean", OPENAI_MEAN)),
            std=tuple(getattr(encoder, "std", OPENAI_STD)),
            interpolation=getattr(encoder, "interpolation", "bicubic"),
            resize_mode=getattr(encoder, "resize_mode", "shortest"),
        )
        logit_scale = float(getattr(encoder, "logit_scale", 100.0))
        bias = getattr(encoder, "logit_bias", None)
        logit_bias = None if bias is None else float(bias)
    except ClipRobustError as error:
        raise ClipRobustError(f"model {name!r}: {error}") from None
    except (TypeError, ValueError) as error:
        raise ClipRobustError(
            f"model {name!r} has an unusable attribute ({brief(error)})"
        ) from None
    if not (logit_scale > 0 and logit_scale < float("inf")):
        raise ClipRobustError(
            f"model {name!r}: logit_scale must be positive and finite, got {logit_scale}; give the "
            "factor itself, not its logarithm"
        )
    probability = getattr(encoder, "probability", None)
    if probability not in (None, "softmax", "sigmoid"):
        raise ClipRobustError(
            f"model {name!r}: probability is 'softmax' or 'sigmoid', not {probability!r}"
        )
    return _Attributes(preprocessing, logit_scale, logit_bias, probability)


def _probe(target: CallableTarget) -> tuple[Tensor, Tensor]:
    """Run two images and two texts through the encoder and check what comes out."""
    name = target.info.name
    images = uniform(torch.tensor([1, 2]), (3, *target.image_size))
    results = []
    for method, argument in (
        ("encode_image", target.preprocess(images)),
        ("encode_text", list(_PROBE_TEXTS)),
    ):
        try:
            with torch.no_grad():
                features = getattr(target.encoder, method)(argument)
        except ClipRobustError:
            raise
        except (Exception, SystemExit) as error:
            what = (
                f"pixels {tuple(argument.shape)}"
                if isinstance(argument, Tensor)
                else "a list of two strings"
            )
            raise ClipRobustError(
                f"model {name!r}: {method} fails on {what} ({told(error)})"
            ) from error
        if (
            not isinstance(features, Tensor)
            or not features.is_floating_point()
            or features.ndim != 2
            or len(features) != 2
        ):
            raise ClipRobustError(
                f"model {name!r}: {method} must return a float tensor (2, D) for two inputs, got "
                f"{_described(features)}"
            )
        if not bool(torch.isfinite(features).all()) or not bool((features.norm(dim=1) > 0).all()):
            raise ClipRobustError(
                f"model {name!r}: {method} returns NaN, infinity or zero vectors; check its weights"
            )
        results.append(F.normalize(features.detach().float().cpu(), dim=-1))
    image, text = results
    if image.shape[1] != text.shape[1]:
        raise ClipRobustError(
            f"model {name!r}: encode_image returns {image.shape[1]} dimensions and encode_text "
            f"{text.shape[1]}; both must lie in one space"
        )
    return image, text


def _digest(target: CallableTarget, image: Tensor, text: Tensor) -> str:
    """Digest an encoder by its weights, where it shows any, and by what it does to the probes.

    The code may change while the weights stay: the features on the probes tell, to two decimals of
    their largest element, so that rounding differences between machines do not.
    """
    encoder = target.encoder
    modules = (
        {"": encoder}
        if isinstance(encoder, nn.Module)
        else {
            key: value
            for key, value in sorted(getattr(encoder, "__dict__", {}).items())
            if isinstance(value, nn.Module)
        }
    )
    state = {
        f"{key}.{name}": tensor
        for key, module in modules.items()
        for name, tensor in module.state_dict().items()
        if isinstance(tensor, Tensor)
    }
    behaviour = [
        (features / features.abs().amax(dim=1, keepdim=True) * 100).round().int().tolist()
        for features in (image, text)
    ]
    settings = {
        "class": f"{type(encoder).__module__}.{type(encoder).__qualname__}",
        "version": str(getattr(encoder, "version", "")),
        "behaviour": hashlib.sha256(canonical(behaviour).encode()).hexdigest(),
    }
    return model_digest(state, settings, target.preprocessing.identity(), "")


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {value.dtype}"
    return type(value).__name__

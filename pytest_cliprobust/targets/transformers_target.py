"""Targets of transformers: CLIP, SigLIP and SigLIP 2, from a folder or a hub repository."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pytest_cliprobust.errors import ClipRobustError, Unavailable, brief
from pytest_cliprobust.targets import activation as activations
from pytest_cliprobust.targets.activation import Activation
from pytest_cliprobust.targets.base import LAST, Layer, TargetInfo
from pytest_cliprobust.targets.checkpoint import check_fit
from pytest_cliprobust.targets.dense import last_attention, no_patches, value_features
from pytest_cliprobust.targets.digest import model_digest, tokenizer_identity
from pytest_cliprobust.targets.hub import hub_folder
from pytest_cliprobust.targets.precision import Precision
from pytest_cliprobust.targets.preprocessing import (
    OPENAI_MEAN,
    OPENAI_STD,
    Preprocessing,
    as_pair,
    triple,
)
from pytest_cliprobust.targets.registry import register_format, register_target
from pytest_cliprobust.targets.runtime import TorchTarget

PREFIX = "transformers:"

#: model_type of config.json: class name.
MODEL_TYPES = {"clip": "CLIPModel", "siglip": "SiglipModel", "siglip2": "Siglip2Model"}

#: PIL's numbers for resampling filters, as preprocessor_config.json has them.
_RESAMPLE = {0: "nearest", 2: "bilinear", 3: "bicubic"}


class TransformersTarget(TorchTarget):
    """A CLIPModel, SiglipModel or Siglip2Model.

    Text is padded to the model's full length. For SigLIP it is canonicalised first (lower case, no
    punctuation, as big_vision evaluates and open_clip's conversions do) and padding is not masked, as
    in training. SigLIP 2 "NaFlex" models (``model_type`` siglip2) take a variable number of patches;
    here every image is squashed to their default square grid.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, context_length: int, **shared: Any
    ) -> None:
        super().__init__(**shared)
        self.model: Any = model
        self.tokenizer = tokenizer
        self.context_length = context_length
        config: Any = model.config
        self.model_type: str = config.model_type
        self.patch_size = int(config.vision_config.patch_size)

    def _vision_inputs(self, pixels: Tensor) -> dict[str, Tensor]:
        if self.model_type != "siglip2":
            return {"pixel_values": pixels}
        count, channels, height, width = pixels.shape
        p = self.patch_size
        rows, columns = height // p, width // p
        # One row of the model's linear patch embedding is (patch row, patch column, channel).
        patches = pixels.reshape(count, channels, rows, p, columns, p).permute(0, 2, 4, 3, 5, 1)
        whole = torch.ones(count, rows * columns, dtype=torch.int32, device=pixels.device)
        return {
            "pixel_values": patches.reshape(count, rows * columns, p * p * channels),
            "pixel_attention_mask": whole,
            "spatial_shapes": torch.tensor([[rows, columns]] * count, device=pixels.device),
        }

    def _encode_image(self, pixels: Tensor) -> Tensor:
        return _tensor(self.model.get_image_features(**self._vision_inputs(pixels)))

    def _encode_text(self, texts: list[str]) -> Tensor:
        siglip = self.model_type != "clip"
        if siglip:
            texts = [_canonical(text) for text in texts]
        tokens = self.tokenizer(
            texts,
            padding="max_length",
            max_length=self.context_length,
            truncation=True,
            return_tensors="pt",
        )
        inputs = {"input_ids": tokens["input_ids"].to(self.device)}
        if not siglip and "attention_mask" in tokens:
            inputs["attention_mask"] = tokens["attention_mask"].to(self.device)
        return _tensor(self.model.get_text_features(**inputs))

    def _dense_features(self, pixels: Tensor, layer: Layer) -> Tensor:
        if layer == "values":
            return value_features(
                last_attention(self.model.vision_model.encoder),
                lambda: self._dense_features(pixels, LAST),
                self.info.name,
            )
        layers = self.model.vision_model.encoder.layers
        if not -len(layers) <= layer < len(layers):
            raise no_patches(self.info.name, layer, f"it has {len(layers)} layers, 0 the first")
        # What vision models call last_hidden_state is before the final norm for CLIP and after it
        # for SigLIP; the last block's own output is the same thing in both.
        kept: list[Tensor] = []

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            kept.append(output[0] if isinstance(output, tuple) else output)

        hook = layers[layer].register_forward_hook(keep)
        try:
            self._encode_image(pixels)
        finally:
            hook.remove()
        height, width = (edge // self.patch_size for edge in pixels.shape[-2:])
        tokens = kept[0][:, -height * width :]  # CLIP's class token comes first
        return tokens.transpose(1, 2).reshape(len(pixels), -1, height, width)


@register_target(PREFIX)
@register_format("config.json")
def load_transformers(
    name: str,
    source: str,
    *,
    pretrained: str | None = None,
    device: torch.device,
    precision: Precision,
    activation: Activation | None,
) -> TransformersTarget:
    """Load a folder, or a hub repository, of transformers.

    Args:
        name: as the user wrote it.
        source: a local folder, or ``owner/repository``.
        pretrained: must not be given.
        device, precision, activation: as for :func:`.loading.load_target`.

    Raises:
        ClipRobustError: transformers is not installed; no such folder or repository; not a CLIP or
            SigLIP model; weights missing, damaged or not fitting; a contradicting activation.
    """
    if pretrained:
        raise ClipRobustError(
            f"transformers model {name!r} takes no --clip-pretrained: its folder holds the weights"
        )
    transformers = _library(name)
    folder = _folder(name, source)
    raw = _json(folder / "config.json")
    model_class = _model_class(transformers, raw.get("model_type"), name)
    config = _config(model_class, folder, name)
    named = (source, str(raw.get("_name_or_path", "")))
    notes = [_set_activation(config, named, activation, name)]
    model = _load_weights(model_class, config, folder, name).eval().requires_grad_(False)
    preprocessing, note = _preprocessing(folder, config, config.model_type)
    notes.append(note)
    tokenizer = _load_tokenizer(transformers, folder, name)
    _check_vocabulary(tokenizer, config, name)
    info = _info(name, source, model, config, tokenizer, preprocessing, notes)
    bias = getattr(model, "logit_bias", None)
    clip = config.model_type == "clip"
    return TransformersTarget(
        model.to(device),
        tokenizer,
        int(config.text_config.max_position_embeddings),
        info=info,
        preprocessing=preprocessing,
        device=device,
        precision=precision,
        embed_dim=int(config.projection_dim if clip else config.vision_config.hidden_size),
        logit_scale=float(model.logit_scale.detach().float().exp()),
        logit_bias=None if bias is None else float(bias.detach().float()),
    )


def _library(name: str) -> Any:
    """Return the module ``transformers``, or raise with what installs it."""
    try:
        import transformers
    except ImportError:
        raise Unavailable(
            f"model {name!r} needs transformers; install it with "
            "`pip install pytest-cliprobust[transformers]`"
        ) from None
    return transformers


def _folder(name: str, source: str) -> Path:
    """Return the folder that ``source`` is, or that the hub repository of that name is loaded into."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise ClipRobustError(f"model {name!r}: there is no folder {folder}")
    return hub_folder(source, f"model {name!r}")


def _model_class(transformers: Any, model_type: Any, name: str) -> Any:
    """Return the class of transformers for the ``model_type`` of a configuration."""
    if model_type not in MODEL_TYPES:
        raise ClipRobustError(
            f"model {name!r}: config.json has model_type {model_type!r}; supported are "
            f"{', '.join(MODEL_TYPES)}"
        )
    model_class = getattr(transformers, MODEL_TYPES[model_type], None)
    if model_class is None:
        raise ClipRobustError(
            f"model {name!r} needs a newer transformers than {transformers.__version__} "
            f"({MODEL_TYPES[model_type]})"
        )
    return model_class


def _config(model_class: Any, folder: Path, name: str) -> Any:
    """Return the configuration in ``folder``."""
    try:
        return model_class.config_class.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise ClipRobustError(
            f"model {name!r}: {folder / 'config.json'} cannot be used ({brief(error)})"
        ) from None


def _set_activation(
    config: Any, named: tuple[str, str], asked: Activation | None, name: str
) -> str:
    """Put the right activation into ``config``, and return what a reader must know of it, or "".

    Args:
        config: the model's; it is changed where it names the wrong one.
        named: what the weights are called: as the user wrote it, and in ``config.json``.
        asked: ``--clip-activation``.
        name: of the model.

    Raises:
        ClipRobustError: ``asked`` contradicts what is known, or the model is no CLIP.
    """
    if config.model_type != "clip":
        if asked is None:
            return ""
        raise ClipRobustError(
            f"--clip-activation has no meaning for SigLIP model {name!r}; leave it out"
        )
    wanted, note = activations.for_transformers(
        named, config.vision_config.hidden_act, config.text_config.hidden_act, asked
    )
    if wanted:
        config.vision_config.hidden_act = config.text_config.hidden_act = wanted
    return note


def _check_vocabulary(tokenizer: Any, config: Any, name: str) -> None:
    """Raise if the tokenizer knows tokens that the text tower has no row for."""
    if len(tokenizer) > config.text_config.vocab_size:
        raise ClipRobustError(
            f"tokenizer of model {name!r} has {len(tokenizer)} tokens, its text tower "
            f"{config.text_config.vocab_size}; the tokenizer files belong to another model"
        )


def _info(
    name: str,
    source: str,
    model: Any,
    config: Any,
    tokenizer: Any,
    preprocessing: Preprocessing,
    notes: Iterable[str],
) -> TargetInfo:
    """Return what is known of a loaded model; empty ``notes`` are left out."""
    architecture = MODEL_TYPES[config.model_type]
    towers = {
        "class": architecture,
        "vision": _settings(config.vision_config),
        "text": _settings(config.text_config),
    }
    texts = {
        "context_length": int(config.text_config.max_position_embeddings),
        "canonical": config.model_type != "clip",
    }
    return TargetInfo(
        name=name,
        architecture=architecture,
        pretrained=source,
        digest=model_digest(
            model.state_dict(),
            towers,
            preprocessing.identity(),
            tokenizer_identity(tokenizer, texts),
        ),
        notes=tuple(note for note in notes if note),
        tags={
            "architecture": "ViT",
            "loss": "softmax" if getattr(model, "logit_bias", None) is None else "sigmoid",
            "image_size": "x".join(map(str, dict.fromkeys(preprocessing.size))),
            "parameters": str(sum(p.numel() for p in model.parameters())),
        },
    )


def _tensor(output: Any) -> Tensor:
    """Return the features; transformers 4 gives a tensor, 5 an output whose pooler_output they are."""
    features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return features


def _canonical(text: str) -> str:
    from open_clip.tokenizer import get_clean_fn

    cleaned: str = get_clean_fn("canonicalize")(text)
    return cleaned


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ClipRobustError(f"folder {path.parent} has no {path.name}") from None
    except (OSError, ValueError) as error:
        raise ClipRobustError(f"{path} cannot be read ({brief(error)})") from None
    if not isinstance(content, dict):
        raise ClipRobustError(f"{path} must hold a JSON object")
    return content


def _settings(config: Any) -> dict[str, Any]:
    """Return what shapes a tower, without bookkeeping (versions, paths, output options)."""
    names = [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "hidden_act",
        "layer_norm_eps",
        "patch_size",
        "image_size",
        "num_patches",
        "num_channels",
        "projection_dim",
        "projection_size",
        "vocab_size",
        "max_position_embeddings",
        "eos_token_id",
        "vision_use_head",
    ]
    return {n: getattr(config, n) for n in names if getattr(config, n, None) is not None}


def _load_weights(model_class: Any, config: Any, folder: Path, name: str) -> Any:
    files = [p for pattern in ("*.safetensors", "*.bin") for p in sorted(folder.glob(pattern))]
    if not files:
        raise ClipRobustError(
            f"model {name!r}: folder {folder} holds no weights; expected model.safetensors"
        )
    try:
        with _quiet():
            model, found = model_class.from_pretrained(
                folder, config=config, local_files_only=True, output_loading_info=True
            )
    except (
        Exception
    ) as error:  # safetensors, torch, OSError, RuntimeError: whatever the file causes
        culprit = files[0] if len(files) == 1 else folder
        text = str(error)
        if "mismatch" in text or ("size" in text and "shape" in text):
            raise ClipRobustError(
                f"checkpoint {culprit} does not fit {folder / 'config.json'} ({brief(error)}); the two "
                "belong to different models"
            ) from None
        raise ClipRobustError(
            f"checkpoint {culprit} is truncated or damaged ({brief(error)}); copy or download it again"
        ) from None
    state = model.state_dict()
    missing, unexpected = set(found["missing_keys"]), list(found["unexpected_keys"])
    # position_ids were stored by old versions and are derived today.
    there = {k: v for k, v in state.items() if k not in missing}
    there |= {k: torch.empty(0) for k in unexpected if not k.endswith("position_ids")}
    check_fit(
        state, there, str(files[0] if len(files) == 1 else folder), MODEL_TYPES[config.model_type]
    )
    if found.get("mismatched_keys"):
        raise ClipRobustError(
            f"checkpoint {folder} does not fit its config.json: {len(found['mismatched_keys'])} tensors "
            "of another shape; the two belong to different models"
        )
    return model.float()


def _load_tokenizer(transformers: Any, folder: Path, name: str) -> Any:
    try:
        with _quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # OSError, ValueError, ImportError (sentencepiece), KeyError …
        raise ClipRobustError(
            f"tokenizer of model {name!r} cannot be loaded from {folder} ({brief(error)}); check its "
            "tokenizer files"
        ) from None
    # Without files transformers makes one up, of special tokens alone: every text is the same to it.
    if len(tokenizer) <= len(set(tokenizer.all_special_tokens)):
        raise ClipRobustError(
            f"model {name!r}: folder {folder} holds no tokenizer files (tokenizer.json, or vocab.json and "
            "merges.txt); save the tokenizer into it, too: tokenizer.save_pretrained(FOLDER)"
        )
    return tokenizer


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from drawing progress bars and load reports into the test output."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _preprocessing(folder: Path, config: Any, model_type: str) -> tuple[Preprocessing, str]:
    """Read ``preprocessor_config.json`` (transformers 5 nests it in ``processor_config.json``)."""
    settings: dict[str, Any] = {}
    note = ""
    if (folder / "preprocessor_config.json").is_file():
        settings = _json(folder / "preprocessor_config.json")
    elif (folder / "processor_config.json").is_file():
        settings = _json(folder / "processor_config.json").get("image_processor") or {}
    if not settings:
        note = f"no preprocessor_config.json: took the defaults of {MODEL_TYPES[model_type]}"
    clip = model_type == "clip"
    vision = config.vision_config
    resample = settings.get("resample", {"clip": 3, "siglip": 3, "siglip2": 2}[model_type])
    if resample not in _RESAMPLE:
        raise ClipRobustError(
            f"{folder}: resample {resample!r} in the image processor's configuration is not supported; "
            "known are 0 (nearest), 2 (bilinear) and 3 (bicubic)"
        )
    shared: dict[str, Any] = {
        "mean": triple(settings.get("image_mean") or (OPENAI_MEAN if clip else 0.5)),
        "std": triple(settings.get("image_std") or (OPENAI_STD if clip else 0.5)),
        "interpolation": _RESAMPLE[resample],
    }
    if settings.get("do_normalize") is False:
        shared |= {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    if model_type == "siglip2":
        patches = int(settings.get("max_num_patches") or 256)
        edge = math.isqrt(patches) * int(vision.patch_size)
        note = "; ".join(filter(None, [note, f"NaFlex model run at a fixed {edge}x{edge} pixels"]))
        return Preprocessing(size=(edge, edge), resize_mode="squash", **shared), note
    model_size = as_pair(vision.image_size)
    size = settings.get("size", {"shortest_edge": model_size[0]} if clip else {})
    shortest = size if isinstance(size, int) else size.get("shortest_edge")
    crop = settings.get("crop_size")
    crop = (crop["height"], crop["width"]) if isinstance(crop, dict) else crop
    if shortest is not None and settings.get("do_center_crop", clip):
        cropped = as_pair(crop if crop is not None else model_size)
        resize = None if cropped[0] == cropped[1] == shortest else int(shortest)
        found = Preprocessing(size=cropped, resize_mode="shortest", resize=resize, **shared)
    else:
        squashed = (size["height"], size["width"]) if "height" in dict(size or {}) else model_size
        found = Preprocessing(size=as_pair(squashed), resize_mode="squash", **shared)
    if found.size != model_size:
        raise ClipRobustError(
            f"{folder}: the image processor gives {found.size} but config.json wants {model_size}; "
            "the two belong to different models"
        )
    return found, note

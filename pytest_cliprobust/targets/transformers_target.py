"""Targets of transformers: models of the CLIP and SigLIP families, from a folder or a hub repository."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pytest_cliprobust.errors import ClipRobustError, Unavailable, brief
from pytest_cliprobust.files import lies_there
from pytest_cliprobust.targets import activation as activations
from pytest_cliprobust.targets.activation import Activation
from pytest_cliprobust.targets.adapter import ADAPTER, merged
from pytest_cliprobust.targets.base import LAST, Layer, TargetInfo
from pytest_cliprobust.targets.checkpoint import (
    check_fit,
    check_size,
    check_types,
    lacks_weights,
    read_checkpoint,
    weights_in,
)
from pytest_cliprobust.targets.configuration import (
    check_tokenizer_files,
    check_values,
    plain_transformers,
    read_configuration,
)
from pytest_cliprobust.targets.dense import each_alone, last_attention, no_patches, value_features
from pytest_cliprobust.targets.digest import model_digest, tokenizer_identity
from pytest_cliprobust.targets.hub import hub_folder
from pytest_cliprobust.targets.image_processor import read_preprocessing
from pytest_cliprobust.targets.precision import Precision
from pytest_cliprobust.targets.preprocessing import Preprocessing
from pytest_cliprobust.targets.registry import register_format, register_target
from pytest_cliprobust.targets.runtime import TwoTowerTarget

PREFIX = "transformers:"

#: Weight files of a folder, best first.
WEIGHT_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

#: model_type of config.json: class name.
MODEL_TYPES = {
    "clip": "CLIPModel",
    "siglip": "SiglipModel",
    "siglip2": "Siglip2Model",
    "align": "AlignModel",
    "altclip": "AltCLIPModel",
    "chinese_clip": "ChineseCLIPModel",
    "metaclip_2": "MetaClip2Model",
}

#: Models whose text is canonicalised and whose padding is not masked.
_SIGLIP = ("siglip", "siglip2")

#: Tokens of a text, for models whose tower has room for far more than they were trained with.
_TRAINED_LENGTH = {"align": 64, "altclip": 77, "chinese_clip": 52}

#: Files that a tokenizer can be made of: one, or several together.
_TOKENIZER_FILES = (
    ("tokenizer.json",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
    ("tokenizer.model",),
)


class TransformersTarget(TwoTowerTarget):
    """A model of transformers with two towers, one of :data:`MODEL_TYPES`.

    Text is padded to the model's full length (or to that of its training, where the tower has room for
    far more). For SigLIP it is canonicalised first (lower case, no
    punctuation, as big_vision evaluates and open_clip's conversions do) and padding is not masked, as
    in training. SigLIP 2 "NaFlex" models (``model_type`` siglip2) take a variable number of patches: the
    pictures of a call have one shape, and none needs padding.
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
        self.patch_size = int(getattr(config.vision_config, "patch_size", None) or 0)

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

    def tokens(self, texts: list[str]) -> dict[str, Tensor]:
        """From N strings to ``input_ids`` (N, L), with ``attention_mask`` where padding is masked."""
        siglip = self.model_type in _SIGLIP
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
        return inputs

    def encode_tokens(self, tokens: dict[str, Tensor]) -> Tensor:
        """From tokens to features (N, D), not normalised."""
        return _tensor(self.model.get_text_features(**tokens))

    def _dense_features(self, pixels: Tensor, layer: Layer) -> Tensor:
        encoder = _encoder(self.model.vision_model)
        layers = getattr(encoder, "layers", None)
        if not isinstance(layers, nn.ModuleList) or not len(layers) or not self.patch_size:
            raise no_patches(self.info.name, layer, "its image tower has no patches")
        if layer == "values":
            return value_features(
                last_attention(encoder), lambda: self._dense_features(pixels, LAST), self.info.name
            )
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

    def _local_features(self, pixels: Tensor) -> Tensor:
        if not self.patch_size:
            raise self._nothing_local("its image tower has no patches")
        return each_alone(self._dense_features(pixels, "values"), self._head)

    def _head(self, tokens: Tensor) -> Tensor:
        """From tokens (N, 2, C), before the last norm, to features (N, D)."""
        vision = getattr(self.model.vision_model, "vision_model", self.model.vision_model)
        normed = vision.post_layernorm(tokens)
        if self.model_type in _SIGLIP:
            if getattr(vision, "head", None) is None:
                raise self._nothing_local("its image tower does not pool its tokens")
            features: Tensor = vision.head(normed)
        else:
            features = self.model.visual_projection(normed[:, 0])
        return features


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
    return load_merged(
        name,
        folder_of(name, source),
        source,
        device=device,
        precision=precision,
        activation=activation,
    )


def load_merged(
    name: str,
    folder: Path,
    source: str,
    *,
    adapter: Path | None = None,
    device: torch.device,
    precision: Precision,
    activation: Activation | None,
) -> TransformersTarget:
    """Load a folder with an adapter merged into its weights, if it holds one or one is given.

    Args:
        name: as the user wrote it.
        folder: with the weights.
        source: what they are called.
        adapter: a folder with an adapter for them; None: the folder itself, if it holds one.
        device, precision, activation: as for :func:`.loading.load_target`.

    Raises:
        ClipRobustError: as for :func:`load_transformers`; an adapter that cannot be merged.
    """
    transformers = _library(name)
    raw = read_configuration(folder / "config.json")
    model_class = _model_class(transformers, raw.get("model_type"), name)
    config = _config(model_class, raw, folder, name)
    named = (source, str(raw.get("_name_or_path", "")))
    notes = [_set_activation(config, named, activation, name)]
    model = _load_weights(model_class, config, folder, name)
    if adapter is None and (folder / ADAPTER).exists():
        adapter = folder
    if adapter is not None:
        model, note = merged(model, adapter, name)
        notes.append(note)
    model = model.eval().requires_grad_(False)
    preprocessing, note = read_preprocessing(folder, config)
    notes.append(note)
    tokenizer = _load_tokenizer(transformers, folder, name)
    _check_vocabulary(tokenizer, config, name)
    _check_end_of_text(tokenizer, config, folder, name)
    context_length = _context_length(config)
    info = _info(name, source, model, config, tokenizer, context_length, preprocessing, notes)
    bias = getattr(model, "logit_bias", None)
    return TransformersTarget(
        model.to(device),
        tokenizer,
        context_length,
        info=info,
        preprocessing=preprocessing,
        device=device,
        precision=precision,
        embed_dim=_embed_dim(config),
        logit_scale=_logit_scale(model, name),
        logit_bias=None if bias is None else float(bias.detach().float()),
    )


def _embed_dim(config: Any) -> int:
    siglip = config.model_type in _SIGLIP
    return int(config.vision_config.hidden_size if siglip else config.projection_dim)


def _logit_scale(model: Any, name: str) -> float:
    """Return the factor of cosines in a model's logits; ALIGN divides by a temperature."""
    temperature = getattr(model, "temperature", None)
    if temperature is None:
        return float(model.logit_scale.detach().float().exp())
    value = float(temperature.detach().float())
    if not value > 0:
        raise ClipRobustError(f"model {name!r} has a temperature of {value:g}; check its weights")
    return 1.0 / value


def _context_length(config: Any) -> int:
    positions = int(config.text_config.max_position_embeddings)
    return min(positions, _TRAINED_LENGTH.get(config.model_type, positions))


def _encoder(vision: Any) -> Any:
    """Return the part of an image tower of transformers that holds its blocks; None if it has none."""
    return getattr(getattr(vision, "vision_model", vision), "encoder", None)


def _library(name: str) -> Any:
    """Return the module ``transformers``, or raise with what installs it."""
    try:
        import transformers
    except ImportError:
        raise Unavailable(
            f"model {name!r} needs transformers; install it with `pip install transformers`"
        ) from None
    return transformers


def folder_of(name: str, source: str) -> Path:
    """Return the folder that ``source`` is, or that the hub repository of that name is loaded into."""
    folder = Path(source).expanduser()
    if lies_there(source) and folder.is_dir():
        return folder
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise ClipRobustError(f"model {name!r}: there is no folder {folder}")
    return hub_folder(source, f"model {name!r}")


def _model_class(transformers: Any, model_type: Any, name: str) -> Any:
    """Return the class of transformers for the ``model_type`` of a configuration."""
    if not isinstance(model_type, str) or model_type not in MODEL_TYPES:
        raise ClipRobustError(
            f"model {name!r}: config.json has model_type {model_type!r:.80}; supported are "
            f"{', '.join(MODEL_TYPES)}"
        )
    model_class = getattr(transformers, MODEL_TYPES[model_type], None)
    if model_class is None:
        raise ClipRobustError(
            f"model {name!r} needs a newer transformers than {transformers.__version__} "
            f"({MODEL_TYPES[model_type]})"
        )
    return model_class


def _config(model_class: Any, raw: dict[str, Any], folder: Path, name: str) -> Any:
    """Return the configuration in ``folder``."""
    path = folder / "config.json"
    try:
        with quiet():
            config = model_class.config_class.from_dict(plain_transformers(raw, path))
        check_values(config.to_dict(), path)  # with the defaults of what the file leaves out
    except ClipRobustError:
        raise
    except Exception as error:
        raise ClipRobustError(f"model {name!r}: {path} cannot be used ({brief(error)})") from None
    return config


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
        family = "SigLIP" if config.model_type in _SIGLIP else MODEL_TYPES[config.model_type]
        raise ClipRobustError(
            f"--clip-activation has no meaning for {family} model {name!r}; leave it out"
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


def _check_end_of_text(tokenizer: Any, config: Any, folder: Path, name: str) -> None:
    """Raise if the text tower looks for the end of a text at a token that the tokenizer does not write.

    CLIP's text feature stands at ``eos_token_id``; a configuration of 2, which old ones have whatever the
    tokenizer, means the largest token instead (huggingface/transformers#24650).
    """
    wanted = getattr(config.text_config, "eos_token_id", None)
    written = tokenizer.eos_token_id
    if config.model_type not in ("clip", "metaclip_2") or written is None:
        return
    if wanted is None:
        raise ClipRobustError(
            f"model {name!r}: {folder / 'config.json'} has no eos_token_id in its text_config, at which "
            f"the text's features stand; set it to the tokenizer's, {written}"
        )
    largest = max(tokenizer.get_vocab().values())
    if config.model_type == "clip" and wanted == 2:
        wanted = largest
    if wanted == written:
        return
    raise ClipRobustError(
        f"model {name!r}: {folder / 'config.json'} has eos_token_id {wanted} in its text_config, and the "
        f"tokenizer ends a text with {written}, so that every text would have the same features; set "
        "eos_token_id to the tokenizer's, or copy the tokenizer files that belong to the model"
    )


def _info(
    name: str,
    source: str,
    model: Any,
    config: Any,
    tokenizer: Any,
    context_length: int,
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
        "context_length": context_length,
        "canonical": config.model_type in _SIGLIP,
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
            "architecture": "EfficientNet" if config.model_type == "align" else "ViT",
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
        # ALIGN's image tower: the same weights compute something else with others of these.
        "batch_norm_eps",
        "depthwise_padding",
        "kernel_sizes",
        "strides",
        "hidden_dim",
        "pooling_type",
    ]
    if config.model_type == "altclip_text_model":
        names.append("pad_token_id")  # places of tokens are counted from it
    return {n: getattr(config, n) for n in names if getattr(config, n, None) is not None}


def _load_weights(model_class: Any, config: Any, folder: Path, name: str) -> Any:
    """Return the model with the weights in ``folder``, which are read here: nothing in them runs."""
    path = weights_in(folder, WEIGHT_NAMES)
    if path is None:
        raise ClipRobustError(f"model {name!r}: {lacks_weights(folder, WEIGHT_NAMES[0])}")
    state = read_checkpoint(path).state
    check_types({}, state, str(path))
    architecture = MODEL_TYPES[config.model_type]
    check_size(lambda: model_class(config), state, str(path), architecture)
    try:
        with quiet():
            model, found = model_class.from_pretrained(
                None, config=config, state_dict=dict(state), output_loading_info=True
            )
    except (
        Exception
    ) as error:  # OSError, RuntimeError, KeyError: whatever the names and shapes cause
        raise ClipRobustError(
            f"checkpoint {path} does not fit {folder / 'config.json'} ({brief(error)}); the two "
            "belong to different models"
        ) from None
    expected = model.state_dict()
    check_types(expected, state, str(path))
    missing, unexpected = set(found["missing_keys"]), list(found["unexpected_keys"])
    # position_ids were stored by old versions and are derived today.
    there = {k: v for k, v in expected.items() if k not in missing}
    there |= {k: torch.empty(0) for k in unexpected if not k.endswith("position_ids")}
    check_fit(expected, there, str(path), architecture)
    if found.get("mismatched_keys"):
        raise ClipRobustError(
            f"checkpoint {path} does not fit its config.json: {len(found['mismatched_keys'])} tensors "
            "of another shape; the two belong to different models"
        )
    return model.float()


def _load_tokenizer(transformers: Any, folder: Path, name: str) -> Any:
    # Without files transformers makes one up, of special tokens alone: every text is the same to it.
    missing = ClipRobustError(
        f"model {name!r}: folder {folder} holds no tokenizer files (tokenizer.json, or vocab.json and "
        "merges.txt); save the tokenizer into it, too: tokenizer.save_pretrained(FOLDER)"
    )
    if not any(all((folder / n).is_file() for n in names) for names in _TOKENIZER_FILES):
        raise missing
    check_tokenizer_files(folder)
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except ImportError as error:  # sentencepiece or protobuf
        raise ClipRobustError(
            f"tokenizer of model {name!r} needs a package that is not installed ({brief(error)}); "
            "`pip install pytest-cliprobust[transformers]` brings sentencepiece and protobuf"
        ) from None
    except Exception as error:  # OSError, ValueError, KeyError …
        raise ClipRobustError(
            f"tokenizer of model {name!r} cannot be loaded from {folder} ({brief(error)}); check its "
            "tokenizer files"
        ) from None
    if len(tokenizer) <= len(set(tokenizer.all_special_tokens)):
        raise missing
    if tokenizer.pad_token is None:
        raise ClipRobustError(
            f"tokenizer of model {name!r} has no pad_token, with which all texts get one length; set it in "
            f"{folder / 'tokenizer_config.json'}"
        )
    return tokenizer


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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

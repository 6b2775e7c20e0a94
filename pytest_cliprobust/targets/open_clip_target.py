"""Targets of open_clip: architectures and tags, hub repositories, local folders and checkpoints."""

from __future__ import annotations

import copy
import gzip
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pytest_cliprobust.errors import ClipRobustError, Unavailable, brief, did_you_mean
from pytest_cliprobust.files import lies_there, read_json, require_regular
from pytest_cliprobust.targets import activation as activations
from pytest_cliprobust.targets.activation import Activation, Choice
from pytest_cliprobust.targets.adapter import ADAPTER, merged
from pytest_cliprobust.targets.base import LAST, Layer, TargetInfo
from pytest_cliprobust.targets.checkpoint import (
    Checkpoint,
    check_size,
    load_into,
    read_checkpoint,
    weights_in,
)
from pytest_cliprobust.targets.configuration import (
    MAX_CONFIG,
    check_open_clip,
    check_tokenizer_files,
    read_configuration,
)
from pytest_cliprobust.targets.dense import each_alone, last_attention, no_patches, value_features
from pytest_cliprobust.targets.digest import model_digest, tokenizer_identity
from pytest_cliprobust.targets.hub import FOLDER_REMEDY, hub_file, require_hub
from pytest_cliprobust.targets.precision import Precision
from pytest_cliprobust.targets.preprocessing import Preprocessing
from pytest_cliprobust.targets.registry import register_format, register_target
from pytest_cliprobust.targets.runtime import TwoTowerTarget

CONFIG_NAME = "open_clip_config.json"

#: Weight files of a folder or hub repository, best first (open_clip's names, then generic ones).
WEIGHT_NAMES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "open_clip_model.safetensors.index.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
#: Files by which a transformers tokenizer beside the weights is told.
_TOKENIZER_NAMES = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.txt", "spiece.model"),
    "sentencepiece.bpe.model",
)
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")

#: A merge table of CLIP's byte-pair tokenizer beside the weights, where it is not the standard one.
MERGES_NAME = "merges.txt.gz"

#: Bytes of such a table, unpacked; CLIP's own has three million.
MAX_MERGES = 2**26

#: Families of training data, the most widely used first; see :func:`default_tag`.
_PREFERRED = ("laion2b", "datacomp", "openai")

#: Training data by the start of a tag, the longest that matches wins.
_TRAINING_DATA = {
    "openai": "WIT-400M",
    "laion400m": "LAION-400M",
    "laion2b": "LAION-2B",
    "laion5b": "LAION-5B",
    "laion_aesthetic": "LAION-Aesthetic",
    "frozen_laion5b": "LAION-5B",
    "mscoco_finetuned_laion2b": "LAION-2B",
    "datacomp": "DataComp",
    "datacompdr": "DataCompDR",
    "commonpool": "CommonPool",
    "dfn": "DFN",
    "dfndr": "DFNDR",
    "metaclip": "MetaCLIP",
    "metaclip2": "MetaCLIP 2",
    "webli": "WebLI",
    "yfcc15m": "YFCC-15M",
    "cc12m": "CC-12M",
    "merged2b": "Merged-2B",
}


@dataclass(frozen=True)
class _Spec:
    """Everything that it takes to build a model; the fields of ``open_clip_config.json`` and more."""

    name: str
    architecture: str
    pretrained: str
    config: dict[str, Any]
    preprocess: Mapping[str, Any]
    checkpoint: Checkpoint
    tokenizer_folder: Path | None = None  # with tokenizer files, if it holds any
    adapter: Path | None = None  # a folder with one
    notes: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


class OpenClipTarget(TwoTowerTarget):
    """A model of open_clip (CLIP, CustomTextCLIP with any tower, CoCa)."""

    def __init__(self, model: nn.Module, tokenizer: Any, **shared: Any) -> None:
        super().__init__(**shared)
        self.model: Any = model
        self.tokenizer = tokenizer

    def _encode_image(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.model.encode_image(pixels, normalize=False)
        return features

    def tokens(self, texts: list[str]) -> dict[str, Tensor]:
        """From N strings to ``input_ids`` (N, L)."""
        return {"input_ids": self.tokenizer(texts).to(self.device)}

    def encode_tokens(self, tokens: dict[str, Tensor]) -> Tensor:
        """From tokens to features (N, D), not normalised."""
        features: Tensor = self.model.encode_text(tokens["input_ids"], normalize=False)
        return features

    def _dense_features(self, pixels: Tensor, layer: Layer) -> Tensor:
        if layer == "values":
            attention = last_attention(self.model.visual)
            return value_features(
                attention, lambda: self._dense_features(pixels, LAST), self.info.name
            )
        if not hasattr(self.model.visual, "forward_intermediates"):
            raise no_patches(
                self.info.name, layer, "its image tower gives no intermediate features"
            )
        try:
            output = self.model.visual.forward_intermediates(
                pixels, indices=[layer], intermediates_only=True, output_fmt="NCHW"
            )
        except (AttributeError, NotImplementedError, AssertionError) as error:
            raise no_patches(self.info.name, layer, brief(error)) from None
        features: Tensor = output["image_intermediates"][-1]
        return features

    def _local_features(self, pixels: Tensor) -> Tensor:
        from open_clip.timm_model import TimmModel
        from open_clip.transformer import VisionTransformer

        visual = self.model.visual
        if not isinstance(visual, VisionTransformer | TimmModel):
            raise self._nothing_local(f"its image tower is a {type(visual).__name__}")
        if last_attention(visual) is not None:
            values = self._dense_features(pixels, "values")
            head = self._head_of_timm if isinstance(visual, TimmModel) else self._head
            return each_alone(values, head)
        if not isinstance(visual, TimmModel):
            raise self._nothing_local("its attention is not the usual one")
        return self._places(visual, pixels)

    def _head(self, tokens: Tensor) -> Tensor:
        """From tokens (N, 2, C), before the last norm, to features (N, D)."""
        visual = self.model.visual
        pooled: Tensor = visual._pool(tokens)[0]
        if pooled.ndim != 2:
            raise self._nothing_local("its image tower does not pool its tokens")
        return pooled if visual.proj is None else pooled @ visual.proj

    def _head_of_timm(self, tokens: Tensor) -> Tensor:
        visual = self.model.visual
        prefix = int(getattr(visual.trunk, "num_prefix_tokens", 0))
        tokens = tokens[:, :1].expand(-1, 1 + prefix, -1)
        features: Tensor = visual.head(visual.trunk.forward_head(visual.trunk.norm(tokens)))
        return features

    def _places(self, visual: Any, pixels: Tensor) -> Tensor:
        """Return (B, P, D): each place of the last map of a tower that averages it, as the average."""
        found = visual.trunk.forward_features(pixels)
        if found.ndim != 4:
            raise self._nothing_local("its image tower is neither a ViT nor averages a map")
        if getattr(visual.trunk, "output_fmt", "NCHW") == "NHWC":
            batch, height, width, channels = found.shape
            places = found.reshape(-1, 1, 1, channels)
        else:
            batch, channels, height, width = found.shape
            places = found.permute(0, 2, 3, 1).reshape(-1, channels, 1, 1)
        features: Tensor = visual.head(visual.trunk.forward_head(places))
        return features.reshape(batch, height * width, -1)


def split_name(name: str) -> tuple[str, str | None] | None:
    """Split ``architecture`` or ``architecture/tag``; None if no architecture of open_clip is meant.

    OpenAI's spelling with a slash (``ViT-B/32``) is understood, as open_clip does.
    """
    known = architectures()
    if name.replace("/", "-") in known:
        return name.replace("/", "-"), None
    head, slash, tag = name.rpartition("/")
    if slash and head.replace("/", "-") in known:
        return head.replace("/", "-"), tag
    return None


def is_architecture(name: str) -> bool:
    """Whether ``name`` is an architecture of open_clip, with a tag or without."""
    return split_name(name) is not None


def architectures() -> list[str]:
    """Return the names of open_clip's architectures."""
    from open_clip import list_models

    names: list[str] = list_models()
    return names


def default_tag(architecture: str) -> str | None:
    """Return the tag taken when the user names none, or None if open_clip has no weights.

    The rule: the first family of LAION-2B, DataComp and OpenAI that has a tag; within it the tag
    with the most samples seen (the ``s34b`` of ``laion2b_s34b_b79k``), and of equals the first in
    open_clip's list; without such a family, the first tag in open_clip's list.
    """
    from open_clip.pretrained import list_pretrained_tags_by_model

    tags: list[str] = list_pretrained_tags_by_model(architecture)
    for family in _PREFERRED:
        members = [tag for tag in tags if tag.startswith(family)]
        if members:
            return max(members, key=samples_seen)  # max() keeps the first of equals
    return tags[0] if tags else None


def samples_seen(tag: str) -> float:
    """Return the number of training samples that a tag states, 0 if it states none."""
    match = re.search(r"_s(\d+(?:\.\d+)?)([mb])(?:_|$)", tag)
    return float(match[1]) * {"m": 1e6, "b": 1e9}[match[2]] if match else 0.0


@register_target("open_clip architecture", recognise=is_architecture, names=architectures)
def load_architecture(
    name: str,
    source: str,
    *,
    pretrained: str | None,
    device: torch.device,
    precision: Precision,
    activation: Activation | None,
) -> OpenClipTarget:
    """Load an architecture by name with the weights of a tag or of a local checkpoint.

    Args:
        name: as the user wrote it.
        source: a name of open_clip, with a tag after a slash or without.
        pretrained: ``--clip-pretrained``: a tag, or the path of a checkpoint.
        device, precision, activation: as for :func:`.loading.load_target`.

    Raises:
        ClipRobustError: unknown tag, no such file, a checkpoint that does not fit, an activation that
            nobody knows, no hub in reach.
    """
    from open_clip.factory import get_model_config
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    architecture, tag = split_name(source) or (source, None)
    known = list_pretrained_tags_by_model(architecture)
    if tag is not None and pretrained not in (None, tag):
        raise ClipRobustError(
            f"--clip-model {name} names tag {tag!r} and --clip-pretrained names {pretrained!r}; drop one"
        )
    wanted = tag or pretrained
    notes = []
    if wanted is None:
        wanted = default_tag(architecture)
        if wanted is None:
            raise ClipRobustError(
                f"open_clip has no weights for architecture {architecture!r}; give a checkpoint with "
                "--clip-pretrained PATH"
            )
        notes.append(
            f"no tag given: took {wanted!r} of open_clip's {len(known)} for {architecture}"
        )
    preprocess = get_pretrained_cfg(architecture, wanted)
    path = Path(wanted).expanduser()
    if preprocess:
        found = _of_tag(architecture, wanted, preprocess, activation)
    elif tag is None and (lies_there(path) or _looks_like_path(wanted)):
        found = _of_checkpoint(architecture, path, known, activation)
    else:
        raise _unknown_tag(architecture, wanted, known)
    choice = found.choice
    return _assemble(
        _Spec(
            name=name,
            architecture=choice.architecture,
            pretrained=str(wanted),
            config=_with_activation(dict(get_model_config(architecture)), choice),
            preprocess=found.preprocess,
            checkpoint=found.checkpoint,
            tokenizer_folder=found.folder,
            notes=(*notes, *found.notes, *([choice.note] if choice.note else [])),
            tags=found.tags,
        ),
        device,
        precision,
    )


@dataclass(frozen=True)
class _Found:
    """Weights for an architecture of open_clip, and what is known with them."""

    choice: Choice
    checkpoint: Checkpoint
    preprocess: Mapping[str, Any]
    folder: Path | None = None
    notes: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)


def _of_tag(
    architecture: str, tag: str, preprocess: Mapping[str, Any], activation: Activation | None
) -> _Found:
    """Return the weights of a tag of open_clip."""
    choice = activations.for_tag(architecture, tag, activation)
    checkpoint = _downloaded(f"model '{architecture}/{tag}'", preprocess["hf_hub"])
    return _Found(choice, checkpoint, preprocess, tags=_tag_facts(tag))


def _of_checkpoint(
    architecture: str, path: Path, known: list[str], activation: Activation | None
) -> _Found:
    """Return the weights of a file or folder of the user's own."""
    checkpoint = read_checkpoint(path)
    choice = activations.for_checkpoint(
        architecture, activation, source=str(path), openai_archive=checkpoint.openai_archive
    )
    preprocess, note = _preprocessing_of(architecture, known)
    return _Found(choice, checkpoint, preprocess, path.absolute().parent, (note,))


@register_format(CONFIG_NAME)
def load_folder(
    name: str,
    source: str,
    *,
    pretrained: str | None,
    device: torch.device,
    precision: Precision,
    activation: Activation | None,
    architecture: str | None = None,
    adapter: Path | None = None,
) -> OpenClipTarget:
    """Load a folder with ``open_clip_config.json`` and weights (what ``local-dir:`` of open_clip reads).

    ``pretrained``, if given, is a checkpoint that takes the place of the folder's own weights, and
    ``adapter`` a folder with a LoRA adapter for them; without, one that lies in the folder is merged.

    Raises:
        ClipRobustError: configuration or weights missing, damaged or not fitting each other.
    """
    folder = Path(source).expanduser()
    config, preprocess = _read_config(folder / CONFIG_NAME)
    if adapter is None and (folder / ADAPTER).exists():
        adapter = folder
    checkpoint = read_checkpoint(
        Path(pretrained).expanduser() if pretrained else _weights_in(folder)
    )
    architecture = architecture or folder.resolve().name
    choice = activations.for_config(architecture, config, activation)
    return _assemble(
        _Spec(
            name=name,
            architecture=architecture,
            pretrained=str(checkpoint.path if pretrained else folder),
            config=_with_activation(config, choice),
            preprocess=preprocess,
            checkpoint=checkpoint,
            tokenizer_folder=folder,
            adapter=adapter,
            notes=(choice.note,) if choice.note else (),
            tags=_card_facts(folder / "model_card.json"),
        ),
        device,
        precision,
    )


@register_target("hf-hub:")
def load_hub(
    name: str,
    source: str,
    *,
    pretrained: str | None,
    device: torch.device,
    precision: Precision,
    activation: Activation | None,
) -> OpenClipTarget:
    """Load a hub repository in open_clip's format (``hf-hub:owner/name``).

    Raises:
        ClipRobustError: as for :func:`load_folder`, and no such repository or no hub in reach.
    """
    wanted = f"model {name!r}"
    config_path = hub_file(source, (CONFIG_NAME,), wanted, FOLDER_REMEDY)
    config, preprocess = _read_config(config_path)
    if pretrained:
        checkpoint = read_checkpoint(Path(pretrained).expanduser())
    else:
        checkpoint = read_checkpoint(hub_file(source, WEIGHT_NAMES, wanted, FOLDER_REMEDY))
    choice = activations.for_config(source, config, activation)
    return _assemble(
        _Spec(
            name=name,
            architecture=source,
            pretrained=pretrained or source,
            config=_with_activation(config, choice),
            preprocess=preprocess,
            checkpoint=checkpoint,
            notes=(choice.note,) if choice.note else (),
        ),
        device,
        precision,
    )


def _assemble(spec: _Spec, device: torch.device, precision: Precision) -> OpenClipTarget:
    """Build the model, load the weights, and put preprocessing, tokenizer and identity beside them."""
    tokenizer, token_settings = _tokenizer(spec)
    kind, arguments, _ = _parts(spec.config, spec.name)
    check_size(
        lambda: kind(**copy.deepcopy(arguments)),
        spec.checkpoint.state,
        str(spec.checkpoint.path),
        spec.architecture,
    )
    model, settings = build_model(spec.config, spec.name)
    notes = list(spec.notes) + load_into(model, spec.checkpoint, spec.architecture)
    if spec.adapter is not None:
        model, note = merged(model, spec.adapter, spec.name)
        notes.append(note)
    if device.type != "cpu" and precision == "fp32":
        notes.append("convolutions and matrix products in fp32 as torch is set up (TF32 or not)")
    model = model.eval().requires_grad_(False)
    visual: Any = model.visual
    _lay_out(visual, device)
    size = getattr(visual, "image_size", None) or spec.config["vision_cfg"].get("image_size", 224)
    preprocessing = Preprocessing.from_open_clip(spec.preprocess, size)
    _check_trunk(visual, preprocessing.size, spec.name)
    scale: Any = model.logit_scale
    bias: Any = model.logit_bias
    logit_bias = None if bias is None else float(bias.detach().float())
    parameters = sum(p.numel() for p in model.parameters())
    info = TargetInfo(
        name=spec.name,
        architecture=spec.architecture,
        pretrained=spec.pretrained,
        digest=model_digest(
            model.state_dict(),
            settings,
            preprocessing.identity(),
            tokenizer_identity(tokenizer, token_settings),
        ),
        notes=tuple(notes),
        tags={
            "architecture": _family(spec.config),
            "loss": "softmax" if logit_bias is None else "sigmoid",
            "image_size": "x".join(map(str, dict.fromkeys(preprocessing.size))),
            "parameters": str(parameters),
            **spec.tags,
        },
    )
    return OpenClipTarget(
        model.to(device),
        tokenizer,
        info=info,
        preprocessing=preprocessing,
        device=device,
        precision=precision,
        embed_dim=int(spec.config["embed_dim"]),
        logit_scale=float(scale.detach().float().exp()),
        logit_bias=logit_bias,
    )


def _lay_out(tower: nn.Module, device: torch.device) -> None:
    """On a CPU, let a convolutional tower keep channels last: small ones are a third faster so.

    The values stay; sums run in another order, so that features differ by some 1e-6. What convolves
    patches beside each other only, as a ViT does, gains nothing and stays as it is.
    """
    if device.type == "cpu" and any(
        kernel > stride
        for module in tower.modules()
        if isinstance(module, nn.Conv2d)
        for kernel, stride in zip(module.kernel_size, module.stride, strict=True)
    ):
        tower.to(memory_format=torch.channels_last)


def _check_trunk(visual: Any, size: tuple[int, int], name: str) -> None:
    """Raise if a tower of timm takes pictures of one size, and the configuration names another.

    open_clip does not tell timm the size, so that its own model fails at the first picture, too.

    Raises:
        ClipRobustError: both sizes are named.
    """
    patches = getattr(getattr(visual, "trunk", None), "patch_embed", None)
    own = getattr(patches, "img_size", None)
    if own is None or not getattr(patches, "strict_img_size", False) or tuple(own) == size:
        return
    raise ClipRobustError(
        f"model {name!r}: its configuration has image_size {size}, and its timm tower takes {tuple(own)} "
        "alone; set image_size in its vision_cfg to that"
    )


def build_model(config: Mapping[str, Any], name: str) -> tuple[nn.Module, dict[str, Any]]:
    """Build an open_clip model with random weights, without downloading any for its towers.

    Returns:
        the model (float32, CPU) and the settings that shape it, for the digest.

    Raises:
        ClipRobustError: the configuration describes no model, or names a text tower whose
            configuration is not in reach.
    """
    kind, arguments, settings = _parts(config, name)
    try:
        model: nn.Module = kind(**arguments)
    except Exception as error:  # open_clip and timm raise all sorts on a configuration they dislike
        raise ClipRobustError(
            f"the configuration of model {name!r} cannot be built ({brief(error)}); check its "
            f"{CONFIG_NAME} and the versions of open_clip and timm"
        ) from None
    return model, settings


def _parts(
    config: Mapping[str, Any], name: str
) -> tuple[type[nn.Module], dict[str, Any], dict[str, Any]]:
    """Return class and arguments of a model, and the settings that shape it."""
    from open_clip.coca_model import CoCa
    from open_clip.model import CLIP, CustomTextCLIP

    settings = copy.deepcopy(dict(config))
    # What the towers would start from before training changes nothing once weights are loaded.
    settings["vision_cfg"].pop("timm_model_pretrained", None)
    settings["text_cfg"].pop("hf_model_pretrained", None)
    arguments = copy.deepcopy(settings)
    custom = bool(arguments.pop("custom_text", False))
    text, vision = arguments["text_cfg"], arguments["vision_cfg"]
    if vision.get("timm_model_name"):
        vision["timm_model_pretrained"] = False
    if text.get("hf_model_name"):
        custom = True
        _require_transformers(name)
        text["hf_model_pretrained"] = False
        # A folder keeps transformers from asking the hub about a configuration that is cached.
        folder = Path(text["hf_model_name"])
        if not (lies_there(folder) and folder.is_dir()):
            wanted = f"text tower of {name!r}"
            folder = hub_file(text["hf_model_name"], ("config.json",), wanted).parent
        if "auto_map" in read_configuration(folder / "config.json"):
            raise ClipRobustError(
                f"{folder / 'config.json'}, the text tower of {name!r}, brings code of its own "
                "(auto_map), which is never run"
            )
        text["hf_model_name"] = str(folder)
    kind: type[nn.Module] = CustomTextCLIP if custom else CLIP
    if custom and "multimodal_cfg" in arguments:
        kind = CoCa
    settings["kind"] = kind.__name__
    settings["quick_gelu"] = bool(settings.get("quick_gelu", False))
    return kind, arguments, settings


def _tokenizer(spec: _Spec) -> tuple[Any, dict[str, Any]]:
    """Return the tokenizer that the configuration asks for, and the settings of its calls."""
    from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer

    text = spec.config["text_cfg"]
    settings = dict(text.get("tokenizer_kwargs") or {})
    # Dropping tokens at random is for training; evaluation truncates.
    if settings.get("reduction_mask") in ("simple", "random", "shuffle"):
        settings.pop("reduction_mask")
    context = text.get("context_length", DEFAULT_CONTEXT_LENGTH)
    folder = spec.tokenizer_folder
    hub_name = text.get("hf_tokenizer_name")
    if not hub_name:
        if folder is not None and (folder / MERGES_NAME).exists():
            _check_merges(folder / MERGES_NAME)
            settings["bpe_path"] = str(folder / MERGES_NAME)
        try:
            tokenizer = SimpleTokenizer(context_length=context, **settings)
        except Exception as error:
            raise ClipRobustError(
                f"tokenizer of model {spec.name!r} cannot be built ({brief(error)}); check "
                f"tokenizer_kwargs in {CONFIG_NAME}"
                + (f" and {folder / MERGES_NAME}" if "bpe_path" in settings and folder else "")
            ) from None
        settings.pop("bpe_path", None)  # the merges themselves are in the identity
        size = int(text.get("vocab_size", tokenizer.vocab_size))
        if tokenizer.vocab_size > size:
            raise ClipRobustError(
                f"tokenizer of model {spec.name!r} has {tokenizer.vocab_size} tokens, its text tower "
                f"{size}; put the merges it was trained with into the folder as {MERGES_NAME}"
            )
        return tokenizer, {**settings, "context_length": context}
    _require_transformers(spec.name)
    local = folder is not None and any((folder / n).is_file() for n in _TOKENIZER_NAMES)
    for place in (folder, Path(hub_name)):  # a path of its owner's machine may be there on this one
        if place is not None and lies_there(place):
            check_tokenizer_files(place)
    arguments = {
        "context_length": context,
        "tokenizer_mode": text.get("tokenizer_mode"),
        **settings,
    }
    wanted = f"tokenizer of model {spec.name!r}"
    source = str(folder) if local else hub_name
    try:
        tokenizer = HFTokenizer(source, local_files_only=True, trust_remote_code=False, **arguments)
    except Exception as error:  # transformers raises OSError, ValueError, ImportError and more
        if local or isinstance(error, ImportError):
            raise _bad_tokenizer(wanted, source, error) from None
        require_hub(wanted, _where_tokenizers_go(hub_name, folder))
        try:
            tokenizer = HFTokenizer(source, trust_remote_code=False, **arguments)
        except Exception as second:
            raise _bad_tokenizer(wanted, source, second) from None
    return tokenizer, arguments


def _where_tokenizers_go(hub_name: str, folder: Path | None) -> str:
    where = f"the folder {folder}" if folder is not None else "a folder with the model"
    return (
        f"its tokenizer files are missing: copy tokenizer.json and tokenizer_config.json of {hub_name} "
        f"into {where}"
    )


def _check_merges(path: Path) -> None:
    """Raise if a table of merges is no file, is empty, or grows beyond reason when it is unpacked."""
    require_regular(path, "table of merges")
    try:
        with gzip.open(path) as file:
            size = len(file.read(MAX_MERGES + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise ClipRobustError(f"table of merges {path} cannot be read ({brief(error)})") from None
    if not size:
        raise ClipRobustError(f"table of merges {path} is empty; copy or download it again")
    if size > MAX_MERGES:
        raise ClipRobustError(f"table of merges {path} unpacks to more than {MAX_MERGES} bytes")


def _bad_tokenizer(wanted: str, source: str, error: Exception) -> ClipRobustError:
    return ClipRobustError(
        f"{wanted} cannot be loaded from {source} ({brief(error)}); check its tokenizer files"
    )


def _require_transformers(name: str) -> None:
    try:
        import transformers  # noqa: F401
    except ImportError:
        raise Unavailable(
            f"model {name!r} needs transformers; install it with `pip install transformers`"
        ) from None


def _downloaded(wanted: str, location: str) -> Checkpoint:
    """Fetch the weights of a tag; ``location`` is open_clip's ``owner/repository/[file]``."""
    repository, _, filename = location.rpartition("/")
    if not filename:
        names: tuple[str, ...] = (WEIGHT_NAMES[0], WEIGHT_NAMES[2])
    else:
        names = (str(Path(filename).with_suffix(".safetensors")), filename)
    return read_checkpoint(hub_file(repository, names, wanted))


def _read_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return ``model_cfg`` and ``preprocess_cfg`` of an ``open_clip_config.json``, both checked."""
    if not path.exists():
        raise ClipRobustError(f"folder {path.parent} has no {CONFIG_NAME}")
    content = read_configuration(path)
    config = content.get("model_cfg", content)
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
        raise ClipRobustError(
            f"{path} describes no model: it needs a model_cfg with embed_dim, vision_cfg and text_cfg"
        )
    check_open_clip(config, path)
    preprocess = content.get("preprocess_cfg") or {}
    if not isinstance(preprocess, dict):
        raise ClipRobustError(f"{path}: preprocess_cfg must be an object, not {preprocess!r:.40}")
    return config, preprocess


def _weights_in(folder: Path) -> Path:
    found = weights_in(folder, WEIGHT_NAMES)
    if found is not None:
        return found
    others = sorted(p for p in folder.iterdir() if p.suffix in _WEIGHT_SUFFIXES)
    if not others:
        raise ClipRobustError(
            f"folder {folder} holds no weights; expected {WEIGHT_NAMES[0]} beside {CONFIG_NAME}"
        )
    names = ", ".join(p.name for p in others[:4])
    raise ClipRobustError(
        f"folder {folder} holds several checkpoints ({names}); say which with --clip-pretrained "
        f"PATH, or call it {WEIGHT_NAMES[0]}"
    )


def _with_activation(config: dict[str, Any], choice: Choice) -> dict[str, Any]:
    return {**config, "quick_gelu": choice.quick_gelu}


def _preprocessing_of(architecture: str, tags: list[str]) -> tuple[dict[str, Any], str]:
    """Return the preprocessing for a bare state dict: that of all the architecture's tags, if one."""
    from open_clip.pretrained import get_pretrained_cfg

    keys = ("mean", "std", "interpolation", "resize_mode")
    base = architecture.removesuffix(activations.SUFFIX)
    configs = [
        {key: get_pretrained_cfg(base, tag).get(key) for key in keys}
        for tag in tags
        if get_pretrained_cfg(base, tag)
    ]
    if configs and all(config == configs[0] for config in configs):
        return configs[0], f"preprocessing as for open_clip's weights of {architecture}"
    why = "whose weights differ in it" if configs else "of which open_clip has no weights"
    return {}, f"preprocessing: open_clip's default (OpenAI's) for {architecture}, {why}"


def _looks_like_path(text: str) -> bool:
    return "/" in text or "\\" in text or Path(text).suffix in (*_WEIGHT_SUFFIXES, ".ckpt")


def _unknown_tag(architecture: str, tag: str, known: list[str]) -> ClipRobustError:
    from open_clip.pretrained import is_pretrained_cfg

    sibling = (
        architecture.removesuffix(activations.SUFFIX)
        if architecture.endswith(activations.SUFFIX)
        else architecture + activations.SUFFIX
    )
    if is_pretrained_cfg(sibling, tag):
        return ClipRobustError(
            f"tag {tag!r} was trained as {sibling!r}, not as {architecture!r}; use "
            f"--clip-model {sibling}/{tag}"
        )
    hint = did_you_mean(tag, known)
    some = f" Known: {', '.join(known[:8])}{', …' if len(known) > 8 else ''}." if known else ""
    return ClipRobustError(
        f"architecture {architecture!r} has no tag {tag!r}, and no such file exists.{hint or some} "
        "A local checkpoint is given with --clip-pretrained PATH"
    )


def _family(config: Mapping[str, Any]) -> str:
    """Return the kind of image tower, for the six-factor study."""
    vision = config["vision_cfg"]
    timm_name = str(vision.get("timm_model_name") or "")
    if not timm_name:
        return "ResNet" if isinstance(vision.get("layers"), list | tuple) else "ViT"
    families = {
        "convnext": "ConvNeXt",
        "vitamin": "ViTamin",
        "vit": "ViT",
        "eva": "ViT",
        "swin": "Swin",
        "fastvit": "FastViT",
        "mci": "FastViT",
        "resnet": "ResNet",
        "regnet": "RegNet",
        "repvgg": "RepVGG",
    }
    return next((f for start, f in families.items() if timm_name.startswith(start)), timm_name)


def _tag_facts(tag: str) -> dict[str, str]:
    """Return what a tag's name tells of the training: data, samples seen, fine-tuning."""
    plain = tag.lower().replace("-", "_")
    start = max((s for s in _TRAINING_DATA if plain.startswith(s)), key=len, default=None)
    facts = {"fine_tuned": "yes" if "finetuned" in plain or plain.endswith("_ft") else "no"}
    if start:
        facts["training_data"] = _TRAINING_DATA[start]
    if samples_seen(plain):
        facts["samples_seen"] = f"{samples_seen(plain):.3g}"
    return facts


def _card_facts(path: Path) -> dict[str, str]:
    """Return the ``tags`` of a folder's ``model_card.json`` (plain values only), if it has one."""
    if not path.exists():
        return {}
    card = read_json(path, "model card", MAX_CONFIG)
    tags = card.get("tags") or {}
    if not isinstance(tags, dict):
        raise ClipRobustError(f"{path} cannot be read: its tags are no object")
    if "samples_seen" in card:
        tags = {"samples_seen": card["samples_seen"], **tags}
    return {str(k): str(v) for k, v in tags.items() if isinstance(v, str | int | float)}

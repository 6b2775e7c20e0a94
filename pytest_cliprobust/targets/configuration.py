"""Configurations of models, looked at before anything is built from them.

They come with the weights, from anywhere. A number may ask for more memory than there is, a name for the
network, a setting for a kernel that is downloaded and run: what is not known to be harmless is refused in
one line that names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from pytest_cliprobust.errors import ClipRobustError, did_you_mean
from pytest_cliprobust.files import read_json, require_regular

MAX_CONFIG = 2**24
"""Bytes of a configuration; those of models have some thousand."""

#: The largest values that a setting may have, by the end of its name; all are whole numbers above 0.
_LIMITS = {
    "layers": 256,
    "depth": 256,
    "repeats": 8,
    "heads": 512,
    "embed_dim": 2**14,
    "width": 2**14,
    "dim_head": 2**12,
    "hidden_size": 2**14,
    "hidden_dim": 2**14,
    "intermediate_size": 2**17,
    "projection_dim": 2**14,
    "projection_size": 2**14,
    "context_length": 2**13,
    "max_position_embeddings": 2**15,
    "type_vocab_size": 2**10,
    "vocab_size": 2**21,
    "image_size": 2**12,
    "patch_size": 2**10,
    "num_patches": 2**16,
    "num_channels": 3,
    "queries": 2**12,
}

#: Distances of depth estimators, whose names end like a number of layers.
_DISTANCES = frozenset({"min_depth", "max_depth"})

#: Settings that may be missing, as None, or zero.
_OPTIONAL = frozenset({"patch_size", "embed_dim", "vocab_size"})

#: Settings of a transformers configuration that choose what computes, which is not the checkpoint's to say.
_IMPLEMENTATION = frozenset(
    {
        "attn_implementation",
        "_attn_implementation",
        "_attn_implementation_internal",
        "_attn_implementation_autoset",
        "experts_implementation",
        "_experts_implementation",
        "use_kernels",
        "auto_map",
        "torch_dtype",
        "dtype",
        "fusion_config",
        "kernel_config",
    }
)

#: What open_clip's tokenizers may be told.
_TOKENIZER_SETTINGS = frozenset(
    {"clean", "strip_sep_token", "reduction_mask", "language", "tokenizer_mode"}
)

#: Factors for widths and depths, as EfficientNet has them.
_MAX_FACTOR = 10

_MAX_NUMBER, _MAX_DEPTH, _MAX_ENTRIES, _MAX_TEXT, _MAX_LIST = 10**8, 8, 50_000, 4096, 64


def read_configuration(path: Path) -> dict[str, Any]:
    """Return a configuration whose numbers, texts and depth are within reason.

    Raises:
        ClipRobustError: it cannot be read, or holds what no model needs; the message names it.
    """
    content = read_json(path, "configuration", MAX_CONFIG)
    check_values(content, path)
    return content


def check_values(content: Mapping[str, Any], path: Path) -> None:
    """Check every value of a configuration, however deep.

    Raises:
        ClipRobustError: a number that is not finite or too large for its setting, a text or a list too
            long, or levels without end.
    """
    for key, value in _walk(content, path):
        if isinstance(value, list) and len(value) > _MAX_LIST:
            raise ClipRobustError(
                f"{path}: {_shown(key)} is a list of {len(value)}, which no model has"
            )
        if isinstance(value, str) and len(value) > _MAX_TEXT:
            raise ClipRobustError(f"{path}: the text of {_shown(key)} is {len(value)} letters long")
        if isinstance(value, int | float) and not isinstance(value, bool):
            _check_number(key, value, path)


def _walk(content: Mapping[str, Any], path: Path) -> Iterator[tuple[str, Any]]:
    """Yield every value of a configuration with its key, objects and lists before what they hold.

    Raises:
        ClipRobustError: levels or values without end.
    """
    waiting: list[tuple[str, Any, int]] = [(str(k), v, 1) for k, v in content.items()]
    count = 0
    while waiting:
        key, value, depth = waiting.pop()
        count += 1
        if depth > _MAX_DEPTH or count > _MAX_ENTRIES:
            raise ClipRobustError(
                f"{path}: {_shown(key)} holds more than any model's configuration"
            )
        yield key, value
        if isinstance(value, Mapping):
            waiting += [(str(k), v, depth + 1) for k, v in value.items()]
        elif isinstance(value, list):
            waiting += [(key, v, depth + 1) for v in value]


def _check_number(key: str, value: int | float, path: Path) -> None:
    # Compared as it is: a whole number of 400 digits has no counterpart in floating point.
    if not abs(value) <= _MAX_NUMBER:
        raise ClipRobustError(f"{path}: {_shown(key)} is {value!r:.30}, which no model has")
    if key.endswith("coefficient") and not 0 < value <= _MAX_FACTOR:
        raise ClipRobustError(
            f"{path}: {_shown(key)} is {value!r:.30}; it must be above 0, and {_MAX_FACTOR} at most"
        )
    ending = limit_of(key)
    if ending is None:
        return
    least = 0 if ending in _OPTIONAL else 1
    if not float(value).is_integer() or not least <= value <= _LIMITS[ending]:
        raise ClipRobustError(
            f"{path}: {_shown(key)} is {value!r:.30}; it must be a whole number from {least} to "
            f"{_LIMITS[ending]}"
        )


def limit_of(key: str) -> str | None:
    """Return the setting whose limit a key has: the longest that its name ends with."""
    if key in _DISTANCES:
        return None
    endings = [e for e in _LIMITS if key == e or key.endswith(f"_{e}")]
    return max(endings, key=len, default=None)


def _shown(key: str) -> str:
    return repr(key[:60])


# --- tokenizers ------------------------------------------------------------------------------------

#: What transformers reads for a tokenizer.
_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model"),
    "tokenizer.model",
)

MAX_TOKENIZER = 2**27
"""Bytes of a file of a tokenizer; that with a million tokens has 40 million."""


def check_tokenizer_files(folder: Path) -> None:
    """Check that the files of a tokenizer are files, and not without end.

    Raises:
        ClipRobustError: one is a pipe or a device, or larger than any tokenizer's.
    """
    for name in _TOKENIZER_FILES:
        path = folder / name
        if not path.exists():
            continue
        require_regular(path, "tokenizer file")
        size = path.stat().st_size
        if size > MAX_TOKENIZER:
            raise ClipRobustError(
                f"tokenizer file {path} has {size} bytes, more than any tokenizer ({MAX_TOKENIZER})"
            )


# --- open_clip -------------------------------------------------------------------------------------


def check_open_clip(config: Mapping[str, Any], path: Path) -> None:
    """Check the ``model_cfg`` of an ``open_clip_config.json``.

    Raises:
        ClipRobustError: a setting that open_clip does not know, or a value of another type.
    """
    from open_clip.coca_model import MultimodalCfg
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    check_values(config, path)
    top = {
        *("embed_dim", "vision_cfg", "text_cfg", "multimodal_cfg", "custom_text", "quick_gelu"),
        *("init_logit_scale", "init_logit_bias", "nonscalar_logit_scale", "pad_id", "output_dict"),
    }
    _known(config, top, path, "model_cfg")
    _whole(config, "embed_dim", path)
    for key in ("custom_text", "quick_gelu", "nonscalar_logit_scale", "output_dict"):
        if not isinstance(config.get(key, False), bool):  # "no" would be yes
            raise ClipRobustError(f"{path}: {key} must be true or false, not {config[key]!r:.40}")
    for part, kind in (
        ("vision_cfg", CLIPVisionCfg),
        ("text_cfg", CLIPTextCfg),
        ("multimodal_cfg", MultimodalCfg),
    ):
        settings = config.get(part, {})
        if not isinstance(settings, Mapping):
            raise ClipRobustError(f"{path}: {part} must be an object, not {settings!r:.40}")
        _known(settings, {field.name for field in fields(kind)}, path, part)
        _check_types(settings, kind(), path, part)
    _check_timm(config["vision_cfg"], path)
    _check_tokenizer(config["text_cfg"], path)


def _known(settings: Mapping[str, Any], known: Iterable[str], path: Path, part: str) -> None:
    names = set(known)
    unknown = next((key for key in settings if key not in names), None)
    if unknown is not None:
        raise ClipRobustError(
            f"{path}: {part} has a setting {_shown(unknown)} that open_clip does not know."
            f"{did_you_mean(unknown, names)} So the model cannot be built"
        )


def _whole(settings: Mapping[str, Any], key: str, path: Path) -> None:
    value = settings.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ClipRobustError(f"{path}: {key} must be a whole number above 0, not {value!r:.40}")


def _check_types(settings: Mapping[str, Any], defaults: Any, path: Path, part: str) -> None:
    """Check that each setting has the type of its default."""
    for key, value in settings.items():
        default = getattr(defaults, key)
        if value is None or key in ("image_size", "layers"):
            right = _is_size(value) if value is not None else key == "patch_size" or default is None
        elif key.endswith("_kwargs"):
            right = isinstance(value, dict)
        elif isinstance(default, bool):
            right = isinstance(value, bool)
        elif limit_of(key) is not None:
            right = isinstance(value, int) and not isinstance(value, bool)
        elif isinstance(default, int | float):
            right = isinstance(value, int | float) and not isinstance(value, bool)
        elif isinstance(default, str):
            right = isinstance(value, str)
        else:
            right = isinstance(value, str | int | float)
        if not right and not (key.startswith("timm_") and value is None):
            raise ClipRobustError(
                f"{path}: {part} has {value!r:.40} for {key!r}, which must be like {default!r:.40}"
            )


def _is_size(value: Any) -> bool:
    values = value if isinstance(value, list | tuple) else [value]
    return 0 < len(values) <= 4 and all(type(number) is int for number in values)


def _check_timm(vision: Mapping[str, Any], path: Path, called: str = "timm_model_name") -> None:
    """Check that timm has the image tower itself: some names make it ask the network, or read a folder."""
    name = vision.get("timm_model_name")
    if not name:
        return
    import timm

    if not isinstance(name, str) or ":" in name or "/" in name or not timm.is_model(name):
        hint = did_you_mean(str(name), timm.list_models()) if len(str(name)) < 60 else ""
        raise ClipRobustError(
            f"{path}: {called} {name!r:.80} is no architecture of the installed timm "
            f"{timm.__version__}.{hint} Nothing else is loaded for a tower"
        )


def _check_tokenizer(text: Mapping[str, Any], path: Path) -> None:
    settings = text.get("tokenizer_kwargs") or {}
    for key in settings:
        if key not in _TOKENIZER_SETTINGS:
            raise ClipRobustError(
                f"{path}: tokenizer_kwargs has {_shown(key)}, and may have "
                f"{', '.join(sorted(_TOKENIZER_SETTINGS))}"
            )
    for key in ("hf_tokenizer_name", "hf_model_name"):
        name = text.get(key)
        if name is not None and not isinstance(name, str):
            raise ClipRobustError(f"{path}: {key} {name!r:.80} is no name of the model hub")


# --- transformers ----------------------------------------------------------------------------------


def plain_transformers(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return a ``config.json`` without what chooses code: kernels, classes, quantisation, types.

    Raises:
        ClipRobustError: its weights are quantised.
    """
    if config.get("quantization_config"):
        raise ClipRobustError(
            f"{path}: its weights are quantised (quantization_config), which is not loaded; give the "
            "weights before that, or wrap the model in an encoder of your own"
        )
    found: dict[str, Any] = {}
    for key, value in config.items():
        if key in _IMPLEMENTATION:
            continue
        found[key] = plain_transformers(value, path) if isinstance(value, Mapping) else value
    return found


#: Arguments of timm that name files or weights; transformers hands on what a configuration says.
_OF_TIMM = frozenset(
    {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
)


def check_names(config: Mapping[str, Any], path: Path) -> None:
    """Check the names in a configuration that transformers would ask the network about, or run code of.

    For models whose other settings are left to transformers (multimodal ones, of which there are too many).

    Raises:
        ClipRobustError: a tower of timm that the installed one does not have itself, files or weights for
            it, or a kernel by name.
    """
    for key, value in config.items():
        if key in _IMPLEMENTATION and isinstance(value, str) and ("/" in value or ":" in value):
            raise ClipRobustError(
                f"{path}: {_shown(key)} is {value!r:.80}, code from elsewhere, which is never run"
            )
        if isinstance(value, Mapping):
            check_names(value, path)
    if config.get("model_type") in ("timm_wrapper", "timm_backbone"):
        for key in ("architecture", "backbone"):
            _check_timm({"timm_model_name": config.get(key)}, path, key)
        _check_arguments(config.get("model_args"), path)
    elif isinstance(config.get("backbone"), str):
        raise ClipRobustError(
            f"{path}: its backbone {config['backbone']!r:.80} does not lie in the folder; save the model "
            "with its backbone_config"
        )


def _check_arguments(given: Any, path: Path) -> None:
    """Check what timm is told beside the name of an architecture.

    Raises:
        ClipRobustError: it names a file or weights.
    """
    for key in given if isinstance(given, Mapping) else ():
        if key in _OF_TIMM:
            raise ClipRobustError(
                f"{path}: model_args has {_shown(key)}, and timm would read weights from elsewhere"
            )


def check_size_of(config: Mapping[str, Any], path: Path) -> None:
    """Check that no number of a configuration makes building a model endless, whatever else it means.

    For multimodal models, whose texts are longer and whose lists hold layers' numbers (0 and below, too):
    only counts of layers are limited, and how much there is in all. What the weights are too few for is
    told by :func:`.checkpoint.check_size`.

    Raises:
        ClipRobustError: it is named.
    """
    for key, value in _walk(config, path):
        if isinstance(value, int | float) and _counts(key) and not value <= _LIMITS["layers"]:
            raise ClipRobustError(
                f"{path}: {_shown(key)} is {value!r:.30}; it must be {_LIMITS['layers']} at most"
            )


def _counts(key: str) -> bool:
    """Return whether a setting counts parts of a model, of which each costs time to build."""
    return limit_of(key) in ("layers", "depth", "repeats")

"""Multimodal models of transformers from a folder, with the checks that models under test go through.

A folder comes from anywhere: its configuration is looked at before anything is built, its weights are read as
tensors (:mod:`.checkpoint`), and no name in it makes transformers ask the network or run code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError, brief
from pytest_cliprobust.files import read_json, require_regular
from pytest_cliprobust.targets.checkpoint import (
    check_size,
    check_types,
    lacks_weights,
    read_checkpoint,
    weights_in,
)
from pytest_cliprobust.targets.configuration import (
    check_names,
    check_size_of,
    check_tokenizer_files,
    plain_transformers,
)
from pytest_cliprobust.targets.multimodal import FLAG
from pytest_cliprobust.targets.transformers_target import WEIGHT_NAMES, quiet

CONFIG, GENERATION = "config.json", "generation_config.json"

#: Configurations that transformers reads for a processor.
_PROCESSOR_FILES = (
    *("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"),
    "chat_template.json",
)

#: Of a processor: a model of its own, which transformers loads from wherever the file says.
_AUDIO = ("audio_tokenizer", "audio_tokenizer_config.json")

TEMPLATE = "chat_template.jinja"

MAX_TEMPLATE = 2**20
"""Bytes of a chat template; they have some thousand."""

#: Types that weights may be computed in at a configuration's word.
_TYPES = frozenset({"float32", "float16", "bfloat16"})


def load_folder(folder: Path, name: str, dtype: Any) -> tuple[Any, Any]:
    """Return model and processor in a folder of transformers.

    Args:
        folder: with configuration, weights, processor and tokenizer.
        name: as the user wrote it.
        dtype: of the weights in memory; ``"auto"``: as the configuration or the checkpoint says.

    Raises:
        ClipRobustError: no configuration, another kind of model, something in it that asks for code or the
            network, or weights or processor files that are missing or damaged.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ClipRobustError(f"{FLAG} {name}: folder {folder} has no {CONFIG}")
    raw = read_json(path, "configuration")
    try:
        check_names(raw, path)
        check_size_of(raw, path)
        config = plain_transformers(raw, path)
    except ClipRobustError as error:
        raise ClipRobustError(f"{FLAG} {name}: {error}") from None
    named = raw.get("dtype") or raw.get("torch_dtype")
    if isinstance(named, str) and named in _TYPES:
        config["dtype"] = named
    return _model(folder, name, config, dtype), load_processor(folder, name)


def _model(folder: Path, name: str, config: Mapping[str, Any], dtype: Any) -> Any:
    """Return the model with its weights, and with how it generates.

    Raises:
        ClipRobustError: no such kind of model, or weights that do not fit.
    """
    import transformers

    try:
        with quiet():
            built = transformers.AutoConfig.for_model(**config)
            kinds = transformers.AutoModelForImageTextToText._model_mapping
            if type(built) not in kinds:
                raise ValueError(f"a {built.model_type} model does not talk about pictures")
            kind, state = kinds[type(built)], _weights(folder)
            check_size(lambda: kind(built), state, str(folder), kind.__name__)
            model, found = kind.from_pretrained(
                None,
                config=built,
                state_dict=dict(state),
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are counted below, and refused
                dtype=dtype,
            )
            check_types(model.state_dict(), state, str(folder))
            if (folder / GENERATION).exists():
                settings = read_json(folder / GENERATION, "configuration")
                model.generation_config = transformers.GenerationConfig.from_dict(settings)
    except ClipRobustError as error:
        raise ClipRobustError(f"{FLAG} {name}: {error}") from None
    except Exception as error:  # RuntimeError, KeyError, ValueError: whatever a file causes
        raise ClipRobustError(
            f"{FLAG} {name}: no multimodal model can be loaded from {folder} ({brief(error)})"
        ) from None
    absent = [key for key in sorted(found["missing_keys"]) if not key.startswith("lm_head")]
    if absent or found.get("mismatched_keys"):
        raise ClipRobustError(
            f"{FLAG} {name}: the checkpoint in {folder} does not fit its config.json: "
            f"{len(absent)} tensors are missing and {len(found.get('mismatched_keys') or ())} have another "
            f"shape{f' (first: {absent[0]})' if absent else ''}"
        )
    return model


def _weights(folder: Path) -> Mapping[str, Tensor]:
    path = weights_in(folder, WEIGHT_NAMES)
    if path is None:
        raise ClipRobustError(lacks_weights(folder, WEIGHT_NAMES[0]))
    return read_checkpoint(path, unwrap=False).state


def load_processor(folder: Path, name: str) -> Any:
    """Return the processor in a folder.

    Raises:
        ClipRobustError: it cannot be loaded, has no tokenizer or image processor, or brings a model of its
            own.
    """
    import transformers

    try:
        _check_processor(folder)
        with quiet():
            processor = transformers.AutoProcessor.from_pretrained(
                # Not None, which asks at the terminal.
                folder,
                local_files_only=True,
                trust_remote_code=False,
            )
    except ClipRobustError as error:
        raise ClipRobustError(f"{FLAG} {name}: {error}") from None
    except Exception as error:  # OSError, ValueError, ImportError (sentencepiece, num2words) …
        raise ClipRobustError(
            f"{FLAG} {name}: its processor cannot be loaded from {folder} ({brief(error)})"
        ) from None
    if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
        raise ClipRobustError(
            f"{FLAG} {name}: folder {folder} holds no processor of pictures and text "
            "(processor_config.json, preprocessor_config.json and tokenizer files)"
        )
    return processor


def _check_processor(folder: Path) -> None:
    """Look at the files of a processor, before one without end is read or one that names a model.

    Raises:
        ClipRobustError: it is named.
    """
    check_tokenizer_files(folder)
    template = folder / TEMPLATE
    if template.exists():
        require_regular(template, "chat template")
        if template.stat().st_size > MAX_TEMPLATE:
            raise ClipRobustError(f"{template} has more than {MAX_TEMPLATE} bytes, as no template")
    key, file = _AUDIO
    named = [folder / file] if (folder / file).exists() else []
    for path in (folder / name for name in _PROCESSOR_FILES):
        if path.exists() and read_json(path, "configuration").get(key) is not None:
            named.append(path)
    if named:
        raise ClipRobustError(
            f"{named[0]} names a model for sound ({key}), which is not loaded; remove it"
        )

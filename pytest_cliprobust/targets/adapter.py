"""LoRA adapters (Hu et al. 2022), as peft saves them: merged into the weights that they belong to.

An adapter is a delta: a model is its base and what was trained on top. It is merged where peft is
installed and refused where it is not, and never ignored. Of its configuration only numbers are used; which
modules it changes is told by the names of its tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError, Unavailable, brief
from pytest_cliprobust.files import read_json
from pytest_cliprobust.targets.checkpoint import read_checkpoint

ADAPTER = "adapter_config.json"

_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

#: Settings that a merged model does not depend on.
_WITHOUT_EFFECT = frozenset(
    {
        *("peft_type", "task_type", "base_model_name_or_path", "auto_mapping", "revision"),
        *("inference_mode", "target_modules", "exclude_modules", "lora_dropout", "peft_version"),
        *("init_lora_weights", "modules_to_save", "layers_to_transform", "layers_pattern"),
        *("loftq_config", "eva_config", "corda_config", "runtime_config", "megatron_config"),
        *("megatron_core", "qalora_group_size", "ensure_weight_tying", "lora_ga_config"),
    }
)

#: Settings that decide it, all numbers, switches or tables of them.
_USED = ("r", "lora_alpha", "fan_in_fan_out", "bias", "use_rslora", "use_dora", "lora_bias")
_TABLES = ("rank_pattern", "alpha_pattern")

#: Largest scale of a delta; published ones are below 1,000.
_MAX_SCALE = 10**6

#: Tensors of an adapter; torch's own attention stands around its output projection.
_MODULE = re.compile(r"base_model\.model\.(.+?)(?:\.base_layer\.out_proj)?\.lora_[AB]\.weight")


def base_of(folder: Path) -> str:
    """Return what an adapter was trained on top of, as its configuration names it.

    Raises:
        ClipRobustError: it names nothing.
    """
    base = read_json(folder / ADAPTER, "adapter configuration").get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ClipRobustError(
            f"{folder / ADAPTER} does not name the model that the adapter belongs to "
            "(base_model_name_or_path); put the adapter into the folder of that model"
        )
    return base


def merged(model: Any, folder: Path, name: str) -> tuple[Any, str]:
    """Return a model with the adapter in ``folder`` merged, and a note for the report.

    Args:
        model: of transformers or open_clip.
        folder: with the adapter.
        name: of the model, for messages.

    Raises:
        Unavailable: peft is not installed.
        ClipRobustError: an adapter of another kind, or one that does not fit the model.
    """
    settings = read_json(folder / ADAPTER, "adapter configuration")
    plain = _settings(settings, folder / ADAPTER)
    path = next((folder / n for n in _WEIGHTS if (folder / n).exists()), None)
    if path is None:
        raise ClipRobustError(f"folder {folder} has {ADAPTER}, and no {_WEIGHTS[0]}")
    try:
        import peft
    except ImportError:
        raise Unavailable(
            f"model {name!r} has an adapter ({folder / ADAPTER}), which peft merges; install it with "
            "`pip install pytest-cliprobust[peft]`, or move the adapter away to test the base alone"
        ) from None
    state = read_checkpoint(path).state
    modules = sorted({m[1] for key in state if (m := _MODULE.fullmatch(key))})
    _check(model, state, modules, path)
    _check_numbers(plain, state, folder / ADAPTER)
    try:
        # As a pattern: in a list, the name of a text tower's module means the image tower's as well.
        pattern = "|".join(map(re.escape, modules))
        wrapped: Any = peft.get_peft_model(model, peft.LoraConfig(target_modules=pattern, **plain))
        result: Any = peft.set_peft_model_state_dict(wrapped, dict(state))
        if result.unexpected_keys:
            raise ValueError(f"{result.unexpected_keys[0]} has no place")
        whole = wrapped.merge_and_unload()
    except Exception as error:  # peft and torch raise all sorts on tensors that do not fit
        raise ClipRobustError(
            f"adapter {path} cannot be merged into {name!r} ({brief(error)}); it belongs to another model"
        ) from None
    return (
        whole,
        f"LoRA adapter of {len(modules)} modules ({modules[0]}, …) merged into the weights",
    )


def _settings(settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the settings that decide the merged weights.

    Raises:
        ClipRobustError: not a LoRA adapter, or something that is not known here.
    """
    if settings.get("peft_type") != "LORA":
        raise ClipRobustError(
            f"{path}: peft_type {settings.get('peft_type')!r:.40} is not supported, LORA is; merge it "
            "yourself (merge_and_unload) and save the whole model"
        )
    found: dict[str, Any] = {}
    for key, value in settings.items():
        right = value is None or isinstance(value, int | float | str)
        if key in _TABLES:
            right = isinstance(value, dict) and all(
                re.fullmatch(r"[\w.]+", k) and isinstance(v, int | float) for k, v in value.items()
            )
        elif key not in _USED:
            if key in _WITHOUT_EFFECT or not value:
                continue
            right = False
        if not right:
            raise ClipRobustError(f"{path}: {key[:60]!r} ({value!r:.40}) is not supported")
        if value is not None:
            found[key] = value
    return found


def _check_numbers(plain: Mapping[str, Any], state: Mapping[str, Tensor], path: Path) -> None:
    """Check ranks and scales before peft takes memory for them, or multiplies by nothing.

    Raises:
        ClipRobustError: a rank larger than any tensor's side, or a scale that is none.
    """
    most = max((side for key, t in state.items() if ".lora_" in key for side in t.shape), default=1)
    for key, rank in _each(plain, "r", "rank_pattern"):
        if type(rank) is not int or not 1 <= rank <= most:
            raise ClipRobustError(
                f"{path}: rank {key[:60]!r} is {rank!r:.40}; it must be a whole number from 1 to {most}, as "
                "the adapter's tensors are"
            )
    for key, scale in _each(plain, "lora_alpha", "alpha_pattern"):
        number = isinstance(scale, int | float) and not isinstance(scale, bool)
        if not (number and 0 < scale <= _MAX_SCALE):
            raise ClipRobustError(
                f"{path}: scale {key[:60]!r} is {scale!r:.40}; it must be a number above 0, as the adapter "
                f"would be ignored, and at most {_MAX_SCALE}"
            )


def _each(plain: Mapping[str, Any], key: str, table: str) -> list[tuple[str, Any]]:
    """Return a setting and those of single modules, by name, where they are given."""
    own = [(key, plain[key])] if key in plain else []
    return own + list(plain.get(table, {}).items())


def _check(model: Any, state: Mapping[str, Tensor], modules: list[str], path: Path) -> None:
    """Check that every tensor of the adapter has its module, before anything is built.

    Raises:
        ClipRobustError: it has not.
    """
    known = {name for name, _ in model.named_modules()}
    other = next(
        (k for k in state if k.startswith("base_model.model.") and ".lora_" not in k), None
    )
    absent = next((module for module in modules if module not in known), None)
    if not modules or absent is not None:
        raise ClipRobustError(
            f"adapter {path} does not fit the model: "
            + (f"it has no module {absent[:80]!r}" if absent else "it holds no LoRA tensors")
            + "; it belongs to another model"
        )
    if other is not None:
        raise ClipRobustError(
            f"adapter {path} holds whole weights ({other[:80]!r}, modules_to_save), which are not merged "
            "here; merge it yourself (merge_and_unload) and save the whole model"
        )

"""From a name to a target. Heavy imports happen here, when a model is asked for, and not before."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from pytest_cliprobust.errors import ClipRobustError, brief, did_you_mean
from pytest_cliprobust.targets.activation import parse_activation
from pytest_cliprobust.targets.base import Target
from pytest_cliprobust.targets.runtime import resolve_device, resolve_precision

ENTRY_POINT_GROUP = "pytest_cliprobust.targets"

_REGISTERED: dict[str, Callable[..., Any]] = {}


def register_target(name: str, factory: Callable[..., Any]) -> None:
    """Register ``factory`` under ``name``, for :func:`load_target` and ``--clip-model``.

    ``factory`` returns a target, or an object with ``encode_image`` and ``encode_text`` (see
    :class:`.callable_target.CallableTarget`); it is called with those of the keyword arguments
    ``pretrained``, ``device``, ``precision`` and ``activation`` that its signature names. A later
    registration replaces an earlier one of the same name.
    """
    _REGISTERED[name] = factory


def load_target(
    name: str,
    *,
    pretrained: str | None = None,
    device: str | torch.device = "auto",
    precision: str = "auto",
    activation: str | None = None,
) -> Target:
    """Load the model under test.

    Args:
        name: one of

            * a name given to :func:`register_target`;
            * ``reference``, or a sibling ``reference-…``: bundled, offline;
            * ``local-dir:PATH`` or the path of a folder: in open_clip's format
              (``open_clip_config.json``) or in transformers' (``config.json``);
            * ``hf-hub:owner/name``: a hub repository in open_clip's format;
            * ``transformers:owner/name`` or ``transformers:PATH``;
            * an open_clip architecture, ``ViT-B-32`` or ``ViT-B-32/laion2b_s34b_b79k``;
            * the name of an entry point in the group ``pytest_cliprobust.targets``;
            * ``module:attribute``: an object with ``encode_image`` and ``encode_text``, or a callable
              that returns one.
        pretrained: a tag of open_clip, or the path of a checkpoint; for a folder a checkpoint that
            replaces its weights.
        device: ``"auto"`` or a torch device, see :func:`.runtime.resolve_device`.
        precision: ``"auto"``, ``"fp32"``, ``"fp16"`` or ``"bf16"``, see
            :func:`.runtime.resolve_precision`.
        activation: ``"gelu"`` or ``"quickgelu"``, for checkpoints that do not tell.

    Raises:
        ClipRobustError: whatever keeps the model from being loaded, in one line with the remedy.
    """
    if not name:
        raise ClipRobustError("no model named; give --clip-model NAME, for example reference")
    chosen = parse_activation(activation)
    place = resolve_device(device)
    options: dict[str, Any] = {
        "device": place,
        "precision": resolve_precision(precision, place),
        "activation": chosen,
    }
    # Weights made under inference_mode could never be differentiated through.
    with torch.inference_mode(False):
        return _load(name, pretrained, options, explicit_precision=precision != "auto")


def _load(
    name: str, pretrained: str | None, options: dict[str, Any], *, explicit_precision: bool
) -> Target:
    from pytest_cliprobust.targets import reference

    def adapted(value: Any) -> Target:
        from pytest_cliprobust.targets.callable_target import adapt

        return adapt(
            name, value, pretrained=pretrained, explicit_precision=explicit_precision, **options
        )

    if name in _REGISTERED:
        return adapted(_REGISTERED[name])
    if reference.is_reference(name):
        return reference.load_reference(name, pretrained=pretrained, **options)
    prefix, colon, rest = name.partition(":")
    if colon and prefix in ("local-dir", "hf-hub", "transformers"):
        if not rest:
            raise ClipRobustError(f"--clip-model {name} names nothing after {prefix}:")
        if prefix == "local-dir":
            return _folder(name, Path(rest).expanduser(), pretrained, options)
        if prefix == "hf-hub":
            from pytest_cliprobust.targets.open_clip_target import load_hub

            return load_hub(name, rest, pretrained=pretrained, **options)
        return _transformers(name, rest, pretrained, options)
    from pytest_cliprobust.targets.open_clip_target import load_architecture, split_name

    architecture = split_name(name)
    if architecture is not None:
        return load_architecture(name, *architecture, pretrained=pretrained, **options)
    path = Path(name).expanduser()
    if path.is_dir():
        return _folder(name, path, pretrained, options)
    if path.is_file():
        raise ClipRobustError(
            f"--clip-model {name} is a file; name the architecture with --clip-model and the file with "
            "--clip-pretrained"
        )
    for entry in metadata.entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == name:
            return adapted(_imported(name, entry.load))
    module, _, attribute = name.partition(":")
    if attribute and all(
        part.isidentifier() for part in (*module.split("."), *attribute.split("."))
    ):
        return adapted(_imported(name, lambda: _attribute(module, attribute)))
    raise _unknown(name)


def _folder(name: str, folder: Path, pretrained: str | None, options: dict[str, Any]) -> Target:
    from pytest_cliprobust.targets.open_clip_target import CONFIG_NAME, load_folder

    if not folder.is_dir():
        raise ClipRobustError(f"--clip-model {name}: there is no folder {folder}")
    if (folder / CONFIG_NAME).is_file():
        return load_folder(name, folder, pretrained=pretrained, **options)
    if (folder / "config.json").is_file():
        return _transformers(name, str(folder), pretrained, options)
    raise ClipRobustError(
        f"--clip-model {name}: folder {folder} holds neither {CONFIG_NAME} (open_clip) nor config.json "
        "(transformers)"
    )


def _transformers(
    name: str, source: str, pretrained: str | None, options: dict[str, Any]
) -> Target:
    from pytest_cliprobust.targets.transformers_target import load_transformers

    if pretrained:
        raise ClipRobustError(
            f"transformers model {name!r} takes no --clip-pretrained: its folder holds the weights"
        )
    return load_transformers(name, source, **options)


def _imported(name: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except ClipRobustError:
        raise
    except Exception as error:  # the user's module may raise anything while it is imported
        raise ClipRobustError(f"model {name!r} cannot be imported ({brief(error)})") from error


def _attribute(module: str, attribute: str) -> Any:
    # As `python -m` does: a module beside the tests is found although pytest runs as a script.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    value: Any = importlib.import_module(module)
    for part in attribute.split("."):
        value = getattr(value, part)
    return value


def known_names() -> tuple[str, ...]:
    """Return every name that can be listed: registered, bundled, open_clip's, entry points."""
    from open_clip import list_models

    from pytest_cliprobust.targets.reference import reference_names

    entries = (entry.name for entry in metadata.entry_points(group=ENTRY_POINT_GROUP))
    return (*_REGISTERED, *reference_names(), *list_models(), *entries)


def _unknown(name: str) -> ClipRobustError:
    from open_clip import list_models

    names = known_names()
    head, slash, tag = name.rpartition("/")
    hint = did_you_mean(name, names)
    if slash and not name.startswith((".", "/", "~")):
        nearest = did_you_mean(head, list_models())
        hint = nearest.replace("'?", f"/{tag}'?") if nearest else hint
    return ClipRobustError(
        f"unknown model {name!r}.{hint} Give an open_clip architecture (ViT-B-32, ViT-B-32/TAG), "
        "hf-hub:OWNER/NAME, transformers:OWNER/NAME, a folder, module:attribute, or reference"
    )


__all__ = ["ENTRY_POINT_GROUP", "known_names", "load_target", "register_target"]

"""From a name to a target. Heavy imports happen here, when a model is asked for, and not before."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from pytest_cliprobust.blame import told
from pytest_cliprobust.errors import ClipRobustError, did_you_mean
from pytest_cliprobust.files import is_path, lies_there, own_name
from pytest_cliprobust.targets import folder
from pytest_cliprobust.targets.activation import parse_activation
from pytest_cliprobust.targets.base import Target
from pytest_cliprobust.targets.checkpoint import noting_files
from pytest_cliprobust.targets.checkpoint_file import load_checkpoint_file
from pytest_cliprobust.targets.names import GRAPHS, TWINS, split_checkpoint, split_twin
from pytest_cliprobust.targets.registry import TARGETS, kind_of, listed_names
from pytest_cliprobust.targets.runtime import resolve_device, resolve_precision
from pytest_cliprobust.targets.twins import twin_of

ENTRY_POINT_GROUP = "pytest_cliprobust.targets"


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

            * a name, or a prefix and what follows it, given to :func:`.registry.register_target`;
            * one of those below with a checkpoint of its own, ``MODEL@CHECKPOINT``;
            * the twin of one of those, ``MODEL@int8``, ``MODEL@compile`` or ``MODEL@onnx:PATH``, see
              :mod:`.twins`;
            * ``reference``, or a sibling ``reference-…``: bundled, offline;
            * ``local-dir:PATH`` or the path of a folder: in open_clip's format
              (``open_clip_config.json``) or in transformers' (``config.json``);
            * a checkpoint, or a folder that holds one, of an architecture that its tensors tell;
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
    with torch.inference_mode(False), noting_files() as files:
        target = _load(name, pretrained, options, explicit_precision=precision != "auto")
    if files and not target.info.weights:
        target.info = replace(target.info, weights=tuple(files))
    height, width = target.image_size
    if height != width:
        note = (
            f"takes {height}x{width} pixels: photographs are framed so; scenes of the embedded benchmark are "
            "squares, of which its own preprocessing makes these, and pairs of pictures are squeezed"
        )
        target.info = replace(target.info, notes=(*target.info.notes, note))
    return target


def _load(
    name: str, pretrained: str | None, options: dict[str, Any], *, explicit_precision: bool
) -> Target:
    def adapted(value: Any, source: str | None = None) -> Target:
        from pytest_cliprobust.targets.callable_target import adapt

        return adapt(
            name,
            value,
            source=source,
            pretrained=pretrained,
            explicit_precision=explicit_precision,
            **options,
        )

    parent, twin = split_twin(name)
    if twin is not None:
        loaded = _load(parent, pretrained, options, explicit_precision=explicit_precision)
        return twin_of(loaded, twin, name)
    model, checkpoint = split_checkpoint(name)
    if checkpoint is not None:
        if pretrained:
            raise ClipRobustError(
                f"--clip-model {name} names a checkpoint, and --clip-pretrained names {pretrained!r}; "
                "drop one"
            )
        return _load(model, checkpoint, options, explicit_precision=explicit_precision)
    found = kind_of(name)
    if found is not None:
        kind, source = found
        return adapted(kind.factory, source)
    if lies_there(name):
        here = Path(name).expanduser().is_dir()
        return adapted(TARGETS[folder.PREFIX].factory if here else load_checkpoint_file, name)
    for entry in metadata.entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == name:
            return adapted(_imported(name, entry.load))
    module, _, attribute = name.partition(":")
    if attribute and all(
        part.isidentifier() for part in (*module.split("."), *attribute.split("."))
    ):
        return adapted(_imported(name, lambda: _attribute(module, attribute)))
    raise _unknown(name)


def _imported(name: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except ClipRobustError:
        raise
    except (Exception, SystemExit) as error:  # the user's module may raise anything
        absent = isinstance(error, ModuleNotFoundError)
        remedy = (
            "install what is missing, or name its folder in PYTHONPATH" if absent else "mend it"
        )
        raise ClipRobustError(
            f"model {name!r} cannot be imported ({told(error)}); {remedy}"
        ) from error


def _attribute(module: str, attribute: str) -> Any:
    if module.partition(".")[0] in sys.stdlib_module_names:
        raise ClipRobustError(
            f"model '{module}:{attribute}' is a part of Python's own library, and no encoder; give "
            "module:attribute of your own"
        )
    # As `python -m` does: a module beside the tests is found although pytest runs as a script.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    value: Any = importlib.import_module(module)
    for part in attribute.split("."):
        value = getattr(value, part)
    return value


def known_names() -> tuple[str, ...]:
    """Return every name that can be listed: registered, bundled, open_clip's, entry points."""
    entries = (entry.name for entry in metadata.entry_points(group=ENTRY_POINT_GROUP))
    return (*listed_names(), *entries)


def _unknown(name: str) -> ClipRobustError:
    from open_clip import list_models

    names = known_names()
    head, slash, tag = name.rpartition("/")
    hint = did_you_mean(name, names)
    if slash and not name.startswith((".", "/", "~")):
        nearest = did_you_mean(head, list_models())
        hint = nearest.replace("'?", f"/{tag}'?") if nearest else hint
    if is_path(name):
        return ClipRobustError(
            f"--clip-model {name}: there is no such folder or checkpoint; check the path (the working "
            f"folder is {Path.cwd()})"
        )
    parent, at, twin = name.rpartition("@")
    if at and parent and twin.isidentifier():
        return ClipRobustError(
            f"--clip-model {name}: there is no twin {twin!r:.40} of a model.{did_you_mean(twin, TWINS)} "
            f"Twins are {', '.join(TWINS)} and {GRAPHS}PATH; a checkpoint called so is written "
            f"{parent}@./{twin}"
        )
    elsewhere = f"{own_name(name)}=PATH" if own_name(name) else "NAME=PATH"
    return ClipRobustError(
        f"unknown model {name!r}.{hint} No folder or checkpoint is called so in {Path.cwd()}; for one "
        f"elsewhere write --clip-model {elsewhere}. Else give an open_clip architecture (ViT-B-32, "
        "ViT-B-32/TAG), hf-hub:OWNER/NAME, transformers:OWNER/NAME, module:attribute, or reference"
    )


__all__ = ["ENTRY_POINT_GROUP", "known_names", "load_target"]

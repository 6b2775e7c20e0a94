"""A folder with an adapter alone: a model is the base that it names, and the adapter merged into it."""

from __future__ import annotations

from pathlib import Path

import torch

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets.activation import Activation
from pytest_cliprobust.targets.adapter import ADAPTER, base_of
from pytest_cliprobust.targets.open_clip_target import CONFIG_NAME, OpenClipTarget, load_folder
from pytest_cliprobust.targets.precision import Precision
from pytest_cliprobust.targets.registry import register_format
from pytest_cliprobust.targets.transformers_target import (
    TransformersTarget,
    folder_of,
    load_merged,
)


@register_format(ADAPTER)
def load_adapter(
    name: str,
    source: str,
    *,
    pretrained: str | None = None,
    device: torch.device,
    precision: Precision,
    activation: Activation | None,
) -> TransformersTarget | OpenClipTarget:
    """Load a folder of peft; its base is beside the adapter, or where ``base_model_name_or_path`` says.

    ``pretrained``, if given, is the folder of the base instead.

    Raises:
        ClipRobustError: no base, or one that cannot be loaded or does not fit; peft is not installed.
    """
    folder = Path(source).expanduser()
    if (folder / "config.json").exists():
        if pretrained:
            raise ClipRobustError(
                f"model {name!r} holds the weights that its adapter belongs to; drop --clip-pretrained"
            )
        base, where = folder, source
    else:
        where = pretrained or base_of(folder)
        base = _base(name, folder, where)
    if (base / CONFIG_NAME).exists():
        return load_folder(
            name,
            str(base),
            pretrained=None,
            device=device,
            precision=precision,
            activation=activation,
            adapter=folder,
        )
    return load_merged(
        name,
        base,
        where,
        adapter=folder,
        device=device,
        precision=precision,
        activation=activation,
    )


def _base(name: str, folder: Path, where: str) -> Path:
    beside = folder / where  # as paths in a training script are: relative to somewhere
    if beside.is_dir() and not Path(where).expanduser().is_dir():
        return beside
    try:
        return folder_of(name, where)
    except ClipRobustError as error:
        raise ClipRobustError(
            f"model {name!r} is an adapter for {where!r}, which is not found ({error}); give the base's "
            "folder with --clip-pretrained, or put the adapter into it"
        ) from None

"""A checkpoint as a model: the architecture is told by the names and shapes of its tensors.

That works for open_clip's own towers, of which no two architectures look alike (but for the activation,
which leaves no trace). Any other checkpoint needs its architecture named.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.files import own_name
from pytest_cliprobust.targets import activation as activations
from pytest_cliprobust.targets.checkpoint import PROGRAM, read_checkpoint
from pytest_cliprobust.targets.open_clip_target import (
    OpenClipTarget,
    architectures,
    build_model,
    load_architecture,
)

Shapes = dict[str, tuple[int, ...]]


def load_checkpoint_file(
    name: str, source: str, pretrained: str | None, **options: Any
) -> OpenClipTarget:
    """Load a checkpoint whose architecture is not named.

    Args:
        name: as the user wrote it.
        source: the file.
        pretrained: must not be given.
        options: device, precision and activation, as for :func:`.loading.load_target`.

    Raises:
        ClipRobustError: no checkpoint, or one of an architecture that cannot be told.
    """
    if pretrained:
        raise ClipRobustError(
            f"--clip-model {name} is a checkpoint, and --clip-pretrained names {pretrained!r}; drop one"
        )
    path = Path(source).expanduser()
    checkpoint = read_checkpoint(path)
    found = architectures_of(checkpoint.state)
    if not found and checkpoint.scripted:
        raise ClipRobustError(
            f"--clip-model {name}: its tensors fit none of open_clip's architectures; {PROGRAM}, or write "
            f"{own_name(source)}=ARCHITECTURE@{source} if it is one of your own"
        )
    if len(found) != 1:
        why = (
            f"its tensors fit {' and '.join(found)}"
            if found
            else "its tensors fit none of open_clip's"
        )
        raise ClipRobustError(
            f"--clip-model {name} is a file that does not tell its architecture ({why}); write "
            f"--clip-model {own_name(source)}=ARCHITECTURE@{source}"
        )
    return load_architecture(name, found[0], pretrained=str(path.absolute()), **options)


def architectures_of(state: Mapping[str, Tensor]) -> list[str]:
    """Return open_clip's architectures, of its own towers, that have exactly these tensors.

    Of two that differ in the activation alone only the one without suffix is named.
    """
    wanted = _shapes(state)
    names = [name for name in architectures() if _fits(name, wanted)]
    return [
        name for name in names if name.removesuffix(activations.SUFFIX) not in {*names} - {name}
    ]


def _fits(name: str, wanted: Shapes) -> bool:
    from open_clip.factory import get_model_config

    config = get_model_config(name)
    text, vision = config["text_cfg"], config["vision_cfg"]
    if text.get("hf_model_name") or vision.get("timm_model_name"):
        return False
    projection = wanted.get("text_projection", wanted.get("text.text_projection"))
    if projection is None or projection[-1] != config["embed_dim"]:
        return False  # what costs nothing to see spares building the others
    with torch.device("meta"):
        model, _ = build_model(config, name)
    return _shapes(model.state_dict()) == wanted


def _shapes(state: Mapping[str, Tensor]) -> Shapes:
    # A scalar is saved with and without a dimension.
    return {
        name: tuple(tensor.shape) if tensor.numel() > 1 else ()
        for name, tensor in state.items()
        if not name.endswith("position_ids")
    }

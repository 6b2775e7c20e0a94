"""The bundled multimodal model: a small FastVLM on the reference model's own vision tower.

The folder ``embedded/data/multimodal`` is what transformers reads, less the tower, whose weights are taken
from the reference when it is loaded: so the two can never disagree, and they ship once.
:mod:`pytest_cliprobust.training.multimodal` makes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError, brief
from pytest_cliprobust.targets.multimodal import FLAG, MultimodalModel
from pytest_cliprobust.targets.multimodal_folder import load_processor
from pytest_cliprobust.targets.reference import data_folder

NAME = "reference"
FOLDER = "multimodal"

_THEIRS, _OURS = "visual.trunk.", "model.vision_tower.timm_model."


def load(device: torch.device, folder: Path | None = None) -> MultimodalModel:
    """Load the bundled model, in single precision.

    Args:
        device: where it runs.
        folder: as the trainer writes it; the bundled one unless given.

    Raises:
        ClipRobustError: its files, or the reference's, are missing or damaged.
    """
    folder = folder or data_folder() / FOLDER
    note = "bundled: the reference model's own vision tower under a small decoder"
    model = assembled(folder)
    return MultimodalModel(model, load_processor(folder, NAME), NAME, device, [note])


def assembled(folder: Path) -> Any:
    """Return the whole model: projector and decoder of ``folder``, tower of the reference.

    Raises:
        ClipRobustError: files are missing or damaged, or do not fit each other.
    """
    import transformers

    reference = data_folder() / NAME / "open_clip_model.safetensors"
    try:
        config = transformers.FastVlmConfig.from_pretrained(folder, local_files_only=True)
        model = transformers.FastVlmForConditionalGeneration(config)
        state = {
            name: value.float() for name, value in load_file(folder / "model.safetensors").items()
        }
        state |= tower_state(load_file(reference))
        missing, unexpected = model.load_state_dict(state, strict=False)
    except Exception as error:  # OSError, safetensors, RuntimeError: whatever the files cause
        raise ClipRobustError(
            f"{FLAG} {NAME}: the bundled model in {folder} is damaged ({brief(error)}); install the "
            "package anew"
        ) from None
    # The head is the embedding, tied.
    absent = [*(name for name in missing if name != "lm_head.weight"), *unexpected]
    if absent:
        raise ClipRobustError(
            f"{FLAG} {NAME}: the bundled model in {folder} does not fit the reference model "
            f"({absent[0]}); install the package anew"
        )
    return model


def tower_state(reference: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a reference's image tower under the names that a FastVLM has for them."""
    return {
        _OURS + name.removeprefix(_THEIRS): value.float() if value.is_floating_point() else value
        for name, value in reference.items()
        if name.startswith(_THEIRS)
    }

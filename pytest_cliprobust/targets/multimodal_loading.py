"""From a name to a multimodal model: the bundled one, a folder, or a hub repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets import bundled_multimodal
from pytest_cliprobust.targets.hub import hub_folder
from pytest_cliprobust.targets.multimodal import FLAG, MultimodalModel
from pytest_cliprobust.targets.multimodal_folder import load_folder

REMEDY = (
    f"give a local folder as {FLAG} PATH, or test --clip-model reference, which has one of its own"
)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def load_multimodal(name: str, *, device: torch.device, precision: str = "auto") -> MultimodalModel:
    """Load a multimodal model.

    Args:
        name: a folder, ``owner/repository`` on the model hub, or ``reference``: the bundled one.
        device: where it runs.
        precision: ``fp32``, ``fp16`` or ``bf16``; ``auto``: what the checkpoint has, on a CPU fp32.

    Raises:
        ClipRobustError: whatever keeps it from being loaded, in one line with the remedy.
    """
    if name == bundled_multimodal.NAME:
        return bundled_multimodal.load(device)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if name.startswith((".", "/", "~")) or name.count("/") != 1:
            raise ClipRobustError(
                f"{FLAG} {name}: there is no folder {folder}; give a folder of transformers or the "
                "OWNER/NAME of a hub repository"
            )
        folder = hub_folder(name, f"multimodal model {name!r}", REMEDY)
    dtype: Any = DTYPES.get(precision, torch.float32 if device.type == "cpu" else "auto")
    return MultimodalModel(*load_folder(folder, name, dtype), name, device)

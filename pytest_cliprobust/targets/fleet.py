"""The bundled fleet: small CLIPs that differ in one factor each, for ``cliprobust study`` offline.

They are ordinary open_clip folders in ``pytest_cliprobust/embedded/data/fleet``, trained by
``python -m pytest_cliprobust.training.fleet``, and load, tokenizer included, as the reference models do.
"""

from __future__ import annotations

from pathlib import Path

import torch

from pytest_cliprobust.errors import ClipRobustError, did_you_mean
from pytest_cliprobust.targets.activation import Activation
from pytest_cliprobust.targets.open_clip_target import CONFIG_NAME, OpenClipTarget, load_folder
from pytest_cliprobust.targets.precision import Precision
from pytest_cliprobust.targets.reference import data_folder
from pytest_cliprobust.targets.registry import register_target

PREFIX = "fleet:"

BASE = "base"


def fleet_folder() -> Path:
    """Return the folder of the installed package in which the fleet lies."""
    return data_folder() / "fleet"


def fleet_names() -> tuple[str, ...]:
    """Return the names of the fleet's models, ``"fleet:base"`` first."""
    found = {path.parent.name for path in fleet_folder().glob(f"*/{CONFIG_NAME}")}
    ordered = sorted(found, key=lambda name: (not name.startswith(BASE), name))
    return tuple(PREFIX + name for name in ordered)


@register_target(PREFIX, names=fleet_names)
def load_fleet(
    name: str,
    source: str,
    *,
    pretrained: str | None,
    device: torch.device,
    precision: Precision,
    activation: Activation | None,
) -> OpenClipTarget:
    """Load the model ``source`` of the fleet.

    Raises:
        ClipRobustError: there is none of that name, or its files are damaged.
    """
    known = fleet_names()
    if PREFIX + source not in known:
        raise ClipRobustError(
            f"the bundled fleet has no model {source!r}.{did_you_mean(PREFIX + source, known)} It has: "
            f"{', '.join(known) or 'none (the package is incomplete; install it anew)'}"
        )
    return load_folder(
        name,
        str(fleet_folder() / source),
        pretrained=pretrained,
        device=device,
        precision=precision,
        activation=activation,
        architecture=PREFIX + source,
    )

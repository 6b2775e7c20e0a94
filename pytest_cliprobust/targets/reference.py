"""The bundled reference models: small CLIPs, trained for the offline benchmark, weak by design.

They are ordinary open_clip folders in ``pytest_cliprobust/embedded/data``: ``reference`` and its
siblings ``reference-*``, and load through the same code as any folder of the user's. Their names win
over architectures of open_clip, after which (its module is imported here) they are registered.
"""

from __future__ import annotations

from pathlib import Path

import torch

import pytest_cliprobust.embedded
from pytest_cliprobust.errors import ClipRobustError, did_you_mean
from pytest_cliprobust.targets.activation import Activation
from pytest_cliprobust.targets.open_clip_target import CONFIG_NAME, OpenClipTarget, load_folder
from pytest_cliprobust.targets.precision import Precision
from pytest_cliprobust.targets.registry import register_target

NAME = "reference"


def data_folder() -> Path:
    """Return the folder of the installed package in which the reference models lie."""
    return Path(pytest_cliprobust.embedded.__path__[0]) / "data"


def reference_names() -> tuple[str, ...]:
    """Return the names of all bundled models, ``"reference"`` first."""
    found = {p.parent.name for p in data_folder().glob(f"{NAME}*/{CONFIG_NAME}")}
    return tuple(sorted(found, key=lambda name: (name != NAME, name)))


def is_reference(name: str) -> bool:
    """Whether ``name`` means a bundled model (existing or not)."""
    return name == NAME or name.startswith(f"{NAME}-")


@register_target("bundled model", recognise=is_reference, names=reference_names)
def load_reference(
    name: str,
    *,
    pretrained: str | None,
    device: torch.device,
    precision: Precision,
    activation: Activation | None,
) -> OpenClipTarget:
    """Load the bundled model called ``name``.

    Raises:
        ClipRobustError: there is none of that name, or its files are damaged.
    """
    if name not in reference_names():
        raise ClipRobustError(
            f"there is no bundled model {name!r}.{did_you_mean(name, reference_names())} Bundled are: "
            f"{', '.join(reference_names()) or 'none (the package is incomplete; install it anew)'}"
        )
    return load_folder(
        name,
        str(data_folder() / name),
        pretrained=pretrained,
        device=device,
        precision=precision,
        activation=activation,
        architecture=name,
    )

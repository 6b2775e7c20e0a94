"""Known losses, planted in a copy of the model under test: what ``cliprobust doctor`` tests a gate with.

Each is a slip that happens to people: weights that were rounded or damaged, class texts at the wrong class,
a model left in training mode, somebody else's preprocessing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pytest_cliprobust.errors import ClipRobustError, did_you_mean
from pytest_cliprobust.targets.base import Target

if TYPE_CHECKING:
    from pytest_cliprobust.targets.multimodal import MultimodalModel

#: From a target to one with a loss in it; the argument is a copy.
Plant = Callable[[Any], Target]

#: Losses by name.
PLANTS: dict[str, Plant] = {}


#: Noise on the weights, as a share of each matrix's own deviation, by the name of the loss.
NOISE = {"light_noise": 0.1, "heavy_noise": 0.3}

#: How a line begins that says why a model cannot have a loss: `cliprobust doctor` knows it by that.
CANNOT_HAVE = "nothing to plant: "

#: The loss that the class texts have, not the model.
SWAPPED = "swapped_texts"


def plant(name: str) -> Callable[[Plant], Plant]:
    """Register a loss under a name."""

    def decorate(function: Plant) -> Plant:
        PLANTS[name] = function
        return function

    return decorate


def planted(target: Target, name: str) -> Target:
    """Return a copy of ``target`` with a known loss in it.

    Its digest is another, so that nothing of it is taken for the model's own in the cache; but for
    swapped class texts, where the model itself is as it was and need not encode anything anew.

    Args:
        target: the model under test, which stays as it is.
        name: one of :data:`PLANTS`.

    Raises:
        ClipRobustError: no such loss, or one that this model cannot have.
    """
    if name not in PLANTS:
        raise ClipRobustError(
            f"unknown planted loss {name!r}.{did_you_mean(name, PLANTS)} There are {', '.join(PLANTS)}"
        )
    damaged = PLANTS[name](_copied(target))
    info = target.info
    damaged.info = replace(
        info,
        digest=info.digest if name == SWAPPED else f"{name}:{info.digest}",
        notes=(*info.notes, f"a loss is planted in this copy of the model: {name}"),
    )
    return damaged


def _copied(target: Target) -> Any:
    """Return a copy whose modules are its own; what cannot be copied is shared."""
    twin = copy.copy(target)
    for name, value in vars(target).items():
        if isinstance(value, nn.Module):
            setattr(twin, name, copy.deepcopy(value))
    return twin


def _modules(target: Any) -> list[nn.Module]:
    """Return the modules of a target, also those inside an encoder of the user's own."""
    held = [target, getattr(target, "encoder", None)]
    found = [v for one in held if one is not None for v in vars(one).values()]
    modules = [value for value in (*held, *found) if isinstance(value, nn.Module)]
    if not modules:
        raise ClipRobustError(f"{CANNOT_HAVE}model {target.info.name!r} shows no torch module")
    return modules


def _noised(target: Any, share: float) -> Any:
    """Add Gaussian noise of a share of each weight matrix's own deviation."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in _modules(target):
            for weight in module.parameters():
                if weight.ndim > 1 and weight.is_floating_point():
                    noise = torch.randn(weight.shape, generator=generator).to(weight)
                    weight.add_(noise * (share * weight.float().std().to(weight.dtype)))
    return target


@plant("light_noise")
def light_noise(target: Any) -> Target:
    """Return the model with noise of 10% on its weights."""
    made: Target = _noised(target, NOISE["light_noise"])
    return made


@plant("heavy_noise")
def heavy_noise(target: Any) -> Target:
    """Return the model with noise of 30% on its weights."""
    made: Target = _noised(target, NOISE["heavy_noise"])
    return made


def planted_multimodal(load: Callable[[], MultimodalModel], name: str) -> MultimodalModel:
    """Load a multimodal model with the same noise on its weights as the CLIP under test has.

    It has a vision tower of its own, so what is planted in the CLIP alone moves no bound on its answers. Of
    the other losses it has none.

    Args:
        load: loads it; the model is changed in place.
        name: one of :data:`PLANTS`.
    """
    model = load()
    if name in NOISE:
        _noised(model, NOISE[name])
        model.info = replace(model.info, digest=f"{name}:{model.info.digest}")
    return model


@plant(SWAPPED)
def swapped_texts(target: Any) -> Target:
    """Return the model as it is: :func:`swapped` puts the class texts at the wrong class."""
    made: Target = target
    return made


def swapped(texts: Sequence[str]) -> tuple[str, ...]:
    """Return class texts of which every tenth pair stands at each other's class; one pair at least."""
    moved = list(texts)
    for first in range(0, len(moved) - 1, 20):
        moved[first], moved[first + 1] = moved[first + 1], moved[first]
    return tuple(moved)


@plant("training_mode")
def training_mode(target: Any) -> Target:
    """Return the model left in training mode, where it has layers that this changes."""
    kinds = (nn.Dropout, nn.modules.batchnorm._BatchNorm)
    modules = _modules(target)
    layers = [layer for module in modules for layer in module.modules() if isinstance(layer, kinds)]
    if not any(not isinstance(layer, nn.Dropout) or layer.p > 0.0 for layer in layers):
        raise ClipRobustError(
            f"{CANNOT_HAVE}model {target.info.name!r} is the same in training mode: it has no dropout "
            "or batch norm"
        )
    for module in modules:
        module.train()
    made: Target = target
    return made


@plant("other_preprocessing")
def other_preprocessing(target: Any) -> Target:
    """Return the model with red and blue swapped, and mean and deviation of 0.5."""
    prepare = target.preprocess

    def shifted(images: Tensor) -> Tensor:
        pixels: Tensor = prepare(images)
        mean, std = target._mean, target._std
        plain = pixels * std + mean
        moved: Tensor = (plain.flip(1) - 0.5) / 0.5
        return moved

    target.preprocess = shifted
    made: Target = target
    return made

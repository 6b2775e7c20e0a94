"""Any 2D augmentation of kornia as a perturbation, by name: ``kornia:RandomPosterize``.

kornia draws its parameters (and some of its noise) from the *global* generator of torch, for the
batch as a whole: the same image then gets another perturbation in another batch, and some
augmentations (motion blur) draw one parameter for all. Here each sample goes through the augmentation
alone, in a batch of one, with the global generators seeded by that sample's seed and put back
afterwards: row ``i`` is bit-identical in every batch.

The price: B passes of the augmentation instead of one (the kernels are launched B times), and one
transfer of the B seeds to the host when they lie on an accelerator. ``torch.compile`` therefore does
not trace it, and neither do fake tensors. Threads that draw from torch's global generators at the
same moment would disturb it, as they disturb kornia.

Threshold files name such perturbations in ``[[perturbation]]`` tables (docs/thresholds.md), which go
through :func:`define`.
"""

from __future__ import annotations

import hashlib
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from pytest_cliprobust.errors import ClipRobustError, as_toml, brief, did_you_mean
from pytest_cliprobust.perturbations.filters import working_dtype
from pytest_cliprobust.perturbations.registry import PERTURBATIONS, Perturbation

PREFIX = "kornia:"

# Settings of kornia that would contradict the contract of perturbations.
_FIXED = {
    "p": "each image is perturbed, always",
    "same_on_batch": "samples do not depend on each other",
    "keepdim": "the shape is kept",
    "p_batch": "each image is perturbed, always",
}
_LOCK = threading.Lock()


@lru_cache(maxsize=1)
def available() -> Mapping[str, type[nn.Module]]:
    """Return kornia's 2D augmentations by name: those that work on one image alone."""
    import kornia.augmentation

    base = kornia.augmentation.AugmentationBase2D
    return {
        name: member
        for name, member in sorted(vars(kornia.augmentation).items())
        if isinstance(member, type) and issubclass(member, base) and "Base2D" not in name
    }


def _class(name: str) -> type[nn.Module]:
    plain = name.removeprefix(PREFIX)
    found = available().get(plain)
    if found is None:
        import kornia.augmentation

        if isinstance(getattr(kornia.augmentation, plain, None), type):
            raise ClipRobustError(
                f"{PREFIX}{plain} is no 2D augmentation of a single image (mixes of several images, "
                "3D ones and containers are not); name one of those that `cliprobust perturbations "
                "--kornia` lists"
            )
        raise ClipRobustError(
            f"kornia {kornia.__version__} has no 2D augmentation {plain!r}."
            f"{did_you_mean(plain, available())} "
            "`cliprobust perturbations --kornia` lists them all"
        )
    return found


def accepted_parameters(kind: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """Return the parameters of an augmentation that a user may set."""
    signature = inspect.signature(kind.__init__)
    return {
        name: parameter
        for name, parameter in signature.parameters.items()
        if name not in {"self", *_FIXED}
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }


def _check_names(name: str, given: Mapping[str, Any]) -> None:
    accepted = accepted_parameters(_class(name))
    for key, value in given.items():
        if key in _FIXED:
            raise ClipRobustError(
                f"{PREFIX}{name}: parameter {key!r} cannot be set, since {_FIXED[key]}; remove it"
            )
        if key not in accepted:
            raise ClipRobustError(
                f"{PREFIX}{name} has no parameter {key!r}.{did_you_mean(key, accepted)} "
                f"It takes {', '.join(accepted) or 'none'}"
            )
        try:
            hash(_hashable(value))
        except TypeError:
            raise ClipRobustError(
                f"{PREFIX}{name}: parameter {key!r} cannot be {as_toml(value)}; give a number, a word or a "
                "list"
            ) from None


def _hashable(value: Any) -> Any:
    """Return a TOML value with lists as tuples, as kornia wants ranges."""
    return tuple(_hashable(item) for item in value) if isinstance(value, list | tuple) else value


@lru_cache(maxsize=64)
def _build(name: str, parameters: tuple[tuple[str, Any], ...]) -> nn.Module:
    """Return the augmentation, with probability 1.

    Raises:
        ClipRobustError: kornia refuses the parameters; its reason is in the message.
    """
    kind = _class(name)
    given = dict(parameters)
    _check_names(name, given)
    absent = [
        key
        for key, parameter in accepted_parameters(kind).items()
        if parameter.default is parameter.empty and key not in given
    ]
    if absent:
        raise ClipRobustError(
            f"{PREFIX}{name} needs {', '.join(absent)}; give "
            f"{'it' if len(absent) == 1 else 'them'} as parameters"
        )
    if "p" in inspect.signature(kind.__init__).parameters:
        given["p"] = 1.0
    for key, parameter in accepted_parameters(kind).items():
        # RandomFisheye wants its ranges as tensors, which a TOML file cannot hold.
        if parameter.annotation in (Tensor, "torch.Tensor", "Tensor") and key in given:
            given[key] = torch.as_tensor(given[key])
    try:
        return kind(**given)
    except Exception as error:  # kornia checks with assert, ValueError, TypeError and others
        raise _refusal(name, parameters, error) from None


def _refusal(
    name: str, parameters: tuple[tuple[str, Any], ...], error: Exception
) -> ClipRobustError:
    """Return what a user is told when kornia does not want the parameters, in one line."""
    settings = ", ".join(f"{key}={value!r}" for key, value in parameters)
    return ClipRobustError(
        f"{PREFIX}{name}({settings}) was refused by kornia ({brief(error)}); give other values (pairs "
        "and ranges: in a [[perturbation]] table of a threshold file)"
    )


@contextmanager
def _global_generators(device: torch.device) -> Iterator[Callable[[int], None]]:
    """Yield a function that seeds torch's global generators (CPU, ``device``); put them back after.

    ``torch.manual_seed`` would also seed every other accelerator, hence this.
    """
    generators: list[torch.Generator] = [torch.default_generator]
    module: ModuleType | None = None
    if device.type != "cpu":
        module = torch.get_device_module(device)
        if hasattr(module, "default_generators"):
            index = device.index if device.index is not None else module.current_device()
            generators.append(module.default_generators[index])
            module = None
    with _LOCK:
        states = [generator.get_state() for generator in generators]
        state = None if module is None else module.get_rng_state()

        def seed(value: int) -> None:
            for generator in generators:
                generator.manual_seed(value)
            if module is not None:
                module.manual_seed(value)

        try:
            yield seed
        finally:
            for generator, before in zip(generators, states, strict=True):
                generator.set_state(before)
            if module is not None:
                module.set_rng_state(state)


def apply(images: Tensor, name: str, parameters: Mapping[str, Any], seeds: Tensor) -> Tensor:
    """Apply a kornia augmentation to each sample on its own.

    Args:
        images: (B, 3, H, W) in [0, 1]; half precision is computed in float32.
        name: the class in ``kornia.augmentation``, with or without ``kornia:``.
        parameters: its arguments; lists become tuples.
        seeds: (B,) int64, on the CPU for preference.

    Raises:
        ClipRobustError: unknown name or parameter, a value that kornia refuses, or an augmentation
            that changes the shape.
    """
    plain = name.removeprefix(PREFIX)
    settings = tuple(sorted((key, _hashable(value)) for key, value in parameters.items()))
    module = _build(plain, settings)
    dtype = working_dtype(images)
    rows = []
    with _global_generators(images.device) as seed:
        for image, value in zip(torch.split(images, 1), seeds.tolist(), strict=True):
            seed(value)
            try:
                # A copy: some augmentations of kornia before 0.9 write into what they are given.
                row = module(image.to(dtype, copy=True, memory_format=torch.contiguous_format))
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # many parameters are first looked at here
                raise _refusal(plain, settings, error) from None
            if row.shape != image.shape:
                raise ClipRobustError(
                    f"{PREFIX}{plain} turned {tuple(image.shape[1:])} into {tuple(row.shape[1:])}, "
                    "but a perturbation keeps the shape: augmentations that change the size are none; "
                    "give parameters that keep it"
                )
            rows.append(row)
    if not rows:
        return images
    return torch.cat(rows).clamp(0, 1).to(images.dtype)


def _function(name: str, defaults: Mapping[str, Any]) -> Callable[..., Tensor]:
    def perturb(images: Tensor, *, seeds: Tensor, **parameters: Any) -> Tensor:
        return apply(images, name, {**defaults, **parameters}, seeds)

    perturb.__name__ = name
    perturb.__doc__ = f"kornia.augmentation.{name}, one sample at a time; see {__name__}."
    return perturb


def _version(release: str, name: str, defaults: Mapping[str, Any]) -> int:
    """Return a version that changes with kornia's release and the fixed parameters (cache keys)."""
    text = f"{release}\0{name}\0{sorted(defaults.items())!r}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")


def augmentation(
    name: str,
    *,
    alias: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    severities: tuple[Mapping[str, Any], ...] = (),
    envelope: Mapping[str, tuple[float, float]] | None = None,
) -> Perturbation:
    """Return a kornia augmentation as a perturbation (not registered).

    Args:
        name: ``kornia:RandomPosterize`` or ``RandomPosterize``.
        alias: the perturbation's name; by default ``kornia:<name>``.
        parameters: arguments that hold at every severity.
        severities: up to five mappings of arguments. Without any, the perturbation is called without
            a severity and uses ``parameters`` and kornia's defaults.
        envelope: range (mildest, strongest) of arguments that are single numbers.

    Raises:
        ClipRobustError: unknown augmentation or parameter; the message names the nearest.
    """
    import kornia

    plain = name.removeprefix(PREFIX)
    for given in (parameters or {}, envelope or {}, *severities):
        _check_names(plain, given)
    defaults = {key: _hashable(value) for key, value in (parameters or {}).items()}
    return Perturbation(
        name=alias or f"{PREFIX}{plain}",
        function=_function(plain, defaults),
        family="kornia_adapter",
        severities=tuple({k: _hashable(v) for k, v in step.items()} for step in severities),
        envelope=dict(envelope or {}),
        inputs=frozenset({"seeds"}),
        source=f"kornia {kornia.__version__}, {plain}" + (f" with {defaults}" if defaults else ""),
        version=_version(kornia.__version__, plain, defaults),
        differentiable=False,
        compilable=False,
    )


def define(
    name: str,
    kornia: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    severities: tuple[Mapping[str, Any], ...] = (),
    envelope: Mapping[str, tuple[float, float]] | None = None,
    file: Path | None = None,
) -> Perturbation:
    """Register a kornia augmentation under a name of one's own; arguments as :func:`augmentation`.

    ``file`` is the threshold file that says so. The augmentation is built once with each severity's
    arguments, so that most of what kornia refuses is told now and not when the first image comes.
    Defining the same name again replaces it.

    Raises:
        ClipRobustError: the augmentation or an argument is unknown or refused, or the name is taken
            by a perturbation of another kind.
    """
    made = augmentation(
        kornia, alias=name, parameters=parameters, severities=severities, envelope=envelope
    )
    ends = [{key: ends[i] for key, ends in made.envelope.items()} for i in (0, 1)]
    for step in (*made.severities, *(ends if made.envelope else ())) or ({},):
        arguments = {**(parameters or {}), **step}
        _build(
            kornia.removeprefix(PREFIX),
            tuple(sorted((key, _hashable(value)) for key, value in arguments.items())),
        )
    made = replace(made, file=file)
    PERTURBATIONS.load()  # so that a name of ours is known to be taken
    PERTURBATIONS.add(name, made, module=__name__)
    return made


@PERTURBATIONS.resolver(PREFIX)
def _by_name(name: str) -> Perturbation:
    return augmentation(name)

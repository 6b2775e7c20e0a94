"""The rows of a sheet: one image under one perturbation, at each severity or as ``--set`` says."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pytest_cliprobust.blame import place_of
from pytest_cliprobust.cli._subjects import Subject
from pytest_cliprobust.errors import ClipRobustError, brief, did_you_mean
from pytest_cliprobust.perturbations.contact_sheet import Row, caption
from pytest_cliprobust.perturbations.registry import (
    KNOWN_INPUTS,
    REQUIRED,
    Perturbation,
    sample_seeds,
)

#: Where the command takes each input from, for the message when it is missing.
_INPUT_OPTIONS = {
    "depth": "--depth FILE",
    "mask": "--mask FILE",
    "occluder": "--occluder FILE",
    "texture": "--texture FILE",
}


def missing(perturbation: Perturbation, subject: Subject) -> str:
    """Return what this perturbation lacks and how to give it, or an empty string."""
    needed = perturbation.inputs - {"seeds"} - subject.inputs.keys()
    return ", ".join(
        f"{name} ({_INPUT_OPTIONS[name]}, or --embedded N)"
        if name in _INPUT_OPTIONS
        else f"{name} (--embedded N)"
        for name in sorted(needed)
    )


def perturbed_row(
    perturbation: Perturbation,
    subject: Subject,
    severities: Sequence[int],
    settings: Mapping[str, float],
    seed: int,
) -> Row:
    """Return a row that shows an image under a perturbation.

    Args:
        perturbation: what is shown.
        subject: the image and its inputs.
        severities: one image for each that the perturbation has, unless there are ``settings``.
        settings: parameters of the one image instead.
        seed: the run's.

    Raises:
        ClipRobustError: an input or all of the severities are missing, a setting is none of the
            perturbation's, or its function fails.
    """
    lacking = missing(perturbation, subject)
    if lacking:
        raise ClipRobustError(f"perturbation {perturbation.name!r} needs {lacking}")
    seeds = sample_seeds((subject.sample,), perturbation.name, seed).to(subject.image.device)
    inputs = {**subject.inputs, "seeds": seeds}
    steps = _steps(perturbation, severities, settings)
    with torch.inference_mode():
        images = [_apply(perturbation, subject.image, step, inputs) for step in steps]
    return Row(
        name=perturbation.name,
        images=torch.cat(images),
        captions=tuple(caption(step) or "defaults" for step in steps),
        note=perturbation.source,
        group=perturbation.family,
    )


def _steps(
    perturbation: Perturbation, severities: Sequence[int], settings: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return the parameters of each image in a row of the sheet.

    Raises:
        ClipRobustError: the perturbation has none of the severities, or not such a parameter.
    """
    count = len(perturbation.severities)
    if settings or not count:
        # What is not set takes the value of the middle severity.
        middle = perturbation.severities[count // 2] if count else {}
        return [{**middle, **_checked(perturbation, settings)}]
    steps = [dict(perturbation.parameters(number)) for number in severities if number <= count]
    if not steps:
        asked = ", ".join(map(str, severities))
        raise ClipRobustError(
            f"perturbation {perturbation.name!r} has severities 1 to {count}, not {asked}"
        )
    return steps


def _checked(perturbation: Perturbation, settings: Mapping[str, float]) -> dict[str, float]:
    """Return ``settings`` as the perturbation's function wants them: int for what is counted.

    Raises:
        ClipRobustError: the function has no such parameter, or it counts and the number is a
            fraction.
    """
    defaults = perturbation.settings  # None: it takes any name, and the function says what is wrong
    steps = (item for step in perturbation.severities for item in step.items())
    own = {**(defaults or {}), **dict(steps)}
    takes = [name for name, value in own.items() if _is_number_setting(name, value)]
    checked = {}
    for name, value in settings.items():
        if name in KNOWN_INPUTS or (defaults is not None and name not in takes):
            listed = f" It takes {', '.join(takes) or 'none'}" if defaults is not None else ""
            raise ClipRobustError(
                f"perturbation {perturbation.name!r} has no parameter {name!r} that is a number."
                f"{did_you_mean(name, takes)}{listed}"
            )
        checked[name] = _as_wanted(perturbation, name, value, own.get(name))
    return checked


def _is_number_setting(name: str, value: object) -> bool:
    """Whether a parameter may be a number, as far as its usual value or default tells."""
    unknown = value is None or value is REQUIRED
    return name not in KNOWN_INPUTS and (unknown or isinstance(value, int | float))


def _as_wanted(perturbation: Perturbation, name: str, value: float, usual: object) -> float:
    """Return the value of a parameter as int or float, by its annotation and its ``usual`` value.

    Raises:
        ClipRobustError: the parameter is annotated as int and the number is a fraction.
    """
    signature = inspect.signature(perturbation.function).parameters
    annotation = signature[name].annotation if name in signature else REQUIRED
    typed = annotation in (int, "int")
    counted = type(usual) is int and name not in perturbation.envelope
    whole = float(value).is_integer()
    if typed and not whole:
        raise ClipRobustError(
            f"--set {name}={value}: {perturbation.name!r} takes whole numbers alone as {name!r}"
        )
    if whole and (typed or (counted and annotation is REQUIRED)):
        return int(value)
    if "float" in str(annotation) or isinstance(usual, float):
        return float(value)
    return value


def _apply(
    perturbation: Perturbation,
    image: Tensor,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, Tensor],
) -> Tensor:
    """Return one image (1, 3, H, W) perturbed.

    Raises:
        ClipRobustError: the function fails, or what it returns is no image of the same size.
    """
    given = ", ".join(f"{name}={value}" for name, value in parameters.items()) or "its defaults"
    what = f"perturbation {perturbation.name!r} with {given}"
    try:
        result: object = perturbation(image, **parameters, **inputs)
    except ClipRobustError:
        raise
    except Exception as error:  # arithmetic, codecs, memory, a mistake in a user's own function
        place = place_of(error, perturbation.origin)
        remedy = _remedy(perturbation, place)
        raise ClipRobustError(f"{what} fails ({brief(error)}); {remedy}") from None
    if not isinstance(result, Tensor) or result.shape != image.shape:
        kind = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise ClipRobustError(
            f"{what} makes {kind} of {tuple(image.shape)}, but a perturbation keeps the shape; "
            f"{_remedy(perturbation)}"
        )
    if not result.isfinite().all():
        raise ClipRobustError(f"{what} gives NaN or infinite pixels; {_remedy(perturbation)}")
    return result


def _remedy(perturbation: Perturbation, place: str = "") -> str:
    """Return what helps against a failure, which may have a ``place`` in the user's file."""
    file = perturbation.origin
    return f"give other values, or {'another --size' if file is None else f'mend {place or file}'}"

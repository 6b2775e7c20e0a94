"""The one registry of perturbations, and the contract that each of them keeps.

A perturbation is a pure function ``f(images, *, <parameters>, <inputs>) -> images`` where

* ``images`` is a float tensor (B, 3, H, W) with values in [0, 1], on any device, in any float dtype;
  the result has the same shape, dtype and device, and values in [0, 1];
* parameters are keyword arguments, python numbers; :attr:`Perturbation.severities` holds one mapping
  of parameters for each of the published severities 1 to 5;
* inputs are keyword arguments whose names stand in :attr:`Perturbation.inputs`: ``seeds`` (B,) int64
  (one per sample: randomness comes from :mod:`.random` alone), ``depth`` (B, 1, H, W) metres along
  the optical axis, ``mask`` (B, 1, H, W) in [0, 1], and so on;
* it never moves data to the host, never synchronises with it (codecs aside) and never depends on the
  other samples of the batch: row ``i`` is bit-identical in every batch.

Severity 0 is the identity for every perturbation.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError, did_you_mean
from pytest_cliprobust.figures.condition import CLEAN
from pytest_cliprobust.registry import WORD, Registry, several

Parameters = Mapping[str, float]
Function = TypeVar("Function", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class Perturbation:
    """A registered perturbation.

    Attributes:
        name: unique name, e.g. ``"gaussian_noise"``.
        function: the batched function, see the module's docstring.
        family: the file or the package below ``perturbations`` that it lives in, e.g. ``"common"``.
        severities: parameters for severity 1 to 5 (empty for perturbations that have no scale).
        envelope: for each continuous parameter the range (mildest, strongest) that the worst-case
            search and the robustness frontier explore; strength 0 is the mildest end.
        inputs: names of the inputs needed besides the images.
        optional: names of inputs that are used where the caller has them (``mask`` of an occlusion).
        source: paper, equation or table that the parameters come from.
        version: raise it whenever the output changes, it is part of the cache key.
        differentiable: whether gradients flow from the result to the images.
        compilable: whether ``torch.compile(fullgraph=True)`` traces it (the docstring says why not).
        extra: one of Hendrycks & Dietterich's four "extra" corruptions, outside mCE's fifteen.
        file: the threshold file that defines it, for augmentations of kornia under another name.
    """

    name: str
    function: Callable[..., Tensor]
    family: str
    severities: tuple[Parameters, ...] = ()
    envelope: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    inputs: frozenset[str] = frozenset()
    source: str = ""
    version: int = 1
    differentiable: bool = True
    compilable: bool = True
    extra: bool = False
    optional: frozenset[str] = frozenset()
    file: Path | None = None

    def __call__(self, images: Tensor, severity: int | None = None, /, **arguments: Any) -> Tensor:
        """Apply the perturbation at ``severity`` (0 to 5), or with explicit parameters.

        ``arguments`` are the inputs (those that this perturbation does not use are ignored, so that a
        caller may pass all that it has) and parameters that override those of the severity. Tensors
        may lie in memory in any order.

        Raises:
            ClipRobustError: severity outside 0 to 5, an input missing or not one for each image, a
                parameter unknown or missing.
        """
        if severity == 0:
            return images
        parameters = dict(self.parameters(severity)) if severity is not None else {}
        inputs: dict[str, Any] = {}
        for name, value in arguments.items():
            if name in self.inputs or (name in self.optional and value is not None):
                inputs[name] = value.contiguous() if isinstance(value, Tensor) else value
            elif name not in KNOWN_INPUTS:
                parameters[name] = value
        self._check(parameters, inputs, len(images))
        return self.function(images.contiguous(), **parameters, **inputs)

    def _check(self, parameters: Mapping[str, Any], inputs: Mapping[str, Any], batch: int) -> None:
        absent = sorted(name for name in self.inputs if inputs.get(name) is None)
        if absent:
            raise ClipRobustError(
                f"perturbation {self.name!r} needs {', '.join(absent)}, which this data set does "
                "not provide"
            )
        for name, value in inputs.items():
            if name in PER_IMAGE and isinstance(value, Tensor) and value.shape[:1] != (batch,):
                raise ClipRobustError(
                    f"perturbation {self.name!r} got {name} of shape {tuple(value.shape)} for {batch} "
                    "images; its first dimension must be theirs"
                )
        settings = self.settings
        if settings is None:
            return
        for name in parameters:
            if name not in settings:
                raise ClipRobustError(
                    f"perturbation {self.name!r} has no parameter {name!r}."
                    f"{did_you_mean(name, settings)} It takes {', '.join(settings) or 'none'}"
                )
        open_ = [name for name in settings if settings[name] is REQUIRED and name not in parameters]
        if open_:
            raise ClipRobustError(
                f"perturbation {self.name!r} needs {', '.join(open_)}; give a severity, or "
                f"{'it' if len(open_) == 1 else 'them'} by name"
            )

    @functools.cached_property
    def settings(self) -> Mapping[str, Any] | None:
        """The function's parameters and their defaults (:data:`REQUIRED`: none); None: it takes any."""
        return _settings(self.function, self.inputs | self.optional)

    @property
    def origin(self) -> Path | None:
        """The file that defines it; None for those of this package."""
        return self.file or self._source

    @property
    def _source(self) -> Path | None:
        if self.function.__module__.startswith("pytest_cliprobust."):
            return None
        try:
            file = inspect.getsourcefile(inspect.unwrap(self.function))
        except TypeError:
            return None
        return Path(file) if file and Path(file).is_file() else None

    @property
    def code(self) -> str:
        """A digest of a user's source file, part of the cache key: no ``version`` to think of."""
        source = self._source
        return "" if source is None else hashlib.sha256(source.read_bytes()).hexdigest()

    def parameters(self, severity: int) -> Parameters:
        """Return the published parameters of ``severity`` (1 to 5)."""
        if not self.severities:
            raise ClipRobustError(
                f"perturbation {self.name!r} has no severities; call it without one, or with parameters"
            )
        if not 1 <= severity <= len(self.severities):
            raise ClipRobustError(
                f"perturbation {self.name!r} has severities 1 to {len(self.severities)}, "
                f"not {severity}"
            )
        return self.severities[severity - 1]


#: Inputs that a data set or the engine may offer to every perturbation.
KNOWN_INPUTS = frozenset({"seeds", "depth", "mask", "occluder", "texture", "focal", "text"})

#: Those of them that are tensors with a row for each image.
PER_IMAGE = frozenset({"seeds", "depth", "mask"})

#: Stands for the default of a parameter that has none.
REQUIRED: Any = inspect.Parameter.empty

#: All perturbations by name: whatever a module of this folder or of a user's registers.
PERTURBATIONS: Registry[Perturbation] = Registry(
    "perturbation",
    "pytest_cliprobust.perturbations",
    # The papers' corruptions lead every list; the others come as their files are found.
    first=("common", "depth", "view", "codec", "occlusion", "typographic"),
    remedy="`cliprobust perturbations` lists them all",
    letters=WORD,
    reserved=(CLEAN,),
)


def _settings(function: Callable[..., Tensor], inputs: frozenset[str]) -> dict[str, Any] | None:
    """Return the parameters of ``function`` and their defaults; None if it takes any name."""
    others = list(inspect.signature(function).parameters.values())[1:]  # the first are the images
    if any(p.kind is p.VAR_KEYWORD for p in others):
        return None
    by_name = (p for p in others if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD))
    return {p.name: p.default for p in by_name if p.name not in inputs}


def register(
    name: str | None = None,
    *,
    severities: tuple[Parameters, ...] = (),
    envelope: Mapping[str, tuple[float, float]] | None = None,
    inputs: tuple[str, ...] = (),
    source: str = "",
    version: int = 1,
    differentiable: bool = True,
    compilable: bool = True,
    extra: bool = False,
    optional: tuple[str, ...] = (),
) -> Callable[[Function], Function]:
    """Register the decorated function as a perturbation; the function itself stays as it is.

    It is ``pytest_cliprobust.register_perturbation``, too.

    Example:
        >>> @register("invert", severities=tuple({"amount": s / 5} for s in range(1, 6)))
        ... def invert(images, *, amount):
        ...     return images + amount * (1 - 2 * images)

    Raises:
        ClipRobustError: another function has that name already, it is no name, or the function does not take
            what ``severities``, ``envelope``, ``inputs`` or ``optional`` name.
    """
    if name is not None:
        PERTURBATIONS.check_name(name)

    def decorate(function: Function) -> Function:
        key = name or function.__name__
        what = f"perturbation {key!r}"
        needs, uses = several(what, "inputs", inputs), several(what, "optional", optional)
        _check_values(what, severities, envelope or {})
        _check_registration(key, function, severities, envelope or {}, (*needs, *uses))
        made = Perturbation(
            name=key,
            function=function,
            family=_family(function.__module__),
            severities=tuple(dict(p) for p in severities),
            envelope=dict(envelope or {}),
            inputs=frozenset(needs),
            source=source,
            version=version,
            differentiable=differentiable,
            compilable=compilable,
            extra=extra,
            optional=frozenset(uses),
        )
        PERTURBATIONS.add(key, made, module=function.__module__)
        return function

    return decorate


def _check_values(
    what: str, severities: Sequence[Parameters], envelope: Mapping[str, tuple[float, float]]
) -> None:
    """Raise on severities and ranges that are not made of numbers."""
    if isinstance(severities, Mapping) or not all(
        isinstance(step, Mapping) and all(map(_is_number, step.values())) for step in severities
    ):
        raise ClipRobustError(
            f"{what}: severities are the parameters of each, mildest first, as numbers by name: "
            "severities=({'amount': 0.1}, {'amount': 0.2}, …)"
        )
    for parameter, ends in envelope.items():
        if not isinstance(ends, Sequence) or [*map(_is_number, ends)] != [True, True]:
            raise ClipRobustError(
                f"{what}: envelope gives each parameter two numbers, its mildest and its strongest value, "
                f"not {parameter}={ends!r}"
            )


def _is_number(value: object) -> bool:
    return isinstance(value, Real)


def _check_registration(
    key: str,
    function: Callable[..., Tensor],
    severities: tuple[Parameters, ...],
    envelope: Mapping[str, tuple[float, float]],
    inputs: tuple[str, ...],
) -> None:
    """Raise on a name that would only fail once the perturbation is used."""
    for word in inputs:
        if word not in KNOWN_INPUTS:
            raise ClipRobustError(
                f"perturbation {key!r} asks for an input {word!r}, which nothing provides."
                f"{did_you_mean(word, KNOWN_INPUTS)} There are {', '.join(sorted(KNOWN_INPUTS))}"
            )
    takes = _settings(function, frozenset())
    if takes is None:
        return
    named = {
        **dict.fromkeys(inputs, "inputs"),
        **dict.fromkeys(envelope, "envelope"),
        **{word: "severities" for step in severities for word in step},
    }
    for word, where in named.items():
        if word not in takes:
            raise ClipRobustError(
                f"perturbation {key!r}: its {where} name {word!r}, but the function takes no such "
                f"parameter.{did_you_mean(word, takes)}"
            )


def _family(module: str) -> str:
    package = __name__.rpartition(".")[0] + "."
    if module.startswith(package):
        return module.removeprefix(package).partition(".")[0]
    return module.rpartition(".")[2]


def get(name: str) -> Perturbation:
    """Return the perturbation called ``name``; ``kornia:RandomPosterize`` wraps that of kornia.

    Raises:
        ClipRobustError: there is none; the message names the nearest.
    """
    return PERTURBATIONS.named(name)


def names(family: str | None = None) -> tuple[str, ...]:
    """Return the registered names, in order of registration, of one family or of all."""
    return tuple(p.name for p in PERTURBATIONS.values() if family in (None, p.family))


def registered() -> Iterator[Perturbation]:
    """Iterate over all registered perturbations."""
    yield from PERTURBATIONS.values()


def sample_seeds(ids: tuple[str, ...], perturbation: str, seed: int) -> Tensor:
    """Return (B,) int64 seeds on the CPU that depend on sample id, perturbation and run seed alone.

    The severity is left out on purpose: the five severities of a sample share their noise pattern, so
    that severity is the only thing that changes between them.
    """
    values = [
        int.from_bytes(
            hashlib.blake2b(f"{seed}\0{perturbation}\0{i}".encode(), digest_size=8).digest(),
            "little",
        )
        >> 1
        for i in ids
    ]
    return torch.tensor(values, dtype=torch.int64)

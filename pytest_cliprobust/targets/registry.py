"""The one registry of models under test: names, prefixes, and whatever else tells a kind of model.

One kind a file of this folder; all files are imported when the first model is asked for by name. They
therefore import heavy libraries (open_clip, transformers) inside their functions, never at the top.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.registry import Registry

Factory = TypeVar("Factory", bound=Callable[..., Any])


@dataclass(frozen=True)
class Kind:
    """A model, or a kind of models.

    Attributes:
        name: the model's name; a prefix, ending in a colon; or what the kind is called, if it has
            ``recognise``.
        factory: makes the target, see :func:`register_target`.
        recognise: whether a name means a model of this kind.
        names: lists the names that can be listed, for hints.
    """

    name: str
    factory: Callable[..., Any]
    recognise: Callable[[str], bool] | None = None
    names: Callable[[], Iterable[str]] | None = None

    @property
    def is_prefix(self) -> bool:
        """Whether it stands for all names that begin with it."""
        return self.name.endswith(":")


#: All models and kinds of models by name.
TARGETS: Registry[Kind] = Registry(
    "model",
    "pytest_cliprobust.targets",
    decorator="register_target",
    letters=("[^=]", "letters other than '=', which --clip-model NAME=MODEL has"),
)

#: Loaders of folders by the file that tells their format.
FORMATS: Registry[Callable[..., Any]] = Registry(
    "folder format", "pytest_cliprobust.targets", decorator="register_format"
)


def register_target(
    name: str,
    *,
    recognise: Callable[[str], bool] | None = None,
    names: Callable[[], Iterable[str]] | None = None,
) -> Callable[[Factory], Factory]:
    """Register the decorated class or function as what makes the model called ``name``.

    It returns a target, or an object with ``encode_image`` and ``encode_text`` (see
    :class:`.callable_target.CallableTarget`), and is called with those of the keyword arguments
    ``pretrained``, ``device``, ``precision`` and ``activation`` that its signature names.

    A name that ends in a colon is a prefix: ``"my-hub:"`` makes every ``my-hub:SOURCE``. With
    ``recognise`` it is the name of a kind, which makes every model whose name ``recognise`` accepts.
    Both are also given the ``name`` that the user wrote and the ``source`` (what follows the prefix; of
    a recognised kind, the name), and ``precision`` resolved.

    Example:
        >>> @register_target("mine")
        ... def mine(device): ...

    Args:
        name: of a model, a prefix or a kind.
        recognise: tells names of the kind; it must be quick. The kind registered last is asked first.
        names: lists those of the kind, for hints.

    Raises:
        ClipRobustError: another module has registered that name, or it is none.
    """
    TARGETS.check_name(name)

    def decorate(factory: Factory) -> Factory:
        module = getattr(factory, "__module__", "")
        TARGETS.add(name, Kind(name, factory, recognise, names), module=module)
        return factory

    return decorate


def register_format(file: str) -> Callable[[Factory], Factory]:
    """Register the decorated function as the loader of folders that hold ``file``.

    It is called as those that :func:`register_target` registers for a prefix; ``source`` is the folder.

    Raises:
        ClipRobustError: another module has registered that file.
    """

    def decorate(factory: Factory) -> Factory:
        FORMATS.add(file, factory, module=factory.__module__)
        return factory

    return decorate


def kind_of(name: str) -> tuple[Kind, str | None] | None:
    """Return what loads ``name``, and from which source; None: nothing that is registered.

    A name of a model wins over a prefix, and a prefix over what is recognised. The source is None for
    the name of a model.

    Raises:
        ClipRobustError: nothing follows the prefix.
    """
    kind = TARGETS.find(name)
    if kind is not None and not kind.is_prefix and kind.recognise is None:
        return kind, None
    prefix, colon, source = name.partition(":")
    kind = TARGETS.find(prefix + colon) if colon else None
    if kind is not None:
        if not source:
            raise ClipRobustError(f"--clip-model {name} names nothing after {prefix}:")
        return kind, source
    for kind in reversed(tuple(TARGETS.values())):
        if kind.recognise is not None and kind.recognise(name):
            return kind, name
    return None


def arguments_for(
    name: str, factory: Callable[..., Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return those of ``options`` that the signature of ``factory`` names.

    Args:
        name: of the model, for messages.
        factory: what makes it.
        options: all that it may be given.

    Raises:
        ClipRobustError: the user gave an option that it does not take.
    """
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        accepted = {}
    else:
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            return dict(options)
        taken = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
        accepted = {word: value for word, value in options.items() if word in taken}
    for word in ("pretrained", "activation"):
        if options.get(word) and word not in accepted:
            raise ClipRobustError(
                f"model {name!r} takes no --clip-{word}: its callable has no argument {word!r}"
            )
    return accepted


def listed_names() -> Iterator[str]:
    """Iterate over the registered names that can be listed."""
    for kind in TARGETS.values():
        if kind.names is not None:
            yield from kind.names()
        elif not kind.is_prefix and kind.recognise is None:
            yield kind.name

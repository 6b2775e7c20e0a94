"""One idiom for everything that a user may add: a decorator, found by importing the folder it is in.

A :class:`Registry` maps names to what was registered under them, and imports a whole package, with
its sub-packages, at the first look-up: whoever adds a file to that folder touches no other file. What
a ``conftest.py`` or a suite registers is known from the moment on that it is imported.

The registries: perturbations (:mod:`.perturbations.registry`), metrics (:mod:`.figures.metrics`), models
(:mod:`.targets.registry`) and layouts of data sets (:mod:`.datasets.registry`).
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from pytest_cliprobust.blame import place_of, told
from pytest_cliprobust.errors import ClipRobustError, did_you_mean
from pytest_cliprobust.files import shown_path

T = TypeVar("T")
V = TypeVar("V")
Resolver = Callable[[str], "T | None"]


@dataclass(frozen=True)
class _Entry(Generic[T]):
    value: T
    module: str


class _TakenError(ClipRobustError):
    """A user has taken a name of the folder: the mistake stands in the user's file, not in the folder's."""


class Registry(Mapping[str, T]):
    """What is registered, by name, in order of registration; as a mapping it holds these names alone.

    Args:
        kind: what messages call a member (``"perturbation"``).
        folder: the package that is imported, recursively, at the first look-up.
        first: modules of the folder that are imported before the others, in this order: that of lists
            which people read. The others follow by name; none has to be named here.
        remedy: ends the message about an unknown name.
        decorator: what registers a member, as messages call it.
        letters: what a name may be made of, as a pattern of one letter, and in words.
        reserved: names that mean something else where members are named.
    """

    def __init__(
        self,
        kind: str,
        folder: str,
        *,
        first: Sequence[str] = (),
        remedy: str = "",
        decorator: str = "",
        letters: tuple[str, str] = (".", "letters"),
        reserved: Sequence[str] = (),
    ) -> None:
        self.kind = kind
        self.folder = folder
        self._first = tuple(first)
        self._remedy = remedy
        self._decorator = decorator or f"register_{kind}"
        self._letters, self._in_words = letters
        self._reserved = tuple(reserved)
        self._entries: dict[str, _Entry[T]] = {}
        self._resolvers: dict[str, _Entry[Resolver[T]]] = {}
        self._imported = False

    def add(self, name: str, value: T, *, module: str) -> None:
        """Register ``value`` under ``name`` for the code in ``module``.

        The same module may do so again (it was reloaded); the new value takes the old one's place.

        Raises:
            ClipRobustError: another module has registered that name.
        """
        self.check_name(name)
        self._add(self._entries, name, value, module)

    def check_name(self, name: object) -> None:
        """Refuse what cannot be the name of a member.

        Raises:
            ClipRobustError: a function (its decorator has no brackets), no text, letters that mean something
                else where members are named, or a reserved name.
        """
        if callable(name):
            called = getattr(name, "__name__", "")
            raise ClipRobustError(
                f"@{self._decorator} above {called} has no brackets, and registers nothing; write "
                f"@{self._decorator}({called!r}, …)"
            )
        if not isinstance(name, str) or not re.fullmatch(f"(?:{self._letters})+", name):
            raise ClipRobustError(
                f"the name of a {self.kind} is a text of {self._in_words}, not {name!r}"
            )
        if name in self._reserved:
            raise ClipRobustError(
                f"{self.kind} {name!r}: that name means something else; choose another name"
            )

    def resolver(self, prefix: str = "") -> Callable[[Resolver[T]], Resolver[T]]:
        """Register the decorated function as the one that makes members on demand.

        :meth:`find` and :meth:`named` call it with each name that begins with ``prefix`` and is not
        registered; it returns None where it knows none.

        Raises:
            ClipRobustError: another module has registered a resolver for that prefix.
        """

        def decorate(function: Resolver[T]) -> Resolver[T]:
            self._add(self._resolvers, prefix, function, function.__module__)
            return function

        return decorate

    def find(self, name: str) -> T | None:
        """Return what is registered as ``name``, or what a resolver makes of it; None: nothing.

        Raises:
            ClipRobustError: a resolver that the prefix belongs to says what is wrong with the name.
        """
        self.load()
        if name in self._entries:
            return self._entries[name].value
        # The longest prefix first: it knows most.
        for prefix in sorted(self._resolvers, key=len, reverse=True):
            if name.startswith(prefix):
                found = self._resolvers[prefix].value(name)
                if found is not None:
                    return found
        return None

    def named(self, name: str) -> T:
        """Return the same as :meth:`find`, but never None.

        Raises:
            ClipRobustError: there is nothing of that name; the message names the nearest.
        """
        found = self.find(name)
        if found is None:
            raise ClipRobustError(
                f"unknown {self.kind} {name!r}.{did_you_mean(name, self._entries)} "
                f"{self._remedy}".rstrip()
            )
        return found

    def forget(self, name: str) -> None:
        """Take ``name`` out again; it need not be there."""
        self.load()
        self._entries.pop(name, None)

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Put everything back at the end: for tests that register, or forget, some."""
        self.load()  # what is imported inside would be lost at the end, and for good
        entries, resolvers = dict(self._entries), dict(self._resolvers)
        try:
            yield
        finally:
            self._entries, self._resolvers = entries, resolvers

    def __getitem__(self, name: str) -> T:
        """Return what is registered under exactly this name; KeyError: nothing."""
        self.load()
        return self._entries[name].value

    def __iter__(self) -> Iterator[str]:
        """Iterate over the registered names, in order of registration."""
        self.load()
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        """Return the number of registered names."""
        self.load()
        return len(self._entries)

    def modules(self) -> dict[str, str]:
        """Return the module that registered each name."""
        self.load()
        return {name: entry.module for name, entry in self._entries.items()}

    def _add(self, table: dict[str, _Entry[V]], name: str, value: V, module: str) -> None:
        known = table.get(name)
        if known is not None and known.module != module:
            told = f"{self.kind} {name!r} is registered already, by {{}}; choose another name"
            if not self._imported and not known.module.startswith(f"{self.folder}."):
                raise _TakenError(f"{_shown(known.module)}: {told.format(module)}")
            raise ClipRobustError(told.format(known.module))
        table[name] = _Entry(value, module)

    def load(self) -> None:
        """Import the folder, unless that has happened: every look-up begins with it."""
        if not self._imported:
            _import_all(self.folder, self._first)
            self._imported = True


def _import_all(package: str, first: Sequence[str] = ()) -> None:
    """Import ``package`` and all modules below it, those named in ``first`` before the others."""
    path = _imported(package).__path__
    members = {info.name: info.ispkg for info in pkgutil.iter_modules(path)}
    members.pop("__main__", None)
    for name in (*(n for n in first if n in members), *sorted(members.keys() - set(first))):
        if members[name]:
            _import_all(f"{package}.{name}")
        else:
            _imported(f"{package}.{name}")


def _imported(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except _TakenError:
        raise
    except ClipRobustError as error:
        place = place_of(error, _file_of(module))
        if error.__cause__ is not None or not place:
            raise  # it says where
        raise ClipRobustError(f"{place}: {error}") from error
    except Exception as error:  # whoever added the file may have made any mistake in it
        raise ClipRobustError(
            f"{module} cannot be imported ({told(error, _file_of(module))}); mend or remove its file"
        ) from error


def _shown(module: str) -> str:
    """Return the file of a module of a user's, as messages have it; its name where there is none."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return str(shown_path(Path(file))) if file else module


def _file_of(module: str) -> Path | None:
    """Return the file of a module of a package that is imported."""
    spec = importlib.util.find_spec(module)
    return Path(spec.origin) if spec is not None and spec.origin else None


#: Letters of names that stand in keys and in lists of steps, where ``/``, ``@`` and ``+`` separate them.
WORD = (r"[\w.-]", "letters, digits, '_', '.' and '-'")


def several(what: str, argument: str, given: Sequence[str]) -> tuple[str, ...]:
    """Return the names that a decorator was given, of which there may be several.

    Args:
        what: who gave them, for the message.
        argument: what the decorator calls them.
        given: the names.

    Raises:
        ClipRobustError: a single text, which is taken letter by letter.
    """
    if isinstance(given, str):
        raise ClipRobustError(
            f"{what}: {argument} takes several names: {argument}=({given!r},), not {given!r}"
        )
    return tuple(given)

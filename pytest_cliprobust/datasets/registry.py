"""The one registry of published layouts of data sets, by the prefix that names them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypedDict, TypeVar

from pytest_cliprobust.datasets.base import Dataset, Frame
from pytest_cliprobust.datasets.roles import EMBEDDED, ROLES
from pytest_cliprobust.errors import ClipRobustError, did_you_mean
from pytest_cliprobust.registry import WORD, Registry, several


class LayoutOptions(TypedDict, total=False):
    """What every layout is told beside its path, and hands on; as for :func:`.loading.load_dataset`."""

    limit: int | None
    frame: Frame | None
    size: int


class Layout(Protocol):
    """A class or function from a path to a data set."""

    def __call__(
        self,
        root: str | os.PathLike[str],
        /,
        *,
        limit: int | None = None,
        frame: Frame | None = None,
        size: int = 224,
    ) -> Dataset:
        """Return the data set that lies at ``root``; the rest as for :func:`.loading.load_dataset`."""
        ...


Registered = TypeVar("Registered", bound=Layout)

#: All layouts by prefix: one file each in ``layouts/``, or a user's.
LAYOUTS: Registry[Layout] = Registry(
    "layout", "pytest_cliprobust.datasets.layouts", letters=WORD, reserved=(EMBEDDED,)
)


@dataclass(frozen=True)
class Part:
    """One data set of a pack: a folder in which several lie.

    Attributes:
        role: what it plays.
        layout: the prefix that it is read with.
        name: what figures call it, behind the layout.
        path: where it lies.
    """

    role: str
    layout: str
    name: str
    path: str


#: From the path of a pack to what lies in it; none where the path is a single data set.
Parts = Callable[[Path], Sequence[Part]]


@dataclass(frozen=True)
class Told:
    """What is known of a layout, as ``cliprobust data list`` tells it.

    Attributes:
        plays: the roles that its data plays where the user names none.
        path: what its path is.
        source: who published it.
        licence: of the data, which is the user's own copy.
        published: whether it is one data set, which has the layout's name in figures.
        parts: where its path may be a pack of several data sets, what says which.
    """

    plays: tuple[str, ...] = ("clean",)
    path: str = "a folder"
    source: str = ""
    licence: str = ""
    published: bool = False
    parts: Parts | None = None


def register_layout(
    name: str,
    *,
    plays: tuple[str, ...] | None = None,
    path: str = "a folder",
    source: str = "",
    licence: str = "",
    published: bool = False,
    parts: Parts | None = None,
) -> Callable[[Registered], Registered]:
    """Register the decorated class or function: ``NAME:PATH`` is then a data set.

    Example:
        >>> @register_layout("one_file")
        ... def one_file(root, *, limit=None, frame=None, size=224): ...

    Args:
        name: the prefix.
        plays, path, source, licence, published, parts: see :class:`Told`. A class may say ``plays`` itself.

    Raises:
        ClipRobustError: another module has registered that name, it is none, or ``plays`` names what is no
            role.
    """
    LAYOUTS.check_name(name)

    def decorate(layout: Registered) -> Registered:
        roles = _roles(name, plays if plays is not None else getattr(layout, "plays", ("clean",)))
        LAYOUTS.add(name, layout, module=layout.__module__)
        _TOLD[name] = Told(roles, path, source, licence, published, parts)
        return layout

    return decorate


def _roles(name: str, plays: Sequence[str]) -> tuple[str, ...]:
    roles = several(f"layout {name!r}", "plays", plays)
    for role in roles:
        if role not in ROLES:
            raise ClipRobustError(
                f"layout {name!r} plays {role!r}, which is no role.{did_you_mean(role, ROLES)} Roles are "
                f"{', '.join(ROLES)}"
            )
    return roles


_TOLD: dict[str, Told] = {}


def told_of(name: str) -> Told:
    """Return what is known of a layout."""
    LAYOUTS.load()
    return _TOLD.get(name, Told())


def published() -> tuple[str, ...]:
    """Return the layouts that are one published data set each."""
    return tuple(name for name in LAYOUTS if told_of(name).published)


__all__ = ["LAYOUTS", "Layout", "Part", "Told", "published", "register_layout", "told_of"]

"""The one registry of published layouts of data sets, by the prefix that names them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol, TypeVar

from pytest_cliprobust.datasets.base import Dataset, Frame
from pytest_cliprobust.registry import Registry


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
LAYOUTS: Registry[Layout] = Registry("layout", "pytest_cliprobust.datasets.layouts")


def register_layout(name: str) -> Callable[[Registered], Registered]:
    """Register the decorated class or function: ``NAME:PATH`` is then a data set.

    Example:
        >>> @register_layout("one_file")
        ... def one_file(root, *, limit=None, frame=None, size=224): ...

    Raises:
        ClipRobustError: another module has registered that name.
    """

    def decorate(layout: Registered) -> Registered:
        LAYOUTS.add(name, layout, module=layout.__module__)
        return layout

    return decorate


__all__ = ["LAYOUTS", "Layout", "register_layout"]

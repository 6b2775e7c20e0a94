"""Suites: where the shipped ones lie, and which suite a test belongs to. Imports nothing heavy."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from numbers import Integral
from pathlib import Path

import pytest

import pytest_cliprobust
from pytest_cliprobust.datasets.profiles import PROFILES
from pytest_cliprobust.errors import ClipRobustError

MODULE = "pytest_cliprobust.suites"
PREFIX = "test_"

#: What a suite's file calls the section of the report that it stands in.
SECTION = "SECTION"

#: And under which name it files figures over mixed conditions, each sample under one of them.
MIXED = "MIXED"

#: And by profile, which perturbations (or the like) its tests are for, and at which severities.
NAMES = "NAMES"
SEVERITIES = "SEVERITIES"


def suites_folder() -> Path:
    """Return the folder of the shipped suites: in the wheel, or in the repository."""
    inside = _package() / "suites"
    return inside if inside.is_dir() else _package().parent / "suites"


def installed() -> bool:
    """Return whether the suites lie in an installed package, which is for reading."""
    return suites_folder().parent == _package()


def _package() -> Path:
    return Path(pytest_cliprobust.__path__[0])


def shipped() -> tuple[str, ...]:
    """Return the names of the shipped suites: a suite is a file ``test_<name>.py`` in the folder."""
    files = sorted(suites_folder().glob(f"{PREFIX}*.py"))
    return tuple(file.stem.removeprefix(PREFIX) for file in files)


def placed(told: object) -> tuple[str, float] | None:
    """Return the section of the report that a suite's ``SECTION`` names, and the suite's place there.

    Args:
        told: ``"Safety"``, or ``("Safety", 2)``; without a number it comes after those that have one.

    Returns:
        None where it is something else: a module may use the name for what it likes.
    """
    title, place = told if isinstance(told, tuple | list) and len(told) == 2 else (told, None)
    if not isinstance(title, str) or not title.strip():
        return None
    if isinstance(place, int | float) and not isinstance(place, bool):
        return title.strip(), float(place)
    return title.strip(), float("inf")


def names_elsewhere(module: object, profile: str) -> list[str]:
    """Return what a suite measures in other profiles than this one only, by its ``NAMES`` and ``MIXED``."""
    found = {one for one in _elsewhere(module, NAMES, profile) if isinstance(one, str)}
    mixed = getattr(module, MIXED, None)
    if isinstance(mixed, str) and profile == "quick":  # which leaves them out
        found.add(str(mixed))
    return sorted(found)


def severities_elsewhere(module: object, profile: str) -> list[int]:
    """Return the severities that a suite's ``SEVERITIES`` has for other profiles than this one only."""
    found = _elsewhere(module, SEVERITIES, profile)
    return sorted(one for one in found if isinstance(one, int))


def _elsewhere(module: object, constant: str, profile: str) -> set[str | int]:
    """Return what a constant of a module has for other profiles only: ``{"quick": [3], "full": [1, 3]}``.

    Returns:
        nothing where it is not by profile: a module may use the name for what it likes.
    """
    told = getattr(module, constant, None)
    if not isinstance(told, dict) or not all(key in PROFILES for key in told):
        return set()
    here = set(_each(told.get(profile)))
    return {one for values in told.values() for one in _each(values)} - here


def _each(values: object) -> Iterator[str | int]:
    """Yield the texts and whole numbers in a list or the like, or the only one, as plain data."""
    values = values.tolist() if hasattr(values, "tolist") else values  # an array's
    # Others are left alone: what is read from a generator is no longer there for its owner.
    for one in values if isinstance(values, list | tuple | Set | range) else (values,):
        if isinstance(one, str):
            yield str(one)
        elif isinstance(one, Integral):
            yield int(one)


def placed_by_file(suite: str) -> tuple[str, float] | None:
    """Return what the file of the shipped suite of that name says; nothing is imported."""
    return placed(_constant(suite, SECTION))


def mixed_names() -> tuple[str, ...]:
    """Return under which names the shipped suites file figures over mixed conditions; nothing is imported."""
    found = (_constant(suite, MIXED) for suite in shipped())
    return tuple(name for name in found if isinstance(name, str))


def _constant(suite: str, name: str) -> object:
    """Return what the file of a shipped suite says in a constant of that name; None without."""
    file = suites_folder() / f"{PREFIX}{suite}.py"
    if not file.is_file():
        return None
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    return None


def sections(
    suites: Iterable[str], told: Mapping[str, tuple[str, float]]
) -> dict[str, tuple[str, ...]]:
    """Return suites by the section that they stand in, each section's in their order.

    Args:
        suites: their names.
        told: what the files said that were run; a suite of one's own that has a shipped one's name, and does
            not say, stands where that one does.
    """
    found: dict[str, list[tuple[float, str]]] = {}
    for suite in suites:
        place = told.get(suite) or placed_by_file(suite)
        if place is not None:
            found.setdefault(place[0], []).append((place[1], suite))
    return {title: tuple(name for _, name in sorted(own)) for title, own in sorted(found.items())}


def find_suites(config: pytest.Config) -> None:
    """Put the shipped suites' real path where the command line names them as a module.

    So ``--pyargs pytest_cliprobust.suites`` works from a wheel and from an editable install alike.
    """
    if config.option.pyargs:
        for position, argument in enumerate(config.args):
            module, colons, rest = argument.partition("::")
            if module == MODULE or module.startswith(f"{MODULE}."):
                inner = module.removeprefix(MODULE).replace(".", "/")
                path = f"{suites_folder()}{inner}{'.py' if inner else ''}"
                config.args[position] = f"{path}{colons}{rest}"
    if config.getoption("--clip-suites"):
        named = config.args if config.args_source == config.ArgsSource.ARGS else []
        config.args[:] = [*named, str(suites_folder())]
        config.args_source = config.ArgsSource.ARGS


def suite_of(item: pytest.Item) -> str:
    """Return the suite of a test: its ``clip_suite`` marker, or its file's name without ``test_``."""
    marker = item.get_closest_marker("clip_suite")
    if marker and marker.args:
        return str(marker.args[0])
    return item.path.stem.removeprefix(PREFIX)


def check_ids(items: Iterable[pytest.Item]) -> None:
    """Refuse tests of two files that pytest calls by one id: figures are told apart by it.

    It names a file outside of its root folder by nothing, where the command line names the file.

    Raises:
        ClipRobustError: there are such.
    """
    files: dict[str, Path] = {}
    for item in items:
        first = files.setdefault(item.nodeid, item.path)
        if first != item.path:
            raise ClipRobustError(
                f"{first} and {item.path}: pytest calls a test of both {item.nodeid!r}, as they lie outside "
                f"of its root folder {item.config.rootpath}, so their figures cannot be told apart; give "
                f"--rootdir={os.path.commonpath([first.parent, item.path.parent])}"
            )


def add_markers(config: pytest.Config, names: Iterable[str]) -> None:
    """Make suites known as markers, also to ``--strict-markers`` and ``--markers``."""
    known = {line.partition(":")[0].strip() for line in config.getini("markers")}
    for name in names:
        if name not in known:
            config.addinivalue_line("markers", f"{name}: tests of the {name} suite")

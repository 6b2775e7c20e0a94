"""Suites: where the shipped ones lie, and which suite a test belongs to. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

import pytest_cliprobust

MODULE = "pytest_cliprobust.suites"
PREFIX = "test_"


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


def add_markers(config: pytest.Config, names: Iterable[str]) -> None:
    """Make suites known as markers, also to ``--strict-markers`` and ``--markers``."""
    known = {line.partition(":")[0].strip() for line in config.getini("markers")}
    for name in names:
        if name not in known:
            config.addinivalue_line("markers", f"{name}: tests of the {name} suite")

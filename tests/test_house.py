"""The house: imports point downwards only, and no circle of modules."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from helpers import ROOT

PACKAGE = ROOT / "pytest_cliprobust"

#: From top to bottom: a room imports itself and what stands below it.
ROOMS = [
    *("plugin", "cli", "study", "training", "reporting", "search", "results", "gating", "engine"),
    *("properties", "datasets", "targets", "embedded", "perturbations", "figures"),
    *("cache", "registry", "blame", "files", "errors"),
]


def modules() -> dict[str, Path]:
    """Return the package's modules: dotted name below the package -> file."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "__init__.py"
    }


def is_type_checking(test: ast.expr) -> bool:
    """Return whether it is the condition of a block for type checkers alone."""
    return "TYPE_CHECKING" in (getattr(test, "id", None), getattr(test, "attr", None))


@cache
def parsed(path: Path) -> ast.Module:
    """Return a module's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path, known: dict[str, Path], *, deferred: bool) -> set[str]:
    """Return the modules that a file imports outside ``if TYPE_CHECKING``.

    ``deferred``: also what functions import when they are called.
    """
    found: set[str] = set()
    waiting: list[ast.AST] = [parsed(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and is_type_checking(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.FunctionDef) and not deferred:
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            inner = name.removeprefix("pytest_cliprobust.")
            if inner == name:
                continue
            # "from package import module" or "from module import name".
            found.add(inner if inner in known else inner.rpartition(".")[0])
        # An import is a statement, and stands in no expression.
        waiting += [
            child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)
        ]
    return found & known.keys()


def test_imports_point_downwards() -> None:
    known = modules()
    upwards = [
        f"{name} imports {other}"
        for name, path in known.items()
        for other in sorted(imported(path, known, deferred=True))
        if (here := name.partition(".")[0]) != (there := other.partition(".")[0])
        and ROOMS.index(here) > ROOMS.index(there)
    ]
    assert upwards == []


def test_there_is_no_circle_of_modules() -> None:
    known = modules()
    graph = {name: imported(path, known, deferred=False) for name, path in known.items()}
    assert sum(map(len, graph.values())) > 100
    for name, others in graph.items():
        # A package's own modules may import each other through it; the package is no module to them.
        graph[name] = {other for other in others if not name.startswith(f"{other}.")}
    TopologicalSorter(graph).prepare()


def test_every_room_has_a_place() -> None:
    rooms = {name.partition(".")[0] for name in modules()}
    assert rooms <= set(ROOMS), f"{sorted(rooms - set(ROOMS))}: say in ROOMS where it stands"

"""The names that the rules of a threshold file may select: what a slip is told from."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

from pytest_cliprobust.datasets.providers import provider_of
from pytest_cliprobust.datasets.roles import EMBEDDED
from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.errors import did_you_mean
from pytest_cliprobust.gating.rules import literal, matches
from pytest_cliprobust.gating.vocabulary import known_metrics
from pytest_cliprobust.plugin.options import PROFILES
from pytest_cliprobust.plugin.suites import PREFIX, mixed_names

#: So many folders are looked into for suites; a folder of data may hold millions.
FOLDERS = 5_000

#: Folders in which no suite of the user's own lies.
_NOT_OURS = ("node_modules", "site-packages", "__pycache__", "build", "dist")

#: The suite that a test is marked with.
_MARKED = re.compile(r"""\bclip_suite\(\s*(?:name\s*=\s*)?["']([^"']+)["']""")


def vocabularies(
    models: Sequence[str], suites: Sequence[str], others: Iterable[str]
) -> dict[str, Any]:
    """Return the names that a rule may select, by argument of ``load_thresholds``.

    Args:
        models: under test.
        suites: shipped or collected.
        others: suites that exist and were not collected.
    """
    import open_clip

    from pytest_cliprobust.datasets import embedded
    from pytest_cliprobust.datasets.registry import LAYOUTS, published
    from pytest_cliprobust.perturbations import registry
    from pytest_cliprobust.targets.registry import TARGETS

    architectures = open_clip.list_models()
    layouts = (*(f"{layout}:*" for layout in LAYOUTS), *published())
    parts = (f"{name}:*" for name in embedded.names())
    return {
        "known_suites": suites,
        "other_suites": others,
        "known_metrics": known_metrics(),
        "known_datasets": (*embedded.names(), *parts, *layouts),
        # Also with parameters of their own, and several in a row.
        "known_perturbations": (
            *registry.names(),
            *(f"{name}(*" for name in registry.names()),
            *mixed_names(),
            *("kornia:*", "*+*", "all_*", "mixed_*", "apgd", "full_spectrum"),
            *("caption_*", "class_name_typos"),
        ),
        "models": (
            *models,
            "reference",
            *architectures,
            *(f"{name}/*" for name in architectures),
            *(f"{prefix}*" for prefix in TARGETS if prefix.endswith(":")),
        ),
        "known_profiles": PROFILES,
    }


def suites_in(folders: Iterable[Path]) -> set[str]:
    """Return the suites that lie in folders, or one folder deeper."""
    files = (
        file
        for folder in folders
        for pattern in (f"{PREFIX}*.py", f"*/{PREFIX}*.py")
        for file in folder.glob(pattern)
    )
    return {file.stem.removeprefix(PREFIX) for file in files}


def suites_below(folders: Iterable[Path]) -> set[str]:
    """Return the suites that lie anywhere below folders, by their files' names and their markers'.

    Hidden folders and installed packages are left out, and what lies behind :data:`FOLDERS` of them.
    """
    found: set[str] = set()
    for folder in folders:
        for number, (at, inner, names) in enumerate(os.walk(folder)):
            if number == FOLDERS:
                break
            inner[:] = sorted(n for n in inner if not n.startswith(".") and n not in _NOT_OURS)
            for name in names:
                if fnmatch(name, f"{PREFIX}*.py") or fnmatch(name, "*_test.py"):
                    found |= _suites_of_file(Path(at, name))
    return found


def _suites_of_file(file: Path) -> set[str]:
    """Return the suite of a file's name, and those that it marks tests with."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return {file.stem.removeprefix(PREFIX), *_MARKED.findall(text)}


class NoSuite:
    """Says why there is no suite of a name; files are looked for when it is first asked for one of no other.

    Args:
        known: suites that are there: shipped, or collected.
        folders: where others may lie.
    """

    def __init__(self, known: Iterable[str], folders: Iterable[Path]) -> None:
        self._known, self._folders = set(known), tuple(folders)

    @cached_property
    def _elsewhere(self) -> set[str]:
        return suites_below(self._folders)

    def __call__(self, pattern: str) -> str:
        """Return why no suite matches the pattern; empty if one does."""
        if any(matches((pattern,), name) for name in self._known):
            return ""
        if any(matches((pattern,), name) for name in self._elsewhere):
            return ""
        exact = literal(pattern)
        if exact is None:
            return f"no suite is called like {pattern!r}, here or below"
        hint = did_you_mean(exact, sorted(self._known | self._elsewhere))
        return f"no suite is called {exact!r}: there is no {PREFIX}{exact}.py here or below.{hint}"


def names_elsewhere(config: RunConfig, evaluation: Evaluation | None) -> dict[str, Any]:
    """Return what tells a slip from another model's or data set's name, for ``find_unjudged``.

    ``evaluation``: of a model on data of the user's own, None where there is none to be asked.
    """
    import open_clip

    from pytest_cliprobust.datasets import embedded
    from pytest_cliprobust.datasets.registry import published
    from pytest_cliprobust.targets.registry import listed_names

    provider = provider_of(config.sets)
    given = [provider.name_of(key) for key in provider.sources]
    models = map("/".join, open_clip.list_pretrained())  # the architectures are listed
    return {
        "datasets": [] if evaluation is None else [evaluation.dataset("clean").name, *given],
        "known_models": {*models, *listed_names()},
        "own_datasets": embedded.names(),
        "published": published(),
        "replaced_data": config.data != EMBEDDED,
    }

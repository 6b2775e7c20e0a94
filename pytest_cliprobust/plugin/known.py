"""The names that the rules of a threshold file may select: what a slip is told from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pytest_cliprobust.datasets.providers import provider_of
from pytest_cliprobust.datasets.roles import EMBEDDED
from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.gating.vocabulary import known_metrics
from pytest_cliprobust.plugin.options import PROFILES
from pytest_cliprobust.plugin.suites import PREFIX


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

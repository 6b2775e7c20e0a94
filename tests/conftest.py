"""Fixtures that several folders of tests share."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from helpers import Sessions


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feature cache for the tests that do not ask what is in it."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="session")
def loaded() -> None:
    """What sessions in this process use: pytester forgets what they are the first to import."""
    for name in (
        "plugin.hooks",
        "search.worst_case",
        "search.frontier",
        "search.adversarial",
        "properties.ood",
        "perturbations.registry",
    ):
        importlib.import_module(f"pytest_cliprobust.{name}")
    for name in ("sklearn.metrics", "tomlkit", "xdist.plugin"):
        importlib.import_module(name)
    importlib.import_module("pytest_cliprobust.perturbations.registry").names()


@pytest.fixture
def run(loaded: None, pytester: pytest.Pytester, shared_cache: Path) -> Sessions:
    """Run a suite with the reference model on 40 samples; ``process=True``: in a process of its own."""
    return Sessions(pytester, shared_cache)

"""Fixtures that several folders of tests share, and which tests the tight loop leaves out.

In CI, property tests draw the same examples every time; on a developer's machine Hypothesis goes on looking
for new ones. None fails for being slow: the machine may be busy.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kinds
import pytest
from helpers import Sessions, check_schema
from hypothesis import settings

settings.register_profile("ci", derandomize=True, print_blob=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the kinds that nobody asked for."""
    kinds.order(config, items)


def pytest_collection_finish() -> None:
    """Leave what has been imported out of the collector's passes."""
    _settle()


def _settle() -> None:
    """Let the garbage collector look only at what is made from now on.

    Modules stay to the end, half a million objects of them. Each session in this process ends with a full
    collection, and so does each retreat of the engine where memory runs out: half a second a time otherwise.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _reports_follow_their_schema(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hold every JSON report that a session in this process writes against the published schema."""
    if "pytester" not in request.fixturenames:
        return
    from pytest_cliprobust.reporting import json as form

    write = form.text

    def written(run: Any) -> str:
        made = write(run)
        check_schema(json.loads(made))
        return made

    monkeypatch.setattr(form, "text", written)


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feature cache for the tests that do not ask what is in it."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="session")
def loaded() -> Iterator[None]:
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
    import warm

    _settle()
    with pytest.MonkeyPatch.context() as patch:
        warm.keep(patch)
        yield


@pytest.fixture
def run(loaded: None, pytester: pytest.Pytester, shared_cache: Path) -> Sessions:
    """Run a suite with the reference model on 40 samples; ``process=True``: in a process of its own."""
    return Sessions(pytester, shared_cache)

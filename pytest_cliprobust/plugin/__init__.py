"""The pytest plugin. Imports nothing heavy: a session that tests no model pays nothing.

Here is what every pytest session meets: options, markers, fixtures. Where ``--clip-model`` (or
the ini key) names a model, :mod:`.waiting` looks for tests that need it; what evaluates it is in
:mod:`.hooks`, a plugin object of its own that is loaded and registered for the first of them.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest
from _pytest.config import ConftestImportFailure

from pytest_cliprobust.plugin import fixtures
from pytest_cliprobust.plugin.exits import Exit
from pytest_cliprobust.plugin.imports import ImportMistakes, conftest_mistake
from pytest_cliprobust.plugin.notices import say_what_is_lacking
from pytest_cliprobust.plugin.options import add_options, models_of, require_own_root
from pytest_cliprobust.plugin.state import IMPORTS, LACKING
from pytest_cliprobust.plugin.suites import add_markers, find_suites, shipped
from pytest_cliprobust.plugin.waiting import Waiting, mark_suites


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ``--clip-*`` options and their ini keys."""
    add_options(parser)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, Any, Any]:
    """Tell in one line what is wrong with a conftest.py that registers something of the user's own.

    Raises:
        pytest.UsageError: something is.
    """
    try:
        return (yield)
    except ConftestImportFailure as failure:
        line = conftest_mistake(early_config, failure)
        if line is None:
            raise
        raise pytest.UsageError(line) from None


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, int, int]:
    """End a session that could not begin for want of something in one line, with a code of its own."""
    try:
        return (yield)
    except pytest.UsageError as error:
        if not config.stash.get(LACKING, False):
            raise
        say_what_is_lacking(error)
        return int(Exit.ENVIRONMENT)


def pytest_configure(config: pytest.Config) -> None:
    """Register fixtures and markers, and what evaluates models if there is a model to test."""
    # A plugin of their own: this package's names are also those of its modules (gate).
    config.pluginmanager.register(fixtures, "cliprobust-fixtures")
    config.addinivalue_line(
        "markers", "clip_suite(name): the suite that a measurement of this test belongs to"
    )
    add_markers(config, shipped())
    find_suites(config)
    require_own_root(config)
    config.stash[IMPORTS] = ImportMistakes(config, evaluates=bool(models_of(config)))
    config.pluginmanager.register(config.stash[IMPORTS], "cliprobust-imports")
    if not models_of(config):
        config.pluginmanager.register(NoModel(), "cliprobust-no-model")
        return
    # Threads that wait for others sleep instead of spinning. Corruptions are many short parallel
    # steps; where workers or other programs share the cores, spinning made them five times slower.
    # The figures do not depend on it. Torch's OpenMP reads it once, when it is first loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    share_cores(config)
    config.pluginmanager.register(Waiting(config), "cliprobust-waiting")


def share_cores(config: pytest.Config) -> None:
    """Let each worker of pytest-xdist take its share of the cores, unless the user says how many threads.

    With as many threads as cores in each of them, threads wait for one another at every short parallel step.
    Workers read it from the environment that they inherit.
    """
    workers = getattr(config.option, "numprocesses", None) or 0
    if workers > 1:
        affinity = getattr(os, "sched_getaffinity", None)  # not on every system
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // workers)))


class NoModel:
    """What a session without a model does with tests that need one."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Let tests be listed without a model, once each."""
        for name in fixtures.parametrized(metafunc):
            metafunc.parametrize(name, ["no-model"], scope="session")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Mark the tests that evaluate a model with their suite, so that -m can leave them out."""
        mark_suites(config, items)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Explain and stop where a selected test needs a model and none is given.

        Raises:
            pytest.UsageError: one does.
        """
        needs = [item for item in session.items if fixtures.needs_model(item)]
        if needs and not session.config.option.collectonly:
            what = "test evaluates" if len(needs) == 1 else "tests evaluate"
            raise pytest.UsageError(
                f"{len(needs)} {what} a CLIP model and none is named: add --clip-model reference "
                "(bundled, offline), or --clip-model ViT-B-32 and the like"
            )

"""The pytest plugin. Imports nothing heavy: a session that tests no model pays nothing.

This module holds what every pytest session meets: options, markers, fixtures. What evaluates a model is
in :mod:`.hooks`, a plugin object of its own that is registered only where ``--clip-model`` (or the ini
key) names a model; the model itself loads when a collected test needs it.
"""

from __future__ import annotations

import os

import pytest

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.plugin.fixtures import (
    calibration,
    clean,
    clip,
    clip_model,
    clip_under_test,
    correspondence,
    cue_conflict,
    factors,
    far_ood,
    gate,
    near_ood,
    needs_model,
    parametrized,
    shift,
)
from pytest_cliprobust.plugin.options import add_options, models_of, require_own_root
from pytest_cliprobust.plugin.suites import add_markers, find_suites, shipped, suite_of

#: pytest takes fixtures from the names of this module.
__all__ = [
    "calibration",
    "clean",
    "clip",
    "clip_model",
    "clip_under_test",
    "correspondence",
    "cue_conflict",
    "factors",
    "far_ood",
    "gate",
    "near_ood",
    "shift",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ``--clip-*`` options and their ini keys."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and what evaluates models if there is a model to test."""
    config.addinivalue_line(
        "markers", "clip_suite(name): the suite that a measurement of this test belongs to"
    )
    add_markers(config, shipped())
    find_suites(config)
    require_own_root(config)
    if not models_of(config):
        config.pluginmanager.register(NoModel(), "cliprobust-no-model")
        return
    # Threads that wait for others sleep instead of spinning. Corruptions are many short parallel
    # steps; where workers or other programs share the cores, spinning made them five times slower.
    # The figures do not depend on it. Torch's OpenMP reads it once, when it is first loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from pytest_cliprobust.plugin.hooks import Evaluator

    try:
        config.pluginmanager.register(Evaluator(config), "cliprobust-evaluator")
    except ClipRobustError as error:
        raise pytest.UsageError(str(error)) from None


class NoModel:
    """What a session without a model does with tests that need one."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Let tests be listed without a model, once each."""
        for name in parametrized(metafunc):
            metafunc.parametrize(name, ["no-model"], scope="session")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Explain and stop where a model is needed and none is given.

        Raises:
            pytest.UsageError: it is.
        """
        needs = [item for item in items if needs_model(item)]
        add_markers(config, {suite_of(item) for item in needs})
        for item in needs:
            item.add_marker(suite_of(item))
        if needs and not config.option.collectonly:
            raise pytest.UsageError(
                f"{len(needs)} of the collected tests evaluate a CLIP model and none is named: add "
                "--clip-model reference (bundled, offline), or --clip-model ViT-B-32 and the like"
            )

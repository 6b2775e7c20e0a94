"""The shipped suites. Run them with ``pytest --clip-model MODEL suites/``.

Each file is a suite: parametrize, measure, gate. Bounds stand in ``thresholds.toml``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_cliprobust.plugin.options import profile_of
from pytest_cliprobust.plugin.stopwatch import Stopwatch, stopwatch_of

if TYPE_CHECKING:  # loaded before a run is looked at, so that it must not load torch
    from pytest_cliprobust.engine.evaluation import Evaluation


def pytest_configure(config: pytest.Config) -> None:
    """Register what suites of one property share as a marker."""
    config.addinivalue_line("markers", "corruption: tests of the common corruptions, 2D and 3D")


@pytest.fixture
def limit(request: pytest.FixtureRequest, clip: Evaluation) -> int | None:
    """How many samples the suite takes in this profile (its SAMPLES); None: all."""
    number: int | None = request.module.SAMPLES[clip.config.profile]
    return number


@pytest.fixture
def mixed_limit(clip: Evaluation) -> int | None:
    """How many samples are taken where each is under one condition alone; None: all."""
    return {"quick": 134, "standard": 1072}.get(clip.config.profile)


@pytest.fixture
def fewer(clip: Evaluation) -> int | None:
    """How many samples of a perturbed data set are taken where all of it is taken as it is; None: all."""
    return {"quick": 128}.get(clip.config.profile)


@pytest.fixture
def stopwatch(request: pytest.FixtureRequest) -> Stopwatch:
    """Times two pieces of work in turn; not run without pytest-benchmark."""
    return stopwatch_of(request)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize ``name`` over the file's NAMES of this profile."""
    names = getattr(metafunc.module, "NAMES", None)
    if "name" in metafunc.fixturenames and isinstance(names, dict):
        metafunc.parametrize("name", names[profile_of(metafunc.config)])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a profile has no time for."""
    if profile_of(config) == "quick" and not _asked_for_mixed(config):
        # As names that are not among a profile's NAMES: no test that somebody deselected, so that bounds of
        # the suite that nothing meets are told as in any whole run.
        items[:] = [i for i in items if "mixed_limit" not in getattr(i, "fixturenames", ())]
    slow = [item for item in items if _is_adversarial(item)]
    if slow and not _asked_for_adversarial(config):
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


def _asked_for_mixed(config: pytest.Config) -> bool:
    """Return whether tests of mixed conditions are asked for by name."""
    named = [config.option.keyword, *(arg.partition("::")[2] for arg in config.args)]
    return any("mixed" in name for name in named)


def _is_adversarial(item: pytest.Item) -> bool:
    return item.path.name == "test_adversarial.py"


def _asked_for_adversarial(config: pytest.Config) -> bool:
    """Return whether the slow adversarial suite is asked for: by name, or with the full profile."""
    named = {Path(argument.partition("::")[0]).name for argument in config.args}
    asked = "adversarial" in config.option.markexpr or "test_adversarial.py" in named
    return asked or profile_of(config) == "full"

"""The shipped suites. Run them with ``pytest --clip-model MODEL suites/``.

Each file is a suite: parametrize, measure, check. Bounds stand in ``thresholds.toml``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pytest_cliprobust.plugin import option
from pytest_cliprobust.properties import accuracy

EMBEDDED_ONLY = (
    "this data set comes with the embedded benchmark only; leave --clip-data out to run it"
)


@pytest.fixture
def needs_embedded(clip) -> None:
    """Report a test as not run when ``--clip-data`` replaces the benchmark it needs."""
    if not clip.embedded:
        pytest.skip(EMBEDDED_ONLY)


@pytest.fixture
def corruption_grid(clip):
    """Measures a corruption on so many samples: the data set, and (5, N) bool, which ones are right."""

    def measure(name, samples):
        data = clip.dataset("clean", samples)
        return data, np.stack([clip.correct(data, name, severity) for severity in range(1, 6)])

    return measure


@pytest.fixture
def check_drops(clip, check):
    """Judges accuracy, and its drop against the same images as they are, at some severities.

    ``also(data, severity)`` gives further figures of the same images.
    """

    def judge(name, severities, samples, also=lambda data, severity: []):
        data = clip.dataset("clean", samples)
        clean, bootstrap = clip.correct(data), clip.resampling(data)
        for severity in severities:
            correct = clip.correct(data, name, severity)
            check(
                [
                    accuracy.accuracy_figure(correct, bootstrap=bootstrap),
                    accuracy.accuracy_drop_figure(clean, correct, bootstrap=bootstrap),
                    *also(data, severity),
                ],
                perturbation=name,
                severity=severity,
            )

    return judge


def pytest_generate_tests(metafunc) -> None:
    """Parametrize ``name`` over the file's NAMES of this profile."""
    if "name" in metafunc.fixturenames and isinstance(
        getattr(metafunc.module, "NAMES", None), dict
    ):
        metafunc.parametrize("name", metafunc.module.NAMES[option(metafunc.config, "profile")])


def pytest_collection_modifyitems(config, items) -> None:
    """Leave the slow adversarial suite to the full profile, unless it is asked for by name."""
    named = {Path(argument.partition("::")[0]).name for argument in config.args}
    asked = "adversarial" in config.option.markexpr or "test_adversarial.py" in named
    if asked or option(config, "profile") == "full":
        return
    slow = [item for item in items if item.path.name == "test_adversarial.py"]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]

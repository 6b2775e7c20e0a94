"""The public names of the package: which they are, that they resolve, and that they cost nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pytest_cliprobust

NAMES = [
    "Batch",
    "ClipRobustError",
    "Condition",
    "Dataset",
    "Figure",
    "NotRun",
    "Perturbation",
    "SampleArrays",
    "Samples",
    "Target",
    "__version__",
    "measure",
    "register_layout",
    "register_logger",
    "register_metric",
    "register_perturbation",
    "register_target",
]


def test_the_list() -> None:
    assert pytest_cliprobust.__all__ == NAMES
    assert set(NAMES) <= set(dir(pytest_cliprobust))
    with pytest.raises(AttributeError, match="has no attribute 'register'"):
        pytest_cliprobust.register  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_each_resolves(name: str) -> None:
    found = getattr(pytest_cliprobust, name)
    assert found is not None
    assert found is getattr(pytest_cliprobust, name)


def test_the_decorators_are_those_of_the_registries() -> None:
    from pytest_cliprobust.datasets.registry import register_layout
    from pytest_cliprobust.figures.metrics import register_metric
    from pytest_cliprobust.perturbations.registry import register
    from pytest_cliprobust.reporting.trackers import register_logger
    from pytest_cliprobust.targets.registry import register_target

    assert pytest_cliprobust.register_layout is register_layout
    assert pytest_cliprobust.register_logger is register_logger
    assert pytest_cliprobust.register_metric is register_metric
    assert pytest_cliprobust.register_perturbation is register
    assert pytest_cliprobust.register_target is register_target


def test_importing_the_package_and_the_plugin_imports_nothing_heavy() -> None:
    code = (
        "import sys, pytest_cliprobust, pytest_cliprobust.plugin\n"
        "dir(pytest_cliprobust), pytest_cliprobust.register_metric, pytest_cliprobust.NotRun\n"
        "print(*sorted({'torch', 'numpy', 'open_clip', 'transformers', 'kornia'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == []

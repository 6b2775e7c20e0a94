"""What holds for everything in the folder of figures."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable

import pytest

from pytest_cliprobust.figures import auroc, bootstrap, change, intervals, resampling

DEFAULTS = {
    "replicates": 1000,
    "seed": 0,
    "confidence": 0.95,
    "method": "percentile",
    "power": 0.5,
    "unit": "",
    "bootstrap": bootstrap.DEFAULT,
    "strata": None,
    "details": None,
}


@pytest.mark.parametrize(
    "function",
    [
        *(intervals.wilson, intervals.paired_score, intervals.samples_needed),
        *(resampling.Resampling, resampling.replicate_interval, bootstrap.Bootstrap),
        *(bootstrap.proportion_figure, bootstrap.paired_drop_figure, auroc.auroc),
        change.change_between,
    ],
)
def test_settings_mean_the_same_everywhere(function: Callable[..., object]) -> None:
    parameters = inspect.signature(function).parameters
    given = {
        name: parameter.default
        for name, parameter in parameters.items()
        if name in DEFAULTS and parameter.default is not inspect.Parameter.empty
    }
    assert given
    assert given == {name: DEFAULTS[name] for name in given}


def test_no_torch_is_imported() -> None:
    code = (
        "import sys, pytest_cliprobust.figures.change, pytest_cliprobust.gating.thresholds, "
        "pytest_cliprobust.gating.verdict; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

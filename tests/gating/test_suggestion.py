"""The bound that recording proposes."""

from __future__ import annotations

from pytest_cliprobust.figures.metrics import Metric
from pytest_cliprobust.gating.suggestion import suggest_bound


def test_suggested_bounds_are_round_and_never_inside_the_interval() -> None:
    info = Metric("ece", False, "")
    assert suggest_bound(0.1634, 0.0423, 0.5, "max", info) == 0.185
    assert suggest_bound(0.1634, 0.0423, 0.0, "max", info) == 0.164
    assert suggest_bound(0.1211, 0.0423, 0.5, "min", info) == 0.099
    assert suggest_bound(0.99, 0.1, 0.5, "max", info) == 1.0
    assert suggest_bound(0.3, 0.0, 0.5, "max", info) == 0.3
    # Numerical noise must not put a figure without an interval in doubt.
    assert suggest_bound(0.3, 0.0, 0.5, "max", info, 1e-7) == 0.3001
    assert suggest_bound(1.0, 0.0, 0.5, "min", info, 6e-8) == 0.999
    assert suggest_bound(1.0, 0.0, 0.5, "min", info, 1e-11) == 1 - 1e-11
    assert suggest_bound(1.0, 0.0, 0.5, "max", info, 6e-8) == 1.0
    assert suggest_bound(0.1634, 0.0423, 0.5, "max", info, 1e-7) == 0.185
    assert suggest_bound(0.0, 0.0, 0.5, "max", info) == 0.0
    assert suggest_bound(0.0, 0.0, 0.5, "max", info, 1e-5) == 0.001  # where nothing has a size
    # The sum 0.07 + 0.02 is a hair above 0.09; that is no reason to round up to 0.091.
    assert suggest_bound(0.07, 0.04, 0.5, "max", info) == 0.09
    assert suggest_bound(1.2, 0.1, 0.5, "max", info) == 1.2
    assert (
        suggest_bound(1234.5, 80.0, 0.5, "max", Metric("x", False, "", low=None, high=None))
        == 1275.0
    )

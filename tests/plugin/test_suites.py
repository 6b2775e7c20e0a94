"""What the constants of a suite's file say that other profiles measure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pytest_cliprobust.plugin.suites import names_elsewhere, severities_elsewhere


@pytest.mark.parametrize(
    ("told", "profile", "severities"),
    [
        ({"quick": [3], "standard": [1, 3, 5]}, "quick", [1, 5]),
        ({"quick": [3], "standard": [1, 3, 5]}, "standard", []),
        ({"quick": [3], "standard": [1, 3, 5]}, "full", [1, 3, 5]),
        ({"quick": 3, "standard": (1, 3), "full": range(1, 4)}, "quick", [1, 2]),
        ({"quick": [3, None], "standard": [[4], 5.5, "x", 1]}, "quick", [1]),
        ({"quick": np.arange(2, 4), "standard": np.arange(1, 6)}, "quick", [1, 4, 5]),
        ({"quick": [3], "standard": np.array(1)}, "quick", [1]),
        # Not by profile: what it is for is its owner's affair.
        ({"fog": [1, 2], "snow": [3]}, "quick", []),
        ({1: 0.5, 2: 0.7}, "quick", []),
        ([1, 3, 5], "quick", []),
        (None, "quick", []),
    ],
)
def test_severities_of_other_profiles(told: object, profile: str, severities: list[int]) -> None:
    found = severities_elsewhere(SimpleNamespace(SEVERITIES=told), profile)
    assert found == severities
    assert all(type(one) is int for one in found)  # a worker's report is plain data


@pytest.mark.parametrize(
    ("constants", "profile", "names"),
    [
        ({"NAMES": {"quick": ["fog"], "full": ["fog", "snow"]}}, "quick", ["snow"]),
        ({"NAMES": {"quick": ["fog"], "full": ["fog", "snow"]}}, "full", []),
        ({"NAMES": {"quick": "fog", "full": np.array(["fog", "snow"])}}, "quick", ["snow"]),
        ({"NAMES": {"quick": 7, "full": [8, ["rain"]]}}, "quick", []),
        ({"NAMES": {"fog": ["fog_3d", "fog_2d"]}}, "quick", []),
        ({"NAMES": {}, "MIXED": "mixed_mine"}, "quick", ["mixed_mine"]),
        # Where it is measured, a bound for it that nothing met is no other profile's.
        ({"MIXED": "mixed_mine"}, "standard", []),
        ({"MIXED": np.str_("mixed_mine")}, "quick", ["mixed_mine"]),
        ({"MIXED": ["a", "b"]}, "quick", []),
    ],
)
def test_names_of_other_profiles(constants: dict[str, Any], profile: str, names: list[str]) -> None:
    found = names_elsewhere(SimpleNamespace(**constants), profile)
    assert found == names
    assert all(type(one) is str for one in found)


def test_a_generator_is_left_to_its_owner() -> None:
    module = SimpleNamespace(SEVERITIES={"quick": (s for s in (3,)), "standard": [1, 3]})
    assert severities_elsewhere(module, "quick") == [1, 3]
    assert list(module.SEVERITIES["quick"]) == [3]

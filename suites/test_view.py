"""Changes of view: the camera turns, zooms or moves, and what it newly sees is filled in by depth."""

from __future__ import annotations

import pytest

from pytest_cliprobust.perturbations import registry

NAMES = [name for name in registry.names("depth") if name.startswith("view_")]
SEVERITIES = [1, 3, 5]
SAMPLES = {"quick": 50, "standard": 100, "full": None}


@pytest.mark.parametrize("name", NAMES)
def test_view(clip, check_drops, name):
    check_drops(name, SEVERITIES, SAMPLES[clip.config.profile])

"""Augmentations of kornia, by the names that ``[[perturbation]]`` tables of the threshold file give them."""

from __future__ import annotations

import pytest

from pytest_cliprobust.perturbations import registry

SAMPLES = {"quick": 100, "standard": 100, "full": None}


def test_kornia(clip, check_drops):
    names = registry.names("kornia_adapter")
    if not names:
        pytest.skip("the threshold file has no [[perturbation]]; see docs/thresholds.md")
    for name in names:
        severities = range(1, len(registry.get(name).severities) + 1) or [None]
        check_drops(name, severities, SAMPLES[clip.config.profile])

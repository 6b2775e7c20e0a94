"""Occlusion: a share of the object is hidden, by another object or by a plain patch."""

from __future__ import annotations

import pytest

SEVERITIES = [1, 3, 5]
SAMPLES = {"quick": 100, "standard": 100, "full": None}


@pytest.mark.usefixtures("needs_embedded")
@pytest.mark.parametrize("name", ["occlusion", "patch_occlusion"])
def test_occlusion(clip, check_drops, name):
    check_drops(name, SEVERITIES, SAMPLES[clip.config.profile])

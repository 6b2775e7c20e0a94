"""Typographic attack (Goh et al. 2021): the name of another class, written on the image."""

from __future__ import annotations

from pytest_cliprobust.search import stress

SEVERITIES = [1, 3, 5]
SAMPLES = {"quick": 100, "standard": 100, "full": None}


def test_typographic(clip, check_drops):
    def also(data, severity):
        return [stress.attack_success(clip, data, severity)]

    check_drops("typographic", SEVERITIES, SAMPLES[clip.config.profile], also)

"""Profiles: how many samples of each data set a run measures. Imports nothing heavy."""

from __future__ import annotations

#: How many samples, in ascending order: what ``--clip-profile`` takes.
PROFILES = ("quick", "standard", "full")

"""Repository-wide pytest configuration.

In CI, property tests draw the same examples every time; on a developer's machine Hypothesis goes on looking
for new ones.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

# Before torch is loaded: threads that wait for others sleep instead of spinning. Two workers on two cores
# need a third of the time so.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

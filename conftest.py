"""Repository-wide pytest configuration."""

from __future__ import annotations

import os

# Before torch is loaded: threads that wait for others sleep instead of spinning. Two workers on two cores
# need a third of the time so.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

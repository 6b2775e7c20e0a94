"""The shipped suites. Run them with ``pytest --clip-model MODEL suites/``.

Each file is a suite: parametrize, measure, check. Bounds stand in ``thresholds.toml``.
"""

from __future__ import annotations

import pytest

EMBEDDED_ONLY = (
    "this data set comes with the embedded benchmark only; leave --clip-data out to run it"
)


@pytest.fixture
def needs_embedded(clip) -> None:
    """Report a test as not run when ``--clip-data`` replaces the benchmark it needs."""
    if not clip.embedded:
        pytest.skip(EMBEDDED_ONLY)

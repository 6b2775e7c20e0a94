"""The shipped suites. Run them with ``pytest --clip-model MODEL suites/``.

Each file is a suite: parametrize, measure, check. Bounds stand in ``thresholds.toml``.
"""

from __future__ import annotations

import pytest

from pytest_cliprobust.plugin import option

EMBEDDED_ONLY = (
    "this data set comes with the embedded benchmark only; leave --clip-data out to run it"
)


@pytest.fixture
def needs_embedded(clip) -> None:
    """Report a test as not run when ``--clip-data`` replaces the benchmark it needs."""
    if not clip.embedded:
        pytest.skip(EMBEDDED_ONLY)


def pytest_generate_tests(metafunc) -> None:
    """Parametrize ``name`` over the file's NAMES of this profile."""
    if "name" in metafunc.fixturenames and isinstance(
        getattr(metafunc.module, "NAMES", None), dict
    ):
        metafunc.parametrize("name", metafunc.module.NAMES[option(metafunc.config, "profile")])

"""Where the parts of the plugin find each other: keys of pytest's stashes, and one fixture's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_cliprobust.plugin.gate import Gate
    from pytest_cliprobust.plugin.imports import ImportMistakes
    from pytest_cliprobust.plugin.session import Session

#: The fixture that every other one hangs on, parametrized over all ``--clip-model``.
UNDER_TEST = "clip_under_test"

#: In the configuration: the run.
SESSION: pytest.StashKey[Session] = pytest.StashKey()

#: In the configuration: what the collection could not import.
IMPORTS: pytest.StashKey[ImportMistakes] = pytest.StashKey()

#: In the configuration: the environment kept the session from beginning.
LACKING: pytest.StashKey[bool] = pytest.StashKey()

#: In a test: its gate.
GATE: pytest.StashKey[Gate] = pytest.StashKey()

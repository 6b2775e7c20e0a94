"""Where the parts of the plugin find each other: keys of stashes, and what one hands to another."""

from __future__ import annotations

from dataclasses import dataclass, field
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


def model_given(item: pytest.Item) -> str | None:
    """Return the model that a test is parametrized with, as ``--clip-model`` has it; None without one."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get(UNDER_TEST) if callspec else None


@dataclass
class DeadWorkers:
    """What is known of workers of pytest-xdist while none has said whether its tests evaluate a model.

    Attributes:
        given: the tests that they collected.
        names: the workers that died.
        reports: of the tests that they died over.
        heard: whether any test came far enough to report.
        internal_error: whether one of them had an error that pytest has no name for.
    """

    given: tuple[str, ...] = ()
    names: list[str] = field(default_factory=list)
    reports: list[pytest.TestReport] = field(default_factory=list)
    heard: bool = False
    internal_error: bool = False

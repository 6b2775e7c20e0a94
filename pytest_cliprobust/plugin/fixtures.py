"""The fixtures, and which tests use them. Imports nothing heavy.

Ours are known by where they are defined, not by name: a project may have fixtures of its own called
``clip``, ``gate``, ``clean`` or ``shift``, and they stay its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from pytest_cliprobust.datasets.roles import ROLES
from pytest_cliprobust.plugin.state import GATE, SESSION, UNDER_TEST, model_given

if TYPE_CHECKING:
    from pytest_cliprobust.engine.evaluation import Evaluation
    from pytest_cliprobust.plugin.gate import Gate


@pytest.fixture(scope="session")
def clip_under_test() -> str:
    """The model under test as ``--clip-model`` has it; parametrized over all of them."""
    raise pytest.UsageError("no model under test: add --clip-model MODEL")  # pragma: no cover


@pytest.fixture(scope="session")
def clip_model(request: pytest.FixtureRequest, clip_under_test: str) -> str:
    """Name of the model under test: NAME of ``--clip-model NAME=MODEL``, or the model's own."""
    return request.config.stash[SESSION].name_of[clip_under_test]


@pytest.fixture
def clip(request: pytest.FixtureRequest, clip_under_test: str) -> Evaluation:
    """The model under test: ``clip.on("clean", "fog_3d", 3)`` gives samples as it sees them."""
    session = request.config.stash[SESSION]
    return session.evaluation(session.name_of[clip_under_test])


@pytest.fixture
def clip_against(request: pytest.FixtureRequest, clip_under_test: str) -> Evaluation:
    """The model of ``--clip-against``, which others are compared with; not run without one."""
    session = request.config.stash[SESSION]
    other = session.config.against
    if other is None or other == session.name_of[clip_under_test]:
        pytest.skip("needs a baseline model other than the one under test: --clip-against MODEL")
    return session.evaluation(other)


@pytest.fixture
def gate(request: pytest.FixtureRequest, clip_under_test: str) -> Gate:
    """Compares figures with the threshold file; the test fails at its end if any bound is missed."""
    from pytest_cliprobust.plugin.gate import Gate

    session = request.config.stash[SESSION]
    judge = Gate(request.node, session, session.name_of[clip_under_test])
    request.node.stash[GATE] = judge
    return judge


def _role_fixture(role: str, meaning: str) -> Any:
    """Return the fixture that stands for each data set with a role, in turn."""

    @pytest.fixture(name=role)
    def data_set(request: pytest.FixtureRequest) -> str:
        raise pytest.UsageError(  # pragma: no cover
            f"{request.fixturename} is parametrized by the plugin; use it in a test"
        )

    data_set.__doc__ = f"Each data set with the role ``{role}``: {meaning}."
    return data_set


# pytest takes fixtures from the names of this module: one for each role.
globals().update({role: _role_fixture(role, meaning) for role, meaning in ROLES.items()})


def parametrized(metafunc: pytest.Metafunc) -> list[str]:
    """Return which of a test's fixtures are ours to parametrize, the model first."""
    info: Any = metafunc.definition
    names = (UNDER_TEST, *ROLES)
    return [name for name in names if name in metafunc.fixturenames and _ours(info, name)]


def needs_model(item: pytest.Item) -> bool:
    """Return whether a test evaluates a model: it uses one of our fixtures."""
    return UNDER_TEST in getattr(item, "fixturenames", ()) and _ours(item, UNDER_TEST)


def model_of(item: pytest.Item) -> str | None:
    """Return the model that a test evaluates as ``--clip-model`` has it; None if it evaluates none."""
    return model_given(item) if needs_model(item) else None


def _ours(node: Any, name: str) -> bool:
    """Return whether the fixture that ``name`` means for a test is defined here."""
    info = getattr(node, "_fixtureinfo", None)
    known: dict[str, Sequence[Any]] = getattr(info, "name2fixturedefs", {})
    definitions = known.get(name, ())
    # pytest puts a definition of its own in the place of one that a test is parametrized over.
    return bool(definitions) and definitions[-1].func.__module__ in (__name__, "_pytest.python")

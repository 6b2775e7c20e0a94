"""Which fixtures are the plugin's, what they give, and what a session without a model does with them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pytest_cliprobust.plugin import NoModel, fixtures
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.plugin.state import GATE, SESSION, UNDER_TEST, model_given


def ours(*names: str, module: str = fixtures.__name__) -> Any:
    """Return what pytest knows of a test that uses these fixtures, defined in a module."""

    def fixture() -> None: ...

    fixture.__module__ = module
    definition = SimpleNamespace(func=fixture)
    info = SimpleNamespace(name2fixturedefs={name: [definition] for name in names})
    return SimpleNamespace(_fixtureinfo=info, fixturenames=[*names, "tmp_path"])


def metafunc(test: Any) -> Any:
    """Return what pytest asks how to parametrize a test with; ``told`` holds the answers."""
    told: list[tuple[Any, ...]] = []

    def parametrize(name: str, values: list[str], scope: str) -> None:
        told.append((name, values, scope))

    return SimpleNamespace(
        definition=test, fixturenames=test.fixturenames, parametrize=parametrize, told=told
    )


def test_the_model_comes_first_and_then_the_roles() -> None:
    test = ours("far_ood", "clean", "clip", UNDER_TEST)
    assert fixtures.parametrized(metafunc(test)) == [UNDER_TEST, "clean", "far_ood"]
    assert fixtures.needs_model(test)
    # pytest puts a definition of its own in the place of one that a test is parametrized over.
    assert fixtures.needs_model(ours(UNDER_TEST, module="_pytest.python"))


@pytest.mark.parametrize(
    "test",
    [
        ours("tmp_path"),
        ours(UNDER_TEST, "clean", module="their.conftest"),  # of the same names, and theirs
        SimpleNamespace(fixturenames=[UNDER_TEST]),  # of unknown origin
        SimpleNamespace(),  # no function, as a doctest
        # One that another fixture would have asked for, which the test's own parameters replace.
        SimpleNamespace(**{**vars(ours(UNDER_TEST, "clean")), "fixturenames": ["tmp_path"]}),
    ],
)
def test_what_is_not_ours_is_left_alone(test: Any) -> None:
    assert not fixtures.needs_model(test)
    assert fixtures.model_of(test) is None
    if hasattr(test, "fixturenames"):
        assert fixtures.parametrized(metafunc(test)) == []


def test_the_model_of_a_test_is_the_one_that_it_is_parametrized_with() -> None:
    test = ours(UNDER_TEST)
    assert fixtures.model_of(test) is None
    test.callspec = SimpleNamespace(params={UNDER_TEST: "NAME=path"})
    assert fixtures.model_of(test) == model_given(test) == "NAME=path"


def test_what_the_fixtures_give() -> None:
    asked: list[str] = []

    def evaluation(name: str) -> str:
        asked.append(name)
        return name

    session = SimpleNamespace(
        name_of={"new=path": "new", "old": "old"},
        config=SimpleNamespace(against=None),
        evaluation=evaluation,
    )
    stash: dict[Any, Any] = {SESSION: session}
    node = SimpleNamespace(stash={})
    request: Any = SimpleNamespace(config=SimpleNamespace(stash=stash), node=node)

    def given(fixture: Any, model: str) -> Any:
        return fixture.__wrapped__(request, model)

    assert given(fixtures.clip_model, "new=path") == "new"
    assert given(fixtures.clip, "new=path") == "new"
    # None to compare with, or the one under test itself.
    for against in (None, "new"):
        session.config.against = against
        with pytest.raises(pytest.skip.Exception, match="other than the one under test"):
            given(fixtures.clip_against, "new=path")
    session.config.against = "old"
    assert given(fixtures.clip_against, "new=path") == "old"
    assert asked == ["new", "old"]
    gate = given(fixtures.gate, "new=path")
    assert isinstance(gate, Gate)
    assert node.stash[GATE] is gate
    assert gate._model == "new"


# --- Without a model -------------------------------------------------------------------------------


def test_without_a_model_every_test_is_listed_once() -> None:
    asked = metafunc(ours("shift", "clean", UNDER_TEST))
    NoModel().pytest_generate_tests(asked)
    assert asked.told == [
        (name, ["no-model"], "session") for name in (UNDER_TEST, "clean", "shift")
    ]


@pytest.mark.parametrize(
    ("needs", "listing", "words"),
    [
        (0, False, ""),
        (1, False, "1 test evaluates a CLIP model and none is named: add --clip-model reference"),
        (2, False, "2 tests evaluate a CLIP model"),
        (2, True, ""),
    ],
)
def test_without_a_model_only_listing_goes_on(needs: int, listing: bool, words: str) -> None:
    items = [*(ours(UNDER_TEST) for _ in range(needs)), ours("tmp_path")]
    config = SimpleNamespace(option=SimpleNamespace(collectonly=listing))
    session: Any = SimpleNamespace(items=items, config=config)
    if words:
        with pytest.raises(pytest.UsageError, match=words):
            NoModel().pytest_collection_finish(session)
    else:
        NoModel().pytest_collection_finish(session)

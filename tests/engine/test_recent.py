"""What is kept in memory, and what makes room for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_cliprobust.engine.recent import Recent


def kept(recent: Recent[str], names: str) -> str:
    """Return which of the items are there, without using them."""
    return "".join(name for name in names if name in recent._entries)


def test_the_longest_unused_makes_room() -> None:
    recent: Recent[str] = Recent(30)
    for name, dataset in (("a", "clean"), ("b", "clean"), ("c", "factor")):
        recent.keep(name, name.upper(), 10, dataset)
    assert recent.get("a") == "A"
    recent.keep("d", "D", 10, "far_ood")
    assert kept(recent, "abcd") == "acd"
    assert recent.get("b") is None
    recent.keep("e", "E", 20, "near_ood")
    assert kept(recent, "abcde") == "de"


def test_a_data_set_does_not_push_itself_out() -> None:
    recent: Recent[str] = Recent(30)
    for name in "abcd":
        recent.keep(name, name, 10, "clean")
    assert kept(recent, "abcd") == "abc"
    # Nor does what is too large push anything out.
    recent.keep("e", "e", 31, "far_ood")
    assert kept(recent, "abcde") == "abc"


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 40), st.sampled_from(["clean", "other"])),
        max_size=30,
    )
)
def test_no_more_is_kept_than_there_is_room(asked: list[tuple[int, int, str]]) -> None:
    recent: Recent[int] = Recent(50)
    for key, size, dataset in asked:
        recent.keep((key, size), key, size, dataset)
        sizes = [entry.size for entry in recent._entries.values()]
        assert sum(sizes) == recent._bytes <= 50
        assert recent.get((key, size)) in (key, None)

"""Who the samples of a figure are, and which of them two runs have in common."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import keys_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.keys import SampleKeys, matched

ABC = SampleKeys(("a", "b", "c"), ("x", "y", "x"), ("1", "2", "3"), "drawing")


def test_units_are_numbered_by_their_names() -> None:
    keys = keys_of(6, ["ox", "ant", "ox", "bee", "ant", "ox"])
    assert keys.codes.tolist() == [2, 0, 2, 1, 0, 2]
    assert keys.codes.dtype == np.int64
    assert (len(keys), keys.unit_count, keys.clustered) == (6, 3, True)
    assert not keys_of(6).clustered
    assert keys_of(6).unit_count == 6
    nobody = SampleKeys((), ())
    assert (len(nobody), nobody.unit_count, nobody.clustered) == (0, 0, False)
    assert nobody.codes.shape == (0,)


def test_there_is_one_of_each_for_a_sample() -> None:
    for ids, units, digests in (
        (("a", "b"), ("a",), ()),
        (("a",), ("a", "b"), ()),
        (("a", "b"), ("a", "b"), ("1",)),
    ):
        with pytest.raises(
            ClipRobustError,
            match=f"{len(ids)} sample ids, {len(units)} units and {len(digests)} digests",
        ):
            SampleKeys(ids, units, digests)


def test_the_digest_is_of_the_ids_in_their_order_and_of_their_units() -> None:
    pairs = ["x", "x", "y", "y"]
    other = [SampleKeys(ids, ids) for ids in (("ab", "c"), ("a", "bc"), ("c", "ab"), ("abc",))]
    digests = [keys_of(4).digest, keys_of(4, pairs).digest, keys_of(4, [*"xyxy"]).digest]
    digests += [keys_of(4, [*"zzyy"]).digest, *(keys.digest for keys in other)]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 24 for digest in digests)
    # Units of their own, whatever they are called, are no more than ids.
    assert keys_of(4, [*"wxyz"]).digest == keys_of(4).digest
    assert keys_of(4, pairs, kind="scene").digest == keys_of(4, pairs).digest


def test_the_contents_are_those_of_the_samples_in_any_order() -> None:
    assert ABC.contents == ABC.take([2, 0, 1]).contents
    assert len(ABC.contents) == 24
    ids = [("ab", "c"), ("a", "bc"), ("abc",), ("a", "b", "c")]
    others = [SampleKeys(names, names).contents for names in ids]
    other = SampleKeys(ABC.ids, ABC.units, ("1", "2", "4")).contents
    assert len({ABC.contents, ABC.take([0, 1]).contents, other, *others}) == 7
    # What a sample was drawn from says nothing of what is in it.
    assert SampleKeys(ABC.ids, ABC.ids, ABC.digests).contents == ABC.contents


def test_taking_rows() -> None:
    some = ABC.take(np.array([2, 0]))
    assert some == SampleKeys(("c", "a"), ("x", "x"), ("3", "1"), "drawing")
    assert ABC.take([1]).unit_count == 1
    assert keys_of(3).take([0, 2]).digests == ()


def test_samples_have_an_order_of_their_own() -> None:
    keys = SampleKeys(("b", "c", "a"), ("x", "y", "x"), kind="drawing")
    assert keys.order.tolist() == [2, 0, 1]
    assert keys.order.dtype == np.int64
    alone = keys.singly()
    assert alone == SampleKeys(keys.ids, keys.ids)
    assert (alone.clustered, alone.codes.tolist()) == (False, [1, 2, 0])
    assert ABC.singly().digests == ABC.digests


def test_two_data_sets_share_nothing() -> None:
    both = ABC.beside(ABC)
    assert both.ids == ("in/a", "in/b", "in/c", "out/a", "out/b", "out/c")
    assert both.codes.tolist() == [0, 1, 0, 2, 3, 2]
    assert both.digests == ABC.digests * 2
    assert both.kind == "drawing"
    photos = SampleKeys(("a",), ("x",), kind="photo")
    mixed = ABC.beside(photos)
    assert (mixed.kind, mixed.digests, mixed.unit_count) == ("unit", (), 3)
    assert photos.beside(ABC).digests == ()


def test_the_words_say_units_where_there_are_fewer() -> None:
    assert ABC.text() == "n = 3 in 2 drawings"
    assert keys_of(3).text() == "n = 3"
    assert keys_of(2144, np.arange(2144) // 2).text() == "n = 2,144 in 1,072 drawings"


def test_samples_of_two_runs_are_matched_by_id() -> None:
    first = SampleKeys(("a", "b", "c", "d"), ("a", "b", "c", "d"))
    second = SampleKeys(("d", "x", "b", "a"), ("d", "x", "b", "a"))
    mine, theirs = matched(first, second)
    # In the order of the first.
    assert (mine.tolist(), theirs.tolist()) == ([0, 1, 3], [3, 2, 0])
    back = matched(second, first)
    assert (back[0].tolist(), back[1].tolist()) == ([0, 2, 3], [3, 1, 0])
    nothing = matched(first, SampleKeys(("z",), ("z",)))
    assert (nothing[0].shape, nothing[1].shape) == ((0,), (0,))
    assert nothing[0].dtype == mine.dtype == np.int64


def test_content_that_is_known_to_differ_is_another_sample() -> None:
    changed = SampleKeys(ABC.ids, ABC.units, ("1", "9", "3"))
    mine, theirs = matched(ABC, changed)
    assert mine.tolist() == theirs.tolist() == [0, 2]
    # Where one side does not know its content, ids decide.
    unknown = SampleKeys(ABC.ids, ABC.units)
    assert matched(ABC, unknown)[0].tolist() == matched(unknown, ABC)[0].tolist() == [0, 1, 2]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 20), unique=True), st.lists(st.integers(0, 20), unique=True))
def test_matched_rows_are_of_the_same_samples(first: list[int], second: list[int]) -> None:
    one, two = (SampleKeys(t := tuple(map(str, ids)), t) for ids in (first, second))
    mine, theirs = matched(one, two)
    assert [first[row] for row in mine] == [second[row] for row in theirs]
    assert [first[row] for row in mine] == [name for name in first if name in second]

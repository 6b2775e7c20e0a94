"""The words of one-line errors: what is cut, escaped, counted and suggested."""

from __future__ import annotations

import tomllib
from datetime import date, datetime, time
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pytest_cliprobust.errors import (
    as_toml,
    brief,
    counted,
    did_you_mean,
    first_of,
    is_out_of_memory,
    one_line,
    printable,
    shortened,
)


class OutOfMemoryError(RuntimeError):
    """Called as torch calls its own."""


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (OutOfMemoryError("of whichever device"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY"), True),
        (RuntimeError("UR_RESULT_ERROR_OUT_OF_HOST_MEMORY"), True),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_who_wants_more_memory(error: BaseException, memory: bool) -> None:
    assert is_out_of_memory(error) is memory


@pytest.mark.parametrize(
    ("text", "shown", "in_one_line"),
    [
        ("größe 1", "größe 1", "größe 1"),
        ("a\x1b[2Jb", "a\\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\u202eb", "a\\u202eb", "a\\u202eb"),
        ("a\udcffb", "a\\udcffb", "a\\udcffb"),
        ("a\nb\tc", "a\nb\tc", "a\\nb\\tc"),
        ("a\u2028b\u2029c", "a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("a\u00a0b", "a\u00a0b", "a\u00a0b"),  # not printable to Python, and harmless
    ],
)
def test_letters_that_do_something_are_escaped(text: str, shown: str, in_one_line: str) -> None:
    assert printable(text) == shown
    assert one_line(text) == in_one_line


@pytest.mark.parametrize(
    ("word", "known", "said"),
    [
        ("imagnet", ["cifar", "imagenet"], " Did you mean 'imagenet'?"),
        ("abcd", ["abxy"], " Did you mean 'abxy'?"),  # half of the letters are enough
        ("abcde", ["abxyz"], ""),
        ("imagenet", [], ""),
    ],
)
def test_the_nearest_name_is_suggested(word: str, known: list[str], said: str) -> None:
    assert did_you_mean(word, iter(known)) == said


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], ""),
        (["a", "b"], "a, b"),
        (["a", "b", "c"], "a, b and 1 more"),
        (["a", "b", "c", "d"], "a, b and 2 more"),
    ],
)
def test_the_first_names_and_how_many_more(names: list[str], said: str) -> None:
    assert first_of(names, 2) == said


def test_a_count_agrees_with_its_noun() -> None:
    assert [counted(n, "figure") for n in (0, 1, 2)] == ["0 figures", "1 figure", "2 figures"]
    assert counted(1200, "loss", "losses") == "1,200 losses"
    assert counted(1, "loss is", "losses are") == "1 loss is"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "ValueError"),
        (" \n ", "ValueError"),
        ("no way", "ValueError: no way"),
        ("\n  first.:\nsecond", "ValueError: first"),
        ("x" * 200, "ValueError: " + "x" * 200),
        ("x" * 201, "ValueError: " + "x" * 199 + "…"),
    ],
)
def test_an_error_is_its_first_line(text: str, said: str) -> None:
    assert brief(ValueError(text)) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a\nb", r"'a\nb'"),
        ([1, 2], "[1, 2]"),
        ("x" * 78, "'" + "x" * 78 + "'"),
        ("x" * 79, "'" + "x" * 78 + "…"),
    ],
)
def test_a_value_takes_one_short_line(value: object, said: str) -> None:
    assert shortened(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (0.5, "0.5"),
        (float("inf"), "inf"),
        (date(2026, 12, 31), "2026-12-31"),
        (datetime(2026, 12, 31, 12), "2026-12-31T12:00:00"),
        (time(7, 30), "07:30:00"),
        ("a word", "'a word'"),
        (r"a\b", r"'a\b'"),
        ("it's", '"it\'s"'),
        ('"it\'s"', r'''"\"it's\""'''),
        ("a\tb\x1b", r'"a\tb\u001B"'),
        ("\U000e0001", r'"\U000E0001"'),
        ("", "''"),
        ("x" * 100, "'" + "x" * 100 + "'"),
        ("x" * 101, "'" + "x" * 49 + "…" + "x" * 49 + "'"),
        (10**100, "1" + "0" * 48 + "…" + "0" * 49),
        ([], "[]"),
        (["a", True, [1]], "['a', true, [1]]"),
        ([0] * 6, "[0, 0, 0, 0, 0, 0]"),
        ([0] * 7, "[0, 0, 0, 0, 0, 0, …]"),
        ([[[[[1]]]]], "[[[[[…]]]]]"),
        ({}, "{}"),
        ({"bits": 3, "a b": {"c": "d"}}, "{ bits = 3, 'a b' = { c = 'd' } }"),
        ({str(n): n for n in range(7)}, "{ 0 = 0, 1 = 1, 2 = 2, 3 = 3, 4 = 4, 5 = 5, … }"),
    ],
)
def test_a_value_of_a_file_is_shown_as_the_file_has_it(value: object, said: str) -> None:
    assert as_toml(value) == said


def test_an_integer_that_python_does_not_write_is_named() -> None:
    assert as_toml([16**5000]) == "[an integer of too many digits]"


VALUES: Any = st.recursive(
    st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False)
    | st.dates()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("ab c.'", max_size=3), inner, max_size=4)
    ),
    max_leaves=6,
)


@given(VALUES)
@settings(deadline=None)
def test_what_is_not_shortened_is_read_back(value: object) -> None:
    shown = as_toml(value)
    assert shown.isprintable()
    assume("…" not in shown)
    assert tomllib.loads(f"value = {shown}") == {"value": value}

"""Texts that a model gives the same features: which groups, what they are called, and the likely cause."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from pytest_cliprobust.engine import texts
from pytest_cliprobust.errors import ClipRobustError


def test_groups_of_equal_rows_against_all_pairs() -> None:
    rng = np.random.default_rng(3)
    base = rng.normal(size=(5, 6))
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    rows = base[[0, 1, 2, 1, 3, 0, 4, 1]]
    # Less than the limit apart, in a direction of its own.
    rows[7] += 0.4e-5 * base[4]
    assert [group.tolist() for group in texts.equal_rows(rows)] == [[0, 5], [1, 3, 7]]
    rows[7] += 2e-5 * base[4]
    assert [group.tolist() for group in texts.equal_rows(rows)] == [[0, 5], [1, 3]]
    assert texts.equal_rows(base) == []
    assert [group.tolist() for group in texts.equal_rows(np.ones((4, 3)))] == [[0, 1, 2, 3]]
    assert texts.equal_rows(np.ones((1, 3))) == []


def test_neighbours_in_projection_need_not_be_equal() -> None:
    """Rows that differ only at right angles to the projection have equal ones."""
    direction = np.random.default_rng(0).normal(size=3)
    aside = np.cross(direction, [1.0, 0.0, 0.0])
    aside /= np.linalg.norm(aside)
    rows = np.stack([aside, -aside, np.cross(direction, aside) / np.linalg.norm(direction)])
    assert texts.equal_rows(rows) == []
    twice = np.concatenate((rows, rows[::-1]))
    assert [group.tolist() for group in texts.equal_rows(twice)] == [[0, 5], [1, 4], [2, 3]]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["cat", "dog"], "'cat' and 'dog'"),
        (["cat", "dog", "owl"], "'cat', 'dog' and 'owl'"),
        (["cat", "dog", "owl", "hen", "elk"], "'cat', 'dog', 'owl' and 2 more"),
    ],
)
def test_a_few_are_named(labels: list[str], told: str) -> None:
    assert texts._named(labels) == told


def test_of_long_names_what_differs_stays() -> None:
    start = "a very long description of a picture in which the "
    long = [f"{start}first thing{'!' * 60}", f"{start}second thing"]
    assert texts._shared(long) == len(start)
    assert texts._shared(["same", "same as"]) == 4
    # Half of 48 letters from the start, half from eight before the first that differs.
    assert (
        texts._short(long[0], long) == f"{long[0][:24]}…{long[0][len(start) - 8 : len(start) + 16]}"
    )
    # None beyond the end.
    assert texts._short(long[1], long) == f"{long[1][:24]}…{long[1][-24:]}"
    assert texts._short("x" * 48, long) == "x" * 48
    apart = ["a" + "x" * 60, "b" + "x" * 60]
    assert texts._short(apart[0], apart) == apart[0][:24] + "…" + apart[0][24:48]


class Reader:
    """Gives texts features by what it reads of them."""

    def __init__(self, letters: int = 1000, *, plain: bool = False) -> None:
        self.letters, self.plain = letters, plain

    def __call__(self, given: Sequence[str]) -> Tensor:
        read = ["" if self.plain else text[: self.letters] for text in given]
        rows = [np.random.default_rng(list(text.encode())).normal(size=8) for text in read]
        return torch.nn.functional.normalize(torch.tensor(np.array(rows)), dim=-1)


def refused(prompts: list[str], encode: Reader, features: Tensor | None = None) -> str:
    found = encode(prompts) if features is None else features
    labels = [f"n{i}" for i in range(len(prompts))]
    with pytest.raises(ClipRobustError) as caught:
        texts.refuse_equal(labels, prompts, found, encode, "mine")
    return str(caught.value)


def test_the_likely_cause_is_told() -> None:
    told = refused(["a cat", "a dog"], Reader(plain=True))
    start = "model 'mine' cannot tell 'n0' and 'n1' apart: "
    same = "texts have the same features; "
    assert told == f"{start}all class {same}so has any other text: {texts.TOKENIZER}"
    told = refused(["a long text on a cat", "a long text on a dog", "else"], Reader(8))
    assert told.startswith(
        f"{start}these {same}they differ only after the last token that it reads"
    )
    # Read to their end, and none the less equal.
    equal = torch.ones(2, 4)
    told = refused(["a cat", "A  Cat."], Reader(), equal)
    assert told.startswith(
        f"{start}all class {same}they differ only in case, spaces or punctuation"
    )
    told = refused(["a cat", "a dog"], Reader(), equal)
    assert told.startswith(f"{start}all class {same}its tokenizer may not know these words")


def test_equal_prompts_are_no_mistake() -> None:
    prompts = ["a crane", "a dog", "a crane"]
    texts.refuse_equal(prompts, prompts, Reader()(prompts), Reader(), "mine")

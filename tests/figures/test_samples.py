"""Samples from plain arrays, whether their answers are right, and which several views have in common."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.samples import SampleArrays, contents_of, right_answers, shared

LOGITS = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0], [0.0, 5.0, 1.0], [1.0, 0.0, 0.5]])


def samples(ids: str = "abcd", **fields: Any) -> SampleArrays:
    """Return as many samples as letters, whose classes are 0, 2, 0 and 2."""
    rows = np.arange(len(ids)) % 4
    made = SampleArrays(Condition("mine"), tuple(ids), np.array([0, 2, 0, 2])[rows], LOGITS[rows])
    return replace(made, **fields)


def test_what_is_not_given_follows_from_the_rest() -> None:
    made = samples()
    assert made.class_names == ("0", "1", "2")
    assert made.units == ("a", "b", "c", "d")
    assert (made.groups, made.probability, made.cosines.shape) == ({}, "softmax", (0, 0))
    assert made.bootstrap == Bootstrap(seed=0, keys=SampleKeys(made.ids, made.ids))
    given = samples(class_names=("x", "y", "z"), units=("u", "u", "v", "v"), seed=3)
    assert given.class_names == ("x", "y", "z")
    assert given.keys == SampleKeys(given.ids, ("u", "u", "v", "v"))
    assert (given.bootstrap.seed, given.bootstrap.units(4)) == (3, 2)


def test_arrays_are_of_the_same_samples() -> None:
    for labels, logits in ((np.zeros(3, np.int64), LOGITS), (np.zeros(4, np.int64), LOGITS[:3])):
        with pytest.raises(ClipRobustError) as error:
            samples(labels=labels, logits=logits)
        assert str(error.value) == (
            f"mine: 4 ids, {len(labels)} labels and {len(logits)} rows of logits; they must be of the "
            "same samples"
        )


def test_an_answer_is_right_if_it_is_the_samples_own_class() -> None:
    assert samples().correct.tolist() == [True, True, False, False]
    assert right_answers(np.array([2, 2, 0, 1]), samples()).tolist() == [False, True, True, False]
    for label, row in ((-1, 0), (3, 2), (-9, 3)):
        labels = np.array([0, 1, 2, 0])
        labels[row] = label
        with pytest.raises(ClipRobustError) as error:
            right_answers(np.zeros(4, np.int64), samples(labels=labels))
        assert str(error.value) == (
            "mine: 1 of 4 samples have a label outside the 3 classes "
            f"(first: {label} of {'abcd'[row]}), so their answers are neither right nor wrong; leave "
            "such samples out of accuracies"
        )
    with pytest.raises(ClipRobustError, match=r"3 of 4 .* \(first: 3 of b\)"):
        right_answers(np.zeros(4, np.int64), samples(labels=np.array([0, 3, -1, 7])))


def test_the_contents_are_those_of_the_keys_if_there_are_any() -> None:
    assert contents_of(samples()) == samples().keys.contents != ""
    unknown: Any = SimpleNamespace(bootstrap=Bootstrap())
    assert contents_of(unknown) == ""


def test_samples_in_common_are_those_of_all_views() -> None:
    first, second, third = samples("abcdef"), samples("fxdab"), samples("dcayf")
    found = shared(first, second, third)
    assert found.ids == ("a", "d", "f")
    assert [rows.tolist() for rows in found.rows] == [[0, 3, 5], [3, 2, 0], [2, 0, 4]]
    assert found.bootstrap == first.bootstrap.subset(np.array([0, 3, 5]))
    assert shared(third, second, first).ids == ("d", "a", "f")
    # One that has more does not make the others' samples fewer.
    more = shared(samples("ab"), samples("zab"))
    assert (more.ids, more.bootstrap) == (("a", "b"), samples("ab").bootstrap)
    alone = shared(first)
    assert (alone.ids, alone.rows[0].tolist()) == (first.ids, [0, 1, 2, 3, 4, 5])
    # The same ones but in the last view.
    assert shared(first, first, samples("fa")).ids == ("a", "f")


def test_views_of_nothing_in_common_are_named_once() -> None:
    fog = samples("xyz", condition=Condition("mine", (Step("fog_3d", 3),)))
    with pytest.raises(ClipRobustError) as error:
        shared(samples(), fog, samples("abc"))
    assert str(error.value) == (
        "mine and mine, fog_3d at severity 3 have no sample in common, so they cannot be paired"
    )
    # Nobody has nobody in common.
    nobody: Any = SimpleNamespace(ids=(), condition=Condition("empty"), bootstrap=Bootstrap())
    with pytest.raises(ClipRobustError, match=r"^empty have no sample in common"):
        shared(nobody, nobody)

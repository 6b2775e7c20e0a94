"""What a model answered, sample by sample."""

from __future__ import annotations

import json

import numpy as np
from scipy.special import softmax

from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.samples import SampleArrays
from pytest_cliprobust.properties.accuracy import accuracy_of
from pytest_cliprobust.properties.answers import MOST, Answer, answers_in, told_answers

NAMES = ("cat", "dog", "wolf")


def samples(logits: np.ndarray, labels: list[int]) -> SampleArrays:
    ids = tuple(map(str, range(len(labels))))
    return SampleArrays(
        Condition("clean"), ids, np.array(labels), logits, cosines=logits / 100, class_names=NAMES
    )


def test_answers_come_back_through_json() -> None:
    logits = np.array([[3.0, 1.0, 0.0], [0.0, 1.0, 2.0], [1.0, 1.0, 0.0]])
    own = samples(logits, [0, 1, 1])
    found = answers_in(json.loads(json.dumps(told_answers(own) and {"answers": told_answers(own)})))
    assert [(a.label, a.name, a.right) for a in found if a] == [
        ("cat", "cat", True),
        ("dog", "wolf", False),
        ("dog", "cat", False),  # a tie goes to the first class
    ]
    want = softmax(logits, axis=1).max(axis=1)
    assert np.allclose([a.probability for a in found if a], want, atol=5e-4)


def test_an_accuracy_holds_them_and_so_many_only() -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(MOST + 5) % 3).tolist()
    figure = accuracy_of(samples(rng.normal(size=(MOST + 5, 3)), labels))
    found = answers_in(figure.details)
    assert len(found) == MOST
    assert figure.outcomes is not None
    assert [a.right for a in found if a] == figure.outcomes["value"][:MOST].tolist()


def test_answers_from_another_label_set_are_not_told() -> None:
    own = samples(np.eye(4)[[0, 1]], [0, 1])
    assert told_answers(own) == {}
    assert "answers" not in accuracy_of(own).details
    assert told_answers(samples(np.empty((0, 3)), [])) == {}


def test_no_answers_where_none_were_told() -> None:
    assert answers_in({}) == ()
    assert answers_in({"answers": "none"}) == ()
    told = {"names": ["a", "b"], "label": [-1, 0, -1, 1], "top": [-1, -1, 0, 0]}
    told["probability"] = [0.5, 0.5, 0.5, 0.25]
    assert answers_in({"answers": told}) == (None, None, None, Answer("b", "a", 0.25))


def test_names_stand_once_and_in_the_order_of_the_classes() -> None:
    own = samples(np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 9.0], [1.0, 0.0, 2.0]]), [2, 2, 0])
    assert told_answers(own) == {
        "names": ["cat", "wolf"],
        "label": [1, 1, 0],
        "top": [1, 1, 1],
        "probability": [0.576, 1.0, 0.665],
    }

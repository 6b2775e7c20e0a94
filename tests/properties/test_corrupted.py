"""Pictures corrupted before: each condition apart, paired with the clean ones where these are there."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.samples import SampleArrays
from pytest_cliprobust.properties.corrupted import corrupted_of


def samples(
    name: str, ids: list[str], right: list[bool], **groups: tuple[str, ...]
) -> SampleArrays:
    logits = np.array([[1.0, 0.0] if ok else [0.0, 1.0] for ok in right])
    return SampleArrays(
        Condition(name), tuple(ids), np.zeros(len(ids), dtype=np.int64), logits, groups=groups
    )


CLEAN = samples("imagenet", ["a", "b", "c", "d"], [True, True, True, False])


def test_known_answer() -> None:
    names = [f"{c}/{s}/{i}" for c, s in (("fog", 1), ("fog", 5), ("snow", 1)) for i in "abc"]
    corrupted = samples(
        "imagenet-c",
        names,
        [True, True, False, False, False, False, True, True, True],
        corruption=("fog",) * 6 + ("snow",) * 3,
        severity=("1",) * 3 + ("5",) * 3 + ("1",) * 3,
        clean_id=tuple("abc") * 3,
    )
    found = {
        (f.metric, f.condition.dataset): f for f in corrupted_of(CLEAN, corrupted) if f.condition
    }
    assert {key: (round(f.value, 6), f.n) for key, f in found.items()} == {
        ("accuracy", "imagenet-c:fog@1"): (round(2 / 3, 6), 3),
        ("accuracy_drop", "imagenet-c:fog@1"): (round(1 / 3, 6), 3),
        ("accuracy", "imagenet-c:fog@5"): (0.0, 3),
        ("accuracy_drop", "imagenet-c:fog@5"): (1.0, 3),
        ("accuracy", "imagenet-c:snow@1"): (1.0, 3),
        ("accuracy_drop", "imagenet-c:snow@1"): (0.0, 3),
    }


def test_without_the_clean_pictures() -> None:
    corrupted = samples(
        "x", ["1", "2"], [True, False], corruption=("fog", "fog"), severity=("1", "1")
    )
    (figure,) = corrupted_of(CLEAN, corrupted)
    assert (figure.metric, figure.value) == ("accuracy", 0.5)


def test_columns_are_needed() -> None:
    with pytest.raises(ClipRobustError, match="has no column 'severity'"):
        corrupted_of(CLEAN, samples("x", ["1"], [True], corruption=("fog",)))

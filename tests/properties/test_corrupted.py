"""Pictures corrupted before: each condition apart, paired with the clean ones where these are there."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.samples import SampleArrays
from pytest_cliprobust.properties.corrupted import corrupted_of, means_over


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


# --- The mean --------------------------------------------------------------------------------------


def grid(right: dict[tuple[str, str, str], bool]) -> SampleArrays:
    """Return samples by corruption, severity and clean picture."""
    kinds, steps, pictures = zip(*right, strict=True)
    names = [f"{kind}/{step}/{picture}" for kind, step, picture in right]
    return samples(
        "cifar10-c",
        names,
        list(right.values()),
        corruption=kinds,
        severity=steps,
        clean_id=pictures,
    )


def test_the_mean_is_over_all_conditions_each_weighing_the_same() -> None:
    rng = np.random.default_rng(0)
    right = {
        (kind, step, picture): bool(rng.integers(2))
        for kind in ("snow", "fog")
        for step in ("10", "2")
        for picture in ("d", "b", "c", "none of clean")
    }
    right["fog", "2", "a"] = True  # under one condition alone
    found = {figure.metric: figure for figure in means_over(CLEAN, grid(right))}
    used = [ok for (_, _, picture), ok in right.items() if picture in "bcd"]
    mean = found["mean_corruption_accuracy"]
    assert mean.value == pytest.approx(np.mean(used))
    assert (mean.n, str(mean.condition)) == (3, "cifar10-c")
    assert list(mean.details["accuracies"]["fog"]) == ["2", "10"]
    fog = [right["fog", "10", picture] for picture in "bcd"]
    assert mean.details["accuracies"]["fog"]["10"] == pytest.approx(np.mean(fog))
    assert found["mean_corruption_drop"].value == pytest.approx(2 / 3 - np.mean(used))


def test_a_mean_needs_every_condition_and_clean_pictures_under_all() -> None:
    whole = {(k, s, p): True for k in ("fog", "snow") for s in ("1", "5") for p in "ab"}
    lacking = {key: ok for key, ok in whole.items() if key[:2] != ("snow", "5")}
    with pytest.raises(NotRun, match="takes each of them; missing are snow@5"):
        means_over(CLEAN, grid(lacking))
    with pytest.raises(NotRun, match="there is one at most"):
        means_over(CLEAN, grid({("fog", "1", picture): True for picture in "ab"}))
    with pytest.raises(NotRun, match="there is one at most"):
        means_over(CLEAN, grid({("fog", "low", "a"): True, ("fog", "high", "a"): True}))
    with pytest.raises(NotRun, match="give the clean ones that they were made of"):
        means_over(CLEAN, grid({key: ok for key, ok in whole.items() if key[2] == "a"}))
    with pytest.raises(NotRun, match="give the clean ones that they were made of"):
        means_over(samples("other", ["x", "y"], [True, True]), grid(whole))
    # LAION-C's are of none of the clean ones: more of these would not help.
    own = samples("laion-c", ["1", "2"], [True, True], corruption=("a", "b"), severity=("1", "1"))
    with pytest.raises(NotRun, match=r"nothing says which .*\(a column 'clean_id'\)$"):
        means_over(CLEAN, own)
    with pytest.raises(ClipRobustError, match="has no column 'severity'"):
        means_over(CLEAN, samples("x", ["1"], [True], corruption=("fog",)))

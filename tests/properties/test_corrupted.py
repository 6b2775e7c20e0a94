"""Pictures corrupted before: each condition apart, paired with the clean ones where these are there."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.change import change_between
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
    with pytest.raises(ClipRobustError, match="has no column 'severity'"):
        means_over(CLEAN, samples("x", ["1"], [True], corruption=("fog",)))


def test_two_conditions_of_two_pictures_have_a_mean() -> None:
    # Of one corruption, or of one severity; c is there under one of them only.
    for keys in ((("fog", "1"), ("fog", "3")), (("fog", "1"), ("snow", "1"))):
        right = dict.fromkeys(((*key, picture) for key in keys for picture in "ab"), True)
        right[(*keys[1], "b")] = False
        right[(*keys[0], "c")] = False
        found = {figure.metric: figure for figure in means_over(CLEAN, grid(right))}
        mean = found["mean_corruption_accuracy"]
        assert mean.value == pytest.approx(0.75)
        assert mean.n == 2
        shown = mean.details["accuracies"]
        assert [shown[kind][step] for kind, step in keys] == [1.0, 0.5]
        # Without word of the clean pictures all of them count.
        (every,) = means_over(CLEAN, of_nothing_clean(right))
        assert every.value == pytest.approx((2 / 3 + 1 / 2) / 2)
        assert every.n == 5


def of_nothing_clean(right: dict[tuple[str, str, str], bool]) -> SampleArrays:
    """Return samples by distortion, intensity and picture, as LAION-C has them: units are pictures."""
    kinds, steps, pictures = zip(*right, strict=True)
    rows = np.array([[1.0, 0.0] if ok else [0.0, 1.0] for ok in right.values()])
    ids = tuple("/".join(key) for key in right)
    return SampleArrays(
        Condition("laion-c"),
        ids,
        np.zeros(len(ids), dtype=np.int64),
        rows,
        groups={"corruption": kinds, "severity": steps},
        units=pictures,
    )


def test_the_mean_of_pictures_made_of_none_of_the_clean_ones() -> None:
    """Known: LAION-C's average accuracy, the plain mean of the thirty accuracies."""
    rng = np.random.default_rng(1)
    kinds = ("glitched", "mosaic", "stickers", "vertical_lines", "geometric_shapes", "checkers")
    right = {
        (kind, str(step), f"{picture}"): bool(rng.random() < 0.9 - 0.15 * step)
        for kind in kinds
        for step in range(1, 6)
        for picture in range(4 + step)  # conditions weigh the same, whatever their sizes
    }
    data = of_nothing_clean(right)
    (mean,) = means_over(CLEAN, data)
    accuracies = [
        [
            np.mean([ok for key, ok in right.items() if key[:2] == (kind, str(step))])
            for step in range(1, 6)
        ]
        for kind in kinds
    ]
    assert mean.metric == "mean_corruption_accuracy"
    assert mean.value == pytest.approx(np.mean(accuracies))
    assert mean.value != pytest.approx(np.mean(list(right.values())))
    assert (mean.n, mean.units, str(mean.condition)) == (len(right), 9, "laion-c")
    shown = mean.details["accuracies"]
    assert [list(shown[kind].values()) for kind in kinds] == [
        pytest.approx(row) for row in accuracies
    ]
    assert list(shown["mosaic"]) == ["1", "2", "3", "4", "5"]
    # Of the parts, each has the accuracy that the mean is over.
    parts = {str(f.condition): f.value for f in corrupted_of(CLEAN, data)}
    assert np.mean(list(parts.values())) == pytest.approx(mean.value)
    assert len(parts) == 30


def test_such_a_mean_rests_on_as_many_pictures_as_there_are() -> None:
    """A picture under thirty conditions is one draw: alike throughout, it is worth one answer."""
    keys = [(kind, step) for kind in "abcdef" for step in "12345"]
    right = {(*key, str(picture)): picture < 6 for key in keys for picture in range(8)}
    (mean,) = means_over(CLEAN, of_nothing_clean(right))
    assert mean.value == pytest.approx(0.75)
    assert mean.design_effect == pytest.approx(30 * 8 / 7, rel=0.01)  # variances of n - 1 each
    assert mean.high - mean.low > 0.5  # eight answers; Wilson's interval of 6 of 8 is 0.52 wide
    again = change_between(mean, mean)
    assert (again.difference, again.paired, again.n, again.units) == (0.0, True, 240, 8)


def test_such_a_mean_takes_every_condition() -> None:
    whole = {(k, s, p): True for k in ("fog", "snow") for s in ("1", "5") for p in "ab"}
    lacking = {key: ok for key, ok in whole.items() if key[:2] != ("snow", "5")}
    with pytest.raises(NotRun, match="takes each of them; missing are snow@5"):
        means_over(CLEAN, of_nothing_clean(lacking))
    with pytest.raises(NotRun, match="there is one at most"):
        means_over(CLEAN, of_nothing_clean({("fog", "1", picture): True for picture in "ab"}))

"""What collections of data sets are judged by, against scikit-learn and by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, jaccard_score

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.recipes import recipe_of
from pytest_cliprobust.figures.samples import Choice, SampleArrays, Task
from pytest_cliprobust.properties import tasks

CLASSES = 5
ANSWERS = st.lists(
    st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=40
)


def keyed(count: int) -> Bootstrap:
    ids = tuple(map(str, range(count)))
    return Bootstrap(keys=SampleKeys(ids, ids))


@given(ANSWERS)
def test_macro_f1_is_that_of_the_classes_with_samples(pairs: list[tuple[int, int]]) -> None:
    answers, labels = (np.array(side) for side in zip(*pairs, strict=True))
    known = np.unique(labels)
    expected = f1_score(labels, answers, labels=known, average="macro", zero_division=0)
    figure = tasks.macro_f1(answers, labels, CLASSES)
    assert figure.value == pytest.approx(expected, abs=1e-12)
    assert figure.n == len(pairs)
    if len(pairs) > 1:
        assert 0.0 <= figure.low <= figure.value <= figure.high <= 1.0


def test_macro_f1_counts_samples_as_often_as_they_are_drawn() -> None:
    draw = np.random.default_rng(1)
    answers, labels = draw.integers(0, CLASSES, (2, 60))
    figure = tasks.macro_f1(answers, labels, CLASSES, bootstrap=keyed(60))
    weights = draw.integers(0, 3, 60)
    assert figure.outcomes is not None
    found = figure.outcomes.at(weights[None].astype(float))[0]
    again = tasks.macro_f1(np.repeat(answers, weights), np.repeat(labels, weights), CLASSES)
    assert found == pytest.approx(again.value, abs=1e-12)
    assert recipe_of(figure) is not None
    # One right answer less, at a sample that was right.
    right = np.flatnonzero(answers == labels)[0]
    worse = answers.copy()
    worse[right] = (worse[right] + 1) % CLASSES
    later = tasks.macro_f1(worse, labels, CLASSES, bootstrap=keyed(60))
    change = change_between(later, figure)
    assert change.paired
    assert change.difference == pytest.approx(later.value - figure.value, abs=1e-9)
    metric = METRICS.named("macro_f1")
    assert not metric.gateable
    assert "bias" in metric.why_not_gateable


@pytest.mark.parametrize("labels", [[0, 5], [0]])
def test_macro_f1_of_other_classes_or_lengths_is_refused(labels: list[int]) -> None:
    with pytest.raises(ClipRobustError):
        tasks.macro_f1([0, 1], labels, CLASSES)


def test_the_jaccard_index_is_that_of_as_many_as_belong() -> None:
    draw = np.random.default_rng(2)
    sizes = (10, 12, 5)
    similar = [draw.normal(size=size) for size in sizes]
    belongs = [np.arange(size) % (2 + n) == 0 for n, size in enumerate(sizes)]
    expected = []
    for row, right in zip(similar, belongs, strict=True):
        chosen = np.isin(np.arange(len(row)), np.argsort(row)[-int(right.sum()) :])
        expected.append(jaccard_score(right, chosen))
    figure = tasks.jaccard_index(similar, belongs, bootstrap=keyed(3))
    assert figure.value == pytest.approx(np.mean(expected), abs=1e-12)
    # Of equal ones the later is chosen; where all belong, all are.
    assert tasks.jaccard_index([[0.5, 0.5, 0.1]], [[True, False, False]]).value == 0.0
    assert tasks.jaccard_index([[0.5, 0.5, 0.1]], [[False, True, False]]).value == 1.0
    assert tasks.jaccard_index([[0.5, 0.1]], [[True, True]]).value == 1.0
    # Two of three are chosen, of which one belongs: one of three.
    assert tasks.jaccard_index([[3.0, 2.0, 1.0]], [[True, False, True]]).value == pytest.approx(
        1 / 3
    )
    with pytest.raises(ClipRobustError, match="jaccard_index"):
        tasks.jaccard_index([[0.1, 0.2]], [[True, False, True]])
    with pytest.raises(ClipRobustError, match="jaccard_index"):
        tasks.jaccard_index([[0.1, 0.2]], [[True, False], [True, False]])
    assert tasks.jaccard_index([[0.1, 0.9]], [[False, True]]).value == 1.0
    assert tasks.jaccard_index([[0.9, 0.1]], [[False, True]]).value == 0.0
    for broken in ([], [[0.1, np.nan]]):
        with pytest.raises(ClipRobustError):
            tasks.jaccard_index(broken, [[True, False]] * len(broken))
    with pytest.raises(ClipRobustError, match="no picture that belongs"):
        tasks.jaccard_index([[0.1, 0.2]], [[False, False]])


def test_recall_both_ways_is_the_mean_of_both() -> None:
    images = np.eye(4)
    texts = images[[0, 0, 1, 2, 2, 3]] + 0.1
    texts[1] = images[3]
    owner = np.array([0, 0, 1, 2, 2, 3])
    figure = tasks.mean_recall(images, texts, owner, bootstrap=keyed(4))
    # The second text of image 0 is image 3's: as near to it as that one's own, which counts as a miss.
    assert figure.details["text_to_image"] == 5 / 6
    assert figure.details["image_to_text"] == 3 / 4
    assert figure.value == pytest.approx((5 / 6 + 3 / 4) / 2, abs=1e-12)
    assert recipe_of(figure) is not None


# --- Of samples ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answered(SampleArrays):
    """Samples that say what they are judged by."""

    task: Task = field(default_factory=Task)
    features: Any = None
    captions: tuple[tuple[str, ...], ...] = ()
    choices: tuple[tuple[Choice, ...], ...] = ()
    texts: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def text_features(self, texts: Sequence[str]) -> Any:
        return np.array([self.texts[text] for text in texts])


def answered(name: str, task: Task, count: int = 30, classes: int = 7) -> Answered:
    draw = np.random.default_rng(len(name))
    return Answered(
        Condition(name),
        tuple(f"{name}{n}" for n in range(count)),
        draw.integers(0, classes, count),
        draw.normal(size=(count, classes)),
        groups={"region": tuple(str(n % 3) for n in range(count))},
        task=task,
    )


def test_each_is_judged_by_its_own_metric() -> None:
    for metric, column, expected in (
        ("accuracy", "", lambda s: s.correct.mean()),
        ("balanced_accuracy", "", lambda s: _per_class(s)),
        ("worst_group_accuracy", "region", lambda s: _worst(s, s.correct)),
        ("worst_group_top5_accuracy", "region", lambda s: _worst(s, _among_five(s))),
        ("macro_f1", "", lambda s: _f1(s)),
    ):
        samples = answered("made", Task(metric, column, "pack", 9))
        figure = tasks.score_of(samples)
        assert figure.metric == metric
        assert figure.value == pytest.approx(expected(samples), abs=1e-12)
        assert figure.condition == samples.condition
        assert metric in METRICS
    few = answered("made", Task("worst_group_top5_accuracy", "region"), classes=4)
    assert tasks.score_of(few).value == 1.0
    with pytest.raises(NotRun, match="has no column 'country'"):
        tasks.score_of(answered("made", Task("worst_group_accuracy", "country")))
    with pytest.raises(ClipRobustError, match="no data set is judged by 'beauty'"):
        tasks.score_of(answered("made", Task("beauty")))


def _per_class(samples: Answered) -> float:
    known = np.unique(samples.labels)
    return float(np.mean([samples.correct[samples.labels == c].mean() for c in known]))


def _worst(samples: Answered, right: np.ndarray) -> float:
    column = np.array(samples.groups["region"])
    return float(min(right[column == value].mean() for value in set(column)))


def _among_five(samples: Answered) -> np.ndarray:
    best = np.argsort(-samples.logits, axis=1)[:, :5]
    return np.asarray((best == samples.labels[:, None]).any(axis=1))


def _f1(samples: Answered) -> float:
    answers, known = samples.logits.argmax(axis=1), np.unique(samples.labels)
    return float(f1_score(samples.labels, answers, labels=known, average="macro", zero_division=0))


def test_cues_that_are_cut_short_or_small_do_not_count() -> None:
    rows = [
        (cue, n) for cue, size in (("a", 10), ("b", 12), ("c", 5), ("d", 9)) for n in range(size)
    ]
    sizes = {"a": "10", "b": "12", "c": "5", "d": "12"}
    features = np.random.default_rng(3).normal(size=(len(rows), 4))
    samples = Answered(
        Condition("cues"),
        tuple(f"{cue}{n}" for cue, n in rows),
        np.full(len(rows), -1),
        np.zeros((len(rows), 1)),
        groups={
            "instance": tuple(cue for cue, _ in rows),
            "associated": tuple(str(int(n < 3)) for _, n in rows),
            "candidates": tuple(sizes[cue] for cue, _ in rows),
        },
        task=Task("jaccard_index", "", "pack", 3),
        features=features,
        captions=tuple((f"A {cue}",) for cue, _ in rows),
        texts={f"A {cue}": np.eye(4)[n] for n, cue in enumerate("abcd")},
    )
    figure = tasks.score_of(samples)
    assert figure.n == 2
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = []
    for start, size, place in ((0, 10, 0), (10, 12, 1)):
        best = set(np.argsort(unit[start : start + size, place])[-3:])
        expected.append(len(best & {0, 1, 2}) / len(best | {0, 1, 2}))
    assert figure.value == pytest.approx(np.mean(expected), abs=1e-12)
    assert figure.outcomes is not None
    assert figure.outcomes.keys is not None
    assert figure.outcomes.keys.ids == ("a", "b")
    # A cue that is cut short, or of another size than it says, is not there.
    groups = {**samples.groups, "candidates": tuple({**sizes, "a": "11"}[cue] for cue, _ in rows)}
    assert tasks.score_of(replace(samples, groups=groups)).n == 1
    groups["candidates"] = ("13",) * len(rows)
    with pytest.raises(NotRun, match="cues has no whole cue of 10 candidates; raise --clip-limit"):
        tasks.score_of(replace(samples, groups=groups))


def test_a_cue_is_known_by_the_content_of_its_pictures() -> None:
    cues = {"a": [2, 0], "b": [1, 3]}
    plain = SampleKeys(tuple("wxyz"), tuple("wxyz"))
    assert tasks._cue_keys(None, cues) is None
    assert tasks._cue_keys(plain, cues) == SampleKeys(("a", "b"), ("a", "b"), (), "cue")
    known = replace(plain, digests=("4", "3", "2", "1"))
    found = tasks._cue_keys(known, cues)
    assert found is not None
    assert found.digests == ("24", "13")  # in whatever order its pictures come


def test_pictures_and_captions_are_judged_both_ways() -> None:
    texts: dict[str, Sequence[float]] = {
        "a": [1, 0, 0],
        "b": [0, 1, 0],
        "c": [0, 0, 1],
        "d": [0, 1, 1],
    }
    samples = Answered(
        Condition("pairs"),
        ("i", "j", "k"),
        np.full(3, -1),
        np.zeros((3, 1)),
        task=Task("mean_recall_at_1"),
        features=np.array([[1.0, 0.1, 0.0], [0.0, 1.0, 0.1], [0.0, 0.6, 0.8]]),
        captions=(("a",), ("b", "c"), ("d",)),
        texts=texts,
    )
    figure = tasks.score_of(samples)
    assert (figure.metric, figure.n, figure.condition) == ("mean_recall_at_1", 3, samples.condition)
    # The second caption of j is nearer to k.
    assert figure.value == pytest.approx((1.0 + 3 / 4) / 2)


def test_the_mean_says_what_it_is_over() -> None:
    views = [
        answered("one", Task("accuracy", "", "pack", 38)),
        answered("other", Task("balanced_accuracy", "", "pack", 38), 50),
        answered("lacking", Task("worst_group_accuracy", "country", "pack", 38)),
        answered("beside", Task("accuracy")),
    ]
    (figure,) = tasks.means_over(views)
    parts = [tasks.score_of(view) for view in views[:2]]
    assert figure.value == pytest.approx(np.mean([part.value for part in parts]), abs=1e-12)
    low = figure.value - np.sqrt(sum((p.value - p.low) ** 2 for p in parts)) / 2
    high = figure.value + np.sqrt(sum((p.high - p.value) ** 2 for p in parts)) / 2
    assert (figure.low, figure.high) == pytest.approx((low, high), abs=1e-6)
    assert (figure.details["count"], figure.details["of"], figure.n) == (2, 38, 80)
    assert set(figure.details["tasks"]) == {"one", "other"}
    assert set(figure.details["not_run"]) == {"lacking"}
    assert "2 of 38 data sets" in figure.method
    assert figure.condition is not None
    assert figure.condition.dataset == "pack"
    shown = {str(p.condition): {"metric": p.metric, "value": p.value} for p in parts}
    assert figure.details["tasks"] == shown
    assert figure.details["not_run"] == {"lacking": "lacking has no column 'country' of groups"}
    assert figure.condition.over == tuple(view.condition for view in views[:2])
    assert (figure.units, figure.condition.limit) == (None, None)
    # At another level the squares of the parts' own widths there are added.
    wide = interval_at(figure, 0.99)
    reach = [interval_at(part, 0.99) for part in parts]
    low = (
        figure.value
        - np.sqrt(sum((p.value - r.low) ** 2 for p, r in zip(parts, reach, strict=True))) / 2
    )
    assert wide.low == pytest.approx(low, abs=1e-3)
    with pytest.raises(NotRun, match="none of the data sets"):
        tasks.means_over(views[3:])


def test_each_collection_has_a_mean_of_its_own() -> None:
    one, two = answered("one", Task("accuracy", "", "pack", 38)), answered("two", Task("accuracy"))
    cut = replace(two, condition=Condition("two", limit=30), task=Task("accuracy", "", "mine", 3))
    more = replace(one, condition=Condition("more"), task=Task("accuracy", "", "mine", 5))
    first, second = tasks.means_over([one, more, cut])
    assert [str(figure.condition) for figure in (first, second)] == ["pack", "mine"]
    assert (first.details["count"], first.details["of"]) == (1, 38)
    assert first.value == tasks.score_of(one).value
    assert (second.details["count"], second.details["of"], second.n) == (2, 5, 60)
    assert second.condition is not None
    assert second.condition.limit == 30

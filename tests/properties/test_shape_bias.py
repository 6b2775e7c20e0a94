"""Shape bias: names, decision mapping, and the ratio itself, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import keys_of, share_ends
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Floats, Ints
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.samples import SampleArrays
from pytest_cliprobust.properties import shape_bias as sb

NAMES = ["cat", "elephant", "clock"]


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("cat1-elephant3.png", ("cat", "elephant")),
        ("cue-conflict/cat/cat10-bird2.png", ("cat", "bird")),
        ("0001_cl_dnn_u_dog_00_dog10-bird2.png", ("dog", "bird")),
        ("C:\\data\\bear\\bear9-clock1.PNG", ("bear", "clock")),
        ("airplane1-airplane2", ("airplane", "airplane")),
    ],
)
def test_names_give_shape_and_texture(name: str, want: tuple[str, str]) -> None:
    assert sb.parse_cue_conflict_name(name) == want


@pytest.mark.parametrize(
    "name", ["cat.png", "cat-elephant.png", "1-2.png", "cat1-.png", "cat1-dog2.v2.png", ""]
)
def test_other_names_are_refused_by_name(name: str) -> None:
    with pytest.raises(ClipRobustError, match="shape and texture"):
        sb.parse_cue_conflict_name(name)


def test_probabilities_are_averaged_within_groups_not_summed() -> None:
    # Group 1 has more mass (0.55 against 0.45) but a lower mean, and the largest single class.
    probs = np.array([[0.45, 0.0, 0.5, 0.05, 0.0, 0.0]])
    assert sb.group_decisions(probs, [[0], [2, 3, 4]]).tolist() == [0]
    # The largest mean, not the largest single class.
    assert sb.group_decisions([[0.3, 0.3, 0.4, 0.0]], [[0, 1], [2, 3]]).tolist() == [0]
    # Classes of no group do not compete.
    assert sb.group_decisions([[0.1, 0.2, 0.7]], [[0], [1]]).tolist() == [1]


def test_one_class_to_a_group_is_the_arg_max() -> None:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(5), size=50)
    np.testing.assert_array_equal(
        sb.group_decisions(probs, [[i] for i in range(5)]), probs.argmax(1)
    )


def test_logits_and_bad_groups_are_refused() -> None:
    # Values above one and below zero, each without the other.
    for wrong in ([[1.5, 0.5]], [[-0.1, 0.6]]):
        with pytest.raises(ClipRobustError, match="softmax first"):
            sb.group_decisions(wrong, [[0], [1]])
    # A softmax may round to a whisker above one.
    assert sb.group_decisions([[1.0 + 1e-12, 0.0]], [[0], [1]]).tolist() == [0]
    with pytest.raises(ClipRobustError, match="group 1"):
        sb.group_decisions([[0.5, 0.5]], [[0], [2]])
    for members in ([], [-1], [1, -1, 0], [0, 2]):
        with pytest.raises(ClipRobustError, match="group 0"):
            sb.group_decisions([[0.5, 0.5]], [members, [1]])


def test_the_sixteen_classes_are_disjoint_groups_of_imagenet() -> None:
    groups = sb.ENTRY_LEVEL_CLASSES
    assert len(groups) == 16
    flat = [index for members in groups.values() for index in members]
    assert len(flat) == len(set(flat)) == 207
    assert min(flat) >= 0
    assert max(flat) < 1000
    sizes = {name: len(members) for name, members in groups.items()}
    assert (sizes["dog"], sizes["bird"], sizes["knife"], sizes["truck"]) == (109, 49, 1, 8)
    assert list(groups) == sorted(groups)
    # Sums of the published indices: one changed number shows.
    sums = {name: sum(members) for name, members in groups.items()}
    assert sums == {
        "airplane": 404,
        "bear": 1182,
        "bicycle": 1115,
        "bird": 4213,
        "boat": 3379,
        "bottle": 5502,
        "car": 1764,
        "cat": 1701,
        "chair": 2604,
        "clock": 1831,
        "dog": 22672,
        "elephant": 771,
        "keyboard": 1386,
        "knife": 499,
        "oven": 766,
        "truck": 5637,
    }


def test_shape_bias_by_hand() -> None:
    shapes = [0, 0, 0, 1, 1, 2, 2]
    textures = [1, 1, 2, 0, 2, 0, 2]  # the last one has no conflict
    decided = [0, 1, 1, 1, 0, 2, 2]  #  shape, texture, neither, shape, neither, shape, dropped
    figures = sb.shape_bias_figures(decided, shapes, textures, NAMES)
    bias = figures["shape_bias"]
    assert bias.value == 3 / 4
    assert bias.n == 4
    assert (bias.low, bias.high) == pytest.approx(share_ends(3, 4))
    assert bias.details["dropped_without_conflict"] == 1
    assert figures["cue_accuracy"].value == pytest.approx(4 / 6)
    assert figures["other_decisions"].value == pytest.approx(2 / 6)
    assert figures["other_decisions"].n == 6
    per_class = bias.details["per_class"]
    assert [entry["name"] for entry in per_class] == NAMES
    assert [entry["shape_bias"] for entry in per_class] == [0.5, 1.0, 1.0]
    assert bias.details["class_mean"] == pytest.approx(2.5 / 3)
    assert {key: bias.details[key] for key in ("shape", "texture", "neither")} == {
        "shape": 3,
        "texture": 1,
        "neither": 2,
    }
    counts = [(entry["class"], entry["shape"], entry["texture"]) for entry in per_class]
    assert counts == [(0, 1, 1), (1, 1, 0), (2, 1, 0)]
    assert [entry["n"] for entry in per_class] == [3, 2, 1]
    cue = figures["cue_accuracy"]
    assert (cue.low, cue.high) == pytest.approx(share_ends(4, 6))
    assert set(figures) <= set(METRICS)


def test_runs_are_compared_over_all_conflicts() -> None:
    rng = np.random.default_rng(1)
    shapes, textures = np.arange(60) % 3, (np.arange(60) + 1) % 3
    textures[:6] = shapes[:6]  # no conflict
    decided, later = rng.integers(3, size=(2, 60))
    keys = keys_of(60, np.arange(60) // 2)
    boot = Bootstrap(keys=keys)
    before, after = (
        sb.shape_bias_figures(own, shapes, textures, NAMES, bootstrap=boot)
        for own in (decided, later)
    )
    # Which images are decided for a cue depends on the model, so that runs differ in their number.
    assert before["shape_bias"].n != after["shape_bias"].n
    for name, figure in after.items():
        assert figure.outcomes is not None
        assert figure.outcomes.keys == keys.take(range(6, 60))
        assert figure.outcomes.value() == pytest.approx(figure.value)
        change = change_between(figure, before[name])
        assert (change.paired, change.n, change.units) == (True, 54, 27)
        assert change.difference == pytest.approx(figure.value - before[name].value)
    # The figure's own units are those of the images decided for a cue.
    rows = np.flatnonzero((later == shapes) | (later == textures))
    rows = rows[rows >= 6]
    assert after["shape_bias"].n == len(rows)
    assert after["shape_bias"].units == len(set(rows // 2))


def test_a_class_without_decisions_has_no_bias_of_its_own() -> None:
    details = sb.shape_bias_figures([0, 2, 0], [0, 1, 0], [1, 0, 2], NAMES)["shape_bias"].details
    assert [entry["shape_bias"] for entry in details["per_class"]] == [1.0, None]
    assert details["class_mean"] == 1.0


@pytest.mark.parametrize("column", range(3))
def test_indices_outside_the_classes_are_refused(column: int) -> None:
    columns = [[0, 1], [0, 1], [1, 0]]
    columns[column] = [0, 3]
    decided, shapes, textures = columns
    with pytest.raises(ClipRobustError, match="outside the label set of 3"):
        sb.shape_bias_figures(decided, shapes, textures, NAMES)


def test_images_without_conflict_change_nothing() -> None:
    shapes, textures, decided = [0, 1, 0], [1, 0, 2], [0, 0, 2]
    base = sb.shape_bias_figures(decided, shapes, textures, NAMES)["shape_bias"]
    more = sb.shape_bias_figures([*decided, 2, 2], [*shapes, 2, 2], [*textures, 2, 2], NAMES)[
        "shape_bias"
    ]
    assert (base.value, base.n) == (more.value, more.n)


def test_no_decision_for_either_cue_is_undefined_and_no_conflict_is_refused() -> None:
    figure = sb.shape_bias_figures([2], [0], [1], NAMES)["shape_bias"]
    assert math.isnan(figure.value)
    assert math.isnan(figure.low)
    assert figure.details["class_mean"] is None
    with pytest.raises(ClipRobustError, match="none of the 1 images has a cue conflict"):
        sb.shape_bias_figures([0], [1], [1], NAMES)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_swapping_the_cues_mirrors_the_bias(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = rng.integers(3, size=60)
    textures = (shapes + rng.integers(1, 3, size=60)) % 3
    decided = rng.integers(3, size=60)
    one = sb.shape_bias_figures(decided, shapes, textures, NAMES)
    two = sb.shape_bias_figures(decided, textures, shapes, NAMES)
    assert one["shape_bias"].value == pytest.approx(1 - two["shape_bias"].value)
    assert one["shape_bias"].low == pytest.approx(1 - two["shape_bias"].high)
    assert one["other_decisions"].value == two["other_decisions"].value
    order = rng.permutation(60)
    again = sb.shape_bias_figures(decided[order], shapes[order], textures[order], NAMES)
    assert again["shape_bias"].value == one["shape_bias"].value


def test_an_answer_that_names_no_class_is_for_neither() -> None:
    shapes, textures = [0, 0, 1, 1], [1, 1, 0, 0]
    figures = sb.shape_bias_figures([0, sb.NO_CLASS, 0, 2], shapes, textures, NAMES)
    assert figures["shape_bias"].value == 1 / 2
    assert figures["shape_bias"].n == 2
    assert figures["other_decisions"].value == 2 / 4
    details = figures["shape_bias"].details
    assert (details["neither"], details["no_class"]) == (2, 1)
    # Other numbers outside the classes are mistakes still.
    with pytest.raises(ClipRobustError, match="label -2 of sample 0"):
        sb.shape_bias_figures([-2, 0, 0, 0], shapes, textures, NAMES)


def test_answers_in_words() -> None:
    answers = ["cat", "A Cat.", "na", "the elephant", " CLOCK\n", "a cat or a clock", "", "an", "a"]
    found = sb.decisions_of(answers, NAMES)
    assert found.tolist() == [0, 0, -1, 1, 2, -1, -1, -1, -1]
    assert sb.decisions_of([], NAMES).shape == (0,)
    # Of classes with one name the first counts, as elsewhere.
    assert sb.decisions_of(["crane"], ["crane", "crane"]).tolist() == [0]


def test_people_are_as_published() -> None:
    people = sb.people_decided()
    assert list(people) == list(sb.ENTRY_LEVEL_CLASSES)
    # Ten people, 75 conflicts of each shape class.
    assert {p.shape + p.texture + p.neither for p in people.values()} == {750}
    shape, texture = (
        sum(getattr(p, what) for p in people.values()) for what in ("shape", "texture")
    )
    # The paper says 95.9%.
    assert round(shape / (shape + texture), 3) == 0.959
    assert people["knife"].shape_bias == 483 / 542
    assert sb.Decided(0, 0, 3).shape_bias is None


def conflicts(decided: Ints, name: str = "", ids: Ints | None = None) -> SampleArrays:
    """Return 24 conflicts of which three classes are decided as said, one drawing for each two."""
    count = 24
    chosen = np.arange(count) if ids is None else ids
    shapes, textures = chosen % 3, (chosen + 1) % 3
    logits: Floats = np.eye(3)[decided] * 5.0
    return SampleArrays(
        Condition("mine", (Step(name, 3),) if name else ()),
        tuple(f"c{i}" for i in chosen),
        shapes,
        logits,
        class_names=tuple(NAMES),
        groups={
            "shape_label": tuple(NAMES[i] for i in shapes),
            "texture_label": tuple(NAMES[i] for i in textures),
        },
        units=tuple(f"d{i // 2}" for i in chosen),
    )


def test_the_change_is_that_of_two_runs() -> None:
    rng = np.random.default_rng(4)
    one, two = rng.integers(3, size=(2, 24))
    clean, fog = conflicts(one), conflicts(two, "fog")
    change = sb.shape_bias_change(clean, fog)
    biases = [sb.shape_bias_of(view)["shape_bias"] for view in (clean, fog)]
    assert change.value == pytest.approx(biases[1].value - biases[0].value)
    assert (change.n, change.units) == (24, 12)
    assert change.condition == fog.condition
    assert change.details["trials_after"] == biases[1].n
    paired = change_between(biases[1], biases[0])
    assert paired.difference == pytest.approx(change.value)
    assert change.low < change.value < change.high
    assert sb.shape_bias_change(clean, conflicts(one, "fog")).value == 0.0
    assert "shape_bias_change" in METRICS
    # Only what both have counts, whatever its order.
    rows = np.arange(24)[::-1][:20]
    part = conflicts(two[rows], "fog", rows)
    assert sb.shape_bias_change(clean, part).n == 20
    same = conflicts(one[rows], "fog", rows)
    assert sb.shape_bias_change(clean, same).value == 0.0


@pytest.mark.parametrize("imagenet", [True, False])
def test_a_part_of_the_published_set_is_decided_among_all_sixteen(imagenet: bool) -> None:
    every = list(sb.ENTRY_LEVEL_CLASSES)
    names = tuple(f"n{i}" for i in range(1000)) if imagenet else tuple(every)
    member = {n: i[0] if imagenet else every.index(n) for n, i in sb.ENTRY_LEVEL_CLASSES.items()}
    # Of two conflicts of knife and oven the second looks most like an airplane, which neither shows.
    logits = np.zeros((2, len(names)))
    logits[0, member["knife"]] = logits[1, member["airplane"]] = 9.0
    logits[1, member["oven"]] = 8.0
    groups = {"shape_label": ("knife", "knife"), "texture_label": ("oven", "oven")}
    found = sb.shape_bias_of(
        SampleArrays(
            Condition("mine"),
            ("a", "b"),
            np.zeros(2, dtype=np.int64),
            logits,
            class_names=names,
            groups=groups,
        )
    )
    assert found["other_decisions"].value == 0.5
    assert (found["shape_bias"].value, found["shape_bias"].n) == (1.0, 1)
    (entry,) = found["shape_bias"].details["per_class"]
    assert (entry["name"], entry["n"]) == ("knife", 2)


def test_images_without_a_conflict_do_not_enter_the_change() -> None:
    def dropped(view: SampleArrays) -> SampleArrays:
        textures = (view.groups["shape_label"][0], *view.groups["texture_label"][1:])
        view.__dict__["groups"] = {**view.groups, "texture_label": textures}
        return view

    ones = np.arange(24) % 3  # all by shape
    found = sb.shape_bias_change(dropped(conflicts(ones)), dropped(conflicts(ones, "fog")))
    assert found.details["trials_before"] == 23


def test_prompts_have_each_their_shape_bias() -> None:
    rng = np.random.default_rng(5)
    answers = [rng.integers(3, size=24) for _ in range(3)]
    views = [(f"t{i}", conflicts(own)) for i, own in enumerate(answers)]
    mean, spread = sb.shape_bias_over_prompts(conflicts(answers[0]), views)
    biases = [sb.shape_bias_of(view)["shape_bias"] for _, view in views]
    values = [bias.value for bias in biases]
    assert mean.value == pytest.approx(np.mean(values))
    assert spread.value == pytest.approx(max(values) - min(values))
    assert mean.low <= mean.value <= mean.high
    assert (mean.n, mean.units) == (24, 12)
    table = mean.details["templates"]
    assert [(row["template"], row["shape_bias"], row["low"], row["n"]) for row in table] == [
        (name, bias.value, bias.low, bias.n) for (name, _), bias in zip(views, biases, strict=True)
    ]
    assert {mean.metric, spread.metric} <= set(METRICS)
    assert not METRICS[spread.metric].gateable
    # One template alone: its own shape bias, and no spread.
    alone, none = sb.shape_bias_over_prompts(conflicts(answers[0]), views[:1])
    assert [alone.value, none.value] == pytest.approx([values[0], 0.0])
    with pytest.raises(ClipRobustError, match="'t' answers other samples"):
        sb.shape_bias_over_prompts(
            conflicts(answers[0]), [("t", conflicts(answers[0][:20], ids=np.arange(20)))]
        )


@pytest.mark.slow
def test_the_change_holds_the_truth() -> None:
    """In at least 93 of 100 draws, where shape decisions become texture decisions, or none."""
    rng = np.random.default_rng(6)
    before, after = [0.6, 0.3, 0.1], [0.45, 0.35, 0.2]
    truth = 0.45 / 0.8 - 0.6 / 0.9
    held = 0
    draws, count = 300, 160
    for _ in range(draws):
        one, two = (rng.choice(3, p=p, size=count) for p in (before, after))
        columns = {
            "hits_before": one == 0,
            "trials_before": one < 2,
            "hits_after": two == 0,
            "trials_after": two < 2,
        }
        made = sb._change_figure(columns, Bootstrap(keys=keys_of(count)))
        held += made.low <= truth <= made.high
    assert held / draws >= 0.93

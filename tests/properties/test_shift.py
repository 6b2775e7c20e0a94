"""Natural shifts: drops by hand and by Newcombe's formula, lines against polyfit, the lines' own file."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from helpers import coverage, keys_of
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.bootstrap import Bootstrap, proportion_figure
from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.intervals import wilson
from pytest_cliprobust.figures.samples import SampleArrays
from pytest_cliprobust.properties import shift
from pytest_cliprobust.properties.factors import effective_robustness
from pytest_cliprobust.targets.fleet import fleet_names

FLEET = shift.Line(
    shift="mine",
    names=("mine",),
    classes=4,
    models=("a", "b", "c", "d"),
    inside=(0.5, 0.6, 0.7, 0.8),
    shifted=tuple(expit(1.2 * logit(x) - 0.7) for x in (0.5, 0.6, 0.7, 0.8)),
    source="made up",
)


def view(correct: list[bool], labels: list[int], dataset: str, classes: int = 4) -> SampleArrays:
    """Samples of which each is answered rightly, or with the class after its own."""
    truth = np.array(labels)
    answers = np.where(correct, truth, (truth + 1) % classes)
    ids = tuple(f"{dataset}{i}" for i in range(len(truth)))
    return SampleArrays(Condition(dataset), ids, truth, np.eye(classes)[answers])


def test_a_drop_is_over_the_classes_that_the_shift_has() -> None:
    clean = view([True, True, False, False, False], [0, 1, 0, 2, 3], "clean")
    # Classes 0 and 1 only: of those clean has two of three right.
    found = shift.shift_drop(clean, view([True, False, False], [0, 1, 1], "mine"))
    assert found.value == pytest.approx(2 / 3 - 1 / 3)
    assert found.n == 3
    assert found.details["clean_n"] == 3
    assert found.details["classes"] == 2
    assert found.condition == Condition("mine")
    with pytest.raises(ClipRobustError, match="share no class"):
        shift.shift_drop(clean, view([True], [-1], "mine"))
    with pytest.raises(ClipRobustError, match="5 classes that are not those of clean"):
        shift.shift_drop(clean, view([True], [0], "mine", classes=5))


@dataclass(frozen=True)
class Restricted(SampleArrays):
    """Samples under a head of some classes of clean only."""

    head_rows: tuple[int, ...] = ()


def test_under_a_restricted_head_clean_is_answered_by_the_same() -> None:
    names = ("a", "b", "c", "d")
    scores = np.array([[3.0, 1.0, 2.0, 0.0], [0.0, 1.0, 2.0, 3.0], [5.0, 1.0, 2.0, 0.0]])
    clean = SampleArrays(
        Condition("clean"), ("x", "y", "z"), np.array([0, 2, 3]), scores, class_names=names
    )
    shifted = Restricted(
        Condition("mine"),
        ("u", "v"),
        np.array([0, 1]),
        np.array([[1.0, 0.0], [1.0, 0.0]]),
        class_names=("a", "c"),
        head_rows=(0, 2),
    )
    found = shift.shift_drop(clean, shifted)
    # Among all four y is taken for d; among a and c it is right, and z has no class of the shift.
    assert found.details["clean_accuracy"] == 1.0
    assert found.details["clean_n"] == 2
    assert found.value == pytest.approx(0.5)
    with pytest.raises(ClipRobustError, match="2 classes that are not those of clean"):
        shift.shift_drop(clean, replace(shifted, head_rows=(0, 1)))


@dataclass(frozen=True)
class Several(Restricted):
    """The same with further classes that are right."""

    further_labels: tuple[tuple[int, ...], ...] = ()


def test_clean_samples_of_every_class_that_is_right_are_compared_with() -> None:
    names = ("a", "b", "c")
    clean = SampleArrays(
        Condition("clean"), ("x", "y", "z"), np.arange(3), np.eye(3), class_names=names
    )
    shifted = Several(
        Condition("mine"),
        ("u", "v"),
        np.array([0, 0]),
        np.eye(3)[:2],
        class_names=names,
        head_rows=(0, 1, 2),
        further_labels=((2,), ()),
    )
    found = shift.shift_drop(clean, shifted)
    assert (found.details["clean_n"], found.details["classes"]) == (2, 2)
    plain = shift.shift_drop(clean, replace(shifted, further_labels=()))
    assert (plain.details["clean_n"], plain.details["classes"]) == (1, 1)


def test_a_line_is_found_by_the_name_or_by_the_layout() -> None:
    line = replace(FLEET, names=("imagenet-r",))
    for name in ("imagenet-r", "imagenet-r:mine", "imagefolder:ImageNet-R"):
        assert line.is_for(name), name
    assert not line.is_for("imagefolder:mine")


def test_the_interval_is_newcombes() -> None:
    """Method 10 of Newcombe (1998): 56/70 against 48/80, whose published interval is 0.0524 to 0.3339."""
    figure = shift.shift_drop_figure(np.arange(70) < 56, np.arange(80) < 48, bootstrap=Bootstrap())
    assert figure.value == pytest.approx(0.2)
    assert (figure.low, figure.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    first, second = wilson(56, 70), wilson(48, 80)
    assert figure.low == pytest.approx(0.2 - np.hypot(0.8 - first.low, second.high - 0.6))
    assert figure.high == pytest.approx(0.2 + np.hypot(first.high - 0.8, 0.6 - second.low))


def test_a_drop_has_the_design_effects_of_both_sides_by_their_variances() -> None:
    """Clean samples in pairs that are always alike, and shifted ones each of a unit of its own."""
    clean, shifted = np.repeat(np.arange(40) < 30, 2), np.arange(60) < 30
    units = [*(f"c{i // 2}" for i in range(80)), *(f"s{i}" for i in range(60))]
    settings = Bootstrap(keys=keys_of(140, units))
    figure = shift.shift_drop_figure(clean, shifted, bootstrap=settings)
    apart = [
        proportion_figure("accuracy", answers, settings.subset(np.arange(first, last)))
        for answers, first, last in ((clean, 0, 80), (shifted, 80, 140))
    ]
    effects = [part.design_effect for part in apart]
    assert effects[0] > 1.9
    assert effects[1] == pytest.approx(1.0, abs=0.02)
    variances = np.array([0.75 * 0.25 / 80, 0.5 * 0.5 / 60])
    assert figure.design_effect == pytest.approx(float(variances @ effects / variances.sum()))
    assert (figure.n, figure.details["clean_n"]) == (60, 80)
    assert figure.details["clean_accuracy"] == 0.75
    # Without any variance the larger one counts.
    whole = shift.shift_drop_figure(clean | True, shifted | True, bootstrap=settings)
    assert whole.design_effect == pytest.approx(2.0)


@pytest.mark.slow
def test_drops_hold_the_truth() -> None:
    def ends(rng: np.random.Generator) -> tuple[float, float]:
        # Four scenes of a drawing, right or wrong together in half of the cases.
        answers = []
        for share, units in ((0.85, 40), (0.6, 30)):
            whole, own = rng.random(units) < share, rng.random((units, 4)) < share
            answers.append(np.where(rng.random((units, 4)) < 0.5, whole[:, None], own).ravel())
        keys = keys_of(160, np.arange(160) // 4).beside(keys_of(120, np.arange(120) // 4))
        figure = shift.shift_drop_figure(*answers, bootstrap=Bootstrap(keys=keys))
        return figure.low, figure.high

    assert coverage(ends, 0.25, 400, 3) > 0.925


def test_a_change_of_the_drop_is_paired() -> None:
    rng = np.random.default_rng(2)
    clean, shifted = rng.random(200) < 0.8, rng.random(100) < 0.5
    boot = Bootstrap(keys=keys_of(200).beside(keys_of(100)))
    before = shift.shift_drop_figure(clean, shifted, bootstrap=boot)
    worse = shifted.copy()
    worse[np.flatnonzero(shifted)[:8]] = False
    after = shift.shift_drop_figure(clean, worse, bootstrap=boot)
    change = change_between(after, before)
    assert change.paired
    assert change.difference == pytest.approx(0.08)
    assert 0.0 < change.interval(0.95).low < 0.08 < change.interval(0.95).high < 0.2
    assert before.outcomes is not None
    assert before.outcomes.value() == pytest.approx(before.value)
    same = change_between(before, before)
    assert same.difference == 0.0


def test_effective_robustness_is_that_of_the_arrays() -> None:
    rng = np.random.default_rng(1)
    labels = (np.arange(120) % 4).tolist()
    clean = view((rng.random(120) < 0.7).tolist(), labels, "clean")
    shifted = view((rng.random(60) < 0.5).tolist(), labels[:60], "mine")
    found = shift.effective_robustness_of(clean, shifted, FLEET)
    want = effective_robustness(
        clean.correct,
        shifted.correct,
        FLEET.inside,
        FLEET.shifted,
        bootstrap=Bootstrap(keys=clean.keys.beside(shifted.keys)),
    )
    assert (found.value, found.low, found.high) == (want.value, want.low, want.high)
    predicted = expit(1.2 * logit(clean.correct.mean()) - 0.7)
    assert found.value == pytest.approx(shifted.correct.mean() - predicted)
    assert found.details["source"] == "made up"
    assert found.details["extrapolated"] is False
    good = view([True] * 119 + [False], labels, "clean")
    beyond = shift.effective_robustness_of(good, shifted, replace(FLEET, note="bent"))
    assert beyond.details["extrapolated"] is True
    assert beyond.details["note"] == "bent"


@pytest.mark.parametrize("right", [True, False])
def test_without_an_error_on_few_clean_samples_there_is_no_effective_robustness(
    right: bool,
) -> None:
    clean = view([right] * 6 + [not right], [0, 1, 2, 0, 1, 2, 3], "clean")
    # The one other answer is of a class that the shift has not.
    shifted = view([True, False, True], [0, 1, 2], "mine")
    words = rf"on mine: .* 6 clean samples .* is {right:d} exactly, .*--clip-limit"
    with pytest.raises(NotRun, match=words):
        shift.effective_robustness_of(clean, shifted, FLEET)


def test_a_line_is_found_by_the_name_of_the_data() -> None:
    for name in (
        "imagenet-v2",
        "imagefolder:ImageNetV2-matched-frequency",
        "imagenetv2:imagenet-v2",
    ):
        assert shift.line_for(name, 1000).shift == "imagenet-v2"
    assert shift.line_for("imagefolder:imagenet-r", 1000).shift == "imagenet-r"
    assert shift.line_for("imagenet_a:imagenet-a", 1000).shift == "imagenet-a"
    assert shift.line_for("clipart", 134).shift == "clipart"
    with pytest.raises(
        NotRun, match=r"^no reference line for cartoons: effective robustness needs"
    ):
        shift.line_for("cartoons", 134)
    with pytest.raises(NotRun, match="is for 1,000 classes, and clean has 134"):
        shift.line_for("imagenet-v2", 134)
    with pytest.raises(NotRun, match="no reference line for mine"):
        shift.line_for("mine", 4, (replace(FLEET, models=("a", "b")),))


def test_the_shipped_points_are_those_of_their_source() -> None:
    lines = {line.shift: line for line in shift.load_lines()}
    own = lines.pop("clipart")
    assert set(lines) == {"imagenet-v2", "imagenet-sketch", "imagenet-r", "imagenet-a", "objectnet"}
    for line in lines.values():
        assert (
            len(line.models) == len(set(line.models)) == len(line.inside) == len(line.shifted) > 40
        )
        assert "Taori et al. 2020" in line.source
        x, y = logit(line.inside), logit(line.shifted)
        slope, _intercept = np.polyfit(x, y, 1)
        assert slope > 0.5
        # Models without special robustness lie on a line; most of all those of ImageNet-V2.
        assert np.corrcoef(x, y)[0, 1] > (0.99 if line.shift == "imagenet-v2" else 0.85)
    point = dict(zip(lines["imagenet-v2"].models, lines["imagenet-v2"].shifted, strict=True))
    assert point["resnet50"] == pytest.approx(0.6327, abs=0.002)
    # The embedded benchmark's is the fleet's, of one training distribution.
    assert set(own.models) < set(fleet_names())
    assert not {"fleet:inked-styles", "fleet:finetuned"} & set(own.models)
    assert np.corrcoef(logit(own.inside), logit(own.shifted))[0, 1] > 0.85


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "lines.toml"
    text = (
        '[[line]]\nshift = "clipart"\nnames = ["clipart"]\nclasses = 134\nsource = "the fleet"\n'
        'points = [["a", 80.0, 40.0], ["b", 70.0, 30.0], ["c", 60.0, 20.0]]\n'
    )
    path.write_text(text)
    (line,) = shift.load_lines(path)
    assert line.inside == (0.8, 0.7, 0.6)
    assert shift.line_for("clipart", 134, (line,)) == line
    # The first that is for the data set counts, as it stands in the file.
    other = replace(line, names=("other",))
    again = replace(line, note="later")
    assert shift.line_for("clipart", 134, (other, line, again)) == line
    for number, (old, new, words) in enumerate(
        [
            ("80.0", "100.0", "point 'a' does not lie between 0 and 100%"),
            ("source", "sauce", "KeyError: 'source'"),
            ("[[line]]", "[[line]", "TOMLDecodeError"),
            ('["a", 80.0, 40.0]', '["a", 80.0]', "not enough values"),
        ]
    ):
        wrong = tmp_path / f"wrong{number}.toml"
        wrong.write_text(text.replace(old, new))
        with pytest.raises(ClipRobustError, match=words) as caught:
            shift.load_lines(wrong)
        assert "\n" not in str(caught.value)
    with pytest.raises(ClipRobustError, match=r"cannot read reference lines 'none\.toml'"):
        shift.load_lines(tmp_path / "none.toml")
    pointless = tmp_path / "pointless.toml"
    pointless.write_text(re.sub(r"points = .*", "points = []", text))
    (line,) = shift.load_lines(pointless)
    assert (line.models, line.inside, line.shifted, line.source) == ((), (), (), "the fleet")
    path.with_name("empty.toml").write_text("")
    assert shift.load_lines(path.with_name("empty.toml")) == ()


@given(
    st.lists(st.booleans(), min_size=1, max_size=12),
    st.lists(st.booleans(), min_size=1, max_size=12),
)
def test_any_answers_have_an_interval(clean: list[bool], shifted: list[bool]) -> None:
    figure = shift.shift_drop_figure(np.array(clean), np.array(shifted), bootstrap=Bootstrap())
    assert -1.0 <= figure.low <= figure.value <= figure.high <= 1.0
    assert figure.high - figure.low > 0.2  # a dozen samples know little

"""Functions on samples under a condition: the functions on arrays, of the right rows, filed rightly."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.samples import SampleArrays, shared
from pytest_cliprobust.perturbations.typographic import distractors
from pytest_cliprobust.properties import accuracy, calibration, corruption, labels, ood, shape_bias
from pytest_cliprobust.properties.typographic import (
    attack_success,
    label_over_word,
    written_success,
)

IDS = tuple(f"image{i}" for i in range(30))
# Two scenes of each drawing, so that whole drawings are resampled.
UNITS = tuple(f"drawing{i // 2}" for i in range(30))
KEYS = SampleKeys(IDS, UNITS)


def view(
    seed: int, perturbation: str = "", severity: int | None = None, *, dataset: str = "clean"
) -> SampleArrays:
    """Thirty samples of four classes."""
    rng = np.random.default_rng(seed)
    truth = np.arange(30) % 4
    logits = rng.normal(size=(30, 4)) + 1.5 * np.eye(4)[truth]
    steps = (Step(perturbation, severity),) if perturbation else ()
    condition = Condition(dataset, steps)
    return SampleArrays(
        condition, IDS, truth, logits, cosines=np.tanh(logits / 9), units=UNITS, seed=7
    )


def part(samples: SampleArrays, rows: list[int]) -> SampleArrays:
    return replace(
        samples,
        ids=tuple(samples.ids[row] for row in rows),
        units=tuple(samples.units[row] for row in rows),
        labels=samples.labels[rows],
        logits=samples.logits[rows],
        cosines=samples.cosines[rows],
    )


def same(figure: Figure, want: Figure, condition: Condition) -> None:
    """Check a figure to the last replicate, and where it is filed."""
    assert figure.condition == condition
    assert figure == want.measured_on(condition)
    assert figure.replicates == want.replicates
    # A view knows its classes' names, arrays do not.
    assert {k: v for k, v in figure.details.items() if k != "answers"} == want.details
    assert (figure.outcomes is None) == (want.outcomes is None)
    if figure.outcomes is not None and want.outcomes is not None:
        assert figure.outcomes.keys == want.outcomes.keys
        assert figure.outcomes.value() == want.outcomes.value()


def test_figures_of_one_view() -> None:
    one = view(0, "fog", 3)
    boot = Bootstrap(seed=7, keys=KEYS)
    assert one.bootstrap == boot
    want = accuracy.accuracy_figure(one.correct, bootstrap=boot)
    same(accuracy.accuracy_of(one), want, one.condition)
    want = calibration.temperature_figure(one.logits, one.labels, IDS, bootstrap=boot)[1]
    same(calibration.temperature_of(one), want, one.condition)
    names = ["0", "1", "2", "3"]
    want = labels.swapped_labels_figure(one.logits, one.labels, names, level=0.5)
    same(labels.swapped_labels(one, level=0.5), want, one.condition)
    assert labels.swapped_labels(one).details["level"] == labels.LEVEL


def test_calibration_of_a_view_refuses_what_the_temperature_was_fitted_on() -> None:
    one = replace(view(0), probability="sigmoid")
    plain = calibration.calibration_of(one, bins=5)
    want = calibration.calibration_figures(
        one.logits, one.labels, probability="sigmoid", bins=5, bootstrap=one.bootstrap
    )
    assert list(plain) == list(want)
    for name, figure in plain.items():
        same(figure, want[name], one.condition)
    fitted = calibration.fit_temperature(one.logits, one.labels, ["image3"])
    with pytest.raises(ClipRobustError, match="image3"):
        calibration.calibration_of(one, fitted)
    scaled = calibration.calibration_of(part(one, [0, 1, 2]), fitted)
    assert scaled["nll_scaled"].n == 3


@dataclass(frozen=True)
class Filed(SampleArrays):
    """Samples whose content is known."""

    digests: tuple[str, ...] = ()

    @property
    def keys(self) -> SampleKeys:
        return SampleKeys(self.ids, self.units, self.digests)


def test_pictures_of_one_name_in_two_folders_are_not_the_same() -> None:
    """``cat/1.jpg`` of the calibration split is not that of what is evaluated."""
    one = view(0)

    def filed(digest: str) -> Filed:
        digests = tuple(f"{digest}{row}" for row in range(30))
        return Filed(one.condition, IDS, one.labels, one.logits, digests=digests)

    fitted = calibration.fitted_temperature(filed("a"))
    assert calibration.calibration_of(filed("b"), fitted)["nll_scaled"].n == 30
    with pytest.raises(ClipRobustError, match=r"30 samples \(such as 'image0'\)"):
        calibration.calibration_of(filed("a"), fitted)
    by_name = calibration.fit_temperature(one.logits, one.labels, IDS)
    with pytest.raises(ClipRobustError, match=r"30 samples \(such as 'image0'\)"):
        calibration.calibration_of(filed("a"), by_name)


def test_drops_are_over_the_samples_that_both_views_have() -> None:
    clean, fog = view(0), view(1, "fog", 3)
    want = accuracy.accuracy_drop_figure(clean.correct, fog.correct, bootstrap=clean.bootstrap)
    same(accuracy.accuracy_drop(clean, fog), want, fog.condition)
    # In another order, and with some missing on either side.
    first, second = part(clean, [4, 3, 2, 1]), part(fog, [5, 1, 3, 4])
    rows = [4, 3, 1]
    boot = Bootstrap(seed=7, keys=KEYS.take(rows))
    want = accuracy.accuracy_drop_figure(clean.correct[rows], fog.correct[rows], bootstrap=boot)
    got = accuracy.accuracy_drop(first, second)
    same(got, want, fog.condition)
    assert (got.n, got.units) == (3, 3)
    with pytest.raises(ClipRobustError, match="no sample in common"):
        accuracy.accuracy_drop(part(clean, [0]), part(fog, [1]))


def test_grids_are_sorted_by_severity_and_complete() -> None:
    clean = view(0)
    views = [view(s, name, s % 10) for name, s in (("a", 13), ("a", 11), ("b", 21), ("b", 23))]
    grid = np.stack(
        [
            np.stack([views[1].correct, views[0].correct]),
            np.stack([views[2].correct, views[3].correct]),
        ]
    )
    want = corruption.corruption_figures(
        clean.correct, grid, ["a", "b"], [1, 3], bootstrap=clean.bootstrap
    )
    got = corruption.corruption_of(clean, views, name="all_mine")
    for name, figure in got.items():
        assert figure.condition is not None
        assert (figure.condition.perturbation, figure.condition.severity) == ("all_mine", None)
        assert figure.condition.over == tuple(v.condition for v in views)
        same(figure, want[name], figure.condition)
    assert list(got) == list(want)
    alone = corruption.corruption_of(clean, views[:2])["mean_corruption_accuracy"]
    assert alone.condition is not None
    assert alone.condition.perturbation == "a@1+3"
    with pytest.raises(ClipRobustError, match="once at each severity; b@3"):
        corruption.corruption_of(clean, views[:3], name="all_mine")
    with pytest.raises(ClipRobustError, match="some stand there twice"):
        corruption.corruption_of(clean, [*views, views[0]], name="all_mine")
    with pytest.raises(ClipRobustError, match="needs severities"):
        corruption.corruption_of(clean, [view(1, "fog")])
    with pytest.raises(ClipRobustError, match="needs a name"):
        corruption.corruption_of(clean, views)


def test_detection_is_over_both_data_sets() -> None:
    inside, outside = view(0), view(1, dataset="far")
    # Samples and drawings of the same names are others in another data set.
    keys = SampleKeys(
        tuple(f"{side}/{name}" for side in ("in", "out") for name in IDS),
        tuple(f"{side}/{name}" for side in ("in", "out") for name in UNITS),
    )
    boot = Bootstrap(seed=7, keys=keys)
    got = ood.detection(inside, outside)
    assert {(figure.n, figure.units) for figure in got.values()} == {(60, 30)}
    condition = replace(outside.condition, over=(inside.condition, outside.condition))
    scores = {
        "mcm": (ood.mcm(inside.cosines), ood.mcm(outside.cosines)),
        "msp": (ood.msp(inside.logits), ood.msp(outside.logits)),
        "max_logit": (ood.max_logit(inside.logits), ood.max_logit(outside.logits)),
        "energy": (ood.energy(inside.logits), ood.energy(outside.logits)),
    }
    assert len(got) == 4 * len(scores)
    for name, (first, second) in scores.items():
        for metric, want in ood.detection_figures(first, second, name, bootstrap=boot).items():
            same(got[metric], want, condition)
    assert len(ood.detection(inside, outside, ["energy"])) == 4
    with pytest.raises(ClipRobustError, match=r"unknown OOD score 'enrgy'.*energy"):
        ood.detection(inside, outside, ["energy", "enrgy"])


def test_shape_bias_finds_its_classes_by_name() -> None:
    one = view(0, dataset="cues")
    names = ("bird", "cat", "dog", "owl")
    shapes = tuple(["dog", "owl", "cat"][i % 3] for i in range(30))
    textures = tuple(["owl", "cat", "dog"][i % 3] for i in range(30))
    groups = {"shape_label": shapes, "texture_label": textures}
    cues = replace(one, class_names=names, groups=groups)
    order = ["cat", "dog", "owl"]
    want = shape_bias.shape_bias_figures(
        one.logits[:, 1:].argmax(axis=1),
        [order.index(name) for name in shapes],
        [order.index(name) for name in textures],
        order,
        bootstrap=one.bootstrap,
    )
    for name, figure in shape_bias.shape_bias_of(cues).items():
        same(figure, want[name], one.condition)
    with pytest.raises(ClipRobustError, match="'owl' is no class of the label set"):
        shape_bias.shape_bias_of(replace(cues, class_names=("bird", "cat", "dog", "hen")))
    for column in groups:
        other = {name: values for name, values in groups.items() if name != column}
        with pytest.raises(ClipRobustError, match=f"'cues' has no column '{column}'"):
            shape_bias.shape_bias_of(replace(cues, groups=other))


def test_imagenets_entry_level_classes_stand_for_its_thousand() -> None:
    names = tuple(f"n{i}" for i in range(1000))
    assert shape_bias._members("knife", names) == [499]
    assert shape_bias._members("n7", names) == [7]
    for name, classes in (("knife", names[:999]), ("spoon", names)):
        with pytest.raises(ClipRobustError, match=f"'{name}' is no class"):
            shape_bias._members(name, classes)


def test_an_attack_succeeds_where_the_written_class_is_chosen() -> None:
    clean, written = view(0), view(1, "typographic", 3)
    words = np.array(distractors(IDS, list(written.labels), ["0", "1", "2", "3"], 7))
    rows = list(range(29, 4, -1))
    figure = attack_success(clean, part(written, rows))
    assert figure.value == np.mean(written.logits.argmax(axis=1)[rows] == words[rows])
    without = np.mean(clean.logits.argmax(axis=1)[rows] == words[rows])
    assert figure.details["without_writing"] == without
    assert (figure.n, figure.condition) == (25, written.condition)
    assert figure.outcomes is not None
    assert figure.outcomes.keys == KEYS.take(rows)
    assert figure.units == 13


def test_what_is_written_on_pictures_already() -> None:
    logits = np.eye(4)[[1, 2, 0, 1, 3]]
    names = ("crane", "crane", "dog", "cat")
    column = ("crane", "dog", "crane", "cat", "")
    written = SampleArrays(
        Condition("scam"),
        tuple("abcde"),
        np.array([2, 0, 2, 0, 1]),
        logits,
        class_names=names,
        groups={"written_label": column},
    )
    figure = written_success(written)
    # Either crane will do; the last picture has no writing on it.
    assert (figure.value, figure.n, figure.condition) == (0.75, 4, Condition("scam"))
    with pytest.raises(NotRun, match="scam does not say which class's name is written"):
        written_success(replace(written, groups={}))
    wrong = replace(written, groups={"written_label": ("dgo", *column[1:])})
    with pytest.raises(ClipRobustError, match=r"'dgo' is written .* Did you mean 'dog'"):
        written_success(wrong)


def test_the_class_against_the_word_on_the_picture() -> None:
    """The nearer of two texts, whatever third is nearer still; by hand."""
    cosines = np.array([[0.3, 0.2, 0.9], [0.1, 0.2, 0.0], [0.3, 0.2, 0.1], [0.5, 0.5, 0.1]])
    names = ("ball", "car", "car")
    samples = SampleArrays(
        Condition("scam"),
        tuple("abcd"),
        np.array([0, 0, -1, 0]),
        100 * cosines,
        cosines=cosines,
        class_names=names,
        groups={"written_label": ("car", "", "car", "car")},
    )
    # Of the two cars the nearer counts (a); b has no word and c no label; a tie loses (d).
    figure = label_over_word(samples)
    assert (figure.value, figure.n, figure.metric) == (0.0, 2, "caption_choice_accuracy")
    other = replace(samples, class_names=("ball", "car", "cup"))
    figure = label_over_word(other)
    assert (figure.value, figure.n, figure.condition) == (0.5, 2, Condition("scam"))
    assert figure.details["chance"] == 0.5
    with pytest.raises(NotRun, match="no picture with a label and a name written on it"):
        label_over_word(replace(other, labels=np.full(4, -1)))
    with pytest.raises(NotRun, match="does not say which class's name"):
        label_over_word(replace(other, groups={}))


def test_a_perturbed_reference_is_named() -> None:
    clean, mild, strong = view(0), view(1, "fog", 4), view(2, "fog", 5)
    usual = accuracy.accuracy_drop(clean, strong).condition
    assert usual == strong.condition
    other = accuracy.accuracy_drop(mild, strong).condition
    assert other is not None
    assert (other.perturbation, other.severity) == ("fog@5-from-fog@4", None)
    assert other.over == (mild.condition, strong.condition)
    swapped = accuracy.accuracy_drop(strong, clean).condition
    assert swapped is not None
    assert swapped.perturbation == "clean-from-fog@5"


def test_samples_in_common_keep_their_units() -> None:
    clean, fog = view(0), view(1, "fog", 3)
    every = shared(clean, fog)
    assert (every.ids, every.bootstrap) == (IDS, clean.bootstrap)
    assert [rows.tolist() for rows in every.rows] == [list(range(30))] * 2
    few = shared(part(clean, [5, 4, 0, 9]), part(fog, [0, 9, 5]))
    assert few.ids == ("image5", "image0", "image9")
    assert [rows.tolist() for rows in few.rows] == [[0, 2, 3], [2, 0, 1]]
    assert few.bootstrap == Bootstrap(seed=7, keys=KEYS.take([5, 0, 9]))
    # In another order they are the same samples, in the order of the first.
    turned = shared(part(fog, list(range(29, -1, -1))), clean)
    assert turned.ids == IDS[::-1]
    assert turned.bootstrap.keys == KEYS.take(range(29, -1, -1))
    alone = replace(clean, units=())
    assert alone.units == alone.ids
    assert not alone.bootstrap.clustered


def test_figures_of_views_of_two_runs_are_paired() -> None:
    """Two models on the same samples, of which the later run has fewer and in another order."""
    rows = [*range(29, 3, -1)]
    runs = [(view(0), view(1, "fog", 3)), (part(view(2), rows), part(view(3, "fog", 3), rows))]
    made = []
    for clean, fog in runs:
        outside = view(9, dataset="far")
        made.append(
            {
                "accuracy": accuracy.accuracy_of(clean),
                "accuracy_drop": accuracy.accuracy_drop(clean, fog),
                **calibration.calibration_of(clean),
                **ood.detection(clean, outside, ["mcm"]),
                **corruption.corruption_of(clean, [fog], name="all_some"),
            }
        )
    for name, figure in made[1].items():
        change = change_between(figure, made[0][name])
        if name == "classwise_ece":
            assert change.why_not == "this figure has no outcomes by sample"
            continue
        # Of the OOD samples both have all thirty.
        more, units = (30, 15) if name.endswith("_mcm") else (0, 0)
        assert (change.n, change.units) == (26 + more, 13 + units)
        assert change.paired
        assert change.after == pytest.approx(figure.value)
        low, high = change.interval(0.95).low, change.interval(0.95).high
        assert low <= change.difference <= high
    own = accuracy.accuracy_of(part(view(0), rows))
    assert change_between(made[1]["accuracy"], made[0]["accuracy"]).before == own.value


@pytest.mark.parametrize("label", [-1, 4])
def test_samples_without_a_class_have_no_accuracy(label: int) -> None:
    """Their answers are neither right nor wrong: to count them as wrong would be a figure of nothing."""
    samples = view(0, dataset="near_ood")
    labels = samples.labels.copy()
    labels[[5, 9]] = label
    outside = replace(samples, labels=labels)
    words = f"near_ood: 2 of 30 samples have a label outside the 4 classes \\(first: {label} of "
    with pytest.raises(ClipRobustError, match=words):
        accuracy.accuracy_of(outside)
    with pytest.raises(ClipRobustError, match=words):
        accuracy.accuracy_drop(samples, outside)

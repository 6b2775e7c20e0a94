"""What the order of the samples changes: nothing, for every metric that can be gated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import made_up
import numpy as np
import pytest
from made_up import CLASSES, COUNT, NAMES, Figures, Seen, flat

from pytest_cliprobust.figures.arrays import Ints
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.samples import Choice
from pytest_cliprobust.properties import (
    accuracy,
    calibration,
    captions,
    compositional,
    correspondence,
    corrupted,
    corruption,
    factors,
    frontier,
    groups,
    labels,
    multimodal,
    ood,
    prompts,
    retrieval,
    scaling,
    selective,
    shape_bias,
    shift,
    tasks,
    typographic,
    unlabelled,
)

pytestmark = pytest.mark.slow

#: Before any test has registered one of its own.
GATEABLE = {m.name for m in METRICS.values() if m.gateable or m.change_gateable}

#: Gateable, but not of samples that could come in another order.
OF_NO_SAMPLES = {
    "relative_throughput": "of passes of the clock",
    "relative_latency": "of passes of the clock",
    "relative_peak_memory": "of a process",
    "worst_case_drop": "of the answers under a search, as accuracy_drop is of answers",
}

#: Fits end where a library ends them, and sums round by the order of what is added.
CLOSE = {"rel": 1e-6, "abs": 1e-7}


@dataclass(frozen=True)
class Order:
    """Rows of samples in some order."""

    rows: Ints

    def of(self, samples: Seen) -> Seen:
        """Return samples in this order."""
        order = self.rows % len(samples.ids)
        taken = list(dict.fromkeys(order.tolist()))

        def rows(column: Any) -> Any:
            return tuple(column[r] for r in taken) if isinstance(column, tuple) else column[taken]

        names = ("ids", "labels", "logits", "cosines", "units", "features")
        columns: dict[str, Any] = {name: rows(getattr(samples, name)) for name in names}
        columns["groups"] = {name: rows(column) for name, column in samples.groups.items()}
        if isinstance(samples, Told):
            columns["captions"] = rows(samples.captions)
        return replace(samples, **columns)

    def pick(self, count: int) -> Ints:
        """Return this order of the first ``count`` rows."""
        return self.rows[self.rows < count]


@dataclass(frozen=True)
class Told(Seen):
    """Samples with two captions each."""

    captions: tuple[tuple[str, ...], ...] = ()
    choices: tuple[tuple[Choice, ...], ...] = ()
    texts: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def text_features(self, texts: Any) -> Any:
        return np.stack([self.texts.get(text, self.texts[""]) for text in texts])


def told(run: int) -> Told:
    rng = np.random.default_rng([run, 40])
    seen = made_up.samples(run)
    said = tuple((f"a photo of number {i}", f"picture {i} of many") for i in range(COUNT))
    texts = {
        text: seen.features[row] + 0.25 * rng.normal(size=10)
        for row, pair in enumerate(said)
        for text in pair
    }
    texts[""] = rng.normal(size=10)
    own = {name: getattr(seen, name) for name in seen.__dataclass_fields__}
    return Told(**own, captions=said, texts=texts)


def by_views(run: int, order: Order) -> list[Figures]:
    """Return figures of samples in some order, as views have them."""

    def samples(*args: Any, **kwargs: Any) -> Seen:
        return order.of(made_up.samples(*args, **kwargs))

    clean, fog, apart = samples(run), samples(run, 1.0), samples(run, 0.2, first=COUNT)
    far = samples(run, 1.6, dataset="far", first=COUNT)
    sketch = samples(run, 0.8, dataset="sketch", first=COUNT)
    fitted = calibration.fit_temperature(apart.logits, apart.labels, apart.ids)
    boot, style = clean.bootstrap, clean.groups["style"]
    grid = np.stack([[samples(run, s).correct for s in row] for row in ((0.3, 0.9), (0.6, 1.5))])
    singles = [("a {}", samples(run, 0.4)), ("the {}", samples(run, 0.9))]
    words = ("mcm", "msp", "max_logit", "energy", "knn", "mahalanobis", "neglabel", "gl_mcm")
    scores = {word: ood.SCORES.get(word, lambda s: ood.mcm(s.cosines)) for word in words}
    scores |= ood.bank_scores(samples(run, first=2 * COUNT))
    five = accuracy.correct_top_k(clean.logits, clean.labels, 5)
    strengths = np.array([0.0, 0.2, 0.5, 0.7, 1.0])
    right = np.stack([clean.correct, *(samples(run, 2.2 * s).correct for s in strengths)], axis=1)
    spoken = order.of(told(run))
    assert isinstance(spoken, Told)
    line = shift.Line(
        shift="sketch",
        names=("sketch",),
        classes=CLASSES,
        models=("a", "b", "c", "d"),
        inside=(0.5, 0.62, 0.74, 0.9),
        shifted=(0.4, 0.45, 0.6, 0.72),
        source="made up",
    )
    return [
        accuracy.accuracy_of(clean),
        accuracy.accuracy_figure(five, "top5_accuracy", bootstrap=boot),
        accuracy.accuracy_drop(clean, fog),
        accuracy.relative_drop_figure(clean.correct, fog.correct, bootstrap=boot),
        accuracy.balanced_accuracy(clean.logits, clean.labels, bootstrap=boot),
        accuracy.worst_group_accuracy(clean.correct, style, bootstrap=boot),
        accuracy.worst_group_accuracy(five, style, "worst_group_top5_accuracy", bootstrap=boot),
        list(
            accuracy.mean_corruption_error(
                {"a": grid[0], "b": grid[1]},
                {"a": 0.5, "b": 0.6},
                baseline="b",
                clean=clean.correct,
                baseline_clean_error=0.2,
                bootstrap=boot,
            ).values()
        ),
        corrupted.corrupted_of(clean, fog),
        corruption.corruption_figures(clean.correct, grid, ["a", "b"], [1, 3], bootstrap=boot),
        groups.accuracy_over(clean, "style"),
        groups.calibration_over(clean, "style"),
        groups.shape_bias_over(clean, "style"),
        groups.retrieval_over(spoken, "style"),
        groups.detection_over(clean, far, "style", scores),
        factors.factors_of(clean, clean),
        factors.intervention_figures(clean.correct, fog.correct, bootstrap=boot),
        labels.swapped_labels(clean),
        calibration.calibration_of(fog, fitted, bins=9),
        calibration.calibration_of(replace(clean, probability="sigmoid")),
        calibration.temperature_of(apart),
        selective.selective_of(clean),
        selective.abstention_of(fog, apart),
        selective.conformal_of(clean, apart, target=0.8),
        scaling.few_samples_of(clean, apart, few=30, draws=7),
        ood.detection(clean, far, scores),
        ood.full_spectrum([clean, fog], far, ["energy"]),
        shape_bias.shape_bias_of(clean),
        shape_bias.shape_bias_change(clean, fog),
        shape_bias.shape_bias_over_prompts(clean, singles),
        prompts.prompts_of(clean, singles),
        typographic.written_success(clean),
        typographic.attack_success(clean, fog),
        shift.shift_drop(clean, sketch),
        shift.effective_robustness_of(clean, sketch, line),
        unlabelled.perturbed_of(clean, fog, k=5),
        unlabelled.between_models(samples(run + 7), clean, k=5),
        frontier.frontier_strength_figure(strengths, right, None, {}, boot),
        frontier.frontier_strength_figure(strengths, right, 0.1, {}, boot),
        retrieval.retrieval_figures(*retrieval.captions_of(spoken), bootstrap=boot),
        tasks.mean_recall(*retrieval.captions_of(spoken), bootstrap=boot),
        tasks.macro_f1(clean.logits.argmax(axis=1), clean.labels, CLASSES, bootstrap=boot),
        captions.caption_drop(spoken, "caption_typos"),
    ]


def by_arrays(run: int, order: Order) -> list[Figures]:
    """Return figures whose samples are pairs, choices or questions."""
    rng = np.random.default_rng([run, 8])
    choices = [
        np.array([0.5, 0.1, 0.2][: 2 + i % 2]) + 0.4 * rng.normal(size=2 + i % 2) for i in range(70)
    ]
    similarities = np.eye(2) * 0.4 + rng.normal(size=(90, 2, 2))
    errors = [rng.exponential(40, size=(5 + i % 4)) for i in range(80)]
    angles, parts = rng.uniform(0, 120, size=80), np.arange(80) % 5
    shown, words = rng.normal(size=(40, 2, 2)), rng.integers(0, 3, size=(40, 2))
    cues = rng.normal(size=(50, 6))
    seen = made_up.samples(run, 1.0)
    true, other = seen.labels[:40], (seen.labels[:40] + 1 + np.arange(40) % 2) % CLASSES

    def drawn(count: int) -> Bootstrap:
        rows = order.pick(count)
        keys = SampleKeys(tuple(f"image{i}" for i in rows), tuple(f"drawing{i // 2}" for i in rows))
        return Bootstrap(seed=3, keys=keys)

    pairs, few = order.pick(80), order.pick(40)
    own = [errors[row] for row in pairs]
    cents = [e / 20 for e in own]
    hard = multimodal.HardChoices(np.arange(40), true[few], other[few], (4,), (5,))
    answers = multimodal.ChoiceAnswers(
        (shown + np.array([0.4, 0.0]))[few],
        words[few],
        tuple((f"a {i}", f"b {i}") for i in few),
        {"model": "made up"},
    )
    boot = drawn(80)
    return [
        compositional.choice_figure([choices[i] for i in order.pick(70)], bootstrap=drawn(70)),
        compositional.matching_figures(similarities[order.pick(90)], bootstrap=drawn(90)),
        correspondence.recall_figures(own, angles[pairs], bootstrap=boot),
        correspondence.recall_figures(own, pixels=(10.0, 20.0), bootstrap=boot),
        correspondence.recall_in_space_figures(cents, angles[pairs], bootstrap=boot),
        correspondence.recall_in_space_figures(cents, centimetres=(10.0, 20.0), bootstrap=boot),
        correspondence.pck_figures([e / 300 for e in own], parts[pairs], bootstrap=boot),
        multimodal.multimodal_figures(
            hard, answers, seen.correct[:40][few], NAMES, bootstrap=drawn(40)
        ),
        tasks.jaccard_index(
            list(cues[order.pick(50)]), [np.arange(6) < 2] * 50, bootstrap=drawn(50)
        ),
    ]


def figures_of(run: int, order: Order) -> list[Figure]:
    return flat(by_views(run, order) + by_arrays(run, order))


IN_ORDER = Order(np.arange(COUNT))


@pytest.fixture(scope="module")
def plain() -> list[tuple[Figure, Figure]]:
    """Return the figures of two runs, of samples as they stand."""
    return list(zip(figures_of(0, IN_ORDER), figures_of(1, IN_ORDER), strict=True))


def told_numbers(first: Figure, second: Figure) -> Iterator[float]:
    """Yield all that is judged: figure, interval at two levels, change and its interval."""
    change = change_between(second, first)
    ends, wide = change.interval(0.95), interval_at(second, 0.999)
    yield from (second.value, second.low, second.high, wide.low, wide.high, second.design_effect)
    yield from (
        change.difference,
        ends.low,
        ends.high,
        change.p_beyond(0.01),
        change.standard_error,
    )


def test_every_gateable_metric_is_asked(plain: list[tuple[Figure, Figure]]) -> None:
    seen = {METRICS.named(first.metric).name for first, _ in plain}
    assert GATEABLE - seen == set(OF_NO_SAMPLES)


def test_figures_intervals_and_changes_do_not_depend_on_the_order_of_samples(
    plain: list[tuple[Figure, Figure]],
) -> None:
    # The second run's in another order than the first's, too.
    mixed = [Order(np.random.default_rng([1, run]).permutation(COUNT)) for run in (0, 1)]
    shuffled = [figures_of(run, order) for run, order in enumerate(mixed)]
    moved = []
    for one, first, second in zip(plain, *shuffled, strict=True):
        assert one[0].metric == first.metric == second.metric
        now, then = list(told_numbers(first, second)), list(told_numbers(*one))
        if now != pytest.approx(then, nan_ok=True, **CLOSE):
            moved.append((first.metric, now, then))
    assert moved == []

"""Made-up samples of two runs, the figures of every property of them, and how records are compared.

One battery: `test_recorded.py` holds its figures against a record, `test_order.py` against those of the same
samples in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from pytest_cliprobust.figures.arrays import Ints
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.figure import Figure, json_number
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.samples import Choice, SampleArrays
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

COUNT, CLASSES = 240, 6
NAMES = ("bird", "cat", "dog", "owl", "fish", "boat")
Figures = Figure | Mapping[str, Any] | Sequence[Figure]


@dataclass(frozen=True)
class Seen(SampleArrays):
    """Samples with features."""

    features: Any = field(default_factory=lambda: np.empty((0, 0)), repr=False)


def samples(run: int, strength: float = 0.0, *, dataset: str = "clean", first: int = 0) -> Seen:
    """Return what the model of a run makes of samples: the same ones in every run, two of each drawing."""
    rng = np.random.default_rng(5 + first)  # what both runs share
    own = np.random.default_rng([run, first, round(10 * strength), len(dataset)])
    truth = (np.arange(COUNT) + first) % CLASSES
    eye = np.eye(CLASSES)[truth]
    noise = 0.8 * rng.normal(size=(COUNT, CLASSES)) + 0.6 * own.normal(size=(COUNT, CLASSES))
    logits = (2.0 + 0.3 * run - strength) * eye + noise
    features = np.concatenate((logits, 0.3 * own.normal(size=(COUNT, 4))), axis=1)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    steps = (Step("fog", 3),) if strength else ()
    numbers = range(first, first + COUNT)
    return Seen(
        Condition(dataset, steps),
        tuple(f"image{i}" for i in numbers),
        truth,
        1.7 * logits,
        cosines=np.tanh(logits / 9),
        class_names=NAMES,
        groups={
            "style": tuple("abc"[i // 2 % 3] if i < first + 220 else "rare" for i in numbers),
            "factor": tuple(
                ("pose", "style", "", "prototype", "darker")[i // 2 % 5] for i in numbers
            ),
            "shape_label": tuple(NAMES[label] for label in truth),
            "texture_label": tuple(
                NAMES[(label + 1 + i % 2) % CLASSES] for i, label in enumerate(truth)
            ),
            "corruption": tuple(("mist", "grain")[i // 2 % 2] for i in numbers),
            "severity": tuple(str(1 + i // 4 % 2) for i in numbers),
            "clean_id": tuple(f"image{i}" if i % 4 else "" for i in numbers),
            "written_label": tuple(NAMES[(i + 2) % CLASSES] if i % 3 else "" for i in numbers),
        },
        units=tuple(f"drawing{i // 2}" for i in numbers),
        seed=3,
        features=features,
    )


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
    seen = samples(run)
    said = tuple((f"a photo of number {i}", f"picture {i} of many") for i in range(COUNT))
    texts = {
        text: seen.features[row] + 0.25 * rng.normal(size=10)
        for row, pair in enumerate(said)
        for text in pair
    }
    texts[""] = rng.normal(size=10)
    own = {name: getattr(seen, name) for name in seen.__dataclass_fields__}
    return Told(**own, captions=said, texts=texts)


IN_ORDER = Order(np.arange(COUNT))


def seen(
    run: int, order: Order, strength: float = 0.0, *, dataset: str = "clean", first: int = 0
) -> Seen:
    """Return :func:`samples` in an order."""
    return order.of(samples(run, strength, dataset=dataset, first=first))


def accuracies(run: int, order: Order = IN_ORDER) -> list[Figures]:
    clean, fog = seen(run, order), seen(run, order, 1.0)
    boot, style = clean.bootstrap, clean.groups["style"]
    grid = np.stack(
        [[seen(run, order, s).correct for s in row] for row in ((0.3, 0.9), (0.6, 1.5))]
    )
    five = accuracy.correct_top_k(clean.logits, clean.labels, 5)
    errors = accuracy.mean_corruption_error(
        {"a": grid[0], "b": grid[1]},
        {"a": 0.5, "b": 0.6},
        baseline="b",
        clean=clean.correct,
        baseline_clean_error=0.2,
        bootstrap=boot,
    )
    return [
        accuracy.accuracy_of(clean),
        accuracy.accuracy_drop(clean, fog),
        accuracy.relative_drop_figure(clean.correct, fog.correct, bootstrap=boot),
        accuracy.accuracy_by_group(clean.correct, style, bootstrap=boot),
        corrupted.corrupted_of(clean, fog),
        corruption.corruption_figures(clean.correct, grid, ["a", "b"], [1, 3], bootstrap=boot),
        groups.accuracy_over(clean, "style"),
        groups.calibration_over(clean, "style"),
        factors.factors_of(clean, clean),
        factors.intervention_figures(clean.correct, fog.correct, bootstrap=boot),
        labels.swapped_labels(clean),
        accuracy.accuracy_figure(five, "top5_accuracy", bootstrap=boot),
        accuracy.balanced_accuracy(clean.logits, clean.labels, bootstrap=boot),
        accuracy.worst_group_accuracy(clean.correct, style, bootstrap=boot),
        accuracy.worst_group_accuracy(five, style, "worst_group_top5_accuracy", bootstrap=boot),
        list(errors.values()),
        tasks.macro_f1(clean.logits.argmax(axis=1), clean.labels, CLASSES, bootstrap=boot),
    ]


def calibrations(run: int, order: Order = IN_ORDER) -> list[Figures]:
    clean, fog = seen(run, order), seen(run, order, 1.0)
    apart = seen(run, order, 0.2, first=COUNT)
    fitted = calibration.fit_temperature(apart.logits, apart.labels, apart.ids)
    return [
        calibration.calibration_of(fog, fitted, bins=9),
        calibration.calibration_of(replace(clean, probability="sigmoid")),
        calibration.temperature_of(apart),
        selective.selective_of(clean),
        selective.abstention_of(fog, apart),
        selective.conformal_of(clean, apart, target=0.8),
        scaling.few_samples_of(clean, apart, few=30, draws=7),
        scaling.label_sets_of(clean, apart),
    ]


def detections(run: int, order: Order = IN_ORDER) -> list[Figures]:
    clean, fog = seen(run, order), seen(run, order, 0.6)
    far = seen(run, order, 1.6, dataset="far", first=COUNT)
    bank = seen(run, order, first=2 * COUNT)
    near = ood.mcm(samples(run, 1.9, first=3 * COUNT).cosines)
    plain, away = samples(run), samples(run, 1.6, dataset="far", first=COUNT)
    scores = ood.bank_scores(bank)
    words = ("mcm", "msp", "max_logit", "energy", "knn", "mahalanobis", "neglabel", "gl_mcm")
    every = {word: ood.SCORES.get(word, lambda s: ood.mcm(s.cosines)) for word in words}
    return [
        ood.detection(clean, far),
        ood.full_spectrum([clean, fog], far, ["energy"]),
        ood.detection(clean, far, scores),
        # Of arrays that do not say whose they are: as they stand.
        ood.detection_by_set(
            ood.mcm(plain.cosines), {"far": ood.mcm(away.cosines), "near": near}, "mcm"
        ),
        ood.detection(clean, far, every | scores),
        groups.detection_over(clean, far, "style", every | scores),
    ]


def biases(run: int, order: Order = IN_ORDER) -> list[Figures]:
    cues, fog = seen(run, order), seen(run, order, 1.0)
    singles = [
        (f"a {word} of a {{}}", seen(run, order, s)) for word, s in (("photo", 0.4), ("toy", 0.9))
    ]
    line = shift.Line(
        shift="sketch",
        names=("sketch",),
        classes=CLASSES,
        models=("a", "b", "c", "d"),
        inside=(0.5, 0.62, 0.74, 0.9),
        shifted=(0.4, 0.45, 0.6, 0.72),
        source="made up",
    )
    sketch = seen(run, order, 0.8, dataset="sketch", first=COUNT)
    return [
        shape_bias.shape_bias_of(cues),
        shape_bias.shape_bias_change(cues, fog),
        shape_bias.shape_bias_over_prompts(cues, singles),
        prompts.prompts_of(cues, singles),
        typographic.written_success(cues),
        typographic.attack_success(cues, fog),
        shift.shift_drop(cues, sketch),
        shift.effective_robustness_of(cues, sketch, line),
        unlabelled.perturbed_of(cues, fog, k=5),
        unlabelled.between_models(seen(run + 7, order), cues, k=5),
        groups.shape_bias_over(cues, "style"),
    ]


def matches(run: int, order: Order = IN_ORDER) -> list[Figures]:
    rng = np.random.default_rng([run, 8])
    plain, images, fog = samples(run), seen(run, order), samples(run, 1.0)
    texts = plain.features[::2] + 0.25 * rng.normal(size=(COUNT // 2, 10))
    similarities = np.eye(2) * 0.4 + rng.normal(size=(90, 2, 2))
    choices = [
        np.array([0.5, 0.1, 0.2][: 2 + i % 2]) + 0.4 * rng.normal(size=2 + i % 2) for i in range(70)
    ]
    errors = [rng.exponential(40, size=(5 + i % 4)) for i in range(80)]
    angles, parts = rng.uniform(0, 120, size=80), np.arange(80) % 5
    strengths = np.array([0.0, 0.2, 0.5, 0.7, 1.0])
    correct = np.stack(
        [images.correct, *(seen(run, order, 2.2 * s).correct for s in strengths)], axis=1
    )
    true = plain.labels[:40]
    other = (true + 1 + np.arange(40) % 2) % CLASSES
    likelihoods = rng.normal(size=(40, 2, 2)) + np.array([0.4, 0.0])
    words = rng.integers(0, 3, size=(40, 2))
    cues = rng.normal(size=(50, 6))
    few, pairs = order.pick(40), order.pick(80)
    hard = multimodal.HardChoices(np.arange(40), true[few], other[few], (4,), (5,))
    answers = multimodal.ChoiceAnswers(
        likelihoods[few], words[few], tuple((f"a {i}", f"b {i}") for i in few), {"model": "made up"}
    )
    own, boot = [errors[row] for row in pairs], drawn(order, 80)
    cents = [e / 20 for e in own]
    spoken = order.of(told(run))
    assert isinstance(spoken, Told)
    return [
        # Of arrays that do not say whose they are: as they stand.
        retrieval.retrieval_figures(plain.features[::2], texts, np.arange(COUNT // 2)),
        retrieval.retrieval_figures(
            plain.features[:80],
            np.concatenate((texts[:40], texts[40:] + 0.3)),
            np.concatenate((np.arange(0, 80, 2), np.arange(80))),
            at=(1, 10),
            bootstrap=drawn(IN_ORDER, 80),
        ),
        compositional.choice_figure(
            [choices[i] for i in order.pick(70)], bootstrap=drawn(order, 70)
        ),
        compositional.matching_figures(similarities),
        correspondence.recall_figures(own, angles[pairs], bootstrap=boot),
        correspondence.recall_in_space_figures(cents, angles[pairs], bootstrap=boot),
        correspondence.pck_figures([e / 300 for e in own], parts[pairs], bootstrap=boot),
        frontier.frontier_strength_figure(strengths, correct, None, {"seen": 1}, images.bootstrap),
        frontier.frontier_strength_figure(strengths, correct, 0.1, {}, images.bootstrap),
        multimodal.multimodal_figures(
            hard, answers, fog.correct[:40][few], NAMES, bootstrap=drawn(order, 40)
        ),
        compositional.matching_figures(similarities[order.pick(90)], bootstrap=drawn(order, 90)),
        correspondence.recall_figures(own, pixels=(10.0, 20.0), bootstrap=boot),
        correspondence.recall_in_space_figures(cents, centimetres=(10.0, 20.0), bootstrap=boot),
        tasks.jaccard_index(
            list(cues[order.pick(50)]), [np.arange(6) < 2] * 50, bootstrap=drawn(order, 50)
        ),
        retrieval.retrieval_figures(*retrieval.captions_of(spoken), bootstrap=spoken.bootstrap),
        tasks.mean_recall(*retrieval.captions_of(spoken), bootstrap=spoken.bootstrap),
        groups.retrieval_over(spoken, "style"),
        captions.caption_drop(spoken, "caption_typos"),
    ]


def drawn(order: Order, count: int) -> Bootstrap:
    """Return settings for samples in an order, of which every two are of one drawing."""
    rows = order.pick(count)
    ids = tuple(f"image{i}" for i in rows)
    return Bootstrap(seed=3, keys=SampleKeys(ids, tuple(f"drawing{i // 2}" for i in rows)))


PARTS: dict[str, Callable[..., list[Figures]]] = {
    f.__name__: f for f in (accuracies, calibrations, detections, biases, matches)
}


def flat(figures: list[Figures]) -> list[Figure]:
    """Return all figures, from lists and from tables of tables."""
    found: list[Figure] = []
    for some in figures:
        if isinstance(some, Figure):
            found.append(some)
        else:
            found += flat(list(some.values() if isinstance(some, Mapping) else some))
    return found


def rounded(data: Any) -> Any:
    """Return JSON-able data with numbers of nine digits."""
    if isinstance(data, Mapping):
        return {str(name): rounded(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [rounded(value) for value in data]
    if isinstance(data, float):
        return json_number(float(f"{data:.9g}"))
    return data


def same(now: Any, then: Any, where: str) -> None:
    """Check that two pieces of JSON agree, numbers to five digits: fits end where a library ends them."""
    if isinstance(then, dict):
        assert list(now) == list(then), where
        for name in then:
            same(now[name], then[name], f"{where} {name}")
    elif isinstance(then, list):
        assert len(now) == len(then), where
        for number, (one, other) in enumerate(zip(now, then, strict=True)):
            same(one, other, f"{where}[{number}]")
    elif isinstance(then, float):
        assert now == pytest.approx(then, rel=1e-5, abs=1e-6), where
    else:
        assert now == then, where

"""Made-up samples of two runs, the figures of every property of them, and how records are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.figure import Figure, json_number
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.samples import SampleArrays
from pytest_cliprobust.properties import (
    accuracy,
    calibration,
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


def accuracies(run: int) -> list[Figures]:
    clean, fog = samples(run), samples(run, 1.0)
    boot, style = clean.bootstrap, clean.groups["style"]
    grid = np.stack([[samples(run, s).correct for s in row] for row in ((0.3, 0.9), (0.6, 1.5))])
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
    ]


def calibrations(run: int) -> list[Figures]:
    clean, fog, apart = samples(run), samples(run, 1.0), samples(run, 0.2, first=COUNT)
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


def detections(run: int) -> list[Figures]:
    clean, fog, far = samples(run), samples(run, 0.6), samples(run, 1.6, dataset="far", first=COUNT)
    bank = samples(run, first=2 * COUNT)
    near = ood.mcm(samples(run, 1.9, first=3 * COUNT).cosines)
    scores = ood.bank_scores(bank)
    return [
        ood.detection(clean, far),
        ood.full_spectrum([clean, fog], far, ["energy"]),
        ood.detection(clean, far, scores),
        ood.detection_by_set(
            ood.mcm(clean.cosines), {"far": ood.mcm(far.cosines), "near": near}, "mcm"
        ),
    ]


def biases(run: int) -> list[Figures]:
    cues, fog = samples(run), samples(run, 1.0)
    singles = [
        (f"a {word} of a {{}}", samples(run, s)) for word, s in (("photo", 0.4), ("toy", 0.9))
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
    sketch = samples(run, 0.8, dataset="sketch", first=COUNT)
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
        unlabelled.between_models(samples(run + 7), cues, k=5),
    ]


def drawn(count: int) -> Bootstrap:
    """Return settings for samples of which every two are of one drawing."""
    ids = tuple(f"image{i}" for i in range(count))
    return Bootstrap(seed=3, keys=SampleKeys(ids, tuple(f"drawing{i // 2}" for i in range(count))))


def matches(run: int) -> list[Figures]:
    rng = np.random.default_rng([run, 8])
    images, fog = samples(run), samples(run, 1.0)
    texts = images.features[::2] + 0.25 * rng.normal(size=(COUNT // 2, 10))
    similarities = np.eye(2) * 0.4 + rng.normal(size=(90, 2, 2))
    choices = [
        np.array([0.5, 0.1, 0.2][: 2 + i % 2]) + 0.4 * rng.normal(size=2 + i % 2) for i in range(70)
    ]
    errors = [rng.exponential(40, size=(5 + i % 4)) for i in range(80)]
    angles = rng.uniform(0, 120, size=80)
    boot = drawn(80)
    strengths = np.array([0.0, 0.2, 0.5, 0.7, 1.0])
    correct = np.stack(
        [images.correct, *(samples(run, 2.2 * s).correct for s in strengths)], axis=1
    )
    true = images.labels[:40]
    other = (true + 1 + np.arange(40) % 2) % CLASSES
    hard = multimodal.HardChoices(np.arange(40), true, other, (4,), (5,))
    answers = multimodal.ChoiceAnswers(
        rng.normal(size=(40, 2, 2)) + np.array([0.4, 0.0]),
        rng.integers(0, 3, size=(40, 2)),
        tuple((f"a {i}", f"b {i}") for i in range(40)),
        {"model": "made up"},
    )
    return [
        retrieval.retrieval_figures(images.features[::2], texts, np.arange(COUNT // 2)),
        retrieval.retrieval_figures(
            images.features[:80],
            np.concatenate((texts[:40], texts[40:] + 0.3)),
            np.concatenate((np.arange(0, 80, 2), np.arange(80))),
            at=(1, 10),
            bootstrap=boot,
        ),
        compositional.choice_figure(choices, bootstrap=drawn(70)),
        compositional.matching_figures(similarities),
        correspondence.recall_figures(errors, angles, bootstrap=boot),
        correspondence.recall_in_space_figures([e / 20 for e in errors], angles, bootstrap=boot),
        correspondence.pck_figures([e / 300 for e in errors], np.arange(80) % 5, bootstrap=boot),
        frontier.frontier_strength_figure(strengths, correct, None, {"seen": 1}, images.bootstrap),
        frontier.frontier_strength_figure(strengths, correct, 0.1, {}, images.bootstrap),
        multimodal.multimodal_figures(hard, answers, fog.correct[:40], NAMES, bootstrap=drawn(40)),
    ]


PARTS: dict[str, Callable[[int], list[Figures]]] = {
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

"""Measure how often intervals hold the truth: of every metric, and of its change between two models.

``python benchmarks/coverage.py --draws 1000 --lowest`` prints the table of docs/properties.md (two hours;
``--save FILE`` goes on where it was stopped, and the slow tests have a small edition); ``--metric`` and
``--world`` pick rows. A *world* draws samples whose true figures are known, at n = 100 and 1,000, one by one
or as four scenes of a drawing with a random effect between drawings (the design effect of the accuracy is
then about 2.4), and two models that answer them: a baseline, and a head that answers some 6% of the samples
otherwise (1 to 2% where 98% are right), once equally good and once changed. The truth comes from samples
of the same design, some hundred thousand of them.

Columns are settings, ``n`` or ``n/units``; cells are the coverage in percent of the interval of the
baseline's figure (``own``), of the changed head's (``own'``), of that of the change between equally good
models (``same``), and of that of a true change (``changed``). Draws without a finite interval are left out,
and told.

The classifiers have 67 classes; their logits are a noisy margin over 66 noisy others:

``usual``      84% right, slightly over-confident; the changed head is worse, and far too confident
``calibrated`` 84% right, nearly calibrated; the changed head is too confident, and no worse
``honest``     the same, but labels are drawn from the baseline's probabilities: it is calibrated exactly
``saturated``  84% right, half of the confidences 1 to the last bit; the changed head is worse
``accurate``   98% right

The other worlds are answers under corruptions, prompts and strengths (76% right; ``good answers`` 98%),
scores of in- and out-of-distribution samples, half of n on either side (AUROC 0.83; ``strong`` 0.98;
``ties``, half of the scores at a ceiling), sets and silence by the thresholds of one calibration split,
pictures before and after a perturbation, cue conflicts, hard choices (82% right; ``good choices`` 98%),
pairs of views with many matches, and retrieval.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pytest_cliprobust.figures.arrays import log_softmax, softmax
from pytest_cliprobust.figures.bootstrap import Bootstrap, proportion_figure
from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.figures.outcomes import Outcomes
from pytest_cliprobust.figures.samples import SampleArrays
from pytest_cliprobust.properties import (
    accuracy,
    calibration,
    corruption,
    factors,
    groups,
    ood,
    prompts,
    selective,
    shape_bias,
    unlabelled,
)
from pytest_cliprobust.properties.correspondence import pck_figures, recall_figures
from pytest_cliprobust.properties.frontier import first_crossing, frontier_strength_figure
from pytest_cliprobust.properties.multimodal import (
    Answer,
    ChoiceAnswers,
    HardChoices,
    multimodal_figures,
)
from pytest_cliprobust.properties.retrieval import retrieval_figures
from pytest_cliprobust.properties.shape_bias import shape_bias_figures
from pytest_cliprobust.properties.shift import shift_drop_figure

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Figures = dict[str, Figure]
Values = dict[str, float]

CLASSES = 67
UNIT = 4
#: Share of the variance that a drawing explains, and of that of what two models see differently.
ALIKE, ALIKE_CHANGE = 0.75, 0.4
#: Share of the variance that two models see differently: 6% of answers change at 84% right.
APART = 0.08
SIZES = (100, 1000)


@dataclass(frozen=True)
class Design:
    """How many samples, and whether four come from one drawing."""

    n: int
    clustered: bool

    @property
    def text(self) -> str:
        """Return ``100`` or ``100/25``."""
        return f"{self.n}/{self.n // UNIT}" if self.clustered else f"{self.n}"

    def units(self, n: int) -> Ints:
        """Return the unit (n,) of each of so many samples."""
        return np.arange(n, dtype=np.int64) // (UNIT if self.clustered else 1)

    def keys(self, n: int | None = None) -> SampleKeys:
        """Return the keys of one draw."""
        units = self.units(self.n if n is None else n)
        names = tuple(map(str, range(len(units))))
        return SampleKeys(names, tuple(map(str, units)), kind="drawing")

    def bootstrap(self, n: int | None = None) -> Bootstrap:
        """Return interval settings that know the samples of one draw."""
        return Bootstrap(keys=self.keys(n))


class Noise:
    """Standard normal noise of samples, alike within units, of a baseline and of a head."""

    def __init__(self, rng: np.random.Generator, units: Ints, apart: float = APART) -> None:
        self.rng, self.units, self.apart = rng, units, apart
        self.clustered = int(units[-1]) + 1 < len(units)

    def one(self, *width: int, alike: float = ALIKE) -> Floats:
        """Return noise (n, …)."""
        own = self.rng.standard_normal((len(self.units), *width))
        if not self.clustered:
            return own
        common = self.rng.standard_normal((int(self.units[-1]) + 1, *width))[self.units]
        return np.asarray(math.sqrt(alike) * common + math.sqrt(1 - alike) * own)

    def pair(self, *width: int) -> tuple[Floats, Floats]:
        """Return noise (n, …) of the baseline and of the head."""
        base, other = self.one(*width), self.one(*width, alike=ALIKE_CHANGE)
        return base, np.asarray(math.sqrt(1 - self.apart) * base + math.sqrt(self.apart) * other)


class World:
    """Draws the figures of two models on the same samples, and knows the truth.

    ``known`` is the number of samples that the truth comes from.
    """

    name: str
    known = 400_000

    def draw(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Figures]:
        """Return the figures of the baseline and of the head."""
        raise NotImplementedError

    def truth(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Values]:
        """Return the true figures of the baseline and of the head."""
        raise NotImplementedError


# --- A classifier ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """A zero-shot classifier: the logit of the true class is normal, those of the others standard."""

    skill: float = 4.0
    spread: float = 1.6
    scale: float = 2.72 * 1.25

    def logits(self, margin: Floats, others: Floats, labels: Ints) -> Floats:
        """Return logits (n, C)."""
        rows = np.arange(len(labels))
        out = np.empty((len(labels), CLASSES))
        out[:, 1:] = others
        out[:, 0] = out[rows, labels]
        out[rows, labels] = self.skill + self.spread * margin
        return out * self.scale


@dataclass
class Classifier(World):
    """Calibration and accuracy."""

    name: str
    base: Model
    head: Model
    honest: bool = False

    def sample(
        self, rng: np.random.Generator, units: Ints, changed: bool
    ) -> tuple[Ints, list[Floats]]:
        """Return labels and the logits of both models."""
        noise = Noise(rng, units)
        labels = rng.integers(CLASSES, size=int(units[-1]) + 1)[units]
        margins, others = noise.pair(), noise.pair(CLASSES - 1)
        models = (self.base, self.head if changed else self.base)
        both = [
            model.logits(margin, other, labels)
            for model, margin, other in zip(models, margins, others, strict=True)
        ]
        return _drawn_from(both[0], noise) if self.honest else labels, both

    def draw(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Figures]:
        """Return the figures of the baseline and of the head."""
        labels, both = self.sample(rng, design.units(design.n), changed)
        bootstrap, out = design.bootstrap(), []
        for logits in both:
            figures = calibration.calibration_figures(logits, labels, bootstrap=bootstrap)
            for k in (1, 5):
                figure = accuracy.accuracy(logits, labels, k=k, bootstrap=bootstrap)
                figures[figure.metric] = figure
            if wanted("temperature"):
                found = calibration.temperature_figure(logits, labels, bootstrap=bootstrap)
                figures["temperature"] = found[1]
            out.append(figures)
        return out

    def truth(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Values]:
        """Return the true figures of the baseline and of the head."""
        step, blocks = 20_000, self.known // 20_000
        facts: list[list[Mapping[str, Floats]]] = [[], []]
        cells = [np.zeros(CLASSES * calibration.BINS), np.zeros(CLASSES * calibration.BINS)]
        temperatures: list[float] = []
        for number in range(blocks):
            labels, both = self.sample(rng, design.units(step), changed)
            for side, logits in enumerate(both):
                facts[side].append(_facts(logits, labels))
                cells[side] += _cells(logits, labels)
                if number == 0 and wanted("temperature"):
                    temperatures.append(calibration.fit_temperature(logits, labels).value)
        truths = []
        for side in (0, 1):
            of = {
                key: np.concatenate([part[key] for part in facts[side]]) for key in facts[side][0]
            }
            conf, right = of["confidence"], of["right"]
            values = {
                "ece": calibration.expected_calibration_error(conf, right),
                "adaptive_ece": calibration.adaptive_calibration_error(conf, right),
                "classwise_ece": float(np.abs(cells[side]).sum() / (step * blocks * CLASSES)),
                "nll": float(of["nll"].mean()),
                "brier": float(of["brier"].mean()),
                "signed_gap": float((conf - right).mean()),
                "accuracy": float(right.mean()),
                "top5_accuracy": float(of["five"].mean()),
            }
            if temperatures:
                values["temperature"] = temperatures[side]
            truths.append(values)
        return truths


def _drawn_from(logits: Floats, noise: Noise) -> Ints:
    """Return labels (n,) drawn from a model's own probabilities, those of a unit alike."""
    order = np.argsort(-logits, axis=1)
    reached = np.cumsum(np.take_along_axis(softmax(logits), order, axis=1), axis=1)
    rank = (reached < special.ndtr(noise.one())[:, None]).sum(axis=1).clip(max=CLASSES - 1)
    return np.asarray(order[np.arange(len(rank)), rank], dtype=np.int64)


def _facts(logits: Floats, labels: Ints) -> Mapping[str, Floats]:
    rows = np.arange(len(labels))
    log_p = log_softmax(logits)
    p = np.exp(log_p)
    own = logits[rows, labels][:, None]
    return {
        "confidence": p.max(axis=1),
        "right": (logits.argmax(axis=1) == labels).astype(np.float64),
        "five": ((logits > own).sum(axis=1) < 5).astype(np.float64),
        "nll": -log_p[rows, labels],
        "brier": (p**2).sum(axis=1) - 2 * p[rows, labels] + 1.0,
    }


def _cells(logits: Floats, labels: Ints) -> Floats:
    index, gaps = calibration._classwise_cells(softmax(logits), labels, calibration.BINS)
    return np.asarray(
        np.bincount(index.ravel(), weights=gaps.ravel(), minlength=CLASSES * calibration.BINS)
    )


# --- Answers under corruptions, prompts, strengths ---------------------------------------------------

KINDS = ("fog", "blur", "noise", "snow")
SEVERITIES = (1, 2, 3, 4, 5)
TEMPLATES = 7
GROUPS = ("noto", "twemoji", "clipart", "photo")
STRENGTHS = np.array([0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0])
BASELINE = dict(zip(KINDS, (0.8, 0.7, 0.85, 0.75), strict=True))


@dataclass
class Answers(World):
    """Right and wrong answers: drops, means over corruptions, groups, prompts, frontiers."""

    name: str
    skill: float = 1.6
    worse: float = 0.2

    def sample(
        self, rng: np.random.Generator, design: Design, n: int, changed: bool
    ) -> list[dict[str, Bools]]:
        """Return the answers of both models; every ``design.n`` samples are one draw."""
        units = design.units(n)
        noise = Noise(rng, units)
        labels, groups = _labels(design, n), _groups(design, n)
        margins = noise.pair()
        cells = noise.pair(len(KINDS), len(SEVERITIES))
        wording = noise.pair(TEMPLATES + 1)
        harder = 0.35 * np.arange(1, 6)[None, :] * np.array([0.6, 0.9, 1.1, 1.3])[:, None]
        out = []
        for side in (0, 1):
            skill = self.skill - self.worse * (side == 1 and changed)
            own = skill + 1.5 * margins[side] + 0.5 * np.sin(labels)
            own += np.array([0.0, 0.2, -0.6, 0.1])[groups]
            shifted = own[:, None, None] - harder * (1.0 + 0.15 * (side == 1 and changed))
            prompt = np.linspace(-0.25, 0.25, TEMPLATES)
            out.append(
                {
                    "clean": own > 0,
                    "cells": shifted + 0.5 * cells[side] > 0,
                    "single": own[:, None] + prompt + 0.4 * wording[side][:, 1:] > 0,
                    "ensemble": own + 0.1 + 0.2 * wording[side][:, 0] > 0,
                    "strengths": own[:, None] - 4.0 * STRENGTHS > 0,
                }
            )
        return out

    def draw(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Figures]:
        """Return the figures of the baseline and of the head."""
        bootstrap = design.bootstrap()
        labels, groups = _labels(design, design.n), _groups(design, design.n)
        names = [GROUPS[g] for g in groups]
        scores = np.zeros((design.n, CLASSES))
        out = []
        for own in self.sample(rng, design, design.n, changed):
            clean, cells = own["clean"], np.moveaxis(own["cells"], 0, 2)
            shifted = cells[2, 3]
            scores[:] = 0.0
            scores[np.arange(design.n), np.where(clean, labels, (labels + 1) % CLASSES)] = 1.0
            made = [
                accuracy.accuracy_drop_figure(clean, shifted, bootstrap=bootstrap),
                accuracy.relative_drop_figure(clean, shifted, bootstrap=bootstrap),
                accuracy.balanced_accuracy(scores, labels, bootstrap=bootstrap),
                accuracy.worst_group_accuracy(clean, names, bootstrap=bootstrap),
                *corruption.corruption_figures(
                    clean, cells, KINDS, SEVERITIES, bootstrap=bootstrap
                ).values(),
                *prompts.prompt_figures(
                    own["single"].T,
                    list(map(str, range(TEMPLATES))),
                    own["ensemble"],
                    bootstrap=bootstrap,
                ).values(),
            ]
            figures = {figure.metric: figure for figure in made}
            errors = accuracy.mean_corruption_error(
                dict(zip(KINDS, cells, strict=True)),
                BASELINE,
                baseline="b",
                clean=clean,
                baseline_clean_error=0.4,
                bootstrap=bootstrap,
            )
            for metric in ("ce", "relative_ce"):
                figures[metric] = errors[metric, "fog"]
            for metric in ("mce", "relative_mce"):
                figures[metric] = errors[metric, ""]
            by_factor = factors.factor_figures(clean, names, bootstrap=bootstrap)["clipart"]
            figures |= by_factor
            answers = np.concatenate([clean[:, None], own["strengths"]], axis=1)
            for allowed, word in ((None, ""), (0.1, " 0.1")):
                figures["frontier_strength" + word] = frontier_strength_figure(
                    STRENGTHS, answers, allowed, {}, bootstrap
                )
            out.append(figures)
        return out

    def truth(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Values]:
        """Return the true figures of the baseline and of the head."""
        draws, step = self.known // design.n, 20_000 // design.n
        parts: list[list[dict[str, Floats]]] = [[], []]
        for _ in range(draws // step):
            # Means over the draws, kept by the sample's place in the design.
            both = self.sample(rng, design, step * design.n, changed)
            for side, own in enumerate(both):
                parts[side].append(
                    {
                        key: value.reshape(step, design.n, *value.shape[1:]).mean(axis=0)
                        for key, value in own.items()
                    }
                )
        labels, groups = _labels(design, design.n), _groups(design, design.n)
        return [
            _true_answers(
                {key: np.mean([part[key] for part in side], axis=0) for key in side[0]},
                labels,
                groups,
            )
            for side in parts
        ]


@dataclass
class Subgroups(Classifier):
    """Groups that fare differently, and a shift of other samples."""

    name: str
    base: Model
    head: Model
    apart: tuple[float, ...] = (0.0, 0.3, -0.8, 0.2)

    def sample(
        self, rng: np.random.Generator, units: Ints, changed: bool
    ) -> tuple[Ints, list[Floats]]:
        """Return labels and the logits of both models; every fourth unit is of one group."""
        labels, both = super().sample(rng, units, changed)
        rows, offset = np.arange(len(labels)), np.array(self.apart)[units % len(self.apart)]
        for logits in both:
            logits[rows, labels] += offset * self.base.scale
        return labels, both

    def draw(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Figures]:
        """Return the figures of the baseline and of the head."""
        units = design.units(design.n)
        labels, both = self.sample(rng, units, changed)
        others, shifted = self.sample(rng, units, changed)
        names, bootstrap = [GROUPS[g] for g in units % len(GROUPS)], design.bootstrap()
        beside = Bootstrap(keys=design.keys().beside(design.keys()))
        out = []
        for logits, worse in zip(both, shifted, strict=True):
            right = logits.argmax(axis=1) == labels
            found = groups.accuracy_figures(
                right, names, minimum=1, permutations=1, bootstrap=bootstrap
            )
            figures = {"group_accuracy_gap": found["group_accuracy_gap"]}
            figures |= groups.calibration_by_group(
                logits, labels, names, minimum=1, bootstrap=bootstrap
            )
            fewer = self._shifted(worse, others)
            figures["shift_drop"] = shift_drop_figure(right, fewer, bootstrap=beside)
            out.append(figures)
        return out

    def _shifted(self, logits: Floats, labels: Ints) -> Bools:
        """Return the answers under the shift, in which the true class has less of a lead."""
        lower = logits.copy()
        lower[np.arange(len(labels)), labels] -= self.base.scale
        return np.asarray(lower.argmax(axis=1) == labels)

    def truth(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Values]:
        """Return the true figures of the baseline and of the head."""
        units = design.units(self.known // 2)
        labels, both = self.sample(rng, units, changed)
        out = []
        for logits in both:
            right = (logits.argmax(axis=1) == labels).astype(np.float64)
            confidence = softmax(logits).max(axis=1)
            parts = [units % len(GROUPS) == g for g in range(len(GROUPS))]
            shares = [float(right[part].mean()) for part in parts]
            gaps = [float((confidence - right)[part].mean()) for part in parts]
            out.append(
                {
                    "group_accuracy_gap": max(shares) - min(shares),
                    "group_confidence_gap": max(gaps) - min(gaps),
                    "worst_group_ece": max(
                        calibration.expected_calibration_error(confidence[part], right[part])
                        for part in parts
                    ),
                    "shift_drop": float(right.mean() - self._shifted(logits, labels).mean()),
                }
            )
        return out


def _labels(design: Design, n: int) -> Ints:
    return (design.units(n) % (design.n // (UNIT if design.clustered else 1))) % CLASSES


def _groups(design: Design, n: int) -> Ints:
    return (design.units(n) % (design.n // (UNIT if design.clustered else 1))) % len(GROUPS)


def _true_answers(chance: Mapping[str, Floats], labels: Ints, groups: Ints) -> Values:
    """Return the figures of the chances (n, …) of a right answer at each place of the design."""
    clean, cells = chance["clean"], chance["cells"].mean(axis=0)
    overall = float(clean.mean())
    single = chance["single"].mean(axis=0)
    drops = overall - cells.mean(axis=1)
    by_group = np.array([clean[groups == g].mean() for g in range(len(GROUPS))])
    curve = overall - chance["strengths"].mean(axis=0)
    ensemble = float(chance["ensemble"].mean())
    errors = (1 - cells).mean(axis=1)
    scale = np.array(list(BASELINE.values()))
    excess = (errors - (1 - overall)) / (scale - 0.4)
    return {
        "accuracy_drop": overall - float(cells[2, 3]),
        "relative_drop": 1.0 - float(cells[2, 3]) / overall,
        "balanced_accuracy": float(np.mean([clean[labels == c].mean() for c in np.unique(labels)])),
        "worst_group_accuracy": float(by_group.min()),
        "mean_corruption_accuracy": float(cells.mean()),
        "mean_corruption_drop": overall - float(cells.mean()),
        "relative_corruption_drop": 1.0 - float(cells.mean()) / overall,
        "worst_corruption_drop": float(drops.max()),
        "severity_monotonicity": float((np.diff(cells, axis=1) <= 0).mean()),
        "prompt_mean_accuracy": float(single.mean()),
        "prompt_worst_accuracy": float(single.min()),
        "prompt_best_accuracy": float(single.max()),
        "prompt_accuracy_spread": float(np.ptp(single)),
        "prompt_accuracy_std": float(single.std()),
        "prompt_ensemble_accuracy": ensemble,
        "prompt_ensemble_gain": ensemble - float(single.mean()),
        "ce": float(errors[0] / scale[0]),
        "mce": float((errors / scale).mean()),
        "relative_ce": float(excess[0]),
        "relative_mce": float(excess.mean()),
        "factor_accuracy": float(by_group[2]),
        "error_ratio": float((1 - by_group[2]) / (1 - overall)),
        "frontier_strength": first_crossing(STRENGTHS, curve, 0.5 * overall),
        "frontier_strength 0.1": first_crossing(STRENGTHS, curve, 0.1),
    }


# --- Keeping silent, and pictures without labels ------------------------------------------------------


@dataclass
class Selective(Classifier):
    """Risk and coverage, abstention and conformal sets; the calibration split is one, and taken as given.

    The truth of the areas is the mean over draws of as many samples, which they depend on.
    """

    calibration: int = 400

    def thresholds(self, changed: bool) -> list[tuple[Floats, Ints]]:
        """Return the logits and labels of the calibration split, of both models."""
        units = np.arange(self.calibration, dtype=np.int64)
        labels, both = self.sample(np.random.default_rng(11), units, changed)
        # Equally good models have one threshold: another would be another truth.
        return [(logits, labels) for logits in (both if changed else both[:1] * 2)]

    def figures(
        self,
        logits: Floats,
        labels: Ints,
        known: tuple[Floats, Ints],
        bootstrap: Bootstrap,
    ) -> Figures:
        """Return all figures of a model's answers."""
        p, own = softmax(logits), softmax(known[0])
        right = logits.argmax(axis=1) == labels
        sure, sure_before = p.max(axis=1), own.max(axis=1)
        figures = selective.selective_figures(sure, right, bootstrap=bootstrap)
        figures |= selective.abstention_figures(
            sure, labels, right, sure_before, bootstrap=bootstrap
        )
        figures |= selective.conformal_figures(p, labels, own, known[1], bootstrap=bootstrap)
        return figures

    def draw(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Figures]:
        """Return the figures of the baseline and of the head."""
        labels, both = self.sample(rng, design.units(design.n), changed)
        bootstrap = design.bootstrap()
        return [
            self.figures(logits, labels, known, bootstrap)
            for logits, known in zip(both, self.thresholds(changed), strict=True)
        ]

    def truth(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Values]:
        """Return the true figures of the baseline and of the head."""
        step, known = 20_000 // design.n * design.n, self.thresholds(changed)
        kept: list[dict[str, list[float]]] = [defaultdict(list), defaultdict(list)]
        for _ in range(self.known // 2 // step):
            labels, both = self.sample(rng, design.units(step), changed)
            for side, logits in enumerate(both):
                values = self._values(logits, labels, known[side], design.n)
                for name, value in values.items():
                    kept[side][name].append(value)
        return [{name: float(np.mean(v)) for name, v in side.items()} for side in kept]

    @staticmethod
    def _values(logits: Floats, labels: Ints, known: tuple[Floats, Ints], n: int) -> Values:
        """Return figures of many samples, the areas as means over draws of n."""
        p, own, rows = softmax(logits), softmax(known[0]), np.arange(len(labels))
        right, sure = logits.argmax(axis=1) == labels, p.max(axis=1)
        once = np.ones((1, n))
        draws = [
            Outcomes({"confidence": c, "correct": r}, selective._aurc)
            for c, r in zip(sure.reshape(-1, n), right.reshape(-1, n), strict=True)
        ]
        silent = sure < np.sort(own.max(axis=1))[::-1][math.ceil(0.9 * len(own)) - 1]
        values = {
            "aurc": float(np.mean([selective._aurc(once, draw)[0] for draw in draws])),
            "excess_aurc": float(np.mean([selective._excess(once, draw)[0] for draw in draws])),
            "abstention": float(silent.mean()),
            "answered_accuracy": float(right[~silent].mean()),
        }
        for name, score in selective._SCORES.items():
            limit = selective.conformal_threshold(score(own)[np.arange(len(own)), known[1]])
            sets = score(p) <= limit
            values[f"conformal_coverage_{name}"] = float(sets[rows, labels].mean())
            values[f"conformal_set_size_{name}"] = float(sets.sum(axis=1).mean())
        return values


@dataclass
class Unlabelled(World):
    """Answers and features of pictures before and after a perturbation: flips, drift, confidence."""

    name: str = "unlabelled"
    #: How far the perturbation moves what a model sees.
    moved: float = 0.5
    width: int = 24

    def sample(
        self, rng: np.random.Generator, units: Ints, changed: bool
    ) -> list[tuple[Floats, ...]]:
        """Return of each model probabilities (n, C) and features (n, D), before and after."""
        noise = Noise(rng, units)
        seen, blur = noise.pair(CLASSES), noise.pair(CLASSES)
        features, drift = noise.pair(self.width), noise.pair(self.width)
        out = []
        for side in (0, 1):
            moved = self.moved * (1.2 if side == 1 and changed else 1.0)
            before, after = seen[side], 0.95 * seen[side] + moved * blur[side]
            then = features[side] + moved * drift[side]
            out.append((softmax(3.0 * before), softmax(3.0 * after), features[side], then))
        return out

    def draw(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Figures]:
        """Return the figures of the baseline and of the head."""
        bootstrap, out = design.bootstrap(), []
        for before, after, own, then in self.sample(rng, design.units(design.n), changed):
            figures = unlabelled.answer_figures(before, after, bootstrap=bootstrap)
            figures["embedding_drift"] = unlabelled.drift_figure(own, then, bootstrap=bootstrap)
            out.append(figures)
        return out

    def truth(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Values]:
        """Return the true figures of the baseline and of the head."""
        out = []
        for before, after, own, then in self.sample(rng, design.units(self.known // 2), changed):
            cosines = (own * then).sum(axis=1)
            cosines /= np.linalg.norm(own, axis=1) * np.linalg.norm(then, axis=1)
            out.append(
                {
                    "flip_rate": float((before.argmax(axis=1) != after.argmax(axis=1)).mean()),
                    "confidence_shift": float((after.max(axis=1) - before.max(axis=1)).mean()),
                    "embedding_drift": float(1.0 - cosines.mean()),
                }
            )
        return out


# --- Detection ---------------------------------------------------------------------------------------


@dataclass
class Detection(World):
    """In- against out-of-distribution: n samples, half of them on either side."""

    name: str
    apart: float
    worse: float = 0.25
    ceiling: float = math.inf

    def sample(
        self, rng: np.random.Generator, units: Ints, changed: bool
    ) -> list[tuple[Floats, Floats]]:
        """Return the scores of ID and OOD samples of both models."""
        inside, outside = (Noise(rng, units).pair() for _ in (0, 1))
        out = []
        for side in (0, 1):
            apart = self.apart - self.worse * (side == 1 and changed)
            scores = (apart + inside[side], 1.2 * outside[side])
            out.append((np.minimum(scores[0], self.ceiling), np.minimum(scores[1], self.ceiling)))
        return out

    def draw(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Figures]:
        """Return the figures of the baseline and of the head."""
        units = design.units(design.n // 2)
        keys = design.keys(design.n // 2)
        bootstrap = Bootstrap(keys=keys.beside(keys))
        return [
            {
                metric.removesuffix("_mcm"): figure
                for metric, figure in ood.detection_figures(
                    inside, outside, "mcm", bootstrap=bootstrap
                ).items()
            }
            for inside, outside in self.sample(rng, units, changed)
        ]

    def truth(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Values]:
        """Return the true figures of the baseline and of the head."""
        out = []
        for inside, outside in self.sample(rng, design.units(self.known), changed):
            figures = _curves(inside, outside)
            out.append(figures)
        return out


def _curves(inside: Floats, outside: Floats) -> Values:
    from sklearn.metrics import average_precision_score, roc_auc_score

    both = np.concatenate([inside, outside])
    is_id = np.repeat([1, 0], [len(inside), len(outside)])
    return {
        "auroc": float(roc_auc_score(is_id, both)),
        "aupr_in": float(average_precision_score(is_id, both)),
        "aupr_out": float(average_precision_score(1 - is_id, -both)),
        "fpr95": ood.fpr_at_recall(inside, outside),
    }


# --- Cue conflicts, shares, retrieval, correspondence --------------------------------------------------


@dataclass
class Decisions(World):
    """Cue conflicts and shares."""

    name: str = "decisions"

    def sample(self, rng: np.random.Generator, units: Ints, changed: bool) -> list[Floats]:
        """Return a normal number for each sample and model, and one for each decision."""
        noise = Noise(rng, units)
        first, second = noise.pair(2)
        second = second + (np.array([0.2, -0.2]) if changed else 0.0)
        return [first, second]

    @staticmethod
    def decisions(latent: Floats) -> Ints:
        """Return 0 (shape), 1 (texture) or 2 (neither)."""
        neither = latent[:, 0] > 0.6
        return np.where(neither, 2, (latent[:, 1] > -0.3).astype(np.int64)).astype(np.int64)

    def draw(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Figures]:
        """Return the figures of the baseline and of the head."""
        bootstrap, out = design.bootstrap(), []
        shapes = np.zeros(design.n, dtype=np.int64)
        for latent in self.sample(rng, design.units(design.n), changed):
            chosen = self.decisions(latent)
            figures = shape_bias_figures(
                chosen, shapes, shapes + 1, ["a", "b", "c"], bootstrap=bootstrap
            )
            figures |= self._varied(latent, rng, design)
            for metric, limit in (("attack_success", -0.5), ("attack_success rare", -2.0)):
                figures[metric] = proportion_figure(metric, latent[:, 0] < limit, bootstrap)
            out.append(figures)
        return out

    def under(self, latent: Floats, rng: np.random.Generator) -> list[Ints]:
        """Return the decisions under a perturbation, and by each of four templates."""
        apart = [rng.standard_normal(latent.shape) for _ in range(5)]
        leaning = [
            np.array(lean) for lean in ((0.2, 0.5), (0, 0), (0, 0.2), (0.1, -0.2), (0.2, 0.1))
        ]
        share = [0.6, 0.3, 0.3, 0.3, 0.3]
        return [
            self.decisions(math.sqrt(1 - s * s) * latent + s * noise - lean)
            for noise, lean, s in zip(apart, leaning, share, strict=True)
        ]

    def _varied(self, latent: Floats, rng: np.random.Generator, design: Design) -> Figures:
        """Return shape bias under a perturbation and by prompt template."""
        keys, rows = design.keys(), np.arange(design.n)
        # The texture is of either of two classes, so that the other one is neither cue.
        textures = 1 + rows % 2
        columns = {
            "shape_label": ("a",) * design.n,
            "texture_label": tuple("abc"[texture] for texture in textures),
        }
        views = [
            SampleArrays(
                Condition("conflicts"),
                keys.ids,
                np.zeros(design.n, dtype=np.int64),
                np.eye(3)[np.choose(chosen, [0 * rows, textures, 3 - textures])],
                class_names=("a", "b", "c"),
                groups=columns,
                units=keys.units or (),
            )
            for chosen in (self.decisions(latent), *self.under(latent, rng))
        ]
        change = shape_bias.shape_bias_change(views[0], views[1])
        over = shape_bias.shape_bias_over_prompts(
            views[0], [(str(number), view) for number, view in enumerate(views[2:])]
        )
        return {figure.metric: figure for figure in (change, over[0])}

    def truth(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Values]:
        """Return the true figures of the baseline and of the head."""
        out = []
        for latent in self.sample(rng, design.units(2 * self.known), changed):
            chosen = self.decisions(latent)
            decided = chosen < 2
            varied = [_shape_bias(own) for own in (chosen, *self.under(latent, rng))]
            out.append(
                {
                    "shape_bias": varied[0],
                    "shape_bias_change": varied[1] - varied[0],
                    "prompt_mean_shape_bias": float(np.mean(varied[2:])),
                    "cue_accuracy": float(decided.mean()),
                    "other_decisions": float(1 - decided.mean()),
                    "attack_success": float((latent[:, 0] < -0.5).mean()),
                    "attack_success rare": float((latent[:, 0] < -2.0).mean()),
                }
            )
        return out


def _shape_bias(decisions: Ints) -> float:
    return float((decisions == 0).sum() / (decisions < 2).sum())


@dataclass
class Choices(World):
    """Hard choices of two multimodal models, each asked in both orders, by likelihood and in words."""

    name: str = "choices"
    #: Above it the true option is likelier.
    least: float = -0.9

    def sample(self, rng: np.random.Generator, units: Ints, changed: bool) -> list[Floats]:
        """Return normal numbers for each sample and model: skill, taste for a place, and words."""
        first, second = Noise(rng, units).pair(3)
        return [first, second - (np.array([0.3, 0.0, 0.2]) if changed else 0.0)]

    def answers(self, latent: Floats) -> ChoiceAnswers:
        """Return what is answered."""
        skill, place, words = latent.T
        apart = np.stack([skill + 0.3 * place, skill - 0.3 * place], axis=1) - self.least
        named = np.where(apart > 0, Answer.TRUE, Answer.OTHER)
        named[words > 1.2] = Answer.NEITHER
        named[words < -1.8, 1] = Answer.BOTH
        return ChoiceAnswers(np.stack([apart, -apart], axis=-1), named)

    def draw(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Figures]:
        """Return the figures of the baseline and of the head."""
        rows = np.arange(design.n)
        choices = HardChoices(rows, rows % 2, 1 - rows % 2)
        return [
            multimodal_figures(
                choices, self.answers(latent), rows % 3 > 0, "ab", bootstrap=design.bootstrap()
            )
            for latent in self.sample(rng, design.units(design.n), changed)
        ]

    def truth(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Values]:
        """Return the true figures of the baseline and of the head."""
        out = []
        for latent in self.sample(rng, design.units(2 * self.known), changed):
            found = self.answers(latent)
            first, second = found.scores.T
            out.append(
                {
                    "lmm_accuracy": float(found.scores.mean()),
                    "lmm_generated_accuracy": float((found.words == Answer.TRUE).mean()),
                    "lmm_by_position": float((first != second).mean()),
                    "lmm_order_gap": float((first - second).mean()),
                    "lmm_named_both": float((found.words == Answer.BOTH).mean()),
                    "lmm_named_neither": float((found.words == Answer.NEITHER).mean()),
                }
            )
        return out


@dataclass
class Pairs(World):
    """Correspondence: pairs of views with many matches each; effective robustness."""

    name: str = "pairs"

    def sample(self, rng: np.random.Generator, units: Ints, changed: bool) -> list[Any]:
        """Return the number of matches of each pair, and each model's errors."""
        sizes = rng.integers(5, 40, size=len(units))
        skill = Noise(rng, units).pair()
        owner = np.repeat(np.arange(len(units)), sizes)
        exact = rng.exponential(size=len(owner))
        scale = [np.exp(2.5 + 0.7 * s + 0.1 * (k == 1 and changed)) for k, s in enumerate(skill)]
        return [sizes, *(exact * each[owner] for each in scale)]

    def draw(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Figures]:
        """Return the figures of the baseline and of the head."""
        bootstrap, out = design.bootstrap(), []
        units = design.units(design.n)
        sizes, *models = self.sample(rng, units, changed)
        for errors in models:
            split = np.split(errors, np.cumsum(sizes)[:-1])
            figures = recall_figures(split, pixels=(5.0, 25.0), bootstrap=bootstrap)
            figures |= pck_figures(split, units % 18, alpha=10.0, bootstrap=bootstrap)
            out.append(figures)
        return out

    def truth(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Values]:
        """Return the true figures of the baseline and of the head."""
        _, *models = self.sample(rng, design.units(self.known // 4), changed)
        return [
            {
                "correspondence_recall_at_5px": float((errors < 5).mean()),
                "correspondence_recall_at_25px": float((errors < 25).mean()),
                "pck_at_10": float((errors < 10).mean()),
            }
            for errors in models
        ]


@dataclass
class Retrieval(World):
    """Images and five captions each; the truth is the mean over draws, the gallery being part of it."""

    name: str = "retrieval"
    width: int = 24

    def draw(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Figures]:
        """Return the figures of the baseline and of the head."""
        units = design.units(design.n)
        owner = np.repeat(np.arange(design.n), 5)
        meaning = Noise(rng, units).one(self.width, alike=0.3)
        pictures = Noise(rng, units).pair(self.width)
        words = Noise(rng, np.arange(len(owner))).pair(self.width)
        bootstrap = design.bootstrap()
        out = []
        for side in (0, 1):
            blur = 1.0 + 0.1 * (side == 1 and changed)
            images = meaning + 0.8 * blur * pictures[side]
            texts = meaning[owner] + 0.8 * blur * words[side]
            out.append(retrieval_figures(images, texts, owner, bootstrap=bootstrap))
        return out

    def truth(self, rng: np.random.Generator, design: Design, changed: bool) -> list[Values]:
        """Return the mean figures of the baseline and of the head."""
        kept: list[dict[str, list[float]]] = [defaultdict(list), defaultdict(list)]
        for _ in range(self.known // 10 // design.n):
            for side, figures in enumerate(self.draw(rng, design, changed)):
                for metric, figure in figures.items():
                    kept[side][metric].append(figure.value)
        return [
            {
                # Medians are whole or half ranks: the nearest.
                name: round(2 * float(np.mean(v))) / 2 if "rank" in name else float(np.mean(v))
                for name, v in side.items()
            }
            for side in kept
        ]


WORLDS: tuple[World, ...] = (
    Classifier("usual", Model(), Model(skill=3.8, scale=2.72 * 1.8)),
    Classifier("calibrated", Model(scale=2.72), Model(scale=2.72 * 1.8)),
    Classifier("honest", Model(scale=2.72), Model(scale=2.72 * 1.8), honest=True),
    Classifier("saturated", Model(scale=2.72 * 8), Model(skill=3.8, scale=2.72 * 8)),
    Classifier("accurate", Model(5.77, scale=3.57), Model(5.4, scale=3.57 * 1.3)),
    Answers("answers"),
    Answers("good answers", skill=3.7),
    Subgroups("subgroups", Model(), Model(skill=3.8, scale=2.72 * 1.8)),
    Subgroups("equal groups", Model(), Model(), apart=(0.0, 0.0, 0.0, 0.0)),
    Selective("selective", Model(), Model(skill=3.8, scale=2.72 * 1.8)),
    Unlabelled(),
    Detection("detection", 1.5),
    Detection("strong", 3.2, worse=0.4),
    Detection("ties", 1.5, ceiling=1.0),
    Decisions(),
    Choices(),
    Choices("good choices", -2.1),
    Pairs(),
    Retrieval(),
)


# --- The table ---------------------------------------------------------------------------------------

_wanted: list[str] = ["*"]


def wanted(metric: str) -> bool:
    """Return whether a metric was asked for."""
    return any(fnmatchcase(metric, pattern) for pattern in _wanted)


@dataclass
class Count:
    """How often one interval held the truth, and what it was like."""

    held: int = 0
    below: int = 0
    draws: int = 0
    undecided: int = 0
    width: float = 0.0
    error: float = 0.0

    def add(self, low: float, high: float, value: float, truth: float) -> None:
        """Count one draw; an interval that is not finite decides nothing, and is left out."""
        self.draws += 1
        if not (math.isfinite(low) and math.isfinite(high)):
            self.undecided += 1
            return
        slack = 1e-9
        self.held += int(low - slack <= truth <= high + slack)
        self.below += int(truth < low - slack)
        self.width += high - low
        self.error += value - truth

    @property
    def share(self) -> float:
        """Coverage, of the draws with an interval."""
        return self.held / max(1, self.decided)

    @property
    def decided(self) -> int:
        """Number of draws with an interval."""
        return self.draws - self.undecided


#: By metric, world, design and kind (own, same, changed).
Table = dict[tuple[str, str, str, str], Count]


def measure(
    world: World, design: Design, draws: int, *, confidence: float = 0.95, seed: int = 0
) -> Table:
    """Return how often the intervals of a world's figures, and of their changes, hold the truth."""
    table: Table = defaultdict(Count)
    for changed in (False, True):
        kind = "changed" if changed else "same"
        numbers = [seed, design.n, design.clustered, changed, *world.name.encode()]
        truths = world.truth(np.random.default_rng([*numbers, 1]), design, changed)
        if not (changed or getattr(world, "honest", False)):
            # Equally good: what differs is the truth's own noise. (Labels drawn from the baseline's
            # probabilities suit the head less.)
            middle = {m: (truths[0][m] + truths[1][m]) / 2 for m in truths[0]}
            truths = [middle, middle]
        rng = np.random.default_rng([*numbers, 2])
        for _ in range(draws):
            base, head = world.draw(rng, design, changed)
            for metric, figure in head.items():
                if not wanted(metric) or metric not in truths[0]:
                    continue
                spot = (metric, world.name, design.text)
                if not changed:
                    own = base[metric]
                    ends = interval_at(own, confidence)
                    table[*spot, "own"].add(ends.low, ends.high, own.value, truths[0][metric])
                else:
                    ends = interval_at(figure, confidence)
                    table[*spot, "own'"].add(ends.low, ends.high, figure.value, truths[1][metric])
                change = change_between(figure, base[metric])
                ends = change.interval(confidence)
                difference = truths[1][metric] - truths[0][metric]
                table[*spot, kind].add(ends.low, ends.high, change.difference, difference)
    return table


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--metric", action="append", help="a glob, several times; all by default")
    parser.add_argument("--world", action="append", help="a glob, several times; all by default")
    parser.add_argument("--size", type=int, action="append", help="numbers of samples")
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--detail", action="store_true", help="also bias, width and misses by side")
    parser.add_argument("--lowest", action="store_true", help="only the lowest of each metric")
    parser.add_argument("--save", type=Path, help="JSON lines; what stands there is not done again")
    options = parser.parse_args()
    _wanted[:] = options.metric or ["*"]
    start = time.perf_counter()
    designs = [Design(n, c) for n in options.size or SIZES for c in (False, True)]
    table = loaded(options.save)
    for world in WORLDS:
        if not any(fnmatchcase(world.name, pattern) for pattern in options.world or ["*"]):
            continue
        for design in designs:
            if any(key[1:3] == (world.name, design.text) for key in table):
                continue
            found = measure(
                world, design, options.draws, confidence=options.confidence, seed=options.seed
            )
            table |= found
            saved(options.save, found)
            took = f"{time.perf_counter() - start:.0f} s"
            print(world.name, design.text, took, file=sys.stderr)
    print(lowest(table) if options.lowest else text(table, designs, detail=options.detail))


def loaded(path: Path | None) -> Table:
    """Return what an earlier run saved."""
    if path is None or not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {tuple(key): Count(**count) for key, count in rows}


def saved(path: Path | None, table: Table) -> None:
    """Append a table to what is saved."""
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps([key, asdict(c)]) + "\n" for key, c in table.items())


def text(table: Table, designs: list[Design], *, detail: bool) -> str:
    """Return the table as Markdown: a line for each metric and world, a column for each setting."""
    kinds = ("own", "own'", "same", "changed")
    head = [f"{design.text} {kind}" for design in designs for kind in kinds]
    lines = ["| metric | world | " + " | ".join(head) + " |", "| --- " * (len(head) + 2) + "|"]
    for metric, world in dict.fromkeys((key[0], key[1]) for key in table):
        cells = []
        for design in designs:
            for kind in kinds:
                count = table.get((metric, world, design.text, kind))
                cells.append("" if count is None else _cell(count, detail=detail))
        lines.append(f"| {metric} | {world} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(count: Count, *, detail: bool) -> str:
    cell = f"{100 * count.share:.1f}" if count.decided else "none"
    if count.undecided > 0.01 * count.draws:
        cell += f" (none in {100 * count.undecided / count.draws:.0f}%)"
    if detail and count.decided:
        missed, bias = 100 * count.below / count.decided, count.error / count.decided
        cell += f" (<{missed:.1f}) b{bias:+.4f} w{count.width / count.decided:.4f}"
    return cell


def lowest(table: Table) -> str:
    """Return the lowest coverage of each metric over worlds, with and without units, as Markdown."""
    sizes = list(dict.fromkeys(key[2].split("/")[0] for key in table))
    asked = [(what, n) for what in ("value", "change") for n in sizes]
    head = " | ".join(f"{what}, n = {int(n):,}" for what, n in asked)
    lines = [f"| metric | {head} |", "| --- " * (len(asked) + 1) + "|"]
    for metric in dict.fromkeys(key[0] for key in table):
        cells = []
        for what, n in asked:
            shares = [
                (count.share, world)
                for (name, world, design, kind), count in table.items()
                if name == metric
                and design.split("/")[0] == n
                and kind.startswith("own") == (what == "value")
                and count.decided
            ]
            share, world = min(shares, default=(math.nan, ""))
            cells.append(f"{100 * share:.1f} ({world})" if world else "")
        lines.append(f"| `{metric}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""Figures that hang on further samples (a temperature, a threshold, a bank) say so, and on which."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from gating_helpers import baseline_of
from helpers import keys_of

from pytest_cliprobust import properties
from pytest_cliprobust.figures.change import SAME_OF_ONE_MODEL, change_between
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.samples import SampleArrays, contents_of
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.verdict import judge
from pytest_cliprobust.properties import calibration, ood, scaling, selective


@dataclass(frozen=True)
class Held(SampleArrays):
    """Samples with features."""

    features: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))


def held(name: str, n: int, seed: int) -> Held:
    """Return samples of four classes, most of them answered rightly."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 4
    rows = np.eye(4)[labels] + 0.6 * rng.normal(size=(n, 4))
    features = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    ids = tuple(f"{name}{i}" for i in range(n))
    return Held(Condition(name), ids, labels, 5.0 * features, cosines=features, features=features)


CLEAN, OUTSIDE, CALIBRATION = held("clean", 80, 0), held("far", 40, 1), held("calibration", 120, 2)
#: The same samples in another order are no others.
TURNED = Held(
    CALIBRATION.condition,
    CALIBRATION.ids[::-1],
    CALIBRATION.labels[::-1],
    CALIBRATION.logits[::-1],
    cosines=CALIBRATION.cosines[::-1],
    features=CALIBRATION.features[::-1],
)
FEWER = held("calibration", 60, 2)

#: By the function that takes them: figures of the clean samples that hang on further ones.
KINDS: dict[str, Callable[[Held], Iterable[Figure]]] = {
    "calibration.calibration_of": lambda known: calibration.calibration_of(
        CLEAN, calibration.fitted_temperature(known)
    ).values(),
    "scaling.few_samples_of": lambda known: [
        scaling.few_samples_of(CLEAN, known, few=20, draws=3),
    ],
    "scaling.label_sets_of": lambda known: scaling.label_sets_of(CLEAN, known),
    "selective.abstention_of": lambda known: selective.abstention_of(CLEAN, known),
    "selective.conformal_of": lambda known: selective.conformal_of(CLEAN, known),
    "ood.bank_scores": lambda known: [
        *ood.detection(CLEAN, OUTSIDE, ood.bank_scores(known)).values(),
        *ood.full_spectrum([CLEAN], OUTSIDE, ood.bank_scores(known)).values(),
    ],
}


def test_every_property_that_takes_further_samples_is_here() -> None:
    names = {"calibration", "bank", "temperature"}
    found = set()
    for module in pkgutil.iter_modules(properties.__path__):
        own = importlib.import_module(f"{properties.__name__}.{module.name}")
        for name, function in inspect.getmembers(own, inspect.isfunction):
            if function.__module__ != own.__name__ or name.startswith("_"):
                continue
            given = inspect.signature(function).parameters
            further = [p for p in given.values() if p.name in names]
            # Arrays have no names: who hands them over says what they are of.
            if any(
                str(p.annotation).split(" |")[0] in ("Samples", "Embedded", "Temperature")
                for p in further
            ):
                found.add(f"{module.name}.{name}")
    # Neither makes figures: one says what is apart, the other takes arrays.
    assert found - {"ood.apart", "calibration.calibration_figures"} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_figures_that_hang_on_other_samples_are_not_paired(kind: str) -> None:
    whole, turned, fewer = (list(KINDS[kind](known)) for known in (CALIBRATION, TURNED, FEWER))
    for figure, same, other in zip(whole, turned, fewer, strict=True):
        assert figure.condition == other.condition is not None
        if figure.metric.startswith("classwise"):  # too much to keep for a comparison
            assert figure.outcomes is None
            continue
        assert figure.outcomes is not None
        assert figure.outcomes.fitted_on == contents_of(CALIBRATION) != ""
        assert change_between(same, figure, same_model=True).paired
        change = change_between(other, figure, same_model=True)
        assert not change.paired
        assert not change.one_model
        assert change.text().startswith(
            "not paired: its temperature, threshold or bank is of other calibration samples than the "
            "earlier run's; n = "
        )


def test_figures_without_further_samples_hang_on_none() -> None:
    figures = [
        *calibration.calibration_of(CLEAN).values(),
        *selective.selective_of(CLEAN),
        *ood.detection(CLEAN, OUTSIDE).values(),
    ]
    assert {figure.outcomes.fitted_on for figure in figures if figure.outcomes} == {""}


def test_what_an_older_baseline_does_not_say_is_taken_for_the_same() -> None:
    after = next(iter(KINDS["selective.abstention_of"](CALIBRATION)))
    assert after.outcomes is not None
    before = replace(after, outcomes=replace(after.outcomes, fitted_on=""))
    assert change_between(after, before).paired
    assert change_between(before, after).paired


def test_the_same_model_is_never_red_for_other_calibration_samples() -> None:
    """Fitted on fewer, the figure may be another; what is not paired decides little, and says why."""
    text = 'schema = 1\n[[threshold]]\nmetric = "conformal_coverage_lac"\nmax_decrease = 0.01\n'
    rule = parse_thresholds(text, "t.toml").rules[0]
    for n in (12, 20, 40, 60):
        before, after = (
            _of_metric("conformal_coverage_lac", selective.conformal_of(CLEAN, known))
            for known in (CALIBRATION, held("calibration", n, 2))
        )
        verdict = judge(
            Measurement("selective", "m", after),
            rule,
            Policy(),
            baseline=baseline_of(Measurement("selective", "m", before)),
        )
        assert verdict.status == "inconclusive"
        assert verdict.compared.startswith("not paired: its temperature, threshold or bank")


def _of_metric(metric: str, figures: list[Figure]) -> Figure:
    (found,) = (figure for figure in figures if figure.metric == metric)
    return found


# --- Another processor ------------------------------------------------------------------------------


def energies(moved: float) -> Figure:
    """Return the AUROC of scores that another processor moves by so much of their spread."""
    rng = np.random.default_rng(5)
    logits = rng.normal(8.0, 2.0, 200)
    logits[:100] += 2.0
    logits += moved * logits.std() * rng.uniform(-1.0, 1.0, 200)
    keys = keys_of(200)
    boot = CLEAN.bootstrap.of(keys)
    return ood.detection_figures(logits[:100], logits[100:], "energy", bootstrap=boot)[
        "auroc_energy"
    ]


def test_rounding_of_one_model_is_no_change_and_another_models_is() -> None:
    before, rounded = energies(0.0), energies(0.9 * SAME_OF_ONE_MODEL)
    change = change_between(rounded, before, same_model=True)
    assert (change.one_model, change.changed) == (True, 0.0)
    assert change.interval(0.9).high == 0.0
    assert not change_between(rounded, before).identical
    beyond = change_between(energies(5.0 * SAME_OF_ONE_MODEL), before, same_model=True)
    assert not beyond.identical
    # An answer is the same or not, whoever gives it.
    hits = np.arange(200) % 3 > 0
    other = hits.copy()
    other[0] ^= True
    answers = [
        selective.abstention_figures(
            1.0 - np.asarray(column, float),
            np.zeros(200, int),
            column,
            np.full(9, 0.5),
            bootstrap=CLEAN.bootstrap.of(keys_of(200)),
        )["abstention"]
        for column in (hits, other)
    ]
    assert not change_between(answers[1], answers[0], same_model=True).identical


def test_what_tied_when_it_was_kept_ties_now() -> None:
    """Scores that saturate lose their order in float32; both sides do, or an unchanged AUROC would move."""
    rng = np.random.default_rng(6)
    inside, outside = (1.0 - 1e-9 * rng.random(50) for _ in range(2))
    both, keys = np.concatenate([inside, outside]), keys_of(101)
    figures = []
    for last in (0.0, 0.5):  # one sample's score is another, so that something has changed
        scores = np.append(both, last)
        boot = CLEAN.bootstrap.of(keys)
        made = ood.detection_figures(scores[:50], scores[50:], "neglabel", bootstrap=boot)
        figures.append(made["auroc_neglabel"])
    before, after = figures
    assert before.outcomes is not None
    kept = {"score": before.outcomes["score"].astype(np.float32)}
    read = replace(before, outcomes=replace(before.outcomes, columns=kept))
    change = change_between(after, read)
    assert change.changed == 1 / 101
    # The sample lies below all others in either run.
    assert change.difference == 0.0

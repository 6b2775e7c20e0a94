"""Measurements and threshold files, made up for the tests of gating."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from helpers import keys_of

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Bools, Floats
from pytest_cliprobust.figures.bootstrap import Bootstrap, bootstrap_figure, proportion_figure
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.outcomes import Outcomes, mean
from pytest_cliprobust.gating.baseline import Baseline, Provenance, bare_key
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.rules import Rule

HEAD = "schema = 1\n"
RULE = HEAD + '[[threshold]]\nmetric = "ece"\n'

FILE = """\
schema = 1

[policy]
inconclusive = "fail"    # strict
confidence = 0.9

[[threshold]]            # line 7
metric = "ece"
max = 0.10
because = "the probabilities are shown to users"

[[threshold]]            # line 12
suite = "calibration"
metric = "ece"
perturbation = "fog_*"
max = 0.2

[[threshold]]            # line 18
suite = "calibration"
metric = "ece"
perturbation = ["fog_3d", "flash"]
severity = [4, 5]
max = 0.3
"""


def condition(
    dataset: str = "clean", perturbation: str = "clean", severity: int | None = None
) -> Condition:
    plain = perturbation == "clean" and severity is None
    return Condition(dataset, () if plain else (Step(perturbation, severity),))


def measure(
    metric: str = "ece",
    value: float = 0.15,
    *,
    suite: str = "calibration",
    model: str = "reference",
    dataset: str = "clean",
    perturbation: str = "clean",
    severity: int | None = None,
    half: float = 0.02,
    n: int = 1000,
) -> Measurement:
    figure = Figure(metric, value, value - half, value + half, n)
    return Measurement(suite, model, figure.measured_on(condition(dataset, perturbation, severity)))


def complaint(text: str, **vocabularies: Any) -> str:
    """Return the one line that is said of a wrong file."""
    with pytest.raises(ClipRobustError) as caught:
        parse_thresholds(text, "t.toml", **vocabularies)
    message = str(caught.value)
    assert "\n" not in message
    return message


def block(selector: Mapping[str, object], bound: str = "max = 0.9") -> str:
    """Return a rule for ``ece``."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in selector.items() if value is not None]
    return "\n".join(["[[threshold]]", 'metric = "ece"', *lines, bound, ""])


def gap_rule(**bounds: float) -> Rule:
    """Return a rule with these bounds, for a metric that has no good direction."""
    lines = "".join(f"{key} = 0.5\n" for key in bounds)
    text = f'{HEAD}[[threshold]]\nmetric = "signed_gap"\n{lines}because = "it matters"\n'
    names = {"min": "minimum", "max": "maximum"}
    values: dict[str, Any] = {names.get(key, key): value for key, value in bounds.items()}
    # Also bounds that no file may hold.
    return dataclasses.replace(parse_thresholds(text, "t.toml").rules[0], **values)


def gap(value: float, low: float, high: float, n: int = 400) -> Measurement:
    """Return a measurement with this interval, of that metric."""
    figure = Figure("signed_gap", value, low, high, n, method="stratified bootstrap, 1000")
    return Measurement("calibration", "reference", figure.measured_on(condition()))


def answered(
    hits: Bools,
    keys: SampleKeys | None = None,
    *,
    metric: str = "accuracy",
    suite: str = "accuracy",
    model: str = "reference",
    on: Condition | None = None,
) -> Measurement:
    """Return a share of answers (N,) with its outcomes; without keys each sample is its own unit."""
    settings = Bootstrap(replicates=100, keys=keys or keys_of(len(hits)))
    figure = proportion_figure(metric, hits, settings)
    return Measurement(suite, model, figure.measured_on(on or condition()))


def averaged(
    values: Floats,
    keys: SampleKeys | None = None,
    *,
    metric: str = "nll",
    model: str = "reference",
    replicates: int = 200,
) -> Measurement:
    """Return the mean of numbers (N,) with its outcomes."""
    settings = Bootstrap(replicates=replicates, keys=keys or keys_of(len(values)))
    figure = bootstrap_figure(
        metric, float(values.mean()), Outcomes({"value": values}, mean), settings
    )
    return Measurement("calibration", model, figure.measured_on(condition()))


def answers(n: int = 1000, share: float = 0.84) -> Bools:
    """Return answers (N,), the first ones right."""
    return np.arange(n) < round(share * n)


def changed(before: Bools, lost: int, gained: int = 0) -> Bools:
    """Return answers of which so many are right no more, and so many are right now."""
    after = before.copy()
    after[np.flatnonzero(before)[:lost]] = False
    after[np.flatnonzero(~before)[:gained]] = True
    return after


def baseline_of(
    *measurements: Measurement,
    provenance: Provenance | None = None,
    current: Provenance | None = None,
) -> Baseline:
    """Return an earlier run that measured this."""
    figures = {(bare_key(one), one.model): one.figure for one in measurements}
    return Baseline("t.baseline.safetensors", figures, provenance, current)


def same_again(*measurements: Measurement) -> Baseline:
    """Return an earlier run of the same models that measured this."""
    models = [one.model for one in measurements]
    provenance = Provenance(
        precision=dict.fromkeys(models, "fp32"),
        weights=dict.fromkeys(models, "ab12"),
        templates=dict.fromkeys(models, "t"),
    )
    return baseline_of(*measurements, provenance=provenance, current=provenance)


def accuracy_rule(bounds: str) -> Rule:
    """Return a rule with these lines of bounds, for accuracies."""
    text = f'{HEAD}[[threshold]]\nmetric = "accuracy"\n{bounds}\n'
    return parse_thresholds(text, "t.toml").rules[0]

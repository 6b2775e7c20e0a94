"""Runs without a model, for the history and what is made of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.figures.arrays import Bools
from pytest_cliprobust.figures.auroc import auroc
from pytest_cliprobust.figures.bootstrap import (
    Bootstrap,
    bootstrap_figure,
    mean_figure,
    paired_drop_figure,
    proportion_figure,
)
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.outcomes import Outcomes
from pytest_cliprobust.gating.baseline import Provenance
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.verdict import judge
from pytest_cliprobust.reporting.json import document
from pytest_cliprobust.results.earlier import Earlier
from pytest_cliprobust.results.history import History
from pytest_cliprobust.results.record import Record
from pytest_cliprobust.results.run import Environment, ModelSummary, Run

KEYS = SampleKeys(
    tuple(f"cat/{i}" for i in range(200)),
    tuple(f"drawing{i // 2}" for i in range(200)),
    kind="drawing",
)
CLEAN, FOG = Condition("clean"), Condition("clean", (Step("fog_3d", 3),))


def answers(share: float = 0.8, seed: int = 0, flipped: Iterable[int] = ()) -> Bools:
    """Return answers of which about a share is right, some of them turned."""
    right = np.random.default_rng(seed).random(len(KEYS)) < share
    right[list(flipped)] ^= True
    return right


def figures(right: Bools, seed: int = 0, keys: SampleKeys = KEYS) -> list[Figure]:
    """Return figures of several kinds: a share, a drop, an AUROC, a mean, one of an unknown statistic."""
    generator = np.random.default_rng(seed)
    bootstrap = Bootstrap(replicates=200, keys=keys)
    half = len(right) // 2
    scores = generator.normal(40, 9, len(right)) + 9 * right
    nats = generator.exponential(1.0, len(right))
    foggy = right & (generator.random(len(right)) < 0.8)
    return [
        proportion_figure("accuracy", right, bootstrap).measured_on(CLEAN),
        paired_drop_figure("accuracy_drop", right, foggy, bootstrap).measured_on(FOG),
        auroc("auroc_energy", scores[:half], scores[half:] - 9, bootstrap=bootstrap).measured_on(
            CLEAN
        ),
        mean_figure("nll", nats, bootstrap, supposed=(0.0, 5.0), unit="nats").measured_on(CLEAN),
        bootstrap_figure(
            "ece",
            float(np.median(nats)),
            Outcomes({"confidence": nats, "correct": right}, lambda w, own: w @ own["confidence"]),
            bootstrap,
        ).measured_on(CLEAN),
    ]


def a_run(
    made: Sequence[Figure],
    model: str = "reference",
    *,
    digest: str = "ab12",
    written: str = "2026-11-26T12:00:00+0000",
    seed: int = 0,
    suite: str = "mine",
    **other: Any,
) -> Run:
    """Return a run of these figures."""
    records = []
    for figure in made:
        measurement = Measurement(suite, model, figure)
        records.append(
            Record(measurement, judge(measurement, None, Policy()), f"test_{suite}.py::test_it")
        )
    summary = ModelSummary(model, "ViT", "own", digest, (), {}, "cpu", "fp32")
    provenance = Provenance("quick", seed, {model: "fp32"}, {model: digest}, {model: "t"})
    return Run(
        RunConfig((model,), profile="quick", seed=seed),
        tuple(sorted(records, key=lambda record: record.key)),
        {model: summary},
        provenance=provenance,
        environment=Environment("3.11", "2.10", "here"),
        written=written,
        **other,
    )


def keep(history: History, run: Run, *tags: str) -> int:
    """Add a run to a history, and return its number."""
    return history.write(document(run), {r.key: r.figure for r in run.records}, tags)


def kept(path: Path, *runs: Run) -> list[Earlier]:
    """Return runs as they come back from a history."""
    with History(path, create=True) as history:
        return [history.run(keep(history, run)) for run in runs]

"""Measure how long a history takes to write and read a run of a million outcomes.

``python benchmarks/history_speed.py`` makes 1,000 figures on 1,000 samples each, half of answers and half of
numbers, all of them different, and prints the seconds and the size. ``docs/history.md`` shows what it
printed.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.figures.bootstrap import Bootstrap, proportion_figure
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.outcomes import Outcomes, mean
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.verdict import judge
from pytest_cliprobust.reporting.json import document
from pytest_cliprobust.results.compare import compare
from pytest_cliprobust.results.history import History
from pytest_cliprobust.results.record import Record
from pytest_cliprobust.results.run import ModelSummary, Run

FIGURES = 1000
SAMPLES = 1000


def run(seed: int) -> Run:
    """Return a run whose figures have nothing in common but their samples."""
    generator = np.random.default_rng(seed)
    names = tuple(f"class{i % 134:03}/picture{i:05}" for i in range(SAMPLES))
    keys = SampleKeys(names, tuple(f"drawing{i // 2}" for i in range(SAMPLES)), kind="drawing")
    bootstrap = Bootstrap(keys=keys)
    records = []
    for number in range(FIGURES):
        condition = Condition("clean", (Step(f"perturbation{number:04}", 3),))
        if number % 2:
            figure = proportion_figure("accuracy", generator.random(SAMPLES) < 0.8, bootstrap)
        else:
            values = generator.exponential(1.0, SAMPLES)
            outcomes = Outcomes({"value": values}, mean, keys=keys)
            value = float(values.mean())
            figure = Figure("nll", value, value - 0.1, value + 0.1, SAMPLES, outcomes=outcomes)
        measurement = Measurement("speed", "reference", figure.measured_on(condition))
        records.append(Record(measurement, judge(measurement, None, Policy()), "test_speed.py"))
    summary = ModelSummary("reference", "ViT", "own", "ab12", (), {}, "cpu", "fp32")
    return Run(RunConfig(("reference",)), tuple(records), {"reference": summary})


def main() -> None:
    """Write two runs, read them and compare them."""
    first, second = run(0), run(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.sqlite"
        for made, what in ((first, "written"), (second, "beside it"), (second, "the same again")):
            told = document(made)
            start = time.perf_counter()
            with History(path, create=True) as history:
                history.write(told, {record.key: record.figure for record in made.records})
            taken = time.perf_counter() - start
            print(f"{what}: {taken:.2f} s, {path.stat().st_size / 1e6:.1f} MB in all")
        start = time.perf_counter()
        with History(path) as history:
            base, head = history.run(1), history.run(2)
        print(f"two runs read: {time.perf_counter() - start:.2f} s")
        start = time.perf_counter()
        rows = compare(base, head).rows
        print(f"{len(rows)} figures compared: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()

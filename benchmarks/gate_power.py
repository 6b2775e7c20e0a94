"""What a recorded gate sees, and how often it cries wolf: a simulation with the gate's own code.

    python benchmarks/gate_power.py
    python benchmarks/gate_power.py --draws 5000 --drawings 4

A model with an accuracy of 0.84 is recorded on n samples; the margin is the one that recording proposes.
The next model changes 3% of the answers each way, and loses a share of the others on top: none, one and
a half margins, or two. Each draw is judged by the gate, as the only bound or (``--bounds 20``) as one of
several headlines. The table shows the margin, the share of draws without a loss that pass and that are red,
and the share of draws with a loss that are red. docs/thresholds.md shows it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass

import numpy as np

from pytest_cliprobust.figures.bootstrap import Bootstrap, proportion_figure
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.gating.baseline import Baseline
from pytest_cliprobust.gating.family import Family
from pytest_cliprobust.gating.margins import decidable
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.rules import Rule
from pytest_cliprobust.gating.verdict import judge

ACCURACY = 0.84
CHURN = 0.06
SIZES = (134, 1000, 5000)
LOSSES = (0.0, 1.5, 2.0)


@dataclass(frozen=True)
class Row:
    """What was counted at one n.

    Attributes:
        n: number of samples.
        margin: that recording proposes.
        passed: share of draws without a loss that pass.
        red: share of draws that fail, by loss in margins.
    """

    n: int
    margin: float
    passed: float
    red: dict[float, float]


def figure_of(correct: np.ndarray, keys: SampleKeys) -> Figure:
    """Return the accuracy of answers (N,) as a figure of the clean set."""
    made = proportion_figure("accuracy", correct, Bootstrap(keys=keys))
    return made.measured_on(Condition("clean"))


def answers(
    generator: np.random.Generator, n: int, loss: float, units: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return answers (N,) of the recorded model and of the next one, which loses ``loss``.

    Samples of one unit are right or wrong together where one draw decides them: half of the time.
    """
    count = int(units.max()) + 1

    def uniform() -> np.ndarray:
        alike = generator.random(count)[units]
        return np.where(generator.random(n) < SHARED, alike, generator.random(n))

    before = uniform() < ACCURACY
    half = CHURN / 2.0
    change = uniform()
    lost = before & (change < (half + loss) / ACCURACY)
    gained = ~before & (change < half / (1.0 - ACCURACY))
    return before, (before & ~lost) | gained


#: Share of samples whose fate their unit decides, where units have several samples.
SHARED = 0.0


def measure(n: int, draws: int, seed: int, per_unit: int, family: Family) -> Row:
    """Return the row of one n."""
    generator = np.random.default_rng([seed, n])
    units = np.arange(n) // per_unit
    ids = tuple(map(str, range(n)))
    keys = SampleKeys(ids, tuple(map(str, units)), kind="drawing")
    policy = Policy()
    typical = np.zeros(n, dtype=np.bool_)
    typical[: round(ACCURACY * n)] = True
    if per_unit > 1:
        typical = answers(generator, n, 0.0, units)[0]
    margin = decidable(figure_of(typical, keys), policy)
    assert margin is not None
    rule = Rule(0, 1, "thresholds.toml", {"metric": ("accuracy",)}, max_decrease=margin.size)
    seen = {loss: Counter[str]() for loss in LOSSES}
    for loss in LOSSES:
        for _ in range(draws):
            before, after = answers(generator, n, loss * margin.size, units)
            baseline = Baseline(
                "simulated", {("accuracy/accuracy/clean/clean", "v1"): figure_of(before, keys)}
            )
            measurement = Measurement("accuracy", "v2", figure_of(after, keys))
            rate = family.error_rate(measurement, policy)
            verdict = judge(measurement, rule, policy, baseline=baseline, error_rate=rate)
            seen[loss][verdict.status] += 1
    return Row(
        n,
        margin.size,
        seen[0.0]["pass"] / draws,
        {loss: counts["fail"] / draws for loss, counts in seen.items()},
    )


def main() -> None:
    """Print the table."""
    global SHARED
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--bounds", type=int, default=1, help="headlines that the run has a bound for"
    )
    parser.add_argument("--drawings", type=int, default=1, help="samples of one drawing")
    options = parser.parse_args()
    SHARED = 0.7 if options.drawings > 1 else 0.0
    print("| n | margin proposed | no loss: passes / red | loss of 1.5 / 2 margins: red |")
    print("| --- | --- | --- | --- |")
    for n in SIZES:
        row = measure(n, options.draws, options.seed, options.drawings, Family(options.bounds, 0))
        print(
            f"| {row.n} | {100 * row.margin:.2g} points | {row.passed:.1%} / {row.red[0.0]:.2%} | "
            f"{row.red[1.5]:.1%} / {row.red[2.0]:.1%} |"
        )


if __name__ == "__main__":
    main()

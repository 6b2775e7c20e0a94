"""How often a whole run is red although nothing was lost: a simulation with the shipped bounds.

    python benchmarks/whole_run.py --twin ./twin
    pytest --clip-model reference suites/ --clip-history=h.sqlite
    pytest --clip-model ./twin suites/ --clip-history=h.sqlite
    python benchmarks/whole_run.py h.sqlite 1 2

The twin is the bundled model with Gaussian noise of 5% of each weight matrix's deviation. The two runs give
what a figure's samples came to under either. In each draw the units (drawings, clip arts, shapes) are drawn
anew with replacement, the same for all figures, and of each it is tossed which of the two models is the
earlier one: the answers change as they do between the two, and nothing is lost on average, since either
direction is as likely. Then every bound on a change is judged, with the gate's own code, and the whole run is
settled. The share of draws with a failure, at most 5% by the policy, is printed with its 95% interval.
docs/thresholds.md shows it.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import pytest_cliprobust.embedded
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.intervals import wilson
from pytest_cliprobust.figures.keys import SampleKeys, matched
from pytest_cliprobust.figures.outcomes import Outcomes
from pytest_cliprobust.figures.recipes import Recipe, recipe_of
from pytest_cliprobust.gating.baseline import Baseline, bare_key
from pytest_cliprobust.gating.family import Family, settled
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.reading import load_thresholds
from pytest_cliprobust.gating.rules import CHANGES, Rule
from pytest_cliprobust.gating.thresholds import ThresholdFile
from pytest_cliprobust.gating.verdict import Verdict, judge
from pytest_cliprobust.results.earlier import Earlier
from pytest_cliprobust.results.history import earlier_run

FOLDER = Path(pytest_cliprobust.embedded.__path__[0]) / "data" / "reference"
NOISE = 0.05


@dataclass(frozen=True)
class Pair:
    """One bounded figure under both models, on the same samples.

    Attributes:
        measurement: of one of them.
        rule: that judges it.
        recipe: how it follows from its samples.
        one, other: what the samples came to.
    """

    measurement: Measurement
    rule: Rule
    recipe: Recipe
    one: Outcomes
    other: Outcomes

    def drawn(self, draw: Draw) -> tuple[Figure, Figure]:
        """Return the figure of the earlier and of the later model in a draw."""
        assert self.one.keys is not None
        rows, keys, swapped = draw.of(self.one.keys)
        sides = []
        for first, second in ((self.one, self.other), (self.other, self.one)):
            mine, theirs = first.take(rows), second.take(rows)
            columns = {}
            for name, column in mine.columns.items():
                toss = swapped.reshape(-1, *([1] * (column.ndim - 1)))
                columns[name] = np.where(toss, theirs.columns[name], column)
            sides.append(self.recipe.of(replace(mine, columns=columns, keys=keys)))
        figures = []
        for outcomes in sides:
            value = outcomes.value()
            made = replace(
                self.measurement.figure,
                value=value,
                low=value - 1e-9,
                high=value + 1e-9,
                n=len(rows),
                outcomes=outcomes,
                ends=None,
            )
            figures.append(made.measured_on(self.measurement.condition))
        return figures[0], figures[1]


class Draw:
    """Which units a draw holds, how often, and which of them are swapped: the same for all figures.

    How often is Poisson-distributed about 1 and hangs on the unit's name alone, so that a data set and a
    part of it draw the same units.
    """

    def __init__(self, seed: int, number: int) -> None:
        self._seed = [seed, number]
        self._known: dict[str, tuple[bool, ...]] = {}

    def of(self, keys: SampleKeys) -> tuple[np.ndarray, SampleKeys, np.ndarray]:
        """Return rows (M,), their keys, and whether each row is swapped (M,)."""
        rows, ids, units, swapped = [], [], [], []
        for row, (name, unit) in enumerate(zip(keys.ids, keys.units, strict=True)):
            for copy, toss in enumerate(self._copies(unit)):
                rows.append(row)
                ids.append(f"{name}#{copy}")
                units.append(f"{unit}#{copy}")
                swapped.append(toss)
        names = tuple(ids)
        return (
            np.array(rows, dtype=np.int64),
            SampleKeys(names, tuple(units), names, keys.kind),
            np.array(swapped, dtype=np.bool_),
        )

    def _copies(self, unit: str) -> tuple[bool, ...]:
        """Return for each copy of a unit whether it is swapped."""
        if unit not in self._known:
            digest = hashlib.blake2b(unit.encode(), digest_size=8).digest()
            generator = np.random.default_rng([*self._seed, int.from_bytes(digest, "little")])
            tosses = generator.integers(2, size=int(generator.poisson(1.0)))
            self._known[unit] = tuple(map(bool, tosses))
        return self._known[unit]


def pairs_of(one: Earlier, other: Earlier, thresholds: ThresholdFile) -> Iterator[Pair]:
    """Yield the figures that both runs have and that a bound on a change is for."""
    theirs = {bare_key(m): m for m in other.measurements.values()}
    for measurement in one.measurements.values():
        rule = thresholds.lookup(measurement)
        second = theirs.get(bare_key(measurement))
        if rule is None or second is None or not any(kind in rule.bounds for kind in CHANGES):
            continue
        figures = (measurement.figure, second.figure)
        recipe = recipe_of(*figures)
        if recipe is None or any(f.outcomes is None or f.outcomes.keys is None for f in figures):
            print(f"left out, no recipe: {bare_key(measurement)}", file=sys.stderr)
            continue
        mine, counterpart = (f.outcomes for f in figures)
        assert mine is not None
        assert mine.keys is not None
        assert counterpart is not None
        assert counterpart.keys is not None
        rows, others = matched(mine.keys, counterpart.keys)
        yield Pair(measurement, rule, recipe, mine.take(rows), counterpart.take(others))


def judged(
    pairs: Sequence[Pair], draw: Draw, thresholds: ThresholdFile, family: Family
) -> list[tuple[Measurement, Verdict]]:
    """Return the verdicts of one draw."""
    found = []
    for pair in pairs:
        before, after = pair.drawn(draw)
        suite = pair.measurement.suite
        measurement = Measurement(suite, "later", after)
        key = (bare_key(measurement), "earlier")
        verdict = judge(
            measurement,
            pair.rule,
            thresholds.policy,
            baseline=Baseline("the earlier model", {key: before}),
            error_rate=family.error_rate(measurement, thresholds.policy),
        )
        found.append((measurement, verdict))
    return found


def write_twin(folder: Path) -> None:
    """Write the bundled model with a little noise on its weight matrices."""
    shutil.copytree(FOLDER, folder)
    path = folder / "open_clip_model.safetensors"
    generator = torch.Generator().manual_seed(0)
    weights = load_file(path)
    for name, weight in weights.items():
        if weight.ndim > 1 and weight.is_floating_point():
            noise = torch.randn(weight.shape, generator=generator)
            weights[name] = (weight.float() + NOISE * weight.float().std() * noise).to(weight.dtype)
    save_file(weights, path)


def main() -> None:
    """Print the share of draws that are red."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("history", type=Path, nargs="?")
    parser.add_argument("one", nargs="?", help="a run")
    parser.add_argument("other", nargs="?", help="another")
    parser.add_argument("--twin", type=Path, help="write the bundled model's twin to this folder")
    parser.add_argument("--thresholds", type=Path, default=Path("thresholds.toml"))
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.twin is not None:
        write_twin(options.twin)
        return
    thresholds = load_thresholds(options.thresholds)
    runs = [earlier_run(name, options.history) for name in (options.one, options.other)]
    pairs = list(pairs_of(runs[0], runs[1], thresholds))
    family = Family.of(pair.measurement for pair in pairs)
    statuses, red, culprits = Counter[str](), 0, Counter[str]()
    for number in range(options.draws):
        rows = judged(pairs, Draw(options.seed, number), thresholds, family)
        after = settled(rows, thresholds.policy)
        statuses.update(verdict.status for verdict in after)
        failed = [m for (m, _), v in zip(rows, after, strict=True) if v.failed]
        culprits.update(bare_key(m) for m in failed)
        red += bool(failed)
        if (number + 1) % 25 == 0:
            print(f"{number + 1} draws: {red} red", file=sys.stderr, flush=True)
    ends = wilson(red, options.draws)
    total = sum(statuses.values())
    print(
        f"{len(pairs)} bounds ({family.headlines} headlines, {family.details} details): "
        f"{red} of {options.draws} draws red, {red / options.draws:.1%} [{ends.low:.1%}, {ends.high:.1%}]"
    )
    print(", ".join(f"{status} {count / total:.2%}" for status, count in statuses.most_common()))
    for key, count in culprits.most_common(5):
        print(f"  {count} x {key}")


if __name__ == "__main__":
    main()

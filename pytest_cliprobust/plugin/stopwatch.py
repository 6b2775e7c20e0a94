"""Times two pieces of work in turn, by pytest-benchmark."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pytest_cliprobust.figures.arrays import Floats

Work = Callable[[], None]

#: Rounds of each that are not counted: what is made at the first call is made then.
WARM_UP = 2


class Stopwatch:
    """Times pieces of work beside each other, so that whatever else the machine does meets both.

    Args:
        benchmark: the fixture of pytest-benchmark, which has the clock; good for one use.
    """

    def __init__(self, benchmark: Any) -> None:
        self._benchmark = benchmark

    def in_turn(self, own: Work, baseline: Work, rounds: int) -> Floats:
        """Return the seconds (rounds, 2) of both, each round of which times one right after the other.

        pytest-benchmark's table shows ``own`` alone.
        """
        turns = itertools.cycle((own, baseline))
        self._benchmark.pedantic(
            lambda work: work(),
            setup=lambda: ((next(turns),), {}),
            rounds=2 * rounds,
            warmup_rounds=2 * WARM_UP,
        )
        stats = self._benchmark.stats.stats
        seconds = np.array(stats.data, dtype=np.float64).reshape(rounds, 2)
        stats.data[:] = seconds[:, 0].tolist()
        return seconds


def stopwatch_of(request: pytest.FixtureRequest) -> Stopwatch:
    """Return the stopwatch of a test; not run where pytest-benchmark is not to be had."""
    if not request.config.pluginmanager.hasplugin("benchmark"):
        pytest.skip("needs the plugin pytest-benchmark, which is not installed or turned off")
    benchmark = request.getfixturevalue("benchmark")
    if benchmark.disabled:
        benchmark.skipped = True
        pytest.skip("needs timings: --benchmark-disable (or pytest -n) has turned them off")
    return Stopwatch(benchmark)

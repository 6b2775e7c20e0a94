"""The suite `performance` in whole sessions: with a clock that goes as the test says."""

from __future__ import annotations

import pytest
from helpers import SUITES, Sessions, report

SUITE = f"{SUITES}/test_performance.py"

#: A clock that moves a second for each pass of one encoder, and two for each of the other.
ENCODERS = """
import zlib

import torch
from torch import nn

now = 0.0

def clock():
    return now

class Encoder:
    image_size = 32

    def __init__(self, seconds):
        self.seconds = seconds
        torch.manual_seed(0)
        self.tower = nn.Linear(3 * 32 * 32, 16)

    def encode_image(self, pixels):
        global now
        now += self.seconds
        return self.tower(pixels.flatten(1))

    def encode_text(self, texts):
        seeds = [zlib.crc32(text.encode()) for text in texts]
        return torch.stack([torch.randn(16, generator=torch.manual_seed(s)) for s in seeds])

def fast():
    return Encoder(1.0)

def slow():
    return Encoder(2.0)
"""


@pytest.fixture
def timed(run: Sessions, monkeypatch: pytest.MonkeyPatch) -> Sessions:
    """Sessions that know the encoders; pytest-benchmark times nothing in a worker of pytest-xdist."""
    run.pytester.makepyfile(made_up_clock=ENCODERS)
    monkeypatch.syspath_prepend(str(run.path))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    return run


BOTH = ("--clip-model=slow=made_up_clock:slow", "--clip-against=fast=made_up_clock:fast")


def test_the_model_under_test_beside_the_baseline(timed: Sessions) -> None:
    bound = (
        'schema = 1\n[[threshold]]\nsuite = "performance"\nmetric = "relative_latency"\nmax = 1.5\n'
    )
    result = timed(
        SUITE,
        *BOTH,
        "--benchmark-timer=made_up_clock.clock",
        "--clip-report=report.json",
        thresholds=bound,
    )
    # Twelve rounds are too few for a test to fail at once while it is not known how many figures there are;
    # at the end it is.
    result.assert_outcomes(passed=3, skipped=3)
    assert result.ret == 1
    found = {e["figure"]["metric"]: e for e in report()["measurements"]}
    values = {name: entry["figure"]["value"] for name, entry in found.items()}
    assert values["relative_throughput"] == 0.5
    assert values["throughput"] == 16.0
    assert (values["relative_latency"], values["latency"]) == (2.0, 2000.0)
    assert values["relative_peak_memory"] == 1.0
    assert values["peak_memory"] > 4e-6 * 16 * 3 * 32 * 32
    assert found["relative_latency"]["verdict"]["status"] == "fail"
    assert found["relative_throughput"]["figure"]["n"] == 12
    result.stdout.fnmatch_lines(
        [
            "FAIL: relative_latency*",
            "error: performance/relative_latency/clean/clean/slow fails, although its test passed*",
        ]
    )
    # pytest-benchmark's own table has the model under test alone.
    result.stdout.re_match_lines([r"test_latency\[slow\] +2\.0+ .* 2\.0+ "])


def test_without_a_baseline_model_it_is_not_run(run: Sessions) -> None:
    result = run(SUITE)
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines(
        ["not run: 3 tests of performance: needs a baseline model*--clip-against MODEL"]
    )


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (("-p", "no:benchmark"), "needs the plugin pytest-benchmark"),
        (("--benchmark-disable",), "needs timings: --benchmark-disable"),
    ],
)
def test_without_pytest_benchmark_times_are_not_run(
    timed: Sessions, option: tuple[str, ...], told: str
) -> None:
    result = timed(SUITE, *BOTH, *option, "-k", "slow")
    result.assert_outcomes(passed=1, skipped=2, deselected=3)
    result.stdout.fnmatch_lines([f"not run: 2 tests of performance: {told}*"])

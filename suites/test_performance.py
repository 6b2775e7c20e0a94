"""What a model costs beside a baseline model, in the same run: ``--clip-against MODEL``.

Throughput, latency and peak memory of the image encoder, as multiples of the baseline model's: both take
turns on one machine, timed by pytest-benchmark. What a second of this machine is worth is reported, too, and
cannot be gated.
"""

from __future__ import annotations

from pytest_cliprobust.engine.encoding import chunk_on
from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.engine.performance import Passes
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.plugin.stopwatch import Stopwatch
from pytest_cliprobust.properties import performance

ROUNDS = {"quick": 12, "standard": 30, "full": 100}
PASSES = 3


def passes(clip: Evaluation, pictures: int) -> Passes:
    """Return passes of a model over so many clean pictures."""
    return Passes(clip.target, clip.on("clean", limit=pictures))


def test_throughput(
    clip: Evaluation, clip_against: Evaluation, gate: Gate, stopwatch: Stopwatch
) -> None:
    """As many pictures a pass as the evaluation itself takes."""
    pictures = chunk_on(clip.target.device)
    own, baseline = passes(clip, pictures), passes(clip_against, pictures)
    seconds = stopwatch.in_turn(own, baseline, ROUNDS[clip.config.profile])
    gate(performance.throughput_of(own.view, seconds))


def test_latency(
    clip: Evaluation, clip_against: Evaluation, gate: Gate, stopwatch: Stopwatch
) -> None:
    """One picture a pass."""
    own, baseline = passes(clip, 1), passes(clip_against, 1)
    seconds = stopwatch.in_turn(own, baseline, ROUNDS[clip.config.profile])
    gate(performance.latency_of(own.view, seconds))


def test_peak_memory(clip: Evaluation, clip_against: Evaluation, gate: Gate) -> None:
    pictures = chunk_on(clip.target.device)
    own, baseline = passes(clip, pictures), passes(clip_against, pictures)
    used = [[one.peak_memory() for _ in range(PASSES)] for one in (own, baseline)]
    gate(performance.peak_memory_of(own.view, *used))

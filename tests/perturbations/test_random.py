"""The counter-based random numbers: distribution, independence, and the same bits everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import mostly_slow
from scipy import stats
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pytest_cliprobust.perturbations import random

DRAWS: dict[str, Callable[[Tensor, tuple[int, ...]], Tensor]] = {
    "bits": random.bits,
    "uniform": random.uniform,
    "normal": random.normal,
    "poisson_small": lambda seeds, shape: random.poisson(
        seeds, 3 * random.uniform(seeds, shape, stream=9)
    ),
    "poisson_large": lambda seeds, shape: random.poisson(
        seeds, 60 * random.uniform(seeds, shape, stream=9)
    ),
}


def test_uniform_is_uniform() -> None:
    values = random.uniform(torch.arange(8), (1 << 17,))
    assert stats.kstest(values.flatten().double().numpy(), "uniform").pvalue > 1e-3
    assert 0 < values.min() < 2e-5
    assert 1 - 2e-5 < values.max() < 1


def test_uniform_keeps_to_its_ends() -> None:
    values = random.uniform(torch.arange(4), (5000,), -3.0, 7.0, dtype=torch.float64)
    assert values.dtype == torch.float64
    assert -3 <= values.min() < -2.98
    assert 6.98 < values.max() <= 7
    assert abs(float(values.mean()) - 2) < 5 * 10 / math.sqrt(12 * 20000)


def test_moments_of_normal() -> None:
    values = random.normal(torch.arange(100, 116), (1 << 17,)).double().flatten()
    count = len(values)
    # Standard errors of the first four moments of a normal sample.
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        moment = float((values**power).mean())
        assert abs(moment - expected) < 4 * math.sqrt(variance / count), power
    assert stats.kstest(values[::4].numpy(), "norm").pvalue > 1e-3


@pytest.mark.slow
def test_tails_of_normal() -> None:
    values = random.normal(torch.arange(32), (1 << 19,))
    for bound in (3.0, 4.0, 4.5):
        expected = values.numel() * stats.norm.sf(bound)
        for seen in ((values > bound).sum(), (values < -bound).sum()):
            assert abs(int(seen) - expected) < 4.5 * math.sqrt(expected), bound
    assert 5.0 < float(values.abs().max()) < 5.3


def test_every_bit_is_fair_and_changes_with_every_bit_of_the_seed() -> None:
    seeds = torch.tensor([0x1234_5678_9ABC_DEF0])
    length = 1 << 14
    shifts = torch.arange(32)

    def as_bits(values: Tensor) -> Tensor:
        return (values[..., None] >> shifts) & 1

    base = as_bits(random.bits(seeds, (length,)))
    slack = 5 * 0.5 / math.sqrt(length)
    assert (base.float().mean(1) - 0.5).abs().max() < slack
    for bit in range(63):
        flipped = base ^ as_bits(random.bits(seeds ^ (1 << bit), (length,)))
        assert (flipped.float().mean(1) - 0.5).abs().max() < slack, bit


@pytest.mark.parametrize(
    "sequences",
    [
        pytest.param(lambda n: random.normal(torch.arange(12), (n,)), id="consecutive seeds"),
        pytest.param(lambda n: random.normal(torch.arange(12) << 32, (n,)), id="upper halves"),
        pytest.param(
            lambda n: torch.cat(
                [random.normal(torch.tensor([5]), (n,), stream=s) for s in range(12)]
            ),
            id="streams",
        ),
        pytest.param(
            # A seed moved by the constant of the streams: the same first key for another stream.
            lambda n: torch.cat(
                [random.normal(torch.tensor([s * 374761393]), (n,), stream=5 - s) for s in range(6)]
            ),
            id="seeds that make up for the stream",
        ),
    ],
)
def test_sequences_are_independent_at_every_shift(sequences: Callable[[int], Tensor]) -> None:
    length = 1 << 15
    rows = sequences(length)
    spectrum = torch.fft.rfft(rows.double())
    for i in range(len(rows)):
        for j in range(i, len(rows)):
            correlation = torch.fft.irfft(spectrum[i] * spectrum[j].conj()) / length
            if i == j:
                correlation = correlation[1:]
            # The largest of some 10^6 normal numbers is below 5.7 with probability 99 %.
            assert correlation.abs().max() < 5.7 / math.sqrt(length), (i, j)


def test_neighbours_fill_the_plane_evenly() -> None:
    values = random.uniform(torch.tensor([3]), (1 << 20,))[0]
    cells = (values[0::2] * 64).long() * 64 + (values[1::2] * 64).long()
    observed = torch.bincount(cells, minlength=4096).numpy()
    assert 1e-3 < stats.chisquare(observed).pvalue < 1 - 1e-3


@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0, 2.5, 4.0, 6.0, 12.0, 25.0, 60.0, 150.0])
def test_poisson_has_its_distribution(rate: float) -> None:
    count = 400_000
    draws = random.poisson(torch.tensor([11]), torch.full((1, count), rate))
    values = np.arange(int(rate + 12 * math.sqrt(rate) + 12))
    expected = count * stats.poisson.pmf(values, rate)
    observed = np.bincount(draws.long().flatten().numpy(), minlength=len(values)).astype(float)
    assert len(observed) == len(values)
    often = expected > 10
    rest = max(expected[~often].sum(), 1e-9)
    observed = np.append(observed[often], observed[~often].sum())
    expected = np.append(expected[often], rest)
    statistic = float(((observed - expected) ** 2 / np.maximum(expected, 1)).sum())
    assert stats.chi2.sf(statistic, len(expected) - 1) > 1e-3


@pytest.mark.parametrize(
    ("rate", "share"),
    [
        pytest.param(0.5, 2e-5, marks=pytest.mark.slow),
        pytest.param(1.0, 5e-5, marks=pytest.mark.slow),
        (2.5, 3e-4),
        pytest.param(4.0, 5e-4, marks=pytest.mark.slow),
        pytest.param(12.0, 4e-4, marks=pytest.mark.slow),
        (60.0, 2e-4),
    ],
)
def test_poisson_is_the_quantile_of_the_uniform_draw(rate: float, share: float) -> None:
    seeds = torch.tensor([7, 8])
    shape = (60_000,)
    draws = random.poisson(seeds, torch.full((2, *shape), rate), stream=4)
    exact = stats.poisson.ppf(random.uniform(seeds, shape, stream=4).double().numpy(), rate)
    assert (draws.numpy() != exact).mean() < share
    assert np.abs(draws.numpy() - exact).max() <= (2 if rate < 1.5 else 1)


def test_poisson_of_nothing_and_of_very_much() -> None:
    seeds = torch.tensor([1])
    assert not random.poisson(seeds, torch.zeros(1, 5000)).any()
    for rate in (85.0, 1e3, 1e6, 1e12):
        draws = random.poisson(seeds, torch.full((1, 5000), rate)).double()
        assert abs(float(draws.mean()) / rate - 1) < 5 / math.sqrt(5000 * rate) + 1e-6
        if rate < 1e7:
            assert 0.9 < float(draws.var()) / rate < 1.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_poisson_keeps_the_dtype(dtype: torch.dtype) -> None:
    rates = torch.full((1, 500), 3.0, dtype=dtype)
    draws = random.poisson(torch.tensor([1]), rates)
    assert draws.dtype == dtype
    assert torch.equal(draws.float(), random.poisson(torch.tensor([1]), rates.float()))


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("shape", [(1,), (3, 17, 19), (3, 101, 103)])
def test_a_row_has_the_same_bits_in_every_batch(name: str, shape: tuple[int, ...]) -> None:
    draw = DRAWS[name]
    seeds = torch.arange(11) * 7919
    whole = draw(seeds, shape)
    assert whole.shape == (11, *shape)
    for rows in ([4], [10, 0, 3], list(range(1, 11))):
        assert torch.equal(draw(seeds[rows], shape), whole[rows])


def test_keys_agree_between_host_and_device(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    seeds = torch.randint(-(2**63), 2**63 - 1, (500,), generator=generator)
    seeds = torch.cat([seeds, torch.tensor([0, 1, -1, 2**31, 2**32, 2**63 - 1, -(2**63)])])
    host = [random.bits(seeds, (3,), stream) for stream in range(4)]
    monkeypatch.setattr(random, "on_host", lambda seeds: False)
    for stream in range(4):
        assert torch.equal(random.bits(seeds, (3,), stream), host[stream])


@pytest.mark.parametrize("name", mostly_slow(DRAWS, {"uniform"}))
def test_never_leaves_the_device_and_traces(name: str) -> None:
    draw = DRAWS[name]
    with FakeTensorMode():
        result = draw(torch.empty(4, dtype=torch.int64, device="cuda"), (3, 8, 8))
        assert result.device.type == "cuda"
    compiled = torch.compile(lambda seeds: draw(seeds, (3, 8, 8)), fullgraph=True, backend="eager")
    seeds = torch.arange(4)
    assert torch.equal(compiled(seeds), draw(seeds, (3, 8, 8)))
    torch._dynamo.reset()

"""Counter-based random numbers: a pure function of (seed, stream, position).

The same sample therefore gets the same noise in every batch, order and worker, and nothing has to be
drawn on the host. The generator hashes a 32-bit counter with the sample's 64-bit seed, as the
generators of Salmon et al. ("Parallel random numbers: as easy as 1, 2, 3", SC 2011) do: the two rounds
of MurmurHash3's 32-bit finaliser (Appleby 2011), with half of the key added before the first and the
other half before the second, so that two samples' sequences are no shifted copies of one another.

Integers are the same on every device; floats that went through a transcendental function (normal,
Poisson) may differ between devices in the last bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pytest_cliprobust.perturbations.filters import on_host

_MASK = 0xFFFFFFFF
_WEYL = -1640531535  # 2654435761, Knuth's multiplicative hash, as a signed 32-bit number
_WEYL_STEP = -1640531527  # 2654435769, 2³² over the golden ratio
_FIRST = -2048144789  # 0x85EBCA6B
_SECOND = -1028477387  # 0xC2B2AE35

#: So many numbers a sample are drawn in python, where they are on the host.
_FEW = 8

#: The largest count that :func:`poisson` inverts exactly.
_POISSON_INVERTED = 7


def _mix(x: Tensor) -> Tensor:
    # int32 arithmetic wraps around; ">> s" is arithmetic, so the sign bits are masked away.
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * _FIRST
    x = x ^ ((x >> 13) & 0x7FFFF)
    x = x * _SECOND
    return x ^ ((x >> 16) & 0xFFFF)


def _keys(seeds: Tensor, stream: int) -> tuple[Tensor, Tensor]:
    """Return the two halves of each sample's key, int32 (B,)."""
    if on_host(seeds):
        # The same in python: for one sample, thirty tiny tensor operations take longer than the noise.
        keys = torch.tensor(_host_keys(seeds, stream), dtype=torch.int32).view(-1, 2)
        return keys[:, 0], keys[:, 1]
    low = (seeds & _MASK).to(torch.int32)
    high = ((seeds >> 32) & _MASK).to(torch.int32)
    first = _mix(low + _step(stream)) ^ _mix(high + _WEYL_STEP)
    return first, _mix(first ^ high) + low


def _step(stream: int) -> int:
    return 374761393 * (stream + 1) % 2147483647


def _host_keys(seeds: Tensor, stream: int) -> list[tuple[int, int]]:
    step = _step(stream)
    return [_key(seed, step) for seed in seeds.tolist()]


def _key(seed: int, step: int) -> tuple[int, int]:
    low, high = seed & _MASK, (seed >> 32) & _MASK
    first = _mix_integer(low + step) ^ _mix_integer(high + _WEYL_STEP)
    return _signed(first), _signed(_mix_integer(first ^ high) + low)


def _mix_integer(x: int) -> int:
    x &= _MASK
    x = (x ^ (x >> 16)) * _FIRST & _MASK
    x = (x ^ (x >> 13)) * _SECOND & _MASK
    return x ^ (x >> 16)


def _hash_integer(first: int, second: int, counter: int) -> int:
    x = (first + counter * _WEYL) & _MASK
    x = ((x ^ (x >> 16)) * _FIRST + second) & _MASK
    return _signed((x ^ (x >> 13)) * _SECOND)


def _signed(x: int) -> int:
    return ((x & _MASK) ^ 0x80000000) - 0x80000000


def _hash(seeds: Tensor, count: int, stream: int) -> Tensor:
    """Return int32 (B, count): all but the finaliser's last step, which spares the upper 16 bits."""
    if count <= _FEW and on_host(seeds):
        keys = _host_keys(seeds, stream)
        drawn = [[_hash_integer(*key, counter) for counter in range(count)] for key in keys]
        return torch.tensor(drawn, dtype=torch.int32).view(-1, count)
    first, second = _keys(seeds, stream)
    counter = torch.arange(count, dtype=torch.int32, device=seeds.device)
    x = torch.add(first[:, None], counter, alpha=_WEYL)
    # In place: a fresh tensor for each step would cost more than the step.
    y = (x >> 16).bitwise_and_(0xFFFF)
    x.bitwise_xor_(y).mul_(_FIRST).add_(second[:, None])
    y = torch.bitwise_right_shift(x, 13, out=y).bitwise_and_(0x7FFFF)
    return x.bitwise_xor_(y).mul_(_SECOND)


def bits(seeds: Tensor, shape: Sequence[int], stream: int = 0) -> Tensor:
    """Return random int32 of shape (B, *shape), from seeds (B,) int64; ``stream`` separates draws."""
    x = _hash(seeds, math.prod(shape), stream)
    return x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF)).reshape(-1, *shape)


def _centred(seeds: Tensor, shape: Sequence[int], stream: int) -> Tensor:
    """Return float32 (B, *shape): the odd multiples of 0.5 below 2²² in size, equally likely."""
    # The shift by 9 leaves 23 bits, sign included, so that adding 0.5 is still exact.
    x = _hash(seeds, math.prod(shape), stream).bitwise_right_shift_(9)
    return x.to(torch.float32).add_(0.5).reshape(-1, *shape)


def uniform(
    seeds: Tensor,
    shape: Sequence[int],
    low: float = 0.0,
    high: float = 1.0,
    *,
    stream: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return uniform numbers in (low, high), shape (B, *shape), on 2²³ equidistant values.

    With the default ends both are excluded in float32; with others, and in half precision, rounding
    may reach them.
    """
    width = high - low
    return _centred(seeds, shape, stream).mul_(2.0**-23 * width).add_(low + 0.5 * width).to(dtype)


def normal(
    seeds: Tensor,
    shape: Sequence[int],
    *,
    stream: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return standard normal numbers of shape (B, *shape) (inverse of the CDF, |x| < 5.3)."""
    return _centred(seeds, shape, stream).mul_(2.0**-22).erfinv_().mul_(math.sqrt(2)).to(dtype)


def poisson(seeds: Tensor, rates: Tensor, *, stream: int = 0) -> Tensor:
    """Return Poisson counts (float, the shape and dtype of ``rates``), without a data-dependent loop.

    Counts up to 7 are exact inversions: the count is the number of values of the CDF below a uniform
    draw. Above, the quantile's expansion at the normal deviate w of that draw is rounded down,

        λ + √λ·w + 1/3 + w²/6 − (w/36 + w³/72)/√λ + (w⁴/270 + 7w²/810 − 8/405)/λ

    (Giles, "Algorithm 955: approximation of the inverse Poisson cumulative distribution function", ACM
    TOMS 2016, section 2.2). At most 0.04 % of the draws are off by one (at rates near 4; 0.01 % at 60).

    Args:
        seeds: (B,) int64.
        rates: (B, …), not negative; no gradient reaches them.
        stream: separates draws.
    """
    dtype = rates.dtype
    rates = rates.detach().to(torch.float32)
    centred = _centred(seeds, rates.shape[1:], stream)
    # Beyond 80, where a count up to 7 never happens, the terms of the CDF would underflow.
    low = rates.clamp(max=80.0)
    term = torch.exp(-low)
    left = torch.add(0.5, centred, alpha=2.0**-23).sub_(term)
    passed = torch.empty_like(term)
    counts = torch.gt(left, 0.0, out=torch.empty_like(term))
    for count in range(1, _POISSON_INVERTED + 1):
        term.mul_(low)
        left.sub_(term, alpha=1 / math.factorial(count))
        counts.add_(torch.gt(left, 0.0, out=passed))
    del low, term, left
    w = centred.mul_(2.0**-22).erfinv_().mul_(math.sqrt(2))
    root = rates.sqrt().clamp_(min=1.0)
    over = root.reciprocal()
    square = w.square()
    # The expansion by powers of 1/√λ, from the last term to the first.
    more = square.mul(1 / 270).add_(7 / 810).mul_(square).sub_(8 / 405).mul_(over)
    more.addcmul_(torch.add(square, 2.0), w, value=-1 / 72).mul_(over)
    more.add_(square, alpha=1 / 6).addcmul_(root, w).add_(rates)
    # A mask of numbers: torch.where takes as long as 40 passes. 1/3 is the expansion's constant.
    more.add_(1 / 3 - _POISSON_INVERTED - 1).floor_().clamp_(min=0.0)
    return counts.addcmul_(more, passed).to(dtype)

"""Counter-based random numbers: a pure function of (seed, stream, position).

The same sample therefore gets the same noise in every batch, order, worker and device, and nothing
has to be drawn on the host. The generator hashes a 32-bit counter with the sample's 64-bit seed
(two rounds of the 32-bit finaliser of MurmurHash3, Appleby 2011, as in the "hash-based" generators
of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def _mix(x: Tensor) -> Tensor:
    # int32 arithmetic wraps around; ">> s" is arithmetic, so the sign bits are masked away.
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * -2048144789  # 0x85EBCA6B as a signed 32-bit number
    x = x ^ ((x >> 13) & 0x7FFFF)
    x = x * -1028477387  # 0xC2B2AE35
    return x ^ ((x >> 16) & 0xFFFF)


def bits(seeds: Tensor, shape: Sequence[int], stream: int = 0) -> Tensor:
    """Return random int32 of shape (B, *shape), from seeds (B,) int64; ``stream`` separates draws."""
    count = math.prod(shape)
    low = (seeds & 0xFFFFFFFF).to(torch.int32)
    high = ((seeds >> 32) & 0xFFFFFFFF).to(torch.int32)
    key = _mix(low + 374761393 * (stream + 1) % 2147483647) ^ _mix(high - 1640531527)
    counter = torch.arange(count, dtype=torch.int32, device=seeds.device)
    return _mix(counter[None, :] * -1640531535 + key[:, None]).reshape(-1, *shape)


def uniform(
    seeds: Tensor,
    shape: Sequence[int],
    low: float = 0.0,
    high: float = 1.0,
    *,
    stream: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return uniform numbers in (low, high), shape (B, *shape); ends excluded, 24 bits each."""
    unit = ((bits(seeds, shape, stream) >> 8) & 0xFFFFFF).to(torch.float32)
    return ((unit + 0.5) * (2.0**-24) * (high - low) + low).to(dtype)


def normal(
    seeds: Tensor,
    shape: Sequence[int],
    *,
    stream: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return standard normal numbers of shape (B, *shape) (inverse-CDF transform, |x| < 5.4)."""
    deviates: Tensor = torch.special.ndtri(uniform(seeds, shape, stream=stream))
    return deviates.to(dtype)

"""Filters that perturbations share: blurs, resizing, sums whose bits never depend on the batch.

Every function takes images (B, C, H, W), any number of channels, and works on the device where they
are, in their dtype (use :func:`sample_by_sample` to get half precision computed in float32). Row ``i``
of a result is bit-identical in every batch. Two things see to that:

* on the CPU a function decorated with :func:`sample_by_sample` handles one sample after the other, so
  that every kernel always sees the same shape (and works in the cache: a whole batch does not fit);
* elsewhere, under ``torch.compile``, and for :func:`in_small_batches`, several samples are one call, and
  only such operations are used whose arithmetic per element is fixed: element-wise ones, gathers, minima
  and maxima. Matrix products, convolutions, FFTs and sums choose their order of summation by shape, and
  are used sample by sample only.

Weights are python numbers or are kept on the device (:func:`tables`): nothing is copied from the host
but the first use of a table, and nothing is copied to it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

Border = Literal["replicate", "reflect", "symmetric"]
"""What lies beyond the edge: ``replicate`` aaa|abcd|ddd (SciPy's "nearest"), ``reflect`` dcb|abcd|cba
(OpenCV's default, SciPy's "mirror"), ``symmetric`` cba|abcd|dcb (SciPy's "reflect")."""

_NUMBERS_AT_ONCE = 4 * 3 * 224 * 224
"""Numbers of all the samples that :func:`in_small_batches` takes at once."""

Function = TypeVar("Function", bound=Callable[..., Tensor])
Table = Sequence[Any]


def working_dtype(images: Tensor) -> torch.dtype:
    """Return float64 for float64 images, else float32."""
    return torch.float64 if images.dtype == torch.float64 else torch.float32


def on_host(images: Tensor) -> bool:
    """Return whether ``images`` are plain tensors in host memory, run eagerly.

    Fake, traced and wrapped tensors take the same path as an accelerator's, also if they say "cpu".
    """
    return (
        images.device.type == "cpu"
        and type(images) in (Tensor, torch.nn.Parameter)
        and not torch.compiler.is_compiling()
    )


def sample_by_sample(function: Function) -> Function:
    """Run ``function(images, …)`` in float32 (float64 for float64), on the CPU one sample at a time.

    Every tensor argument with as many rows as ``images`` is sliced along. The result has the dtype of
    ``images``. Without the loop: ``function.__wrapped__``.
    """
    return _in_parts(function, 1)


def in_small_batches(function: Function) -> Function:
    """Run ``function`` as :func:`sample_by_sample` does, on the CPU some small samples at a time.

    That is up to twice as fast: there are fewer calls, and their results still fit in the cache. All that
    ``function`` does must be element-wise, a gather, a minimum or a maximum there too. Of torch's
    element-wise functions, ``pow`` with a fraction, ``atan2`` and ``sigmoid`` are not: their last bit
    depends on where a number lies in memory.
    """
    return _in_parts(function, _NUMBERS_AT_ONCE)


def _in_parts(function: Function, numbers: int) -> Function:
    """Run ``function`` on as many samples at once, on the CPU, as have ``numbers`` numbers together."""

    @functools.wraps(function)
    def wrapper(images: Tensor, *arguments: Any, **named: Any) -> Tensor:
        dtype, batch = working_dtype(images), images.shape[0]
        if batch == 0:
            return images
        count = max(numbers * batch // images.numel(), 1) if on_host(images) else batch
        if batch <= count:
            return function(images.to(dtype).contiguous(), *arguments, **named).to(images.dtype)

        def part(value: Any, rows: slice) -> Any:
            if isinstance(value, Tensor) and value.dim() and value.shape[0] == batch:
                return value[rows]
            return value

        def results() -> Iterator[tuple[slice, Tensor]]:
            for start in range(0, batch, count):
                rows = slice(start, start + count)
                yield (
                    rows,
                    function(
                        images[rows].to(dtype).contiguous(),
                        *(part(value, rows) for value in arguments),
                        **{name: part(value, rows) for name, value in named.items()},
                    ),
                )

        if torch.is_grad_enabled() and images.requires_grad:
            return torch.cat([result for _, result in results()]).to(images.dtype)
        whole: Tensor | None = None
        for rows, result in results():
            if whole is None:
                shape = (batch, *result.shape[1:])
                whole = torch.empty(shape, dtype=images.dtype, device=images.device)
            whole[rows] = result
        assert whole is not None
        return whole

    return cast(Function, wrapper)


def batch_at_once(function: Function) -> Function:
    """Run ``function(images, …)`` in float32 (float64 for float64), on the whole batch everywhere.

    For a function that itself goes sample by sample on the CPU, once it has done for all samples together
    what is too little for a call each. The result has the dtype of ``images``.
    """

    @functools.wraps(function)
    def wrapper(images: Tensor, *arguments: Any, **named: Any) -> Tensor:
        if images.shape[0] == 0:
            return images
        working = images.to(working_dtype(images)).contiguous()
        return function(working, *arguments, **named).to(images.dtype)

    return cast(Function, wrapper)


def tables(builder: Callable[..., tuple[Table, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    """Turn ``builder(*numbers) -> (nested lists, …)`` into ``f(like, *numbers) -> (tensors, …)``.

    The tensors live on the device of ``like`` and are kept there: floats in its dtype, integers as
    int64. Traced and fake tensors must not get real constants (nor leave fake ones behind), so for
    those they are built anew.
    """

    def build(device: torch.device, dtype: torch.dtype, *numbers: Any) -> tuple[Tensor, ...]:
        return tuple(
            _tensor(values, device, dtype if _is_float(values) else torch.int64)
            for values in builder(*numbers)
        )

    @functools.lru_cache(maxsize=128)
    def kept(device: torch.device, dtype: torch.dtype, *numbers: Any) -> tuple[Tensor, ...]:
        # A tensor made under inference_mode could not take part in autograd later.
        with torch.inference_mode(False):
            return build(device, dtype, *numbers)

    @functools.wraps(builder)
    def get(like: Tensor, *numbers: Any) -> tuple[Tensor, ...]:
        eager = not torch.compiler.is_compiling() and type(like) in (Tensor, torch.nn.Parameter)
        return (kept if eager else build)(like.device, like.dtype, *numbers)

    return get


def _is_float(values: Any) -> bool:
    while isinstance(values, (list, tuple)):
        values = values[0]
    return isinstance(values, float)


def _tensor(values: Table, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, dtype=dtype).to(device, non_blocking=True)


def border_positions(size: int, radius: int, border: Border) -> list[int]:
    """Return for positions -radius to size - 1 + radius the one inside whose value they take."""
    positions = range(-radius, size + radius)
    if border == "replicate":
        return [min(max(p, 0), size - 1) for p in positions]
    if border == "symmetric":
        return [min(p % (2 * size), 2 * size - 1 - p % (2 * size)) for p in positions]
    period = max(2 * (size - 1), 1)
    return [min(p % period, period - p % period) if size > 1 else 0 for p in positions]


@tables
def _border_table(size: int, radius: int, border: Border) -> tuple[Table, ...]:
    return (border_positions(size, radius, border),)


def pad(images: Tensor, rows: int, columns: int, border: Border) -> Tensor:
    """Return images (B, C, H + 2·rows, W + 2·columns), continued beyond the edge."""
    height, width = images.shape[-2:]
    if border == "replicate" or (border == "reflect" and rows < height and columns < width):
        return F.pad(images, (columns, columns, rows, rows), mode=border)
    for dim, size, radius in ((-2, height, rows), (-1, width, columns)):
        if radius:
            images = images.index_select(dim, _border_table(images, size, radius, border)[0])
    return images


def total(values: Tensor, dim: int) -> Tensor:
    """Return the sum along ``dim`` (kept, with size 1) by halving, in an order that never changes."""
    while (size := values.shape[dim]) > 1:
        half = size // 2
        halved = values.narrow(dim, 0, half) + values.narrow(dim, half, half)
        if size % 2:
            halved = torch.cat((halved, values.narrow(dim, size - 1, 1)), dim)
        values = halved
    return values


def spatial_mean(images: Tensor) -> Tensor:
    """Return the mean over the pixels, (B, C, 1, 1)."""
    height, width = images.shape[-2:]
    return total(total(images, -2), -1) * (1 / (height * width))


def gaussian_weights(sigma: float, truncate: float = 4.0) -> list[float]:
    """Return the weights at distances 0, 1, …, int(truncate·sigma + 0.5) of a normalised Gaussian."""
    radius = int(truncate * sigma + 0.5)
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(radius + 1)]
    whole = weights[0] + 2 * sum(weights[1:])
    return [w / whole for w in weights]


@tables
def _gaussian_matrix(size: int, sigma: float, truncate: float, border: Border) -> tuple[Table, ...]:
    """Matrix M (size, size) such that ``rows @ M`` are the filtered rows."""
    half = gaussian_weights(sigma, truncate)
    radius = len(half) - 1
    source = border_positions(size, radius, border)
    weights = half[:0:-1] + half
    matrix = [[0.0] * size for _ in range(size)]
    for out in range(size):
        for tap, weight in enumerate(weights):
            matrix[source[out + tap]][out] += weight
    return (matrix,)


def _aligned(images: Tensor) -> Tensor:
    # A BLAS may order its sums by the alignment of its operands, and a row of a batch may start
    # anywhere.
    return images.clone() if images.data_ptr() % 64 else images


def _shifted_sum(padded: Tensor, half: Sequence[float], dim: int) -> Tensor:
    """Symmetric filter along ``dim`` as a sum of shifted copies, shorter than ``padded`` by its reach.

    ``half``: weights at distance 0, 1, …
    """
    radius = len(half) - 1
    size = padded.shape[dim] - 2 * radius
    result = padded.narrow(dim, radius, size) * half[0]
    for i in range(1, radius + 1):
        pair = padded.narrow(dim, radius - i, size) + padded.narrow(dim, radius + i, size)
        result = result.add_(pair, alpha=half[i])
    return result


def _separable(images: Tensor, half: Sequence[float], border: Border) -> Tensor:
    """Symmetric separable filter; ``half``: weights at distance 0, 1, …"""
    radius = len(half) - 1
    across = _shifted_sum(pad(images, 0, radius, border), half, -1)
    return _shifted_sum(pad(across, radius, 0, border), half, -2)


def _banded_products(images: Tensor, across: Tensor, along: Tensor, radius: int) -> Tensor:
    """``along.T @ images @ across``, both of them zero farther than ``radius`` from the diagonal."""

    def blocks(size: int) -> list[tuple[slice, slice]]:
        # 32 columns at a time: few enough to skip most zeros, enough to keep a BLAS busy.
        starts = range(0, size, 32)
        return [(slice(max(i - radius, 0), i + 32 + radius), slice(i, i + 32)) for i in starts]

    height, width = images.shape[-2:]
    rows = [images[..., taken] @ across[taken, made] for taken, made in blocks(width)]
    images = torch.cat(rows, dim=-1)
    columns = [along[taken, made].T @ images[..., taken, :] for taken, made in blocks(height)]
    return torch.cat(columns, dim=-2)


def _by_columns(images: Tensor, matrix: Tensor, dim: int) -> Tensor:
    """``matrix`` applied along ``dim`` as a sum of outer products in a fixed order."""
    size = images.shape[dim]
    shape = (-1,) if dim == -1 else (-1, 1)
    result = images.narrow(dim, 0, 1) * matrix[0].view(shape)
    for i in range(1, size):
        result = torch.addcmul(result, images.narrow(dim, i, 1), matrix[i].view(shape))
    return result


@sample_by_sample
def gaussian_filter(
    images: Tensor, sigma: float, *, border: Border = "replicate", truncate: float = 4.0
) -> Tensor:
    """Blur with a Gaussian of ``sigma`` pixels, cut at ``truncate`` sigma; no more than 0: identity.

    The defaults are those of scikit-image's ``gaussian``.
    """
    if sigma <= 0:
        return images
    radius = int(truncate * sigma + 0.5)
    height, width = images.shape[-2:]
    host = on_host(images)
    # Measured at 224 pixels: matrix products beat shifted copies from a radius of 6 on.
    if (host and radius >= 6) or radius > 2 * max(height, width):
        across = _gaussian_matrix(images, width, sigma, truncate, border)[0]
        along = across
        if height != width:
            along = _gaussian_matrix(images, height, sigma, truncate, border)[0]
        if host:
            return _banded_products(_aligned(images), across, along, radius)
        return _by_columns(_by_columns(images, across, -1), along, -2)
    return _separable(images, gaussian_weights(sigma, truncate), border)


@in_small_batches
def disk_filter(images: Tensor, radius: float, alias_sigma: float = 0.0) -> Tensor:
    """Blur with a disk of ``radius`` pixels (all offsets within it), as a lens out of focus does.

    ``alias_sigma`` softens the disk's rim with a Gaussian of that many pixels, cut to 3 × 3 for radii
    up to 8 and to 5 × 5 beyond (Hendrycks & Dietterich 2019). The edge is reflected. Cost is
    proportional to the radius, not to its square: horizontal runs grow pixel by pixel, and each row of
    the disk adds the run that is as long as the disk is wide there.
    """
    reach = math.floor(max(radius, 0.0) + 1e-9)
    height, width = images.shape[-2:]
    soft = [1.0]
    if alias_sigma > 0:
        soft = [math.exp(-0.5 * (i / alias_sigma) ** 2) for i in range(3 if radius > 8 else 2)]
        whole = soft[0] + 2 * sum(soft[1:])
        # Below 0.2 pixels there is nothing to soften.
        soft = [w / whole for w in soft] if soft[1] / whole > 1e-6 else [1.0]
    rim = len(soft) - 1
    rows: dict[int, list[int]] = {}
    for row in range(-reach, reach + 1):
        rows.setdefault(math.isqrt(int(radius * radius - row * row + 1e-6)), []).append(row)
    count = sum((2 * half + 1) * len(group) for half, group in rows.items())
    padded = pad(images, reach + rim, reach + rim, "reflect")
    # The rim is softened along the rows before and along the columns after the disk. The first of the
    # two also divides by the number of pixels.
    padded = _shifted_sum(padded, [w / count for w in soft], -1)
    run = padded.narrow(-1, reach, width).clone()
    tall = height + 2 * rim
    blurred: Tensor | None = None
    for half in range(reach + 1):
        if half:
            run = run.add_(padded.narrow(-1, reach - half, width))
            run = run.add_(padded.narrow(-1, reach + half, width))
        for row in rows.get(half, ()):
            piece = run.narrow(-2, reach + row, tall)
            blurred = piece.clone() if blurred is None else blurred.add_(piece)
    assert blurred is not None
    return _shifted_sum(blurred, soft, -2) if rim else blurred


@sample_by_sample
def motion_filter(images: Tensor, radius: int, sigma: float, angle: Tensor) -> Tensor:
    """Blur along a line that starts at each pixel and fades as a Gaussian of ``sigma`` pixels.

    The line has 2·radius + 1 taps, one pixel apart and rounded to whole pixels, towards ``angle`` (B,)
    in degrees (0: the right, 90: down), with weights exp(-i²/(2·sigma²)), normalised; the edge is
    replicated. This is what ImageMagick's MotionBlurImage does, and imagecorruptions after it.
    """
    if sigma <= 0 or radius <= 0:
        return images
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(2 * radius + 1)]
    whole = sum(weights)
    # What weighs less than float32 resolves need not be fetched.
    weights = [w / whole for w in weights if w > 1e-9]
    reach = len(weights) - 1
    height, width = images.shape[-2:]
    radians = torch.deg2rad(angle.to(torch.float64))
    steps = torch.arange(reach + 1, device=images.device, dtype=torch.float64)
    down = torch.ceil(steps * radians.sin()[:, None] - 0.5).to(torch.int64)
    right = torch.ceil(steps * radians.cos()[:, None] - 0.5).to(torch.int64)
    if on_host(images) and images.shape[0] == 1:
        padded = pad(images, reach, reach, "replicate")
        result = images * weights[0]
        places = torch.cat((down, right)).add_(reach).T.tolist()
        for weight, (top, left) in list(zip(weights, places, strict=True))[1:]:
            taken = padded.narrow(-2, top, height).narrow(-1, left, width)
            result = result.add_(taken, alpha=weight)
        return result
    flat = images.flatten(2)
    y = torch.arange(height, device=images.device)
    x = torch.arange(width, device=images.device)
    result = torch.zeros_like(flat)
    for i, weight in enumerate(weights):
        row = (y + down[:, i, None]).clamp(0, height - 1)
        column = (x + right[:, i, None]).clamp(0, width - 1)
        index = (row[:, :, None] * width + column[:, None, :]).flatten(1)
        taken = flat.gather(2, index[:, None].expand(-1, images.shape[1], -1))
        result = result.add_(taken, alpha=weight)
    return result.view_as(images)


@tables
def _box_windows(size: int, target: int) -> tuple[Table, ...]:
    """Per tap: positions (taps, target) and weights (taps, target) of the box filter."""
    scale = size / target
    support = 0.5 * max(scale, 1.0)
    windows = []
    for i in range(target):
        centre = (i + 0.5) * scale
        low = max(int(centre - support + 0.5), 0)
        high = min(int(centre + support + 0.5), size)
        window = [j for j in range(low, high) if -0.5 < (j + 0.5 - centre) / max(scale, 1.0) <= 0.5]
        windows.append(window or [min(int(centre), size - 1)])
    taps = max(len(window) for window in windows)
    positions = [[w[min(t, len(w) - 1)] for w in windows] for t in range(taps)]
    weights = [[1.0 / len(w) if t < len(w) else 0.0 for w in windows] for t in range(taps)]
    return positions, weights


def box_resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images (B, C, *size): means of whole pixels, as PIL's BOX filter; enlarged: nearest.

    PIL rounds to 8 bits after each axis; here nothing is rounded.
    """
    for dim, target in ((-2, size[0]), (-1, size[1])):
        if images.shape[dim] == target:
            continue
        positions, weights = _box_windows(images, images.shape[dim], target)
        shape = (-1, 1) if dim == -2 else (-1,)
        result = images.index_select(dim, positions[0])
        if positions.shape[0] > 1:
            result = result * weights[0].view(shape)
        for tap in range(1, positions.shape[0]):
            taken = images.index_select(dim, positions[tap])
            result = torch.addcmul(result, taken, weights[tap].view(shape))
        images = result
    return images


def straight_through(value: Tensor, source: Tensor) -> Tensor:
    """Return ``value``; its gradient, where one is wanted, is that of ``source``.

    For steps without a gradient (rounding, counting), after Bengio et al. 2013.
    """
    if torch.is_grad_enabled() and source.requires_grad:
        # Not source + (value - source).detach(): that would round.
        return cast(Tensor, _StraightThrough.apply(value, source))
    return value


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, source: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient

"""Defocus by depth: a lens with a wide aperture, focused on the nearest or on the far eighth."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_cliprobust.perturbations.depth.maps import FARTHEST, SOURCE, quantiles, usable
from pytest_cliprobust.perturbations.filters import in_small_batches, on_host, total
from pytest_cliprobust.perturbations.registry import register

SIDE = 224.0
"""The reference blurs ImageNet's images at this side; circles scale with the shorter side."""

LAYERS = 8
FAR_FOCUS_LESS = 1.5
"""The aperture of far focus is that much smaller."""

CUT = 1.5
"""The reference cuts its Gaussian of standard deviation c beyond 1.5·c, at a whole pixel …"""

CUT_DEVIATION, TAPS = 0.7427, 24
"""… which leaves a deviation of 0.7427·c where c is wide: where the cut is beyond so many pixels."""


def _ladder(side: int, largest: float) -> list[float]:
    """Return the variances of the levels of :func:`_blurred`, up to the first beyond ``largest``.

    Level k is the picture after k passes of [1 2 1] / 4 with gaps of 1, 2, 4, … pixels, along both
    axes: a triangle of half-width 2^k, whose variance is (4^k − 1) / 6. The last one is more
    than twice as wide as the picture: a wider one would change little, it shows the edges' means.
    """
    variances = [0.0]
    while variances[-1] < largest and 2 ** len(variances) <= 4 * side:
        variances.append((4.0 ** len(variances) - 1) / 6)
    return variances


def _variance(circle: Tensor) -> Tensor:
    """Return the variance that the reference's cut Gaussians of deviations ``circle`` (B, N) have."""
    tap = torch.arange(1, TAPS + 1, dtype=circle.dtype, device=circle.device)
    wide = circle[:, :, None]
    weight = torch.exp(-0.5 * (tap / wide.clamp(min=1e-3)).square()) * (tap <= CUT * wide)
    moment, sum_ = total(torch.stack((tap.square() * weight, weight)), -1).unbind()
    narrow = 2 * moment / (1 + 2 * sum_)
    return torch.where(CUT * circle > TAPS, (circle * CUT_DEVIATION).square(), narrow[:, :, 0])


def _blurred(level: Tensor, gap: int) -> Tensor:
    """Return 16 times ``level`` after a pass of [1 2 1] / 4 along both axes.

    There are ``gap`` pixels between the taps. To leave the factor saves passes over the memory, and
    powers of two are exact.
    """
    for dim, border in ((-1, (gap, gap, 0, 0)), (-2, (0, 0, gap, gap))):
        size = level.shape[dim]
        if gap >= size:
            beside = level.narrow(dim, 0, 1) + level.narrow(dim, size - 1, 1)
            level = torch.add(beside, level, alpha=2)
            continue
        padded = F.pad(level, border, mode="replicate")
        beside = padded.narrow(dim, 0, size) + padded.narrow(dim, 2 * gap, size)
        level = beside.add_(level, alpha=2)
    return level


def _defocus(images: Tensor, depth: Tensor, aperture: float, layer: int) -> Tensor:
    """Blur by the circle of confusion, the focus at the near boundary of depth layer ``layer``.

    As in the reference: eight layers of equally many pixels; at each of their nine boundaries q the
    picture is blurred by a Gaussian of standard deviation c = aperture·|q − d_focus| / q, cut at 1.5·c;
    a pixel between two boundaries, at share a of the way, mixes their pictures with weights 1 − a² and
    1 − (1 − a)². There, nine blurs of any width; here, a blur is a mix of two neighbours on a ladder
    of triangles of doubling width, so that the mix has its variance. That makes one ladder of blurs,
    whose cost does not depend on depth.
    """
    if aperture <= 0:
        return images
    height, width = images.shape[-2:]
    unit = min(height, width) / SIDE
    depth = usable(depth, images)
    inner = quantiles(depth, [i / LAYERS for i in range(1, LAYERS)])
    bounds = torch.cat(
        (depth.amin((-2, -1))[:, :, None, None], inner, depth.amax((-2, -1))[:, :, None, None]),
        dim=1,
    )
    focus = bounds[:, layer : layer + 1]
    circle = (bounds - focus).abs() / bounds * aperture
    variance = _variance(circle.flatten(1)) * (unit * unit)
    if on_host(variance):
        largest = float(variance.max())
    else:
        largest = (aperture * unit * (1.0 if layer == 0 else FARTHEST - 1)) ** 2

    # For each pixel its layer, and the share of the way through it. Comparing with every boundary is
    # several times as fast as a search, and to numbers several times as fast as to truth values.
    flat = depth.flatten(1)
    reached = torch.empty_like(flat)
    passed = torch.zeros_like(flat)
    for i in range(LAYERS - 1):
        passed.add_(torch.ge(flat, inner[:, i, 0], out=reached))
    number = passed.to(torch.int64)
    edges = bounds.flatten(1)
    start = edges[:, :-1].gather(1, number)
    rise = (edges[:, 1:] - edges[:, :-1]).clamp(min=1e-12).gather(1, number)
    share = ((flat - start) / rise).clamp(0, 1)
    first, second = 1 - share.square(), 1 - (1 - share).square()
    second = (second / (first + second)).view_as(depth)
    near = variance[:, :-1].gather(1, number).view_as(depth)
    far = variance[:, 1:].gather(1, number).view_as(depth)
    del reached, passed, number, start, rise, share, first

    variances = _ladder(min(height, width), largest)
    result, level = images, images
    for k in range(1, len(variances)):
        blurrier = _blurred(level, 2 ** (k - 1))
        # How far the blur of each boundary goes beyond the level before, in steps of the ladder.
        low, high = variances[k - 1], variances[k]
        before = near.clamp(low, high)
        amount = torch.addcmul(before - low, second, far.clamp(low, high) - before)
        change = torch.sub(blurrier, level, alpha=16)
        # Level k carries a factor of 16^k.
        value = 1 / ((high - low) * 16.0**k)
        add = torch.addcmul if k == 1 else Tensor.addcmul_  # the first must not change the images
        result = add(result, amount, change, value=value)
        level = blurrier
    return result.clamp(0, 1)


@register(
    severities=tuple({"aperture": s + 2.0} for s in range(1, 6)),
    envelope={"aperture": (0.0, 9.0)},
    inputs=("depth",),
    source=SOURCE,
    version=2,
)
@in_small_batches
def near_focus(images: Tensor, *, aperture: float, depth: Tensor) -> Tensor:
    """Focus on the nearest point; what lies behind is blurred, by up to ``aperture`` pixels."""
    return _defocus(images, depth, aperture, 0)


@register(
    severities=tuple({"aperture": s + 2.0 - FAR_FOCUS_LESS} for s in range(1, 6)),
    envelope={"aperture": (0.0, 8.0)},
    inputs=("depth",),
    source=SOURCE,
    version=3,
)
@in_small_batches
def far_focus(images: Tensor, *, aperture: float, depth: Tensor) -> Tensor:
    """Focus where the farthest eighth of the scene begins; what lies in front is blurred.

    On depth of disparity maps, which ends at 64 times the nearest, the published blur is wider than the
    picture. Ours changes the picture by 0.84 to 0.98 of what that does (root mean square, four embedded
    scenes).
    """
    return _defocus(images, depth, aperture, LAYERS - 1)

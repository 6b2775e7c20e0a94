"""The contract of every registered corruption: 2D, 3D, views, resampling, LAION-C's."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import SIZES, Watch, check_result, mostly_slow
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pytest_cliprobust.datasets.loading import load_dataset
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.search.envelope import at_strength

pytestmark = pytest.mark.floors

FAMILIES = ("common", "depth", "view", "imagecorruptions", "resampling", "laion_c")
NAMES = [name for family in FAMILIES for name in registry.names(family)]
#: What the tight loop takes where a test is expensive: one or two of each module.
QUICK = {
    "gaussian_noise",
    "defocus_blur",
    "glass_blur",
    "fog",
    "pixelate",
    "near_focus",
    "flash",
    "iso_noise",
    "xy_motion_blur",
    "view_roll",
}
#: Published severities without a common order: saturate takes colour away at 1 and 2 and adds it from 3
#: on, glass blur has one round of copying at 2 and three at 3, elastic transform jolts the picture at 1
#: and 2 and only ripples it from 3 on.
#: A picture that moves may come to lie on its like: views are tested by how far they move.
UNORDERED = {"saturate", "glass_blur", "elastic_transform"}
MONOTONE = [name for name in NAMES if name not in UNORDERED and not name.startswith("view_")]
#: Their published parameters trade one effect for another (more fog of a finer grain, thicker snow with
#: less whitening): neighbours may be near, and change places from scene to scene, also as published. Half
#: of a glitch's error are its black rows, and a band moved a long way may come to lie on its like.
TRADING = {"snow", "frost", "fog", "glitch"}
#: Each channel has noise of its own (as published), or the corruption has a colour of its own.
COLOURED = {
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "speckle_noise",
    "iso_noise",
    "low_light",
    "frost",
    "spatter",
    "saturate",
    "geometric_shapes",
    "stickers",
    "mosaic",
    "glitch",
}
#: What is left at strength 0 (mean absolute change): JPEG rounds to 8 bits and halves the chroma at any
#: quality.
RESIDUE = {"jpeg_compression": 0.006}


def scene(count: int, height: int = 48, width: int = 48) -> tuple[Tensor, dict[str, Tensor]]:
    """Return smooth random pictures (B, 3, H, W) and what a data set offers beside them."""
    generator = torch.Generator().manual_seed(7)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    rows = torch.linspace(4, 1, height).view(1, 1, -1, 1).expand(count, 1, height, width).clone()
    rows[:, :, height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = 1.5
    seeds = registry.sample_seeds(tuple(f"s/{i}" for i in range(count)), "test", 0)
    return images.clamp(0, 1), {"depth": rows, "seeds": seeds}


@functools.cache
def embedded() -> tuple[Tensor, dict[str, Tensor]]:
    """Return six pictures of the embedded benchmark at 224 pixels, with their depth."""
    batch = load_dataset("clean", profile="quick", limit=6).load(range(6))
    assert batch.depth is not None
    seeds = registry.sample_seeds(batch.ids, "test", 0)
    return batch.images.float() / 255, {"depth": batch.depth, "seeds": seeds}


def some(inputs: dict[str, Tensor], rows: slice) -> dict[str, Tensor]:
    return {name: tensor[rows] for name, tensor in inputs.items()}


@pytest.mark.parametrize("name", NAMES)
def test_severities_change_the_picture(name: str) -> None:
    images, inputs = scene(2, 40, 56)
    corruption = registry.get(name)
    assert corruption.source
    assert corruption(images, 0, **inputs) is images
    for severity in range(1, 6):
        before = images.clone()
        result = corruption(images, severity, **inputs)
        check_result(result, images)
        assert not torch.equal(result, images)
        assert torch.equal(images, before)


@pytest.mark.parametrize("layout", ["channels_last", "transposed", "expanded"])
@pytest.mark.parametrize("name", NAMES)
def test_the_order_in_memory_does_not_matter(name: str, layout: str) -> None:
    # Sides that are multiples of 16: nothing need be padded, which would hide it.
    images, inputs = scene(2, 64, 64)
    depth = inputs["depth"]
    if layout == "channels_last":
        other = images.contiguous(memory_format=torch.channels_last)
        deep = depth.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1)
    elif layout == "transposed":
        other, deep = (t.mT.contiguous().mT for t in (images, depth))
    else:
        images, depth = (t[:1].expand(2, -1, -1, -1).clone() for t in (images, depth))
        other, deep = (t[:1].expand(2, -1, -1, -1) for t in (images, depth))
    assert torch.equal(other, images)
    assert torch.equal(deep, depth)
    corruption = registry.get(name)
    seen = corruption(other, 3, **{**inputs, "depth": deep})
    assert torch.equal(seen, corruption(images, 3, **{**inputs, "depth": depth}))
    # Nor does it if the function is called by itself.
    kept = {k: v for k, v in (inputs | {"depth": deep}).items() if k in corruption.inputs}
    assert torch.equal(corruption.function(other, **corruption.parameters(3), **kept), seen)


@pytest.mark.parametrize("name", [n for n in NAMES if registry.get(n).severities])
def test_severity_3_is_what_a_search_goes_through(name: str) -> None:
    # A search gives the parameters of the envelope, and a reproduction sets them in severity 3.
    corruption = registry.get(name)
    assert corruption.settings is not None
    for parameter, value in corruption.parameters(3).items():
        assert parameter in corruption.envelope or corruption.settings[parameter] == value


@pytest.mark.parametrize("name", NAMES)
def test_no_pictures_give_no_pictures(name: str) -> None:
    images, inputs = scene(1)
    result = registry.get(name)(images[:0], 3, **some(inputs, slice(0, 0)))
    assert result.shape == (0, 3, 48, 48)


@pytest.mark.parametrize("name", mostly_slow(NAMES, QUICK))
@settings(max_examples=5, deadline=None, derandomize=True, database=None)
@given(height=SIZES, width=SIZES, severity=st.integers(1, 5), strength=st.floats(0.0, 1.0))
@example(height=16, width=16, severity=5, strength=1.0)
@example(height=512, width=333, severity=3, strength=0.01)
def test_any_size_and_strength(
    name: str, height: int, width: int, severity: int, strength: float
) -> None:
    count = 3 if height * width < 20_000 else 1
    images, inputs = scene(count, height, width)
    corruption = registry.get(name)
    result = corruption(images, severity, **inputs)
    check_result(result, images)
    # The same again, for the last picture alone.
    last = slice(count - 1, count)
    assert torch.equal(corruption(images[last], severity, **some(inputs, last)), result[last])
    if count > 1:
        check_result(corruption(images, **at_strength(corruption, strength), **inputs), images)


@pytest.mark.parametrize("name", NAMES)
def test_no_strength_is_the_identity(name: str) -> None:
    images, inputs = (
        embedded()[0][:2, :, 40:150, 30:180],
        some(embedded()[1], slice(0, 2)) | {"depth": embedded()[1]["depth"][:2, :, 40:150, 30:180]},
    )
    corruption = registry.get(name)
    result = corruption(images, **at_strength(corruption, 0.0), **inputs)
    check_result(result, images)
    assert float((result - images).abs().mean()) <= RESIDUE.get(name, 1e-5)
    # And the way there is continuous: a hundredth of the way is a small step.
    near = corruption(images, **at_strength(corruption, 0.01), **inputs)
    full = corruption(images, **at_strength(corruption, 1.0), **inputs)
    step, whole = ((x - result).abs().mean() for x in (near, full))
    assert float(step) < 0.25 * float(whole)


@pytest.mark.parametrize("name", mostly_slow(MONOTONE, QUICK))
def test_distortion_grows_with_severity(name: str) -> None:
    images, inputs = embedded()
    corruption = registry.get(name)
    errors = [
        float((corruption(images, severity, **inputs) - images).square().mean())
        for severity in range(1, 6)
    ]
    assert errors[0] > 0
    least = 0.85 if name in TRADING else 1.0
    for low, high in itertools.pairwise(errors):
        assert high > least * low, errors
    assert errors[0] < min(errors[3:])


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_bit_identical_in_every_batch_and_order(name: str) -> None:
    images, inputs = scene(9, 47, 53)
    corruption = registry.get(name)
    whole = corruption(images, 3, **inputs)
    for rows in (slice(0, 1), slice(3, 4), slice(2, 9)):
        assert torch.equal(corruption(images[rows], 3, **some(inputs, rows)), whole[rows])
    turned = corruption(images.flip(0), 3, **{k: v.flip(0) for k, v in inputs.items()})
    assert torch.equal(turned.flip(0), whole)


@pytest.mark.parametrize("name", [n for n in NAMES if "seeds" in registry.get(n).inputs])
def test_seeds_change_the_picture(name: str) -> None:
    # Some draw no more than a sign: both occur among these eight.
    count = 8
    images, inputs = scene(1, 40, 40)
    images, inputs = (
        images.expand(count, -1, -1, -1),
        {"depth": inputs["depth"].expand(count, -1, -1, -1), "seeds": torch.arange(count)},
    )
    result = registry.get(name)(images, 3, **inputs)
    assert not torch.equal(result, result[:1].expand_as(result))


@pytest.mark.parametrize("name", NAMES)
def test_precisions(name: str) -> None:
    images, inputs = scene(3, 40, 48)
    corruption = registry.get(name)
    expected = corruption(images, 3, **inputs)
    for dtype, error in ((torch.float16, 0.01), (torch.bfloat16, 0.03), (torch.float64, 0.003)):
        result = corruption(images.to(dtype), 3, **inputs)
        check_result(result, images.to(dtype))
        assert float((result.float() - expected).abs().mean()) < error
        assert torch.equal(
            corruption(images[1:2].to(dtype), 3, **some(inputs, slice(1, 2))), result[1:2]
        )


@pytest.mark.parametrize("name", [n for n in NAMES if n not in COLOURED])
def test_grey_stays_grey(name: str) -> None:
    images, inputs = scene(2, 40, 56)
    images = images[:, :1].expand(-1, 3, -1, -1)
    for severity in (1, 3, 5):
        result = registry.get(name)(images, severity, **inputs)
        assert float((result.amax(1) - result.amin(1)).max()) < 1e-5


@pytest.mark.parametrize("severity", mostly_slow((1, 5), {5}))
@pytest.mark.parametrize("name", mostly_slow(NAMES, QUICK))
def test_never_leaves_the_device_and_needs_little_memory(name: str, severity: int) -> None:
    with FakeTensorMode():
        images = torch.empty(16, 3, 224, 224, device="cuda")
        depth = torch.empty(16, 1, 224, 224, device="cuda")
        seeds = torch.empty(16, dtype=torch.int64, device="cuda")
        with Watch() as watch:
            result = registry.get(name)(images, severity, depth=depth, seeds=seeds)
        assert result.device == images.device
        assert result.shape == images.shape
    assert watch.peak < 12 * 16 * 3 * 224 * 224 * 4


@pytest.mark.parametrize("name", mostly_slow(NAMES, QUICK))
def test_needs_little_memory_on_the_host(name: str) -> None:
    images, inputs = scene(8, 160, 160)
    with Watch() as watch:
        registry.get(name)(images, 3, **inputs)
    assert watch.peak < 12 * images.numel() * 4


def test_the_watch_sees_what_it_should() -> None:
    with FakeTensorMode():
        images = torch.empty(1000, device="cuda")
        with Watch() as watch:
            kept = images + 1
            del kept
            both = [images + 1, images + 2]
        assert watch.peak == 8000
        assert len(both) == 2
        with Watch(), pytest.raises(AssertionError, match="left the device"):
            images.cpu()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    mostly_slow((n for n in NAMES if registry.get(n).compilable), {"pixelate", "view_roll"}),
)
def test_one_graph(name: str) -> None:
    images, inputs = scene(2, 32, 32)
    corruption = registry.get(name)
    kept = {k: v for k, v in inputs.items() if k in corruption.inputs}
    parameters = dict(corruption.parameters(3))
    compiled = torch.compile(corruption.function, fullgraph=True, backend="eager")
    result = compiled(images, **parameters, **kept)
    torch._dynamo.reset()
    # An accelerator's path may sum in another order than the host's.
    difference = (result - corruption.function(images, **parameters, **kept)).abs()
    assert float(difference.mean()) < 1e-5


@pytest.mark.parametrize("name", [n for n in NAMES if registry.get(n).differentiable])
def test_gradients_reach_the_picture(name: str) -> None:
    images, inputs = scene(2, 32, 40)
    images = (images * 0.8 + 0.1).requires_grad_()
    result = registry.get(name)(images, 2, **inputs)
    result.sum().backward()
    assert images.grad is not None
    assert bool(images.grad.isfinite().all())
    assert float((images.grad != 0).float().mean()) > 0.2


def test_focus_keeps_its_own_plane_sharp() -> None:
    images, inputs = scene(1)
    images = (images + 0.3 * torch.rand(images.shape, generator=torch.Generator())).clamp(0, 1)
    near = (registry.get("near_focus")(images, 5, **inputs) - images).abs().mean((0, 1))
    far = (registry.get("far_focus")(images, 5, **inputs) - images).abs().mean((0, 1))
    assert near[-2:].mean() < near[:4].mean()
    assert far[:2].mean() < far[-4:].mean()


def test_a_missing_depth_is_named() -> None:
    images, inputs = scene(1)
    with pytest.raises(ClipRobustError, match="'fog_3d' needs depth"):
        registry.get("fog_3d")(images, 1, seeds=inputs["seeds"])


def test_mistakes_of_a_call_are_named() -> None:
    images, inputs = scene(2)
    fog, noise = registry.get("fog_3d"), registry.get("gaussian_noise")
    cases: tuple[tuple[Callable[[], Tensor], str], ...] = (
        (lambda: fog(images, 3, depth=inputs["depth"][:1]), "depth of shape .1, 1, 48, 48. for 2"),
        (lambda: noise(images, 3, seeds=inputs["seeds"][:1]), "seeds of shape .1,. for 2 images"),
        (
            lambda: fog(images, 3, **inputs, extinktion=4.0),
            "no parameter 'extinktion'. Did you mean",
        ),
        (lambda: fog(images, **inputs), "needs extinction; give a severity, or it by name"),
        (lambda: fog(images, 6, **inputs), "severities 1 to 5, not 6"),
        (lambda: registry.get("kornia:RandomPosterize")(images, 1, **inputs), "has no severities"),
    )
    for call, message in cases:
        with pytest.raises(ClipRobustError, match=message):
            call()


def test_images_may_be_positional_only() -> None:
    with registry.PERTURBATIONS.preserved():

        @registry.register("halved", severities=({"amount": 0.5},))
        def halved(images: Tensor, /, *, amount: float) -> Tensor:
            return images * amount

        half = registry.get("halved")
    assert half.settings == {"amount": registry.REQUIRED}
    assert torch.equal(half(torch.ones(1, 3, 2, 2), 1), torch.full((1, 3, 2, 2), 0.5))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"severities": ({"amuont": 1.0},)}, "its severities name 'amuont'.*Did you mean 'amount'"),
        ({"envelope": {"strength": (0.0, 1.0)}}, "its envelope name 'strength'"),
        ({"inputs": ("seed",)}, "an input 'seed', which nothing provides. Did you mean 'seeds'"),
        ({"optional": ("mask",)}, "its inputs name 'mask'"),
    ],
)
def test_mistakes_of_a_registration_are_named(named: dict[str, Any], message: str) -> None:
    def wrong(images: Tensor, *, amount: float = 1.0) -> Tensor:
        return images * amount

    with pytest.raises(ClipRobustError, match=message):
        registry.register("wrong", **named)(wrong)
    assert "wrong" not in registry.PERTURBATIONS

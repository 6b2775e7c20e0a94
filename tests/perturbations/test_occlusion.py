"""Occlusion by an object and by a patch: the share that is hidden, and the contract."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from helpers import SIZES, Watch, check_result, mostly_slow
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from pytest_cliprobust.perturbations import occlusion as module
from pytest_cliprobust.perturbations import registry

NAMES = ("occlusion", "patch_occlusion")
COUNT, SIDE = 5, 64


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Small tensors are fastest on one thread; what concerns bits is tested with all of them."""
    threads = torch.get_num_threads()
    if "bit_identical" not in request.node.name:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def scene(
    count: int = COUNT, side: int = SIDE, width: int | None = None
) -> dict[str, torch.Tensor]:
    width = side + 16 if width is None else width
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(count, 3, side, width, generator=generator) * 0.6 + 0.3
    y = torch.arange(side)[:, None] - side * 0.4
    x = torch.arange(width)[None, :] - (width - 16) * 0.7
    mask = torch.stack(
        [((x / (14 + 2 * i)) ** 2 + (y / 12) ** 2 <= 1).float() for i in range(count)]
    )[:, None]
    v = torch.arange(40)[:, None] - 19.5
    u = torch.arange(30)[None, :] - 14.5
    shape = ((u.abs() + v.abs() * 0.7) < 14).float()
    # Black, so that every covered pixel differs from the images, whose values are at least 0.3.
    occluder = torch.cat((torch.zeros(3, 40, 30), shape[None])).expand(count, -1, -1, -1)
    seeds = torch.arange(count) * 7919 + 11
    return {"images": images, "mask": mask, "occluder": occluder.contiguous(), "seeds": seeds}


def hidden(result: torch.Tensor, data: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the share of the object that a black occluder hides of white images, by its alpha."""
    weight = data.get("mask", torch.ones_like(result[:, :1]))
    return ((1 - result[:, :1]) * weight).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3))


def apply(
    name: str, severity: int | None, data: dict[str, torch.Tensor], **more: Any
) -> torch.Tensor:
    inputs = {key: value for key, value in data.items() if key != "images"}
    return registry.get(name)(data["images"], severity, **{**inputs, **more})


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_occlusion_hides_the_stated_share(severity: int, masked: bool) -> None:
    data = scene(side=128)
    if not masked:
        del data["mask"]
    data["images"] = torch.ones_like(data["images"])
    share = hidden(apply("occlusion", severity, data), data)
    assert torch.allclose(share, torch.full_like(share, severity / 10), atol=0.01), share


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_patch_hides_exactly_the_stated_share_of_the_image(severity: int) -> None:
    data = scene()
    data["images"] = torch.zeros_like(data["images"]).double()
    result = module.patch_occlusion(
        data["images"], coverage=severity / 10, value=1.0, seeds=data["seeds"]
    )
    share = result[:, 0].mean(dim=(1, 2))
    assert torch.allclose(share, torch.full_like(share, severity / 10), atol=1e-6)


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_patch_hides_the_stated_share_of_the_object(severity: int) -> None:
    data = scene(side=128)
    images = torch.zeros_like(data["images"])
    result = module.patch_occlusion(
        images, coverage=severity / 10, value=1.0, seeds=data["seeds"], mask=data["mask"]
    )
    share = (result[:, :1] * data["mask"]).sum(dim=(1, 2, 3)) / data["mask"].sum(dim=(1, 2, 3))
    assert torch.allclose(share, torch.full_like(share, severity / 10), atol=0.01), share


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_rows_are_bit_identical_in_every_batch(name: str, masked: bool) -> None:
    data = scene()
    if not masked:
        del data["mask"]
    for severity in (1, 5):
        whole = apply(name, severity, data)
        for order in ([0], [3], [4, 1], [2, 0, 4], [4, 3, 2, 1, 0]):
            part = apply(name, severity, {key: value[order] for key, value in data.items()})
            assert torch.equal(part, whole[order])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=5, deadline=None, derandomize=True, database=None)
@given(height=SIZES, width=SIZES, severity=st.integers(1, 5), masked=st.booleans())
@example(height=16, width=16, severity=5, masked=True)
@example(height=512, width=333, severity=3, masked=False)
def test_any_size_is_bit_identical_alone(
    name: str, height: int, width: int, severity: int, masked: bool
) -> None:
    data = scene(3, height, width)
    if not masked:
        del data["mask"]
    result = apply(name, severity, data)
    check_result(result, data["images"])
    last = apply(name, severity, {key: value[2:] for key, value in data.items()})
    assert torch.equal(last, result[2:])


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_bit_identical_whoever_goes_along(name: str) -> None:
    # At 224 pixels four samples go at once on the host.
    data = scene(7, 224, 224)
    whole = apply(name, 4, data)
    for rows in (slice(3, 4), slice(3, 7), slice(0, 4)):
        part = apply(name, 4, {key: value[rows] for key, value in data.items()})
        assert torch.equal(part, whole[rows])


@pytest.mark.parametrize("name", NAMES)
def test_no_pictures_give_no_pictures(name: str) -> None:
    data = {key: value[:0] for key, value in scene().items()}
    assert apply(name, 3, data).shape == (0, 3, SIDE, SIDE + 16)


@pytest.mark.parametrize("name", NAMES)
def test_severity_is_monotone_and_zero_is_the_identity(name: str) -> None:
    data = scene()
    distances = [
        (apply(name, severity, data) - data["images"]).abs().mean(dim=(1, 2, 3))
        for severity in range(6)
    ]
    assert torch.equal(apply(name, 0, data), data["images"])
    assert torch.equal(apply(name, None, data, coverage=0.0), data["images"])
    assert all((b > a).all() for a, b in itertools.pairwise(distances))
    assert len(registry.get(name).severities) == 5
    assert registry.get(name).envelope["coverage"][0] == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_seeds_decide_the_place(name: str) -> None:
    data = scene()
    again = apply(name, 3, data)
    other = apply(name, 3, {**data, "seeds": data["seeds"] + 1})
    assert torch.equal(again, apply(name, 3, data))
    assert not torch.equal(again, other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_dtypes_and_range(name: str, dtype: torch.dtype) -> None:
    data = scene()
    data["images"] = data["images"].to(dtype)
    result = apply(name, 4, data)
    assert result.dtype == dtype
    assert result.shape == data["images"].shape
    assert result.isfinite().all()
    assert result.min() >= 0
    assert result.max() <= 1
    untouched = (result == data["images"]).all(dim=1).float().mean()
    assert untouched > 0.2  # what is not covered keeps its exact value


def test_a_thin_outline_takes_the_size_that_hides_most() -> None:
    data = scene()
    ring = torch.zeros(COUNT, 4, 40, 40)
    v = torch.arange(40) - 19.5
    radius = (v[:, None] ** 2 + v[None, :] ** 2).sqrt()
    ring[:, 3] = ((radius < 19) & (radius > 17)).float()
    data["images"] = torch.ones_like(data["images"])
    share = hidden(apply("occlusion", 5, {**data, "occluder": ring}), data)
    assert (share > 0.05).all()
    assert (share < 0.5).all()


def test_an_empty_mask_means_the_whole_image() -> None:
    data = scene()
    empty = {**data, "mask": torch.zeros_like(data["mask"])}
    without = {key: value for key, value in data.items() if key != "mask"}
    for name in NAMES:
        assert torch.equal(apply(name, 3, empty), apply(name, 3, without))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_the_uncovered_pixels(name: str) -> None:
    data = scene()
    data["images"].requires_grad_(True)
    apply(name, 3, data).sum().backward()
    gradient = data["images"].grad
    assert gradient is not None
    assert set(gradient.round(decimals=4).unique()[[0, -1]].tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", mostly_slow(NAMES, {"patch_occlusion"}))
def test_no_host_round_trip_on_a_fake_accelerator(name: str, masked: bool) -> None:
    with FakeTensorMode():
        data = {
            key: torch.empty(value.shape, dtype=value.dtype, device="cuda")
            for key, value in scene().items()
            if masked or key != "mask"
        }
        result = apply(name, 5, data)
        assert result.device.type == "cuda"


@pytest.mark.parametrize("severity", mostly_slow((1, 5), {5}))
@pytest.mark.parametrize("name", NAMES)
def test_never_leaves_the_device_and_needs_little_memory(name: str, severity: int) -> None:
    with FakeTensorMode():
        data = {
            "images": torch.empty(16, 3, 224, 224, device="cuda"),
            "mask": torch.empty(16, 1, 224, 224, device="cuda"),
            "occluder": torch.empty(16, 4, 224, 224, device="cuda"),
            "seeds": torch.empty(16, dtype=torch.int64, device="cuda"),
        }
        with Watch() as watch:
            result = apply(name, severity, data)
        assert result.device == data["images"].device
        assert result.shape == data["images"].shape
    assert watch.peak < 12 * 16 * 3 * 224 * 224 * 4


@pytest.mark.parametrize("name", NAMES)
def test_needs_little_memory_on_the_host(name: str) -> None:
    data = scene(16, 224, 224)
    data["occluder"] = torch.rand(16, 4, 224, 224, generator=torch.Generator().manual_seed(5))
    with Watch() as watch:
        apply(name, 5, data)
    assert watch.peak < 12 * data["images"].numel() * 4


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_torch_compile_traces_in_one_graph(name: str) -> None:
    data = scene()
    function = registry.get(name).function
    inputs = {k: data[k] for k in ("seeds", "mask")}
    if name == "occlusion":
        inputs["occluder"] = data["occluder"]
    compiled = torch.compile(function, fullgraph=True, backend="eager")
    expected = function(data["images"], coverage=0.3, **inputs)
    assert torch.equal(compiled(data["images"], coverage=0.3, **inputs), expected)


def test_shrinking_a_fine_pattern_does_not_alias() -> None:
    stripes = torch.ones(1, 4, 128, 128)
    stripes[:, :3, :, ::2] = 0
    images = torch.full((1, 3, 64, 64), 0.5)
    result = module.occlusion(images, coverage=0.08, seeds=torch.tensor([3]), occluder=stripes)
    assert (result - 0.5).abs().max() < 0.12


def test_pasting_stays_within_the_range() -> None:
    """Also where a sticker's colour is brighter than its alpha lets it be, or opacity is beyond 1."""
    images = torch.ones(1, 3, 8, 8)
    sticker = torch.cat((torch.ones(1, 3, 24, 24), torch.full((1, 1, 24, 24), 0.5)), dim=1)
    grid = module.sticker_grid(
        size=(8, 8),
        sticker_size=(24, 24),
        centre=torch.tensor([[4.0, 4.0]]),
        anchor=torch.tensor([[12.0, 12.0]]),
        half_tangent=torch.zeros(1),
        mirror=torch.ones(1),
    ).at(torch.ones(1))
    assert torch.equal(module.paste(images, sticker, grid, 1.0), images)
    assert torch.equal(module.paste(0.5 * images, sticker, grid, 9.0), images)

"""Occlusion by an object and by a patch: the share that is hidden, and the contract."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from helpers import SIZES, Watch, check_result, mostly_slow
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch._subclasses.fake_tensor import FakeTensorMode

from pytest_cliprobust.perturbations import occlusion as module
from pytest_cliprobust.perturbations import random, registry

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


# --------------------------------------------------------------------------------------------------
# The parts, against closed forms
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shrink", [0.5, 1.0, 4 / 3, 2.0, 3.0, 4.0, 6.0, 8.0, 20.0])
def test_stickers_are_blurred_by_kernels_of_doubling_width(shrink: float) -> None:
    sticker = torch.rand(1, 4, 30, 44, generator=torch.Generator().manual_seed(1)).double()
    levels = [sticker.numpy()]
    for step in (1, 2, 4):
        kernel = np.zeros(2 * step + 1)
        kernel[[0, step, 2 * step]] = 0.25, 0.5, 0.25
        level = levels[-1]
        for axis in (-1, -2):
            level = ndimage.correlate1d(level, kernel, axis, mode="constant")
        levels.append(level)
    place = np.clip(shrink, 1, 8)
    exponent = min(int(np.floor(np.log2(place) + 1e-9)), 2)
    part = (place - 2**exponent) / 2**exponent
    expected = levels[exponent] * (1 - part) + levels[exponent + 1] * part
    seen = module.prefilter(sticker, torch.tensor([1 / shrink]).double())
    np.testing.assert_allclose(seen.numpy(), expected, atol=1e-9)


def test_a_sticker_is_premultiplied_in_a_clear_margin() -> None:
    sticker = torch.rand(2, 4, 5, 7, generator=torch.Generator().manual_seed(1))
    seen = module.premultiplied(sticker, torch.float64)
    assert (seen.shape, seen.dtype) == ((2, 4, 21, 23), torch.float64)
    inner = seen[..., 8:-8, 8:-8]
    torch.testing.assert_close(inner[:, :3], (sticker[:, :3] * sticker[:, 3:]).double())
    torch.testing.assert_close(inner[:, 3:], sticker[:, 3:].double())
    assert float(seen.sum()) == pytest.approx(float(inner.sum()))


def test_a_sticker_s_grid_turns_mirrors_and_scales_about_the_anchor() -> None:
    size, sticker_size = (30, 50), (20, 36)
    centre = torch.tensor([[12.0, 9.5], [40.0, 20.0]]).double()
    anchor = torch.tensor([[18.0, 10.0], [5.0, 16.0]]).double()
    angle, mirror = torch.tensor([0.3, -0.2]).double(), torch.tensor([1.0, -1.0]).double()
    scale = torch.tensor([2.0, 0.5]).double()
    grid = module.sticker_grid(
        size=size,
        sticker_size=sticker_size,
        centre=centre,
        anchor=anchor,
        half_tangent=(angle / 2).tan(),
        mirror=mirror,
    )
    places = grid.at(scale)
    assert places.shape == (2, *size, 2)
    for row in range(2):
        cosine, sine = float(angle[row].cos()), float(angle[row].sin())
        for y, x in ((0, 0), (29, 49), (7, 31)):
            right, down = x + 0.5 - float(centre[row, 0]), y + 0.5 - float(centre[row, 1])
            turned = (cosine * right + sine * down, cosine * down - sine * right)
            in_sticker = [
                float(anchor[row, 0]) + float(mirror[row]) * turned[0] / float(scale[row]),
                float(anchor[row, 1]) + turned[1] / float(scale[row]),
            ]
            expected = [2 * in_sticker[0] / 36 - 1, 2 * in_sticker[1] / 20 - 1]
            assert places[row, y, x].tolist() == pytest.approx(expected)
    for stride in (1, 2, 3, 4):
        some = grid.every(stride).at(scale)
        assert torch.equal(some, places[:, stride // 2 :: stride, stride // 2 :: stride])


def test_pasting_lays_colour_over_what_alpha_leaves() -> None:
    images = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(1))
    sticker = torch.rand(1, 4, 6, 8, generator=torch.Generator().manual_seed(2)) * 0.7
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
    grid = torch.stack(((2 * x + 1) / 8 - 1, (2 * y + 1) / 6 - 1), -1)[None]
    for opacity in (1.0, 0.5):
        seen = module.paste(images, sticker, grid, opacity)
        expected = images * (1 - opacity * sticker[:, 3:]) + opacity * sticker[:, :3]
        torch.testing.assert_close(seen, expected.clamp(0, 1))


def test_a_band_s_ends_are_shared_out_exactly() -> None:
    share, position = torch.tensor([0.35, 1.0, 0.02]), torch.tensor([0.5, 0.3, 1.0])
    seen = module._band(share, position, 10, torch.float64)
    expected = torch.zeros(3, 10).double()
    expected[0, 3], expected[0, 4:6], expected[0, 6] = 0.75, 1.0, 0.75
    expected[1] = 1.0
    expected[2, 9] = 0.2
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "stride"), [((40, 30), 1), ((143, 20), 1), ((20, 145), 2), ((300, 200), 3)]
)
def test_the_working_grid_has_about_96_cells_along_the_longer_side(
    size: tuple[int, int], stride: int
) -> None:
    images = torch.zeros(2, 3, *size)
    assert module._stride(images) == stride
    mask = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(1))
    mask[1] = 0.001  # rounds to nothing: the whole image is the object
    inside = module._object(images, mask, stride)
    start = stride // 2
    expected = (mask[0, 0, start::stride, start::stride] * 255).round().int()
    assert torch.equal(inside[0], expected)
    assert torch.equal(inside[1], torch.full_like(expected, 255))
    assert torch.equal(module._object(images, None, stride)[0], inside[1])


def test_a_point_of_an_object_is_drawn_by_its_weights() -> None:
    weights = torch.zeros(4000, 3, 5, dtype=torch.int32)
    weights[:, 0, 1], weights[:, 1, 4], weights[:, 2, 0] = 255, 51, 204
    seeds = torch.arange(4000)
    x, y = module._random_cell(weights, seeds, stream=0)
    found = {
        place: float(((x == place[0]) & (y == place[1])).double().mean())
        for place in ((1, 0), (4, 1), (0, 2))
    }
    assert list(found.values()) == pytest.approx([0.5, 0.1, 0.4], abs=0.03)
    assert sum(found.values()) == pytest.approx(1)
    means = module._centroid(weights[:1])
    assert [float(m) for m in means] == pytest.approx([0.5 + 0.4, 0.1 + 0.8])
    # Halfway between the two, in pixels.
    focus = module._focus(weights, seeds, 4)
    expected = torch.stack(((means[0] + x) / 2 * 4 + 2.5, (means[1] + y) / 2 * 4 + 2.5), 1)
    torch.testing.assert_close(focus, expected)


@pytest.mark.parametrize("coverage", [0.1, 0.5, 0.97])
def test_a_patch_is_a_rectangle_of_the_drawn_aspect(coverage: float) -> None:
    size = (60, 90)
    seeds = torch.arange(40) * 13 + 5
    draws = random.uniform(seeds, (3,), stream=2).double()
    images = torch.full((40, 3, *size), 0.9)
    seen = registry.get("patch_occlusion")(images, coverage=coverage, value=0.2, seeds=seeds)
    cover = ((0.9 - seen[:, 0].double()) / 0.7).numpy()
    aspects = set()
    for one, (shape, x, y) in zip(cover, draws.tolist(), strict=True):
        aspect = 0.3 + shape * (1 / 0.3 - 0.3)
        across = min(max(np.sqrt(coverage * aspect), coverage), 1.0)
        down = coverage / across
        aspects.add(across == 1.0)
        rows, columns = (
            np.clip(
                np.minimum(np.arange(n) + 1, start + share * n) - np.maximum(np.arange(n), start),
                0,
                1,
            )
            for n, share, start in (
                (size[0], down, y * (1 - down) * size[0]),
                (size[1], across, x * (1 - across) * size[1]),
            )
        )
        np.testing.assert_allclose(one, np.outer(rows, columns), atol=2e-4)
    assert False in aspects


@pytest.mark.parametrize("coverage", [0.0, -0.5])
@pytest.mark.parametrize("name", NAMES)
def test_to_hide_nothing_leaves_the_picture_itself(name: str, coverage: float) -> None:
    data = scene(2)
    function = registry.get(name).function.__wrapped__  # type: ignore[attr-defined]
    inputs = {key: data[key] for key in ("seeds", *(["occluder"] if name == "occlusion" else []))}
    assert function(data["images"], coverage=coverage, **inputs) is data["images"]

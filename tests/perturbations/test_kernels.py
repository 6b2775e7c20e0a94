"""The kernels of ``filters``, one by one, against SciPy, NumPy, PIL and sums written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from pytest_cliprobust.perturbations import filters
from pytest_cliprobust.perturbations.filters import Border

MODES = {"replicate": ("edge", "nearest"), "reflect": ("reflect", "mirror")}
MODES["symmetric"] = ("symmetric", "reflect")


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Return random numbers in [0, 1), float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def same(seen: Tensor, expected: np.ndarray | Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(seen, torch.as_tensor(expected), rtol=0, atol=atol)


@pytest.mark.parametrize("border", MODES)
@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (3, 0), (0, 2), (4, 6), (5, 7), (11, 17)])
def test_padding_is_that_of_numpy(border: Border, rows: int, columns: int) -> None:
    images = noise(2, 3, 5, 7)
    widths = ((0, 0), (0, 0), (rows, rows), (columns, columns))
    expected = np.pad(images.numpy(), widths, mode=MODES[border][0])  # type: ignore[call-overload]
    assert torch.equal(filters.pad(images, rows, columns, border), torch.from_numpy(expected))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 31])
def test_sums_by_halving(size: int) -> None:
    values = torch.arange(1.0, size + 1, dtype=torch.float64).view(1, size, 1) * torch.ones(2, 1, 3)
    summed = filters.total(values, 1)
    assert summed.shape == (2, 1, 3)
    assert bool((summed == size * (size + 1) / 2).all())
    images = noise(2, 3, size, 4)
    same(filters.spatial_mean(images), images.mean((2, 3), keepdim=True))


@pytest.mark.parametrize("sigma", [0.3, 1.0, 1.13, 2.5])
@pytest.mark.parametrize("truncate", [2.0, 4.0])
def test_weights_are_those_of_a_cut_gaussian(sigma: float, truncate: float) -> None:
    impulse = np.zeros(41)
    impulse[20] = 1.0
    response = ndimage.gaussian_filter1d(impulse, sigma, truncate=truncate)
    expected = response[20 : 21 + int(truncate * sigma + 0.5)]
    weights = filters.gaussian_weights(sigma, truncate)
    assert weights == pytest.approx(expected.tolist(), abs=1e-15)
    assert filters.gaussian_weights(sigma) == filters.gaussian_weights(sigma, 4.0)


@pytest.mark.parametrize("on_host", [True, False])
@pytest.mark.parametrize("border", MODES)
@pytest.mark.parametrize("sigma", [0.6, 1.3, 1.5, 3.0, 7.0, 40.0])
def test_a_gaussian_on_both_paths(
    on_host: bool, border: Border, sigma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "on_host", lambda images: on_host)
    for shape in ((2, 3, 20, 20), (1, 2, 40, 33), (1, 1, 7, 70)):
        images = noise(*shape)
        for truncate in (4.0, 2.0):
            mode = MODES[border][1]
            expected = ndimage.gaussian_filter(
                images.numpy(), sigma, mode=mode, truncate=truncate, axes=(-2, -1)
            )
            same(filters.gaussian_filter(images, sigma, border=border, truncate=truncate), expected)
        replicated = filters.gaussian_filter(images, sigma, border="replicate", truncate=4.0)
        assert torch.equal(filters.gaussian_filter(images, sigma), replicated)


@pytest.mark.parametrize("sigma", [0.0, -1.0])
def test_a_gaussian_of_no_width_is_the_identity(sigma: float) -> None:
    images = noise(2, 3, 6, 5)
    assert torch.equal(filters.gaussian_filter(images, sigma), images)


def test_banded_products_are_whole_products() -> None:
    # Several blocks, of which the last is not full, and bands that end in the middle of a block.
    images, radius = noise(1, 2, 75, 101), 9
    across, along = (
        noise(size, size, seed=size)
        * (torch.arange(size).sub(torch.arange(size)[:, None]).abs() <= radius)
        for size in (101, 75)
    )
    expected = along.T @ images @ across
    same(filters._banded_products(images, across, along, radius), expected, 1e-10)


@pytest.mark.parametrize("radius", [0.5, 1.0, 2.0, 2.24, 3.7, 5.0, 8.0, 8.1, 10.0])
@pytest.mark.parametrize("softness", [0.0, 0.1, 0.25, 0.5, 3.0])
def test_a_disk_holds_all_offsets_within_its_radius(radius: float, softness: float) -> None:
    images = noise(2, 1, 24, 31)
    reach = math.floor(radius)
    offsets = np.arange(-reach, reach + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2 + 1e-9).astype(float)
    expected = ndimage.convolve(images.numpy(), (disk / disk.sum())[None, None], mode="mirror")
    if softness > 0.2:
        taps = 2 if radius > 8 else 1
        soft = np.exp(-0.5 * (np.arange(-taps, taps + 1) / softness) ** 2)
        rim = np.outer(soft, soft) / soft.sum() ** 2
        expected = ndimage.convolve(expected, rim[None, None], mode="mirror")
    # What weighs less than a millionth of the whole is not softened at all.
    same(filters.disk_filter(images, radius, softness), expected, 1e-12 if softness > 0.2 else 1e-6)


def test_a_disk_counts_pixels_on_its_rim() -> None:
    # 3² + 4² = 5²: rounding must not lose the twelve pixels at a distance of exactly five.
    spot = torch.zeros(1, 1, 13, 13, dtype=torch.float64)
    spot[..., 6, 6] = 1.0
    for radius in (5.0, 5.0 - 1e-12, 5.0 + 1e-12):
        seen = filters.disk_filter(spot, radius)[0, 0]
        assert int((seen > 0).sum()) == 81
        assert float(seen.max()) == pytest.approx(1 / 81)


@pytest.mark.parametrize("radius", [1, 2, 6, 30])
@pytest.mark.parametrize("sigma", [0.2, 1.0, 3.5, 40.0])
def test_motion_is_a_sum_along_a_line(radius: int, sigma: float) -> None:
    images, angles = noise(3, 2, 15, 22), torch.tensor([0.0, 90.0, -33.0])
    weights = np.exp(-0.5 * (np.arange(2 * radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    expected = torch.zeros_like(images)
    rows, columns = torch.arange(15)[:, None], torch.arange(22)
    for i, angle in enumerate(angles.tolist()):
        for step, weight in enumerate(weights.tolist()):
            down = math.ceil(step * math.sin(math.radians(angle)) - 0.5)
            right = math.ceil(step * math.cos(math.radians(angle)) - 0.5)
            taken = images[i][:, (rows + down).clamp(0, 14), (columns + right).clamp(0, 21)]
            expected[i] += weight * taken
    same(filters.motion_filter(images, radius, sigma, angles), expected, 1e-7)
    # Off the host all samples go at once, by a gather.
    together = filters.motion_filter.__wrapped__  # type: ignore[attr-defined]
    same(together(images, radius, sigma, angles), expected, 1e-7)


@pytest.mark.parametrize(("radius", "sigma"), [(0, 1.0), (3, 0.0), (-1, 1.0), (3, -1.0)])
def test_motion_of_no_length_is_the_identity(radius: int, sigma: float) -> None:
    images = noise(2, 3, 6, 5)
    assert torch.equal(filters.motion_filter(images, radius, sigma, torch.ones(2)), images)


@pytest.mark.parametrize(
    ("size", "target"),
    [
        ((12, 18), (4, 6)),
        ((17, 23), (5, 9)),
        ((17, 23), (17, 7)),
        ((17, 23), (16, 22)),
        ((5, 7), (11, 17)),
        ((5, 7), (1, 1)),
        ((1, 3), (4, 2)),
        ((30, 41), (45, 13)),
    ],
)
def test_box_resize_is_that_of_pil(size: tuple[int, int], target: tuple[int, int]) -> None:
    images = noise(2, 1, *size).float()
    seen = filters.box_resize(images, target)
    for picture, resized in zip(images[:, 0], seen[:, 0], strict=True):
        whole = Image.fromarray(picture.numpy())
        expected = np.array(whole.resize(target[::-1], Image.Resampling.BOX))
        torch.testing.assert_close(resized.numpy(), expected, rtol=0, atol=2e-6)


def test_a_box_of_the_same_size_is_the_picture_itself() -> None:
    images = noise(1, 3, 6, 5)
    assert filters.box_resize(images, (6, 5)) is images


def test_straight_through_is_exact_and_passes_the_gradient_of_its_source() -> None:
    source = torch.tensor([0.3, 0.7], requires_grad=True)
    seen = filters.straight_through((source * 1e8).round(), source * 3)
    assert seen.tolist() == (source * 1e8).round().tolist()
    seen.sum().backward()
    assert source.grad is not None
    assert source.grad.tolist() == [3.0, 3.0]
    value = torch.tensor([1.0])
    assert filters.straight_through(value, torch.tensor([2.0])) is value
    with torch.no_grad():
        assert filters.straight_through(value, source) is value


def test_tables_are_made_once_a_dtype() -> None:
    made: list[int] = []

    @filters.tables
    def numbers(count: int) -> tuple[filters.Table, ...]:
        made.append(count)
        return [float(i) for i in range(count)], [[1, 2], [3, 4]]

    single, double = torch.zeros(1), torch.zeros(1, dtype=torch.float64)
    floats, integers = numbers(single, 3)
    assert (floats.dtype, integers.dtype) == (torch.float32, torch.int64)
    assert floats.tolist() == [0.0, 1.0, 2.0]
    assert integers.tolist() == [[1, 2], [3, 4]]
    assert numbers(double, 3)[0].dtype == torch.float64
    assert numbers(single, 3)[0] is floats
    assert made == [3, 3]
    with torch.inference_mode():
        assert not numbers(single, 4)[0].is_inference()


def test_what_counts_as_plain_and_in_which_dtype() -> None:
    plain = torch.zeros(1)
    assert filters.on_host(plain)
    assert filters.on_host(torch.nn.Parameter(plain))
    assert not filters.on_host(torch.zeros(1, device="meta"))
    assert not filters.on_host(plain.as_subclass(type("Wrapped", (Tensor,), {})))
    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    working = [filters.working_dtype(torch.zeros(1, dtype=kind)) for kind in kinds]
    assert working == [torch.float32, torch.float32, torch.float32, torch.float64]


def test_an_empty_batch_is_left_alone() -> None:
    @filters.in_small_batches
    def never(images: Tensor) -> Tensor:
        raise AssertionError

    empty = torch.zeros(0, 3, 4, 4)
    assert never(empty) is empty
    assert filters.batch_at_once(never)(empty) is empty


def test_a_part_is_as_many_samples_as_four_pictures_have_numbers() -> None:
    sizes: list[int] = []

    @filters.in_small_batches
    def counted(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return images.clone()

    for side, expected in ((224, [4, 1]), (200, [5]), (225, [3, 2]), (448, [1] * 5)):
        sizes.clear()
        counted(torch.zeros(5, 3, side, side))
        assert sizes == expected

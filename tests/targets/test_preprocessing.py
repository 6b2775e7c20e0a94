"""Preprocessing on tensors against the PIL path of the models' own libraries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.pretrained import get_pretrained_cfg, list_pretrained
from open_clip.transform import image_transform
from PIL import Image
from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets.base import Interpolation, ResizeMode
from pytest_cliprobust.targets.preprocessing import Preprocessing, as_pair

# Grey levels of 255. PIL rounds after each of its two passes, the float path never does.
FLOAT_MEAN, FLOAT_MAX = 0.35, 1.25
# uint8: torchvision's fixed-point path against PIL's.
UINT8_MEAN, UINT8_MAX = 0.02, 1.0

SHAPES = ((150, 211), (233, 97), (64, 300))


def zoo() -> list[tuple[tuple[float, ...], tuple[float, ...], str, str]]:
    """Every preprocessing of open_clip's pretrained models."""
    found = set()
    for model, tag in list_pretrained():
        cfg = get_pretrained_cfg(model, tag)
        found.add((tuple(cfg["mean"]), tuple(cfg["std"]), cfg["interpolation"], cfg["resize_mode"]))
    return sorted(found)


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """A uint8 image (3, H, W) with smooth areas, sharp edges and fine noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 7, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0]
    smooth[:, height // 3 : height // 2, width // 4 : width // 2] = torch.tensor(
        [1.0, 0.0, 0.5]
    ).view(3, 1, 1)
    noise = 0.1 * torch.randn(3, height, width, generator=generator)
    return ((smooth + noise).clamp(0, 1) * 255).round().to(torch.uint8)


def as_pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def through_pil(image: Tensor, preprocessing: Preprocessing, size: int | None = None) -> Tensor:
    """open_clip's own evaluation transform, as (3, h, w) in grey levels 0 to 255."""
    transform = image_transform(
        as_pair(size) if size else preprocessing.size,
        is_train=False,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        resize_mode=preprocessing.resize_mode,
        interpolation=preprocessing.interpolation,
        fill_color=preprocessing.fill[0],
    )
    whole: Tensor = transform(as_pil(image)) * 255
    return whole


@pytest.fixture
def horizontal_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PIL resize in the order that it had before Pillow 13, whichever is installed."""
    original = Image.Image.resize

    def resize(image: Image.Image, size: tuple[int, int], *arguments: Any) -> Image.Image:
        across = original(image, (size[0], image.height), *arguments)
        return original(across, size, *arguments)

    monkeypatch.setattr(Image.Image, "resize", resize)


def test_zoo_has_eight_combinations_of_mean_interpolation_and_mode() -> None:
    combinations = {(mean, interpolation, mode) for mean, _, interpolation, mode in zoo()}
    if open_clip.__version__.startswith("3.3."):
        assert len(combinations) == 8
    assert {mode for _, _, mode in combinations} == {"shortest", "squash"}


@pytest.mark.usefixtures("horizontal_first")
@pytest.mark.parametrize(("mean", "std", "interpolation", "mode"), zoo())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tensor_path_agrees_with_pil_for_every_preprocessing_of_the_zoo(
    mean: tuple[float, ...],
    std: tuple[float, ...],
    interpolation: str,
    mode: str,
    shape: tuple[int, int],
) -> None:
    cfg = {"mean": mean, "std": std, "interpolation": interpolation, "resize_mode": mode}
    preprocessing = Preprocessing.from_open_clip(cfg, 56)
    image = picture(*shape)
    expected = through_pil(image, preprocessing)
    fitted = preprocessing.fit(image[None].float() / 255)[0] * 255
    assert fitted.shape == expected.shape == (3, 56, 56)
    error = (fitted - expected).abs()
    assert error.mean() <= FLOAT_MEAN
    assert error.max() <= FLOAT_MAX
    framed = preprocessing.frame(image, 56).float()
    error = (framed - expected).abs()
    assert error.mean() <= UINT8_MEAN
    assert error.max() <= UINT8_MAX
    # mean and standard deviation: the whole transform, normalised, at the model's size
    whole = image_transform(
        56, is_train=False, mean=mean, std=std, resize_mode=mode, interpolation=interpolation
    )
    at_size = preprocessing.frame(image, 56)
    centre, spread = preprocessing.constants(torch.device("cpu"))
    ours = (preprocessing.fit(at_size[None].float() / 255)[0] - centre) / spread
    assert torch.equal(ours, whole(as_pil(at_size)))


@pytest.mark.usefixtures("horizontal_first")
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(40, 56), (64, 48), (56, 56)], ids=str)
@pytest.mark.parametrize("shape", [(150, 211), (233, 97), (30, 45)], ids=str)
def test_non_square_models_padding_and_enlargement_agree_with_pil(
    mode: ResizeMode, size: tuple[int, int], shape: tuple[int, int]
) -> None:
    preprocessing = Preprocessing(
        size,
        resize_mode=mode,
        interpolation="bilinear",
        fill=(128, 128, 128),
    )
    image = picture(*shape, seed=3)
    expected = through_pil(image, preprocessing)
    error = (preprocessing.fit(image[None].float() / 255)[0] * 255 - expected).abs()
    assert tuple(expected.shape[1:]) == size
    assert error.mean() <= FLOAT_MEAN
    assert error.max() <= FLOAT_MAX


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash", "keep"])
@pytest.mark.parametrize("shape", [(150, 211), (30, 45), (56, 56)], ids=str)
def test_a_picture_as_decoded_is_framed_to_the_same_pixels(
    interpolation: Interpolation, mode: ResizeMode, shape: tuple[int, int]
) -> None:
    """Decoders have the channels innermost, and nothing else of a picture is copied."""
    preprocessing = Preprocessing((56, 56), resize_mode=mode, interpolation=interpolation)
    image = picture(*shape, seed=5)
    decoded = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert not decoded.is_contiguous()
    framed = preprocessing.frame(decoded, 56)
    assert framed.is_contiguous()
    assert torch.equal(framed, preprocessing.frame(image, 56))


def test_longest_pads_with_the_fill_colour() -> None:
    preprocessing = Preprocessing((32, 32), resize_mode="longest", fill=(10, 20, 30))
    framed = preprocessing.frame(picture(20, 80), 32)
    assert framed.dtype == torch.uint8
    for rows in (framed[:, 0], framed[:, -1]):
        assert rows[:, 0].tolist() == [10, 20, 30]
    fitted = preprocessing.fit(picture(20, 80)[None].float() / 255)
    assert torch.allclose(fitted[0, :, 0, 0] * 255, torch.tensor([10.0, 20.0, 30.0]))


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        # 33 pixels less 10: the odd one goes below and to the right.
        ((20, 66), slice(11, 21), slice(0, 33)),
        ((66, 20), slice(0, 33), slice(11, 21)),
        ((22, 66), slice(11, 22), slice(0, 33)),
    ],
)
def test_longest_puts_the_picture_in_the_middle(
    shape: tuple[int, int], rows: slice, columns: slice
) -> None:
    fill = (10, 20, 250)
    preprocessing = Preprocessing((33, 33), resize_mode="longest", fill=fill)
    squash = Preprocessing(
        (rows.stop - rows.start, columns.stop - columns.start), resize_mode="squash"
    )
    image = picture(*shape)
    # One image of whole numbers, and a batch of floats.
    framed, fitted = preprocessing.frame(image, 33), preprocessing.fit(image[None].float() / 255)
    assert framed.shape == (3, 33, 33)
    assert fitted.shape == (1, 3, 33, 33)
    resized = squash.fit(image[None].float() / 255)
    assert torch.equal(fitted[..., rows, columns], resized)
    assert (framed[:, rows, columns].float() - resized[0] * 255).abs().max() < 1.5
    outside = torch.ones(33, 33, dtype=torch.bool)
    outside[rows, columns] = False
    for channel, value in enumerate(fill):
        assert set(framed[channel, outside].tolist()) == {value}
        assert set((fitted[0, channel, outside] * 255).round().tolist()) == {value}


@pytest.mark.parametrize(
    ("size", "pair"),
    [
        (7, (7, 7)),
        ([7], (7, 7)),
        ((5, 7), (5, 7)),
        ((3, 5, 7), (5, 7)),  # timm's (C, H, W)
        ([1, 5, 6], (5, 6)),
    ],
)
def test_sizes_as_configurations_have_them(
    size: int | Sequence[int], pair: tuple[int, int]
) -> None:
    assert as_pair(size) == pair
    assert Preprocessing.from_open_clip({}, size).size == pair


def test_one_number_stands_for_all_channels() -> None:
    made = Preprocessing.from_open_clip({"mean": 0.5, "std": (1, 2, 3), "fill_color": 7}, 8)
    assert (made.mean, made.std, made.fill) == ((0.5,) * 3, (1.0, 2.0, 3.0), (7, 7, 7))
    coloured = Preprocessing.from_open_clip({"fill_color": [1, 2, 3]}, 8)
    assert coloured.fill == (1, 2, 3)
    with pytest.raises(ClipRobustError, match=r"three channels, got \[0.5, 0.5\]"):
        Preprocessing.from_open_clip({"mean": [0.5, 0.5]}, 8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_agreement_with_pil_as_installed(shape: tuple[int, int]) -> None:
    # Pillow 13 resizes tall images in the other order, see the module's docstring.
    preprocessing = Preprocessing((56, 56))
    image = picture(*shape)
    expected = through_pil(image, preprocessing)
    for ours in (
        preprocessing.fit(image[None].float() / 255)[0] * 255,
        preprocessing.frame(image, 56),
    ):
        error = (ours.float() - expected).abs()
        assert error.mean() <= FLOAT_MEAN
        assert error.max() <= 6


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_an_image_of_the_models_size_passes_bit_for_bit(mode: str) -> None:
    preprocessing = Preprocessing((48, 48), resize_mode=mode)  # type: ignore[arg-type]
    # Values outside of [0, 1], denormals and all: nothing may be clamped or rounded.
    images = torch.randn(3, 3, 48, 48) * 3
    assert torch.equal(preprocessing.fit(images), images)
    image = picture(48, 48)
    assert torch.equal(preprocessing.frame(image, 48), image)


def test_resize_of_the_shorter_edge_may_differ_from_the_crop() -> None:
    preprocessing = Preprocessing((48, 48), resize=64)
    image = picture(128, 192)
    plain = Preprocessing((64, 64)).frame(image, 64)
    assert torch.equal(preprocessing.frame(image, 48), plain[:, 8:56, 8:56])
    # framing at another size keeps the ratio of resize and crop
    larger = Preprocessing((128, 128)).frame(image, 128)
    assert torch.equal(preprocessing.frame(image, 96), larger[:, 16:112, 16:112])


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
def test_rows_do_not_depend_on_the_batch(interpolation: str) -> None:
    preprocessing = Preprocessing((40, 40), interpolation=interpolation)  # type: ignore[arg-type]
    images = torch.stack([picture(60, 90, seed=s) for s in range(7)]).float() / 255
    together = preprocessing.fit(images)
    for i in range(len(images)):
        assert torch.equal(preprocessing.fit(images[i : i + 1])[0], together[i])
    assert torch.equal(preprocessing.fit(images.flip(0)).flip(0), together)
    channels_last = images.to(memory_format=torch.channels_last)
    assert torch.equal(preprocessing.fit(channels_last), together)


def test_nearest_agrees_with_pil() -> None:
    preprocessing = Preprocessing((32, 32), interpolation="nearest", resize_mode="squash")
    image = picture(75, 50)
    expected = np.asarray(as_pil(image).resize((32, 32), Image.Resampling.NEAREST))
    assert np.array_equal(preprocessing.frame(image, 32).permute(1, 2, 0).numpy(), expected)


def test_the_resize_is_differentiable_and_stays_in_range() -> None:
    preprocessing = Preprocessing((24, 24))
    images = (torch.rand(2, 3, 50, 40) > 0.5).float().requires_grad_()  # edges overshoot
    fitted = preprocessing.fit(images)
    assert float(fitted.detach().min()) >= 0
    assert float(fitted.detach().max()) <= 1
    fitted.sum().backward()
    assert images.grad is not None
    assert float(images.grad.abs().sum()) > 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"interpolation": "lanczos"}, "interpolation 'lanczos'"),
        ({"resize_mode": "crop"}, "resize_mode 'crop'"),
        ({"std": (1.0, 0.0, 1.0)}, "std above 0"),
        ({"size": (0, 3)}, "(height, width)"),
        ({"size": (3, 0)}, "(height, width)"),
        ({"size": (3, 3, 3)}, "(height, width)"),
        ({"std": (1.0, 1.0)}, "three numbers"),
        ({"mean": (1.0, 1.0)}, "three numbers"),
    ],
)
def test_unusable_settings_are_named(arguments: dict[str, object], word: str) -> None:
    with pytest.raises(ClipRobustError, match=word.replace("(", r"\(").replace(")", r"\)")):
        Preprocessing(**{"size": (8, 8), **arguments})  # type: ignore[arg-type]


def test_frame_wants_one_uint8_image() -> None:
    with pytest.raises(ClipRobustError, match=r"\(3, H, W\) uint8, got \(1, 8, 8\)"):
        Preprocessing((8, 8)).frame(torch.zeros(1, 8, 8, dtype=torch.uint8), 8)
    with pytest.raises(ClipRobustError, match="float32"):
        Preprocessing((8, 8)).frame(torch.zeros(3, 8, 8), 8)
    with pytest.raises(ClipRobustError, match=r"got \(1, 3, 8, 8\)"):
        Preprocessing((8, 8)).frame(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 8)


def test_identity_tells_settings_apart() -> None:
    base = Preprocessing((8, 8))
    same = Preprocessing.from_open_clip({"interpolation": "random"}, 8)
    assert base.identity() == same.identity()  # open_clip evaluates "random" as bicubic
    others = [
        Preprocessing((8, 9)),
        Preprocessing((8, 8), mean=(0.5, 0.5, 0.5)),
        Preprocessing((8, 8), interpolation="bilinear"),
        Preprocessing((8, 8), resize_mode="squash"),
        Preprocessing((8, 8), fill=(1, 1, 1)),
    ]
    assert len({p.identity() for p in (base, *others)}) == len(others) + 1


def test_a_picture_too_short_and_too_wide_is_padded_and_cropped_at_once() -> None:
    wide = torch.arange(3 * 4 * 10, dtype=torch.uint8).view(3, 4, 10)
    framed = Preprocessing((8, 8), resize=4, resize_mode="shortest", fill=(9, 9, 9)).frame(wide, 8)
    assert torch.equal(framed[:, 2:6], wide[:, :, 1:9])
    assert (framed[:, :2] == 9).all()
    assert (framed[:, 6:] == 9).all()


def test_a_picture_too_tall_and_too_narrow_is_padded_and_cropped_at_once() -> None:
    tall = torch.arange(3 * 10 * 4, dtype=torch.uint8).view(3, 10, 4)
    framed = Preprocessing((8, 8), resize=4, resize_mode="shortest", fill=(9, 9, 9)).frame(tall, 8)
    assert torch.equal(framed[:, :, 2:6], tall[:, 1:9])
    assert (framed[:, :, :2] == 9).all()
    assert (framed[:, :, 6:] == 9).all()

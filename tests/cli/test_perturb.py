"""``cliprobust perturb``: contact sheets, and mistakes in asking for them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from pytest_cliprobust import cli
from pytest_cliprobust.cli import _rows
from pytest_cliprobust.cli._images import load_depth, load_image
from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.perturbations import codec, common, registry

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def few_families() -> Iterator[None]:
    """Keep to this file's families and to one 3D perturbation, whatever else is registered."""
    keep = ("occlusion", "patch_occlusion", "typographic")
    with registry.PERTURBATIONS.preserved():
        for name in set(registry.names()) - set(keep):
            registry.PERTURBATIONS.forget(name)

        @registry.register(
            "haze",
            severities=tuple({"density": s / 10} for s in range(1, 6)),
            envelope={"density": (0.0, 1.0)},
            inputs=("depth",),
            source="this test",
        )
        def haze(images: torch.Tensor, *, density: float, depth: torch.Tensor) -> torch.Tensor:
            clear = torch.exp(-density * depth)
            return images * clear + (1 - clear)

        yield


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    y, x = np.mgrid[0:60, 0:90]
    array = np.stack((x * 2, y * 4, 255 - x * 2), axis=-1).astype(np.uint8)
    path = tmp_path / "ramp.png"
    Image.fromarray(array).save(path)
    return path


def perturb(picture: Path, *words: str) -> int:
    out = picture.parent / "out"
    return cli.main(["perturb", str(picture), "--out", str(out), "--size", "32", *words])


def test_perturb_writes_a_sheet_and_says_what_is_left_out(picture: Path, capsys: Capture) -> None:
    assert perturb(picture) == 0
    told = capsys.readouterr()
    sheet = Image.open(told.out.strip())
    assert Path(told.out.strip()) == picture.parent / "out" / "ramp.png"
    assert told.err.splitlines() == [
        "left out: occlusion: need occluder (--occluder FILE, or --embedded N)",
        "left out: haze: need depth (--depth FILE, or --embedded N)",
    ]
    # Label, original and five severities side by side, two rows of 144 pixels.
    assert sheet.width > 6 * 144
    assert 2 * 144 < sheet.height < 600
    pixels = np.asarray(sheet)
    assert (pixels[2:10, 2:10] == 255).all()
    assert pixels.std() > 20


@pytest.mark.parametrize("suffix", ["npy", "png", "exr"])
def test_depth_from_files(picture: Path, capsys: Capture, suffix: str) -> None:
    metres = np.tile(np.linspace(1, 20, 90, dtype=np.float32), (60, 1))
    path = picture.parent / f"depth.{suffix}"
    if suffix == "npy":
        np.save(path, metres)
    elif suffix == "exr":
        OpenEXR = pytest.importorskip("OpenEXR", reason="part of the test extra")
        OpenEXR.File({"type": OpenEXR.scanlineimage}, {"Z": metres}).write(str(path))
    else:
        Image.fromarray((metres * 1000).round().astype(np.uint16)).save(path)
    loaded = load_depth(path, "metric", 1000.0)
    assert loaded.shape == (1, 1, 60, 90)
    assert torch.allclose(loaded[0, 0], torch.from_numpy(metres), atol=1e-3)
    assert perturb(picture, "--perturbation", "haze", "--depth", str(path)) == 0
    assert "left out" not in capsys.readouterr().err


def test_severities_and_settings_choose_the_columns(picture: Path, capsys: Capture) -> None:
    arguments = ("--perturbation", "patch_occlusion")
    widths = []
    for more in ([], ["--severity", "1", "5"], ["--set", "coverage=0.25"]):
        assert perturb(picture, *arguments, *more) == 0
        widths.append(Image.open(capsys.readouterr().out.strip()).width)
    assert widths[0] - widths[1] == 3 * 150
    assert widths[1] > widths[2]


def test_occluder_mask_kornia_and_seed(picture: Path, capsys: Capture) -> None:
    occluder = picture.parent / "occluder.png"
    Image.new("RGBA", (20, 20), (255, 0, 0, 255)).save(occluder)
    mask = picture.parent / "mask.png"
    Image.new("L", (90, 60), 255).save(mask)
    names = ("--perturbation", "occlusion", "kornia:RandomSolarize")
    sheets = []
    for seed in ("0", "0", "1"):
        words = ("--occluder", str(occluder), "--mask", str(mask), "--seed", seed)
        assert perturb(picture, *names, *words) == 0
        sheets.append(np.asarray(Image.open(capsys.readouterr().out.strip())))
    assert (sheets[0] == sheets[1]).all()
    assert (sheets[0] != sheets[2]).any()
    red = (sheets[0] == (255, 0, 0)).all(axis=-1)
    assert red.sum() > 0.1 * 144 * 144 * 3


def test_images_of_the_same_name_do_not_overwrite_each_other(
    picture: Path, capsys: Capture
) -> None:
    other = picture.parent / "sub" / "ramp.jpg"
    other.parent.mkdir()
    Image.open(picture).save(other)
    words = ["--out", str(picture.parent / "out"), "--perturbation", "patch_occlusion"]
    assert cli.main(["perturb", str(picture), str(other), *words]) == 0
    assert [Path(line).name for line in capsys.readouterr().out.split()] == [
        "ramp.png",
        "ramp_2.png",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--perturbation", "haz"], "Did you mean 'haze'"),
        (["--perturbation", "haze"], "'haze' needs depth (--depth FILE, or --embedded N)"),
        (["--perturbation", "kornia:RandomSolarise"], "Did you mean 'RandomSolarize'"),
        (["--set", "coverage=0.2"], "exactly one --perturbation"),
        (["--perturbation", "patch_occlusion", "--set", "cover=1"], "Did you mean 'coverage'"),
        (["--depth", "nowhere.npy"], "no file 'nowhere.npy'"),
        (["--sample", "a"], "--clip-data and --sample belong together"),
        (["--clip-depth", "maps"], "for image files there is --depth FILE"),
        (["--clip-data", "clean", "--sample", "clean-0"], "clean has no such sample. Did you mean"),
        (["--depth", "a.npy", "b.npy", "c.npy"], "3 depth maps for 1 images"),
        (["--mask", "nowhere.png"], "no file 'nowhere.png'"),
        (["--size", "3"], "16 is the least"),
        (["--device", "gpu"], "device 'gpu' is not usable here"),
        (["--text", " "], "--text is empty"),
        (["--device", "meta"], "device 'meta' is not usable here"),
        (["--size", "1000000"], "--size 1000000"),
        (["--cell", "1000000"], "--cell 1000000"),
        (["--blocks", "1000000"], "--blocks 1000000"),
        (["--depth-scale", "inf"], "--depth-scale inf"),
        (
            ["--perturbation", "patch_occlusion", "--set", "coverage=0.2", "--severity", "2"],
            "--severity and --set exclude each other",
        ),
        (
            ["--perturbation", "patch_occlusion", "--set", "cover=1"],
            "It takes coverage, value",
        ),
        (["--perturbation", "patch_occlusion", "--set", "seeds=1"], "no parameter 'seeds'"),
        (["--perturbation", "kornia:RandomSolarize", "--set", "seeds=1"], "no parameter 'seeds'"),
        (
            ["--perturbation", "kornia:RandomCrop", "--set", "size=16"],
            "kornia:RandomCrop(size=16) was refused by kornia",
        ),
        (
            ["--perturbation", "kornia:Resize", "--set", "size=16"],
            "augmentations that change the size",
        ),
    ],
)
def test_mistakes_are_one_line_and_exit_code_4(
    picture: Path, capsys: Capture, words: list[str], message: str
) -> None:
    assert perturb(picture, *words) == cli.USAGE_ERROR == 4
    told = capsys.readouterr().err.strip().splitlines()
    assert message in told[-1]
    assert all(line.startswith("left out") for line in told[:-1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["perturb", "x.png"], "--out"),
        (["perturb", "x.png", "--out", "o", "--severity", "6"], "1, 2, 3, 4 or 5, not '6'"),
        (["perturb", "x.png", "--out", "o", "--set", "a"], "write NAME=NUMBER, not 'a'"),
        (["perturb", "x.png", "--out", "o", "--set", "a=nan"], "write NAME=NUMBER, not 'a=nan'"),
        (["perturb", "x.png", "--out", "o", "--set", "a=-inf"], "write NAME=NUMBER, not 'a=-inf'"),
        (["perturb", "x.png", "--out", "o", "--sze", "3"], "--sze"),
    ],
)
def test_mistyped_options_are_one_line_and_exit_code_4(
    capsys: Capture, words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 4
    told = capsys.readouterr().err
    assert message in told
    assert len(told.strip().splitlines()) == 1


def test_an_unreadable_image_and_a_wrong_depth_map(picture: Path, capsys: Capture) -> None:
    text = picture.parent / "text.png"
    text.write_text("no picture")
    assert perturb(text) == 4
    told = capsys.readouterr().err
    assert "cannot read image" in told
    assert "text.png" in told
    eight_bits = picture.parent / "eight.png"
    Image.new("L", (9, 9), 3).save(eight_bits)
    negative = picture.parent / "negative.npy"
    np.save(negative, -np.ones((4, 4)))
    cube = picture.parent / "cube.npy"
    np.save(cube, np.ones((4, 4, 3)))
    for path, message in (
        (eight_bits, "a png of mode L: too coarse"),
        (negative, "no valid pixel"),
        (cube, "one number for each pixel"),
        (text, "cannot read depth file"),
        (picture.parent / "none.npy", "no file"),
    ):
        with pytest.raises(ClipRobustError, match=message):
            load_depth(path, "metric", 1000.0)


def test_depth_that_is_disparity(picture: Path) -> None:
    path = picture.parent / "disparity.npy"
    np.save(path, np.array([[3.0, 7.0], [5.0, np.nan]]))
    loaded = load_depth(path, "inverse", 1000.0)
    assert loaded.flatten().tolist() == [64, 1, 2, 64]
    files = ("--depth", str(path), "--depth-kind", "inverse")
    assert perturb(picture, "--perturbation", "haze", *files) == 0
    assert perturb(picture, *files, "--depth-scale", "0") == 4


@pytest.mark.slow
def test_an_embedded_scene_brings_everything_along(tmp_path: Path, capsys: Capture) -> None:
    words = ["--out", str(tmp_path), "--size", "48", "--cell", "48", "--severity", "3"]
    assert cli.main(["perturb", "--embedded", "4", "clean-00007", *words]) == 0
    told = capsys.readouterr()
    assert told.err == ""  # occluder, depth and text: nothing is left out
    sheets = [Path(line) for line in told.out.split()]
    assert [sheet.name for sheet in sheets] == ["clean-00004.png", "clean-00007.png"]
    data = EmbeddedDataset("clean", limit=8, size=48)
    expected = data.load([7]).images[0].permute(1, 2, 0).numpy()
    pixels = np.asarray(Image.open(sheets[1]))
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (48, 48, 3))[:, :, 0]
    assert (windows == expected).all(axis=(2, 3, 4)).any()  # the original, pixel by pixel
    assert (
        cli.main(["perturb", "--embedded", "4", *words, "--text", "word", "--name", "w.png"]) == 0
    )
    written = np.asarray(Image.open(tmp_path / "w.png"))
    assert (written != np.asarray(Image.open(sheets[0]))).any()


@pytest.mark.slow
def test_a_survey_in_blocks_is_wider_lower_and_of_few_colours(
    tmp_path: Path, capsys: Capture
) -> None:
    words = ["perturb", "--embedded", "4", "--out", str(tmp_path), "--size", "48", "--cell", "48"]
    assert cli.main([*words, "--name", "one.png"]) == 0
    assert cli.main([*words, "--name", "two.png", "--blocks", "2", "--colours", "32"]) == 0
    one, two = (Image.open(tmp_path / f"{name}.png") for name in ("one", "two"))
    assert two.width > one.width
    assert two.height < one.height
    assert two.mode == "P"
    colours = two.getcolors()
    assert colours is not None
    assert len(colours) <= 32


def test_files_that_define_perturbations_are_loaded(picture: Path, capsys: Capture) -> None:
    mine = picture.parent / "my_conftest.py"
    mine.write_text(
        "from helper import GAIN\n"
        "from pytest_cliprobust.perturbations.registry import register\n"
        "@register('dim', envelope={'gain': (1.0, 0.0)})\n"
        "def dim(images, *, gain=GAIN):\n    return images * gain\n"
    )
    (picture.parent / "helper.py").write_text("GAIN = 0.5\n")
    table = picture.parent / "thresholds.toml"
    table.write_text(
        'schema = 1\n[[perturbation]]\nname = "coarse"\nkornia = "RandomPosterize"\n'
        "parameters = { bits = [2, 2] }\n"
    )
    loaded = ("--load", str(mine), "--load", str(table))
    assert perturb(picture, *loaded, "--perturbation", "dim", "coarse") == 0
    assert perturb(picture, *loaded, "--perturbation", "dim", "--set", "gain=0.25") == 0
    capsys.readouterr()
    table.write_text(table.read_text().replace("RandomPosterize", "RandomPosterise"))
    mine.write_text("import nowhere_to_be_found\n")
    for path, message in (
        (table, "thresholds.toml:2: kornia"),
        (
            mine,
            "its import fails with ModuleNotFoundError: No module named 'nowhere_to_be_found', at ",
        ),
        (picture.parent / "none.py", "give a .py or .toml file that exists"),
    ):
        assert perturb(picture, "--load", str(path), "--perturbation", "haze") == 4
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no image is given"),
        (["--embedded", "many"], "give a number, or the id of a sample"),
        (["--embedded", "clean-99999"], "no such sample. There are clean-00000 to clean-04287"),
        (["--embedded", "clean-3"], "Did you mean 'clean-00003'? There are clean-00000 to"),
        (["--embedded", "²"], "--embedded ²: give a number, or the id of a sample"),
        (["--embedded", "1", "--depth", "a.npy"], "--depth belongs to image files"),
        (["--embedded", "cleen-3"], "Did you mean 'clean'"),
        (["--embedded", "3", "--colours", "1"], "from 2 to 256"),
        (["--embedded", "3", "--blocks", "0"], "--blocks 1 or more"),
    ],
)
def test_mistakes_with_embedded_scenes(
    tmp_path: Path, capsys: Capture, words: list[str], message: str
) -> None:
    assert cli.main(["perturb", *words, "--out", str(tmp_path), "--size", "32"]) == 4
    assert message in capsys.readouterr().err.splitlines()[-1]


OWN = """
import functools

from pytest_cliprobust.perturbations.registry import register


@register(severities=tuple({"times": s} for s in range(1, 4)))
def darker(images, *, times, gain=0.9, style="plain", direction=None):
    for _ in range(times):
        images = images * gain
    return images


@register()
def typed(images, *, rounds: int = 2, gain: float = 1):
    return images * 0.5**rounds * gain


def logged(function):
    @functools.wraps(function)
    def wrapper(*arguments, **named):
        return function(*arguments, **named)

    return wrapper


@register()
@logged
def wrapped(images, *, gain=0.5):
    return images * gain


@register()
def fails(images, *, kind=0):
    if kind == 4:
        return images[..., :8]
    if kind == 5:
        return images * float("nan")
    if kind == 6:
        return None
    raise (ZeroDivisionError, MemoryError, RuntimeError("one\\ntwo"), KeyboardInterrupt)[kind]
"""


@pytest.fixture
def own(picture: Path) -> tuple[str, ...]:
    """Options that load perturbations of one's own, none of which has an envelope."""
    path = picture.parent / "own.py"
    path.write_text(OWN)
    return ("--load", str(path))


def shown(picture: Path) -> npt.NDArray[np.uint8]:
    """Return the pixels of a sheet, without its title."""
    sheet = Image.open(picture.parent / "out" / f"{picture.stem}.png")
    pixels: npt.NDArray[np.uint8] = np.array(sheet)[60:]
    return pixels


@pytest.mark.parametrize("setting", ["times=2", "times=2.0"])
def test_whole_numbers_reach_functions_that_count(
    picture: Path, own: tuple[str, ...], setting: str
) -> None:
    assert perturb(picture, *own, "--perturbation", "darker", "--set", setting) == 0
    with_times = shown(picture)
    words = ("--set", "times=1", "--set", "gain=0.81")
    assert perturb(picture, *own, "--perturbation", "darker", *words) == 0
    # The images, not the lines beneath: original and one perturbed.
    images = np.s_[30:160, 160:470]
    assert with_times[images].std() > 20
    assert np.abs(with_times[images].astype(int) - shown(picture)[images]).max() <= 1


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("typed", "rounds=3"),
        ("typed", "rounds=3.0"),
        ("typed", "gain=0.5"),  # its default is int, but it says float
        ("wrapped", "gain=0.3"),
        ("darker", "direction=1"),
        ("patch_occlusion", "value=1"),
        ("kornia:RandomMotionBlur", "kernel_size=3"),
    ],
)
def test_every_number_that_a_function_takes_can_be_set(
    picture: Path, own: tuple[str, ...], name: str, setting: str
) -> None:
    more = ("--set", "angle=30", "--set", "direction=0.5") if name.startswith("kornia") else ()
    assert perturb(picture, *own, "--perturbation", name, "--set", setting, *more) == 0


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("typed", "rounds=2.5", "--set rounds=2.5: 'typed' takes whole numbers alone as 'rounds'"),
        ("darker", "times=2.5", "'darker' with times=2.5 fails (TypeError"),
        ("darker", "style=1", "'style' that is a number. It takes times, gain, direction"),
        ("wrapped", "gian=1", "Did you mean 'gain'? It takes gain"),
        ("fails", "kind=0", "'fails' with kind=0 fails (ZeroDivisionError)"),
        ("fails", "kind=1", "'fails' with kind=1 fails (MemoryError)"),
        ("fails", "kind=2", "(RuntimeError: one); give other values, or mend"),
        ("fails", "kind=4", "makes (1, 3, 32, 8) of (1, 3, 32, 32)"),
        ("fails", "kind=5", "gives NaN or infinite pixels"),
        ("fails", "kind=6", "makes NoneType of (1, 3, 32, 32)"),
    ],
)
def test_what_a_function_does_not_bear_is_one_line(
    picture: Path, own: tuple[str, ...], capsys: Capture, name: str, setting: str, message: str
) -> None:
    assert perturb(picture, *own, "--perturbation", name, "--set", setting) == 4
    (told,) = capsys.readouterr().err.splitlines()
    assert message in told


def test_an_interrupt_ends_the_command_and_a_failure_leaves_the_other_rows(
    picture: Path, own: tuple[str, ...], capsys: Capture
) -> None:
    with pytest.raises(KeyboardInterrupt):
        perturb(picture, *own, "--perturbation", "fails", "--set", "kind=3")

    @registry.register("broken", severities=({"amount": 1.0},))
    def broken(images: torch.Tensor, *, amount: float) -> torch.Tensor:
        raise RuntimeError("no way")

    assert perturb(picture) == 0
    (told,) = (line for line in capsys.readouterr().err.splitlines() if "broken" in line)
    assert "'broken' with amount=1.0 fails (RuntimeError: no way); give other values" in told
    assert re.search(r"or mend .*test_perturb\.py:\d+$", told)
    assert perturb(picture, "--perturbation", "broken", "--severity", "2") == 4
    assert "has severities 1 to 1, not 2" in capsys.readouterr().err


def test_built_in_perturbations_with_numbers_out_of_their_range(
    picture: Path, capsys: Capture
) -> None:
    for module, name, setting, error in (
        (common.digital, "jpeg_compression", "quality=0", "ZeroDivisionError"),
        (common.blur, "zoom_blur", "layers=0.5", "whole numbers alone"),
        (codec, "h265_crf", "crf=99", "fails ("),
    ):
        function = getattr(module, name)
        inputs = ("seeds",) if module is codec else ()
        registry.register(name, inputs=inputs)(function)
        assert perturb(picture, "--perturbation", name, "--set", setting) == 4
        (told,) = capsys.readouterr().err.splitlines()
        assert error in told
        assert name in told


def test_images_are_read_as_data_sets_read_them(
    picture: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ("--perturbation", "patch_occlusion")
    assert perturb(picture, *plain) == 0
    expected = shown(picture)
    turned = picture.parent / "turned" / picture.name
    turned.parent.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    with Image.open(picture) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
    assert perturb(turned, *plain) == 0
    assert (shown(turned) == expected).all()

    deep = picture.parent / "deep.png"
    grey = np.tile(np.linspace(0, 255, 90).astype(np.uint16), (60, 1))
    Image.fromarray(grey.astype(np.uint8)).save(deep)
    shallow = load_image(deep)
    Image.fromarray(grey * 256).save(deep)
    assert torch.equal(load_image(deep), shallow)

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    thin = picture.parent / "thin.png"
    Image.new("RGB", (500, 1)).save(thin)
    broken = picture.parent / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    capsys.readouterr()
    for path, message in (
        (picture, "decompression bomb"),
        (thin, "too narrow"),
        (broken, "cannot read image"),
    ):
        for words in (plain, ("--mask", str(path)), ("--occluder", str(path))):
            assert perturb(path, *words) == 4
            (told,) = capsys.readouterr().err.splitlines()
            assert message in told
            assert path.name in told


def test_an_occluder_keeps_its_colours_and_its_opacity(tmp_path: Path) -> None:
    path = tmp_path / "occluder.png"
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    read = load_image(path, alpha=True)
    assert torch.equal(read[0], torch.from_numpy(pixels).permute(2, 0, 1) / 255)


def test_a_depth_map_has_its_images_shape_and_not_its_name(picture: Path, capsys: Capture) -> None:
    maps = picture.parent / "maps.npy"
    for shape, code in (((60, 90), 0), ((30, 45), 0), ((60, 60), 4), ((90, 60), 4)):
        np.save(maps, np.ones(shape))
        assert perturb(picture, "--perturbation", "haze", "--depth", str(maps)) == code
        told = capsys.readouterr()
        if code:
            assert f"is {shape[1]}×{shape[0]}, its image" in told.err
            assert "ramp.png' 90×60" in told.err
        else:
            assert Path(told.out.strip()).name == "ramp.png"


@pytest.mark.parametrize(
    "names", [("kornia:RandomSolarize", "haze"), ("haze", "kornia:RandomSolarize")]
)
def test_a_row_without_severities_takes_no_images_from_others(
    picture: Path, capsys: Capture, names: tuple[str, ...]
) -> None:
    depth = picture.parent / "depth.npy"
    np.save(depth, np.ones((60, 90)))
    widths = []
    for chosen in (("haze",), names):
        assert perturb(picture, "--depth", str(depth), "--perturbation", *chosen) == 0
        widths.append(Image.open(capsys.readouterr().out.strip()).width)
    assert widths[0] == widths[1]


def test_severities_stand_in_ascending_order(picture: Path, capsys: Capture) -> None:
    sheets = []
    for severities in (("1", "5"), ("5", "1", "5")):
        words = ("--perturbation", "patch_occlusion", "--severity", *severities)
        assert perturb(picture, *words) == 0
        sheets.append(shown(picture))
    assert (sheets[0] == sheets[1]).all()


@pytest.mark.slow
def test_the_whole_registry_can_be_drawn(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pytest_cliprobust import cli\n"
        "from pytest_cliprobust.perturbations import contact_sheet\n"
        "draw = contact_sheet.contact_sheet\n"
        "def spy(rows, columns, **more):\n"
        "    print('rows', *(row.name for row in rows))\n"
        "    print('images', *(row.images.shape[0] for row in rows))\n"
        "    return draw(rows, columns, **more)\n"
        "contact_sheet.contact_sheet = spy\n"
        "code = cli.main(sys.argv[1:])\n"
        "from pytest_cliprobust.perturbations import registry\n"
        "print('known', *(p.name for p in registry.registered() if p.severities))\n"
        "raise SystemExit(code)\n"
    )
    words = ["perturb", "--embedded", "0", "--size", "32", "--cell", "32", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    left_out = {
        name
        for line in done.stderr.splitlines()
        if line.startswith("left out: ")
        for name in line.removeprefix("left out: ").partition(": ")[0].split(", ")
    }
    assert len(told["known"]) > 30
    assert set(told["known"]) == set(told["rows"]) | left_out
    assert left_out <= {"h265_crf", "h265_abr", "bit_error"}, done.stderr  # PyAV without encoders
    assert set(told["images"]) == {"5"}
    assert (tmp_path / "clean-00000.png").is_file()


@pytest.mark.parametrize(
    ("name", "value", "usual", "wanted"),
    [
        ("amount", 2.0, 1.0, 2.0),
        ("amount", 2, 1.0, 2.0),  # as its annotation says
        ("size", 3.0, 1, 3),
        ("count", 3.0, 1, 3),  # counted by the severities, and nothing says otherwise
        ("count", 3.5, 1, 3.5),
        ("count", 3.0, None, 3.0),
        ("other", 3, 0.5, 3.0),  # taken by **kwargs
        ("other", 3, None, 3),
    ],
)
def test_a_number_is_whole_where_a_function_counts_and_else_a_fraction(
    name: str, value: float, usual: float | None, wanted: float
) -> None:
    def function(images, amount: float, size: int, count, **others):  # type: ignore[no-untyped-def]
        return images

    made: Any = SimpleNamespace(function=function, envelope={}, name="mine")
    found = _rows._as_wanted(made, name, value, usual)
    assert (found, type(found)) == (wanted, type(wanted))
    with pytest.raises(ClipRobustError, match=r"--set size=2.5: 'mine' takes whole numbers"):
        _rows._as_wanted(made, "size", 2.5, 1)
    # What may lie anywhere within limits is not counted, whatever its usual value.
    ranged: Any = SimpleNamespace(function=function, envelope={"count": (1, 8)}, name="mine")
    assert type(_rows._as_wanted(ranged, "count", 3.0, 1)) is float

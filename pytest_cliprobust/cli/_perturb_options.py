"""The options of ``cliprobust perturb``, and which of them go together."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_cliprobust.errors import ClipRobustError

if TYPE_CHECKING:
    from pytest_cliprobust.datasets.depth.base import Kind
    from pytest_cliprobust.perturbations.registry import Perturbation

#: The most pixels of all images of a sheet together: some 3 GB, in float32.
_MOST_PIXELS = 2**28

#: The smallest side of an image, in pixels.
_LEAST_SIDE = 16


class Options(argparse.Namespace):
    """What the parser makes of the options; :func:`add_options` says what each of them is."""

    images: list[Path]
    embedded: list[str]
    clip_data: str | None
    sample: list[str]
    clip_depth: str | None
    out: Path
    perturbation: list[str] | None
    severity: list[int] | None
    settings: list[tuple[str, float]]
    depth: list[Path] | None
    depth_kind: Kind
    depth_scale: float
    mask: Path | None
    occluder: Path | None
    texture: Path | None
    text: str | None
    load: list[Path]
    size: int
    cell: int
    blocks: int
    colours: int | None
    name: str | None
    seed: int
    device: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust perturb``."""
    _add_images(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write to")
    _add_perturbations(parser)
    _add_inputs(parser)
    parser.add_argument(
        "--load",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="a file that defines perturbations: a conftest.py or suite of yours, or a threshold "
        "file with [[perturbation]] tables",
    )
    _add_layout(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed (default: 0)")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")


def _add_images(parser: argparse.ArgumentParser) -> None:
    """Add what is perturbed."""
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="image file")
    parser.add_argument(
        "--embedded",
        nargs="+",
        default=[],
        metavar="SAMPLE",
        help="scenes of the bundled benchmark, by number or id (clean-00012), with exact depth, "
        "mask, occluder and texture",
    )
    parser.add_argument(
        "--clip-data",
        metavar="DATA",
        help="a data set, as for pytest --clip-data, or an embedded one by name "
        "(embedded:factor-pose)",
    )
    parser.add_argument(
        "--sample",
        nargs="+",
        default=[],
        metavar="ID",
        help="samples of --clip-data, by id: of image folders the path below the folder",
    )
    parser.add_argument(
        "--clip-depth",
        metavar="SOURCE",
        help="depth for --clip-data, as for pytest: an estimator, or a folder of depth maps",
    )


def _add_perturbations(parser: argparse.ArgumentParser) -> None:
    """Add by what it is perturbed, and how strongly."""
    parser.add_argument(
        "--perturbation",
        nargs="+",
        metavar="NAME",
        help="perturbations to show, kornia:<Name> too (default: all that have severities)",
    )
    parser.add_argument(
        "--severity",
        nargs="+",
        type=_severity,
        metavar="N",
        help="severities to show (default: 1 2 3 4 5)",
    )
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        type=_setting,
        default=[],
        metavar="NAME=NUMBER",
        help="a parameter, instead of a severity's; needs one --perturbation",
    )


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add what perturbations need besides the images."""
    parser.add_argument(
        "--depth",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="depth map for the 3D perturbations, one per image or one for all: .npy, .exr, or "
        "16-bit .png in units of 1/--depth-scale",
    )
    parser.add_argument(
        "--depth-kind",
        choices=("metric", "inverse", "relative"),
        default="metric",
        help="what the maps hold: metres, disparity, or depth up to scale and shift "
        "(default: metric)",
    )
    parser.add_argument(
        "--depth-scale",
        type=float,
        default=1000.0,
        metavar="N",
        help="PNG steps per unit (default: 1000, millimetres where the unit is a metre)",
    )
    parser.add_argument("--mask", type=Path, metavar="FILE", help="object mask, white on black")
    parser.add_argument("--occluder", type=Path, metavar="FILE", help="RGBA picture that occludes")
    parser.add_argument("--texture", type=Path, metavar="FILE", help="texture for cue conflicts")
    parser.add_argument(
        "--text",
        help="what is written on images (default: iPod; on embedded scenes another class's name)",
    )


def _add_layout(parser: argparse.ArgumentParser) -> None:
    """Add how the sheet looks, and its name."""
    parser.add_argument(
        "--size", type=int, default=224, metavar="N", help="side of the square crop (default: 224)"
    )
    parser.add_argument(
        "--cell",
        type=int,
        default=144,
        metavar="N",
        help="side of an image on the sheet, in pixels (default: 144)",
    )
    parser.add_argument(
        "--blocks",
        type=int,
        default=1,
        metavar="N",
        help="blocks of rows side by side, without parameters and sources if more than one "
        "(default: 1)",
    )
    parser.add_argument(
        "--colours",
        type=int,
        metavar="N",
        help="reduce the sheet to so many colours, for a small file (2 to 256)",
    )
    parser.add_argument("--name", help="file name of the sheet (default: the image's, .png)")


def _severity(text: str) -> int:
    if text not in {"1", "2", "3", "4", "5"}:
        raise argparse.ArgumentTypeError(f"a severity is 1, 2, 3, 4 or 5, not {text!r}")
    return int(text)


def _setting(text: str) -> tuple[str, float]:
    name, equals, word = text.partition("=")
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not name or not equals or not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"write NAME=NUMBER, not {text!r}")
    # A whole number is one, as in TOML: kornia tells 16 from 16.0.
    return name, int(word) if re.fullmatch(r"[+-]?\d+", word.strip()) else value


def check_options(options: Options, perturbations: Sequence[Perturbation]) -> None:
    """Look whether the options go together, and with the perturbations that they choose.

    Raises:
        ClipRobustError: two options exclude or need each other, or a number is out of its range.
    """
    _check_images(options)
    _check_layout(options, len(perturbations))
    _check_depth(options)
    if options.settings and len(perturbations) != 1:
        raise ClipRobustError("--set needs exactly one --perturbation, whose parameters it sets")
    if options.settings and options.severity:
        raise ClipRobustError(
            "--severity and --set exclude each other: --set gives the parameters instead of a "
            "severity; remove one of them"
        )
    if options.text is not None and not options.text.strip():
        raise ClipRobustError("--text is empty; give at least one letter")


def _check_images(options: Options) -> None:
    if not options.images and not options.embedded and not options.sample:
        raise ClipRobustError(
            "no image is given: name image files, --embedded N (bundled scenes), or "
            "--clip-data DATA and --sample ID"
        )
    if bool(options.sample) != (options.clip_data is not None):
        raise ClipRobustError("--clip-data and --sample belong together; give both or none")
    if options.clip_depth is not None and not options.sample:
        raise ClipRobustError(
            "--clip-depth belongs to --clip-data and --sample; for image files there is "
            "--depth FILE"
        )


def _check_layout(options: Options, rows: int) -> None:
    if options.size < _LEAST_SIDE:
        raise ClipRobustError(f"--size {options.size} is too small; {_LEAST_SIDE} is the least")
    if options.cell < _LEAST_SIDE or options.blocks < 1:
        raise ClipRobustError(f"--cell must be {_LEAST_SIDE} or more, and --blocks 1 or more")
    side = max(options.size, options.cell)
    columns = 1 + len(options.severity or range(5))
    if side**2 * columns * max(rows, options.blocks) > _MOST_PIXELS:
        raise ClipRobustError(
            f"--size {options.size}, --cell {options.cell} and --blocks {options.blocks} make too "
            f"large a sheet (perturbations: {rows}); take smaller numbers, or fewer perturbations"
        )
    if options.colours is not None and not 2 <= options.colours <= 256:
        raise ClipRobustError(f"--colours {options.colours}: give a number from 2 to 256")


def _check_depth(options: Options) -> None:
    if not 0 < options.depth_scale < math.inf:
        raise ClipRobustError(f"--depth-scale {options.depth_scale:g} must be above 0, and finite")
    depths = options.depth or []
    if depths and not options.images:
        raise ClipRobustError(
            "--depth belongs to image files, and none is named; remove it (--embedded scenes have "
            "depth of their own, and --clip-data takes --clip-depth)"
        )
    if len(depths) not in (0, 1, len(options.images)):
        raise ClipRobustError(
            f"{len(depths)} depth maps for {len(options.images)} images; give one for each image, "
            "or one for all"
        )

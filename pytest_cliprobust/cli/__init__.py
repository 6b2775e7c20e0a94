"""The ``cliprobust`` command.

A subcommand is a function that adds its parser and names the function that runs it; it stands in
:data:`COMMANDS`. This module imports nothing heavy: what a subcommand needs is imported where it runs,
so that ``--help`` and a mistyped option answer at once. A :class:`ClipRobustError` and a mistyped
option become one line on standard error and exit code 4, pytest's code for wrong usage.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_cliprobust import __version__
from pytest_cliprobust.errors import ClipRobustError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor, device

    from pytest_cliprobust.datasets.base import Dataset
    from pytest_cliprobust.datasets.depth import DepthSource, Kind
    from pytest_cliprobust.perturbations.registry import Perturbation

#: pytest's exit code for wrong usage.
USAGE_ERROR = 4

#: The most pixels of all images of a sheet together: some 3 GB, in float32.
_MOST_PIXELS = 2**28

Subparsers = Any  # argparse's own class for it is private


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one line, with exit code 4."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake and leave."""
        self.exit(USAGE_ERROR, f"{self.prog}: {message}. See `{self.prog} --help`\n")


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


def add_perturb(subparsers: Subparsers) -> None:
    """Add ``cliprobust perturb``."""
    parser = subparsers.add_parser(
        "perturb",
        help="write contact sheets that show perturbations on images",
        description="Write a contact sheet per image: a row per perturbation, a column per severity.",
    )
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="image file")
    parser.add_argument(
        "--embedded",
        nargs="+",
        default=[],
        metavar="SAMPLE",
        help="scenes of the bundled benchmark, by number or id (clean-00012), with exact depth, mask, "
        "occluder and texture",
    )
    parser.add_argument(
        "--clip-data",
        metavar="DATA",
        help="a data set, as for pytest --clip-data, or an embedded one by name (embedded:factor-pose)",
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
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write to")
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
    parser.add_argument(
        "--depth",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="depth map for the 3D perturbations, one per image or one for all: .npy, .exr, or 16-bit "
        ".png in units of 1/--depth-scale",
    )
    parser.add_argument(
        "--depth-kind",
        choices=("metric", "inverse", "relative"),
        default="metric",
        help="what the maps hold: metres, disparity, or depth up to scale and shift (default: metric)",
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
    parser.add_argument(
        "--load",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="a file that defines perturbations: a conftest.py or suite of yours, or a threshold file "
        "with [[perturbation]] tables",
    )
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
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed (default: 0)")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.set_defaults(run=_perturb)


def _read(path: Path, *, alpha: bool = False) -> Tensor:
    """Return an image file as (1, 3, H, W) float32 in [0, 1], read as data sets read theirs.

    With ``alpha`` there is a fourth channel, its opacity.
    """
    import torch
    from PIL import Image, ImageOps

    from pytest_cliprobust.datasets.layouts.imagefolder import read_image

    if not path.is_file():
        raise ClipRobustError(f"no file {str(path)!r}; check the path")
    image = read_image(path)
    height, width = image.shape[1:]
    if max(height, width) > 100 * min(height, width):
        raise ClipRobustError(
            f"image {str(path)!r} is {width}×{height}, too narrow for a square to be cut from it; "
            "crop it"
        )
    if alpha:
        with Image.open(path) as file:
            opacity = ImageOps.exif_transpose(file).convert("RGBA").getchannel("A").tobytes()
        channel = torch.frombuffer(bytearray(opacity), dtype=torch.uint8)
        image = torch.cat((image, channel.reshape(1, height, width)))
    return image[None].float() / 255


def _crop(image: Tensor, size: int, *, smooth: bool = True) -> Tensor:
    """Return (1, C, H, W) resized to ``size`` on the shorter side and cropped in the middle."""
    import torch.nn.functional as F

    height, width = image.shape[-2:]
    scale = size / min(height, width)
    new = (max(size, round(height * scale)), max(size, round(width * scale)))
    if smooth:
        image = F.interpolate(image, new, mode="bicubic", antialias=True, align_corners=False)
    else:
        image = F.interpolate(image, new, mode="nearest-exact")
    top, left = (new[0] - size) // 2, (new[1] - size) // 2
    return image[..., top : top + size, left : left + size].contiguous()


def _load_depth(path: Path, kind: Kind, scale: float) -> Tensor:
    """Return depth (1, 1, H, W) from a map of some ``kind``, whose png has ``scale`` steps a unit."""
    import torch

    from pytest_cliprobust.datasets.depth import filled, normalise, read_depth

    if not path.is_file():
        raise ClipRobustError(f"no file {str(path)!r}; check the path")
    values = filled(read_depth(path, 1 / scale), kind)
    if values is None:
        raise ClipRobustError(
            f"depth file {str(path)!r} has no valid pixel: all are zero, negative or not finite; see "
            "docs/depth.md, and --depth-kind"
        )
    return normalise(torch.from_numpy(values)[None, None], kind)


def _chosen(arguments: argparse.Namespace) -> list[Perturbation]:
    """Return the perturbations to show."""
    from pytest_cliprobust.perturbations import registry

    if arguments.perturbation:
        return [registry.get(name) for name in arguments.perturbation]
    return [p for p in registry.registered() if p.severities]


#: Where the command takes each input from, for the message when it is missing.
_INPUT_OPTIONS = {
    "depth": "--depth FILE",
    "mask": "--mask FILE",
    "occluder": "--occluder FILE",
    "texture": "--texture FILE",
}


def _missing(perturbation: Perturbation, inputs: dict[str, Any]) -> str:
    """Return what this perturbation lacks and how to give it, or an empty string."""
    lacking = [name for name in sorted(perturbation.inputs - {"seeds"}) if name not in inputs]
    return ", ".join(
        f"{name} ({_INPUT_OPTIONS[name]}, or --embedded N)"
        if name in _INPUT_OPTIONS
        else f"{name} (--embedded N)"
        for name in lacking
    )


def _load_definitions(paths: Sequence[Path]) -> None:
    """Import Python files, and read threshold files, that define perturbations."""
    import importlib.util

    from pytest_cliprobust.errors import brief
    from pytest_cliprobust.gating.reading import load_thresholds

    for path in paths:
        if path.suffix == ".toml":
            load_thresholds(path, known_metrics=("*",)).register_perturbations()
            continue
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise ClipRobustError(f"--load {path}: give a .py or .toml file that exists")
        sys.path.insert(0, str(path.resolve().parent))  # as pytest does for a conftest.py
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except ClipRobustError:
            raise
        except Exception as error:
            raise ClipRobustError(f"--load {path}: its import fails with {brief(error)}") from None


@dataclass(frozen=True)
class _Subject:
    """One image to perturb: its sheet's name, its sample id, and what comes with it."""

    name: str
    sample: str
    image: Tensor
    inputs: dict[str, Any]


def _embedded_subject(arguments: argparse.Namespace, word: str) -> _Subject:
    """Return a scene of the bundled benchmark."""
    from pytest_cliprobust.datasets.embedded import EmbeddedDataset

    match = re.fullmatch(r"(?:(.+)-)?(\d{1,9})", word, re.ASCII)
    if match is None:
        raise ClipRobustError(
            f"--embedded {word}: give a number, or the id of a sample, such as clean-00012"
        )
    name, row = match[1] or "clean", int(match[2])
    data = EmbeddedDataset(name, profile="full", limit=row + 1, size=arguments.size)
    if match[1] and word in data.ids:
        row = data.ids.index(word)
    elif match[1] or row >= len(data):
        every = EmbeddedDataset(name, profile="full", size=arguments.size).ids
        near = f"{name}-{row:05d}"
        near = f" Did you mean {near!r}?" if near in every else ""
        raise ClipRobustError(
            f"--embedded {word}: there is no such sample.{near} There are {every[0]} to {every[-1]}"
        )
    return _data_subject(arguments, data, row)


def _sample_subjects(arguments: argparse.Namespace) -> Iterator[_Subject]:
    """Yield the samples of ``--clip-data``."""
    from pytest_cliprobust.datasets.depth import load_depth_source
    from pytest_cliprobust.datasets.loading import load_dataset

    if not arguments.sample:
        return
    data = load_dataset(arguments.clip_data, profile="full", size=arguments.size)
    depth = None
    if arguments.clip_depth is not None:
        depth = load_depth_source(arguments.clip_depth, arguments.device)
    for word in arguments.sample:
        if word not in data.ids:
            raise ClipRobustError(
                f"--sample {word}: {arguments.clip_data} has no such sample.{did_you_mean(word, data.ids)}"
                f" Its ids look like {data.ids[0]!r}"
            )
        yield _data_subject(arguments, data, data.ids.index(word), depth)


def _data_subject(
    arguments: argparse.Namespace, data: Dataset, row: int, source: DepthSource | None = None
) -> _Subject:
    """Return a sample of a data set, with all that a run of its tests gives to perturbations.

    ``source`` gives depth where the data set has none.
    """
    from pytest_cliprobust.datasets.subset import Subset
    from pytest_cliprobust.engine.encoding import text_writer, to_float
    from pytest_cliprobust.perturbations import registry

    name = data.ids[row]
    sample = Subset(data, [row])
    batch = sample.load([0])
    if arguments.text is None and sample.labels[0] >= 0:
        write = text_writer(registry.get("typographic"), sample, arguments.seed)
        batch = batch if write is None else write(batch)
    depth = batch.depth
    if depth is None and source is not None:
        depth = source.depth(data, [name])
    inputs = {"depth": depth, "mask": batch.mask, **batch.extras}
    file = "-".join(Path(name).with_suffix("").parts)
    return _Subject(file, name, to_float(batch.images), inputs)


def _file_subjects(arguments: argparse.Namespace) -> Iterator[_Subject]:
    """Yield the image files, with the inputs that options name."""
    from pytest_cliprobust.datasets.depth import require_shape

    depths, size = arguments.depth or [], arguments.size
    for index, path in enumerate(arguments.images):
        image = _read(path)
        inputs: dict[str, Any] = {}
        if depths:
            file = depths[min(index, len(depths) - 1)]
            depth = _load_depth(file, arguments.depth_kind, arguments.depth_scale)
            require_shape(file, tuple(depth.shape[-2:]), path, tuple(image.shape[-2:]))
            inputs["depth"] = _crop(depth, size, smooth=False)
        yield _Subject(path.stem, path.stem, _crop(image, size).clamp(0, 1), inputs)


def _check(arguments: argparse.Namespace, perturbations: Sequence[Perturbation]) -> None:
    """Raise on options that do not go together."""
    if not arguments.images and not arguments.embedded and not arguments.sample:
        raise ClipRobustError(
            "no image is given: name image files, --embedded N (bundled scenes), or --clip-data DATA "
            "and --sample ID"
        )
    if bool(arguments.sample) != (arguments.clip_data is not None):
        raise ClipRobustError("--clip-data and --sample belong together; give both or none")
    if arguments.clip_depth is not None and not arguments.sample:
        raise ClipRobustError(
            "--clip-depth belongs to --clip-data and --sample; for image files there is --depth FILE"
        )
    if arguments.size < 16:
        raise ClipRobustError(f"--size {arguments.size} is too small; 16 is the least")
    if arguments.cell < 16 or arguments.blocks < 1:
        raise ClipRobustError("--cell must be 16 or more, and --blocks 1 or more")
    side = max(arguments.size, arguments.cell)
    columns = 1 + len(arguments.severity or range(5))
    pixels = side**2 * columns * max(len(perturbations), arguments.blocks)
    if pixels > _MOST_PIXELS:
        raise ClipRobustError(
            f"--size {arguments.size}, --cell {arguments.cell} and --blocks {arguments.blocks} make too "
            f"large a sheet (perturbations: {len(perturbations)}); take smaller numbers, or fewer "
            "perturbations"
        )
    if arguments.colours is not None and not 2 <= arguments.colours <= 256:
        raise ClipRobustError(f"--colours {arguments.colours}: give a number from 2 to 256")
    if not 0 < arguments.depth_scale < math.inf:
        raise ClipRobustError(
            f"--depth-scale {arguments.depth_scale:g} must be above 0, and finite"
        )
    depths = arguments.depth or []
    if depths and not arguments.images:
        raise ClipRobustError(
            "--depth belongs to image files, and none is named; remove it (--embedded scenes have depth "
            "of their own, and --clip-data takes --clip-depth)"
        )
    if len(depths) not in (0, 1, len(arguments.images)):
        raise ClipRobustError(
            f"{len(depths)} depth maps for {len(arguments.images)} images; give one for each image, "
            "or one for all"
        )
    if arguments.settings and len(perturbations) != 1:
        raise ClipRobustError("--set needs exactly one --perturbation, whose parameters it sets")
    if arguments.settings and arguments.severity:
        raise ClipRobustError(
            "--severity and --set exclude each other: --set gives the parameters instead of a "
            "severity; remove one of them"
        )
    if arguments.text is not None and not str(arguments.text).strip():
        raise ClipRobustError("--text is empty; give at least one letter")


def _device(name: str) -> device:
    """Return a torch device on which there can be numbers."""
    import torch

    from pytest_cliprobust.errors import brief

    try:
        found = torch.device(name)
        torch.ones(1, device=found).cpu()
    except Exception as error:  # back ends raise RuntimeError, AssertionError, ImportError …
        raise ClipRobustError(
            f"device {name!r} is not usable here ({brief(error)}); leave --device out for the CPU"
        ) from None
    return found


def _perturb(arguments: argparse.Namespace) -> int:
    import torch
    from PIL import Image

    from pytest_cliprobust.perturbations import registry
    from pytest_cliprobust.perturbations.contact_sheet import Row, caption, contact_sheet

    registry.names()  # all families, in their order, before a user's own
    _load_definitions(arguments.load)
    perturbations = _chosen(arguments)
    _check(arguments, perturbations)
    settings = dict(arguments.settings)
    severities = sorted(set(arguments.severity or range(1, 6)))
    device = _device(arguments.device)

    from pytest_cliprobust.perturbations.typographic import render_text

    size = arguments.size
    given: dict[str, Any] = {}
    if arguments.text is not None:
        given["text"] = render_text([arguments.text])
    if arguments.mask is not None:
        given["mask"] = _crop(_read(arguments.mask).mean(1, keepdim=True), size).clamp(0, 1)
    if arguments.occluder is not None:
        given["occluder"] = _read(arguments.occluder, alpha=True)
    if arguments.texture is not None:
        given["texture"] = _crop(_read(arguments.texture), size).clamp(0, 1)

    left_out: dict[str, list[str]] = {}
    used: set[Path] = set()
    subjects = itertools.chain(
        _file_subjects(arguments),
        (_embedded_subject(arguments, word) for word in arguments.embedded),
        _sample_subjects(arguments),
    )
    for index, subject in enumerate(subjects):
        image = subject.image.to(device)
        inputs = {
            name: value.to(device)
            for name, value in {**subject.inputs, **given}.items()
            if value is not None
        }
        if "text" not in inputs:
            inputs["text"] = render_text(["iPod"]).to(device)
        rows = []
        scaled = False
        for perturbation in perturbations:
            lacking = _missing(perturbation, inputs)
            seeds = registry.sample_seeds((subject.sample,), perturbation.name, arguments.seed)
            inputs["seeds"] = seeds.to(device)
            try:
                if lacking:
                    raise ClipRobustError(f"perturbation {perturbation.name!r} needs {lacking}")
                steps = _steps(perturbation, severities, settings)
                with torch.inference_mode():
                    results = [_apply(perturbation, image, step, inputs) for step in steps]
            except ClipRobustError as error:
                if arguments.perturbation:
                    raise
                names = left_out.setdefault(f"need {lacking}" if lacking else str(error), [])
                names += [perturbation.name] if perturbation.name not in names else []
                continue
            rows.append(
                Row(
                    name=perturbation.name,
                    images=torch.cat(results),
                    captions=tuple(caption(step) or "defaults" for step in steps),
                    note=perturbation.source,
                    group=perturbation.family,
                )
            )
            scaled = scaled or bool(perturbation.severities)
        if not rows:
            _tell_left_out(left_out)
            raise ClipRobustError("no perturbation is left to show; see the lines above")
        columns = ["perturbed"]
        if scaled and not settings:
            widest = max(row.images.shape[0] for row in rows)
            columns = [f"severity {severity}" for severity in severities][:widest]
        sheet = contact_sheet(
            rows,
            columns,
            title=subject.name,
            original=image[0],
            cell=arguments.cell,
            blocks=arguments.blocks,
        )
        out = arguments.out / (arguments.name or f"{subject.name}.png")
        if arguments.colours is not None:
            # Not dithered: dots would look like noise that no perturbation made.
            sheet = sheet.quantize(arguments.colours, dither=Image.Dither.NONE)
        if out in used:
            out = out.with_stem(f"{out.stem}_{index + 1}")
        used.add(out)
        try:
            arguments.out.mkdir(parents=True, exist_ok=True)
            sheet.save(out, optimize=True)
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "strerror", None) or error)
            raise ClipRobustError(f"cannot write {str(out)!r}: {reason}") from None
        print(out)
    _tell_left_out(left_out)
    return 0


def _tell_left_out(left_out: Mapping[str, Sequence[str]]) -> None:
    """Say on standard error which perturbations the sheets lack, and why."""
    for reason, names in left_out.items():
        print(f"left out: {', '.join(names)}: {reason}", file=sys.stderr)


def _steps(
    perturbation: Perturbation, severities: Sequence[int], settings: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return the parameters of each image in a row of the sheet."""
    count = len(perturbation.severities)
    if settings or not count:
        # What is not set takes the value of the middle severity.
        middle = perturbation.severities[count // 2] if count else {}
        return [{**middle, **_checked(perturbation, settings)}]
    steps = [dict(perturbation.parameters(number)) for number in severities if number <= count]
    if not steps:
        asked = ", ".join(map(str, severities))
        raise ClipRobustError(
            f"perturbation {perturbation.name!r} has severities 1 to {count}, not {asked}"
        )
    return steps


def _checked(perturbation: Perturbation, settings: Mapping[str, float]) -> dict[str, float]:
    """Return ``settings`` as the perturbation's function wants them: int for what is counted.

    Raises:
        ClipRobustError: the function has no such parameter, or it counts and the number is a fraction.
    """
    from pytest_cliprobust.perturbations.registry import KNOWN_INPUTS, REQUIRED

    defaults = perturbation.settings  # None: it takes any name, and the function says what is wrong
    own = {**(defaults or {}), **{k: v for p in perturbation.severities for k, v in p.items()}}
    takes = [
        name
        for name, value in own.items()
        if name not in KNOWN_INPUTS
        and (value is None or value is REQUIRED or isinstance(value, int | float))
    ]
    signature = inspect.signature(perturbation.function).parameters
    checked = {}
    for name, value in settings.items():
        if name in KNOWN_INPUTS or (defaults is not None and name not in takes):
            listed = f" It takes {', '.join(takes) or 'none'}" if defaults is not None else ""
            raise ClipRobustError(
                f"perturbation {perturbation.name!r} has no parameter {name!r} that is a number."
                f"{did_you_mean(name, takes)}{listed}"
            )
        annotation = signature[name].annotation if name in signature else REQUIRED
        typed = annotation in (int, "int")
        counted = type(own.get(name)) is int and name not in perturbation.envelope
        whole = float(value).is_integer()
        if typed and not whole:
            raise ClipRobustError(
                f"--set {name}={value}: {perturbation.name!r} takes whole numbers alone as {name!r}"
            )
        if whole and (typed or (counted and annotation is REQUIRED)):
            value = int(value)
        elif "float" in str(annotation) or isinstance(own.get(name), float):
            value = float(value)
        checked[name] = value
    return checked


def _apply(
    perturbation: Perturbation, image: Tensor, parameters: Mapping[str, Any], inputs: dict[str, Any]
) -> Tensor:
    """Return one image (1, 3, H, W) perturbed.

    Raises:
        ClipRobustError: the function fails, or what it returns is no image of the same size.
    """
    import torch

    from pytest_cliprobust.errors import brief

    given = ", ".join(f"{name}={value}" for name, value in parameters.items()) or "its defaults"
    what = f"perturbation {perturbation.name!r} with {given}"
    origin = perturbation.origin
    remedy = f"give other values, or {'another --size' if origin is None else f'mend {origin}'}"
    try:
        result: object = perturbation(image, **parameters, **inputs)
    except ClipRobustError:
        raise
    except Exception as error:  # arithmetic, codecs, memory, a mistake in a user's own function
        raise ClipRobustError(f"{what} fails ({brief(error)}); {remedy}") from None
    if not isinstance(result, torch.Tensor) or result.shape != image.shape:
        kind = tuple(result.shape) if isinstance(result, torch.Tensor) else type(result).__name__
        raise ClipRobustError(
            f"{what} makes {kind} of {tuple(image.shape)}, but a perturbation keeps the shape; {remedy}"
        )
    if not result.isfinite().all():
        raise ClipRobustError(f"{what} gives NaN or infinite pixels; {remedy}")
    return result


def add_perturbations(subparsers: Subparsers) -> None:
    """Add ``cliprobust perturbations``."""
    parser = subparsers.add_parser(
        "perturbations",
        help="list all perturbations",
        description="List all perturbations with family, inputs, source and envelope.",
    )
    parser.add_argument("--family", metavar="NAME", help="only those of one family")
    parser.add_argument(
        "--kornia", action="store_true", help="list kornia's augmentations and their parameters"
    )
    parser.set_defaults(run=_perturbations)


def _perturbations(arguments: argparse.Namespace) -> int:
    if arguments.kornia:
        from pytest_cliprobust.perturbations.kornia_adapter import PREFIX, _accepted, available

        _print_table(
            ("name", "parameters"),
            [
                (
                    PREFIX + name,
                    ", ".join(
                        key if p.default is p.empty else f"{key}={p.default!r}"
                        for key, p in _accepted(kind).items()
                    ),
                )
                for name, kind in available().items()
            ],
        )
        return 0
    from pytest_cliprobust.perturbations import registry

    everything = list(registry.registered())
    if arguments.family is not None:
        families = list(dict.fromkeys(p.family for p in everything))
        if arguments.family not in families:
            raise ClipRobustError(
                f"unknown family {arguments.family!r}.{did_you_mean(arguments.family, families)} "
                f"Choose one of {', '.join(families)}"
            )
        everything = [p for p in everything if p.family == arguments.family]
    _print_table(
        ("name", "family", "severities", "inputs", "source", "envelope"),
        [
            (
                p.name,
                p.family,
                str(len(p.severities) or "–"),
                ", ".join([*sorted(p.inputs), *(f"[{name}]" for name in sorted(p.optional))])
                or "–",
                p.source,
                ", ".join(f"{name} {a:g} to {b:g}" for name, (a, b) in p.envelope.items()) or "–",
            )
            for p in everything
        ],
    )
    return 0


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: drawn with rich on a terminal, else tab-separated, one row per line."""
    if not sys.stdout.isatty():
        print("\t".join(head))
        for row in rows:
            print("\t".join(" ".join(cell.split()) for cell in row))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(head):
        table.add_column(column, no_wrap=number == 0, style="cyan" if number == 0 else None)
    for row in rows:
        table.add_row(*[escape(cell) for cell in row])
    Console().print(table)


#: The subcommands, in the order of ``--help``. Each adds its own parser and sets ``run``, a function
#: from the parsed arguments to the exit code.
COMMANDS: tuple[Callable[[Subparsers], None], ...] = (add_perturb, add_perturbations)


def build_parser() -> Parser:
    """Return the parser of the whole command."""
    parser = Parser(prog="cliprobust", description="Robustness tests for CLIP models.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", parser_class=Parser
    )
    for add in COMMANDS:
        add(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = build_parser()
    words = list(sys.argv[1:] if argv is None else argv)
    commands = parser._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    first = next((word for word in words if not word.startswith("-")), None)
    if first is not None and commands is not None and first not in commands:
        parser.exit(
            USAGE_ERROR,
            f"cliprobust: unknown command {first!r}.{did_you_mean(first, commands)} "
            f"Commands: {', '.join(commands)}\n",
        )
    arguments = parser.parse_args(words)
    if arguments.command is None:
        parser.print_help()
        return 0
    try:
        return int(arguments.run(arguments))
    except ClipRobustError as error:
        print(f"cliprobust: {error}", file=sys.stderr)
        return USAGE_ERROR
    except BrokenPipeError:
        # The reader of a pipe (head, say) has left: no message, and none when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0

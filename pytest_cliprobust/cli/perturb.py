"""``cliprobust perturb``: contact sheets, a row per perturbation and a column per severity."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_cliprobust.blame import import_mistake, told
from pytest_cliprobust.cli._perturb_options import Options, add_options, check_options
from pytest_cliprobust.errors import ClipRobustError, brief
from pytest_cliprobust.files import not_written

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from pytest_cliprobust.cli._subjects import Subject
    from pytest_cliprobust.perturbations.contact_sheet import Row
    from pytest_cliprobust.perturbations.registry import Perturbation

__all__ = ["DESCRIPTION", "HELP", "add_options", "run"]

HELP = "write contact sheets that show perturbations on images"
DESCRIPTION = "Write a contact sheet per image: a row per perturbation, a column per severity."

#: Names of the perturbations that the sheets lack, by the reason.
LeftOut = dict[str, list[str]]


def run(options: Options) -> int:
    """Write a sheet for each image, print its path, and tell what the sheets lack.

    Raises:
        ClipRobustError: a mistake in the options, or no perturbation is left to show.
    """
    from pytest_cliprobust.perturbations import registry

    registry.names()  # all families, in their order, before a user's own
    _load_definitions(options.load)
    perturbations = _chosen(options.perturbation)
    check_options(options, perturbations)
    device = _usable_device(options.device)

    from pytest_cliprobust.cli._subjects import subjects

    left_out: LeftOut = {}
    written: set[Path] = set()
    for number, subject in enumerate(subjects(options, device), 1):
        rows = _rows(options, perturbations, subject, left_out)
        if not rows:
            _tell_left_out(left_out)
            raise ClipRobustError("no perturbation is left to show; see the lines above")
        sheet = _sheet(options, perturbations, subject, rows)
        path = options.out / (options.name or f"{subject.name}.png")
        if path in written:
            path = path.with_stem(f"{path.stem}_{number}")
        written.add(path)
        _save(sheet, path, options.out)
        print(path)
    _tell_left_out(left_out)
    return 0


def _load_definitions(paths: Sequence[Path]) -> None:
    """Import Python files, and read threshold files, that define perturbations.

    Raises:
        ClipRobustError: a file isn't there, is neither, or has a mistake in it.
    """
    from pytest_cliprobust.gating.reading import load_thresholds

    for path in paths:
        if path.suffix == ".toml":
            load_thresholds(path, known_metrics=("*",)).register_perturbations()
        else:
            _import_file(path)


def _import_file(path: Path) -> None:
    """Import a Python file, and let it import its neighbours."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ClipRobustError(f"--load {path}: give a .py or .toml file that exists")
    sys.path.insert(0, str(path.resolve().parent))  # as pytest does for a conftest.py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ClipRobustError as error:
        raise ClipRobustError(f"--load {import_mistake(error)}") from None
    except Exception as error:  # whatever the file does
        raise ClipRobustError(f"--load {path}: its import fails with {told(error)}") from None


def _chosen(names: Sequence[str] | None) -> list[Perturbation]:
    """Return the perturbations of these names, or all that have severities.

    Raises:
        ClipRobustError: there is none of a name.
    """
    from pytest_cliprobust.perturbations import registry

    if names:
        return [registry.get(name) for name in names]
    return [p for p in registry.registered() if p.severities]


def _usable_device(name: str) -> torch.device:
    """Return a torch device on which there can be numbers.

    Raises:
        ClipRobustError: there is no such device here.
    """
    import torch

    try:
        found = torch.device(name)
        torch.ones(1, device=found).cpu()
    except Exception as error:  # back ends raise RuntimeError, AssertionError, ImportError …
        raise ClipRobustError(
            f"device {name!r} is not usable here ({brief(error)}); leave --device out for the CPU"
        ) from None
    return found


def _rows(
    options: Options, perturbations: Sequence[Perturbation], subject: Subject, left_out: LeftOut
) -> list[Row]:
    """Return the rows of one image's sheet, and add to ``left_out`` what cannot be shown.

    Raises:
        ClipRobustError: a perturbation that the user named cannot be shown.
    """
    from pytest_cliprobust.cli._rows import missing, perturbed_row

    rows = []
    settings = dict(options.settings)
    for perturbation in perturbations:
        try:
            row = perturbed_row(perturbation, subject, _severities(options), settings, options.seed)
        except ClipRobustError as error:
            if options.perturbation:
                raise
            lacking = missing(perturbation, subject)
            names = left_out.setdefault(f"need {lacking}" if lacking else str(error), [])
            names += [perturbation.name] if perturbation.name not in names else []
        else:
            rows.append(row)
    return rows


def _severities(options: Options) -> list[int]:
    """Return the severities to show, in ascending order."""
    return sorted(set(options.severity or range(1, 6)))


def _sheet(
    options: Options, perturbations: Sequence[Perturbation], subject: Subject, rows: Sequence[Row]
) -> Image.Image:
    """Return the sheet of one image, drawn as the options want it."""
    from PIL import Image

    from pytest_cliprobust.perturbations.contact_sheet import contact_sheet

    sheet = contact_sheet(
        rows,
        _columns(options, perturbations, rows),
        title=subject.name,
        original=subject.image[0],
        cell=options.cell,
        blocks=options.blocks,
    )
    if options.colours is None:
        return sheet
    # Not dithered: dots would look like noise that no perturbation made.
    return sheet.quantize(options.colours, dither=Image.Dither.NONE)


def _columns(
    options: Options, perturbations: Sequence[Perturbation], rows: Sequence[Row]
) -> list[str]:
    """Return the headings of the columns: severities, if a row shows some."""
    shown = {row.name for row in rows}
    scaled = any(p.severities for p in perturbations if p.name in shown)
    if not scaled or options.settings:
        return ["perturbed"]
    widest = max(row.images.shape[0] for row in rows)
    return [f"severity {severity}" for severity in _severities(options)][:widest]


def _save(sheet: Image.Image, path: Path, folder: Path) -> None:
    """Write a sheet to a file in ``folder``, which is made if need be.

    Raises:
        ClipRobustError: it cannot be written, or no picture has that suffix.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sheet.save(path, optimize=True)
    except OSError as error:
        raise not_written(f"{path}: cannot be written", error) from None
    except ValueError as error:  # no such form of pictures
        raise ClipRobustError(f"{path}: cannot be written: {error}") from None


def _tell_left_out(left_out: Mapping[str, Sequence[str]]) -> None:
    """Say on standard error which perturbations the sheets lack, and why."""
    for reason, names in left_out.items():
        print(f"left out: {', '.join(names)}: {reason}", file=sys.stderr)

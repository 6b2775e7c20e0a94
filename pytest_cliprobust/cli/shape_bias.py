"""``cliprobust shape-bias``: the class-wise picture of shape bias, with people's."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_cliprobust.cli._history import REFERENCE, add_history_option, earlier_runs
from pytest_cliprobust.cli._tables import print_table
from pytest_cliprobust.cli._writing import write
from pytest_cliprobust.errors import ClipRobustError

if TYPE_CHECKING:
    from pytest_cliprobust.properties.shape_bias import Decided

HELP = "draw shape bias class by class, beside people's"
DESCRIPTION = (
    "Draws of each model in the runs, class by class, how many of the decisions for either cue were for the "
    "shape, and how many were for neither; and people's (Geirhos et al. 2019). The runs hold the suite "
    "shape_bias."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust shape-bias``."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help=f"{REFERENCE}, or a JSON report; several are joined"
    )
    parser.add_argument("--out", type=Path, default=Path("shape-bias.png"), metavar="FILE.png")
    add_history_option(parser)


def run(options: argparse.Namespace) -> int:
    """Write the picture, and print the decisions by class.

    Raises:
        ClipRobustError: no such run, none with shape bias, or the picture cannot be written.
    """
    from pytest_cliprobust.properties.shape_bias import people_decided
    from pytest_cliprobust.reporting.shape_bias import picture, same_classes

    models = _models(options)
    people = people_decided()
    write(options.out, picture(models, people))
    shown = {**models, "people": people} if all(map(same_classes, models.values())) else models
    rows = [
        (name, label, *map(str, (own.shape, own.texture, own.neither)), _bias(own))
        for name, classes in shown.items()
        for label, own in classes.items()
    ]
    print_table(("model", "shape class", "shape", "texture", "neither", "shape bias"), rows)
    print(f"\nwritten to {options.out}")
    return 0


def _bias(own: Decided) -> str:
    return "–" if own.shape_bias is None else f"{own.shape_bias:.3f}"


def _models(options: argparse.Namespace) -> dict[str, dict[str, Decided]]:
    """Return what each model of the runs decided on cue conflicts as they are, by class."""
    from pytest_cliprobust.figures.condition import CLEAN
    from pytest_cliprobust.reporting.shape_bias import classes_of

    models: dict[str, dict[str, Decided]] = {}
    for found in earlier_runs(options, options.runs):
        for measurement in found.measurements.values():
            whole = measurement.metric == "shape_bias" and not measurement.condition.part_of
            if not whole or measurement.condition.perturbation != CLEAN:
                continue
            name = measurement.model
            if name in models:
                name = f"{name} ({found.source}, {measurement.condition.dataset})"
            models[name] = classes_of(measurement.figure)
    if not models:
        raise ClipRobustError(
            f"{' and '.join(options.runs)} hold no shape bias; run the suite shape_bias"
        )
    return models

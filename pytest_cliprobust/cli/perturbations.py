"""``cliprobust perturbations``: what is registered, as a list."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pytest_cliprobust.cli._tables import print_table
from pytest_cliprobust.errors import ClipRobustError, did_you_mean

if TYPE_CHECKING:
    from pytest_cliprobust.perturbations.registry import Perturbation

HELP = "list all perturbations"
DESCRIPTION = "List all perturbations with family, inputs, source and envelope."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust perturbations``."""
    parser.add_argument("--family", metavar="NAME", help="only those of one family")
    parser.add_argument(
        "--kornia", action="store_true", help="list kornia's augmentations and their parameters"
    )


def run(options: argparse.Namespace) -> int:
    """Print the list, of kornia's augmentations or of what is registered.

    Raises:
        ClipRobustError: no family has that name.
    """
    if options.kornia:
        print_table(("name", "parameters"), _kornia_rows())
        return 0
    head = ("name", "family", "severities", "inputs", "source", "envelope")
    print_table(head, [_row(perturbation) for perturbation in _listed(options.family)])
    return 0


def _kornia_rows() -> list[tuple[str, str]]:
    """Return name and parameters of every augmentation of kornia."""
    from pytest_cliprobust.perturbations import kornia_adapter

    rows = []
    for name, kind in kornia_adapter.available().items():
        parameters = [
            key if parameter.default is parameter.empty else f"{key}={parameter.default!r}"
            for key, parameter in kornia_adapter.accepted_parameters(kind).items()
        ]
        rows.append((kornia_adapter.PREFIX + name, ", ".join(parameters)))
    return rows


def _listed(family: str | None) -> list[Perturbation]:
    """Return the registered perturbations, of one family or of all.

    Raises:
        ClipRobustError: no family has that name.
    """
    from pytest_cliprobust.perturbations import registry

    everything = list(registry.registered())
    families = list(dict.fromkeys(p.family for p in everything))
    if family is not None and family not in families:
        raise ClipRobustError(
            f"unknown family {family!r}.{did_you_mean(family, families)} "
            f"Choose one of {', '.join(families)}"
        )
    return [p for p in everything if family in (None, p.family)]


def _row(perturbation: Perturbation) -> tuple[str, ...]:
    """Return the cells of a perturbation's row."""
    optional = (f"[{name}]" for name in sorted(perturbation.optional))
    ranges = (f"{name} {a:g} to {b:g}" for name, (a, b) in perturbation.envelope.items())
    return (
        perturbation.name,
        perturbation.family,
        str(len(perturbation.severities) or "–"),
        ", ".join([*sorted(perturbation.inputs), *optional]) or "–",
        perturbation.source,
        ", ".join(ranges) or "–",
    )

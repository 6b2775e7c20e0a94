"""``cliprobust data``: which layouts there are, and what is in data of one's own before hours are spent."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pytest_cliprobust.errors import ClipRobustError, counted, first_of

if TYPE_CHECKING:
    from pytest_cliprobust.datasets.base import Dataset
    from pytest_cliprobust.figures.arrays import Bools

HELP = "list layouts and roles, and check data of your own"
DESCRIPTION = (
    "`list` names the layouts that --clip-data takes, with the role that each plays where none is given, and "
    "all roles. `check` looks through data as a run would: samples of each class, what its classes are in "
    "the label set of clean, pictures that cannot be read, and pictures that several roles have."
)

#: So many classes, pictures and the like are listed of each kind.
SHOWN = 10


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust data``."""
    actions = parser.add_subparsers(dest="action", metavar="list|check", required=True)
    actions.add_parser("list", help="list the layouts and the roles")
    check = actions.add_parser("check", help="look through data of your own")
    check.add_argument(
        "data",
        nargs="*",
        metavar="[ROLE=][NAME=][LAYOUT:]PATH",
        help="as for pytest --clip-data, or a TOML file",
    )
    check.add_argument(
        "--fast", action="store_true", help="do not decode every picture to see if it can be read"
    )


def run(options: argparse.Namespace) -> int:
    """List, or check; the exit code is 1 where pictures cannot be read or several roles have them.

    Raises:
        ClipRobustError: no data to check, or a mistake in it.
    """
    if options.action == "list":
        return _list()
    if not options.data:
        raise ClipRobustError(
            "data check: name the data, as in: data check far_ood=textures:/data/dtd"
        )
    return _check(options.data, fast=options.fast)


def _list() -> int:
    from pytest_cliprobust.cli._tables import print_table
    from pytest_cliprobust.datasets.registry import LAYOUTS, told_of
    from pytest_cliprobust.datasets.roles import ROLES

    told = {name: told_of(name) for name in LAYOUTS}
    print_table(
        ("layout", "role", "path", "source", "licence"),
        [(n, ", ".join(t.plays), t.path, t.source, t.licence) for n, t in told.items()],
    )
    print()
    print_table(("role", "what it is"), list(ROLES.items()))
    return 0


def _check(given: list[str], *, fast: bool) -> int:
    from pytest_cliprobust.datasets.providers import provider_of
    from pytest_cliprobust.datasets.provision import Provision
    from pytest_cliprobust.datasets.sources import read_sources

    provider = provider_of(read_sources(given))
    provider.check_paths()
    # Files that are seen at once to be unreadable end a run; here all of them are counted below.
    provision = Provision(provider, size=64, unreadable=None if fast else _left_out)
    bad = 0
    owners: dict[str, set[tuple[str, str]]] = {}
    for role, keys in provider.sets.items():
        if provider.is_part(role):
            continue
        for key in keys:
            # Of clean all samples, those that calibrate, too; of other data its labels in clean's label set.
            alone = role == "clean" or "clean" not in provider.sets
            data = provision.loaded(key) if alone else provision.dataset(key)
            print("\n".join(_told(role, data)))
            bad += 0 if fast else _unreadable(data)
            if role == "clean" and len(data.class_names) == 1:
                print("  a single class: every answer is right, and no figure means anything")
                bad += 1
            for digest in getattr(data, "sample_digests", ()):
                owners.setdefault(digest, set()).add((role, data.name))
    return int(bool(bad) | _shared(owners))


def _told(role: str, data: Dataset) -> list[str]:
    """Return what is said of a data set: samples, classes, columns."""
    counts = [data.labels.count(label) for label in range(len(data.class_names))]
    lines = [f"{role} {data.name}: {counted(len(data), 'sample')}, digest {data.digest[:12]}"]
    if any(counts):
        empty = [n for n, c in zip(data.class_names, counts, strict=True) if not c]
        least, most = min(c for c in counts if c), max(counts)
        each = counted(most, "sample") if least == most else f"{least} to {most} samples"
        lines.append(f"  {len(counts) - len(empty)} of {len(counts)} classes, {each} each")
        named = sorted(zip(data.class_names, counts, strict=True), key=lambda one: not one[1])
        told = [f"{name} {count}" for name, count in named]  # those with samples first
        lines.append(f"  {first_of(told, SHOWN)}")
        if empty:
            lines.append(f"  without samples: {first_of(empty, SHOWN)}")
    unlabelled = sum(label < 0 for label in data.labels)
    if unlabelled:
        have = counted(unlabelled, "sample has", "samples have")
        lines.append(f"  {have} no class of the label set")
    for column, values in data.groups.items():
        distinct = [*map(repr, sorted(set(values)))]
        lines.append(f"  column {column}: {first_of(distinct, SHOWN)}")
    return lines


def _left_out(data: Dataset) -> Bools:
    """Return which samples (N,) are left out: none."""
    import numpy as np

    return np.zeros(len(data), dtype=np.bool_)


def _unreadable(data: Dataset) -> int:
    """Print which samples cannot be read, and return how many there are."""
    told = []
    for row in range(len(data)):
        try:
            data.load([row])
        except ClipRobustError as error:
            told.append(str(error))
    for line in told[:SHOWN]:
        print(f"  {line}")
    if told:
        print(f"  {len(told)} of {len(data)} samples cannot be read")
    return len(told)


def _shared(owners: dict[str, set[tuple[str, str]]]) -> bool:
    """Print which roles have the same pictures; return whether data apart from clean's own has some."""
    pairs: dict[tuple[tuple[str, str], ...], int] = {}
    for whose in owners.values():
        # A data set may play several roles, and ImageNet-X annotates the clean pictures themselves.
        annotated = {role for role, _ in whose} == {"clean", "factors"}
        if len({name for _, name in whose}) > 1 and not annotated:
            pairs[tuple(sorted(whose))] = pairs.get(tuple(sorted(whose)), 0) + 1
    for sets, count in pairs.items():
        named = " and ".join(f"{role} {name}" for role, name in sets)
        print(f"{counted(count, 'picture is', 'pictures are')} the same in {named}")
    return bool(pairs)

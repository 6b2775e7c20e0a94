"""``cliprobust compare``: two runs, figure by figure."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_cliprobust.cli._history import REFERENCE, add_history_option, history_path
from pytest_cliprobust.cli._tables import print_table
from pytest_cliprobust.cli._writing import write
from pytest_cliprobust.cli.trend import drift_text
from pytest_cliprobust.errors import ClipRobustError, counted, first_of, printable

if TYPE_CHECKING:
    from pytest_cliprobust.results.compare import Compared, Comparison

HELP = "compare two runs, figure by figure"
DESCRIPTION = (
    "Compare two runs, figure by figure, on the samples that both have. The exit code is 0 unless "
    "--fail-on-loss asks for 1."
)

#: So many samples of a figure are named.
LISTED = 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust compare``."""
    for name in ("base", "head"):
        parser.add_argument(name, metavar=name.upper(), help=f"{REFERENCE}, or a JSON report")
    parser.add_argument("--all", action="store_true", help="also what did not change")
    parser.add_argument(
        "--samples", action="store_true", help="the samples that changed sides, by name"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write it all to a JSON file")
    parser.add_argument("--base-model", metavar="MODEL", help="the model of BASE that counts")
    parser.add_argument("--head-model", metavar="MODEL", help="the model of HEAD that counts")
    parser.add_argument(
        "--confidence",
        metavar="LEVEL",
        type=float,
        default=0.95,
        help="of intervals; 1 minus it is the error rate of all verdicts together (0.95)",
    )
    parser.add_argument(
        "--fail-on-loss", action="store_true", help="exit code 1 if any figure is worse"
    )
    add_history_option(parser)


def run(options: argparse.Namespace) -> int:
    """Print the comparison, and return 1 if there is a loss and that is to fail.

    Raises:
        ClipRobustError: no such run, models that cannot be told apart, a file that cannot be written, or runs
            without a figure in common where a loss is to fail: none could be seen.
    """
    from pytest_cliprobust.results.compare import compare
    from pytest_cliprobust.results.history import earlier_run

    if not 0.0 < options.confidence < 1.0:
        raise ClipRobustError(f"--confidence {options.confidence}: a level lies between 0 and 1")
    path = history_path(options)
    base, head = (earlier_run(reference, path) for reference in (options.base, options.head))
    made = compare(
        base,
        head,
        confidence=options.confidence,
        base_model=options.base_model,
        head_model=options.head_model,
    )
    _print(made, every=options.all, samples=options.samples)
    if options.json is not None:
        write(options.json, json.dumps(made.as_dict(), indent=1, allow_nan=False) + "\n")
    if options.fail_on_loss and not made.rows:
        raise ClipRobustError(
            "--fail-on-loss: these runs have no figure in common, so no loss could be seen; compare runs of "
            "the same suites and data, and name the models with --base-model and --head-model"
        )
    return int(options.fail_on_loss and bool(made.losses))


def _print(made: Comparison, *, every: bool, samples: bool) -> None:
    """Print the figures that changed, the worst first, and what to know beside."""
    from pytest_cliprobust.results.compare import Word

    print(f"{made.base.source} and {made.head.source}")
    for note in made.notes:
        print(printable(f"note: {note}"))
    quiet = () if every else (Word.UNSEEN, Word.IDENTICAL)
    order = list(Word)
    rows = sorted(
        (row for row in made.rows if row.word not in quiet),
        key=lambda row: (order.index(row.word), row.adjusted or 0.0, row.key),
    )
    if rows:
        head = (
            "figure",
            "before",
            "after",
            f"change [{made.confidence:.4g}]",
            "p",
            "verdict",
            "how",
        )
        print_table(head, [_row(row) for row in rows])
    if samples:
        for row in rows:
            for line in _samples(row):
                print(printable(line))
    counts = Counter(row.word for row in made.rows)
    told = ", ".join(f"{counts[word]} {word}" for word in Word if counts[word])
    hidden = " (--all shows them)" if any(counts[word] for word in quiet) else ""
    print(f"{counted(len(made.rows), 'figure')}: {told or 'none in both'}{hidden}")
    for keys, run_ in ((made.only_base, made.base), (made.only_head, made.head)):
        if keys:
            names = f": {', '.join(keys)}" if every or len(keys) < 4 else " (--all names them)"
            print(printable(f"only in {run_.source}: {counted(len(keys), 'figure')}{names}"))


def _row(row: Compared) -> tuple[str, ...]:
    told = row.as_dict()
    before, after = (float(told[name]) for name in ("before", "after"))
    return (
        row.key,
        f"{before:.4g}",
        f"{after:.4g}",
        drift_text(row) if row.change else "–",
        "–" if row.adjusted is None else f"{row.adjusted:.2g}",
        str(row.word),
        row.how,
    )


def _samples(row: Compared) -> list[str]:
    """Return lines that name the samples of a figure that changed sides."""
    lines = []
    for column, sides in row.sides.items():
        of = "" if column == "value" else f" ({column})"
        for word, names in (("lost", sides.lost), ("gained", sides.gained)):
            if names:
                lines.append(f"{row.key}{of}: {len(names)} {word}: {first_of(names, LISTED)}")
    return lines

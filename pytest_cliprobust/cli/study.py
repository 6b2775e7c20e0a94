"""``cliprobust study``: several models side by side, and what each of six factors changes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_cliprobust.cli._history import REFERENCE, add_history_option, earlier_runs
from pytest_cliprobust.cli._tables import print_table
from pytest_cliprobust.cli._writing import write
from pytest_cliprobust.errors import ClipRobustError, counted

if TYPE_CHECKING:
    from pytest_cliprobust.study.making import Study

HELP = "study several models: every property against ID accuracy, and the effects of six factors"
DESCRIPTION = (
    "Set the models of one run or several side by side: every property against ID accuracy, the effects of "
    "architecture, training distribution, training-set size, fine-tuning, loss and prompts, and the paper's "
    "claims. Writes study.html, CSV files and pictures to a folder."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust study``."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help=f"{REFERENCE}, or a JSON report")
    parser.add_argument(
        "--out", metavar="FOLDER", type=Path, default=Path("study"), help="folder to write (study)"
    )
    parser.add_argument(
        "--cards",
        metavar="FILE.toml",
        type=Path,
        help='what models are, where nothing else says it, in tables [model."NAME"]',
    )
    parser.add_argument(
        "--id", metavar="KEY", help="the property that is accuracy on ID data (accuracy suite's)"
    )
    parser.add_argument(
        "--confidence",
        metavar="LEVEL",
        type=float,
        default=0.95,
        help="of the intervals of effects and lines (0.95)",
    )
    parser.add_argument(
        "--by",
        metavar="FACTOR",
        choices=("architecture", "data", "fine_tuning", "loss"),
        help="colours and lines of the scatter plots by a factor, not by model: %(choices)s",
    )
    parser.add_argument("--no-plots", action="store_true", help="no pictures")
    add_history_option(parser)


def run(options: argparse.Namespace) -> int:
    """Write the study and print its claims.

    Raises:
        ClipRobustError: no such run, fewer than two models, or a file that cannot be read or written.
    """
    from pytest_cliprobust.study.cards import read_cards
    from pytest_cliprobust.study.making import study_of
    from pytest_cliprobust.study.page import page_of
    from pytest_cliprobust.study.plots import plots_of
    from pytest_cliprobust.study.tables import tables_of

    if not 0.0 < options.confidence < 1.0:
        raise ClipRobustError(f"--confidence {options.confidence}: a level lies between 0 and 1")
    cards = None if options.cards is None else read_cards(options.cards)
    study = study_of(
        earlier_runs(options, options.runs),
        cards=cards,
        id_accuracy=options.id,
        confidence=options.confidence,
    )
    pictures = {} if options.no_plots else plots_of(study, options.by)
    files: dict[str, str | bytes] = {**tables_of(study), **pictures}
    files["study.html"] = page_of(study, pictures)
    for name, content in files.items():
        write(options.out / name, content)
    _print(study)
    print(f"{len(files)} files in {options.out}: study.html holds them all but the CSV files")
    return 0


def _print(study: Study) -> None:
    """Print what the models cannot tell, and the claims."""
    count = len(study.table.entries)
    print(f"{counted(count, 'model')}, {counted(len(study.properties), 'property', 'properties')}")
    for note in study.notes:
        print(f"note: {note}")
    rows = [(claim.sentence, str(claim.word), claim.why) for claim in study.claims]
    print_table(("claim", "", "by"), rows)
    for claim in study.claims:
        for line in claim.figures:
            print(f"  {line}")

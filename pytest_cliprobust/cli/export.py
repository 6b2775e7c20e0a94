"""``cliprobust export``: a run of the history as a JSON file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pytest_cliprobust.cli._history import REFERENCE, add_history_option, open_history
from pytest_cliprobust.cli._writing import write

HELP = "write a run of the history to a JSON file"
DESCRIPTION = (
    "Write a run of the history to a JSON file: its report, with the outcomes by sample, so that another "
    "machine can compare runs with it."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust export``."""
    parser.add_argument("run_", metavar="RUN", help=REFERENCE)
    parser.add_argument("file", metavar="FILE.json", type=Path, help="where to write it")
    parser.add_argument("--no-samples", action="store_true", help="leave the samples out")
    add_history_option(parser)


def run(options: argparse.Namespace) -> int:
    """Write the file.

    Raises:
        ClipRobustError: no such run, or the file cannot be written.
    """
    with open_history(options) as history:
        number = history.find(options.run_)
        document = history.document(number, samples=not options.no_samples)
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    write(options.file, text)
    print(f"run {number} written to {options.file}, {len(text) / 1e6:.1f} MB")
    return 0

"""``cliprobust anchor``: the run that drift is told against."""

from __future__ import annotations

import argparse

from pytest_cliprobust.cli._history import REFERENCE, add_history_option, open_history

HELP = "make a run the one that drift is told against"
DESCRIPTION = (
    "Make a run the anchor of its series (the runs of the same models, data, profile and limit), in place of "
    "any other: drift is told against it, and pruning leaves it."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust anchor``."""
    parser.add_argument("run_", metavar="RUN", help=REFERENCE)
    parser.add_argument("--remove", action="store_true", help="make it an ordinary run again")
    add_history_option(parser)


def run(options: argparse.Namespace) -> int:
    """Make the run the anchor.

    Raises:
        ClipRobustError: no such run.
    """
    with open_history(options) as history:
        number = history.find(options.run_)
        if options.remove:
            history.drop_anchor(number)
        else:
            history.set_anchor(number)
    print(f"run {number} is {'no longer' if options.remove else 'now'} the anchor")
    return 0

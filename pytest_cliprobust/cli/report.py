"""``cliprobust report``: a run of the history as an HTML page, beside an earlier one."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_cliprobust.cli._history import REFERENCE, add_history_option, earlier_runs
from pytest_cliprobust.cli._writing import write
from pytest_cliprobust.errors import ClipRobustError

HELP = "write a run as an HTML page, beside an earlier one"
DESCRIPTION = (
    "Write a run of the history, or of a JSON report, as one HTML file: the verdict, what changed against "
    "BASE, plots, and the samples that changed sides. The file holds all it shows."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust report``."""
    parser.add_argument("run_", metavar="RUN", help=f"{REFERENCE}, or a JSON report")
    parser.add_argument(
        "base", metavar="BASE", nargs="?", help="the earlier run beside it; none: RUN alone"
    )
    parser.add_argument(
        "--out",
        metavar="FILE.html",
        type=Path,
        default=Path("report.html"),
        help="where it is written (default: report.html)",
    )
    parser.add_argument("--base-model", metavar="MODEL", help="the model of BASE that counts")
    parser.add_argument("--head-model", metavar="MODEL", help="the model of RUN that counts")
    add_history_option(parser)


def run(options: argparse.Namespace) -> int:
    """Write the page, and print where it lies.

    Raises:
        ClipRobustError: no such run, models that cannot be told apart, a name with another ending than a
            page's, or a file that cannot be written.
    """
    if options.out.suffix != ".html":
        raise ClipRobustError(
            f"--out {options.out}: this writes a page; end the name in .html (pytest --clip-report has "
            "other forms)"
        )
    from pytest_cliprobust.reporting.html.page import page_of
    from pytest_cliprobust.results.compare import compare

    given = [reference for reference in (options.run_, options.base) if reference is not None]
    head, *base = earlier_runs(options, given)
    comparison = None
    if base:
        comparison = compare(
            base[0],
            head,
            base_model=options.base_model,
            head_model=options.head_model,
        )
    write(options.out, page_of(head, comparison))
    print(f"written to {options.out}")
    return 0

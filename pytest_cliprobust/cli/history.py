"""``cliprobust history``: the runs that were kept."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pytest_cliprobust.cli._history import add_history_option, open_history
from pytest_cliprobust.cli._tables import print_table
from pytest_cliprobust.errors import counted

if TYPE_CHECKING:
    from pytest_cliprobust.results.history import Entry

HELP = "list the runs that were kept"
DESCRIPTION = "List the runs of the history, the newest last."

#: So many of the newest are shown.
SHOWN = 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust history``."""
    parser.add_argument("--all", action="store_true", help=f"all, not just the newest {SHOWN}")
    add_history_option(parser)


def run(options: argparse.Namespace) -> int:
    """Print the list.

    Raises:
        ClipRobustError: there is no history, or it cannot be used.
    """
    with open_history(options) as history:
        entries = history.entries()
    shown = entries if options.all else entries[-SHOWN:]
    if len(shown) < len(entries):
        older = counted(len(entries) - len(shown), "older run is", "older runs are")
        print(f"{older} not shown (--all)")
    head = ("run", "when", "models", "data", "suites", "figures", "failed", "exit", "tags")
    print_table(head, [_row(entry) for entry in shown])
    return 0


def _row(entry: Entry) -> tuple[str, ...]:
    config = entry.config
    size = f", at most {config['limit']}" if config.get("limit") else ""
    marks = [*entry.tags, *(["(anchor)"] if entry.anchor else [])]
    state = str(entry.exit_status)
    if not entry.complete:
        state += " (cut short)"
    elif entry.partial:
        state += " (single tests)"
    return (
        str(entry.number),
        when(entry.written),
        ", ".join(f"{name} {digest[:8]}" for name, digest in entry.models.items()),
        f"{config.get('data')}, {config.get('profile')}{size}",
        ", ".join(entry.suites),
        str(entry.figures),
        str(entry.failed),
        state,
        ", ".join(marks),
    )


def when(written: str) -> str:
    """Return a time as tables show it, to the minute."""
    return written[:16].replace("T", " ")

"""Tables that commands print, for people and for pipes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pytest_cliprobust.errors import printable


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: drawn with rich on a terminal, else tab-separated, one row per line."""
    if not sys.stdout.isatty():
        print("\t".join(head))
        for row in rows:
            print("\t".join(" ".join(printable(cell).split()) for cell in row))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(head):
        table.add_column(column, no_wrap=number == 0, style="cyan" if number == 0 else None)
    for row in rows:
        table.add_row(*[escape(printable(cell)) for cell in row])
    Console().print(table)

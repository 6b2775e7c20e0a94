"""``cliprobust schema``: the JSON Schema that every JSON report follows."""

from __future__ import annotations

import argparse

HELP = "print the JSON Schema of JSON reports"
DESCRIPTION = (
    "Print the JSON Schema (draft 2020-12) that every report of --clip-report FILE.json follows."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no options."""


def run(options: argparse.Namespace) -> int:
    """Print it."""
    from pytest_cliprobust.reporting.json import schema_text

    print(schema_text(), end="")
    return 0

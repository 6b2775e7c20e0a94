"""The ``cliprobust`` command: a command a file.

Every module of this folder whose name does not begin with ``_`` is a command of the same name
(:class:`Command` says what stands in it); the others are parts that commands share or are made of.
A command's module imports nothing heavy: what it needs is imported where it runs, so that
``--help`` and a mistyped option answer at once. A :class:`ClipRobustError` and a mistyped option
become one line on standard error and exit code 4, pytest's code for wrong usage.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from typing import NoReturn, Protocol, cast

from pytest_cliprobust import __version__
from pytest_cliprobust.errors import ClipRobustError, did_you_mean

#: pytest's exit code for wrong usage.
USAGE_ERROR = 4


class Command(Protocol):
    """What stands in the module of a command."""

    #: One line for ``cliprobust --help``.
    HELP: str

    #: A sentence or two for the command's own ``--help``.
    DESCRIPTION: str

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's options to its parser."""

    def run(self, options: argparse.Namespace) -> int:
        """Do what the command is for, and return the exit code.

        Raises:
            ClipRobustError: a mistake of the user's; it is printed, and the exit code is 4.
        """


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one line, with exit code 4."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake and leave."""
        self.exit(USAGE_ERROR, f"{self.prog}: {message}. See `{self.prog} --help`\n")


def commands() -> dict[str, Command]:
    """Return the commands by name, in alphabetical order: the public modules of this folder."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {
        name.replace("_", "-"): cast("Command", importlib.import_module(f"{__name__}.{name}"))
        for name in modules
        if not name.startswith("_")
    }


def build_parser() -> Parser:
    """Return the parser of the whole command."""
    parser = Parser(prog="cliprobust", description="Robustness tests for CLIP models.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", parser_class=Parser
    )
    for name, command in commands().items():
        own = subparsers.add_parser(name, help=command.HELP, description=command.DESCRIPTION)
        command.add_options(own)
        own.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; ``argv`` are the words after ``cliprobust``."""
    parser = build_parser()
    words = list(sys.argv[1:] if argv is None else argv)
    known = commands()
    first = next((word for word in words if not word.startswith("-")), None)
    if first is not None and first not in known:
        parser.exit(
            USAGE_ERROR,
            f"cliprobust: unknown command {first!r}.{did_you_mean(first, known)} "
            f"Commands: {', '.join(known)}\n",
        )
    options = parser.parse_args(words)
    if options.command is None:
        parser.print_help()
        return 0
    try:
        return int(options.run(options))
    except ClipRobustError as error:
        print(f"cliprobust: {error}", file=sys.stderr)
        return USAGE_ERROR
    except BrokenPipeError:
        # The reader of a pipe (head, say) has left: no message, also when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0

"""What is told of a session that has no figures to tell of. Imports nothing heavy."""

from __future__ import annotations

import sys
from typing import Any

import pytest


def say_what_is_lacking(error: BaseException) -> None:
    """Say, as pytest says of a mistake, what keeps a session from beginning; nothing if it has no words."""
    if str(error):
        print(f"ERROR: {error}\n", file=sys.stderr, flush=True)


def say_nothing_evaluated(
    reporter: Any, config: pytest.Config, count: int, exit_status: int
) -> None:
    """Warn that none of ``count`` tests evaluates the model that the command line names."""
    ran = exit_status in (
        pytest.ExitCode.OK,
        pytest.ExitCode.TESTS_FAILED,
        pytest.ExitCode.NO_TESTS_COLLECTED,
    )
    named = config.getoption("--clip-model")
    if named and ran and not config.option.collectonly:
        told = f"warning: --clip-model {' '.join(named)}: nothing was evaluated: "
        chosen = [f"{flag} {text!r}" for flag, text in _selections(config) if text]
        if not count and chosen:
            told += f"no test is left of what was collected after {' and '.join(chosen)}"
        else:
            told += (
                f"none of the tests ({count} collected) uses clip or gate; --clip-suites runs the suites "
                "that ship with the plugin"
            )
        reporter.write_line(told, yellow=True)


def _selections(config: pytest.Config) -> tuple[tuple[str, str], ...]:
    """Return what leaves tests out, by flag."""
    return ("-k", config.option.keyword), ("-m", config.option.markexpr)

"""What is told at the end of a session that has no figures to tell of. Imports nothing heavy."""

from __future__ import annotations

from typing import Any

import pytest


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
        reporter.write_line(
            f"warning: --clip-model {' '.join(named)}: nothing was evaluated: none of the tests "
            f"({count} collected) uses clip or gate; --clip-suites runs the suites that ship with the "
            "plugin",
            yellow=True,
        )

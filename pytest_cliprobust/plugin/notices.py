"""What is told of a session that has no figures to tell of. Imports nothing heavy."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any

import pytest

from pytest_cliprobust.errors import did_you_mean


def say_what_is_lacking(error: BaseException) -> None:
    """Say, as pytest says of a mistake, what keeps a session from beginning; nothing if it has no words."""
    if str(error):
        print(f"ERROR: {error}\n", file=sys.stderr, flush=True)


def misspelt_marks(config: pytest.Config, suites: Iterable[str]) -> list[str]:
    """Return a line for each name of ``-m`` that no marker has and that is nearly a suite's.

    pytest takes a name that it does not know for a marker that no test has.
    """
    known = {re.split(r"[:(]", line, maxsplit=1)[0].strip() for line in config.getini("markers")}
    names = sorted(set(suites))
    words = re.findall(r"[\w.-]+", re.sub(r"\([^()]*=[^()]*\)", "", config.option.markexpr or ""))
    told = []
    for word in dict.fromkeys(words):
        if word in ("and", "or", "not") or word in known or word in names:
            continue
        hint = did_you_mean(word, names)
        if hint:
            told.append(f"-m {word}: no suite is called so, and no marker is.{hint}")
    return told


def say_nothing_evaluated(
    reporter: Any, config: pytest.Config, count: int, exit_status: int, suites: Iterable[str] = ()
) -> None:
    """Warn that none of ``count`` tests evaluates the model that the command line names.

    ``suites``: those that there are, for a name in ``-m`` that is nearly one of theirs.
    """
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
        for line in misspelt_marks(config, suites):
            reporter.write_line(f"warning: {line}", yellow=True)


def _selections(config: pytest.Config) -> tuple[tuple[str, str], ...]:
    """Return what leaves tests out, by flag."""
    return ("-k", config.option.keyword), ("-m", config.option.markexpr)

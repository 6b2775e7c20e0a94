"""Mistakes that show when a conftest.py or a suite is imported, told in one line. Imports nothing heavy.

pytest shows the whole way to an error, through our decorators and registries. Whoever writes a perturbation
needs the line of theirs. Files that have nothing to do with this package stay pytest's business.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from _pytest.config import ConftestImportFailure

from pytest_cliprobust.blame import import_mistake


def line_of(error: BaseException) -> str | None:
    """Return the line for an error that an import or a collection ended with; None: not ours to tell."""
    if isinstance(error, ConftestImportFailure):
        error = error.cause
    elif isinstance(error, pytest.Collector.CollectError) and error.__cause__ is not None:
        error = error.__cause__  # pytest has put the traceback into its text
    return import_mistake(error)


def conftest_mistake(config: pytest.Config, failure: ConftestImportFailure) -> str | None:
    """Return the line for a conftest.py that cannot be imported; None where pytest shall go on by itself."""
    options = config.known_args_namespace
    listing = options.help or getattr(options, "version", False)
    return None if listing else line_of(failure)


class ImportMistakes:
    """The plugin object that looks at what the collection could not import.

    Attributes:
        lines: one for each file.
    """

    def __init__(self, config: pytest.Config, *, evaluates: bool) -> None:
        self._config = config
        self._is_worker = hasattr(config, "workerinput")
        # A worker of pytest-xdist has a voice of its own only where a model is evaluated.
        self._keeps_report = (self._is_worker and not evaluates) or bool(
            config.getoption("continue_on_collection_errors")
        )
        self.lines: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, Any, pytest.CollectReport]:
        """Take a mistake out of the report of a file, to be told at the end of the collection."""
        report: pytest.CollectReport = yield
        call: pytest.CallInfo[Any] | None = getattr(report, "call", None)
        line = line_of(call.excinfo.value) if call is not None and call.excinfo else None
        if line is None or not report.failed:
            return report
        if self._keeps_report:
            report.longrepr = line
            return report
        if line not in self.lines:
            self.lines.append(line)
        report.outcome, report.longrepr, report.result = "passed", None, []
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """End the session; a worker of pytest-xdist runs nothing, and another process tells its lines.

        Raises:
            pytest.UsageError: a file could not be imported.
        """
        if self.lines and self._is_worker:
            session.items.clear()
        elif self.lines:
            raise pytest.UsageError(*self.lines)

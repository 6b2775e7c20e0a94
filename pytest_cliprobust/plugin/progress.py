"""The line that shows how far a long piece of work is."""

from __future__ import annotations

import contextlib
import math
import time
from contextlib import AbstractContextManager
from typing import Any

import pytest


class ProgressLine:
    """A single line with a bar and the remaining time; nothing unless output is a terminal."""

    #: Seconds between two drawings of the line.
    PAUSE = 0.1

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._began: tuple[str, float, int] | None = None
        self._drawn: float | None = None

    def __call__(self, description: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` samples of ``description`` are finished."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        # While a test runs its output is captured, the terminal's own stream with it: ask the reporter.
        if reporter is None or hasattr(self._config, "workerinput") or not reporter.isatty:
            return
        now = time.monotonic()
        if done >= total:
            if self._drawn is not None:
                # What pytest had written on this line comes back.
                self._write(reporter, getattr(reporter._tw, "_current_line", ""))
            self._began = self._drawn = None
            return
        if self._began is None or self._began[0] != description:
            self._began = (description, now, done)
            return
        if self._drawn is not None and now - self._drawn < self.PAUSE:
            return
        _, start, before = self._began
        left = (now - start) / max(done - before, 1) * (total - done)
        filled = round(20 * done / total)
        bar = "━" * filled + "╌" * (20 - filled)
        text = f"  {description} {bar} {done}/{total}, {duration(left)} left"
        self._write(reporter, text[: reporter._tw.fullwidth - 1])
        self._drawn = now

    def tell(self, line: str) -> None:
        """Write a line of its own, terminal or not; a process of pytest-xdist writes none."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None or hasattr(self._config, "workerinput"):
            return
        with self._uncaptured():
            reporter.ensure_newline()
            reporter.write_line(line)

    def _uncaptured(self) -> AbstractContextManager[None]:
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        if capture is None:
            return contextlib.nullcontext()
        uncaptured: AbstractContextManager[None] = capture.global_and_fixture_disabled()
        return uncaptured

    def _write(self, reporter: Any, text: str) -> None:
        with self._uncaptured():
            reporter._tw._file.write(f"\r\x1b[2K{text}")
            reporter._tw._file.flush()


def duration(seconds: float) -> str:
    """Return ``12 s``, ``3:05 min`` or ``2:05 h``."""
    whole = math.ceil(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"

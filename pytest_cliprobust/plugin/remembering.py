"""The history at the end of a run: where it is, and what is added to it."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.files import shown_path
from pytest_cliprobust.plugin.options import tags_of, value_of
from pytest_cliprobust.reporting.json import document
from pytest_cliprobust.results.history import History, default_path, is_file
from pytest_cliprobust.results.run import Run


def history_path(config: pytest.Config, run_config: RunConfig) -> Path | None:
    """Return the file that runs are kept in; None if they are not kept."""
    chosen = value_of(config, "history")
    if chosen == "none":
        return None
    return Path(chosen) if chosen else default_path(run_config.cache_dir)


def keeps_history(config: pytest.Config, run_config: RunConfig) -> bool:
    """Return whether the user named a file for the history, so that a run is not whole without it."""
    named = value_of(config, "history") not in (None, "none")
    return named and run_config.plant is None


def remember(run: Run, told: Run, config: pytest.Config) -> Run:
    """Add a run to the history, and return it with where it is, or why it is not there.

    Args:
        run: as it ended.
        told: the same as it may be kept, without the names of samples if the user wants that.
        config: the user's options.

    Raises:
        Unavailable: there is no room in the file that the user named for it.
        ClipRobustError: that file cannot be written. Another one is a note.
    """
    path = history_path(config, run.config)
    if path is None or not run.records or run.config.plant is not None:
        return run
    figures = {record.key: record.figure for record in told.records}
    try:
        with History(path, create=True) as history:
            first = _held_against(history, config)
            number = history.write(document(told), figures, tags_of(config))
            if first is not None:
                # Later baselines come and go; drift is told against the first.
                history.set_anchor(first, only_first=True)
    except ClipRobustError as error:
        if keeps_history(config, run.config):
            raise
        return replace(run, notes=(*run.notes, f"this run is not in the history: {error}"))
    # What the ini file says of it, the command finds by itself.
    given = config.getoption("--clip-history") or config.getoption("--clip-cache-dir")
    where = f" --history={shlex.quote(str(shown_path(path)))}" if given else ""
    return replace(run, kept=f"run {number} (cliprobust show {number}{where})")


def _held_against(history: History, config: pytest.Config) -> int | None:
    """Return the run of the history that this one is held against; None if that is a file."""
    named = value_of(config, "baseline")
    if named is None or named == "none" or is_file(named):
        return None
    with contextlib.suppress(ClipRobustError):  # it was pruned meanwhile
        return history.find(named)
    return None

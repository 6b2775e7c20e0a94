"""How commands write files."""

from __future__ import annotations

from pathlib import Path

from pytest_cliprobust.files import not_written, replace_file


def write(path: Path, content: str | bytes) -> None:
    """Write a file in one step, with the folders that it needs.

    Raises:
        Unavailable: the disk is full.
        ClipRobustError: it cannot be written.
    """
    try:
        replace_file(path, content)
    except OSError as error:
        raise not_written(f"{path}: cannot be written", error) from None

"""Paths as messages show them."""

from __future__ import annotations

from pathlib import Path


def shown_path(path: Path) -> Path:
    """Return a path as the reader can type it: relative, if it lies below the working directory."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path

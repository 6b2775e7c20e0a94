"""From what ``--clip-depth`` says to a source of depth."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import torch

from pytest_cliprobust.cache import FeatureCache
from pytest_cliprobust.datasets.depth.base import DepthSource
from pytest_cliprobust.datasets.depth.estimator import DepthEstimator
from pytest_cliprobust.datasets.depth.files import SUFFIXES, DepthFiles
from pytest_cliprobust.errors import ClipRobustError


def load_depth_source(
    text: str, device: torch.device | str = "cpu", cache: FeatureCache | None = None
) -> DepthSource:
    """Return the depth source that ``--clip-depth text`` means.

    A folder with a ``config.json`` is a model of transformers; one with depth maps somewhere in it is a
    folder of maps; what is no folder is the name of a hub repository, ``owner/name``.

    Raises:
        ClipRobustError: none of these.
    """
    folder = Path(text).expanduser()
    if (folder / "config.json").is_file():
        return _estimator(str(folder), str(device), cache and cache.root)
    if folder.is_dir():
        if not _holds_maps(folder):
            raise ClipRobustError(
                f"--clip-depth {text}: the folder holds neither a model (config.json) nor depth maps "
                f"({', '.join(SUFFIXES)})"
            )
        return DepthFiles(text)
    if text.startswith((".", "/", "~")) or text.count("/") != 1:
        raise ClipRobustError(
            f"--clip-depth {text}: there is no such folder, and it is no owner/name of the model hub; "
            "give a model's folder or a folder of depth maps"
        )
    return _estimator(text, str(device), cache and cache.root)


@functools.lru_cache(maxsize=2)
def _estimator(name: str, device: str, root: Path | None) -> DepthEstimator:
    """Return an estimator; the models of a run share it."""
    return DepthEstimator(name, device, FeatureCache(root))


def _holds_maps(folder: Path) -> bool:
    return any(
        Path(name).suffix in SUFFIXES
        for _, _, names in os.walk(folder, followlinks=True)
        for name in names
    )

"""Data of a model hub: ``hub:OWNER/NAME``, fetched once into huggingface_hub's own cache.

What lies there decides the layout: WebDataset shards in CLIP_benchmark's form (its test split, where there
are several), or else class folders of pictures. ``hub:OWNER/NAME@REVISION`` is that branch, tag or commit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Unpack

from pytest_cliprobust.datasets.base import Dataset
from pytest_cliprobust.datasets.label_sets import NAMES_FILE
from pytest_cliprobust.datasets.layouts.imagefolder import EXTENSIONS, ImageFolder
from pytest_cliprobust.datasets.layouts.wds import wds
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.datasets.roles import FLAG, HUB
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.files import own_name
from pytest_cliprobust.targets.hub import hub_data

#: The split that is measured, where shards lie in several.
_SPLIT = "test"

REMEDY = f"give a local folder with {FLAG} ROLE=LAYOUT:PATH"


@register_layout(
    HUB,
    path="OWNER/NAME of data on the model hub, or OWNER/NAME@REVISION",
    source="the model hub",
    licence="as each data set's",
)
def hub(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Dataset:
    """Return the samples of a repository of the model hub.

    Raises:
        Unavailable: it is not in the local cache, and no hub in reach or the download failed.
        ClipRobustError: no such repository, or neither shards nor class folders in it.
    """
    repository, _, revision = os.fspath(root).partition("@")
    owner, slash, name = repository.partition("/")
    if not (owner and slash and name) or "/" in name:
        raise ClipRobustError(f"{HUB}:{root} is no name of data on the hub; write {HUB}:OWNER/NAME")
    wanted = f"data set '{HUB}:{root}'"
    folder = hub_data(repository, wanted_files, wanted, REMEDY, revision or None)
    shards = any(folder.glob("*.tar")) or any(folder.glob(f"{_SPLIT}/*.tar"))
    data: Dataset = wds(folder, **options) if shards else ImageFolder(folder, **options)
    data.name = f"{HUB}:{own_name(os.fspath(root))}"
    return data


def wanted_files(names: Sequence[str]) -> list[str]:
    """Return those of a repository's files that the samples are made of."""
    shards = [name for name in names if name.endswith(".tar")]
    if shards:
        in_split = [name for name in shards if name.startswith(f"{_SPLIT}/")]
        beside = [name for name in names if name.endswith(".txt")]
        around = [n for n in beside if "/" not in n or n.startswith(f"{_SPLIT}/")]
        return around + (in_split or [name for name in shards if "/" not in name])
    pictures = [n for n in names if PurePosixPath(n).suffix.lower() in EXTENSIONS and "/" in n]
    return pictures + [name for name in names if name == NAMES_FILE]

"""Data of a model hub: ``hub:OWNER/NAME``, fetched once into huggingface_hub's own cache.

What lies there decides the layout: WebDataset shards in CLIP_benchmark's form (its test split, where there
are several), tables (Parquet, :mod:`pytest_cliprobust.datasets.parquet`), or else class folders of pictures.
``hub:OWNER/NAME@REVISION`` is that branch, tag or commit. The word ``hub`` alone is a pack: the evaluation
sets of the field that lie on the hub as shards, each in its role.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Unpack

from pytest_cliprobust.datasets.base import Dataset
from pytest_cliprobust.datasets.field import FIELD
from pytest_cliprobust.datasets.label_sets import NAMES_FILE
from pytest_cliprobust.datasets.layouts.datacomp import TASKS, task_key, task_of_shards
from pytest_cliprobust.datasets.layouts.hf import hf
from pytest_cliprobust.datasets.layouts.imagefolder import EXTENSIONS, ImageFolder
from pytest_cliprobust.datasets.layouts.wds import wds
from pytest_cliprobust.datasets.parquet import as_saved, tables_of
from pytest_cliprobust.datasets.registry import LayoutOptions, Part, register_layout
from pytest_cliprobust.datasets.roles import HUB
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.files import own_name
from pytest_cliprobust.targets.hub import DATA_REMEDY, hub_data

#: The split that is measured, where shards lie in several.
_SPLIT = "test"

#: Who publishes shards of DataComp's tasks, and of CLIP_benchmark's.
_PUBLISHERS = ("djghosh", "clip-benchmark")


def parts(path: Path) -> list[Part]:
    """Return the pack for the word ``hub`` alone; none for the name of a repository."""
    if path != Path():
        return []
    return [
        Part(role, HUB, task_key(repository.partition("/")[2]), repository)
        for role, repositories in FIELD.items()
        for repository in repositories
    ]


@register_layout(
    HUB,
    path="OWNER/NAME of data on the model hub, or OWNER/NAME@REVISION; the word hub alone: the field's sets",
    source="the model hub",
    licence="as each data set's",
    parts=parts,
)
def hub(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Dataset:
    """Return the samples of a repository of the model hub.

    Raises:
        Unavailable: it is not in the local cache, and no hub in reach or the download failed; or it holds
            tables, and pyarrow is not installed.
        ClipRobustError: no such repository, or neither shards nor tables nor class folders in it.
    """
    repository, _, revision = os.fspath(root).partition("@")
    owner, slash, name = repository.partition("/")
    if not (owner and slash and name) or "/" in name:
        raise ClipRobustError(f"{HUB}:{root} is no name of data on the hub; write {HUB}:OWNER/NAME")
    wanted = f"data set '{HUB}:{root}'"
    folder = hub_data(repository, wanted_files, wanted, DATA_REMEDY, revision or None)
    told = f"{HUB}:{own_name(os.fspath(root))}"
    data: Dataset
    if any(folder.glob("*.tar")) or any(folder.glob(f"{_SPLIT}/*.tar")):
        key = task_key(name) if owner in _PUBLISHERS else ""
        known = key in TASKS
        data = task_of_shards(told, folder, key, **options) if known else wds(folder, **options)
    elif any(folder.rglob("*.parquet")):
        data = hf(as_saved(folder, wanted), **options)
    else:
        data = ImageFolder(folder, **options)
    data.name = told
    return data


def wanted_files(names: Sequence[str]) -> list[str]:
    """Return those of a repository's files that the samples are made of."""
    shards = [name for name in names if name.endswith(".tar")]
    if shards:
        in_split = [name for name in shards if name.startswith(f"{_SPLIT}/")]
        beside = [name for name in names if name.endswith(".txt")]
        around = [n for n in beside if "/" not in n or n.startswith(f"{_SPLIT}/")]
        return around + (in_split or [name for name in shards if "/" not in name])
    tables = tables_of(names)
    if tables:
        return tables
    pictures = [n for n in names if PurePosixPath(n).suffix.lower() in EXTENSIONS and "/" in n]
    return pictures + [name for name in names if name == NAMES_FILE]

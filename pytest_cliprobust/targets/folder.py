"""Models in a folder, ``local-dir:PATH`` or the plain path, in whichever format the folder has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pytest_cliprobust.errors import ClipRobustError, first_of
from pytest_cliprobust.files import lies_there
from pytest_cliprobust.targets.checkpoint import checkpoints_in, weights_in
from pytest_cliprobust.targets.checkpoint_file import load_checkpoint_file
from pytest_cliprobust.targets.registry import FORMATS, arguments_for, register_target

PREFIX = "local-dir:"


@register_target(PREFIX)
def load_any_folder(name: str, source: str, **options: Any) -> Any:
    """Load a folder by the format whose file it holds, or by its only checkpoint.

    Args:
        name: as the user wrote it.
        source: the folder.
        options: for the format's loader.

    Raises:
        ClipRobustError: no such folder, or one in no format that is known.
    """
    folder = Path(source).expanduser()
    if not (lies_there(source) and folder.is_dir()):
        raise ClipRobustError(f"--clip-model {name}: there is no folder {folder}")
    # A longer name says more: folders of open_clip may hold a config.json of transformers, too.
    files = sorted(FORMATS, key=len, reverse=True)
    for file in files:
        if os.path.lexists(folder / file):  # what is no file there is told by who reads it
            load = FORMATS[file]
            return load(**arguments_for(name, load, {"name": name, "source": source, **options}))
    checkpoint = weights_in(folder, ())
    if checkpoint is not None:
        return load_checkpoint_file(name, str(checkpoint), **options)
    snapshots = folder / "snapshots"
    if snapshots.is_dir():
        inner = sorted(path.name for path in snapshots.iterdir())
        raise ClipRobustError(
            f"--clip-model {name}: folder {folder} is a repository in the hub's cache; give one of its "
            f"snapshots, {snapshots / inner[0] if inner else snapshots}"
        )
    several = checkpoints_in(folder)
    if several:
        raise ClipRobustError(
            f"--clip-model {name}: folder {folder} holds {len(several)} checkpoints "
            f"({first_of([path.name for path in several], 4)}) and no configuration; name one of them: "
            f"--clip-model={several[0]}"
        )
    raise ClipRobustError(
        f"--clip-model {name}: folder {folder} holds none of {', '.join(files)}, which tell its "
        "format, nor one checkpoint"
    )

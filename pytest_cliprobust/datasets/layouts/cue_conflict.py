"""Cue conflict (Geirhos et al. 2019) in both published forms.

``<shape>/<shape><n>-<texture><m>.png`` of texture-vs-shape, and the sessions of model-vs-human, whose files
have the trial before that name. The 80 pictures whose shape and texture are of one class are left out.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

from pytest_cliprobust.datasets.cue_names import parse_cue_conflict_name
from pytest_cliprobust.datasets.listed import Labels, Listed, Row, pictures_in, shuffled, tree_of
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.datasets.walking import left_out


@register_layout(
    "cue-conflict",
    plays=("cue_conflict",),
    path="the folder of the shapes, or of the sessions",
    source="Geirhos et al. 2019, github.com/rgeirhos/texture-vs-shape",
    licence="CC BY 4.0",
    published=True,
)
def cue_conflict(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return the pictures whose shape and texture are of two classes; none has a label.

    Raises:
        ClipRobustError: a file's name does not tell its shape and texture.
    """
    folder = Path(root)
    rows, tree = [], tree_of(folder, "cue-conflict")
    for _, path in pictures_in(tree, [""]):
        shape, texture = parse_cue_conflict_name(path)
        if shape != texture:
            columns = {"shape_label": shape, "texture_label": texture}
            rows.append(Row(path, path, columns=columns))
    notes = left_out(tree.notes())
    data = Listed("cue-conflict", folder, shuffled(rows), Labels(), notes=notes, **options)
    data.subgroups = ()  # type: ignore[attr-defined]
    return data

"""SCAM (Westerhoff et al. 2025): photographs of things with a word on a note beside them.

What ``images.zip`` unpacks to: pictures, and a table ``metadata.csv`` with ``file_name``, ``type``,
``object_label``, ``attack_word``, ``postit_area_pct`` and ``id``. Each photograph is there three times,
which the column ``variant`` tells: ``SCAM`` (the word is on the note), ``SynthSCAM`` (it was drawn in) and
``NoSCAM`` (the note is empty). Its classes are its own: the things and the words.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Unpack

from pytest_cliprobust.datasets.layouts.manifest import read_rows
from pytest_cliprobust.datasets.listed import Labels, Listed, Row, tree_of, what_is_there
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.errors import ClipRobustError

_TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_FOLDERS = ("", "images", "train", "images/train")
_COLUMNS = ("file_name", "type", "object_label", "attack_word")


@register_layout(
    "scam",
    plays=("typographic",),
    path="the folder that images.zip was unpacked to",
    source="Westerhoff et al. 2025, github.com/Bliss-e-V/SCAM",
    licence="CC BY-NC 4.0",
    published=True,
)
def scam(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return SCAM, the variants of a photograph beside each other; a prefix is a random sample of these.

    Raises:
        ClipRobustError: there is no table, or it lacks a column.
    """
    table = _table(Path(root))
    entries = read_rows(table)
    missing = [name for name in _COLUMNS if not all(name in entry for entry in entries)]
    if missing:
        raise ClipRobustError(
            f"scam: {str(table)!r} has no column {missing[0]!r}; it needs {', '.join(_COLUMNS)}"
        )
    texts = [(str(e["object_label"]).strip(), str(e["attack_word"]).strip()) for e in entries]
    names = tuple(sorted({text for both in texts for text in both}))
    number = {name: row for row, name in enumerate(names)}
    rows = []
    for place, (entry, (thing, word)) in enumerate(zip(entries, texts, strict=True), start=1):
        path = str(entry["file_name"] or "")
        if not path:
            raise ClipRobustError(
                f"scam: {table.name}, row {place}: column 'file_name' is empty; name the picture"
            )
        name = str(entry.get("id") or Path(path).stem)
        columns = {
            "variant": str(entry["type"]),
            "written_label": word,
            "postit_area_pct": str(entry.get("postit_area_pct") or ""),
        }
        rows.append(Row(name, path, number[thing], columns, unit=name.rpartition("_")[2]))
    order = sorted(rows, key=lambda row: (_hashed(row.unit), row.columns["variant"]))
    return Listed(
        "scam", table.parent, order, Labels(names, own=True), unit="photograph", **options
    )


def _table(root: Path) -> Path:
    tree_of(root, "scam")
    for folder in _FOLDERS:
        for name in _TABLES:
            if (root / folder / name).is_file():
                return root / folder / name
    raise ClipRobustError(
        f"scam: {str(root)!r} has no {_TABLES[0]}; unpack images.zip there (there is "
        f"{what_is_there(root)})"
    )


def _hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()

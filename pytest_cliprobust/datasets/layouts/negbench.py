"""NegBench (Alhamoud et al. 2025): what is not in a picture. Its tables of images, one at a time.

Multiple choice (``COCO_val_mcq_….csv``, ``VOC2007_mcq_….csv``, ``synthetic_mcq_….csv``): ``image_path``,
``caption_0`` and on, ``correct_answer`` (which of them is true) and ``correct_answer_template``
(``positive``, ``negative``, ``hybrid``). Retrieval (``COCO_val_negated_retrieval_….csv``,
``synthetic_retrieval_….csv``): ``filepath`` and ``captions``, a list of texts; give it the role
``retrieval``.

A path in a table is looked for as it stands, and then by its last parts beside the table
(``val2017/1.jpg``).
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Unpack

from pytest_cliprobust.datasets.layouts.manifest import read_rows
from pytest_cliprobust.datasets.listed import Labels, Listed, Row, shuffled
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.samples import Choice
from pytest_cliprobust.files import own_name

#: Lists longer than this are no captions of one picture.
_LONGEST = 1 << 16

#: Folders beside a table that pictures are looked for in.
_FOLDERS = ("", "images", "..", "../images")


@register_layout(
    "negbench",
    plays=("compositional",),
    path="one of the tables, COCO_val_mcq_….csv; the role retrieval for one of captions",
    source="Alhamoud et al. 2025, github.com/m1k2zoo/negbench",
    licence="MIT (code); pictures of COCO and VOC",
)
def negbench(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return the pictures of a table, with a choice between captions or with captions that are true.

    Raises:
        ClipRobustError: it is no such table, a row has another form, or its picture is not there.
    """
    table = Path(root)
    entries = read_rows(table)
    columns = set(entries[0]) if entries else set()
    if {"image_path", "caption_0", "caption_1", "correct_answer"} <= columns:
        read = _choice
    elif {"filepath", "captions"} <= columns:
        read = _captions
    else:
        has = ", ".join(sorted(map(str, columns))) or "none"
        raise ClipRobustError(
            f"negbench: {str(table)!r} is no table of NegBench: it needs image_path, caption_0, caption_1 "
            f"and correct_answer, or filepath and captions, and has {has}"
        )
    rows = [
        read(entry, table, f"{table.name}, row {n}", str(n)) for n, entry in enumerate(entries, 1)
    ]
    name = f"negbench:{own_name(str(table)).rpartition('.')[0]}"
    return Listed(name, table.parent, shuffled(rows), Labels(), unit="picture", **options)


def _choice(entry: Mapping[str, Any], table: Path, where: str, number: str) -> Row:
    texts = list(_options(entry))
    right = str(entry["correct_answer"]).removesuffix(".0")
    if not right.isdecimal() or int(right) >= len(texts) or len(texts) < 2:
        raise ClipRobustError(
            f"negbench: {where}: the correct answer {right!r} is none of its {len(texts)} captions"
        )
    true = texts.pop(int(right))
    kind = str(entry.get("correct_answer_template") or "negation").strip()
    path = _picture(str(entry["image_path"]), table, where)
    choice = Choice(kind, true, tuple(texts))
    return Row(number, path, choices=(choice,), unit=PurePosixPath(path).name)


def _options(entry: Mapping[str, Any]) -> Iterator[str]:
    number = 0
    while text := str(entry.get(f"caption_{number}") or "").strip():
        yield text
        number += 1


def _captions(entry: Mapping[str, Any], table: Path, where: str, number: str) -> Row:
    given = entry["captions"]
    try:
        # A list as Python writes it: literals are read, and nothing is run.
        texts = ast.literal_eval(given[:_LONGEST]) if isinstance(given, str) else given
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        texts = None
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise ClipRobustError(f"negbench: {where}: captions are no list of texts")
    path = _picture(str(entry["filepath"]), table, where)
    captions = tuple(text.strip() for text in texts)
    return Row(number, path, captions=captions, unit=PurePosixPath(path).name)


def _picture(given: str, table: Path, where: str) -> str:
    """Return where a picture is, relative to the table where it can be."""
    path = PurePosixPath(given.replace("\\", "/"))
    ends = (PurePosixPath(*path.parts[-count:]) for count in (3, 2, 1))
    for candidate in (path, *(PurePosixPath(folder, end) for end in ends for folder in _FOLDERS)):
        if (table.parent / candidate).is_file():
            return str(candidate)
    raise ClipRobustError(
        f"negbench: {where}: the picture {given!r} is neither there nor beside the table; put it there, or "
        "correct the path"
    )

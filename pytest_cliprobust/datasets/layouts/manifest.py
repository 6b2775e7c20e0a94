"""A table of pictures: ``manifest:FILE`` with FILE a CSV, JSONL or Parquet, a sample a row.

Columns, of which only the first is needed:

- ``image`` (or ``path``, ``file_name``, ``filename``, ``filepath``, ``image_path``): relative to the table;
- ``id``: unique and the same on every machine; the path unless given;
- ``label``: the class, by name; ``class_name``: what fills the templates, where that is another text;
- ``unit``: what the sample was drawn from, where several samples come from one thing;
- ``caption``: a text, or a list of texts (JSON, or one a line), true of the picture;
- ``negative_caption``: the same of false ones, and ``kind``, what these get wrong;
- ``shape_label``, ``texture_label``, ``factor``, ``written_label``, ``corruption``, ``severity``, ``pair``:
  what the roles cue_conflict, factors, typographic, corrupted and compositional ask for;
- any other column is one of ``groups``: subgroups that are compared.
"""

from __future__ import annotations

import csv
import importlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from pytest_cliprobust.datasets.layouts.imagefolder import natural_key
from pytest_cliprobust.datasets.listed import Labels, Listed, Row, hash_of, in_rounds
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.errors import ClipRobustError, Unavailable, brief, did_you_mean
from pytest_cliprobust.figures.samples import Choice
from pytest_cliprobust.files import own_name

IMAGE = ("image", "path", "file_name", "filename", "filepath", "image_path")

#: Columns that are no subgroups.
_OWN = frozenset(
    {*IMAGE, "id", "label", "class_name", "unit", "caption", "negative_caption", "kind"}
)


@register_layout("manifest", path="a CSV, JSONL or Parquet file", source="a table of your own")
def manifest(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return the samples of a table.

    Raises:
        ClipRobustError: the file cannot be read, lacks the column of pictures, or a row is malformed.
        Unavailable: a Parquet file, and pyarrow is not installed.
    """
    path = Path(root)
    table = read_rows(path)
    column = _image_column(table, path)
    keys, names = labels_of(table)
    rows = []
    for number, entry in enumerate(table, start=1):
        where = f"{path.name}, row {number}"
        image = str(entry.get(column) or "")
        if not image:
            raise ClipRobustError(f"{where}: column {column!r} is empty; name the picture")
        rows.append(row_of(entry, image, keys, where))
    labels = Labels(tuple(name.replace("_", " ") for name in names), keys)
    data = Listed(
        f"manifest:{own_name(str(path)).rpartition('.')[0] or own_name(str(path))}",
        path.parent,
        in_rounds(ordered(rows)),
        labels,
        **options,
    )
    data.subgroups = subgroups_of(data.groups)  # type: ignore[attr-defined]
    return data


def ordered(rows: Iterable[Row]) -> list[Row]:
    """Return rows by a hash of their ids, whatever the order of the table: pairs stay together."""

    def place(row: Row) -> tuple[bytes, bytes]:
        return hash_of(row.columns.get("pair") or row.id), hash_of(row.id)

    return sorted(rows, key=place)


def labels_of(table: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classes of rows, in natural order of what stands in ``label``, and their names."""
    names: dict[str, str] = {}
    for entry in table:
        if key := _text(entry.get("label")):
            names[key] = _text(entry.get("class_name")) or key
    keys = tuple(sorted(names, key=natural_key))
    return keys, tuple(names[key] for key in keys)


def subgroups_of(columns: Iterable[str]) -> tuple[str, ...]:
    """Return the columns whose values are subgroups: those that no role asks for."""
    return tuple(column for column in columns if column not in _ROLES)


#: Columns that roles ask for, which are no subgroups either.
_ROLES = frozenset(
    {
        *("shape_label", "texture_label", "factor", "written_label", "variant"),
        *("corruption", "severity", "clean_id", "pair"),
    }
)


def row_of(row: Mapping[str, Any], image: str, keys: Sequence[str], where: str) -> Row:
    """Return the sample that a row of a table says.

    Args:
        row: column by name.
        image: where its picture is.
        keys: what stands in ``label``, by class index.
        where: the row, as a message calls it.

    Raises:
        ClipRobustError: false captions without a true one.
    """
    captions, false = _texts(row.get("caption")), _texts(row.get("negative_caption"))
    if false and not captions:
        raise ClipRobustError(f"{where}: a negative_caption needs a caption beside it")
    choices = (Choice(str(row.get("kind") or "negative"), captions[0], false),) if false else ()
    label = _text(row.get("label"))
    return Row(
        id=_text(row.get("id")) or image,
        path=image,
        label=keys.index(label) if label else -1,
        columns={name: _text(value) for name, value in row.items() if name not in _OWN},
        captions=captions,
        choices=choices,
        unit=_text(row.get("unit")),
    )


def _text(value: Any) -> str:
    """Return what stands in a cell as a text: a class may be called 0."""
    return "" if value is None else str(value)


def _image_column(table: Sequence[Mapping[str, Any]], path: Path) -> str:
    columns = list(table[0]) if table else []
    for name in IMAGE:
        if name in columns:
            return name
    raise ClipRobustError(
        f"manifest {str(path)!r} has no column of pictures ({', '.join(IMAGE)})."
        f"{did_you_mean('image', columns)} It has {', '.join(columns) or 'no row'}"
    )


def _texts(value: Any) -> tuple[str, ...]:
    """Return a text, a list of texts, a list in JSON, or one text a line, as texts."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            value = [value]
    if isinstance(value, str):
        value = value.splitlines()
    return tuple(str(text).strip() for text in value or () if str(text).strip())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a CSV, JSONL or Parquet file, column by name.

    Raises:
        ClipRobustError: it is none of these, or cannot be read.
        Unavailable: a Parquet file, and pyarrow is not installed.
    """
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is not None and not path.exists():
        raise ClipRobustError(f"manifest {str(path)!r} does not exist; check the path")
    if reader is None or not path.is_file():
        raise ClipRobustError(
            f"manifest {str(path)!r} is no file that ends in {', '.join(readers)}; give such a table"
        )
    try:
        rows = list(reader(path))
    except (OSError, ValueError, csv.Error) as error:
        raise ClipRobustError(f"manifest {str(path)!r} cannot be read ({brief(error)})") from None
    if not all(isinstance(row, dict) for row in rows):
        raise ClipRobustError(f"manifest {str(path)!r}: each line must be a JSON object")
    if any(None in row for row in rows):
        raise ClipRobustError(
            f"manifest {str(path)!r}: a row has more values than the head has columns"
        )
    return rows


def _csv(path: Path) -> Iterable[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")


def _jsonl(path: Path) -> Iterable[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        if line.strip():
            yield json.loads(line)


def _parquet(path: Path) -> Iterable[dict[str, Any]]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise Unavailable(
            f"manifest {str(path)!r} needs pyarrow to be read: pip install 'pytest-cliprobust[arrow]', or "
            "give a CSV"
        ) from None
    with path.open("rb") as file:  # of a path pyarrow makes a data set, whose folders are columns
        rows: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    return rows

"""Data sets of Hugging Face's library ``datasets``, as ``save_to_disk`` leaves them: ``hf:FOLDER``.

``dataset_info.json``, ``state.json`` and ``data-00000-of-00001.arrow`` and on; or ``dataset_dict.json``
with such a folder for each split, of which ``test``, ``validation`` or the only one is taken. The arrow
files are read by pyarrow alone: nothing is fetched, and no script of a data set runs. What its columns mean
is as for a manifest; the class is a column of the type ``ClassLabel``, or one called ``label``.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from torch import Tensor

from pytest_cliprobust.datasets.fingerprints import fingerprints, joined
from pytest_cliprobust.datasets.layouts.image_text import read_json
from pytest_cliprobust.datasets.layouts.manifest import IMAGE, labels_of, row_of, subgroups_of
from pytest_cliprobust.datasets.listed import Labels, Listed, Row, in_rounds, tree_of, what_is_there
from pytest_cliprobust.datasets.reading import decode_image, read_image
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.errors import ClipRobustError, Unavailable, brief
from pytest_cliprobust.files import own_name

_STATE, _INFO, _SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
_PREFERRED = ("test", "validation", "val", "valid")
_LABELS = ("label", "labels", "fine_label")


@dataclass(frozen=True)
class Table:
    """The rows of a data set, with what its columns are.

    Attributes:
        files: the arrow files, in their order.
        rows: all of them, a table of pyarrow's.
        image: the column of the pictures.
        label: the column of the classes; empty for none.
        names: of the classes, where the numbers in the column stand for them.
    """

    files: tuple[str, ...]
    rows: Any
    image: str
    label: str
    names: tuple[str, ...]


class Arrow(Listed):
    """Samples whose pictures are in arrow files; a row's path is the number of its row."""

    def __init__(
        self,
        name: str,
        root: Path,
        rows: Sequence[Row],
        labels: Labels,
        table: Table,
        **options: Unpack[LayoutOptions],
    ) -> None:
        self._table = table
        super().__init__(name, root, rows, labels, **options)

    def _fingerprints(self) -> list[str]:
        whole = joined(fingerprints(self.root, self._table.files))
        return [joined([whole, row.path]) for row in self._rows]

    def picture(self, row: Row) -> Tensor:
        """Return the picture of a sample, (3, H, W) uint8.

        Raises:
            ClipRobustError: it cannot be read, or lies nowhere.
        """
        value = self._table.rows[self._table.image][int(row.path)].as_py()
        told = value if isinstance(value, dict) else {"path": value}
        if told.get("bytes"):
            return decode_image(told["bytes"], f"{row.id!r} of {str(self.root)!r}")
        if not told.get("path"):
            raise ClipRobustError(f"{self.name}: {row.id!r} has no picture; save the data set anew")
        return read_image(self.root / str(told["path"]))


@register_layout(
    "hf",
    path="a folder that datasets' save_to_disk wrote",
    source="data of your own, or of the hub, saved by the library datasets",
    licence="as each data set's",
)
def hf(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return the samples of a saved data set.

    Raises:
        ClipRobustError: it is none, its split is not to be told, or it has no column of pictures.
        Unavailable: pyarrow is not installed.
    """
    folder = Path(root)
    tree_of(folder, "hf")
    inner = _split(folder)
    table = _table(inner)
    columns = [name for name in table.rows.column_names if name != table.image]
    entries = table.rows.select(columns).to_pylist()
    rows = [_entry(entry, table, number) for number, entry in enumerate(entries)]
    keys, names = (table.names, table.names) if table.names else labels_of(rows)
    samples = [
        row_of(row, str(number), keys, f"hf: {inner.name}, row {number}")
        for number, row in enumerate(rows)
    ]
    labels = Labels(tuple(name.replace("_", " ") for name in names), tuple(keys))
    name = f"hf:{own_name(str(folder))}"
    data = Arrow(name, inner, in_rounds(samples), labels, table, **options)
    data.subgroups = subgroups_of(data.groups)  # type: ignore[attr-defined]
    return data


def _split(folder: Path) -> Path:
    """Return the folder of the split that is taken."""
    if not (folder / _SPLITS).is_file():
        return folder
    document = read_json(folder / _SPLITS)
    splits = document.get("splits", []) if isinstance(document, dict) else []
    chosen = [name for name in _PREFERRED if name in splits] or splits
    if not chosen or (len(chosen) > 1 and chosen[0] not in _PREFERRED):
        raise ClipRobustError(
            f"hf: {str(folder)!r} has the splits {', '.join(map(str, splits)) or 'none'}; give the folder of "
            "one of them"
        )
    return folder / str(chosen[0])


def _table(folder: Path) -> Table:
    state = read_json(folder / _STATE) if (folder / _STATE).is_file() else None
    if not isinstance(state, dict) or not (folder / _INFO).is_file():
        raise ClipRobustError(
            f"hf: {str(folder)!r} has no {_STATE} and {_INFO}: it was not written by save_to_disk; check the "
            f"path (there is {what_is_there(folder)})"
        )
    try:
        files = tuple(str(file["filename"]) for file in state["_data_files"])
        info = read_json(folder / _INFO)
        features: Mapping[str, Any] = info["features"]
        kinds = {name: _kind(feature) for name, feature in features.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ClipRobustError(
            f"hf: {str(folder)!r} has a {_STATE} or {_INFO} of another form ({brief(error)})"
        ) from None
    rows = _read([folder / file for file in files], folder)
    images = [n for n in kinds if kinds[n] == "Image"] or [n for n in IMAGE if n in kinds]
    classes = [n for n in kinds if kinds[n] == "ClassLabel"]
    named = [n for n in _LABELS if n in classes] or classes or [n for n in _LABELS if n in kinds]
    if not images or images[0] not in rows.column_names:
        raise ClipRobustError(
            f"hf: {str(folder)!r} has no column of pictures; it has {', '.join(kinds) or 'none'}"
        )
    label = named[0] if named else ""
    names = tuple(map(str, features[label]["names"])) if label in classes else ()
    return Table(files, rows, images[0], label, names)


def _kind(feature: Any) -> str:
    return str(feature.get("_type", "")) if isinstance(feature, dict) else ""


def _read(files: Sequence[Path], folder: Path) -> Any:
    """Return the rows of arrow files, mapped into memory, as a table of pyarrow's."""
    try:
        arrow = importlib.import_module("pyarrow")
    except ImportError:
        raise Unavailable(
            f"hf: {str(folder)!r} needs pyarrow to be read: pip install 'pytest-cliprobust[arrow]'"
        ) from None
    try:
        tables = [arrow.ipc.open_stream(arrow.memory_map(str(file))).read_all() for file in files]
        return arrow.concat_tables(tables)
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise ClipRobustError(
            f"hf: the arrow files of {str(folder)!r} cannot be read ({brief(error)}); save the data set anew"
        ) from None


def _entry(entry: Mapping[str, Any], table: Table, number: int) -> dict[str, Any]:
    """Return a row as a manifest has it: texts, with the class by name."""
    found = {
        name: value if isinstance(value, str | list) or value is None else _text(value)
        for name, value in entry.items()
    }
    found["id"] = str(entry.get("id") or number)
    if table.label:
        value = entry[table.label]
        found.pop(table.label)
        found["label"] = _class(value, table.names, number)
    return found


def _class(value: Any, names: Sequence[str], number: int) -> str:
    if value is None or value == -1:
        return ""
    if not names:
        return str(value)
    if not isinstance(value, int) or not 0 <= value < len(names):
        raise ClipRobustError(f"hf: row {number} has the class {value!r} of {len(names)}")
    return names[value]


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict) else str(value)

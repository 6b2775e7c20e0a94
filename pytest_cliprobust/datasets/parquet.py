"""Data sets of the hub that lie there as tables (Parquet), as files that are read picture by picture.

A table keeps pictures in groups of some hundred rows that must be read as a whole, and samples are taken in
another order. So the tables are written once into the form of the library ``datasets``' ``save_to_disk``,
which is mapped into memory and which the layout ``hf`` reads. What columns are, classes by name above all,
stands in the tables' own metadata (``huggingface``), where ``datasets`` writes and looks for it.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pytest_cliprobust.errors import ClipRobustError, Unavailable, brief

#: Splits in the order in which they are preferred.
SPLITS = ("test", "validation", "val", "valid", "train")

_ROWS = 256
"""Rows that are in memory at a time while a table is written anew."""


def tables_of(names: Sequence[str]) -> list[str]:
    """Return the tables of the split that is measured, of the names of a repository's files.

    ``test``, else ``validation``, else ``train``, as folders and file names say
    (``data/test-00000-of-00001``, ``default/test/0000``); all tables where none says anything.

    Raises:
        ClipRobustError: they lie in several folders, hence are several data sets.
    """
    tables = [name for name in names if name.endswith(".parquet")]
    for split in SPLITS:
        chosen = [name for name in tables if split in _words(name)]
        if chosen:
            tables = chosen
            break
    folders = sorted({str(PurePosixPath(name).parent) for name in tables})
    if len(folders) > 1:
        raise ClipRobustError(
            f"the repository holds tables of {len(folders)} data sets ({', '.join(folders[:5])}); fetch one "
            "of them, save it with datasets' save_to_disk, and give hf:FOLDER"
        )
    return tables


def _words(name: str) -> list[str]:
    return re.split(r"[/._-]", name.removesuffix(".parquet"))


def as_saved(folder: Path, wanted: str) -> Path:
    """Return a folder in ``save_to_disk``'s form with the rows of the tables below ``folder``, made once.

    Args:
        folder: a snapshot in huggingface_hub's cache; what is made lies beside all snapshots.
        wanted: the data set, as a message calls it.

    Raises:
        Unavailable: pyarrow is not installed, or there is no room.
        ClipRobustError: a table cannot be read, or its classes are numbers without names.
    """
    made = folder.parent.parent / f".pytest-cliprobust-arrow-{folder.name}"
    if made.is_dir():
        return made
    tables = sorted(folder.rglob("*.parquet"))
    unfinished = Path(tempfile.mkdtemp(prefix=f"{made.name}-", dir=made.parent))
    try:
        _write(tables, unfinished, wanted)
        try:
            unfinished.rename(made)
        except OSError:
            if not made.is_dir():  # another process may have been faster
                raise
    except OSError as error:
        raise Unavailable(
            f"{wanted}: its tables cannot be written as arrow files beside them ({brief(error)}); make room"
        ) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return made


def _write(tables: Sequence[Path], folder: Path, wanted: str) -> None:
    try:
        arrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise Unavailable(
            f"{wanted} is of tables (Parquet), which need pyarrow: pip install 'pytest-cliprobust[arrow]'"
        ) from None
    name = "data-00000-of-00001.arrow"
    try:
        first = parquet.ParquetFile(tables[0])
        schema = first.schema_arrow
        features = _features(schema, wanted)
        with (folder / name).open("wb") as file, arrow.ipc.new_stream(file, schema) as stream:
            for table in tables:
                for batch in parquet.ParquetFile(table).iter_batches(_ROWS):
                    stream.write_batch(batch)
    except (arrow.ArrowException, ValueError) as error:
        raise ClipRobustError(
            f"{wanted}: its tables cannot be read ({brief(error)}); fetch them anew"
        ) from None
    _write_json(folder / "dataset_info.json", {"features": features})
    _write_json(folder / "state.json", {"_data_files": [{"filename": name}]})


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
    os.chmod(path, 0o644)


def _features(schema: Any, wanted: str) -> dict[str, Any]:
    """Return what the columns of a table are, as ``datasets`` describes them.

    Raises:
        ClipRobustError: the classes are numbers, and nothing says what these stand for.
    """
    told = (schema.metadata or {}).get(b"huggingface")
    known: dict[str, Any] = json.loads(told)["info"]["features"] if told else {}
    features = {name: known.get(name, {"_type": "Value"}) for name in schema.names}
    for name in schema.names:
        kind = str(schema.field(name).type)
        if name in known:
            continue
        if kind.startswith("struct") and "bytes: binary" in kind:
            features[name] = {"_type": "Image"}
        elif name in ("label", "labels", "fine_label") and "int" in kind:
            raise ClipRobustError(
                f"{wanted}: its column {name!r} holds numbers, and nothing in the table says which classes "
                "they are; save it with datasets' save_to_disk with a ClassLabel, and give hf:FOLDER"
            )
    return features

"""WebDataset shards in the form of CLIP_benchmark and DataComp: ``wds:FOLDER``.

``FOLDER/test/0.tar`` and on (or the tars themselves in FOLDER), with ``classnames.txt``,
``zeroshot_classification_templates.txt`` and ``dataset_type.txt`` beside. A sample is a picture (webp, png,
jpg, jpeg), its class (``.cls``) or captions (``.txt``, one a line), and metadata (``.npy`` beside ``.cls``:
the groups of WILDS and the fairness sets), which become the columns ``metadata_0`` and on. Where
``dataset_type.txt`` says ``multilabel``, ``.npy`` holds 0 or 1 for each class, and any of these is right.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from torch import Tensor

from pytest_cliprobust.datasets.fingerprints import fingerprints, joined
from pytest_cliprobust.datasets.layouts.imagefolder import natural_key
from pytest_cliprobust.datasets.listed import Labels, Listed, Row, in_rounds, tree_of
from pytest_cliprobust.datasets.reading import decode_image
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.datasets.templates import checked_templates
from pytest_cliprobust.errors import ClipRobustError, UnreadableSample, brief, one_line
from pytest_cliprobust.files import own_name

PICTURES = ("webp", "png", "jpg", "jpeg")
CLASSES, TEMPLATES = "classnames.txt", "zeroshot_classification_templates.txt"

#: What a reader must know of data with several labels a sample.
SEVERAL = "samples have several labels: an answer is right if it is one of them; calibration takes the first"


@dataclass(frozen=True)
class Member:
    """Where a picture lies in a shard, in bytes."""

    start: int
    length: int


class Shards(Listed):
    """Samples whose pictures lie in tar files; a row's path is that of its shard."""

    members: Mapping[str, Member]

    def __init__(
        self,
        name: str,
        root: Path,
        rows: Sequence[Row],
        labels: Labels,
        members: Mapping[str, Member],
        **options: Unpack[LayoutOptions],
    ) -> None:
        self.members = members
        super().__init__(name, root, rows, labels, **options)

    def _fingerprints(self) -> list[str]:
        shards = fingerprints(self.root, [row.path for row in self._rows])
        return [
            joined([shard, repr(self.members[row.id])])
            for shard, row in zip(shards, self._rows, strict=True)
        ]

    def picture(self, row: Row) -> Tensor:
        """Return the picture of a sample, (3, H, W) uint8.

        Raises:
            ClipRobustError: it cannot be read.
        """
        member = self.members[row.id]
        shard = self.root / row.path
        try:
            with shard.open("rb") as file:
                file.seek(member.start)
                content = file.read(member.length)
        except OSError as error:
            raise UnreadableSample(
                f"cannot read picture {row.id!r} of {str(shard)!r} ({brief(error)}); fetch the shard anew",
                brief(error),
            ) from error
        return decode_image(content, f"{row.id!r} of {str(shard)!r}")


@register_layout(
    "wds",
    path="the folder around test, or of the tars",
    source="CLIP_benchmark (github.com/LAION-AI/CLIP_benchmark) and DataComp (datacomp.ai)",
    licence="as each data set's",
)
def wds(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return the samples of shards.

    Raises:
        ClipRobustError: there are no shards, one is no tar (a pointer of git LFS, say), a label is no class.
    """
    folder = Path(root)
    tree_of(folder, "wds")
    several = _is_multilabel(folder)
    found = read_shards(folder, several=several)
    name = f"wds:{own_name(str(folder))}"
    data = found.samples(name, in_rounds(found.rows), Labels(found.names), **options)
    if several:
        data.notes = (SEVERAL,)
    if found.templates:
        data.templates = checked_templates(  # type: ignore[attr-defined]
            found.templates, str(found.around / TEMPLATES)
        )
    return data


@dataclass(frozen=True)
class Found:
    """What lies in a folder of shards.

    Attributes:
        root: the folder of the tars.
        around: the folder of the texts beside.
        names: lines of ``classnames.txt``.
        templates: lines of ``zeroshot_classification_templates.txt``.
        rows: the samples, in the order of the shards.
        members: by id, where its picture lies.
    """

    root: Path
    around: Path
    names: tuple[str, ...]
    templates: tuple[str, ...]
    rows: tuple[Row, ...]
    members: Mapping[str, Member]

    def samples(
        self, name: str, rows: Sequence[Row], labels: Labels, **options: Unpack[LayoutOptions]
    ) -> Shards:
        """Return some of the samples, with these labels, as a data set."""
        return Shards(name, self.root, rows, labels, self.members, **options)


def read_shards(folder: Path, *, several: bool = False) -> Found:
    """Return what lies in a folder of shards.

    Args:
        folder: around the tars, or of them.
        several: whether ``.npy`` marks all classes of a sample, and is no metadata.

    Raises:
        ClipRobustError: there are no shards, one is no tar, or a label is no class.
    """
    inner, around = _places(folder)
    names = _lines(around / CLASSES)
    samples = [
        pair
        for shard in _shards(inner)
        for pair in _samples(shard, inner, len(names), several=several)
    ]
    return Found(
        inner,
        around,
        names,
        _lines(around / TEMPLATES),
        tuple(row for row, _ in samples),
        {row.id: member for row, member in samples},
    )


def _is_multilabel(folder: Path) -> bool:
    return " ".join(_lines(_places(folder)[1] / "dataset_type.txt")) == "multilabel"


def _places(folder: Path) -> tuple[Path, Path]:
    """Return the folder of the tars, and that of the texts beside."""
    inner = folder / "test" if (folder / "test").is_dir() else folder
    return inner, folder if (folder / CLASSES).exists() else inner.parent


def _lines(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def _shards(folder: Path) -> list[Path]:
    """Return the tars in the order of their numbers; as many as nshards.txt says, where it is there."""
    found = sorted(folder.glob("*.tar"), key=lambda path: natural_key(path.name))
    if not found:
        raise ClipRobustError(
            f"wds: {str(folder)!r} has no tar files; check the path of the data set"
        )
    told = folder / "nshards.txt"
    if told.is_file():
        text = one_line(told.read_text(encoding="utf-8").strip())[:40]
        if not re.fullmatch(r"\d+", text) or int(text) != len(found):
            raise ClipRobustError(
                f"wds: {str(folder)!r} has {len(found)} tar files, and nshards.txt says "
                f"{text or 'nothing'}; fetch the rest"
            )
    return found


def _samples(
    shard: Path, root: Path, classes: int, *, several: bool
) -> Iterator[tuple[Row, Member]]:
    """Yield the samples of a shard, each with the place of its picture."""
    parts: dict[str, dict[str, tuple[Member, bytes]]] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for entry in archive:
                if not entry.isfile():
                    continue
                inner, slash, name = entry.name.removeprefix("./").rpartition("/")
                stem, _, ending = name.partition(".")
                key = f"{inner}{slash}{stem}"  # files of one name in two folders are two samples
                small = ending not in PICTURES
                file = archive.extractfile(entry) if small else None
                content = file.read() if file is not None else b""
                place = Member(entry.offset_data, entry.size)
                parts.setdefault(key, {})[ending.lower()] = (place, content)
            whole = _is_whole(archive)
    except (tarfile.TarError, OSError) as error:
        if parts:
            raise _cut_off(shard) from None
        raise ClipRobustError(
            f"wds: {str(shard)!r} is no tar file ({brief(error)}); if git LFS left a pointer, fetch the file"
        ) from None
    if not whole:
        # The library stops there without a word, and the samples behind would be missing from every figure.
        raise _cut_off(shard)
    for key, found in parts.items():
        picture = next((found[e][0] for e in PICTURES if e in found), None)
        if picture is not None:
            where = f"{shard.name}, {key}"
            if several:
                columns, (label, *further) = {}, _all_labels(found, classes, where)
            else:
                columns, further = _metadata(found), []
                label = _label(found, classes, where)
            captions = found.get("txt", (picture, b""))[1].decode("utf-8", "replace").splitlines()
            row = Row(
                f"{shard.stem}/{key}",
                shard.relative_to(root).as_posix(),
                label,
                columns,
                tuple(text.strip() for text in captions if text.strip()),
                further=tuple(further),
            )
            yield row, picture


def _cut_off(shard: Path) -> ClipRobustError:
    return ClipRobustError(f"wds: {str(shard)!r} is cut off in its middle; fetch the file anew")


def _is_whole(archive: tarfile.TarFile) -> bool:
    """Return whether an archive whose entries are read ends as POSIX says: with a block of zeros."""
    if archive.fileobj is None:
        return False
    archive.fileobj.seek(archive.offset)
    block = archive.fileobj.read(tarfile.BLOCKSIZE)
    return len(block) == tarfile.BLOCKSIZE and not any(block)


def _label(found: Mapping[str, tuple[Member, bytes]], classes: int, where: str) -> int:
    if "cls" not in found:
        return -1
    text = found["cls"][1].decode("utf-8", "replace").strip()
    if not classes:
        raise ClipRobustError(
            f"wds: {where} has the label {text!r}, and no class has a name; put {CLASSES} there, a name "
            "a line"
        )
    if not text.isdecimal() or int(text) >= classes:
        raise ClipRobustError(
            f"wds: {where}: the label {text!r} is none of the {classes} classes of classnames.txt"
        )
    return int(text)


def _all_labels(
    found: Mapping[str, tuple[Member, bytes]], classes: int, where: str
) -> tuple[int, ...]:
    """Return the classes of a sample that may have several; -1 alone for none.

    ``.npy`` holds 0 or 1 for each class.
    """
    marks = np.ravel(_array(found)) if "npy" in found else np.zeros(0)
    if len(marks) != classes or not np.isin(marks, (0, 1)).all():
        raise ClipRobustError(
            f"wds: {where}: its labels (.npy) are not 0 or 1 for each of the {classes} classes of "
            "classnames.txt"
        )
    return tuple(np.flatnonzero(marks).tolist()) or (-1,)


def _metadata(found: Mapping[str, tuple[Member, bytes]]) -> dict[str, str]:
    if "npy" not in found:
        return {}
    return {f"metadata_{n}": str(value) for n, value in enumerate(np.ravel(_array(found)).tolist())}


def _array(found: Mapping[str, tuple[Member, bytes]]) -> Any:
    try:
        return np.load(io.BytesIO(found["npy"][1]), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ClipRobustError(f"wds: metadata cannot be read ({brief(error)})") from None

"""DataComp's evaluation (Gadre et al. 2023) as one pack: ``datacomp:FOLDER``, as its script fills it.

``FOLDER/wds_<task>_test/`` holds the shards of a task ("/" of its key written "-", a leading ``fairness/``
left out), with ``classnames.txt`` and the templates beside; ``FOLDER/hf_cache/nlphuji___<name>/`` the three
image-and-text tasks as Arrow files, as the library ``datasets`` caches them. A folder of a single task is
read alone. Keys, metrics and the order of metadata are those of tasklist.yml and eval_utils in
github.com/mlfoundations/datacomp.

Every task plays ``tasks``, under its own classes. ImageNet also plays ``clean``, its variants ``shift``,
ImageNet-O ``near_ood``, Flickr30k and COCO ``retrieval``.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from torch import Tensor

from pytest_cliprobust.datasets.fingerprints import fingerprints, joined
from pytest_cliprobust.datasets.layouts.wds import Found, read_shards
from pytest_cliprobust.datasets.listed import Labels, Listed, Row, in_rounds
from pytest_cliprobust.datasets.reading import decode_image
from pytest_cliprobust.datasets.registry import LayoutOptions, Part, register_layout
from pytest_cliprobust.datasets.templates import checked_templates
from pytest_cliprobust.errors import ClipRobustError, Unavailable, brief, did_you_mean
from pytest_cliprobust.figures.samples import Task

#: How many tasks the published mean is over.
OF = 38

_CACHE = "hf_cache"
_MEAN_PER_CLASS = Task("balanced_accuracy", "", "datacomp", OF)
_ACCURACY = Task("accuracy", "", "datacomp", OF)
_RECALL = Task("mean_recall_at_1", "", "datacomp", OF)


@dataclass(frozen=True)
class _Known:
    """What is known of a task beside its files.

    Attributes:
        task: what it is judged by.
        roles: what else it plays.
        columns: what its metadata are, in their order.
        restricted: whether its classes are a part of those of ``clean``.
    """

    task: Task = _ACCURACY
    roles: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    restricted: bool = False


def _worst(column: str, metric: str = "worst_group_accuracy") -> Task:
    return Task(metric, column, "datacomp", OF)


#: The tasks by the name of their folder.
_PLAIN = (
    *("cifar10", "vtab-cifar100", "vtab-clevr_count_all", "vtab-clevr_closest_object_distance"),
    *("country211", "vtab-dtd", "vtab-eurosat", "food101", "gtsrb", "mnist", "objectnet"),
    *("vtab-kitti_closest_vehicle_distance", "voc2007", "vtab-pcam", "renderedsst2"),
    *("vtab-resisc45", "cars", "stl10", "sun397", "vtab-svhn"),
)
_FACES = _Known(Task("worst_group_accuracy", "race"), (), ("age", "gender", "race", "race_binary"))
TASKS: Mapping[str, _Known] = {
    **dict.fromkeys(_PLAIN, _Known()),
    **dict.fromkeys(
        ("vtab-caltech101", "fgvc_aircraft", "vtab-flowers", "vtab-pets"), _Known(_MEAN_PER_CLASS)
    ),
    "imagenet1k": _Known(roles=("clean",)),
    "imagenetv2": _Known(roles=("shift",)),
    "imagenet_sketch": _Known(roles=("shift",)),
    "imagenet-a": _Known(roles=("shift",), restricted=True),
    "imagenet-r": _Known(roles=("shift",), restricted=True),
    "imagenet-o": _Known(roles=("near_ood",)),
    "wilds-iwildcam": _Known(
        Task("macro_f1", "", "datacomp", OF),
        (),
        ("location", "sequence", "year", "month", "day", "hour", "minute", "second", "y"),
    ),
    "wilds-camelyon17": _Known(columns=("hospital", "slide", "y")),
    "wilds-fmow": _Known(_worst("region"), (), ("region", "year", "y")),
    "dollar_street": _Known(
        _worst("income", "worst_group_top5_accuracy"), (), ("income", "income_meta", "region")
    ),
    "geode": _Known(_worst("region"), (), ("region", "country")),
    "fairface": _FACES,
    "utkface": _FACES,
    "flickr_1k_test_image_text_retrieval": _Known(_RECALL, ("retrieval",)),
    "mscoco_2014_5k_test_image_text_retrieval": _Known(_RECALL, ("retrieval",)),
    "winogavil": _Known(Task("jaccard_index", "", "datacomp", OF)),
}

#: Of the four questions that FairFace and UTKFace ask, the one whose answers are compared between races.
_QUESTION = "gender"


def parts(folder: Path) -> list[Part]:
    """Return the tasks that lie in a folder, each once for every role; none in that of a single task."""
    if not folder.is_dir() or _is_task(folder):
        return []
    found = {task_key(path.name): path for path in sorted(folder.glob("wds_*")) if path.is_dir()}
    found |= {task_key(path.name): path for path in sorted((folder / _CACHE).glob("*___*"))}
    known = [(key, found[key]) for key in TASKS if key in found]
    if not known:
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
        raise ClipRobustError(
            f"datacomp: {str(folder)!r} should hold folders wds_<task>_test, such as wds_imagenet1k_test, or "
            f"{_CACHE}; it has {there}"
        )
    return [
        Part(role, "datacomp", key, str(path))
        for key, path in known
        for role in ("tasks", *TASKS[key].roles)
    ]


def task_key(name: str) -> str:
    """Return the task that a folder, or a repository, is named after."""
    if "___" in name:
        return name.partition("___")[2]
    return name.removeprefix("wds_").removesuffix("_test")


def _is_task(folder: Path) -> bool:
    return (
        (folder / "test").is_dir()
        or any(folder.glob("*.tar"))
        or ("___" in folder.name and any(folder.rglob("*.arrow")))
    )


@register_layout(
    "datacomp",
    plays=("tasks",),
    path="the folder of wds_<task>_test and hf_cache, or one of those in it",
    source="Gadre et al. 2023, github.com/mlfoundations/datacomp",
    licence="as each data set's",
    parts=parts,
)
def datacomp(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return the samples of one task.

    Raises:
        ClipRobustError: the folder is no task's, or its files are damaged.
        Unavailable: it holds Arrow files, and pyarrow is not installed.
    """
    folder = Path(root)
    key = task_key(folder.name)
    if key in TASKS and folder.is_dir() and not _is_task(folder):
        raise ClipRobustError(
            f"datacomp: {str(folder)!r} has neither tar files (test/0.tar) nor files of {_CACHE}; fetch them"
        )
    if key not in TASKS or not _is_task(folder):
        raise ClipRobustError(
            f"datacomp: {str(folder)!r} should be wds_<task>_test with test/0.tar, or a folder of "
            f"{_CACHE}.{did_you_mean(key, TASKS)} Tasks are {', '.join(TASKS)}"
        )
    name = f"datacomp:{key}"
    if any(folder.rglob("*.arrow")):
        return _judged(_cached(name, folder, **options), TASKS[key])
    return task_of_shards(name, folder, key, **options)


def task_of_shards(name: str, folder: Path, key: str, **options: Unpack[LayoutOptions]) -> Listed:
    """Return the samples of a task's shards, with the metadata and the metric that it is known to have.

    Args:
        name: of the data set.
        folder: around the shards.
        key: of the task, one of :data:`TASKS`.
        options: as for every layout.

    Raises:
        ClipRobustError: the shards are damaged.
    """
    known = TASKS[key]
    return _judged(_of_shards(name, read_shards(folder), known, **options), known)


def _judged(data: Listed, known: _Known) -> Listed:
    data.task = known.task  # type: ignore[attr-defined]
    data.subgroups = tuple(c for c in (known.task.column,) if c)  # type: ignore[attr-defined]
    return data


# --- Shards ----------------------------------------------------------------------------------------


def _of_shards(name: str, found: Found, known: _Known, **options: Unpack[LayoutOptions]) -> Listed:
    rows = [_with_columns(row, known.columns) for row in found.rows]
    names, templates = found.names, found.templates
    if known is _FACES:
        names, templates = _answers(names), _answers(templates)
        rows = [_with_label(row, len(names), name) for row in rows]
    data = found.samples(name, in_rounds(rows), Labels(names, (), known.restricted), **options)
    if templates:
        data.templates = checked_templates(templates, name)  # type: ignore[attr-defined]
    return data


def _with_columns(row: Row, columns: Sequence[str]) -> Row:
    """Return a row whose metadata have names."""
    values = list(row.columns.values())
    named = [columns[n] if n < len(columns) else f"metadata_{n}" for n in range(len(values))]
    return replace(row, columns=dict(zip(named, values, strict=True)))


def _with_label(row: Row, classes: int, name: str) -> Row:
    """Return a row of a face whose label is the answer to the question."""
    text = row.columns.get(_QUESTION, "")
    if not text.isdecimal() or int(text) >= classes:
        raise ClipRobustError(
            f"{name}: {row.id}: {_QUESTION} {text!r} is none of the {classes} of classnames.txt"
        )
    return replace(row, label=int(text))


def _answers(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the lines that belong to the question, which stands before a colon."""
    split = (line.partition(":") for line in lines)
    return tuple(rest for question, _, rest in split if question == _QUESTION)


# --- Arrow files -----------------------------------------------------------------------------------


class Cached(Listed):
    """Samples whose pictures lie in Arrow files; a row's path is that of its file.

    ``pictures`` gives the bytes of a picture by the id of its sample.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        rows: Sequence[Row],
        pictures: Mapping[str, Any],
        **options: Unpack[LayoutOptions],
    ) -> None:
        self.pictures = pictures
        super().__init__(name, root, rows, Labels(), unit="cue", **options)

    def _fingerprints(self) -> list[str]:
        files = fingerprints(self.root, [row.path for row in self._rows])
        return [joined([file, row.id]) for file, row in zip(files, self._rows, strict=True)]

    def picture(self, row: Row) -> Tensor:
        """Return the picture of a sample, (3, H, W) uint8.

        Raises:
            ClipRobustError: it cannot be read.
        """
        try:
            content: bytes = self.pictures[row.id].as_py()["bytes"]
        except (KeyError, TypeError, ValueError) as error:
            raise ClipRobustError(
                f"cannot read picture {row.id!r} of {str(self.root / row.path)!r} ({brief(error)}); fetch "
                "the file anew"
            ) from error
        return decode_image(content, f"{row.id!r} of {str(self.root / row.path)!r}")


def _cached(name: str, folder: Path, **options: Unpack[LayoutOptions]) -> Listed:
    """Return the samples of a task in Arrow files: pictures with captions, or candidates of cues."""
    rows: list[Row] = []
    pictures: dict[str, Any] = {}
    for path in sorted(folder.rglob("*.arrow")):
        table = _table(path)
        file, columns = path.relative_to(folder).as_posix(), set(table.column_names)
        if {"image", "caption"} <= columns:
            found = _captioned(table, file, len(rows))
        elif {"candidate_images", "cue", "candidates", "associations"} <= columns:
            found = _candidates(table, file, len(rows))
        else:
            raise ClipRobustError(
                f"{name}: {str(path)!r} should have columns image and caption, or those of WinoGAViL; it has "
                f"{', '.join(sorted(columns)) or 'none'}"
            )
        for row, picture in found:
            rows.append(row)
            pictures[row.id] = picture
    return Cached(name, folder, rows, pictures, **options)


def _table(path: Path) -> Any:
    try:
        arrow = importlib.import_module("pyarrow")
    except ImportError:
        raise Unavailable(f"{str(path)!r} needs pyarrow to be read: pip install pyarrow") from None
    try:
        return arrow.ipc.open_stream(arrow.memory_map(str(path))).read_all()
    except (arrow.ArrowInvalid, OSError) as error:
        raise ClipRobustError(f"{str(path)!r} is no Arrow file ({brief(error)})") from None


def _captioned(table: Any, file: str, start: int) -> Iterator[tuple[Row, Any]]:
    captions, images = table["caption"].to_pylist(), table["image"]
    for number, texts in enumerate(captions):
        own = (texts,) if isinstance(texts, str) else tuple(texts)
        yield Row(str(start + number), file, captions=own), images[number]


def _candidates(table: Any, file: str, start: int) -> Iterator[tuple[Row, Any]]:
    """Yield each candidate of each cue, with the prompt of the reference."""
    told = zip(
        *(table[column].to_pylist() for column in ("cue", "candidates", "associations")),
        strict=True,
    )
    for number, (cue, candidates, associations) in enumerate(told):
        images = table["candidate_images"][number]
        word = str(cue).lower()
        prompt = f"{'An' if word[:1] in set('aeiou') else 'A'} {word}"
        for place, candidate in enumerate(candidates):
            columns = {
                "instance": f"{start}+{number}",
                "associated": str(int(candidate in associations)),
                "candidates": str(len(candidates)),
            }
            row = Row(
                f"{start}+{number}/{place}",
                file,
                columns=columns,
                captions=(prompt,),
                unit=f"{start}+{number}",
            )
            yield row, images[place]

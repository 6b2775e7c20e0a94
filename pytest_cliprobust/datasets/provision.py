"""The data of a run: loaded as the user wrote it, and prepared for the role that it plays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from pytest_cliprobust.datasets.base import Dataset, Frame, PairedDataset
from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.datasets.loading import load_dataset, load_source
from pytest_cliprobust.datasets.prepared import (
    CALIBRATION_LEAST,
    Prepared,
    aligned,
    named_by,
    split,
    with_own_classes,
    with_settings,
    without_labels,
)
from pytest_cliprobust.datasets.providers import CALIBRATION, Provider, is_of_files
from pytest_cliprobust.datasets.roles import (
    EMBEDDED,
    FLAG,
    LABELLED,
    OWN_CLASSES,
    ROLES,
    WITHOUT_LABEL,
)
from pytest_cliprobust.datasets.skipping import Skipped, without
from pytest_cliprobust.datasets.sources import Settings, Source
from pytest_cliprobust.datasets.subset import whole_of
from pytest_cliprobust.datasets.templates import unfit
from pytest_cliprobust.errors import ClipRobustError, NotRun, one_line
from pytest_cliprobust.figures.arrays import Bools

#: What the data of a role must have, as (columns of ``groups``, attributes), of which one is enough.
_NEEDS = {
    "cue_conflict": (("shape_label", "texture_label"), ()),
    "factors": (("factor",), ()),
    "corrupted": (("corruption", "severity"), ()),
    "typographic": (("written_label",), ()),
    "retrieval": ((), ("captions",)),
    "compositional": ((), ("choices", "captions")),
}


class Provision:
    """Loads data sets by role, by key or by name; each once.

    Args:
        provider: who plays which role.
        profile: how many embedded samples.
        frame: how the model under test frames a picture.
        size: longer side of the pictures in pixels.
        templates: the user's own prompt templates for the data that plays ``clean``; () for none.
        unreadable: says which samples (N,) of a data set are to be left out, as they cannot be read; None
            where a sample that cannot be read ends the run.
        notes: what is told of the data is added here.

    Attributes:
        skipped: what was left out of data sets, by their names; of a data set that several limits were
            asked of, of the largest part.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        profile: str = "standard",
        frame: Frame | None = None,
        size: int = 224,
        templates: tuple[str, ...] = (),
        unreadable: Callable[[Dataset], Bools] | None = None,
        notes: list[str] | None = None,
    ) -> None:
        self.provider = provider
        self.skipped: dict[str, Skipped] = {}
        self._unreadable = unreadable
        self._notes = [] if notes is None else notes
        self._profile = profile
        self._frame = frame
        self._size = size
        self._templates = templates
        self._known: dict[tuple[str, int | None], Dataset] = {}
        self._roots: dict[str, Path] = {}

    def dataset(self, name: str, limit: int | None = None) -> Dataset:
        """Return the data set that plays a role, or that a key or a name means.

        Raises:
            NotRun: nothing plays the role.
            ClipRobustError: no such data set, nothing readable in it, or it lacks what its role needs.
        """
        key = self.provider.one(name) if name in ROLES else name
        if (key, limit) not in self._known:
            data = self._prepared(key, limit)
            self._check_name(data)
            check_texts(self.provider.role_of(key), data)
            self._known[key, limit] = data
        return self._known[key, limit]

    def loaded(self, key: str, limit: int | None = None) -> Dataset:
        """Return a data set by its key as it lies there, with what the user says of it.

        Raises:
            ClipRobustError: it cannot be read, or lacks what its role needs.
        """
        source, role = self.provider.sources.get(key), self.provider.role_of(key)
        data = self._load(key, limit) if source is None else self._loaded(source, limit, role)
        check_role(role, data)
        check_texts(role, data)
        return data

    def _prepared(self, key: str, limit: int | None) -> Dataset:
        source = self.provider.sources.get(key.removesuffix(CALIBRATION))
        role = self.provider.role_of(key)
        if source is None:
            data = self._load(key, limit)
            return self._with_templates(data) if role == "clean" else data
        if key.endswith(CALIBRATION):
            return self._calibration(source, limit)
        data = self._loaded(source, limit, role)
        if self._is_split(source):
            part = split(partial(self._loaded, source, role=role), limit, calibration=False)
            data = data if part is None else part
        check_role(role, data)
        if role in WITHOUT_LABEL:
            return without_labels(data)
        if role in OWN_CLASSES:
            return with_own_classes(data)
        if role in LABELLED - {"clean"}:
            return aligned(data, self.dataset("clean", 1), role)
        if role == "cue_conflict":
            return named_by(data, self.dataset("clean", 1))
        return data

    def _loaded(self, source: Source, limit: int | None, role: str) -> Dataset:
        """Return a data set of the user's with what the user says of it, not yet prepared for its role."""
        chosen = bool(source.settings.labels)  # of a prefix none may be left
        data = load_source(
            source,
            profile=self._profile,
            limit=None if chosen else limit,
            frame=self._frame,
            size=self._size,
        )
        if is_of_files(source):
            data.name = self.provider.name_of(source.text)
        clean = role == "clean"
        named = bool(source.settings.classes)  # then what its layout calls them is not asked
        data = self._looked_at(data, is_clean=clean and not named)
        data = with_settings(data, source.settings, is_clean=clean)
        if chosen and limit is not None and limit < len(data):
            data = Prepared(data, range(limit))
        return self._with_templates(data) if clean and not source.settings.templates else data

    def _with_templates(self, data: Dataset) -> Dataset:
        if not self._templates:
            return data
        settings = Settings(templates=self._templates)
        return with_settings(data, settings, is_clean=True)

    def _load(self, name: str, limit: int | None) -> Dataset:
        data = load_dataset(
            name, profile=self._profile, limit=limit, frame=self._frame, size=self._size
        )
        return self._looked_at(data, is_clean=self.provider.role_of(name) == "clean")

    def _looked_at(self, data: Dataset, *, is_clean: bool) -> Dataset:
        """Return a data set without the samples that cannot be read, where they are to be left out.

        Args:
            data: as its layout has it.
            is_clean: whether its classes are the label set, by the names that its layout gives them.

        Raises:
            ClipRobustError: its classes are no label set, or it cannot be read.
        """
        if one_line(data.name) != data.name:  # a layout of the user's may call it anything
            data.name = one_line(data.name)
        mistake = getattr(data, "label_mistake", None) if is_clean else None
        if mistake is not None:
            raise ClipRobustError(f"{data.name}: {mistake}")
        wrong = getattr(data, "unreadable", None)
        if wrong is not None and self._unreadable is None:
            raise ClipRobustError(f"{data.name}: {wrong}")
        told = (f"{data.name}: {note}" for note in getattr(data, "notes", ()))
        self._notes += [note for note in told if note not in self._notes]
        if self._unreadable is None or isinstance(data, EmbeddedDataset):
            return data
        kept, skipped = without(data, self._unreadable(data))
        before = self.skipped.get(data.name)
        if skipped is not None and (before is None or before.total < skipped.total):
            self.skipped[data.name] = skipped
        return kept

    def _is_split(self, source: Source) -> bool:
        """Return whether a fifth of this data calibrates, and so must not be measured."""
        keys = self.provider.of("calibration")
        if len(keys) != 1 or not keys[0].endswith(CALIBRATION):
            return False
        clean = self.provider.sources[keys[0].removesuffix(CALIBRATION)]
        return (clean.layout, _place(clean)) == (source.layout, _place(source))

    def _calibration(self, source: Source, limit: int | None) -> Dataset:
        part = split(partial(self._loaded, source, role="clean"), limit, calibration=True)
        if part is None:
            raise NotRun(
                self.provider.lacking(
                    "calibration",
                    f", of which a fifth calibrates it from {CALIBRATION_LEAST} samples on",
                )
            )
        return part

    def _check_name(self, data: Dataset) -> None:
        """Raise if another folder's data has that name already: their figures would be one."""
        root = getattr(whole_of(data), "root", None)
        if root is None:
            return
        place = Path(root).resolve()
        other = self._roots.setdefault(data.name, place)
        if other != place:
            raise ClipRobustError(
                f"two data sets are called {data.name!r}, {other} and {place}: write NAME=PATH for one of "
                "them"
            )


def _place(source: Source) -> str:
    return source.path if source.layout == EMBEDDED else str(Path(source.path).resolve())


def check_role(role: str, data: Dataset) -> None:
    """Raise if a data set lacks what a role needs.

    Raises:
        ClipRobustError: it does; the message says what, and how a layout gives it.
    """
    columns, attributes = _NEEDS.get(role, ((), ()))
    missing = [column for column in columns if column not in data.groups]
    lacking = f"columns {' and '.join(map(repr, missing))}" if missing else ""
    if attributes and not any(any(getattr(data, name, ())) for name in attributes):
        lacking = " or ".join(attributes)
    if role in ("correspondence", "semantic_correspondence"):
        lacking = "" if isinstance(whole_of(data), PairedDataset) else "pairs of pictures"
    labelled = any(label >= 0 for label in data.labels)
    if role in LABELLED and not labelled:
        lacking = "labels"
    if role in OWN_CLASSES and not labelled and not any(getattr(data, "captions", ())):
        lacking = "labels or captions"
    if lacking:
        raise ClipRobustError(
            f"{FLAG} {role}=…: data set {data.name!r} has no {lacking}, which {role} needs ({ROLES[role]}); "
            "give data in a layout that has them (`cliprobust data list`), or a manifest with such columns"
        )


def check_texts(role: str, data: Dataset) -> None:
    """Raise if prompts would hold letters that nobody sees: all texts of all data pass here.

    Names of classes, their texts and templates, wherever they come from (folders, ``classes.txt``, a
    manifest, a TOML file, a layout), as far as the role makes prompts of them; captions and statements.

    Raises:
        ClipRobustError: one does, in one line that shows it escaped.
    """
    named = role in LABELLED or role in OWN_CLASSES
    kinds = ("class_names", "phrases", "texts", "own_texts") if named else ()
    for name, what, lines in (
        *((kind, "class", False) for kind in kinds),
        *((kind, "template", False) for kind in ("templates", "own_templates")),
        *((kind, "caption", True) for kind in ("captions", "choices")),
    ):
        for text in _texts_in(getattr(data, name, None) or ()):
            if unfit(text, lines=lines):
                raise ClipRobustError(
                    f"{data.name}: {what} '{one_line(text)[:80]}' holds a control letter or the end of a "
                    "line, which no prompt is meant to; correct it where it is written"
                )


def _texts_in(values: Iterable[object]) -> Iterator[str]:
    """Return the texts in a sequence of texts, or of sequences of texts."""
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, tuple | list):
            yield from _texts_in(value)

"""A data set as its role wants it: part of its samples, labels of another label set, other texts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from pytest_cliprobust.datasets.base import Dataset
from pytest_cliprobust.datasets.roles import FLAG
from pytest_cliprobust.datasets.sources import Settings
from pytest_cliprobust.datasets.subset import Subset
from pytest_cliprobust.errors import ClipRobustError, did_you_mean, first_of

#: The part of ``clean`` that calibrates it where no other data does, and how many samples there must be.
CALIBRATION_SHARE, CALIBRATION_LEAST = 0.2, 50

#: So many classes are named in a message.
_NAMED = 3


class Prepared(Subset):
    """Some samples of a data set, with what else its role changes, as a data set.

    Its ``digest`` is that of its pictures; ``content`` also tells what was changed.

    Args:
        whole: the data set.
        rows: which samples, in this order.
        changed: attributes that are others than the whole's: ``labels``, ``class_names``, ``templates`` …

    Raises:
        ClipRobustError: no rows.
    """

    def __init__(self, whole: Dataset, rows: Sequence[int], **changed: object) -> None:
        if not rows:
            raise ClipRobustError(f"data set {whole.name!r} has no sample left for its role")
        super().__init__(whole, rows)
        for name, value in changed.items():
            setattr(self, name, value)
        content = getattr(whole, "content", whole.digest)
        if self.rows == tuple(range(len(whole))):
            # The same pictures: what a model made of them holds for both.
            self.digest = whole.digest
        told = repr((self.rows, sorted((k, v) for k, v in changed.items() if k != "name")))
        self.content = hashlib.sha256(f"{content}\0{told}".encode()).hexdigest()


def _every(data: Dataset) -> range:
    return range(len(data))


# --- What the user says of it ----------------------------------------------------------------------


def keys_of(data: Dataset) -> tuple[str, ...]:
    """Return what identifies the classes among data sets: wnids or the like, else their names."""
    return tuple(getattr(data, "class_keys", data.class_names))


def with_settings(data: Dataset, settings: Settings, *, is_clean: bool) -> Dataset:
    """Return a data set with the texts, labels and units that the user gave it.

    Raises:
        ClipRobustError: no such class or column; texts of classes for data that has no label set of its own.
    """
    if settings.units:
        data = _with_units(data, settings.units)
    if settings.labels:
        data = _of_labels(data, settings.labels)
    if settings.classes:
        if not is_clean:
            raise ClipRobustError(
                f"data set {data.name!r}: texts of classes belong to the data that plays clean, whose label "
                "set all others share; move classes there"
            )
        data = _with_texts(data, settings.classes)
    if settings.templates:
        name = "templates" if is_clean else "own_templates"
        data = Prepared(data, _every(data), **{name: settings.templates})
    return data


def _with_units(data: Dataset, column: str) -> Dataset:
    values = data.groups.get(column)
    if values is None:
        raise ClipRobustError(
            f"data set {data.name!r} has no column {column!r} for its units."
            f"{did_you_mean(column, data.groups)} Columns are {', '.join(data.groups) or 'none'}"
        )
    return Prepared(data, _every(data), units=values, unit=column)


def _index(data: Dataset, label: str) -> int:
    """Return the class that a user means by its key or its name."""
    for known in (keys_of(data), data.class_names):
        if label in known:
            return known.index(label)
    raise ClipRobustError(
        f"data set {data.name!r} has no class {label!r}."
        f"{did_you_mean(label, {*keys_of(data), *data.class_names})}"
    )


def _of_labels(data: Dataset, labels: Sequence[str]) -> Dataset:
    """Return the samples of some classes, with these for a label set."""
    chosen = sorted({_index(data, label) for label in labels})
    return of_classes(data, chosen, restricted=True)


def of_classes(data: Dataset, classes: Sequence[int], **changed: object) -> Dataset:
    """Return the samples of some classes, numbered anew in the order of ``classes``."""
    place = {label: number for number, label in enumerate(classes)}
    rows = [row for row, label in enumerate(data.labels) if label in place]
    parts = {
        name: tuple(value[label] for label in classes)
        for name in ("class_names", "class_keys", "phrases", "texts")
        if (value := getattr(data, name, None)) is not None
    }
    labels = tuple(place[data.labels[row]] for row in rows)
    if further := getattr(data, "further_labels", ()):
        kept = [[place[label] for label in further[row] if label in place] for row in rows]
        changed["further_labels"] = tuple(map(tuple, kept))
    return Prepared(data, rows, labels=labels, **parts, **changed)


def _with_texts(data: Dataset, classes: Mapping[str, tuple[str, ...]]) -> Dataset:
    phrases = getattr(data, "phrases", data.class_names)
    texts: list[tuple[str, ...]] = [(phrase,) for phrase in phrases]
    for name, own in classes.items():
        texts[_index(data, name)] = own
    first = tuple(own[0] for own in texts)
    return Prepared(data, _every(data), phrases=first, texts=tuple(texts))


def with_own_classes(data: Dataset) -> Dataset:
    """Return a data set that is answered by a zero-shot head of its own classes and templates."""
    phrases = getattr(data, "phrases", data.class_names)
    texts = getattr(data, "texts", tuple((phrase,) for phrase in phrases))
    return Prepared(data, _every(data), own_texts=tuple(texts))


# --- The label set of clean ------------------------------------------------------------------------


def aligned(data: Dataset, clean: Dataset, role: str) -> Dataset:
    """Return a data set whose labels are those of ``clean``.

    Classes meet by their keys, or else by name. If the data has a label set of its own that counts
    (ImageNet-R's 200 classes), the zero-shot head is restricted to it: ``head_rows`` says to which classes of
    ``clean``. Data that keeps its classes (``own_classes``) stays as it is.

    Raises:
        ClipRobustError: a class with samples is none of ``clean``.
    """
    if getattr(data, "own_classes", False):
        return data
    place = _places(data, clean)
    further = {label for own in getattr(data, "further_labels", ()) for label in own}
    used = sorted({*data.labels, *further} - {-1})
    missing = [data.class_names[label] for label in used if label not in place]
    if missing:
        shown = first_of([*map(repr, missing)], _NAMED)
        raise ClipRobustError(
            f"{role} {data.name!r} has classes that {clean.name!r} has not: {shown}."
            f"{did_you_mean(missing[0], clean.class_names)} Name its folders as those of clean, or choose "
            f"classes with labels = […] in a TOML file for {FLAG}"
        )
    if getattr(data, "restricted", False) and len(place) < len(clean.class_names):
        return _restricted(data, clean, place)
    labels = tuple(place.get(label, -1) for label in data.labels)
    changed = _further(data, place)
    if labels == tuple(data.labels) and data.class_names == clean.class_names:
        return data
    return Prepared(
        data,
        _every(data),
        labels=labels,
        class_names=clean.class_names,
        class_keys=keys_of(clean),
        **changed,
    )


def named_by(data: Dataset, clean: Dataset) -> Dataset:
    """Return a data set under the label set of ``clean``, whose zero-shot head answers it.

    Its own classes are those of ``clean`` where they are among them, and none else: of cue conflicts no
    label is asked for, but decisions are for classes of that head.
    """
    if getattr(data, "own_classes", False):
        return data
    place = _places(data, clean)
    return Prepared(
        data,
        _every(data),
        labels=tuple(place.get(label, -1) for label in data.labels),
        class_names=clean.class_names,
        class_keys=keys_of(clean),
    )


def _further(data: Dataset, place: Mapping[int, int]) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Return the classes that are right of samples beside their labels, in another label set."""
    further = getattr(data, "further_labels", ())
    if not further:
        return {}
    return {"further_labels": tuple(tuple(place[label] for label in own) for own in further)}


def _restricted(data: Dataset, clean: Dataset, place: Mapping[int, int]) -> Dataset:
    rows = tuple(sorted(place.values()))
    number = {row: index for index, row in enumerate(rows)}
    return Prepared(
        data,
        _every(data),
        labels=tuple(number[place[label]] if label in place else -1 for label in data.labels),
        class_names=tuple(clean.class_names[row] for row in rows),
        class_keys=tuple(keys_of(clean)[row] for row in rows),
        head_rows=rows,
        **_further(data, {label: number[row] for label, row in place.items()}),
    )


def _places(data: Dataset, clean: Dataset) -> dict[int, int]:
    """Return which class of ``clean`` each class of the data is, as far as it is one.

    Equal names (ImageNet's two cranes) meet in their order.
    """
    for ours, theirs in (
        (keys_of(data), keys_of(clean)),
        (data.class_names, clean.class_names),
        (keys_of(data), clean.class_names),
    ):
        known = {(name, turn): row for row, (name, turn) in enumerate(_turns(theirs))}
        found = {label: known[key] for label, key in enumerate(_turns(ours)) if key in known}
        if found:
            return found
    return {}


def _turns(names: Sequence[str]) -> list[tuple[str, int]]:
    """Return names with how often each occurred before."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        found.append((name, seen[name]))
        seen[name] += 1
    return found


def without_labels(data: Dataset) -> Dataset:
    """Return a data set none of whose samples has a class: its folders say nothing of the label set."""
    if not any(label >= 0 for label in data.labels):
        return data
    return Prepared(data, _every(data), labels=(-1,) * len(data))


# --- The split that calibrates ---------------------------------------------------------------------


def calibrates(unit: str) -> bool:
    """Return whether a sample belongs to the fifth that calibrates: by a hash of its id, or its unit's.

    So it does not depend on order, number or place of the other samples.
    """
    drawn = int.from_bytes(hashlib.sha256(unit.encode(errors="surrogateescape")).digest()[:8])
    return drawn < CALIBRATION_SHARE * 2.0**64


def split(
    load: Callable[[int | None], Dataset], limit: int | None, *, calibration: bool
) -> Dataset | None:
    """Return the part of a data set that calibrates, or the rest; None where it is too small to split.

    Args:
        load: loads the data set with at most so many samples.
        limit: at most so many samples of the part.
        calibration: whether the part that calibrates is asked for.
    """
    share = CALIBRATION_SHARE if calibration else 1.0 - CALIBRATION_SHARE
    asked = None if limit is None else max(CALIBRATION_LEAST, round(limit / share) + 16)
    while True:
        data = load(asked)
        units = getattr(data, "units", data.ids)
        if len(data) < CALIBRATION_LEAST:
            return None
        rows = [row for row, unit in enumerate(units) if calibrates(unit) == calibration]
        if asked is None or len(data) < asked or (limit is not None and len(rows) >= limit):
            break
        asked = round(asked * 1.5)
    name = f"{data.name}:calibration" if calibration else data.name
    return Prepared(data, rows[:limit], name=name) if rows else None

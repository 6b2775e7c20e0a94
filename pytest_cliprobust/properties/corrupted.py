"""Pictures that were corrupted before anybody loaded them (ImageNet-C, -3DCC): by condition, and the mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pytest_cliprobust.errors import ClipRobustError, NotRun, first_of
from pytest_cliprobust.figures.arrays import Ints
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.samples import Samples
from pytest_cliprobust.figures.taken import takes_samples
from pytest_cliprobust.properties.accuracy import (
    accuracy_drop_figure,
    accuracy_figure,
    mean_over_groups,
)
from pytest_cliprobust.properties.corruption import corruption_figures

#: The columns that say how a picture was corrupted, and which clean picture it was made of.
CORRUPTION, SEVERITY, CLEAN_ID = "corruption", "severity", "clean_id"

#: So many missing conditions are named in a message.
_NAMED = 3


@takes_samples
def corrupted_of(clean: Samples, samples: Samples) -> list[Figure]:
    """Return ``accuracy``, and where the clean pictures are there ``accuracy_drop``, of each condition.

    Filed as parts of the data set, ``imagenet-c:fog@3``. The column ``clean_id`` names the sample of
    ``clean`` that a picture was made of: the drop is over those that both have, paired.

    Raises:
        ClipRobustError: no columns ``corruption`` and ``severity``.
    """
    return list(_figures(clean, samples))


def _figures(clean: Samples, samples: Samples) -> Iterator[Figure]:
    place = {name: row for row, name in enumerate(clean.ids)}
    made_of = samples.groups.get(CLEAN_ID, ())
    for name, rows in _conditions(samples).items():
        condition = samples.condition.part(name)
        settings = samples.bootstrap.subset(rows)
        yield accuracy_figure(samples.correct[rows], bootstrap=settings).measured_on(condition)
        both = [row for row in rows.tolist() if made_of and made_of[row] in place]
        if both:
            before = np.array([place[made_of[row]] for row in both], dtype=np.int64)
            figure = accuracy_drop_figure(
                clean.correct[before],
                samples.correct[both],
                bootstrap=clean.bootstrap.subset(before),
            )
            yield figure.measured_on(condition)


@takes_samples
def means_over(clean: Samples, samples: Samples) -> list[Figure]:
    """Return ``mean_corruption_accuracy`` and its relatives over all conditions, each weighing the same.

    See :func:`.corruption.corruption_figures`. On the clean pictures that are there under every one; one
    minus the first is what is published for CIFAR-10-C and ImageNet-3DCC as their mean error. Pictures of
    which nothing says what they were made of have the first alone, over all of them: what is published for
    LAION-C as its average accuracy.

    Args:
        clean: the pictures that they were made of.
        samples: with the columns ``corruption``, ``severity`` (whole numbers) and, if known, ``clean_id``.

    Raises:
        NotRun: a single condition, a corruption lacks a severity that another has, or fewer than two clean
            pictures are there under all of them.
        ClipRobustError: another column is missing.
    """
    cells = _cells(samples)
    kinds, steps = (sorted(set(part)) for part in zip(*cells, strict=True)) if cells else ([], [])
    missing = [f"{kind}@{step}" for kind in kinds for step in steps if (kind, step) not in cells]
    if missing or len(cells) < 2:
        lacks = f"missing are {first_of(missing, _NAMED)}" if missing else "there is one at most"
        raise NotRun(
            f"{samples.condition}: the mean over corruptions and severities takes each of them; {lacks}"
        )
    if CLEAN_ID in samples.groups:
        figures = _of_clean(clean, samples, cells, kinds, steps)
    else:
        figures = [_of_all(samples, cells, kinds, steps)]
    return [figure.measured_on(samples.condition) for figure in figures]


def _cells(samples: Samples) -> dict[tuple[str, int], Ints]:
    """Return the rows of each corruption and severity that is a whole number."""
    columns = [column_of(samples, name) for name in (CORRUPTION, SEVERITY)]
    cells: dict[tuple[str, int], list[int]] = {}
    for row, (kind, step) in enumerate(zip(*columns, strict=True)):
        if step.isdecimal():
            cells.setdefault((kind, int(step)), []).append(row)
    return {key: np.array(rows, dtype=np.int64) for key, rows in cells.items()}


def _of_all(
    samples: Samples,
    cells: Mapping[tuple[str, int], Ints],
    kinds: Sequence[str],
    steps: Sequence[int],
) -> Figure:
    """Return the mean of the conditions' accuracies, on all pictures."""
    order = [(kind, step) for kind in kinds for step in steps]
    rows = np.concatenate([cells[key] for key in order])
    numbers = np.repeat(np.arange(len(order)), [len(cells[key]) for key in order])
    shown: dict[str, dict[str, float]] = {kind: {} for kind in kinds}
    for kind, step in order:
        shown[kind][str(step)] = float(samples.correct[cells[kind, step]].mean())
    return mean_over_groups(
        "mean_corruption_accuracy",
        samples.correct[rows],
        numbers,
        samples.bootstrap.subset(rows),
        {"accuracies": shown},
    )


def _of_clean(
    clean: Samples,
    samples: Samples,
    cells: Mapping[tuple[str, int], Ints],
    kinds: Sequence[str],
    steps: Sequence[int],
) -> list[Figure]:
    """Return the figures on the clean pictures that are there under every condition."""
    made_of = samples.groups[CLEAN_ID]
    places = {key: {made_of[row]: row for row in rows.tolist()} for key, rows in cells.items()}
    place = {name: row for row, name in enumerate(clean.ids)}
    known = set(place).intersection(*places.values())
    pictures = [name for name in clean.ids if name in known]
    if len(pictures) < 2:
        raise NotRun(
            f"{samples.condition}: the mean over corruptions and severities takes clean pictures that are "
            "there under all of them; give the clean ones that they were made of, or more (--clip-limit)"
        )
    before = np.array([place[name] for name in pictures], dtype=np.int64)
    grid = [
        [samples.correct[[places[kind, step][name] for name in pictures]] for step in steps]
        for kind in kinds
    ]
    figures = corruption_figures(
        clean.correct[before],
        np.array(grid),
        kinds,
        steps,
        bootstrap=clean.bootstrap.subset(before),
    )
    return list(figures.values())


@takes_samples
def column_of(samples: Samples, column: str) -> Sequence[str]:
    """Return a column (N,) that says how pictures were corrupted.

    Raises:
        ClipRobustError: there is none.
    """
    if column not in samples.groups:
        raise ClipRobustError(
            f"{samples.condition} has no column {column!r}, which says how its pictures were corrupted"
        )
    return samples.groups[column]


def _conditions(samples: Samples) -> dict[str, Ints]:
    """Return the rows of each corruption and severity, as ``fog@3``, in the order of these names."""
    columns = [column_of(samples, name) for name in (CORRUPTION, SEVERITY)]
    rows: dict[str, list[int]] = {}
    for row, (corruption, severity) in enumerate(zip(*columns, strict=True)):
        rows.setdefault(f"{corruption}@{severity}", []).append(row)
    return {name: np.array(rows[name], dtype=np.int64) for name in sorted(rows)}

"""Pictures that were corrupted before anybody loaded them (ImageNet-C, -3DCC): each condition apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Ints
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.samples import Samples
from pytest_cliprobust.properties.accuracy import accuracy_drop_figure, accuracy_figure

#: The columns that say how a picture was corrupted, and which clean picture it was made of.
CORRUPTION, SEVERITY, CLEAN_ID = "corruption", "severity", "clean_id"


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

"""mCE: corruption errors relative to those of a reference model (Hendrycks & Dietterich 2019, section 4.1).

The reference model's errors lie in ``data/corruption_errors.toml``, with their sources. They hold for the
pictures that they were measured on: AlexNet's for ImageNet-C as published, not for the same corruptions
computed anew; those of the bundled fleet's base for the embedded benchmark.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from pytest_cliprobust.errors import ClipRobustError, NotRun, first_of
from pytest_cliprobust.figures.arrays import Bools, Ints
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.condition import together
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.samples import Samples, shared
from pytest_cliprobust.figures.taken import takes_samples
from pytest_cliprobust.properties.accuracy import mean_corruption_error
from pytest_cliprobust.properties.corrupted import CLEAN_ID, CORRUPTION, SEVERITY, column_of
from pytest_cliprobust.properties.corruption import SEVERITIES

ERRORS = Path(__file__).parent / "data" / "corruption_errors.toml"

#: Relative errors divide by what the reference loses under a corruption. Where that is less, they are left
#: out: a share of hardly anything says nothing. (AlexNet loses 13 points or more.)
LEAST_LOSS = 0.05

#: So many missing corruptions are named in a message.
_NAMED = 3


@dataclass(frozen=True)
class ReferenceErrors:
    """The errors of a model that others are set in relation to.

    Attributes:
        model: its name.
        dataset: the data set that they were measured on.
        classes: number of classes of its label set.
        clean: error rate on the clean pictures, in (0, 1).
        errors: error rate by corruption, mean over the five severities, in (0, 1].
        source: where they come from.
    """

    model: str
    dataset: str
    classes: int
    clean: float
    errors: Mapping[str, float]
    source: str


@functools.cache
def load_errors(path: Path = ERRORS) -> tuple[ReferenceErrors, ...]:
    """Return the reference models' errors in a file, in its order.

    Raises:
        ClipRobustError: the file is missing or malformed, or an error lies outside 0 to 1.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("reference", [])
        return tuple(_reference(table) for table in tables)
    except OSError as error:
        raise ClipRobustError(f"cannot read reference errors {path.name!r}: {error}") from error
    except (AttributeError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise ClipRobustError(
            f"reference errors {path.name!r}: {type(error).__name__}: {error}; a [[reference]] has model, "
            "dataset, classes, clean, source, and a table errors of shares by corruption"
        ) from error


def _reference(table: Mapping[str, Any]) -> ReferenceErrors:
    errors = {str(name): float(share) for name, share in table["errors"].items()}
    for name, share in {"clean": float(table["clean"]), **errors}.items():
        if not 0.0 < share <= 1.0:
            raise ValueError(f"error {share} on {name!r} does not lie between 0 and 1")
    return ReferenceErrors(
        model=str(table["model"]),
        dataset=str(table["dataset"]),
        classes=int(table["classes"]),
        clean=float(table["clean"]),
        errors=MappingProxyType(errors),
        source=str(table["source"]),
    )


@takes_samples
def errors_for(samples: Samples) -> ReferenceErrors:
    """Return the reference model's errors on a data set.

    Raises:
        NotRun: none are known for its name and number of classes.
    """
    dataset, classes = samples.condition.dataset, len(samples.class_names)
    for reference in load_errors():
        if (reference.dataset, reference.classes) == (dataset, classes):
            return reference
    raise NotRun(
        f"no reference model's errors for {dataset} ({classes:,} classes): mCE is relative to what a model "
        "got on the very same pictures (properties/data/corruption_errors.toml)"
    )


@takes_samples
def corruption_error_of(
    clean: Samples,
    corrupted: Sequence[Samples],
    *,
    name: str,
    reference: ReferenceErrors | None = None,
) -> list[Figure]:
    """Return ``mce`` and ``relative_mce``, and of each corruption ``ce`` and ``relative_ce``.

    The means are filed under ``name``, on the samples that all views have. The relative figures are left out
    where the reference loses less than :data:`LEAST_LOSS` under one of the corruptions.

    Args:
        clean: the samples as they are.
        corrupted: views of the same data set, one for each corruption at each of the five severities; those
            of corruptions that the reference has no error on are left out.
        name: of the corruptions together, as in ``"all_2d"``.
        reference: the model's errors that others are relative to; those of the data set's name unless given.

    Raises:
        NotRun: no errors are known for the data set, or a corruption or severity is missing.
    """
    known = reference or errors_for(clean)
    used = [view for view in corrupted if view.condition.perturbation in known.errors]
    cells = {(view.condition.perturbation, view.condition.severity): view for view in used}
    _complete([(kind, str(step)) for kind, step in cells], known)
    common = shared(clean, *used)
    rows = {id(view): own for view, own in zip(used, common.rows[1:], strict=True)}
    answers = {
        kind: np.stack(
            [cells[kind, step].correct[rows[id(cells[kind, step])]] for step in SEVERITIES]
        )
        for kind in known.errors
    }
    figures = _figures(answers, clean.correct[common.rows[0]], known, common.bootstrap)
    conditions = {
        kind: together([cells[kind, step].condition for step in SEVERITIES])
        for kind in known.errors
    }
    conditions[""] = together([view.condition for view in used], name)
    return [figure.measured_on(conditions[kind]) for (_, kind), figure in figures.items()]


@takes_samples
def corruption_error_in(
    clean: Samples, samples: Samples, *, reference: ReferenceErrors | None = None
) -> list[Figure]:
    """Return the figures of :func:`corruption_error_of` for pictures that were corrupted by others.

    On the clean pictures of which every corruption and severity is there; the relative figures where these
    are in ``clean``, too. Those of one corruption are filed as parts of the data set (``imagenet-c:fog``).

    Args:
        clean: the pictures that they were made of.
        samples: with the columns ``corruption``, ``severity`` and ``clean_id``.
        reference: as for :func:`corruption_error_of`.

    Raises:
        NotRun: as there, or no picture is there under all of them.
        ClipRobustError: a column is missing.
    """
    known = reference or errors_for(samples)
    kinds, steps, made_of = (column_of(samples, name) for name in (CORRUPTION, SEVERITY, CLEAN_ID))
    cells: dict[tuple[str, str], dict[str, int]] = {}
    for row, (kind, step, picture) in enumerate(zip(kinds, steps, made_of, strict=True)):
        if kind in known.errors:
            cells.setdefault((kind, step), {})[picture] = row
    _complete(list(cells), known)
    pictures = sorted(set.intersection(*(set(cell) for cell in cells.values())))
    if len(pictures) < 2:
        raise NotRun(
            f"{samples.condition}: mCE needs pictures under every corruption and severity; take more "
            "samples (--clip-limit)"
        )
    rows = {
        key: np.array([cell[picture] for picture in pictures], dtype=np.int64)
        for key, cell in cells.items()
    }
    answers = {
        kind: np.stack([samples.correct[rows[kind, str(step)]] for step in SEVERITIES])
        for kind in known.errors
    }
    first = rows[next(iter(rows))]
    figures = _figures(
        answers, _clean_answers(clean, pictures), known, samples.bootstrap.subset(first)
    )
    whole = samples.condition
    return [
        figure.measured_on(whole.part(kind) if kind else whole)
        for (_, kind), figure in figures.items()
    ]


def _complete(cells: Sequence[tuple[str, str]], known: ReferenceErrors) -> None:
    """Raise unless each corruption of the reference is there at each severity, and no other severity.

    Raises:
        NotRun: something is missing.
    """
    there = set(cells)
    missing = [
        f"{kind}@{step}"
        for kind in known.errors
        for step in SEVERITIES
        if (kind, str(step)) not in there
    ]
    if missing:
        raise NotRun(
            f"mCE is a mean over {len(known.errors)} corruptions at five severities; missing are "
            f"{first_of(missing, _NAMED)}"
        )


def _clean_answers(clean: Samples, pictures: Sequence[str]) -> Bools | None:
    """Return the answers to pictures as they are (N,); None where some are not there."""
    place = {name: row for row, name in enumerate(clean.ids)}
    if not all(picture in place for picture in pictures):
        return None
    rows: Ints = np.array([place[picture] for picture in pictures], dtype=np.int64)
    return clean.correct[rows]


def _figures(
    answers: Mapping[str, Bools],
    clean: Bools | None,
    known: ReferenceErrors,
    bootstrap: Bootstrap,
) -> dict[tuple[str, str], Figure]:
    loses = min(error - known.clean for error in known.errors.values())
    figures = mean_corruption_error(
        answers,
        known.errors,
        baseline=known.model,
        clean=clean if loses >= LEAST_LOSS else None,
        baseline_clean_error=known.clean,
        bootstrap=bootstrap,
    )
    return {
        key: replace(figure, details={**figure.details, "source": known.source})
        for key, figure in figures.items()
    }

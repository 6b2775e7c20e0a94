"""Natural distribution shifts: what is lost, and what a fleet's line would have lost.

Under a natural shift the pictures are others, so accuracies are compared by class, not by sample: in
distribution only the samples of those classes count that the shift has, too (as for ImageNet-R, whose 200
classes are compared with the same 200 of the validation set).

Effective robustness (Taori et al. 2020; Miller et al. 2021) is measured against reference lines whose points
lie in ``data/shift_lines.toml``, with their sources. A line of one's own is a file in the same form.
"""

from __future__ import annotations

import fnmatch
import functools
import math
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.arrays import Bools, Floats, Ints
from pytest_cliprobust.figures.bootstrap import (
    Bootstrap,
    ends_of_share,
    figure_of_ends,
    proportion_figure,
)
from pytest_cliprobust.figures.ends import EndsAt
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.means import compare_means
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.outcomes import Outcomes, ratio, sums
from pytest_cliprobust.figures.samples import Samples
from pytest_cliprobust.figures.taken import takes_samples
from pytest_cliprobust.properties.factors import effective_robustness

LINES = Path(__file__).parent / "data" / "shift_lines.toml"


@dataclass(frozen=True)
class Line:
    """The points of a fleet under one shift.

    Attributes:
        shift: what it is called.
        names: what data sets of that shift are called; globs.
        classes: number of classes of the label set that the points are for.
        models: (M,) names.
        inside, shifted: (M,) accuracies in (0, 1), in distribution and under the shift.
        source: where they come from.
        note: what else a reader must know.
    """

    shift: str
    names: tuple[str, ...]
    classes: int
    models: tuple[str, ...]
    inside: tuple[float, ...]
    shifted: tuple[float, ...]
    source: str
    note: str = ""

    def is_for(self, dataset: str) -> bool:
        """Return whether a data set is of this shift, by its name or its layout's."""
        layout, _, name = dataset.lower().rpartition(":")
        return any(
            fnmatch.fnmatchcase(word, pattern.lower())
            for word in (name, layout)
            for pattern in self.names
        )


@functools.cache
def load_lines(path: Path = LINES) -> tuple[Line, ...]:
    """Return the lines of a file, in its order; percent become shares.

    Raises:
        ClipRobustError: the file is missing or malformed, or a point lies outside 0 to 100%.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("line", [])
        return tuple(_line(table) for table in tables)
    except OSError as error:
        raise ClipRobustError(f"cannot read reference lines {path.name!r}: {error}") from error
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise ClipRobustError(
            f"reference lines {path.name!r}: {type(error).__name__}: {error}; a [[line]] has shift, names, "
            "classes, source, and points = [[model, in distribution, under shift], …] in percent"
        ) from error


def _line(table: dict[str, Any]) -> Line:
    points = [(str(name), float(x) / 100.0, float(y) / 100.0) for name, x, y in table["points"]]
    for name, *shares in points:
        if not all(0.0 < share < 1.0 for share in shares):
            raise ValueError(f"point {name!r} does not lie between 0 and 100%")
    models, inside, shifted = zip(*points, strict=True) if points else ((), (), ())
    return Line(
        shift=str(table["shift"]),
        names=tuple(map(str, table["names"])),
        classes=int(table["classes"]),
        models=models,
        inside=inside,
        shifted=shifted,
        source=str(table["source"]),
        note=str(table.get("note", "")),
    )


def line_for(dataset: str, classes: int, lines: tuple[Line, ...] | None = None) -> Line:
    """Return the reference line of a data set.

    Args:
        dataset: its name.
        classes: number of classes that the model chooses from in distribution.
        lines: to choose from; those of the package unless given.

    Raises:
        NotRun: there is none, it has too few points yet, or it is for other classes.
    """
    found = [line for line in (load_lines() if lines is None else lines) if line.is_for(dataset)]
    if not found or len(found[0].models) < 3:
        raise NotRun(
            f"no reference line for {dataset}: effective robustness needs the accuracies of a fleet, in "
            "distribution and under this shift (properties/data/shift_lines.toml)"
        )
    if found[0].classes != classes:
        raise NotRun(
            f"the reference line for {dataset} is for {found[0].classes:,} classes, and clean has "
            f"{classes:,}"
        )
    return found[0]


@takes_samples
def effective_robustness_of(clean: Samples, shifted: Samples, line: Line | None = None) -> Figure:
    """Return ``effective_robustness``: accuracy under a natural shift above what a line predicts.

    See :func:`~pytest_cliprobust.properties.factors.effective_robustness`. In distribution the samples of the
    shift's classes count. The details name the line, its source, and whether the model lies beyond it.

    Args:
        clean: in distribution.
        shifted: under the shift.
        line: the reference; that of the data set's name unless given.

    Raises:
        NotRun: no line is known for the data set, or the model is right or wrong on all clean samples, as
            with few of them: such an accuracy has no logit.
        ClipRobustError: no class is in both.
    """
    chosen = line or line_for(shifted.condition.dataset, len(clean.class_names))
    rows, correct = _inside(clean, shifted)
    if correct.all() or not correct.any():
        raise NotRun(
            f"effective robustness on {shifted.condition}: accuracy on the {len(correct):,} clean samples "
            f"of its classes is {correct.mean():.0f} exactly, which has no logit; more samples would tell "
            "(--clip-limit)"
        )
    figure = effective_robustness(
        correct,
        shifted.correct,
        chosen.inside,
        chosen.shifted,
        bootstrap=_beside(clean, rows, shifted),
    )
    inside = figure.details["id_accuracy"]
    details = {
        **figure.details,
        "line": chosen.shift,
        "source": chosen.source,
        "extrapolated": not min(chosen.inside) <= inside <= max(chosen.inside),
    }
    if chosen.note:
        details["note"] = chosen.note
    return replace(figure, details=details).measured_on(shifted.condition)


@register_metric(
    "shift_drop",
    higher_is_better=False,
    meaning="clean accuracy on the shift's classes minus accuracy under the shift",
    low=-1.0,
)
@takes_samples
def shift_drop(clean: Samples, shifted: Samples) -> Figure:
    """Return ``shift_drop``: accuracy on clean samples of the shift's classes minus that under the shift.

    In [-1, 1], positive = worse. The samples are others, so nothing is paired: the interval is Newcombe's
    (1998, method 10), from those of the two shares. (A drop on the same pictures is ``accuracy_drop``.)

    Raises:
        ClipRobustError: no class is in both.
    """
    rows, correct = _inside(clean, shifted)
    figure = shift_drop_figure(correct, shifted.correct, bootstrap=_beside(clean, rows, shifted))
    details = {**figure.details, "classes": len(_classes_of(shifted))}
    return replace(figure, details=details).measured_on(shifted.condition)


def shift_drop_figure(clean: Bools, shifted: Bools, *, bootstrap: Bootstrap) -> Figure:
    """Return the share of True in ``clean`` (N,) minus that in ``shifted`` (M,), other samples.

    Args:
        clean, shifted: right and wrong answers.
        bootstrap: interval settings; its keys, if any, are of the clean samples and then of the others.
    """
    first = np.arange(len(clean) + len(shifted)) < len(clean)
    parts = [
        proportion_figure("accuracy", answers, bootstrap.subset(np.flatnonzero(side)))
        for side, answers in ((first, clean), (~first, shifted))
    ]
    outcomes = Outcomes(
        {"value": np.concatenate([clean, shifted])},
        _difference,
        attributes={"clean": first},
        compare=compare_means(_difference_values),
    )
    value = parts[0].value - parts[1].value
    variances = [p.value * (1.0 - p.value) / p.n for p in parts]
    total = sum(variances)
    effect = (
        sum(v * p.design_effect for v, p in zip(variances, parts, strict=True)) / total
        if total
        else max(p.design_effect for p in parts)
    )
    return figure_of_ends(
        "shift_drop",
        value,
        _newcombe(parts[0], parts[1]),
        outcomes,
        bootstrap,
        IntervalMethod.SCALED,
        "Newcombe, unpaired",
        n=len(shifted),
        bounds=(-1.0, 1.0),
        details={
            "clean_accuracy": parts[0].value,
            "shifted_accuracy": parts[1].value,
            "clean_n": len(clean),
        },
        effect=effect,
    )


def _newcombe(first: Figure, second: Figure) -> EndsAt:
    """Return the ends of the difference of two independent shares."""
    own, other = ends_of_share(first), ends_of_share(second)

    def at(tails: Floats) -> tuple[Floats, Floats]:
        (low, high), (others_low, others_high) = own(tails), other(tails)
        value = first.value - second.value
        down = np.hypot(first.value - low, others_high - second.value)
        up = np.hypot(high - first.value, second.value - others_low)
        return value - down, value + up

    return at


def _difference(weights: Floats, outcomes: Outcomes) -> Floats:
    value, clean = outcomes["value"], outcomes["clean"]
    shares = [ratio(sums(weights, value & side), sums(weights, side)) for side in (clean, ~clean)]
    return np.asarray(shares[0] - shares[1])


def _difference_values(outcomes: Outcomes) -> Floats:
    """Return values (N + M,) of which the difference of the two shares is the mean."""
    value, clean = outcomes["value"].astype(np.float64), outcomes["clean"]
    count, inside = len(value), int(clean.sum())
    if inside in (0, count):
        return np.full(count, math.nan)
    return np.asarray(value * np.where(clean, count / inside, -count / (count - inside)))


def _inside(clean: Samples, shifted: Samples) -> tuple[Ints, Bools]:
    """Return the rows of the clean samples whose class the shift has, and whether their answers are right.

    If the head of the shift has a part of the classes only (``head_rows``: ImageNet-R's 200 of the 1,000), so
    has that of the clean samples here. A class that is right of a sample beside its label
    (``further_labels``) is one that the shift has.
    """
    part = getattr(shifted, "head_rows", None)
    classes = np.arange(len(clean.class_names)) if part is None else np.asarray(part)
    if tuple(clean.class_names[row] for row in classes) != tuple(shifted.class_names):
        raise ClipRobustError(
            f"{shifted.condition} has {len(shifted.class_names):,} classes that are not those of "
            f"{clean.condition} ({len(clean.class_names):,}): their accuracies do not compare"
        )
    present = classes[np.array(sorted(_classes_of(shifted)), dtype=np.int64)]
    rows = np.flatnonzero(np.isin(clean.labels, present))
    if not len(rows):
        raise ClipRobustError(f"{clean.condition} and {shifted.condition} share no class")
    if part is None:
        return rows.astype(np.int64), clean.correct[rows]
    answers = classes[clean.logits[rows][:, classes].argmax(axis=1)]
    return rows.astype(np.int64), np.asarray(answers == clean.labels[rows], dtype=np.bool_)


def _classes_of(shifted: Samples) -> set[int]:
    """Return the classes of the head that samples are of: their labels, and what is right of them beside."""
    further = {label for own in getattr(shifted, "further_labels", ()) for label in own}
    return {*shifted.labels[shifted.labels >= 0].tolist(), *further}


def _beside(clean: Samples, rows: Ints, shifted: Samples) -> Bootstrap:
    """Return settings for clean samples and then shifted ones, which share no unit."""
    inside, outside = clean.bootstrap.subset(rows), shifted.bootstrap
    if inside.keys is None or outside.keys is None:
        return inside.of(None)
    return inside.of(inside.keys.beside(outside.keys))

"""Two runs, figure by figure: effect, interval, adjusted p, a word, and the samples that changed sides.

Neither run is a session, so neither brings the statistics of its figures. Where one that is known
(:mod:`~pytest_cliprobust.figures.recipes`) gives both figures from their outcomes, the runs are compared
sample by sample; elsewhere by the intervals of the two figures, as if their samples had nothing in common.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np

from pytest_cliprobust.errors import ClipRobustError, did_you_mean
from pytest_cliprobust.figures.change import Change, change_between
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure, json_number
from pytest_cliprobust.figures.keys import matched
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.outcomes import Outcomes
from pytest_cliprobust.figures.paired import holm
from pytest_cliprobust.figures.recipes import recipe_of
from pytest_cliprobust.gating.baseline import Baseline, bare_key
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.results.earlier import Earlier
from pytest_cliprobust.results.outcomes import with_outcomes


class Word(StrEnum):
    """What is said of a figure in two runs."""

    WORSE = "worse"
    LOWER = "lower"
    HIGHER = "higher"
    BETTER = "better"
    UNSEEN = "no change seen"
    IDENTICAL = "identical"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class Sides:
    """The samples of which something was true in one run only."""

    lost: tuple[str, ...]
    gained: tuple[str, ...]


@dataclass(frozen=True)
class Compared:
    """One figure in two runs.

    Attributes:
        base, head: the figure in the earlier and in the later run.
        higher_is_better: None where neither end is good, or that is not known.
        how: how they were compared, or why they were not.
        word: what is said.
        difference: head minus base, on the samples compared.
        low, high: its interval, for this figure alone, with the noise at both ends.
        p_value: for "nothing changed", for this figure alone; None if not comparable.
        adjusted: the same for all figures compared (Holm 1979).
        noise: what of a difference is numerical noise.
        sides: by column, the samples that changed sides.
        change: the whole comparison.
    """

    base: Measurement
    head: Measurement
    higher_is_better: bool | None
    how: str
    word: Word = Word.NOT_COMPARABLE
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p_value: float | None = None
    adjusted: float | None = None
    noise: float = 0.0
    sides: Mapping[str, Sides] = field(default_factory=dict)
    change: Change | None = None

    @property
    def key(self) -> str:
        """The figure's key in the later run."""
        return self.head.key

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        numbers = {
            "before": self.base.figure.value if self.change is None else self.change.before,
            "after": self.head.figure.value if self.change is None else self.change.after,
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
            "p": self.p_value,
            "p_adjusted": self.adjusted,
        }
        change = self.change
        return {
            "key": self.key,
            "base_key": self.base.key,
            "word": self.word.value,
            **{k: None if v is None else json_number(v) for k, v in numbers.items()},
            "higher_is_better": self.higher_is_better,
            "unit": self.head.figure.unit,
            "paired": change is not None and change.paired,
            "how": self.how,
            "n": change.n if change else None,
            "units": change.units if change else None,
            "changed": change.changed if change else None,
            "samples": {
                name: {"lost": list(sides.lost), "gained": list(sides.gained)}
                for name, sides in self.sides.items()
            },
        }


@dataclass(frozen=True)
class Comparison:
    """Two runs.

    Attributes:
        base, head: the earlier and the later one.
        rows: the figures that both have, in the order of ``head``.
        only_base, only_head: keys of those that one has.
        notes: what differs between the runs beside the models, and what else to know.
        confidence: level of the intervals; 1 minus it is the family-wise error rate of the words.
    """

    base: Earlier
    head: Earlier
    rows: tuple[Compared, ...]
    only_base: tuple[str, ...]
    only_head: tuple[str, ...]
    notes: tuple[str, ...]
    confidence: float

    @property
    def losses(self) -> tuple[Compared, ...]:
        """The figures that are worse."""
        return tuple(row for row in self.rows if row.word is Word.WORSE)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        return {
            "schema": 1,
            "base": self.base.source,
            "head": self.head.source,
            "confidence": self.confidence,
            "notes": list(self.notes),
            "figures": [row.as_dict() for row in self.rows],
            "only_base": list(self.only_base),
            "only_head": list(self.only_head),
        }


def compare(
    base: Earlier,
    head: Earlier,
    *,
    confidence: float = 0.95,
    base_model: str | None = None,
    head_model: str | None = None,
    only: Callable[[Measurement], bool] = lambda measurement: True,
) -> Comparison:
    """Compare two runs.

    A model is compared with the one of its name, or else with the only one that ``base`` has.

    Args:
        base: the earlier run.
        head: the later one; the same run for two models of it.
        confidence: of intervals; 1 minus it is the error rate of all words together.
        base_model: the model of ``base`` that counts.
        head_model: the model of ``head`` that counts.
        only: which figures are compared.

    Raises:
        ClipRobustError: no such model, or it is not clear which is compared with which.
    """
    if base.named != head.named:
        base, head = base.unnamed(), head.unnamed()
    then = Baseline(base.source, _filed(base), base.provenance, head.provenance, older=base.older)
    models = _chosen(then, head, base_model, head_model)
    rows, only_head, met = [], [], set()
    for key, measurement in head.measurements.items():
        if measurement.model not in models or not only(measurement):
            continue
        figure = then.find(measurement, base_model)
        if figure is None:
            only_head.append(key)
            continue
        earlier = Measurement(measurement.suite, models[measurement.model], figure)
        met.add(earlier.key)
        better = _direction(measurement, head, base)
        noise = max(base.noise.get(earlier.key, 0.0), head.noise.get(key, 0.0))
        why_not = then.why_not(measurement, base_model)
        row = Compared(earlier, measurement, better, why_not, noise=noise)
        same = then.same_model(measurement, base_model)
        rows.append(_compared(row, confidence, _seed(head), same))
    wanted = set(models.values())
    only_base = [
        key
        for key, measurement in base.measurements.items()
        if measurement.model in wanted and key not in met and only(measurement)
    ]
    return Comparison(
        base,
        head,
        tuple(judged(rows, confidence)),
        tuple(only_base),
        tuple(only_head),
        tuple(_notes(base, head, then, models, base_model)),
        confidence,
    )


def _filed(run: Earlier) -> dict[tuple[str, str], Figure]:
    return {(bare_key(m), m.model): m.figure for m in run.measurements.values()}


def _seed(run: Earlier) -> int:
    return int(run.header.get("config", {}).get("seed", 0))


def _chosen(
    then: Baseline, head: Earlier, base_model: str | None, head_model: str | None
) -> dict[str, str]:
    """Return which model of ``head`` is compared with which of the earlier run.

    Raises:
        ClipRobustError: no such model, or that is not clear.
    """
    for name, models, source in (
        (base_model, then.models, then.source),
        (head_model, head.models, head.source),
    ):
        if name is not None and name not in models:
            raise ClipRobustError(
                f"{source} has no figures of model {name!r}.{did_you_mean(name, models)} It has "
                f"{', '.join(models) or 'none'}"
            )
    wanted = head.models if head_model is None else (head_model,)
    found = {model: then.model_for(model, base_model) for model in wanted}
    chosen = {model: other for model, other in found.items() if other is not None}
    if found and not chosen:
        raise ClipRobustError(
            f"{then.source} is of {', '.join(then.models) or 'no model'}, {head.source} of "
            f"{', '.join(wanted)}: say with --base-model and --head-model which is compared with which"
        )
    return chosen


def _direction(measurement: Measurement, *runs: Earlier) -> bool | None:
    for run in runs:
        if measurement.key in run.directions:
            return run.directions[measurement.key]
    known = METRICS.find(measurement.metric)
    return None if known is None else known.higher_is_better


def _compared(row: Compared, confidence: float, seed: int, same_model: bool) -> Compared:
    """Return a row with the comparison; the words wait for all p-values."""
    before, after = row.base.figure, row.head.figure
    row = replace(row, sides=changed_sides(before.outcomes, after.outcomes))
    reason = _not_comparable(before, after)
    if reason:
        return replace(row, how=reason)
    change = change_of(
        before, after, noise=row.noise, seed=seed, why_not=row.how, same_model=same_model
    )
    ends, p = change.interval(confidence), change.p_value
    if math.isnan(p):
        p = 1.0 if change.difference == 0.0 else 0.0
    noise = 0.0 if change.identical else row.noise
    return replace(
        row,
        how=change.text(),
        difference=change.difference,
        low=ends.low - noise,
        high=ends.high + noise,
        p_value=p,
        change=change,
    )


def _not_comparable(before: Figure, after: Figure) -> str:
    """Return why two figures are not of the same thing, or not judgeable; empty if they can be compared."""
    for figure, name in ((before, "base"), (after, "head")):
        if not all(map(math.isfinite, (figure.value, figure.low, figure.high))):
            return f"{figure.metric} of {name} is {figure.interval_text()}"
    if before.unit != after.unit:
        return f"{before.unit or 'a plain number'} then, {after.unit or 'a plain number'} now"
    assert before.condition is not None
    assert after.condition is not None
    if _bare(before.condition) != _bare(after.condition):
        return f"measured on other conditions than {before.condition} of base"
    return ""


def _bare(condition: Condition) -> Condition:
    """Return a condition without what only says how many samples there were."""
    return replace(condition, limit=None, over=tuple(map(_bare, condition.over)))


def change_of(
    before: Figure,
    after: Figure,
    *,
    noise: float = 0.0,
    seed: int = 0,
    why_not: str = "",
    same_model: bool = False,
) -> Change:
    """Return what changed between two figures whose statistic is not at hand.

    Args:
        before: of the earlier run.
        after: of the later one.
        noise: outcomes that differ by no more are the same.
        seed: of the resampling.
        why_not: why they cannot be compared sample by sample, if that is known already.
        same_model: whether both are known to be of one model.

    Raises:
        ClipRobustError: the figures are of different metrics.
    """
    if after.outcomes is not None and before.outcomes is not None and not why_not:
        found = recipe_of(before, after)
        if found is None:
            why_not = f"how {after.metric} follows from its samples is not kept"
        else:
            after = with_outcomes(after, found.of(after.outcomes))
    return change_between(
        after, before, noise=noise, seed=seed, why_not=why_not, same_model=same_model
    )


def changed_sides(before: Outcomes | None, after: Outcomes | None) -> dict[str, Sides]:
    """Return, by column of yes and no, the samples whose answer is another now."""
    if before is None or after is None or before.keys is None or after.keys is None:
        return {}
    theirs, mine = matched(before.keys, after.keys)
    found = {}
    for name, column in after.columns.items():
        earlier = before.columns.get(name)
        if earlier is None or not column.dtype == earlier.dtype == np.bool_ or column.ndim != 1:
            continue
        now, then = column[mine], earlier[theirs]
        lost, gained = (
            tuple(after.keys.ids[row] for row in mine[rows]) for rows in (then & ~now, now & ~then)
        )
        if lost or gained:
            found[name] = Sides(lost, gained)
    return found


def matched_answers(row: Compared, column: str = "value") -> list[tuple[int, bool, bool]]:
    """Return (row in the later run, right before, right now) of the samples that both runs have.

    None of them where either run did not keep this column of yes and no.
    """
    before, after = row.base.figure.outcomes, row.head.figure.outcomes
    if before is None or after is None or before.keys is None or after.keys is None:
        return []
    earlier, later = before.columns.get(column), after.columns.get(column)
    if earlier is None or later is None or not earlier.dtype == later.dtype == np.bool_:
        return []
    theirs, mine = matched(before.keys, after.keys)
    told = zip(mine.tolist(), earlier[theirs].tolist(), later[mine].tolist(), strict=True)
    return [(place, bool(was), bool(now)) for place, was, now in told]


def judged(rows: Iterable[Compared], confidence: float = 0.95) -> list[Compared]:
    """Return the rows with p-values adjusted for all of them, and with words."""
    rows = list(rows)
    tested = {row.key: row.p_value for row in rows if row.p_value is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())).tolist(), strict=True))
    return [
        replace(row, adjusted=adjusted[row.key], word=_word(row, adjusted[row.key], confidence))
        if row.key in adjusted
        else row
        for row in rows
    ]


def _word(row: Compared, adjusted: float, confidence: float) -> Word:
    if row.change is not None and row.change.identical:
        return Word.IDENTICAL
    if adjusted > 1.0 - confidence or abs(row.difference) <= row.noise:
        return Word.UNSEEN
    up = row.difference > 0.0
    if row.higher_is_better is None:
        return Word.HIGHER if up else Word.LOWER
    return Word.BETTER if up is row.higher_is_better else Word.WORSE


def _notes(
    base: Earlier,
    head: Earlier,
    then: Baseline,
    models: Mapping[str, str],
    base_model: str | None,
) -> list[str]:
    notes = [f"{run.source} did not come to its end" for run in (base, head) if not run.complete]
    then_limit, limit = (run.header.get("config", {}).get("limit") for run in (base, head))
    if then_limit != limit:
        notes.append(
            f"sample limit {limit or 'none'}, then {then_limit or 'none'}: only samples that both have "
            "are compared one by one"
        )
    for model, other in models.items():
        if model != other:
            notes.append(f"{model} is compared with {other}")
        notes += then.differences(model, base_model)
        if then.provenance is not None and head.provenance is not None:
            weights = then.provenance.weights.get(other), head.provenance.weights.get(model)
            if weights[0] is not None and weights[0] == weights[1]:
                notes.append(f"{model}: the same weights in both")
    return list(dict.fromkeys(notes))

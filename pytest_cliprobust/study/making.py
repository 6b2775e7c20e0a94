"""From runs to a study: each property against ID accuracy, the effects of the factors, and the claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.results.earlier import Earlier
from pytest_cliprobust.study.axes import Axis, axis_of
from pytest_cliprobust.study.cards import Card
from pytest_cliprobust.study.claims import Claim, claims_of
from pytest_cliprobust.study.effects import (
    WORDS,
    Column,
    Design,
    Effect,
    Regression,
    Spread,
    design_of,
    paired_effect,
    regression,
    seed_spread,
)
from pytest_cliprobust.study.gather import Entry, Table, gathered
from pytest_cliprobust.study.lines import Line, fitted


@dataclass(frozen=True)
class Property:
    """A property of all models.

    Attributes:
        key: of its figures, without the model.
        sample: the figure of one of the models, for what all of them share.
        axis: on which models are compared.
        x: ID accuracy of the models on its own axis (M,).
        y: the property on its axis (M,), NaN where a model lacks it.
        line: of y against x; None with too few models, and for ID accuracy itself.
        groups: the lines of the models of one level of a factor, by factor and level, where there are four.
        regression: on the factors; None if none varies.
        beyond: on the factors at equal ID accuracy; None for ID accuracy itself, too.
        spread: between trainings that differ in the seed alone.
        prompts: the effects of other prompts on it.
    """

    key: str
    sample: Measurement
    axis: Axis
    x: Floats
    y: Floats
    line: Line | None
    groups: Mapping[tuple[str, str], Line]
    regression: Regression | None
    beyond: Regression | None
    spread: Spread
    prompts: tuple[Effect, ...]

    @property
    def is_headline(self) -> bool:
        """Whether it is shown on the page: a whole data set, no single severity."""
        return self.sample.severity is None and not self.sample.condition.part_of

    def change(self, effect: Effect) -> tuple[float, float, float]:
        """Return an effect and its ends in the property's own unit, from a model of the reference levels.

        The interval is that of the effect; the reference is taken as it is predicted.
        """
        base = 0.0 if self.regression is None else self.regression.base
        ends = np.array([base, *(base + part for part in (effect.value, effect.low, effect.high))])
        start, *moved = self.axis.back(ends).tolist()
        return (moved[0] - start, moved[1] - start, moved[2] - start)


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
        table: the models and their figures, each model once.
        id_axis: the axis of ID accuracy.
        properties: that at least two models have.
        design: of all models.
        claims: the paper's, checked.
        confidence: level of all intervals.
        notes: what a reader must know.
    """

    table: Table
    id_axis: Axis
    properties: tuple[Property, ...]
    design: Design
    claims: tuple[Claim, ...]
    confidence: float
    notes: tuple[str, ...]

    @property
    def headlines(self) -> tuple[Property, ...]:
        """The properties that are shown on the page."""
        return tuple(p for p in self.properties if p.is_headline)


def study_of(
    runs: Iterable[Earlier],
    *,
    cards: Mapping[str, Mapping[str, Any]] | None = None,
    id_accuracy: str | None = None,
    confidence: float = 0.95,
) -> Study:
    """Return the study of ``runs``; arguments and errors are those of :func:`.gather.gathered`."""
    everything = gathered(runs, cards, id_accuracy)
    main = main_prompts(everything)
    table = replace(everything, entries=main)
    models = [entry.card for entry in main]
    id_axis = axis_of("accuracy")
    x = on_axis(main, table.id_accuracy, id_axis)
    design = design_of(models)
    properties = []
    for key in table.properties:
        having = [entry.measurements[key] for entry in main if key in entry.measurements]
        if len(having) < 2:
            continue
        axis = axis_of(having[0].metric)
        y = on_axis(main, key, axis)
        is_id = key == table.id_accuracy
        properties.append(
            Property(
                key=key,
                sample=having[0],
                axis=axis,
                x=x,
                y=y,
                line=None if is_id else fitted(x, y, confidence),
                groups={} if is_id else group_lines(models, x, y, confidence),
                regression=regression(y, models, confidence),
                beyond=None if is_id else regression(y, models, confidence, beside=x),
                spread=seed_spread(y, models),
                prompts=prompt_effects(everything, main, key, axis, confidence),
            )
        )
    return Study(
        table=table,
        id_axis=id_axis,
        properties=tuple(properties),
        design=design,
        claims=claims_of(table),
        confidence=confidence,
        notes=(*table.notes, *design_notes(design, main, everything)),
    )


def on_axis(entries: Iterable[Entry], key: str, axis: Axis) -> Floats:
    """Return a property of ``entries`` on its axis (M,), NaN where one lacks it."""
    figures = [
        entry.measurements[key].figure if key in entry.measurements else None for entry in entries
    ]
    values = np.array([np.nan if figure is None else figure.value for figure in figures])
    sizes = np.array([1 if figure is None else figure.n for figure in figures], dtype=np.float64)
    return axis.to(values, sizes)


def group_lines(
    cards: Sequence[Card], x: Floats, y: Floats, confidence: float
) -> dict[tuple[str, str], Line]:
    """Return the line of y against x (M,) over the models of each level of a factor that four have."""
    lines = {}
    for factor in ("architecture", "data", "fine_tuning", "loss"):
        levels = [getattr(card, factor) for card in cards]
        for level in dict.fromkeys(levels):
            own = np.array([level == other for other in levels]) & np.isfinite(y)
            line = fitted(x[own], y[own], confidence) if level and own.sum() >= 4 else None
            if line is not None and line.n < len(cards):
                lines[factor, level] = line
    return lines


def main_prompts(table: Table) -> tuple[Entry, ...]:
    """Return each model once: under the prompts that most models have, or the first of its own."""
    ordered = Counter(entry.prompts for entry in table.entries).most_common()
    rank = {prompts: number for number, (prompts, _) in enumerate(ordered)}
    chosen: dict[str, Entry] = {}
    for entry in table.entries:
        before = chosen.get(entry.model)
        if before is None or rank[entry.prompts] < rank[before.prompts]:
            chosen[entry.model] = entry
    return tuple(chosen.values())


def prompt_effects(
    everything: Table, main: tuple[Entry, ...], key: str, axis: Axis, confidence: float
) -> tuple[Effect, ...]:
    """Return the mean change of a property from each model's main prompts to other ones, within models."""
    usual = {entry.model: entry for entry in main}
    others: dict[str, list[Entry]] = {}
    for entry in everything.entries:
        if entry.prompts != usual[entry.model].prompts:
            others.setdefault(entry.prompts, []).append(entry)
    effects = []
    for prompts, entries in others.items():
        reference = usual[entries[0].model].prompts
        column = Column("prompts", prompts or "unknown", reference or "unknown", len(entries))
        before = on_axis([usual[entry.model] for entry in entries], key, axis)
        after = on_axis(entries, key, axis)
        if np.isfinite(after - before).any():
            effects.append(paired_effect(before, after, column, confidence))
    return tuple(effects)


def design_notes(design: Design, main: tuple[Entry, ...], everything: Table) -> list[str]:
    """Return in words what the models cannot tell, and how far they can."""
    notes = []
    for group in design.confounded:
        names = [design.columns[position].name for position in group]
        notes.append(f"confounded, no effect can be given: {'; '.join(names)} never vary apart")
    if design.constant:
        notes.append("the same for all models: " + ", ".join(WORDS[f] for f in design.constant))
    for factor in design.unknown:
        lacking = [e.model for e in main if getattr(e.card, factor) in ("", None)]
        notes.append(
            f"{WORDS[factor]} is left out, as it is not known of {', '.join(lacking[:5])}"
            f"{' and others' if len(lacking) > 5 else ''}: give it with --cards FILE"
        )
    single = [column.name for column in design.columns if column.level and column.models == 1]
    if single:
        notes.append(
            f"a level that one model has: {'; '.join(single)}. Such an effect is that of one training; its "
            "interval takes the spread from the other models"
        )
    if not design.columns:
        notes.append("no factor varies: no effects can be told")
    elif not design.freedom:
        notes.append("as many factors as models: effects have no intervals")
    elif design.freedom < 5:
        notes.append(
            f"degrees of freedom that are left for the spread between trainings: {design.freedom}. Intervals "
            "are wide, and their width itself is uncertain"
        )
    prompts = {entry.prompts for entry in main}
    if len(prompts) > 1:
        notes.append(
            "models were run under different prompts, which are confounded with the models"
        )
    elif len({entry.prompts for entry in everything.entries}) == 1:
        notes.append("the same for all models: prompts")
    return notes

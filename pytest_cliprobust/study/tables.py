"""A study as CSV files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields

from pytest_cliprobust.study.cards import Card
from pytest_cliprobust.study.effects import Effect
from pytest_cliprobust.study.making import Property, Study


def tables_of(study: Study) -> dict[str, str]:
    """Return the content of each CSV file by its name."""
    return {
        "models.csv": _csv(("model", *(f.name for f in fields(Card))), _models(study)),
        "figures.csv": _csv(
            ("model", "property", "value", "low", "high", "n", "units", "unit"), _figures(study)
        ),
        "lines.csv": _csv(LINES, _lines(study)),
        "effects.csv": _csv(EFFECTS, _effects(study)),
        "claims.csv": _csv(("claim", "word", "why", "figures"), _claims(study)),
    }


LINES = (
    *(
        "property",
        "factor",
        "level",
        "axis",
        "models",
        "intercept",
        "slope",
        "slope_low",
        "slope_high",
        "residual",
    ),
    *("correlation", "correlation_low", "correlation_high"),
)

EFFECTS = (
    *("property", "factor", "level", "reference", "axis", "effect", "low", "high", "p"),
    *("change", "change_low", "change_high", "seed_spread", "seed_freedom"),
    *("beyond", "beyond_low", "beyond_high"),
    *("residual", "freedom", "models", "why_not"),
)


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return buffer.getvalue()


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    # A spreadsheet takes a cell that begins like this for a formula.
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "+", "-", "@") else text


def _models(study: Study) -> Iterable[Sequence[object]]:
    for entry in study.table.entries:
        yield (entry.model, *asdict(entry.card).values())


def _figures(study: Study) -> Iterable[Sequence[object]]:
    for entry in study.table.entries:
        for key, measurement in entry.measurements.items():
            made = measurement.figure
            yield (entry.model, key, made.value, made.low, made.high, made.n, made.units, made.unit)


def _lines(study: Study) -> Iterable[Sequence[object]]:
    for item in study.properties:
        whole = {} if item.line is None else {("", ""): item.line}
        for (factor, level), line in {**whole, **item.groups}.items():
            ends = (line.intercept, line.slope, line.low, line.high, line.residual)
            yield (item.key, factor, level, _axis(item), line.n, *ends, *line.correlation)


def _effects(study: Study) -> Iterable[Sequence[object]]:
    for item in study.properties:
        made = item.regression
        if made is not None:
            beyond = {} if item.beyond is None else {e.column: e for e in item.beyond.effects}
            for effect in made.effects:
                other = beyond.get(effect.column, Effect(effect.column, math.nan))
                rest = (made.residual, made.freedom, made.models)
                ends = (other.value, other.low, other.high)
                yield (*_effect(item, effect), *ends, *rest, effect.why)
        for effect in item.prompts:
            yield (*_effect(item, effect), *("",) * 4, "", effect.column.models, effect.why)


def _effect(item: Property, effect: Effect) -> tuple[object, ...]:
    column = effect.column
    return (
        *(item.key, column.factor, column.level, column.reference, _axis(item)),
        *(effect.value, effect.low, effect.high, effect.p),
        *item.change(effect),
        *(item.spread.value, item.spread.freedom),
    )


def _axis(item: Property) -> str:
    return "logit" if item.axis.is_logit else "linear"


def _claims(study: Study) -> Iterable[Sequence[object]]:
    for claim in study.claims:
        yield (claim.sentence, claim.word, claim.why, "\n".join(claim.figures))

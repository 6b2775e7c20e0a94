"""A study as one HTML file that holds all it shows, pictures included."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields

import numpy as np

from pytest_cliprobust.study.cards import Card, sources
from pytest_cliprobust.study.effects import WORDS, Effect
from pytest_cliprobust.study.making import Property, Study

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px; }
th, td { border: 1px solid #ccc; padding: .2rem .5rem; text-align: left; vertical-align: top; }
th { background: #f2f2f2; }
td:first-child { overflow-wrap: anywhere; min-width: 9rem; }
td.clear { font-weight: bold; }
img { max-width: 100%; }
.wide { overflow-x: auto; }
li, p, h3 { overflow-wrap: anywhere; }
.supported { color: #176317; } .contradicted { color: #a11; }
"""


def page_of(study: Study, pictures: Mapping[str, bytes]) -> str:
    """Return the page; whatever comes from a run is escaped."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>Study of {len(study.table.entries)} models</title><style>{_STYLE}</style></head><body>",
        f"<h1>Study of {len(study.table.entries)} models</h1>",
        _notes(study),
        "<h2>The paper's claims on these models</h2>",
        *(_claim(study, number) for number in range(len(study.claims))),
        "<h2>Models</h2>",
        _models(study),
        "<h2>Effects of the factors</h2>",
        _effects(study),
        "<h2>Against ID accuracy</h2>",
        _lines(study),
        *(
            f"<h3>{html.escape(name.removesuffix('.png'))}</h3>"
            f"<img alt='{html.escape(name, quote=True)}' "
            f"src='data:image/png;base64,{base64.b64encode(content).decode('ascii')}'>"
            for name, content in pictures.items()
        ),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterable[str]) -> str:
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    return f"<div class='wide'><table><tr>{cells}</tr>{''.join(rows)}</table></div>"


def _row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


def _notes(study: Study) -> str:
    level = f"Intervals are {100 * study.confidence:.4g}% intervals"
    level += "." if study.confidence == 0.95 else " for effects and lines, 95% for claims."
    notes = [f"ID accuracy is {study.table.id_accuracy}. {level}", *study.notes]
    return "<ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in notes) + "</ul>"


def _claim(study: Study, number: int) -> str:
    claim = study.claims[number]
    word = html.escape(claim.word)
    figures = "".join(f"<li>{html.escape(line)}</li>" for line in claim.figures)
    return (
        f"<p><b>{html.escape(claim.sentence)}</b>: "
        f"<b class='{word.split()[0]}'>{word}</b> ({html.escape(claim.why)}).</p>"
        + (f"<ul>{figures}</ul>" if figures else "")
    )


def _models(study: Study) -> str:
    rows = []
    for entry in study.table.entries:
        facts = asdict(entry.card)
        texts = [f"{v:,.0f}" if isinstance(v, float) else str(v or "") for v in facts.values()]
        rows.append(_row(entry.model, *texts))
    table = _table(("model", *(field.name for field in fields(Card))), rows)
    known = sources()
    used = dict.fromkeys(e.card.data for e in study.table.entries if e.card.data in known)
    listed = "".join(f"<li>{html.escape(f'{data}: {known[data]}')}</li>" for data in used)
    return table + (f"<p>Training sets:</p><ul>{listed}</ul>" if listed else "")


def _effects(study: Study) -> str:
    columns = study.design.columns
    items = [item for item in study.headlines if item.regression is not None]
    prompts = any(item.prompts for item in study.headlines)
    if not items and not prompts:
        return "<p>No factor varies among these models.</p>"
    rows = []
    for item in items:
        assert item.regression is not None
        by_column = {effect.column: effect for effect in item.regression.effects}
        cells = [_cell(item, by_column.get(column)) for column in columns]
        cells += [
            f"<td>{html.escape('; '.join(_text(item, e)[0] for e in item.prompts))}</td>"
        ] * prompts
        rows.append(
            f"<tr><td>{html.escape(item.key)}</td>{''.join(cells)}<td>{_spread(item)}</td></tr>"
        )
    head = ["property", *(column.name for column in columns), *(["prompts"] * prompts), "seeds"]
    return _counts(items, study.confidence) + _table(head, rows)


def _counts(items: Sequence[Property], confidence: float) -> str:
    """Return how many intervals at that level exclude no effect, and how many would do so by chance."""
    effects = [
        (effect.column.factor, not effect.low <= 0 <= effect.high)
        for item in items
        if item.regression is not None
        for effect in item.regression.effects
        if not math.isnan(effect.low)
    ]
    if not effects:
        return ""
    found = ", ".join(
        f"{WORDS[factor]} {sum(clear for f, clear in effects if f == factor)} of "
        f"{sum(f == factor for f, _ in effects)}"
        for factor in dict.fromkeys(factor for factor, _ in effects)
    )
    return (
        "<p>Each effect is the change of the property, in its own unit, for a model of the reference levels; "
        "shares are compared as logits. The last column is the standard deviation between trainings that "
        "differ in their seed alone. Bold: the interval does not hold 0. "
        f"That is so for {html.escape(found)}; of many effects that are none, "
        f"{100 * (1 - confidence):.3g}% would be bold, and properties of one model are kin.</p>"
    )


def _cell(item: Property, effect: Effect | None) -> str:
    if effect is None:
        return "<td></td>"
    text, clear = _text(item, effect)
    return f"<td{' class=clear' * clear}>{html.escape(text)}</td>"


def _text(item: Property, effect: Effect) -> tuple[str, bool]:
    """Return an effect in words, and whether its interval does not hold 0."""
    if math.isnan(effect.value):
        return effect.why, False
    value, low, high = item.change(effect)
    if math.isnan(low):
        return f"{value:+.3g} ({effect.why})", False
    return f"{value:+.3g} [{low:+.3g}, {high:+.3g}]", not low <= 0 <= high


def _spread(item: Property) -> str:
    if math.isnan(item.spread.value):
        return "–"
    base = 0.0 if item.regression is None else item.regression.base
    # In the property's own unit, at the reference levels.
    less, more = item.axis.back(
        np.array([base - item.spread.value, base + item.spread.value])
    ).tolist()
    return f"{(more - less) / 2:.3g}"


def _lines(study: Study) -> str:
    rows = []
    for item in study.headlines:
        line = item.line
        if line is not None:
            r = line.correlation
            rows.append(
                _row(
                    item.key,
                    "logit" if item.axis.is_logit else "linear",
                    str(line.n),
                    f"{line.slope:.3g} [{line.low:.3g}, {line.high:.3g}]",
                    f"{r[0]:.2f} [{r[1]:.2f}, {r[2]:.2f}]",
                    f"{line.residual:.3g}",
                )
            )
    if not rows:
        return "<p>Too few models for lines.</p>"
    head = ("property", "axis", "models", "slope on logit accuracy", "correlation", "residual")
    return _table(head, rows)

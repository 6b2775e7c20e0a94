"""The report's sections, in the order of the paper: which plots a suite's figures are worth.

What is drawn follows from what figures hold (bins, scores, severities, groups), not from the names of
suites, so that a suite of one's own is drawn like a shipped one.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from markupsafe import Markup

from pytest_cliprobust.errors import counted
from pytest_cliprobust.figures.condition import CLEAN
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.properties.calibration import reliability
from pytest_cliprobust.properties.shape_bias import people_decided
from pytest_cliprobust.reporting.facts import Line, number, words
from pytest_cliprobust.reporting.html import plots
from pytest_cliprobust.reporting.html.svg import BASE, HEAD, MODELS, MUTED, drawing, inline
from pytest_cliprobust.reporting.separation import Separation
from pytest_cliprobust.reporting.shape_bias import Classes, classes_of, draw

#: The paper's sections, as links name them and as suites' files do (``SECTION``); a section that only a file
#: names comes after them.
PAPER = {
    "Visual factors": "factors",
    "Safety": "safety",
    "Image and text": "bridge",
    "3D awareness": "3d",
    "In multimodal models": "lmm",
}
OTHERS = "Other suites"

#: Most rows of one plot, and most small plots of one kind: a corruption each, or fewer of what is larger.
ROWS, PLOTS, FEW = 18, 24, 12


@dataclass(frozen=True)
class Plot:
    """One drawing, made when it is first asked for: of many, most are never shown.

    Attributes:
        draw: what makes the drawing.
        title: above it, where the drawing has none in it.
        wide: whether it has labels on its left.
        caption: beneath it.
        head, rows: the numbers that it shows, as a table; empty where the figures' rows have them.
    """

    draw: Callable[[], Markup]
    title: str = ""
    wide: bool = False
    caption: str = ""
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    @cached_property
    def svg(self) -> Markup:
        """The drawing."""
        return self.draw()


@dataclass(frozen=True)
class Group:
    """Plots of one kind, under a heading.

    Attributes:
        title: the heading.
        plots: what stands under it.
        note: what they lack.
        models: whose lines they have, in the order of the page's colours; empty where it is one model's.
    """

    title: str
    plots: tuple[Plot, ...]
    note: str = ""
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class SuitePart:
    """A suite's part of a section."""

    name: str
    lines: tuple[Line, ...]
    groups: tuple[Group, ...]

    @property
    def title(self) -> str:
        """Its name as a heading."""
        name = words(self.name)
        name = name.upper() if self.name in ("ood", "lmm") else name[:1].upper() + name[1:]
        return re.sub(r"\b([23])d\b", r"\1D", name)

    @property
    def anchor(self) -> str:
        """What a link to it ends in."""
        return "suite-" + "".join(c if c.isalnum() else "-" for c in self.name)

    @property
    def failed(self) -> int:
        """How many of its bounds fail."""
        return sum(line.failed for line in self.lines)


@dataclass(frozen=True)
class Section:
    """A section of the paper.

    Attributes:
        name: what a link to it ends in.
        title: the heading.
        suites: its suites that are shown.
        hidden: those for which a page had no room.
    """

    name: str
    title: str
    suites: tuple[SuitePart, ...] = ()
    hidden: tuple[SuitePart, ...] = ()

    @property
    def lines(self) -> tuple[Line, ...]:
        """All its figures."""
        return tuple(line for suite in self._every for line in suite.lines)

    @property
    def _every(self) -> tuple[SuitePart, ...]:
        return self.suites + self.hidden

    @property
    def failed(self) -> int:
        """How many of its bounds fail."""
        return sum(suite.failed for suite in self._every)

    @property
    def judged(self) -> int:
        """How many of its figures a bound judged."""
        return sum(line.status != "unbounded" for line in self.lines)

    @property
    def undecided(self) -> int:
        """How many of those are inconclusive, and do not fail for it."""
        return sum(line.status == "inconclusive" and not line.failed for line in self.lines)

    @property
    def waived(self) -> int:
        """How many of those are missed under a waiver."""
        return sum(line.status == "waived" for line in self.lines)

    @property
    def worst(self) -> Line | None:
        """Its largest loss that fails, or that is real, in plain fractions; None where there is none."""
        found = [
            line
            for line in self.lines
            if (line.failed or line.tone == "bad") and not line.measurement.figure.unit
        ]
        return max(found, key=lambda line: (line.failed, line.loss), default=None)


def sections_of(
    lines: Iterable[Line], told: Mapping[str, Sequence[str]] | None = None
) -> tuple[Section, ...]:
    """Return the sections that have figures, with their plots.

    Args:
        lines: the figures.
        told: suites by section, each section's in their order; what is in none stands in the last.
    """
    by_suite: dict[str, list[Line]] = {}
    for line in lines:
        by_suite.setdefault(line.measurement.suite, []).append(line)
    names, told = _Names(), told or {}
    known = {suite for suites in told.values() for suite in suites}
    rest = tuple(suite for suite in sorted(by_suite) if suite not in known)
    found = []
    for title in (*PAPER, *(title for title in told if title not in PAPER), OTHERS):
        suites = (*told.get(title, ()), *(rest if title == OTHERS else ()))
        parts = tuple(
            SuitePart(suite, tuple(by_suite[suite]), tuple(_groups(by_suite[suite], names)))
            for suite in suites
            if suite in by_suite
        )
        if parts:
            found.append(Section(_anchor(title), title, parts))
    return tuple(found)


def _anchor(title: str) -> str:
    own = "section-" + "".join(c if c.isalnum() else "-" for c in title.casefold())
    return "others" if title == OTHERS else PAPER.get(title, own)


class _Names:
    """Names of drawings, each given once."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def next(self) -> str:
        return f"p{next(self._numbers)}"


def _groups(lines: Sequence[Line], names: _Names) -> Iterator[Group]:
    ordered = sorted(lines, key=lambda line: line.key)
    makers: tuple[Callable[[Sequence[Line], _Names], Iterator[Group]], ...] = (
        *(_shape_bias, _severities, _reliabilities, _rocs, _curves, _by_group, _angles, _pairs),
    )
    found = [group for make in makers for group in make(ordered, names)]
    yield from found
    # A suite that nothing judges, and of which nothing else can be drawn, is not left empty.
    yield from _dots(ordered, names, every=not found and not _bound(ordered))


def _figures(line: Line) -> tuple[Figure, Figure | None]:
    return line.measurement.figure, None if line.compared is None else line.compared.base.figure


def _of(line: Line) -> str:
    """Return ``MODEL: ``, where it might be another's; else nothing."""
    return f"{line.measurement.model}: " if line.several else ""


def _group(
    title: str, made: Sequence[Plot], note: str = "", of: int | None = None
) -> Iterator[Group]:
    """Give a group, if there is anything in it; ``of``: how many there were to choose from."""
    if not made:
        return
    left = (len(made) if of is None else of) - min(len(made), PLOTS)
    more = f"{counted(left, 'more is', 'more are')} in the table of all figures. " if left else ""
    yield Group(title, tuple(made[:PLOTS]), (more + note).strip())


def _first(lines: Iterable[Line]) -> list[Line]:
    """Return lines with those first that a bound judged, and that fail."""
    return sorted(lines, key=lambda line: (not line.failed, line.status == "unbounded", -line.loss))


# --- Severity curves -------------------------------------------------------------------------------


def _severities(lines: Sequence[Line], names: _Names) -> Iterator[Group]:
    """Draw accuracy, or another plain share, along the severities of each perturbation."""
    found: dict[tuple[str, str, str], dict[str, dict[int, Line]]] = {}
    for line in lines:
        one = line.measurement
        if one.severity is not None and one.metric in ("accuracy", "shape_bias"):
            place = (one.metric, one.dataset, one.perturbation)
            found.setdefault(place, {}).setdefault(one.model, {})[one.severity] = line
    drawn = _models_drawn(lines)
    for metric in dict.fromkeys(place[0] for place in found):
        made = []
        for place, by_model in found.items():
            by_model = {m: by_model[m] for m in drawn if len(by_model.get(m, ())) > 1}
            if place[0] != metric or not by_model:
                continue
            if len(drawn) > 1:
                made.append(_severities_beside(place, by_model, names))
            else:
                (own,) = by_model.values()
                made.append(_severity_plot(place, own, names))
        made.sort(key=lambda pair: pair[0])
        for group in _group(
            f"{words(metric).capitalize()} by severity, the largest loss first",
            [plot for _, plot in made],
            f"Bands are 95% intervals.{_undrawn(lines, drawn)}",
        ):
            yield replace(group, models=drawn if len(drawn) > 1 else ())


def _models_drawn(lines: Sequence[Line]) -> tuple[str, ...]:
    """Return the models that one drawing has room for: those of which most bounds fail."""
    failed: Counter[str] = Counter()
    for line in lines:
        failed[line.measurement.model] += line.failed
    chosen = sorted(failed, key=lambda model: (-failed[model], model))[: len(MODELS)]
    return tuple(sorted(chosen))


def _undrawn(lines: Sequence[Line], drawn: Sequence[str]) -> str:
    left = len({line.measurement.model for line in lines}) - len(drawn)
    verb = "is" if left == 1 else "are"
    return (
        f" {left} more of the models, of which fewer bounds fail, {verb} in the table."
        if left
        else ""
    )


def _severities_beside(
    place: tuple[str, str, str], models: Mapping[str, Mapping[int, Line]], names: _Names
) -> tuple[float, Plot]:
    """Return one drawing of several models, and what it is ordered by."""
    curves, rows = {}, []
    for model, by in models.items():
        own = [(s, by[s].measurement.figure) for s in sorted(by)]
        curves[model] = plots.Line(
            *zip(*((s, f.value, f.low, f.high) for s, f in own), strict=True)
        )
        rows += [(model, str(s), f.interval_text(), str(f.n)) for s, f in own]
    every = [line for by in models.values() for line in by.values()]
    ticks = sorted({line.measurement.severity or 0 for line in every})
    svg = partial(plots.curves, curves, names.next(), _where(place), across="severity", ticks=ticks)
    loss = max(line.loss for line in every)
    lowest = min(float(np.mean(curve.y)) for curve in curves.values())
    head = ("model", "severity", "value [95% interval]", "n")
    return (-loss if loss else lowest), Plot(svg, head=head, rows=tuple(rows))


def _where(place: tuple[str, str, str]) -> str:
    return words(place[2]) if place[1] == CLEAN else f"{words(place[2])}, {place[1]}"


def _severity_plot(
    place: tuple[str, str, str], by: Mapping[int, Line], names: _Names
) -> tuple[float, Plot]:
    chosen = sorted(by)
    own = [by[severity].measurement.figure for severity in chosen]
    head = plots.Line(chosen, [f.value for f in own], [f.low for f in own], [f.high for f in own])
    before = {s: by[s].before for s in chosen}
    there = [s for s in chosen if before[s] is not None]
    base = plots.Line(there, [float(before[s] or 0.0) for s in there]) if there else None
    curve = partial(plots.curve, across="severity", ticks=chosen)
    svg = partial(curve, head, base, names.next(), _where(place))
    rows = tuple(
        (
            str(s),
            f.interval_text(),
            str(f.n),
            "–" if before[s] is None else number(before[s] or 0.0),
        )
        for s, f in zip(chosen, own, strict=True)
    )
    loss = max((line.loss for line in by.values()), default=0.0)
    mean = float(np.mean([f.value for f in own]))
    return (-loss if loss else mean - 2.0 if not there else mean), Plot(
        svg, head=("severity", "value [95% interval]", "n", "before"), rows=rows
    )


# --- Calibration -----------------------------------------------------------------------------------


def _reliabilities(lines: Sequence[Line], names: _Names) -> Iterator[Group]:
    made = []
    chosen = _first(line for line in lines if line.measurement.figure.details.get("reliability"))
    for line in chosen[:FEW]:
        head, base = _figures(line)
        bins = head.details["reliability"]
        title = f"{line.place}{', scaled' if 'scaled' in head.metric else ''}"
        earlier = [] if base is None else _bins(base, len(bins))
        made.append(
            Plot(
                partial(plots.reliability, bins, earlier, names.next(), title),
                caption=f"{_of(line)}{words(head.metric)} {head.interval_text()}, n = {head.n:,}",
            )
        )
    yield from _group(
        "Reliability diagrams",
        made,
        "Below the dotted line a model is surer than it is right.",
        of=len(chosen),
    )


def _bins(figure: Figure, count: int) -> list[dict[str, Any]]:
    """Return the bins of an earlier figure, from its outcomes where its details are not kept."""
    told = figure.details.get("reliability")
    if isinstance(told, list):
        return told
    own = figure.outcomes
    if own is None or not {"confidence", "correct"} <= set(own.columns):
        return []
    return reliability(
        np.asarray(own["confidence"], dtype=np.float64),
        np.asarray(own["correct"], dtype=np.float64),
        count,
    )


# --- OOD -------------------------------------------------------------------------------------------


def _rocs(lines: Sequence[Line], names: _Names) -> Iterator[Group]:
    curves: list[Plot] = []
    spread: list[Plot] = []
    without = 0
    chosen = _first(line for line in lines if line.measurement.metric.startswith("auroc"))
    for line in chosen[:FEW]:
        head, base = _figures(line)
        told = Separation.of_figure(head)
        if told is None:
            without += 1
            continue
        earlier = None if base is None else Separation.of_figure(base, head)
        title = f"{words(head.metric.removeprefix('auroc_'))}, {line.place}"
        caption = f"{_of(line)}AUROC {head.interval_text()}"
        drawn = partial(plots.roc, told, earlier, names.next(), title)
        curves.append(Plot(drawn, caption=caption))
        if len(spread) < FEW // 2:
            scores = partial(plots.histogram, told, names.next(), title)
            spread.append(Plot(scores, caption=_of(line).removesuffix(": ")))
    note = f"{without} without scores: an earlier version wrote the report." if without else ""
    shown = len(chosen) - without
    yield from _group("ROC curves, ID against OOD", curves, note, of=shown)
    if not curves and without:
        yield Group("ROC curves, ID against OOD", (), note)
    yield from _group("Scores of ID (blue) and OOD (grey)", spread)


# --- Curves that figures hold ----------------------------------------------------------------------


def _curves(lines: Sequence[Line], names: _Names) -> Iterator[Group]:
    frontiers, risks = [], []
    for line in lines:
        head, base = _figures(line)
        own = _points(head)
        if own is None:
            continue
        earlier = None if base is None else _points(base)
        before = None if earlier is None else plots.Line(*earlier)
        if "coverage" in str(head.details["curve"][0]):
            span = (0.0, max(0.05, *own[1], *(earlier[1] if earlier else ())))
            risk = partial(plots.curve, across="coverage", span=span)
            drawn = partial(risk, plots.Line(*own), before, names.next(), line.place)
            risks.append(Plot(drawn, caption=f"{_of(line)}AURC {head.interval_text()}"))
            continue
        clean, allowed = (head.details.get(k) for k in ("clean_accuracy", "allowed_drop"))
        limit = None if clean is None or allowed is None else float(clean) - float(allowed)
        frontier = partial(plots.curve, across="strength", limit=limit)
        drawn = partial(frontier, plots.Line(*own), before, names.next(), line.place)
        caption = f"{_of(line)}{words(head.metric)} {head.interval_text()}"
        frontiers.append(Plot(drawn, caption=caption))
    yield from _group(
        "Accuracy along the strength", frontiers, "The dotted line is what was allowed to be lost."
    )
    yield from _group("Error of the answers given, by coverage", risks)


def _points(figure: Figure) -> tuple[list[float], list[float]] | None:
    told = figure.details.get("curve")
    if not isinstance(told, list) or not told:
        return None
    try:
        if isinstance(told[0], Mapping):
            return [float(p["coverage"]) for p in told], [float(p["error"]) for p in told]
        return [float(p[0]) for p in told], [float(p[1]) for p in told]
    except (KeyError, TypeError, ValueError, IndexError):
        return None


# --- Groups, angles, pairs, shape ------------------------------------------------------------------


def _by_group(lines: Sequence[Line], names: _Names) -> Iterator[Group]:
    made = []
    for line in lines:
        head, base = _figures(line)
        told = head.details.get("groups")
        if not isinstance(told, Mapping) or not head.metric.startswith("worst_group"):
            continue
        key = next((k for k in ("accuracy", "ece") if k in str(told)), "accuracy")
        earlier = {} if base is None else base.details.get("groups", {})
        rows = [
            plots.Dot(
                f"{name}, n = {own['n']}",
                float(own.get(key, np.nan)),
                float(own.get("low", np.nan)),
                float(own.get("high", np.nan)),
                float(earlier[name][key]) if name in earlier else None,
            )
            for name, own in told.items()
            if isinstance(own, Mapping) and key in own
        ]
        if rows:
            rows.sort(key=lambda dot: dot.value if key == "accuracy" else -dot.value)
            title = f"{key.capitalize() if key == 'accuracy' else key.upper()} by {_grouped(line)}"
            drawn = partial(plots.dots, rows[:ROWS], names.next(), title)
            made.append(Plot(drawn, f"{title}{line.whose}", wide=True))
    yield from _group("Subgroups, the worst first", made, "Small subgroups are left out.")


def _grouped(line: Line) -> str:
    """Return what subgroups are of: ``category``, ``style, captioned, fog 3``."""
    of, _, what = line.measurement.dataset.rpartition(":")
    under = [] if line.measurement.perturbation == CLEAN else [line.place.rpartition(", ")[2]]
    return ", ".join([what, *([of] if of not in ("", CLEAN) else []), *under])


def _angles(lines: Sequence[Line], names: _Names) -> Iterator[Group]:
    made = []
    for line in lines:
        head, base = _figures(line)
        own = _by_angle(head)
        if own is not None and not line.measurement.condition.part_of:
            earlier = None if base is None else _by_angle(base)
            title = f"{words(head.metric).removeprefix('correspondence ')}, {line.place}"
            drawn = partial(
                plots.curve,
                plots.Line(*own),
                None if earlier is None else plots.Line(*earlier),
                names.next(),
                title,
                across="change of viewpoint, degrees",
            )
            made.append(Plot(drawn, caption=f"{_of(line)}{head.interval_text()}"))
    yield from _group("Matches by change of viewpoint", made)


def _by_angle(figure: Figure) -> tuple[list[float], list[float]] | None:
    told = figure.details.get("by_angle")
    if not isinstance(told, list):
        return None
    there = [entry for entry in told if entry.get("n") and entry.get("recall") is not None]
    if not there:
        return None
    return [(e["low"] + e["high"]) / 2 for e in there], [float(e["recall"]) for e in there]


def _pairs(lines: Sequence[Line], names: _Names) -> Iterator[Group]:
    made = []
    for line in lines:
        told = line.measurement.figure.details.get("pairs")
        if not isinstance(told, list) or not told or not isinstance(told[0], Mapping):
            continue
        if "gained" not in told[0]:
            continue
        rows = [
            (f"{p['name']} or {p['other_name']}", float(p["gained"]), float(p["lost"]))
            for p in told
        ]
        moved = sorted((r for r in rows if r[1] or r[2]), key=lambda r: (r[1] - r[2], r[0]))
        shown = moved if len(moved) <= ROWS else [*moved[: ROWS // 2], *moved[-ROWS // 2 :]]
        if shown:
            drawn = partial(plots.pairs, shown, names.next(), "gained and lost against CLIP")
            still = f"{len(rows) - len(moved)} without a gain or a loss"
            caption = f"{_of(line)}{counted(len(rows), 'pair')}, {still}"
            made.append(Plot(drawn, wide=True, caption=caption))
    yield from _group("What the multimodal model gains (right) and loses (left), by pair", made)


def _shape_bias(lines: Sequence[Line], names: _Names) -> Iterator[Group]:
    made = []
    for line in lines:
        head, base = _figures(line)
        whole = head.metric == "shape_bias" and "per_class" in head.details
        if not whole or line.measurement.perturbation != CLEAN or not _decisive(head):
            continue
        models = {line.measurement.model: classes_of(head)}
        if base is not None and "per_class" in base.details and _decisive(base):
            models["earlier run"] = classes_of(base)
        label = f"shape bias {head.interval_text()}"
        caption = f"{label}; dashed: the mean over classes, dotted: people (Geirhos et al. 2019)"
        drawn = partial(_shapes, models, names.next(), label)
        made.append(Plot(drawn, line.whose.strip(" ()"), wide=True, caption=caption))
    yield from _group("Shape or texture, by class", made)


def _shapes(models: Mapping[str, Classes], name: str, label: str) -> Markup:
    rows = len(next(iter(models.values())))
    with drawing(plots.WIDE, 1.75 + 0.21 * rows) as figure:
        draw(figure, models, people_decided(), (HEAD, BASE), MUTED)
        _fit_the_page(figure)
        return inline(figure, name, label)


def _fit_the_page(figure: Any) -> None:
    """Shorten the words of the picture that stands alone: the page says the rest."""
    shape, neither = figure.axes[:2]
    shape.set_xlabel("share of shape decisions")
    neither.set_xlabel("for neither")
    for legend in figure.legends:
        legend.remove()


def _decisive(figure: Figure) -> bool:
    return any(decided.shape_bias is not None for decided in classes_of(figure).values())


# --- All the rest ----------------------------------------------------------------------------------


def _dots(lines: Sequence[Line], names: _Names, *, every: bool = False) -> Iterator[Group]:
    """Draw figures of one metric side by side, those with bounds first; ``every``: without bounds, too."""
    by_metric: dict[str, list[Line]] = {}
    for line in lines:
        one = line.measurement
        finite = np.isfinite([one.figure.value, one.figure.low, one.figure.high]).all()
        if finite and not (one.severity is not None and one.metric == "accuracy"):
            by_metric.setdefault(one.metric, []).append(line)
    single = [line for own in by_metric.values() if len(own) == 1 for line in own]
    plain = [line for line in single if not line.measurement.figure.unit]
    made = [
        (own, words(metric))
        for metric, own in by_metric.items()
        if len(own) > 1 and (every or _bound(own))
    ]
    if len(plain) > 1:
        made.append((plain, ""))
    drawn = []
    for own, title in made[:4]:
        shown = sorted(own, key=lambda line: (line.status == "unbounded", line.key))[:ROWS]
        rows = [_dot(line, alone=bool(title)) for line in shown]
        left = f" ({len(own) - len(shown)} more in the table)" if len(own) > len(shown) else ""
        made_of = partial(plots.dots, rows, names.next(), title or "figures")
        heading = f"{title or 'by metric'}{left}"
        drawn.append(Plot(made_of, heading[:1].upper() + heading[1:], wide=True))
    yield from _group("", drawn)


def _bound(lines: Sequence[Line]) -> bool:
    return any(line.status != "unbounded" for line in lines)


def _dot(line: Line, *, alone: bool) -> plots.Dot:
    figure = line.measurement.figure
    label = line.place if alone else words(figure.metric)
    tone = "bad" if line.failed else line.tone
    ends = (figure.value, figure.low, figure.high)
    return plots.Dot(label, *ends, line.before, tone, line.whose)

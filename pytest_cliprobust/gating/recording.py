"""Recording: bounds from what a run measured, written into the threshold file.

A figure that a later run can be compared with, sample by sample, gets a *margin*: the smallest loss
against this run that its samples decide (:mod:`pytest_cliprobust.gating.margins`). Others get an absolute
bound, away from the interval's bad end.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.figures.metrics import METRICS, Metric
from pytest_cliprobust.files import not_written, replace_file, shown_path
from pytest_cliprobust.gating import toml
from pytest_cliprobust.gating.authors import Authors
from pytest_cliprobust.gating.document import SCHEMA, read_text
from pytest_cliprobust.gating.editing import Addition, Update, written_with
from pytest_cliprobust.gating.limits import (
    beyond_what_is_left,
    weaker_than_chance,
    why_not_gated,
    why_useless,
)
from pytest_cliprobust.gating.margins import Margin, decidable
from pytest_cliprobust.gating.measured import Measured
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.rules import BOUNDS, CHANGES, FIELDS, Kind, Rule, coordinates, literal
from pytest_cliprobust.gating.suggestion import Side, suggest_bound
from pytest_cliprobust.gating.thresholds import ThresholdFile
from pytest_cliprobust.gating.words import rounded_up

_SIDES: tuple[Side, ...] = ("max", "min")


@dataclass(frozen=True)
class RecordChange:
    """One bound that recording wrote, or why it wrote none.

    Attributes:
        key: the measurement (of several on one rule: the one that set the bound).
        bound: the kind of the bound; empty if skipped.
        old, new: the bound before and after, None if there was none.
        action: ``"updated"``, ``"added"``, ``"unchanged"`` or ``"skipped"``.
        where: file and line after the change.
        reason: why it was skipped, or what is told beside it.
    """

    key: str
    bound: str
    old: float | None
    new: float | None
    action: Literal["updated", "added", "unchanged", "skipped"]
    where: str
    reason: str = ""

    @property
    def looser(self) -> bool:
        """Whether a bound asks for less than the one that stood there."""
        if self.old is None or self.new is None:
            return False
        return self.new < self.old if self.bound == "min" else self.new > self.old

    def __str__(self) -> str:
        """``thresholds.toml:17: max 0.1 → 0.12 (calibration/ece/…)``."""
        if self.action == "skipped":
            return f"{self.where}: not recorded: {self.reason} ({self.key})"
        new = f"{self.new:.12g}"
        if self.action == "unchanged":
            told = f", {self.reason}" if self.reason else ""
            return f"{self.where}: {self.bound} {new} stays ({self.key}{told})"
        old = "none" if self.old is None else f"{self.old:.12g}"
        reason = f", {self.reason}" if self.reason else ""
        return f"{self.where}: {self.bound} {old} → {new} ({self.key}{reason})"


def record(
    path: str | Path,
    measurements: Iterable[Measurement],
    *,
    margin: float = 0.5,
    generic: Sequence[str] = (),
    profile: str | None = None,
    noise: Mapping[str, float] | None = None,
    classes: int | None = None,
    dry_run: bool = False,
) -> list[RecordChange]:
    """Write bounds from a run into the threshold file, and return the changes.

    A bound that no model would miss, or that is weaker than chance, is left out and told.

    Figures with outcomes by sample get the smallest margin that their samples decide, as
    ``max_decrease`` (higher is better), ``max_increase`` (lower is) or both. Where recording once wrote
    an absolute bound, the margin takes its place. What a person wrote stays
    (:mod:`pytest_cliprobust.gating.authors`): an absolute bound beside the margin, a margin in its place,
    which is told if it is smaller than the samples decide.

    Of other figures a bound lies ``margin`` widths of the interval beyond its bad end: ``min`` for
    metrics where higher is better, ``max`` where lower is, both where neither. The interval is taken at
    the policy's level, so that the run that was recorded passes. If the rule that wins the look-up is
    *exact* (it names every coordinate of the measurement and nothing more), its ``min``/``max`` is
    replaced in place, whether that tightens or loosens it; else a new exact rule is added, as a row of
    the table for its suite and metric or in a new table, which takes over from the rule that won so far
    the bounds on the change and, beside a margin, a person's absolute ones.

    Other rules, comments, blank lines and order stay byte by byte; a comment is replaced only if
    recording wrote it. A rule that several measurements share gets the loosest of their bounds. The file
    is replaced in one step, or not at all; one that does not exist is created.

    Args:
        path: the threshold file; a link is followed.
        measurements: what the run measured; what is not finite is skipped, with the reason.
        margin: in widths of the interval, at least 0.
        generic: fields that new rules leave open, e.g. ``("model",)`` so that the next release, under
            another name, is held to the same bounds.
        profile: the profile of the run, which new rules then name (unless it is generic).
        noise: numerical noise of the figures by the measurements' keys, as verdicts know it.
        classes: number of classes, for the accuracy that guessing reaches.
        dry_run: say what would change and write nothing.

    Raises:
        ClipRobustError: a mistake in the file, a negative margin, or a file that cannot be written.
    """
    _check_arguments(margin, generic)
    path = Path(path)
    shown = str(shown_path(path))
    text = read_text(path) if path.exists() else f"schema = {SCHEMA}\n"
    file = _parsed(text, path, profile)
    defaults = toml.loads(text).get("defaults", {})
    # What the file's own defaults name, its rules name.
    left_open = tuple(name for name in generic if name not in defaults)
    recording = _Recording(file, text, left_open, margin, noise or {}, classes)
    for measurement in measurements:
        recording.take(measurement)
    recording.leave_out_the_useless()
    recording.leave_out_the_incomplete()
    updated = written_with(text, recording.updates(), recording.additions())
    try:
        after = _parsed(updated, path, profile)
    except ClipRobustError as error:
        raise ClipRobustError(
            f"nothing was recorded, the new file would be wrong: {error}"
        ) from None
    recording.check_that_new_rules_win(after)
    if updated != text and not dry_run:
        try:
            replace_file(path, updated, durable=True)
        except OSError as error:
            raise not_written(f"{shown}: cannot be written", error) from None
    return [*recording.told, *recording.changes(after)]


def _check_arguments(margin: float, generic: Sequence[str]) -> None:
    if not (math.isfinite(margin) and margin >= 0.0):
        raise ClipRobustError(f"the margin of a record must be 0 or more, not {margin}")
    for name in generic:
        if name not in (*FIELDS, "severity") or name == "metric":
            raise ClipRobustError(f"a recorded rule cannot leave {name!r} open")


def _parsed(text: str, path: Path, profile: str | None) -> ThresholdFile:
    # Names were checked, against the real vocabularies, when the run began.
    shown = str(shown_path(path))
    return parse_thresholds(text, shown, path.parent, profile=profile, known_metrics=("*",))


@dataclass(frozen=True)
class _Bound:
    """A bound that is to be written, or to stay.

    Attributes:
        value: the bound.
        key: the measurement that set it.
        told: what is told beside it.
        rule: where it stands so far; None if it is new.
    """

    value: float
    key: str
    told: str = ""
    rule: Rule | None = None


@dataclass
class _Pending:
    """What one rule, existing or to be added, is to hold.

    Attributes:
        rule: the rule that exists, or None.
        measurements: all that it is recorded from.
        bounds: by kind, the bounds to write.
        replaced: recorded absolute bounds whose place a margin takes, by the margin's kind.
        kept: margins of a person's in the rule itself.
        inherited: bounds that a new rule takes over from a broader one.
        instead: the broader rule that a new one wins over from now on.
        measured: what set a bound last.
        useless: sides on which a bound would gate nothing.
    """

    rule: Rule | None
    measurements: list[Measurement] = field(default_factory=list)
    bounds: dict[Kind, _Bound] = field(default_factory=dict)
    replaced: dict[Kind, Kind] = field(default_factory=dict)
    kept: dict[Kind, _Bound] = field(default_factory=dict)
    inherited: dict[Kind, _Bound] = field(default_factory=dict)
    instead: Rule | None = None
    measured: Measured | None = None
    useless: set[Kind] = field(default_factory=set)

    def widen(self, kind: Kind, bound: _Bound, measured: Measured) -> None:
        """Take a bound, if it is looser than the one known."""
        known = self.bounds.get(kind)
        if known is None or _stricter(kind, known.value, bound.value):
            self.bounds[kind] = bound
            self.measured = measured

    def inherit(self, kind: Kind, bound: _Bound) -> None:
        """Take over a bound of a broader rule, of several the strictest."""
        known = self.inherited.get(kind)
        if known is None or _stricter(kind, bound.value, known.value):
            self.inherited[kind] = bound

    @property
    def lacks_its_side(self) -> bool:
        """Whether the side on which losses lie is one that would gate nothing."""
        better = METRICS.named(self.measurements[0].metric).higher_is_better
        return better is not None and ("min" if better else "max") in self.useless

    @property
    def values(self) -> dict[Kind, float]:
        """The bounds to write, in the order in which they stand in a file."""
        all_of_them = self.bounds | self.inherited
        return {kind: all_of_them[kind].value for kind in BOUNDS if kind in all_of_them}


def _stricter(kind: Kind, one: float, other: float) -> bool:
    return one > other if kind == "min" else one < other


class _Recording:
    """Collects what a run measured by the rules that will hold it."""

    def __init__(
        self,
        file: ThresholdFile,
        text: str,
        generic: tuple[str, ...],
        margin: float,
        noise: Mapping[str, float],
        classes: int | None = None,
    ) -> None:
        self.file = file
        self.authors = Authors(text, file.rules, margin)
        self.generic = generic
        self.margin = margin
        self.level = file.policy.confidence
        self.noise = noise
        self.classes = classes
        self.pending: dict[str, _Pending] = {}
        self.told: list[RecordChange] = []

    def take(self, measurement: Measurement) -> None:
        """Note the bounds that a measurement proposes."""
        figure = measurement.figure
        ends = interval_at(figure, self.level)
        try:
            metric = METRICS.named(measurement.metric)
        except ClipRobustError as error:
            self._skip(measurement.key, str(error))
            return
        if not all(map(math.isfinite, (figure.value, ends.low, ends.high))):
            self._skip(
                measurement.key,
                f"the figure is not finite ({figure.value}, {ends.low} to {ends.high})",
            )
            return
        paired = figure.outcomes is not None and figure.outcomes.keys is not None
        why = why_not_gated(metric, "max_decrease" if paired else "min")
        if why:
            self._skip(measurement.key, f"it is reported, and not gated: {why}")
            return
        if not metric.recorded:
            self._skip(measurement.key, "it is gated only where you set a bound yourself")
            return
        low, high = min(ends.low, figure.value), max(ends.high, figure.value)
        measured = Measured(figure.value, low, high, figure.n, self.level)
        winner = self.file.lookup(measurement)
        entry = self._entry(measurement, winner)
        if paired:
            self._take_margin(measurement, metric, winner, entry, measured)
        else:
            self._take_bounds(measurement, metric, winner, entry, measured)

    def _take_margin(
        self,
        measurement: Measurement,
        metric: Metric,
        winner: Rule | None,
        entry: _Pending,
        measured: Measured,
    ) -> None:
        """Note the smallest margin that the samples decide, unless a person has written one."""
        key = measurement.key
        margin = decidable(measurement.figure, self.file.policy, self.noise.get(key, 0.0))
        if margin is None:
            self._skip(key, "its spread is not known, so no margin can be proposed")
            return
        if winner is not None and entry.rule is None:
            self._inherit_bounds(winner, entry, key)
        for kind, side in _change_kinds(metric):
            if winner is not None and self.authors.wrote_margin(winner, kind, side):
                self._keep_margin(winner, kind, entry, measurement, margin)
                continue
            why = self._why_not_held(metric, kind, margin.size, measurement.figure.value)
            if why:
                self._skip(key, f"{kind} {margin.size:.12g} would gate nothing: {why}")
                entry.useless.add(kind)
                continue
            if self._takes_the_place(entry.rule, kind, side):
                entry.replaced[kind] = side
            entry.widen(kind, _Bound(margin.size, key, _told_of(margin, measurement)), measured)

    def _why_not_held(self, metric: Metric, kind: Kind, size: float, value: float) -> str:
        """Return why a margin would not be worth its line; empty if it is."""
        why = why_useless(metric, kind, size)
        worst = beyond_what_is_left(metric, kind, size, value, self.classes)
        if why or worst is None:
            return why
        if (value - worst) * (1.0 if kind == "max_decrease" else -1.0) <= 0.0:
            return f"{value:.3g} was measured, and the worst that a model comes to is {worst:.3g}"
        return f"no model misses it: {value:.3g} was measured, and {worst:.3g} is the worst that one comes to"

    def _inherit_bounds(self, winner: Rule, entry: _Pending, key: str) -> None:
        """Take over a person's absolute bounds: the broader rule judges the figure no more."""
        for side in _SIDES:
            if self.authors.wrote_bound(winner, side):
                entry.inherit(side, _Bound(winner.bounds[side], key, rule=winner))

    def _keep_margin(
        self, winner: Rule, kind: Kind, entry: _Pending, measurement: Measurement, margin: Margin
    ) -> None:
        """Keep a person's margin, and tell if the samples do not decide it."""
        own, told = winner.bounds[kind], ""
        if own < margin.size:
            told = f"smaller than the {margin.size:.12g} that {_basis(measurement)} decides"
        bound = _Bound(own, measurement.key, told, winner)
        if entry.rule is None:
            entry.inherit(kind, bound)
        else:
            entry.kept[kind] = bound

    def _takes_the_place(self, rule: Rule | None, kind: Kind, side: Side) -> bool:
        """Return whether a margin takes the place of an absolute bound that recording wrote."""
        if rule is None or kind in rule.bounds or side not in rule.bounds:
            return False
        return not self.authors.wrote_bound(rule, side)

    def _take_bounds(
        self,
        measurement: Measurement,
        metric: Metric,
        winner: Rule | None,
        entry: _Pending,
        measured: Measured,
    ) -> None:
        """Note absolute bounds."""
        low, high = measured.low, measured.high
        if winner is not None and entry.rule is None:
            # The new rule wins from now on: what the old one asked for must not be lost with it.
            for kind in CHANGES:
                if kind in winner.bounds:
                    size = winner.bounds[kind]
                    entry.inherit(kind, _Bound(size, measurement.key, rule=winner))
        for side in _sides(metric, winner):
            end = low if side == "min" else high
            floor = self.noise.get(measurement.key, 0.0)
            bound = suggest_bound(end, high - low, self.margin, side, metric, floor)
            why = self._why_not(metric, side, bound)
            if why:
                self._skip(measurement.key, f"{side} {bound:.12g} would gate nothing: {why}")
                entry.useless.add(side)
                continue
            entry.widen(side, _Bound(bound, measurement.key), measured)

    def _why_not(self, metric: Metric, side: Side, bound: float) -> str:
        """Return why a bound would not be worth its line; empty if it is."""
        if weaker_than_chance(metric, side, bound, self.classes) is not None:
            return "it is weaker than chance"
        return why_useless(metric, side, bound)

    def leave_out_the_useless(self) -> None:
        """Leave out the sides that would gate nothing for any of a rule's measurements.

        A rule that exists stays as it is then: one side of a band alone could pass the other. So does the
        broader one in whose place a new one would hold the wrong side alone.
        """
        for rule_id, entry in list(self.pending.items()):
            for kind in entry.useless:
                entry.bounds.pop(kind, None)
            nothing = not (entry.bounds or entry.kept)
            if nothing or (entry.useless and (entry.rule is not None or entry.lacks_its_side)):
                del self.pending[rule_id]
                # Nothing is new: the broader rule goes on judging.
                self.told += [_stays(kind, bound) for kind, bound in entry.inherited.items()]

    def _skip(self, key: str, reason: str, where: str = "") -> None:
        where = where or self.file.name
        self.told.append(RecordChange(key, "", None, None, "skipped", where, reason))

    def _entry(self, measurement: Measurement, winner: Rule | None) -> _Pending:
        """Return what is pending for the rule that will hold the measurement."""
        rule = winner if winner is not None and self._is_exact(winner, measurement) else None
        rule_id = self._new_rule(measurement).id if rule is None else rule.id
        entry = self.pending.setdefault(rule_id, _Pending(rule))
        entry.measurements.append(measurement)
        if rule is None:
            entry.instead = entry.instead or winner
        return entry

    def _is_exact(self, rule: Rule, measurement: Measurement) -> bool:
        if rule.rank:
            return False  # a pack's: it is nobody's to change here
        values = coordinates(measurement, self.file.profile)
        for name in FIELDS:
            patterns = rule.selectors.get(name)
            if patterns is None:
                if name not in self.generic and (name != "profile" or self.file.profile):
                    return False
            elif len(patterns) > 1 or literal(patterns[0]) != values[name]:
                return False
        wanted = () if measurement.severity is None else (measurement.severity,)
        return rule.severities == wanted or ("severity" in self.generic and not rule.severities)

    def _fields(self, measurement: Measurement) -> dict[str, str | int]:
        """Return the selector of a new rule for the measurement."""
        values = coordinates(measurement, self.file.profile)
        fields: dict[str, str | int] = {
            name: glob.escape(value)
            for name, value in values.items()
            if value and name not in self.generic
        }
        if measurement.severity is not None and "severity" not in self.generic:
            fields["severity"] = measurement.severity
        return fields

    def _new_rule(self, measurement: Measurement) -> Rule:
        fields = self._fields(measurement)
        severity = fields.pop("severity", None)
        return Rule(
            index=0,
            line=0,
            file="",
            selectors={name: (str(value),) for name, value in fields.items()},
            severities=() if severity is None else (int(severity),),
        )

    def leave_out_the_incomplete(self) -> None:
        """Leave out what would make a list with a bound for some of its severities only.

        Such a list is parallel to the severities, so a side that no severity had so far can be written
        for all of them or for none.
        """
        for rule_id, entry in list(self.pending.items()):
            rule = entry.rule
            if rule is None or rule.place.element is None:
                continue
            row = (rule.place.table, rule.place.row)
            for side in entry.bounds:
                swapped = entry.replaced.get(side)
                lacking = [
                    one.severities[0]
                    for one in self.file.rules
                    if not one.rank
                    and (one.place.table, one.place.row) == row
                    and (side not in one.bounds or swapped in one.bounds)
                    and not (one.id in self.pending and side in self.pending[one.id].bounds)
                ]
                if (side not in rule.bounds or swapped) and lacking:
                    self._skip(
                        entry.measurements[0].key,
                        f"its row has no {side}, and severity {lacking[0]} was not measured; "
                        "record all of its severities, or give them rows of their own",
                        rule.where,
                    )
                    del self.pending[rule_id]
                    break

    def updates(self) -> Iterator[Update]:
        """Yield the new values of rules that exist."""
        for entry in self.pending.values():
            if entry.rule is not None and entry.measured is not None:
                yield Update(entry.rule.place, entry.values, entry.measured, entry.replaced)

    def additions(self) -> Iterator[Addition]:
        """Yield the rules that are to be added."""
        for entry in self.pending.values():
            if entry.rule is None and entry.measured is not None:
                yield Addition(self._fields(entry.measurements[0]), entry.values, entry.measured)

    def check_that_new_rules_win(self, after: ThresholdFile) -> None:
        """Refuse rules that would not judge: with fields left open one need not be the most specific.

        Raises:
            ClipRobustError: another rule would win.
        """
        for rule_id, entry in self.pending.items():
            for measurement in entry.measurements if entry.rule is None else ():
                wins = after.lookup(measurement)
                if wins is None or wins.id != rule_id:
                    found = f"{wins.where} [{wins.id}]" if wins else "no rule"
                    raise ClipRobustError(
                        f"nothing was recorded: {found} would win over the new rule for "
                        f"{measurement.key}; record it exactly, or widen that rule"
                    )

    def changes(self, after: ThresholdFile) -> Iterator[RecordChange]:
        """Yield what is told of each bound; ``after`` is the file with them."""
        rules = {rule.id: rule for rule in after.rules}
        for rule_id, entry in self.pending.items():
            rule = rules[rule_id]
            for kind in BOUNDS:
                if kind in entry.bounds and kind not in entry.inherited:
                    yield _change(kind, entry, rule)
            for kind, bound in (entry.inherited | entry.kept).items():
                yield _stays(kind, replace(bound, rule=rule))


def _change(kind: Kind, entry: _Pending, rule: Rule) -> RecordChange:
    """Return what is told of a bound that was written; ``rule`` is the one that holds it now."""
    bound, where = entry.bounds[kind], rule.where_of(kind)
    if entry.rule is None:
        old = entry.instead.bounds.get(kind) if entry.instead is not None else None
        reasons = [bound.told]
        if entry.instead is not None and old is not None:
            reasons.insert(0, f"instead of {entry.instead.where_of(kind)}")
        return RecordChange(bound.key, kind, old, bound.value, "added", where, _joined(reasons))
    old, reasons = entry.rule.bounds.get(kind), [bound.told]
    if kind in entry.replaced:
        side = entry.replaced[kind]
        reasons.insert(0, f"instead of {side} {entry.rule.bounds[side]:.12g}")
    action: Literal["unchanged", "updated"] = "unchanged" if old == bound.value else "updated"
    return RecordChange(bound.key, kind, old, bound.value, action, where, _joined(reasons))


def _stays(kind: Kind, bound: _Bound) -> RecordChange:
    where = "" if bound.rule is None else bound.rule.where_of(kind)
    return RecordChange(bound.key, kind, bound.value, bound.value, "unchanged", where, bound.told)


def _joined(reasons: Iterable[str]) -> str:
    return "; ".join(reason for reason in reasons if reason)


def _told_of(margin: Margin, measurement: Measurement) -> str:
    """Return what is told beside a proposed margin."""
    usual = _usual(margin.size)
    return (
        f"the smallest that {_basis(measurement)} decides; {usual:g} needs about "
        f"{rounded_up(margin.samples_for(usual))}"
    )


def _change_kinds(metric: Metric) -> list[tuple[Kind, Side]]:
    """Return the kinds of margins that a metric needs, each with the absolute bound on that side."""
    falls: tuple[Kind, Side] = ("max_decrease", "min")
    rises: tuple[Kind, Side] = ("max_increase", "max")
    if metric.higher_is_better is None:
        return [falls, rises]
    return [falls] if metric.higher_is_better else [rises]


def _basis(measurement: Measurement) -> str:
    """Return ``n = 1,072 in 268 drawings``."""
    outcomes = measurement.figure.outcomes
    assert outcomes is not None
    assert outcomes.keys is not None
    return outcomes.keys.text()


def _usual(size: float) -> float:
    """Return the round number below two thirds of the size that people ask for next."""
    step = 10.0 ** math.floor(math.log10(size))
    return float(next((m * step for m in (5.0, 2.0, 1.0) if m * step < size / 1.5), step / 2.0))


def _sides(metric: Metric, winner: Rule | None) -> list[Side]:
    """Return the sides to bound: a band stays a band, without a direction the side that stands."""
    better = metric.higher_is_better
    sides = {"min": better is not False, "max": better is not True}
    have: set[Side] = {side for side in _SIDES if winner is not None and side in winner.bounds}
    if have and better is None:
        sides = dict.fromkeys(_SIDES, False)
    return [side for side in _SIDES if sides[side] or side in have]

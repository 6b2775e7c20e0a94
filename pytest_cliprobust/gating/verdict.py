"""Verdicts: a figure against a bound, or a change against a margin.

**fail**: the loss is real (the interval excludes none beyond an absolute bound, or none at all for a
change) and the estimate lies beyond the bound; **pass**: the interval rules out a loss beyond it, or
nothing changed at all; else **inconclusive**, which the policy turns into a failure, a warning or a pass.
So is a margin that no model could miss, as it allows more than the recorded figure can lose.
A figure that is not finite, or missing, fails whatever the policy says.

That a loss is real is asked at the run's family-wise error rate
(:mod:`pytest_cliprobust.gating.family`); that a bound is kept, at the policy's confidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast, get_args

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.change import Change, change_between
from pytest_cliprobust.figures.figure import Figure, json_number
from pytest_cliprobust.figures.intervals import Interval, samples_needed, two_sided_z
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.gating.baseline import Baseline
from pytest_cliprobust.gating.limits import beyond_what_is_left
from pytest_cliprobust.gating.margins import samples_for
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.rules import BOUNDS, CHANGES, Kind, Rule
from pytest_cliprobust.gating.vocabulary import metric_range
from pytest_cliprobust.gating.waivers import Missed, Waived, Waiver
from pytest_cliprobust.gating.words import format_value, rounded_up, samples_decide

Status = Literal["pass", "fail", "inconclusive", "unbounded", "waived"]
Outcome = Literal["pass", "warn", "fail"]

#: Statuses, the better first.
_ORDER: tuple[Status, ...] = ("pass", "inconclusive", "fail")

#: Probability with which the n that an inconclusive verdict names is to decide it.
POWER = 0.8

#: Why a bound on a change is not judged, where nothing better is known.
NO_BASELINE = "there is no baseline: --clip-record writes one, or name one with --clip-baseline"
_CHANCE = f"{POWER:.0%} chance, if the estimate holds"


@dataclass(frozen=True)
class Verdict:
    """What a bound says of a measurement.

    Attributes:
        status: what the statistics say; ``waived`` where that would fail, and a waiver says that it may.
        outcome: what counts: the status under the policy.
        key: key of the measurement.
        kind: kind of the deciding bound; None if unbounded.
        limit: the deciding bound; None if unbounded.
        where: file and line of that bound; empty if unbounded.
        because: the author's reason for the bound.
        explanation: one sentence.
        value: what was held against the bound: the figure, or its change against the baseline.
        low, high: the interval of ``value`` at ``confidence``.
        confidence: level of the interval: that at which a failure's loss is real, else the policy's.
        n: number of samples, of a change those compared.
        missed_by: how far ``value`` lies beyond the bound; 0 if on the good side, None if unbounded
            or not finite.
        samples_needed: for an inconclusive verdict the n that would decide it with probability
            ``POWER``; None if no n would.
        rule_id: id of the rule.
        p_value: of a bound that the estimate misses, the two-sided level at which the loss is real.
        compared: of a change, how it was compared (``paired, n = 536 in 268 drawings``).
        decidable: of a change, the smallest margin that these samples decide.
        changed: of a paired change, the share of samples whose outcome is another.
        late: whether it is a failure only given all that the run found.
        note: what is told beside the verdict, such as a real loss within the margin.
        waiver: of a waived bound, by whom, why, and what the statistics say; None of any other.
    """

    status: Status
    outcome: Outcome
    key: str
    kind: Kind | None
    limit: float | None
    where: str
    because: str
    explanation: str
    value: float
    low: float
    high: float
    confidence: float
    n: int
    missed_by: float | None = None
    samples_needed: int | None = None
    rule_id: str = ""
    p_value: float | None = None
    compared: str = ""
    decidable: float | None = None
    changed: float | None = None
    late: bool = False
    note: str = ""
    waiver: Waived | None = None

    @property
    def failed(self) -> bool:
        """Whether the test fails."""
        return self.outcome == "fail"

    @property
    def bound(self) -> str:
        """The deciding bound as messages and reports show it, ``max 0.1``; empty if unbounded."""
        return "" if self.limit is None else f"{self.kind} {self.limit:.12g}"

    @property
    def on_change(self) -> bool:
        """Whether the deciding bound is one on the change against a baseline."""
        return self.kind in CHANGES

    @property
    def not_compared(self) -> bool:
        """Whether its bound is one on a change, and there was nothing to hold the figure against."""
        return self.on_change and self.status == "inconclusive" and self.missed_by is None

    @property
    def waivable(self) -> bool:
        """Whether a waiver can excuse it: a bound that is missed by so much, not what cannot be judged."""
        return self.failed and self.kind is not None and self.missed_by is not None

    def under(self, waiver: Waiver) -> Verdict:
        """Return the verdict that fails as one that a waiver excuses: a warning, and never a pass."""
        missed: Missed = "inconclusive" if self.status == "inconclusive" else "fail"
        return replace(self, status="waived", outcome="warn", waiver=waiver.of(missed))

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON-able data, with :attr:`bound` for readers."""
        data = {
            name: json_number(value) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }
        if self.waiver is None:
            del data["waiver"]
        return {**data, "bound": self.bound}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Verdict:
        """Return the verdict that :meth:`as_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: ``data`` is something else.
        """
        for name, words in (("status", Status), ("outcome", Outcome)):
            if data[name] not in get_args(words):
                raise ValueError(f"unknown {name} {data[name]!r}")
        if data["kind"] not in (None, *BOUNDS):
            raise ValueError(f"unknown kind of bound {data['kind']!r}")
        limit, missed, needed = data["limit"], data["missed_by"], data["samples_needed"]
        return cls(
            status=cast(Status, data["status"]),
            outcome=cast(Outcome, data["outcome"]),
            key=str(data["key"]),
            kind=cast("Kind | None", data["kind"]),
            limit=None if limit is None else float(limit),
            where=str(data["where"]),
            because=str(data["because"]),
            explanation=str(data["explanation"]),
            value=float(data["value"]),
            low=float(data["low"]),
            high=float(data["high"]),
            confidence=float(data["confidence"]),
            n=int(data["n"]),
            missed_by=None if missed is None else float(missed),
            samples_needed=None if needed is None else int(needed),
            rule_id=str(data["rule_id"]),
            p_value=_number(data.get("p_value")),
            compared=str(data.get("compared", "")),
            decidable=_number(data.get("decidable")),
            changed=_number(data.get("changed")),
            late=bool(data.get("late", False)),
            note=str(data.get("note", "")),
            waiver=None if data.get("waiver") is None else Waived.from_dict(data["waiver"]),
        )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


@dataclass(frozen=True)
class _Judged:
    """One bound of a rule, judged."""

    kind: Kind
    limit: float
    status: Status
    interval: Interval
    value: float
    n: int
    missed_by: float | None
    explanation: str
    needed: int | None = None
    p_value: float | None = None
    change: Change | None = None
    decidable: float | None = None
    note: str = ""

    @property
    def badness(self) -> tuple[int, float]:
        """Larger is worse; what could not be judged is worse than any miss."""
        missed = math.inf if self.missed_by is None else self.missed_by
        return _ORDER.index(self.status), missed


@dataclass(frozen=True)
class _Levels:
    """At what confidence a bound is kept, and at what error rate a loss is real; and the noise."""

    kept: float
    error_rate: float
    noise: float


def judge(
    measurement: Measurement | None,
    rule: Rule | None,
    policy: Policy,
    *,
    baseline: Baseline | None = None,
    error_rate: float | None = None,
    noise_floor: float = 0.0,
    key: str = "",
    no_baseline: str = NO_BASELINE,
) -> Verdict:
    """Judge a measurement by the rule that :meth:`ThresholdFile.lookup` found for it.

    Of several bounds in a rule the worst verdict counts (fail, then inconclusive, then pass), among
    equals the one missed by most.

    Args:
        measurement: None if the test measured nothing, which fails.
        rule: None if no rule matches: unbounded.
        policy: of the threshold file.
        baseline: an earlier run, for ``max_increase`` and ``max_decrease``; without one, or without the
            figure in it, such a bound is not judged: a warning, whatever the policy says of what is
            undecided.
        error_rate: two-sided rate at which a loss is called real
            (:meth:`~pytest_cliprobust.gating.family.Family.error_rate`); the policy's confidence leaves
            as much if this is the only bound.
        noise_floor: known numerical noise of the figure (batch size, precision); intervals are
            widened by it at both ends, so that no verdict rests on less.
        key: name of what is missing, if ``measurement`` is None.
        no_baseline: why there is no baseline, and what to do.

    Raises:
        ClipRobustError: a negative noise floor.
    """
    if not (math.isfinite(noise_floor) and noise_floor >= 0.0):
        raise ClipRobustError(f"the noise floor must be 0 or more, not {noise_floor}")
    level = policy.confidence
    if measurement is None:
        reason = "nothing was measured, and what is missing never passes"
        return _without_statistics("fail", "fail", reason, None, rule, level, key)
    reason = _not_judgeable(measurement.figure, level)
    if reason:
        return _without_statistics("fail", "fail", reason, measurement, rule, level)
    if rule is None:
        reason = "no bound applies"
        if policy.require_bound:
            reason += f", and {policy.where_of('require_bound')} requires one"
        outcome: Outcome = "fail" if policy.require_bound else "pass"
        return _without_statistics("unbounded", outcome, reason, measurement, None, level)
    levels = _Levels(level, 1.0 - level if error_rate is None else error_rate, noise_floor)
    judged = [
        _judge_absolute(measurement.figure, kind, limit, levels)
        if kind not in CHANGES
        else _judge_change(measurement, kind, limit, policy, baseline or no_baseline, levels)
        for kind, limit in rule.bounds.items()
    ]
    worst = max(judged, key=lambda one: one.badness)
    # What one bound tells stays told where another one decides.
    notes = "; ".join(one.note for one in judged if one.note)
    return _verdict(measurement, rule, replace(worst, note=notes), policy)


def _not_judgeable(figure: Figure, level: float) -> str:
    """Return why a figure can be held against no bound; empty if it can."""
    if not math.isfinite(figure.value):
        return f"{figure.metric} is {figure.value}, not a finite number"
    own = interval_at(figure, level)
    if not (math.isfinite(own.low) and math.isfinite(own.high)):
        return f"{figure.metric} has no finite interval, so nothing can be decided"
    if figure.n < 1:
        return f"{figure.metric} rests on no samples"
    return ""


def _without_statistics(
    status: Status,
    outcome: Outcome,
    explanation: str,
    measurement: Measurement | None,
    rule: Rule | None,
    level: float,
    key: str = "",
) -> Verdict:
    """Return the verdict where nothing is compared; of several bounds the first is named."""
    kind, limit = next(iter(rule.bounds.items())) if rule else (None, None)
    own = Interval(math.nan, math.nan, level, "")
    if measurement is not None:
        own = interval_at(measurement.figure, level)
    return Verdict(
        status=status,
        outcome=outcome,
        key=measurement.key if measurement else key,
        kind=kind,
        limit=limit,
        where=rule.where_of(kind) if rule and kind else "",
        because=rule.because if rule else "",
        explanation=explanation,
        value=measurement.figure.value if measurement else math.nan,
        low=own.low,
        high=own.high,
        confidence=level,
        n=measurement.figure.n if measurement else 0,
        rule_id=rule.id if rule else "",
    )


def _verdict(measurement: Measurement, rule: Rule, worst: _Judged, policy: Policy) -> Verdict:
    """Return the verdict of the bound that decides."""
    if worst.status == "inconclusive" and worst.missed_by is None:
        outcome: Outcome = (
            "warn"  # nothing was seen that could be a loss; the run is not green for it
        )
    elif worst.status == "inconclusive":
        outcome = policy.inconclusive
    else:
        outcome = "fail" if worst.status == "fail" else "pass"
    return Verdict(
        status=worst.status,
        outcome=outcome,
        key=measurement.key,
        kind=worst.kind,
        limit=worst.limit,
        where=rule.where_of(worst.kind),
        because=rule.because,
        explanation=worst.explanation,
        value=worst.value,
        low=worst.interval.low,
        high=worst.interval.high,
        confidence=worst.interval.confidence,
        n=worst.n,
        missed_by=worst.missed_by,
        samples_needed=worst.needed,
        rule_id=rule.id,
        p_value=worst.p_value,
        compared=worst.change.text() if worst.change else "",
        decidable=worst.decidable,
        changed=worst.change.changed if worst.change else None,
        note=worst.note,
    )


# --- Absolute bounds ---------------------------------------------------------------------------------


def _judge_absolute(figure: Figure, kind: Kind, limit: float, levels: _Levels) -> _Judged:
    """Judge a ``min`` or ``max``."""

    def at(confidence: float) -> Interval:
        own = _widened(interval_at(figure, confidence), levels.noise, figure.metric)
        return _holding(own, figure.value)

    missed = max(0.0, limit - figure.value if kind == "min" else figure.value - limit)

    def beyond(confidence: float) -> bool:
        ends = at(confidence)
        return ends.high < limit if kind == "min" else ends.low > limit

    kept, real = at(levels.kept), beyond(1.0 - levels.error_rate)
    judged = _Judged(kind, limit, "inconclusive", kept, figure.value, figure.n, missed, "")
    if missed > 0.0:
        judged = replace(judged, p_value=_p_value(beyond))
    what = figure.metric
    if real:
        shown = at(1.0 - levels.error_rate)
        side, distance = (
            ("below", limit - shown.high) if kind == "min" else ("above", shown.low - limit)
        )
        text = (
            f"the whole interval of {what} lies {side} the bound, its nearer end by {distance:.2g}"
        )
        return replace(judged, status="fail", interval=shown, explanation=text)
    if kept.low >= limit if kind == "min" else kept.high <= limit:
        text = f"the whole interval of {what} keeps {kind} {limit:.12g}"
        return replace(judged, status="pass", explanation=text)
    return _undecided(judged, what, levels)


def _undecided(judged: _Judged, what: str, levels: _Levels) -> _Judged:
    """Return an absolute bound that is neither kept nor missed, and how many samples would tell."""
    value, ends, limit = judged.value, judged.interval, judged.limit
    missed = (judged.missed_by or 0.0) > 0.0
    if missed:
        # To call it missed the interval must be clear of the bound at the stricter level.
        strict = two_sided_z(1.0 - levels.error_rate) / two_sided_z(levels.kept)
        ends = Interval(
            value - strict * (value - ends.low),
            value + strict * (ends.high - value),
            1.0 - levels.error_rate,
            ends.method,
        )
    needed = samples_needed(
        value, ends.low, ends.high, judged.n, limit, confidence=ends.confidence, power=POWER
    )
    inside = judged.interval.low <= limit <= judged.interval.high
    start = (
        f"the interval of {what} contains the bound"
        if inside
        else f"{what} lies beyond the bound, but not by enough among so many bounds"
    )
    text = f"{start}, so {judged.n:,} samples cannot tell; " + (
        "the estimate sits on the bound, so no number of samples would"
        if needed is None
        else f"about {rounded_up(needed)} would ({_CHANCE})"
    )
    return replace(judged, explanation=text, needed=needed)


# --- Changes -----------------------------------------------------------------------------------------


def _judge_change(
    measurement: Measurement,
    kind: Kind,
    limit: float,
    policy: Policy,
    baseline: Baseline | str,
    levels: _Levels,
) -> _Judged:
    """Judge a ``max_increase`` or ``max_decrease``; ``baseline``: or why there is none."""
    figure = measurement.figure
    nothing = Interval(math.nan, math.nan, policy.change_confidence, "")
    blank = _Judged(kind, limit, "fail", nothing, math.nan, figure.n, None, "")
    missing = replace(blank, status="inconclusive")
    if isinstance(baseline, str):
        return replace(missing, explanation=baseline)
    asked = policy.baseline_model
    before = baseline.find(measurement, asked)
    if before is None:
        return replace(missing, explanation=baseline.missing(measurement, asked))
    why_not = baseline.why_not(measurement, asked)
    change = change_between(
        figure,
        before,
        noise=levels.noise,
        why_not=why_not,
        same_model=baseline.same_model(measurement, asked),
    )
    loss = _loss(change, kind)
    noise = 0.0 if change.identical else levels.noise
    kept = _of_loss(change, kind, policy.change_confidence, noise)
    if not all(math.isfinite(x) for x in (loss, kept.low, kept.high)):
        reason = f"the baseline's {figure.metric} is {before.value}, or the change has no interval"
        return replace(blank, value=loss, change=change, explanation=reason)
    judged = replace(
        blank,
        status="inconclusive",
        interval=kept,
        value=loss,
        n=change.n,
        missed_by=max(0.0, loss - limit),
        p_value=change.p_beyond(noise) if loss > limit else None,
        change=change,
    )
    if change.one_model or (change.ties and loss <= limit):
        same = replace(judged, status="pass", explanation=_told_same(change))
        return replace(same, note=_drift(same, before, baseline, measurement, asked))
    least = _decidable(change, policy.change_confidence, noise)
    # Answers that are all the same have no spread; what they can rule out is what their interval says.
    judged = replace(judged, decidable=max(least, kept.high) if change.identical else least)
    strict = _of_loss(change, kind, 1.0 - levels.error_rate, noise)
    decided = _decided(judged, change, strict)
    own = _of_loss(change, kind, policy.confidence, noise)
    if own.low > 0.0 and decided.status != "fail":
        word = "decrease" if kind == "max_decrease" else "increase"
        told = _told_loss(replace(decided, interval=own), change, word)
        decided = replace(decided, note=told)
    decided = _if_it_can_be_missed(decided, figure.metric, before.value)
    drifted = _drift(decided, before, baseline, measurement, asked)
    return replace(decided, note="; ".join(filter(None, (decided.note, drifted))))


def waivers_of(verdicts: Iterable[Verdict]) -> int:
    """Return under how many waivers bounds are missed."""
    return len({one.waiver.where for one in verdicts if one.waiver is not None})


def _told_same(change: Change) -> str:
    """Return in words that one model was measured twice, and how many samples came out otherwise."""
    if change.identical:
        return "every outcome is the same as in the baseline"
    assert change.changed is not None
    differ = round(change.changed * change.n)
    return (
        f"the same weights as in the baseline: {differ:,} of {change.n:,} outcomes "
        f"differ{'s' if differ == 1 else ''}, as ties do on another processor"
    )


def _loss(change: Change, kind: Kind) -> float:
    """Return how much worse a figure has become, in the sense of the bound."""
    if change.identical:
        return 0.0
    return 0.0 + (-change.difference if kind == "max_decrease" else change.difference)


def _of_loss(change: Change, kind: Kind, confidence: float, noise: float) -> Interval:
    """Return the interval of the loss, with numerical noise at both ends."""
    ends = change.interval(confidence)
    low, high = (-ends.high, -ends.low) if kind == "max_decrease" else (ends.low, ends.high)
    return Interval(low - noise, high + noise, confidence, ends.method)


def _decided(judged: _Judged, change: Change, strict: Interval) -> _Judged:
    """Return the verdict on a change, in words; ``strict``: the interval at the run's error rate."""
    limit, kept = judged.limit, judged.interval
    word = "decrease" if judged.kind == "max_decrease" else "increase"
    start = f"the {word} from {format_value(change.before, kept.high - kept.low)}"
    real = strict.low > 0.0
    if real and judged.value > limit:
        text = f"{start} is real, and beyond the margin"
        return replace(judged, status="fail", interval=strict, explanation=text)
    if kept.high <= limit:
        text = f"the interval of {start} rules out more than {limit:.12g}"
        return replace(judged, status="pass", explanation=text)
    text, needed = _undecided_change(judged, strict, start)
    return replace(judged, explanation=text, needed=needed)


def _if_it_can_be_missed(judged: _Judged, name: str, recorded: float) -> _Judged:
    """Return a verdict that passes only if some model would not: a margin may allow any loss there is."""
    metric = METRICS.find(name)
    if metric is None or judged.status != "pass":
        return judged
    worst = beyond_what_is_left(metric, judged.kind, judged.limit, recorded)
    if worst is None:
        return judged
    text = (
        f"a margin of {judged.limit:.12g} allows any loss: {name} was recorded at {recorded:.3g}, and "
        f"{worst:.3g} is the worst that a model comes to; write a smaller margin"
    )
    if judged.decidable is not None and judged.decidable < abs(recorded - worst):
        text += f": {samples_decide(judged.n)} one of {judged.decidable:.2g}"
    return replace(judged, status="inconclusive", explanation=text)


def _undecided_change(judged: _Judged, strict: Interval, start: str) -> tuple[str, int | None]:
    """Return why a change is neither kept nor a failure, and how many samples would tell."""
    limit, kept, n = judged.limit, judged.interval, judged.n
    text = f"the interval of {start} holds losses on both sides of the margin"
    if kept.low > limit:
        text = f"{start} lies beyond the margin, but is not sure enough among so many bounds"
    least = judged.decidable
    if least is not None and least > limit:
        needed = samples_for(limit, least, n)
        asked = "no number of them" if needed is None else f"about {rounded_up(needed)}"
        text += f"; {samples_decide(n)} a margin of {least:.2g}; one of {limit:.12g} needs {asked}"
        return text, needed
    # A loss beyond the margin must be told from none, one within it from one beyond.
    ends, bound = (strict, 0.0) if judged.value > limit else (kept, limit)
    needed = samples_needed(
        judged.value, ends.low, ends.high, n, bound, confidence=ends.confidence, power=POWER
    )
    if needed is None:
        return text, None
    return f"{text}; about {rounded_up(needed)} samples would tell ({_CHANCE})", needed


def _drift(
    judged: _Judged,
    recorded: Figure,
    baseline: Baseline,
    measurement: Measurement,
    asked: str | None,
) -> str:
    """Return what is told of losses that add up to more than the margin since the first recording.

    What the recorded figure had lost by then, on all of its samples, and what is lost since, on those that
    this run has: it may be a smaller profile's.
    """
    anchor = baseline.anchor_of(measurement, asked)
    if anchor is None or judged.status == "fail" or recorded.value == anchor.value:
        return ""
    lost = recorded.value - anchor.value
    before = -lost if judged.kind == "max_decrease" else lost
    loss = judged.value + before
    # What this run lost may be nothing but its few samples: then there is nothing to tell.
    if loss <= judged.limit or judged.interval.low + before <= 0.0:
        return ""
    accepted = baseline.acceptance_of(measurement, asked)
    reason = f" (recorded anew {accepted})" if accepted else ""
    return (
        f"{recorded.metric} was {format_value(anchor.value, recorded.high - recorded.low)} when it was first "
        f"recorded, {anchor.written}: since then it has lost {loss:.2g}, more than the margin of "
        f"{judged.limit:.12g}{reason}"
    )


def _told_loss(judged: _Judged, change: Change, word: str) -> str:
    """Return what is told of a loss that is real by itself, and does not fail."""
    ends = judged.interval
    value, low, high = (
        format_value(x, ends.high - ends.low) for x in (judged.value, ends.low, ends.high)
    )
    text = f"the {word} of {value} [{low}, {high}] ({change.text()}) is real by itself, and {_place(judged)}"
    needed = samples_for(judged.value, judged.decidable or 0.0, judged.n)
    if needed is None or judged.value > judged.limit:
        return text
    return f"{text}; a margin of {value} needs about {rounded_up(needed)} samples"


def _place(judged: _Judged) -> str:
    """Return where a real loss that does not fail lies, and no more than the verdict knows of it."""
    margin = f"the margin of {judged.limit:.12g}"
    if judged.status == "pass":
        return f"within {margin}"
    if judged.value > judged.limit:
        return f"beyond {margin} by the estimate, though not surely enough among so many bounds"
    return f"these samples cannot tell whether it lies within {margin}"


def _decidable(change: Change, confidence: float, noise: float) -> float:
    """Return the smallest margin that a change of no size keeps in most draws, as it was measured."""
    reach = two_sided_z(confidence) + two_sided_z(2.0 * 0.95 - 1.0)
    return reach * change.standard_error + noise


# --- Both --------------------------------------------------------------------------------------------


def _p_value(beyond: Callable[[float], bool]) -> float:
    """Return the two-sided level at which a loss is real: where the interval just leaves it out."""
    low, high = -16.0, 0.0  # of log10
    if not beyond(1.0 - 10.0**high + 1e-12):
        return 1.0
    if beyond(1.0 - 1e-15):
        return 1e-15
    for _ in range(40):
        middle = (low + high) / 2.0
        if beyond(min(1.0 - 10.0**middle, 1.0 - 1e-15)):
            high = middle
        else:
            low = middle
    return float(10.0**high)


def _widened(interval: Interval, floor: float, metric: str = "") -> Interval:
    """Return the interval with numerical noise at both ends, but inside the metric's range."""
    least, most = metric_range(metric)
    return Interval(
        min(interval.low, max(interval.low - floor, least)),
        max(interval.high, min(interval.high + floor, most)),
        interval.confidence,
        interval.method,
    )


def _holding(interval: Interval, value: float) -> Interval:
    """Return the interval with the estimate in it: percentiles of biased statistics may leave it out."""
    return Interval(
        min(interval.low, value), max(interval.high, value), interval.confidence, interval.method
    )

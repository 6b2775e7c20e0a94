"""Verdicts: an interval against a bound.

The verdict looks at the interval, not at the point estimate: **pass** if all of it is on the good
side of the bound (the bound itself counts as good), **fail** if all of it is on the bad side, else
**inconclusive**, which the policy turns into a failure, a warning or a pass. A figure that is not
finite, or missing, fails whatever the policy says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.figure import Figure, json_number
from pytest_cliprobust.figures.intervals import Interval, samples_needed
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.figures.paired import difference_interval
from pytest_cliprobust.gating.baseline import baseline_key
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.rules import BOUNDS, CHANGES, Kind, Rule
from pytest_cliprobust.gating.vocabulary import metric_range
from pytest_cliprobust.gating.words import format_value, rounded_up

Status = Literal["pass", "fail", "inconclusive", "unbounded"]
Outcome = Literal["pass", "warn", "fail"]

#: Statuses, the better first.
_ORDER: tuple[Status, ...] = ("pass", "inconclusive", "fail")

#: Probability with which the n that an inconclusive verdict names is to decide it.
POWER = 0.8


@dataclass(frozen=True)
class Verdict:
    """What a bound says of a measurement.

    Attributes:
        status: what the statistics say.
        outcome: what counts: the status under the policy.
        key: key of the measurement.
        kind: kind of the deciding bound; None if unbounded.
        limit: the deciding bound; None if unbounded.
        where: file and line of that bound; empty if unbounded.
        because: the author's reason for the bound.
        explanation: one sentence.
        value: what was held against the bound: the figure, or its change against the baseline.
        low, high: the interval of ``value`` at ``confidence``.
        confidence: level of the interval.
        n: number of samples.
        missed_by: how far ``value`` lies beyond the bound; 0 if on the good side, None if unbounded
            or not finite.
        samples_needed: for an inconclusive verdict the n that would decide it with probability
            ``POWER``; None if no n would.
        rule_id: id of the rule.
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

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON-able data, with :attr:`bound` for readers."""
        data = {
            name: json_number(value) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }
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
        )


@dataclass(frozen=True)
class _Judged:
    """One bound of a rule, judged."""

    kind: Kind
    limit: float
    status: Status
    interval: Interval
    value: float
    missed_by: float | None
    needed: int | None
    explanation: str

    @property
    def badness(self) -> tuple[int, float]:
        """Larger is worse; what could not be judged is worse than any miss."""
        missed = math.inf if self.missed_by is None else self.missed_by
        return _ORDER.index(self.status), missed


def judge(
    measurement: Measurement | None,
    rule: Rule | None,
    policy: Policy,
    *,
    baseline: Mapping[str, Figure] | None = None,
    comparisons: int = 1,
    noise_floor: float = 0.0,
    key: str = "",
) -> Verdict:
    """Judge a measurement by the rule that :meth:`ThresholdFile.lookup` found for it.

    Of several bounds in a rule the worst verdict counts (fail, then inconclusive, then pass), among
    equals the one missed by most.

    Args:
        measurement: None if the test measured nothing, which fails.
        rule: None if no rule matches: unbounded.
        policy: of the threshold file.
        baseline: earlier figures by key, for ``max_increase`` and ``max_decrease``; a bound whose
            baseline is missing fails.
        comparisons: number of bounds checked in the run, for the family-wise error rate.
        noise_floor: known numerical noise of the figure (batch size, precision); intervals are
            widened by it at both ends, so that no verdict rests on less.
        key: name of what is missing, if ``measurement`` is None.

    Raises:
        ClipRobustError: a negative noise floor.
    """
    if not (math.isfinite(noise_floor) and noise_floor >= 0.0):
        raise ClipRobustError(f"the noise floor must be 0 or more, not {noise_floor}")
    level = policy.level(comparisons)
    if measurement is None:
        reason = "nothing was measured, and what is missing never passes"
        return _without_statistics("fail", "fail", reason, None, rule, level, key)
    reason = _not_judgeable(measurement.figure, level)
    if reason:
        return _without_statistics("fail", "fail", reason, measurement, rule, level)
    if rule is None:
        reason = "no bound applies"
        if policy.require_bound:
            reason += f", and {policy.where} requires one"
        outcome: Outcome = "fail" if policy.require_bound else "pass"
        return _without_statistics("unbounded", outcome, reason, measurement, None, level)
    judged = [
        _judge_absolute(measurement.figure, kind, limit, level, noise_floor)
        if kind not in CHANGES
        else _judge_change(measurement, kind, limit, policy, baseline or {}, level, noise_floor)
        for kind, limit in rule.bounds.items()
    ]
    return _verdict(measurement, rule, max(judged, key=lambda one: one.badness), policy, level)


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


def _verdict(
    measurement: Measurement, rule: Rule, worst: _Judged, policy: Policy, level: float
) -> Verdict:
    """Return the verdict of the bound that decides."""
    if worst.status == "inconclusive":
        outcome: Outcome = policy.inconclusive
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
        confidence=level,
        n=measurement.figure.n,
        missed_by=worst.missed_by,
        samples_needed=worst.needed,
        rule_id=rule.id,
    )


def _judge_absolute(
    figure: Figure, kind: Kind, limit: float, level: float, floor: float
) -> _Judged:
    """Judge a ``min`` or ``max``."""
    interval = _widened(interval_at(figure, level), floor, figure.metric)
    return _compare(kind, limit, figure.value, interval, figure.n, figure.metric)


def _judge_change(
    measurement: Measurement,
    kind: Kind,
    limit: float,
    policy: Policy,
    baseline: Mapping[str, Figure],
    level: float,
    floor: float,
) -> _Judged:
    """Judge a ``max_increase`` or ``max_decrease``."""
    figure = measurement.figure
    nothing = Interval(math.nan, math.nan, level, "")
    before = baseline.get(baseline_key(measurement, policy))
    if before is None:
        reason = _no_baseline(measurement, policy, bool(baseline))
        return _Judged(kind, limit, "fail", nothing, math.nan, None, None, reason)
    interval = difference_interval(figure, before, level)
    change = figure.value - before.value
    if not all(math.isfinite(x) for x in (change, interval.low, interval.high)):
        reason = f"the baseline's {figure.metric} is {before.value}, or its interval is not finite"
        return _Judged(kind, limit, "fail", nothing, change, None, None, reason)
    if kind == "max_decrease":
        change = -change
        interval = Interval(-interval.high, -interval.low, level, interval.method)
    verb = "decrease" if kind == "max_decrease" else "increase"
    what = f"the {verb} from {format_value(before.value, figure.high - figure.low)}"
    return _compare(kind, limit, change, _widened(interval, floor), figure.n, what)


def _no_baseline(measurement: Measurement, policy: Policy, given: bool) -> str:
    if not given:
        return "there is no baseline; name one in [policy] or on the command line"
    source = f"baseline {policy.baseline}" if policy.baseline else "the baseline"
    return f"{source} has no figure for {baseline_key(measurement, policy)}"


def _widened(interval: Interval, floor: float, metric: str = "") -> Interval:
    """Return the interval with numerical noise at both ends, but inside the metric's range."""
    least, most = metric_range(metric)
    return Interval(
        min(interval.low, max(interval.low - floor, least)),
        max(interval.high, min(interval.high + floor, most)),
        interval.confidence,
        interval.method,
    )


def _compare(
    kind: Kind, limit: float, value: float, interval: Interval, n: int, what: str
) -> _Judged:
    """Hold ``value`` and its interval against an upper (``max…``) or lower (``min``) bound."""
    upper = kind != "min"
    # Percentile intervals of biased statistics may leave out their own estimate; the verdict then
    # takes in both.
    low, high = min(interval.low, value), max(interval.high, value)
    interval = Interval(low, high, interval.confidence, interval.method)
    missed = max(0.0, value - limit if upper else limit - value)
    needed: int | None = None
    status: Status
    if high <= limit if upper else low >= limit:
        status = "pass"
        text = f"the whole interval of {what} keeps {kind} {limit:.12g}"
    elif low > limit if upper else high < limit:
        status = "fail"
        side, distance = ("above", low - limit) if upper else ("below", limit - high)
        text = f"the whole interval of {what} lies {side} the bound, its nearer end by "
        text += f"{distance:.2g}"
    else:
        status = "inconclusive"
        needed = samples_needed(
            value, low, high, n, limit, confidence=interval.confidence, power=POWER
        )
        text = f"the interval of {what} contains the bound, so {n:,} samples cannot tell; "
        text += (
            "the estimate sits on the bound, so no number of samples would"
            if needed is None
            else f"about {rounded_up(needed)} would ({POWER:.0%} chance, if the estimate holds)"
        )
    return _Judged(kind, limit, status, interval, value, missed, needed, text)

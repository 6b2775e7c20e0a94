"""Verdicts: an interval against a bound, told so that a stranger understands them.

The verdict looks at the interval, not at the point estimate: **pass** if all of it is on the good
side of the bound (the bound itself counts as good), **fail** if all of it is on the bad side, else
**inconclusive**, which the policy turns into a failure, a warning or a pass. A figure that is not
finite, or missing, fails whatever the policy says.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.figure import Figure, json_number
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.statistics import (
    Interval,
    difference_interval,
    interval_at,
    samples_needed,
)
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.thresholds import Policy, Rule, baseline_key

Status = Literal["pass", "fail", "inconclusive", "unbounded"]
Outcome = Literal["pass", "warn", "fail"]

#: Probability with which the n that an inconclusive verdict names is to decide it.
POWER = 0.8


@dataclass(frozen=True)
class Verdict:
    """What a bound says of a measurement.

    Attributes:
        status: what the statistics say.
        outcome: what counts: the status under the policy.
        key: key of the measurement.
        bound: the deciding bound, e.g. ``"max 0.1"``; empty if unbounded.
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
    bound: str
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

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON-able data."""
        return {
            name: json_number(value) if isinstance(value, float) else value
            for name, value in self.__dict__.items()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Verdict:
        """Return the verdict that :meth:`as_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: ``data`` is something else.
        """
        status, outcome = data["status"], data["outcome"]
        if status not in get_args(Status) or outcome not in get_args(Outcome):
            raise ValueError(f"unknown status {status!r} or outcome {outcome!r}")
        missed, needed = data["missed_by"], data["samples_needed"]
        return cls(
            status=cast(Status, status),
            outcome=cast(Outcome, outcome),
            key=str(data["key"]),
            bound=str(data["bound"]),
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


def format_value(value: float, width: float = 0.0, apart_from: float | None = None) -> str:
    """Return ``value`` with as many decimals as an interval of ``width`` makes meaningful.

    Two significant digits of the width, between two and six decimals; four significant digits where
    there is no width. Never rounded so far that it reads like another value ``apart_from``.
    """
    if not math.isfinite(value):
        return str(value)
    if not (math.isfinite(width) and width > 0.0):
        return f"{value:.4g}"
    decimals = min(max(1 - math.floor(math.log10(width)), 2), 6)
    text = f"{value:.{decimals}f}"
    if apart_from is not None and float(text) == apart_from != value:
        return f"{value:.12g}"
    return text.lstrip("-") if float(text) == 0.0 else text


def _level(confidence: float) -> str:
    return f"{100.0 * confidence:.6g}%"


def _rounded_up(count: int) -> str:
    """Two significant digits, upwards: more would claim too much of an extrapolation."""
    step = 10 ** max(len(str(count)) - 2, 0)
    return f"{-(-count // step) * step:,}"


@dataclass(frozen=True)
class _Judged:
    """One bound of a rule, judged."""

    key: str
    limit: float
    status: Status
    interval: Interval
    value: float
    missed_by: float | None
    needed: int | None
    explanation: str


def _compare(
    key: str, limit: float, value: float, interval: Interval, n: int, what: str
) -> _Judged:
    """Hold ``value`` and its interval against an upper (``max…``) or lower (``min``) bound."""
    upper = key != "min"
    # Percentile intervals of biased statistics may leave out their own estimate; the verdict then
    # takes in both.
    low, high = min(interval.low, value), max(interval.high, value)
    interval = Interval(low, high, interval.confidence, interval.method)
    good = high <= limit if upper else low >= limit
    bad = low > limit if upper else high < limit
    missed = max(0.0, value - limit if upper else limit - value)
    side = "above" if upper else "below"
    needed: int | None = None
    status: Status
    if good:
        status = "pass"
        text = f"the whole interval of {what} keeps {key} {limit:.12g}"
    elif bad:
        status = "fail"
        distance = low - limit if upper else limit - high
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
            else f"about {_rounded_up(needed)} would ({POWER:.0%} chance, if the estimate holds)"
        )
    return _Judged(key, limit, status, interval, value, missed, needed, text)


def _widened(interval: Interval, floor: float, metric: str = "") -> Interval:
    """Return the interval with numerical noise at both ends, but inside the metric's range."""
    known = METRICS.find(metric)
    least = -math.inf if known is None or known.low is None else known.low
    most = math.inf if known is None or known.high is None else known.high
    return Interval(
        min(interval.low, max(interval.low - floor, least)),
        max(interval.high, min(interval.high + floor, most)),
        interval.confidence,
        interval.method,
    )


def _judge_bounds(
    measurement: Measurement,
    rule: Rule,
    policy: Policy,
    baseline: Mapping[str, Figure],
    level: float,
    floor: float,
) -> list[_Judged]:
    figure = measurement.figure
    judged = []
    for key, limit in rule.bounds.items():
        if key in ("min", "max"):
            interval = _widened(interval_at(figure, level), floor, figure.metric)
            judged.append(_compare(key, limit, figure.value, interval, figure.n, figure.metric))
            continue
        before = baseline.get(baseline_key(measurement, policy))
        nothing = Interval(math.nan, math.nan, level, "")
        if before is None:
            source = f"baseline {policy.baseline}" if policy.baseline else "the baseline"
            reason = f"{source} has no figure for {baseline_key(measurement, policy)}"
            if not baseline:
                reason = "there is no baseline; name one in [policy] or on the command line"
            judged.append(_Judged(key, limit, "fail", nothing, math.nan, None, None, reason))
            continue
        interval = difference_interval(figure, before, level)
        change = figure.value - before.value
        if not all(math.isfinite(x) for x in (change, interval.low, interval.high)):
            reason = (
                f"the baseline's {figure.metric} is {before.value}, or its interval is not finite"
            )
            judged.append(_Judged(key, limit, "fail", nothing, change, None, None, reason))
            continue
        if key == "max_decrease":
            change = -change
            interval = Interval(-interval.high, -interval.low, level, interval.method)
        verb = "decrease" if key == "max_decrease" else "increase"
        what = f"the {verb} from {format_value(before.value, figure.high - figure.low)}"
        judged.append(_compare(key, limit, change, _widened(interval, floor), figure.n, what))
    return judged


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
    bound = rule.bound_text() if rule else ""
    where = rule.where if rule else ""
    because = rule.because if rule else ""
    rule_id = rule.id if rule else ""
    nan = math.nan

    def verdict(
        status: Status,
        outcome: Outcome,
        explanation: str,
        value: float = nan,
        low: float = nan,
        high: float = nan,
    ) -> Verdict:
        name = measurement.key if measurement else key
        n = measurement.figure.n if measurement else 0
        return Verdict(
            status,
            outcome,
            name,
            bound,
            where,
            because,
            explanation,
            value,
            low,
            high,
            level,
            n,
            rule_id=rule_id,
        )

    if measurement is None:
        return verdict("fail", "fail", "nothing was measured, and what is missing never passes")
    figure = measurement.figure
    own = interval_at(figure, level)
    ends = (figure.value, own.low, own.high)
    if not math.isfinite(figure.value):
        return verdict(
            "fail", "fail", f"{figure.metric} is {figure.value}, not a finite number", *ends
        )
    if not (math.isfinite(own.low) and math.isfinite(own.high)):
        reason = f"{figure.metric} has no finite interval, so nothing can be decided"
        return verdict("fail", "fail", reason, *ends)
    if figure.n < 1:
        return verdict("fail", "fail", f"{figure.metric} rests on no samples", *ends)
    if rule is None:
        return verdict(
            "unbounded",
            "fail" if policy.require_bound else "pass",
            "no bound applies"
            + (f", and {policy.where} requires one" if policy.require_bound else ""),
            *ends,
        )
    severity: Sequence[Status] = ("pass", "inconclusive", "fail")
    worst = max(
        _judge_bounds(measurement, rule, policy, baseline or {}, level, noise_floor),
        key=lambda judged: (
            severity.index(judged.status),
            math.inf if judged.missed_by is None else judged.missed_by,
        ),
    )
    if worst.status == "inconclusive":
        outcome: Outcome = policy.inconclusive
    else:
        outcome = "fail" if worst.status == "fail" else "pass"
    return Verdict(
        status=worst.status,
        outcome=outcome,
        key=measurement.key,
        bound=f"{worst.key} {worst.limit:.12g}",
        where=rule.where_of(worst.key),
        because=because,
        explanation=worst.explanation,
        value=worst.value,
        low=worst.interval.low,
        high=worst.interval.high,
        confidence=level,
        n=figure.n,
        missed_by=worst.missed_by,
        samples_needed=worst.needed,
        rule_id=rule_id,
    )


def failure_message(
    verdict: Verdict, measurement: Measurement | None, rerun_command: str | Sequence[str] = ""
) -> str:
    """Return what a failed (or warned) test says, a few lines that stand on their own.

    Args:
        verdict: from :func:`judge`.
        measurement: what was judged, None if nothing was measured.
        rerun_command: the command that runs just this test again; arguments are quoted for a shell.
    """
    # The title says what the statistics say; that an undecided one counts as a failure, it adds.
    titles = {
        "fail": "breaks",
        "inconclusive": "may break",
        "unbounded": "has no bound",
        "pass": "keeps",
    }
    title = titles[verdict.status]
    if measurement is None:
        lines = [f"{verdict.key or 'the test'}: nothing was measured"]
    else:
        figure = measurement.figure
        finite = all(map(math.isfinite, (verdict.value, verdict.low, verdict.high)))
        judged = verdict.bound if verdict.status != "unbounded" else ""
        if verdict.status == "fail" and verdict.missed_by is None:
            title, judged = "cannot be judged", ""
        lines = [
            f"{measurement.suite}: {figure.metric} of {measurement.model} on "
            f"{measurement.condition} {title} {judged}".rstrip()
        ]
        own = interval_at(figure, verdict.confidence)
        unit = f" {figure.unit}" if figure.unit else ""
        width = own.high - own.low
        limit = None
        if verdict.bound.startswith(("min ", "max ")) and verdict.missed_by is not None:
            limit = float(verdict.bound.split()[1])
        value = format_value(figure.value, width, limit)
        measured = f"{value}{unit}, "
        if math.isfinite(own.low) and math.isfinite(own.high):
            measured += (
                f"{_level(verdict.confidence)} interval {format_value(own.low, width)} to "
                f"{format_value(own.high, width)}, "
            )
        else:
            measured += "no interval, "
        measured += f"n = {figure.n:,}" + (f" ({figure.method})" if figure.method else "")
        lines.append(f"  measured  {measured}")
        if finite and verdict.bound.startswith(("max_increase", "max_decrease")):
            span = verdict.high - verdict.low
            lines.append(
                f"  change    {verdict.bound.split()[0].removeprefix('max_')} of "
                f"{format_value(verdict.value, span)}, {_level(verdict.confidence)} interval "
                f"{format_value(verdict.low, span)} to {format_value(verdict.high, span)}"
            )
    if verdict.bound:
        reason = f", because: {verdict.because}" if verdict.because else ""
        lines.append(f"  bound     {verdict.bound} ({verdict.where}){reason}")
    if verdict.missed_by and math.isfinite(verdict.missed_by):
        lines.append(f"  missed    by {verdict.missed_by:.2g}")
    why = verdict.explanation
    if verdict.status == "inconclusive":
        counts = {"fail": "a failure", "warn": "a warning", "pass": "a pass"}[verdict.outcome]
        why += f"; the policy counts this as {counts}"
    lines.append(f"  why       {why}")
    if rerun_command:
        command = rerun_command if isinstance(rerun_command, str) else shlex.join(rerun_command)
        lines.append(f"  run again {command}")
    return "\n".join(lines)

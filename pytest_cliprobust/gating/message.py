"""What a failed test says, so that a stranger understands it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from pytest_cliprobust.figures.intervals import Interval
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.verdict import Verdict
from pytest_cliprobust.gating.words import format_value, level_text

#: The title says what the statistics say; that an undecided one counts as a failure, the reason adds.
_TITLES = {
    "fail": "breaks",
    "inconclusive": "may break",
    "unbounded": "has no bound",
    "pass": "keeps",
}
_COUNTS = {"fail": "a failure", "warn": "a warning", "pass": "a pass"}


def failure_message(
    verdict: Verdict, measurement: Measurement | None, rerun_command: str | Sequence[str] = ""
) -> str:
    """Return what a failed (or warned) test says, a few lines that stand on their own.

    Args:
        verdict: from :func:`~pytest_cliprobust.gating.verdict.judge`.
        measurement: what was judged, None if nothing was measured.
        rerun_command: the command that runs just this test again; arguments are quoted for a shell.
    """
    lines = [_title(verdict, measurement)]
    if measurement is not None:
        lines.append(f"  measured  {_measured(verdict, measurement)}")
        if verdict.on_change and all(
            map(math.isfinite, (verdict.value, verdict.low, verdict.high))
        ):
            lines.append(f"  change    {_change(verdict)}")
    if verdict.bound:
        reason = f", because: {verdict.because}" if verdict.because else ""
        lines.append(f"  bound     {verdict.bound} ({verdict.where}){reason}")
    if verdict.missed_by and math.isfinite(verdict.missed_by):
        lines.append(f"  missed    by {verdict.missed_by:.2g}")
    why = verdict.explanation
    if verdict.status == "inconclusive" and not verdict.not_compared:
        why += f"; the policy counts this as {_COUNTS[verdict.outcome]}"
    lines.append(f"  why       {why}")
    if verdict.note:
        lines.append(f"  note      {verdict.note}")
    if rerun_command:
        command = rerun_command if isinstance(rerun_command, str) else shlex.join(rerun_command)
        lines.append(f"  run again {command}")
    return "\n".join(lines)


def _title(verdict: Verdict, measurement: Measurement | None) -> str:
    if measurement is None:
        return f"{verdict.key or 'the test'}: nothing was measured"
    words = f"{_TITLES[verdict.status]} {verdict.bound}".rstrip()
    if verdict.not_compared or (verdict.status == "fail" and verdict.missed_by is None):
        words = "cannot be judged"
    return (
        f"{measurement.suite}: {measurement.metric} of {measurement.model} on "
        f"{measurement.condition} {words}"
    )


def _measured(verdict: Verdict, measurement: Measurement) -> str:
    figure = measurement.figure
    own = interval_at(figure, verdict.confidence)
    if not verdict.on_change:
        # As it was judged: with the numerical noise at both ends.
        own = Interval(verdict.low, verdict.high, verdict.confidence, own.method)
    width = own.high - own.low
    # A narrow miss must not read like the bound itself.
    limit = None if verdict.on_change or verdict.missed_by is None else verdict.limit
    text = format_value(figure.value, width, limit) + (f" {figure.unit}" if figure.unit else "")
    if math.isfinite(own.low) and math.isfinite(own.high):
        text += (
            f", {level_text(verdict.confidence)} interval {format_value(own.low, width)} to "
            f"{format_value(own.high, width)}"
        )
    else:
        text += ", no interval"
    return f"{text}, n = {figure.n:,}" + (f" ({figure.method})" if figure.method else "")


def _change(verdict: Verdict) -> str:
    span = verdict.high - verdict.low
    return (
        f"{str(verdict.kind).removeprefix('max_')} of {format_value(verdict.value, span)}, "
        f"{level_text(verdict.confidence)} interval {format_value(verdict.low, span)} to "
        f"{format_value(verdict.high, span)}"
        + (f" ({verdict.compared})" if verdict.compared else "")
    )

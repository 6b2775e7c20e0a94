"""What the comparison with an earlier run comes to, in lines for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from pytest_cliprobust.errors import counted
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.verdict import Verdict
from pytest_cliprobust.results.record import Record
from pytest_cliprobust.results.run import Run

#: Metrics whose outcomes are answers: their share that changed is a model's churn.
_ANSWERS = ("accuracy", "mean_corruption_accuracy")


def comparison_lines(run: Run) -> list[tuple[str, str]]:
    """Return (level, text) lines: what was compared how, churn, and real losses within their margins."""
    # Where there is nothing to compare with, the failure says so.
    compared = [r for r in run.records if r.verdict.on_change and r.verdict.compared]
    late = [
        ("error", f"{record.key} fails, although its test passed: {record.verdict.explanation}")
        for record in run.records
        if record.verdict.late
    ]
    if not compared:
        return late
    source = run.held_against or "an earlier run"
    return [*(("note", text) for text in [*_counted(compared, source), *_losses(compared)]), *late]


def _counted(compared: Sequence[Record], source: str) -> list[str]:
    """Return how many figures were compared sample by sample, how many are identical, and the churn."""
    paired = [r for r in compared if r.verdict.compared.startswith("paired")]
    same = [r for r in paired if r.verdict.changed == 0.0]
    text = paired_line([(r.verdict, r.measurement) for r in compared], source)
    if len(same) == len(compared):
        return [f"{text}; every outcome is the same"]
    lines = [
        text
        + (
            f"; {len(same)} {'is' if len(same) == 1 else 'are'} the same in every outcome"
            if same
            else ""
        )
    ]
    churn = [
        r.verdict.changed
        for r in paired
        if r.measurement.metric in _ANSWERS and r.verdict.changed is not None
    ]
    if churn:
        share = f"{median(churn):.1%} of the answers changed between right and wrong"
        lines.append(f"churn: {share} (median over conditions)")
    reasons = {
        r.verdict.compared.partition(": ")[2].partition(";")[0]
        for r in compared
        if not r.verdict.compared.startswith("paired") and ": " in r.verdict.compared
    }
    lines += [f"not compared by sample: {reason}" for reason in sorted(reasons)]
    return lines


def paired_line(judged: Sequence[tuple[Verdict, Measurement]], source: str) -> str:
    """Return with what figures were paired, how many, and on how many of their samples; empty without any.

    Args:
        judged: verdicts with what they are of; those that compare with nothing do not count.
        source: what they were held against.
    """
    compared = [(v, m) for v, m in judged if v.on_change and v.compared]
    if not compared:
        return ""
    paired = [(v, m) for v, m in compared if v.compared.startswith("paired")]
    if not paired:
        return f"held against {source}: {counted(len(compared), 'figure')}, none of them by sample"
    text = f"paired with {source}: {len(paired)} of {len(compared)} figures"
    parts = [(v.n, m) for v, m in paired if v.n < m.figure.n]
    if not parts:
        most = max(m.figure.n for _, m in paired)
        return f"{text}, on all samples ({most:,} of {most:,} where they are most)"
    shared, least = min(parts, key=lambda part: part[0] / part[1].figure.n)
    return (
        f"{text}, {len(parts)} of them on a part of their samples (least: {shared:,} of "
        f"{least.figure.n:,} in {least.metric} on {least.condition})"
    )


def _losses(compared: Sequence[Record]) -> list[str]:
    """Return the real losses that did not fail."""
    return [
        f"{_named(record)} on {record.measurement.condition}: {record.verdict.note}"
        for record in compared
        if record.verdict.note and record.verdict.status != "fail"
    ]


def _named(record: Record) -> str:
    """Return a figure's suite and metric, once where they are the same word."""
    metric = record.measurement.metric
    return metric if metric == record.suite else f"{record.suite} {metric}"

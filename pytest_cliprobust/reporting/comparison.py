"""What the comparison with an earlier run comes to, in lines for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

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
    return [*(("note", text) for text in [*_counted(compared), *_losses(compared)]), *late]


def _counted(compared: Sequence[Record]) -> list[str]:
    """Return how many figures were compared sample by sample, how many are identical, and the churn."""
    paired = [r for r in compared if r.verdict.compared.startswith("paired")]
    same = [r for r in paired if r.verdict.changed == 0.0]
    text = f"{len(compared)} figures held against an earlier run, {len(paired)} of them by sample"
    if len(same) == len(compared):
        return [f"{text}: every outcome is the same"]
    lines = [text + (f"; {len(same)} are the same in every outcome" if same else "")]
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


def _losses(compared: Sequence[Record]) -> list[str]:
    """Return the real losses that did not fail."""
    return [
        f"{record.suite} on {record.measurement.condition}: {record.verdict.note}"
        for record in compared
        if record.verdict.note and record.verdict.status != "fail"
    ]

"""What a reader must know of a run beside its figures: what is missing, what is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_cliprobust.errors import counted
from pytest_cliprobust.gating import unjudged
from pytest_cliprobust.gating.unjudged import Unjudged
from pytest_cliprobust.reporting.comparison import comparison_lines
from pytest_cliprobust.reporting.ending import missing_lines
from pytest_cliprobust.results.run import NotMeasured, Run

#: Samples that were left out, of which so many are listed; the JSON report has all.
_LISTED = 50


@dataclass(frozen=True)
class Remark:
    """One line.

    Attributes:
        level: ``not run``, ``note``, ``warning``, ``error`` or ``ERROR``, which is the user's mistake.
        text: what there is to say.
        grave: whether it overshadows everything else.
    """

    level: str
    text: str
    grave: bool = False


def remarks(run: Run, *, gravest_first: bool = False, most: int | None = None) -> list[Remark]:
    """Return all remarks on a run, those that matter most at the end, or first.

    ``most``: so many lines of one kind are listed; beyond that they are counted.
    """
    groups = [
        [Remark("not run", line) for line in _not_run_lines(run.not_run)],
        [Remark("note", note) for note in run.notes],
        [Remark("warning", line) for line in run.not_logged],
        [Remark("left out", one.line(most or _LISTED)) for one in run.skipped],
        [Remark(level, text) for level, text in comparison_lines(run)],
        [Remark("not run to its end", line) for line in missing_lines(run, most)],
        [Remark(level, line) for level, line in unjudged.lines(run.unjudged, most)],
        [Remark("warning", line) for line in _weak_lines(run, most)],
        _skipped(run.unjudged, run.not_run),
        [Remark("ERROR", mistake) for mistake in run.mistakes],
    ]
    if gravest_first:
        groups.reverse()
    return [remark for group in groups for remark in group]


def _weak_lines(run: Run, most: int | None) -> list[str]:
    """Return one line for each bound that hardly gates its figure; beyond ``most`` they are counted."""
    told = list(dict.fromkeys(line for record in run.records for line in record.weak))
    if most is None or len(told) <= most:
        return told
    return [
        *told[:most],
        counted(
            len(told) - most,
            "more bound hardly gates its figure",
            "more bounds hardly gate their figures",
        ),
    ]


def _not_run_lines(entries: Iterable[NotMeasured]) -> list[str]:
    """Return one line for each reason why tests measured nothing: how many, of which suites."""
    by_reason: dict[str, list[str]] = {}
    for entry in entries:
        by_reason.setdefault(entry.reason, []).append(entry.suite)
    return [
        f"{counted(len(suites), 'test')} of {', '.join(dict.fromkeys(suites))}: {reason}"
        for reason, suites in by_reason.items()
    ]


def _skipped(found: Unjudged, not_run: Iterable[NotMeasured]) -> list[Remark]:
    """Say how many bounds were not judged because of skipped tests, and what follows from it."""
    if not found.skipped:
        return []
    reason = "; ".join(sorted({entry.reason for entry in not_run}))
    fails = found.policy.skipped == "fail"
    outcome = "the run fails" if fails else "a warning, as the policy says"
    text = f"not measured, as tests were skipped: {len(found.skipped)} of the bounds ({reason}): {outcome}"
    return [Remark("error" if fails else "warning", text)]

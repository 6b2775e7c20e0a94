"""How a run ended: what keeps it from being whole, or green, in the words that are said last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pytest_cliprobust.errors import counted, first_of
from pytest_cliprobust.gating.verdict import waivers_of
from pytest_cliprobust.results.run import NotMeasured, Run

#: Endings that pytest's own last line does not explain.
_OURS = ((6, "inconclusive"), (7, "environment"))

#: Endings that no bound which is missed would have, had its test failed.
_NOT_RED = ("passed", "inconclusive")

#: How the line begins that tells of bounds that are missed under a waiver: the run may be green with them.
WAIVED = "WAIVED"

#: How the line begins that tells of bounds on changes that nothing could be held against.
NOT_COMPARED = "NOT COMPARED"

#: So many reasons are told why bounds on changes are not judged; of more of them the figures are counted.
_REASONS = 3

#: So many tests are listed in a terminal; more of them are counted.
LISTED = 12


def last_words(run: Run) -> list[str]:
    """Return the lines that are said last, the one that tells most at the end; none if all is well."""
    told = [*_partial(run), *_environment(run), *_not_judged(run), *_undecided(run), *_nothing(run)]
    told += [*_not_compared(run), *_excused(run), *_waived(run), *_stale(run)]
    told += [f"REQUIRED: {line}" for line in run.lacking]
    if (run.exit_status, run.ending) in _OURS:
        told.append(f"NOT GREEN: {run.ending}, exit code {run.exit_status}")
    return told


def ending_text(run: Run) -> str:
    """Return ``inconclusive, exit code 6``."""
    partial = "" if run.complete else ", partial"
    return f"{run.ending}{partial}, exit code {run.exit_status}"


def missing_lines(run: Run, most: int | None = None) -> list[str]:
    """Return one line for each test that did not come to its end; beyond ``most`` they are counted."""
    lines = [f"{entry.test}: {entry.reason}" for entry in run.missing]
    lines += [
        f"{file}: could not be collected, its tests are not known" for file in run.not_collected
    ]
    if most is None or len(lines) <= most:
        return lines
    return [*lines[:most], f"… and {len(lines) - most} more"]


def _partial(run: Run) -> list[str]:
    if run.complete:
        return []
    parts = []
    if run.missing:
        count, total = len(run.missing), max(run.planned, len(run.missing))
        their = "its" if count == 1 else "their"
        parts.append(
            f"{count} of {total} tests did not come to {their} end ({_by_suite(run.missing)})"
        )
    if run.not_collected:
        parts.append(f"{counted(len(run.not_collected), 'file')} could not be collected")
    if run.unjudged.cut or run.unjudged.broken:
        count = len(run.unjudged.cut) + len(run.unjudged.broken)
        parts.append(f"{counted(count, 'bound')} not judged for it")
    return [f"PARTIAL: {'; '.join(parts) or 'the run did not end by itself'}"]


def _environment(run: Run) -> list[str]:
    return [f"ENVIRONMENT: {line}" for line in run.troubles]


def _not_judged(run: Run) -> list[str]:
    found = run.unjudged
    lost = [
        (found.skipped if found.policy.skipped == "fail" else [], "their tests were skipped"),
        (found.unused if found.policy.unused == "fail" else [], "no figure met them"),
    ]
    return [
        f"NOT JUDGED: {len(rules)} of the bounds that were asked for, as {why}"
        for rules, why in lost
        if rules
    ]


def _undecided(run: Run) -> list[str]:
    if not run.too_many_undecided:
        return []
    share = run.unjudged.policy.inconclusive_share
    return [
        f"INCONCLUSIVE: {run.undecided} of the {run.judged} figures with a bound "
        f"({run.undecided / run.judged:.0%}) cannot tell whether they meet it, on so few samples; the "
        f"policy's inconclusive_share allows {share:.4g}"
    ]


def _not_compared(run: Run) -> list[str]:
    """Say which bounds on changes had nothing to be held against, once for each reason."""
    found = run.not_compared
    reasons = Counter(record.verdict.explanation for record in found)
    if len(reasons) > _REASONS:
        shown = first_of([record.key for record in found], 3)
        return [
            f"{NOT_COMPARED}: {counted(len(found), 'bound')} on a change had nothing to be held against "
            f"({shown}); the reports say why of each"
        ]
    return [
        f"{NOT_COMPARED}: {counted(count, 'bound')} on a change not judged: {reason}"
        for reason, count in reasons.items()
    ]


def _excused(run: Run) -> list[str]:
    """Say which bounds were missed without any failure: pytest lets tests be expected to fail."""
    missed = [record.key for record in run.records if record.verdict.failed]
    if not missed or run.recording or run.ending not in _NOT_RED:
        return []
    return [
        f"EXCUSED: {counted(len(missed), 'figure')} on the wrong side of a bound ({first_of(missed, 3)}): "
        "the tests are marked as expected to fail (xfail), so that the run is not red for it"
    ]


def _waived(run: Run) -> list[str]:
    """Say which bounds are missed under a waiver, whose reason and owner stand beside each."""
    found = run.waived
    if not found:
        return []
    shown = first_of([record.key for record in found], 3)
    first = min(record.verdict.waiver.expires for record in found if record.verdict.waiver)
    verb = "is" if len(found) == 1 else "are"
    return [
        f"{WAIVED}: {counted(len(found), 'bound')} {verb} missed under {counted_waivers(run)} "
        f"({shown}); the first expires on {first}"
    ]


def _stale(run: Run) -> list[str]:
    count = sum(level == "error" for level, _ in run.unjudged.stale)
    verb = "is" if count == 1 else "are"
    return [f"WAIVERS: {counted(count, 'waiver')} {verb} out of date"] if count else []


def counted_waivers(run: Run) -> str:
    """Return ``2 waivers``: those under which bounds are missed."""
    return counted(waivers_of(record.verdict for record in run.waived), "waiver")


def _nothing(run: Run) -> list[str]:
    if not run.gates_nothing:
        return []
    if not run.records and (not run.complete or run.mistakes or _not_judged(run)):
        return []  # there is a better reason
    what = "no bound is for any of these figures" if run.records else "no figure was measured"
    ending = "; --clip-record writes bounds for them" if run.records else ""
    level = "ERROR: require_bound is set, and" if run.lacks_a_bound else "warning:"
    return [f"{level} {what}, so THIS RUN GATES NOTHING{ending}"]


def _by_suite(entries: Iterable[NotMeasured]) -> str:
    counts = Counter(entry.suite for entry in entries)
    return ", ".join(f"{suite} {count}" for suite, count in counts.items())

"""What a reader of a run must look at: missed and undecided bounds, the worst first."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_cliprobust.errors import one_line
from pytest_cliprobust.gating.verdict import Outcome, Status
from pytest_cliprobust.gating.waivers import Waived
from pytest_cliprobust.reporting.places import Place
from pytest_cliprobust.results.record import Record
from pytest_cliprobust.results.run import Run

_GRAVITY = {"fail": 0, "warn": 1, "pass": 2}


@dataclass(frozen=True)
class Finding:
    """A figure that missed its bound, or of which too few samples tell whether it does.

    Attributes:
        key: of the figure.
        rule: ``suite/metric``.
        kind: of the bound, ``max_decrease``; empty where a figure without a bound fails.
        status: what the statistics say.
        outcome: what counts under the policy.
        text: one sentence or two: figure, bound, and why.
        place: the bound's line; the test's file where there is no bound.
        test: node id of the test that measured it.
        waiver: that says that the bound may be missed; None without one.
    """

    key: str
    rule: str
    kind: str
    status: Status
    outcome: Outcome
    text: str
    place: Place
    test: str
    waiver: Waived | None = None


def findings(run: Run) -> list[Finding]:
    """Return them: failures first, and among equals those that miss their bound by the most of it."""
    records = [r for r in run.records if r.verdict.status in ("fail", "inconclusive", "waived")]
    return [_finding(record) for record in sorted(records, key=_gravity)]


def _gravity(record: Record) -> tuple[int, int, float, str]:
    verdict = record.verdict
    missed, limit = verdict.missed_by, abs(verdict.limit or 0.0)
    # A figure that is not finite, or has no bound, is as bad as can be.
    by = math.inf if missed is None else missed / limit if limit else missed
    return _GRAVITY[verdict.outcome], int(verdict.status not in ("fail", "waived")), -by, record.key


def _finding(record: Record) -> Finding:
    verdict, measurement = record.verdict, record.measurement
    figure = record.figure
    bound = f", bound {verdict.bound}" if verdict.bound else ""
    said = f" ({verdict.because})" if verdict.because else ""
    text = (
        f"{measurement.metric} of {measurement.suite} on {measurement.condition} with {record.model}: "
        f"{figure.interval_text()}, n = {figure.n}{bound}{said}: {verdict.status}; {verdict.explanation}"
    )
    if verdict.waiver is not None:
        text += f"; {verdict.waiver.text()}"
    where = Place.of_bound(verdict.where) if verdict.where else Place.of_test(record.test)
    return Finding(
        key=record.key,
        rule=f"{measurement.suite}/{measurement.metric}",
        kind=verdict.kind or "",
        status=verdict.status,
        outcome=verdict.outcome,
        text=one_line(text),
        place=where,
        test=record.test,
        waiver=verdict.waiver,
    )

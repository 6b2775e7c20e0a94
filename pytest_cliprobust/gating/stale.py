"""Waivers that are out of date: expired, without a bound that they are for, or not needed any more.

They fail the run as bounds do that judge nothing: a list of exceptions that nobody takes out is one that
nobody reads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.rules import Rule, matches, matches_any
from pytest_cliprobust.gating.thresholds import ThresholdFile
from pytest_cliprobust.gating.unjudged import Chosen, find_unjudged
from pytest_cliprobust.gating.verdict import Status, Verdict
from pytest_cliprobust.gating.waivers import Waiver

#: Figures with their verdicts and the node ids of their tests.
Judged = Sequence[tuple[Measurement, Verdict, str]]


def find_stale(
    thresholds: ThresholdFile,
    judged: Judged,
    *,
    suites_run: Collection[str],
    models: Sequence[str],
    suites_broken: Collection[str] = (),
    chosen: Chosen | None = None,
    **names: Any,
) -> list[tuple[str, str]]:
    """Return (level, line) for each waiver that is out of date.

    One whose suite, model or profile is no part of the run is not looked at, and that one is not needed is
    told of suites alone that ran whole.

    Args:
        thresholds: the file.
        judged: all figures of the run, with verdicts and tests; those without a bound are of no interest.
        suites_run: suites of which any test was selected, whatever came of it.
        models: the models under test.
        suites_broken: suites of which a test broke off without a figure.
        chosen: the tests that were skipped, cut short, or left out.
        names: what tells slips from names, as :func:`~pytest_cliprobust.gating.unjudged.find_unjudged`
            takes it.
    """
    if not thresholds.waivers:
        return []
    chosen, profile = chosen or Chosen(), thresholds.profile
    bounded = [entry for entry in judged if entry[1].status != "unbounded"]
    told = [
        ("error", _expired(waiver))
        for waiver in thresholds.waivers
        if waiver.expired and _is_of(waiver, suites_run, models, profile)
    ]
    holding = [waiver for waiver in thresholds.waivers if not waiver.expired]
    found = find_unjudged(
        ThresholdFile([one.selector for one in holding], thresholds.policy, profile=profile),
        used=[w.id for w in holding if any(w.covers(m, profile, test) for m, _, test in bounded)],
        suites_run=suites_run,
        suites_broken=suites_broken,
        models=models,
        measured=[one for one, _, _ in bounded],
        chosen=chosen,
        **names,
    )
    level = "error" if thresholds.policy.unused == "fail" else "warning"
    told += [
        (level, _idle(rule, judged, found.reasons[rule.id], profile))
        for rule in (*found.unused, *found.shadowed)
    ]
    unsure = {*chosen.partly, *chosen.cut, *chosen.skipped, *suites_broken}
    for waiver in holding:
        if not any(matches_any(waiver.selector.selectors["suite"], (s,)) for s in unsure):
            told += [("error", line) for line in _not_needed(waiver, bounded, profile)]
    return told


def _is_of(
    waiver: Waiver, suites: Iterable[str], models: Iterable[str], profile: str | None
) -> bool:
    """Return whether a waiver is for this run at all."""
    wanted: Mapping[str, tuple[str, ...]] = waiver.selector.selectors
    return (
        matches_any(wanted["suite"], suites)
        and matches_any(wanted.get("model", ()), models)
        and matches(wanted.get("profile", ()), profile or "")
    )


def _expired(waiver: Waiver) -> str:
    return (
        f"{waiver.where}: the waiver [{waiver.id}] of {waiver.owner} expired: {waiver.expires} was its last "
        "day; mend what it is for, or let its owner say anew why it may be missed"
    )


def _idle(rule: Rule, judged: Judged, why: str, profile: str | None) -> str:
    if any(not rule.mismatch(one, profile, test) for one, _, test in judged):
        why = "what it is for has no bound"
    elif any(not rule.mismatch(one, profile) for one, _, _ in judged):
        why = "no test of that name measured it"
    return f"{rule.where}: the waiver [{rule.id}] matched nothing that was judged" + (
        f": {why}" if why else ""
    )


def _not_needed(waiver: Waiver, bounded: Judged, profile: str | None) -> Iterator[str]:
    """Yield a line for the waiver, or for each entry of its lists, whose bounds all pass."""

    def statuses(rule: Rule) -> list[Status]:
        return [v.status for one, v, test in bounded if not rule.mismatch(one, profile, test)]

    def passes(rule: Rule) -> bool:
        found = statuses(rule)
        return bool(found) and all(status == "pass" for status in found)

    kept = (
        [waiver.selector] if passes(waiver.selector) else filter(passes, waiver.selector.entries())
    )
    for rule in kept:
        count = len(statuses(rule))
        said = "its bound passes" if count == 1 else f"its {count} bounds pass"
        yield f"{waiver.where}: the waiver [{rule.id}] is not needed any more: {said}; take it out"

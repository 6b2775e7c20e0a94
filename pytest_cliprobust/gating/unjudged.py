"""Which bounds of the threshold file a run did not judge, and why; some of them fail the run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.rules import Rule, matches_any
from pytest_cliprobust.gating.thresholds import ThresholdFile


@dataclass
class Unjudged:
    """The bounds that no figure met.

    Attributes:
        skipped: a test of the bound's suite was skipped or is not possible here, and nothing else met
            the bound: what is not measured is never green, so these fail the run (or warn, as the
            policy says).
        broken: a test of the bound's suite broke off, which fails the run anyway.
        unused: every test of the suite ran, and none met the bound: it is out of date, or its
            selector is wrong.
        other_suites: suites that were not part of this run, with the number of their bounds.
        other_models: the number of bounds for models that are not under test.
        other_data: the number of bounds for data sets that ``--clip-data`` replaced.
    """

    skipped: list[Rule] = field(default_factory=list)
    broken: list[Rule] = field(default_factory=list)
    unused: list[Rule] = field(default_factory=list)
    other_suites: dict[str, int] = field(default_factory=dict)
    other_models: int = 0
    other_data: int = 0


def find_unjudged(
    thresholds: ThresholdFile,
    *,
    used: Iterable[str],
    suites_run: Iterable[str],
    suites_broken: Iterable[str] = (),
    suites_skipped: Iterable[str] = (),
    models: Iterable[str],
    measured_datasets: Iterable[str] = (),
    replaced_data: bool = False,
) -> Unjudged:
    """Return the bounds that a run did not judge.

    A bound is counted under the first of these that holds: its model is not under test, its data was
    replaced, its suite was not run, broke off, was skipped; else it is unused.

    Args:
        thresholds: the file; the uses of other processes are added to its own.
        used: ids of the rules that judged or were looked up, in whatever process.
        suites_run: suites of which any test was selected, whatever came of it.
        suites_broken: suites of which a test broke off without a figure.
        suites_skipped: suites of which a test was skipped or could not run here.
        models: the models under test.
        measured_datasets: the data sets of the run's figures.
        replaced_data: whether the user's data took the place of the embedded benchmark's.

    Raises:
        ClipRobustError: a used rule is not in the file: it changed during the run.
    """
    thresholds.merge_uses(used)
    run, broken, skipped = set(suites_run), set(suites_broken), set(suites_skipped)
    tested, measured = set(models), set(measured_datasets)
    result = Unjudged()
    for rule in thresholds.unused():
        suites = rule.selectors.get("suite", ())
        if not matches_any(rule.selectors.get("model", ()), tested):
            result.other_models += 1
        elif replaced_data and not matches_any(rule.selectors.get("dataset", ()), measured):
            result.other_data += 1
        elif not matches_any(suites, run):
            name = " or ".join(suites)
            result.other_suites[name] = result.other_suites.get(name, 0) + 1
        elif matches_any(suites, broken):
            result.broken.append(rule)
        elif matches_any(suites, skipped):
            result.skipped.append(rule)
        else:
            result.unused.append(rule)
    return result


def fails(found: Unjudged, policy: Policy) -> bool:
    """Return whether bounds of skipped tests fail the run."""
    return bool(found.skipped) and policy.skipped == "fail"


def lines(found: Unjudged) -> list[tuple[str, str]]:
    """Return (level, text) lines: what a reader of the summary must know of bounds not judged."""
    told = [("error", f"{_bound(rule)} was not measured: skipped") for rule in found.skipped]
    told += [
        ("error", f"{_bound(rule)} was not measured: a test broke off") for rule in found.broken
    ]
    told += [("warning", f"{_bound(rule)} was not used by any test") for rule in found.unused]
    if found.other_suites:
        count = sum(found.other_suites.values())
        names = ", ".join(found.other_suites)
        told.append(("note", f"{counted(count)} for suites that were not run ({names})"))
    if found.other_data:
        told.append(("note", f"{counted(found.other_data)} for data that --clip-data replaced"))
    if found.other_models:
        told.append(("note", f"{counted(found.other_models)} for other models"))
    return told


def counted(number: int) -> str:
    """Return ``1 bound is`` or ``3 bounds are``."""
    return "1 bound is" if number == 1 else f"{number} bounds are"


def _bound(rule: Rule) -> str:
    return f"{rule.where}: bound {rule.bound_text()} [{rule.id}]"

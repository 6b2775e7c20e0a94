"""Which bounds of the threshold file a run did not judge, and why; some of them fail the run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_cliprobust.errors import counted
from pytest_cliprobust.gating import unmet
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.rules import Rule, matches_any
from pytest_cliprobust.gating.thresholds import ThresholdFile

#: Why a bound was not judged in a run that was cut short.
CUT = "a test of its suite did not come to its end"


@dataclass
class Unjudged:
    """The bounds that no figure met.

    Attributes:
        skipped: a test of the bound's suite was skipped or is not possible here, and nothing else met
            the bound: what is not measured is never green, so these fail the run (or warn, as the
            policy says).
        broken: a test of the bound's suite broke off, which fails the run anyway.
        cut: the run ended before all tests of the bound's suite did: whether they would have met it is
            not known. These are not judged, and never green.
        unused: every test of the suite ran, and none met the bound: its selector is wrong, or it is
            out of date. These fail the run (or warn).
        shadowed: all figures that the bound is for were judged by narrower rules.
        reasons: why a bound is unused, by the rule's id.
        other_suites: suites that were not part of this run, with the number of their bounds.
        other_models: the number of bounds for models that are not under test.
        other_data: the number of bounds for data that was not part of this run.
        other_profiles: the number of bounds for other profiles, or for what only those measure.
        warnings: what else a reader must know of the file.
        stale: waivers that are out of date: (level, line).
        policy: what counts as a failure.
    """

    skipped: list[Rule] = field(default_factory=list)
    broken: list[Rule] = field(default_factory=list)
    cut: list[Rule] = field(default_factory=list)
    unused: list[Rule] = field(default_factory=list)
    shadowed: list[Rule] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    other_suites: dict[str, int] = field(default_factory=dict)
    other_models: int = 0
    other_data: int = 0
    other_profiles: int = 0
    warnings: list[str] = field(default_factory=list)
    stale: list[tuple[str, str]] = field(default_factory=list)
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True)
class Chosen:
    """What a run left out of its suites: ``-k``, ``-m``, ``FILE::TEST``.

    Attributes:
        skipped: ids of skipped tests, by suite.
        deselected: ids of the tests that were left out, by suite.
        by_id: suites of which tests were named one by one; those left out are not known.
        cut: ids of the tests that did not come to their end, or did not begin, by suite.
    """

    skipped: Mapping[str, Collection[str]] = field(default_factory=dict)
    deselected: Mapping[str, Collection[str]] = field(default_factory=dict)
    by_id: Collection[str] = ()
    cut: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def partly(self) -> set[str]:
        """Suites that did not run whole."""
        return {*self.deselected, *self.by_id}

    def was_selected(self, rule: Rule, suite: str) -> bool:
        """Whether the skipped tests of a suite may be those that the rule waits for."""
        return self._may_be_among(self.skipped.get(suite, ()), rule, suite)

    def was_cut(self, rule: Rule, suite: str) -> bool:
        """Whether those that did not come to their end may be."""
        return self._may_be_among(self.cut.get(suite, ()), rule, suite)

    def _may_be_among(self, tests: Collection[str], rule: Rule, suite: str) -> bool:
        left_out = self.deselected.get(suite, ())
        for name in unmet.names_of(rule):
            if unmet.mentions(tests, name):
                continue
            if unmet.mentions(left_out, name) or suite in self.by_id:
                return False
        return bool(tests)


def find_unjudged(
    thresholds: ThresholdFile,
    *,
    used: Iterable[str],
    suites_run: Iterable[str],
    suites_broken: Iterable[str] = (),
    models: Iterable[str],
    measured: Sequence[Measurement] = (),
    datasets: Collection[str] = (),
    chosen: Chosen | None = None,
    known_models: Collection[str] = (),
    own_datasets: Collection[str] = (),
    replaced_data: bool = False,
    published: Collection[str] = (),
    of_other_profiles: Mapping[str, unmet.Declared] | None = None,
    why_no_suite: Callable[[str], str] | None = None,
) -> Unjudged:
    """Return the bounds that a run did not judge.

    A bound is counted under the first of these that holds: its profile or model is another, its data
    was not part of the run, its suite was not run, was not run whole, broke off, was cut short, was skipped;
    else it is unused. A near miss of a tested model or data set is unused, too.

    Args:
        thresholds: the file; the uses of other processes are added to its own.
        used: ids of the rules that judged or were looked up, in whatever process.
        suites_run: suites of which any test was selected, whatever came of it.
        suites_broken: suites of which a test broke off without a figure.
        models: the models under test.
        measured: all that the run measured.
        datasets: further data sets that were part of the run.
        chosen: the tests that were skipped, and those left out.
        known_models: names that are no slip of a tested one.
        own_datasets: names of the embedded benchmark.
        replaced_data: whether the user's data took its place.
        published: names of published data sets, which a user may give or not.
        of_other_profiles: by suite, what it measures in other profiles only.
        why_no_suite: says of a pattern of suites that none of the run has why there is no such suite, and
            nothing of one that there is; without it any may be there.

    Raises:
        ClipRobustError: a used rule is not in the file: it changed during the run.
    """
    thresholds.merge_uses(used)
    chosen = chosen or Chosen()
    run, broken = set(suites_run), set(suites_broken)
    tested, elsewhere = tuple(models), of_other_profiles or {}
    on = {*datasets, *(m.dataset for m in measured)}
    result = Unjudged(policy=thresholds.policy, other_profiles=len(thresholds.of_other_profiles()))
    result.warnings += [*thresholds.warnings, *thresholds.dropped_changes(measured)]
    for rule in [*thresholds.unused(), *thresholds.unmet_entries(measured)]:
        suites = rule.selectors.get("suite", ())
        mine = {suite for suite in run if matches_any(suites, (suite,))}
        partly = mine & chosen.partly
        if not matches_any(rule.selectors.get("model", ()), tested):
            why = unmet.slip_of_a_model(rule, tested, known_models)
            if not why:
                result.other_models += 1
            elif not partly:
                result.unused.append(rule)
                result.reasons[rule.id] = why
        elif unmet.is_for_other_data(
            rule, on, own_datasets, replaced=replaced_data, published=published
        ):
            result.other_data += 1
        elif not mine:
            name = " or ".join(suites)
            missing = [why_no_suite(suite) for suite in suites] if why_no_suite else []
            if missing and all(missing):
                result.unused.append(rule)
                result.reasons[rule.id] = missing[0]
                continue
            result.other_suites[name] = result.other_suites.get(name, 0) + 1
        elif mine & broken and not partly:
            result.broken.append(rule)
        elif any(chosen.was_cut(rule, suite) for suite in mine):
            result.cut.append(rule)
        elif any(chosen.was_selected(rule, suite) for suite in mine):
            result.skipped.append(rule)
        elif partly:
            # It may be for the tests that were left out: no news.
            continue
        elif any(
            unmet.is_in_another_profile(
                rule, elsewhere.get(s, unmet.Declared()), [m for m in measured if m.suite == s]
            )
            for s in mine
        ):
            result.other_profiles += 1
        else:
            why = unmet.reason(rule, [m for m in measured if m.suite in mine])
            (result.unused if why else result.shadowed).append(rule)
            result.reasons[rule.id] = why
    return result


def fails(found: Unjudged, policy: Policy) -> bool:
    """Return whether bounds that were not judged fail the run."""
    return bool(
        found.cut
        or (found.skipped and policy.skipped == "fail")
        or (found.unused and policy.unused == "fail")
        or any(level == "error" for level, _ in found.stale)
    )


def lines(found: Unjudged, most: int | None = None) -> list[tuple[str, str]]:
    """Return (level, text) lines: what a reader of the summary must know of bounds not judged.

    ``most``: of a run that was cut short so many bounds are listed; more of them are counted.
    """
    told = [("warning", text) for text in found.warnings]
    told += [("error", f"{_bound(rule)} was not measured: skipped") for rule in found.skipped]
    told += [
        ("error", f"{_bound(rule)} was not measured: a test broke off") for rule in found.broken
    ]
    if most is None or len(found.cut) <= most:
        told += [("error", line) for line in cut_lines(found)]
    else:
        told.append(
            ("error", f"{counted(len(found.cut), 'bound was', 'bounds were')} not judged: {CUT}")
        )
    told += [
        ("note", f"{_bound(rule)} judges nothing: narrower rules judge all that it is for")
        for rule in found.shadowed
    ]
    level = "error" if found.policy.unused == "fail" else "warning"
    told += [
        (level, f"{_bound(rule)} was not used by any test: {found.reasons[rule.id]}")
        for rule in found.unused
    ]
    told += found.stale
    if found.other_suites:
        count = sum(found.other_suites.values())
        names = ", ".join(found.other_suites)
        told.append(("note", f"{_bounds_are(count)} for suites that were not run ({names})"))
    if found.other_data:
        told.append(
            ("note", f"{_bounds_are(found.other_data)} for data that was not part of this run")
        )
    if found.other_models:
        told.append(("note", f"{_bounds_are(found.other_models)} for other models"))
    if found.other_profiles:
        told.append(("note", f"{_bounds_are(found.other_profiles)} for other profiles"))
    if found.unused:
        outcome = "the run fails" if level == "error" else "a warning, as the policy says"
        told.append((level, f"{len(found.unused)} of the bounds judged nothing: {outcome}"))
    return told


def cut_lines(found: Unjudged) -> list[str]:
    """Return one line for each bound of a run that was cut short."""
    return [f"{_bound(rule)} was not judged: {CUT}" for rule in found.cut]


def _bounds_are(number: int) -> str:
    return counted(number, "bound is", "bounds are")


def _bound(rule: Rule) -> str:
    return f"{rule.where}: bound {rule.bound_text()} [{rule.id}]"

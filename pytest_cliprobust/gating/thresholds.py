"""The rules and the policy of a threshold file: look-up, use tracking, explaining.

The file's layout is told to users in ``docs/thresholds.md`` and read by
:mod:`pytest_cliprobust.gating.reading`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.rules import CHANGES, Rule, matches
from pytest_cliprobust.gating.verdict import Verdict
from pytest_cliprobust.gating.vocabulary import tie
from pytest_cliprobust.gating.waivers import Waiver


@dataclass(frozen=True)
class NamedPerturbation:
    """One ``[[perturbation]]`` table: an augmentation of kornia under a name of the user's own.

    Attributes:
        name: what suites, rules and reports call it.
        kornia: a class of ``kornia.augmentation``.
        parameters: its arguments at every severity.
        severities: arguments of severity 1 and up, mildest first; may be empty.
        envelope: range (mildest, strongest) of arguments that are single numbers.
        where: file and line.
    """

    name: str
    kornia: str
    parameters: Mapping[str, Any]
    severities: tuple[Mapping[str, Any], ...]
    envelope: Mapping[str, tuple[float, float]]
    where: str


class ThresholdFile:
    """The rules and the policy of a threshold file; keeps count of the rules that were used.

    Attributes:
        name: the file's name as messages show it; empty if there is no file.
        policy: the policy.
        rules: the rules in the order of the file.
        profile: the profile of this run, or None.
        perturbations: the ``[[perturbation]]`` tables; see :meth:`register_perturbations`.
        waivers: the ``[[waiver]]`` tables.
        warnings: what its reader must know of it, one line each.
    """

    def __init__(
        self,
        rules: Sequence[Rule] = (),
        policy: Policy | None = None,
        *,
        name: str = "",
        profile: str | None = None,
        perturbations: Sequence[NamedPerturbation] = (),
        waivers: Sequence[Waiver] = (),
        warnings: Sequence[str] = (),
    ) -> None:
        self.warnings = tuple(warnings)
        self.perturbations = tuple(perturbations)
        self.waivers = tuple(waivers)
        self.name = name
        self.policy = policy or Policy()
        self.rules = tuple(rules)
        self.profile = profile
        self._used: set[str] = set()
        self._by_metric: dict[str, list[Rule]] = {}

    def register_perturbations(self) -> None:
        """Make the ``[[perturbation]]`` tables known to the registry of perturbations.

        Raises:
            ClipRobustError: an unknown augmentation or argument, or a name that is taken, with the
                line of its table.
        """
        if not self.perturbations:
            return
        from pytest_cliprobust.perturbations import kornia_adapter

        for item in self.perturbations:
            try:
                kornia_adapter.define(
                    item.name,
                    item.kornia,
                    parameters=item.parameters,
                    severities=item.severities,
                    envelope=item.envelope,
                    file=Path(self.name) if self.name else None,
                )
            except ClipRobustError as error:
                raise ClipRobustError(f"{item.where}: {error}") from None

    def _of_metric(self, metric: str) -> list[Rule]:
        """All rules that match the metric."""
        if metric not in self._by_metric:
            self._by_metric[metric] = [
                rule for rule in self.rules if matches(rule.selectors["metric"], metric)
            ]
        return self._by_metric[metric]

    def _matching(self, measurement: Measurement) -> list[Rule]:
        """All rules that match, the most specific first."""
        candidates = self._of_metric(measurement.metric)
        found = [rule for rule in candidates if not rule.mismatch(measurement, self.profile)]
        return sorted(found, key=lambda rule: rule.precedence, reverse=True)

    def lookup(self, measurement: Measurement) -> Rule | None:
        """Return the most specific rule that matches, and note that it was used.

        Of equally specific ones that of the file itself wins over a pack's, and a nearer pack's over others.

        Raises:
            ClipRobustError: two rules are equally specific, and neither stands nearer.
        """
        found = self._matching(measurement)
        if not found:
            return None
        if len(found) > 1 and found[0].precedence == found[1].precedence:
            raise tie(found[0], found[1], measurement.key)
        self._used.add(found[0].id)
        return found[0]

    def waivers_of(self, measurement: Measurement, test: str | None = None) -> list[Waiver]:
        """Return the waivers that are for the bounds of a figure, the most specific first.

        ``test``: node id of the test that measured it; None: whichever it was.
        """
        found = [one for one in self.waivers if one.covers(measurement, self.profile, test)]
        return sorted(found, key=lambda one: one.selector.specificity, reverse=True)

    def waived(
        self, measurement: Measurement, verdict: Verdict, test: str | None = None
    ) -> Verdict:
        """Return the verdict, as waived if it fails and a waiver that has not expired says that it may.

        ``test``: as :meth:`waivers_of` takes it.
        """
        if not verdict.waivable:
            return verdict
        holding = [one for one in self.waivers_of(measurement, test) if not one.expired]
        return verdict.under(holding[0]) if holding else verdict

    def applies(self, measurement: Measurement) -> bool:
        """Return whether any rule would judge a measurement; it does not count as used."""
        return bool(self._matching(measurement))

    def reaches_beyond(
        self, known: Sequence[Measurement], models: Collection[str], suites: Collection[str]
    ) -> bool:
        """Return whether the rules for these models and suites may judge figures that are not known.

        A rule does if it leaves open, or has a glob for, what tells figures apart, or if it meets none of
        those that are known.
        """
        asked = (
            rule
            for rule in self.rules
            if self._of_this_profile(rule)
            and any(matches(rule.selectors.get("model", ()), name) for name in models)
            and any(matches(rule.selectors.get("suite", ()), name) for name in suites)
        )
        return any(
            not rule.names_all or not any(not rule.mismatch(one, self.profile) for one in known)
            for rule in asked
        )

    def uses(self) -> list[str]:
        """Return the ids of the rules used so far, to hand over from an xdist worker."""
        return sorted(self._used)

    def merge_uses(self, ids: Iterable[str]) -> None:
        """Add the uses of another worker.

        Raises:
            ClipRobustError: an id belongs to no rule, so the file changed during the run.
        """
        known = {rule.id for rule in self.rules}
        for name in ids:
            if name not in known:
                raise ClipRobustError(
                    f"{self.name}: a worker used the rule [{name}], which is not in the file; "
                    "it changed during the run, so run again"
                )
            self._used.add(name)

    def unused(self) -> list[Rule]:
        """Return the rules of this run's profile that no look-up gave back."""
        return [rule for rule in self._never_used() if self._of_this_profile(rule)]

    def unmet_entries(self, measured: Sequence[Measurement]) -> list[Rule]:
        """Return what the lists of rules that judged name in vain, each as a rule of its own.

        A data set, a perturbation, a metric or a severity that met nothing gates nothing, whatever the
        others of its list do.
        """
        return [
            entry
            for rule in self.rules
            if rule.id in self._used and self._of_this_profile(rule)
            for entry in rule.entries()
            if not any(not entry.mismatch(one, self.profile) for one in measured)
        ]

    def of_other_profiles(self) -> list[Rule]:
        """Return the rules for another profile than this run's."""
        return [rule for rule in self._never_used() if not self._of_this_profile(rule)]

    def _never_used(self) -> list[Rule]:
        return [rule for rule in self.rules if rule.id not in self._used]

    def _of_this_profile(self, rule: Rule) -> bool:
        return matches(rule.selectors.get("profile", ()), self.profile or "")

    def dropped_changes(self, measurements: Iterable[Measurement]) -> list[str]:
        """Return a line for each rule that wins over a broader one without its bound on the change."""
        told: dict[tuple[str, str], str] = {}
        for measurement in measurements:
            found = self._matching(measurement)
            for winner, other in ((found[0], other) for other in found[1:]):
                for kind in CHANGES:
                    if kind not in other.bounds or kind in winner.bounds:
                        continue
                    same = winner.file == other.file
                    where = f"line {other.line}" if same else other.where
                    told[winner.id, kind] = (
                        f"{winner.where}: [{winner.id}] wins over [{other.id}] of {where} "
                        f"and drops its {kind} {other.bounds[kind]:.12g}; write it there, too, if it "
                        "is to hold"
                    )
        return list(told.values())

    def explain(self, measurement: Measurement, test: str | None = None) -> str:
        """Return which rules match ``measurement``, which one wins, and why.

        ``test``: as :meth:`waivers_of` takes it.
        """
        found = self._matching(measurement)
        title = measurement.key + (f" (profile {self.profile})" if self.profile else "")
        told = self._ranked(found) if found else self._near(measurement)
        told += [f"  waiver{_state(one)}" for one in self.waivers_of(measurement, test)]
        told += [f"  policy  {line}" for line in self.policy.sourced()]
        return "\n".join([title, *told])

    def _near(self, measurement: Measurement) -> list[str]:
        """Why no rule matches, rule by rule of the same metric."""
        shown = self.name or "(no threshold file)"
        lines = [f"  no rule of {shown} matches: the figure is unbounded"]
        near = self._of_metric(measurement.metric)
        lines += [
            f"  no match  {rule.where}  {rule.bound_text()}  [{rule.id}]: "
            f"{rule.mismatch(measurement, self.profile)}"
            for rule in near
        ]
        if not near:
            lines.append(f"  and none has metric {measurement.metric!r}")
        return lines

    def _ranked(self, found: Sequence[Rule]) -> list[str]:
        """What becomes of each rule that matches, the most specific first."""
        best = found[0]
        tied = len(found) > 1 and found[1].precedence == best.precedence
        lines = []
        for rule in found:
            verb, why = "loses", f"less specific: {rule.specificity}"
            if len(found) == 1:
                verb, why = "wins", f"the only rule that matches: {rule.specificity}"
            elif rule.specificity == best.specificity and rule.rank < best.rank:
                why = f"equally specific, and {best.file} counts before {rule.file}"
            elif rule.specificity == best.specificity:
                verb, why = "wins", f"most specific: {rule.specificity}"
                if tied:
                    verb = "ties"
                    why = f"equally specific: {rule.specificity}; an error, make one narrower"
            lines.append(f"  {verb:<5} {rule.where}  {rule.bound_text()}  [{rule.id}]  ({why})")
        return lines


def _state(waiver: Waiver) -> str:
    """Return by whom, why and until when a waiver holds, or that it does not any more."""
    state = "expired on" if waiver.expired else "until"
    return f"  {waiver.where}  {state} {waiver.expires}, {waiver.owner}: {waiver.reason}  [{waiver.id}]"

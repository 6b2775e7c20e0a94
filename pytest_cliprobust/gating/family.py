"""Many bounds in one run: how unlikely a loss must be before it is called real.

The bounds of a run are two families. *Headlines* are the figures that sum up: of a whole data set as it
is, or over several conditions. *Details* are single perturbations and parts of data sets. Each family has
half of the run's error rate, so that a hundred details do not cost a headline its power, and a large loss
in one cell is still seen. Within a family Holm's method (1979) holds the rate whatever the figures'
dependence. Only "the loss is real" is adjusted for their number: that a bound is kept is claimed for each
bound by itself.

A test fails as soon as its own loss is beyond Bonferroni's level, the first of Holm's steps; the later
steps are taken when all is measured (:func:`settled`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pytest_cliprobust.figures.paired import holm
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.verdict import Verdict

#: Figures that a test is taken to judge while that is not known; the shipped suites' have seven on average.
FIGURES_A_TEST = 8


@dataclass(frozen=True)
class Family:
    """How many figures the tests of a run judge; None while that is not known.

    Attributes:
        headlines: figures that sum up.
        details: figures of single perturbations and of parts of data sets.
        tests: number of tests, from which figures are estimated where their number is not known.
    """

    headlines: int | None = None
    details: int | None = None
    tests: int = 1

    @classmethod
    def of(cls, measurements: Iterable[Measurement]) -> Family:
        """Return the family of the measurements that have a bound."""
        kinds = [is_headline(measurement) for measurement in measurements]
        return cls(sum(kinds), len(kinds) - sum(kinds))

    def at_least(self, tests: int) -> Family:
        """Return the family where more may be judged than is known: as many as without any knowledge."""
        expected = FIGURES_A_TEST * tests
        headlines, details = (count or 0 for count in (self.headlines, self.details))
        return Family(max(expected, headlines), max(expected, details), tests)

    def error_rate(self, measurement: Measurement, policy: Policy, seen: int = 0) -> float:
        """Return the two-sided error rate at which a loss of this figure alone is called real.

        Args:
            measurement: the figure.
            policy: of the threshold file.
            seen: figures that its test has judged so far, which may be more than were expected.
        """
        count = self.headlines if is_headline(measurement) else self.details
        expected = max(1, FIGURES_A_TEST * self.tests if count is None else count)
        # Beyond what was expected the levels fall so fast that all of them together, however many may come,
        # are worth no more than those that were; at the end it is the true number that counts.
        among = expected if seen <= expected else seen * (seen - 1) / expected
        # Half of the rate for each family; only one side is a loss, so both sides have it twice.
        return policy.family_wise_error_rate / max(1.0, among)


def is_headline(measurement: Measurement) -> bool:
    """Return whether a figure sums up: no single perturbation, no part of a data set."""
    condition = measurement.condition
    if condition.part_of or condition.severity is not None:
        return False
    return bool(condition.over or not condition.steps)


def settled(judged: Sequence[tuple[Measurement, Verdict]], policy: Policy) -> list[Verdict]:
    """Return the verdicts of a whole run: those that Holm's later steps make a failure are failures.

    A verdict that failed stays; one that is not judged on a loss stays.
    """
    verdicts = [verdict for _, verdict in judged]
    for headline in (True, False):
        rows = [
            row
            for row, (measurement, verdict) in enumerate(judged)
            if verdict.kind is not None and is_headline(measurement) is headline
        ]
        # What does not miss its bound is no loss, however sure.
        p_values = (verdicts[row].p_value for row in rows)
        adjusted = holm([1.0 if value is None else value for value in p_values])
        for row, value in zip(rows, adjusted, strict=True):
            if value <= policy.family_wise_error_rate:
                verdicts[row] = _called_real(verdicts[row])
    return verdicts


def _called_real(verdict: Verdict) -> Verdict:
    """Return a verdict whose loss turned out to be real, given all others."""
    if verdict.status in ("fail", "unbounded", "waived") or not (verdict.missed_by or 0.0) > 0.0:
        return verdict
    return replace(
        verdict,
        status="fail",
        outcome="fail",
        late=True,
        note="",  # of a real loss that did not fail
        explanation=(
            f"the loss is real, given the others that this run found (Holm's method): "
            f"{verdict.explanation}"
        ),
    )

"""Many bounds in one run: how unlikely a loss must be before it is called real.

The bounds of a run are two families. *Headlines* are the figures that sum up: of a whole data set as it
is, or over several perturbations. *Details* are single perturbations, also over their severities, and parts
of data sets. Each family has
half of the run's error rate, so that a hundred details do not cost a headline its power, and a large loss
in one cell is still seen. Within a family Holm's method (1979) holds the rate whatever the figures'
dependence. Only "the loss is real" is adjusted for their number: that a bound is kept is claimed for each
bound by itself.

A test fails as soon as its own loss is beyond Bonferroni's level, the first of Holm's steps; the later
steps are taken when all is measured (:func:`settled`). Where the number of figures is not known beforehand,
it is the end that counts: a test fails at once only at a stricter level.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pytest_cliprobust.figures.condition import CLEAN
from pytest_cliprobust.figures.paired import holm
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.verdict import Verdict

#: Figures that a test is expected to judge where that is not known; the shipped suites' have seven or so.
FIGURES_A_TEST = 8


@dataclass(frozen=True)
class Family:
    """How many figures the tests of a run judge; None while that is not known.

    Attributes:
        headlines: figures that sum up.
        details: figures of single perturbations and of parts of data sets.
        tests: number of tests, which share the error rate alike where the number of figures is not known.
        more: whether more may be judged than is known.
    """

    headlines: int | None = None
    details: int | None = None
    tests: int = 1
    more: bool = False

    @classmethod
    def of(cls, measurements: Iterable[Measurement]) -> Family:
        """Return the family of the measurements that have a bound."""
        kinds = [is_headline(measurement) for measurement in measurements]
        return cls(sum(kinds), len(kinds) - sum(kinds))

    def at_least(self, tests: int) -> Family:
        """Return the family where more may be judged than is known."""
        return replace(self, tests=tests, more=True)

    def error_rate(self, measurement: Measurement, policy: Policy, seen: int = 0) -> float:
        """Return the two-sided error rate at which a loss of this figure alone is called real.

        Where the number of figures is known it is Bonferroni's. Else half of the rate is kept for the end,
        when the number is known (:func:`settled`). Of the other half each test has an equal share: the
        figures that are expected of it have half of that alike, and those beyond, however many may come, the
        rest, for the levels of number k fall like 1 / k². So the sum of all levels is never more than the
        rate.

        Args:
            measurement: the figure.
            policy: of the threshold file.
            seen: figures that its test has judged so far, which may be more than were expected.
        """
        # Half of the rate for each family; only one side is a loss, so both sides have it twice.
        headline, rate = is_headline(measurement), policy.family_wise_error_rate
        if self._is_known(headline):
            return rate / max(1, self._count(headline))
        expected = self._expected_of_a_test(headline)
        among = expected if seen <= expected else seen * (seen - 1) / expected
        return rate / (4.0 * self.tests * among)

    def rate_at_the_end(self, headline: bool, count: int, policy: Policy) -> float:
        """Return the two-sided error rate that Holm's method has over ``count`` figures of a family.

        It is the whole one where no figure was judged at a level above Holm's first; else the half that was
        kept.
        """
        rate = policy.family_wise_error_rate
        highest = 4 * self.tests * self._expected_of_a_test(headline)
        return rate if self._is_known(headline) or count <= highest else rate / 2.0

    def _count(self, headline: bool) -> int:
        return (self.headlines if headline else self.details) or 0

    def _is_known(self, headline: bool) -> bool:
        return (self.headlines if headline else self.details) is not None and not self.more

    def _expected_of_a_test(self, headline: bool) -> int:
        return max(FIGURES_A_TEST, math.ceil(self._count(headline) / self.tests))


def is_headline(measurement: Measurement) -> bool:
    """Return whether a figure sums up: no single perturbation, no part of a data set."""
    condition = measurement.condition
    if condition.part_of or condition.severity is not None or condition.steps:
        return False
    perturbed = {inner.perturbation for inner in condition.over} - {CLEAN}
    return len(perturbed) != 1


def settled(
    judged: Sequence[tuple[Measurement, Verdict]], policy: Policy, family: Family | None = None
) -> list[Verdict]:
    """Return the verdicts of a whole run: those that Holm's later steps make a failure are failures.

    A verdict that failed stays; one that is not judged on a loss stays.

    Args:
        judged: all figures with their verdicts.
        policy: of the threshold file.
        family: what they were judged as; one whose number was known unless given.
    """
    family = family or Family(len(judged), len(judged))
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
        rate = family.rate_at_the_end(headline, len(rows), policy)
        for row, value in zip(rows, adjusted, strict=True):
            if value <= rate:
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
            f"the loss is real, given the others that this run found (Holm's method); by itself it was "
            f"undecided: {verdict.explanation}"
        ),
    )

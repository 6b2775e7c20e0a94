"""The policy of a threshold file: at what level figures are judged, and what counts as a failure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Inconclusive = Literal["fail", "warn", "pass"]
Skipped = Literal["fail", "warn"]
Unused = Literal["fail", "warn"]


@dataclass(frozen=True)
class Policy:
    """The ``[policy]`` table.

    Attributes:
        inconclusive: what an undecided verdict counts as.
        confidence: level of the two-sided intervals that verdicts look at.
        family_wise_error_rate: if set, replaces ``confidence``: the chance of any wrong decision
            among all the bounds of a run.
        require_bound: whether a measurement without a bound fails.
        skipped: what a bound counts as whose tests were skipped.
        unused: what a bound counts as that could have judged in the run, and judged nothing.
        baseline: path of an earlier run's JSON report, resolved against the file's folder.
        baseline_model: the model whose figures are the baseline, if not the measured model's own.
        inconclusive_share: the largest share of a run's judged figures that may be undecided; beyond
            it the run as a whole has not decided enough, whatever each of them counts as.
        where: file and line of the table, for messages.
    """

    inconclusive: Inconclusive = "warn"
    confidence: float = 0.95
    family_wise_error_rate: float | None = None
    require_bound: bool = False
    skipped: Skipped = "fail"
    unused: Unused = "fail"
    baseline: Path | None = None
    baseline_model: str | None = None
    inconclusive_share: float = 0.15
    where: str = ""

    def too_many(self, undecided: int, judged: int) -> bool:
        """Return whether a run with so many undecided figures, of those judged, decides too little."""
        return judged > 0 and undecided / judged > self.inconclusive_share

    def level(self, comparisons: int = 1) -> float:
        """Return the confidence of each interval when ``comparisons`` bounds are checked in a run."""
        if self.family_wise_error_rate is None:
            return self.confidence
        from pytest_cliprobust.figures.levels import comparison_confidence

        return comparison_confidence(self.family_wise_error_rate, max(1, comparisons))

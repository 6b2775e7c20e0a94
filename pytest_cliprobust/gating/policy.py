"""The policy of a threshold file: at what level figures are judged, and what counts as a failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pytest_cliprobust.errors import as_toml

Inconclusive = Literal["fail", "warn", "pass"]
Skipped = Literal["fail", "warn"]
Unused = Literal["fail", "warn"]


@dataclass(frozen=True)
class Policy:
    """The ``[policy]`` table.

    Attributes:
        inconclusive: what an undecided verdict counts as.
        confidence: level of the two-sided intervals that are shown, and at which an absolute bound is
            kept; that a change keeps its margin must be as sure on the side of the loss alone.
        family_wise_error_rate: the chance that a run without any loss calls one real, whatever the
            number of its bounds: half of it is shared by the headlines, half by the details.
        churn: share of the answers that an equally good model is expected to change (half to right,
            half to wrong), from which recording proposes margins.
        require_bound: whether a measurement without a bound fails.
        skipped: what a bound counts as whose tests were skipped.
        unused: what a bound counts as that could have judged in the run, and judged nothing.
        baseline: path of a recorded baseline or of an earlier run's JSON report, resolved against the
            file's folder.
        baseline_model: the model whose figures are the baseline, if not the measured model's own.
        inconclusive_share: the largest share of a run's judged figures that may be undecided; beyond
            it the run as a whole has not decided enough, whatever each of them counts as.
        where: file and line of the table, for messages.
        packs: the packs that the file extends, each once, the broadest first.
        sources: by key, which pack says so, of what the file's own table leaves out.
    """

    inconclusive: Inconclusive = "warn"
    confidence: float = 0.95
    family_wise_error_rate: float = 0.05
    churn: float = 0.06
    require_bound: bool = False
    skipped: Skipped = "fail"
    unused: Unused = "fail"
    baseline: Path | None = None
    baseline_model: str | None = None
    inconclusive_share: float = 0.15
    where: str = ""
    packs: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)

    def where_of(self, key: str) -> str:
        """Return where a value comes from: ``pack release``, or a file and its line."""
        return self.sources.get(key, self.where)

    def value_text(self, key: str) -> str:
        """Return a value with its key, texts without quotes: ``unused fail``, ``require_bound true``."""
        value = getattr(self, key)
        return f"{key} {value if isinstance(value, str) else as_toml(value)}"

    def sourced(self) -> list[str]:
        """Return a line for each pack that sets anything: ``inconclusive_share 0.1 (pack release)``."""
        return [f"{self.value_text(key)} ({where})" for key, where in sorted(self.sources.items())]

    def too_many(self, undecided: int, judged: int) -> bool:
        """Return whether a run with so many undecided figures, of those judged, decides too little."""
        return judged > 0 and undecided / judged > self.inconclusive_share

    @property
    def change_confidence(self) -> float:
        """Two-sided level of a change's interval whose far end is as sure as ``confidence``.

        A margin is kept if a loss beyond it is ruled out: a one-sided question, as in tests of
        non-inferiority (Schuirmann 1987, two one-sided tests).
        """
        return 2.0 * self.confidence - 1.0

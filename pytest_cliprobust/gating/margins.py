"""Margins that can be decided: how large a loss must be allowed, so that no loss at all passes.

A margin is kept if the interval of the change rules out a loss beyond it. An equally good model changes
some answers, too (its *churn*), so a margin well below three standard errors of the change is not kept
even without a loss. The smallest *decidable* margin is the one that such a model keeps in 95% of draws.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache

import numpy as np
from scipy import special, stats

from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.intervals import paired_score, two_sided_z
from pytest_cliprobust.gating.policy import Policy

#: Chance with which an equally good model keeps a decidable margin.
POWER = 0.95

#: Above so many changed answers the score interval's quantile is the normal one.
_LARGE = 200

#: At this accuracy p the answers of models with churn c correlate by 1 - c / (2 p (1 - p)).
_USUAL_ACCURACY = 0.84


@dataclass(frozen=True)
class Margin:
    """The smallest margin that a figure's samples can decide.

    Attributes:
        size: the margin, rounded up.
        standard_error: of the change to an equally good model, as assumed.
        n: number of samples.
    """

    size: float
    standard_error: float
    n: int

    def samples_for(self, margin: float) -> int:
        """Return about how many samples decide another margin, as a large-sample figure; 0 if none do."""
        return samples_for(margin, self.size, self.n) or 0


def samples_for(margin: float, least: float, n: int) -> int | None:
    """Return about how many samples decide a margin if ``n`` decide ``least``; None if none do."""
    if not margin > 0.0:
        return None
    ratio = least / margin
    needed = n * ratio * ratio  # a power would raise where this is infinite
    return math.ceil(needed) if math.isfinite(needed) else None


def decidable(figure: Figure, policy: Policy, noise: float = 0.0) -> Margin | None:
    """Return the smallest decidable margin of a figure; None if its spread is not known.

    Verdicts widen intervals by the numerical ``noise`` of the figure, so the margin has room for it; and
    where noise is all that differs, it must not decide.
    """
    found = _of_share(figure, policy) if _is_share(figure) else _of_other(figure, policy)
    if found is None:
        return None
    size, error = found
    return Margin(_rounded(max(size + noise, 2.0 * noise)), error, figure.n)


def _is_share(figure: Figure) -> bool:
    """Return whether a figure is the share of its samples of which something is true.

    Known by the numbers: a figure that comes from a worker, or from the history, has no statistic.
    """
    outcomes = figure.outcomes
    if outcomes is None or len(outcomes.columns) != 1 or figure.n != len(outcomes):
        return False
    column = next(iter(outcomes.columns.values()))
    return column.dtype == np.bool_ and math.isclose(float(column.mean()), figure.value)


def _of_share(figure: Figure, policy: Policy) -> tuple[float, float]:
    """Return the margin of a share, from the distribution of its score interval, and the error."""
    churn = expected_churn(figure.value, policy)
    worth = figure.n / change_effect(figure.design_effect)
    size = _share_margin(round(worth, 1), round(churn, 6), policy.change_confidence)
    return size, math.sqrt(churn / worth)


def _of_other(figure: Figure, policy: Policy) -> tuple[float, float] | None:
    """Return the margin of any other figure, and the standard error of its change."""
    error = _error_of_change(figure, policy)
    if error is None:
        return None
    units = max(2, figure.units or figure.n)
    # Student's quantile stands in the interval; with few units it is wider.
    reach = float(
        stats.t.ppf((1.0 + policy.change_confidence) / 2.0, units - 1) + special.ndtri(POWER)
    )
    return reach * error, error


def expected_churn(share: float, policy: Policy) -> float:
    """Return the share of answers that an equally good model changes.

    The policy's, but no more than two models of that accuracy change whose answers are unrelated.
    """
    return min(policy.churn, 2.0 * share * (1.0 - share))


def change_effect(effect: float) -> float:
    """Return the design effect of a change of answers, given that of the figure.

    What two models answer differently hangs less on the drawing than what one of them answers. How much less
    was measured; verdicts use the effect of the change itself.
    """
    return 1.0 + CHANGE_SHARE * (max(1.0, effect) - 1.0)


#: Share of a figure's design effect above 1 that its change has. Measured on the bundled model and copies
#: with noise of 2 to 10% on their weights: accuracy 2.45 against 1.14 to 1.24, cue accuracy 2.59 against
#: 1.00 to 1.59 (docs/thresholds.md).
CHANGE_SHARE = 0.2

#: Standard error of a change as a share of the figure's own, for a model that changes 6% of the answers, by
#: metric; the first that fits counts. Measured on the bundled model and a copy with noise of 10% on its
#: weights, which changes 7%: FPR@95 0.67 and 0.75, ECE 0.81; drops 0.85 to 1.28; means over severities 0.45
#: to 0.65; monotonicity 1.7 and more; AUROC 0.35 and 0.46; NLL 0.30, Brier 0.40. In the simulations of
#: benchmarks/coverage.py (n = 1,000): signed gap 0.91, relative (m)CE 0.85 to 0.96, gain of the prompts'
#: ensemble 1.19, frontier 0.9 (of runs that are no pair it would be 1.42).
_SHARES_OF_ERROR: Mapping[str, float] = {
    "severity_monotonicity": 2.0,
    "*drop*": 1.1,
    "fpr95*": 0.8,
    "*ece*": 0.8,
    "worst*": 0.8,
    "frontier*": 1.1,
    "signed_gap*": 0.95,
    "relative_*ce": 1.0,
    "prompt_ensemble_gain": 1.2,
    "mean_corruption_accuracy": 0.6,
    "auroc*": 0.5,
    "nll*": 0.45,
    "brier*": 0.45,
}
_USUAL_CHURN = 0.06


@lru_cache(maxsize=512)
def _share_margin(worth: float, churn: float, confidence: float) -> float:
    """Return the quantile of the score interval's far end, over equally good models.

    The number of changed answers is binomial, half of them losses; both are enumerated.
    """
    if worth * churn > _LARGE:
        reach = two_sided_z(confidence) + float(special.ndtri(POWER))
        return reach * math.sqrt(churn / worth)
    pairs = max(1, round(worth))
    changed = np.arange(pairs + 1)
    chance = stats.binom.pmf(changed, pairs, churn)
    changed, chance = changed[chance > 1e-7], chance[chance > 1e-7]
    lost = [np.arange(count + 1) for count in changed]
    weights = [
        p * stats.binom.pmf(each, count, 0.5)
        for each, count, p in zip(lost, changed, chance, strict=True)
    ]
    losses = np.concatenate(lost)
    gains = np.concatenate([count - each for count, each in zip(changed, lost, strict=True)])
    mass = np.concatenate(weights)
    kept = mass > 1e-9
    ends = paired_score(losses[kept], gains[kept], float(pairs), confidence).highs
    order = np.argsort(ends, kind="stable")
    reached = np.cumsum(mass[kept][order]) / mass[kept].sum()
    return float(ends[order][np.searchsorted(reached, POWER)])


def _error_of_change(figure: Figure, policy: Policy) -> float | None:
    """Return the standard error of a change, from the figure's own."""
    own = standard_error(figure)
    if own is None:
        return None
    return own * _share_of_error(figure) * math.sqrt(policy.churn / _USUAL_CHURN)


def _share_of_error(figure: Figure) -> float:
    """Return what share of a figure's standard error its change has, at the usual churn."""
    for pattern, share in _SHARES_OF_ERROR.items():
        if fnmatch.fnmatchcase(figure.metric, pattern):
            return share
    # Answers: two models that agree as much as their churn says, at the usual accuracy.
    apart = _USUAL_CHURN / (2.0 * _USUAL_ACCURACY * (1.0 - _USUAL_ACCURACY))
    shrunk = change_effect(figure.design_effect) / max(1.0, figure.design_effect)
    return math.sqrt(2.0 * apart * shrunk)


def standard_error(figure: Figure) -> float | None:
    """Return a figure's standard error, from its replicates or its interval; None if it has none."""
    drawn = np.asarray(figure.replicates)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) > 1 and drawn.std() > 0.0:
        return float(drawn.std(ddof=1))
    half = (figure.high - figure.low) / 2.0
    return half / two_sided_z(figure.confidence) if math.isfinite(half) and half > 0.0 else None


def _rounded(size: float) -> float:
    """Return a margin rounded up to two significant digits, and no finer than a ten-thousandth."""
    if not size > 0.0:
        return 0.0
    step = Decimal(1).scaleb(max(math.floor(math.log10(size)) - 1, -4))
    # A billionth of a step is float noise, not a reason for another one.
    steps = (Decimal(repr(size)) / step - Decimal("1e-9")).to_integral_value(rounding=ROUND_CEILING)
    return float(steps * step)

"""Sums of absolute values over bins, such as calibration errors: what their estimate can be off by.

Let S_b be the mean over the samples of what they add to bin b, with expectation μ_b and standard error σ_b.
The figure Σ|S_b| overestimates Σ|μ_b|: |S_b| has a bias of σ_b·(2φ(m) - 2mΦ(-m)) with m = |μ_b|/σ_b, from
0.8σ_b where μ_b is 0 down to none where its sign is plain. Hence

* *one figure's interval*: Σ|S_b| exceeds what the true signs would give, Σ sign(μ_b)·S_b, always, and that
  is a mean over samples; so the upper end is the figure plus the half-width of such a mean, and the lower
  one is that much, and the largest plausible bias, below it. Both hold wherever the truth lies, 0
  included; the interval is wide (and holds too often) where the bins' signs are open.
* *the change between two runs*: the biases differ (a calibrated model has the largest), so the estimate of
  the change uses |S_b| - 2σ_b·φ(S_b/σ_b), whose bias is at most 0.28σ_b: the mean of the plug-in correction
  of the bias and of what cross-fitting the signs on halves of the sample gives on average. (No estimate of
  |μ| is without bias, Cai & Low 2011; debiased estimates as such: Bröcker 2012, Kumar et al. 2019, for
  squares.) What is left counts as an error of its own in each bin.

``benchmarks/coverage.py`` measures how often both hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from pytest_cliprobust.figures.arrays import Floats, Ints
from pytest_cliprobust.figures.ends import Compared, Ends, EndsAt
from pytest_cliprobust.figures.intervals import student
from pytest_cliprobust.figures.means import IN_A_CHANGE, Means, means_of, unit_sums

#: How many standard errors a bin's expectation may lie nearer to 0 than its sum, for the largest bias.
_NEARER = 1.645

#: Largest bias of |S| - 2σφ(S/σ), in σ.
_LEFT = 0.2815

#: What is left of the bins' biases adds up to more than unrelated ones would, by this factor: a calibrated
#: model's have all the same sign, others' both. (Without it the change from an exactly calibrated model to
#: a worse one is missed in 10% of draws.)
_RELATED = 2.5


@dataclass(frozen=True)
class Binned:
    """What a sum of absolute values is made of.

    Attributes:
        sums: (B,) S_b.
        errors: (B,) their standard errors.
        signed: (N,) what each sample adds, with the signs that the sums have; the mean is the figure.
        supposed: what a right and a wrong sample would add.
    """

    sums: Floats
    errors: Floats
    signed: Floats
    supposed: tuple[float, float]

    @property
    def debiased(self) -> float:
        """The figure with next to no bias; it may be below 0."""
        return float((np.abs(self.sums) - 2.0 * self.errors * _density(self._ratios)).sum())

    @property
    def largest_bias(self) -> float:
        """The largest bias that the figure plausibly has."""
        return largest_bias(self.sums, self.errors)

    @property
    def _ratios(self) -> Floats:
        return np.asarray(self.sums / np.where(self.errors > 0.0, self.errors, math.inf))


def binned(members: Floats, confidence: Floats, correct: Floats, codes: Ints | None) -> Binned:
    """Return what a calibration error is made of.

    Args:
        members: (N, B) how much of each sample lies in each bin.
        confidence: (N,) in [0, 1].
        correct: (N,) 0 or 1.
        codes: (N,) units; None: each sample is one.
    """
    count = len(confidence)
    cells = members * (confidence - correct)[:, None]
    sums = cells.mean(axis=0)
    # A bin with few samples, all right, seems sure of itself; the confidences say how sure it can be.
    expected = (members**2 * (confidence * (1.0 - confidence))[:, None]).sum(axis=0) / count**2
    errors = np.sqrt(np.maximum(variances(cells, codes), expected))
    signs = members @ np.where(sums >= 0.0, 1.0, -1.0)
    return Binned(
        sums,
        errors,
        signs * (confidence - correct),
        (float((signs * (confidence - 1.0)).mean()), float((signs * confidence).mean())),
    )


def variances(cells: Floats, codes: Ints | None) -> Floats:
    """Return the variances (B,) of the means of ``cells`` (N, B) whose units were drawn."""
    apart = cells - cells.mean(axis=0)
    count = len(cells)
    single = (apart**2).sum(axis=0) / max(1.0, count - 1.0) / count
    if codes is None:
        return np.asarray(single)
    sums = unit_sums(apart, codes)
    units = len(sums)
    drawn = units / max(1.0, units - 1.0) * (sums**2).sum(axis=0) / count**2
    return np.asarray(np.maximum(drawn, single), dtype=np.float64)


def largest_bias(sums: Floats, errors: Floats) -> float:
    """Return the largest bias that Σ|S_b| plausibly has."""
    known = errors > 0.0
    ratios = np.abs(sums[known]) / errors[known]
    return float((errors[known] * _bias(np.maximum(0.0, ratios - _NEARER))).sum())


def ends_of(value: float, signed: Means, bias: float) -> EndsAt:
    """Return the ends of a sum of absolute values.

    Args:
        value: the sum.
        signed: the mean of what the samples add with the signs of the sums.
        bias: the largest that the sum may have.
    """

    def at(tails: Floats) -> tuple[Floats, Floats]:
        lows, highs = signed.column()(tails)
        mean = signed.values[0]
        half = np.maximum(highs - mean, mean - lows)
        return value - bias - half, value + half

    return at


def compare_binned(before: Binned, after: Binned, codes: Ints | None) -> Compared:
    """Return the change of a sum of absolute values between two runs."""
    supposed = [now - then for then in before.supposed for now in after.supposed]
    step = means_of(after.signed - before.signed, codes, supposed, IN_A_CHANGE)
    left = _RELATED * _LEFT * math.sqrt(float((before.errors**2).sum() + (after.errors**2).sum()))
    difference = after.debiased - before.debiased
    error, off = float(step.errors[0]), float(abs(step.centres[0] - step.values[0]))

    def at(tails: Floats) -> tuple[Floats, Floats]:
        half = student(tails, step.degrees) * error + off + left
        return difference - half, difference + half

    return Compared(difference, Ends.of(at), error, float(step.effects[0]))


def _density(x: Floats) -> Floats:
    return np.asarray(np.exp(-x * x / 2.0) / math.sqrt(2.0 * math.pi))


def _bias(ratio: Floats) -> Floats:
    """Return the bias of |m + Z| for a standard normal Z, at m = ``ratio`` of 0 or more."""
    return np.asarray(2.0 * _density(ratio) - 2.0 * ratio * special.ndtr(-ratio))

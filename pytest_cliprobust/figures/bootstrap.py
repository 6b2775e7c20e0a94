"""From outcomes to figures with intervals.

Most figures have intervals in closed form; the others the bootstrap's. A replicate is a row of resampling
counts (:class:`pytest_cliprobust.figures.resampling.Resampling`), at which the outcomes' statistic is taken:
one call for all replicates. Where samples come from units (several scenes of one drawing), whole units are
resampled, and closed forms count as many samples as the units are worth.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pytest_cliprobust.figures.arrays import Bools, Floats, Ints
from pytest_cliprobust.figures.clusters import (
    degrees_of,
    design_effect_of_mean,
    design_effect_of_share,
)
from pytest_cliprobust.figures.ends import Ends, EndsAt, at_level, share_ends, within
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.intervals import paired_score
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.means import (
    IN_A_MEAN,
    SUPPOSED,
    Linear,
    codes_of,
    column_values,
    compare_means,
    drop_values,
    means_of,
    moved,
)
from pytest_cliprobust.figures.outcomes import Outcomes, drop, mean
from pytest_cliprobust.figures.paired import mcnemar_p
from pytest_cliprobust.figures.resampling import Method, Resampling, replicate_interval

#: Replicates with which a design effect is estimated where it has no closed form.
_FOR_DESIGN_EFFECT = 400


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
        replicates: number of bootstrap replicates.
        confidence: level of the two-sided intervals.
        seed: seed of the resampling.
        keys: who the samples are and what they were drawn from; None for bare arrays, which are
            resampled one by one, in their order, and cannot be compared with another run.
    """

    replicates: int = 1000
    confidence: float = 0.95
    seed: int = 0
    keys: SampleKeys | None = field(default=None, repr=False)

    def plan(self, count: int, strata: Ints | None = None) -> Resampling:
        """Return the resampling of ``count`` samples, each stratum (``count``,) kept at its size.

        With ``keys`` it does not depend on the order of the samples.

        Raises:
            ValueError: ``keys`` are of other samples.
        """
        if self.keys is not None and len(self.keys) != count:
            raise ValueError(f"{count} samples are resampled, but the keys are of {len(self.keys)}")
        units = None if self.keys is None else self.keys.codes
        return Resampling(
            count, strata=strata, replicates=self.replicates, seed=self.seed, units=units
        )

    @property
    def clustered(self) -> bool:
        """Whether samples share units."""
        return self.keys is not None and self.keys.clustered

    def units(self, count: int) -> int:
        """Return how many units ``count`` samples come from."""
        return count if self.keys is None else self.keys.unit_count

    def subset(self, rows: Ints) -> Bootstrap:
        """Return the same settings for the samples at ``rows`` only."""
        return self if self.keys is None else replace(self, keys=self.keys.take(rows))

    def of(self, keys: SampleKeys | None) -> Bootstrap:
        """Return the same settings for other samples."""
        return replace(self, keys=keys)

    def singly(self) -> Bootstrap:
        """Return the same settings with each sample drawn alone."""
        return self if self.keys is None else replace(self, keys=self.keys.singly())

    def fewer(self, replicates: int) -> Bootstrap:
        """Return the same settings with at most ``replicates`` replicates."""
        return replace(self, replicates=min(self.replicates, replicates))


DEFAULT = Bootstrap()

# Counts of up to this many numbers (64 MB) are kept for the next figures on the same samples.
_KEPT = 8_000_000
_kept: dict[tuple[str, int], list[Floats]] = {}


def counts_of(plan: Resampling) -> Iterable[Floats]:
    """Yield the counts of a plan in blocks; those of the latest plans are kept."""
    size = plan.n * plan.replicates
    if size > _KEPT:
        return plan.counts()
    key = (plan.digest, plan.replicates)
    if key not in _kept:
        # Of clustered samples each figure needs two plans: its own, and that of single samples.
        held = sum(block.size for blocks in _kept.values() for block in blocks)
        while held + size > _KEPT:
            held -= sum(block.size for block in _kept.pop(next(iter(_kept))))
        _kept[key] = list(plan.counts())
    return _kept[key]


def resampled_counts(
    count: int, bootstrap: Bootstrap, strata: Ints | None = None
) -> Iterable[Floats]:
    """Return blocks (r, ``count``) of how often each sample occurs in each replicate."""
    return counts_of(bootstrap.plan(count, strata))


def resampled(outcomes: Outcomes, bootstrap: Bootstrap, strata: Ints | None = None) -> Floats:
    """Return the outcomes' statistic (R,) in every replicate."""
    blocks = resampled_counts(len(outcomes), bootstrap, strata)
    return np.concatenate([outcomes.at(counts) for counts in blocks])


def figure_of_ends(
    metric: str,
    value: float,
    at: EndsAt,
    outcomes: Outcomes,
    bootstrap: Bootstrap,
    kind: IntervalMethod,
    method: str,
    *,
    n: int | None = None,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    unit: str = "",
    details: Mapping[str, Any] | None = None,
    effect: float = 1.0,
    comparable: bool = True,
) -> Figure:
    """Return a Figure with the interval whose ends at every level ``at`` gives.

    Args:
        metric: the metric's name.
        value: point estimate; NaN gives a figure without an interval, on which nothing passes.
        at: ends at chances left out; they are held inside ``bounds``, and so that they hold ``value``.
        outcomes: what the figure is a function of.
        bootstrap: the level, and the samples' keys.
        kind: how the interval was made, for arithmetic.
        method: the same, in words.
        n: what the figure reports as its number of samples, if not that of the outcomes.
        bounds: what the metric cannot leave.
        unit: unit of the figure.
        details: JSON-able details.
        effect: design effect.
        comparable: False where the outcomes are too large to be kept for a comparison.
    """
    low, high, ends = math.nan, math.nan, None
    if math.isfinite(value):
        inside = within(at, value, bounds)
        low, high = at_level(inside, bootstrap.confidence)
        ends = Ends.of(inside, bounds)
    if bootstrap.clustered:
        method += f", design effect {effect:.2f}"
    count = len(outcomes)
    return Figure(
        metric=metric,
        value=float(value),
        low=low,
        high=high,
        n=count if n is None else n,
        confidence=bootstrap.confidence,
        method=method,
        unit=unit,
        ends=ends,
        details=dict(details or {}),
        interval=kind,
        units=bootstrap.units(count),
        design_effect=effect if math.isfinite(effect) else 1.0,
        outcomes=outcomes.of(bootstrap.keys) if comparable else None,
    )


def mean_figure(
    metric: str,
    values: Floats,
    bootstrap: Bootstrap,
    *,
    outcomes: Outcomes | None = None,
    linear: Linear | None = None,
    value: float | None = None,
    supposed: Sequence[float] = (),
    worth: float = IN_A_MEAN,
    coarse: bool = False,
    n: int | None = None,
    unit: str = "",
    bounds: tuple[float, float] = (-math.inf, math.inf),
    details: Mapping[str, Any] | None = None,
) -> Figure:
    """Return the mean of ``values`` (N,) with the interval of :mod:`~pytest_cliprobust.figures.means`.

    Args:
        metric: the metric's name.
        values: (N,) a number for each sample.
        bootstrap: the level, and the samples' keys.
        outcomes: what the figure is a function of; the values themselves unless given.
        linear: with ``outcomes``, what makes such values of them.
        value: the point estimate, of which ``values`` are the linear part; their mean unless given.
        supposed: what a sample that is right, and one that is wrong, would have.
        worth: how many samples each of those stands for; more for a difference, whose samples may all be 0.
        coarse: whether the values are means of a few answers, without ``outcomes``.
        n: what the figure reports as its number of samples, if not that of the outcomes.
        unit: unit of the figure.
        bounds: what the metric cannot leave.
        details: JSON-able details.
    """
    own = outcomes or Outcomes({"value": values}, mean, coarse=coarse)
    if supposed:
        own = replace(own, parameters={**own.parameters, SUPPOSED: tuple(supposed)})
    found = means_of(values, codes_of(bootstrap.keys), supposed, worth)
    estimate = float(found.values[0]) if value is None else value
    return figure_of_ends(
        metric,
        estimate,
        moved(found.column(), estimate - float(found.values[0])),
        replace(own, compare=compare_means(linear or column_values)),
        bootstrap,
        IntervalMethod.STUDENT,
        "t, skewness corrected",
        n=n,
        bounds=bounds,
        unit=unit,
        details=details,
        effect=float(found.effects[0]),
    )


def bootstrap_figure(
    metric: str,
    value: float,
    outcomes: Outcomes,
    bootstrap: Bootstrap,
    *,
    n: int | None = None,
    strata: Ints | None = None,
    method: Method = "percentile",
    bounds: tuple[float, float] = (-math.inf, math.inf),
    trials: int = 0,
    unit: str = "",
    details: Mapping[str, Any] | None = None,
    comparable: bool = True,
    replicates: Floats | None = None,
) -> Figure:
    """Return a Figure with a bootstrap interval.

    Args:
        metric: the metric's name.
        value: point estimate; NaN gives a figure without an interval, on which nothing passes.
        outcomes: what the figure is a function of; its statistic is resampled.
        bootstrap: interval settings.
        n: what the figure reports as its number of samples, if not that of the outcomes.
        strata: (N,) that the replicates keep.
        method: ``"basic"`` for statistics that resampling biases away from the truth, such as sums
            of absolute values or extremes: the percentile interval lies where the bias points,
            while the basic one (Davison & Hinkley 1997, section 5.2) reflects the replicates at the
            estimate, which takes the bias out.
        bounds: what the metric cannot leave.
        trials: number of independent samples behind a metric that is made of right and wrong
            answers: if the replicates have no spread (no sample differs from the others), which
            would claim certainty, the interval is Wilson's over as many trials; for a signed metric
            it is what so many samples without a change can exclude (the rule of three's share).
        unit: unit of the figure.
        details: JSON-able details.
        comparable: False where the outcomes are too large to be kept for a comparison.
        replicates: (R,) where more than the samples was resampled (a fleet, say); the statistic then
            serves the comparison alone.

    The interval is widened, if need be, to hold the estimate.
    """
    count, own = len(outcomes), replicates is None
    if replicates is None:
        replicates = resampled(outcomes, bootstrap, strata)
    kind = "stratified bootstrap" if bootstrap.plan(count, strata).stratified else "bootstrap"
    if bootstrap.clustered:
        assert bootstrap.keys is not None
        kind += f" of {bootstrap.keys.kind}s"
    text = f"{kind}, {len(replicates)}" + (", basic" if method == "basic" else "")
    extra, how = dict(details or {}), IntervalMethod(method)
    effect = _design_effect(replicates if own else None, outcomes, bootstrap, strata)
    ends = replicate_interval(
        value, replicates, bootstrap.confidence, method, units=bootstrap.units(count)
    )
    low, high = ends.low, ends.high
    if math.isfinite(low) and math.isfinite(high):
        low = min(max(low, bounds[0]), value)
        high = max(min(high, bounds[1]), value)
    if trials and math.isfinite(value) and np.ptp(replicates) == 0.0:
        # What is alike throughout is worth as many trials as there are units.
        effect = count / bootstrap.units(count)
        worth = trials / effect
        if bounds[0] >= 0.0:
            degrees = degrees_of(count if n is None else n, bootstrap.units(count))
            low, high = at_level(share_ends(value, worth, degrees), bootstrap.confidence)
            text, how = f"Wilson (the {kind} has no spread)", IntervalMethod.WILSON
            extra["trials"] = worth
        else:
            reach = 1.0 - ((1.0 - bootstrap.confidence) / 2.0) ** (1.0 / worth)
            low, high = max(value - reach, bounds[0]), min(value + reach, bounds[1])
            text, how = f"rule of three (the {kind} has no spread)", IntervalMethod.SCALED
            replicates = np.empty(0)
    return Figure(
        metric=metric,
        value=float(value),
        low=low,
        high=high,
        n=count if n is None else n,
        confidence=bootstrap.confidence,
        method=text,
        unit=unit,
        replicates=tuple(replicates.tolist()),
        details=extra,
        interval=how,
        units=bootstrap.units(count),
        design_effect=effect,
        outcomes=outcomes.of(bootstrap.keys) if comparable else None,
    )


def _design_effect(
    replicates: Floats | None, outcomes: Outcomes, bootstrap: Bootstrap, strata: Ints | None
) -> float:
    """Return how many times as large the variance is as that of as many independent samples.

    Args:
        replicates: those of the outcomes, if they are there already.
        outcomes: what is resampled.
        bootstrap: interval settings.
        strata: (N,) that the replicates keep.
    """
    if not bootstrap.clustered:
        return 1.0
    fewer = bootstrap.fewer(_FOR_DESIGN_EFFECT)
    if replicates is None:
        replicates = resampled(outcomes, fewer, strata)
    alone = resampled(outcomes, fewer.singly(), strata)
    drawn, single = (values[np.isfinite(values)] for values in (replicates, alone))
    if len(drawn) < 2 or len(single) < 2 or not single.var() > 0.0:
        return 1.0
    return float(drawn.var() / single.var())


def proportion_figure(
    metric: str, hits: Bools, bootstrap: Bootstrap, details: Mapping[str, Any] | None = None
) -> Figure:
    """Return the share of True in ``hits`` (N,) with Wilson's interval; undefined where N is 0.

    Where few are hits or few misses, Wilson's is a little wider than the textbook's
    (:func:`~pytest_cliprobust.figures.ends.share_ends`).

    With several samples a unit Wilson's interval is over as many trials as they are worth.
    """
    count = len(hits)
    if count == 0:
        nan = math.nan
        return Figure(metric, nan, nan, nan, 0, bootstrap.confidence, "", details=details or {})
    shares = np.asarray(hits, dtype=np.bool_)
    extra, text, effect = dict(details or {}), "Wilson", 1.0
    if bootstrap.clustered:
        assert bootstrap.keys is not None
        effect = design_effect_of_share(shares, bootstrap.keys.codes)
        extra["trials"] = count / effect
        text = f"Wilson, design effect {effect:.2f}"
    successes = int(shares.sum())
    degrees = degrees_of(count, bootstrap.units(count))
    at = share_ends(successes / count, count / effect, degrees)
    low, high = at_level(at, bootstrap.confidence)
    return Figure(
        metric=metric,
        value=successes / count,
        low=low,
        high=high,
        n=count,
        confidence=bootstrap.confidence,
        method=text,
        details=extra,
        interval=IntervalMethod.WILSON,
        units=bootstrap.units(count),
        design_effect=effect,
        outcomes=Outcomes({"value": shares}, mean, keys=bootstrap.keys),
    )


def ends_of_share(figure: Figure) -> EndsAt:
    """Return the ends at every level of a share that :func:`proportion_figure` made."""
    return share_ends(
        figure.value, figure.n / figure.design_effect, degrees_of(figure.n, figure.units)
    )


def paired_drop_figure(
    metric: str,
    before: Bools,
    after: Bools,
    bootstrap: Bootstrap,
    details: Mapping[str, Any] | None = None,
) -> Figure:
    """Return the mean of ``before - after`` (N,) with the score interval of a paired difference.

    That interval (:func:`~pytest_cliprobust.figures.intervals.paired_score`) does not collapse where no
    sample changes sides.
    """
    count = len(before)
    losses, gains = int((before & ~after).sum()), int((after & ~before).sum())
    effect = 1.0
    text = "paired, score"
    if bootstrap.clustered:
        assert bootstrap.keys is not None
        change = before.astype(np.float64) - after
        effect = design_effect_of_mean(change, bootstrap.keys.codes)
        text += f", design effect {effect:.2f}"
    degrees = degrees_of(count, bootstrap.units(count))
    ends = paired_score(
        losses / effect, gains / effect, count / effect, bootstrap.confidence, degrees
    )
    extra = {
        **(details or {}),
        "lost": losses,
        "gained": gains,
        "p_value": mcnemar_p(gains, losses),
        "trials": count / effect,
    }
    return Figure(
        metric=metric,
        value=(losses - gains) / count,
        low=ends.low,
        high=ends.high,
        n=count,
        confidence=bootstrap.confidence,
        method=text,
        interval=IntervalMethod.PAIRED_SCORE,
        details=extra,
        units=bootstrap.units(count),
        design_effect=effect,
        outcomes=Outcomes(
            {"clean": before, "shifted": after},
            drop,
            keys=bootstrap.keys,
            compare=compare_means(drop_values),
        ),
    )

"""What changed from an earlier run to this one, on the samples that both have.

Two figures of the same samples differ by far less than either is uncertain: samples that both runs
decide alike cancel. Whole units are resampled, and both runs at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import special

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Bools, Floats
from pytest_cliprobust.figures.bootstrap import Bootstrap, counts_of
from pytest_cliprobust.figures.clusters import degrees_of, design_effect_of_mean
from pytest_cliprobust.figures.ends import Ends
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.intervals import (
    Interval,
    check_confidence,
    paired_score,
    two_sided_z,
)
from pytest_cliprobust.figures.keys import SampleKeys, matched
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.figures.means import SUPPOSED
from pytest_cliprobust.figures.outcomes import Column, Outcomes, same_value

#: Replicates behind the standard error of a change.
REPLICATES = 1000

#: Numbers that differ by less are the same outcome: what float32 keeps of them, and no more.
SAME = 1e-6

#: Of one model, numbers that differ by less than so much of their standard deviation are the same:
#: another processor, or another number of threads, moves a logit of 10 by 1e-4.
SAME_OF_ONE_MODEL = 1e-3

#: Of one model, such a share of the samples (or one) may have another outcome: where two answers tie but for
#: a last bit, another processor gives the other.
TIES_OF_ONE_MODEL = 1e-3


@dataclass(frozen=True)
class Change:
    """What one run has more, or less, than an earlier one.

    Attributes:
        difference: of the figures, on the samples that both have if it is paired; where those are biased
            (ECE), the estimate of the change without the bias.
        standard_error: of the difference; infinite where it cannot be estimated.
        paired: whether samples were compared one by one.
        why_not: why they were not; empty if paired.
        n: number of samples that were compared.
        units: number of units that those were drawn from.
        kind: what a unit is.
        design_effect: of the difference.
        changed: share of the samples whose outcome is another now; None if not paired.
        lost, gained: samples right only before, and only now; empty unless answers were compared.
        identical: whether every outcome is the same.
        one_model: whether they are the same because one model was measured twice: nothing can have changed.
        ties: whether one model was measured twice, and so few outcomes differ that ties explain them.
        before, after: the two figures, on the samples compared.
    """

    difference: float
    standard_error: float
    paired: bool
    n: int
    units: int
    before: float
    after: float
    why_not: str = ""
    kind: str = "sample"
    design_effect: float = 1.0
    changed: float | None = None
    lost: tuple[str, ...] = field(default=(), repr=False)
    gained: tuple[str, ...] = field(default=(), repr=False)
    identical: bool = False
    one_model: bool = False
    ties: bool = False
    _counts: tuple[float, float] | None = field(default=None, repr=False)
    _ends: Ends | None = field(default=None, repr=False)
    _figures: tuple[Figure, Figure] | None = field(default=None, repr=False)

    def interval(self, confidence: float) -> Interval:
        """Return the two-sided interval of the difference.

        A share's is the score interval of the paired difference (Tango 1998) over as many pairs as the
        samples are worth; a figure whose outcomes can compare themselves has its own (means:
        :mod:`pytest_cliprobust.figures.means`); others' is Student's t over units times the bootstrap's
        standard error; runs that are not paired have MOVER's (Zou & Donner 2008).
        """
        check_confidence(confidence)
        if self._figures is not None:
            return _independent(*self._figures, confidence)
        if self.one_model:
            return Interval(0.0, 0.0, confidence, "identical outcomes")
        if self._counts is not None:
            gained, lost = self._counts
            ends = paired_score(
                gained / self.design_effect,
                lost / self.design_effect,
                self.n / self.design_effect,
                confidence,
                degrees_of(self.n, self.units),
            )
            return Interval(ends.low, ends.high, confidence, "paired, score")
        if self._ends is not None:
            return self._ends.at(confidence, "paired")
        half = _student(confidence, self.units) * self.standard_error
        return Interval(
            self.difference - half, self.difference + half, confidence, "paired bootstrap"
        )

    @property
    def p_value(self) -> float:
        """Two-sided, for "nothing changed": the level at which the interval just leaves that out.

        Of paired answers it is the score test's (McNemar 1947), with Student's quantile over units.
        """
        return self.p_beyond(0.0)

    def p_beyond(self, noise: float) -> float:
        """Return the two-sided p-value for "nothing but ``noise`` changed"."""
        if math.isnan(self.difference) or math.isnan(self.standard_error):
            return math.nan
        away = max(0.0, abs(self.difference) - noise)
        if self.identical or away == 0.0:
            return 1.0
        if self._ends is not None or self._figures is not None:
            return self._left_out(noise)
        error = self.standard_error
        degrees = float(max(1, self.units - 1)) if self.paired else math.inf
        if self._counts is not None:
            changed = sum(self._counts) / self.design_effect
            error = math.sqrt(changed) * self.design_effect / self.n
            degrees = degrees_of(self.n, self.units)
        if not error > 0.0:
            return 0.0
        if math.isinf(degrees):
            return float(2.0 * special.ndtr(-away / error))
        return float(2.0 * special.stdtr(degrees, -away / error))

    def _left_out(self, noise: float) -> float:
        """Return the level at which the interval just leaves out changes within ``noise``."""
        inside, outside = 0.0, 8.0
        for _ in range(50):
            middle = (inside + outside) / 2.0
            ends = self.interval(1.0 - 2.0 * float(special.ndtr(-middle)))
            if ends.low > noise or ends.high < -noise:
                inside = middle
            else:
                outside = middle
        return float(2.0 * special.ndtr(-inside))

    def text(self) -> str:
        """Return ``paired, n = 536 in 268 drawings``, or why it is not paired."""
        count = f"n = {self.n:,}"
        if self.units < self.n:
            count += f" in {self.units:,} {self.kind}s"
        return f"paired, {count}" if self.paired else f"not paired: {self.why_not}; {count}"


def change_between(
    figure: Figure,
    earlier: Figure,
    *,
    noise: float = 0.0,
    seed: int = 0,
    why_not: str = "",
    same_model: bool = False,
) -> Change:
    """Return what changed from ``earlier`` to ``figure``.

    Args:
        figure: of this run, with its outcomes and their statistic.
        earlier: of the earlier run; its outcomes need no statistic.
        noise: outcomes that differ by no more are the same.
        seed: of the resampling.
        why_not: why the runs cannot be compared sample by sample, if that is known already.
        same_model: whether both runs are known to be of one model. Equal scores say so themselves; equal
            answers may be those of two models that differ on other samples.

    Raises:
        ClipRobustError: the figures are of different metrics.
    """
    if figure.metric != earlier.metric:
        raise ClipRobustError(f"{figure.metric} cannot be compared with {earlier.metric}")
    reason = why_not or _why_not(figure.outcomes, earlier.outcomes)
    if reason:
        return _unpaired(figure, earlier, reason)
    assert figure.outcomes
    assert earlier.outcomes
    assert figure.outcomes.keys
    assert earlier.outcomes.keys
    mine, theirs = matched(figure.outcomes.keys, earlier.outcomes.keys)
    if len(mine) < 2:
        return _unpaired(figure, earlier, "the runs have no samples in common")
    after = _as_kept(figure.outcomes.take(mine), earlier.outcomes)
    before = _completed(earlier.outcomes.take(theirs), after)
    relative = SAME_OF_ONE_MODEL if same_model else 0.0
    change = _described(figure, earlier, before, after, _Noise(max(noise, SAME), relative))
    if change.identical and (same_model or after.tells_models_apart):
        return replace(change, one_model=True)
    compared = _compared(change, before, after, seed)
    assert change.changed is not None
    differ = round(change.changed * change.n)
    few = differ <= max(1.0, TIES_OF_ONE_MODEL * change.n)
    return replace(compared, ties=same_model and few)


def _why_not(mine: Outcomes | None, theirs: Outcomes | None) -> str:
    """Return why outcomes cannot be compared; empty if they can."""
    if mine is None or mine.keys is None:
        return "this figure has no outcomes by sample"
    if theirs is None or theirs.keys is None:
        return "the earlier run kept no outcomes by sample"
    if set(mine.columns) != set(theirs.columns) or any(
        column.shape[1:] != theirs.columns[name].shape[1:]
        for name, column in mine.columns.items()
        if not mine.parameters.keys() - {SUPPOSED}
    ):
        return "the earlier run measured something else"
    if mine.fitted_on and theirs.fitted_on and mine.fitted_on != theirs.fitted_on:
        return "its temperature, threshold or bank is of other calibration samples than the earlier run's"
    return ""


def _completed(before: Outcomes, after: Outcomes) -> Outcomes:
    """Return an earlier run's outcomes with what is read from this run: statistic and attributes."""
    return replace(before, statistic=after.statistic, attributes=after.attributes)


def _as_kept(after: Outcomes, earlier: Outcomes) -> Outcomes:
    """Return this run's outcomes as coarse as the earlier run's were kept: what ties there ties here."""
    columns = {
        name: column.astype(np.float32).astype(np.float64)
        if column.dtype == np.float64 and earlier.columns[name].dtype == np.float32
        else column
        for name, column in after.columns.items()
    }
    return replace(after, columns=columns)


@dataclass(frozen=True)
class _Noise:
    """By how much two numbers may differ and still be the same outcome.

    Attributes:
        absolute: in the numbers' own unit.
        relative: in their standard deviations.
    """

    absolute: float
    relative: float

    def of(self, values: Floats) -> float:
        """Return it for a column of such numbers."""
        finite = values[np.isfinite(values)]
        spread = float(finite.std()) if self.relative and len(finite) else 0.0
        return max(self.absolute, self.relative * spread)


def _described(
    figure: Figure, earlier: Figure, before: Outcomes, after: Outcomes, noise: _Noise
) -> Change:
    """Return a change of which all is told but how sure it is."""
    assert after.keys is not None
    keys, n = after.keys, len(after)
    everything = n == figure.n == earlier.n
    now = figure.value if everything else after.value()
    # What was recorded of the figure counts if its samples give it, too.
    then = before.value()
    if everything and same_value(then, earlier.value):
        then = earlier.value
    differs = _differs(before, after, noise)
    return Change(
        difference=now - then,
        standard_error=0.0,
        paired=True,
        n=n,
        units=keys.unit_count,
        kind=keys.kind,
        before=then,
        after=now,
        changed=float(differs.mean()),
        identical=not differs.any() and _same_parameters(before, after, noise.absolute),
    )


def _compared(change: Change, before: Outcomes, after: Outcomes, seed: int) -> Change:
    """Return the change with how sure it is."""
    assert after.keys is not None
    if after.is_share and before.columns.keys() == after.columns.keys():
        return _of_shares(change, before, after, after.keys)
    if after.compare is not None:
        compared = after.compare(before, after)
        return replace(
            change,
            difference=compared.difference,
            standard_error=compared.standard_error,
            design_effect=compared.design_effect,
            _ends=compared.ends,
        )
    return _of_statistics(change, before, after, after.keys, seed)


def _differs(before: Outcomes, after: Outcomes, noise: _Noise) -> Bools:
    """Return which samples (N,) have another outcome."""
    out = np.zeros(len(after), dtype=np.bool_)
    for name, now in after.columns.items():
        then = before.columns[name]
        if now.shape != then.shape:
            return np.ones(len(after), dtype=np.bool_)
        values = now.astype(np.float64)
        same = noise.absolute if now.dtype == np.bool_ else noise.of(values)
        other = _apart(values, then.astype(np.float64), same)
        out |= other.reshape(len(out), -1).any(axis=1)
    return out


def _apart(now: Floats, then: Floats, noise: float) -> Bools:
    """Return where numbers differ by more than ``noise``; infinite ones are the same if they are equal."""
    with np.errstate(invalid="ignore"):
        near = np.abs(now - then) <= noise
    apart: Bools = ~(near | (now == then) | (np.isnan(now) & np.isnan(then)))
    return apart


def _same_parameters(before: Outcomes, after: Outcomes, noise: float) -> bool:
    """Return whether the runs' parameters are the same; what was supposed follows from the outcomes."""
    then, now = (
        {name: row for name, row in side.parameters.items() if name != SUPPOSED}
        for side in (before, after)
    )
    return then.keys() == now.keys() and all(
        len(then[name]) == len(row)
        and not _apart(np.asarray(row), np.asarray(then[name]), noise).any()
        for name, row in now.items()
    )


def _of_shares(change: Change, before: Outcomes, after: Outcomes, keys: SampleKeys) -> Change:
    then, now = _only(before).astype(bool), _only(after).astype(bool)
    gained, lost = now & ~then, then & ~now
    step = now.astype(np.float64) - then
    effect = design_effect_of_mean(step, keys.codes) if keys.clustered else 1.0
    return replace(
        change,
        standard_error=math.sqrt(float(step.var()) * effect / change.n),
        design_effect=effect,
        lost=_ids(keys, lost),
        gained=_ids(keys, gained),
        _counts=(float(gained.sum()), float(lost.sum())),
    )


def _only(outcomes: Outcomes) -> Column:
    return next(iter(outcomes.columns.values()))


def _ids(keys: SampleKeys, rows: Bools) -> tuple[str, ...]:
    return tuple(keys.ids[row] for row in np.flatnonzero(rows))


def _of_statistics(
    change: Change, before: Outcomes, after: Outcomes, keys: SampleKeys, seed: int
) -> Change:
    strata = after.attributes.get("stratum")
    drawn = _replicates(before, after, keys, strata, seed)
    finite = drawn[np.isfinite(drawn)]
    if len(finite) < 0.95 * len(drawn) or not math.isfinite(change.difference):
        return replace(change, standard_error=math.inf)
    variance = float(finite.var(ddof=1))
    effect = 1.0
    if keys.clustered:
        alone = _replicates(before, after, keys.singly(), strata, seed)
        single = float(np.nanvar(alone, ddof=1))
        effect = max(1.0, variance / single) if single > 0.0 else 1.0
        variance = max(variance, single)
    # Answers come in whole samples: half a changed pair on either side (Agresti & Min 2005) keeps the
    # interval from collapsing where next to nothing changed.
    if any(column.dtype == np.bool_ for column in after.columns.values()):
        variance += (effect / change.n) ** 2
    return replace(change, standard_error=math.sqrt(variance), design_effect=effect)


def _replicates(
    before: Outcomes, after: Outcomes, keys: SampleKeys, strata: Any, seed: int
) -> Floats:
    plan = Bootstrap(REPLICATES, seed=seed, keys=keys).plan(len(after), strata)
    return np.concatenate([after.at(counts) - before.at(counts) for counts in counts_of(plan)])


def _student(confidence: float, units: int) -> float:
    return float(-special.stdtrit(max(1, units - 1), (1.0 - confidence) / 2.0))


def _unpaired(figure: Figure, earlier: Figure, reason: str) -> Change:
    ends = _independent(figure, earlier, 0.95)
    keys = None if figure.outcomes is None else figure.outcomes.keys
    return Change(
        difference=figure.value - earlier.value,
        standard_error=(ends.high - ends.low) / 2.0 / two_sided_z(0.95),
        paired=False,
        why_not=reason,
        n=min(figure.n, earlier.n),
        units=min(figure.units or figure.n, earlier.units or earlier.n),
        kind="unit" if keys is None else keys.kind,
        before=earlier.value,
        after=figure.value,
        _figures=(figure, earlier),
    )


def _independent(figure: Figure, earlier: Figure, confidence: float) -> Interval:
    """Return MOVER's interval of the change of independent runs (Zou & Donner 2008, eq. 2)."""
    own, other = interval_at(figure, confidence), interval_at(earlier, confidence)
    low = math.hypot(figure.value - own.low, other.high - earlier.value)
    high = math.hypot(own.high - figure.value, earlier.value - other.low)
    change = figure.value - earlier.value
    return Interval(change - low, change + high, confidence, "MOVER, independent runs")

"""The effect of each factor: least squares on the facts of the cards, and what cannot be told apart.

The intervals are those of ordinary least squares: Student's t. With a fleet whose models differ in one factor
each, the degrees of freedom that are left are the trainings in further seeds, and the residual spread is the
spread between trainings.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg, stats

from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.study.cards import SIZES, Card

FACTORS = ("architecture", "parameters", "data", "set_size", "fine_tuning", "loss")
"""The facts of a card whose effects are estimated; prompts are compared within models."""

WORDS = {
    "architecture": "architecture",
    "parameters": "model size",
    "data": "training distribution",
    "set_size": "training-set size",
    "fine_tuning": "fine-tuning",
    "loss": "contrastive loss",
    "prompts": "prompts",
}
"""What the factors are called."""

#: Singular values below this share of the largest count as none.
_RANK = 1e-9


@dataclass(frozen=True)
class Column:
    """One column of the design: a level of a factor against its reference, or a size by doublings.

    Attributes:
        factor: which.
        level: empty for a size.
        reference: the level that it is against; the most common one.
        models: how many models have the level.
    """

    factor: str
    level: str = ""
    reference: str = ""
    models: int = 0

    @property
    def name(self) -> str:
        """``architecture: ViT instead of ResNet``, ``training-set size, twice``."""
        word = WORDS[self.factor]
        if not self.level:
            return f"{word}, twice as large"
        return f"{word}: {self.level} instead of {self.reference}"


@dataclass(frozen=True)
class Design:
    """What the figures of M models are regressed on.

    Attributes:
        columns: K of them, without the intercept.
        matrix: (M, 1 + K), the intercept first.
        constant: factors that do not vary.
        unknown: factors that at least one card lacks; they are left out.
        confounded: groups of columns that cannot be told apart, by position.
    """

    columns: tuple[Column, ...]
    matrix: Floats
    constant: tuple[str, ...]
    unknown: tuple[str, ...]
    confounded: tuple[tuple[int, ...], ...]

    @property
    def inseparable(self) -> frozenset[int]:
        """The positions of all columns whose effects cannot be estimated."""
        return frozenset(position for group in self.confounded for position in group)

    @property
    def freedom(self) -> int:
        """Degrees of freedom that are left for the spread."""
        largest = np.linalg.norm(self.matrix, 2)
        return len(self.matrix) - int(np.linalg.matrix_rank(self.matrix, tol=_RANK * largest))


def design_of(cards: Sequence[Card]) -> Design:
    """Return the design of models with these cards."""
    columns: list[Column] = []
    values: list[Floats] = []
    constant, unknown = [], []
    for factor in FACTORS:
        facts = [getattr(card, factor) for card in cards]
        if any(fact in ("", None) for fact in facts):
            unknown.append(factor)
            continue
        made = _size(factor, facts) if factor in SIZES else _levels(factor, facts)
        if not made:
            constant.append(factor)
        for column, value in made:
            columns.append(column)
            values.append(value)
    matrix = np.column_stack([np.ones(len(cards)), *values])
    return Design(tuple(columns), matrix, tuple(constant), tuple(unknown), confounding(matrix))


def _size(factor: str, facts: Sequence[float]) -> list[tuple[Column, Floats]]:
    doublings = np.log2(np.asarray(facts, dtype=np.float64))
    # Towers of about equal size: a tenth more parameters is not another size.
    doublings = doublings - np.median(doublings)
    doublings[np.abs(doublings) < 0.15] = 0.0
    return [] if np.ptp(doublings) == 0.0 else [(Column(factor), doublings)]


def _levels(factor: str, facts: Sequence[str]) -> list[tuple[Column, Floats]]:
    counts = Counter(facts)
    reference = min(counts, key=lambda level: (-counts[level], level))
    return [
        (
            Column(factor, level, reference, counts[level]),
            np.array([fact == level for fact in facts], dtype=np.float64),
        )
        for level in sorted(counts.keys() - {reference})
    ]


def confounding(matrix: Floats) -> tuple[tuple[int, ...], ...]:
    """Return groups of columns of a design (M, 1 + K) that cannot be told apart, by position from 0.

    Columns stand in one group if a combination of them (and the intercept) is zero for every model: then any
    effect of one may be the others'.
    """
    scaled = matrix / np.linalg.norm(matrix, axis=0)
    null = linalg.null_space(scaled, rcond=_RANK)
    if not null.shape[1]:
        return ()
    # The rows of the projection onto the null space that are not zero are the columns concerned; two of them
    # belong together where it is not zero between them.
    projection = np.abs(null @ null.T) > 1e-8
    left = {i for i in range(1, len(projection)) if projection[i, i]}
    groups = []
    while left:
        group, waiting = set(), [min(left)]
        while waiting:
            position = waiting.pop()
            if position in group:
                continue
            group.add(position)
            waiting += [j for j in left if projection[position, j]]
        left -= group
        groups.append(tuple(sorted(position - 1 for position in group)))
    return tuple(groups)


@dataclass(frozen=True)
class Effect:
    """What a factor changes of a property, on the property's axis.

    Attributes:
        column: which factor, and how.
        value: the change; NaN where it cannot be estimated.
        low, high: ends of its interval; NaN without one.
        p: of no effect.
        why: why there is no value or no interval; empty if there are both.
    """

    column: Column
    value: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    why: str = ""


@dataclass(frozen=True)
class Regression:
    """The effects of all factors on one property.

    Attributes:
        effects: one a column of the design.
        base: the prediction for a model of the reference levels, on the property's axis.
        residual: the standard deviation that is left; NaN without degrees of freedom.
        freedom: those degrees.
        joint: by factor the p-value of no effect of any of its levels (F test).
        models: how many have the property.
    """

    effects: tuple[Effect, ...]
    base: float
    residual: float
    freedom: int
    joint: dict[str, float]
    models: int


def regression(
    values: Floats,
    cards: Sequence[Card],
    confidence: float = 0.95,
    beside: Floats | None = None,
) -> Regression | None:
    """Return the effects of the factors on ``values`` (M,), NaN where a model lacks the property.

    Args:
        values: of the property, on its axis.
        cards: of the models.
        confidence: of the intervals.
        beside: ID accuracy on its axis (M,): effects are then at equal ID accuracy.

    Returns:
        None if fewer than three models have it, or no factor varies among them.
    """
    there = np.isfinite(values) if beside is None else np.isfinite(values) & np.isfinite(beside)
    if int(there.sum()) < 3:
        return None
    design = design_of([card for card, known in zip(cards, there, strict=True) if known])
    if not design.columns:
        return None
    y, x = values[there], design.matrix
    if beside is not None:
        x = np.column_stack([x, beside[there] - beside[there].mean()])
        design = replace(design, matrix=x, confounded=_among(confounding(x), len(design.columns)))
    solve = np.linalg.pinv(x, rcond=_RANK)
    estimate, inverse = solve @ y, solve @ solve.T
    left = y - x @ estimate
    freedom = design.freedom
    variance = float(left @ left) / freedom if freedom else math.nan
    rounding = 1e-12 * max(1.0, float(np.abs(y).max()))
    if variance <= rounding**2:
        variance = 0.0
    effects = []
    for position, column in enumerate(design.columns):
        value = float(estimate[position + 1])
        value = value if abs(value) > rounding else 0.0
        error = math.sqrt(variance * inverse[position + 1, position + 1]) if freedom else math.nan
        effects.append(_effect(column, value, error, freedom, confidence))
    for group in design.confounded:
        for position in group:
            others = [design.columns[i].name for i in group if i != position]
            why = f"confounded with {' and '.join(others) or 'ID accuracy'}"
            effects[position] = Effect(design.columns[position], math.nan, why=why)
    return Regression(
        effects=tuple(effects),
        base=float(estimate[0]),
        residual=math.sqrt(variance) if freedom else math.nan,
        freedom=freedom,
        joint=_joint(y, design, variance),
        models=len(y),
    )


def _among(groups: Sequence[tuple[int, ...]], columns: int) -> tuple[tuple[int, ...], ...]:
    """Return groups of columns without those that stand behind the first ``columns``."""
    kept = (tuple(position for position in group if position < columns) for group in groups)
    return tuple(group for group in kept if group)


def _effect(column: Column, value: float, error: float, freedom: int, confidence: float) -> Effect:
    if not freedom:
        return Effect(column, value, why="no model is left over to tell the spread by")
    if not error > 0:
        return Effect(column, value, why="trainings give the same, and no spread to judge by")
    quantile = float(stats.t.ppf(0.5 + confidence / 2, freedom))
    p = float(2 * stats.t.sf(abs(value) / error, freedom))
    return Effect(column, value, value - quantile * error, value + quantile * error, p)


def _joint(y: Floats, design: Design, variance: float) -> dict[str, float]:
    """Return the p-values of an F test of each factor whose columns can all be told apart."""
    x = design.matrix
    whole, rank = _squares(x, y)
    found = {}
    for factor in dict.fromkeys(column.factor for column in design.columns):
        own = [i for i, column in enumerate(design.columns) if column.factor == factor]
        if design.inseparable & set(own) or not variance > 0:
            continue
        without, fewer = _squares(np.delete(x, [i + 1 for i in own], axis=1), y)
        ratio = (without - whole) / (rank - fewer) / variance
        found[factor] = float(stats.f.sf(ratio, rank - fewer, design.freedom))
    return found


def _squares(x: Floats, y: Floats) -> tuple[float, int]:
    """Return the residual sum of squares of y (M,) on x (M, K), and the rank of x."""
    estimate, _, rank, _ = np.linalg.lstsq(x, y, rcond=_RANK)
    left = y - x @ estimate
    return float(left @ left), int(rank)


@dataclass(frozen=True)
class Spread:
    """How far trainings that differ in their seed alone lie apart.

    Attributes:
        value: standard deviation, pooled over groups; NaN if there is no second training of any model.
        freedom: trainings less groups.
    """

    value: float
    freedom: int


def seed_spread(values: Floats, cards: Sequence[Card]) -> Spread:
    """Return the spread of ``values`` (M,) between trainings of the same card but the seed."""
    groups: dict[Card, list[float]] = {}
    for value, card in zip(values.tolist(), cards, strict=True):
        if math.isfinite(value) and card.seed:
            groups.setdefault(replace(card, seed=""), []).append(value)
    several = [np.array(group) for group in groups.values() if len(group) > 1]
    freedom = sum(len(group) - 1 for group in several)
    if not freedom:
        return Spread(math.nan, 0)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in several)
    return Spread(math.sqrt(squares / freedom), freedom)


def paired_effect(
    before: Floats, after: Floats, column: Column, confidence: float = 0.95
) -> Effect:
    """Return the mean change from ``before`` to ``after`` (M,), the same models both times."""
    changes = after - before
    changes = changes[np.isfinite(changes)]
    if not len(changes):
        return Effect(column, math.nan, why="no model has both")
    value = float(changes.mean())
    if len(changes) < 2:
        return Effect(column, value, why="one model has both")
    error = float(changes.std(ddof=1)) / math.sqrt(len(changes))
    return _effect(column, value, error, len(changes) - 1, confidence)

"""Whether groups have one error rate: a permutation test of whole units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pytest_cliprobust.figures.arrays import Bools, Floats, Ints, as_correct
from pytest_cliprobust.figures.bootstrap import DEFAULT, Bootstrap

#: Permutations of the test of equal error rates, and how many numbers they may be made of.
PERMUTATIONS = 9_999
_NUMBERS = 50_000_000


def equal_error_rates(
    correct: ArrayLike,
    groups: Sequence[str],
    *,
    permutations: int = PERMUTATIONS,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Any]:
    """Test whether all groups have the same error rate, by permutation of units.

    The statistic is Pearson's chi-square of the table of groups and answers. Its distribution, if groups
    make no difference, is that over random assignments of whole units to groups (Phipson & Smyth 2010 for
    the p-value, which is never 0). Where units lie in several groups, the samples' groups are exchanged
    within units only.

    Args:
        correct: (N,) bool.
        groups: (N,) group of each sample.
        permutations: so many at most; fewer where there are very many units.
        bootstrap: its seed, and the samples' keys.

    Returns:
        ``chi2``, ``p_value``, ``permutations``, and ``of``, what was permuted. JSON-able.
    """
    right = as_correct(correct, "answers")
    names, group = np.unique(np.asarray(groups, dtype=object), return_inverse=True)
    keys = bootstrap.keys
    units = np.arange(len(right))
    if keys is not None:
        # Permuted by the order of ids: the p-value then does not depend on that of the samples.
        right, group, units = right[keys.order], group[keys.order], keys.codes[keys.order]
    crossed = len(np.unique(np.stack([units, group]), axis=1)[0]) > len(np.unique(units))
    count = len(right) if crossed else int(units.max()) + 1
    number = int(min(permutations, max(199, _NUMBERS // max(1, count))))
    generator = np.random.default_rng([bootstrap.seed, 2])
    permuted = _within_units if crossed else _whole_units
    statistics = permuted(~right, group.astype(np.int64), units, len(names), number, generator)
    own = _chi_square(~right, group.astype(np.int64), len(names))
    reached = int((statistics >= own * (1.0 - 1e-12)).sum())
    kind = "sample" if keys is None or not keys.clustered else keys.kind
    return {
        "chi2": own,
        "p_value": (reached + 1) / (number + 1),
        "permutations": number,
        "of": f"samples within {kind}s" if crossed else f"{kind}s",
    }


def _chi_square(wrong: Bools, group: Ints, count: int) -> float:
    errors = np.bincount(group, weights=wrong, minlength=count)
    sizes = np.bincount(group, minlength=count).astype(np.float64)
    return float(_statistic(errors[None].astype(np.float64), sizes[None])[0])


def _statistic(errors: Floats, sizes: Floats) -> Floats:
    """Return Pearson's chi-square (R,) of errors (R, G) among samples (R, G); 0 where all are alike."""
    total = sizes.sum(axis=1, keepdims=True)
    rate = errors.sum(axis=1, keepdims=True) / total
    apart = np.square(errors - sizes * rate) / np.where(sizes > 0.0, sizes, 1.0)
    spread = (rate * (1.0 - rate))[:, 0]
    return np.asarray(
        np.where(spread > 0.0, apart.sum(axis=1) / np.where(spread > 0, spread, 1), 0.0)
    )


def _whole_units(
    wrong: Bools, group: Ints, units: Ints, count: int, number: int, rng: np.random.Generator
) -> Floats:
    """Return the statistic with the groups of units permuted (R,)."""
    errors, sizes = np.bincount(units, weights=wrong), np.bincount(units).astype(np.float64)
    of_unit = np.zeros(len(sizes), dtype=np.int64)
    of_unit[units] = group
    found = []
    for _ in range(number):
        mixed = of_unit[rng.permutation(len(sizes))]
        found.append(
            [
                np.bincount(mixed, weights=errors, minlength=count),
                np.bincount(mixed, weights=sizes, minlength=count),
            ]
        )
    table = np.array(found)
    return _statistic(table[:, 0], table[:, 1])


def _within_units(
    wrong: Bools, group: Ints, units: Ints, count: int, number: int, rng: np.random.Generator
) -> Floats:
    """Return the statistic with the groups of samples permuted within their units (R,)."""
    order = np.argsort(units, kind="stable")
    found = []
    for _ in range(number):
        mixed = np.empty_like(group)
        mixed[order] = group[np.lexsort((rng.random(len(units)), units))]
        found.append(np.bincount(mixed, weights=wrong, minlength=count))
    sizes = np.bincount(group, minlength=count).astype(np.float64)
    return _statistic(np.array(found), np.broadcast_to(sizes, (number, count)))

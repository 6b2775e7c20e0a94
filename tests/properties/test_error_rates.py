"""Whether groups have one error rate: against SciPy's chi-square and Fisher's exact test, and by units."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import group_answers, keys_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, fisher_exact

from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.properties import error_rates
from pytest_cliprobust.properties.error_rates import equal_error_rates


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), min_size=2, max_size=5))
def test_the_statistic_is_pearsons(table: list[tuple[int, int]]) -> None:
    shares = [(str(i), min(hits, n), n) for i, (hits, n) in enumerate(table)]
    right, names = group_answers(*shares)
    found = equal_error_rates(right, names, permutations=19)
    assert 0.0 < found["p_value"] <= 1.0
    if right.all() or not right.any():
        assert found["chi2"] == 0.0
        assert found["p_value"] == 1.0
        return
    cells = [[hits, n - hits] for _, hits, n in shares]
    assert found["chi2"] == pytest.approx(chi2_contingency(cells, correction=False).statistic)


def test_the_p_value_is_the_exact_tests() -> None:
    right, names = group_answers(("a", 30, 40), ("b", 21, 40))
    found = equal_error_rates(right, names)
    want = fisher_exact([[30, 10], [21, 19]]).pvalue
    assert found["p_value"] == pytest.approx(want, abs=0.01)
    assert found["of"] == "samples"


def test_copies_of_samples_are_no_evidence() -> None:
    right, names = group_answers(("a", 30, 40), ("b", 21, 40))
    alone = equal_error_rates(right, names)["p_value"]
    four, named = np.repeat(right, 4), list(np.repeat(names, 4))
    boot = Bootstrap(keys=keys_of(320, np.arange(320) // 4))
    copied = equal_error_rates(four, named, bootstrap=boot)
    assert copied["p_value"] == pytest.approx(alone, abs=0.015)
    assert copied["of"] == "drawings"
    # Taken for samples of their own they would be.
    assert equal_error_rates(four, named)["p_value"] < 0.01


def test_equal_groups_are_rejected_as_seldom_as_the_level_says() -> None:
    rng = np.random.default_rng(5)
    rejected = 0
    for _ in range(200):
        whole = np.repeat(rng.random(30) < 0.6, 4)
        boot = Bootstrap(keys=keys_of(120, np.arange(120) // 4))
        names = ["a"] * 40 + ["b"] * 80
        found = equal_error_rates(whole, names, permutations=199, bootstrap=boot)
        rejected += found["p_value"] <= 0.05
    assert rejected <= 20


def test_groups_that_cross_units_are_exchanged_within_them() -> None:
    rng = np.random.default_rng(6)
    # Each drawing once by day and once by night; by night it is wrong more often.
    drawing = np.repeat(rng.random(60), 2)
    night = np.arange(120) % 2 == 1
    right = drawing + 0.25 * ~night > 0.5
    boot = Bootstrap(keys=keys_of(120, np.arange(120) // 2))
    found = equal_error_rates(right, list(np.where(night, "night", "day")), bootstrap=boot)
    assert found["of"] == "samples within drawings"
    # A sign test of the drawings that differ, all in one direction.
    differ = int((right[::2] != right[1::2]).sum())
    assert found["p_value"] == pytest.approx(2 * 0.5**differ, abs=0.002)
    # Eight drawings that differ, six of them one way: 2 · (1 + 8 + 28) of 256 are as far from even.
    right = np.ones(40, dtype=np.bool_)
    right[[1, 3, 5, 7, 9, 11, 12, 14]] = False
    boot = Bootstrap(keys=keys_of(40, np.arange(40) // 2))
    found = equal_error_rates(right, ["day", "night"] * 20, permutations=3_000, bootstrap=boot)
    assert found["p_value"] == pytest.approx(74 / 256, abs=0.03)


def test_chi_square_is_scipys_and_takes_groups_without_samples() -> None:
    errors, sizes = np.array([3.0, 0.0, 9.0, 4.0]), np.array([10.0, 0.0, 20.0, 5.0])
    some = sizes > 0
    expected = chi2_contingency([errors[some], (sizes - errors)[some]], correction=False).statistic
    assert error_rates._statistic(errors[None], sizes[None]) == pytest.approx([expected])
    # Where all are right, or all are wrong, nothing differs.
    alike = error_rates._statistic(np.stack([sizes * 0, sizes]), np.stack([sizes, sizes]))
    assert alike.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("crossed", "each"), [(False, 10), (True, 30)])
def test_fewer_permutations_of_what_is_much(
    crossed: bool, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ten drawings of three: whole ones are permuted, or their thirty samples within them.
    units = np.arange(30) // 3
    names = list(np.where(np.arange(30) % 3 == 0 if crossed else units < 4, "a", "b"))
    boot = Bootstrap(keys=keys_of(30, units))

    def permutations(numbers: int, most: int) -> int:
        monkeypatch.setattr(error_rates, "_NUMBERS", numbers)
        answers = np.arange(30) % 2 == 0
        found = equal_error_rates(answers, names, permutations=most, bootstrap=boot)
        assert found["of"] == ("samples within drawings" if crossed else "drawings")
        return int(found["permutations"])

    assert permutations(300 * each, 999) == 300
    assert permutations(300 * each, 250) == 250
    # But never fewer than tell one in two hundred, unless fewer are asked for.
    assert permutations(100 * each, 999) == 199
    assert permutations(100 * each, 19) == 19


def test_the_p_value_counts_those_that_are_as_large_and_knows_no_zero() -> None:
    # Two wrong samples of the one group, none of the other: of the 6 ways to draw them, 2 are as far
    # apart, both in one group or both in the other.
    right, names = group_answers(("a", 2, 2), ("b", 0, 2))
    found = equal_error_rates(right, names, permutations=4_000)
    assert found["chi2"] == pytest.approx(4.0)
    assert found["p_value"] == pytest.approx(1 / 3, abs=0.03)
    # Nothing as large was drawn: one of the permutations and the table itself.
    right, names = group_answers(("a", 40, 40), ("b", 0, 40))
    assert equal_error_rates(right, names, permutations=99)["p_value"] == 0.01
    # The order of the samples, and the names of the groups, do not count.
    keys = keys_of(80)
    order = np.random.default_rng(0).permutation(80)
    right, names = group_answers(("a", 30, 40), ("b", 24, 40))
    usual = equal_error_rates(right, names, permutations=99, bootstrap=Bootstrap(keys=keys))
    mixed = equal_error_rates(
        right[order],
        [names[row] for row in order],
        permutations=99,
        bootstrap=Bootstrap(keys=keys.take(order)),
    )
    assert mixed == usual
    other = Bootstrap(keys=keys, seed=1)
    seeds = equal_error_rates(right, names, permutations=99, bootstrap=other)
    assert seeds["chi2"] == usual["chi2"]
    assert seeds["p_value"] != usual["p_value"]

"""Tests of paired answers, and many tests at once: textbook values and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from pytest_cliprobust.figures import paired


def test_mcnemar_textbook_value_and_scipy() -> None:
    # Agresti (Categorical Data Analysis, table 10.1): 86 against 150 switchers of 1,600.
    assert paired.mcnemar_p(86, 150) == pytest.approx(
        scipy_stats.binomtest(86, 236).pvalue, rel=1e-9
    )
    assert paired.mcnemar_p(0, 0) == 1.0
    assert paired.mcnemar_p(5, 5) == 1.0
    assert paired.mcnemar_p(0, 6) == paired.mcnemar_p(6, 0) == pytest.approx(2 / 64)
    assert paired.mcnemar_p(150, 86) == paired.mcnemar_p(86, 150)
    for gains, losses in ((-1, 2), (2, -1)):
        with pytest.raises(ValueError, match="negative"):
            paired.mcnemar_p(gains, losses)


def test_holm_textbook_values() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    np.testing.assert_allclose(paired.holm(p), [0.03, 0.06, 0.06, 0.02])
    # Benjamini & Hochberg (1995), section 3.3: of 15 p-values Holm's method rejects 3 at 0.05.
    table = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    table += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert (paired.holm(table) <= 0.05).sum() == 3
    assert paired.holm([]).shape == (0,)
    assert paired.holm([0.0, 1.0]).tolist() == [0.0, 1.0]
    for wrong in ([0.5, math.nan], [0.5, -0.1], [0.5, 1.1], [[0.5]]):
        with pytest.raises(ValueError, match="p-values"):
            paired.holm(wrong)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=15))
def test_adjusted_p_values(p: list[float]) -> None:
    adjusted = paired.holm(p)
    assert (adjusted >= scipy_stats.false_discovery_control(p) - 1e-12).all()
    assert (adjusted <= np.minimum(np.array(p) * len(p), 1.0) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()

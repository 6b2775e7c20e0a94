"""Visual factors and effective robustness: by hand, polyfit and loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.properties import factors

FEW = Bootstrap(replicates=200)


def test_error_ratio_by_hand_over_annotated_images_only() -> None:
    #      pose: 1 of 2 wrong; style: 0 of 2 wrong; the rest must not count.
    correct = np.array([True, False, True, True, False, False, False])
    names = ["pose", "pose", "style", "style", "", "prototype", "none"]
    figures = factors.factor_figures(correct, names)
    assert list(figures) == ["pose", "style"]
    assert figures["pose"]["error_ratio"].value == pytest.approx(0.5 / 0.25)
    assert figures["style"]["error_ratio"].value == 0.0
    assert figures["pose"]["error_ratio"].details["annotated"] == 4
    assert figures["pose"]["error_ratio"].details["overall_accuracy"] == 0.75
    assert figures["pose"]["factor_accuracy"].value == 0.5
    assert figures["pose"]["factor_accuracy"].n == 2


def test_error_ratio_replicates_and_undefined_ratio() -> None:
    correct = np.random.default_rng(1).random(200) < 0.6
    names = ["pose", "style"] * 100
    figures = factors.factor_figures(correct, names, bootstrap=FEW)
    weights = [figures[f]["error_ratio"].value for f in ("pose", "style")]
    assert np.mean(weights) == pytest.approx(1.0)
    for entry in figures.values():
        assert entry["error_ratio"].low < 1.3
        assert entry["error_ratio"].low <= entry["error_ratio"].value <= entry["error_ratio"].high
    perfect = factors.factor_figures(np.ones(4, bool), ["a", "a", "b", "b"])
    assert np.isnan(perfect["a"]["error_ratio"].value)
    assert np.isnan(perfect["a"]["error_ratio"].low)
    with pytest.raises(ClipRobustError, match="annotated"):
        factors.factor_figures(np.ones(2, bool), ["", "prototype"])
    assert len(set(factors.IMAGENET_X_FACTORS)) == 16


def test_the_line_is_fitted_on_logits() -> None:
    fleet = np.array([0.3, 0.5, 0.6, 0.7, 0.8])
    shifted = expit(0.8 * logit(fleet) - 0.5)
    line = factors.fit_accuracy_line(fleet, shifted)
    assert (line.slope, line.intercept, line.r_squared) == pytest.approx((0.8, -0.5, 1.0))
    assert line.predict(0.65) == pytest.approx(expit(0.8 * logit(0.65) - 0.5))
    noisy = np.clip(shifted + np.array([0.02, -0.03, 0.01, 0.03, -0.02]), 0.01, 0.99)
    slope, intercept = np.polyfit(logit(fleet), logit(noisy), 1)
    got = factors.fit_accuracy_line(fleet, noisy)
    assert (got.slope, got.intercept) == pytest.approx((slope, intercept))
    assert got.r_squared == pytest.approx(np.corrcoef(logit(fleet), logit(noisy))[0, 1] ** 2)


@pytest.mark.parametrize("paired", [True, False])
def test_a_model_on_the_line_has_no_effective_robustness(paired: bool) -> None:
    rng = np.random.default_rng(2)
    fleet = rng.uniform(0.3, 0.9, size=12)
    shifted = expit(0.9 * logit(fleet) - 1.0 + 0.05 * rng.normal(size=12))
    inside = np.arange(1000) < 700
    expected = float(expit(0.9 * logit(0.7) - 1.0))
    on_line = np.arange(1000) < round(1000 * expected)
    figure = factors.effective_robustness(
        inside, on_line, fleet, shifted, paired=paired, bootstrap=FEW
    )
    assert figure.low < 0.0 < figure.high
    assert abs(figure.value) < 0.03
    robust = np.arange(1000) < 690
    above = factors.effective_robustness(
        inside, robust, fleet, shifted, paired=paired, bootstrap=FEW
    )
    assert above.low > 0.1
    assert above.value == pytest.approx(0.69 - above.details["predicted_accuracy"])
    assert above.details["fleet"] == 12


def test_fleets_without_a_line_are_refused() -> None:
    with pytest.raises(ClipRobustError, match="at least 3"):
        factors.fit_accuracy_line([0.5, 0.6], [0.4, 0.5])
    with pytest.raises(ClipRobustError, match="strictly between"):
        factors.fit_accuracy_line([0.5, 0.6, 1.0], [0.4, 0.5, 0.6])
    with pytest.raises(ClipRobustError, match="same ID accuracy"):
        factors.fit_accuracy_line([0.5, 0.5, 0.5], [0.4, 0.5, 0.6])
    with pytest.raises(ClipRobustError, match="no logit"):
        factors.effective_robustness(
            np.ones(3, bool), np.ones(3, bool), [0.5, 0.6, 0.7], [0.4, 0.5, 0.6]
        )

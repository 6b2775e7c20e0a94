"""Grids of corruptions and severities against loops."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import drawn_rows, drawn_samples, keys_of, replicates_of, times_as_wide

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.figure import IntervalMethod
from pytest_cliprobust.properties import corruption

FEW = Bootstrap(replicates=200)


def _answers(accuracies: list[float], n: int = 100) -> np.ndarray:
    return np.stack([np.arange(n) < round(a * n) for a in accuracies])


def test_grid_figures_match_loops() -> None:
    rng = np.random.default_rng(5)
    clean = rng.random(120) < 0.8
    correct = rng.random((3, 4, 120)) < np.linspace(0.75, 0.3, 4)[None, :, None]
    names, severities = ["fog", "snow", "jpeg"], [1, 2, 3, 5]
    figures = corruption.corruption_figures(clean, correct, names, severities)
    assert figures["mean_corruption_accuracy"].value == pytest.approx(correct.mean())
    assert figures["mean_corruption_drop"].value == pytest.approx(clean.mean() - correct.mean())
    assert figures["relative_corruption_drop"].value == pytest.approx(
        1 - correct.mean() / clean.mean()
    )
    by_kind = [clean.mean() - correct[k].mean() for k in range(3)]
    worst = figures["worst_corruption_drop"]
    assert worst.value == pytest.approx(max(by_kind))
    assert worst.details["worst"] == names[int(np.argmax(by_kind))]
    steps = [correct[k, s + 1].mean() <= correct[k, s].mean() for k in range(3) for s in range(3)]
    assert figures["severity_monotonicity"].value == pytest.approx(np.mean(steps))
    assert figures["mean_corruption_accuracy"].details["accuracies"]["snow"]["5"] == pytest.approx(
        correct[1, 3].mean()
    )
    assert worst.details["drops"] == pytest.approx(dict(zip(names, by_kind, strict=True)))
    grid = figures["mean_corruption_accuracy"].details["accuracies"]
    assert [list(row) for row in grid.values()] == [["1", "2", "3", "5"]] * 3
    for name in ("mean_corruption_accuracy", "mean_corruption_drop", "relative_corruption_drop"):
        assert figures[name].details["clean_accuracy"] == pytest.approx(clean.mean())


def test_replicates_are_the_metrics_of_the_drawn_samples() -> None:
    rng = np.random.default_rng(6)
    clean, correct = rng.random(30) < 0.8, rng.random((2, 3, 30)) < 0.5
    boot = Bootstrap(replicates=15)
    figures = corruption.corruption_figures(clean, correct, ["a", "b"], [1, 2, 3], bootstrap=boot)
    values = {name: replicates_of(figure, boot) for name, figure in figures.items()}
    for number, drawn in enumerate(drawn_rows(boot, 30)):
        before, cells = clean[drawn].mean(), correct[:, :, drawn].mean(axis=2)
        want = {
            "mean_corruption_accuracy": cells.mean(),
            "mean_corruption_drop": before - cells.mean(),
            "relative_corruption_drop": 1.0 - cells.mean() / before,
            "worst_corruption_drop": before - cells.mean(axis=1).min(),
            "severity_monotonicity": np.mean(cells[:, 1:] <= cells[:, :-1]),
        }
        assert {name: float(drawn[number]) for name, drawn in values.items()} == pytest.approx(want)
    assert {len(drawn) for drawn in values.values()} == {15}
    assert {name: figure.interval for name, figure in figures.items()} == {
        "mean_corruption_accuracy": IntervalMethod.STUDENT,
        "mean_corruption_drop": IntervalMethod.STUDENT,
        "relative_corruption_drop": IntervalMethod.STUDENT,
        "worst_corruption_drop": IntervalMethod.SIMULTANEOUS,
        "severity_monotonicity": IntervalMethod.BASIC,
    }
    np.testing.assert_array_equal(
        figures["severity_monotonicity"].replicates, values["severity_monotonicity"]
    )
    assert {figure.n for figure in figures.values()} == {30}


def test_scenes_of_one_drawing_are_resampled_with_all_their_corruptions() -> None:
    rng = np.random.default_rng(7)
    units = np.arange(30) // 3
    clean, correct = rng.random(30) < 0.8, rng.random((2, 3, 30)) < 0.5
    boot = Bootstrap(replicates=15, keys=keys_of(30, units))
    figures = corruption.corruption_figures(clean, correct, ["a", "b"], [1, 2, 3], bootstrap=boot)
    values = {name: replicates_of(figure, boot) for name, figure in figures.items()}
    for number, drawn in enumerate(drawn_samples(boot, 30)):
        before, cells = clean[drawn].mean(), correct[:, :, drawn].mean(axis=2)
        want = {
            "mean_corruption_accuracy": cells.mean(),
            "mean_corruption_drop": before - cells.mean(),
            "relative_corruption_drop": 1.0 - cells.mean() / before,
            "worst_corruption_drop": before - cells.mean(axis=1).min(),
            "severity_monotonicity": np.mean(cells[:, 1:] <= cells[:, :-1]),
        }
        assert {name: float(drawn[number]) for name, drawn in values.items()} == pytest.approx(want)
    for name, figure in figures.items():
        assert (figure.n, figure.units) == (30, 10)
        if name == "severity_monotonicity":
            assert figure.method.startswith("bootstrap of drawings, 15")
        else:
            assert figure.method.endswith(f", design effect {figure.design_effect:.2f}")
        assert figure.outcomes is not None
        assert figure.outcomes.keys == boot.keys
        assert figure.outcomes.value() == pytest.approx(figure.value)


@pytest.mark.parametrize("units", [None, np.arange(240) // 4])
def test_intervals_are_as_wide_as_resampling_has_them(units: np.ndarray | None) -> None:
    rng = np.random.default_rng(8)
    ease = rng.random(240) if units is None else rng.random(60)[units]
    clean, levels = ease < 0.8, np.array([[0.7, 0.5], [0.6, 0.2]])[:, :, None]
    correct = ease + 0.1 * rng.normal(size=(2, 2, 240)) < levels
    boot = Bootstrap(replicates=400, keys=keys_of(240, units))
    figures = corruption.corruption_figures(clean, correct, ["a", "b"], [1, 2], bootstrap=boot)
    for name in ("mean_corruption_accuracy", "mean_corruption_drop", "relative_corruption_drop"):
        assert 0.9 < times_as_wide(figures[name], boot) < 1.25, name
        if units is not None:
            assert figures[name].design_effect > 2.0
    # The worst is plainly "b", and its interval one of two at once.
    worst = figures["worst_corruption_drop"]
    assert 1.0 < times_as_wide(worst, boot) < 1.4


def test_no_change_is_no_certainty_and_a_gain_is_a_negative_drop() -> None:
    some = np.arange(20) < 10
    same = corruption.corruption_figures(some, np.stack([some, some])[None], ["fog"], [1, 2])
    for name in ("mean_corruption_drop", "worst_corruption_drop"):
        assert same[name].low < 0.0 < same[name].high
    # If 15% were lost, 20 samples would show it (0.85**20 is 0.04); less than 10% (0.12) they would not.
    assert 0.1 < same["mean_corruption_drop"].high < 0.16
    # No rise at any step, in any replicate.
    assert (same["severity_monotonicity"].value, same["severity_monotonicity"].low) == (1.0, 1.0)
    right = np.ones((1, 1, 20), bool)
    better = corruption.corruption_figures(~right[0, 0], right, ["fog"], [1])
    assert better["mean_corruption_accuracy"].low > 0.8
    assert better["mean_corruption_drop"].low == better["worst_corruption_drop"].low == -1.0
    assert np.isnan(better["relative_corruption_drop"].value)
    # One severity has no steps.
    assert "severity_monotonicity" not in better


def test_kendalls_tau_by_hand() -> None:
    # Of the six pairs two fall, three rise, and one is a tie.
    clean, correct = _answers([1.0])[0], _answers([0.5, 0.7, 0.5, 0.6])[None]
    figures = corruption.corruption_figures(clean, correct, ["fog"], [1, 2, 3, 4])
    tau = figures["severity_monotonicity"].details["kendall_tau"]["fog"]
    assert tau == pytest.approx((3 - 2) / 6)


def test_falling_accuracy_is_monotone() -> None:
    clean = _answers([0.9])[0]
    correct = _answers([0.9, 0.7, 0.4])[None]
    figures = corruption.corruption_figures(clean, correct, ["fog"], [0, 3, 5])
    assert figures["severity_monotonicity"].value == 1.0
    assert figures["severity_monotonicity"].details["kendall_tau"]["fog"] == -1.0
    rising = corruption.corruption_figures(clean, correct[:, ::-1], ["fog"], [1, 2, 3])
    assert rising["severity_monotonicity"].value == 0.0


def test_grid_of_another_shape_is_refused() -> None:
    with pytest.raises(ClipRobustError, match="corruption grid"):
        corruption.corruption_figures(np.ones(4, bool), np.ones((1, 2, 5), bool), ["fog"], [1, 2])
    for severities in ([2, 1], [1, 1]):
        with pytest.raises(ClipRobustError, match="ascend"):
            corruption.corruption_figures(
                np.ones(4, bool), np.ones((1, 2, 4), bool), ["fog"], severities
            )
    with pytest.raises(ClipRobustError, match="got float64"):
        corruption.corruption_figures(np.ones(4, bool), np.ones((1, 1, 4)), ["fog"], [1])
    with pytest.raises(ClipRobustError, match="corruption grid"):
        corruption.corruption_figures(np.ones(4, bool), np.ones((1, 0, 4), bool), ["fog"], [])

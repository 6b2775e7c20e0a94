"""Grids of corruptions and severities against loops."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import drawn_rows, drawn_samples, keys_of

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.bootstrap import Bootstrap
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
    for number, drawn in enumerate(drawn_rows(boot, 30)):
        before, cells = clean[drawn].mean(), correct[:, :, drawn].mean(axis=2)
        want = {
            "mean_corruption_accuracy": cells.mean(),
            "mean_corruption_drop": before - cells.mean(),
            "relative_corruption_drop": 1.0 - cells.mean() / before,
            "worst_corruption_drop": before - cells.mean(axis=1).min(),
            "severity_monotonicity": np.mean(cells[:, 1:] <= cells[:, :-1]),
        }
        have = {name: figure.replicates[number] for name, figure in figures.items()}
        assert have == pytest.approx(want)
    basic = {name for name, figure in figures.items() if "basic" in figure.method}
    assert basic == {"worst_corruption_drop", "severity_monotonicity"}
    assert {figure.n for figure in figures.values()} == {30}


def test_scenes_of_one_drawing_are_resampled_with_all_their_corruptions() -> None:
    rng = np.random.default_rng(7)
    units = np.arange(30) // 3
    clean, correct = rng.random(30) < 0.8, rng.random((2, 3, 30)) < 0.5
    boot = Bootstrap(replicates=15, keys=keys_of(30, units))
    figures = corruption.corruption_figures(clean, correct, ["a", "b"], [1, 2, 3], bootstrap=boot)
    for number, drawn in enumerate(drawn_samples(boot, 30)):
        before, cells = clean[drawn].mean(), correct[:, :, drawn].mean(axis=2)
        want = {
            "mean_corruption_accuracy": cells.mean(),
            "mean_corruption_drop": before - cells.mean(),
            "relative_corruption_drop": 1.0 - cells.mean() / before,
            "worst_corruption_drop": before - cells.mean(axis=1).min(),
            "severity_monotonicity": np.mean(cells[:, 1:] <= cells[:, :-1]),
        }
        have = {name: figure.replicates[number] for name, figure in figures.items()}
        assert have == pytest.approx(want)
    for figure in figures.values():
        assert (figure.n, figure.units) == (30, 10)
        assert figure.method.startswith("bootstrap of drawings, 15")
        assert figure.outcomes is not None
        assert figure.outcomes.keys == boot.keys
        assert figure.outcomes.value() == pytest.approx(figure.value)


def test_no_change_is_no_certainty_and_a_gain_is_a_negative_drop() -> None:
    some = np.arange(20) < 10
    same = corruption.corruption_figures(some, np.stack([some, some])[None], ["fog"], [1, 2])
    for name in ("mean_corruption_drop", "worst_corruption_drop"):
        assert same[name].low < 0.0 < same[name].high
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

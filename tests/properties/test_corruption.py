"""Grids of corruptions and severities against loops."""

from __future__ import annotations

import numpy as np
import pytest

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
    drops = corruption.corruption_drops(clean, correct, names, severities)
    assert drops["jpeg", 5].value == pytest.approx(clean.mean() - correct[2, 3].mean())
    assert drops["jpeg", 5].metric == "accuracy_drop"


def test_severity_that_is_clean_has_no_drop_and_falling_accuracy_is_monotone() -> None:
    clean = _answers([0.9])[0]
    correct = _answers([0.9, 0.7, 0.4])[None]
    figures = corruption.corruption_figures(clean, correct, ["fog"], [0, 3, 5])
    assert figures["severity_monotonicity"].value == 1.0
    assert figures["severity_monotonicity"].details["kendall_tau"]["fog"] == -1.0
    assert corruption.corruption_drops(clean, correct, ["fog"], [0, 3, 5])["fog", 0].value == 0.0
    rising = corruption.corruption_figures(clean, correct[:, ::-1], ["fog"], [1, 2, 3])
    assert rising["severity_monotonicity"].value == 0.0


def test_grid_of_another_shape_is_refused() -> None:
    with pytest.raises(ClipRobustError, match="corruption grid"):
        corruption.corruption_figures(np.ones(4, bool), np.ones((1, 2, 5), bool), ["fog"], [1, 2])
    with pytest.raises(ClipRobustError, match="ascend"):
        corruption.corruption_figures(np.ones(4, bool), np.ones((1, 2, 4), bool), ["fog"], [2, 1])

"""The table of metrics, and what all figures have in common."""

from __future__ import annotations

import numpy as np

from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.properties import correspondence as co
from pytest_cliprobust.properties import factors, prompts, retrieval

FEW = Bootstrap(replicates=200)


def _pairs(images: int, captions: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    owner = np.concatenate([np.arange(images), rng.integers(images, size=captions - images)])
    pictures = rng.normal(size=(images, 8))
    texts = pictures[owner] + 1.2 * rng.normal(size=(captions, 8))
    return pictures, texts, owner


def test_the_table_of_metrics_is_complete_and_consistent() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        assert name == name.lower()
        assert " " not in name
        assert metric.meaning
        assert "\n" not in metric.meaning
        if metric.low is not None and metric.high is not None:
            assert metric.low < metric.high
    assert METRICS["accuracy"].higher_is_better is True
    assert METRICS["ece"].higher_is_better is False
    assert METRICS["signed_gap"].higher_is_better is None
    assert METRICS["fpr95_mcm"].higher_is_better is False


def test_every_figure_is_plain_numbers_and_json() -> None:
    import json

    from pytest_cliprobust.properties import accuracy, calibration, corruption, ood, shape_bias

    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(60, 6)), rng.integers(6, size=60)
    right = accuracy.correct_top_k(scores, labels)
    grid = rng.random((2, 3, 60)) < 0.5
    pictures, texts, owner = _pairs(10, 20, 0)
    few = Bootstrap(replicates=20)
    names = [str(i) for i in range(6)]
    figures = [
        accuracy.accuracy(scores, labels, bootstrap=few),
        accuracy.balanced_accuracy(scores, labels, bootstrap=few),
        accuracy.worst_group_accuracy(right, ["a", "b"] * 30, bootstrap=few),
        accuracy.accuracy_drop_figure(right, grid[0, 0], bootstrap=few),
        accuracy.relative_drop_figure(right, grid[0, 0], bootstrap=few),
        *accuracy.mean_corruption_error({"f": grid[0]}, {"f": 0.5}, baseline="B").values(),
        *corruption.corruption_figures(right, grid, ["f", "g"], [1, 2, 3], bootstrap=few).values(),
        *calibration.calibration_figures(
            scores, labels, probability="sigmoid", bootstrap=few
        ).values(),
        calibration.temperature_figure(scores, labels, bootstrap=few)[1],
        *ood.detection_figures(scores[:, 0], scores[:, 1], "mcm", bootstrap=few).values(),
        *shape_bias.shape_bias_figures(
            labels, labels, (labels + 1) % 6, names, bootstrap=few
        ).values(),
        *retrieval.retrieval_figures(pictures, texts, owner, bootstrap=few).values(),
        *prompts.prompt_figures(grid[0], ["a", "b", "c"], right, bootstrap=few).values(),
        *factors.factor_figures(right, ["p", "q"] * 30, bootstrap=few)["p"].values(),
        *co.recall_figures([np.ones(3), np.ones(2)], [3.0, 40.0], bootstrap=few).values(),
        *co.pck_figures([np.ones(3), np.zeros(2)], [0, 0], bootstrap=few).values(),
    ]
    for figure in figures:
        assert figure.metric in METRICS, figure.metric
        json.dumps(figure.details, allow_nan=False)
        for number in (figure.value, figure.low, figure.high, *figure.replicates[:2]):
            assert type(number) is float, figure.metric
        assert type(figure.n) is int
        assert figure.method
        metric = METRICS[figure.metric]
        if metric.low is not None:
            assert figure.low >= metric.low
        if metric.high is not None:
            assert figure.high <= metric.high

"""Curves of scores: the same from outcomes, and from a report that has none."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import check_schema
from report_helpers import figures, the_run
from sklearn.metrics import auc, roc_auc_score

from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.outcomes import Outcomes
from pytest_cliprobust.reporting.html.page import page_of
from pytest_cliprobust.reporting.json import text
from pytest_cliprobust.reporting.separation import BINS, DETAIL, POINTS, Separation
from pytest_cliprobust.results.earlier import of_document


def scores(seed: int = 0, n: int = 4000) -> tuple[Any, Any]:
    """Return scores of two kinds, half of each."""
    inside = np.arange(n) < n // 2
    return np.random.default_rng(seed).normal(size=n) + inside, inside


def made(seed: int = 0) -> Separation:
    found = Separation.of(*scores(seed))
    assert found is not None
    return found


def test_the_curve_has_the_area_of_its_scores_and_ends_in_its_corners() -> None:
    found = made()
    assert len(found.found) == POINTS
    assert found.found[-1] == 1.0
    assert list(found.found) == sorted(found.found)
    values, inside = scores()
    area = auc(np.linspace(0, 1, POINTS), found.found)
    assert area == pytest.approx(roc_auc_score(inside, values), abs=2e-3)


def test_a_point_is_the_share_found_where_so_much_is_taken_for_it() -> None:
    values, inside = scores()
    limit = np.quantile(values[~inside], 0.75, method="higher")
    assert made().found[10] == pytest.approx(np.mean(values[inside] > limit), abs=2e-3)


def test_histograms_are_shares() -> None:
    found = made()
    assert len(found.inside) == len(found.outside) == BINS
    assert sum(found.inside) == pytest.approx(1.0, abs=2e-3)
    values, inside = scores()
    values = values.astype(np.float32)
    assert (found.low, found.high) == (values.min(), values.max())
    medians = np.median(values[inside]), np.median(values[~inside])
    assert found.medians == pytest.approx(medians, abs=1e-6)


@pytest.mark.parametrize("inside", [[True, True], [False, False]])
def test_one_kind_alone_has_none(inside: list[bool]) -> None:
    assert Separation.of(np.array([1.0, 2.0]), np.array(inside)) is None
    lost = np.array([1.0, math.nan])
    assert Separation.of(lost, np.array([True, False])) is None


def test_what_workers_hand_over_gives_the_same_curves() -> None:
    values, inside = scores()
    handed = values.astype(np.float32).astype(np.float64)
    assert Separation.of(handed, inside) == Separation.of(values, inside)


def test_it_comes_back_from_json() -> None:
    told = json.loads(json.dumps(made().as_dict()))
    assert Separation.from_dict(told) == made()
    for broken in ({}, {**told, "found": [0.5]}, {**told, "range": "ab"}, {**told, "inside": []}):
        assert Separation.from_dict(broken) is None
    assert Separation.of_figure(Figure("auroc", 0.5, 0.4, 0.6, 9, details={DETAIL: 3})) is None


def test_a_page_of_a_json_report_has_the_curves_of_the_run() -> None:
    told = json.loads(text(the_run(figures((1, 2)))))
    check_schema(told)
    head = of_document(told, {}, "report.json")
    (one,) = (m.figure for m in head.measurements.values() if m.metric == "auroc_energy")
    assert one.outcomes is None
    page = page_of(head)
    assert "ROC curve: energy, far_ood" in page
    assert "Scores: energy, far_ood: median" in page
    plain = {
        key: replace(m, figure=replace(m.figure, details={}).measured_on(m.condition))
        for key, m in head.measurements.items()
    }
    older = page_of(replace(head, measurements=plain))
    assert "1 without scores: an earlier version wrote the report." in older


class Held:
    """A figure whose outcomes have scores."""

    def __init__(self, *scores: float, inside: list[bool] | None = None) -> None:
        attributes = {} if inside is None else {"inside": np.array(inside)}
        self.outcomes: Any = Outcomes(
            {"score": np.array(scores)}, lambda weights, own: weights[:, 0], attributes=attributes
        )
        self.details: dict[str, Any] = {}


def test_what_is_inside_may_be_known_by_the_later_run_alone() -> None:
    one: Any = Held(1.0, np.nan, 3.0, inside=[True, True, False])
    earlier: Any = Held(2.0, 4.0, 6.0)
    own, before = Separation.of_figure(one), Separation.of_figure(earlier, one)
    assert own is not None
    assert before is not None
    assert own.medians == (1.0, 3.0)  # what is no number is left out
    assert before.medians == (3.0, 6.0)
    shorter: Any = Held(1.0, 2.0)
    assert Separation.of_figure(shorter, one) is None
    assert Separation.of_figure(shorter) is None

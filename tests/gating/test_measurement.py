"""A measurement is filed under the condition that its figure carries."""

from __future__ import annotations

import json

import pytest
from gating_helpers import condition, measure

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import Condition, Step, together
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.gating.measurement import Measurement


def test_where_it_is_filed_follows_from_the_figure() -> None:
    filed = measure("accuracy", dataset="clipart", perturbation="fog_3d", severity=3)
    assert (filed.metric, filed.dataset) == ("accuracy", "clipart")
    assert (filed.perturbation, filed.severity) == ("fog_3d", 3)
    assert filed.condition == condition("clipart", "fog_3d", 3)
    assert filed.key == "calibration/accuracy/clipart/fog_3d@3/reference"
    assert measure("ece").key == "calibration/ece/clean/clean/reference"


def test_a_mean_over_severities_has_none() -> None:
    mean = together([condition("clean", "fog_3d", severity) for severity in (1, 3, 5)])
    figure = Figure("accuracy", 0.8, 0.7, 0.9, 100).measured_on(mean)
    assert Measurement("corruption", "m", figure).key == "corruption/accuracy/clean/fog_3d/m"


def test_a_figure_from_bare_arrays_is_refused() -> None:
    with pytest.raises(ClipRobustError, match="accuracy does not say what it was measured on"):
        Measurement("accuracy", "reference", Figure("accuracy", 0.8, 0.7, 0.9, 100))


def test_a_figure_cannot_be_filed_as_another() -> None:
    fog = measure(perturbation="fog_3d", severity=3).figure
    with pytest.raises(
        ClipRobustError, match=r"measured on clean, fog_3d at severity 3; it cannot"
    ):
        fog.measured_on(condition("clean", "snow", 3))


def test_json_round_trip() -> None:
    chained = Condition("clean:noto", (Step("a"), Step("fog_3d", 3, (("k", 0.5),))), limit=7)
    figure = Figure("ece", 0.1, 0.0, 0.2, 7, replicates=(0.1, 0.2)).measured_on(chained)
    filed = Measurement("calibration", "reference", figure)
    for replicates in (False, True):
        data = json.loads(json.dumps(filed.as_dict(replicates=replicates), allow_nan=False))
        back = Measurement.from_dict(data)
        assert back == filed
        assert back.figure.replicates == (figure.replicates if replicates else ())
    assert data["key"] == filed.key
    assert data["severity"] is None
    with pytest.raises(KeyError):
        Measurement.from_dict({"suite": "x"})

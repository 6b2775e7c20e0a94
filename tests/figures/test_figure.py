"""Figures survive JSON and packing, bit for bit."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import struct
import sys

import numpy as np
import pytest
from helpers import keys_of

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures import figure as f
from pytest_cliprobust.figures.bootstrap import Bootstrap, paired_drop_figure, proportion_figure
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure

NUMBERS = (0.1, -2.5, 1e300)
FIGURE = Figure("nll", 1.5, 1.25, 2.0, 40, 0.9, "bootstrap, 3", "nats", NUMBERS, {"a": [1]})


def test_numbers_that_json_lacks_become_text() -> None:
    assert f.json_number(0.5) == 0.5
    assert [f.json_number(x) for x in (math.nan, math.inf, -math.inf)] == ["nan", "inf", "-inf"]


@pytest.mark.parametrize("order", ["little", "big"])
def test_packed_numbers_are_little_endian_on_every_machine(
    order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    little = base64.b64encode(struct.pack("<3d", *NUMBERS)).decode()
    big = base64.b64encode(struct.pack(">3d", *NUMBERS)).decode()
    # A machine of the other order holds the bytes the other way round before they are swapped.
    text = little if order == sys.byteorder else big
    monkeypatch.setattr(sys, "byteorder", order)
    assert f.pack(NUMBERS) == text
    assert f.unpack(text) == NUMBERS


def test_other_text_is_no_packed_numbers() -> None:
    for text in ("AAAA", "no base64!", f"!{f.pack(NUMBERS)}"):
        with pytest.raises(ValueError, match=r".+"):
            f.unpack(text)


def test_figures_survive_json() -> None:
    for value in (FIGURE, dataclasses.replace(FIGURE, value=math.inf, low=-math.inf)):
        data = json.loads(json.dumps(value.as_dict(replicates=True), allow_nan=False))
        back = Figure.from_dict(data)
        assert back == value
        assert back.replicates == NUMBERS
        assert back.details == {"a": [1]}
        packed = Figure.from_dict({**data, "replicates": f.pack(NUMBERS)})
        assert packed.replicates == NUMBERS
    assert "replicates" not in FIGURE.as_dict()
    assert "replicates" not in dataclasses.replace(FIGURE, replicates=()).as_dict(replicates=True)


def test_units_and_the_design_effect_survive_json() -> None:
    hits = np.arange(40) % 5 > 0
    keys = keys_of(40, np.arange(40) // 4)
    for figure in (
        proportion_figure("accuracy", hits, Bootstrap(keys=keys)),
        proportion_figure("accuracy", hits, Bootstrap()),
        paired_drop_figure("accuracy_drop", hits, hits[::-1], Bootstrap(keys=keys)),
        dataclasses.replace(FIGURE, units=7, design_effect=2.5),
    ):
        data = json.loads(json.dumps(figure.as_dict(), allow_nan=False))
        assert (data["units"], data["design_effect"]) == (figure.units, figure.design_effect)
        back = Figure.from_dict(data)
        assert back == figure
        assert back.details == figure.details
        # What each sample came to is no part of a report.
        assert back.outcomes is None
    assert proportion_figure("accuracy", hits, Bootstrap(keys=keys)).units == 10
    assert (FIGURE.units, Figure.from_dict(FIGURE.as_dict()).units) == (None, None)


def test_outcomes_are_no_part_of_what_a_figure_is() -> None:
    hits = np.arange(40) % 5 > 0
    known, bare = (
        proportion_figure("accuracy", hits, Bootstrap(keys=keys)) for keys in (keys_of(40), None)
    )
    assert known == bare
    assert "outcomes" not in repr(known)
    filed = known.measured_on(Condition("clean"))
    assert filed.outcomes is known.outcomes
    assert filed.as_dict() == {**bare.as_dict(), "condition": {"dataset": "clean"}}


def test_what_a_report_may_leave_out() -> None:
    short = {"metric": "nll", "value": 1.0, "low": 0.5, "high": 1.5, "n": 7, "interval": "basic"}
    figure = Figure.from_dict(short)
    assert (figure.confidence, figure.method, figure.unit) == (0.95, "", "")
    assert (figure.replicates, figure.details) == ((), {})
    assert (figure.units, figure.design_effect) == (None, 1.0)
    with pytest.raises(KeyError):
        Figure.from_dict({"metric": "nll"})


def test_a_figure_is_filed_under_its_own_condition_only() -> None:
    filed = FIGURE.measured_on(Condition("clean"))
    assert (FIGURE.condition, filed.condition) == (None, Condition("clean"))
    assert filed.measured_on(Condition("clean")) == filed
    with pytest.raises(ClipRobustError, match="nll was measured on clean; it cannot be filed"):
        filed.measured_on(Condition("other"))
    assert Figure.from_dict(filed.as_dict()).condition == Condition("clean")


def test_the_words_of_an_interval() -> None:
    assert FIGURE.interval_text() == "1.5 [1.25, 2] nats"
    share = Figure("accuracy", 2 / 3, 0.5, 0.81234, 40)
    assert share.interval_text() == "0.6667 [0.5, 0.8123]"

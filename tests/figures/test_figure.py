"""Figures survive JSON and packing, bit for bit."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import struct
import sys

import pytest

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures import figure as f
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
    for text in ("AAAA", "no base64!"):
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


def test_what_a_report_may_leave_out() -> None:
    short = {"metric": "nll", "value": 1.0, "low": 0.5, "high": 1.5, "n": 7, "interval": "basic"}
    figure = Figure.from_dict(short)
    assert (figure.confidence, figure.method, figure.unit) == (0.95, "", "")
    assert (figure.replicates, figure.details) == ((), {})
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

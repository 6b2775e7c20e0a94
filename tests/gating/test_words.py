"""Numbers as messages show them, at the borders of their digits."""

from __future__ import annotations

import math

import pytest

from pytest_cliprobust.gating.words import format_value, level_text, rounded_up, samples_decide


@pytest.mark.parametrize(
    ("value", "width", "apart_from", "text"),
    [
        # Two significant digits of the width, two decimals at the least and six at the most.
        (0.123456789, 9.99, None, "0.12"),
        (0.123456789, 0.1, None, "0.12"),
        (0.123456789, 0.0999, None, "0.123"),
        (0.123456789, 0.01, None, "0.123"),
        (0.123456789, 0.00001, None, "0.123457"),
        (0.123456789, 0.000001, None, "0.123457"),
        (1234.5678, 500.0, None, "1234.57"),
        # Without a width, or with one that is no number, four digits.
        (1234.5678, 0.0, None, "1235"),
        (0.123456, -1.0, None, "0.1235"),
        (0.123456, math.inf, None, "0.1235"),
        (0.123456, math.nan, None, "0.1235"),
        (math.inf, 0.1, None, "inf"),
        # Not like the bound that it misses by little, unless it is that bound.
        (0.1000001, 0.01, 0.1, "0.1000001"),
        (0.1, 0.01, 0.1, "0.100"),
        (0.1000001, 0.01, 0.2, "0.100"),
        (-0.001, 1.0, None, "0.00"),
        (-0.01, 1.0, None, "-0.01"),
    ],
)
def test_a_value_has_the_decimals_of_its_interval(
    value: float, width: float, apart_from: float | None, text: str
) -> None:
    assert format_value(value, width, apart_from) == text


def test_levels_and_numbers_of_samples() -> None:
    assert [level_text(x) for x in (0.95, 0.998975, 0.5)] == ["95%", "99.8975%", "50%"]
    counts = {0: "0", 7: "7", 10: "10", 99: "99", 100: "100", 101: "110", 1234: "1,300"}
    assert {count: rounded_up(count) for count in counts} == counts
    assert rounded_up(9901) == "10,000"
    assert samples_decide(1072) == "1,072 samples decide"

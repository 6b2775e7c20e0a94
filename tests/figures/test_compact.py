"""Columns in few bytes: the type for each range, what is lost, and bits that come back."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_cliprobust.figures.change import SAME
from pytest_cliprobust.figures.compact import compact, unpacked, widened


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 255], np.uint8),
        ([0, 256], np.uint16),
        ([-129, -1], np.int16),
        ([-1, 128], np.int16),
        ([65535], np.uint16),
        ([65536], np.uint32),
        ([2**40], np.uint64),
        ([3, 200, 4], np.uint8),
    ],
)
def test_whole_numbers_have_a_small_type_that_holds_them(
    values: list[int], kind: type[np.generic]
) -> None:
    short = compact(np.array(values))
    assert short.dtype == kind
    assert short.tolist() == values


def test_columns_without_a_row() -> None:
    assert compact(np.array([], dtype=np.int64)).dtype == np.uint8
    assert compact(np.array([], dtype=np.float64)).shape == (0,)
    assert compact(np.array([], dtype=np.bool_)).dtype == np.bool_


def test_numbers_are_shortened_only_while_a_comparison_sees_no_difference() -> None:
    # 1 + x is 1 in single precision, as x is below half of its spacing there.
    for moved, kind in ((0.4, np.float32), (0.6, np.float64)):
        short = compact(np.array([[0.25, 2.0], [1.0, 1024.0 + moved * SAME]]))
        assert short.dtype == kind
        assert short.shape == (2, 2)
        assert short[1, 1] == (1024.0 if kind is np.float32 else 1024.0 + moved * SAME)
    # What single precision cannot hold stays; what is no number does not count.
    assert compact(np.array([1e300])).tolist() == [1e300]
    with np.errstate(all="raise"):
        kept = compact(np.array([math.nan, math.inf, -math.inf, 0.5]))
    assert kept.dtype == np.float32
    assert kept.tolist()[1:] == [math.inf, -math.inf, 0.5]
    assert compact(np.array([0.5], dtype=np.float32)).dtype == np.float32


@pytest.mark.parametrize("shape", [(1,), (8,), (9,), (3, 5), (2, 4, 2), (0,), (3, 0)])
def test_bits_come_back_in_their_shape(shape: tuple[int, ...]) -> None:
    bits = np.random.default_rng(1).random(shape) < 0.5
    back = unpacked(np.packbits(bits), shape)
    assert back.dtype == np.bool_
    np.testing.assert_array_equal(back, bits)


def test_bits_of_another_shape_are_refused() -> None:
    one = np.packbits(np.ones(8, dtype=np.bool_))
    for shape in ((9,), (3, 3), (0,), (2, 0)):
        with pytest.raises(ValueError, match="1 bytes are not the bits of an array of shape"):
            unpacked(one, shape)
    for shape in ((-8,), (-2, -4), (8, -1)):
        with pytest.raises(ValueError, match="is no shape"):
            unpacked(one, shape)


def test_whole_numbers_are_widened_and_others_are_not() -> None:
    wide = widened(np.array([200, 100], dtype=np.uint8))
    assert wide.dtype == np.int64
    assert (wide[1] - wide[0], wide.sum()) == (-100, 300)
    assert widened(np.array([-3], dtype=np.int8)).tolist() == [-3]
    for same in (np.array([0.5], dtype=np.float32), np.array([True])):
        assert widened(same) is same

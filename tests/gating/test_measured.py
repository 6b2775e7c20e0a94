"""The comments in which recording says what a bound comes from."""

from __future__ import annotations

import pytest

from pytest_cliprobust.gating.measured import (
    Measured,
    comment_on,
    find_comment,
    measured_in,
    renewed,
)

ONE = Measured(0.681, 0.64, 0.72, 134, 0.95)
TWO = Measured(-0.02, -0.05, 1e-05, 67, 0.95)


@pytest.mark.parametrize(
    ("measured", "text"),
    [
        ([ONE], "# measured 0.681 [0.64, 0.72], n = 134"),
        ([TWO], "# measured -0.02 [-0.05, 1e-05], n = 67"),
        ([ONE, ONE], "# measured 0.681 [0.64, 0.72], 0.681 [0.64, 0.72], n = 134"),
        ([ONE, TWO], "# measured 0.681 [0.64, 0.72], -0.02 [-0.05, 1e-05], n = 134/67"),
        ([None, ONE], "# measured ?, 0.681 [0.64, 0.72], n = ?/134"),
        (
            [Measured(1.5e-7, 0, 1e20, 9, 0.998975)],
            "# measured 1.5e-07 [0, 1e+20], n = 9, at 99.8975%",
        ),
    ],
)
def test_what_is_written_is_found_again(measured: list[Measured | None], text: str) -> None:
    assert str(comment_on(measured)) == text
    assert find_comment(text, 0, len(text)) == (0, len(text))
    more = f"max = 3 }},  {text}; then more"
    assert find_comment(more, 9, len(more)) == (12, 12 + len(text))


@pytest.mark.parametrize(
    "text",
    [
        "# measured by hand",
        "# measured 0.8, n = 3",
        "# measured 0.8 [0.7, 0.9]",
        "# as measured 0.8 [0.7, 0.9], n = 3",
        "measured 0.8 [0.7, 0.9], n = 3",
        "# measured  [0.7, 0.9], n = 3",
    ],
)
def test_comments_of_persons_are_not_taken_for_its_own(text: str) -> None:
    assert find_comment(text, 0, len(text)) is None


def test_the_numbers_of_every_item_are_read() -> None:
    line = f"    {{ max = 3 }},  {comment_on([ONE, None, TWO])}; then more"
    assert measured_in(line) == [(0.681, 0.64, 0.72), None, (-0.02, -0.05, 1e-05)]
    assert measured_in("max = 3  # measured by hand") == []
    assert measured_in("max = 3") == []


def test_only_what_was_measured_anew_is_renewed() -> None:
    old = str(comment_on([ONE, ONE, ONE]))
    assert str(renewed(old, {1: TWO}, 3)) == (
        "# measured 0.681 [0.64, 0.72], -0.02 [-0.05, 1e-05], 0.681 [0.64, 0.72], n = 134/67/134"
    )
    apart = str(comment_on([ONE, TWO]))
    assert str(renewed(apart, {0: TWO}, 2)) == str(comment_on([TWO, TWO]))
    # A comment of another length, or of figures at another level, says nothing of the others.
    assert str(renewed(old, {1: TWO}, 2)) == str(comment_on([None, TWO]))
    assert str(renewed("# measured ?, ?, n = 1/2/3", {1: TWO}, 2)) == str(comment_on([None, TWO]))
    strict = Measured(0.5, 0.4, 0.6, 10, 0.99)
    assert (
        str(renewed(old, {1: strict}, 3)) == "# measured ?, 0.5 [0.4, 0.6], ?, n = ?/10/?, at 99%"
    )
    assert str(renewed(f"{old}, at 99%", {0: strict}, 3)) == (
        "# measured 0.5 [0.4, 0.6], 0.681 [0.64, 0.72], 0.681 [0.64, 0.72], n = 10/134/134, at 99%"
    )
    assert str(renewed(f"{old}, at 99%", {1: TWO}, 3)) == str(comment_on([None, TWO, None]))


def test_the_reason_of_old_files() -> None:
    assert ONE.reason == "recorded at 0.681, 95% interval 0.64 to 0.72, n = 134"

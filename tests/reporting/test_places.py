"""Where something stands in a user's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_cliprobust.reporting.places import Place


@pytest.mark.parametrize(
    ("where", "file", "line"),
    [
        ("thresholds.toml:17", "thresholds.toml", 17),
        ("a b/ü:3.toml:2", "a b/ü:3.toml", 2),
        ("thresholds.toml", "thresholds.toml", 0),
        ("thresholds.toml:x", "thresholds.toml:x", 0),
        (":4", ":4", 0),
    ],
)
def test_of_a_bound(where: str, file: str, line: int) -> None:
    place = Place.of_bound(where)
    assert (place.file, place.line) == (file, line)


def test_of_a_test() -> None:
    assert Place.of_test("suites/test_ood.py::test_it[a::b]") == Place("suites/test_ood.py")


def test_as_a_uri(tmp_path: Path) -> None:
    assert Place("sub dir/ü%.toml").uri == "sub%20dir/%C3%BC%25.toml"
    assert Place(str(tmp_path / "a b.toml")).uri == (tmp_path / "a b.toml").as_uri()

"""Pictures of matches: colours say what is right, the worst pairs come first."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from helpers import SUITES, module_of
from PIL import Image

from pytest_cliprobust.engine.view import View
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.search import matches
from pytest_cliprobust.search.evidence import save_picture


def rows_of(errors: list[float]) -> Any:
    return np.array(
        [
            [20.0, 20.0 + 10 * i, 30 + e, 20 + 10 * i, 30, 20 + 10 * i, 0.5, 1.0]
            for i, e in enumerate(errors)
        ]
    )


def view_of(*pairs: list[float], angles: bool = True) -> Any:
    """Return what stands in for a view."""
    found = [rows_of(errors) for errors in pairs]
    ids = tuple(f"p{i}" for i in range(len(pairs)))
    groups = {"angle": tuple(str(10.0 * i) for i in range(len(pairs)))} if angles else {}
    return SimpleNamespace(
        matches=lambda layer: found, ids=ids, groups=groups, limits=(20.0, 5.0, 10.0)
    )


def colours(image: Any) -> set[tuple[int, int, int]]:
    return {color for _, color in image.getcolors(1 << 20)}


@pytest.mark.parametrize("right", [True, False])
def test_lines_have_the_colour_of_what_they_are(right: bool) -> None:
    grey = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    found = rows_of([0.0 if right else 30.0])
    image = matches.draw_matches((grey, grey), found, np.array([right]))
    assert (matches.RIGHT in colours(image)) == right
    assert (matches.WRONG in colours(image)) != right
    assert image.height == 288
    # A line leaves the place in the first picture, and ends at the match in the second.
    zoom = 288 / 64
    colour = matches.RIGHT if right else matches.WRONG
    assert image.getpixel((round(20 * zoom), round(20 * zoom))) == colour
    assert image.getpixel((round(288 + 8 + found[0, 2] * zoom), round(20 * zoom))) == colour


def test_the_worst_and_the_typical() -> None:
    view = view_of(
        [0.0] * 4,
        [50.0] * 4,
        [0.0, 0.0, 50.0, 50.0],
        [0.0, 50.0, 50.0, 50.0],
        [0.0, 0.0, 0.0, 50.0],
    )
    assert matches.worst_pairs(view, -1, 10.0, count=2) == [1, 2]
    # No pair twice, however few there are.
    for count in range(1, 9):
        rows = matches.worst_pairs(view, -1, 10.0, count)
        assert len(rows) == len(set(rows)) <= count
    assert (
        matches.described(view, 2, -1, 10.0)
        == "2 of 4 matches right (within 10 px), views 20° apart"
    )
    plain = view_of([0.01, 0.2], angles=False)
    assert matches.described(plain, 0, -1, 0.1) == "1 of 2 matches right (within 0.1 of the box)"
    assert matches.middle_limit(view) == 10.0


def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 4))
    assert save_picture(picture, tmp_path / "new" / "a.png").is_file()
    (tmp_path / "file").touch()
    with pytest.raises(ClipRobustError, match="cannot be written"):
        save_picture(picture, tmp_path / "file" / "a.png")


class Gated:
    """Notes what it is given."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []

    def __call__(self, figures: Iterable[Iterable[Figure]], explain: object = None) -> None:
        self.figures += [figure for each in figures for figure in each]


class Keypoints:
    """Four pairs of things with keypoints, of two classes and two levels."""

    name, digest = "spair", "1"
    ids = ("p0", "p1", "p2", "p3")
    labels, class_names, units = (0, 0, 1, 1), ("cat", "dog"), ids
    groups: ClassVar = {"class": ("cat", "cat", "dog", "dog"), "viewpoint": ("easy", "hard") * 2}
    subgroups, limits, angle_edges = ("viewpoint",), (0.1,), ()

    def __len__(self) -> int:
        return 4


def test_the_suite_measures_keypoints_by_class_and_level() -> None:
    """No shipped data plays the role, so the suite's own function runs on data of ours."""
    suite = module_of(SUITES / "test_correspondence.py")
    # Errors over the box, of all keypoints of each pair.
    errors = [[0.05, 0.05], [0.05, 0.2], [0.3], [0.05]]
    rows = [np.array([[0, 0, e * 40, 0, 0, 0, 0.5, 40.0, 0.1] for e in own]) for own in errors]
    data: Any = Keypoints()
    nothing: Any = None
    view = View(Condition("spair"), data, nothing, nothing, matches=lambda layer: rows)
    gate = Gated()
    suite.test_keypoints(SimpleNamespace(on=lambda role: view), gate, "spair")
    found = {f.condition.dataset: f.value for f in gate.figures if f.condition is not None}
    assert found == {
        "spair": pytest.approx((3 / 4 + 1 / 2) / 2),
        "spair:easy": pytest.approx((2 / 2 + 0 / 1) / 2),
        "spair:hard": pytest.approx((1 / 2 + 1 / 1) / 2),
    }
    assert {f.metric for f in gate.figures} == {"pck_at_0.1"}

"""Pictures of matches: colours say what is right, the worst pairs come first."""

from __future__ import annotations

import shlex
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


def test_a_picture_that_is_higher_than_wide_keeps_its_shape() -> None:
    dark, light = (torch.full((3, 64, 32), grey, dtype=torch.uint8) for grey in (40, 200))
    # From (4, 10) to (20, 10), where (20, 50) would be right; four and a half times as large.
    found = np.array([[4.0, 10.0, 20.0, 10.0, 20.0, 50.0, 0.5, 1.0]])
    image = matches.draw_matches((dark, light), found, np.array([False]))
    assert image.size == (2 * 288 + 8, 288)
    assert (image.getpixel((140, 280)), image.getpixel((150, 280))) == ((40,) * 3, (255,) * 3)
    assert (image.getpixel((296, 280)), image.getpixel((439, 280))) == ((200,) * 3,) * 2
    assert image.getpixel((441, 280)) == (255,) * 3
    for place in ((18, 45), (296 + 90, 45), (200, 45), (296 + 90, 225 + 4), (296 + 90, 225 - 4)):
        assert image.getpixel(place) == matches.WRONG, place
    # Discs three pixels about each end, with a white edge.
    for x, y in ((18, 45), (386, 45)):
        for edge in ((x - 3, y), (x + 3, y), (x, y - 3), (x, y + 3)):
            assert image.getpixel(edge) in ((255,) * 3, matches.WRONG)
        assert image.getpixel((x, y - 3)) == image.getpixel((x, y + 3)) == (255,) * 3
        assert image.getpixel((x, y - 4)) == image.getpixel((x, y + 4)) != (255,) * 3
    assert image.getpixel((200, 44)) == image.getpixel((200, 46)) == (255,) * 3
    # The white edge of a line is one pixel wide; a ring is four from its middle, on every side.
    assert image.getpixel((100, 43)) == image.getpixel((100, 47)) == (40,) * 3
    for x, y in ((386 - 4, 225), (386 + 4, 225), (386, 225 - 4), (386, 225 + 4)):
        assert image.getpixel((x, y)) == matches.WRONG
    for x, y in ((386 - 5, 225), (386 + 5, 225), (386, 225 - 5), (386, 225 + 5)):
        assert image.getpixel((x, y)) == (200,) * 3
    assert image.getpixel((296 + 90, 225)) == (200,) * 3  # a ring is open
    right = matches.draw_matches((dark, light), found, np.array([True]))
    assert right.getpixel((296 + 90, 229)) == (200,) * 3  # and what is right has none


def test_of_many_matches_24_are_drawn_all_over_the_picture() -> None:
    grey = torch.full((3, 288, 288), 128, dtype=torch.uint8)
    heights = [4.0 + 7 * i for i in range(41)]
    found = np.array([[30.0, y, 100.0, y, 100.0, y, 0.5, 1.0] for y in reversed(heights)])
    image = matches.draw_matches((grey, grey), found, np.ones(41, dtype=np.bool_))
    drawn = [i for i, y in enumerate(heights) if image.getpixel((30, int(y))) == matches.RIGHT]
    assert len(drawn) == 24
    assert (drawn[0], drawn[-1]) == (0, 40)
    assert set(np.diff(drawn)) == {1, 2}
    # Those that are wrong lie on top.
    twice = matches.draw_matches((grey, grey), found[[0, 0]], np.array([False, True]))
    assert twice.getpixel((30, 284)) == matches.WRONG


def test_pairs_stand_two_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    view = view_of([0.0, 50.0], [0.0], [50.0])
    view.data = "data"
    drawn: list[tuple[Any, Any, list[bool]]] = []

    def load(data: str, rows: list[int]) -> Any:
        assert data == "data"
        first, second = ([f"{side} {row}" for row in rows] for side in ("first", "second"))
        return SimpleNamespace(
            first=SimpleNamespace(images=first), second=SimpleNamespace(images=second)
        )

    def draw(pictures: Any, found: Any, right: Any) -> Image.Image:
        drawn.append((pictures, found, right.tolist()))
        return Image.new("RGB", (584, 288), (0, 0, len(drawn)))

    monkeypatch.setattr(matches, "load_pairs", load)
    monkeypatch.setattr(matches, "draw_matches", draw)
    sheet = matches.draw_pairs(view, [2, 0, 1], -1, 10.0)
    assert [pictures for pictures, _, _ in drawn] == [
        (f"first {row}", f"second {row}") for row in (2, 0, 1)
    ]
    assert [right for _, _, right in drawn] == [[False], [True, False], [True]]
    assert sheet.size == (1200, 2 * 326)
    for number, (x, y) in enumerate(((8, 30), (608, 30), (8, 356)), start=1):
        assert sheet.getpixel((x, y)) == sheet.getpixel((x + 583, y + 287)) == (0, 0, number)
        outside = ((x - 1, y), (x + 584, y), (x, y + 288))
        assert all(sheet.getpixel(place) == (255,) * 3 for place in outside)
        title = sheet.crop((x, y - 22, x + 584, y)).convert("L")
        assert min(title.tobytes()) < 50
    assert sheet.crop((608, 334, 1200, 652)).getextrema() == ((255, 255),) * 3
    assert matches.draw_pairs(view, [0], -1, 10.0).size == (600, 326)


def test_a_missed_bound_shows_the_worst_pairs_and_a_command() -> None:
    view = view_of([0.0] * 2, [50.0, 0.0, 50.0])
    view.data = SimpleNamespace(name="navi:v1", source="navi:my photos")
    config = SimpleNamespace(
        source=lambda model: f"models/{model}", pretrained=None, profile="quick"
    )
    clip: Any = SimpleNamespace(config=config, model="mine")
    verdict: Any = None
    evidence = matches.explained(clip, view, 3)(verdict)
    assert evidence.lines == (
        ("worst", "p1: 1 of 3 matches right (within 10 px), views 10° apart"),
    )
    assert evidence.parameters == {}
    words = ["cliprobust", "matches", "--clip-model=models/mine", "--clip-data=navi:my photos"]
    words += ["--clip-profile=quick", "--layer=3", "--sample=p1"]
    assert shlex.split(evidence.reproduction) == words
    config.pretrained = "openai"
    view.data = SimpleNamespace(name="spair:test", root="there")
    again = shlex.split(matches.explained(clip, view)(verdict).reproduction)
    assert again[3:5] == ["--clip-pretrained=openai", "--clip-data=spair:there"]
    view.data = SimpleNamespace(name="mine")
    assert "--clip-data=mine" in matches.explained(clip, view)(verdict).reproduction


def test_a_part_of_the_pairs_shows_its_own() -> None:
    view = view_of([0.0] * 2, [50.0] * 2, [0.0, 50.0], [50.0, 50.0, 0.0])
    view.data = SimpleNamespace(name="mine")
    config = SimpleNamespace(source=str, pretrained=None, profile="quick")
    clip: Any = SimpleNamespace(config=config, model="mine")
    verdict: Any = None
    assert matches.worst_pairs(view, -1, 10.0, among=[0, 2]) == [2, 0]
    assert matches.worst_pairs(view, -1, 10.0, among=np.array([3, 2])) == [3, 2]
    evidence = matches.explained(clip, view, -1, [0, 2])(verdict)
    assert evidence.lines[0][1].startswith("p2: 1 of 2 matches right")
    assert shlex.split(evidence.reproduction)[-1] == "--sample=p2"


def test_half_of_the_pairs_shown_are_the_worst_and_half_the_middle_ones() -> None:
    # Of pair i all but i matches are right.
    view = view_of(*[[50.0] * i + [0.0] * (20 - i) for i in range(20)])
    assert matches.worst_pairs(view, -1, 10.0) == [19, 18, 17, 11, 10, 9]
    assert matches.worst_pairs(view, -1, 10.0, count=5) == [19, 18, 17, 10, 9]
    # What is as far as the limit is beyond it.
    assert matches.described(view_of([10.0, 9.9]), 0, -1, 10.0).startswith("1 of 2 matches")
    even = view_of([0.0])
    even.limits = (40.0, 5.0, 20.0, 10.0)
    assert matches.middle_limit(even) == 20.0


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

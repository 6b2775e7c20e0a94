"""How sprites are made of drawings: the parts that need no network and no renderer."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_cliprobust.embedded import build
from pytest_cliprobust.embedded.build import (
    IconSet,
    alpha_box,
    caption,
    crop,
    fill_paper,
    grow,
    render,
    shrink,
    training_image,
    write_zip,
)


def icons(folder: Path, classes: dict[str, Any]) -> IconSet:
    """Return a set of four icons and two aliases."""
    data = {
        "width": 24,
        "icons": {
            "red-apple": {"body": "<a/>", "left": 1, "height": 20},
            "T-shirt": {"body": "<b/>"},
            "cat": {"body": "<c/>"},
            "ox": {"body": "<d/>"},
        },
        "aliases": {"apple": {"parent": "fruit"}, "fruit": {"parent": "red-apple"}},
    }
    (folder / "icons.json").write_text(json.dumps(data))
    return IconSet(folder, "own", {"monochrome": True}, classes)


def test_an_icon_is_found_by_name_alias_or_letters(tmp_path: Path) -> None:
    classes = {"icons": {"own": {"bull": "ox", "cow": "none"}}, "skip": {"own": ["cat"]}}
    found = icons(tmp_path, classes)
    assert found.icon("red-apple") == found.icon("apple") == found.icon("fruit") == "red-apple"
    assert found.icon("t-shirt") == "T-shirt"
    assert found.icon("bull") == "ox"
    assert found.icon("cat") is None
    assert found.icon("dog") is None
    assert found.monochrome
    with pytest.raises(SystemExit, match="renames cow to none, which does not exist"):
        found.icon("cow")
    assert found.svg("red-apple") == ("<a/>", (1.0, 0.0, 24.0, 20.0))
    assert found.svg("cat") == ("<c/>", (0.0, 0.0, 24.0, 16.0))


def drawn(*rows: str) -> Any:
    """Return a picture whose ink stands where a letter does: x black, h half as dense, f just not seen."""
    density = {"x": 255, "h": 128, "f": build.FAINT - 1, "F": build.FAINT, ".": 0}
    alpha = np.array([[density[letter] for letter in row] for row in rows], np.uint8)
    return np.dstack([np.zeros((*alpha.shape, 3), np.uint8), alpha])


def test_a_drawing_is_cut_to_what_is_seen() -> None:
    picture = drawn("f....", "..F..", "..xx.", ".....")
    assert alpha_box(picture) == (2, 1, 4, 3)
    assert np.array_equal(crop(picture), picture[1:3, 2:4])
    assert alpha_box(drawn("x")) == (0, 0, 1, 1)
    with pytest.raises(ValueError, match="nothing visible"):
        alpha_box(drawn("f."))


def test_a_mask_grows_to_its_four_neighbours() -> None:
    mask = np.zeros((4, 5), bool)
    mask[1, 1] = mask[3, 4] = True
    wanted = [".x...", "xxx..", ".x..x", "...xx"]
    assert ["".join(".x"[v] for v in row) for row in grow(mask).astype(int)] == wanted
    assert mask.sum() == 2


def test_what_outlines_enclose_is_paper() -> None:
    picture = drawn("..xxx....", "..x.x.xx.", "..xhx..x.", "....x....")
    filled = fill_paper(picture)
    # The hole is white; its soft edge is laid over white; what is open to the outside stays as it is.
    assert filled[1, 3].tolist() == [255, 255, 255, 255]
    assert filled[2, 3].tolist() == [127, 127, 127, 255]
    assert np.array_equal(filled[:, 5:], picture[:, 5:])
    assert np.array_equal(filled[:, :2], picture[:, :2])
    assert (filled[0, 2:5, :3] == 0).all()
    ring = drawn("xxxxx", "x...x", "x.x.x", "x...x", "xxxxx")
    assert (fill_paper(ring)[..., 3] == 255).all()
    opened = drawn("xx.xx", "x...x", "xxxxx")
    assert np.array_equal(fill_paper(opened), opened)


@pytest.mark.parametrize(
    ("size", "longest", "wanted"),
    [
        ((40, 20), 10, (10, 5)),
        ((20, 40), 10, (5, 10)),
        ((100, 1), 10, (10, 1)),
        ((9, 9), 9, (9, 9)),
    ],
)
def test_the_longer_side_is_what_is_asked_for(
    size: tuple[int, int], longest: int, wanted: tuple[int, int]
) -> None:
    picture = np.full((*size, 4), 255, np.uint8)
    picture[..., 1:3] = 0
    small = shrink(picture, longest)
    assert small.shape == (*wanted, 4)
    assert (small == [255, 0, 0, 255]).all()


def test_colours_of_what_is_not_seen_make_no_fringe() -> None:
    picture = np.zeros((32, 32, 4), np.uint8)
    picture[..., 1] = 255  # green, and not seen
    picture[:, 16:] = (255, 0, 0, 255)
    small = shrink(picture, 8)
    assert (small[small[..., 3] > 0][:, 1] <= 1).all()


def test_a_training_picture_is_centred() -> None:
    made = training_image(np.full((50, 100, 4), 255, np.uint8))
    assert made.shape == (build.TRAINING_SIDE, build.TRAINING_SIDE, 4)
    left, top, right, bottom = alpha_box(made)
    side = build.TRAINING_OBJECT_SIDE
    assert (right - left, bottom - top) == (side, side // 2)
    assert left == build.TRAINING_SIDE - right
    assert top == (build.TRAINING_SIDE - bottom) - 1  # of an odd rest the smaller half


def test_articles_and_nouns() -> None:
    classes = {
        "label": [
            {"name": "cat", "article": "a", "label": "kitten"},
            {"name": "owl", "article": "an", "label": "owl"},
        ],
        "training_only": {"nouns": {"ox": "bull"}, "articles": {"scissors": "a pair of"}},
    }
    wanted = {
        "owl": ("an", "owl"),
        "cat": ("a", "kitten"),
        "ox": ("a", "bull"),
        "ice-cream": ("an", "ice cream"),
        "scissors": ("a pair of", "scissors"),
        "red-hat": ("a", "red hat"),
    }
    assert {name: caption(classes, name) for name in wanted} == wanted


def test_a_zip_depends_on_its_entries_alone(tmp_path: Path) -> None:
    one, two = tmp_path / "a" / "one.zip", tmp_path / "two.zip"
    write_zip(one, {"b": b"2", "a": b"1"})
    write_zip(two, {"a": b"1", "b": b"2"})
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as found:
        told = [
            (i.filename, i.external_attr >> 16, i.create_system, i.compress_type)
            for i in found.infolist()
        ]
        assert told == [(name, 0o644, 3, zipfile.ZIP_STORED) for name in "ab"]
        assert found.read("b") == b"2"


def test_what_is_seen_is_drawn_at_its_full_size() -> None:
    """A square of a quarter of the side, in a view of 10 by 20 that begins at (−2, 4)."""
    pytest.importorskip("resvg_py")
    made = render('<rect x="3" y="9" width="5" height="5"/>', (-2.0, 4.0, 10.0, 20.0))
    assert made.shape == (build.SPRITE_SIDE, build.SPRITE_SIDE, 4)
    assert (made[..., 3] == 255).mean() > 0.98
    wide = render('<rect x="0" y="9" width="8" height="2" fill="red"/>', (-2.0, 4.0, 10.0, 20.0))
    assert wide.shape[1] == pytest.approx(build.SPRITE_SIDE, abs=1)  # cut to what is seen
    assert wide.shape[0] == pytest.approx(build.SPRITE_SIDE / 4, abs=2)
    assert wide[wide.shape[0] // 2, 5].tolist() == [255, 0, 0, 255]

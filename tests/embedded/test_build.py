"""How sprites are made of drawings: the parts that need no network and no renderer."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor

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


# --- The whole of it, of tables and sets of four things --------------------------------------------

TABLES: dict[str, Any] = {
    "classes.toml": {
        "label": [
            {"name": "cat", "label": "cat", "article": "a", "category": "animal"},
            {"name": "owl", "label": "owl", "article": "an", "category": "animal"},
        ],
        "near_ood": [{"name": "ox", "label": "ox", "article": "an", "category": "animal"}],
        "far_ood": {"signs": ["stop"], "flags": ["red-flag"]},
        "training_only": {"names": ["old-hat"], "nouns": {}, "articles": {}},
        "icons": {},
        "skip": {"ink": ["owl"]},
    },
    "styles.toml": {
        "style": {
            "plain": {"package": "@set/plain", "version": "1.0", "split": "held-out"},
            "ink": {"package": "@set/ink", "version": "2.5", "split": "train"},
        }
    },
    "clipart.toml": {"clipart": {"owl": ["a/owl.svg", "owl2.svg"], "cat": ["cat.svg"]}},
}
for _name, _table in TABLES["styles.toml"]["style"].items():
    _table |= {"monochrome": _name == "ink", "licence": f"L-{_name}", "author": f"by {_name}"}

NAMES = ("cat", "owl", "ox", "stop", "red-flag", "old-hat")


def flat(svg: str, width: int | None = None) -> bytes:
    """Return what resvg makes of rectangles, which end at whole pixels: a PNG."""
    box = [float(v) for v in re.findall(r'viewBox="([^"]*)"', svg)[0].split()]
    told = [float(v) for v in re.findall(r'<svg[^>]*? width="([\d.]+)" height="([\d.]+)"', svg)[0]]
    size = (width, round(told[1] * width / told[0])) if width else (int(told[0]), int(told[1]))
    canvas = np.zeros((size[1], size[0], 4), np.uint8)
    for rect in re.findall(
        r'<rect x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)" fill="(\w+)"', svg
    ):
        x, y, w, h = map(float, rect[:4])
        left, right = ((v - box[0]) * size[0] / box[2] for v in (x, x + w))
        top, bottom = ((v - box[1]) * size[1] / box[3] for v in (y, y + h))
        area = (slice(*(max(0, round(v)) for v in pair)) for pair in ((top, bottom), (left, right)))
        canvas[tuple(area)] = (*ImageColor.getrgb(rect[4]), 255)
    content = io.BytesIO()
    Image.fromarray(canvas).save(content, "png")
    return content.getvalue()


def rect(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}"/>'


def page(body: str, author: str = "") -> str:
    """Return an SVG file of 100 by 50."""
    told = f"<dc:creator><cc:Agent><dc:title>{author}</dc:title></cc:Agent></dc:creator>"
    return f'<svg viewBox="0 0 100 50" width="100" height="50">{told}{body}</svg>'


class Publisher:
    """In place of npm, apt-get and dpkg-deb: notes what is asked for, and leaves small packages."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.version: str | None = None

    def icons(self, style: str) -> dict[str, Any]:
        """Each thing is a rectangle of its own shape; in ink, an outline about nothing."""
        found = {}
        for number, name in enumerate(NAMES, start=1):
            body = rect(2, 3, 2 * number, 10, "red")
            if style == "ink":
                body = rect(2, 2, 12, 2, "black") + rect(2, 12, 12, 2, "black")
                body += rect(2, 2, 2, 12, "black") + rect(12, 2, 2, 12, "black")
            found[name] = {"body": body}
        return {"width": 16, "height": 16, "icons": found}

    def run(self, command: list[str], *, cwd: Path | None = None, check: bool) -> None:
        assert check  # a download that failed must not go on
        self.asked.append(command)
        if command[0] == "npm":
            name, _, version = command[2].rpartition("@")
            style = name.rpartition("/")[2]
            files = {
                "package/icons.json": self.icons(style),
                "package/package.json": {"version": self.version or version},
                "package/deeper/icons.json": {},
                "icons.json": {},
            }
            assert cwd is not None
            with tarfile.open(cwd / f"iconify-json-{style}-{version}.tgz", "w:gz") as tar:
                for path, value in files.items():
                    content = json.dumps(value).encode()
                    info = tarfile.TarInfo(path)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
                folder = tarfile.TarInfo("package/empty")
                folder.type = tarfile.DIRTYPE
                tar.addfile(folder)
        elif command[0] == "apt-get":
            assert cwd is not None
            (cwd / "openclipart-svg_0.18_all.deb").touch()
        else:
            svg = Path(command[3]) / "usr" / "share" / "openclipart" / "svg"
            (svg / "a").mkdir(parents=True)
            (svg / "a" / "owl.svg").write_text(page(rect(10, 10, 25, 12.5, "blue"), "Ann &amp; Bo"))
            (svg / "owl2.svg").write_text(page(rect(0, 0, 100, 50, "lime")))
            (svg / "cat.svg").write_text(page(rect(40, 10, 10, 40, "red"), "  Cy  "))


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Publisher:
    found = Publisher()
    pages: list[int] = []

    def svg_to_bytes(
        *,
        svg_string: str = "",
        svg_path: str = "",
        width: int | None = None,
        skip_system_fonts: bool,
        dpi: int = 96,
    ) -> bytes:
        assert skip_system_fonts
        pages.append(width or 0)
        return flat(svg_string or Path(svg_path).read_text(), width)

    renderer: Any = types.ModuleType("resvg_py")
    renderer.svg_to_bytes, renderer.pages = svg_to_bytes, pages
    monkeypatch.setitem(sys.modules, "resvg_py", renderer)
    monkeypatch.setattr(subprocess, "run", found.run)
    monkeypatch.setattr(build, "read_table", TABLES.__getitem__)
    monkeypatch.setattr(build, "DATA", tmp_path / "data")
    return found


def sprites_in(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        return {
            name: np.asarray(Image.open(io.BytesIO(archive.read(name))))
            for name in archive.namelist()
        }


def test_the_trainer_gets_every_thing_in_every_style(publisher: Publisher, tmp_path: Path) -> None:
    build.build(tmp_path / "work", training_only=True)
    assert publisher.asked == [["npm", "pack", "@set/plain@1.0"], ["npm", "pack", "@set/ink@2.5"]]
    assert not (tmp_path / "data").exists()
    with np.load(tmp_path / "work" / "training_sprites.npz") as found:
        rows = list(zip(*(found[n].tolist() for n in found.files if n != "image"), strict=True))
        assert found["image"].shape == (2, build.TRAINING_SIDE, build.TRAINING_SIDE, 4)
        assert set(found.files) == {"image", "style", "name", "article", "caption", "is_label"}
        # The outline is closed: what is within is paper.
        assert found["image"][1, 48, 48].tolist() == [255, 255, 255, 255]
    # That style is to leave the owl out.
    assert rows == [
        ("ink", "cat", "a", "cat", True),
        ("ink", "old-hat", "an", "old hat", False),
    ]
    with np.load(tmp_path / "work" / "heldout_sprites.npz") as found:
        assert found["name"].tolist() == ["cat", "owl"]
        assert found["style"].tolist() == ["plain", "plain"]
        shapes = [alpha_box(image) for image in found["image"]]
        sides = [(right - left, bottom - top) for left, top, right, bottom in shapes]
        assert sides == [(18, 90), (36, 90)]  # 2 and 4 by 10
        assert found["image"][1, 48, 48].tolist() == [255, 0, 0, 255]
    assert not list((tmp_path / "work").glob("partial*"))


def test_what_ships_is_in_zips_with_its_origin(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "data" / "sprites" / "gone.zip"
    old.parent.mkdir(parents=True)
    old.touch()
    build.build(tmp_path / "work", training_only=False)
    folder = tmp_path / "data" / "sprites"
    found = {path.stem: sprites_in(path) for path in folder.glob("*.zip")}
    assert {name: sorted(own) for name, own in found.items()} == {
        "plain": ["cat.webp", "owl.webp"],
        "ink": ["cat.webp"],
        "near_ood": ["plain/ox.webp"],
        "far_ood": ["plain/red-flag.webp", "plain/stop.webp"],
        "clipart": ["cat/00.webp", "owl/00.webp", "owl/01.webp"],
    }
    assert found["near_ood"]["plain/ox.webp"].shape[1] == round(224 * 6 / 10)
    assert found["clipart"]["owl/01.webp"].shape[:2] == (112, 224)
    assert found["clipart"]["cat/00.webp"].shape[:2] == (224, 56)
    rows = list(csv.DictReader((tmp_path / "data" / "provenance.csv").open(newline="")))
    assert list(rows[0]) == list(build.COLUMNS)
    entries = [row["entry"] for row in rows]
    assert entries == sorted(f"sprites/{a}.zip/{e}" for a, own in found.items() for e in own)
    told = {row["entry"].removeprefix("sprites/"): row for row in rows}
    for entry, origin in {
        "far_ood.zip/plain/stop.webp": ("plain", "stop", "@set/plain", "1.0", "stop", "L-plain"),
        "clipart.zip/owl/01.webp": (
            *("clipart", "owl", "openclipart-svg", build.CLIPART_VERSION, "owl2.svg", "CC-PDDC"),
        ),
    }.items():
        columns = ("style", "class", "package", "version", "source", "licence")
        assert tuple(told[entry][column] for column in columns) == origin
    assert told["ink.zip/cat.webp"]["author"] == "by ink"
    assert told["clipart.zip/owl/00.webp"]["author"] == "Ann & Bo"
    assert told["clipart.zip/cat/00.webp"]["author"] == "Cy"
    unknown = told["clipart.zip/owl/01.webp"]["author"]
    assert unknown == "unknown (Open Clip Art Library)"
    with zipfile.ZipFile(folder / "clipart.zip") as archive:
        content = archive.read("owl/00.webp")
    assert told["clipart.zip/owl/00.webp"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert capsys.readouterr().out.startswith("9 sprites, 0.0 MiB in ")
    assert [command[:2] for command in publisher.asked[2:]] == [
        ["apt-get", "download"],
        ["dpkg-deb", "-x"],
    ]
    # Nothing is fetched or rendered twice, and the same comes of it.
    before = {path.name: path.read_bytes() for path in folder.glob("*.zip")}
    publisher.asked.clear()
    pages = sys.modules["resvg_py"].pages
    pages.clear()
    build.build(tmp_path / "work", training_only=False)
    assert (publisher.asked, pages) == ([], [])
    assert {path.name: path.read_bytes() for path in folder.glob("*.zip")} == before


def test_a_package_of_another_version_is_refused(publisher: Publisher, tmp_path: Path) -> None:
    publisher.version = "1.1"
    with pytest.raises(SystemExit, match=r"plain holds version 1\.1, styles\.toml asks for 1\.0"):
        build.fetch_icon_set(tmp_path, "@set/plain", "1.0")


@pytest.mark.parametrize(
    ("drawing", "widths"),
    [
        ((10, 10, 25, 12.5), [448, 1792]),  # a quarter of the page: four times the probe
        ((0, 0, 50, 50), [448, 896]),  # the longer side counts
        ((60, 0, 5, 5), [448, 3584]),  # never more than eight times
    ],
)
def test_a_small_drawing_on_a_page_is_drawn_larger(
    publisher: Publisher,
    tmp_path: Path,
    drawing: tuple[float, float, float, float],
    widths: list[int],
) -> None:
    path = tmp_path / "x.svg"
    path.write_text(page(rect(*drawing, "blue")))
    made = build.render_clipart(tmp_path, path)
    assert sys.modules["resvg_py"].pages == widths
    assert max(made.shape[:2]) == build.SPRITE_SIDE
    assert made.shape[0] / made.shape[1] == pytest.approx(drawing[3] / drawing[2], rel=0.02)
    assert (made == [0, 0, 255, 255]).all()


def test_a_rendering_is_made_once(tmp_path: Path) -> None:
    picture = np.zeros((3, 4, 4), np.uint8)
    picture[1, 2] = (1, 2, 3, 255)
    made: list[int] = []

    def make() -> Any:
        made.append(1)
        return picture

    for key, count in (("a", 1), ("a", 1), ("b", 2), ("a", 2)):
        assert np.array_equal(build.cached(tmp_path, key, make), picture)
        assert len(made) == count
    assert sorted(path.suffix for path in (tmp_path / "rendered").iterdir()) == [".png", ".png"]


def test_a_sprite_keeps_its_mask_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    picture = np.full((40, 30, 4), 200, np.uint8)
    picture[..., 3] = rng.integers(0, 256, (40, 30))
    found = np.asarray(Image.open(io.BytesIO(build.encode(picture))))
    assert np.array_equal(found[..., 3], picture[..., 3])
    shown = picture[..., 3] > 127
    assert abs(found[shown][:, :3].astype(int) - 200).mean() < 12


def test_progress_is_one_line_of_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build.progress(1, 2, "sprites")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    build.progress(1, 2, "sprites")
    build.progress(2, 2, "sprites")
    assert capsys.readouterr().err == "\rsprites: 1/2\rsprites: 2/2\n"


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ([], (Path("build/embedded"), False)),
        (["--work", "x", "--training-only"], (Path("x"), True)),
    ],
)
def test_the_command_line(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], asked: tuple[Path, bool]
) -> None:
    found: list[tuple[Path, bool]] = []
    monkeypatch.setattr(
        build, "build", lambda work, training_only: found.append((work, training_only))
    )
    monkeypatch.setattr(sys, "argv", ["build", *arguments])
    build.main()
    assert found == [asked]


@pytest.mark.parametrize(
    ("content", "author"),
    [
        ("<svg/>", "unknown (Open Clip Art Library)"),
        ("<dc:title>A cat</dc:title>", "unknown (Open Clip Art Library)"),
        (
            "<dc:title>A cat</dc:title>\n<dc:creator id='1'>\n<cc:Agent><dc:title>\n Ann &lt;a@b&gt; \n"
            "</dc:title></cc:Agent></dc:creator><dc:creator><dc:title>Bo</dc:title></dc:creator>",
            "Ann <a@b>",
        ),
        ("<dc:creator><dc:title>caf\xe9</dc:title></dc:creator>", "caf\ufffd"),
    ],
)
def test_the_author_is_the_one_that_the_drawing_names(
    tmp_path: Path, content: str, author: str
) -> None:
    path = tmp_path / "x.svg"
    path.write_bytes(content.encode("latin-1"))
    assert build.clipart_author(path) == author

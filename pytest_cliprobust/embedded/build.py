"""Remake the sprites of the embedded benchmark from the published icon packages.

``python -m pytest_cliprobust.embedded.build --work DIR`` fetches the icon sets with ``npm pack`` and
Debian's openclipart with ``apt-get download`` (unless they are in ``DIR`` already), renders every icon
that the tables ``classes.toml``, ``styles.toml`` and ``clipart.toml`` ask for, and writes

* ``data/sprites/*.zip`` and ``data/provenance.csv``, which ship in the package, and
* ``DIR/training_sprites.npz`` and ``DIR/heldout_sprites.npz``, which the trainer of the reference
  model reads and which do not ship.

It is a maintainer's tool: it alone needs ``resvg_py``, ``npm`` and ``apt-get``.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

HERE = Path(__file__).parent
DATA = HERE / "data"

#: Longest side of a shipped sprite, in pixels: the usual input size of a CLIP image encoder.
SPRITE_SIDE = 224
#: Side of the trainer's square images and the longest side of the sprite centred in them.
TRAINING_SIDE, TRAINING_OBJECT_SIDE = 96, 90
#: Lossy colour, lossless alpha: the mask has to stay exact.
WEBP: dict[str, Any] = {"quality": 88, "alpha_quality": 100, "method": 6}
#: Pixels fainter than this (of 255) do not count for the bounding box: stray anti-aliasing.
FAINT = 8
ZIP_TIME = (1980, 1, 1, 0, 0, 0)
CLIPART_PACKAGE = "openclipart-svg"
CLIPART_VERSION = "1:0.18+dfsg-19"

Pixels = npt.NDArray[np.uint8]
"""An image, uint8, (H, W, 4), straight alpha."""


@dataclass(frozen=True)
class Rendered:
    """One sprite with where it came from."""

    entry: str
    style: str
    name: str
    source: str
    pixels: Pixels


def read_table(name: str) -> dict[str, Any]:
    """One of the TOML tables that stand beside this file."""
    with (HERE / name).open("rb") as file:
        return tomllib.load(file)


def progress(done: int, total: int, what: str) -> None:
    """Overwrite one line on standard error."""
    end = "\n" if done == total else ""
    print(f"\r{what}: {done}/{total}", end=end, file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------ fetching


def fetch_icon_set(work: Path, package: str, version: str) -> Path:
    """Folder of one unpacked Iconify package, fetched first where it is missing."""
    short = package.split("/")[-1]
    folder = work / "npm" / short
    if not (folder / "icons.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", f"{package}@{version}"], cwd=folder.parent, check=True)
        archive = folder.parent / f"iconify-json-{short}-{version}.tgz"
        with tarfile.open(archive) as tar:
            for member in tar.getmembers():
                # flat files only; npm puts them under "package/"
                if member.isfile() and member.name.count("/") == 1:
                    content = tar.extractfile(member)
                    assert content is not None
                    (folder / Path(member.name).name).write_bytes(content.read())
    found = json.loads((folder / "package.json").read_text())["version"]
    if found != version:
        raise SystemExit(f"{folder} holds version {found}, styles.toml asks for {version}")
    return folder


def fetch_clipart(work: Path) -> Path:
    """Folder of openclipart's SVG files, fetched first where it is missing."""
    folder = work / "clip"
    svg = folder / "usr" / "share" / "openclipart" / "svg"
    if not svg.exists():
        folder.mkdir(parents=True, exist_ok=True)
        wanted = f"{CLIPART_PACKAGE}={CLIPART_VERSION}"
        subprocess.run(["apt-get", "download", wanted], cwd=folder, check=True)
        archive = next(folder.glob(f"{CLIPART_PACKAGE}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True)
    return svg


# ------------------------------------------------------------------------------ icon sets


def letters(name: str) -> str:
    """A name reduced to its letters and digits; two of the sets spell without hyphens."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


class IconSet:
    """One Iconify package, addressed by the CLDR short names of ``classes.toml``."""

    def __init__(self, folder: Path, style: str, classes: Mapping[str, Any]) -> None:
        self._data = json.loads((folder / "icons.json").read_text())
        self._icons: dict[str, Any] = self._data["icons"]
        self._aliases: dict[str, Any] = self._data.get("aliases", {})
        self._renamed: dict[str, str] = classes["icons"].get(style, {})
        self._skipped = frozenset(classes["skip"].get(style, ()))
        self._by_letters = {letters(name): name for name in sorted(self._icons)}

    def icon(self, name: str) -> str | None:
        """The set's own icon name for a CLDR name, or None if it has (or should have) none."""
        if name in self._skipped:
            return None
        if name in self._renamed:
            found = self._renamed[name]
            if found not in self._icons:
                raise SystemExit(f"classes.toml renames {name} to {found}, which does not exist")
            return found
        while name in self._aliases:
            name = self._aliases[name]["parent"]
        return name if name in self._icons else self._by_letters.get(letters(name))

    def svg(self, icon: str) -> tuple[str, tuple[float, float, float, float]]:
        """Body and view box (left, top, width, height) of one icon."""
        entry = self._icons[icon]
        default = {"left": 0, "top": 0, "width": 16, "height": 16}
        box = [float(entry.get(k, self._data.get(k, default[k]))) for k in default]
        return entry["body"], (box[0], box[1], box[2], box[3])


# ------------------------------------------------------------------------------ rendering


def rasterise(svg: str) -> Pixels:
    """Render SVG markup at the size it states."""
    import resvg_py  # a build-time dependency only

    # no fonts: what a text element shows must not depend on the machine
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def alpha_box(pixels: Pixels) -> tuple[int, int, int, int]:
    """Tight bounding box (left, top, right, bottom) of what is not transparent."""
    solid = pixels[..., 3] >= FAINT
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    if not len(rows):
        raise ValueError("nothing visible")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def crop(pixels: Pixels) -> Pixels:
    """Cut to the tight bounding box."""
    left, top, right, bottom = alpha_box(pixels)
    return pixels[top:bottom, left:right]


def render(body: str, view_box: tuple[float, float, float, float], head: str = "") -> Pixels:
    """Render SVG content such that its visible part has ``SPRITE_SIDE`` as its longest side.

    The first pass finds the visible part, the second renders that part alone at its final size, so
    that nothing is ever enlarged.
    """
    left, top, width, height = view_box
    probe_scale = 4 * SPRITE_SIDE / max(width, height)

    def document(box: tuple[float, float, float, float], size: tuple[int, int]) -> str:
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'{head} viewBox="{box[0]:.5f} {box[1]:.5f} {box[2]:.5f} {box[3]:.5f}" '
            f'width="{size[0]}" height="{size[1]}" preserveAspectRatio="none" color="#000">'
            f"{body}</svg>"
        )

    size = (max(1, round(width * probe_scale)), max(1, round(height * probe_scale)))
    x0, y0, x1, y1 = alpha_box(rasterise(document(view_box, size)))
    sx, sy = width / size[0], height / size[1]
    box = (left + x0 * sx, top + y0 * sy, (x1 - x0) * sx, (y1 - y0) * sy)
    scale = SPRITE_SIDE / max(box[2], box[3])
    final = (max(1, round(box[2] * scale)), max(1, round(box[3] * scale)))
    return crop(rasterise(document(box, final)))


def grow(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Dilate by one pixel, to the four neighbours."""
    out = mask.copy()
    out[1:] |= mask[:-1]
    out[:-1] |= mask[1:]
    out[:, 1:] |= mask[:, :-1]
    out[:, :-1] |= mask[:, 1:]
    return out


def fill_paper(pixels: Pixels) -> Pixels:
    """Fill what a one-ink drawing's outlines enclose with white.

    A line drawing's own alpha is its ink: laid over a dark scene it would vanish, and its mask would
    be lines.  With paper inside, mask and silhouette are those of the thing.
    """
    free = np.pad(pixels[..., 3] < 128, 1, constant_values=True)
    outside = np.zeros_like(free)
    outside[0, :] = outside[-1, :] = outside[:, 0] = outside[:, -1] = True
    while True:
        reached = grow(outside) & free
        if (reached == outside).all():
            break
        outside = reached
    # one pixel into the ink, to cover its soft inner edge
    inside = grow(free & ~outside)[1:-1, 1:-1]
    alpha = pixels[..., 3:].astype(np.float32) / 255
    on_white = np.rint(pixels[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    out = pixels.copy()
    out[inside, :3] = on_white[inside]
    out[inside, 3] = 255
    return out


def render_icon(icons: IconSet, icon: str, monochrome: bool) -> Pixels:
    """One icon as a sprite: (H, W, 4), longest side ``SPRITE_SIDE``."""
    body, box = icons.svg(icon)
    pixels = render(body, box)
    return fill_paper(pixels) if monochrome else pixels


SVG_ROOT = re.compile(r"<svg\b(?P<attributes>[^>]*)>(?P<body>.*)</svg\s*>", re.DOTALL)
LENGTH = re.compile(r"\s*(-?[\d.]+(?:e-?\d+)?)\s*(px|pt|pc|mm|cm|in)?\s*$")
UNITS = {None: 1.0, "px": 1.0, "pt": 4 / 3, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96}


def render_clipart(path: Path) -> Pixels:
    """One clip-art file as a sprite: (H, W, 4), longest side ``SPRITE_SIDE``."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8", "replace")
    probe_svg = resized(text, 4 * SPRITE_SIDE, 4 * SPRITE_SIDE, None)
    return crop(probe_svg)


def resized(text: str, width: int, height: int, box: None) -> Pixels:
    """placeholder"""
    raise NotImplementedError


def shrink(pixels: Pixels, longest: int) -> Pixels:
    """Downsample to a longest side, filtering premultiplied colour so that no fringe appears."""
    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(pixels).convert("RGBa").resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image.convert("RGBA"))


def training_image(pixels: Pixels) -> Pixels:
    """The sprite centred in a transparent square, (96, 96, 4)."""
    small = shrink(pixels, TRAINING_OBJECT_SIDE)
    out = np.zeros((TRAINING_SIDE, TRAINING_SIDE, 4), np.uint8)
    top, left = ((TRAINING_SIDE - side) // 2 for side in small.shape[:2])
    out[top : top + small.shape[0], left : left + small.shape[1]] = small
    return out


# ------------------------------------------------------------------------------ the trainer's files


def caption(classes: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Article and noun of a label or training-only name."""
    for entry in classes["label"]:
        if entry["name"] == name:
            return entry["article"], entry["label"]
    training = classes["training_only"]
    noun = cast(str, training["nouns"].get(name, name.replace("-", " ")))
    article = "an" if noun[0] in "aeiou" else "a"
    return cast(str, training["articles"].get(name, article)), noun


def write_training_file(
    path: Path, classes: Mapping[str, Any], names: Iterable[str], sets: Mapping[str, Any]
) -> None:
    """Write one of the trainer's files: image, style, name, article, caption, is_label per row."""
    styles = read_table("styles.toml")["style"]
    jobs = [
        (style, name, icon)
        for style, icons in sets.items()
        for name in names
        if (icon := icons.icon(name)) is not None
    ]
    labels = {entry["name"] for entry in classes["label"]}
    images = np.zeros((len(jobs), TRAINING_SIDE, TRAINING_SIDE, 4), np.uint8)
    for index, (style, _, icon) in enumerate(jobs):
        pixels = render_icon(sets[style], icon, styles[style]["monochrome"])
        images[index] = training_image(pixels)
        progress(index + 1, len(jobs), path.name)
    captions = [caption(classes, name) for _, name, _ in jobs]
    np.savez(
        path,
        image=images,
        style=np.array([style for style, _, _ in jobs]),
        name=np.array([name for _, name, _ in jobs]),
        article=np.array([article for article, _ in captions]),
        caption=np.array([noun for _, noun in captions]),
        is_label=np.array([name in labels for _, name, _ in jobs]),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path)
    work = parser.parse_args().work
    classes = read_table("classes.toml")
    styles = read_table("styles.toml")["style"]
    labels = [e["name"] for e in classes["label"]]
    for split, file, names in (
        ("train", "training_sprites.npz", labels + classes["training_only"]["names"]),
        ("held-out", "heldout_sprites.npz", labels),
    ):
        sets = {
            s: IconSet(fetch_icon_set(work, t["package"], t["version"]), s, classes)
            for s, t in styles.items()
            if t["split"] == split
        }
        write_training_file(work / file, classes, names, sets)


if __name__ == "__main__":
    main()

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
import hashlib
import html
import io
import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

HERE = Path(__file__).parent
DATA = HERE / "data"

#: Longest side of a shipped sprite, in pixels: the usual input size of a CLIP image encoder.
SPRITE_SIDE = 224
#: Side of the first pass, which only finds where the drawing is.
PROBE_SIDE = 2 * SPRITE_SIDE
#: Names the way of rendering; a change to it voids ``DIR/rendered``.
RENDERING = "1"
#: Side of the trainer's square images and the longest side of the sprite centred in them.
TRAINING_SIDE, TRAINING_OBJECT_SIDE = 96, 90
#: Lossy colour, lossless alpha: the mask has to stay exact. Method 6 would save 0.4 % in sixty times
#: the time.
WEBP: dict[str, Any] = {"quality": 88, "alpha_quality": 100, "method": 5}
#: Pixels fainter than this (of 255) do not count for the bounding box: stray anti-aliasing.
FAINT = 8
ZIP_TIME = (1980, 1, 1, 0, 0, 0)
CLIPART_PACKAGE = "openclipart-svg"
CLIPART_VERSION = "1:0.18+dfsg-19"
COLUMNS = (
    "entry",
    "style",
    "class",
    "package",
    "version",
    "source",
    "licence",
    "author",
    "sha256",
)

Pixels = npt.NDArray[np.uint8]
"""An image, uint8, (H, W, 4), straight alpha."""


def read_table(name: str) -> dict[str, Any]:
    """One of the TOML tables that stand beside this file."""
    with (HERE / name).open("rb") as file:
        table: dict[str, Any] = tomllib.load(file)
    return table


def progress(done: int, total: int, what: str) -> None:
    """Overwrite one line on standard error; nothing unless that is a terminal."""
    if not sys.stderr.isatty():
        return
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

    def __init__(
        self, folder: Path, style: str, table: Mapping[str, Any], classes: Mapping[str, Any]
    ) -> None:
        self.style, self.table = style, table
        self.monochrome: bool = table["monochrome"]
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


def render(body: str, view_box: tuple[float, float, float, float]) -> Pixels:
    """Render SVG content such that its visible part has ``SPRITE_SIDE`` as its longest side.

    The first pass finds the visible part, the second renders that part alone at its final size, so
    that nothing is ever enlarged.
    """
    left, top, width, height = view_box
    probe_scale = PROBE_SIDE / max(width, height)

    def document(box: tuple[float, float, float, float], size: tuple[int, int]) -> str:
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{box[0]:.5f} {box[1]:.5f} {box[2]:.5f} {box[3]:.5f}" '
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
    out: npt.NDArray[np.bool_] = mask.copy()
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
    out: Pixels = pixels.copy()
    out[inside, :3] = on_white[inside]
    out[inside, 3] = 255
    return out


def cached(work: Path, key: str, make: Callable[[], Pixels]) -> Pixels:
    """A rendering, taken from ``DIR/rendered`` if the same was made before."""
    path = work / "rendered" / (hashlib.sha256(f"{RENDERING}{key}".encode()).hexdigest() + ".png")
    if path.exists():
        return np.asarray(Image.open(path))
    pixels = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    Image.fromarray(pixels).save(partial, "PNG")
    partial.replace(path)
    return pixels


def render_icon(work: Path, icons: IconSet, icon: str) -> Pixels:
    """One icon as a sprite: (H, W, 4), longest side ``SPRITE_SIDE``."""
    body, box = icons.svg(icon)

    def make() -> Pixels:
        pixels = render(body, box)
        return fill_paper(pixels) if icons.monochrome else pixels

    return cached(work, f"{body}{box}{icons.monochrome}", make)


def render_clipart(work: Path, path: Path) -> Pixels:
    """One clip-art file as a sprite: (H, W, 4), longest side ``SPRITE_SIDE``.

    Its page can have any size and hold a small drawing; so a first pass finds the drawing, and a
    second renders the page large enough to have it at twice the size wanted, at the least.
    """
    import resvg_py

    def page(width: int) -> Pixels:
        png = resvg_py.svg_to_bytes(svg_path=str(path), skip_system_fonts=True, dpi=96, width=width)
        return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))

    def make() -> Pixels:
        probe = page(PROBE_SIDE)
        left, top, right, bottom = alpha_box(probe)
        scale = 2 * SPRITE_SIDE / max(right - left, bottom - top)
        width = min(round(PROBE_SIDE * scale), 8 * PROBE_SIDE)
        return crop(shrink(crop(page(width)), SPRITE_SIDE))

    return cached(work, hashlib.sha256(path.read_bytes()).hexdigest(), make)


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
    work: Path,
    file: str,
    sets: Mapping[str, IconSet],
    classes: Mapping[str, Any],
    names: Sequence[str],
) -> None:
    """Write one of the trainer's files: image, style, name, article, caption, is_label per row."""
    jobs = [
        (style, name, icon)
        for style, icons in sets.items()
        for name in names
        if (icon := icons.icon(name)) is not None
    ]
    labels = {entry["name"] for entry in classes["label"]}
    images = np.zeros((len(jobs), TRAINING_SIDE, TRAINING_SIDE, 4), np.uint8)
    for index, (style, _, icon) in enumerate(jobs):
        images[index] = training_image(render_icon(work, sets[style], icon))
        progress(index + 1, len(jobs), file)
    captions = [caption(classes, name) for _, name, _ in jobs]
    partial = work / f"partial_{file}"
    np.savez(
        partial,
        image=images,
        style=np.array([style for style, _, _ in jobs]),
        name=np.array([name for _, name, _ in jobs]),
        article=np.array([article for article, _ in captions]),
        caption=np.array([noun for _, noun in captions]),
        is_label=np.array([name in labels for _, name, _ in jobs]),
    )
    partial.replace(work / file)  # in one step: the trainer may be waiting for it


# ------------------------------------------------------------------------------ what ships


def encode(pixels: Pixels) -> bytes:
    """A sprite as WebP."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", **WEBP)
    return buffer.getvalue()


def write_zip(path: Path, entries: Mapping[str, bytes]) -> None:
    """Write a zip whose bytes depend on the entries alone; stored, as WebP does not deflate."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(entries):
            info = zipfile.ZipInfo(name, ZIP_TIME)
            info.external_attr = 0o644 << 16
            info.create_system = 3
            archive.writestr(info, entries[name])


@dataclass
class Shipment:
    """What goes into ``data``: zips, and a row of provenance for each of their entries."""

    zips: dict[str, dict[str, bytes]] = field(default_factory=dict)
    rows: list[dict[str, str]] = field(default_factory=list)

    def add(self, archive: str, entry: str, pixels: Pixels, **origin: str) -> None:
        """Encode one sprite and note where it came from."""
        content = encode(pixels)
        self.zips.setdefault(archive, {})[entry] = content
        digest = hashlib.sha256(content).hexdigest()
        row = {"entry": f"sprites/{archive}.zip/{entry}", **origin, "sha256": digest}
        self.rows.append({column: row[column] for column in COLUMNS})

    def add_icon(self, archive: str, entry: str, icons: IconSet, name: str, work: Path) -> None:
        """Add the icon of one class in one style, if the set has it."""
        icon = icons.icon(name)
        if icon is None:
            return
        style = icons.table
        self.add(
            archive,
            entry,
            render_icon(work, icons, icon),
            style=icons.style,
            **{"class": name},
            package=style["package"],
            version=style["version"],
            source=icon,
            licence=style["licence"],
            author=style["author"],
        )

    def write(self) -> None:
        """Write the zips and the table of provenance."""
        for old in (DATA / "sprites").glob("*.zip"):
            old.unlink()
        for archive, entries in self.zips.items():
            write_zip(DATA / "sprites" / f"{archive}.zip", entries)
        with (DATA / "provenance.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(sorted(self.rows, key=lambda row: row["entry"]))


CREATOR = re.compile(
    r"<dc:creator\b.*?<dc:title>\s*(?P<name>[^<]*?)\s*</dc:title>.*?</dc:creator>", re.DOTALL
)


def clipart_author(path: Path) -> str:
    """The author that a clip-art file names in its metadata."""
    found = CREATOR.search(path.read_text(encoding="utf-8", errors="replace"))
    return (html.unescape(found["name"]) if found else "") or "unknown (Open Clip Art Library)"


def build(work: Path, training_only: bool) -> None:
    """Remake everything; with ``training_only`` just the trainer's files."""
    classes, styles = read_table("classes.toml"), read_table("styles.toml")["style"]
    sets = {
        style: IconSet(
            fetch_icon_set(work, table["package"], table["version"]), style, table, classes
        )
        for style, table in styles.items()
    }
    split = {
        wanted: {style: icons for style, icons in sets.items() if icons.table["split"] == wanted}
        for wanted in ("train", "held-out")
    }
    labels = [entry["name"] for entry in classes["label"]]
    trained = labels + classes["training_only"]["names"]
    write_training_file(work, "training_sprites.npz", split["train"], classes, trained)
    write_training_file(work, "heldout_sprites.npz", split["held-out"], classes, labels)
    if training_only:
        return

    shipment = Shipment()
    near = [entry["name"] for entry in classes["near_ood"]]
    far = [name for names in classes["far_ood"].values() for name in names]
    jobs = [(style, f"{name}.webp", style, name) for style in sets for name in labels]
    jobs += [
        (archive, f"{style}/{name}.webp", style, name)
        for archive, names in (("near_ood", near), ("far_ood", far))
        for style in split["held-out"]
        for name in names
    ]
    for index, (archive, entry, style, name) in enumerate(jobs):
        shipment.add_icon(archive, entry, sets[style], name, work)
        progress(index + 1, len(jobs), "sprites")

    clipart = read_table("clipart.toml")["clipart"]
    folder = fetch_clipart(work)
    for index, (name, files) in enumerate(clipart.items()):
        for number, file in enumerate(files):
            shipment.add(
                "clipart",
                f"{name}/{number:02d}.webp",
                render_clipart(work, folder / file),
                style="clipart",
                **{"class": name},
                package=CLIPART_PACKAGE,
                version=CLIPART_VERSION,
                source=file,
                licence="CC-PDDC",
                author=clipart_author(folder / file),
            )
        progress(index + 1, len(clipart), "clip art")
    shipment.write()
    total = sum(path.stat().st_size for path in (DATA / "sprites").glob("*.zip"))
    print(f"{len(shipment.rows)} sprites, {total / 2**20:.1f} MiB in {DATA / 'sprites'}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("build/embedded"), metavar="DIR")
    parser.add_argument("--training-only", action="store_true", help="just the trainer's files")
    arguments = parser.parse_args()
    build(arguments.work, arguments.training_only)


if __name__ == "__main__":
    main()

"""The published "image folder" layout: one folder per class, ``root/class/picture.jpg``.

Many benchmarks are distributed so (ImageNet-V2, -R, -A, -Sketch, ObjectNet …). An optional file
``root/classes.txt`` gives each folder a human name, one per line: folder, tab, name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import platformdirs
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from pytest_cliprobust.datasets.base import Batch, Frame
from pytest_cliprobust.datasets.registry import register_layout
from pytest_cliprobust.errors import ClipRobustError, did_you_mean
from pytest_cliprobust.files import own_name, replace_file

#: File name extensions that count as images, in lower case.
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})

_NAMES_FILE = "classes.txt"


def natural_key(text: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Return a sorting key that puts ``img2`` before ``img10``; case counts only between equals."""
    pieces = (piece for piece in re.split(r"(\d+)", text) if piece)
    key = tuple((0, int(p), "") if p.isdecimal() else (1, 0, p.lower()) for p in pieces)
    return key, text


def shortest_side(image: Tensor, size: int) -> Tensor:
    """Bring (3, H, W) uint8 to (3, size, size): bicubic to the shorter side, then the centre.

    It is what most CLIP models do, and serves where no target's own ``frame`` is given.
    """
    from torchvision.transforms.v2 import functional as V

    resized = V.resize(image, [size], interpolation=V.InterpolationMode.BICUBIC, antialias=True)
    framed: Tensor = V.center_crop(resized, [size, size])
    return framed


def read_image(path: Path) -> Tensor:
    """Read an image file as (3, H, W) uint8 RGB, turned the way its EXIF orientation says.

    Raises:
        ClipRobustError: the file is no image that PIL can decode; the message names it.
    """
    try:
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file)
            if upright.mode.startswith("I;16") or upright.mode == "I":
                # PIL clips 16-bit greys at 255; scale them instead.
                grey = (np.asarray(upright, dtype=np.int64) >> 8).clip(0, 255).astype(np.uint8)
                upright = Image.fromarray(grey)
            pixels = np.array(upright.convert("RGB"))
    except (
        OSError,
        SyntaxError,
        ValueError,
        UnidentifiedImageError,
        Image.DecompressionBombError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ClipRobustError(
            f"cannot read image {str(path)!r} ({reason}); repair or remove the file"
        ) from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


@register_layout("imagefolder")
class ImageFolder:
    """Images in class folders, as a :class:`~pytest_cliprobust.datasets.base.Dataset`.

    Classes are numbered in natural order of their folders' names. Samples stand in rounds, the first
    image of each class, then the second of each, and so on, so that every prefix is balanced as far as
    the classes reach; ``limit`` takes a prefix.

    Args:
        root: the folder.
        limit: use that many samples at most.
        frame: brings each image to the frame; :func:`shortest_side` unless given.
        size: side of the frame in pixels.
        name: what figures and bounds call it, after ``imagefolder:``; the folder's own name unless given.
        cache: folder for digests of files, which are looked up by size and modification time; the
            user's cache folder unless given.

    Raises:
        ClipRobustError: the folder is missing, or has no class folders or no images; ``classes.txt``
            lacks a folder or is malformed; ``limit`` is not positive.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        limit: int | None = None,
        frame: Frame | None = None,
        size: int = 224,
        name: str | None = None,
        cache: Path | None = None,
    ) -> None:
        self._framed(root, limit, frame, size)
        if not self.root.exists():
            raise ClipRobustError(
                f"image folder {str(self.root)!r} does not exist; check the path of the data set"
            )
        if not self.root.is_dir():
            raise ClipRobustError(
                f"image folder {str(self.root)!r} is a file; give the folder that holds the class folders"
            )
        folders = sorted(
            (p.name for p in self.root.iterdir() if p.is_dir() and not p.name.startswith(".")),
            key=natural_key,
        )
        if not folders:
            raise ClipRobustError(
                f"image folder {str(self.root)!r} has no class folders; put each class's images into a "
                "folder of its own"
            )
        files = [self._images_of(folder) for folder in folders]
        if not any(files):
            raise ClipRobustError(
                f"image folder {str(self.root)!r} has class folders but no images "
                f"({', '.join(sorted(EXTENSIONS))})"
            )
        named = self._human_names(folders)
        rounds = (
            (k, label)
            for k in range(max(len(f) for f in files))
            for label in range(len(folders))
            if k < len(files[label])
        )
        chosen = [(files[label][k], label) for k, label in rounds][:limit]
        # Never the path: the same pictures are the same data wherever they lie.
        self.name = f"imagefolder:{name or own_name(str(self.root))}"
        self.ids = tuple(path for path, _ in chosen)
        self.labels = tuple(label for _, label in chosen)
        self.class_names = tuple(named[folder] for folder in folders)
        self.groups = {"folder": tuple(folders[label] for label in self.labels)}
        self.digest = self._digest(cache)

    def _framed(
        self, root: str | os.PathLike[str], limit: int | None, frame: Frame | None, size: int
    ) -> None:
        """Note where the pictures are and how they are framed; see the class for the arguments."""
        self.root = Path(root).expanduser()
        self._frame = frame or shortest_side
        self.size = size
        if limit is not None and limit < 1:
            raise ClipRobustError(f"a limit of {limit} samples leaves none; give a positive number")

    def _images_of(self, folder: str) -> list[str]:
        found = []
        for parent, inner, names in os.walk(self.root / folder, followlinks=True):
            inner[:] = sorted((n for n in inner if not n.startswith(".")), key=natural_key)
            for name in names:
                if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS:
                    found.append((Path(parent) / name).relative_to(self.root).as_posix())
        return sorted(found, key=natural_key)

    def _human_names(self, folders: Sequence[str]) -> dict[str, str]:
        path = self.root / _NAMES_FILE
        if not path.is_file():
            return {folder: folder.replace("_", " ") for folder in folders}
        names: dict[str, str] = {}
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            folder, tab, label = line.partition("\t")
            if not tab or not folder.strip() or not label.strip():
                raise ClipRobustError(
                    f"{str(path)!r}, line {number}: expected folder, tab, human name, found {line!r}"
                )
            names[folder.strip()] = label.strip()
        for folder in folders:
            if folder not in names:
                raise ClipRobustError(
                    f"{str(path)!r} gives no name for folder {folder!r}; add a line for it."
                    f"{did_you_mean(folder, names)}"
                )
        return names

    def _digest(self, cache: Path | None) -> str:
        """Return a hash of the samples' paths, sizes and contents; contents are hashed once."""
        folder = cache or platformdirs.user_cache_path("pytest-cliprobust") / "imagefolder"
        key = hashlib.sha256(str(self.root.resolve()).encode()).hexdigest()[:32]
        store = folder / f"{key}.json"
        known: dict[str, list[int | str]] = {}
        try:
            loaded = json.loads(store.read_text(encoding="utf-8"))
            if isinstance(loaded, dict):
                known = loaded
        except (OSError, ValueError):
            pass  # no cache yet, or a damaged one: everything is hashed anew

        def entry(path: str) -> tuple[str, list[int | str], bool]:
            try:
                status = (self.root / path).stat()
                old = known.get(path)
                stamp = [status.st_size, status.st_mtime_ns]
                if isinstance(old, list) and len(old) == 3 and old[:2] == stamp:
                    return path, old, False
                content = hashlib.blake2b(digest_size=20)
                with (self.root / path).open("rb") as file:
                    while block := file.read(1 << 20):
                        content.update(block)
            except OSError as error:
                raise ClipRobustError(
                    f"cannot read image {str(self.root / path)!r} ({error.strerror}); "
                    "repair or remove the file"
                ) from error
            return path, [*stamp, content.hexdigest()], True

        with ThreadPoolExecutor(_workers()) as pool:
            entries = list(pool.map(entry, self.ids))
        self.sample_digests = tuple(str(value[2])[:16] for _, value, _ in entries)
        total = hashlib.sha256(chr(0).join(self.class_names).encode())
        for (path, value, _), label in zip(entries, self.labels, strict=True):
            total.update(f"\0{path}\0{label}\0{value[0]}\0{value[2]}".encode())
        if any(fresh for _, _, fresh in entries):
            known.update({path: value for path, value, _ in entries})
            with suppress(OSError):  # a read-only home: the digest is right, only slower next time
                replace_file(store, json.dumps(known))
        self.content = total.hexdigest()
        return hashlib.sha256(f"{self.size}\0{self.content}".encode()).hexdigest()

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.ids)

    def frame(self, image: Tensor) -> Tensor:
        """Bring an image (3, H, W) uint8 to the frame, (3, size, size)."""
        return self._frame(image, self.size)

    def load(self, indices: Sequence[int]) -> Batch:
        """Decode the images at ``indices``, in parallel threads: (B, 3, size, size) uint8.

        Raises:
            ClipRobustError: an image cannot be read; the message names it.
        """
        chosen = [self.ids[i] for i in indices]

        def one(path: str) -> Tensor:
            return self.frame(read_image(self.root / path))

        if len(chosen) > 1:
            with ThreadPoolExecutor(_workers()) as pool:
                images = list(pool.map(one, chosen))
        else:
            images = [one(path) for path in chosen]
        empty = torch.empty(0, 3, self.size, self.size, dtype=torch.uint8)
        return Batch(ids=tuple(chosen), images=torch.stack(images) if images else empty)


def _workers() -> int:
    return min(16, os.cpu_count() or 1)

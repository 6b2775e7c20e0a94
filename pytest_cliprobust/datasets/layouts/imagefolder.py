"""The published "image folder" layout: one folder per class, ``root/class/picture.jpg``.

Many benchmarks are distributed so (ImageNet-V2, -R, -A, -Sketch, ObjectNet …). An optional file
``root/classes.txt`` gives each folder a human name, one per line: folder, tab, name. What else becomes a
name, and what cannot: :mod:`pytest_cliprobust.datasets.label_sets`.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from pytest_cliprobust.datasets.base import Batch, Frame, check_limit
from pytest_cliprobust.datasets.fingerprints import Fingerprint, look_at, workers
from pytest_cliprobust.datasets.framing import Framing
from pytest_cliprobust.datasets.label_sets import NAMES_FILE, label_set
from pytest_cliprobust.datasets.reading import EXTENSIONS as EXTENSIONS
from pytest_cliprobust.datasets.reading import lacks_a_plugin
from pytest_cliprobust.datasets.reading import read_image as read_image
from pytest_cliprobust.datasets.registry import register_layout
from pytest_cliprobust.datasets.walking import Tree, as_text, left_out, listed
from pytest_cliprobust.datasets.walking import natural_key as natural_key
from pytest_cliprobust.errors import ClipRobustError, did_you_mean
from pytest_cliprobust.files import MAX_JSON, own_name, require_regular
from pytest_cliprobust.targets.preprocessing import centre_of_long

#: In place of what identifies a file that cannot be read.
_UNREADABLE = Fingerprint(0, 0, "unreadable")


def shortest_side(image: Tensor, size: int) -> Tensor:
    """Bring (3, H, W) uint8 to (3, size, size): bicubic to the shorter side, then the centre.

    It is what most CLIP models do, and serves where no target's own ``frame`` is given.
    """
    from torchvision.transforms.v2 import functional as V

    image = centre_of_long(image)
    resized = V.resize(image, [size], interpolation=V.InterpolationMode.BICUBIC, antialias=True)
    framed: Tensor = V.center_crop(resized, [size, size])
    return framed.contiguous()


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
        size: longer side of the frame in pixels.
        name: what figures and bounds call it, after ``imagefolder:``; the folder's own name unless given.
        cache: folder for digests of files, which are looked up by size and modification time; the
            user's cache folder unless given.

    Attributes:
        label_mistake: what keeps its classes from being a label set, with the remedy; None: nothing.
        unreadable: what is wrong with files that are seen at once to be no pictures that can be read, in one
            line with the remedy; None: nothing. They are samples all the same, which :meth:`load` refuses.
        notes: what was left out, and how classes came by their names.
        framing: how the pictures are framed, where that is known; set by who loads it for a model.

    Raises:
        ClipRobustError: the folder is missing, or has no class folders or no images; ``classes.txt``
            lacks a folder or is malformed; ``limit`` is not positive.
    """

    framing: Framing | None = None

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
        tree = Tree(self.root)
        folders = tree.folders()
        if not folders:
            raise ClipRobustError(
                f"image folder {str(self.root)!r} has no class folders; put each class's images into a "
                "folder of its own"
            )
        files = tree.pictures(folders)
        if not any(files):
            raise ClipRobustError(
                f"image folder {str(self.root)!r} has class folders but no images "
                f"({', '.join(sorted(EXTENSIONS))})"
            )
        named, empty = self._human_names(folders), []
        if named is None:
            # An empty folder is no class, unless somebody says so by giving it a name.
            empty = [folder for folder, own in zip(folders, files, strict=True) if not own]
            kept = [i for i, own in enumerate(files) if own]
            folders, files = [folders[i] for i in kept], [files[i] for i in kept]
        labels = label_set(folders, files, named)
        rounds = (
            (k, label)
            for k in range(max(len(f) for f in files))
            for label in range(len(folders))
            if k < len(files[label])
        )
        chosen = [(files[label][k], label) for k, label in rounds][:limit]
        # Never the path: the same pictures are the same data wherever they lie.
        self.name = f"imagefolder:{name or own_name(str(self.root))}"
        self._take([path for path, _ in chosen])
        self.labels = tuple(label for _, label in chosen)
        self.class_names = labels.names
        self.label_mistake = labels.mistake
        self.groups = {"folder": tuple(as_text(folders[label]) for label in self.labels)}
        empty_ones = [f"class folders without pictures: {listed(empty)}"] if empty else []
        self.notes = (*labels.notes, *left_out([*empty_ones, *tree.notes()]))
        self.digest = self._digest(cache)

    def _framed(
        self, root: str | os.PathLike[str], limit: int | None, frame: Frame | None, size: int
    ) -> None:
        """Note where the pictures are and how they are framed; see the class for the arguments."""
        self.root = Path(root).expanduser()
        self._frame = frame or shortest_side
        self.size = size
        check_limit(limit)

    def _take(self, paths: Sequence[str]) -> None:
        """Note which pictures the samples are, and what is needed to read them."""
        self.ids = tuple(map(as_text, paths))
        self._paths = dict(zip(self.ids, paths, strict=True))
        self.unreadable: str | None = None
        lacking = [path for path in self.ids if lacks_a_plugin(path)]
        if lacking:
            self.unreadable = (
                f"{len(lacking)} of {len(self.ids)} pictures need {lacks_a_plugin(lacking[0])} to be read "
                f"(first: {lacking[0]!r}); install it, convert them, or leave them out with "
                "--clip-bad-data skip"
            )

    def _human_names(self, folders: Sequence[str]) -> dict[str, str] | None:
        """Return the names that ``classes.txt`` gives, by folder; None where there is no such file.

        Raises:
            ClipRobustError: it is malformed, or lacks a folder.
        """
        path = self.root / NAMES_FILE
        if not os.path.lexists(path) or path.is_dir():
            return None
        names: dict[str, str] = {}
        for number, line in enumerate(_lines_of(path), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            folder, tab, label = line.partition("\t")
            if not tab or not folder.strip() or not label.strip():
                raise ClipRobustError(
                    f"{str(path)!r}, line {number}: expected folder, tab, human name, found {line!r}"
                )
            names[_plain(folder)] = label.strip()
        for folder in folders:
            if _plain(as_text(folder)) not in names:
                raise ClipRobustError(
                    f"{str(path)!r} gives no name for folder {as_text(folder)!r}; add a line for it."
                    f"{did_you_mean(as_text(folder), names)}"
                )
        return {folder: names[_plain(as_text(folder))] for folder in folders}

    def _digest(self, cache: Path | None) -> str:
        """Return a hash of the samples' paths, sizes and contents; contents are hashed once."""
        found, wrong = look_at(self.root, self._paths, "imagefolder", cache)
        told = (
            f"cannot read image {as_text(str(self.root / self._paths[sample]))!r} ({reason}); repair or "
            "remove the file"
            for sample, reason in wrong.items()
        )
        self.unreadable = self.unreadable or min(told, default=None)
        entries = [found.get(sample, _UNREADABLE) for sample in self.ids]
        self.sample_digests = tuple(entry.digest[:16] for entry in entries)
        total = hashlib.sha256(chr(0).join(self.class_names).encode("utf-8", "backslashreplace"))
        for sample, label, entry in zip(self.ids, self.labels, entries, strict=True):
            total.update(f"\0{sample}\0{label}\0{entry.size}\0{entry.digest}".encode())
        self.content = total.hexdigest()
        return hashlib.sha256(f"{self.size}\0{self.content}".encode()).hexdigest()

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.ids)

    def frame(self, image: Tensor) -> Tensor:
        """Bring an image (3, H, W) uint8 to the frame, (3, h, w)."""
        return self._frame(image, self.size)

    def load(self, indices: Sequence[int]) -> Batch:
        """Decode the images at ``indices``, in parallel threads: (B, 3, h, w) uint8.

        Raises:
            ClipRobustError: an image cannot be read; the message names it.
        """
        chosen = [self.ids[i] for i in indices]

        def one(path: str) -> Tensor:
            return self.frame(read_image(self.root / self._paths[path]))

        if len(chosen) > 1:
            with ThreadPoolExecutor(workers()) as pool:
                images = list(pool.map(one, chosen))
        else:
            images = [one(path) for path in chosen]
        empty = torch.empty(0, 3, self.size, self.size, dtype=torch.uint8)
        return Batch(ids=tuple(chosen), images=torch.stack(images) if images else empty)


def _lines_of(path: Path) -> list[str]:
    """Return the lines of a text file.

    Raises:
        ClipRobustError: it is no file, too large, or not in UTF-8.
    """
    require_regular(path, "file of class names")
    try:
        if path.stat().st_size > MAX_JSON:
            raise ClipRobustError(
                f"{str(path)!r} has more than {MAX_JSON:,} bytes, too many for names of classes; one line a "
                "class is needed: folder, tab, name"
            )
        content = path.read_bytes()
        return content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise ClipRobustError(f"{str(path)!r} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        raise ClipRobustError(
            f"{str(path)!r}, line {number}: not in UTF-8 (byte {content[error.start]:#x}); save it as UTF-8"
        ) from None


def _plain(folder: str) -> str:
    """Return the name of a folder as names are compared: some systems take letters with accents apart."""
    return unicodedata.normalize("NFC", folder.strip())

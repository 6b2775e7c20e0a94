"""A plain folder of pictures, as they come in production: no labels, no class folders.

For the role ``unlabelled``. Pictures in folders below are found, too; what the folders are called says
nothing.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pytest_cliprobust.datasets.base import Frame
from pytest_cliprobust.datasets.layouts.imagefolder import EXTENSIONS, ImageFolder
from pytest_cliprobust.datasets.registry import register_layout
from pytest_cliprobust.datasets.walking import Tree, left_out
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.files import own_name


@register_layout("pictures")
class Pictures(ImageFolder):
    """All pictures below a folder, as a :class:`~pytest_cliprobust.datasets.base.Dataset` without labels.

    They stand in the order of a hash of their paths, so that ``limit``, which takes a prefix, takes a random
    sample, the same one every time.

    Args:
        root: the folder.
        limit: use that many pictures at most.
        frame: brings each picture to the frame;
            :func:`~pytest_cliprobust.datasets.layouts.imagefolder.shortest_side` unless given.
        size: longer side of the frame in pixels.
        name: what figures and bounds call it, after ``pictures:``; the folder's own name unless given.
        cache: folder for digests of files; the user's cache folder unless given.

    Raises:
        ClipRobustError: the folder is missing or has no pictures, or ``limit`` is not positive.
    """

    #: The roles that it can play.
    plays = ("unlabelled",)

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
        if not self.root.is_dir():
            raise ClipRobustError(
                f"folder of pictures {str(self.root)!r} does not exist; check the path of the data set"
            )
        tree = Tree(self.root)
        found = sorted(tree.pictures([""])[0], key=_hashed)
        if not found:
            raise ClipRobustError(
                f"folder {str(self.root)!r} has no pictures ({', '.join(sorted(EXTENSIONS))})"
            )
        self.name = f"pictures:{name or own_name(str(self.root))}"
        self._take(found[:limit])
        self.labels = (-1,) * len(self.ids)
        self.class_names = ()
        self.label_mistake = None
        self.notes = left_out(tree.notes())
        self.groups = {}
        self.digest = self._digest(cache)


def _hashed(path: str) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()

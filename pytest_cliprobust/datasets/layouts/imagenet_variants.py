"""ImageNet's variants of which each class is a folder: -V2, -Sketch, -R, -A and -O.

-R and -A have 200 of the 1,000 classes: the zero-shot head is restricted to these, and accuracies compare
with those of the same classes of ``clean``, under the same head. The classes of -O lie outside the 1,000.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

from pytest_cliprobust.datasets import imagenet
from pytest_cliprobust.datasets.listed import (
    Labels,
    Listed,
    Row,
    in_rounds,
    pictures_in,
    place_of,
    tree_of,
    what_is_there,
)
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.datasets.walking import left_out
from pytest_cliprobust.datasets.wordnet import wnids
from pytest_cliprobust.errors import ClipRobustError


@register_layout(
    "imagenet-v2",
    plays=("shift",),
    path="the folder of 0 to 999",
    source="Recht et al. 2019, github.com/modestyachts/ImageNetV2",
    licence="MIT (code); pictures of Flickr",
    published=True,
)
def imagenet_v2(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return ImageNet-V2: folders are numbers of classes, which sorted as texts would be others.

    Raises:
        ClipRobustError: there are no such folders, or one is no number of a class.
    """
    folder = Path(root)
    tree = tree_of(folder, "imagenet-v2")
    names = [name for name in tree.folders() if name.isdecimal()]
    if not names or max(map(int, names)) >= len(wnids()):
        raise ClipRobustError(
            f"imagenet-v2: {str(folder)!r} must have folders named 0 to 999; check the path (there is "
            f"{what_is_there(folder)})"
        )
    rows = [Row(path, path, int(name), {"folder": name}) for name, path in pictures_in(tree, names)]
    labels: Labels = imagenet.labels()
    notes = left_out(tree.notes())
    return Listed("imagenet-v2", folder, in_rounds(rows), labels, notes=notes, **options)


@register_layout(
    "imagenet-sketch",
    plays=("shift",),
    path="the folder of WordNet ids, or the one around it",
    source="Wang et al. 2019, github.com/HaohanWang/ImageNet-Sketch",
    licence="MIT (code); pictures of the web",
    published=True,
)
def imagenet_sketch(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return ImageNet-Sketch: all 1,000 classes, drawn."""
    folder = place_of(Path(root), "ImageNet-Sketch", "sketch", ".")
    return imagenet.by_folder("imagenet-sketch", folder, **options)


@register_layout(
    "imagenet-r",
    plays=("shift",),
    path="the folder of 200 WordNet ids",
    source="Hendrycks et al. 2021, github.com/hendrycks/imagenet-r",
    licence="MIT (code); pictures of the web",
    published=True,
)
def imagenet_r(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return ImageNet-R(endition): 200 classes, to which the head is restricted."""
    return imagenet.by_folder("imagenet-r", Path(root), restricted=True, **options)


@register_layout(
    "imagenet-a",
    plays=("shift",),
    path="the folder of 200 WordNet ids",
    source="Hendrycks et al. 2021, github.com/hendrycks/natural-adv-examples",
    licence="MIT (code); pictures of the web",
    published=True,
)
def imagenet_a(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return ImageNet-A(dversarial): 200 classes, to which the head is restricted."""
    return imagenet.by_folder("imagenet-a", Path(root), restricted=True, **options)


@register_layout(
    "imagenet-o",
    plays=("near_ood",),
    path="the folder of WordNet ids",
    source="Hendrycks et al. 2021, github.com/hendrycks/natural-adv-examples",
    licence="MIT (code); pictures of the web",
    published=True,
)
def imagenet_o(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return ImageNet-O: classes outside the 1,000, so that no sample has a label."""
    return imagenet.by_folder("imagenet-o", Path(root), outside=True, **options)

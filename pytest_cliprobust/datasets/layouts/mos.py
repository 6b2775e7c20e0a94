"""The four sets outside ImageNet's classes of MOS (Huang & Li 2021), which MCM and others take, too.

``ImageNet_OOD_dataset/iNaturalist/images`` and so on, with DTD beside them. The folder around is a pack of
all that lie in it; one of them is a data set.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

from pytest_cliprobust.datasets.layouts.outside import outside
from pytest_cliprobust.datasets.listed import Listed, place_of
from pytest_cliprobust.datasets.registry import LayoutOptions, Part, register_layout
from pytest_cliprobust.files import own_name

#: The subsets, as their folders are called.
SUBSETS = ("iNaturalist", "SUN", "Places", "dtd")

_IMAGES = "images"


def parts(folder: Path) -> list[Part]:
    """Return the subsets that lie in a folder; none in that of one of them."""
    found = [name for name in SUBSETS if (folder / name / _IMAGES).is_dir()]
    return [Part("far_ood", "mos", name, str(folder / name)) for name in found]


@register_layout(
    "mos",
    plays=("far_ood",),
    path="the folder of iNaturalist, SUN, Places and dtd, or one of these, with images in it",
    source="Huang & Li 2021, github.com/deeplearning-wisc/large_scale_ood",
    licence="as its pictures' sources",
    parts=parts,
)
def mos(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return one of the subsets: pictures of things that are none of ImageNet's 1,000 classes.

    Raises:
        ClipRobustError: the folder has no ``images``, or no pictures in them.
    """
    folder = Path(root)
    images = place_of(folder, "subset of MOS, nor a folder of them", _IMAGES)
    return outside(f"mos:{own_name(str(folder))}", images, **options)

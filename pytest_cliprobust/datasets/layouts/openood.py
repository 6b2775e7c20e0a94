"""OpenOOD 1.5's lists: ``openood:…/benchmark_imglist/imagenet/test_ninco.txt``.

A line is a path below ``images_largescale`` or ``images_classic``, a blank and a class; -1 outside the 1,000.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

from pytest_cliprobust.datasets import imagenet
from pytest_cliprobust.datasets.listed import Labels, Listed, Row, shuffled
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.datasets.wordnet import wnids
from pytest_cliprobust.errors import ClipRobustError, brief
from pytest_cliprobust.files import own_name

_IMAGES = ("images_largescale", "images_classic")
_LEVELS = 3


@register_layout(
    "openood",
    plays=("near_ood",),
    path="one of the lists below benchmark_imglist/imagenet",
    source="Zhang et al. 2023, github.com/Jingkang50/OpenOOD",
    licence="MIT (code); pictures as their sources'",
)
def openood(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return the pictures of a list, with labels where it is of ImageNet's classes.

    Raises:
        ClipRobustError: the list cannot be read, or its pictures are not there.
    """
    path = Path(root).resolve()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ClipRobustError(
            f"openood: {str(path)!r} cannot be read ({brief(error)}); give one of the lists (test_ninco.txt)"
        ) from None
    base = path.parents[min(_LEVELS, len(path.parents)) - 1]
    places = [base / name for name in _IMAGES]
    listed = [line.rpartition(" ") for line in lines if line.strip()]
    if not all(name and number.lstrip("-").isdecimal() for name, _, number in listed):
        raise ClipRobustError(f"openood: {str(path)!r} has a line that is not PATH CLASS")
    rows = []
    for name, _, number in listed:
        place = next((p for p in places if (p / name).is_file()), None)
        if place is None:
            raise ClipRobustError(
                f"openood: {name!r} is neither in {' nor in '.join(str(p) for p in places)}; fetch it"
            )
        label = int(number) if 0 <= int(number) < len(wnids()) else -1
        rows.append(Row(name, (place / name).relative_to(base).as_posix(), label))
    labels = imagenet.labels() if any(row.label >= 0 for row in rows) else Labels()
    name = f"openood:{own_name(str(path)).removesuffix('.txt')}"
    return Listed(name, base, shuffled(rows), labels, **options)

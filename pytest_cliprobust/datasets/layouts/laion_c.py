"""LAION-C (Li et al. 2025): distortions that web-scale training data holds nothing like, as published.

``<distortion>/intensity_level_<1 to 5>/<class>/*`` with sixteen classes. These are its own, with a
zero-shot head of their names. (The published protocol for classifiers of ImageNet averages the
probabilities of its 1,000 classes instead. The suite ``laion_c`` distorts the clean pictures themselves.)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

from pytest_cliprobust.datasets.layouts.corrupted import conditions_below
from pytest_cliprobust.datasets.listed import Labels, Listed
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout

#: What fills the templates, by folder.
CLASSES = {
    "ball": "ball",
    "bird": "bird",
    "boat": "boat",
    "bottle": "bottle",
    "butterfly": "butterfly",
    "car_truck": "car or truck",
    "cat": "cat",
    "chair": "chair",
    "dog": "dog",
    "fish": "fish",
    "fruit": "fruit",
    "instruments": "musical instrument",
    "primate": "primate",
    "snakes": "snake",
    "timekeeping": "clock or watch",
    "tools": "tool",
}

SEVERITIES = {f"intensity_level_{severity}": str(severity) for severity in range(1, 6)}


@register_layout(
    "laion-c",
    plays=("corrupted",),
    path="the folder of the distortions, or one of these",
    source="Li et al. 2025, github.com/FanfeiLi/LAION-C",
    licence="MIT (code); for the pictures see Zenodo 14051887",
    published=True,
)
def laion_c(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return LAION-C, or as many of its distortions as are there.

    Raises:
        ClipRobustError: there are none, or a folder is none of its classes.
    """
    number = {folder: row for row, folder in enumerate(CLASSES)}
    labels = Labels(tuple(CLASSES.values()), tuple(CLASSES), own=True)
    return conditions_below(
        "laion-c", Path(root), SEVERITIES, number, labels, of_clean=False, **options
    )

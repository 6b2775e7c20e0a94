"""MMVP-VLM (Tong et al. 2024): pairs of pictures that CLIP takes for one, with a statement true of each.

``Questions.csv`` (question id, pattern, statement; a pair is two rows) and ``MLLM_VLM
Images/<pattern>/<id>.jpg``: nine visual patterns of fifteen pairs. The published score of a pair, both
statements find their picture, is ``matching_image_score``.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Unpack

from pytest_cliprobust.datasets.listed import Labels, Listed, Row, place_of, tree_of
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.errors import ClipRobustError, brief

_TABLE, _PICTURES = "Questions.csv", "MLLM_VLM Images"

#: What the published evaluation writes before a statement.
PROMPT = "a photo of {}"


@register_layout(
    "mmvp",
    plays=("compositional",),
    path="the folder of Questions.csv and MLLM_VLM Images",
    source="Tong et al. 2024, github.com/tsb0601/MMVP",
    licence="MIT",
    published=True,
)
def mmvp(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return MMVP-VLM; the column ``pattern`` says what the pictures of a pair differ in.

    Raises:
        ClipRobustError: the table is missing, has a row of another form, or half a pair.
    """
    folder = Path(root)
    tree_of(folder, "mmvp")
    table = place_of(folder, "MMVP-VLM", _TABLE)
    pictures = place_of(folder, "MMVP-VLM", _PICTURES)
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            entries = [entry for entry in csv.reader(file) if entry][1:]
    except (OSError, ValueError, csv.Error) as error:
        raise ClipRobustError(f"mmvp: {str(table)!r} cannot be read ({brief(error)})") from None
    wrong = [n for n, entry in enumerate(entries, start=2) if len(entry) != 3]
    if wrong or len(entries) % 2:
        which = (
            f"line {wrong[0]} is not ID, PATTERN, STATEMENT" if wrong else "a pair lacks its half"
        )
        raise ClipRobustError(f"mmvp: {str(table)!r}: {which}; fetch it anew")
    rows = []
    for number, (name, _, statement) in enumerate(entries):
        first = entries[number - number % 2]
        columns = {"pair": first[0].strip(), "pattern": first[1].strip()}
        path = f"{first[1].strip()}/{name.strip()}.jpg"
        captions = (PROMPT.format(statement.strip()),)
        rows.append(Row(name.strip(), path, -1, columns, captions, unit=columns["pair"]))
    # Pairs stay together, so that a prefix is of whole ones.
    return Listed("mmvp", pictures, rows, Labels(), unit="pair", **options)

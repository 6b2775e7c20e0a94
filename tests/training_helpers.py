"""Archives of made-up sprites, for the trainers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("cat", "dog", "key", "bus")


def write_archive(path: Path, styles: tuple[str, ...]) -> None:
    """Write made-up sprites: a disk in a colour that says the name, and a size that says the style."""
    y, x = np.mgrid[:32, :32] - 15.5
    rows = []
    for i, name in enumerate(NAMES):
        for j, style in enumerate(styles):
            image = np.zeros((32, 32, 4), dtype=np.uint8)
            image[..., i % 3] = 255 - 60 * (i // 3)
            image[..., 3] = 255 * (x**2 + y**2 < (8 + 2 * j) ** 2)
            rows.append((image, style, name, "a", name, True))
    keys = ("image", "style", "name", "article", "caption", "is_label")
    columns: dict[str, Any] = {
        key: np.array(values) for key, values in zip(keys, zip(*rows, strict=True), strict=True)
    }
    np.savez(path, **columns)

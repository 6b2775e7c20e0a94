"""What of the perturbations does not scale with the picture's size, in figures.

``python benchmarks/perturbation_scale.py`` prints a table for ``docs/perturbations.md``. Embedded scenes are
rendered at each side, perturbed there, and scaled down to 224 pixels, the size at which a thing fills as
much of a model's view: the root mean square change that is left, in units of that at 224. One is a
perturbation that scales. 64 patches of a picture see noise at 518 as it is, of course.
"""

from __future__ import annotations

import sys

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.perturbations import registry

SIDES = (224, 336, 384, 518)
SCENES = 8
SEVERITY = 3
NAMES = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "speckle_noise",
    "iso_noise",
    "low_light",
    "pixelate",
    "jpeg_compression",
    "h265_crf",
    "h265_abr",
    "bit_error",
    "resize_filter",
    "chroma_subsampling",
    "decoder_difference",
    "glitch",
    "defocus_blur",
    "far_focus",
)


def seen(images: Tensor) -> Tensor:
    """Return the pictures at 224 pixels."""
    size = (SIDES[0], SIDES[0])
    return F.interpolate(images, size=size, mode="bicubic", antialias=True).clamp(0, 1)


def change(name: str, side: int) -> float:
    """Return the root mean square change of scenes at ``side``, as seen at 224."""
    rows = range(0, SCENES * 12, 12)
    loaded = EmbeddedDataset("clean", profile="quick", limit=SCENES * 12, size=side).load(rows)
    images = loaded.images.to(torch.float32) / 255
    seeds = torch.arange(SCENES) * 104729 + 11
    corrupted = registry.get(name)(images, SEVERITY, seeds=seeds, depth=loaded.depth)
    return float((seen(corrupted) - seen(images)).square().mean().sqrt())


def table(names: tuple[str, ...]) -> str:
    """Return the table, in Markdown."""
    lines = [
        f"| perturbation at severity {SEVERITY} | {' | '.join(map(str, SIDES))} |",
        f"| --- |{' ---: |' * len(SIDES)}",
    ]
    for name in names:
        changes = [change(name, side) for side in SIDES]
        shares = " | ".join(f"{value / changes[0]:.2f}" for value in changes)
        lines.append(f"| `{name}` | {shares} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(tuple(sys.argv[1:]) or NAMES))

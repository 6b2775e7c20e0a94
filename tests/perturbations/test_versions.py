"""What a version stands for: pictures are those of the record, or the version has been raised.

A perturbation's version is part of the cache's keys, so that other output under the same version would be
mixed with features of the old one. ``pictures.txt`` beside this file holds what each version made of a few
pictures; after a change, raise the version and record anew::

    python tests/perturbations/test_versions.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.search.envelope import at_strength

#: With the newest libraries only: older ones' arithmetic differs in its last bits, which may decide.
pytestmark = pytest.mark.slow

RECORD = Path(__file__).with_name("pictures.txt")

#: Without those whose output is another library's (a codec, a font's letters).
FAMILIES = (
    *("common", "depth", "view", "imagecorruptions", "resampling", "laion_c"),
    *("occlusion", "cue_conflict"),
)
NAMES = [name for family in FAMILIES for name in registry.names(family)]

#: Severity, height and width of what is recorded; a fraction is a strength in the envelope of a search.
CASES: tuple[tuple[float, int, int], ...] = (
    *((severity, 40, 56) for severity in (1, 2, 3, 4, 5)),
    *((3, 88, 40), (3, 224, 224), (5, 16, 19), (0.04, 40, 56), (0.37, 40, 56)),
)

#: Sums per picture.
SUMS = 16

#: Of sums, on average, for a picture whose pixels all change by that much: arithmetic differs in its last
#: bits from machine to machine, and where it decides (a border, a threshold) a pixel or two flip.
TOLERANCE = 2e-3


def scene(height: int, width: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Return a picture (1, 3, H, W) with edges and slopes, and all that a perturbation may ask for."""
    y = torch.arange(height, dtype=torch.float64)[:, None]
    x = torch.arange(width, dtype=torch.float64)[None, :]
    slopes = [
        (a * x / width + b * y / height) % 1.0 for a, b in ((3.1, 0.7), (1.3, 2.9), (0.6, 4.3))
    ]
    # No level lies on a border that a perturbation may round at.
    image = 0.0517 + 0.8931 * torch.stack([(20 * part).floor() / 20 for part in slopes])
    depth = (4 - 3 * y / height).expand(height, width).clone()
    depth[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = 1.5
    mask = ((y / height - 0.4) ** 2 + (x / width - 0.6) ** 2 < 0.1).double()
    occluder = torch.cat(
        (image.flip(2)[:, ::2, ::2], torch.ones(1, (height + 1) // 2, (width + 1) // 2))
    )
    return image[None].float(), {
        "depth": depth[None, None].float(),
        "mask": mask[None, None].float(),
        "texture": image.flip(0)[None].float(),
        "occluder": occluder[None].float(),
        "seeds": torch.tensor([20251127]),
    }


def sums(picture: Tensor) -> Floats:
    """Return :data:`SUMS` numbers that any change of a picture shows in.

    Each sums a share of all pixels, with random signs and over the square root of their number: they change
    by as much as the pixels do.
    """
    values = picture.double().flatten().numpy()
    generator = np.random.default_rng(len(values))
    order, sign = generator.permutation(len(values)), generator.choice((-1.0, 1.0), len(values))
    parts = np.array_split((values * sign)[order], SUMS)
    return np.array([part.sum() / np.sqrt(len(part)) for part in parts])


def seen(name: str) -> list[Floats]:
    """Return the sums of each of :data:`CASES`."""
    found = []
    for severity, height, width in CASES:
        image, inputs = scene(height, width)
        apply = registry.get(name)
        strength = at_strength(apply, severity) if severity < 1 else None
        if strength is None:
            result = apply(image, int(severity), **inputs)
        else:
            result = apply(image, **strength, **inputs)
        found.append(sums(result))
    return found


def recorded() -> dict[str, tuple[int, list[Floats]]]:
    """Return version and sums by name."""
    found: dict[str, tuple[int, list[Floats]]] = {}
    for line in RECORD.read_text().splitlines():
        name, version, *numbers = line.split()
        _, kept = found.setdefault(name, (int(version), []))
        kept.append(np.array(numbers, dtype=np.float64) / 1e4)
    return found


def record() -> None:
    """Write what all perturbations make of the pictures."""
    lines = [
        " ".join((name, str(registry.get(name).version), *(f"{v * 1e4:.0f}" for v in values)))
        for name in NAMES
        for values in seen(name)
    ]
    RECORD.write_text("\n".join(lines) + "\n")


def test_all_are_recorded() -> None:
    assert sorted(recorded()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_other_pictures_have_another_version(name: str) -> None:
    version, kept = recorded()[name]
    assert version == registry.get(name).version, f"record {name} anew: see the head of this file"
    for case, now, then in zip(CASES, seen(name), kept, strict=True):
        assert float(np.abs(now - then).mean()) < TOLERANCE, f"{case}: raise the version of {name}"


if __name__ == "__main__":
    record()

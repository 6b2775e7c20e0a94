"""What the trainers draw and are set to, as the record has it: the bundled models cannot be made again else.

That it is right is for the other tests to show. After a change that is meant, look at what differs in
``recorded.txt`` and record anew::

    RECORD=1 python -m pytest -q tests/training/test_recorded_training.py
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import records
import torch
from torch import Tensor

from pytest_cliprobust.training import fleet, multimodal, reference

RECORD = Path(__file__).with_name("recorded.txt")

SIZE = 20


def settings() -> Iterator[str]:
    """Every setting, and the model that it makes."""
    configs = {"reference": reference.TrainingConfig(), **fleet.FLEET}
    for name, config in configs.items():
        for field in dataclasses.fields(config):
            yield f"{name}: {field.name} = {getattr(config, field.name)!r}"
        yield f"{name}: {config.model_config()}, {config.merges} merges, {config.workers} workers"
    for name, member in fleet.FLEET.items():
        yield f"tags of {name}: {fleet.tags(member)}"
    for field in dataclasses.fields(multimodal.MultimodalConfig):
        yield f"multimodal: {field.name} = {field.default!r}"


def sprites(count: int) -> Tensor:
    """Smooth random drawings (count, 4, 16, 16), uint8, with soft borders."""
    generator = torch.Generator().manual_seed(11)
    rough = torch.rand(count, 4, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(rough, size=16, mode="bilinear", align_corners=True)
    smooth[:, 3] = (smooth[:, 3] * 3 - 0.7).clamp(0, 1)
    return (smooth * 255).round().byte()


def augmentation(count: int = 3) -> reference.SpriteAugmentation:
    backgrounds = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(12))
    return reference.SpriteAugmentation(sprites(count), backgrounds, SIZE)


def looked_at(picture: Tensor) -> str:
    """Return what a picture gives in some random directions: whichever pixels change, it does.

    As large as the differences of pixels, in the mean over them: the mean, then four directions.
    """
    flat = picture.double().flatten()
    directions = torch.randn(
        4, len(flat), generator=torch.Generator().manual_seed(13), dtype=torch.float64
    )
    seen = (directions @ flat) / len(flat) ** 0.5
    return " ".join(f"{value:.4f}" for value in (flat.mean(), *seen))


def pictures(strength: float, count: int) -> Iterator[str]:
    rows = torch.arange(count) % 3
    made = augmentation()(rows, torch.Generator().manual_seed(int(100 * strength)), strength)
    assert made.shape == (count, 3, SIZE, SIZE)
    assert 0 <= made.min() < made.max() <= 1
    for row, picture in enumerate(made):
        yield f"{row}: {looked_at(picture)}"


def batches() -> Iterator[str]:
    """Which sprites and captions steps draw, and which numbers are left for their pictures."""
    for seed in (0, 2):
        config = reference.TrainingConfig(
            steps=4, seed=seed, batch_size=8, image_size=SIZE, small_steps=1, ramp=3
        )
        told: list[str] = []

        def noted(
            indices: Tensor, generator: torch.Generator, strength: float = 1.0, *, told: list[str]
        ) -> Tensor:
            told.append(
                f"{indices.tolist()} at {strength:.3f}, {torch.rand((), generator=generator):.4f}"
            )
            return torch.rand(len(indices), 3, SIZE, SIZE, generator=generator)

        names = torch.arange(12) // 2
        tokens = torch.arange(5)[:, None, None] * 10 + torch.arange(6)[None, :, None]
        made = reference.Batches(
            config, 0, torch.arange(12), torch.ones(12), names, tokens, partial(noted, told=told)
        )
        for pixels, captions, present, positions in made:
            yield f"seed {seed}: sprites {told[-1]}"
            yield f"  {captions[:, 0].tolist()} {present.tolist()} {positions.tolist()}"
            yield f"  pixels {tuple(pixels.shape)} {looked_at(pixels)}"


def fleet_pictures(root: Path) -> Iterator[str]:
    """Pictures of the fleet that are made once, and some draws of them."""
    archive = SimpleNamespace(images=sprites(3), names=["cat", "dog", "cat"])
    material: Any = SimpleNamespace(
        archive=archive,
        heldout=SimpleNamespace(names=["cat"]),
        backgrounds=augmentation().backgrounds,
        work=root,
    )
    made = fleet.Pictures(material, SIZE)
    yield f"{made.counts.tolist()} {made.first.tolist()} {made.pictures.shape}"
    for row in (0, 1, 20, 39, 40, 45, 51, 52, 91):
        yield f"{row}: {looked_at(torch.from_numpy(np.array(made.pictures[row])) / 255)}"
    for strength in (0.2, 0.79, 1.0):
        generator = torch.Generator().manual_seed(5)
        drawn = made(torch.tensor([2, 0, 1, 1, 2, 0]), generator, strength)
        for picture in drawn:
            yield f"at {strength}: {looked_at(picture)}"


PARTS: dict[str, Callable[[Path], Iterator[str]]] = {
    "settings": lambda root: settings(),
    "pictures at strength 0": lambda root: pictures(0.0, 12),
    "pictures at strength 0.5": lambda root: pictures(0.5, 24),
    "pictures at strength 1": lambda root: pictures(1.0, 96),
    "batches": lambda root: batches(),
    "pictures of the fleet": fleet_pictures,
}


@pytest.mark.parametrize("part", PARTS)
def test_draws_and_settings_are_those_of_the_record(part: str, tmp_path: Path) -> None:
    records.check(RECORD, PARTS, part, list(PARTS[part](tmp_path)), tolerance=1e-3)

"""What the digests of the benchmark stand for: its samples and pictures are those of the record.

Digests, and with them the cache's keys and the pairing of runs, hang on what a recipe says and on two
versions (``composer.VERSION``, ``procedural.VERSION``), not on what is drawn. ``recorded.txt`` beside this
file holds which samples each data set has and sums of some pictures; after a change that is meant, raise
the version of what draws, and record anew::

    python tests/embedded/test_recorded.py
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pytest_cliprobust.datasets import embedded
from pytest_cliprobust.datasets.base import Batch
from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.datasets.profiles import PROFILES
from pytest_cliprobust.embedded import composer, procedural
from pytest_cliprobust.figures.arrays import Floats

RECORD = Path(__file__).with_name("recorded.txt")

SIDE = 64

#: Numbers for each of what is recorded.
COUNT = 16

#: Of colours in [0, 1], on average: arithmetic differs in its last bits from machine to machine, which a
#: level of 8 bits may hang on.
TOLERANCE = 3e-4

#: Of metres and shares, on average over blocks: a pixel at an edge may belong to either side.
TOLERANCE_OF_BLOCKS = 2e-3

#: Sets that are listed in every profile: rounds follow upon each other in different ways. Of the others the
#: shortest profile will do.
LISTED = ("clean", "near_ood", "far_ood", "clipart", "cue_conflict", "compositional", "written")

#: How many samples of a set are drawn.
_PICTURED = {"two_view": 3, "cue_conflict": 3, "compositional": 4, "far_ood": 4, "clean": 4}


def sums(picture: Tensor) -> Floats:
    """Return :data:`COUNT` numbers that any change of a picture shows in.

    Each sums a share of all values, with random signs and over the square root of their number.
    """
    values = picture.double().flatten().numpy()
    generator = np.random.default_rng(len(values))
    order, sign = generator.permutation(len(values)), generator.choice((-1.0, 1.0), len(values))
    parts = np.array_split((values * sign)[order], COUNT)
    return np.array([part.sum() / np.sqrt(len(part)) for part in parts])


def blocks(plane: Tensor) -> Floats:
    """Return the means over :data:`COUNT` blocks of a plane (1, H, W)."""
    return F.adaptive_avg_pool2d(plane.double()[None], 4).flatten().numpy()


def samples() -> dict[str, str]:
    """Return how many samples each data set has, and a digest of what they are of."""
    found = {}
    for name in embedded.names():
        for profile in PROFILES if name in LISTED else PROFILES[:1]:
            data = EmbeddedDataset(name, profile=profile, size=SIDE)
            said = repr((data.sample_keys, data.labels, data.units, data.captions, data.choices))
            digest = hashlib.sha256(said.encode()).hexdigest()[:16]
            found[f"{name}/{profile}"] = f"{len(data)} {digest}"
    return found


def of_batch(key: str, batch: Batch) -> Iterator[tuple[str, Floats]]:
    assert batch.depth is not None
    assert batch.mask is not None
    for row, name in enumerate(batch.ids):
        yield f"{key}/{name}/image", sums(batch.images[row] / 255.0)
        yield f"{key}/{name}/depth-blocks", blocks(batch.depth[row])
        yield f"{key}/{name}/mask-blocks", blocks(batch.mask[row])
        for extra, values in batch.extras.items():
            if extra in ("second_image", "texture", "occluder"):
                scale = 255.0 if values.dtype == torch.uint8 else 1.0
                yield f"{key}/{name}/{extra}", sums(values[row] / scale)
            elif extra in ("second_depth", "second_mask", "visible"):
                yield f"{key}/{name}/{extra}-blocks", blocks(values[row])
            elif extra == "correspondence":
                yield f"{key}/{name}/{extra}-blocks", blocks(values[row].mean(0, True) / SIDE)


def of_sets() -> Iterator[tuple[str, Floats]]:
    """Yield what the first samples of each set show."""
    for name in embedded.names():
        count = _PICTURED.get(name, 3 if name.startswith("factor") else 1)
        data = EmbeddedDataset(name, profile="quick", size=SIDE, limit=count)
        yield from of_batch(name, data.load(range(len(data))))
    large = EmbeddedDataset("factor-larger", profile="quick", limit=1)
    yield from of_batch("large", large.load([0]))


def of_pairs() -> Iterator[tuple[str, Floats]]:
    """Yield which places of two views are the same."""
    data = EmbeddedDataset("two_view", profile="quick", limit=4)
    pairs = data.load_pairs(range(4))
    for name, links in zip(pairs.first.ids, pairs.links, strict=True):
        flat = (links.points, links.truth, links.candidates)
        parts = [p for p in (*flat, links.truth_3d, links.candidates_3d) if p is not None]
        number = [len(part) / 100 for part in parts]
        middle = [
            float(part.double().mean()) / (100 if i < 3 else 1) for i, part in enumerate(parts)
        ]
        yield f"pair/{name}-blocks", np.array([*number, *middle])


def of_patterns() -> Iterator[tuple[str, Floats]]:
    """Yield pictures of each procedural kind, of a small odd size and of a large one."""
    for make, kinds in (
        (procedural.backgrounds, procedural.BACKGROUNDS),
        (procedural.patterns, procedural.PATTERNS),
    ):
        for kind in (*kinds, None):
            wanted = None if kind is None else [kind]
            for seed, height, width in ((1, 33, 48), (2, 48, 33), (3, 200, 300)):
                picture = make(torch.tensor([seed]), height, width, kinds=wanted)[0]
                yield f"{make.__name__}/{kind}/{seed}", sums(picture)


PARTS = {"sets": of_sets, "pairs": of_pairs, "patterns": of_patterns}


@functools.cache
def recorded() -> dict[str, str]:
    """Return what stands behind each key."""
    return dict(line.split(" ", 1) for line in RECORD.read_text().splitlines())


def record() -> None:
    """Write what there is."""
    lines = [f"samples/{key} {said}" for key, said in samples().items()]
    for part, seen in PARTS.items():
        for key, values in seen():
            lines.append(f"{part}/{key} " + " ".join(f"{value * 1e5:.0f}" for value in values))
    RECORD.write_text("\n".join(lines) + "\n")


def test_the_samples_are_those_of_the_record() -> None:
    kept = {k[8:]: said for k, said in recorded().items() if k.startswith("samples/")}
    assert samples() == kept


@pytest.mark.parametrize("part", PARTS)
def test_the_pictures_are_those_of_the_record(part: str) -> None:
    seen = {f"{part}/{key}": values for key, values in PARTS[part]()}
    assert set(seen) == {key for key in recorded() if key.startswith(f"{part}/")}
    versions = f"raise composer.VERSION, {composer.VERSION}, or procedural.VERSION"
    for key, now in seen.items():
        then = np.array(recorded()[key].split(), dtype=np.float64) / 1e5
        allowed = TOLERANCE_OF_BLOCKS if key.endswith("-blocks") else TOLERANCE
        assert float(np.abs(now - then).mean()) < allowed, f"{key}: {versions}"


if __name__ == "__main__":
    record()

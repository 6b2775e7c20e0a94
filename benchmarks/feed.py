"""From JPEG files to batches of uint8, nothing kept: ours against a plain torch DataLoader.

Both decode and frame to the same pixels, which is looked at. The DataLoader runs ``--workers`` processes,
each opening, converting, resizing and cropping with Pillow and torchvision as a user would write it; ours
the same number of threads, one batch ahead. They take turns in one run, since the machine may have other
work, and the least of each counts: of the clock, with and without the start of the DataLoader's processes,
and of the processor, which other work lengthens less.

``python benchmarks/feed.py [--pictures 400] [--workers 2] [--turns 5]`` prints a line each.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as V

from pytest_cliprobust.datasets import fingerprints
from pytest_cliprobust.datasets.layouts import imagefolder
from pytest_cliprobust.datasets.layouts.imagefolder import ImageFolder

SIDE, BATCH = 224, 32


def write_pictures(root: Path, count: int) -> None:
    """Write photographs' like: smooth colours with grain, 500 by 375 pixels, in two class folders."""
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = random.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
        grain = random.normal(0, 12, (375, 500, 1))
        pixels = (np.asarray(smooth) + grain).clip(0, 255).astype(np.uint8)
        folder = root / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number:05d}.jpg", quality=90)


class Plain(Dataset[Tensor]):
    """One picture at a time, as a user's own script has it."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Return a picture (3, 224, 224) uint8."""
        with Image.open(self.paths[index]) as file:
            image = V.pil_to_tensor(file.convert("RGB"))
        mode = V.InterpolationMode.BICUBIC
        framed: Tensor = V.center_crop(V.resize(image, [SIDE], mode, antialias=True), [SIDE, SIDE])
        return framed


def ours(data: ImageFolder) -> Iterator[Tensor]:
    """Yield batches as the engine takes them: one is loaded ahead."""
    with ThreadPoolExecutor(1) as pool:
        starts = range(0, len(data), BATCH)
        rows = [range(start, min(start + BATCH, len(data))) for start in starts]
        ahead = pool.submit(data.load, rows[0])
        for following in [*rows[1:], None]:
            batch = ahead.result()
            if following is not None:
                ahead = pool.submit(data.load, following)
            yield batch.images


def seconds(batches: Callable[[], Iterator[Tensor]]) -> tuple[float, float, float]:
    """Return how long all batches took, all after the first, and all of the processor."""
    start, worked = time.perf_counter(), _worked()
    first = None
    iterator = batches()
    for _ in iterator:
        first = first or time.perf_counter()
    end = time.perf_counter()
    del iterator  # only processes that have ended are counted
    gc.collect()
    return end - start, end - (first or start), _worked() - worked


def _worked() -> float:
    """Return the seconds of the processor that this process and those that it started took."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for module in (fingerprints, imagefolder):
        module.workers = lambda: options.workers  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), options.pictures)
        data = ImageFolder(folder, size=SIDE)
        plain = Plain([data.root / path for path in data.ids])

        def loader() -> Iterator[Tensor]:
            return iter(DataLoader(plain, BATCH, num_workers=options.workers))

        same = all(torch.equal(a, b) for a, b in zip(ours(data), loader(), strict=True))
        turns = [(seconds(loader), seconds(lambda: ours(data))) for _ in range(options.turns)]
    count = options.pictures
    told = (("all", 0, 0), ("after the first batch", 1, BATCH), ("of the processor", 2, 0))
    for what, part, fewer in told:
        theirs, own = (min(turn[which][part] for turn in turns) for which in (0, 1))
        print(
            f"{what}: DataLoader {(count - fewer) / theirs:.0f} pictures/s, ours "
            f"{(count - fewer) / own:.0f}, ratio {theirs / own:.2f}; the same pixels: {same}"
        )


if __name__ == "__main__":
    main()

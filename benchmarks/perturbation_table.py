"""Measure every 2D and 3D corruption in one run, and write the table of the documentation.

``python benchmarks/perturbation_table.py`` writes ``docs/perturbation-speed.md`` (a path as the only
argument goes elsewhere). 224 × 224, batch 32, severity 3, on the CPU with as many threads as torch takes.
Everything is timed in turns, round after round, and the smallest time of each counts, so that a busy
machine slows all alike. Compare figures of one run only.
"""

from __future__ import annotations

import math
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecorruptions
import numpy as np
import open_clip
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pytest_cliprobust.datasets.loading import load_dataset
from pytest_cliprobust.perturbations import registry

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from helpers import Watch  # noqa: E402

BATCH = 32
SEVERITY = 3
ROUNDS = 15
COMMON = registry.names("common")
DEPTH = (*registry.names("depth"), *registry.names("view"))
#: What a 3D corruption's cost is held against.
BLURS = ("gaussian_blur", "defocus_blur")
#: Which of ours does what the reference calls by another's name.
SAME = {"elastic_transform": "elastic_transform_imagecorruptions"}
TABLE = ROOT / "docs" / "perturbation-speed.md"


def batch() -> tuple[Tensor, dict[str, Tensor]]:
    """Return scenes of the embedded benchmark (32, 3, 224, 224) in [0, 1] and their inputs."""
    dataset = load_dataset("clean", profile="quick")
    loaded = dataset.load(range(0, 10 * BATCH, 10))
    inputs = {"seeds": torch.arange(BATCH) * 104729 + 11, "depth": loaded.depth}
    if loaded.extras.get("focal") is not None:
        inputs["focal"] = loaded.extras["focal"]
    return loaded.images / 255, inputs


def ours(name: str, images: Tensor, inputs: dict[str, Tensor]) -> Callable[[], Any]:
    """Return a call of our corruption on the whole batch."""
    corruption = registry.get(SAME.get(name, name))
    return lambda: corruption(images, SEVERITY, **inputs)


def theirs(name: str, images: Tensor, count: int) -> Callable[[], Any]:
    """Return a call of the reference on ``count`` pictures of the batch, one after the other."""
    pictures = [p.permute(1, 2, 0).mul(255).round().byte().numpy() for p in images[:count]]

    def run() -> None:
        for picture in pictures:
            imagecorruptions.corrupt(picture, corruption_name=name, severity=SEVERITY)

    return run


def forward(images: Tensor) -> Callable[[], Any]:
    """Return a forward pass of ViT-B-32 (random weights) on the batch."""
    model = open_clip.create_model("ViT-B-32", pretrained=None).eval()
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(3, 1, 1)
    deviation = torch.tensor(open_clip.OPENAI_DATASET_STD).view(3, 1, 1)

    def run() -> None:
        with torch.inference_mode():
            model.encode_image((images - mean) / deviation)

    return run


def fastest(calls: dict[Any, Callable[[], Any]], rounds: int = ROUNDS) -> dict[Any, float]:
    """Return the least seconds of each call; the calls take turns."""
    least = dict.fromkeys(calls, math.inf)
    for round_ in range(rounds + 1):
        for key, call in calls.items():
            start = time.perf_counter()
            call()
            if round_:  # the first warms up
                least[key] = min(least[key], time.perf_counter() - start)
    return least


def memory(name: str) -> float:
    """Return the peak of extra memory on an accelerator, in batches; the result counts too."""
    with FakeTensorMode():
        images = torch.empty(BATCH, 3, 224, 224, device="cuda")
        inputs = {
            "depth": torch.empty(BATCH, 1, 224, 224, device="cuda"),
            "seeds": torch.empty(BATCH, dtype=torch.int64, device="cuda"),
        }
        with Watch() as watch:
            registry.get(name)(images, SEVERITY, **inputs)
    return watch.peak / (images.numel() * images.element_size())


@dataclass(frozen=True)
class Row:
    """One corruption: seconds per image (ours, the reference's), peak of extra memory in batches."""

    name: str
    seconds: float
    reference: float
    memory: float


@dataclass(frozen=True)
class Measurement:
    """All rows of one run, seconds per image of a ViT-B-32 and of the blurs."""

    rows: tuple[Row, ...]
    model: float

    @property
    def common(self) -> list[Row]:
        """The 2D corruptions."""
        return [row for row in self.rows if row.name in COMMON]

    @property
    def depth(self) -> list[Row]:
        """The 3D corruptions."""
        return [row for row in self.rows if row.name in DEPTH]

    @property
    def speedup(self) -> float:
        """Geometric mean over the 2D corruptions of the reference's time over ours."""
        return statistics.geometric_mean(row.reference / row.seconds for row in self.common)

    @property
    def slowest(self) -> Row:
        """The 2D corruption that gains least."""
        return min(self.common, key=lambda row: row.reference / row.seconds)

    @property
    def share(self) -> float:
        """Median cost of a corruption, relative to the forward pass."""
        return statistics.median(row.seconds / self.model for row in self.rows)

    @property
    def blur(self) -> float:
        """Seconds per image of the dearest 2D blur that the 3D ones are held against."""
        return max(row.seconds for row in self.rows if row.name in BLURS)


def measure(rounds: int = ROUNDS) -> Measurement:
    """Measure everything in one run."""
    images, inputs = batch()
    np.random.seed(0)  # the reference draws from the global generator
    calls: dict[Any, Callable[[], Any]] = {"model": forward(images)}
    counts = {name: 2 if name in ("zoom_blur", "glass_blur") else 8 for name in COMMON}
    for name in COMMON:
        calls["ours", name] = ours(name, images, inputs)
        calls["theirs", name] = theirs(name, images, counts[name])
    for name in DEPTH:
        calls["ours", name] = ours(name, images, inputs)
    least = fastest(calls, rounds)
    rows = [
        Row(
            name,
            least["ours", name] / BATCH,
            least["theirs", name] / counts[name] if name in COMMON else math.nan,
            memory(name),
        )
        for name in (*COMMON, *DEPTH)
    ]
    return Measurement(tuple(rows), least["model"] / BATCH)


def page(result: Measurement) -> str:
    """Return the documentation's page."""
    lines = [
        "# Speed and memory of the perturbations",
        "",
        f"Written by `python benchmarks/perturbation_table.py` in one run: 224 × 224, batch {BATCH},"
        " severity",
        f"{SEVERITY}, float32, {torch.get_num_threads()} threads of {platform.machine()}, torch"
        f" {torch.__version__}. Times are the least of {ROUNDS} turns.",
        "",
        f"- Against `imagecorruptions` per image: **{result.speedup:.1f} times** as fast in the"
        f" geometric mean over the {len(result.common)}; least for `{result.slowest.name}`,"
        f" {result.slowest.reference / result.slowest.seconds:.2f} times.",
        f"- A forward pass of ViT-B-32 takes {result.model * 1e3:.1f} ms an image; the median"
        f" corruption takes **{result.share:.1%}** of that.",
        "",
        "| 2D corruption | ms an image | `imagecorruptions`, ms | times as fast | of a ViT-B-32 |"
        " memory, batches |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in result.common:
        lines.append(
            f"| `{row.name}` | {row.seconds * 1e3:.2f} | {row.reference * 1e3:.2f} |"
            f" {row.reference / row.seconds:.1f} | {row.seconds / result.model:.1%} | {row.memory:.1f} |"
        )
    lines += [
        "",
        f"3D corruptions, with depth, beside the dearer of {' and '.join(f'`{b}`' for b in BLURS)}"
        f" ({result.blur * 1e3:.2f} ms):",
        "",
        "| 3D corruption | ms an image | of a 2D blur | of a ViT-B-32 | memory, batches |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in result.depth:
        lines.append(
            f"| `{row.name}` | {row.seconds * 1e3:.2f} | {row.seconds / result.blur:.2f} |"
            f" {row.seconds / result.model:.1%} | {row.memory:.1f} |"
        )
    lines += [
        "",
        "Memory is the peak of what is alive beside the pictures on an accelerator (counted with fake"
        " tensors), in units of",
        "the batch, the result included. The reference works on single 8-bit pictures, ours on float"
        " batches.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TABLE
    target.write_text(page(measure()), encoding="utf-8")
    print(target.read_text(encoding="utf-8"))

"""Time and peak memory of a run over 1, 4 and 16 times the data: time should grow with it, memory not.

Time is that of the processor, which other work on the machine does not lengthen.

``python benchmarks/memory_scale.py`` writes image folders of 500, 2,000 and 8,000 small JPEGs and a tiny
model with random weights, and measures each folder in a process of its own, with an empty cache: clean
pictures, noise and contrast, with the accuracy on each. It prints a table and draws
``docs/images/memory-scale.png``; docs/your-pictures.md shows both.

``--store off`` measures without the store of decoded pictures, ``--sizes`` other folders.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SIZES = (500, 2000, 8000)
CLASSES = 10
SIDE = 256
CONDITIONS = ((), ("gaussian_noise", 3), ("contrast", 3))
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "memory-scale.png"

MODEL = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "head_width": 32, "patch_size": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@dataclass(frozen=True)
class Measured:
    """What a run took.

    Attributes:
        samples: pictures.
        seconds: of the processor over the whole run, the loading of the model excluded.
        peak: megabytes that the process held at most.
    """

    samples: int
    seconds: float
    peak: float


# --- In a process of its own -----------------------------------------------------------------------


def measure(model: str, data: str, cache: str, store: str) -> Measured:
    """Run the conditions over a folder in this process."""
    from pytest_cliprobust.engine.config import RunConfig
    from pytest_cliprobust.engine.evaluation import Evaluation
    from pytest_cliprobust.properties.accuracy import accuracy_of

    options = RunConfig((model,), data=data, cache_dir=Path(cache), store=store, device="cpu")
    clip = Evaluation(options, model)
    began = time.process_time()
    for condition in CONDITIONS:
        accuracy_of(clip.on("clean", *condition))
    seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(len(clip.dataset("clean")), seconds, peak)


def write_model(folder: Path) -> None:
    """Write an open_clip folder with random weights."""
    import torch
    from safetensors.torch import save_file

    from pytest_cliprobust.targets.open_clip_target import build_model

    folder.mkdir()
    torch.manual_seed(0)
    model, _ = build_model(MODEL, "benchmark")
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": MODEL, "preprocess_cfg": {}})
    )


# --- Here ------------------------------------------------------------------------------------------


def write_pictures(folder: Path, count: int) -> None:
    """Write JPEGs of smooth random colours, each of its own."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(count)
    for number in range(count):
        place = folder / f"class {number % CLASSES}" / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(place, quality=90)


def in_a_process(*words: str) -> str:
    """Run this file with some words, in one thread, and return what it prints last."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, *words],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return (done.stdout.splitlines() or [""])[-1]


def drawn(found: Sequence[Measured], path: Path) -> None:
    """Draw seconds and megabytes over the number of pictures."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.9), layout="constrained")
    samples = [one.samples for one in found]
    for axes, values, label in (
        (left, [one.seconds for one in found], "processor time (s)"),
        (right, [one.peak for one in found], "peak memory (MB)"),
    ):
        axes.plot(samples, values, "o-", color="#1f5f8b", markersize=5)
        axes.set(xlabel="pictures", ylabel=label, ylim=(0, 1.25 * max(values)))
        axes.set_xticks(samples, [f"{n:,}" for n in samples])
        axes.set_xlim(0, 1.06 * max(samples))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        for tick in axes.get_xticklabels():
            tick.set_rotation(30)
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str]) -> None:
    """Measure all sizes, print a table, and draw it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--store", choices=("auto", "on", "off"), default="on")
    parser.add_argument("--out", type=Path, default=PICTURE)
    options = parser.parse_args(arguments)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        in_a_process("model", str(root / "model"))
        print("| pictures | seconds | ms a picture | peak memory |")
        print("| ---: | ---: | ---: | ---: |")
        for count in options.sizes:
            write_pictures(root / str(count), count)
            told = in_a_process(
                *("run", str(root / "model"), str(root / str(count))),
                *(str(root / f"cache-{count}"), options.store),
            )
            one = Measured(**json.loads(told))
            found.append(one)
            each = 1000 * one.seconds / one.samples
            print(
                f"| {one.samples:,} | {one.seconds:.0f} | {each:.1f} | {one.peak:.0f} MB |",
                flush=True,
            )
    drawn(found, options.out)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["model", where]:
            write_model(Path(where))
        case ["run", model, data, cache, store]:
            print(json.dumps(vars(measure(model, data, cache, store))))
        case words:
            main(words)

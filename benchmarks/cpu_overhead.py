"""What a whole run of a ViT-B-32 costs on the CPU beside bare forward passes and bare perturbation.

``python benchmarks/cpu_overhead.py`` writes an image folder of JPEGs and a ViT-B-32 with random
weights, and prints processor times, which other work on the machine hardly lengthens. One thread.

Pictures: decoding and framing, perturbations, forward passes, features into an empty cache, and the
accuracies with their intervals, beside the same perturbations and passes on pictures that lie framed in
memory. Once in a run, however many pictures it has: the looks at the model and its numerical noise (152
pictures in passes of other sizes) and the class prompts, beside the prompts alone. The ratio of a whole run
follows for as many pictures as ``--passes`` names; 47,641 pass through the model in the quick profile.
Importing libraries and loading the model, which both sides have to, are printed apart.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

PROCESS_STARTED = time.process_time()

import open_clip  # noqa: E402
import torch  # noqa: E402
from feed import write_pictures  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from pytest_cliprobust.datasets.base import Dataset  # noqa: E402
from pytest_cliprobust.engine.config import RunConfig  # noqa: E402
from pytest_cliprobust.engine.encoding import FORWARD_CHUNK, to_float  # noqa: E402
from pytest_cliprobust.engine.evaluation import Evaluation  # noqa: E402
from pytest_cliprobust.perturbations import registry  # noqa: E402
from pytest_cliprobust.properties import accuracy  # noqa: E402
from pytest_cliprobust.targets.base import Target  # noqa: E402

ARCHITECTURE = "ViT-B-32"
SEVERITY = 3
PERTURBATIONS = ("gaussian_noise", "fog", "defocus_blur", "jpeg_compression")


def write_model(folder: Path) -> Path:
    """Write an open_clip folder of a ViT-B-32 with random weights."""
    torch.manual_seed(0)
    model = open_clip.create_model(ARCHITECTURE, pretrained=None)
    folder.mkdir()
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    told = {"model_cfg": open_clip.get_model_config(ARCHITECTURE), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def look(clip: Evaluation) -> None:
    """Look at the model before any figure, and measure its numerical noise: once in a run."""
    clip.check()
    clip.noise_floor("accuracy")


def run(clip: Evaluation, perturbations: Sequence[str]) -> None:
    """Measure accuracy on clean pictures and under each perturbation, as a suite does."""
    clean = clip.on("clean")
    accuracy.accuracy_of(clean)
    for name in perturbations:
        view = clip.on("clean", name, SEVERITY)
        accuracy.accuracy_of(view)
        accuracy.accuracy_drop(clean, view)


def bare_pictures(
    target: Target, images: torch.Tensor, ids: tuple[str, ...], perturbations: Sequence[str]
) -> None:
    """Encode the pictures as they are and under each perturbation; keep nothing."""
    with torch.inference_mode():
        for name in (None, *perturbations):
            for start in range(0, len(images), FORWARD_CHUNK):
                pixels = to_float(images[start : start + FORWARD_CHUNK])
                if name is not None:
                    seeds = registry.sample_seeds(ids[start : start + FORWARD_CHUNK], name, 0)
                    pixels = registry.get(name)(pixels, SEVERITY, seeds=seeds)
                target.encode_image(target.preprocess(pixels)).numpy()


def bare_prompts(target: Target, prompts: list[str]) -> None:
    """Encode the prompts; keep nothing."""
    with torch.inference_mode():
        for start in range(0, len(prompts), FORWARD_CHUNK):
            target.encode_text(prompts[start : start + FORWARD_CHUNK])


def prompts_of(clip: Evaluation) -> list[str]:
    """Return all texts of the zero-shot head."""
    return [
        template.format(text) if isinstance(template, str) else template(text)
        for texts in clip.texts
        for text in texts
        for template in clip.templates
    ]


def framed(data: Dataset) -> torch.Tensor:
    """Return all pictures (N, 3, H, W) uint8."""
    return data.load(range(len(data))).images


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--perturbations", type=int, default=4, help="how many, at most 4")
    parser.add_argument("--passes", type=int, nargs="+", default=[5000, 47641])
    options = parser.parse_args()
    torch.set_num_threads(1)
    imported = time.process_time() - PROCESS_STARTED
    chosen = PERTURBATIONS[: options.perturbations]
    least = dict.fromkeys(("looks", "run", "bare", "prompts"), math.inf)

    def timed(name: str, work: Callable[[], None]) -> None:
        began = time.process_time()
        work()
        least[name] = min(least[name], time.process_time() - began)

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = write_model(folder / "model")
        write_pictures(folder / "photos", options.pictures)
        for turn in range(options.turns):
            settings = RunConfig(
                (str(model),),
                data=str(folder / "photos"),
                cache_dir=folder / f"cache-{turn}",
                device="cpu",
            )
            began = time.process_time()
            clip = Evaluation(settings, settings.models[0])
            loading = time.process_time() - began
            timed("looks", partial(look, clip))
            timed("run", partial(run, clip, chosen))
            data, prompts = clip.dataset("clean"), prompts_of(clip)
            images = framed(data)
            timed("prompts", partial(bare_prompts, clip.target, prompts))
            timed("bare", partial(bare_pictures, clip.target, images, tuple(data.ids), chosen))
    passes = len(images) * (1 + len(chosen))
    print(f"imports {imported:.1f} s, loading {loading:.1f} s")
    print(
        f"once: looks {least['looks']:.1f} s, bare {len(prompts)} prompts {least['prompts']:.1f} s"
    )
    print(
        f"{passes} pictures: {least['run']:.1f} s, bare {least['bare']:.1f} s: "
        f"{least['run'] / least['bare']:.3f}"
    )
    for wanted in options.passes:
        times = wanted / passes
        ours, theirs = (
            least["run"] * times + least["looks"],
            least["bare"] * times + least["prompts"],
        )
        print(f"a run of {wanted:,} pictures: {ours / theirs:.3f}")


if __name__ == "__main__":
    main()

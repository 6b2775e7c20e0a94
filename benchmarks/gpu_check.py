"""What holds on an accelerator: figures, perturbations, speed and memory, in one run of at most six minutes.

    python benchmarks/gpu_check.py OUT                        # all parts, into the folder OUT
    python benchmarks/gpu_check.py OUT --parts speed          # one of them
    python benchmarks/gpu_check.py OUT --device cpu --tiny    # does the script work?

A part is measured for itself, in a process of its own (an error of the device spoils the process that it
happens in), and what it lacks is said and not guessed:

``figures``        the suites of the quick profile with the bundled model, on the CPU and on the accelerator:
                   every figure of both reports, held against each other;
``perturbations``  every registered one: how often it waits for the accelerator, how far its result is from
                   the CPU's, and milliseconds an image on both;
``speed``          images a second of a ViT-B-32 in fp16 through the engine, beside its bare forward passes;
``memory``         whether passes really back off where the accelerator's memory is short.

``OUT/gpu_check.json`` holds everything, ``OUT/gpu_check.md`` the tables that are printed; both are written
anew after each part, and a part that is ended for want of time leaves the rows that it had. Time is kept for
the parts that follow; one that would not fit is said as not run. Without an accelerator the script runs, too:
the CPU against itself, which only shows that the script works. Times are of one machine in one run: compare
nothing else. Waits can be counted, and memory really be short, on CUDA devices only; elsewhere ``memory``
has a model that says that it has too little.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from torch import Tensor

from pytest_cliprobust.cache import FeatureCache
from pytest_cliprobust.datasets.base import Batch, Dataset
from pytest_cliprobust.datasets.loading import load_dataset
from pytest_cliprobust.engine.encoding import Encoder, text_writer, to_float
from pytest_cliprobust.engine.transfer import moved, pinned
from pytest_cliprobust.figures.condition import Step
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.results import journal
from pytest_cliprobust.targets.base import TargetInfo
from pytest_cliprobust.targets.open_clip_target import OpenClipTarget
from pytest_cliprobust.targets.preprocessing import Preprocessing

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("figures", "perturbations", "speed", "memory")

FIGURE_TOLERANCE = 1e-3
"""How far a figure of the accelerator may be from the CPU's."""

FIGURES_SECONDS = 230.0
"""How long the suites may take together: 1,125 figures of 47,641 pictures, on each device."""

PIXEL = 1 / 255
MEAN_TOLERANCE = 1e-4
PIXEL_SHARE = 1e-3
"""A perturbed picture agrees with the CPU's if pixels are 1e-4 apart on average, and at most one in a
thousand by more than a step of 8 bits: rounding may turn a comparison."""

SEVERITY = 3
SIZE = 224
AIM = 0.9


LEAST = {"figures": 60.0, "perturbations": 60.0, "speed": 45.0, "memory": 25.0}
"""Seconds that each part needs to show anything, and that are kept for it by those before."""

INTERRUPTED = 15.0
"""Seconds in which suites that are interrupted write what they have."""

GRACE = 4.0
"""Seconds before a part's end in which it begins nothing new, and after which it is ended."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        cpu_batch: pictures that a perturbation is compared on.
        device_batch: pictures that it is timed on on an accelerator.
        chunks: pictures a forward pass.
        pictures: that go through the engine on an accelerator; on the CPU ``cpu_batch``.
        short: pictures, and how many a pass, of what is tried with too little memory.
        views: pictures whose perturbation is tried so.
        suites: arguments of pytest that name the suites.
    """

    cpu_batch: int = 32
    device_batch: int = 256
    chunks: tuple[int, ...] = (32, 128, 256, 512, 1024)
    pictures: int = 8192
    short: tuple[int, int] = (1024, 512)
    views: int = 128
    suites: tuple[str, ...] = ("suites",)


USUAL = Sizes()
TINY = Sizes(
    cpu_batch=2,
    device_batch=4,
    chunks=(2, 4),
    pictures=8,
    short=(8, 4),
    views=8,
    suites=("suites/test_accuracy.py", "--clip-limit=12"),
)


@dataclass
class Check:
    """What one part finds.

    Attributes:
        part: its name.
        out: folder of what is written.
        device: what is held against the CPU; the CPU itself where there is no accelerator.
        until: when to begin nothing new, by the monotonic clock.
        sizes: how much is measured.
        results: by part, JSON-able.
        tables: by part, lines of Markdown.
        not_run: what was not measured, and why.
    """

    part: str
    out: Path
    device: torch.device
    until: float
    sizes: Sizes = USUAL
    results: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, list[str]] = field(default_factory=dict)
    not_run: list[str] = field(default_factory=list)

    @property
    def saved(self) -> Path:
        """The file that the part keeps what it found in."""
        return self.out / f"{self.part}.part.json"

    def save(self) -> None:
        """Write what was found so far, for whoever started this process; it may be ended at any time."""
        told = {
            "machine": self.machine,
            "results": self.results,
            "tables": self.tables,
            "not_run": self.not_run,
        }
        new = self.saved.with_suffix(".new")
        new.write_text(json.dumps(told), encoding="utf-8")
        new.replace(self.saved)

    @property
    def accelerated(self) -> bool:
        """Whether there is an accelerator."""
        return self.device.type != "cpu"

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.until - time.monotonic()

    @property
    def machine(self) -> dict[str, Any]:
        """The machine and the versions, for the report."""
        name = "no accelerator"
        if self.accelerated:
            # Not every kind of accelerator has a name to tell.
            module = torch.get_device_module(self.device)
            tell = getattr(module, "get_device_name", None)
            name = str(self.device) if tell is None else tell(self.device)
        return {
            "accelerator": name,
            "processor": f"{platform.machine()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "torch": torch.__version__,
            "open_clip": open_clip.__version__,
        }

    def synchronize(self) -> None:
        """Wait until the device has done all that it was told."""
        if self.accelerated:
            torch.accelerator.synchronize(self.device)

    def seconds(self, call: Callable[[], Any], rounds: int = 5) -> float:
        """Return the median seconds of a call that was warmed up before."""
        times = []
        for _ in range(rounds):
            self.synchronize()
            start = time.perf_counter()
            call()
            self.synchronize()
            times.append(time.perf_counter() - start)
        return statistics.median(times)


# figures --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One run of the suites: its name, device, precision, and what its environment adds."""

    name: str
    device: str
    precision: str
    environment: Mapping[str, str] = field(default_factory=dict)


def suites_run(
    run: Run, folder: Path, caches: Path, workers: int, suites: Sequence[str]
) -> subprocess.Popen[bytes]:
    """Start the suites of the quick profile with the bundled model, with a feature cache of their own."""
    command = [
        sys.executable, "-m", "pytest", *suites, "-q", "-p", "no:cacheprovider",
        "--clip-model=reference", "--clip-profile=quick", "--clip-history=none",
        f"--clip-device={run.device}", f"--clip-precision={run.precision}",
        f"--clip-cache-dir={caches / run.name}", f"--clip-report={folder / run.name}.json",
    ]  # fmt: skip
    if workers > 1:
        command += ["-n", str(workers), "-p", "no:benchmark"]
    if not _is_installed():
        command += ["-p", "pytest_cliprobust.plugin"]
    threads = str(max(1, (os.cpu_count() or 1) // 16))
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {
        **os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": path, **run.environment
    }  # fmt: skip
    with (folder / f"{run.name}.log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )


def _is_installed() -> bool:
    from importlib import metadata

    with contextlib.suppress(metadata.PackageNotFoundError):
        return bool(metadata.version("pytest-cliprobust"))
    return False


def end(going: Mapping[str, subprocess.Popen[bytes]], seconds: float) -> dict[str, float]:
    """Wait for runs; return by name how long those took that ended by themselves within the seconds.

    Those that did not are interrupted, all at once, and write what they have.
    """
    start, took = time.monotonic(), dict[str, float]()

    def wait(until: float) -> None:
        while time.monotonic() < until and any(p.poll() is None for p in going.values()):
            time.sleep(0.1)
            for name, process in going.items():
                if process.poll() is not None:
                    took.setdefault(name, time.monotonic() - start)

    wait(start + seconds)
    ended = dict(took)
    late = [process for process in going.values() if process.poll() is None]
    for process in late:
        process.send_signal(signal.SIGINT)
    wait(time.monotonic() + INTERRUPTED)
    for process in late:
        process.kill()
        process.wait()
    return ended


def ran_on(report: Path) -> str:
    """Return the kind of device that the report says its model ran on; empty where it says none."""
    if not report.exists():
        return ""
    models = json.loads(report.read_text(encoding="utf-8"))["models"]
    return next((str(told["device"]).partition(":")[0] for told in models.values()), "")


def figures_of(report: Path) -> dict[str, Mapping[str, Any]]:
    """Return the figures of a report by key; of a run that was cut short those that it had."""
    if report.exists():
        found = json.loads(report.read_text(encoding="utf-8"))["measurements"]
    else:
        found = journal.read(report.with_name(f"{report.name}.unfinished"))
    return {m["key"]: m["figure"] for m in found}


def compared(
    before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return how far the figures of two reports are apart, and which the most."""
    apart = {}
    for key in before.keys() & after.keys():
        one, other = float(before[key]["value"]), float(after[key]["value"])
        apart[key] = 0.0 if one == other or (math.isnan(one) and math.isnan(other)) else one - other
    sizes = {key: math.inf if math.isnan(gap) else abs(gap) for key, gap in apart.items()}
    beyond = sorted((k for k in sizes if sizes[k] > FIGURE_TOLERANCE), key=lambda k: -sizes[k])
    metrics = Counter(str(before[key]["metric"]) for key in beyond)
    return {
        "figures": len(sizes),
        "only_one": sorted(before.keys() ^ after.keys()),
        "equal": sum(size == 0 for size in sizes.values()),
        "within": len(sizes) - len(beyond),
        "largest": max(sizes.values(), default=0.0),
        "metrics_beyond": dict(metrics.most_common()),
        "beyond": [
            {
                "key": key,
                "cpu": before[key]["value"],
                "device": after[key]["value"],
                "n": before[key]["n"],
            }
            for key in beyond
        ],
    }


def check_figures(check: Check) -> None:
    """Run the suites on both devices, and compare figure by figure."""
    device = str(check.device)
    runs = [Run("cpu", "cpu", "fp32"), Run("fp32", device, "fp32")]
    if check.device.type == "cuda":
        runs.append(Run("fp32-no-tf32", device, "fp32", {"NVIDIA_TF32_OVERRIDE": "0"}))
    if check.accelerated:
        runs.append(Run("auto", device, "auto"))
    cores = os.cpu_count() or 1
    # The CPU's own run has the most to do.
    workers = {
        run.name: max(1, cores * (3 if run.name == "cpu" else 1) // (len(runs) + 2)) for run in runs
    }
    for run in runs:
        for left in (f"{run.name}.json", f"{run.name}.json.unfinished"):
            (check.out / left).unlink(missing_ok=True)
    seconds = max(1.0, min(check.left, FIGURES_SECONDS) - INTERRUPTED)
    # All at once: nothing is timed here but the whole. The reports stay, to be compared again.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as caches:
        going = {
            run.name: suites_run(
                run, check.out, Path(caches), workers[run.name], check.sizes.suites
            )
            for run in runs
        }
        took = end(going, seconds)
    for name in going.keys() - took.keys():
        check.not_run.append(f"figures: the suites of {name} were cut short after {seconds:.0f} s")
    found = {run.name: figures_of(check.out / f"{run.name}.json") for run in runs}
    results: dict[str, Any] = {
        "seconds": took,
        "workers": workers,
        "exit_codes": {name: process.returncode for name, process in going.items()},
    }
    lines = [
        f"| run | exit code | figures | equal | within {FIGURE_TOLERANCE:g} | farthest |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, process in going.items():
        device = ran_on(check.out / f"{name}.json")
        asked = "cpu" if name == "cpu" else check.device.type
        if device and device != asked:
            check.not_run.append(f"figures: {name} was to run on {asked}, and ran on {device}")
        if not found[name]:
            text = (check.out / f"{name}.log").read_text(encoding="utf-8", errors="replace")
            check.not_run.append(f"figures: none of {name}:\n{text[-1000:]}")
        result = results[name] = compared(found["cpu"], found[name])
        lines.append(
            f"| {name} | {process.returncode} | {result['figures']} | {result['equal']}"
            f" | {result['within']} | {result['largest']:.2g} |"
        )
        if result["metrics_beyond"]:
            which = ", ".join(f"{k} ×{n}" for k, n in result["metrics_beyond"].items())
            lines.append(f"| | | | | | {which} |")
        if result["only_one"]:
            check.not_run.append(
                f"figures: {len(result['only_one'])} of {name} or of cpu alone, such as "
                f"{result['only_one'][0]}"
            )
    check.results["figures"], check.tables["figures"] = results, lines


# perturbations --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def counted_waits(device: torch.device) -> Iterator[Counter[str]]:
    """Count how often the host waits for the device, by the lines of code that make it wait."""
    waits: Counter[str] = Counter()
    if device.type != "cuda":
        yield waits
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for warning in caught:
        if "called a synchronizing" in str(warning.message):
            waits[f"{Path(warning.filename).name}:{warning.lineno}"] += 1


def inputs_of(
    perturbation: registry.Perturbation, dataset: Dataset, batch: Batch, copies: int
) -> dict[str, Any]:
    """Return the inputs of a perturbation on the CPU, of ``copies`` times the batch with other seeds."""
    write = text_writer(perturbation, dataset, 0)
    offered = batch if write is None else write(batch)
    inputs: dict[str, Any] = {}
    beside = {"depth": offered.depth, "mask": offered.mask}
    for name in sorted(perturbation.inputs | perturbation.optional):
        if name == "seeds":
            ids = tuple(f"{copy}/{i}" for copy in range(copies) for i in offered.ids)
            inputs[name] = registry.sample_seeds(ids, perturbation.name, 0)
        else:
            tensor = beside[name] if name in beside else offered.extras.get(name)
            if tensor is not None:
                inputs[name] = tensor.repeat(copies, *[1] * (tensor.dim() - 1))
    return inputs


def check_perturbation(
    check: Check, perturbation: registry.Perturbation, dataset: Dataset, batch: Batch
) -> dict[str, Any]:
    """Return waits, differences and times of one perturbation."""
    # What works on the host, a codec or kornia's one picture at a time, gains nothing from a larger batch.
    few_at_once = check.sizes.cpu_batch
    large = check.accelerated and perturbation.compilable
    copies = check.sizes.device_batch // few_at_once if large else 1
    severity = SEVERITY if perturbation.severities else None
    inputs = inputs_of(perturbation, dataset, batch, copies)
    images = (batch.images / 255).repeat(copies, 1, 1, 1)
    few = {name: tensor[:few_at_once] for name, tensor in inputs.items()}
    there = {name: tensor.to(check.device) for name, tensor in inputs.items()}
    pictures = images.to(check.device)

    def on_cpu() -> Tensor:
        return perturbation(images[:few_at_once], severity, **few)

    def on_device() -> Tensor:
        return perturbation(pictures, severity, **there)

    expected = on_cpu()
    start = time.perf_counter()
    on_cpu()
    cpu_seconds = time.perf_counter() - start
    made = on_device()
    if made.device.type != check.device.type:
        raise RuntimeError(f"the result lies on {made.device.type}, not on {check.device.type}")
    result = made[:few_at_once].cpu()
    with counted_waits(check.device) as waits:
        on_device()
    gaps = (result - expected).abs()
    rounds = 3 if perturbation.compilable else 1
    return {
        "waits": sum(waits.values()) if check.device.type == "cuda" else None,
        "where": dict(waits),
        "mean": float(gaps.mean()),
        "largest": float(gaps.max()),
        "share_beyond_a_step": float((gaps > PIXEL).float().mean()),
        "cpu_ms": cpu_seconds / few_at_once * 1e3,
        "device_ms": check.seconds(on_device, rounds) / len(pictures) * 1e3,
    }


def agrees(result: Mapping[str, Any]) -> bool:
    """Return whether a perturbation's result is the CPU's."""
    return bool(
        result["mean"] <= MEAN_TOLERANCE and result["share_beyond_a_step"] <= PIXEL_SHARE
    )  # fmt: skip


def check_perturbations(check: Check) -> None:
    """Run every perturbation on both devices."""
    dataset = load_dataset("clean", profile="quick")
    batch = dataset.load(range(0, 10 * check.sizes.cpu_batch, 10))
    names = [*registry.names(), "kornia:RandomGrayscale", "kornia:RandomMotionBlur"]
    results: dict[str, Any] = {}
    for number, name in enumerate(names):
        if check.left < GRACE:
            check.not_run.append(f"perturbations: no time for {', '.join(names[number:])}")
            break
        try:
            settings = {} if ":" not in name else KORNIA[name]
            perturbation = registry.get(name)
            if settings:
                perturbation = _with_settings(perturbation, settings)
            with torch.inference_mode():
                results[name] = check_perturbation(check, perturbation, dataset, batch)
        except Exception as error:  # one must not end all others
            check.not_run.append(f"perturbations: {name}: {type(error).__name__}: {error}")
        check.results["perturbations"] = results
        check.tables["perturbations"] = perturbation_lines(results)
        check.save()


def perturbation_lines(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the table of the perturbations, and which of them wait or are apart."""
    lines = [
        "| perturbation | waits | mean gap | beyond 1/255 | CPU, ms an image | device, ms | times as fast |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in results.items():
        waits = "–" if found["waits"] is None else str(found["waits"])
        lines.append(
            f"| `{name}` | {waits} | {found['mean']:.1e}{'' if agrees(found) else ' !'} |"
            f" {found['share_beyond_a_step']:.2%} | {found['cpu_ms']:.3f} | {found['device_ms']:.4f} |"
            f" {found['cpu_ms'] / found['device_ms']:.1f} |"
        )
    waiting = {n: r["where"] for n, r in results.items() if r["waits"]}
    lines += ["", f"Waiting: {len(waiting)} of {len(results)}."]
    lines += [
        f"- `{name}`: {', '.join(f'{place} ×{count}' for place, count in where.items())}"
        for name, where in waiting.items()
    ]
    apart = [name for name, found in results.items() if not agrees(found)]
    return [*lines, "", f"Not within the tolerance: {', '.join(apart) or 'none'}."]


KORNIA: dict[str, Mapping[str, Any]] = {
    "kornia:RandomGrayscale": {},
    "kornia:RandomMotionBlur": {"kernel_size": 9, "angle": 45.0, "direction": 0.5},
}


def _with_settings(
    perturbation: registry.Perturbation, settings: Mapping[str, Any]
) -> registry.Perturbation:
    return replace(perturbation, function=functools.partial(perturbation.function, **settings))


# speed ----------------------------------------------------------------------------------------------------


class Noise:
    """A data set of random pictures that lie in memory: what is timed is what comes after loading."""

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (count, 3, SIZE, SIZE)
        self.pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        self.name, self.digest = "noise", f"noise-{count}"
        self.ids = tuple(f"noise/{i}" for i in range(count))
        self.labels = (0,) * count
        self.class_names: tuple[str, ...] = ("thing",)
        self.groups: dict[str, tuple[str, ...]] = {}

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.ids)

    def load(self, indices: Sequence[int]) -> Batch:
        """Load pictures."""
        if isinstance(indices, range) and indices.step == 1:
            images = self.pixels[indices.start : indices.stop]
        else:
            images = self.pixels[list(indices)]
        return Batch(tuple(self.ids[i] for i in indices), images)


def vit_b_32(device: torch.device, precision: Any) -> OpenClipTarget:
    """Return a ViT-B-32 with random weights."""
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", pretrained=None).eval().requires_grad_(False)
    return OpenClipTarget(
        model.to(device),
        open_clip.get_tokenizer("ViT-B-32"),
        info=TargetInfo("ViT-B-32", "ViT-B-32", "random", "0" * 64),
        preprocessing=Preprocessing((SIZE, SIZE)),
        device=device,
        precision=precision,
        embed_dim=512,
        logit_scale=100.0,
        logit_bias=None,
    )


def bare_rate(check: Check, target: OpenClipTarget, chunk: int, count: int) -> float:
    """Return images a second of forward passes on pixels that lie on the device."""
    pixels = torch.randn(chunk, 3, SIZE, SIZE, device=check.device)

    def passes() -> None:
        with torch.inference_mode():
            for _ in range(max(1, count // chunk)):
                target.encode_image(pixels)

    passes()
    return max(1, count // chunk) * chunk / check.seconds(passes, 3)


def engine_rate(
    check: Check, target: OpenClipTarget, data: Dataset, steps: Sequence[Step], **sizes: int
) -> float:
    """Return images a second of a pass of the engine over a data set, none of it from the cache."""
    times = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            encoder = Encoder(
                target, FeatureCache(Path(folder)), precision=target.precision, **sizes
            )
            check.synchronize()
            start = time.perf_counter()
            encoder.images(data, steps)
            times.append(time.perf_counter() - start)
            if encoder.notes:
                check.not_run.append(f"speed: the engine backed off: {encoder.notes}")
    return len(data) / statistics.median(times[1:])


def host_costs(check: Check, target: OpenClipTarget, data: Dataset) -> dict[str, float]:
    """Return seconds an image of what the engine does beside the passes, each for itself."""
    chunk = min(256, len(data))
    batch = data.load(range(chunk))
    ready = pinned(batch, check.device)

    def stored() -> None:
        with tempfile.TemporaryDirectory() as folder:
            rows = np.zeros((len(data), target.embed_dim), dtype=np.float32)
            FeatureCache(Path(folder)).get_or_compute({}, lambda: rows)

    def prepared() -> Tensor:
        with torch.inference_mode():
            return target.preprocess(to_float(moved(ready.images, check.device)))

    for call in (lambda: pinned(batch, check.device), prepared, stored):
        call()
    return {
        "pinning": check.seconds(lambda: pinned(batch, check.device)) / chunk,
        "moving and preprocessing": check.seconds(prepared) / chunk,
        "storing": check.seconds(stored, 3) / len(data),
    }


def check_speed(check: Check) -> None:
    """Time the engine beside bare passes, by chunk; then as it is set by itself, and with noise."""
    precision = "fp16" if check.accelerated else "fp32"
    target = vit_b_32(check.device, precision)
    count = check.sizes.pictures if check.accelerated else check.sizes.cpu_batch
    data: Dataset = Noise(count)
    title = f"ViT-B-32, random weights, {precision}, {count} pictures of {SIZE} × {SIZE}; images a second."
    rows: list[dict[str, Any]] = []
    found: dict[str, Any] = {"rows": rows}

    def keep() -> None:
        check.results["speed"], check.tables["speed"] = found, [title, "", *speed_lines(found)]
        check.save()

    # What it does by itself comes first: of all figures it is the one that is wanted.
    for name, steps in (("by_itself", []), ("perturbed", [Step("gaussian_noise", 3)])):
        found[name] = engine_rate(check, target, data, steps)
        keep()
    for chunk in check.sizes.chunks if check.accelerated else check.sizes.chunks[:1]:
        if check.left < GRACE:
            check.not_run.append(f"speed: no time for passes of {chunk} and more")
            break
        bare = bare_rate(check, target, chunk, count)
        whole = engine_rate(check, target, data, [], chunk=chunk, batch_size=chunk)
        rows.append({"chunk": chunk, "bare": bare, "engine": whole})
        keep()
    found["host"] = host_costs(check, target, data)
    keep()


def speed_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the table of what was timed so far."""
    rows = found["rows"]
    best = max((row["bare"] for row in rows), default=math.nan)
    lines = [
        "| pictures a pass | bare | engine | of bare | of the best bare |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row['chunk']} | {row['bare']:.0f} | {row['engine']:.0f} |"
        f" {row['engine'] / row['bare']:.0%} | {row['engine'] / best:.0%} |"
        for row in rows
    ]
    share = f", {found['by_itself'] / best:.0%} of the best bare passes (aim: {AIM:.0%})"
    lines += [
        "",
        f"As the engine is set by itself: {found['by_itself']:.0f} images a second"
        f"{share if rows else ''}"
        + (f"; with Gaussian noise {found['perturbed']:.0f}." if "perturbed" in found else "."),
    ]
    if "host" in found:
        told = (f"{what} {seconds * 1e6:.1f}" for what, seconds in found["host"].items())
        lines.append(f"Microseconds an image on the host: {', '.join(told)}.")
    return lines


# memory ---------------------------------------------------------------------------------------------------


class Cramped:
    """A model for which more than ``most`` pictures a pass are too many, as on a device that is short."""

    def __init__(self, target: OpenClipTarget, most: int) -> None:
        self._target, self._most = target, most

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Return features, or say that there is too little memory."""
        if len(pixels) > self._most:
            raise torch.OutOfMemoryError(f"too little memory for {len(pixels)} pictures")
        return self._target.encode_image(pixels)


def check_memory(check: Check) -> None:
    """Leave too little memory, and see whether passes back off and give the same features."""
    target = vit_b_32(check.device, "fp16" if check.accelerated else "fp32")
    count, chunk = check.sizes.short
    data: Any = Noise(count)
    found: dict[str, Any] = {}
    if check.device.type != "cuda":
        told = "only a CUDA device's memory can be capped; a model said that it has too little"
        check.not_run.append(f"memory: {told}")
        cramped: Any = Cramped(target, chunk // 2)
        found["passes (said)"] = beside_each_other(
            target, cramped, data, [], {"chunk": chunk, "batch_size": chunk}
        )
        check.results["memory"], check.tables["memory"] = found, memory_lines(found)
        return
    views = load_dataset("clean", profile="quick", limit=check.sizes.views)
    many = {"chunk": min(32, check.sizes.views), "batch_size": check.sizes.views}
    # Passes that are larger than usual, and a perturbation that takes many times its pictures.
    for name, chosen, steps, sizes in (
        ("passes", data, [], {"chunk": chunk, "batch_size": chunk}),
        ("perturbation", views, [Step("view_translation", 3)], many),
    ):
        if check.left < GRACE:
            check.not_run.append(f"memory: no time for {name}")
            break
        found[name] = backed_off(check, target, chosen, steps, sizes)
        check.results["memory"], check.tables["memory"] = found, memory_lines(found)
        check.save()


def memory_lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the table of what was tried with too little memory."""

    def size(value: float | None) -> str:
        return "–" if value is None else f"{value:.0f}"

    return [
        "| what was too large | MiB needed | MiB allowed | notes | largest distance of two features |",
        "| --- | ---: | ---: | --- | ---: |",
        *(
            f"| {name} | {size(r['needed'])} | {size(r['allowed'])} |"
            f" {'; '.join(r['notes']) or 'none'} | {r['apart']:.1e} |"
            for name, r in found.items()
        ),
    ]


def features_of(
    target: Any, data: Dataset, steps: Sequence[Step], sizes: Mapping[str, int]
) -> tuple[Tensor, list[str]]:
    """Return features of a pass, none of them from the cache, and what the engine notes."""
    with tempfile.TemporaryDirectory() as folder:
        encoder = Encoder(target, FeatureCache(Path(folder)), precision=target.precision, **sizes)
        return encoder.images(data, steps), encoder.notes


def beside_each_other(
    target: Any, cramped: Any, data: Dataset, steps: Sequence[Step], sizes: Mapping[str, int]
) -> dict[str, Any]:
    """Return what a model that says that it has too little memory comes to, beside one that has enough."""
    whole, _ = features_of(target, data, steps, sizes)
    less, notes = features_of(cramped, data, steps, sizes)
    apart = float((whole - less).norm(dim=1).max())
    return {"needed": None, "allowed": None, "notes": notes, "apart": apart}


def backed_off(
    check: Check,
    target: Any,
    data: Dataset,
    steps: Sequence[Step],
    sizes: Mapping[str, int],
) -> dict[str, Any]:
    """Return what a pass does with less memory of a CUDA device than it needs."""
    features_of(target, data, steps, sizes)  # libraries take their workspaces
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    whole, _ = features_of(target, data, steps, sizes)
    needed = torch.cuda.max_memory_reserved() - before
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(check.device).total_memory
    allowed = before + 0.45 * needed
    torch.cuda.set_per_process_memory_fraction(allowed / total)
    try:
        less, notes = features_of(target, data, steps, sizes)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    return {
        "needed": needed / 2**20,
        "allowed": (allowed - before) / 2**20,
        "notes": notes,
        "apart": float((whole - less).norm(dim=1).max()),
    }


# ----------------------------------------------------------------------------------------------------------

CHECKS: dict[str, Callable[[Check], None]] = {
    "figures": check_figures,
    "perturbations": check_perturbations,
    "speed": check_speed,
    "memory": check_memory,
}


def run_part(check: Check) -> None:
    """Run one part in this process, and keep what it found, whatever became of it."""
    check.save()
    try:
        CHECKS[check.part](check)
    except BaseException:  # an interruption, too, leaves what there is
        check.not_run.append(f"{check.part}: failed\n{traceback.format_exc(limit=6)}")
    check.save()


def part_of(part: str, out: Path, device: str, seconds: float, *, tiny: bool) -> dict[str, Any]:
    """Run one part in a process of its own, and return what it found within its seconds."""
    until = time.monotonic() + seconds  # processes share this clock
    kept = Check(part, out, torch.device("cpu"), 0.0).saved
    kept.unlink(missing_ok=True)
    command = [
        *(sys.executable, str(Path(__file__).resolve()), str(out), "--only", part),
        *("--device", device, "--until", f"{until - GRACE:.2f}", *(["--tiny"] if tiny else [])),
    ]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with (out / f"{part}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": path},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # what it starts ends with it
        )
    try:
        code = process.wait(seconds)
        ended = "" if code == 0 else f"its process ended with {code}"
    except subprocess.TimeoutExpired:
        ended = f"ended after {seconds:.0f} s, as no more is left"
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    found: dict[str, Any] = {"machine": {}, "results": {}, "tables": {}, "not_run": []}
    if kept.exists():
        found |= json.loads(kept.read_text(encoding="utf-8"))
        kept.unlink()
    if ended:
        log_text = (out / f"{part}.log").read_text(encoding="utf-8", errors="replace")
        found["not_run"].append(f"{part}: {ended}; its log ends:\n{log_text[-500:]}")
    return found


def page(machine: Mapping[str, Any], tables: Mapping[str, list[str]], not_run: list[str]) -> str:
    """Return the tables, and what was not run."""
    lines = [", ".join(f"{name} {value}" for name, value in machine.items())]
    for part, table in tables.items():
        lines += ["", f"## {part}", "", *table]
    lines += ["", "## not run", ""]
    lines += [f"- {line}" for line in not_run] or ["Nothing was left out."]
    return "\n".join(lines) + "\n"


def whole(out: Path, parts: Sequence[str], device: str, seconds: float, *, tiny: bool) -> str:
    """Run the parts one after the other within so many seconds, and return the page.

    Both files are written after each part, and its table is printed.
    """
    until = time.monotonic() + seconds
    told: dict[str, Any] = {"machine": {}, "not_run": []}
    tables: dict[str, list[str]] = {}
    not_run: list[str] = told["not_run"]
    if device == "cpu":
        not_run.append("anything on an accelerator: there is none; this is the CPU against itself")
    not_run += [f"{part}: not asked for" for part in PARTS if part not in parts]
    text = page({}, tables, not_run)
    for number, part in enumerate(parts):
        start = time.monotonic()
        share = until - start - sum(LEAST[later] + GRACE for later in parts[number + 1 :])
        if share < LEAST[part]:
            not_run.append(
                f"{part}: it takes {LEAST[part]:.0f} s, and {max(0.0, share):.0f} are left"
            )
        else:
            found = part_of(part, out, device, share, tiny=tiny)
            told["machine"] |= found["machine"]
            told |= found["results"]
            tables |= found["tables"]
            not_run += found["not_run"]
        text = page(told["machine"], tables, not_run)
        (out / "gpu_check.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
        (out / "gpu_check.md").write_text(text, encoding="utf-8")
        print(f"{part}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        print("\n".join(tables.get(part, [])), flush=True)
    return text


def accelerator() -> str:
    """Return the accelerator that there is, or ``cpu``."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if found is None else str(found)


def main() -> None:
    """Run the parts, write both files, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of gpu_check.json and gpu_check.md")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seconds", type=float, default=350.0, help="the whole ends after so many")
    parser.add_argument("--device", help="what is held against the CPU (default: the accelerator)")
    parser.add_argument("--tiny", action="store_true", help="as little as shows that it works")
    parser.add_argument("--only", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    device = options.device or accelerator()
    # Whoever ends it ends what it started: a part is a session of its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.only:
        sizes = TINY if options.tiny else USUAL
        run_part(Check(options.only, out, torch.device(device), options.until, sizes))
    else:
        text = whole(out, options.parts, device, options.seconds, tiny=options.tiny)
        print(text.partition("## not run")[2])


if __name__ == "__main__":
    main()

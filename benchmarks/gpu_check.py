"""What holds on an accelerator: figures, perturbations, speed and memory, in one run of at most six minutes.

    python benchmarks/gpu_check.py OUT                  # all parts, into the folder OUT
    python benchmarks/gpu_check.py OUT --parts speed    # one of them

A part is measured for itself, and what it lacks is said and not guessed:

``figures``        the suites of the quick profile with the bundled model, on the CPU and on the accelerator:
                   every figure of both reports, held against each other;
``perturbations``  every registered one: how often it waits for the accelerator, how far its result is from
                   the CPU's, and milliseconds an image on both;
``speed``          images a second of a ViT-B-32 in fp16 through the engine, beside its bare forward passes;
``memory``         whether passes really back off where the accelerator's memory is short.

``OUT/gpu_check.json`` holds everything, ``OUT/gpu_check.md`` the tables that are printed. Without an
accelerator the script runs, too: the CPU against itself, which only shows that the script works. Times are
of one machine in one run: compare nothing else. Waits can be counted on CUDA devices only.
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
CPU_BATCH = 32
DEVICE_BATCH = 256
SIZE = 224
CHUNKS = (32, 128, 256, 512, 1024)
PICTURES = 8192
AIM = 0.9


@dataclass
class Check:
    """What one run finds.

    Attributes:
        out: folder of what is written.
        device: what is held against the CPU; the CPU itself where there is no accelerator.
        until: when to begin nothing new, by the monotonic clock.
        results: by part, JSON-able.
        tables: by part, lines of Markdown.
        not_run: what was not measured, and why.
    """

    out: Path
    device: torch.device
    until: float
    results: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, list[str]] = field(default_factory=dict)
    not_run: list[str] = field(default_factory=list)

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
            name = torch.get_device_module(self.device).get_device_name(self.device)
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


def suites_run(run: Run, folder: Path, caches: Path, workers: int) -> subprocess.Popen[bytes]:
    """Start the suites of the quick profile with the bundled model, with a feature cache of their own."""
    command = [
        sys.executable, "-m", "pytest", "suites", "-q", "-p", "no:cacheprovider",
        "--clip-model", "reference", "--clip-profile=quick", "--clip-history=none",
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


def end(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for a run; return whether it ended by itself. One that is interrupted writes what it has."""
    try:
        process.wait(max(1.0, seconds))
        return True
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return False


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
    started, until = time.monotonic(), time.monotonic() + min(check.left, FIGURES_SECONDS)
    # All at once: nothing is timed here but the whole. The reports stay, to be compared again.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as caches:
        going = {
            run.name: suites_run(run, check.out, Path(caches), workers[run.name]) for run in runs
        }
        took = {}
        for name, process in going.items():
            if not end(process, until - time.monotonic()):
                check.not_run.append(f"figures: the suites of {name} were cut short")
            took[name] = time.monotonic() - started
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
    copies = DEVICE_BATCH // CPU_BATCH if check.accelerated and perturbation.compilable else 1
    severity = SEVERITY if perturbation.severities else None
    inputs = inputs_of(perturbation, dataset, batch, copies)
    images = (batch.images / 255).repeat(copies, 1, 1, 1)
    few = {name: tensor[:CPU_BATCH] for name, tensor in inputs.items()}
    there = {name: tensor.to(check.device) for name, tensor in inputs.items()}
    pictures = images.to(check.device)

    def on_cpu() -> Tensor:
        return perturbation(images[:CPU_BATCH], severity, **few)

    def on_device() -> Tensor:
        return perturbation(pictures, severity, **there)

    expected = on_cpu()
    start = time.perf_counter()
    on_cpu()
    cpu_seconds = time.perf_counter() - start
    result = on_device()[:CPU_BATCH].cpu()
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
        "cpu_ms": cpu_seconds / CPU_BATCH * 1e3,
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
    batch = dataset.load(range(0, 10 * CPU_BATCH, 10))
    names = [*registry.names(), "kornia:RandomGrayscale", "kornia:RandomMotionBlur"]
    results: dict[str, Any] = {}
    for number, name in enumerate(names):
        if check.left < 20:
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
    lines += ["", f"Not within the tolerance: {', '.join(apart) or 'none'}."]
    check.results["perturbations"], check.tables["perturbations"] = results, lines


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
    """Time the engine beside bare passes, by chunk."""
    precision = "fp16" if check.accelerated else "fp32"
    target = vit_b_32(check.device, precision)
    count = PICTURES if check.accelerated else CPU_BATCH
    data: Dataset = Noise(count)
    rows: list[dict[str, Any]] = []
    chunks = CHUNKS if check.accelerated else CHUNKS[:1]
    for chunk in chunks:
        if check.left < 20:
            check.not_run.append(f"speed: no time for passes of {chunk} and more")
            break
        bare = bare_rate(check, target, chunk, count)
        whole = engine_rate(check, target, data, [], chunk=chunk, batch_size=chunk)
        rows.append({"chunk": chunk, "bare": bare, "engine": whole})
    usual = engine_rate(check, target, data, [])
    perturbed = engine_rate(check, target, data, [Step("gaussian_noise", 3)])
    host = host_costs(check, target, data)
    best = max(row["bare"] for row in rows)
    lines = [
        f"ViT-B-32, random weights, {precision}, {count} pictures of {SIZE} × {SIZE}; images a second.",
        "",
        "| pictures a pass | bare | engine | of bare | of the best bare |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row['chunk']} | {row['bare']:.0f} | {row['engine']:.0f} |"
        f" {row['engine'] / row['bare']:.0%} | {row['engine'] / best:.0%} |"
        for row in rows
    ]
    lines += [
        "",
        f"As the engine is set by itself: {usual:.0f} images a second, {usual / best:.0%} of the best bare"
        f" passes (aim: {AIM:.0%}); with Gaussian noise {perturbed:.0f}.",
        "Microseconds an image on the host: "
        + ", ".join(f"{what} {seconds * 1e6:.1f}" for what, seconds in host.items())
        + ".",
    ]
    check.results["speed"] = {
        "rows": rows,
        "by_itself": usual,
        "perturbed": perturbed,
        "best_bare": best,
        "host": host,
    }
    check.tables["speed"] = lines


# memory ---------------------------------------------------------------------------------------------------


def check_memory(check: Check) -> None:
    """Cap the device's memory, and see whether passes back off and give the same features."""
    if check.device.type != "cuda":
        check.not_run.append("memory: only a CUDA device's memory can be capped")
        return
    target = vit_b_32(check.device, "fp16")
    data: Any = Noise(1024)
    views = load_dataset("clean", profile="quick", limit=128)
    found: dict[str, Any] = {}
    # Passes that are larger than usual, and a perturbation that takes many times its pictures.
    for name, chosen, steps, sizes in (
        ("passes", data, [], {"chunk": 512, "batch_size": 512}),
        ("perturbation", views, [Step("view_translation", 3)], {"chunk": 32, "batch_size": 128}),
    ):
        found[name] = backed_off(check, target, chosen, steps, sizes)
    lines = [
        "| what was too large | MiB needed | MiB allowed | notes | largest distance of two features |",
        "| --- | ---: | ---: | --- | ---: |",
    ]
    lines += [
        f"| {name} | {r['needed']:.0f} | {r['allowed']:.0f} | {'; '.join(r['notes']) or 'none'} |"
        f" {r['apart']:.1e} |"
        for name, r in found.items()
    ]
    check.results["memory"], check.tables["memory"] = found, lines


def backed_off(
    check: Check,
    target: OpenClipTarget,
    data: Dataset,
    steps: Sequence[Step],
    sizes: Mapping[str, int],
) -> dict[str, Any]:
    """Return what a pass does with less memory than it needs."""

    def features() -> tuple[Tensor, list[str]]:
        with tempfile.TemporaryDirectory() as folder:
            encoder = Encoder(target, FeatureCache(Path(folder)), precision="fp16", **sizes)
            return encoder.images(data, steps), encoder.notes

    features()  # libraries take their workspaces
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    whole, _ = features()
    needed = torch.cuda.max_memory_reserved() - before
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(check.device).total_memory
    allowed = before + 0.45 * needed
    torch.cuda.set_per_process_memory_fraction(allowed / total)
    try:
        less, notes = features()
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


def page(check: Check) -> str:
    """Return the tables, and what was not run."""
    lines = [", ".join(f"{name} {value}" for name, value in check.machine.items())]
    for part, table in check.tables.items():
        lines += ["", f"## {part}", "", *table]
    lines += ["", "## not run", ""]
    lines += [f"- {line}" for line in check.not_run] or ["Nothing was left out."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the parts, write both files, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of gpu_check.json and gpu_check.md")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seconds", type=float, default=360.0, help="begin nothing after so many")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cpu")
    if torch.accelerator.is_available():
        device = torch.accelerator.current_accelerator() or device
    check = Check(options.out.resolve(), device, time.monotonic() + options.seconds)
    if not check.accelerated:
        check.not_run.append(
            "anything on an accelerator: there is none; this is the CPU against itself"
        )
    check.not_run += [f"{part}: not asked for" for part in PARTS if part not in options.parts]
    for part in options.parts:
        start = time.monotonic()
        try:
            if check.left < 15:
                check.not_run.append(f"{part}: no time left")
            else:
                CHECKS[part](check)
        except Exception:  # the other parts are worth having
            check.not_run.append(f"{part}: failed\n{traceback.format_exc(limit=6)}")
        print(f"{part}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        told = {"machine": check.machine, "not_run": check.not_run, **check.results}
        (options.out / "gpu_check.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
        (options.out / "gpu_check.md").write_text(page(check), encoding="utf-8")
    print(page(check))


if __name__ == "__main__":
    main()

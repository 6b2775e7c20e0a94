"""``cliprobust doctor``: is the gate alive? Each bound, with known losses planted in the model."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_cliprobust.errors import ClipRobustError, counted

HELP = "plant known losses in a copy of the model, and show which bounds see them"
DESCRIPTION = (
    "Runs the suites once as they are and once for each planted loss (noise on the weights, swapped class "
    "texts, training mode, somebody else's preprocessing), and shows for each bound whether it can be green "
    "and whether it can turn red. What it costs is said before it is spent."
)

#: Tried in this order; the quick ones first.
LOSSES = ("swapped_texts", "other_preprocessing", "heavy_noise", "light_noise", "training_mode")

#: Options of pytest of which nothing is to say but that they are its.
AS_FOR_PYTEST = (
    "pretrained",
    "activation",
    "templates",
    "depth",
    "lmm",
    "bad-data",
    "font",
    "device",
    "precision",
    "batch-size",
    "seed",
    "store",
)

#: Options of pytest that its runs are given as they are, and what they do.
HANDED_ON = {
    "thresholds": "the threshold file",
    "baseline": "the baseline",
    "profile": "how many samples (default: quick)",
    "limit": "at most so many samples of each data set",
    "cache-dir": "folder of the feature cache",
    **dict.fromkeys(AS_FOR_PYTEST, "as for pytest"),
}

#: How a line begins that says why a model cannot have a loss (see targets/planted.py).
CANNOT_HAVE = "nothing to plant: "


@dataclass(frozen=True)
class Ran:
    """What one run of the suites said.

    Attributes:
        statuses: by key of the figure, of what has a bound.
        bounds: by key, the bound in words.
        images: that went through the model or came from the cache.
        seconds: that it took.
        refused: why nothing was measured; empty if something was.
        broke_off: why the run did not come to its end; empty if it did.
        cached: of the images, those from the cache.
    """

    statuses: Mapping[str, str]
    bounds: Mapping[str, str]
    images: int
    seconds: float
    refused: str = ""
    broke_off: str = ""
    cached: int = 0

    @property
    def cannot(self) -> bool:
        """Whether the model cannot have the loss that was planted."""
        return self.refused.startswith(CANNOT_HAVE)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("suites", nargs="*", help="suites to run (default: the shipped ones)")
    parser.add_argument("--clip-model", required=True, metavar="MODEL", help="the model under test")
    parser.add_argument(
        "--clip-data", action="append", metavar="DATA", help="as for pytest; repeatable"
    )
    for name, told in HANDED_ON.items():
        default = "quick" if name == "profile" else None
        parser.add_argument(f"--clip-{name}", default=default, metavar=name.upper(), help=told)
    for flag in ("-m", "-k"):
        parser.add_argument(flag, metavar="EXPRESSION", help="which tests, as for pytest")
    parser.add_argument(
        "--losses",
        default=",".join(LOSSES),
        metavar="NAMES",
        help=f"losses to plant, separated by commas (default: {','.join(LOSSES)})",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="run the suites as they are, say the cost, and stop"
    )


def run(options: argparse.Namespace) -> int:
    """Run the suites with and without losses, and print what each bound saw.

    Returns 0 if each bound can be green and can turn red, else 1.

    Raises:
        ClipRobustError: an unknown loss, or the model cannot be measured as it is.
    """
    names = [name.strip() for name in options.losses.split(",") if name.strip()]
    for name in names:
        if name not in LOSSES:
            raise ClipRobustError(f"unknown loss {name!r}; there are {', '.join(LOSSES)}")
    print(
        f"one run of the suites on the model as it is (profile {options.clip_profile}) tells what "
        f"{counted(len(names), 'more costs', 'more cost')}",
        flush=True,
    )
    plain = _ran(options, None)
    if plain.refused or plain.broke_off:
        why = plain.refused or plain.broke_off
        raise ClipRobustError(f"the model cannot be measured as it is: {why}")
    if not plain.statuses:
        raise ClipRobustError("no figure of these suites has a bound; --clip-record writes some")
    print(f"as it is: {_counts(plain)}, {counted(plain.images, 'image')}, {plain.seconds:.0f} s")
    print(_cost(plain, len(names)), flush=True)
    if options.dry_run:
        return 0
    return _report(plain, _damaged(options, names))


def _cost(plain: Ran, losses: int) -> str:
    """Return what the losses cost, as far as the run without one tells."""
    minutes = losses * plain.seconds / 60
    images = counted(plain.images, "image")
    told = f"planting {counted(losses, 'loss', 'losses')}: {counted(losses, 'time')} {images}, "
    if plain.cached:
        told += (
            f"{minutes:.1f} minutes and more, as {plain.cached:,} images above came from the cache, and a "
            "damaged model's features are not in it before it was planted once"
        )
    else:
        told += f"about {minutes:.1f} minutes"
    return f"{told}; Ctrl-C stops"


def _damaged(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Ran]:
    """Return what the suites say of each loss; of those before Ctrl-C if that ends it."""
    damaged: dict[str, Ran] = {}
    try:
        for name in names:
            found = damaged[name] = _ran(options, name)
            told = found.refused or _counts(found)
            told = f"refused: {told}" if found.refused and not found.cannot else told
            told += f" ({found.broke_off})" if found.broke_off else ""
            print(f"{name}: {told}, {found.seconds:.0f} s", flush=True)
    except KeyboardInterrupt:
        if not damaged:
            raise
        print(f"stopped; not planted: {', '.join(n for n in names if n not in damaged)}")
    return damaged


def _ran(options: argparse.Namespace, loss: str | None) -> Ran:
    """Run the suites in a process of their own."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cliprobust-doctor-") as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += options.suites or ["--clip-suites"]
        command += [f"--clip-model={options.clip_model}", f"--clip-report={report}"]
        command.append("--clip-history=none")  # its runs are no releases
        for name in HANDED_ON:
            value = getattr(options, f"clip_{name.replace('-', '_')}")
            command += [] if value is None else [f"--clip-{name}={value}"]
        command += [f"--clip-data={value}" for value in options.clip_data or ()]
        for flag in ("m", "k"):
            value = getattr(options, flag)
            command += [] if value is None else [f"-{flag}", value]
        command += [] if loss is None else [f"--clip-plant={loss}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - began
        if not report.exists():
            # A refusal says why; a run that was killed says nothing, and refuses nothing.
            refused = _last_error(done.stdout + done.stderr)
            broke_off = "" if refused else f"it broke off, exit code {done.returncode}"
            return Ran({}, {}, 0, seconds, refused, broke_off)
        data = json.loads(report.read_text(encoding="utf-8"))
    return _read(data, seconds)


def _read(data: Mapping[str, Any], seconds: float) -> Ran:
    verdicts = {entry["key"]: entry["verdict"] for entry in data["measurements"]}
    bounded = {key: v for key, v in verdicts.items() if v["bound"]}
    encoded, cached = (
        sum(model["images"].get(kind, 0) for model in data["models"].values())
        for kind in ("encoded", "cached")
    )
    refused = "" if verdicts or not data["mistakes"] else str(data["mistakes"][0])
    missing = len(data["missing"]) + len(data["not_collected"])
    cut = counted(missing, "test did not come to its end", "tests did not come to their end")
    return Ran(
        {key: str(v["status"]) for key, v in bounded.items()},
        {key: str(v["bound"]) for key, v in bounded.items()},
        encoded + cached,
        seconds,
        refused,
        cut if missing and not refused else "",
        cached,
    )


def _last_error(output: str) -> str:
    """Return the line of pytest's output that says what was wrong; empty if none does."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "E  "))]
    return errors[-1].removeprefix("ERROR: ") if errors else ""


def _counts(ran: Ran) -> str:
    words = ("pass", "inconclusive", "waived", "fail")
    counts = [(word, sum(s == word for s in ran.statuses.values())) for word in words]
    return ", ".join(f"{count} {word}" for word, count in counts if count) or "nothing judged"


def _report(plain: Ran, damaged: Mapping[str, Ran]) -> int:
    """Print each bound, what can do neither last, and return the exit code."""
    seen = {
        key: [name for name, ran in damaged.items() if ran.statuses.get(key) == "fail"]
        for key in plain.statuses
    }
    cannot = [name for name, ran in damaged.items() if ran.cannot]
    refused = [name for name, ran in damaged.items() if ran.refused and not ran.cannot]
    broken = [name for name, ran in damaged.items() if ran.broke_off]
    seen_by = (
        ", ".join(name for name in damaged if name not in (*cannot, *refused, *broken)) or "none"
    )
    print("\nbound, whether it is green as it is, and which losses turn it red:")
    for key, status in plain.statuses.items():
        red = ", ".join(seen[key]) or "none"
        print(f"  {key}  {plain.bounds[key]}: {status}; red: {red}")
    print()
    if refused:
        print(
            f"refused before any bound was judged, which stops a release, too: {', '.join(refused)}"
        )
    if cannot:
        print(f"cannot be planted in this model, so that they say nothing: {', '.join(cannot)}")
    if broken:
        print(f"not run to the end, so that a bound may see more than is told: {', '.join(broken)}")
    not_green = [key for key, status in plain.statuses.items() if status != "pass"]
    never_red = [key for key in plain.statuses if not seen[key]]
    neither = [key for key in never_red if key in not_green]
    _list("cannot be green (margin or bound too tight for these samples)", not_green)
    _list(f"did not turn red under any of these losses (whole runs: {seen_by})", never_red)
    _list("can do NEITHER, so they gate nothing", neither)
    if not (not_green or never_red):
        bounds = counted(len(plain.statuses), "bound")
        print(f"{bounds}, and each can be green and can turn red")
        return 0
    return 1


def _list(title: str, keys: Sequence[str]) -> None:
    if keys:
        print(f"{len(keys)} {title}:")
        print("".join(f"  {key}\n" for key in keys), end="")

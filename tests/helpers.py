"""What several test files share."""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import sys
import weakref
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import forked
import numpy as np
import pytest
import torch
from _pytest.mark import ParameterSet
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pytest_cliprobust.figures.arrays import Floats, Ints
from pytest_cliprobust.figures.bootstrap import Bootstrap, resampled
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.reporting.json import schema_text

ROOT = Path(__file__).parent.parent
SUITES = ROOT / "suites"
DOCS = ROOT / "docs"

#: Sides of pictures, in pixels.
SIZES = st.one_of(st.integers(16, 96), st.sampled_from((224, 512)))


def module_of(path: Path, *, known_as: str = "") -> ModuleType:
    """Return a file as a module, which others can import (as dataclasses do) if it is ``known_as`` a name."""
    spec = importlib.util.spec_from_file_location(known_as or path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if known_as:
        sys.modules[known_as] = module
    spec.loader.exec_module(module)
    return module


Value = TypeVar("Value")


def mostly_slow(values: Iterable[Value], quick: Container[Value]) -> list[Value | ParameterSet]:
    """Return parameters of a test of which all but ``quick`` are marked as slow."""
    return [v if v in quick else pytest.param(v, marks=pytest.mark.slow) for v in values]


def check_result(result: Tensor, images: Tensor) -> None:
    assert result.shape == images.shape
    assert result.dtype == images.dtype
    assert result.device == images.device
    assert bool(result.isfinite().all())
    assert result.min() >= 0
    assert result.max() <= 1


class Watch(TorchDispatchMode):
    """Counts the bytes of live tensors and notices those that leave the accelerator."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self.live = self.peak = 0
        self._known: dict[int, int] = {}

    def _freed(self, key: int) -> None:
        self.live -= self._known.pop(key)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [x.device.type for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        for tensor in tree_leaves(out):
            if not isinstance(tensor, Tensor):
                continue
            assert not ("cuda" in given and tensor.device.type != "cuda"), f"{func} left the device"
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._known:
                self._known[key] = storage.nbytes()
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._freed, key)
        return out


def drawn_rows(settings: Bootstrap, count: int, strata: Ints | None = None) -> Ints:
    """Return which samples (R, ``count``) each replicate draws, from one place for all loops."""
    return np.concatenate(list(settings.plan(count, strata).indices()))


def drawn_samples(settings: Bootstrap, count: int, strata: Ints | None = None) -> list[Ints]:
    """Return the samples of each replicate where whole units are drawn, so that it has no fixed size."""
    counts = np.concatenate(list(settings.plan(count, strata).counts()))
    return [np.repeat(np.arange(count), row.astype(np.int64)) for row in counts]


def replicates_of(figure: Figure, settings: Bootstrap, strata: Ints | None = None) -> Floats:
    """Return the figure's statistic (R,) of the samples that each replicate draws."""
    assert figure.outcomes is not None
    return resampled(figure.outcomes, settings, strata)


def times_as_wide(figure: Figure, settings: Bootstrap, strata: Ints | None = None) -> float:
    """Return how many times as wide an interval is as Student's with the bootstrap's standard error."""
    drawn = replicates_of(figure, settings, strata)
    units = figure.n if figure.units is None else figure.units
    t = float(stats.t.ppf((1.0 + figure.confidence) / 2.0, units - 1))
    return (figure.high - figure.low) / 2.0 / (t * float(np.nanstd(drawn, ddof=1)))


def keys_of(
    count: int, units: Iterable[object] | None = None, *, kind: str = "drawing"
) -> SampleKeys:
    """Return keys of ``count`` samples, ``image0`` and on, from ``units`` or each from one of its own."""
    ids = tuple(f"image{i}" for i in range(count))
    return SampleKeys(ids, ids if units is None else tuple(map(str, units)), kind=kind)


def share_ends(
    hits: float, trials: float, confidence: float = 0.95, degrees: float = math.inf
) -> tuple[float, float]:
    """Return the interval of a share: Wilson's, or the exact one at twice the chance where that is wider.

    By the roots of Wilson's quadratic and by scipy's beta distribution, with Student's quantile.
    """
    t = float(stats.t.ppf((1.0 + confidence) / 2.0, degrees))
    p, z = hits / trials, t * t / trials
    half = math.sqrt(4.0 * p * (1.0 - p) * z + z * z)
    low, high = ((2.0 * p + z + sign * half) / (2.0 * (1.0 + z)) for sign in (-1.0, 1.0))
    misses, twice = trials - hits, 2.0 * float(stats.norm.sf(t))
    low = 0.0 if hits == 0 else min(low, float(stats.beta.ppf(twice, hits, misses + 1.0)))
    high = 1.0 if misses == 0 else max(high, float(stats.beta.isf(twice, hits + 1.0, misses)))
    return low, high


def coverage(
    make: Callable[[np.random.Generator], tuple[float, float]], truth: float, draws: int, seed: int
) -> float:
    """Return how often intervals, each made of data of its own, hold the truth."""
    generator = np.random.default_rng(seed)
    ends = [make(generator) for _ in range(draws)]
    return sum(low <= truth <= high for low, high in ends) / draws


def report(name: str = "report.json") -> dict[str, Any]:
    """Return the JSON report that a session in the working directory has written."""
    data: dict[str, Any] = json.loads(Path(name).read_text(encoding="utf-8"))
    return data


@functools.cache
def _schema() -> Any:
    import jsonschema

    told = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(told)
    return jsonschema.Draft202012Validator(told)


def check_schema(report: Any) -> None:
    """Hold a JSON report against the published schema; the first thing that is wrong fails."""
    _schema().validate(report)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 1000 bytes: the operating system itself refuses to write more."""
    resource = pytest.importorskip("resource", reason="not on Windows")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def one_line(result: pytest.RunResult, *words: str) -> str:
    """Return the one line that tells a user's mistake; there is no traceback beside it."""
    text = f"{result.stdout.str()}\n{result.stderr.str()}"
    assert result.ret == pytest.ExitCode.USAGE_ERROR, text
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    lines = [line for line in text.splitlines() if line.startswith("ERROR: ")]
    assert len(lines) == 1, text
    assert all(word in lines[0] for word in words), lines[0]
    return lines[0]


def group_answers(*shares: tuple[str, int, int]) -> tuple[np.ndarray, list[str]]:
    """Return right and wrong answers of groups, each with so many right of so many."""
    right = np.concatenate([np.arange(n) < hits for _, hits, n in shares])
    return right, [name for name, _, n in shares for _ in range(n)]


def write_pictures(folder: Path, classes: Sequence[str] = ("cat", "dog"), each: int = 1) -> Path:
    """Write an image folder of random pictures, larger than the model's, and return it."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(each):
            generator = torch.Generator().manual_seed(1000 * number + index)
            pixels = torch.randint(0, 256, (120, 160, 3), dtype=torch.uint8, generator=generator)
            Image.fromarray(pixels.numpy()).save(folder / name / f"{index}.png")
    return folder


class Sessions:
    """Runs pytest in a folder of its own, on a suite with the reference model.

    In this process where it can be (importing torch anew takes seconds), in one of its own where a
    signal, a worker or an exit code is the point.
    """

    def __init__(self, pytester: pytest.Pytester, cache: Path) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self._cache = cache

    def __call__(
        self,
        *args: str,
        suite: str = "",
        thresholds: str | None = "schema = 1\n",
        process: bool = False,
    ) -> pytest.RunResult:
        """Write the suite (``test_mine.py``) and the threshold file, and run pytest."""
        if suite:
            self.pytester.makepyfile(test_mine=suite)
        if thresholds is not None:
            (self.path / "thresholds.toml").write_text(thresholds, encoding="utf-8")
        return self.again(*args, process=process)

    def again(self, *args: str, process: bool = False) -> pytest.RunResult:
        """Run pytest on what is there."""
        given = " ".join(args)
        options = [*args, "-p", "no:randomly"]
        for name, value in {
            "model": "reference",
            "profile": "quick",
            "limit": "40",
            "cache-dir": str(self._cache),
        }.items():
            if f"--clip-{name}" not in given:
                options.append(f"--clip-{name}={value}")
        return self.plain(*options, process=process)

    def plain(self, *args: str, process: bool = False) -> pytest.RunResult:
        """Run pytest with these arguments alone."""
        if process:
            return forked.session(self.pytester, *args)
        return self.pytester.runpytest_inprocess(*args)

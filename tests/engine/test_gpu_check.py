"""The script for machines with an accelerator: all of it runs on a CPU, so that it works the first time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import ROOT, module_of

SCRIPT = ROOT / "benchmarks" / "gpu_check.py"


@pytest.fixture(scope="module")
def script() -> Any:
    """The script as a module."""
    return module_of(SCRIPT, known_as="gpu_check")


def check_of(script: Any, part: str, out: Path, seconds: float = 600.0) -> Any:
    until = time.monotonic() + seconds
    return script.Check(part, out, torch.device("cpu"), until, script.TINY)


def done(script: Any, part: str, out: Path, seconds: float = 600.0) -> dict[str, Any]:
    """Run a part in this process, and return what it kept."""
    check = check_of(script, part, out, seconds)
    script.run_part(check)
    told: dict[str, Any] = json.loads(check.saved.read_text(encoding="utf-8"))
    assert not [line for line in told["not_run"] if ": failed" in line], told["not_run"]
    return told


@pytest.mark.long
def test_every_part_runs_and_is_told(tmp_path: Path) -> None:
    """As it is called, each part in its own process; on a CPU all figures and pictures are the same."""
    result = subprocess.run(
        [
            sys.executable,
            str(SCRIPT),
            str(tmp_path),
            "--device",
            "cpu",
            "--tiny",
            "--seconds",
            "900",
        ],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    told = json.loads((tmp_path / "gpu_check.json").read_text(encoding="utf-8"))
    page = (tmp_path / "gpu_check.md").read_text(encoding="utf-8")
    for part in ("figures", "perturbations", "speed", "memory"):
        assert f"## {part}" in page
        assert f"{part}: " in result.stderr
    assert told["not_run"] == [
        "anything on an accelerator: there is none; this is the CPU against itself",
        "memory: only a CUDA device's memory can be capped; a model said that it has too little",
    ]
    same = told["figures"]["fp32"]
    assert same["figures"] >= 3
    assert (same["equal"], same["beyond"], same["only_one"]) == (same["figures"], [], [])
    assert told["figures"]["exit_codes"]["cpu"] == told["figures"]["exit_codes"]["fp32"]
    assert len(told["perturbations"]) > 50
    assert {one["mean"] for one in told["perturbations"].values()} == {0.0}
    assert told["speed"]["by_itself"] > 0
    assert [row["chunk"] for row in told["speed"]["rows"]] == [2]
    assert "Not within the tolerance: none." in page
    assert not list(tmp_path.glob("*.part.*"))


@pytest.mark.slow
def test_passes_back_off_where_memory_is_said_to_be_short(script: Any, tmp_path: Path) -> None:
    told = done(script, "memory", tmp_path)
    (found,) = told["results"]["memory"].values()
    assert any("out of memory on cpu: 2 " in note for note in found["notes"])
    assert found["apart"] < 1e-3


class FakeCuda:
    """What ``torch.cuda`` is asked for about memory, with what it was told."""

    def __init__(self) -> None:
        self.fractions: list[float] = []
        self.emptied = 0

    def memory_reserved(self) -> int:
        return 100

    def max_memory_reserved(self) -> int:
        return 300

    def reset_peak_memory_stats(self) -> None: ...

    def empty_cache(self) -> None:
        self.emptied += 1

    def get_device_properties(self, device: Any) -> Any:
        return SimpleNamespace(total_memory=1000)

    def set_per_process_memory_fraction(self, fraction: float) -> None:
        self.fractions.append(fraction)


def test_the_memory_of_a_cuda_device_is_capped_and_given_back(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = FakeCuda()
    for name in [name for name in dir(FakeCuda) if not name.startswith("_")]:
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    given = iter([(torch.ones(2, 3), []), (torch.ones(2, 3), []), (torch.zeros(2, 3), ["fewer"])])
    monkeypatch.setattr(script, "features_of", lambda *_: next(given))
    found = script.backed_off(check_of(script, "memory", tmp_path), None, None, [], {})
    assert cuda.fractions == [(100 + 0.45 * 200) / 1000, 1.0]
    assert found["notes"] == ["fewer"]
    assert found["apart"] == pytest.approx(3**0.5)
    assert found["needed"] == 200 / 2**20

    def short(*_: Any) -> Any:
        if len(cuda.fractions) == 3:  # capped once more
            raise torch.OutOfMemoryError
        return torch.ones(2, 3), []

    monkeypatch.setattr(script, "features_of", short)
    with pytest.raises(torch.OutOfMemoryError):
        script.backed_off(check_of(script, "memory", tmp_path), None, None, [], {})
    assert cuda.fractions[-1] == 1.0  # whatever happens, for the parts that follow in this process


def test_waits_are_counted_by_the_line_that_waits(
    script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with script.counted_waits(torch.device("cuda")) as waits:
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert modes == ["warn", "default"]
    ((place, count),) = waits.items()
    assert place.startswith("test_gpu_check.py:")
    assert count == 3
    with script.counted_waits(torch.device("cpu")) as waits:
        pass
    assert not waits
    assert modes == ["warn", "default"]


def test_a_result_that_is_left_on_the_cpu_is_told(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the CPU would be held against itself, and agree."""
    check = script.Check("perturbations", tmp_path, torch.device("meta"), 0.0, script.TINY)
    monkeypatch.setattr(script, "inputs_of", lambda *_: {})
    left = SimpleNamespace(compilable=True, severities=())
    batch = SimpleNamespace(images=torch.zeros(2, 3, 4, 4))

    class Left(SimpleNamespace):
        def __call__(self, images: torch.Tensor, severity: int | None) -> torch.Tensor:
            return torch.zeros(images.shape)

    with pytest.raises(RuntimeError, match="lies on cpu, not on meta"):
        script.check_perturbation(check, Left(**vars(left)), None, batch)


def test_a_run_on_another_device_than_asked_is_told(script: Any, tmp_path: Path) -> None:
    report = tmp_path / "fp32.json"
    assert script.ran_on(report) == ""
    report.write_text(json.dumps({"models": {"reference": {"device": "cuda:0"}}}))
    assert script.ran_on(report) == "cuda"


def test_figures_are_held_against_each_other(script: Any) -> None:
    def figures(**values: float) -> dict[str, Any]:
        return {key: {"value": v, "n": 9, "metric": f"m_{key}"} for key, v in values.items()}

    nan = float("nan")
    found = script.compared(
        figures(a=0.5, b=0.5, c=nan, d=nan, e=1.0), figures(a=0.5, b=0.502, c=nan, d=0.1, f=2.0)
    )
    assert (found["figures"], found["equal"], found["within"]) == (4, 2, 2)
    assert found["only_one"] == ["e", "f"]
    assert [one["key"] for one in found["beyond"]] == ["d", "b"]


@pytest.mark.slow
def test_a_part_that_fails_or_hangs_costs_no_other(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is a process: its crash, its silence and its children end with it; rows that it had are kept."""
    child = tmp_path / "child.py"
    child.write_text(
        "import json, os, sys, time\n"
        "out, part = sys.argv[1], sys.argv[3]\n"
        "told = {'machine': {}, 'results': {part: 1}, 'tables': {part: [part + ' table']}, 'not_run': []}\n"
        "json.dump(told, open(f'{out}/{part}.part.json', 'w'))\n"
        "if part == 'figures': os.abort()\n"
        "if part == 'perturbations': time.sleep(600)\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(script, "__file__", str(child))
    monkeypatch.setattr(script, "LEAST", dict.fromkeys(script.PARTS, 5.0))
    start = time.monotonic()
    page = script.whole(tmp_path, list(script.PARTS), "cuda", 40.0, tiny=True)
    # The one that hangs ends where the time begins that is kept for the two that follow.
    assert time.monotonic() - start < 40
    printed = capsys.readouterr().out
    for part in script.PARTS:
        assert f"{part} table" in page
        assert f"{part} table" in printed
    assert "figures: its process ended with -6" in page
    assert "perturbations: ended after" in page
    told = json.loads((tmp_path / "gpu_check.json").read_text(encoding="utf-8"))
    assert (told["figures"], told["perturbations"], told["speed"], told["memory"]) == (1, 1, 1, 1)


def test_a_part_that_does_not_fit_is_said_as_not_run(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, float]] = []

    def part_of(part: str, out: Path, device: str, seconds: float, *, tiny: bool) -> dict[str, Any]:
        asked.append((part, seconds))
        return {"machine": {"torch": "2"}, "results": {}, "tables": {}, "not_run": []}

    monkeypatch.setattr(script, "part_of", part_of)
    page = script.whole(tmp_path, ["figures", "speed", "memory"], "cuda", 100.0, tiny=False)
    # Of 100 seconds 49 and 29 are kept for those that follow, and 60 are needed.
    assert "- figures: it takes 60 s, and 22 are left" in page
    assert "- perturbations: not asked for" in page
    assert [part for part, _ in asked] == ["speed", "memory"]
    assert asked[0][1] == pytest.approx(71.0, abs=1.0)
    assert "CPU against itself" not in page


def test_rows_are_kept_as_they_come(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = iter([10.0, 9.0])

    def rate(*_: Any, **__: Any) -> float:
        found = next(rates, None)
        if found is None:
            raise RuntimeError("CUDA error: an illegal memory access")
        return found

    monkeypatch.setattr(script, "engine_rate", rate)
    monkeypatch.setattr(script, "bare_rate", lambda *_: 20.0)
    monkeypatch.setattr(script, "vit_b_32", lambda *_: None)
    check = check_of(script, "speed", tmp_path)
    script.run_part(check)
    told = json.loads(check.saved.read_text(encoding="utf-8"))
    assert told["results"]["speed"] == {"rows": [], "by_itself": 10.0, "perturbed": 9.0}
    assert (
        "As the engine is set by itself: 10 images a second; with Gaussian noise 9."
        in told["tables"]["speed"]
    )
    assert "an illegal memory access" in told["not_run"][0]


def test_an_accelerator_without_a_name_is_called_by_its_kind(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_device_module", lambda _: SimpleNamespace())
    check = script.Check("speed", tmp_path, torch.device("mps"), 0.0)
    assert check.machine["accelerator"] == "mps"

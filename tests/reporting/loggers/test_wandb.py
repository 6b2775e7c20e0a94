"""Weights & Biases: what we call of it, on a module made up for it, and an offline run."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pytest_cliprobust.reporting.loggers import wandb as ours
from pytest_cliprobust.reporting.trackers import Logged

TOLD = Logged(
    "v1", {"accuracy/accuracy/clean/clean": 0.8}, {"weights": "ab12"}, {"cliprobust.failed": "0"}
)


class Artifact:
    """What we use of ``wandb.Artifact``."""

    def __init__(self, name: str, type: str) -> None:
        self.name, self.type, self.files = name, type, list[str]()

    def add_file(self, path: str) -> None:
        self.files.append(path)


class Tracked:
    """What we use of a run of wandb."""

    id, url, dir, offline = "r1", "where/it/is", "wandb/offline-run/files", True

    def __init__(self, asked: dict[str, Any]) -> None:
        self.asked = asked
        self.summary: dict[str, float] = {}
        self.artifacts: list[Artifact] = []
        self.ended: list[int] = []

    def log_artifact(self, one: Artifact) -> None:
        self.artifacts.append(one)

    def finish(self, exit_code: int) -> None:
        self.ended.append(exit_code)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Tracked]:
    """The runs of a wandb that is made up."""
    made: list[Tracked] = []

    def init(**asked: Any) -> Tracked:
        made.append(Tracked(asked))
        return made[-1]

    module = ModuleType("wandb")
    vars(module).update(init=init, Artifact=Artifact, Settings=lambda **values: values)
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return made


def test_what_is_called(runs: list[Tracked], tmp_path: Path) -> None:
    files = (tmp_path / "r.md", tmp_path / "r.json")
    told = Logged(TOLD.name, TOLD.metrics, TOLD.params, TOLD.tags, files)
    assert ours.log(told) == "run r1 in wandb/offline-run/files"
    (run,) = runs
    assert (run.asked["project"], run.asked["name"]) == ("cliprobust", "v1")
    assert run.asked["config"] == {"weights": "ab12", "cliprobust.failed": "0"}
    # A run of the user's that is active goes on, and nobody is asked for a key.
    assert run.asked["reinit"] == "create_new"
    assert run.asked["settings"]["silent"]
    assert run.summary == TOLD.metrics
    assert [(one.name, one.files) for one in run.artifacts] == [
        ("reports-r1", [str(file) for file in files])
    ]
    assert run.ended == [0]


def test_without_reports_and_cut_short(
    runs: list[Tracked], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "ours")
    monkeypatch.setattr(Tracked, "offline", False)
    assert ours.log(Logged("v1", {}, complete=False)) == "run r1, where/it/is"
    (run,) = runs
    assert (run.asked["project"], run.artifacts, run.ended) == ("ours", [], [1])


def test_a_run_that_fails_is_finished(
    runs: list[Tracked], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(self: Tracked, one: Artifact) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(Tracked, "log_artifact", refuse)
    with pytest.raises(ConnectionError):
        ours.log(Logged("v1", {}, files=(tmp_path / "r.md",)))
    assert runs[0].ended == [0]


@pytest.mark.slow
def test_an_offline_run_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb.apis", reason="wandb is 60 MB, and no part of the extra test")
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    (tmp_path / "r.md").write_text("# CLIP robustness: ship\n", encoding="utf-8")
    where = ours.log(Logged(TOLD.name, TOLD.metrics, TOLD.params, TOLD.tags, (tmp_path / "r.md",)))
    wandb.teardown()  # as at the end of a process: what writes the file is one of its own
    number = where.split()[1]
    (kept,) = tmp_path.glob(f"wandb/offline-run-*-{number}/run-{number}.wandb")
    data = kept.read_bytes()
    for text in (*TOLD.metrics, *TOLD.params, "ab12", "reports-"):
        assert text.encode() in data

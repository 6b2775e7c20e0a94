"""MLflow: what we call of it, on a module made up for it, and a run in a store of files."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pytest_cliprobust.reporting.loggers import mlflow as ours
from pytest_cliprobust.reporting.trackers import Logged

TOLD = Logged(
    "v1",
    {"accuracy/accuracy/clean/clean": 0.8, "accuracy/accuracy/clean/clean.low": 0.7},
    {"weights": "ab12", "profile": "quick"},
    {"cliprobust.ending": "passed"},
)


class Client:
    """What we use of ``mlflow.tracking.MlflowClient``, with the limits of a server."""

    calls: list[tuple[Any, ...]]

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="7") if name == "there" else None

    def create_experiment(self, name: str) -> str:
        self.calls.append(("experiment", name))
        return "8"

    def create_run(self, experiment: str, *, tags: dict[str, str], run_name: str) -> Any:
        self.calls.append(("run", experiment, tags, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

    def log_batch(self, run: str, *, metrics: Any = (), params: Any = ()) -> None:
        assert len(metrics) <= 1000
        assert len(params) <= 100
        self.calls += [("metric", run, *one) for one in metrics]
        self.calls += [("param", run, *one) for one in params]

    def log_artifact(self, run: str, path: str) -> None:
        self.calls.append(("file", run, path))

    def set_terminated(self, run: str, status: str) -> None:
        self.calls.append(("end", run, status))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The calls of an MLflow that is made up."""
    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Client, "calls", found, raising=False)
    entities, tracking = ModuleType("mlflow.entities"), ModuleType("mlflow.tracking")
    vars(entities).update(Metric=lambda k, v, now, step: (k, v), Param=lambda k, v: (k, v))
    vars(tracking).update(MlflowClient=Client)
    for module in (ModuleType("mlflow"), entities, tracking):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("EXPERIMENT_ID", "EXPERIMENT_NAME", "HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.delenv(f"MLFLOW_{name}", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    return found


def test_what_is_called(calls: list[tuple[Any, ...]], tmp_path: Path) -> None:
    files = (tmp_path / "r.md", tmp_path / "r.json")
    told = Logged(TOLD.name, TOLD.metrics, TOLD.params, TOLD.tags, files)
    assert ours.log(told) == "run r1 of experiment 8"
    assert calls == [
        ("experiment", "cliprobust"),
        ("run", "8", {"cliprobust.ending": "passed"}, "v1"),
        ("metric", "r1", "accuracy/accuracy/clean/clean", 0.8),
        ("metric", "r1", "accuracy/accuracy/clean/clean.low", 0.7),
        ("param", "r1", "weights", "ab12"),
        ("param", "r1", "profile", "quick"),
        *(("file", "r1", str(file)) for file in files),
        ("end", "r1", "FINISHED"),
    ]


def test_figures_have_the_time_in_milliseconds_and_no_step(
    calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["mlflow.entities"], "Metric", lambda *of: of)
    monkeypatch.setattr("time.time", lambda: 1234.5678)
    ours.log(Logged("v1", {"a": 0.5, "b": 0.25}))
    assert [call[2:] for call in calls if call[0] == "metric"] == [
        ("a", 0.5, 1234567, 0),
        ("b", 0.25, 1234567, 0),
    ]


def test_many_figures_go_in_parts(calls: list[tuple[Any, ...]]) -> None:
    metrics = {f"m{i}": float(i) for i in range(2001)}
    params = {f"p{i}": str(i) for i in range(201)}
    ours.log(Logged("v1", metrics, params, complete=False))
    assert [call[2:] for call in calls if call[0] == "metric"] == list(metrics.items())
    assert [call[2:] for call in calls if call[0] == "param"] == list(params.items())
    assert calls[-1] == ("end", "r1", "KILLED")


def test_the_environment_names_the_experiment(
    calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "there")
    assert ours.log(TOLD).endswith("of experiment 7")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "9")
    assert ours.log(TOLD).endswith("of experiment 9")
    assert not any(call[0] == "experiment" for call in calls)


def test_a_server_that_is_not_there_is_not_waited_for_long(
    calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # taken back at the end
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    ours.log(TOLD)
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "3"  # the user's


@pytest.mark.slow
def test_a_store_of_files_has_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow.tracking", reason="MLflow is 130 MB, and no part of the extra test")
    from mlflow.tracking import MlflowClient

    store = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "robust")
    (tmp_path / "r.md").write_text("# CLIP robustness: ship\n", encoding="utf-8")
    where = ours.log(Logged(TOLD.name, TOLD.metrics, TOLD.params, TOLD.tags, (tmp_path / "r.md",)))
    client = MlflowClient(store)
    found = client.get_run(where.split()[1])
    assert found.data.metrics == TOLD.metrics
    assert found.data.params == TOLD.params
    assert TOLD.tags.items() <= found.data.tags.items()
    assert (found.info.status, found.info.run_name) == ("FINISHED", "v1")
    assert [one.path for one in client.list_artifacts(found.info.run_id)] == ["r.md"]
    experiment = client.get_experiment_by_name("robust")
    assert experiment.experiment_id == found.info.experiment_id

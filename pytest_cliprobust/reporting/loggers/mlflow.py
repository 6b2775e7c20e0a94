"""MLflow: a run of the experiment that ``MLFLOW_EXPERIMENT_NAME`` or ``…_ID`` names, else of ``cliprobust``.

Through its client alone: a run that is active in this process, or autologging, is none of ours. Where the
server is, the environment says, as it does to MLflow (``MLFLOW_TRACKING_URI``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from pytest_cliprobust.reporting.trackers import Logged, register_logger

V = TypeVar("V")

#: So many metrics, and so many params, are sent at once: a server refuses more.
_METRICS, _PARAMS = 1000, 100

#: A server that is not there is to hold up the end of a run for seconds, and not for MLflow's minutes.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


@register_logger("mlflow")
def log(told: Logged) -> str:
    """Hand a model of a run over to MLflow, and return which run it is there."""
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    experiment = _experiment(client)
    run = client.create_run(experiment, tags=dict(told.tags), run_name=told.name).info.run_id
    now = int(time.time() * 1000)
    for some in _parts(told.metrics, _METRICS):
        client.log_batch(run, metrics=[Metric(k, v, now, 0) for k, v in some.items()])
    for few in _parts(told.params, _PARAMS):
        client.log_batch(run, params=[Param(k, v) for k, v in few.items()])
    for file in told.files:
        client.log_artifact(run, str(file))
    client.set_terminated(run, "FINISHED" if told.complete else "KILLED")
    return f"run {run} of experiment {experiment}"


def _experiment(client: Any) -> str:
    """Return the id of the experiment, which is made where it is not there."""
    number = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if number:
        return number
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "cliprobust"
    found = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if found is None else found.experiment_id)


def _parts(values: Mapping[str, V], most: int) -> Iterator[dict[str, V]]:
    """Yield a mapping in parts of at most ``most``."""
    waiting = iter(values.items())
    while part := dict(islice(waiting, most)):
        yield part

"""Weights & Biases: a run of the project that ``WANDB_PROJECT`` names, else of ``cliprobust``.

Whether it goes to a server or into a folder to be sent later, the environment says, as it does to wandb
(``WANDB_MODE=offline``, ``WANDB_DIR``). Nobody is asked anything: without a key there is no run.
"""

from __future__ import annotations

import os

from pytest_cliprobust.reporting.trackers import Logged, register_logger

#: A server that is not there holds up the end of a run for so many seconds at most.
_PATIENCE = 30


@register_logger("wandb")
def log(told: Logged) -> str:
    """Hand a model of a run over to Weights & Biases, and return which run it is there."""
    import wandb

    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        init_timeout=_PATIENCE,
        login_timeout=_PATIENCE,
    )
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT") or "cliprobust",
        name=told.name,
        config={**told.params, **told.tags},
        settings=settings,
        reinit="create_new",
    )
    try:
        # Figures of a run, and no steps of a training: in its summary they can be ordered and compared.
        run.summary.update(dict(told.metrics))
        if told.files:
            reports = wandb.Artifact(f"reports-{run.id}", type="report")
            for file in told.files:
                reports.add_file(str(file))
            run.log_artifact(reports)
    finally:
        run.finish(exit_code=0 if told.complete else 1)
    return f"run {run.id}" + (f" in {run.dir}" if run.offline else f", {run.url}")

"""What several processes did, as one: the workers of pytest-xdist measure, another one reports."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_cliprobust.datasets.skipping import Skipped
from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.files import sha256_of
from pytest_cliprobust.results.run import ModelSummary

SHOWN = 1e-4
"""Numerical noise of a share or probability that the summary mentions: more than last digits."""


def summary_of(
    name: str, evaluation: Evaluation, noise: tuple[float, float] | None
) -> ModelSummary:
    """Return what this process did with a model; ``noise``: of a share and in nats, None if not asked."""
    info, encoder = evaluation.target.info, evaluation.encoder
    return ModelSummary(
        name=name,
        architecture=info.architecture,
        pretrained=info.pretrained,
        digest=info.digest,
        notes=info.notes,
        tags=info.tags,
        device=str(evaluation.target.device),
        precision=encoder.precision,
        encoded=encoder.forwarded,
        cached=encoder.cached,
        probed=encoder.probed,
        noise=noise,
        weights=weights_of(info.weights),
    )


def joined_models(
    own: Mapping[str, ModelSummary], told: Iterable[Mapping[str, Any]], names: Sequence[str]
) -> dict[str, ModelSummary]:
    """Return the models called ``names``, with the work of this process and of those that told.

    Args:
        own: what this process did, by model.
        told: what each worker said at its end, as plain data.
        names: all models under test, in their order; one that no process has loaded is left out.
    """
    found = dict(own)
    for one in told:
        for data in one.get("models", ()):
            theirs = ModelSummary.from_dict(data)
            mine = found.get(theirs.name)
            found[theirs.name] = theirs if mine is None else _joined(mine, theirs)
    return {name: found[name] for name in names if name in found}


def _joined(mine: ModelSummary, theirs: ModelSummary) -> ModelSummary:
    """Return a model's summary with the work of another process added."""
    return replace(
        mine,
        encoded=mine.encoded + theirs.encoded,
        cached=mine.cached + theirs.cached,
        probed=mine.probed + theirs.probed,
        noise=theirs.noise or mine.noise,
    )


def joined_skipped(
    own: Iterable[Skipped], told: Iterable[Mapping[str, Any]]
) -> tuple[Skipped, ...]:
    """Return what was left out of each data set, by name: of the largest part that a process read."""
    theirs = [Skipped.from_dict(one) for data in told for one in data.get("skipped", ())]
    found = {one.data: one for one in sorted([*own, *theirs], key=lambda one: one.total)}
    return tuple(found[name] for name in sorted(found))


def noise_notes(noise: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return a note of each model whose numerical noise is more than last digits."""
    return [
        f"numerical noise of {name}: {share:.2g} of a share or probability, {nats:.2g} nats (the size "
        "of a forward pass changes as much); intervals are widened by it before they are judged"
        for name, (share, nats) in noise.items()
        if share > SHOWN
    ]


def weights_of(paths: Iterable[Path]) -> dict[str, str]:
    """Return the sha256 of files by their names; by folder and name where two are called alike."""
    paths = tuple(paths)
    names = [path.name for path in paths]
    found = {}
    for path in paths:
        alike = names.count(path.name) > 1
        with contextlib.suppress(OSError):  # it has gone since it was loaded
            found[f"{path.parent.name}/{path.name}" if alike else path.name] = sha256_of(path)
    return found

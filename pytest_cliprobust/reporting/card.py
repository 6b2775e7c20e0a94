"""Figures for the card of a model on a hub, in both forms that hubs read.

``model-index`` stands in the metadata of the card itself; ``.eval_results/*.yaml`` beside it, a file for each
data set of the hub. huggingface_hub writes both, and reads them back to the same figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from math import isfinite

import yaml
from huggingface_hub import (
    EvalResult,
    EvalResultEntry,
    ModelCardData,
    eval_result_entries_to_yaml,
)

from pytest_cliprobust.figures.condition import CLEAN
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.results.earlier import Earlier

TASK = "zero-shot-image-classification"


def chosen(run: Earlier, model: str, globs: Sequence[str] = ()) -> list[Measurement]:
    """Return the figures of a model for its card.

    Args:
        run: what was measured.
        model: which of its models.
        globs: patterns of keys; () for those on unperturbed data and those over several conditions, since a
            card with each severity is read by nobody.
    """
    own = [one for one in run.measurements.values() if one.model == model]
    own = [one for one in own if isfinite(one.figure.value)]
    if globs:
        return [one for one in own if any(fnmatchcase(one.key, glob) for glob in globs)]
    return [one for one in own if one.perturbation == CLEAN or one.condition.over]


def model_index(
    figures: Sequence[Measurement], name: str, datasets: Mapping[str, str] | None = None
) -> str:
    """Return the card's metadata with the figures, as YAML between its lines of dashes.

    Args:
        figures: of one model.
        name: of the model on its hub.
        datasets: hub id of data sets, by their names here; others go by the name here.
    """
    ids = datasets or {}
    results = [_result(one, ids.get(one.dataset, one.dataset)) for one in figures]
    data = ModelCardData(model_name=name, eval_results=results)
    return f"---\n{data.to_yaml()}\n---\n"


def _result(one: Measurement, dataset: str) -> EvalResult:
    return EvalResult(
        task_type=TASK,
        dataset_type=dataset,
        dataset_name=one.dataset,
        dataset_config=str(one.condition),  # results of one data set are told apart by this alone
        metric_type=one.metric,
        metric_value=one.figure.value,
        metric_name=f"{one.metric}, {_said(one)}",
        dataset_args={
            "suite": one.suite,
            "perturbation": one.perturbation,
            "severity": one.severity,
        },
    )


def eval_results(
    figures: Sequence[Measurement], datasets: Mapping[str, str], date: str
) -> dict[str, str]:
    """Return the files of ``.eval_results`` by their names: one for each data set that a hub has.

    Args:
        figures: of one model.
        datasets: hub id of data sets, by their names here; figures on others are left out.
        date: when it was measured, as ISO 8601.
    """
    entries: dict[str, list[EvalResultEntry]] = {}
    for one in figures:
        dataset = datasets.get(one.dataset)
        if dataset is not None:
            entry = EvalResultEntry(
                dataset_id=dataset,
                task_id=f"{one.suite}/{one.metric}/{one.perturbation}",
                value=one.figure.value,
                date=date or None,
                notes=_said(one),
            )
            entries.setdefault(dataset, []).append(entry)
    return {
        f"{dataset.replace('/', '--')}.yaml": yaml.safe_dump(
            eval_result_entries_to_yaml(found), sort_keys=False, allow_unicode=True
        )
        for dataset, found in entries.items()
    }


def _said(one: Measurement) -> str:
    """Return the interval, n and what the metric means: ``95% interval [0.79, 0.86], n = 1072``."""
    figure, known = one.figure, METRICS.find(one.metric)
    meaning = f"; {known.meaning}" if known else ""
    return f"{figure.confidence:.0%} interval [{figure.low:.4g}, {figure.high:.4g}], n = {figure.n}{meaning}"

"""Runs of made-up models, for the study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.results.earlier import Earlier

ACCURACY = "accuracy/accuracy/clean/clean"

BASE = {
    "architecture": "ResNet",
    "parameters": "700000",
    "data": "photos",
    "set_size": "1000",
    "fine_tuning": "none",
    "loss": "softmax",
    "seed": "0",
}

FLEET: dict[str, dict[str, str]] = {
    "base": BASE,
    "base1": BASE | {"seed": "1"},
    "base2": BASE | {"seed": "2"},
    "vit": BASE | {"architecture": "ViT"},
    "half": BASE | {"set_size": "500"},
    "other": BASE | {"data": "drawings"},
    "sigmoid": BASE | {"loss": "sigmoid"},
    "tuned": BASE | {"fine_tuning": "labels", "base": "base"},
}


def a_figure(
    metric: str, value: float, condition: Condition, n: int = 1000, half: float = 0.02
) -> Figure:
    """Return a figure with an interval of a given half-width."""
    return Figure(metric, value, value - half, value + half, n).measured_on(condition)


def a_run(
    models: Mapping[str, Mapping[str, float]],
    tags: Mapping[str, Mapping[str, str]] | None = None,
    *,
    source: str = "run 1",
    prompts: Mapping[str, str] | None = None,
    **header: Any,
) -> Earlier:
    """Return a run of models: by model and property (``suite/metric/dataset/perturbation``) the value."""
    measurements = {}
    for model, values in models.items():
        for key, value in values.items():
            suite, metric, dataset, perturbation = key.split("/")
            label = "" if perturbation == "clean" else perturbation
            made = a_figure(metric, value, Condition(dataset, label=label))
            measurement = Measurement(suite, model, made)
            measurements[measurement.key] = measurement
    facts = tags or {}
    told = {
        "complete": True,
        "models": {
            name: {
                "architecture": name,
                "pretrained": "",
                "digest": name,
                "tags": facts.get(name, {}),
            }
            for name in models
        },
        "provenance": {
            "profile": "quick",
            "seed": 0,
            "precision": {},
            "weights": {},
            "templates": dict(prompts or dict.fromkeys(models, "plain")),
            "data": {"clean": "d"},
            "perturbations": {},
        },
        **header,
    }
    return Earlier(source, measurements, told, {}, {}, {})

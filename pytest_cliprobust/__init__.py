"""pytest-cliprobust: a robustness test harness for CLIP models, as a pytest plugin.

What a user writes code with is imported from here: the decorators that register something of one's own,
``measure`` for a metric of one's own, and the types that they deal in. Each name is loaded when it is
asked for: importing this package or :mod:`pytest_cliprobust.plugin` imports neither torch nor numpy, so
that a pytest session that has nothing to do with CLIP pays nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_cliprobust.datasets.base import Batch, Dataset
    from pytest_cliprobust.datasets.registry import register_layout
    from pytest_cliprobust.errors import ClipRobustError, NotRun
    from pytest_cliprobust.figures.condition import Condition
    from pytest_cliprobust.figures.figure import Figure
    from pytest_cliprobust.figures.measure import measure
    from pytest_cliprobust.figures.metrics import register_metric
    from pytest_cliprobust.figures.samples import SampleArrays, Samples
    from pytest_cliprobust.perturbations.registry import Perturbation
    from pytest_cliprobust.perturbations.registry import register as register_perturbation
    from pytest_cliprobust.reporting.trackers import register_logger
    from pytest_cliprobust.targets.base import Target
    from pytest_cliprobust.targets.registry import register_target

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "ClipRobustError",
    "Condition",
    "Dataset",
    "Figure",
    "NotRun",
    "Perturbation",
    "SampleArrays",
    "Samples",
    "Target",
    "__version__",
    "measure",
    "register_layout",
    "register_logger",
    "register_metric",
    "register_perturbation",
    "register_target",
]

# Where each name lives, and what it is called there.
_HOMES = {
    "Batch": ("datasets.base", "Batch"),
    "ClipRobustError": ("errors", "ClipRobustError"),
    "Condition": ("figures.condition", "Condition"),
    "Dataset": ("datasets.base", "Dataset"),
    "Figure": ("figures.figure", "Figure"),
    "NotRun": ("errors", "NotRun"),
    "Perturbation": ("perturbations.registry", "Perturbation"),
    "SampleArrays": ("figures.samples", "SampleArrays"),
    "Samples": ("figures.samples", "Samples"),
    "Target": ("targets.base", "Target"),
    "measure": ("figures.measure", "measure"),
    "register_layout": ("datasets.registry", "register_layout"),
    "register_logger": ("reporting.trackers", "register_logger"),
    "register_metric": ("figures.metrics", "register_metric"),
    "register_perturbation": ("perturbations.registry", "register"),
    "register_target": ("targets.registry", "register_target"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    found: object = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = found  # from now on without this function
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

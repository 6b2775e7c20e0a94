"""A model that gives way at known strengths, for searches whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pytest_cliprobust.datasets.base import Batch
from pytest_cliprobust.datasets.subset import Subset
from pytest_cliprobust.engine.view import Classifier, View
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.perturbations.registry import Perturbation

CLASSES = ("cat", "dog", "sea")
#: A perturbation of one parameter, whose strength is the parameter itself.
MADE = Perturbation("made", lambda images: images, "mine", envelope={"amount": (0.0, 1.0)})


class Things:
    """Samples of three classes, in turn."""

    name, digest = "clean", "things"
    class_names: tuple[str, ...] = CLASSES

    def __init__(self, count: int) -> None:
        self.groups: dict[str, tuple[str, ...]] = {}
        self.ids = tuple(f"thing-{i}" for i in range(count))
        self.labels = tuple(i % 3 for i in range(count))

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, indices: Sequence[int]) -> Batch:
        """Return black pictures."""
        names = tuple(self.ids[index] for index in indices)
        return Batch(names, torch.zeros(len(names), 3, 4, 4, dtype=torch.uint8))


class GivingWay:
    """Stands in for an evaluation: sample i is right up to ``limits[i]``, then taken for the next class.

    Args:
        limits: of each sample of :class:`Things` the largest amount at which it is right; below 0: never.
        seed: of the run.
    """

    def __init__(self, limits: Sequence[float], seed: int = 4) -> None:
        self.limits = limits
        self.data = Things(len(limits))
        self.config = SimpleNamespace(seed=seed, depth=None)
        self.asked: list[float] = []

    @property
    def any(self) -> Any:
        """The same, for functions that want a real one."""
        return self

    def clean(self) -> View:
        """Return the samples as they are."""
        return self.on(self.data, limit=len(self.limits))

    def on(
        self,
        data: Any,
        perturbation: str = "",
        severity: int | None = None,
        *,
        limit: int | None = None,
        amount: float = 0.0,
    ) -> View:
        """Return a view of the samples under an amount of the perturbation."""
        steps = (Step(perturbation, severity, (("amount", amount),)),) if perturbation else ()
        if perturbation:
            self.asked.append(amount)
        rows = data.rows if isinstance(data, Subset) else range(len(data))
        answers = [
            label if amount <= self.limits[row] else (label + 1) % 3
            for row, label in zip(rows, data.labels, strict=True)
        ]

        def features() -> Tensor:
            return torch.from_numpy(np.eye(3, dtype=np.float32)[answers])

        def classifier() -> Classifier:
            return Classifier(torch.eye(3, dtype=torch.float64), 10.0, None, "softmax")

        return View(Condition("clean", steps, limit), data, features, classifier, seed=0)

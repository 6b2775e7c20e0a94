"""Data sets with classes of their own, each judged as it is published: DataComp's 38 tasks.

A zero-shot head of the data set's own classes and templates; accuracy, or the metric that it is published
with: mean per class, worst group, macro F1, recall both ways, Jaccard index. Of a collection also the plain
mean over what is there of it. See docs/data.md.
"""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import tasks as properties


def test_task(clip: Evaluation, gate: Gate, tasks: str) -> None:
    gate(properties.score_of(clip.on(tasks)))


def test_mean(clip: Evaluation, gate: Gate) -> None:
    """The plain mean over a collection, which says how many of its data sets are there."""
    gate(properties.means_over(clip.all_on("tasks")))

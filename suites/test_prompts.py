"""Prompt sensitivity: accuracy with each prompt template alone, with all, and with mistyped class names."""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import accuracy
from pytest_cliprobust.properties import prompts as properties

SECTION = "Image and text", 3


def test_prompts(clip: Evaluation, gate: Gate) -> None:
    view = clip.on("clean")
    gate(properties.prompts_of(view, clip.under_each_template(view)))


def test_class_name_typos(clip: Evaluation, gate: Gate) -> None:
    """One typing mistake in each class name: what is lost, on the same pictures."""
    view = clip.on("clean")
    gate(accuracy.accuracy_drop(view, clip.under_mistyped_names(view)))

"""Prompt sensitivity: accuracy with each of the data's prompt templates alone, and with all of them."""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import prompts as properties


def test_prompts(clip: Evaluation, gate: Gate) -> None:
    view = clip.on("clean")
    gate(properties.prompts_of(view, clip.under_each_template(view)))

"""Zero-shot accuracy: on the clean set, and per drawing style."""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import accuracy, labels

SECTION = "Visual factors", 1


def test_clean(clip: Evaluation, gate: Gate) -> None:
    view = clip.on("clean")
    styles = [view.where("style", style) for style in view.values("style")]
    gate(accuracy.accuracy_of(view), [accuracy.accuracy_of(style) for style in styles])


def test_labels(clip: Evaluation, gate: Gate) -> None:
    """No two classes have each other's text: class names and folders belong together."""
    gate(labels.swapped_labels(clip.on("clean")))

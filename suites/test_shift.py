"""Natural distribution shifts: accuracy under each, what is lost, and effective robustness.

The pictures under a shift are others than the clean ones: accuracies compare on the classes that both have.
"""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import accuracy
from pytest_cliprobust.properties import shift as properties

SECTION = "Visual factors", 4


def test_shift(clip: Evaluation, gate: Gate, shift: str) -> None:
    clean, shifted = clip.on("clean"), clip.on(shift)
    gate(accuracy.accuracy_of(shifted), properties.shift_drop(clean, shifted))


def test_effective_robustness(clip: Evaluation, gate: Gate, shift: str) -> None:
    """Against the line of a reference fleet; not run where none is known for the data."""
    gate(properties.effective_robustness_of(clip.on("clean"), clip.on(shift)))

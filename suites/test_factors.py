"""Visual factors (ImageNet-X, Idrissi et al. 2022): accuracy and error ratio of each.

The data are pictures annotated with the factor that they show, or sets in which one factor of the clean
pictures was changed; then each picture is compared with itself.
"""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import factors as properties

SECTION = "Visual factors", 2


def test_factors(clip: Evaluation, gate: Gate, factors: str) -> None:
    gate(properties.factors_of(clip.on("clean"), clip.on(factors)))

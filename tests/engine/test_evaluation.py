"""What the size of a pass alone changes, from logits that are known."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.errors import ClipRobustError

USUAL = np.array([[2.0, 0.0], [0.0, 1.0]])


def noise_of(usual: Any, other: Any, probability: str = "softmax") -> tuple[float, float]:
    """Return the noise of a model whose passes of the usual and of another size give these logits."""
    encoder = SimpleNamespace(
        images=lambda data: usual, regrouped=lambda data, chunk: other, precision="fp32"
    )
    clip: Any = SimpleNamespace(
        dataset=lambda name, limit: name,
        classifier=SimpleNamespace(cosines=lambda features, data: features, logits=lambda x: x),
        encoder=encoder,
        target=SimpleNamespace(probability=probability),
        model="mine",
    )
    noise: Any = vars(Evaluation)["noise"]
    found: tuple[float, float] = noise.func(clip)
    return found


def test_the_largest_change_of_a_probability_and_of_its_logarithm_is_noise() -> None:
    assert noise_of(USUAL, USUAL) == (0.0, 0.0)
    other = USUAL + np.array([[0.0, 1e-5], [0.0, 0.0]])
    share, nats = noise_of(USUAL, other)
    one, two = (1.0 / (1.0 + math.exp(-x)) for x in (2.0, 2.0 - 1e-5))
    assert share == pytest.approx(one - two, rel=1e-6)
    assert nats == pytest.approx(math.log(1.0 - two) - math.log(1.0 - one), rel=1e-6)
    assert noise_of(other, USUAL) == pytest.approx((share, nats))
    # A class that is next to impossible has a logarithm, too.
    assert noise_of(np.array([[0.0, -900.0]]), np.array([[0.0, -900.0]])) == (0.0, 0.0)


def test_answers_that_flip_are_noise_however_near_their_logits() -> None:
    usual, other = (np.array([[1e-9 * sign, 0.0], [2.0, 0.0]]) for sign in (1, -1))
    with pytest.raises(ClipRobustError, match=r"'mine': probabilities or answers change by 0\.5"):
        noise_of(usual, other)

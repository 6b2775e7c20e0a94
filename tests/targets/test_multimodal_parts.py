"""What a multimodal model is asked at a time, without a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pytest_cliprobust.targets.multimodal import MultimodalModel


@pytest.mark.parametrize(
    ("chunk", "parts"),
    [(4, [[0, 1], [2, 3], [4]]), (5, [[0, 1], [2, 3], [4]]), (1, [[0], [1], [2], [3], [4]])],
)
def test_each_question_has_its_own_picture_and_options(chunk: int, parts: list[list[int]]) -> None:
    """Passes have ``chunk`` rows, and a question of two options takes two of them."""
    model: Any = object.__new__(MultimodalModel)
    model.chunk = chunk
    asked = []

    def likelihoods(images: Any, questions: Any, options: Any, rows: int) -> Any:
        numbers = [int(question) for question in questions]
        assert images[:, 0, 0, 0].tolist() == numbers
        assert options == [[f"{number}a", f"{number}b"] for number in numbers]
        assert rows == max(1, chunk // 2)
        asked.append(numbers)
        return np.array([[number, -number] for number in numbers], dtype=np.float64)

    model._likelihoods = likelihoods
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 3, 2, 2)
    options = [[f"{number}a", f"{number}b"] for number in range(5)]
    found = model.likelihoods(images, list(map(str, range(5))), options)
    assert asked == parts
    assert found.tolist() == [[number, -number] for number in range(5)]

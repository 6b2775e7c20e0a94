"""int8 arithmetic, against whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pytest_cliprobust.targets.quantised import Int8Linear, quantise, rounded


def levels(x: Any) -> tuple[Any, Any]:
    """Whole numbers and the scale of each row, in float64."""
    scale = np.maximum(np.abs(x).max(axis=-1, keepdims=True) / 127, 1e-5)
    return np.clip(np.rint(x / scale), -127, 127).astype(np.int64), scale


def both(layer: nn.Linear, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
    """What the layer gives, what whole numbers give in float64, and the size of one level."""
    whole, scale = levels(x.double().numpy())
    weights, of_channel = levels(layer.weight.detach().double().numpy())
    products = torch.from_numpy((whole @ weights.T) * scale * of_channel[:, 0])
    with torch.no_grad():
        found = Int8Linear(layer)(x)
    assert found.dtype == torch.float32
    step = float(scale.max() * np.abs(weights).max() * of_channel.max())
    return found.double(), products + layer.bias.detach().double(), step


def test_a_layer_is_a_product_of_whole_numbers() -> None:
    torch.manual_seed(0)
    found, wanted, step = both(nn.Linear(300, 20), torch.randn(50, 300))
    assert float((found - wanted).abs().median()) < 1e-6 < step / 1000


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 4),
    inside=st.integers(1, 40),
    out=st.integers(1, 5),
    size=st.sampled_from([1e-3, 1.0, 50.0]),
    seed=st.integers(0, 99),
)
def test_layers_of_any_shape(rows: int, inside: int, out: int, size: float, seed: int) -> None:
    torch.manual_seed(seed)
    found, wanted, step = both(nn.Linear(inside, out), torch.randn(rows, 3, inside) * size)
    # A last digit of float32 may put a value that lies between two levels on the other one.
    assert float((found - wanted).abs().max()) <= 1.01 * step + 1e-5 * (1 + wanted.abs().max())


def test_a_row_does_not_depend_on_the_others_and_zeros_stay_zeros() -> None:
    torch.manual_seed(0)
    layer = Int8Linear(nn.Linear(16, 8))
    x = torch.randn(5, 16)
    x[4] *= 1000
    with torch.no_grad():
        assert torch.equal(layer(x)[:4], layer(x[:4]))
    assert torch.equal(rounded(torch.zeros(2, 3)), torch.zeros(2, 3))
    assert len(rounded(torch.randn(1, 100_000)).unique()) <= 255


def test_gradients_pass_straight_through_the_rounding() -> None:
    torch.manual_seed(0)
    plain = nn.Linear(6, 2).requires_grad_(False)
    layer = Int8Linear(plain)
    x = torch.randn(3, 6, requires_grad=True)
    layer(x).sum().backward()
    weight: Any = layer.weight
    torch.testing.assert_close(x.grad, weight.sum(dim=0).expand(3, 6))


def test_which_layers_of_a_model_are_quantised() -> None:
    model = nn.ModuleDict(
        {
            "mlp": nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4, bias=False)),
            "attention": nn.MultiheadAttention(4, 2),
            "convolution": nn.Conv2d(3, 4, 1),
        }
    ).eval()
    total = sum(parameter.numel() for parameter in model.parameters())
    layers, share = quantise(model)
    assert layers == 2
    assert share == pytest.approx(64 / total)
    kinds = [type(module).__name__ for module in model.modules()]
    assert kinds.count("Int8Linear") == 2
    assert kinds.count("NonDynamicallyQuantizableLinear") == 1
    assert quantise(nn.Conv2d(1, 1, 1)) == (0, 0.0)


def test_half_precision_around_it_changes_nothing() -> None:
    torch.manual_seed(0)
    layer = Int8Linear(nn.Linear(16, 4)).requires_grad_(False)
    x = torch.randn(2, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(x)
    assert torch.equal(found, layer(x))

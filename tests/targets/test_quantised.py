"""int8 arithmetic, against whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pytest_cliprobust.targets import quantised
from pytest_cliprobust.targets.quantised import Int8Attention, Int8Linear, quantise, rounded


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
            "other": nn.MultiheadAttention(4, 2, add_bias_kv=True),
            "convolution": nn.Conv2d(3, 4, 1),
        }
    ).eval()
    total = sum(parameter.numel() for parameter in model.parameters())
    layers, share = quantise(model)
    assert layers == 2 + 4
    assert share == pytest.approx((64 + 4 * 16) / total)
    assert isinstance(model["attention"], Int8Attention)
    kinds = [type(module).__name__ for module in model["other"].modules()]
    assert kinds == ["MultiheadAttention", "NonDynamicallyQuantizableLinear"]
    assert quantise(nn.Conv2d(1, 1, 1)) == (0, 0.0)
    assert quantise(nn.Identity()) == (0, 0.0)


CAUSAL = torch.full((5, 5), float("-inf")).triu(1)


@pytest.mark.parametrize(
    ("settings", "call"),
    [
        ({}, {}),
        ({"bias": False}, {"attn_mask": CAUSAL}),
        ({"batch_first": True}, {"attn_mask": CAUSAL.isinf()}),
        ({"batch_first": True}, {"attn_mask": torch.arange(200.0).view(8, 5, 5).sin()}),
        ({"batch_first": True}, {"key_padding_mask": torch.arange(20).view(4, 5) % 5 > 2}),
        ({"kdim": 7, "vdim": 10, "batch_first": True}, {}),
        ({"kdim": 7, "vdim": 10, "bias": False}, {"need_weights": False}),
    ],
    ids=str,
)
def test_an_attention_is_torchs_but_for_the_rounding(
    settings: dict[str, Any], call: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(6, 2, **settings).eval().requires_grad_(False)
    for parameter in attention.parameters():
        nn.init.normal_(parameter)
    widths = (6, settings.get("kdim", 6), settings.get("vdim", 6))
    given = [torch.randn(4, 5, width) for width in widths]
    if not settings.get("batch_first"):
        given = [x.transpose(0, 1) for x in given]
    wanted = attention(*given, **call)
    near = Int8Attention(attention)(*given, **call)
    monkeypatch.setattr(quantised, "rounded", lambda x: x)
    exact = Int8Attention(attention)(*given, **call)
    for found, theirs in zip(exact, wanted, strict=True):
        assert (found is None) == (theirs is None)
        if theirs is not None:
            torch.testing.assert_close(found, theirs, atol=1e-5, rtol=1e-5)
    error = (near[0] - wanted[0]).abs().mean() / wanted[0].abs().mean()
    assert 1e-4 < float(error) < 0.1


def test_an_attention_is_made_of_products_of_whole_numbers() -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(12, 3, batch_first=True).requires_grad_(False)
    nn.init.normal_(attention.in_proj_bias)
    x = torch.randn(2, 4, 12)

    def product(x: Any, weight: Any, bias: Any) -> Any:
        (whole, scale), (weights, of_channel) = levels(x), levels(weight.double().numpy())
        return (whole @ weights.T) * scale * of_channel[:, 0] + bias.double().numpy()

    parts = zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
    q, k, v = (
        product(x.double().numpy(), weight, bias).reshape(2, 4, 3, 4).transpose(0, 2, 1, 3)
        for weight, bias in parts
    )
    scores = np.exp(q @ k.transpose(0, 1, 3, 2) / 2)
    weights = scores / scores.sum(axis=-1, keepdims=True)
    inner = (weights @ v).transpose(0, 2, 1, 3).reshape(2, 4, 12)
    wanted = product(inner, attention.out_proj.weight, attention.out_proj.bias)
    found, mean = Int8Attention(attention)(x, x, x)
    assert mean is not None
    np.testing.assert_allclose(mean, weights.mean(axis=1), atol=1e-6)
    # A last digit may put a value between two levels on the other one: most are equal.
    assert float(np.median(np.abs(found.numpy() - wanted))) < 1e-6
    np.testing.assert_allclose(found, wanted, atol=0.01)


def test_half_precision_around_it_changes_nothing() -> None:
    torch.manual_seed(0)
    layer = Int8Linear(nn.Linear(16, 4)).requires_grad_(False)
    x = torch.randn(2, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(x)
    assert torch.equal(found, layer(x))

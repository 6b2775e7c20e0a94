"""Value features, against the attention's own weights; and what has none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pytest_cliprobust.errors import NotRun
from pytest_cliprobust.targets.base import LAST, DenseTarget, Layer
from pytest_cliprobust.targets.dense import last_attention, value_features
from pytest_cliprobust.targets.open_clip_target import OpenClipTarget

SIDE, WIDTH = 3, 8


class Tower(nn.Module):
    """One block of torch's attention over a class token and a grid of patches."""

    def __init__(self, *, batch_first: bool, times: int = 1) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, 2, batch_first=batch_first)
        nn.init.normal_(self.attn.in_proj_bias)
        nn.init.normal_(self.attn.out_proj.bias)
        self.batch_first, self.times = batch_first, times

    def forward(self, tokens: Tensor) -> Tensor:
        x = tokens if self.batch_first else tokens.transpose(0, 1)
        for _ in range(self.times):
            out = self.attn(x, x, x, need_weights=False)[0]
        out = out if self.batch_first else out.transpose(0, 1)
        patches: Tensor = out[:, 1:].transpose(1, 2).reshape(len(tokens), WIDTH, SIDE, SIDE)
        return patches


@pytest.mark.parametrize("batch_first", [True, False])
def test_values_are_the_projected_values_of_each_token(batch_first: bool) -> None:
    torch.manual_seed(0)
    tower = Tower(batch_first=batch_first).eval()
    tokens = torch.randn(2, 1 + SIDE * SIDE, WIDTH)
    with torch.no_grad():
        found = value_features(tower.attn, lambda: tower(tokens), "m")
        attention = tower.attn
        values = F.linear(
            tokens, attention.in_proj_weight[2 * WIDTH :], attention.in_proj_bias[2 * WIDTH :]
        )
        wanted = attention.out_proj(values)[:, 1:]
    assert found.shape == (2, WIDTH, SIDE, SIDE)
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), wanted)
    # What it looks at changes the block's output, and not the values.
    assert not torch.allclose(found, tower(tokens), atol=1e-3)


def test_what_has_no_values_says_so() -> None:
    with pytest.raises(
        NotRun, match=r"'m' offers no patch features of layer values \(.*no self-att"
    ):
        value_features(None, lambda: torch.zeros(1, 2, 3, 3), "m")
    twice = Tower(batch_first=True, times=2)
    with pytest.raises(NotRun, match="not called once"):
        value_features(twice.attn, lambda: twice(torch.randn(1, 10, WIDTH)), "m")

    class Windowed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[1] != SIDE:
                raise RuntimeError("a window of three")
            return x

    windowed = Windowed()

    def run() -> Tensor:
        windowed(torch.randn(3, SIDE, 5))
        return torch.zeros(3, 5, 1, SIDE)

    with pytest.raises(NotRun, match="RuntimeError"):
        value_features(windowed, run, "m")


def test_where_attention_is_looked_for() -> None:
    attention = nn.Linear(1, 1)
    block: Any = nn.Module()
    for name in ("attn", "self_attn"):
        block = nn.Module()
        setattr(block, name, attention)
        blocks = nn.ModuleList([nn.Identity(), block])
        for tower in (
            SimpleNamespace(transformer=SimpleNamespace(resblocks=blocks)),
            SimpleNamespace(trunk=SimpleNamespace(blocks=blocks)),
            SimpleNamespace(layers=blocks),
        ):
            assert last_attention(tower) is attention
    without: list[Any] = [nn.Identity(), *(SimpleNamespace(layers=x) for x in (3, nn.ModuleList()))]
    assert [last_attention(tower) for tower in without] == [None] * 3
    # A convolutional network's blocks have none.
    assert last_attention(SimpleNamespace(layers=nn.Sequential(nn.Conv2d(1, 1, 1)))) is None


def test_the_protocol() -> None:
    class Mine:
        def dense_features(self, pixels: Tensor, layer: Layer = LAST) -> Tensor:
            return pixels

    assert isinstance(Mine(), DenseTarget)
    assert not isinstance(object(), DenseTarget)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_place_of_an_averaged_map_is_what_the_head_makes_of_it_alone(layout: str) -> None:
    channels_last = layout == "NHWC"
    maps = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    sides = (1, 2) if channels_last else (2, 3)
    trunk = SimpleNamespace(
        forward_features=lambda pixels: maps.permute(0, 2, 3, 1) if channels_last else maps,
        forward_head=lambda found: found.mean(sides),
    )
    if channels_last:  # towers that say nothing keep channels first
        trunk.output_fmt = layout
    tower = SimpleNamespace(trunk=trunk, head=lambda pooled: pooled @ weight)
    target: Any = object.__new__(OpenClipTarget)
    found = target._places(tower, torch.zeros(2, 3, 8, 8))
    assert found.shape == (2, 12, 5)
    torch.testing.assert_close(found, maps.flatten(2).transpose(1, 2) @ weight)

"""int8 as it is deployed most: linear layers with quantised weights and quantised inputs.

Weights: one scale for each output channel, inputs: one for each row (token), computed when it comes in; both
symmetric, -127 to 127, rounded to nearest (W8A8 "dynamic" quantisation: Dettmers et al. 2022, "LLM.int8()",
section 2, without its outliers; the scheme of torchao's int8 dynamic configuration). The products of whole
numbers are computed in float32, which holds each of them and a sum of a thousand exactly: same figures as
with integer kernels to some 1e-7, on every device, with gradients (straight through the rounding), and
nothing saved in time or memory.

Per row, not per batch as ``torch.ao.quantization.quantize_dynamic`` does: there, features depend on which
other pictures are in the batch.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 127
"""The largest level, on both sides of zero."""

#: The smallest scale: of a row of zeros.
_LEAST = 1e-5

#: Linear layers of an attention that is not taken: it uses their weights without calling them.
_NOT_CALLED = (nn.modules.linear.NonDynamicallyQuantizableLinear,)


class Int8Linear(nn.Module):
    """A linear layer in int8.

    Args:
        layer: the layer; its weights stay as they are.

    Attributes:
        weight: (out, in) float32: levels times the scale of their channel.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.register_buffer("weight", rounded(layer.weight.detach().float()))
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """From (..., in) to (..., out) float32."""
        weight: Any = self.weight
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(rounded(x.float()), weight, self.bias)


class Int8Attention(nn.Module):
    """Torch's own multi-head attention, with its four projections in int8.

    What lies between them (products of queries and keys, softmax, weighed values) is computed as in the
    parent: schemes that quantise linear layers leave it.

    Args:
        attention: its weights stay as they are. One with biases or zeros beside its keys
            (``add_bias_kv``, ``add_zero_attn``) is not taken, see :func:`in_int8`.

    Attributes:
        batch_first: as torch's.
        query, key, value, out_proj: the projections.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.batch_first = attention.batch_first
        if attention.in_proj_weight is None:  # keys or values of another width than the queries
            weights = [attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight]
        else:
            weights = list(attention.in_proj_weight.chunk(3))
        biases = [None] * 3 if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)
        self.query, self.key, self.value = (
            Int8Linear(_linear(weight, bias)) for weight, bias in zip(weights, biases, strict=True)
        )
        self.out_proj = Int8Linear(attention.out_proj)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """As :class:`torch.nn.MultiheadAttention` for batches: features, and the heads' mean weights."""
        if not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.query, query), (self.key, key), (self.value, value))
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if attn_mask is not None and attn_mask.ndim == 3:  # one for each row and head
            attn_mask = attn_mask.unflatten(0, (-1, self.heads))
        padding = None if key_padding_mask is None else key_padding_mask[:, None, None]
        for mask in (attn_mask, padding):
            if mask is not None:
                hidden = mask.dtype == torch.bool
                scores = scores.masked_fill(mask, -math.inf) if hidden else scores + mask
        weights = scores.softmax(dim=-1)
        found = self.out_proj((weights @ v).transpose(1, 2).flatten(2))
        if not self.batch_first:
            found = found.transpose(0, 1)
        return found, weights.mean(dim=1) if need_weights else None


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a linear layer with these weights (out, in)."""
    out, inside = weight.shape
    layer = nn.Linear(inside, out, bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer


def in_int8(layer: nn.Module) -> nn.Module | None:
    """Return a layer in int8, None for one that is no linear layer or attention of torch's own."""
    if isinstance(layer, nn.MultiheadAttention):
        plain = layer.bias_k is None and layer.bias_v is None and not layer.add_zero_attn
        return Int8Attention(layer) if plain else None
    if isinstance(layer, nn.Linear) and not isinstance(layer, _NOT_CALLED):
        return Int8Linear(layer)
    return None


def rounded(x: Tensor) -> Tensor:
    """Return a tensor with each row (last axis) on its nearest levels; gradients pass as if it were not."""
    values = x.detach()
    scale = (values.abs().amax(dim=-1, keepdim=True) / LEVELS).clamp(min=_LEAST)
    nearest = (values / scale).round().clamp(-LEVELS, LEVELS) * scale
    return x + (nearest - values) if x.requires_grad else nearest


def quantise(model: nn.Module) -> tuple[int, float]:
    """Put every linear layer of a model into int8, in place; those inside torch's own attention, too.

    What is no linear layer stays: convolutions (patch embeddings among them), embeddings, norms, and
    projections that are a bare parameter. Of layers whose weights another function takes (the attention
    pooling of OpenAI's ResNets) the weights are quantised, and the inputs are not.

    Returns:
        the number of layers, of which an attention has four, and the share of the model's parameters that
        they hold.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            layer = in_int8(child)
            if layer is not None:
                setattr(module, name, layer)
    layers = [module for module in model.modules() if isinstance(module, Int8Linear)]
    held = sum(layer.in_features * layer.out_features for layer in layers)
    return len(layers), held / max(total, 1)

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

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 127
"""The largest level, on both sides of zero."""

#: The smallest scale: of a row of zeros.
_LEAST = 1e-5

#: Linear layers whose weights are used without calling them.
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


def rounded(x: Tensor) -> Tensor:
    """Return a tensor with each row (last axis) on its nearest levels; gradients pass as if it were not."""
    values = x.detach()
    scale = (values.abs().amax(dim=-1, keepdim=True) / LEVELS).clamp(min=_LEAST)
    nearest = (values / scale).round().clamp(-LEVELS, LEVELS) * scale
    return x + (nearest - values) if x.requires_grad else nearest


def quantise(model: nn.Module) -> tuple[int, float]:
    """Put every linear layer of a model into int8, in place.

    What is no ``nn.Linear`` stays: convolutions, embeddings, norms, and the weights inside torch's own
    ``nn.MultiheadAttention``, which open_clip's ViT has.

    Returns:
        the number of layers, and the share of the model's parameters that they hold.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    count = held = 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and not isinstance(child, _NOT_CALLED):
                setattr(module, name, Int8Linear(child))
                count, held = count + 1, held + child.weight.numel()
    return count, held / max(total, 1)

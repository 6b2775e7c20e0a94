"""Patch features that several kinds of targets take in the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from pytest_cliprobust.errors import NotRun, brief
from pytest_cliprobust.targets.base import Layer


def no_patches(name: str, layer: Layer, why: str) -> NotRun:
    """Return the error of a model without patch features, or without those of a layer."""
    return NotRun(f"model {name!r} offers no patch features of layer {layer} ({why})")


def last_attention(tower: Any) -> nn.Module | None:
    """Return the self-attention of the last block of a transformer, None where there is none.

    It looks where open_clip, timm and transformers keep their blocks.
    """
    for path in ("transformer.resblocks", "trunk.blocks", "layers"):
        blocks = tower
        for part in path.split("."):
            blocks = getattr(blocks, part, None)
        if isinstance(blocks, nn.ModuleList | nn.Sequential) and len(blocks):
            block = blocks[-1]
            attention = getattr(block, "attn", None) or getattr(block, "self_attn", None)
            return attention if isinstance(attention, nn.Module) else None
    return None


def value_features(
    attention: nn.Module | None, last_block: Callable[[], Tensor], name: str
) -> Tensor:
    """Return the projected values (B, C, h, w) of the last block's attention.

    What MaskCLIP (Zhou, Loy & Dai 2022) takes for dense features: the attention without its weighing of
    other places. Each token goes through the attention alone; with nothing else to attend to, what comes
    out is its own value after the output projection, whatever the attention is made of.

    Args:
        attention: of the last block, batch first unless it is torch's own and says otherwise.
        last_block: runs the tower and gives the block's tokens (B, C, h, w); prefix tokens come first.
        name: the model's, for the message.

    Raises:
        NotRun: a tower without attention, or with one that can't be run on single tokens.
    """
    if attention is None:
        raise no_patches(name, "values", "its image tower's last block has no self-attention")
    kept: list[Tensor] = []

    def keep(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        kept.append(given[0] if given else named["hidden_states"])

    hook = attention.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        grid = last_block().shape[-2:]
    finally:
        hook.remove()
    if len(kept) != 1:
        raise no_patches(name, "values", "its last attention is not called once")
    tokens = kept[0]
    batch_first: bool | None = getattr(attention, "batch_first", None)
    own = batch_first is not None  # torch's own attention, or its twin in int8
    if own and not batch_first:
        tokens = tokens.transpose(0, 1)
    patches = tokens[:, -grid[0] * grid[1] :]
    single = patches.reshape(-1, 1, patches.shape[-1])
    if own and not batch_first:
        single = single.transpose(0, 1)
    try:
        output = attention(single, single, single, need_weights=False) if own else attention(single)
    except (TypeError, RuntimeError) as error:
        raise no_patches(name, "values", brief(error)) from None
    values: Tensor = output[0] if isinstance(output, tuple) else output
    return values.reshape(len(patches), *grid, -1).permute(0, 3, 1, 2)


def each_alone(values: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
    """Return features (B, P, D) in the space of texts, of each of the values (B, C, h, w) as if alone.

    Args:
        values: as :func:`value_features` gives them.
        head: what a tower does with its last tokens, from (N, 2, C) to (N, D). Each value stands there
            twice: towers read the first token, or pool all, or all but the first.
    """
    batch, channels = values.shape[:2]
    tokens = values.flatten(2).transpose(1, 2).reshape(-1, 1, channels).expand(-1, 2, -1)
    return head(tokens).reshape(batch, values[0, 0].numel(), -1)

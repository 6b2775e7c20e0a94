"""Twins of a model: the same weights, computed as a deployment computes them.

``MODEL@int8``, ``MODEL@compile`` and ``MODEL@onnx:PATH`` take everything from MODEL (tokens, preprocessing,
logit scale) but the arithmetic, so that what a conversion costs can be measured on the same samples::

    pytest --clip-against=ViT-B-32/openai --clip-model=ViT-B-32/openai@int8 suites/

A twin's digest is its own, so that no cached feature or baseline of its parent's is taken for it.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError, brief, is_out_of_memory
from pytest_cliprobust.targets.base import Layer, Target, TargetInfo
from pytest_cliprobust.targets.dense import no_patches
from pytest_cliprobust.targets.graphs import Graphs
from pytest_cliprobust.targets.names import GRAPHS
from pytest_cliprobust.targets.quantised import quantise
from pytest_cliprobust.targets.runtime import TwoTowerTarget


def twin_of(parent: Target, twin: str, name: str) -> Target:
    """Return a twin of a model.

    Args:
        parent: the model.
        twin: one of :data:`.names.TWINS`, or :data:`.names.GRAPHS` and a path.
        name: of the twin, as the user wrote it.

    Raises:
        ClipRobustError: a model that has no such twin, or graphs that do not fit it.
        Unavailable: onnxruntime is not installed.
    """
    if not isinstance(parent, TwoTowerTarget):
        raise ClipRobustError(
            f"--clip-model {name}: {parent.info.name!r} has no twin @{twin:.40}, as its code is your own; "
            "convert it there, and name both: --clip-model module:converted"
        )
    if twin.startswith(GRAPHS):
        return OnnxTwin(parent, Graphs(twin.removeprefix(GRAPHS), parent.device), name)
    return int8_twin(parent, name) if twin == "int8" else CompiledTwin(parent, name)


def _info(parent: TargetInfo, name: str, settings: Sequence[str], note: str) -> TargetInfo:
    """Return what is known of a twin; ``settings`` tell it from its parent and from other twins."""
    text = "\0".join(("pytest-cliprobust twin 1", *settings, parent.digest))
    return replace(
        parent,
        name=name,
        digest=hashlib.sha256(text.encode()).hexdigest(),
        notes=(*parent.notes, note),
    )


def int8_twin(parent: TwoTowerTarget, name: str) -> TwoTowerTarget:
    """Return a model with its linear layers quantised, see :func:`.quantised.quantise`.

    Raises:
        ClipRobustError: it has no linear layers.
    """
    found: Any = copy.copy(parent)
    # A user's loader may hand out one model twice: the parent must stay as it is.
    found.model = copy.deepcopy(found.model)
    layers, share = quantise(found.model)
    if not layers:
        raise ClipRobustError(f"--clip-model {name}: the model has no linear layers to quantise")
    note = f"int8: {layers} linear layers quantised, with {share:.0%} of the parameters"
    found.info = _info(parent.info, name, ("int8", "attention"), note)
    # A last digit may decide between two levels of an activation.
    found.rounding = "bf16"
    twin: TwoTowerTarget = found
    return twin


class _Twin(TwoTowerTarget):
    """A twin whose features another program computes: its parent's in everything else."""

    def __init__(self, parent: TwoTowerTarget, info: TargetInfo) -> None:
        super().__init__(
            info,
            preprocessing=parent.preprocessing,
            device=parent.device,
            precision=parent.precision,
            embed_dim=parent.embed_dim,
            logit_scale=parent.logit_scale,
            logit_bias=parent.logit_bias,
            probability=parent.probability,
        )
        self.parent = parent

    def tokens(self, texts: list[str]) -> dict[str, Tensor]:
        """From N strings to the tokens that the parent reads."""
        return self.parent.tokens(texts)

    def _dense_features(self, pixels: Tensor, layer: Layer) -> Tensor:
        raise no_patches(
            self.info.name, layer, "a compiled or exported twin gives its output alone"
        )

    def _local_features(self, pixels: Tensor) -> Tensor:
        raise self._nothing_local("a compiled or exported twin gives its output alone")


BACKEND = "inductor"
"""torch.compile's own default."""


class CompiledTwin(_Twin):
    """A model whose two towers go through ``torch.compile``."""

    def __init__(self, parent: TwoTowerTarget, name: str) -> None:
        note = f"both towers compiled by torch.compile of torch {torch.__version__}"
        super().__init__(parent, _info(parent.info, name, ("compile",), note))
        self._image = torch.compile(parent._encode_image, backend=BACKEND)
        self._text = torch.compile(parent.encode_tokens, backend=BACKEND)

    def _encode_image(self, pixels: Tensor) -> Tensor:
        return self._compiled(self._image, pixels)

    def encode_tokens(self, tokens: dict[str, Tensor]) -> Tensor:
        """From tokens to features (N, D), not normalised."""
        return self._compiled(self._text, tokens)

    def _compiled(self, tower: Any, value: Any) -> Tensor:
        try:
            features: Tensor = tower(value)
        except Exception as error:  # whatever a compiler, a linker or the backend dislikes
            if is_out_of_memory(error) or not _of_the_compiler(error):
                raise
            raise ClipRobustError(
                f"model {self.info.name!r}: torch.compile fails ({brief(error)}); it needs a C++ compiler "
                "(g++) on a CPU and Triton on a GPU. Without, test the parent alone"
            ) from None
        # The next call may write into the same memory.
        return features.clone()


def _of_the_compiler(error: BaseException) -> bool:
    names = {kind.__module__ for kind in type(error).__mro__}
    return any(name.startswith(("torch._dynamo", "torch._inductor")) for name in names)


class OnnxTwin(_Twin):
    """A model whose features come from graphs of ONNX; it lets no gradients through."""

    #: The graphs may compute in half precision, or quantise by batch: see ``engine/probe.py``.
    rounding = "bf16"

    def __init__(self, parent: TwoTowerTarget, graphs: Graphs, name: str) -> None:
        super().__init__(parent, _info(parent.info, name, ("onnx", graphs.identity), graphs.note))
        self.graphs = graphs
        graphs.check(parent, name)
        # Of the parent its tokenizer is needed, and its weights no more.
        speaker: Any = copy.copy(parent)
        speaker.model = None
        self.parent = speaker

    def _encode_image(self, pixels: Tensor) -> Tensor:
        return self._on_device(self.graphs.encode_image(pixels, self._blank()))

    def encode_tokens(self, tokens: dict[str, Tensor]) -> Tensor:
        """From tokens to features (N, D), not normalised."""
        height, width = self.image_size
        picture = torch.zeros(1, 3, height, width)
        return self._on_device(self.graphs.encode_tokens(tokens, picture))

    def _blank(self) -> dict[str, Tensor]:
        return self.parent.tokens(["a"])

    def _on_device(self, features: Tensor) -> Tensor:
        return features.to(self.device)

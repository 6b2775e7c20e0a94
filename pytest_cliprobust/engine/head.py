"""The zero-shot head: from class names and prompt templates to logits and probabilities.

Radford et al. 2021 ("Learning Transferable Visual Models From Natural Language Supervision",
section 3.1.4): a class's weight vector is the L2-normalised mean over prompt templates of its
L2-normalised text embeddings; logits are scaled cosine similarities. SigLIP-type models (Zhai et
al. 2023) add a bias and are trained with a sigmoid for each image-text pair.

Cosines are computed exactly, so that a sample's logits do not depend on which other samples are
computed with it, on the linear-algebra library or on the number of threads (see
:func:`cosine_similarities`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pytest_cliprobust.engine import texts
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Floats, as_matrix, sigmoid, softmax, unit_rows


class TextEncoder(Protocol):
    """What the head needs of a model: any :class:`pytest_cliprobust.targets.base.Target` will do."""

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """From N strings to features (N, D)."""
        ...


Template: TypeAlias = str | Callable[[str], str]

# Texts are encoded in chunks of this fixed size, unless the target says how many it takes (``at_once``): a
# matrix product may round differently for another batch size, and the head must be the same in every run.
_TEXT_CHUNK = 256


def render(template: Template, label: str) -> str:
    """Return the prompt for one class name.

    ``template`` is a string with one ``{}`` (``"a photo of a {}."``) or, as in open_clip's lists,
    a function from the class name to the prompt.

    Raises:
        ClipRobustError: the template is a string without a place for the class name.
    """
    if callable(template):
        return template(label)
    if "{}" not in template:
        raise ClipRobustError(
            f"prompt template {template!r} has no place for the class name; write {{}} into it."
        )
    return template.replace("{}", label)


@torch.inference_mode()
def template_heads(
    target: TextEncoder,
    labels: Sequence[str],
    templates: Sequence[Template],
    *,
    distinct: bool = True,
) -> Tensor:
    """Return one head per prompt template: unit vectors (T, C, D), float64 on the CPU.

    Classes are kept by index, never by name: duplicate names ("crane", "maillot" in ImageNet's
    list) keep a row each. Without ``distinct`` different prompts may have equal embeddings: names that no
    sample has to be told from another by.

    Raises:
        ClipRobustError: no labels or templates, a template without a place for the class name, a text
            embedding that is zero or not finite, or different prompts with equal embeddings.
    """
    if not labels:
        raise ClipRobustError("the zero-shot head needs at least one class name, got none.")
    if not templates:
        raise ClipRobustError("the zero-shot head needs at least one prompt template, got none.")
    prompts = [render(template, label) for template in templates for label in labels]
    heads = _unit_features(target, prompts).reshape(len(templates), len(labels), -1)
    info = getattr(target, "info", None)
    for row, features in enumerate(heads if distinct else ()):
        own = prompts[row * len(labels) : (row + 1) * len(labels)]
        texts.refuse_equal(
            labels,
            own,
            features,
            lambda some: _unit_features(target, some),
            getattr(info, "name", ""),
        )
    return heads


def _unit_features(target: TextEncoder, prompts: Sequence[str]) -> Tensor:
    """Return unit vectors (N, D), float64 on the CPU."""
    size = min(getattr(target, "at_once", _TEXT_CHUNK), len(prompts))
    chunks = [
        target.encode_text(prompts[start : start + size]).detach().cpu().double()
        for start in range(0, len(prompts), size)
    ]
    embeddings = torch.cat(chunks)
    norms = embeddings.norm(dim=-1, keepdim=True)
    broken = ~(torch.isfinite(norms) & (norms > 0)).squeeze(-1)
    if broken.any():
        prompt = prompts[int(broken.nonzero()[0, 0])]
        raise ClipRobustError(
            f"the model's text embedding of {prompt!r} is zero or not finite; "
            "check its weights and precision."
        )
    unit: Tensor = embeddings / norms
    return unit


def ensemble_head(heads: Tensor) -> Tensor:
    """Return the ensemble (C, D) of per-template heads (T, C, D): their mean, L2-normalised.

    Raises:
        ClipRobustError: the embeddings of a class cancel out.
    """
    mean = heads.mean(dim=0)
    norms = mean.norm(dim=-1, keepdim=True)
    if not bool((norms > 0).all()):
        index = int((norms.squeeze(-1) <= 0).nonzero()[0, 0])
        raise ClipRobustError(
            f"the text embeddings of class {index} cancel out over the prompt templates, so it has "
            "no weight vector; use other templates."
        )
    head: Tensor = mean / norms
    return head


def zero_shot_head(
    target: TextEncoder,
    labels: Sequence[str | Sequence[str]],
    templates: Sequence[Template],
    *,
    distinct: bool = True,
) -> Tensor:
    """Return the class weights of the zero-shot classifier: unit vectors (C, D), float64, CPU.

    Args:
        target: encodes texts.
        labels: of each class its text, or several, whose embeddings are averaged with those of the templates.
        templates: prompt templates.
        distinct: whether different prompts must have different embeddings, as those of classes must.

    Raises:
        ClipRobustError: as for :func:`template_heads` and :func:`ensemble_head`.
    """
    owned = [[label] if isinstance(label, str) else list(label) for label in labels]
    flat = [text for own in owned for text in own]
    heads = template_heads(target, flat, templates, distinct=distinct)
    if all(len(own) == 1 for own in owned):
        return ensemble_head(heads)
    parts = torch.split(heads, [len(own) for own in owned], dim=1)
    return ensemble_head(torch.stack([part.mean(dim=(0, 1)) for part in parts])[None])


def cosine_similarities(
    image_features: Tensor | ArrayLike,
    text_features: Tensor | ArrayLike,
    *,
    dataset: str = "features",
    ids: Sequence[str] | None = None,
) -> Floats:
    """Return cosine similarities (N, C) in [-1, 1], float64, from features (N, D) and (C, D).

    Bit-identical whatever the batch, order, thread count or BLAS: see
    :func:`~pytest_cliprobust.figures.arrays.unit_rows`.

    Raises:
        ClipRobustError: zero or non-finite features (naming data set and sample), or features of
            different widths.
    """
    image = unit_rows(image_features, dataset=dataset, ids=ids)
    text = unit_rows(text_features, dataset="text features")
    if image.shape[1] != text.shape[1]:
        raise ClipRobustError(
            f"data set {dataset!r}: image features have {image.shape[1]} dimensions but text "
            f"features {text.shape[1]}; both must come from the same model."
        )
    return np.asarray(np.clip(image @ text.T, -1.0, 1.0), dtype=np.float64)


def zero_shot_logits(
    cosines: ArrayLike, logit_scale: float, logit_bias: float | None = None
) -> Floats:
    """Return logits (N, C) = ``logit_scale`` · cosine (+ ``logit_bias``), float64.

    ``logit_scale`` is the factor itself (100 for OpenAI's models), not its logarithm.

    Raises:
        ClipRobustError: the scale is not a positive finite number, or the cosines are not finite.
    """
    if not (np.isfinite(logit_scale) and logit_scale > 0):
        raise ClipRobustError(
            f"logit_scale must be positive and finite, got {logit_scale}; "
            "give the factor itself, not its logarithm."
        )
    bias = 0.0 if logit_bias is None else logit_bias
    return np.asarray(as_matrix(cosines, "cosines") * logit_scale + bias, dtype=np.float64)


def probabilities(logits: ArrayLike, kind: Literal["softmax", "sigmoid"] = "softmax") -> Floats:
    """Return class probabilities (N, C) in [0, 1], float64.

    ``"softmax"``: they sum to 1 over the classes. ``"sigmoid"``: each is the probability that this
    text belongs to this image, as SigLIP is trained (they need not sum to 1).
    """
    matrix = as_matrix(logits, "logits")
    return softmax(matrix) if kind == "softmax" else sigmoid(matrix)

"""The identity of a model: a digest of weights, architecture, preprocessing and tokenizer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def model_digest(
    state: Mapping[str, Tensor], architecture: Any, preprocessing: str, tokenizer: str
) -> str:
    """Return hex sha256 over everything that decides a model's features, precision aside.

    Args:
        state: the loaded model's state dict: names, dtypes, shapes and raw bytes, sorted by name, so
            that the same weights give the same digest from whichever file format they came.
        architecture: JSON-able configuration (the activation function is in there: it changes the
            features and leaves no trace in the weights).
        preprocessing: :meth:`Preprocessing.identity`.
        tokenizer: :func:`tokenizer_identity`.
    """
    digest = hashlib.sha256(b"pytest-cliprobust target 1\0")
    for part in (canonical(architecture), preprocessing, tokenizer):
        digest.update(part.encode() + b"\0")
    for name in sorted(state):
        tensor = state[name].detach()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        # Hashing the memory itself spares a copy; bfloat16 has no numpy type, bytes do.
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tokenizer_identity(tokenizer: Any, settings: Mapping[str, Any]) -> str:
    """Return a text that differs whenever the tokenizer could give other tokens.

    ``tokenizer`` is open_clip's SimpleTokenizer or HFTokenizer, or a tokenizer of transformers;
    ``settings`` are the arguments of the call (context length, cleaning, padding).
    """
    inner = getattr(tokenizer, "tokenizer", tokenizer)
    backend = getattr(inner, "backend_tokenizer", None)
    if backend is not None:  # transformers, "fast": one JSON text with rules and vocabulary
        rules = json.loads(backend.to_str())
        for changeable in ("truncation", "padding"):  # set anew by every call
            rules.pop(changeable, None)
    elif hasattr(inner, "get_vocab"):  # transformers, "slow"
        rules = {"vocab": inner.get_vocab(), "arguments": str(getattr(inner, "init_kwargs", ""))}
    else:  # open_clip's own
        rules = {
            "vocab": inner.encoder,
            "merges": "\n".join(map(" ".join, getattr(inner, "bpe_ranks", ()))),
        }
    vocabulary = hashlib.sha256(canonical(rules).encode()).hexdigest()
    return canonical([type(inner).__name__, vocabulary, dict(settings)])


def canonical(value: Any) -> str:
    """Return JSON with sorted keys; what JSON does not know goes in as its text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)

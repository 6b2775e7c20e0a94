"""What identifies a model and its tokenizer: weights, rules, and nothing that a call sets anew."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from pytest_cliprobust.targets.digest import model_digest, tokenizer_identity

RULES = {"model": {"vocab": {"a": 0, "b": 1}}, "truncation": None, "padding": None}


def fast(**changes: Any) -> Any:
    """Return a tokenizer as transformers' fast ones are."""
    text = json.dumps({**RULES, **changes})
    return SimpleNamespace(backend_tokenizer=SimpleNamespace(to_str=lambda: text))


def slow(vocab: dict[str, int], **arguments: Any) -> Any:
    """Return a tokenizer as transformers' slow ones are."""
    return SimpleNamespace(get_vocab=lambda: vocab, init_kwargs=arguments)


def own(vocab: dict[str, int], *merges: tuple[str, str]) -> Any:
    """Return a tokenizer as open_clip's is."""
    return SimpleNamespace(encoder=vocab, bpe_ranks=dict.fromkeys(merges, 0))


def test_each_kind_is_known_by_its_vocabulary_and_rules() -> None:
    """And not by what every call sets anew."""
    one, two = {"a": 0, "b": 1}, {"a": 1, "b": 0}
    others = [
        fast(),
        fast(model={"vocab": two}),
        fast(normalizer="lower"),
        slow(one),
        slow(two),
        slow(one, do_lower_case=True),
        own(one),
        own(two),
        own(one, ("a", "b")),
        own(one, ("a", "b"), ("b", "a")),
    ]
    assert len({tokenizer_identity(found, {}) for found in others}) == len(others)
    set_anew = fast(truncation={"max_length": 7}, padding={"length": 7})
    assert tokenizer_identity(set_anew, {}) == tokenizer_identity(fast(), {})
    assert tokenizer_identity(SimpleNamespace(tokenizer=fast()), {}) == tokenizer_identity(
        fast(), {}
    )
    assert tokenizer_identity(fast(), {"length": 7}) != tokenizer_identity(fast(), {"length": 8})


STATE = {
    "b.weight": torch.arange(6.0).view(2, 3),
    "a.bias": torch.ones(2, dtype=torch.bfloat16),
    "count": torch.tensor(3),
}


def digest(state: Any = STATE, architecture: Any = "A", *rest: str) -> str:
    return model_digest(state, architecture, *(rest or ("P", "T")))


def test_whatever_decides_features_is_in_a_models_digest() -> None:
    changed: dict[str, Any] = {
        "the last number of the last tensor": {**STATE, "count": torch.tensor(4)},
        "another": {**STATE, "b.weight": STATE["b.weight"] + torch.eye(2, 3) * 1e-6},
        "in half precision": {**STATE, "a.bias": torch.ones(2, dtype=torch.bfloat16) * 1.5},
        "type": {**STATE, "count": torch.tensor(3, dtype=torch.int32)},
        "shape": {**STATE, "b.weight": STATE["b.weight"].view(3, 2)},
        "turned": {**STATE, "b.weight": STATE["b.weight"].view(3, 2).t()},
        "name": {("c" if name == "count" else name): value for name, value in STATE.items()},
        "one less": {name: value for name, value in STATE.items() if name != "count"},
        "one more": {**STATE, "z": torch.zeros(0)},
    }
    found = {name: digest(state) for name, state in changed.items()}
    found["as it is"] = digest()
    for architecture in ("B", {"act": "gelu"}, {"act": "quick_gelu"}, ["A"]):
        found[str(architecture)] = digest(STATE, architecture)
    found["preprocessing"] = digest(STATE, "A", "Q", "T")
    found["tokenizer"] = digest(STATE, "A", "P", "U")
    found["where one ends"] = digest(STATE, "A", "PT", "")
    assert len(set(found.values())) == len(found)


def test_the_same_weights_have_one_digest_however_they_lie_in_memory() -> None:
    turned = STATE["b.weight"].t().contiguous().t()
    assert not turned.is_contiguous()
    again = {"count": STATE["count"], "b.weight": turned, "a.bias": nn.Parameter(STATE["a.bias"])}
    assert digest(again) == digest()
    assert digest(STATE, {"x": 1, "y": None}) == digest(STATE, {"y": None, "x": 1})


def test_a_digest_is_over_names_types_shapes_and_bytes() -> None:
    """So that caches and baselines of an earlier version are found again."""
    expected = hashlib.sha256(b'pytest-cliprobust target 1\0{"a":[1,"x"]}\0P\0T\0')
    expected.update(b"a.bias\0torch.bfloat16\0(2,)\0" + b"\x80\x3f" * 2)
    expected.update(b"b.weight\0torch.float32\0(2, 3)\0" + np.arange(6, dtype="<f4").tobytes())
    expected.update(b"count\0torch.int64\0()\0" + np.array(3, dtype="<i8").tobytes())
    assert digest(STATE, {"a": (1, Path("x"))}) == expected.hexdigest()

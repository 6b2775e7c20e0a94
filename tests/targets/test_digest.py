"""What identifies a tokenizer: vocabulary and rules, and nothing that a call sets anew."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from pytest_cliprobust.targets.digest import tokenizer_identity

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

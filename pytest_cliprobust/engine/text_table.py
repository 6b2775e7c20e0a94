"""Features of texts, cached text by text, in a table for each model: a new template costs its texts alone.

A table is a row of blocks in the feature cache, numbered from 0. A block holds the texts that one request had
and no block before it, and never changes; so any number of processes may read a table while one adds to it,
and there are no more files than requests with texts of their own.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pytest_cliprobust.cache import Array, FeatureCache

#: From texts to their features, pass by pass: (n, D) each.
Encode = Callable[[list[str]], Iterator[Array]]

_NAME = 8
"""Columns in front of the features: the first 16 bytes of the text's SHA-256, as numbers of 16 bits, which
float32 holds exactly."""


class TextTable:
    """The features (D) of any text under one model.

    Args:
        cache: where blocks are kept.
        key: all that features depend on beside the text.
        encode: computes what no block has.
        check: is given features (N, D) and their texts, and raises if they must not be kept.
        save_seconds: how often the rows of a long computation are saved.
    """

    def __init__(
        self,
        cache: FeatureCache,
        key: Mapping[str, Any],
        encode: Encode,
        check: Callable[[Array, Sequence[str]], object],
        save_seconds: float,
    ) -> None:
        self._cache, self._key = cache, dict(key)
        self._encode, self._check, self._save_seconds = encode, check, save_seconds
        self._blocks = 0
        self._rows: dict[bytes, Array] = {}

    def rows(self, texts: Sequence[str]) -> Array:
        """Return features (N, D), of which those that no block has are computed and added as one.

        Raises:
            ClipRobustError: ``check`` raises it, or the cache cannot be read or written.
        """
        names = [_name(text) for text in texts]
        while missing := {
            name: text for name, text in zip(names, texts, strict=True) if name not in self._rows
        }:
            self._next_block(missing)
        return np.stack([self._rows[name] for name in names])

    def _next_block(self, missing: Mapping[bytes, str]) -> None:
        """Read the next block, or make it of the missing texts where it is not there or damaged."""
        key = {**self._key, "block": self._blocks}
        block = self._cache.get_or_compute(key, lambda: self._computed(key, missing))
        self._rows |= _named(block)
        self._blocks += 1

    def _computed(self, key: Mapping[str, Any], missing: Mapping[bytes, str]) -> Array:
        """Return a block with the missing texts; it goes on from the rows that a killed run has saved."""
        unfinished = self._cache.unfinished(key)
        saved = unfinished.load()
        parts: list[Array] = [] if saved is None else [saved]
        known = set() if saved is None else set(_named(saved))
        left = {name: text for name, text in missing.items() if name not in known}
        names, texts, done = list(left), list(left.values()), 0
        when = time.monotonic()
        for features in self._encode(texts) if texts else ():
            rows = slice(done, done + len(features))
            self._check(features, texts[rows])
            parts.append(np.hstack([_columns(names[rows]), features]))
            done = rows.stop
            if done < len(texts) and time.monotonic() - when > self._save_seconds:
                unfinished.save(np.concatenate(parts))
                when = time.monotonic()
        return np.concatenate(parts)


def _name(text: str) -> bytes:
    # Names of files, hence of classes, may hold bytes that are no UTF-8.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[: 2 * _NAME]


def _columns(names: Sequence[bytes]) -> Array:
    """Return names as columns (N, 8)."""
    return np.frombuffer(b"".join(names), dtype="<u2").reshape(-1, _NAME).astype(np.float32)


def _named(block: Array) -> dict[bytes, Array]:
    """Return the features of a block by the names of their texts."""
    names = block[:, :_NAME].astype("<u2").tobytes()
    size = 2 * _NAME
    return {names[row * size : (row + 1) * size]: block[row, _NAME:] for row in range(len(block))}

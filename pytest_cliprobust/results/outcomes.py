"""Outcomes by sample as plain data: for the way from a worker, for the history, for a file.

An array that leaves the process is a **blob**: packed bits, the smallest integers that hold it, or float32.
Blobs go by the digest of their content, so that figures of the same samples share them. What is left of the
outcomes is a **manifest**, JSON-able, which names the blobs. The statistic never leaves the process: who
reads outcomes back brings it along (:mod:`.compare`, or the running session's own figure).
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from pytest_cliprobust.figures.compact import compact, unpacked, widened
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.outcomes import Column, Outcomes, not_known

#: Sample keys that were read, by digest: a run's figures are of few data sets.
_known: WeakValueDictionary[str, SampleKeys] = WeakValueDictionary()


# --- Bytes -----------------------------------------------------------------------------------------


def array_to_bytes(column: Column) -> bytes:
    """Return a column as bytes: one line that says what they are, then the numbers, little-endian.

    Raises:
        TypeError: neither booleans nor numbers.
    """
    values = compact(column)
    if values.dtype == np.bool_:
        kind, raw = "bits", np.packbits(values)
    else:
        raw = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<")))
        kind = raw.dtype.str
    head = json.dumps([kind, list(values.shape)]).encode()
    return head + b"\n" + raw.tobytes()


def array_from_bytes(raw: bytes) -> Column:
    """Return the column that :func:`array_to_bytes` wrote.

    Raises:
        ValueError: ``raw`` is something else.
    """
    head, found, body = raw.partition(b"\n")
    if not found:
        raise ValueError("a column without its head")
    kind, shape = json.loads(head)
    if kind == "bits":
        return unpacked(np.frombuffer(body, dtype=np.uint8), tuple(shape))
    values = np.frombuffer(body, dtype=np.dtype(kind)).reshape(shape)
    return widened(values.astype(values.dtype.newbyteorder("=")))


@lru_cache(maxsize=64)
def keys_to_bytes(keys: SampleKeys) -> bytes:
    """Return sample keys as bytes."""
    units = None if keys.units == keys.ids else keys.units
    text = json.dumps([keys.kind, keys.ids, units, keys.digests], ensure_ascii=False)
    return zlib.compress(text.encode(), 6)


def keys_from_bytes(raw: bytes) -> SampleKeys:
    """Return the keys that :func:`keys_to_bytes` wrote.

    Raises:
        ValueError: ``raw`` is something else.
    """
    try:
        kind, ids, units, digests = json.loads(zlib.decompress(raw))
    except zlib.error as error:
        raise ValueError(f"no sample keys: {error}") from None
    names = tuple(map(str, ids))
    return SampleKeys(
        names,
        names if units is None else tuple(map(str, units)),
        tuple(map(str, digests)),
        str(kind),
    )


# --- Manifests -------------------------------------------------------------------------------------


def digest_of(raw: bytes) -> str:
    """Return the name of a blob."""
    return hashlib.blake2b(raw, digest_size=16).hexdigest()


def to_manifest(
    outcomes: Outcomes | None, blobs: MutableMapping[str, bytes]
) -> dict[str, Any] | None:
    """Return outcomes as JSON-able data; their arrays and keys are added to ``blobs``.

    None where there are none, or where a column is neither of booleans nor of numbers.
    """
    if outcomes is None:
        return None
    try:
        parts = {
            part: {name: _put(array_to_bytes(column), blobs) for name, column in given.items()}
            for part, given in (("columns", outcomes.columns), ("attributes", outcomes.attributes))
        }
    except TypeError:
        return None
    manifest: dict[str, Any] = {**parts, "keys": None}
    if outcomes.parameters:
        manifest["parameters"] = {k: list(map(float, v)) for k, v in outcomes.parameters.items()}
    if outcomes.fitted_on:
        manifest["fitted_on"] = outcomes.fitted_on
    if outcomes.coarse:
        manifest["coarse"] = True
    if outcomes.keys is not None:
        manifest["keys"] = _put(keys_to_bytes(outcomes.keys), blobs)
    return manifest


def _put(raw: bytes, blobs: MutableMapping[str, bytes]) -> str:
    name = digest_of(raw)
    blobs[name] = raw
    return name


def names_in(manifest: Mapping[str, Any] | None) -> list[str]:
    """Return the names of the blobs that a manifest needs."""
    if manifest is None:
        return []
    found = [*manifest["columns"].values(), *manifest["attributes"].values()]
    return found if manifest["keys"] is None else [*found, manifest["keys"]]


def from_manifest(
    manifest: Mapping[str, Any] | None, blobs: Mapping[str, bytes]
) -> Outcomes | None:
    """Return the outcomes of a manifest, without their statistic.

    Raises:
        KeyError, TypeError, ValueError: the manifest is something else, or a blob is missing or broken.
    """
    if manifest is None:
        return None
    return Outcomes(
        {name: array_from_bytes(blobs[blob]) for name, blob in manifest["columns"].items()},
        not_known,
        attributes={n: array_from_bytes(blobs[b]) for n, b in manifest["attributes"].items()},
        parameters={k: tuple(v) for k, v in manifest.get("parameters", {}).items()},
        keys=None if manifest["keys"] is None else _keys(manifest["keys"], blobs),
        fitted_on=str(manifest.get("fitted_on", "")),
        coarse=bool(manifest.get("coarse", False)),
    )


def _keys(name: str, blobs: Mapping[str, bytes]) -> SampleKeys:
    keys = _known.get(name)
    if keys is None:
        keys = _known.setdefault(name, keys_from_bytes(blobs[name]))
    return keys


def with_outcomes(figure: Figure, outcomes: Outcomes | None) -> Figure:
    """Return a figure with other outcomes, on the same condition."""
    changed = replace(figure, outcomes=outcomes)
    return changed if figure.condition is None else changed.measured_on(figure.condition)


# --- Without names ---------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def pseudonymous(keys: SampleKeys) -> SampleKeys:
    """Return keys under which samples are matched as before, and in units as before, but not named.

    A name becomes its digest: who has the data can tell which is which, and nobody else. Units are then drawn
    in another order, so the last digits of a bootstrap interval are others.
    """
    return SampleKeys(
        tuple(map(_pseudonym, keys.ids)),
        tuple(map(_pseudonym, keys.units)),
        tuple(map(_pseudonym, keys.digests)),
        keys.kind,
    )


def unnamed(figure: Figure) -> Figure:
    """Return a figure whose samples go by :func:`pseudonymous` keys."""
    if figure.outcomes is None or figure.outcomes.keys is None:
        return figure
    return with_outcomes(figure, figure.outcomes.of(pseudonymous(figure.outcomes.keys)))


def _pseudonym(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=10).hexdigest()

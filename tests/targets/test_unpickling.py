"""Pickles without their code: plain data as Python's own reader has it, and nothing else."""

from __future__ import annotations

import argparse
import collections
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from pytest_cliprobust.targets import unpickling
from pytest_cliprobust.targets.unpickling import (
    Forbidden,
    Opaque,
    StoredBytes,
    StoredTensor,
    tensors_of,
    unpickle,
)


def read(content: bytes) -> Any:
    return unpickle(io.BytesIO(content))


PLAIN: list[Any] = [
    *(None, True, False, 0, 255, 256, 65536, -1, 2**31, -(2**40), 2**200, 1.5, float("inf")),
    *("", "a cat", "Zürich\n", "x" * 300, b"", b"bytes\x00", b"b" * 300),
    *((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1], [1, [2, 3], []], {}, {"a": 1}),
    {"a": {"b": [1, (2, "c")]}, 3: None, 1.5: True, b"k": 0, None: 1, (1, "x"): 2},
    {"many": list(range(1500)), **{f"key {number}": number for number in range(1200)}},
    *({1, 2, "a"}, frozenset({3, 4}), set(), frozenset()),
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_is_read_as_it_was_written(protocol: int) -> None:
    for value in PLAIN:
        content = pickle.dumps(value, protocol)
        if b"_codecs" in content or b"builtin" in content:
            continue  # bytes and sets of old protocols: calls, which mean nothing here
        found = read(content)
        assert found == value
        assert type(found) is type(value)
    shared = [1, 2]
    found = read(pickle.dumps([shared, shared], protocol))
    assert found[0] is found[1]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_ordered_dictionary_is_a_dictionary(protocol: int) -> None:
    given = collections.OrderedDict([("b", 1), ("a", [2])])
    found = read(pickle.dumps(given, protocol))
    assert type(found) is dict
    assert list(found.items()) == [("b", 1), ("a", [2])]


@pytest.mark.parametrize(
    "content",
    [
        b"(icollections\nOrderedDict\n.",
        b"(ccollections\nOrderedDict\no.",
        b"ccollections\nOrderedDict\n(tR.",
        b"ccollections\nOrderedDict\n)\x81.",
        b"\x80\x04ccollections\nOrderedDict\n)}\x92.",
        b"(d.",
    ],
)
def test_every_way_to_call_a_known_name(content: bytes) -> None:
    assert read(content) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"(]](S'b'\nI1\neaicollections\nOrderedDict\n.",
        b"(ccollections\nOrderedDict\n]](S'b'\nI1\neao.",
        b"ccollections\nOrderedDict\n(]](S'b'\nI1\neatR.",
        b"(S'b'\nI1\nd.",
        b"}S'b'\nI1\ns.",
        b"}(S'b'\nI1\nu.",
    ],
)
def test_what_is_given_comes_in_its_order(content: bytes) -> None:
    assert read(content) == {"b": 1}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_other_objects_are_empty_stand_ins_that_keep_their_state(protocol: int) -> None:
    options = argparse.Namespace(lr=0.1, names=["a"])
    found = read(pickle.dumps([options, argparse.Namespace(), {"x": options}], protocol))
    assert isinstance(found[0], Opaque)
    assert found[0].called == ("argparse.Namespace" if protocol >= 2 else "copy_reg._reconstructor")
    assert found[0].state == {"lr": 0.1, "names": ["a"]}
    assert found[2]["x"] is found[0]
    # Of another kind, equally named: the same class.
    if protocol >= 2:
        assert type(found[0]) is type(found[1])
        assert type(read(pickle.dumps(options, protocol))) is not type(found[0])


def test_lists_and_mappings_of_unknown_classes_drop_what_they_hold() -> None:
    for value in (collections.deque([1, 2]), collections.Counter("aab"), np.float64(1.5)):
        assert isinstance(read(pickle.dumps(value, 4)), Opaque)
    for end in (b"I1\na.", b"(I1\nI2\ne.", b"S'k'\nI1\ns.", b"(S'k'\nI1\nu.", b"(I1\n\x90."):
        assert isinstance(read(b"cmine\nOwn\n)\x81" + end), Opaque)
    for wrong in (b"I5\nI1\na.", b"I5\n(I1\n\x90.", b"I5\nS'k'\nI1\ns."):
        assert read(wrong) == 5  # what is no list holds nothing
    assert isinstance(read(b"I5\n)R."), Opaque)  # and is called by nobody


def test_keys_are_plain_or_a_word_for_their_kind() -> None:
    nested = (1, (2, 3))
    assert read(pickle.dumps({nested: 1, (1, 2): 2, frozenset({1}): 3}, 4)) == {
        "<tuple>": 1,
        (1, 2): 2,
        "<frozenset>": 3,
    }
    assert read(pickle.dumps({nested, (1, 2), 5}, 4)) == {"<tuple>", (1, 2), 5}
    assert read(pickle.dumps(frozenset({nested}), 4)) == frozenset({"<tuple>"})
    assert read(pickle.dumps(collections.OrderedDict([(nested, 1)]), 4)) == {"<tuple>": 1}


def test_as_many_kinds_and_sets_as_a_checkpoint_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickling, "_MAX_NAMES", 3)
    monkeypatch.setattr(unpickling, "_MAX_SETS", 3)

    def kinds(count: int) -> bytes:
        names = b"".join(b"ca\n%d\n" % number for number in range(count))
        return b"(" + names + b"ca\n0\nccollections\nOrderedDict\nt."  # twice the same is one

    assert len(read(kinds(3))) == 5
    with pytest.raises(Forbidden, match="more kinds of objects"):
        read(kinds(4))
    for one in (b"\x8f", b"(\x91"):
        assert len(read(b"\x80\x04(" + one * 3 + b"t.")) == 3
        with pytest.raises(Forbidden, match="more sets"):
            read(b"\x80\x04(" + one * 4 + b"t.")
    with pytest.raises(Forbidden, match="more sets"):
        read(b"\x80\x04(\x8f\x8f(\x91(\x91t.")  # of both kinds together


STORAGE = b"((U\x07storagectorch\n%s\nU\x010U\x03cpuI%d\n%stQ"


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (b"DoubleStorage", torch.float64),
        (b"FloatStorage", torch.float32),
        (b"HalfStorage", torch.float16),
        (b"BFloat16Storage", torch.bfloat16),
        (b"LongStorage", torch.int64),
        (b"IntStorage", torch.int32),
        (b"ShortStorage", torch.int16),
        (b"CharStorage", torch.int8),
        (b"ByteStorage", torch.uint8),
        (b"BoolStorage", torch.bool),
        (b"UntypedStorage", torch.uint8),
    ],
)
def test_storages_by_their_type(name: bytes, dtype: torch.dtype) -> None:
    stored = STORAGE % (name, 7, b"")
    content = b"ctorch._utils\n_rebuild_tensor_v2\n" + stored + b"I2\n(I3\nt(I1\nt\x89}tR."
    found = read(content)
    assert found == StoredTensor(StoredBytes("0", dtype, 7), dtype, 2, (3,), (1,))
    # As a parameter, and with the type beside it.
    assert read(b"ctorch._utils\n_rebuild_parameter\n(" + content[:-1] + b"\x88}tR.") == found
    typed = b"ctorch._utils\n_rebuild_tensor_v3\n" + stored + b"I2\n(I3\nt(I1\nt\x89}%stR."
    other = read(typed % b"ctorch\nfloat16\n")
    assert other == StoredTensor(found.storage, torch.float16, 2, (3,), (1,))
    with pytest.raises(Forbidden, match="a tensor without a type"):
        read(typed % b"U\x01x")


@pytest.mark.parametrize(
    ("numel", "rest", "fine"),
    [
        (0, b"", True),
        (5, b"N", True),
        (2**48 - 1, b"", True),
        (2**48, b"", False),
        (-1, b"", False),
        (5, b"I3\n", False),
        (5, b"NI0\n", False),
    ],
)
def test_a_storage_is_whole_and_of_a_size_that_there_is(
    numel: int, rest: bytes, fine: bool
) -> None:
    content = STORAGE[1:] % (b"FloatStorage", numel, rest) + b"."
    if fine:
        assert read(content) == StoredBytes("0", torch.float32, numel)
    else:
        with pytest.raises(Forbidden, match="a part of another"):
            read(content)


def test_other_references_of_a_file_stand_for_nothing() -> None:
    assert isinstance(read(b"(U\x06moduleU\x01xtQ."), Opaque)
    assert isinstance(read(b"U\x01xQ."), Opaque)


def module(tensors: Any = None, **state: Any) -> Opaque:
    kind = type("Opaque", (Opaque,), {"called": "m", "tensors": tensors})
    made: Opaque = kind()
    made.state = state
    return made


ONE = StoredTensor(StoredBytes("0", torch.float32, 1), torch.float32, 0, (1,), (1,))


def test_the_tensors_of_modules_in_modules() -> None:
    deep = module(frozenset({"kept"}), kept=ONE, dropped=ONE, other=3)
    found = tensors_of(
        module(weight=ONE, inner=module(deep=deep, bias=ONE), sizes=[1], empty=Opaque())
    )
    assert found == dict.fromkeys(("weight", "inner.bias", "inner.deep.kept"), ONE)
    assert tensors_of(Opaque()) == {}


def test_modules_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = module(a=ONE)
    ring.state["self"] = ring
    with pytest.raises(Forbidden, match="more modules than a model has"):
        tensors_of(ring)
    monkeypatch.setattr(unpickling, "_MAX_MODULES", 3)
    monkeypatch.setattr(unpickling, "_MAX_PATH", 4)
    assert list(tensors_of(module(a=module(b=module(c=ONE))))) == ["a.b.c"]
    with pytest.raises(Forbidden):
        tensors_of(module(a=module(), b=module(), c=module()))
    with pytest.raises(Forbidden):
        tensors_of(module(a=module(bc=module(d=ONE))))

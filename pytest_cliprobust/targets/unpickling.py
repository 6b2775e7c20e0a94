"""Pickles without their code: tensors and plain values, everything else an empty stand-in.

A pickle is a program: it names functions and calls them. Here no name is ever imported. The few that
rebuild tensors and plain containers mean functions of this module; every other name becomes a class of
its own below :class:`Opaque`, which keeps what it is given and does nothing. So a training checkpoint that
holds an optimiser, an ``argparse.Namespace`` or a numpy scalar beside its weights is read, and nothing in
it runs.

The format is Python's pickle (PEP 3154) with the persistent identifiers of ``torch.save``. The reader is
the standard library's own in Python, not in C: its memo is a dictionary, where the other's is an array as
long as a number in the file.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any, ClassVar

import torch

MAX_PICKLE = 2**23
"""Bytes of a pickle that are read; that of a model of 5,000 tensors has about 10**6."""

_MAX_SETS = _MAX_NAMES = 20_000
"""Sets, and unknown names: what takes far more memory than its bytes in the file."""

#: Element types by the name of a storage class of torch.
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}

_SCALARS = (str, int, float, bool, bytes, type(None))


class Forbidden(Exception):  # noqa: N818
    """A pickle asks for something that no checkpoint needs."""


class Opaque:
    """What stands for an object of a class that is not loaded.

    Attributes:
        called: the class, as the pickle names it.
        tensors: attributes that a state dict would have; None: all that are tensors.
        state: what the object was given to restore itself from, if anything.
    """

    called: ClassVar[str] = "object"
    tensors: ClassVar[frozenset[str] | None] = None
    state: Any = None

    def __new__(cls, *_: Any, **__: Any) -> Opaque:
        """Take any arguments, and do nothing with them."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take any arguments, and do nothing with them."""

    def __call__(self, *_: Any, **__: Any) -> Opaque:
        """Stand in for what a function would have returned, too."""
        return Opaque()

    def __setstate__(self, state: Any) -> None:
        """Keep the state."""
        self.state = state

    def append(self, item: Any) -> None:
        """Drop an item: some classes are lists."""

    def extend(self, items: Iterable[Any]) -> None:
        """Drop items: some classes are lists."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Drop an item: some classes are mappings."""


@dataclass(frozen=True)
class StoredBytes:
    """A storage: where the elements of tensors lie.

    Attributes:
        key: its name in the file.
        dtype: type of its elements; ``uint8`` where tensors give the type.
        numel: how many elements it has.
    """

    key: str
    dtype: torch.dtype
    numel: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that has not been read yet.

    Attributes:
        storage: where its elements lie.
        dtype: their type.
        offset: of the first element, in elements.
        size, stride: as torch has them.
    """

    storage: StoredBytes
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def unpickle(file: IO[bytes], module: Callable[[str, str], type[Opaque]] | None = None) -> Any:
    """Read one pickle; tensors come as :class:`StoredTensor`, unknown objects as :class:`Opaque`.

    Args:
        file: read from where it stands; it is left behind the pickle.
        module: makes the stand-in for a name of TorchScript (``__torch__.…``) of its own.

    Raises:
        Forbidden: it asks for what no checkpoint needs.
        Exception: it is damaged: whatever a pickle can cause.
    """
    return _Reader(file, module).load()


# --- What the known names mean ---------------------------------------------------------------------


def _mapping(pairs: Iterable[Any] = ()) -> dict[Any, Any]:
    return {_key(key): value for key, value in pairs}


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, *rest: Any, dtype: torch.dtype | None = None
) -> StoredTensor:
    whole = (offset, *size, *stride)
    if not isinstance(storage, StoredBytes) or len(size) != len(stride):
        raise Forbidden("a tensor without a storage")
    if not all(isinstance(n, int) and 0 <= n < 2**48 for n in whole):
        raise Forbidden(f"a tensor of size {size!r:.60}")
    return StoredTensor(storage, dtype or storage.dtype, offset, tuple(size), tuple(stride))


def _untyped_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> StoredTensor:
    if not isinstance(dtype, torch.dtype):
        raise Forbidden("a tensor without a type")
    return _tensor(storage, offset, size, stride, dtype=dtype)


def _first(value: Any = None, *_: Any) -> Any:
    return value


def _known_names() -> dict[tuple[str, str], Any]:
    known: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): _mapping,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_tensor_v3"): _untyped_tensor,
        ("torch._utils", "_rebuild_parameter"): _first,
        ("torch._utils", "_rebuild_parameter_with_state"): _first,
        ("torch", "Size"): _first,
        ("torch.storage", "UntypedStorage"): torch.uint8,
    }
    # TorchScript's lists and dictionaries of one type.
    for name in ("intlist", "tensorlist", "doublelist", "boollist", "tensor_from_id"):
        known["torch.jit._pickle", f"build_{name}"] = _first
    known["torch.jit._pickle", "restore_type_tag"] = _first
    for name, dtype in _STORAGES.items():
        known["torch", name] = dtype
    for name in dir(torch):
        value = getattr(torch, name)
        if isinstance(value, torch.dtype):
            known["torch", name] = value
    return known


_KNOWN = _known_names()
_CALLABLE = tuple(value for value in _KNOWN.values() if not isinstance(value, torch.dtype))


def _key(key: Any) -> Any:
    """Return a key of a mapping, if hashing it takes no time: nested tuples may take for ever."""
    flat = isinstance(key, tuple) and all(isinstance(part, _SCALARS) for part in key)
    if isinstance(key, _SCALARS) or flat:
        return key
    return f"<{type(key).__name__}>"


# --- The reader ------------------------------------------------------------------------------------


class _Reader(pickle._Unpickler):
    """The standard library's reader, of which every step that could call something is our own."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    # The parent's own, which its stubs leave out: what has been read, and how more is put there.
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    readline: Callable[[], bytes]

    def __init__(self, file: IO[bytes], module: Callable[[str, str], type[Opaque]] | None) -> None:
        super().__init__(file, encoding="latin1")  # numpy's arrays of Python 2
        self._module = module
        self._stand_ins: dict[str, type[Opaque]] = {}
        self._sets = 0

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name means here; nothing is imported."""
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        called = f"{module}.{name}"
        if called not in self._stand_ins:
            if len(self._stand_ins) >= _MAX_NAMES:
                raise Forbidden("more kinds of objects than any checkpoint")
            if self._module is not None and module.startswith("__torch__"):
                self._stand_ins[called] = self._module(module, name)
            else:
                self._stand_ins[called] = type("Opaque", (Opaque,), {"called": called})
        return self._stand_ins[called]

    def persistent_load(self, identifier: Any) -> Any:
        """Return the storage that ``torch.save`` refers to."""
        match identifier:
            case ("storage", torch.dtype() as dtype, str(key), _, int(numel), *rest):
                if numel < 0 or numel >= 2**48 or any(part is not None for part in rest):
                    raise Forbidden("a storage that is a part of another")
                return StoredBytes(key, dtype, numel)
        return Opaque()

    def _reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack[-1]
        self.stack[-1] = _call(function, arguments)

    def _new(self) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        self.append(_call(kind, arguments))

    def _new_with_keywords(self) -> None:
        self.stack.pop()
        self._new()

    def _old_object(self) -> None:
        arguments = self.pop_mark()
        self.append(_call(arguments[0], arguments[1:]))

    def _old_instance(self) -> None:
        module = self.readline()[:-1].decode("ascii")
        name = self.readline()[:-1].decode("ascii")
        arguments = self.pop_mark()  # before append is looked up, which is another then
        self.append(_call(self.find_class(module, name), arguments))

    def _build(self) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        if isinstance(built, Opaque):
            built.__setstate__(state)

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _put(self.stack[-1], [key, value])

    def _set_items(self) -> None:
        items = self.pop_mark()
        _put(self.stack[-1], items)

    def _dictionary(self) -> None:
        items = self.pop_mark()
        made: dict[Any, Any] = {}
        _put(made, items)
        self.append(made)

    def _extend_list(self) -> None:
        items = self.pop_mark()
        _extend(self.stack[-1], items)

    def _append_item(self) -> None:
        item = self.stack.pop()
        _extend(self.stack[-1], [item])

    def _add_items(self) -> None:
        items = self.pop_mark()
        if isinstance(self.stack[-1], set):
            self.stack[-1].update(map(_key, items))

    def _empty_set(self) -> None:
        self._sets += 1
        if self._sets > _MAX_SETS:
            raise Forbidden("more sets than any checkpoint")
        self.append(set())

    def _frozen_set(self) -> None:
        self._sets += 1
        if self._sets > _MAX_SETS:
            raise Forbidden("more sets than any checkpoint")
        items = self.pop_mark()
        self.append(frozenset(map(_key, items)))

    def _refuse(self) -> None:
        raise Forbidden("an opcode that no checkpoint needs")

    for _code, _step in (
        (pickle.REDUCE, _reduce),
        (pickle.NEWOBJ, _new),
        (pickle.NEWOBJ_EX, _new_with_keywords),
        (pickle.OBJ, _old_object),
        (pickle.INST, _old_instance),
        (pickle.BUILD, _build),
        (pickle.SETITEM, _set_item),
        (pickle.SETITEMS, _set_items),
        (pickle.DICT, _dictionary),
        (pickle.APPENDS, _extend_list),
        (pickle.APPEND, _append_item),
        (pickle.ADDITEMS, _add_items),
        (pickle.EMPTY_SET, _empty_set),
        (pickle.FROZENSET, _frozen_set),
        (pickle.EXT1, _refuse),
        (pickle.EXT2, _refuse),
        (pickle.EXT4, _refuse),
        (pickle.BYTEARRAY8, _refuse),
        (pickle.NEXT_BUFFER, _refuse),
        (pickle.READONLY_BUFFER, _refuse),
    ):
        dispatch[_code[0]] = _step
    del _code, _step


def _call(function: Any, arguments: Any) -> Any:
    """Call what is ours; anything else stands for nothing."""
    if any(function is known for known in _CALLABLE):
        return function(*arguments)
    if isinstance(function, type) and issubclass(function, Opaque):
        return function()
    return Opaque()


def _put(mapping: Any, items: list[Any]) -> None:
    if isinstance(mapping, dict):
        mapping.update({_key(k): v for k, v in zip(items[::2], items[1::2], strict=True)})


def _extend(values: Any, items: list[Any]) -> None:
    if isinstance(values, list):
        values.extend(items)


# --- What was read ---------------------------------------------------------------------------------

#: More than any model has: modules with the paths to them, and letters of such a path.
_MAX_MODULES, _MAX_PATH = 100_000, 1000


def tensors_of(module: Opaque) -> dict[str, StoredTensor]:
    """Return the tensors of a module of TorchScript and of those in it, by name, as a state dict has them.

    Raises:
        Forbidden: it holds more modules than any model.
    """
    found: dict[str, StoredTensor] = {}
    waiting, count = [("", module)], 0
    while waiting:
        prefix, holder = waiting.pop()
        count += 1
        if count > _MAX_MODULES or len(prefix) > _MAX_PATH:
            raise Forbidden("more modules than a model has")
        for name, value in (holder.state if isinstance(holder.state, Mapping) else {}).items():
            wanted = holder.tensors is None or name in holder.tensors
            if isinstance(value, StoredTensor) and wanted:
                found[f"{prefix}{name}"] = value
            elif isinstance(value, Opaque):
                waiting.append((f"{prefix}{name}.", value))
    return found

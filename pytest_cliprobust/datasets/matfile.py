"""Struct arrays in MATLAB's files (MAT 5), in plain Python: scipy's reader ends the process on damaged ones.

The format is MathWorks's "MAT-File Format", chapter 1: elements of a tag (type, bytes) and content, which may
be compressed or hold further elements.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

from pytest_cliprobust.files import require_regular

MOST = 2**26
"""Bytes of a file, and of what one element of it is unpacked to."""

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_STRUCT, _TEXT = 2, 4

#: Types of numbers, as :mod:`struct` calls them, and encodings of texts.
_NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}

Value = str | float
Element = tuple[int, bytes]


def read_structs(path: Path, name: str, fields: Collection[str]) -> list[dict[str, Value]]:
    """Return the entries of a struct array, with some of their fields: texts and single numbers.

    Args:
        path: the file.
        name: of the array.
        fields: the fields.

    Raises:
        ClipRobustError: it is no file.
        OSError: it cannot be read.
        ValueError: it is no such file, is damaged, or has no such array.
    """
    require_regular(path, "MAT file")
    if path.stat().st_size > MOST:
        raise ValueError(f"it has more than {MOST} bytes")
    content = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(content[_HEADER - 2 : _HEADER])
    if order is None:
        raise ValueError("no MAT file of version 5")
    for kind, part in _elements(content[_HEADER:], order):
        matrix = part
        if kind == _COMPRESSED:
            kind, matrix = next(_elements(_unpacked(part), order), (0, b""))
        if kind == _MATRIX:
            inner = _elements(matrix, order)
            group, count, called = _head(inner, order)
            if group == _STRUCT and called == name:
                return _entries(inner, count, fields, order)
    raise ValueError(f"it holds no struct array {name!r}")


def _unpacked(part: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(part, MOST)
    except zlib.error as error:
        raise ValueError(str(error)) from None


def _elements(content: bytes, order: str) -> Iterator[Element]:
    """Yield (type, content) of each element."""
    place = 0
    while place + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        start = place + 8
        if kind >> 16:  # a short one, within its tag
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
            place -= size  # it takes eight bytes, whatever its size
        if start + size > len(content):
            raise ValueError("an element ends behind the end of the file")
        yield kind, content[start : start + size]
        place += 8 + size
        if kind != _COMPRESSED:
            place += -place % 8


def _next(elements: Iterator[Element]) -> Element:
    found = next(elements, None)
    if found is None:
        raise ValueError("an array lacks something")
    return found


def _head(elements: Iterator[Element], order: str) -> tuple[int, int, str]:
    """Return the class of an array, how many entries it has, and its name."""
    flags, sizes = (_numbers(_next(elements), order) for _ in range(2))
    if not flags or any(size < 0 for size in sizes):
        raise ValueError("an array lacks something")
    count = 1
    for size in sizes:
        count *= int(size)
    return int(flags[0]) & 0xFF, count, _next(elements)[1].decode("latin-1")


def _entries(
    elements: Iterator[Element], count: int, wanted: Collection[str], order: str
) -> list[dict[str, Value]]:
    length = _numbers(_next(elements), order)
    names = _next(elements)[1]
    if len(length) != 1 or length[0] < 1:
        raise ValueError("an array lacks something")
    step = int(length[0])
    fields = [
        names[i : i + step].split(b"\0")[0].decode("latin-1") for i in range(0, len(names), step)
    ]
    if not set(wanted) <= set(fields):
        raise ValueError(f"its entries have {', '.join(fields)[:100]}")
    found = []
    for _ in range(count):  # no longer than there are elements
        entry = {field: _next(elements) for field in fields}
        found.append({field: _value(entry[field], order) for field in wanted})
    return found


def _value(element: Element, order: str) -> Value:
    """Return a text or a number."""
    kind, matrix = element
    if kind != _MATRIX:
        raise ValueError("a field is no array")
    inner = _elements(matrix, order)
    group, _, _ = _head(inner, order)
    kind, content = next(inner, (16, b""))
    if group == _TEXT:
        encoding = _ENCODINGS.get(kind, "latin-1")
        ending = "" if encoding in ("latin-1", "utf-8") else "-le" if order == "<" else "-be"
        return content.decode(encoding + ending)
    numbers = _numbers((kind, content), order)
    if len(numbers) != 1:
        raise ValueError(f"a field has {len(numbers)} numbers, not one")
    return numbers[0]


def _numbers(element: Element, order: str) -> tuple[float, ...]:
    kind, content = element
    if kind not in _NUMBERS:
        raise ValueError(f"type {kind} is no number")
    each = struct.calcsize(order + _NUMBERS[kind])
    found: tuple[float, ...] = struct.unpack(
        f"{order}{len(content) // each}{_NUMBERS[kind]}", content[: len(content) // each * each]
    )
    return found

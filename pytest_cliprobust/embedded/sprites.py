"""The sprites of the embedded benchmark: classes, drawing styles, and the drawings themselves.

A sprite is a cut-out drawing of one thing: uint8, (H, W, 4), RGBA in 0..255 with straight (not
premultiplied) alpha, cropped to its visible part, the longest side 224 pixels (one or two fewer where
rounding ate a faint edge). Names are CLDR short names (``"soft-ice-cream"``), labels natural nouns
(``"ice cream cone"``).

The drawings come from ten published icon sets and from Debian's openclipart; ``data/provenance.csv``
names set, version, file, author and licence of each, ``data/NOTICE.md`` gives the notices, and
:mod:`pytest_cliprobust.embedded.build` remakes them. Nothing here needs torch.

Archives are read on first use; all arrays are cached, shared and read-only. Safe for threads.
"""

from __future__ import annotations

import functools
import hashlib
import io
import threading
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from pytest_cliprobust.errors import ClipRobustError, did_you_mean

__all__ = [
    "LabelClass",
    "Sprite",
    "Style",
    "UnknownSpriteError",
    "clipart",
    "clipart_names",
    "digest",
    "far_ood_names",
    "far_ood_sprite",
    "has_sprite",
    "load_label_classes",
    "load_styles",
    "near_ood_classes",
    "near_ood_sprite",
    "sprite",
    "training_only_names",
    "training_only_phrases",
]

Sprite = npt.NDArray[np.uint8]
"""A drawing: uint8, (H, W, 4), straight alpha."""

Split = Literal["train", "held-out"]

_HERE = Path(__file__).parent
_DATA = _HERE / "data"


class UnknownSpriteError(ClipRobustError, KeyError):
    """There is no such style, class or drawing; the message names the nearest one."""

    def __str__(self) -> str:
        # KeyError would show the message's repr
        return str(self.args[0])


@dataclass(frozen=True)
class LabelClass:
    """A class of things.

    Attributes:
        name: CLDR short name, the key of its sprites, as in ``"red-apple"``.
        label: natural noun, as in ``"apple"``.
        article: what goes before the noun: ``"a"``, ``"an"``, ``"a pair of"``.
        category: super-category, as in ``"food"``; near-OOD classes share them.
        index: position in the list of classes, from 0.
    """

    name: str
    label: str
    article: str
    category: str
    index: int


@dataclass(frozen=True)
class Style:
    """A drawing style, that is, one published icon set.

    Attributes:
        name: key of the style, as in ``"noto"``.
        split: ``"train"`` if the reference model was trained on it, ``"held-out"`` if it never saw it.
        monochrome: drawn in one ink; what the outlines enclose is filled with white.
        package: the published package the drawings come from, and its ``version``.
        licence: SPDX identifier.
        author: who drew it.
        description: one line on how it looks.
        note: one line on what to keep in mind, such as kinship with another style.
    """

    name: str
    split: Split
    monochrome: bool
    package: str
    version: str
    licence: str
    author: str
    description: str
    note: str


def _read(name: str) -> dict[str, Any]:
    with (_HERE / name).open("rb") as file:
        table: dict[str, Any] = tomllib.load(file)
    return table


@functools.cache
def _tables() -> dict[str, Any]:
    return _read("classes.toml")


def _classes(group: str) -> tuple[LabelClass, ...]:
    return tuple(LabelClass(**entry, index=i) for i, entry in enumerate(_tables()[group]))


@functools.cache
def load_label_classes() -> tuple[LabelClass, ...]:
    """The classes of the benchmark, by index."""
    return _classes("label")


@functools.cache
def near_ood_classes() -> tuple[LabelClass, ...]:
    """Things outside the label set, of the same super-categories; ``index`` counts them from 0.

    The reference model was trained on none of them, under no caption, in no style.
    """
    return _classes("near_ood")


@functools.cache
def far_ood_names() -> tuple[str, ...]:
    """Names of the symbols, signs, flags and faces that are no concrete things."""
    return tuple(name for names in _tables()["far_ood"].values() for name in names)


@functools.cache
def training_only_names() -> tuple[str, ...]:
    """Further names the reference model was trained on; their sprites do not ship."""
    return tuple(_tables()["training_only"]["names"])


@functools.cache
def training_only_phrases() -> tuple[str, ...]:
    """What fills a template for each of :func:`training_only_names`: ``"an abacus"``."""
    table = _tables()["training_only"]
    nouns = [table["nouns"].get(name, name.replace("-", " ")) for name in table["names"]]
    return tuple(
        f"{table['articles'].get(name, 'an' if noun[0] in 'aeiou' else 'a')} {noun}"
        for name, noun in zip(table["names"], nouns, strict=True)
    )


@functools.cache
def load_styles() -> tuple[Style, ...]:
    """The drawing styles, the held-out ones first."""
    return tuple(
        Style(
            name=name,
            split=table["split"],
            monochrome=table["monochrome"],
            package=table["package"],
            version=table["version"],
            licence=table["licence"],
            author=table["author"],
            description=table["description"],
            note=table["note"],
        )
        for name, table in _read("styles.toml")["style"].items()
    )


class _Archive:
    """One zip of sprites, opened once, and shared by threads."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)
        self._lock = threading.Lock()
        self.entries = frozenset(self._zip.namelist())

    def read(self, entry: str) -> Sprite:
        with self._lock:
            content = self._zip.read(entry)
        pixels = np.array(Image.open(io.BytesIO(content)).convert("RGBA"))
        pixels.flags.writeable = False  # it is cached, hence shared
        return pixels


@functools.cache
def _archive(name: str) -> _Archive:
    path = _DATA / "sprites" / f"{name}.zip"
    if not path.exists():
        raise ClipRobustError(
            f"the embedded benchmark lacks {path}; reinstall the package, or remake it with "
            "python -m pytest_cliprobust.embedded.build"
        )
    return _Archive(path)


@functools.lru_cache(maxsize=4096)
def _load(archive: str, entry: str) -> Sprite:
    return _archive(archive).read(entry)


def _check_style(style: str, known: tuple[str, ...]) -> None:
    if style not in known:
        raise UnknownSpriteError(
            f"no drawing style {style!r} here; there are {', '.join(known)}."
            + did_you_mean(style, known)
        )


def _styles() -> tuple[str, ...]:
    return tuple(style.name for style in load_styles())


def _held_out() -> tuple[str, ...]:
    return tuple(style.name for style in load_styles() if style.split == "held-out")


def has_sprite(style: str, name: str) -> bool:
    """Whether the label class ``name`` is drawn in ``style``; in the held-out styles all are."""
    _check_style(style, _styles())
    return f"{name}.webp" in _archive(style).entries


def sprite(style: str, name: str) -> Sprite:
    """The drawing of a label class in a style: uint8, (H, W, 4), straight alpha.

    Raises:
        UnknownSpriteError: no such style or class, or the style lacks the class.
    """
    if not has_sprite(style, name):
        names = [entry.removesuffix(".webp") for entry in sorted(_archive(style).entries)]
        raise UnknownSpriteError(
            f"style {style!r} has no drawing of a label class {name!r}." + did_you_mean(name, names)
        )
    return _load(style, f"{name}.webp")


def _ood(archive: str, what: str, style: str, name: str, known: tuple[str, ...]) -> Sprite:
    _check_style(style, _held_out())
    if name not in known:
        raise UnknownSpriteError(f"no {what} thing {name!r}." + did_you_mean(name, known))
    return _load(archive, f"{style}/{name}.webp")


def near_ood_sprite(style: str, name: str) -> Sprite:
    """The drawing of a near-OOD class in a held-out style: uint8, (H, W, 4), straight alpha.

    Raises:
        UnknownSpriteError: no such class, or the style is not a held-out one.
    """
    known = tuple(item.name for item in near_ood_classes())
    return _ood("near_ood", "near-OOD", style, name, known)


def far_ood_sprite(style: str, name: str) -> Sprite:
    """The drawing of a far-OOD symbol in a held-out style: uint8, (H, W, 4), straight alpha.

    Raises:
        UnknownSpriteError: no such symbol, or the style is not a held-out one.
    """
    return _ood("far_ood", "far-OOD", style, name, far_ood_names())


@functools.cache
def clipart_names() -> tuple[str, ...]:
    """The label classes of which there is clip art."""
    drawn = {entry.split("/")[0] for entry in _archive("clipart").entries}
    return tuple(item.name for item in load_label_classes() if item.name in drawn)


@functools.cache
def clipart(name: str) -> tuple[Sprite, ...]:
    """All clip art of a label class, each uint8, (H, W, 4), straight alpha; may be none.

    Source: Debian's openclipart, in the public domain, chosen by eye.

    Raises:
        UnknownSpriteError: ``name`` is no label class.
    """
    known = [item.name for item in load_label_classes()]
    if name not in known:
        raise UnknownSpriteError(f"no label class {name!r}." + did_you_mean(name, known))
    entries = sorted(e for e in _archive("clipart").entries if e.startswith(f"{name}/"))
    return tuple(_load("clipart", entry) for entry in entries)


@functools.cache
def digest() -> str:
    """SHA-256, in hex, over all sprites and tables: it changes if and only if one of them does."""
    total = hashlib.sha256()
    # provenance.csv holds the digest of every sprite
    for path in (_HERE / "classes.toml", _HERE / "styles.toml", _DATA / "provenance.csv"):
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()

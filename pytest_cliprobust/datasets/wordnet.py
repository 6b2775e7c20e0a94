"""ImageNet's 1,000 classes by WordNet id, and the names of other ids."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

WNID = re.compile(r"n\d{8}")


@cache
def wnids() -> tuple[str, ...]:
    """Return the 1,000 WordNet ids in the order of the classes, from timm's table."""
    table = resources.files("timm") / "data" / "_info" / "imagenet_synsets.txt"
    return tuple(table.read_text(encoding="utf-8").split())


@cache
def imagenet_names() -> tuple[str, ...]:
    """Return the names of the 1,000 classes: open_clip's, which keep both cranes and both maillots."""
    import open_clip

    return tuple(open_clip.IMAGENET_CLASSNAMES)


def name_of(identifier: str) -> str | None:
    """Return the name of a WordNet id: ImageNet's, else WordNet's first (timm's list); None if not known."""
    names = _by_id()
    if identifier in names:
        return names[identifier]
    try:
        lemmas: str = _wordnet().label_name_to_description(identifier, detailed=False)
    except KeyError:
        return None
    return lemmas.split(",")[0].strip() or None


@cache
def _by_id() -> Mapping[str, str]:
    return dict(zip(wnids(), imagenet_names(), strict=True))


def wnid_of_lemmas(lemmas: str) -> str | None:
    """Return the WordNet id of the class of ImageNet with these words (``"cup"``, ``"pitcher, ewer"``).

    None: no class has them, or two (the cranes).
    """
    found = _by_lemmas().get(lemmas, ())
    return found[0] if len(found) == 1 else None


@cache
def _by_lemmas() -> Mapping[str, tuple[str, ...]]:
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    found: dict[str, tuple[str, ...]] = {}
    for key in wnids():
        words: str = info.label_name_to_description(key, detailed=False)
        found[words] = (*found.get(words, ()), key)
    return found


@cache
def _wordnet() -> Any:
    from timm.data import ImageNetInfo

    return ImageNetInfo("imagenet-22k")

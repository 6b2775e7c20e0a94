"""From names of class folders to names that prompts are made of, or what keeps them from being that.

"a photo of a n01440764" measures nothing, nor do two classes with one text, and no figure shows it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_cliprobust.datasets.walking import as_text, listed
from pytest_cliprobust.datasets.wordnet import WNID, imagenet_names, name_of
from pytest_cliprobust.errors import one_line

NAMES_FILE = "classes.txt"

#: Number of classes of ImageNet, whose folders may also be called 0 to 999 (as ImageNet-V2's are).
IMAGENET = 1000

_SPLITS = frozenset(
    {"train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"}
)
_SEVERITIES = frozenset("12345")
_REMEDY = f"give names in {NAMES_FILE}, one line a class: folder, tab, name"


@dataclass(frozen=True)
class LabelSet:
    """The names of classes.

    Attributes:
        names: by class index.
        mistake: what is wrong with them, with the remedy; None: nothing. It matters only where the data is
            asked for its labels.
        notes: what a reader must know.
    """

    names: tuple[str, ...]
    mistake: str | None = None
    notes: list[str] = field(default_factory=list)


def label_set(
    folders: Sequence[str], pictures: Sequence[Sequence[str]], given: Mapping[str, str] | None
) -> LabelSet:
    """Return the label set of class folders.

    WordNet ids get their names: ImageNet's (open_clip's list) where they are among its 1,000 classes, else
    WordNet's first (timm's list); so do folders called 0 to 999. Other names are the folders', with blanks
    for underscores.

    Args:
        folders: (C,) names of folders.
        pictures: (C,) the paths of the pictures in each, relative to the root.
        given: the human name of each folder, where somebody gave them.
    """
    if given is not None:
        names = tuple(given[folder] for folder in folders)
        alike = _alike(names, folders)
        notes = [f"classes of one name: {listed(alike)}"] if alike else []
        return LabelSet(names, _one_class(names), notes)
    plain = tuple(unicodedata.normalize("NFC", f).replace("_", " ") for f in folders)
    mistake = _no_classes(folders, pictures) or _unreadable(folders)
    if mistake is not None:
        return LabelSet(plain, mistake)
    if all(folder.isdecimal() for folder in folders):
        return _numbered(folders, plain)
    found = {folder: name_of(folder) for folder in folders if WNID.fullmatch(folder)}
    unknown = [folder for folder, name in found.items() if name is None]
    if unknown:
        return LabelSet(plain, f"class folder {unknown[0]!r} is no known WordNet id; {_REMEDY}")
    names = tuple(found.get(f) or name for f, name in zip(folders, plain, strict=True))
    notes = [f"{len(found)} class folders called by WordNet ids got their names"] if found else []
    own = [name for folder, name in zip(folders, names, strict=True) if folder not in found]
    alike = _alike(own, [folder for folder in folders if folder not in found])
    if alike:
        return LabelSet(
            names,
            f"class folders {alike[0]} have one name to a model; put them together, or {_REMEDY}",
        )
    return LabelSet(names, _one_class(names), notes)


def _no_classes(folders: Sequence[str], pictures: Sequence[Sequence[str]]) -> str | None:
    """Return what the folders are instead of classes, and what to give instead."""
    if all(folder.lower() in _SPLITS for folder in folders):
        return (
            f"its folders {listed(folders)} are splits of a data set, not classes; give one of them, such "
            f"as …/{folders[-1]}"
        )
    inner = [path.split("/")[1:-1] for paths in pictures for path in paths]
    if all(folder in _SEVERITIES for folder in folders) and all(inner):
        return (
            f"its folders {listed(folders)} are severities (ImageNet-C's tree), not classes; give one of "
            f"them, such as …/{folders[0]}"
        )
    for depth, kind in enumerate(("corruptions", "groups of corruptions")):
        below = [between[depth] for between in inner if len(between) >= depth + 2]
        if below and len(below) == len(inner) and set(below) <= _SEVERITIES:
            example = "/".join((folders[0], *inner[0][:depth]))
            return (
                f"its folders {listed(folders)} are {kind} with severities below (ImageNet-C's tree), not "
                f"classes; give one severity of one of them, such as …/{as_text(example)}/3"
            )
    return None


def _unreadable(folders: Sequence[str]) -> str | None:
    bad = [folder for folder in folders if one_line(as_text(folder)) != folder]
    if not bad:
        return None
    return (
        f"class folder '{one_line(as_text(bad[0]))}' has a name that is not UTF-8, or holds control letters; "
        f"rename it, or {_REMEDY}"
    )


def _numbered(folders: Sequence[str], plain: tuple[str, ...]) -> LabelSet:
    numbers = [int(folder) for folder in folders]
    if sorted(numbers) == list(range(IMAGENET)):
        names = tuple(imagenet_names()[number] for number in numbers)
        return LabelSet(names, None, ["class folders called 0 to 999 got ImageNet's names"])
    return LabelSet(
        plain,
        f"its class folders are numbers ({listed(folders)}), and 'a photo of a {folders[0]}' means nothing; "
        f"{_REMEDY}",
    )


def _alike(names: Sequence[str], folders: Sequence[str]) -> list[str]:
    """Return the folders of each name that several have, as prompts read names: ``'a' and 'b'``."""
    groups: dict[str, list[str]] = {}
    for name, folder in zip(names, folders, strict=True):
        words = unicodedata.normalize("NFKC", name).casefold().replace("-", " ").split()
        groups.setdefault(" ".join(words), []).append(folder)
    return [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]


def _one_class(names: Sequence[str]) -> str | None:
    if len(names) > 1:
        return None
    return (
        f"it has one class only ({names[0]!r}), so that every answer is right; give the folder that holds "
        "all class folders, or pictures:PATH for pictures without labels"
    )

"""What ``--clip-data`` says, as values: role, name, layout and path. Imports nothing heavy.

``[ROLE=][NAME=][LAYOUT:]PATH`` on the command line and in an ini file (or ``embedded``, or ``hub``), or a
TOML file with a table ``[data]``, in which a data set can also have prompt templates, texts of classes, a
part of the label set and a column of units of its own::

    [data]
    clean = "imagenet:/data/imagenet"
    far_ood = ["textures:$DATA/dtd", "ninco:$DATA/ninco"]

    [data.shift]
    source = "sketches=imagefolder:~/sketches"
    templates = ["a sketch of a {}."]

Paths in such a file are relative to its folder.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_cliprobust.datasets.roles import EMBEDDED, FLAG, HUB, ROLES
from pytest_cliprobust.datasets.templates import checked_templates, read_templates
from pytest_cliprobust.errors import ClipRobustError, brief, did_you_mean
from pytest_cliprobust.files import is_path, lies_there, own_name, require_regular, split_name

#: The layout of a path without a prefix.
FOLDER = "imagefolder"

#: What may stand before the colon of ``LAYOUT:PATH``.
_PREFIX = re.compile(r"[A-Za-z][\w.-]*")

#: A variable of the environment that is left after those that are set were put in.
_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})")

#: What a name after a file leaves out.
_TABLE = re.compile(r"\.(csv|tsv|jsonl?|parquet|txt)$", re.IGNORECASE)

#: A name that is so near to a role's is taken for a slip.
_SLIP = 0.8

_KEYS = ("source", "templates", "classes", "labels", "units")


@dataclass(frozen=True)
class Settings:
    """What the user says of a data set beside where it lies.

    Attributes:
        templates: prompt templates with ``{}`` for the class; () for the data's own, or the usual ones.
        classes: texts of a class, one or several, by its name or its folder's.
        labels: the classes that count, by name or folder; () for all.
        units: the column that says what samples were drawn from; empty: each sample is a unit.
    """

    templates: tuple[str, ...] = ()
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    units: str = ""


@dataclass(frozen=True)
class Source:
    """One data set of the user's.

    Attributes:
        text: as the user wrote it; two with one text are the same.
        role: what it plays; empty: what its layout usually plays, and ``clean`` for a folder.
        name: what figures call it, behind the layout; None: after its folder.
        layout: the prefix.
        path: where it lies.
        settings: what else the user says of it.
    """

    text: str
    role: str
    name: str | None
    layout: str
    path: str
    settings: Settings = field(default_factory=Settings)

    @property
    def label(self) -> str:
        """Its name in figures where the layout has no name of its own: never a path."""
        own = own_name(self.path)
        return f"{self.layout}:{self.name or _TABLE.sub('', own) or own}"


def parse_source(text: str, folder: Path | None = None) -> Source:
    """Return what ``[ROLE=][NAME=][LAYOUT:]PATH`` says.

    Args:
        text: as the user wrote it. A text that is a path itself is one, whatever it holds.
        folder: relative paths start here; the working directory unless given.

    Raises:
        ClipRobustError: nothing on one side of a sign, a name that is none or nearly a role's, the embedded
            benchmark as a whole for a role, or an environment variable that is not set.
    """
    role, rest = _role_of(text)
    name, rest = split_name(rest, FLAG)
    if name is not None and not role:
        _refuse_slip(text, name)
    if role and rest == EMBEDDED and not lies_there((folder or Path()) / rest):
        raise ClipRobustError(
            f"{FLAG} {text}: embedded by itself plays all roles that nothing else plays, so write {FLAG} "
            f"{EMBEDDED}; one of its data sets is {role}={EMBEDDED}:NAME"
        )
    if name is not None and rest == EMBEDDED and not lies_there((folder or Path()) / rest):
        raise ClipRobustError(
            f"{FLAG} {text}: {name!r} is no role, and embedded by itself takes no name, so write {FLAG} "
            f"{EMBEDDED}; one of its data sets is ROLE={EMBEDDED}:NAME, with one of the roles "
            f"{', '.join(ROLES)}"
        )
    layout, path = _layout_of(rest)
    if not path and rest != HUB:
        raise ClipRobustError(f"data set {text!r} names no folder; write {layout}:PATH")
    if layout not in (EMBEDDED, HUB):
        path = _expanded(path, text, folder)
    return Source(text, role, name, layout, path)


def _role_of(text: str) -> tuple[str, str]:
    word, equals, rest = text.partition("=")
    if not equals or word not in ROLES or lies_there(text):
        return "", text
    if not rest:
        raise ClipRobustError(f"{FLAG} {text}: something is missing; write {word}=LAYOUT:PATH")
    return word, rest


def _refuse_slip(text: str, name: str) -> None:
    near = difflib.get_close_matches(name.replace("-", "_"), ROLES, n=1, cutoff=_SLIP)
    if near:
        raise ClipRobustError(
            f"{FLAG} {text}: {name!r} is nearly the role {near[0]!r}; write {near[0]}=PATH, or, if it is "
            f"a name, ROLE={name}=PATH with one of the roles {', '.join(ROLES)}"
        )


def _layout_of(text: str) -> tuple[str, str]:
    prefix, colon, rest = text.partition(":")
    if text == HUB:
        return HUB, ""
    if not colon or is_path(text) or lies_there(text) or not _PREFIX.fullmatch(prefix):
        return FOLDER, text
    return prefix, rest


def _expanded(path: str, text: str, folder: Path | None) -> str:
    """Return a path with variables and ``~`` replaced, below ``folder`` if it is relative."""
    found = os.path.expanduser(os.path.expandvars(path))
    missing = None if lies_there(path) else _VARIABLE.search(found)
    if missing is not None:
        raise ClipRobustError(
            f"{FLAG} {text}: the environment variable {missing[1].strip('{}')} is not set; export it"
        )
    return found if folder is None else os.path.join(folder, found)


def read_sources(texts: Sequence[str]) -> tuple[Source, ...]:
    """Return the data sets that the values of ``--clip-data`` name, those of TOML files in their place.

    ``embedded`` among several stays a source of that layout without a path.

    Raises:
        ClipRobustError: a mistake in one of them, in one line.
    """
    return tuple(source for text in texts for source in _sources(text))


def _sources(text: str) -> Iterator[Source]:
    if text == EMBEDDED:
        yield Source(text, "", None, EMBEDDED, "")
    elif text.endswith(".toml") and "=" not in text:
        yield from read_table(Path(os.path.expanduser(os.path.expandvars(text))))
    else:
        yield parse_source(text)


# --- TOML ------------------------------------------------------------------------------------------


def read_table(path: Path) -> list[Source]:
    """Return the data sets of a TOML file's table ``[data]``.

    Raises:
        ClipRobustError: the file is missing or no TOML, has no such table, or a mistake stands in it.
    """
    require_regular(path, "data file")
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ClipRobustError(f"{path} cannot be read ({brief(error)})") from None
    table = document.get("data")
    if not isinstance(table, dict) or not table:
        raise ClipRobustError(f'{path} has no table [data]; write [data] and, say, clean = "PATH"')
    found = []
    for role, given in table.items():
        if role not in ROLES:
            raise ClipRobustError(
                f"{path}: {role!r} is no role.{did_you_mean(role, ROLES)} Roles are {', '.join(ROLES)}"
            )
        for entry in given if isinstance(given, list) else [given]:
            found.append(_entry(role, entry, path))
    return found


def _entry(role: str, entry: Any, path: Path) -> Source:
    """Return one data set of a TOML file."""
    where = f"{path}: {role}"
    table = {"source": entry} if isinstance(entry, str) else entry
    if not isinstance(table, dict) or not isinstance(table.get("source"), str):
        raise ClipRobustError(
            f'{where} must be "LAYOUT:PATH" or a table with source = "LAYOUT:PATH"'
        )
    for key in table:
        if key not in _KEYS:
            raise ClipRobustError(
                f"{where}: {key!r} is no key.{did_you_mean(key, _KEYS)} Keys are {', '.join(_KEYS)}"
            )
    folder = path.resolve().parent
    source = parse_source(f"{role}={table['source']}", folder)
    return replace(source, settings=_settings(table, where, folder))


def _settings(table: Mapping[str, Any], where: str, folder: Path) -> Settings:
    units = table.get("units", "")
    if not isinstance(units, str):
        raise ClipRobustError(f"{where}: units must be the name of a column")
    return Settings(
        templates=_templates(table.get("templates", ()), where, folder),
        classes=_class_texts(table.get("classes", {}), where),
        labels=_texts(table.get("labels", ()), f"{where}: labels"),
        units=units,
    )


def _templates(given: Any, where: str, folder: Path) -> tuple[str, ...]:
    if isinstance(given, str):
        return read_templates(folder / _expanded(given, given, None))
    texts = _texts(given, f"{where}: templates")
    return checked_templates(texts, where) if texts else ()


def _class_texts(given: Any, where: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(given, dict):
        raise ClipRobustError(f'{where}: classes must be a table, class = "text" or ["text", …]')
    found = {
        name: _texts([texts] if isinstance(texts, str) else texts, f"{where}: classes.{name}")
        for name, texts in given.items()
    }
    empty = [name for name, texts in found.items() if not texts]
    if empty:
        raise ClipRobustError(f"{where}: class {empty[0]!r} has no text; give it one")
    return found


def _texts(given: Any, where: str) -> tuple[str, ...]:
    texts = given if isinstance(given, list | tuple) else [None]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ClipRobustError(f"{where} must be a list of texts that are not empty")
    return tuple(texts)

"""Who plays which role: the embedded benchmark, or the data of ``--clip-data``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_cliprobust.datasets.roles import (
    EMBEDDED,
    EMBEDDED_NAME,
    FLAG,
    HUB,
    NEVER_EMBEDDED,
    ROLES,
    STAND_INS,
)
from pytest_cliprobust.datasets.sources import Settings, Source, read_sources
from pytest_cliprobust.errors import ClipRobustError, NotRun, did_you_mean

if TYPE_CHECKING:
    from pytest_cliprobust.datasets.registry import Told

#: What is written behind the key of the data that plays ``clean`` for the part that calibrates it.
CALIBRATION = ":calibration"


@dataclass(frozen=True)
class Provider:
    """Where data comes from.

    Attributes:
        name: as messages call it.
        sets: role -> keys of the data sets that play it, in order; a role may be missing.
        sources: by key, what the user said of a data set; the embedded benchmark needs none.
        names: by key, what figures call a data set where that is not the key.
    """

    name: str
    sets: Mapping[str, tuple[str, ...]]
    sources: Mapping[str, Source] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    def of(self, role: str) -> tuple[str, ...]:
        """Return the data sets that play a role, or that stand in for it; none if nothing does."""
        return self.sets.get(role) or self.sets.get(STAND_INS.get(role, ""), ())

    def require(self, role: str) -> tuple[str, ...]:
        """Return the data sets that play a role.

        Raises:
            NotRun: none does; the message says what the role is and how to give it.
        """
        found = self.of(role)
        if not found:
            raise NotRun(self.lacking(role))
        return found

    def lacking(self, role: str, why: str = "") -> str:
        """Return the message that nothing plays a role: what it is, what is there, how to come by it.

        ``why``: what keeps the data that is there from playing it.
        """
        needs = f"needs {role} ({ROLES[role]}), and {self.name}"
        if role in NEVER_EMBEDDED and self.name == EMBEDDED_NAME:
            return f"{needs} has none"
        given = [known for known in self.sets if not self.is_part(known)]
        needs += f" gives {', '.join(given)} only{why}; "
        own = f"{FLAG} {role}=LAYOUT:PATH"
        if role in NEVER_EMBEDDED:
            return f"{needs}give it with {own}"
        return f"{needs}leave {FLAG} out to run it on the embedded benchmark, or give it with {own}"

    def is_part(self, role: str) -> bool:
        """Return whether a role is played by a part of the data that plays another."""
        keys = self.sets.get(role, ())
        return bool(keys) and all(key.endswith(CALIBRATION) for key in keys)

    def one(self, role: str) -> str:
        """Return the data set that plays a role.

        Raises:
            NotRun: none does.
            ClipRobustError: several do.
        """
        found = self.require(role)
        if len(found) > 1:
            raise ClipRobustError(
                f"{role} is played by {len(found)} data sets ({', '.join(found)}); take the fixture "
                f"{role!r}, with which a test runs once for each of them"
            )
        return found[0]

    def name_of(self, key: str) -> str:
        """Return what figures, and ids of tests, call a data set."""
        return self.names.get(key, key)

    def role_of(self, key: str) -> str:
        """Return the first role that a data set of the user's plays."""
        return next((role for role, keys in self.sets.items() if key in keys), "")

    def check_paths(self) -> None:
        """Raise, before anything is measured, if a data set does not lie where it was said to.

        Raises:
            ClipRobustError: it does not.
        """
        for source in self.sources.values():
            if is_of_files(source) and not Path(source.path).exists():
                raise ClipRobustError(
                    f"{FLAG} {source.text}: {source.path!r} does not exist; check the path of the data set"
                )


def provider_of(data: str | Sequence[Source]) -> Provider:
    """Return what ``--clip-data`` provides.

    Args:
        data: one value of the option, ``embedded`` say, or all its values as read.

    Raises:
        ClipRobustError: a layout that is not known, two data sets with one name, the embedded benchmark
            beside a ``clean`` of the user's own, or the data of ``clean`` in a role apart from it.
    """
    sources = read_sources([data]) if isinstance(data, str) else data
    base = any(source.layout == EMBEDDED and not source.path for source in sources)
    own = [
        part
        for source in sources
        if source.layout != EMBEDDED or source.path
        for part in _parts_of(source)
    ]
    if not own:
        return embedded_provider()
    names = {source.text: _name_of(source) for source in own}
    _refuse_namesakes(own, names)
    _refuse_clean_again(own)
    sets: dict[str, tuple[str, ...]] = {}
    for source in own:
        for role in _roles_of(source):
            sets[role] = tuple(dict.fromkeys((*sets.get(role, ()), source.text)))
    if base:
        sets = _beside_embedded(sets)
    elif len(sets.get("clean", ())) == 1 and "calibration" not in sets:
        (clean,) = sets["clean"]
        sets["calibration"] = (clean + CALIBRATION,)
        names[clean + CALIBRATION] = names[clean] + CALIBRATION
    told = " ".join(source.text for source in own) if len(own) == 1 else "your data"
    return Provider(
        f"{FLAG} {told}" if len(own) == 1 else told,
        sets,
        {source.text: source for source in own},
        names,
    )


def _parts_of(source: Source) -> list[Source]:
    """Return the data sets of a pack, each as if the user had named it; or the source itself.

    Of a pack whose role the user gave, those that play it.

    Raises:
        ClipRobustError: nothing in the pack plays that role, or it has a name or settings, which belong to
            one data set.
    """
    parts = None if source.layout == EMBEDDED else _told(source).parts
    found = parts(Path(source.path)) if parts is not None else ()
    if not found:
        return [source]
    if source.name is not None or source.settings != Settings():
        raise ClipRobustError(
            f"{FLAG} {source.text}: a pack of {len({p.path for p in found})} data sets has no name, "
            "templates, classes, labels or units of its own; give them to one of its folders"
        )
    chosen = [part for part in found if source.role in ("", part.role)]
    if not chosen:
        roles = ", ".join(dict.fromkeys(part.role for part in found))
        raise ClipRobustError(
            f"{FLAG} {source.text}: nothing in this pack plays {source.role}; it has data for {roles}"
        )
    return [
        Source(f"{p.role}={p.name}={p.layout}:{p.path}", p.role, p.name, p.layout, p.path)
        for p in chosen
    ]


def _beside_embedded(sets: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    if "clean" in sets:
        raise ClipRobustError(
            f"{FLAG} embedded and data of your own for clean: their label sets differ; leave one of them out"
        )
    return {**embedded_provider().sets, **sets}


def _name_of(source: Source) -> str:
    """Return what figures call a data set: a published one has the name of its layout."""
    if source.layout == EMBEDDED:
        return source.path
    if _told(source).published:
        return source.layout if source.name is None else f"{source.layout}:{source.name}"
    return source.label


def _refuse_namesakes(sources: Sequence[Source], names: Mapping[str, str]) -> None:
    known: dict[str, Source] = {}
    for source in sources:
        other = known.setdefault(names[source.text], source)
        same = (other.layout, other.settings) == (source.layout, source.settings)
        if not same or Path(other.path).resolve() != Path(source.path).resolve():
            raise ClipRobustError(
                f"two data sets are called {names[source.text]!r}, {other.text} and {source.text}: write "
                "ROLE=NAME=LAYOUT:PATH for one of them"
            )


#: Roles of pictures that must not be those of ``clean``.
_APART = ("calibration", "shift", "near_ood", "far_ood")


def _refuse_clean_again(sources: Sequence[Source]) -> None:
    """Raise if what plays ``clean`` also plays a role whose figures compare others with it.

    A temperature would be fitted on what it is judged by, and a shift would cost nothing.
    """

    def place(source: Source) -> tuple[str, str]:
        path = source.path if source.layout in (EMBEDDED, HUB) else str(Path(source.path).resolve())
        return source.layout, path

    clean = {place(source): source for source in sources if "clean" in _roles_of(source)}
    for source in sources:
        again = [role for role in _roles_of(source) if role in _APART]
        if again and place(source) in clean:
            remedy = (
                "leave it out, and a fifth of clean calibrates"
                if again[0] == "calibration"
                else "give other data"
            )
            raise ClipRobustError(
                f"{FLAG} {source.text}: {again[0]} and clean are the same data; {remedy}"
            )


def _roles_of(source: Source) -> tuple[str, ...]:
    """Return the roles that a data set plays: the one that the user gave, or as its layout says."""
    if source.role:
        return (source.role,)
    if source.layout == EMBEDDED:
        return ("clean",)
    return _told(source).plays


def is_of_files(source: Source) -> bool:
    """Return whether the path of a data set is one: to a layout of the user's own it may be anything.

    Such a layout may also name its data itself.
    """
    from pytest_cliprobust.datasets.registry import LAYOUTS

    if source.layout in (EMBEDDED, HUB):
        return False
    return str(LAYOUTS[source.layout].__module__).startswith("pytest_cliprobust.")


def _told(source: Source) -> Told:
    """Return what is known of the layout of a data set."""
    from pytest_cliprobust.datasets.registry import LAYOUTS, told_of

    if source.layout not in LAYOUTS:
        raise ClipRobustError(
            f"{FLAG} {source.text}: unknown layout {source.layout!r}."
            f"{did_you_mean(source.layout, LAYOUTS)} Known are {', '.join(LAYOUTS)}; a path that begins so "
            "is written ./…"
        )
    return told_of(source.layout)


def embedded_provider() -> Provider:
    """Return what the embedded benchmark provides."""
    from pytest_cliprobust.datasets.embedded import names

    return Provider(
        EMBEDDED_NAME,
        {
            "clean": ("clean",),
            "calibration": ("calibration",),
            "shift": ("clipart",),
            "near_ood": ("near_ood",),
            "far_ood": ("far_ood",),
            "cue_conflict": ("cue_conflict",),
            "factors": tuple(name for name in names() if name.startswith("factor-")),
            "groups": ("clean",),
            "retrieval": ("captioned", "compositional"),
            "compositional": ("compositional",),
            "typographic": ("written",),
            "lmm": ("clean",),
            "unlabelled": ("clean",),
            "correspondence": ("two_view",),
        },
    )

"""Roles: what suites ask for, and who provides it.

A suite asks for ``clean``, ``calibration`` or ``far_ood``, never for a data set by name, and so runs on
whatever plays that role. The embedded benchmark plays all of them; an image folder is ``clean``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.files import own_name, split_name

#: What each role is, in the words of a message.
ROLES: Mapping[str, str] = MappingProxyType(
    {
        "clean": "labelled pictures as the model is meant to see them",
        "calibration": "labelled pictures to fit the temperature on, apart from clean",
        "shift": "the same classes, photographed or drawn otherwise",
        "near_ood": "pictures of things like the classes, but of none of them",
        "far_ood": "pictures of something else altogether",
        "cue_conflict": "the shape of one class with the texture of another",
        "factors": "the classes with one visual factor changed, or pictures with a column factor",
        "groups": "labelled pictures of subgroups that should fare alike",
        "retrieval": "pictures with captions of their own",
        "compositional": "pictures with a true caption and false ones of the same words",
        "typographic": "pictures with the name of another class written on them",
        "lmm": "labelled pictures to ask a multimodal model about",
        "unlabelled": "pictures as they come in production, whose labels nobody knows",
        "correspondence": "pairs of views with the places that correspond",
        "semantic_correspondence": "pairs of things of one class with keypoints that correspond",
    }
)

#: Roles that the embedded benchmark has no data for: its drawings come without keypoints.
NEVER_EMBEDDED = frozenset({"semantic_correspondence"})

#: Roles that other data plays, too, where nothing is given for them.
STAND_INS: Mapping[str, str] = MappingProxyType({"lmm": "clean", "unlabelled": "clean"})

EMBEDDED = "embedded"
EMBEDDED_NAME = "the embedded benchmark"
FLAG = "--clip-data"


@dataclass(frozen=True)
class Provider:
    """Where data comes from.

    Attributes:
        name: as messages call it.
        sets: role -> what to load for it, in order; a role may be missing.
    """

    name: str
    sets: Mapping[str, tuple[str, ...]]

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
            raise NotRun(f"needs {role} ({ROLES[role]}), and {self.name} {self._lacks(role)}")
        return found

    def _lacks(self, role: str) -> str:
        """Return what is there instead of a role, and how to come by it."""
        if role in NEVER_EMBEDDED and self.name == EMBEDDED_NAME:
            return "has none"
        given = f"gives {', '.join(self.sets)} only"
        if role in NEVER_EMBEDDED:
            return given
        return f"{given}; leave --clip-data out to run it on the embedded benchmark"

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


def label_of(source: str) -> str:
    """Return what the ids of tests call a source: for data of the user's its name, and never a path.

    Raises:
        ClipRobustError: the ``NAME`` of ``NAME=PATH`` is none.
    """
    given, rest = split_name(source, FLAG)
    layout, colon, path = rest.partition(":")
    return (
        f"{layout}:{given or own_name(path)}" if colon else f"imagefolder:{given or own_name(rest)}"
    )


def _roles_of(source: str) -> tuple[str, ...]:
    """Return which roles data of the user's plays, as its layout says."""
    from pytest_cliprobust.datasets.registry import LAYOUTS

    prefix = split_name(source, FLAG)[1].partition(":")[0]
    return tuple(getattr(LAYOUTS.get(prefix), "plays", ("clean",)))


def provider_of(source: str) -> Provider:
    """Return what ``--clip-data`` provides: ``embedded``, or a layout and path, or a path."""
    if source != EMBEDDED:
        return Provider(f"{FLAG} {source}", dict.fromkeys(_roles_of(source), (source,)))
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

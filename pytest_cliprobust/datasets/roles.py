"""Roles: what suites ask for. Imports nothing heavy.

A suite asks for ``clean``, ``calibration`` or ``far_ood``, never for a data set by name, and so runs on
whatever plays that role (:mod:`.providers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: What each role is, in the words of a message.
ROLES: Mapping[str, str] = MappingProxyType(
    {
        "clean": "labelled pictures as the model is meant to see them",
        "calibration": "labelled pictures to fit the temperature on, apart from clean",
        "shift": "the same classes, photographed or drawn otherwise",
        "corrupted": "the clean pictures, corrupted before anybody loaded them",
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
        "tasks": "data sets with classes or captions of their own, each measured as it is published",
    }
)

#: Roles that the embedded benchmark has no data for: its drawings come without keypoints, the suites of
#: corruptions corrupt its pictures themselves, and it has one label set.
NEVER_EMBEDDED = frozenset({"semantic_correspondence", "corrupted", "tasks"})

#: Roles whose samples have a class of the label set of ``clean``.
LABELLED = frozenset(
    {
        *("clean", "calibration", "shift", "corrupted", "factors", "groups", "typographic", "lmm"),
    }
)

#: Roles whose samples have none, whatever folders they lie in.
WITHOUT_LABEL = frozenset({"near_ood", "far_ood", "unlabelled"})

#: Roles whose samples have a class of the data set's own label set, whatever ``clean`` is.
OWN_CLASSES = frozenset({"tasks"})

#: Roles that other data plays, too, where nothing is given for them.
STAND_INS: Mapping[str, str] = MappingProxyType({"lmm": "clean", "unlabelled": "clean"})

EMBEDDED = "embedded"

#: The layout of data on the model hub, whose path is a name there.
HUB = "hub"

EMBEDDED_NAME = "the embedded benchmark"
FLAG = "--clip-data"

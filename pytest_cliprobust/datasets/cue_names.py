"""The names of cue-conflict pictures, which tell shape and texture. Imports nothing heavy."""

from __future__ import annotations

import re
from pathlib import PurePath

from pytest_cliprobust.errors import ClipRobustError

_NAME = re.compile(r"^(?P<shape>[a-z]+(?:_[a-z]+)*)\d+-(?P<texture>[a-z]+(?:_[a-z]+)*)\d+$")
_EXPERIMENT = re.compile(r"^.*_(?=[a-z]+\d+-[a-z]+\d+$)")


def parse_cue_conflict_name(name: str) -> tuple[str, str]:
    """Return (shape class, texture class) of a file name such as ``cat1-elephant3.png``.

    Folders, the suffix, and the prefix of a trial (``0001_cl_dnn_u_cat_00_cat1-elephant3.png``) are
    ignored.

    Raises:
        ClipRobustError: the name has another form.
    """
    stem = PurePath(name.replace("\\", "/")).name.rsplit(".", 1)[0]
    match = _NAME.match(_EXPERIMENT.sub("", stem))
    if match is None:
        raise ClipRobustError(
            f"{name!r} does not name its shape and texture; expected a form like "
            "'cat1-elephant3.png'."
        )
    return match["shape"], match["texture"]

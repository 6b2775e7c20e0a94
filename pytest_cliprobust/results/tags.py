"""Names that a user gives a run. Imports nothing heavy."""

from __future__ import annotations

import re

from pytest_cliprobust.errors import ClipRobustError


def checked_tag(name: str) -> str:
    """Return a tag.

    Raises:
        ClipRobustError: it cannot be one, or would be hard to type.
    """
    if not re.fullmatch(r"[\w.+/@-]+", name):
        raise ClipRobustError(
            f"tag {name!r}: a tag is made of letters, digits and . + - / @ _, without spaces"
        )
    return name

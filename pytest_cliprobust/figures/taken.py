"""What a property takes: samples, which a test has from ``clip.on``, and not the name of a data set."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from pytest_cliprobust.errors import ClipRobustError, shortened
from pytest_cliprobust.figures.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")

#: Annotations of what is samples: alone, or ``None``, or in a sequence, there also with a name in front.
_SAMPLES = r"(?:Samples|Embedded|Captioned|TaskSamples|Pairs)"
_ONE = re.compile(rf"{_SAMPLES}(?P<none> \| None)?")
_MANY = re.compile(rf"(?:Sequence|Iterable)\[(?:{_SAMPLES}|tuple\[str, {_SAMPLES}\])\]")

#: What nothing but samples has.
_OWN = ("condition", "correct")


def takes_samples(function: Callable[P, R]) -> Callable[P, R]:
    """Refuse whatever is given to a property in place of samples, in one line; which is asked by annotations.

    Raises:
        ClipRobustError: from what it returns, for the name of a data set, None, a figure, an array …
        TypeError: here, where no argument is annotated as samples.
    """
    told = {name: str(text) for name, text in function.__annotations__.items() if name != "return"}
    one = {name: match for name, text in told.items() if (match := _ONE.fullmatch(text))}
    many = {name for name, text in told.items() if _MANY.fullmatch(text)}
    if not one and not many:
        raise TypeError(f"{function.__name__} takes no samples")
    signature = inspect.signature(function)

    def check(value: object) -> None:
        if not is_samples(value):
            wanted = repr(value) if isinstance(value, str) and value else '"clean"'
            raise ClipRobustError(
                f"{function.__name__} takes samples, which a test has from clip.on, not {shortened(value)}: "
                f"{function.__name__}(clip.on({wanted.replace(chr(39), chr(34))}))"
            )

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs).arguments
        for name, value in given.items():
            if name in one and not (value is None and one[name]["none"]):
                check(value)
            elif name in many and not isinstance(value, list | tuple):
                # What may be iterated over once is left alone; neither a name nor samples are such.
                if value is None or isinstance(value, str) or is_samples(value):
                    raise ClipRobustError(
                        f"{function.__name__} takes several samples as {name}, a list of what clip.on gives, "
                        f'[clip.on("clean"), …], not {shortened(value)}'
                    )
            elif name in many:
                for entry in value:
                    check(entry[1] if isinstance(entry, tuple) and len(entry) == 2 else entry)
        return function(*args, **kwargs)

    return checked


def is_samples(value: object) -> bool:
    """Return whether a value looks like samples; nothing of it is computed."""
    return not isinstance(value, Figure) and any(name in dir(value) for name in _OWN)

"""How a run ends: pytest's exit codes, two of our own, and what decides between them.

``docs/exit-codes.md`` tells users of it. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from pytest_cliprobust.errors import Unavailable, brief, is_out_of_memory
from pytest_cliprobust.files import FULL


class Exit(IntEnum):
    """The exit code of a run; 0 to 5 are pytest's own."""

    PASSED = 0
    REGRESSION = 1
    INTERRUPTED = 2
    INTERNAL_ERROR = 3
    MISTAKE = 4
    NO_TESTS = 5
    INCONCLUSIVE = 6
    ENVIRONMENT = 7


#: What reports call an exit code that pytest, or another plugin, chose after us. pytest 9.1 and later have
#: a 6 of their own, for ``--max-warnings``.
OTHER = "other"
TOO_MANY_WARNINGS = "too many warnings"


def word(status: int) -> str:
    """Return what reports call an exit code: ``inconclusive``; ``other`` for one of another plugin's."""
    known = {exit.value: exit.name.lower().replace("_", " ") for exit in Exit}
    return known.get(status, OTHER)


@dataclass(frozen=True)
class Signs:
    """What is known of a run at its end.

    Attributes:
        status: pytest's exit code.
        mistakes: whether the user made any.
        failures: tests, or files of them, that failed for anything but the environment.
        troubles: whether the environment lacked anything that the run needed.
        undecided: whether too many bounds are inconclusive, or some were asked for and not judged.
    """

    status: int
    mistakes: bool = False
    failures: int = 0
    troubles: bool = False
    undecided: bool = False


def ending(signs: Signs) -> int:
    """Return the exit code of a run.

    A mistake comes before all: nothing else in the run can be trusted. Then what pytest says that we have
    no better word for (interrupted, an internal error, no tests, another plugin's code), a regression,
    the environment, and last what was not decided.
    """
    if signs.mistakes:
        return Exit.MISTAKE
    if signs.status not in (Exit.PASSED, Exit.REGRESSION):
        return signs.status
    if signs.status == Exit.REGRESSION and (signs.failures or not signs.troubles):
        return Exit.REGRESSION
    if signs.troubles:
        return Exit.ENVIRONMENT
    return Exit.INCONCLUSIVE if signs.undecided else Exit.PASSED


def with_internal_error(status: int) -> int:
    """Return the exit code of a session with an internal error of which ``status`` may say nothing."""
    spared = (Exit.PASSED, Exit.REGRESSION, Exit.NO_TESTS)
    return Exit.INTERNAL_ERROR if status in spared else status


# --- What the environment lacks --------------------------------------------------------------------


def trouble_of(error: BaseException | None) -> str | None:
    """Return in one line what an exception says that the environment lacks; None for any other one."""
    for one in _chain(error):
        if isinstance(one, Unavailable):
            return str(one)
        if isinstance(one, OSError) and one.errno in FULL:
            where = f" ({one.filename})" if one.filename else ""
            return f"the disk is full{where}: {one.strerror}; make room"
        if is_out_of_memory(one):
            return (
                f"out of memory ({brief(one, 120)}); end other programs, take a smaller "
                "--clip-batch-size, or another --clip-device"
            )
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__

"""Exit codes: pytest's own stay as they are, and two say what was not decided and what was not there."""

from __future__ import annotations

import errno

import pytest

from pytest_cliprobust.errors import ClipRobustError, NotRun, Unavailable
from pytest_cliprobust.perturbations.codec import MissingEncoder
from pytest_cliprobust.plugin.exits import (
    Exit,
    Signs,
    ending,
    trouble_of,
    with_internal_error,
    word,
)


def test_pytests_codes_are_pytests() -> None:
    names = ["OK", "TESTS_FAILED", "INTERRUPTED", "INTERNAL_ERROR", "USAGE_ERROR"]
    own = [*(pytest.ExitCode[name] for name in names), pytest.ExitCode.NO_TESTS_COLLECTED]
    assert [int(code) for code in own] == [int(code) for code in Exit][:6]
    assert (Exit.INCONCLUSIVE, Exit.ENVIRONMENT) == (6, 7)
    assert [word(code) for code in (0, 1, 6, 7, 42)] == [
        "passed",
        "regression",
        "inconclusive",
        "environment",
        "other",
    ]


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        (Signs(0), Exit.PASSED),
        (Signs(1, failures=1), Exit.REGRESSION),
        (Signs(1), Exit.REGRESSION),
        (Signs(0, undecided=True), Exit.INCONCLUSIVE),
        (Signs(0, troubles=True), Exit.ENVIRONMENT),
        # A mistake beats all; Ctrl-C and the like stay.
        (Signs(0, mistakes=True, troubles=True, undecided=True), Exit.MISTAKE),
        (Signs(1, mistakes=True, failures=3), Exit.MISTAKE),
        (Signs(2, mistakes=True), Exit.MISTAKE),
        (Signs(2, troubles=True, undecided=True, failures=1), Exit.INTERRUPTED),
        (Signs(3, troubles=True), Exit.INTERNAL_ERROR),
        (Signs(5, undecided=True), Exit.NO_TESTS),
        (Signs(42, troubles=True), 42),
        # A regression beats what was not decided, and what was not there.
        (Signs(1, failures=1, undecided=True), Exit.REGRESSION),
        (Signs(1, failures=1, troubles=True, undecided=True), Exit.REGRESSION),
        # All failures are the environment's.
        (Signs(1, failures=0, troubles=True, undecided=True), Exit.ENVIRONMENT),
        (Signs(0, troubles=True, undecided=True), Exit.ENVIRONMENT),
    ],
)
def test_what_comes_before_what(signs: Signs, expected: int) -> None:
    assert ending(signs) == expected


class OutOfMemoryError(RuntimeError):
    """Called as torch's, which is told by its name, as torch is not loaded here."""


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Unavailable("no hub"), "no hub"),
        (MissingEncoder("no encoder"), "no encoder"),
        (MemoryError(), "out of memory (MemoryError)"),
        (OutOfMemoryError("CUDA out of memory"), "(OutOfMemoryError: CUDA out of memory)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when"), "out of memory"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), "out of memory"),
        (
            OSError(errno.ENOSPC, "No space left", "a.png"),
            "the disk is full (a.png): No space left",
        ),
        (OSError(errno.EDQUOT, "Quota exceeded"), "the disk is full: Quota exceeded"),
        (caused(ClipRobustError("not made"), MemoryError()), "out of memory"),
        (caused(RuntimeError("worker"), Unavailable("no hub")), "no hub"),
    ],
)
def test_what_the_environment_lacks_is_told_from_a_mistake(error: Exception, words: str) -> None:
    told = trouble_of(error)
    assert told is not None
    assert words in told
    assert "\n" not in told


@pytest.mark.parametrize(
    "error",
    [
        None,
        AssertionError("0.1 < 0.2"),
        ClipRobustError("a slip"),
        NotRun("no role"),
        RuntimeError("shapes differ"),
        OSError(errno.ENOENT, "No such file"),
        OSError("odd"),
        KeyboardInterrupt(),
    ],
)
def test_nothing_else_is_the_environments(error: BaseException | None) -> None:
    assert trouble_of(error) is None


def test_an_internal_error_comes_before_what_tests_say_of_themselves() -> None:
    spared = (Exit.PASSED, Exit.REGRESSION, Exit.NO_TESTS)
    for status in Exit:
        told = Exit.INTERNAL_ERROR if status in spared else status
        assert with_internal_error(status) == told

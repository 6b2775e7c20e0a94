"""The end of a run: what became of it, its exit code, its reports."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_cliprobust.errors import ClipRobustError, Unavailable, first_of
from pytest_cliprobust.gating.unjudged import Unjudged
from pytest_cliprobust.plugin.exits import OTHER, TOO_MANY_WARNINGS, Exit, Signs, ending, word
from pytest_cliprobust.plugin.session import Session
from pytest_cliprobust.results.run import Run

#: What is told where -x ended the collection: which tests lie behind it nobody knows.
NOT_KNOWN = (
    "an error ended the collection (-x): which tests are in the files behind it is not known"
)


def close(own: Session, session: pytest.Session, status: int) -> Run:
    """Return the run as it ended, with its bounds recorded and its reports written.

    Args:
        own: what the run kept.
        session: pytest's.
        status: pytest's exit code.
    """
    ended = status in (Exit.PASSED, Exit.REGRESSION)
    stopped = bool(session.shouldstop or session.shouldfail or status == Exit.INTERRUPTED)
    # What stops a session behind its last test (-x) has kept nothing of it from running.
    whole = (ended or stopped) and not (stopped and own.ledger.lacks_any)
    lost = own.lost_while_recording if own.recording else own.settle()
    # A bound that is missed only given all that was found counts as a test that failed.
    failures = session.testsfailed - own.ledger.spared + len(lost)
    status = int(Exit.REGRESSION) if lost and status == Exit.PASSED else status
    found = _unjudged(own, by_id=named_by_id(session.config) or own.failed_last)
    if stopped and own.ledger.not_collected and not own.ledger.attempts:
        own.remarks.append(NOT_KNOWN)
    run = own.run(found, ended=whole, partial=picked(own, session.config))
    run = _with_ending(run, status, failures)
    if ended and whole:
        try:
            run = replace(run, changes=own.record())
            run = replace(run, notes=(*run.notes, *own.recorded, *_told_of(own, lost)))
        except ClipRobustError as error:
            run = _with_ending(_blamed(run, error), status, failures)
    run = _written(own, run, status, failures)
    run = _handed_over(own, run, status, failures)
    return _remembered(own, run, status, failures)


def refuse(own: Session, error: ClipRobustError) -> Run:
    """Return the run that did not begin, and write its reports: those of an earlier run are not its."""
    status = Exit.ENVIRONMENT if isinstance(error, Unavailable) else Exit.MISTAKE
    try:
        found = own.unjudged(loaded=False)
    except ClipRobustError:  # the threshold file is what is wrong
        found = Unjudged()
    run = own.run(found, ended=False)
    run = replace(_blamed(run, error), exit_status=int(status), ending=word(status))
    own.write(run)
    return run


def overruled(own: Session, run: Run, status: int) -> Run:
    """Return the run under an exit code that was chosen after ours, and write its reports anew."""
    warnings = status == getattr(pytest.ExitCode, "MAX_WARNINGS_ERROR", None)
    run = replace(run, exit_status=status, ending=TOO_MANY_WARNINGS if warnings else OTHER)
    own.write(run)
    return run


def abandon(own: Session, status: int) -> Run:
    """Return the run in which nothing was evaluated; it has no report."""
    own.abandon()
    return replace(
        own.run(Unjudged(), ended=status == Exit.PASSED), exit_status=status, ending=word(status)
    )


def named_by_id(config: pytest.Config) -> bool:
    """Return whether the command line names single tests: what it leaves out of a file is not known."""
    return any("::" in argument for argument in config.args)


def picked(own: Session, config: pytest.Config) -> bool:
    """Return whether single tests were picked: by id, by ``-k``, those that failed last, or from them on."""
    on_from = bool(getattr(config.option, "stepwise", False) and own.deselected)
    return bool(named_by_id(config) or config.option.keyword or own.failed_last or on_from)


def _told_of(own: Session, lost: list[str]) -> list[str]:
    """Return what is said where a run was recorded that missed the bounds of before."""
    if not lost or not own.recording:
        return []
    return [
        f"recorded although it missed {len(lost)} of the bounds of before ({first_of(lost, 3)}): exit "
        "code 1"
    ]


def _unjudged(own: Session, *, by_id: bool) -> Unjudged:
    try:
        return own.unjudged(by_id=by_id, loaded=own.evaluated)
    except ClipRobustError as error:
        if own.evaluated:  # else what the file may name is not known: it was not collected
            own.note(error)
        return Unjudged()


def _with_ending(run: Run, status: int, failures: int) -> Run:
    """Return the run with the exit code that follows from it and from pytest's."""
    signs = Signs(
        status=status,
        mistakes=bool(run.mistakes),
        failures=failures,
        troubles=bool(run.troubles),
        undecided=run.unjudged_fail
        or run.too_many_undecided
        or run.lacks_a_bound
        or bool(run.not_compared)
        or bool(run.lacking)
        or not (run.complete or run.recording),
    )
    code = ending(signs)
    return replace(run, exit_status=int(code), ending=word(code))


def _blamed(run: Run, error: ClipRobustError) -> Run:
    """Return the run with one more mistake, or trouble, unless that is told already."""
    text = str(error)
    if isinstance(error, Unavailable):
        return replace(run, troubles=tuple(dict.fromkeys([*run.troubles, text])))
    return replace(run, mistakes=tuple(dict.fromkeys([*run.mistakes, text])))


def _written(own: Session, run: Run, status: int, failures: int) -> Run:
    """Write the reports; where one cannot be, the others tell of it."""
    errors = own.write(run)
    for error in errors:
        run = _blamed(run, error)
    if errors:
        run = _with_ending(run, status, failures)
        own.write(run)
    return run


def _remembered(own: Session, run: Run, status: int, failures: int) -> Run:
    """Add the run to the history; where that was asked for and cannot be, the reports tell of it."""
    try:
        return own.remember(run)
    except ClipRobustError as error:
        run = _with_ending(_blamed(run, error), status, failures)
        own.write(run)
        return run


def _handed_over(own: Session, run: Run, status: int, failures: int) -> Run:
    """Hand the run over to the loggers; where that must be and cannot, the reports tell of it."""
    run, errors = own.hand_over(run)
    if errors and own.needs_loggers:
        for error in errors:
            run = _blamed(replace(run, not_logged=()), error)  # told once
        run = _with_ending(run, status, failures)
        own.write(run)
    return run

"""The hooks of a session that evaluates models. Loaded when the first collected test needs one."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any

import pytest
from _pytest._code.code import ReprEntryNative, ReprExceptionInfo, ReprFileLocation, ReprTraceback

from pytest_cliprobust.blame import is_ours, is_users, shown_frames
from pytest_cliprobust.errors import ClipRobustError, NotRun, UserCodeError
from pytest_cliprobust.plugin.fixtures import needs_model
from pytest_cliprobust.plugin.notices import say_nothing_evaluated
from pytest_cliprobust.plugin.session import Session
from pytest_cliprobust.plugin.state import GATE, SESSION
from pytest_cliprobust.plugin.suites import suite_of
from pytest_cliprobust.reporting import terminal
from pytest_cliprobust.results.record import Record
from pytest_cliprobust.results.run import NotMeasured, Run


class Evaluator:
    """The plugin object of a session with a model under test."""

    def __init__(self, config: pytest.Config) -> None:
        self.session = Session(config)
        self.run: Run | None = None
        config.stash[SESSION] = self.session

    def start(self, items: list[pytest.Item]) -> None:
        """Load models and thresholds, so that a mistake ends the session before any test runs.

        A worker of pytest-xdist has no other voice than its tests: it runs none of ``items``, and the
        mistake is told by the process that reports.

        Raises:
            pytest.UsageError: the mistake, in one line.
        """
        try:
            self.session.start()
            self.session.open_journal()
        except ClipRobustError as error:
            if not self.session.is_worker:
                raise pytest.UsageError(str(error)) from None
            self.session.mistakes.append(str(error))
            items.clear()

    def pytest_report_header(self) -> list[str]:
        """Say what is under test where it is known before the collection."""
        return self.session.header() if self.session.models() else []

    def pytest_report_collectionfinish(self) -> list[str]:
        """Say what is under test, on what."""
        return self.session.header() if self.session.models() else []

    # --- Tests -------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Fail a test whose figures missed a bound, in its call phase: a failure, not a set-up error."""
        result = yield
        gate = item.stash.get(GATE, None)
        if gate is not None:
            gate.finish()
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, Any, Any]:
        """Tell a mistake in one line, and hand over what the test measured, as plain data."""
        error = call.excinfo.value if call.excinfo is not None else None
        options = item.config.option
        if call.excinfo and needs_model(item) and not (options.fulltrace or options.usepdb):
            call.excinfo = without_our_frames(call.excinfo)
        report = yield
        if isinstance(error, NotRun):
            report.outcome = "skipped"
            report.longrepr = (str(item.path), 0, f"Skipped: {error}")
        elif isinstance(error, UserCodeError):
            report.longrepr = told_failure(item, error)
        elif isinstance(error, ClipRobustError):
            report.longrepr = str(error)
            report.clip_mistake = str(error)
        if needs_model(item):
            report.clip_suite = suite_of(item)
            names = getattr(getattr(item, "module", None), "NAMES", None)
            if call.when == "setup" and isinstance(names, dict):
                report.clip_names = sorted({str(name) for some in names.values() for name in some})
        gate = item.stash.get(GATE, None)
        if call.when == "call" and gate is not None:
            report.clip_missed = gate.missed
        if call.when == "teardown" and gate is not None:
            report.clip_records = gate.records
            if self.session.is_worker:  # its report travels as plain data
                blobs: dict[str, bytes] = {}
                report.clip_outcomes = blobs
                report.clip_records = [
                    record.as_dict(replicates=True, blobs=blobs) for record in gate.records
                ]
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect what the tests measured, in the process that reports."""
        session = self.session
        if session.is_worker:
            return
        suite = getattr(report, "clip_suite", None)
        blobs = getattr(report, "clip_outcomes", {})
        records = [
            data if isinstance(data, Record) else Record.from_dict(data, blobs)
            for data in getattr(report, "clip_records", ())
        ]
        session.add(records)
        mistake = getattr(report, "clip_mistake", None)
        if mistake:
            session.mistakes.append(mistake)
        if suite is None:
            return
        session.suites.add(suite)
        session.names.setdefault(suite, set()).update(getattr(report, "clip_names", ()))
        if report.failed and not getattr(report, "clip_missed", False):
            session.broken.add(suite)
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            text = str(reason).removeprefix("Skipped: ")
            session.not_run.append(NotMeasured(report.nodeid, suite, text))

    # --- The end -----------------------------------------------------------------------------------

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: Any) -> None:
        """Take over what a worker of pytest-xdist has to say."""
        told = getattr(node, "workeroutput", {}).get("cliprobust")
        if told:
            self.session.listen(told)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int | pytest.ExitCode
    ) -> None:
        """Write the reports, whatever ended the session.

        The exit code is 4 after a user's mistake, and 1 where a bound was not judged, as its test was
        skipped or its selector met nothing: neither is green.
        """
        own, config = self.session, session.config
        if own.is_worker:
            config.workeroutput["cliprobust"] = own.tell()  # type: ignore[attr-defined]
            return
        ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        complete = ended and not (session.shouldstop or session.shouldfail)
        if own.mistakes:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        if not own.evaluated or exitstatus == pytest.ExitCode.USAGE_ERROR:
            own.abandon()
            nothing = own.unjudged(partial=True)
            self.run = own.run(nothing, complete=complete, exit_status=int(session.exitstatus))
            return
        late = [] if own.recording else own.settle()
        if late and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        found = own.unjudged(partial=not complete, by_id=named_by_id(config))
        run = own.run(
            found,
            complete=complete,
            exit_status=int(exitstatus),
            partial=picked(config),
        )
        if run.unjudged_fail and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        lost = own.lost_while_recording if own.recording else []
        if lost and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self.run = replace(run, exit_status=int(session.exitstatus))
        try:
            changes = own.record() if complete else ()
            notes = (*self.run.notes, *own.recorded, *_told_of(lost))
            self.run = replace(self.run, changes=changes, notes=notes)
            own.write(self.run)
        except ClipRobustError as error:
            self.run = replace(self.run, mistakes=(*self.run.mistakes, str(error)))
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        self.run = replace(self.run, exit_status=int(session.exitstatus))
        self.run = replace(self.run, notes=(*self.run.notes, *own.remember(self.run)))

    def pytest_terminal_summary(
        self, terminalreporter: Any, exitstatus: int, config: pytest.Config
    ) -> None:
        """Print the table of all that was measured."""
        if self.run is None:
            return
        terminal.summarise(terminalreporter, self.run, verbose=config.option.verbose > 0)
        if not (self.session.evaluated or self.session.mistakes):
            count = self.session.collected
            say_nothing_evaluated(terminalreporter, config, count, int(exitstatus))


def _told_of(lost: list[str]) -> list[str]:
    """Return what is said where a run was recorded that missed the bounds of before."""
    if not lost:
        return []
    shown = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
    return [
        f"recorded although it missed {len(lost)} of the bounds of before ({shown}): exit code 1"
    ]


def without_our_frames(
    info: pytest.ExceptionInfo[BaseException],
) -> pytest.ExceptionInfo[BaseException]:
    """Return an error without the way through this package to the user's own code that it comes from.

    A metric of the user's is called from deep within; ``--full-trace`` shows the whole way. An error of
    this package's stays as it is.
    """
    way = list(_steps(info.tb))
    files = [step.tb_frame.f_code.co_filename for step in way]
    last = max((i for i, file in enumerate(files) if is_users(file)), default=0)
    if any(map(is_ours, files[last:])):
        return info
    kept: TracebackType | None = None
    for i, step in reversed(list(enumerate(way))):
        if i >= last or is_users(files[i]):
            kept = TracebackType(kept, step.tb_frame, step.tb_lasti, step.tb_lineno)
    return pytest.ExceptionInfo.from_exc_info((info.type, info.value, kept or info.tb))


def _steps(way: TracebackType | None) -> Iterator[TracebackType]:
    while way is not None:
        yield way
        way = way.tb_next


def told_failure(item: pytest.Item, error: UserCodeError) -> Any:
    """Return what a report shows of an error in the user's code: one line, then the lines of theirs."""
    path, line, _ = item.location
    return ReprExceptionInfo(
        reprtraceback=ReprTraceback(
            [ReprEntryNative([f"{error}\n\n{shown_frames(error)}\n"])], None, style="native"
        ),
        reprcrash=ReprFileLocation(path, (line or 0) + 1, str(error)),
    )


def named_by_id(config: pytest.Config) -> bool:
    """Return whether the command line names single tests: what it leaves out of a file is not known."""
    return any("::" in argument for argument in config.args)


def picked(config: pytest.Config) -> bool:
    """Return whether single tests were picked: by id, by ``-k``, or those that failed last."""
    return bool(named_by_id(config) or config.option.keyword or getattr(config.option, "lf", False))

"""The hooks of a session that evaluates models. Loaded when the first collected test needs one."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

import pytest
from _pytest._code.code import ReprEntryNative, ReprExceptionInfo, ReprFileLocation, ReprTraceback

from pytest_cliprobust.blame import is_ours, is_users, shown_frames
from pytest_cliprobust.errors import ClipRobustError, NotRun, Unavailable, UserCodeError
from pytest_cliprobust.plugin.closing import abandon, close, overruled, refuse
from pytest_cliprobust.plugin.exits import Exit, trouble_of, with_internal_error
from pytest_cliprobust.plugin.fixtures import needs_model
from pytest_cliprobust.plugin.notices import say_nothing_evaluated
from pytest_cliprobust.plugin.session import Session
from pytest_cliprobust.plugin.state import GATE, LACKING, SESSION, DeadWorkers
from pytest_cliprobust.plugin.suites import (
    SECTION,
    check_ids,
    names_elsewhere,
    placed,
    severities_elsewhere,
    suite_of,
)
from pytest_cliprobust.reporting import terminal, workflow
from pytest_cliprobust.results.run import Run

# At its end the interpreter collects garbage several times over; with all of torch to walk that takes more
# than a second, of each worker, too, for whose ends the others wait.
atexit.register(gc.freeze)

#: What is told where every worker of pytest-xdist died over its first test.
NOT_SAID = (
    "no worker lived to say which of the tests that were not run evaluate a model: all are named"
)


class Evaluator:
    """The plugin object of a session with a model under test."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.session = Session(config)
        self.run: Run | None = None
        self._planned = False
        self._refused = False
        config.stash[SESSION] = self.session
        config.pluginmanager.register(LastWords(self), "cliprobust-last-words")

    def start(self, items: list[pytest.Item], lacking: Unavailable | None = None) -> None:
        """Load models and thresholds, so that a mistake ends the session before any test runs.

        A worker of pytest-xdist has no other voice than its tests: it runs none of ``items``, and the
        mistake is told by the process that reports.

        Args:
            items: the tests that were collected.
            lacking: what the environment was found to lack, and the user was told of, before.

        Raises:
            pytest.UsageError: the mistake, or what the environment lacks, in one line; without words if
                these were said.
        """
        own = self.session
        own.ledger.plan({item.nodeid: suite_of(item) for item in items if needs_model(item)})
        try:
            check_ids(items)
            own.start(lacking)
            own.open_journal()
        except Exception as error:
            told = _in_one_line(error)
            if told is None:
                raise
            if own.is_worker:
                own.note(told)
                items.clear()
                return
            self.run, self._refused = refuse(own, told), True
            self._config.stash[LACKING] = isinstance(told, Unavailable)
            raise pytest.UsageError("" if told is lacking else str(told)) from None

    def take_up(self, not_collected: Iterable[str], dead: DeadWorkers) -> None:
        """Go on with a session whose workers evaluate a model, of which this process knew nothing."""
        self.session.ledger.not_collected += not_collected
        self.session.ledger.given = dead.given
        self.session.died += dead.names
        self.session.internal_error |= dead.internal_error
        for report in dead.reports:
            self.session.take(report)
        try:
            self.session.open_journal()
        except ClipRobustError as error:
            self.session.note(error)

    def pytest_report_header(self) -> list[str]:
        """Say what is under test where it is known before the collection."""
        return self.session.header() if self.session.models() else []

    def pytest_report_collectionfinish(self) -> list[str]:
        """Say what is under test, on what."""
        return self.session.header() if self.session.models() else []

    # --- Tests -------------------------------------------------------------------------------------

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what could not be collected."""
        self.session.ledger.take_collection(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Forget what an earlier attempt of the test measured: a plugin may run it again."""
        gate = item.stash.get(GATE, None)
        if gate is not None:
            told = {(record.key, record.one_line()) for record in gate.records}
            item.user_properties[:] = [one for one in item.user_properties if one not in told]
            del item.stash[GATE]

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
        trouble = trouble_of(error)
        if isinstance(error, NotRun):
            report.outcome = "skipped"
            report.longrepr = (str(item.path), 0, f"Skipped: {error}")
            report.clip_lacking = trouble is not None
        elif isinstance(error, UserCodeError):
            report.longrepr = told_failure(item, error)
        elif trouble is not None:
            report.clip_trouble = trouble
        elif isinstance(error, ClipRobustError):
            report.clip_mistake = str(error)
        if isinstance(error, ClipRobustError) and not isinstance(error, NotRun | UserCodeError):
            report.longrepr = str(error)
        if self.session.is_worker and not self._planned:
            report.clip_plan, self._planned = self.session.planned(), True
        if needs_model(item):
            report.clip_suite = suite_of(item)
            if call.when == "setup":
                module = getattr(item, "module", None)
                profile = self.session.config.profile
                if names := names_elsewhere(module, profile):
                    report.clip_names = names
                if severities := severities_elsewhere(module, profile):
                    report.clip_severities = severities
                report.clip_section = placed(getattr(module, SECTION, None))
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
        if not self.session.is_worker:
            self.session.take(report)
            self.session.ledger.forget_properties(report)

    # --- The end -----------------------------------------------------------------------------------

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        """Note what the workers of pytest-xdist collected: they all have the same."""
        self.session.ledger.given = tuple(ids)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: Any) -> None:
        """Take over what a worker of pytest-xdist has to say."""
        told = getattr(node, "workeroutput", {}).get("cliprobust")
        if told:
            self.session.listen(told)
        elif error:
            self.session.died.append(str(node.gateway.id))

    def pytest_internalerror(self) -> None:
        """Note an error that pytest has no name for: one in a worker leaves no trace in the exit code."""
        self.session.internal_error = True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int | pytest.ExitCode
    ) -> None:
        """Write the reports, whatever ended the session, and choose its exit code."""
        own = self.session
        status = _ended_with(int(exitstatus), internal_error=own.internal_error)
        if own.is_worker:
            session.config.workeroutput["cliprobust"] = own.tell()  # type: ignore[attr-defined]
            return
        if self._refused:
            return
        if (own.died or own.internal_error) and own.ledger.given and not own.ledger.heard:
            own.ledger.plan_all()
            own.remarks.append(NOT_SAID)
        if status == Exit.MISTAKE or not own.has_news:
            self.run = abandon(own, status)
            session.exitstatus = status
            return
        self.run = close(own, session, status)
        session.exitstatus = self.run.exit_status

    def pytest_terminal_summary(
        self, terminalreporter: Any, exitstatus: int, config: pytest.Config
    ) -> None:
        """Print the table of all that was measured."""
        if self.run is None or self._refused:
            return
        run, verbose = self.run, config.option.verbose > 0
        if workflow.wanted():
            workflow.without_commands(
                lambda: terminal.summarise(terminalreporter, run, verbose=verbose),
                terminalreporter.write_line,
            )
            for line in workflow.annotation_lines(run):
                terminalreporter.write_line(line)
        else:
            terminal.summarise(terminalreporter, run, verbose=verbose)
        if not (self.session.evaluated or self.session.mistakes):
            count = self.session.collected
            status = _ended_with(int(exitstatus), internal_error=self.session.internal_error)
            say_nothing_evaluated(terminalreporter, config, count, status)

    def pytest_unconfigure(self) -> None:
        """Leave no empty journal beside the report where the session ended before it began."""
        self.session.abandon()

    @property
    def last_words(self) -> Run | None:
        """The run to say them of; None if there is nothing to say."""
        return self.run if self.session.evaluated and not self._refused else None


class LastWords:
    """Says last, below pytest's own last line, what keeps a run from being whole, or green."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """Say it when everybody else is finished."""
        result = yield
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        run = self._evaluator.last_words
        if run is None:
            return result
        if run.exit_status != session.exitstatus:
            run = overruled(self._evaluator.session, run, int(session.exitstatus))
        if reporter is not None:
            terminal.say_last(reporter, run)
        return result


def _ended_with(status: int, *, internal_error: bool) -> int:
    """Return how the session ended, by pytest's exit code and what that does not tell.

    Where a second Ctrl-C keeps pytest from noting the first, that is what ended it. pytest-xdist goes on
    after an internal error in a worker, and the code is that of the tests which the others have run.
    """
    if isinstance(sys.exc_info()[1], KeyboardInterrupt):
        return Exit.INTERRUPTED
    return with_internal_error(status) if internal_error else status


def _in_one_line(error: Exception) -> ClipRobustError | None:
    """Return what ended a start as an error of one line; None for what nobody has foreseen."""
    if isinstance(error, ClipRobustError):
        return error
    trouble = trouble_of(error)
    return None if trouble is None else Unavailable(trouble)


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

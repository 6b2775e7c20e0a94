"""The hooks of a session that evaluates models. Loaded only where a model is named."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest

from pytest_cliprobust.datasets.roles import provider_of
from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.plugin.fixtures import needs_model, parametrized
from pytest_cliprobust.plugin.session import Session
from pytest_cliprobust.plugin.state import GATE, SESSION, UNDER_TEST
from pytest_cliprobust.plugin.suites import add_markers, shipped, suite_of
from pytest_cliprobust.reporting import terminal
from pytest_cliprobust.results.record import Record
from pytest_cliprobust.results.run import NotMeasured, Run


class Evaluator:
    """The plugin object of a session with a model under test."""

    def __init__(self, config: pytest.Config) -> None:
        self.session = Session(config)
        self.run: Run | None = None
        config.stash[SESSION] = self.session
        self.session_items: list[pytest.Item] = []
        self._provider = provider_of(self.session.config.data)
        self._mistake = ""

    # --- Collection --------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Find mistakes before any worker starts; else the model waits for a test that needs it."""
        distributes = session.config.pluginmanager.hasplugin("dsession")
        if distributes and session.config.getoption("--clip-model"):
            self._start()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Parametrize tests over the models, and over the data sets of the roles that they ask for."""
        for name in parametrized(metafunc):
            if name == UNDER_TEST:
                metafunc.parametrize(name, self.session.config.models, scope="session")
                continue
            try:
                sets: list[Any] = list(self._provider.require(name))
            except NotRun as error:
                sets = [pytest.param("none", marks=pytest.mark.skip(reason=str(error)))]
            metafunc.parametrize(name, sets, scope="session")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Mark the tests that evaluate a model with their suite."""
        needs = [item for item in items if needs_model(item)]
        names = {suite_of(item) for item in needs}
        add_markers(config, names)
        for item in needs:
            item.add_marker(suite_of(item))
        self.session.known_suites = tuple(sorted({*shipped(), *names}))

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Load models and thresholds where a test needs them; a mistake ends the session in one line."""
        needs = [item for item in session.items if needs_model(item)]
        self.session.collected = (len(session.items), len(needs))
        self.session_items = session.items
        if needs and not session.config.option.collectonly:
            self._start()

    def _start(self) -> None:
        try:
            self.session.start()
            self.session.open_journal()
        except ClipRobustError as error:
            if not self.session.is_worker:
                raise pytest.UsageError(str(error)) from None
            # A worker has no other voice than a test: one of them tells it, on all workers the same.
            self._mistake = str(error)
            items = self.session_items
            items[:] = [item for item in items if needs_model(item)][:1]

    def pytest_report_header(self) -> list[str]:
        """Say what is under test where it is known before the collection."""
        return self.session.header() if self.session.models() else []

    def pytest_report_collectionfinish(self) -> list[str]:
        """Say what is under test, on what."""
        return self.session.header() if self.session.models() else []

    # --- Tests -------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Fail a worker's tests with the mistake that kept it from starting.

        Raises:
            ClipRobustError: the mistake.
        """
        if self._mistake and needs_model(item):
            raise ClipRobustError(self._mistake)

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
        report = yield
        error = call.excinfo.value if call.excinfo is not None else None
        if isinstance(error, NotRun):
            report.outcome = "skipped"
            report.longrepr = (str(item.path), 0, f"Skipped: {error}")
        elif isinstance(error, ClipRobustError):
            report.longrepr = str(error)
            report.clip_mistake = str(error)
        if needs_model(item):
            report.clip_suite = suite_of(item)
        gate = item.stash.get(GATE, None)
        if call.when == "call" and gate is not None:
            report.clip_missed = gate.missed
        if call.when == "teardown" and gate is not None:
            report.clip_records = [record.as_dict(replicates=True) for record in gate.records]
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect what the tests measured, in the process that reports."""
        session = self.session
        if session.is_worker:
            return
        suite = getattr(report, "clip_suite", None)
        records = [Record.from_dict(data) for data in getattr(report, "clip_records", ())]
        session.add(records)
        mistake = getattr(report, "clip_mistake", None)
        if mistake:
            session.mistakes.append(mistake)
        if suite is None:
            return
        session.suites.add(suite)
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

        The exit code is 4 after a user's mistake, and 1 where a bound was not measured as its test was
        skipped: neither is green.
        """
        own, config = self.session, session.config
        if own.is_worker:
            config.workeroutput["cliprobust"] = own.tell()  # type: ignore[attr-defined]
            return
        ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        complete = ended and not (session.shouldstop or session.shouldfail)
        if not own.evaluated or exitstatus == pytest.ExitCode.USAGE_ERROR:
            nothing = own.unjudged(partial=True)
            self.run = own.run(nothing, complete=complete, exit_status=int(exitstatus))
            return
        found = own.unjudged(partial=not complete or only_chosen(config))
        run = own.run(found, complete=complete, exit_status=int(exitstatus))
        if run.unjudged_fail and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if own.mistakes:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        self.run = replace(run, exit_status=int(session.exitstatus))
        try:
            changes = own.record() if complete else ()
            self.run = replace(self.run, changes=changes)
            own.write(self.run)
        except ClipRobustError as error:
            self.run = replace(self.run, mistakes=(*self.run.mistakes, str(error)))
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        """Print the table of all that was measured."""
        if self.run is not None:
            terminal.summarise(terminalreporter, self.run, verbose=config.option.verbose > 0)


def only_chosen(config: pytest.Config) -> bool:
    """Return whether only some of the tests ran: bounds that are left over are no news then."""
    option = config.option
    return bool(
        option.collectonly
        or option.keyword
        or option.markexpr
        or option.deselect
        or getattr(option, "lf", False)
        or any("::" in argument for argument in config.args)
    )

"""What a session with a model does until a test needs it. Imports nothing heavy.

A project that has ``clip_model`` in its ini file pays nothing for its plain unit tests: neither the model
nor torch is loaded before a collected test evaluates one.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from pytest_cliprobust.datasets.providers import Provider, provider_of
from pytest_cliprobust.errors import ClipRobustError, NotRun, Unavailable
from pytest_cliprobust.plugin.exits import Exit, with_internal_error
from pytest_cliprobust.plugin.fixtures import model_of, needs_model, parametrized
from pytest_cliprobust.plugin.notices import (
    misspelt_marks,
    say_nothing_evaluated,
    say_what_is_lacking,
)
from pytest_cliprobust.plugin.options import (
    given_models,
    reports_of,
    run_config,
    tags_of,
    value_of,
)
from pytest_cliprobust.plugin.reach import require_reach
from pytest_cliprobust.plugin.state import IMPORTS, LACKING, UNDER_TEST, DeadWorkers
from pytest_cliprobust.plugin.suites import add_markers, shipped, suite_of

if TYPE_CHECKING:
    from pytest_cliprobust.plugin.hooks import Evaluator


#: What is told of a run that Ctrl-C ended before its tests were known.
NOT_COLLECTED = "interrupted while tests were collected: nothing was measured, and nothing judged"


class Waiting:
    """The plugin object of a session with a model, until the :class:`.hooks.Evaluator` takes over.

    Raises:
        pytest.UsageError: a mistake in an option.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._run_config = run_config(config)
        reports_of(config)
        tags_of(config)
        self._collected = 0
        self._suites = set(shipped())
        self._deselected: dict[str, list[str]] = {}
        self._not_collected: list[str] = []
        self._dead = DeadWorkers()
        self._lacking: Unavailable | None = None
        self._mistake: ClipRobustError | None = None

    def _evaluator(self) -> Evaluator:
        """Load what evaluates models, and hand the session over to it."""
        with without_collector():
            from pytest_cliprobust.plugin.hooks import Evaluator

        evaluator = Evaluator(self._config)
        self._config.pluginmanager.unregister(self)
        self._config.pluginmanager.register(evaluator, "cliprobust-evaluator")
        return evaluator

    # --- Collection --------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        """Let suites import torch and open_clip without the collector in between."""
        with without_collector():
            return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Find mistakes before any worker of pytest-xdist starts, if this run asks for a model.

        Raises:
            pytest.UsageError: what it begins with lies on a model hub that cannot be reached.
        """
        self._require_reach()
        distributes = self._config.pluginmanager.hasplugin("dsession")
        if distributes and self._config.getoption("--clip-model"):
            self._evaluator().start([], self._lacking)

    def _require_reach(self) -> None:
        """Look for the model hub before a test's file imports torch, which takes seconds.

        Where a report was asked for, it is told at once all the same; the report, which names the tests
        that were not run, needs what evaluates models and is written behind that.
        """
        listing = self._config.option.collectonly or hasattr(self._config, "workerinput")
        if listing or not self._config.getoption("--clip-model"):
            return
        try:
            require_reach(self._run_config)
        except Unavailable as error:
            self._config.stash[LACKING] = True
            if not reports_of(self._config):
                raise pytest.UsageError(str(error)) from None
            say_what_is_lacking(error)
            self._lacking = error
        except ClipRobustError:
            return  # told where the data is read

    @cached_property
    def _provider(self) -> Provider | None:
        """What plays which role; None where the options that say so hold a mistake, told after collection.

        Told while tests are collected it would be an error of each file that asks for a role.
        """
        try:
            return provider_of(self._run_config.sets)
        except ClipRobustError as error:
            self._mistake = error
            return None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Parametrize tests over the models, and over the data sets of the roles that they ask for."""
        for name in parametrized(metafunc):
            if name == UNDER_TEST:
                # The value is what the user wrote, for commands that run the test again.
                given = given_models(self._config)
                metafunc.parametrize(name, list(given.values()), ids=list(given), scope="session")
                continue
            provider = self._provider
            if provider is None:
                metafunc.parametrize(name, ["none"], scope="session")
                continue
            try:
                sets: list[Any] = list(provider.require(name))
                ids = [provider.name_of(key) for key in sets]
            except NotRun as error:
                sets = [pytest.param("none", marks=pytest.mark.skip(reason=str(error)))]
                ids = ["none"]
            metafunc.parametrize(name, sets, ids=ids, scope="session")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what could not be collected."""
        if report.failed:
            self._not_collected.append(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Mark the tests that evaluate a model with their suite."""
        # Also those that -k or -m leave out later: the threshold file may have bounds for them.
        self._suites.update(suite_of(item) for item in mark_suites(self._config, items))

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Note which tests of a suite were left out: their bounds are no news."""
        for item in items:
            if needs_model(item):
                self._deselected.setdefault(suite_of(item), []).append(item.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Load models and thresholds where a test needs them; a mistake ends the session in one line.

        Raises:
            pytest.UsageError: a mistake, or what the environment lacks; without words if these were said.
        """
        if self._mistake is not None and self._config.option.collectonly:
            raise pytest.UsageError(str(self._mistake))
        self._collected = len(session.items)
        needs = [item for item in session.items if needs_model(item)]
        against = value_of(self._config, "against")
        if against is not None:
            # In whatever order plugins have put them: the others are held against its figures.
            session.items.sort(key=lambda item: model_of(item) != against)
        if needs and not self._config.option.collectonly:
            evaluator = self._evaluator()
            evaluator.session.known_suites = tuple(sorted(self._suites))
            evaluator.session.collected, evaluator.session.needed = self._collected, True
            evaluator.session.deselected = self._deselected
            evaluator.session.failed_last = failed_last(self._config, session.items)
            evaluator.session.selected = {suite_of(item) for item in needs}
            evaluator.session.remarks += misspelt_marks(self._config, self._suites)
            evaluator.session.ledger.not_collected += self._not_collected
            evaluator.start(session.items, self._lacking)
        elif self._lacking is not None and not self._not_collected:
            raise pytest.UsageError("")  # told already

    # --- Workers of pytest-xdist, where only the ini file names the model ---------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take up the first report of a worker whose test evaluates a model."""
        if hasattr(report, "clip_suite") or hasattr(report, "clip_plan"):
            evaluator = self._evaluator()
            evaluator.take_up(self._not_collected, self._dead)
            evaluator.pytest_runtest_logreport(report)
        elif report.when in ("setup", "call", "teardown"):
            self._dead.heard = True
        else:
            self._dead.reports.append(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        """Note what the workers collected: they all have the same."""
        self._dead.given = tuple(ids)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: Any) -> None:
        """Take over what a worker that evaluated a model has to say."""
        told = getattr(node, "workeroutput", {}).get("cliprobust")
        if told:
            self._collected = max(self._collected, int(told["collected"]))
        elif error:
            self._dead.names.append(str(node.gateway.id))
        if told and any(told.get(name) for name in ("models", "mistakes", "troubles")):
            self._evaluator().session.listen(told)

    # --- The end -----------------------------------------------------------------------------------

    def pytest_internalerror(self) -> None:
        """Note an error that pytest has no name for: one in a worker leaves no trace in the exit code."""
        self._dead.internal_error = True

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Tell the controller of pytest-xdist, or a report, that nothing was evaluated here."""
        asked = self._config.getoption("--clip-model") and reports_of(self._config)
        interrupted = exitstatus == Exit.INTERRUPTED and not session.items
        dead = self._dead
        not_known = interrupted or self._not_collected or dead.internal_error
        if hasattr(self._config, "workerinput"):
            mistakes = self._config.stash[IMPORTS].lines
            told = {"mistakes": mistakes, "collected": self._collected}
            self._config.workeroutput["cliprobust"] = told  # type: ignore[attr-defined]
        elif asked and not self._config.option.collectonly and not_known:
            # Tests that evaluate the model may be among those: no report of an earlier run is theirs.
            self._close(session, exitstatus, interrupted=interrupted)
        elif (dead.reports or (dead.internal_error and dead.given)) and not dead.heard:
            # Workers told of no test, so it is not known that none of them evaluates the model.
            self._close(session, exitstatus)
        elif dead.internal_error:
            session.exitstatus = with_internal_error(exitstatus)

    def _close(
        self, session: pytest.Session, exitstatus: int, *, interrupted: bool = False
    ) -> None:
        """Hand over the session at its end; ``interrupted``: before its tests were known."""
        evaluator = self._evaluator()
        if interrupted:
            evaluator.session.remarks.append(NOT_COLLECTED)
        evaluator.take_up(self._not_collected, self._dead)
        evaluator.pytest_sessionfinish(session, exitstatus)

    def pytest_terminal_summary(
        self, terminalreporter: Any, exitstatus: int, config: pytest.Config
    ) -> None:
        """Say that nothing was evaluated."""
        say_nothing_evaluated(terminalreporter, config, self._collected, exitstatus, self._suites)


@contextmanager
def without_collector() -> Iterator[None]:
    """Keep Python's garbage collector from walking modules while more of them are imported.

    It takes a fifth of the seconds that importing torch and open_clip takes, and finds nothing there. What
    was imported stays to the end, so that no later pass looks at it either: a tenth of a warm run.
    """
    was_on, first = gc.isenabled(), "torch" not in sys.modules
    gc.disable()
    try:
        yield
    finally:
        if first:
            gc.freeze()
        if was_on:
            gc.enable()


def failed_last(config: pytest.Config, items: Sequence[pytest.Item]) -> bool:
    """Return whether ``--lf`` left tests out, which it does while it collects and tells nobody of.

    It leaves none out where nothing failed last, or nothing of what is selected.
    """
    if not getattr(config.option, "lf", False) or config.cache is None:
        return False
    selected = {item.nodeid for item in items}
    if not selected & set(config.cache.get("cache/lastfailed", {})):
        return False
    return bool(set(config.cache.get("cache/nodeids", [])) - selected)


def mark_suites(config: pytest.Config, items: list[pytest.Item]) -> list[pytest.Item]:
    """Mark the tests that evaluate a model with their suite, and return them."""
    needs = [item for item in items if needs_model(item)]
    add_markers(config, {suite_of(item) for item in needs})
    for item in needs:
        item.add_marker(suite_of(item))
    return needs

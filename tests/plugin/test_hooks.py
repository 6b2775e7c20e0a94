"""What the plugin makes of each test's report, and of how a session begins and ends."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gating_helpers import answered, answers

from pytest_cliprobust.errors import ClipRobustError, NotRun, Unavailable, UserCodeError
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.verdict import judge
from pytest_cliprobust.perturbations.codec import MissingEncoder
from pytest_cliprobust.plugin import hooks
from pytest_cliprobust.plugin.exits import Exit
from pytest_cliprobust.plugin.hooks import Evaluator, LastWords
from pytest_cliprobust.plugin.ledger import Ledger
from pytest_cliprobust.plugin.state import GATE, LACKING, DeadWorkers
from pytest_cliprobust.results.record import Record


def evaluator(**own: Any) -> Evaluator:
    """Return the plugin object of a session that has not begun; ``own`` is of the session."""
    made = Evaluator.__new__(Evaluator)
    plain: dict[str, Any] = {
        "is_worker": False,
        "ledger": Ledger(),
        "died": [],
        "internal_error": False,
        "config": SimpleNamespace(profile="quick"),
        "remarks": [],
        "mistakes": [],
        "collected": 3,
        "has_news": True,
        "evaluated": True,
        "planned": lambda: "the plan",
        "tell": lambda: "what it has to say",
    }
    made.session = SimpleNamespace(**{**plain, **own})  # type: ignore[assignment]
    made._config = SimpleNamespace(stash={})  # type: ignore[assignment]
    made.run, made._planned, made._refused = None, False, False
    return made


def result_of(steps: Generator[None, Any, Any], given: Any) -> Any:
    """Return what a wrapper of a hook makes of what the hook returns."""
    next(steps)
    with pytest.raises(StopIteration) as stop:
        steps.send(given)
    return stop.value.value


def item_of(needs: bool = True, gate: Any = None, **more: Any) -> Any:
    plain: dict[str, Any] = {
        "path": Path("test_mine.py"),
        "location": ("test_mine.py", 6, "test_it"),
        "config": SimpleNamespace(option=SimpleNamespace(fulltrace=False, usepdb=False)),
        "stash": {} if gate is None else {GATE: gate},
        "get_closest_marker": lambda name: None,
        "needs": needs,
        "user_properties": [],
    }
    return SimpleNamespace(**{**plain, **more})


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the report of a test that ended with an error, or well."""
    monkeypatch.setattr(hooks, "needs_model", lambda item: item.needs)

    def report(
        error: BaseException | None = None,
        when: str = "call",
        of: Evaluator | None = None,
        **item: Any,
    ) -> Any:
        info = None if error is None else pytest.ExceptionInfo.from_exception(error)
        call: Any = SimpleNamespace(excinfo=info, when=when)
        plain = SimpleNamespace(
            outcome="failed" if error else "passed", longrepr="as pytest has it"
        )
        steps = (of or evaluator()).pytest_runtest_makereport(item_of(**item), call)
        return result_of(steps, plain)

    return report


def raised(error: BaseException) -> BaseException:
    """Return an error that was raised here."""
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "outcome", "told"),
    [
        (None, "passed", {}),
        (AssertionError("0.1 < 0.2"), "failed", {}),
        (NotRun("needs far_ood"), "skipped", {"clip_lacking": False}),
        (MissingEncoder("no encoder"), "skipped", {"clip_lacking": True}),
        (Unavailable("no hub"), "failed", {"clip_trouble": "no hub"}),
        (ClipRobustError("a slip"), "failed", {"clip_mistake": "a slip"}),
    ],
)
def test_what_a_report_tells_of_an_error(
    made: Any, error: Exception | None, outcome: str, told: dict[str, Any]
) -> None:
    report = made(None if error is None else raised(error))
    assert report.outcome == outcome
    words = {
        k: v
        for k, v in vars(report).items()
        if k in ("clip_lacking", "clip_trouble", "clip_mistake")
    }
    assert words == told
    if outcome == "skipped":
        assert report.longrepr == ("test_mine.py", 0, f"Skipped: {error}")
    else:  # a mistake is one line, and what nobody has foreseen stays pytest's
        assert report.longrepr == (
            "as pytest has it" if "0.1" in str(error or "0.1") else str(error)
        )


def test_memory_that_ran_out_is_the_environments_and_is_shown_whole(made: Any) -> None:
    report = made(raised(MemoryError()))
    assert "out of memory" in report.clip_trouble
    assert report.longrepr == "as pytest has it"


def test_an_error_in_the_users_code_is_shown_with_their_lines(made: Any) -> None:
    report = made(raised(UserCodeError("metric 'mine' fails")))
    assert not hasattr(report, "clip_mistake")
    assert (report.longrepr.reprcrash.path, report.longrepr.reprcrash.lineno) == ("test_mine.py", 7)
    assert report.longrepr.reprcrash.message == "metric 'mine' fails"


def test_the_suite_and_names_are_told_of_tests_that_evaluate_a_model(made: Any) -> None:
    module = SimpleNamespace(NAMES={"quick": ["fog", "snow"], "full": ["fog", "rain"]})
    report = made(when="setup", module=module)
    assert (report.clip_suite, report.clip_names) == ("mine", ["rain"])
    for other in (
        made(when="call", module=module),
        made(when="setup", module=SimpleNamespace(NAMES=["fog"])),
        made(when="setup"),
    ):
        assert (other.clip_suite, hasattr(other, "clip_names")) == ("mine", False)
    assert not hasattr(made(when="setup", module=module, needs=False), "clip_suite")


def test_severities_are_told_where_profiles_differ_in_them(made: Any) -> None:
    module = SimpleNamespace(SEVERITIES={"quick": [3], "full": [5, 1, 3]})
    assert made(when="setup", module=module).clip_severities == [1, 5]
    assert not hasattr(made(when="call", module=module), "clip_severities")
    same = SimpleNamespace(SEVERITIES=[1, 3, 5])
    assert not hasattr(made(when="setup", module=same), "clip_severities")


def test_what_a_test_measured_is_told_at_its_end(made: Any) -> None:
    one = answered(answers())
    record = Record(one, judge(one, None, Policy()), "test_it")
    gate = SimpleNamespace(records=[record], missed=True)
    for when, missed, records in (("setup", 0, 0), ("call", 1, 0), ("teardown", 0, 1)):
        report = made(when=when, gate=gate)
        assert hasattr(report, "clip_missed") == missed
        assert hasattr(report, "clip_records") == records
        assert not hasattr(report, "clip_outcomes")
        assert not hasattr(report, "clip_plan")
    assert report.clip_records == [record]
    # A worker's report travels as plain data; its first says what it was given.
    worker = evaluator(is_worker=True)
    assert made(when="setup", of=worker).clip_plan == "the plan"
    sent = made(when="teardown", gate=gate, of=worker)
    assert not hasattr(sent, "clip_plan")
    (plain,) = sent.clip_records
    again = Record.from_dict(plain, sent.clip_outcomes)
    assert (again.key, again.figure.value) == (record.key, record.figure.value)
    assert again.figure.outcomes is not None


@pytest.mark.parametrize(
    ("needs", "fulltrace", "usepdb", "cut"),
    [
        (True, False, False, True),
        (False, False, False, False),
        (True, True, False, False),
        (True, False, True, False),
    ],
)
def test_the_way_through_this_package_is_left_out_where_nobody_asks_for_it(
    made: Any,
    monkeypatch: pytest.MonkeyPatch,
    needs: bool,
    fulltrace: bool,
    usepdb: bool,
    cut: bool,
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(hooks, "without_our_frames", lambda info: asked.append(info))
    option = SimpleNamespace(fulltrace=fulltrace, usepdb=usepdb)
    made(raised(AssertionError()), needs=needs, config=SimpleNamespace(option=option))
    assert bool(asked) == cut


@pytest.mark.parametrize(
    ("way", "shown"),
    [
        # From the user's test through this package to a metric of theirs, and on.
        ("user ours ours user lib", "user user lib"),
        ("lib user ours user", "user user"),
        # An error of this package's, and one of which nobody is known.
        ("user ours", "user ours"),
        ("user ours user ours lib", "user ours user ours lib"),
        ("ours lib", "ours lib"),
        ("lib lib", "lib lib"),
    ],
)
def test_which_steps_of_the_way_to_an_error_are_shown(
    monkeypatch: pytest.MonkeyPatch, way: str, shown: str
) -> None:
    monkeypatch.setattr(hooks, "is_users", lambda file: file == "user")
    monkeypatch.setattr(hooks, "is_ours", lambda file: file == "ours")

    step: Any = None
    for file in reversed(way.split()):
        what = "on()" if step else "raise ValueError('here')"
        space: dict[str, Any] = {"on": step}
        exec(compile(f"def step():\n    {what}\n", file, "exec"), space)
        step = space["step"]
    with pytest.raises(ValueError, match="here") as caught:
        step()
    from_there = caught.tb.tb_next  # behind this test's own
    assert from_there is not None
    info = pytest.ExceptionInfo.from_exc_info((caught.type, caught.value, from_there))
    found = hooks.without_our_frames(info)
    files = [one.tb_frame.f_code.co_filename for one in hooks._steps(found.tb)]
    assert (files, found.value) == (shown.split(), caught.value)


def test_an_earlier_attempt_is_forgotten() -> None:
    one = answered(answers())
    record = Record(one, judge(one, None, Policy()), "test_it")
    own = (record.key, record.one_line())
    item = item_of(gate=SimpleNamespace(records=[record]), user_properties=[own, ("theirs", 1)])
    evaluator().pytest_runtest_setup(item)
    assert (item.user_properties, item.stash) == ([("theirs", 1)], {})
    evaluator().pytest_runtest_setup(item)  # nothing to forget
    assert item.user_properties == [("theirs", 1)]


# --- How a session begins --------------------------------------------------------------------------


def started(
    of: Evaluator, error: Exception | None, lacking: Unavailable | None = None
) -> list[Any]:
    """Return the tests that are left of two, of which one evaluates a model."""

    def start(known: Unavailable | None) -> None:
        if known is not None or error is not None:
            raise known or error  # type: ignore[misc]

    vars(of.session).update(start=start, open_journal=lambda: None)
    items: list[Any] = [item_of(True, nodeid="a"), item_of(False, nodeid="b")]
    of.start(items, lacking)
    return items


@pytest.mark.parametrize(
    ("error", "told", "lacks"),
    [
        (ClipRobustError("a slip"), "a slip", False),
        (Unavailable("no hub"), "no hub", True),
        (MemoryError(), "out of memory", True),
    ],
)
def test_a_start_that_fails_ends_the_session_in_one_line(
    made: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str, lacks: bool
) -> None:
    monkeypatch.setattr(hooks, "refuse", lambda own, why: f"refused: {why}")
    of = evaluator()
    with pytest.raises(pytest.UsageError, match=told):
        started(of, error)
    assert of._config.stash[LACKING] == lacks
    assert told in str(of.run)
    assert of.last_words is None
    assert of.session.ledger.planned == {"a": "mine"}
    # A worker has no voice of its own: it runs nothing, and the other process tells.
    noted: list[Any] = []
    worker = evaluator(is_worker=True, note=noted.append)
    assert started(worker, error) == []
    assert told in str(noted[0])


def test_what_was_told_before_is_not_told_again(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "refuse", lambda own, why: why)
    with pytest.raises(pytest.UsageError) as ended:
        started(evaluator(), None, Unavailable("no hub"))
    assert str(ended.value) == ""


def test_an_error_that_nobody_has_foreseen_is_pytests(made: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        started(evaluator(), ZeroDivisionError())
    assert len(started(evaluator(), None)) == 2


def test_a_session_is_taken_up_with_all_that_was_heard_before() -> None:
    taken: list[Any] = []
    noted: list[Any] = []

    def full() -> None:
        raise Unavailable("no room")

    of = evaluator(take=taken.append, open_journal=full, note=noted.append)
    dead: Any = DeadWorkers(("t",), ["gw1"], ["a report"], internal_error=True)  # type: ignore[list-item]
    of.take_up(["test_gone.py"], dead)
    assert of.session.internal_error
    own = of.session
    assert (own.ledger.not_collected, own.ledger.given) == (["test_gone.py"], ("t",))
    assert (own.died, taken) == (["gw1"], ["a report"])
    assert list(map(str, noted)) == ["no room"]


# --- How it ends -----------------------------------------------------------------------------------


def test_what_a_worker_left_behind() -> None:
    listened: list[Any] = []
    of = evaluator(listen=listened.append)
    node = SimpleNamespace(gateway=SimpleNamespace(id="gw1"), workeroutput={"cliprobust": "told"})
    of.pytest_testnodedown(node, None)
    assert (listened, of.session.died) == (["told"], [])
    node.workeroutput = {}
    of.pytest_testnodedown(node, None)
    assert of.session.died == []
    of.pytest_testnodedown(node, "killed")
    assert (listened, of.session.died) == (["told"], ["gw1"])


@pytest.mark.parametrize(
    ("own", "status", "ended"),
    [
        ({}, Exit.PASSED, "closed"),
        ({}, Exit.REGRESSION, "closed"),
        ({"has_news": False}, Exit.PASSED, "abandoned"),
        ({}, Exit.MISTAKE, "abandoned"),
        ({"is_worker": True}, Exit.PASSED, "told"),
        ({"refused": True}, Exit.MISTAKE, "refused"),
    ],
)
def test_how_a_session_ends(
    monkeypatch: pytest.MonkeyPatch, own: dict[str, Any], status: Exit, ended: str
) -> None:
    monkeypatch.setattr(hooks, "abandon", lambda own, status: "abandoned")
    closed = SimpleNamespace(exit_status=42)
    monkeypatch.setattr(hooks, "close", lambda own, session, status: closed)
    refused = own.pop("refused", False)
    of = evaluator(**own)
    of._refused = refused
    session: Any = SimpleNamespace(exitstatus=status, config=SimpleNamespace(workeroutput={}))
    of.pytest_sessionfinish(session, status)
    found: Any = of.run
    assert found == {"closed": closed, "abandoned": "abandoned"}.get(ended)
    assert session.exitstatus == (42 if ended == "closed" else status)
    told = {"cliprobust": "what it has to say"} if ended == "told" else {}
    assert session.config.workeroutput == told


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (KeyboardInterrupt(), Exit.INTERRUPTED),
        (ValueError(), Exit.REGRESSION),
        (None, Exit.REGRESSION),
    ],
)
def test_where_ctrl_c_came_twice_a_session_ends_as_with_one(
    monkeypatch: pytest.MonkeyPatch, error: BaseException | None, ended: Exit
) -> None:
    """The session is closed while the second is on its way, and the first has not been noted."""
    seen: list[int] = []

    def close(own: Any, session: Any, status: int) -> Any:
        seen.append(status)
        return SimpleNamespace(exit_status=status)

    monkeypatch.setattr(hooks, "close", close)
    session: Any = SimpleNamespace(exitstatus=Exit.REGRESSION, config=SimpleNamespace())
    try:
        if error is not None:
            raise error
        evaluator().pytest_sessionfinish(session, Exit.REGRESSION)
    except (KeyboardInterrupt, ValueError):
        evaluator().pytest_sessionfinish(session, Exit.REGRESSION)
    assert seen == [ended]


@pytest.mark.parametrize("has_news", [True, False])
@pytest.mark.parametrize("status", [Exit.PASSED, Exit.REGRESSION, Exit.NO_TESTS])
def test_after_an_internal_error_in_a_worker_no_session_is_green(
    monkeypatch: pytest.MonkeyPatch, has_news: bool, status: Exit
) -> None:
    """pytest-xdist goes on with the others, and ends with what became of their tests."""
    ends = {True: "closed", False: "abandoned"}
    seen: list[tuple[str, int]] = []

    def end(how: str, status: int) -> Any:
        seen.append((how, status))
        return SimpleNamespace(exit_status=status)

    monkeypatch.setattr(hooks, "close", lambda own, session, status: end("closed", status))
    monkeypatch.setattr(hooks, "abandon", lambda own, status: end("abandoned", status))
    of = evaluator(has_news=has_news)
    of.pytest_internalerror()
    session: Any = SimpleNamespace(exitstatus=status, config=SimpleNamespace())
    of.pytest_sessionfinish(session, status)
    assert seen == [(ends[has_news], Exit.INTERNAL_ERROR)]
    assert session.exitstatus == Exit.INTERNAL_ERROR


@pytest.mark.parametrize(
    ("died", "internal_error", "given", "heard", "all_planned"),
    [
        (["gw1"], False, ("t.py::test_it",), False, True),
        ([], True, ("t.py::test_it",), False, True),
        ([], False, ("t.py::test_it",), False, False),
        (["gw1"], True, (), False, False),
        (["gw1"], True, ("t.py::test_it",), True, False),
    ],
)
def test_of_workers_that_died_at_once_every_test_may_have_evaluated_a_model(
    monkeypatch: pytest.MonkeyPatch,
    died: list[str],
    internal_error: bool,
    given: tuple[str, ...],
    heard: bool,
    all_planned: bool,
) -> None:
    monkeypatch.setattr(hooks, "close", lambda *given: SimpleNamespace(exit_status=1))
    of = evaluator(died=died, internal_error=internal_error)
    of.session.ledger.given, of.session.ledger.heard = given, heard
    of.pytest_sessionfinish(SimpleNamespace(exitstatus=1), 1)  # type: ignore[arg-type]
    assert bool(of.session.ledger.planned) == all_planned
    assert of.session.remarks == ([hooks.NOT_SAID] if all_planned else [])


@pytest.mark.parametrize(
    ("evaluated", "mistakes", "run", "refused", "shown"),
    [
        (True, [], True, False, ["summary"]),
        (False, ["a slip"], True, False, ["summary"]),
        (False, [], True, False, ["summary", "nothing"]),
        (True, [], False, False, []),
        (True, [], True, True, []),
    ],
)
def test_what_is_printed_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
    evaluated: bool,
    mistakes: list[str],
    run: bool,
    refused: bool,
    shown: list[str],
) -> None:
    seen: list[str] = []
    loud: list[bool] = []

    def summarise(reporter: Any, run: Any, *, verbose: bool) -> None:
        seen.append("summary")
        loud.append(verbose)

    monkeypatch.setattr(hooks.workflow, "wanted", lambda: False)  # type: ignore[attr-defined]
    monkeypatch.setattr(
        hooks.terminal,  # type: ignore[attr-defined]
        "summarise",
        summarise,
    )
    monkeypatch.setattr(hooks, "say_nothing_evaluated", lambda *given: seen.append("nothing"))
    of: Any = evaluator(evaluated=evaluated, mistakes=mistakes)
    of.run, of._refused = "a run" if run else None, refused
    for verbose in (0, 1, 2, -1):
        seen.clear()
        loud.clear()
        of.pytest_terminal_summary(
            None, 0, SimpleNamespace(option=SimpleNamespace(verbose=verbose))
        )
        assert seen == shown
        assert loud == [verbose > 0] * ("summary" in shown)


@pytest.mark.parametrize(
    ("own_status", "status", "evaluated", "reporter", "said"),
    [
        (0, 0, True, True, "as closed"),
        (0, 6, True, True, "overruled"),
        (0, 6, True, False, None),
        (0, 0, False, True, None),
    ],
)
def test_the_last_words(
    monkeypatch: pytest.MonkeyPatch,
    own_status: int,
    status: int,
    evaluated: bool,
    reporter: bool,
    said: str | None,
) -> None:
    """Said of the exit code that counts; another plugin may have chosen it after ours."""
    heard: list[str] = []
    over: list[int] = []

    def overruled(own: Any, run: Any, status: int) -> Any:
        over.append(status)
        return SimpleNamespace(name="overruled", exit_status=status)

    monkeypatch.setattr(hooks, "overruled", overruled)
    monkeypatch.setattr(
        hooks.terminal,  # type: ignore[attr-defined]
        "say_last",
        lambda reporter, run: heard.append(run.name),
    )
    of: Any = evaluator(evaluated=evaluated)
    of.run = SimpleNamespace(name="as closed", exit_status=own_status)
    plugins = SimpleNamespace(get_plugin=lambda name: "it" if reporter else None)
    session: Any = SimpleNamespace(exitstatus=status, config=SimpleNamespace(pluginmanager=plugins))
    assert result_of(LastWords(of).pytest_sessionfinish(session), "given") == "given"
    assert heard == ([] if said is None else [said])
    assert over == ([status] if evaluated and status != own_status else [])

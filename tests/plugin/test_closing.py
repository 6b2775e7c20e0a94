"""What becomes of a run at its end: whether it is whole, its exit code, and who is told of what."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from gating_helpers import answered, answers

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.unjudged import Unjudged
from pytest_cliprobust.gating.verdict import judge
from pytest_cliprobust.plugin import closing
from pytest_cliprobust.plugin.exits import Exit
from pytest_cliprobust.results.record import Record
from pytest_cliprobust.results.run import NotMeasured, Run


class Own:
    """What a run kept; everything that it is asked for is noted."""

    def __init__(self, run: Run | None = None, **more: Any) -> None:
        self.ledger = SimpleNamespace(
            lacks_any=False, spared=0, not_collected=[], attempts={"t": 1}
        )
        self.written: list[Run] = []
        self.noted: list[str] = []
        self.asked: list[Any] = []
        self.remarks: list[str] = []
        self.recording = self.failed_last = self.needs_loggers = False
        self.evaluated = True
        self.deselected: dict[str, list[str]] = {}
        self.lost_while_recording: list[str] = []
        self.recorded = ["baseline written"]
        self.late: list[str] = []
        self.troubles: dict[str, ClipRobustError] = {}
        self.plain = Run(RunConfig(("a",)), (), {}) if run is None else run
        for name, value in more.items():
            setattr(self.ledger if hasattr(self.ledger, name) else self, name, value)

    def _or_trouble(self, what: str) -> None:
        self.asked.append(what)
        if what in self.troubles:
            raise self.troubles[what]

    def settle(self) -> list[str]:
        self.asked.append("settle")
        return self.late

    def unjudged(self, **how: bool) -> Unjudged:
        self.asked.append(how)
        self._or_trouble("unjudged")
        return Unjudged(other_models=7)

    def note(self, error: ClipRobustError) -> None:
        self.noted.append(str(error))

    def run(self, found: Unjudged, *, ended: bool, partial: bool = False) -> Run:
        whole = ended and self.plain.complete
        return replace(
            self.plain, unjudged=found, complete=whole, partial=partial, recording=self.recording
        )

    def record(self) -> tuple[Any, ...]:
        self._or_trouble("record")
        return ("a change",)

    def write(self, run: Run) -> list[ClipRobustError]:
        self.written.append(run)
        return [error for name, error in self.troubles.items() if name == "write"]

    def hand_over(self, run: Run) -> tuple[Run, list[Unavailable]]:
        errors: Any = [error for name, error in self.troubles.items() if name == "logger"]
        return replace(run, not_logged=tuple(map(str, errors))), errors

    def remember(self, run: Run) -> Run:
        self._or_trouble("remember")
        return replace(run, kept="run 1")


def close(own: Any, status: int = 0, failed: int = 0, stopped: bool = False, **options: Any) -> Run:
    option = SimpleNamespace(keyword=options.pop("keyword", ""), **options)
    config = SimpleNamespace(args=option.__dict__.pop("args", []), option=option)
    session: Any = SimpleNamespace(
        shouldstop="-x" if stopped else False, shouldfail=False, testsfailed=failed, config=config
    )
    return closing.close(own, session, status)


@pytest.mark.parametrize(
    ("status", "stopped", "lacks", "whole"),
    [
        (Exit.PASSED, False, False, True),
        (Exit.REGRESSION, False, False, True),
        # What stopped it behind its last test has kept nothing from running.
        (Exit.REGRESSION, True, False, True),
        (Exit.REGRESSION, True, True, False),
        (Exit.INTERRUPTED, False, False, True),
        (Exit.INTERRUPTED, False, True, False),
        # A test that did not end is the run's own to tell, where nothing stopped it.
        (Exit.PASSED, False, True, True),
        (Exit.INTERNAL_ERROR, False, False, False),
        (Exit.NO_TESTS, False, False, False),
    ],
)
def test_whether_a_run_came_to_its_end(
    status: int, stopped: bool, lacks: bool, whole: bool
) -> None:
    own = Own(lacks_any=lacks)
    failed = int(status == Exit.REGRESSION)
    assert close(own, status, failed, stopped).complete == whole
    # Only what ended by itself is recorded.
    ended = status in (Exit.PASSED, Exit.REGRESSION)
    assert ("record" in own.asked) == (whole and ended)


@pytest.mark.parametrize(
    ("more", "status", "failed", "expected"),
    [
        ({}, 0, 0, Exit.PASSED),
        ({}, 1, 1, Exit.REGRESSION),
        # A bound that is missed only given all that was found.
        ({"late": ["ece"]}, 0, 0, Exit.REGRESSION),
        # Failures that are the environment's are no regression.
        ({"spared": 2, "run": ["troubles"]}, 1, 2, Exit.ENVIRONMENT),
        ({"spared": 2, "run": ["troubles"]}, 1, 3, Exit.REGRESSION),
        ({"spared": 2, "run": ["troubles"], "late": ["ece"]}, 1, 2, Exit.REGRESSION),
        ({"spared": 2, "run": ["troubles"], "late": ["ece"]}, 1, 3, Exit.REGRESSION),
        ({"run": ["mistakes"]}, 0, 0, Exit.MISTAKE),
        # What was asked for and not judged is never green.
        ({"run": ["unjudged_fail"]}, 0, 0, Exit.INCONCLUSIVE),
        ({"run": ["lacking"]}, 0, 0, Exit.INCONCLUSIVE),
        ({"run": ["missing"]}, 0, 0, Exit.INCONCLUSIVE),
        ({"run": ["missing"], "recording": True}, 0, 0, Exit.PASSED),
        ({"recording": True, "lost_while_recording": ["ece"]}, 0, 0, Exit.REGRESSION),
        ({"recording": True, "late": ["ece"]}, 0, 0, Exit.PASSED),
        ({"lost_while_recording": ["ece"]}, 0, 0, Exit.PASSED),
    ],
)
def test_the_exit_code_of_a_run(
    more: dict[str, Any], status: int, failed: int, expected: Exit
) -> None:
    told: dict[str, Any] = {
        "mistakes": {"mistakes": ("wrong",)},
        "troubles": {"troubles": ("no room",)},
        "unjudged_fail": {"unjudged_fail": True},
        "lacking": {"lacking": ("far_ood",)},
        "missing": {"complete": False, "missing": (NotMeasured("t", "s", "it broke off"),)},
    }
    plain = Run(RunConfig(("a",)), (), {})
    for name in more.pop("run", []):
        plain = replace(plain, **told[name])
    own = Own(plain, **more)
    run = close(own, status, failed)
    assert run.exit_status == expected
    assert run.ending == expected.name.lower()
    assert own.written[-1].exit_status == expected
    assert ("settle" in own.asked) != own.recording


@pytest.mark.parametrize("lost", [[], ["ece"]])
@pytest.mark.parametrize("recording", [True, False])
def test_a_recording_says_what_it_recorded_and_what_that_had_missed(
    lost: list[str], recording: bool
) -> None:
    own = Own(recording=recording, lost_while_recording=lost, late=lost)
    run = close(own)
    first, *rest = run.notes
    assert first == "baseline written"
    missed = "recorded although it missed 1 of the bounds of before (ece): exit code 1"
    assert rest == ([missed] if recording and lost else [])
    assert len(run.changes) == 1


@pytest.mark.parametrize(
    ("trouble", "error", "expected", "times"),
    [
        ("record", ClipRobustError("not writable"), Exit.MISTAKE, 1),
        ("record", Unavailable("no room"), Exit.ENVIRONMENT, 1),
        # What was written before tells of it, too.
        ("write", Unavailable("no room"), Exit.ENVIRONMENT, 2),
        ("write", ClipRobustError("no folder"), Exit.MISTAKE, 2),
        ("remember", Unavailable("no room"), Exit.ENVIRONMENT, 2),
        ("remember", ClipRobustError("no history"), Exit.MISTAKE, 2),
    ],
)
def test_what_cannot_be_written_is_told_by_what_can(
    trouble: str, error: ClipRobustError, expected: Exit, times: int
) -> None:
    own = Own(troubles={trouble: error})
    run = close(own)
    assert run.exit_status == expected
    told = run.troubles if isinstance(error, Unavailable) else run.mistakes
    assert told == (str(error),)
    assert len(own.written) == times
    assert (own.written[-1].exit_status, own.written[-1].ending) == (run.exit_status, run.ending)


@pytest.mark.parametrize("needed", [True, False])
def test_a_logger_out_of_reach_counts_where_it_is_required(needed: bool) -> None:
    own = Own(needs_loggers=needed, troubles={"logger": Unavailable("wandb: offline")})
    run = close(own)
    assert run.exit_status == (Exit.ENVIRONMENT if needed else Exit.PASSED)
    assert run.troubles == (("wandb: offline",) if needed else ())
    assert run.not_logged == (() if needed else ("wandb: offline",))  # told once
    assert len(own.written) == 1 + needed


def test_every_logger_out_of_reach_is_told_once() -> None:
    errors = [Unavailable("wandb: offline"), Unavailable("mlflow: gone")]
    own = Own(needs_loggers=True)

    def hand_over(run: Run) -> tuple[Run, list[Unavailable]]:
        return replace(run, not_logged=tuple(map(str, errors))), errors

    own.hand_over = hand_over  # type: ignore[method-assign]
    run = close(own)
    assert run.troubles == ("wandb: offline", "mlflow: gone")
    assert (run.not_logged, run.exit_status) == ((), Exit.ENVIRONMENT)
    assert own.written[-1].troubles == run.troubles


def test_every_report_that_cannot_be_written_is_told() -> None:
    errors: list[ClipRobustError] = [
        Unavailable("r.json: no room"),
        ClipRobustError("r.md: no folder"),
    ]
    own = Own()

    def write(run: Run) -> list[ClipRobustError]:
        own.written.append(run)
        return errors

    own.write = write  # type: ignore[method-assign]
    run = close(own)
    assert (run.troubles, run.mistakes) == (("r.json: no room",), ("r.md: no folder",))
    assert run.exit_status == Exit.MISTAKE


@pytest.mark.parametrize(
    ("options", "more", "partial", "by_id"),
    [
        ({"args": ["suites"]}, {}, False, False),
        ({"args": ["suites", "t.py::test_it"]}, {}, True, True),
        ({"keyword": "fog"}, {}, True, False),
        ({}, {"failed_last": True}, True, True),
        ({"stepwise": True}, {}, False, False),
        ({}, {"deselected": {"s": ["t"]}}, False, False),
        ({"stepwise": True}, {"deselected": {"s": ["t"]}}, True, False),
    ],
)
def test_whether_single_tests_were_picked(
    options: dict[str, Any], more: dict[str, Any], partial: bool, by_id: bool
) -> None:
    own = Own(**more)
    assert close(own, **options).partial == partial
    assert {"by_id": by_id, "loaded": True} in own.asked


@pytest.mark.parametrize(
    ("stopped", "files", "attempts", "told"),
    [
        (True, ["t.py"], {}, [closing.NOT_KNOWN]),
        (False, ["t.py"], {}, []),
        (True, [], {}, []),
        (True, ["t.py"], {"t": 1}, []),
    ],
)
def test_an_error_that_ended_the_collection_leaves_tests_unknown(
    stopped: bool, files: list[str], attempts: dict[str, int], told: list[str]
) -> None:
    own = Own(not_collected=files, attempts=attempts)
    close(own, Exit.INTERRUPTED if stopped else Exit.REGRESSION)
    assert own.remarks == told


@pytest.mark.parametrize("evaluated", [True, False])
def test_a_threshold_file_that_broke_meanwhile_is_noted(evaluated: bool) -> None:
    own = Own(evaluated=evaluated, troubles={"unjudged": ClipRobustError("line 3")})
    assert close(own).unjudged == Unjudged()
    assert own.noted == (["line 3"] if evaluated else [])


@pytest.mark.parametrize(
    ("error", "broken", "expected", "ending"),
    [
        (ClipRobustError("wrong"), False, Exit.MISTAKE, "mistake"),
        (ClipRobustError("wrong"), True, Exit.MISTAKE, "mistake"),
        (Unavailable("no hub"), False, Exit.ENVIRONMENT, "environment"),
    ],
)
def test_a_run_that_did_not_begin_has_a_report(
    error: ClipRobustError, broken: bool, expected: Exit, ending: str
) -> None:
    own: Any = Own(troubles={"unjudged": ClipRobustError("line 3")} if broken else {})
    run = closing.refuse(own, error)
    assert (run.exit_status, run.ending, run.complete) == (expected, ending, False)
    assert run.unjudged.other_models == (0 if broken else 7)
    assert [*run.mistakes, *run.troubles] == [str(error)]
    assert own.written == [run]
    assert {"loaded": False} in own.asked


def test_an_exit_code_chosen_after_ours_is_written_anew() -> None:
    own: Any = Own()
    for status, ending in ((42, "other"), (getattr(pytest.ExitCode, "MAX_WARNINGS_ERROR", 43), "")):
        run = closing.overruled(own, own.plain, int(status))
        warned = ending or ("other" if status == 43 else "too many warnings")
        assert (run.exit_status, run.ending) == (status, warned)
        assert own.written[-1] == run


@pytest.mark.parametrize(("status", "whole"), [(Exit.PASSED, True), (Exit.NO_TESTS, False)])
def test_a_run_that_evaluated_nothing_leaves_nothing(status: Exit, whole: bool) -> None:
    own: Any = Own(abandon=lambda: own.asked.append("abandon"))
    run = closing.abandon(own, int(status))
    assert own.asked == ["abandon"]
    assert (run.complete, run.exit_status, own.written) == (whole, status, [])
    assert run.ending == status.name.lower().replace("_", " ")


def test_too_many_undecided_bounds_are_not_green() -> None:
    """The policy's share of undecided figures counts, but not of a recording."""
    one = answered(answers())
    verdict = replace(judge(one, None, Policy()), status="inconclusive")
    undecided = Run(RunConfig(("a",)), (Record(one, verdict, "t"),), {})
    for recording, policy, expected in (
        (False, Policy(inconclusive_share=0.1), Exit.INCONCLUSIVE),
        (True, Policy(inconclusive_share=0.1), Exit.PASSED),
        (False, Policy(inconclusive_share=1.0), Exit.PASSED),
    ):
        own = Own(undecided, recording=recording)
        own.unjudged = lambda policy=policy, **how: Unjudged(policy=policy)  # type: ignore[method-assign]
        assert close(own).exit_status == expected


def test_a_run_without_a_bound_is_not_green_where_the_policy_wants_one() -> None:
    for wanted in (True, False):
        own = Own()
        policy = Policy(require_bound=wanted)
        own.unjudged = lambda policy=policy, **how: Unjudged(policy=policy)  # type: ignore[method-assign]
        assert close(own).exit_status == (Exit.INCONCLUSIVE if wanted else Exit.PASSED)

"""What a session looks at before the first test, what it takes over from others, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gating_helpers import answered, answers, baseline_of

from pytest_cliprobust.datasets.skipping import Skipped
from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.gating.baseline import Provenance
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.thresholds import ThresholdFile
from pytest_cliprobust.gating.unjudged import Unjudged
from pytest_cliprobust.gating.verdict import judge
from pytest_cliprobust.plugin import session as module
from pytest_cliprobust.plugin.session import Session
from pytest_cliprobust.results.data import DataSummary
from pytest_cliprobust.results.record import Record

pytestmark = pytest.mark.smoke  # none of them starts a session

Make = Callable[..., Session]

#: What the process that reports looks at, in this order.
LOOKED = ["writing", "loggers", "required", "load a", "load b", "compared", "check a", "check b"]


class Loaded:
    """An evaluation that only says what it was asked for."""

    def __init__(self, name: str, asked: list[str]) -> None:
        self.name, self.asked = name, asked
        self.provider = SimpleNamespace(check_paths=lambda: asked.append("paths"))
        self.encoder = SimpleNamespace(notes=[f"note of {name}"])
        self.skipped: dict[str, Skipped] = {}
        self.phrases = ("an ant", "a cat")

    def dataset(self, role: str) -> None:
        self.asked.append(role)

    def check(self) -> None:
        self.asked.append(f"check {self.name}")


@pytest.fixture
def asked() -> list[str]:
    """What sessions looked at, in order."""
    return []


@pytest.fixture
def make(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, asked: list[str]) -> Make:
    """Return a session of two models that loads nothing."""

    def evaluation(self: Session, model: str) -> Any:
        if model not in self._evaluations:
            asked.append(f"load {model}")
            self._evaluations[model] = Loaded(model, asked)  # type: ignore[assignment]
        return self._evaluations[model]

    monkeypatch.setattr(Session, "evaluation", evaluation)
    for name in ("writing", "loggers", "required", "compared"):
        monkeypatch.setattr(module, f"check_{name}", lambda *given, name=name: asked.append(name))

    def made(*options: str, worker: bool = False, reports_for_workers: bool = False) -> Session:
        models = () if "in ini" in options else ("--clip-model=a", "--clip-model=b")
        if not models:
            pytester.makeini("[pytest]\nclip_model =\n    a\n    b\n")
        config = pytester.parseconfig(*models, *(o for o in options if o != "in ini"))
        if worker:
            config.workerinput = {}  # type: ignore[attr-defined]
        if reports_for_workers:
            config.pluginmanager.register(object(), "dsession")
        found = Session(config)
        vars(found)["thresholds"] = ThresholdFile()
        vars(found)["baseline"] = None
        return found

    return made


def record_of(model: str = "a", **more: Any) -> Record:
    one = answered(answers(), model=model)
    return Record(one, judge(one, None, Policy()), "test_it", **more)


# --- At the start ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "process", "looked"),
    [
        ([], {}, LOOKED),
        # The process that reports has looked before its workers where the command line names models.
        ([], {"worker": True}, LOOKED[2:]),
        (["in ini"], {"worker": True}, LOOKED),
        # Only workers know the suites of the user's own; they probe the models, too.
        ([], {"reports_for_workers": True}, [*LOOKED[:2], *LOOKED[3:6]]),
        (["--clip-data=clean=imagefolder:d"], {}, [*LOOKED[:5], "paths", "clean", *LOOKED[5:]]),
    ],
)
def test_who_looks_at_what_before_any_test(
    make: Make, asked: list[str], options: list[str], process: dict[str, bool], looked: list[str]
) -> None:
    make(*options, **process).start()
    assert asked == looked


def test_what_the_environment_lacks_is_told_once_the_options_are_known_to_be_right(
    make: Make, asked: list[str]
) -> None:
    with pytest.raises(Unavailable, match="no torch"):
        make().start(Unavailable("no torch"))
    assert asked == LOOKED[:2]


@pytest.mark.parametrize(
    ("options", "threshold", "history"),
    [
        ([], None, None),
        (["--clip-record"], "thresholds.toml", None),
        (["--clip-record", "--clip-thresholds=mine.toml"], "mine.toml", None),
        (["--clip-history=runs.db"], None, "runs.db"),
    ],
)
def test_only_files_that_will_be_written_are_tried(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    threshold: str | None,
    history: str | None,
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(module, "check_writing", lambda *given: seen.append(given))
    make("--clip-report=r.json", *options).start()
    ((reports, *others),) = seen
    assert [path.name for path in reports] == ["r.json"]
    assert [path and Path(path).name for path in others] == [threshold, history]


@pytest.mark.parametrize("option", ["--clip-figures=accuracy/*", "--clip-because=we know"])
def test_what_only_recording_reads_is_refused_without_it(make: Make, option: str) -> None:
    with pytest.raises(ClipRobustError, match="goes with --clip-record"):
        make(option).start()
    make(option, "--clip-record").start()


def test_a_twin_is_not_compared_across_workers(make: Make) -> None:
    twin = "--clip-against=b"
    with pytest.raises(ClipRobustError, match="needs both models in one process"):
        make(twin, reports_for_workers=True).start()
    make(twin).start()


# --- While tests run -------------------------------------------------------------------------------


def report_of(**more: Any) -> Any:
    """Return the report of a test that ended well, the last of its three."""
    plain = {"nodeid": "t.py::test_it", "when": "teardown", "outcome": "passed", "failed": False}
    return SimpleNamespace(**{**plain, "skipped": False, "user_properties": [], **more})


def test_a_worker_tells_what_it_was_given_with_its_first_test(make: Make) -> None:
    worker, session = make(worker=True), make(reports_for_workers=True)
    worker.ledger.plan({"t.py::test_it": "one", "t.py::test_other": "one"})
    worker.deselected = {"one": ["t.py::test_left"]}
    worker.failed_last = True
    worker.collected = 7
    session.take(report_of(clip_plan=worker.planned()))
    assert session.ledger.planned == worker.ledger.planned
    assert session.deselected == worker.deselected
    assert session.failed_last
    assert session._judged_as == worker.family
    # It stays known when another worker says otherwise.
    session.take(report_of(clip_plan={**worker.planned(), "failed_last": False}))
    assert session.failed_last


def test_a_journal_without_room_does_not_end_the_run(make: Make) -> None:
    session = make()
    for error in (Unavailable("no room"), ClipRobustError("no folder")):

        def add(records: object, error: ClipRobustError = error) -> None:
            raise error

        session.journal = SimpleNamespace(add=add)  # type: ignore[assignment]
        session.take(report_of(clip_records=[record_of()]))
    assert (session.troubles, session.mistakes) == (["no room"], ["no folder"])
    assert len(session.records) == 1


def test_nothing_is_recorded_where_too_many_samples_cannot_be_read(make: Make) -> None:
    session = make("--clip-record")
    loaded: Any = session.evaluation("a")
    loaded.skipped = {"many": Skipped("many", 10, (("1.png", "cut"),))}
    session.take(report_of(clip_records=[record_of()]))
    assert session.record() == ()
    assert session.recorded == ["nothing recorded: too many samples cannot be read"]


# --- At the end ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "loaded", "asked_of", "waives"),
    [
        ([], True, False, True),
        (["--clip-data=clean=imagefolder:d"], True, True, True),
        (["--clip-data=clean=imagefolder:d"], False, False, True),
        (["--clip-record"], True, False, False),
        (["--clip-plant=noise:0.5"], True, False, False),
    ],
)
def test_what_bounds_are_held_against_at_the_end(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    loaded: bool,
    asked_of: bool,
    waives: bool,
) -> None:
    """The data is asked where it may be another's; waivers are looked at where they count."""
    seen: dict[str, Any] = {}

    def found(thresholds: ThresholdFile, **about: Any) -> Unjudged:
        seen.update(about)
        return Unjudged()

    def elsewhere(config: object, asked: object) -> dict[str, Any]:
        return {"of": asked}

    monkeypatch.setattr(module, "find_unjudged", found)
    monkeypatch.setattr(module, "find_stale", lambda *given, **about: [("error", "gone")])
    monkeypatch.setattr(module, "names_elsewhere", elsewhere)
    session = make(*options)
    assert session.unjudged(loaded=loaded) == Unjudged(policy=session.thresholds.policy)
    assert seen == {}  # no suite was run, and no bound waits for any
    session.ledger.plan({"a/test_cut.py::test_it": "cut"})
    session.ledger.not_collected.append("a/test_gone.py")
    session.take(report_of(clip_suite="one", clip_records=[record_of(also_used=("t.toml:9",))]))
    session.deselected = {"one": ["t.py::test_left"]}
    told = session.unjudged(loaded=loaded, by_id=True)
    assert (seen["of"] is not None) == asked_of
    assert told.stale == ([("error", "gone")] if waives else [])
    assert seen["suites_run"] == {"one", "cut", "gone"}
    assert seen["used"] == ["t.toml:9"]
    assert len(seen["measured"]) == 1
    chosen = seen["chosen"]
    assert chosen.cut == {"cut": ["a/test_cut.py::test_it"], "gone": ["a/test_gone.py"]}
    assert (set(chosen.by_id), chosen.deselected) == (seen["suites_run"], session.deselected)
    session.unjudged(loaded=loaded)
    assert seen["chosen"].by_id == ()


def test_a_run_is_whole_once_all_of_it_ended(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    session = make()
    monkeypatch.setattr(Session, "known_data", lambda self: DataSummary())
    made = Provenance(profile="quick")
    monkeypatch.setattr(Session, "known_provenance", lambda self: made)
    session.ledger.plan({"t.py::test_it": "one"})
    begun = session.run(Unjudged(), ended=True)
    assert (begun.complete, begun.planned, len(begun.missing)) == (False, 1, 1)
    assert begun.provenance is None  # of no figure
    session.take(report_of(clip_suite="one", clip_records=[record_of("b"), record_of("a")]))
    whole = session.run(Unjudged(), ended=True)
    assert (whole.complete, whole.missing, whole.provenance) == (True, (), made)
    assert [one.model for one in whole.records] == ["a", "b"]
    assert not session.run(Unjudged(), ended=False).complete
    assert session.run(Unjudged(), ended=True, partial=True).partial
    session.ledger.not_collected.append("test_gone.py")
    assert not session.run(Unjudged(), ended=True).complete


@pytest.mark.parametrize(
    ("options", "records", "drawn"),
    [
        (["--clip-report=r.html"], 1, True),
        (["--clip-report=r.html"], 0, False),
        (["--clip-report=r.json"], 1, False),
        (["--clip-report=r.json", "--clip-report=r.html"], 1, True),
        (["--clip-report=r.html", "--clip-against=b"], 1, True),
    ],
)
def test_the_earlier_run_is_read_anew_where_a_report_draws_it(
    make: Make, monkeypatch: pytest.MonkeyPatch, options: list[str], records: int, drawn: bool
) -> None:
    earlier = baseline_of(answered(answers(), model="b"))
    monkeypatch.setattr(module, "chosen_baseline", lambda *given: earlier)
    session = make(*options)
    vars(session)["provenance"] = None
    told = [record_of("b"), record_of("a")] if records else []
    session.take(report_of(clip_suite="one", clip_records=told))
    found = session._known_baseline()
    assert (found is not None) == drawn
    if "--clip-against=b" in options:
        assert found is not None
        assert (found.within, list(found.models)) == ("b", ["b"])
    elif drawn:
        assert found is earlier

        def gone(*given: object) -> None:
            raise ClipRobustError("it is gone")

        monkeypatch.setattr(module, "chosen_baseline", gone)
        assert session._known_baseline() is None


def test_where_a_run_was_handed_over_to_is_told_and_what_kept_it_from_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hand_over(run: object, *given: object) -> list[object]:
        return ["at mlflow, run 7", Unavailable("wandb: offline")]

    monkeypatch.setattr(module, "hand_over", hand_over)
    monkeypatch.setattr(Session, "known_data", lambda self: DataSummary())
    session = make()
    told, errors = session.hand_over(session.run(Unjudged(), ended=True))
    assert told.logged == ("at mlflow, run 7",)
    assert told.not_logged == ("wandb: offline",)
    assert [str(error) for error in errors] == ["wandb: offline"]

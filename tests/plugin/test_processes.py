"""What several processes did, as one: sums, the largest part, and what each of them knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gating_helpers import condition, gap_rule, measure
from helpers import keys_of

from pytest_cliprobust.datasets.skipping import Skipped
from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.files import sha256_of
from pytest_cliprobust.gating.baseline import Provenance, bare_key
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.thresholds import ThresholdFile
from pytest_cliprobust.gating.unjudged import Unjudged
from pytest_cliprobust.gating.verdict import judge
from pytest_cliprobust.plugin import processes
from pytest_cliprobust.plugin import session as sessions
from pytest_cliprobust.plugin.ledger import Attempt, Ledger
from pytest_cliprobust.plugin.session import Session, by_suite
from pytest_cliprobust.properties.accuracy import accuracy_figure
from pytest_cliprobust.reporting import files
from pytest_cliprobust.results.record import Record
from pytest_cliprobust.results.run import ModelSummary, NotMeasured

MINE = ModelSummary(
    *("a", "ViT-B-32", "openai", "d1"), ("a note",), {}, "cpu", "float32", 100, 20, None, 3
)


def told(*models: ModelSummary, **more: Any) -> dict[str, Any]:
    """Return what a worker says at its end, as it comes over."""
    return {"models": [model.as_dict() for model in models], **more}


def test_the_work_of_two_processes_adds_up() -> None:
    theirs = replace(MINE, encoded=7, cached=50, probed=10, noise=(0.01, 0.2))
    other = replace(MINE, name="b", encoded=1)
    names = ("c", "b", "a")
    found = processes.joined_models({"a": MINE}, [told(theirs, other), {}, told(theirs)], names)
    assert list(found) == ["b", "a"]
    both = found["a"]
    assert (both.encoded, both.cached, both.probed, both.noise) == (114, 120, 23, (0.01, 0.2))
    assert found["b"].as_dict() == other.as_dict()
    # Whoever has judged knows the noise; a process that has not does not take it away.
    known = replace(MINE, noise=(0.5, 0.5))
    assert processes.joined_models({"a": known}, [told(MINE)], names)["a"].noise == (0.5, 0.5)
    assert processes.joined_models({}, [], names) == {}


def test_of_a_data_set_that_several_read_the_largest_part_is_told() -> None:
    few, many, other = Skipped("x", 10, (("i", "why"),)), Skipped("x", 20, ()), Skipped("b", 3, ())
    data = [{"skipped": [few.as_dict(), other.as_dict()]}, {}]
    assert processes.joined_skipped([many], data) == (other, many)
    assert processes.joined_skipped([few], [{"skipped": [many.as_dict()]}]) == (many,)


def test_noise_is_told_where_it_is_more_than_last_digits() -> None:
    noise = {"a": (processes.SHOWN, 9.0), "b": (2.04e-4, 0.0123)}
    (note,) = processes.noise_notes(noise)
    assert note.startswith(
        "numerical noise of b: 0.0002 of a share or probability, 0.012 nats (the"
    )


def test_files_called_alike_go_by_their_folders(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a/w.pt", "b/w.pt", "b/v.pt")]
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * number)
    found = processes.weights_of([*paths, tmp_path / "gone.pt"])
    names = ("a/w.pt", "b/w.pt", "v.pt")
    assert found == {n: sha256_of(p) for n, p in zip(names, paths, strict=True)}


def test_what_a_process_did_with_a_model() -> None:
    info = SimpleNamespace(
        architecture="ViT-B-32", pretrained="openai", digest="d1", notes=("a note",), tags={}
    )
    info.weights = ()
    encoder = SimpleNamespace(precision="float32", forwarded=100, cached=20, probed=3)
    evaluation: Any = SimpleNamespace(
        target=SimpleNamespace(info=info, device="cpu"), encoder=encoder
    )
    assert processes.summary_of("a", evaluation, None) == MINE
    assert processes.summary_of("a", evaluation, (0.1, 0.2)).noise == (0.1, 0.2)


# --- The session of the process that reports -------------------------------------------------------


def session(**own: Any) -> Session:
    """Return a session that has not begun, of two models that it has not loaded."""
    made = Session.__new__(Session)
    empty: dict[str, Any] = {
        "config": RunConfig(("a", "b")),
        "ledger": Ledger(),
        "needed": False,
        "internal_error": False,
        "collected": 0,
        "deselected": {},
        "failed_last": False,
        "pytest_config": SimpleNamespace(option=SimpleNamespace(verbose=0, collectonly=False)),
    }
    lists = ("mistakes", "troubles", "died", "remarks", "_told")
    made.__dict__ |= empty | {name: [] for name in lists}
    made.__dict__ |= {"_evaluations": {}, "_noise": {}} | own
    return made


def test_what_workers_say_is_kept() -> None:
    own = session(mistakes=["one"], collected=5)
    nothing: dict[str, Any] = {"mistakes": [], "collected": 2}
    own.listen(nothing)
    assert (own.mistakes, own.troubles, own.collected, own.failed_last) == (["one"], [], 5, False)
    own.listen(
        {
            "mistakes": ["two"],
            "troubles": ["no hub"],
            "collected": 9,
            "deselected": {"ood": ["t"]},
            "failed_last": True,
            "notes": ["a note", "a note", "another"],
            "compared": ["held against"],
            **told(MINE),
            "skipped": [Skipped("x", 10, (("i", "why"),)).as_dict()],
            "provenance": None,
            "data": {"roles": {"clean": ["mine"]}, "templates": {}, "own": True},
        }
    )
    own.listen(nothing)
    assert (own.mistakes, own.troubles, own.collected) == (["one", "two"], ["no hub"], 9)
    assert (own.deselected, own.failed_last) == ({"ood": ["t"]}, True)
    assert own.models() == {"a": MINE}
    assert own.notes() == ("a note", "another", "held against")
    assert own.known_provenance() is None
    assert own.known_data().roles == {"clean": ("mine",)}
    # One of ten cannot be read: more than may be left out.
    (mistake,) = own._mistakes()[2:]
    assert mistake.startswith("1 of 10 samples of x cannot be read, 10%")


def test_what_is_noted_once_and_where_the_header_was_printed() -> None:
    encoder = SimpleNamespace(notes=["slow"])
    evaluations = {"a": SimpleNamespace(encoder=encoder), "b": SimpleNamespace(encoder=encoder)}
    own = session(
        remarks=["ended early"],
        died=["gw1", "gw4"],
        _evaluations=evaluations,
        _noise={"a": (0.01, 0.0), "b": (0.0, 0.0)},
        _told=[{"compared": ["held against"]}],
    )
    remark, note, noise, *died = own.notes()
    assert (remark, note) == ("ended early", "slow")
    assert noise.startswith("numerical noise of a: 0.01")
    assert died == [
        f"worker {name} died: how many images it encoded is not known" for name in ("gw1", "gw4")
    ]
    own.pytest_config.option.verbose = -1
    assert own.notes()[-1] == "held against"


def test_the_header_tells_of_an_earlier_run_that_did_not_finish() -> None:
    journal = SimpleNamespace(notes=["an earlier run did not finish", "its features are there"])
    for kept in (journal, None):
        own = session(
            journal=kept, thresholds=ThresholdFile(policy=Policy()), threshold_path=Path("t.toml")
        )
        lines = "\n".join(own.header())
        assert all((note in lines) is (kept is not None) for note in journal.notes)
        assert "t.toml" in lines


def test_a_model_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(config: RunConfig, model: str, *_: object) -> str:
        loaded.append(model)
        return f"evaluation of {model}"

    monkeypatch.setattr(sessions, "Evaluation", load)
    monkeypatch.setattr(sessions, "tell_progress_to", lambda progress: None)
    own = session(progress=SimpleNamespace(tell=None))
    found = [own.evaluation(name) for name in ("a", "b", "a", "b")]
    assert found == ["evaluation of a", "evaluation of b"] * 2  # type: ignore[comparison-overlap]
    assert loaded == ["a", "b"]


def test_the_journal_lies_beside_the_first_report(tmp_path: Path) -> None:
    reports = [tmp_path / "r.json", tmp_path / "s.html"]
    for given, worker, kept in ((reports, False, True), ([], False, False), (reports, True, False)):
        own = session(reports=given, journal=None, is_worker=worker)
        own.open_journal()
        assert (own.journal is not None) is kept
        own.open_journal()  # opened once
        assert [path.name for path in tmp_path.iterdir()] == ["r.json.unfinished"] * kept
        own.abandon()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["mistakes", "troubles", "died", "remarks"])
def test_what_a_report_would_tell(what: str) -> None:
    own = session()
    assert not own.has_news
    own.__dict__[what].append("something")
    assert own.has_news
    assert not own.evaluated
    assert session(needed=True).has_news
    assert session(internal_error=True).has_news
    broken = session()
    broken.ledger.not_collected.append("test_x.py")
    assert broken.has_news


def test_an_error_that_did_not_end_the_run_is_a_mistake_or_a_trouble() -> None:
    own = session()
    own.note(ClipRobustError("a slip"))
    own.note(Unavailable("no room"))
    assert (own.mistakes, own.troubles) == (["a slip"], ["no room"])


def test_losses_that_a_recording_would_hide() -> None:
    lost, kept = measure("auroc", 0.5, half=0.01), measure("auroc", 0.99, half=0.001)
    rule = gap_rule(min=0.9)
    records = [Record(one, judge(one, rule, Policy()), "t") for one in (lost, kept)]
    unknown = judge(measure("auroc", float("nan")), rule, Policy())
    assert (unknown.status, unknown.missed_by) == ("fail", None)
    records.append(Record(measure("auroc", 0.5, perturbation="snow"), unknown, "t"))
    own = session()
    own.ledger._attempts["t"] = Attempt("mine", tuple(records))
    assert own.lost_while_recording == [lost.key]


def test_bounds_that_wait_for_what_the_environment_lacks() -> None:
    own = session()
    for suite in ("view", "ood"):
        attempt = Attempt(suite, skipped="no encoder", lacking=True)
        own.ledger._attempts[suite] = attempt
    # Skipped for want of data, or not at all.
    own.ledger._attempts["data"] = Attempt("ood", skipped="needs far_ood", lacking=False)
    own.ledger._attempts["ran"] = Attempt("ood", lacking=True)
    rule: Any = SimpleNamespace(selectors={"suite": ("oo*",)})
    found = Unjudged(policy=Policy(), skipped=[rule])
    assert own._lacked(found) == ["ood: no encoder"]
    # Whichever of the rules waits for a suite, all of its tests are told of, each suite once.
    none: Any = SimpleNamespace(selectors={"suite": ("x", "y")})
    every: Any = SimpleNamespace(selectors={})
    for rules in ([none, rule], [rule, none], [rule, rule]):
        assert own._lacked(replace(found, skipped=rules)) == ["ood: no encoder"]
    assert own._lacked(replace(found, skipped=[none])) == []
    assert own._lacked(replace(found, skipped=[none, every])) == [
        *("view: no encoder", "ood: no encoder"),
    ]
    assert own._lacked(Unjudged(policy=Policy(skipped="warn"), skipped=[rule])) == []
    assert own._lacked(Unjudged(policy=Policy())) == []


def test_tests_by_suite() -> None:
    entries = [NotMeasured(test, suite, "why") for test, suite in ("ax", "by", "cx")]
    assert by_suite(entries) == {"x": ["a", "c"], "y": ["b"]}


class Journal:
    """A journal that keeps what it is told."""

    def __init__(self) -> None:
        self.added: list[str] = []
        self.closed: list[list[str]] = []
        self.notes: list[str] = []

    def add(self, records: Any) -> None:
        """Keep the records' ids of samples."""
        self.added += [str(r.figure.outcomes and r.figure.outcomes.keys.ids[0]) for r in records]

    def leave(self) -> None:
        """Nothing holds a lock."""

    def close(self, keys: Any) -> None:
        """Keep what was written elsewhere."""
        self.closed.append(list(keys))


def recorded(*names: str, model: str = "a", value: float = 0.5) -> list[Record]:
    """Return records of these perturbations, without a bound."""
    made = [measure("auroc", value, perturbation=name, model=model) for name in names]
    return [Record(one, judge(one, None, Policy()), "t") for one in made]


def holding(records: list[Record], **own: Any) -> Session:
    """Return a session that has measured."""
    made = session(named=True, journal=None, **own)
    made.ledger._attempts["t"] = Attempt("mine", tuple(records))
    return made


def test_what_others_are_held_against_are_the_other_models_figures() -> None:
    records = [*recorded("fog", "snow", model="b"), *recorded("fog", model="a")]
    own = holding(records, config=RunConfig(("b", "a"), against="b"))
    own.__dict__ |= {"provenance": Provenance(), "baseline": None}
    assert own.baseline_of("b") is None
    found = own.baseline_of("a")
    assert found is not None
    assert {key for key, _ in found.figures} == {bare_key(r.measurement) for r in records[:2]}
    assert {model for _, model in found.figures} == {"b"}
    assert found.within == "b"
    earlier: Any = object()
    own.__dict__ |= {"config": RunConfig(("a",)), "baseline": earlier}
    assert own.baseline_of("a") is earlier


@pytest.mark.parametrize("named", [True, False])
def test_the_journal_has_what_may_be_named(named: bool) -> None:
    keys = keys_of(10)
    figure = accuracy_figure(np.ones(10, dtype=bool), bootstrap=Bootstrap(keys=keys))
    measured = Measurement("mine", "a", figure.measured_on(condition()))
    records = [Record(measured, judge(measured, None, Policy()), "t")] * 2
    journal = Journal()
    own = session(named=named, journal=journal)
    own.ledger.take = lambda report: records  # type: ignore[method-assign]
    plan = {"tests": {}, "deselected": {"ood": ["t"]}, "failed_last": True, "family": {}}
    own.take(SimpleNamespace(clip_plan=plan))  # type: ignore[arg-type]
    assert len(journal.added) == 2
    assert (set(journal.added) == {keys.ids[0]}) == named
    assert (own.deselected, own.failed_last) == ({"ood": ["t"]}, True)


def test_a_journal_goes_once_what_it_holds_is_in_the_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def write(path: Path, run: Any) -> None:
        if path.name == "bad.json":
            raise Unavailable("no room")
        written.append(path)

    monkeypatch.setattr(files, "write", write)
    run: Any = SimpleNamespace(records=recorded("fog"))
    own = holding([], reports=[tmp_path / "bad.json", tmp_path / "a.json"])
    own.journal = journal = Journal()  # type: ignore[assignment]
    assert list(map(str, own.write(run))) == ["no room"]
    assert (written, journal.closed) == ([tmp_path / "a.json"], [])
    own.reports = [tmp_path / "a.json"]
    assert own.write(run) == []
    assert journal.closed == [[run.records[0].key]]
    # One that measured nothing leaves none; figures of an earlier run stay.
    own.abandon()
    assert journal.closed[1:] == [[]]
    holding(recorded("fog"), reports=[]).abandon()
    measured = holding(recorded("fog"))
    measured.journal = kept = Journal()  # type: ignore[assignment]
    measured.abandon()
    assert kept.closed == []


def test_a_journal_is_kept_by_the_process_that_reports(tmp_path: Path) -> None:
    for reports, worker in (([], False), ([tmp_path / "r.json"], True)):
        own = session(reports=reports, is_worker=worker, journal=None)
        own.open_journal()
        assert own.journal is None
    own = session(reports=[tmp_path / "r.json"], is_worker=False, journal=None)
    own.open_journal()
    first = own.journal
    assert first is not None
    own.open_journal()
    assert own.journal is first
    own.abandon()


def test_what_cannot_be_read_is_of_all_models_and_data() -> None:
    few, many = Skipped("x", 1000, (("i", "why"),)), Skipped("y", 10, (("i", "why"),))
    most = Skipped("z", 4, (("i", "why"),))
    evaluations = {
        name: SimpleNamespace(skipped={one.data: one for one in own})
        for name, own in (("a", [few, many]), ("b", [most]))
    }
    own = session(_evaluations=evaluations, mistakes=["a slip", "a slip"])
    assert own.skipped() == (few, many, most)
    slip, *read = own._mistakes()
    assert slip == "a slip"
    assert [line.split(" cannot")[0] for line in read] == [
        "1 of 10 samples of y",
        "1 of 4 samples of z",
    ]


def test_what_is_required_is_missed_only_by_a_run() -> None:
    own = holding([], config=RunConfig(("a",), required=("nowhere",)))
    assert own._lacking() != ()
    own.pytest_config.option.collectonly = True
    assert own._lacking() == ()
    assert holding([])._lacking() == ()


def test_a_planted_loss_is_handed_over_to_nobody() -> None:
    own = session(config=RunConfig(("a",), plant="x=1"), loggers=["never asked"], recording=False)
    run: Any = object()
    assert own.hand_over(run) == (run, [])
    assert not own.waives
    assert [session(recording=r).waives for r in (True, False)] == [False, True]


def test_all_bounds_are_judged_together_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = gap_rule(min=0.9)
    lost, near = measure("auroc", 0.5, half=0.01), measure("auroc", 0.89, perturbation="fog")
    records = [Record(one, judge(one, rule, Policy()), "t") for one in (lost, near)]
    failed = replace(records[1].verdict, outcome="fail", status="fail")
    own = holding(records, recording=True)
    own.__dict__ |= {"thresholds": SimpleNamespace(policy=Policy()), "family": object()}
    alone = SimpleNamespace(hasplugin=lambda name: False)
    own.__dict__ |= {"pytest_config": SimpleNamespace(pluginmanager=alone), "is_worker": False}
    asked: list[Any] = []

    def settled(judged: Any, policy: Policy, family: Any) -> list[Any]:
        asked.append(family)
        return [records[0].verdict, failed]

    monkeypatch.setattr(sessions, "settled", settled)
    assert own.settle() == [near.key]
    assert asked == [own.family]
    assert [record.verdict for record in own.records] == [records[0].verdict, failed]

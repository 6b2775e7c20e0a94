"""The gate without a session: what fails a test, with which words, and what is kept of a figure."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gating_helpers import baseline_of, condition

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.plugin import gate
from pytest_cliprobust.plugin.state import SESSION, UNDER_TEST

BOUND = """schema = 1
[[threshold]]
suite = "mine"
metric = "accuracy"
min = 0.5
because = "any model will do"

[[threshold]]
metric = "accuracy_drop"
max = 0.2
"""
Failed = pytest.fail.Exception


def figure(value: float, metric: str = "accuracy", half: float = 0.01) -> Figure:
    made = Figure(metric, value, value - half, value + half, 1000)
    return made.measured_on(condition())


class Case:
    """A gate of one test, in a session that has begun."""

    def __init__(self, text: str = BOUND, *, model: str = "m", **session: Any) -> None:
        told: dict[str, Any] = {
            "config": RunConfig(("m", "base")),
            "thresholds": parse_thresholds(text),
            "recording": False,
            "waives": False,
            "named": True,
            "classes": lambda model: 10,
            "noise_floor": lambda model, metric: 0.001,
            "baseline_of": lambda model: None,
            "no_baseline": "there is no baseline",
            "family": SimpleNamespace(error_rate=lambda *_: 0.01),
        }
        made: Any = SimpleNamespace(**told | session)
        self.session = made
        self.options: dict[str, Any] = {"--clip-model": ["m=ViT-B-32"], "--clip-seed": "3"}
        config = SimpleNamespace(
            getoption=self.options.get,
            getini=lambda name: "",
            stash={SESSION: self.session},
            rootpath=Path("root"),
        )
        item: Any = SimpleNamespace(
            path=Path("suites/test_mine.py"),
            nodeid="suites/test_mine.py::test_it[m-fog]",
            config=config,
            user_properties=[],
            get_closest_marker=lambda name: None,
        )
        self.item = item
        self.gate = gate.Gate(item, made, model)

    def failure(self) -> str:
        """Return what the test fails with."""
        with pytest.raises(Failed) as caught:
            self.gate.finish()
        assert self.gate.missed
        assert caught.value.pytrace is False
        return str(caught.value)


def test_all_bounds_are_judged_before_the_test_fails() -> None:
    case = Case()
    case.gate({"a": figure(0.3), "b": [figure(0.6), figure(0.9, "accuracy_drop")]})
    first, second = case.failure().split("\n\n")
    assert first.startswith("mine: accuracy of m on clean breaks min 0.5")
    assert second.startswith("mine: accuracy_drop of m on clean breaks max 0.2")
    assert "--clip-seed=3" in first
    keys = [record.key for record in case.gate.records]
    assert [name for name, _ in case.item.user_properties] == keys
    assert [record.verdict.failed for record in case.gate.records] == [True, False, True]
    assert {record.test for record in case.gate.records} == {case.item.nodeid}
    assert [record.noise_floor for record in case.gate.records] == [0.001] * 3


def test_a_test_that_measures_nothing_fails_and_one_that_keeps_its_bounds_passes() -> None:
    nothing = Case()
    assert nothing.failure() == "gate was given no figure: this test measured nothing"
    kept = Case()
    kept.gate(figure(0.9))
    kept.gate.finish()
    assert not kept.gate.missed
    assert kept.gate.records[0].rule == kept.session.thresholds.rules[0].id


def test_without_a_rule_nothing_is_asked_of_the_model() -> None:
    def never(*_: Any) -> float:
        raise AssertionError

    case = Case(noise_floor=never, classes=never)
    case.gate(figure(0.1, "auroc_mcm"))
    case.gate.finish()
    (record,) = case.gate.records
    assert (record.rule, record.noise_floor, record.weak) == (None, 0.0, ())
    assert record.verdict.status == "unbounded"
    # What others are held against is measured, not judged.
    base = Case(model="base", config=RunConfig(("m", "base"), against="base"), noise_floor=never)
    base.gate(figure(0.1))
    base.gate.finish()


def test_a_recording_misses_nothing_and_asks_for_the_noise() -> None:
    case = Case(recording=True)
    case.gate(figure(0.1), figure(0.1, "auroc_mcm"))
    case.gate.finish()
    assert [record.noise_floor for record in case.gate.records] == [0.001, 0.001]
    assert [record.weak for record in case.gate.records] == [(), ()]


def test_a_limit_that_a_test_asks_for_is_a_rule_that_was_used() -> None:
    case = Case()
    assert case.gate.limit("accuracy_drop", condition()) == 0.2
    assert case.gate.limit("accuracy", condition()) is None  # its rule has no max
    assert case.gate.limit("ece", condition()) is None
    case.gate(figure(0.9))
    first, second = case.session.thresholds.rules
    assert case.gate.records[0].also_used == (second.id, first.id)


def test_what_explains_a_miss_is_asked_once_it_is_missed(tmp_path: Path) -> None:
    found: Any = SimpleNamespace(
        lines=(("seen", "fog"),), parameters={}, reproduction="see", draw=lambda path: path
    )
    for named, words in ((True, ("seen      fog", "see it    see")), (False, ("seen      fog",))):
        case = Case(named=named)
        case.options["--clip-report"] = [str(tmp_path / "report.json")]
        asked: list[bool] = []

        def explain(verdict: Any, asked: list[bool] = asked) -> Any:
            asked.append(verdict.failed)
            return found

        case.gate(figure(0.9), explain=explain)
        assert asked == []
        case.gate(figure(0.3), explain=explain)
        assert asked == [True]
        told = case.failure()
        assert all(f"  {word}" in told for word in words)
        evidence = case.gate.records[1].evidence
        assert (evidence is not None) == named == ("see it" in told)


def test_pictures_lie_beside_the_first_report_or_in_the_cache_of_pytest() -> None:
    config = Case().item.config
    assert gate.picture_folder(config) == Path("root/cliprobust-pictures")
    config.cache = SimpleNamespace(mkdir=lambda name: f"cache/{name}")
    assert gate.picture_folder(config) == Path("cache/cliprobust")
    config.getoption = {"--clip-report": ["a.json", "b.html"]}.get
    assert gate.picture_folder(config) == Path("a-pictures")


def test_the_command_that_runs_a_test_again() -> None:
    case = Case()
    again = gate.rerun_command(case.item)
    start = "pytest 'suites/test_mine.py::test_it[m-fog]' --clip-model=m=ViT-B-32"
    assert again == f"{start} --clip-seed=3"
    case.item.callspec = SimpleNamespace(params={UNDER_TEST: "m=other"})
    assert "--clip-model=m=other --clip-seed" in gate.rerun_command(case.item)
    # The other model's test must run, too.
    case.session.config = RunConfig(("m", "base"), against="base")
    assert gate.rerun_command(case.item).startswith("pytest suites/test_mine.py::test_it --clip")


GUESSED = BOUND.replace('because = "any model will do"\n', "")


def test_bounds_that_hardly_gate_are_told_but_not_of_a_recording() -> None:
    """Of ten classes and 1,000 samples guessing reaches 12% by luck."""
    lucky = Case(GUESSED.replace("0.5", "0.11"))
    lucky.gate(figure(0.9), figure(0.9))
    for record in lucky.gate.records:
        (line,) = record.weak
        assert (
            "min 0.11 of accuracy is within what guessing reaches by luck on 1,000 samples" in line
        )
    below = Case(GUESSED.replace("0.5", "0.09"))
    with pytest.raises(ClipRobustError, match="weaker than chance"):
        below.gate(figure(0.9))
    for bound in ("0.09", "0.11"):
        recording = Case(GUESSED.replace("0.5", bound), recording=True)
        recording.gate(figure(0.9))
        recording.gate.finish()
        assert recording.gate.records[0].weak == ()
    # Against what was recorded, of the model that the policy names.
    two = baseline_of(
        *(Measurement("mine", name, figure(value)) for name, value in (("m", 0.5), ("old", 0.9)))
    )
    for policy, far in (("", False), ('[policy]\nbaseline_model = "old"\n', True)):
        text = GUESSED.replace("0.5", "0.45").replace("schema = 1\n", f"schema = 1\n{policy}")
        case = Case(text, baseline_of=lambda model: two)
        case.gate(figure(0.9))
        told = "".join(case.gate.records[0].weak)
        assert ("min 0.45 of accuracy is far from the 0.9 that was recorded" in told) is far


def test_each_figure_of_a_test_is_judged_as_the_one_that_it_is() -> None:
    """How sure a loss must be depends on how many its test has judged, this one among them."""
    seen: list[tuple[str, int]] = []

    def error_rate(measurement: Measurement, policy: Any, number: int) -> float:
        seen.append((measurement.metric, number))
        return 0.01

    case = Case(family=SimpleNamespace(error_rate=error_rate))
    case.gate([figure(0.9), figure(0.1, "accuracy_drop")], figure(0.1, "ece"))
    case.gate(figure(0.9))
    assert seen == [("accuracy", 1), ("accuracy_drop", 2), ("ece", 3), ("accuracy", 4)]


def test_a_bound_that_a_waiver_excuses_fails_no_test() -> None:
    waiver = (
        '[[waiver]]\nsuite = "mine"\nmetric = "accuracy"\nreason = "r"\nowner = "o"\nexpires = {}\n'
    )
    text = BOUND + waiver.format(date.today() + timedelta(days=2))
    for waives, status in ((True, "waived"), (False, "fail")):
        case = Case(text, waives=waives)
        case.gate(figure(0.3))
        assert case.gate.records[0].verdict.status == status
        if waives:
            case.gate.finish()
        else:
            assert "breaks min 0.5" in case.failure()

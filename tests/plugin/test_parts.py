"""Small parts of the plugin, without a session: what a ledger counts, what a gate takes, options."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gating_helpers import answered, answers, condition

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.verdict import judge
from pytest_cliprobust.plugin import gate, ledger, options, waiting
from pytest_cliprobust.plugin.ledger import Ledger
from pytest_cliprobust.plugin.recorder import Recorder
from pytest_cliprobust.results.record import Evidence, Record

# --- The ledger ------------------------------------------------------------------------------------


def report(test: str, when: str, outcome: str = "passed", **more: Any) -> Any:
    told = {"nodeid": test, "when": when, "outcome": outcome, "longrepr": None, **more}
    for word in ("passed", "failed", "skipped"):
        told[word] = outcome == word
    return SimpleNamespace(**told)


def taken(*reports: Any, planned: dict[str, str] | None = None) -> Ledger:
    found = Ledger()
    found.plan(planned or {})
    for one in reports:
        found.take(one)
    return found


def test_the_suite_of_a_file() -> None:
    assert ledger.suite_of_file("suites/deep/test_ood.py::test_it[a/b]") == "ood"
    assert ledger.suite_of_file("test_view.py") == "view"
    assert ledger.suite_of_file("suites/mine.py") == "mine"


def test_what_did_not_come_to_its_end() -> None:
    a, b, c, d = (f"test_x.py::{name}" for name in "abcd")
    found = taken(
        report(a, "setup"),
        report(a, "call"),
        report(a, "teardown"),
        report(b, "setup", clip_suite="x"),
        report(d, "setup", clip_suite="y"),
        planned={a: "x", b: "x", c: "x"},
    )
    told = [(entry.test, entry.suite, entry.reason) for entry in found.missing()]
    assert told == [
        (b, "x", ledger.NOT_ENDED),
        (c, "x", ledger.NOT_BEGUN),
        (d, "y", ledger.NOT_ENDED),
    ]
    assert found.lacks_any
    assert found.suites == {"x", "y"}
    whole = taken(*(report(a, when) for when in ("setup", "call", "teardown")), planned={a: "x"})
    assert not whole.lacks_any
    assert whole.heard
    whole.take_collection(report("test_y.py", "collect", "failed"))
    whole.take_collection(report("test_y.py", "collect", "failed"))
    whole.take_collection(report("test_z.py", "collect"))
    assert whole.not_collected == ["test_y.py"]
    assert whole.lacks_any
    assert Ledger().lacks_any


def test_a_test_that_was_skipped() -> None:
    skips = {"clip_suite": "x", "longrepr": ("file", 3, "Skipped: no depth")}
    found = taken(
        report("a", "setup", "skipped", **skips, clip_lacking=True),
        report("b", "setup", "skipped", **{**skips, "longrepr": "no camera", "clip_suite": "y"}),
        report("c", "call", "skipped", **skips, wasxfail="known"),
    )
    told = [(entry.test, entry.suite, entry.reason) for entry in found.not_run()]
    assert told == [("a", "x", "no depth"), ("b", "y", "no camera")]
    assert found.lacking(["x", "y"]) == ["x: no depth"]
    assert found.lacking(["y"]) == []


def test_failures_of_the_environment_and_of_the_user() -> None:
    found = taken(
        report("a", "setup", clip_suite="x"),
        report("a", "call", "failed", clip_trouble="no hub"),
        report("a", "teardown"),
        report("b", "setup", clip_suite="y"),
        report("b", "call", "failed", clip_mistake="a name"),
        report("b", "teardown"),
        report("c", "setup", clip_suite="z"),
        report("c", "call", "failed", clip_missed=True),
        report("c", "teardown"),
    )
    assert found.troubles() == ["no hub"]
    assert found.mistakes() == ["a name"]
    assert (found.spared, found.broken) == (1, {"x", "y"})
    whys = {test: attempt.why for test, attempt in found.attempts.items()}
    assert whys == {"a": "no hub", "b": "a name", "c": ""}
    # Each test's are told, in their order.
    for test in ("d", "e"):
        found.take(report(test, "setup", clip_suite="x"))
        for when in ("call", "teardown"):
            found.take(report(test, when, "failed", clip_trouble=f"no {when}", clip_mistake=test))
    assert found.troubles() == ["no hub", *("no call", "no teardown") * 2]
    assert found.mistakes() == ["a name", "d", "d", "e", "e"]
    assert found.spared == 5
    for test in "de":
        found.take(report(test, "setup"))
    # A plugin that runs tests again: the last attempt alone counts.
    for when in ("setup", "call", "teardown"):
        found.take(report("a", when, clip_suite="x"))
    assert found.troubles() == []
    assert found.broken == {"y"}


@pytest.mark.parametrize("again", [True, False])
def test_what_a_test_measured_that_runs_again_is_no_property_yet(again: bool) -> None:
    one = answered(answers())
    record = Record(one, judge(one, None, Policy()), "a")
    properties = [(record.key, "told"), ("theirs", 1)]
    calls = [report("a", "call", "rerun" if again else "failed"), report("a", "setup")]
    last = report("a", "teardown", clip_records=[record], user_properties=properties)
    found = taken(*reversed(calls), last)
    found.forget_properties(last)
    assert last.user_properties == (properties[1:] if again else properties)


def test_a_worker_that_died() -> None:
    found = taken(
        report("test_x.py::a", "???", "failed", longrepr="worker 'gw0' crashed"),
        planned={"test_x.py::a": "x"},
    )
    assert not found.heard
    assert found.spared == 1
    (trouble,) = found.troubles()
    assert trouble.startswith("worker 'gw0' crashed: killed for want of memory")
    assert [entry.reason for entry in found.missing()] == ["worker 'gw0' crashed"]
    found.given = ("suites/test_view.py::b",)
    found.plan_all()
    assert found.planned == {"test_x.py::a": "x", "suites/test_view.py::b": "view"}


# --- The gate --------------------------------------------------------------------------------------


def test_figures_in_any_nesting() -> None:
    a, b, c = (Figure(name, 0.5, 0.4, 0.6, 10) for name in "abc")
    assert list(gate._flat([a, {"x": b, "y": [c]}, ()])) == [a, b, c]
    assert list(gate._flat(a)) == [a]
    for other in ("text", b"bytes", 0.5, [a, "text"]):
        with pytest.raises(ClipRobustError, match="gate takes figures"):
            list(gate._flat(other))


@pytest.mark.parametrize(
    ("metric", "value", "low", "high", "words"),
    [
        ("acuracy", 0.5, 0.4, 0.6, "unknown metric 'acuracy'"),
        ("accuracy", 50.0, 40.0, 60.0, "accuracy 50, outside its range, 0 to 1"),
        ("accuracy_drop", -1.1, -1.2, 0.0, "accuracy_drop -1.1, outside its range, -1 to 1"),
        ("accuracy", 0.5, 0.6, 0.4, "accuracy with an interval from 0.6 down to 0.4"),
    ],
)
def test_the_gate_refuses_a_figure_that_no_property_can_have_made(
    metric: str, value: float, low: float, high: float, words: str
) -> None:
    """Without a bound it would be reported as if it had been measured."""
    refused = gate.Gate(SimpleNamespace(), SimpleNamespace(), "m")  # type: ignore[arg-type]
    figure = Figure(metric, value, low, high, 10).measured_on(condition())
    with pytest.raises(ClipRobustError, match=words):
        refused([figure])
    assert refused.records == []


def test_a_figure_in_its_range_is_taken_whoever_made_it() -> None:
    inf, nan = float("inf"), float("nan")
    for metric, value, low, high in (
        ("accuracy", 1.0 + 1e-12, 0.9, 1.0),
        ("accuracy", nan, nan, nan),  # for the judge, who never lets it pass
        ("accuracy", 0.5, 0.5, 0.5),
        ("nll", 70.0, 3.0, inf),
        ("accuracy_drop", -1.0, -1.0, 0.4),
    ):
        gate.check_made(Figure(metric, value, low, high, 10))


def test_a_picture_is_called_as_its_figure(tmp_path: Path) -> None:
    drawn: list[Path] = []

    def draw(path: Path) -> Path:
        drawn.append(path)
        return path

    found: Any = SimpleNamespace(
        lines=(("seen", "fog"),), parameters={"strength": 0.5}, reproduction="see", draw=draw
    )
    evidence = gate.drawn(found, "s/accuracy/clean/fog_3d@3/my model:é", tmp_path)
    assert drawn == [tmp_path / "s-accuracy-clean-fog_3d@3-my-model-.png"]
    assert evidence.lines == (("seen", "fog"),)
    assert evidence.parameters == {"strength": 0.5}
    text = gate.evidence_text(Evidence((("seen", "fog"),), {}, "a command", "p.png"))
    assert text.splitlines() == [
        "  seen      fog",
        "  picture   p.png",
        "  see it    a command",
    ]


# --- Recording -------------------------------------------------------------------------------------


def test_which_figures_are_recorded(tmp_path: Path) -> None:
    made = [answered(answers(), on=w) for w in (condition("clean"), condition("clean", "fog", 3))]
    (rule,) = parse_thresholds('schema = 1\n[[threshold]]\nmetric = "accuracy"\nmin = 0.5\n').rules
    first, second = (Record(m, judge(m, None, Policy()), "t") for m in made)
    first = Record(first.measurement, first.verdict, "t", rule=rule.id)
    records = [first, second]

    def chosen(*figures: str) -> list[Record]:
        return Recorder(tmp_path / "t.toml", RunConfig(("m",)), figures=figures).chosen(records)

    assert chosen() == records
    assert chosen("gated") == [first]
    assert chosen("*fog*") == [second]
    assert chosen("*fog*", "*/clean/clean") == records
    with pytest.raises(
        ClipRobustError,
        match=r"snow\*: no figure .*; there are .*/clean/clean, .*/fog@3$",
    ):
        chosen("*fog*", "snow*")


# --- Options ---------------------------------------------------------------------------------------


def configured(**given: Any) -> Any:
    """Return a configuration that has these options, and nothing in its ini file."""
    named = {f"--clip-{name.replace('_', '-')}": value for name, value in given.items()}
    return SimpleNamespace(getoption=named.get, getini=lambda name: "")


def test_reports_are_given_several_times_or_in_one_word() -> None:
    given = ["a.json, b.html", "c.md", "a.json", ","]
    found = options.reports_of(configured(report=given))
    assert found == [Path("a.json"), Path("b.html"), Path("c.md")]
    assert options.reports_of(configured()) == []
    with pytest.raises(pytest.UsageError, match=r"--clip-report d\.txt: end the name in"):
        options.reports_of(configured(report=["a.json", "d.txt"]))


@pytest.mark.parametrize(
    ("value", "least", "expected"),
    [("1", 1, 1), ("0", 0, 0), ("auto", 1, None), (None, 1, None), ("17", 1, 17)],
)
def test_whole_numbers(value: str | None, least: int, expected: int | None) -> None:
    assert options.whole_number(configured(limit=value), "limit", least) == expected


@pytest.mark.parametrize(("value", "least"), [("0", 1), ("-1", 0), ("x", 1), ("1.5", 0)])
def test_what_is_no_whole_number(value: str, least: int) -> None:
    with pytest.raises(pytest.UsageError, match=f"a whole number from {least} on is needed"):
        options.whole_number(configured(limit=value), "limit", least)


def test_the_model_to_compare_with_comes_first_and_each_once() -> None:
    both = configured(model=["a", "b", "a"], against="b")
    assert options.models_of(both) == ["b", "a"]
    assert options.models_of(configured(model=["a", "b"])) == ["a", "b"]
    assert options.models_of(configured(against="b")) == []
    assert options.given_models(configured(model=["x=ViT-B-32", "y"])) == {
        "x": "x=ViT-B-32",
        "y": "y",
    }


def test_the_options_of_a_run(tmp_path: Path) -> None:
    """Each where it belongs; what is not given takes what the documentation says."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a {}.\nthe {}.\n")
    plain = options.run_config(configured(model=["reference"]))
    assert [source.layout for source in plain.sets] == ["embedded"]
    assert replace(plain, sets=()) == RunConfig(("reference",))
    given = options.run_config(
        configured(
            model=["new=ViT-B-32", "reference"],
            against="reference",
            templates=str(prompts),
            limit="40",
            seed="7",
            batch_size="9",
            cache_dir=str(tmp_path),
            font="mine.ttf",
            bad_data="skip",
            require=["far_ood"],
            profile="quick",
        )
    )
    assert given.models == ("reference", "new")
    assert (given.sources, given.against) == ({"new": "ViT-B-32"}, "reference")
    assert (given.profile, given.bad_data) == ("quick", "skip")
    assert given.templates == ("a {}.", "the {}.")
    assert given.templates_file.endswith("prompts.txt")
    assert (given.limit, given.seed, given.batch_size) == (40, 7, 9)
    assert (given.cache_dir, given.font) == (tmp_path, Path("mine.ttf"))
    assert given.required == ("far_ood",)
    # The least that each may be.
    least = options.run_config(configured(model=["a"], limit="1", seed="0", batch_size="1"))
    assert (least.limit, least.seed, least.batch_size) == (1, 0, 1)
    # Without a model nothing is compared.
    assert options.run_config(configured(against="b")).against is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model": ["b"], "against": "b"}, "--clip-against b: that is the model under test itself"),
        ({"model": ["a=x", "a=y"]}, "a"),
        ({"model": ["a"], "templates": "nowhere.txt"}, "nowhere.txt"),
        ({"model": ["a"], "seed": "-1"}, "--clip-seed -1: a whole number from 0 on is needed"),
        ({"model": ["a"], "limit": "0"}, "--clip-limit 0: a whole number from 1 on is needed"),
        ({"model": ["a"], "batch_size": "0"}, "--clip-batch-size 0: a whole number from 1 on"),
        ({"model": ["a"], "profile": "slow"}, "--clip-profile slow: choose one of"),
    ],
)
def test_a_slip_in_the_options_of_a_run_is_one_line(given: dict[str, Any], words: str) -> None:
    with pytest.raises(pytest.UsageError, match=words) as told:
        options.run_config(configured(**given))
    assert "\n" not in str(told.value)


def test_an_option_and_its_value_as_one_word() -> None:
    words = ["-q", "--clip-cache-dir", "here", "suites", "--clip-data", "there"]
    assert options._joined(words, [1, 4]) == [
        *("-q", "--clip-cache-dir=here", "suites", "--clip-data=there")
    ]
    assert options._joined(words, []) == words


@pytest.mark.parametrize("place", ["first", "last", "environment"])
def test_a_folder_that_pytest_takes_for_its_root(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ini file in the project would not be read where the value of an option decides the root."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder in (project / "suites", elsewhere):
        folder.mkdir(parents=True)
    for folder in (project, elsewhere):
        (folder / "pytest.ini").write_text("[pytest]\n")
    pair, rest = ["--clip-cache-dir", str(elsewhere)], [] if place == "last" else ["-q"]
    words = {"first": [*pair, *rest], "last": [*rest, *pair], "environment": rest}[place]
    monkeypatch.setenv("PYTEST_ADDOPTS", shlex.join(pair) if place == "environment" else "")
    monkeypatch.chdir(project)
    config: Any = SimpleNamespace(
        invocation_params=SimpleNamespace(args=words, dir=project),
        option=SimpleNamespace(),
        inipath=elsewhere / "pytest.ini",
        rootpath=elsewhere,
    )
    for read in (elsewhere / "pytest.ini", None):
        config.inipath = read
        with pytest.raises(pytest.UsageError) as told:
            options.require_own_root(config)
        assert str(told.value) == (
            f"--clip-cache-dir {elsewhere}: pytest takes {elsewhere} for a folder of tests here, makes "
            f"{elsewhere} its root folder and reads {read or 'no ini file'}; write "
            f"--clip-cache-dir={elsewhere}"
        )
    joined = ["--clip-cache-dir=" + str(elsewhere), *rest]
    monkeypatch.setenv("PYTEST_ADDOPTS", "")
    config.invocation_params.args = joined
    options.require_own_root(config)
    # A value that is no folder of a project changes nothing.
    config.invocation_params.args = ["--clip-cache-dir", str(project / "suites"), *rest]
    options.require_own_root(config)


# --- Suites ----------------------------------------------------------------------------------------


def test_the_tests_of_every_suite_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Item:
        """A test of a file."""

        def __init__(self, file: str, needs: bool = True) -> None:
            self.path, self.needs = Path(file), needs
            self.marks: list[str] = []

        def get_closest_marker(self, name: str) -> None:
            """Return the marker of a suite: there is none."""

        def add_marker(self, name: str) -> None:
            """Keep a marker."""
            self.marks.append(name)

    monkeypatch.setattr(waiting, "needs_model", lambda item: item.needs)
    known: list[tuple[str, str]] = []
    config: Any = SimpleNamespace(
        getini=lambda name: ["ood: detection", "slow"],
        addinivalue_line=lambda name, line: known.append((name, line)),
    )
    items: Any = [Item("test_ood.py"), Item("a/test_view.py"), Item("test_x.py", needs=False)]
    items.append(Item("b/test_new.py"))
    assert waiting.mark_suites(config, items) == [items[0], items[1], items[3]]
    assert [item.marks for item in items] == [["ood"], ["view"], [], ["new"]]
    assert sorted(known) == [
        ("markers", "new: tests of the new suite"),
        ("markers", "view: tests of the view suite"),
    ]


# --- The end ---------------------------------------------------------------------------------------

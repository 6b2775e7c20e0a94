"""What the parts of the plugin that need no session say and decide, as the record has it.

That it is right is for the other tests to show. After a change that is meant, look at what differs in
``recorded.txt`` and record anew::

    RECORD=1 python -m pytest -q tests/plugin/test_recorded_plugin.py
"""

from __future__ import annotations

import errno
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import records
from history_helpers import a_run, answers, figures

from pytest_cliprobust.datasets.providers import provider_of
from pytest_cliprobust.datasets.roles import ROLES
from pytest_cliprobust.datasets.skipping import Skipped
from pytest_cliprobust.datasets.sources import read_sources
from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.errors import ClipRobustError, NotRun, Unavailable
from pytest_cliprobust.gating.baseline import Baseline, Provenance, bare_key
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.plugin import (
    comparing,
    exits,
    fixtures,
    known,
    notices,
    processes,
    progress,
    reach,
    required,
    state,
    stopwatch,
    suites,
    waiting,
    writing,
)
from pytest_cliprobust.plugin.ledger import Ledger, suite_of_file
from pytest_cliprobust.results.run import ModelSummary, NotMeasured
from pytest_cliprobust.targets import hub

RECORD = Path(__file__).with_name("recorded.txt")


def tried(call: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Return what a call gives, or how it ends."""
    try:
        return call(*given, **named)
    except (ClipRobustError, NotRun, pytest.UsageError, pytest.skip.Exception) as error:
        return f"{type(error).__name__}: {error}"


# --- How a run ends ---------------------------------------------------------------------------------


def endings(root: Path) -> Iterator[str]:
    for status in (0, 1, 2, 3, 4, 5, 6, 7, 42):
        yield f"{status} is {exits.word(status)!r}"
        for failures in (0, 2):
            found = [
                int(exits.ending(exits.Signs(status, mistakes, failures, troubles, undecided)))
                for mistakes, troubles, undecided in itertools.product((False, True), repeat=3)
            ]
            yield f"  {failures} failures: {found}"
    full, gone = OSError(errno.ENOSPC, "No space left"), OSError(errno.ENOENT, "not there")
    full.filename = "/x/y"
    chained = RuntimeError("outer")
    chained.__cause__ = Unavailable("no hub")
    within = RuntimeError("outer")
    within.__context__ = Unavailable("no hub")
    for error in (
        *(None, Unavailable("no hub"), full, OSError(errno.EDQUOT, "Quota exceeded"), gone),
        *(MemoryError("x" * 300), RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")),
        *(chained, within, ClipRobustError("a mistake"), ValueError("x")),
    ):
        yield f"trouble of {error!r:.60}: {exits.trouble_of(error)}"


def wanted(root: Path) -> Iterator[str]:
    names = ("clean", "depth", "cleann", "ood", "odd", "retrieval", "near_ood", "mine", "")
    for name in names:
        yield f"check {name!r}: {tried(required.check_required, [name], ['ood', 'mine'])}"
    embedded = provider_of("embedded")
    records_of = list(a_run(figures(answers())).records)
    waits = [
        NotMeasured("test_ood.py::a", "ood", "needs near_ood (give --clip-data)"),
        NotMeasured("test_ood.py::b", "ood", "needs a GPU"),
        NotMeasured("test_x.py::c", "x", "needs clean (none)"),
    ]
    for title, own, not_run in (
        ("nothing", [], []),
        ("all", records_of, []),
        ("some wait", records_of, waits),
        ("only some wait", [], waits),
    ):
        for name in [*ROLES, "mine", "ood", "x"]:
            found = required.missing_required([name], embedded, own, not_run)
            if found or name in ("clean", "mine"):
                yield f"{title}, {name}: {found}"


# --- What a session without figures is told ---------------------------------------------------------


class Config:
    """As much of pytest's configuration as these parts ask for."""

    def __init__(self, **options: Any) -> None:
        self.option = SimpleNamespace(
            **{
                "markexpr": "",
                "keyword": "",
                "collectonly": False,
                "lf": False,
                "pyargs": False,
                **options,
            }
        )
        self.markers: list[str] = ["slow: takes long", "skipif(condition): leave out"]
        self.cache: Any = None
        self.args: list[str] = []
        self.ArgsSource = pytest.Config.ArgsSource
        self.args_source = self.ArgsSource.ARGS
        self.rootpath = Path("/root")

    def getoption(self, name: str) -> Any:
        return vars(self.option).get(name)

    def getini(self, name: str) -> list[str]:
        return self.markers

    def addinivalue_line(self, name: str, line: str) -> None:
        self.markers.append(line)


class Reporter:
    """Keeps the lines that it is given."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write_line(self, line: str, **colours: bool) -> None:
        self.lines.append(f"{line} {colours}")


def told_nothing(root: Path) -> Iterator[str]:
    own = ("ood", "retrieval", "view")
    for marks in (
        *("", "ood", "odd", "not retrievall", "slow and view", "(ood or vieww)", "skipif", "or"),
        *("retrievl or retrievl", 'device(serial="ood1")', "zzz", "viewx and odd"),
    ):
        config: Any = Config(markexpr=marks)
        yield f"-m {marks!r}: {notices.misspelt_marks(config, own)}"
    chosen: tuple[dict[str, Any], ...] = (
        {"--clip-model": ["a", "b"]},
        {"--clip-model": ["a"], "keyword": "k"},
        {"--clip-model": ["a"], "keyword": "k", "markexpr": "odd"},
        {"--clip-model": ["a"], "collectonly": True},
        {},
    )
    for options, count, status in itertools.product(chosen, (0, 3), (0, 1, 2, 4, 5)):
        reporter = Reporter()
        given: Any = Config(**options)
        notices.say_nothing_evaluated(reporter, given, count, status, own)
        if reporter.lines:
            yield f"{options}, {count} collected, status {status}: {reporter.lines}"


def placing(root: Path) -> Iterator[str]:
    for value in (
        *("Safety", " Safety ", "", " ", None, 3, ("Safety", 2), ["Safety", 2.5], ("Safety", "2")),
        *(("Safety", True), ("Safety",), ("Safety", 1, 2), (3, 2), ("", 1), b"Safety"),
    ):
        yield f"placed {value!r}: {suites.placed(value)}"
    for name in (*suites.shipped(), "no_such"):
        yield f"shipped {name}: {suites.placed_by_file(name)}"
    told = {"mine": ("Safety", 2.0), "other": ("Safety", 1.0), "third": ("A", float("inf"))}
    for names in (("mine", "other", "third", "fourth"), ("mine",), (), ("ood", "mine")):
        yield f"sections of {names}: {suites.sections(names, told)}"
    for arguments, options in (
        (["pytest_cliprobust.suites"], {"pyargs": True}),
        (["pytest_cliprobust.suites.test_ood::test_a", "x"], {"pyargs": True}),
        (["pytest_cliprobust.suites"], {"pyargs": False}),
        (["pytest_cliprobust.suitesx"], {"pyargs": True}),
        (["own"], {"--clip-suites": True}),
    ):
        for source in (pytest.Config.ArgsSource.ARGS, pytest.Config.ArgsSource.TESTPATHS):
            config: Any = Config(**options)
            config.args, config.args_source = [*arguments], source
            suites.find_suites(config)
            shown = [a.replace(str(suites.suites_folder()), "SUITES") for a in config.args]
            yield f"{arguments} {options} {source.name}: {shown}, {config.args_source.name}"
    for path, marker in (
        ("/a/test_ood.py", None),
        ("/a/ood_test.py", None),
        ("/a/test_test_x.py", None),
        ("/a/test_ood.py", SimpleNamespace(args=("mine",))),
        ("/a/test_ood.py", SimpleNamespace(args=(7,))),
        ("/a/test_ood.py", SimpleNamespace(args=())),
    ):
        yield f"suite of {path} {marker}: {suites.suite_of(item(path, marker=marker))!r}"
    twice = [item("/a/test_x.py", "::test_x"), item("/b/test_x.py", "::test_x")]
    for items in (twice, twice[:1] * 2, [twice[0], item("/a/test_x.py", "::test_y")]):
        yield f"ids of {[str(i.path) for i in items]}: {tried(suites.check_ids, items)}"
    config = Config()
    suites.add_markers(config, ["ood", "slow", "skipif(condition)", "ood"])
    yield f"markers {config.markers}"


def item(path: str, nodeid: str = "", marker: Any = None, **more: Any) -> Any:
    """Return as much of a test as these parts ask for."""
    return SimpleNamespace(
        path=Path(path),
        nodeid=nodeid or f"{path}::test_it",
        get_closest_marker=lambda name: marker if name == "clip_suite" else None,
        config=Config(),
        **more,
    )


# --- What a run writes ------------------------------------------------------------------------------


def writes(root: Path) -> Iterator[str]:
    (root / "file").write_text("x")
    (root / "old.db").write_bytes(b"no database" * 100)
    inside = root / "file" / "a.json"
    for reports, recorded_into, history in (
        ([], None, None),
        ([root / "a.html", root / "b.json"], None, None),
        ([root / "new" / "a.json"], root / "t.toml", root / "h.db"),
        ([inside], None, None),
        ([], root / "file" / "t.toml", None),
        ([], None, root / "file" / "h.db"),
        ([], None, root / "old.db"),
        ([root], None, None),
    ):
        paths = [*writing._written(reports, recorded_into, history)]
        yield f"written: {[f'{option} {path}' for option, path in paths]}"
        yield f"  {tried(writing.check_writing, reports, recorded_into, history)}"
        yield f"  left behind: {sorted(p.name for p in root.rglob('*'))}"
    yield f"pictures: {writing.pictures_of(Path('a/b.report.html'))}"


# --- Models and tests -------------------------------------------------------------------------------


def models_and_tests(root: Path) -> Iterator[str]:
    for params in (None, {}, {state.UNDER_TEST: "mine=x"}, {"other": 3}):
        spec = {} if params is None else {"callspec": SimpleNamespace(params=params)}
        given: Any = SimpleNamespace(**spec)
        yield f"model given by {params}: {state.model_given(given)!r}"
    held = SimpleNamespace(params={state.UNDER_TEST: "mine=x"})
    ours = SimpleNamespace(func=fixtures.needs_model)
    theirs = SimpleNamespace(func=tried)
    for used, names, defined in itertools.product(
        ((state.UNDER_TEST,), ("tmp_path",)),
        ((), (state.UNDER_TEST,)),
        ([ours], [theirs, ours], [ours, theirs], []),
    ):
        info = SimpleNamespace(name2fixturedefs=dict.fromkeys(names, defined))
        test: Any = SimpleNamespace(fixturenames=used, callspec=held, _fixtureinfo=info)
        own = [one is ours for one in defined]
        yield f"model of {used}, {names}, {own}: {fixtures.model_of(test)}, {fixtures.needs_model(test)}"
    one, two = state.DeadWorkers(), state.DeadWorkers()
    one.names.append("gw0")
    yield f"workers {one}, {two}"
    cached = {"cache/lastfailed": {"a": True, "b": True}, "cache/nodeids": ["a", "b", "c"]}
    for lf, cache, chosen in itertools.product(
        (False, True),
        (None, {}, cached, {**cached, "cache/nodeids": ["a"]}, {**cached, "cache/lastfailed": {}}),
        ((), ("a",), ("a", "b", "c"), ("c",)),
    ):
        config: Any = Config(lf=lf)
        config.cache = None if cache is None else SimpleNamespace(get=cache.get)
        items: Any = [SimpleNamespace(nodeid=name) for name in chosen]
        if waiting.failed_last(config, items):
            yield f"failed last: {cache}, {chosen}"
    import gc

    for on in (True, False):
        (gc.enable if on else gc.disable)()
        with waiting.without_collector():
            inside = gc.isenabled()
        yield f"collector on {on}: inside {inside}, after {gc.isenabled()}"
    gc.enable()
    for file in ("tests/test_ood.py::test_a[x::y]", "test_ood.py", "a/b/ood.py", "a/test_b.pyx"):
        yield f"suite of the file {file}: {suite_of_file(file)}"


class Benchmark:
    """Runs what it is given as pytest-benchmark does, with a clock of its own."""

    def __init__(self, disabled: bool = False) -> None:
        self.disabled, self.skipped = disabled, False
        self.stats: Any = SimpleNamespace(stats=SimpleNamespace(data=[]))
        self.calls: list[str] = []

    def pedantic(self, work: Any, setup: Any, rounds: int, warmup_rounds: int) -> None:
        for number in range(warmup_rounds + rounds):
            arguments, named = setup()
            work(*arguments, **named)
            if number >= warmup_rounds:
                self.stats.stats.data.append(float(number))


def times(root: Path) -> Iterator[str]:
    for rounds in (1, 3):
        benchmark = Benchmark()
        calls: list[str] = []
        clock = stopwatch.Stopwatch(benchmark)
        found = clock.in_turn(partial(calls.append, "own"), partial(calls.append, "base"), rounds)
        yield f"{rounds} rounds: {found.tolist()}, table {benchmark.stats.stats.data}, calls {calls}"
    for there, disabled in itertools.product((True, False), repeat=2):
        benchmark = Benchmark(disabled)
        manager = SimpleNamespace(hasplugin=lambda name, there=there: there and name == "benchmark")
        request: Any = SimpleNamespace(
            config=SimpleNamespace(pluginmanager=manager),
            getfixturevalue=lambda name, b=benchmark: {"benchmark": b}[name],
        )
        found = tried(stopwatch.stopwatch_of, request)
        told = found if isinstance(found, str) else "a stopwatch"
        yield f"there {there}, disabled {disabled}: {told}, skipped {benchmark.skipped}"


def lines(root: Path) -> Iterator[str]:
    for seconds in (0, 0.1, 1, 99, 99.1, 100, 185, 3599, 3599.1, 3600, 7500, 360000):
        yield f"{seconds} s: {progress.duration(seconds)}"
    for terminal, worker in itertools.product((True, False), repeat=2):
        shown: list[str] = []
        file = SimpleNamespace(write=shown.append, flush=lambda: None)
        writer = SimpleNamespace(_file=file, fullwidth=60, _current_line="test_x.py .")
        reporter: Any = SimpleNamespace(
            isatty=terminal,
            _tw=writer,
            ensure_newline=lambda s=shown: s.append("NEW"),
            write_line=shown.append,
        )
        plugins = {"terminalreporter": reporter}
        config: Any = SimpleNamespace(pluginmanager=SimpleNamespace(get_plugin=plugins.get))
        if worker:
            config.workerinput = {}
        bar = progress.ProgressLine(config)
        for now, description, done, total in (
            (0.0, "clean", 0, 10),
            (0.05, "clean", 1, 10),
            (0.12, "clean", 2, 10),
            (5.0, "clean", 5, 10),
            (6.0, "a long name of a data set, and of fog", 1, 200),
            (700.0, "a long name of a data set, and of fog", 2, 200),
            (701.0, "clean", 200, 200),
            (702.0, "clean", 0, 0),
        ):
            with mock.patch("time.monotonic", return_value=now):
                bar(description, done, total)
        bar.tell("a line")
        yield f"terminal {terminal}, worker {worker}:"
        yield from (f"  {text!r}" for text in shown)


def joined(root: Path) -> Iterator[str]:
    def summary(name: str, **changes: Any) -> ModelSummary:
        return ModelSummary(name, "ViT", "own", "ab", (), {}, "cpu", "fp32", **changes)

    own = {"a": summary("a", encoded=3, cached=1, probed=2), "b": summary("b", noise=(0.1, 0.2))}
    told = [
        {"models": [summary("a", encoded=10, cached=20, probed=30, noise=(0.3, 0.4)).as_dict()]},
        {"models": [summary("c", encoded=7).as_dict(), summary("b", encoded=1).as_dict()]},
        {},
    ]
    for names in (("c", "a", "b"), ("b",), ("z", "a")):
        found = processes.joined_models(own, told, names)
        yield f"{names}:"
        for name, one in found.items():
            yield f"  {name}: {one.encoded} {one.cached} {one.probed} {one.noise}"
    few = Skipped("x", 10, (("1", "broken"),))
    more = Skipped("x", 100, (("1", "broken"), ("2", "gone")))
    other = Skipped("a", 5, ())
    for mine, theirs in (([few], [more]), ([more], [few]), ([few, other], []), ([], [few, few])):
        data = [{"skipped": [one.as_dict()]} for one in theirs]
        left_out = processes.joined_skipped(mine, [*data, {}])
        yield f"skipped: {[(one.data, one.total, one.samples, one.too_many) for one in left_out]}"
    noise = {"a": (1e-5, 1.0), "b": (1e-4, 0.5), "c": (2e-4, 0.001), "d": (0.0345, 1.23456)}
    yield from processes.noise_notes(noise)
    for path in ("one/m.pt", "two/m.pt", "three.pt"):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(path)
    paths = [root / name for name in ("one/m.pt", "two/m.pt", "three.pt", "gone.pt")]
    for some in (paths, paths[:1], paths[2:]):
        yield f"weights {[(n, digest[:8]) for n, digest in processes.weights_of(some).items()]}"


class Report:
    """A report of one phase of a test."""

    def __init__(self, nodeid: str, when: str, outcome: str = "passed", **more: Any) -> None:
        self.nodeid, self.when, self.outcome = nodeid, when, outcome
        self.longrepr: Any = None
        self.user_properties: list[tuple[str, Any]] = [("k", 1)]
        self.__dict__.update(more)
        self.failed, self.skipped = outcome == "failed", outcome == "skipped"


def phases(test: str, call: Sequence[Any] = ("passed", {}), **last: Any) -> list[Report]:
    """Return the reports of a test whose call ends so."""
    outcome, more = call
    return [
        Report(test, "setup", clip_suite="mine", clip_names=("fog",), clip_severities=(1, 3)),
        Report(test, "call", outcome, **more),
        Report(test, "teardown", **last),
    ]


def ledgers(root: Path) -> Iterator[str]:
    measured = list(a_run(figures(answers())).records)
    others = list(a_run(figures(answers(0.5))).records)
    again = phases("t.py::a", ("rerun", {}), clip_records=measured[:1])
    skipped = Report("t.py::a", "setup", "skipped", clip_suite="mine")
    skipped.longrepr = ("f", 3, "Skipped: needs depth")
    lacking = Report("t.py::a", "setup", "skipped", clip_suite="mine", clip_lacking=True)
    lacking.longrepr = "Skipped: no hub"
    expected = Report("t.py::a", "call", "skipped", wasxfail="x", longrepr="reason")
    dead = Report("t.py::a", "???", "failed", longrepr="worker 'gw0' crashed")
    place = Report("t.py::a", "setup", clip_suite="mine", clip_section=("Safety", 2))
    failed = {"clip_mistake": "a typo", "clip_missed": False}
    cases: dict[str, list[Report]] = {
        "nothing": [],
        "one test": phases("t.py::a", clip_records=measured),
        "setup alone": phases("t.py::a")[:1],
        "it failed": phases("t.py::a", ("failed", {})),
        "it missed a bound": phases("t.py::a", ("failed", {"clip_missed": True})),
        "a mistake": phases("t.py::a", ("failed", failed)),
        "a trouble": phases("t.py::a", ("failed", {"clip_trouble": "the disk is full"})),
        "a trouble that was expected": phases("t.py::a", ("skipped", {"clip_trouble": "x"})),
        "run again": [*again, *phases("t.py::a", clip_records=measured[1:2])],
        "going to run again": again,
        "skipped": [skipped, Report("t.py::a", "teardown")],
        "lacking": [lacking, Report("t.py::a", "teardown")],
        "expected": [place, expected, Report("t.py::a", "teardown", clip_records=[])],
        "a dead worker": [place, dead],
        "two tests, one figure": [
            *phases("t.py::a", clip_records=measured[:2]),
            *phases("t.py::b", clip_records=others[:1]),
        ],
        "no suite": [Report("x.py::a", "setup"), Report("x.py::a", "call", "failed")],
        "as plain data": phases("t.py::a", clip_records=[one.as_dict() for one in measured[:2]]),
    }
    for title, given in cases.items():
        for planned in ({}, {"t.py::a": "mine", "t.py::z": "other"}):
            ledger = Ledger()
            ledger.plan(planned)
            gave = [len(ledger.take(report)) for report in given]  # type: ignore[arg-type]
            if given and given[-1].when == "teardown":
                ledger.forget_properties(given[-1])  # type: ignore[arg-type]
            yield f"{title}, planned {len(planned)}: gave {gave}"
            yield f"  suites {sorted(ledger.suites)}, broken {sorted(ledger.broken)}"
            yield f"  records {[record.key for record in ledger.records]}, spared {ledger.spared}"
            yield f"  mistakes {ledger.mistakes()}, troubles {ledger.troubles()}"
            yield f"  not run {ledger.not_run()}"
            yield f"  missing {ledger.missing()}, lacks any {ledger.lacks_any}"
            yield f"  lacking {ledger.lacking(['mine'])}, {ledger.lacking(['other'])}"
            told = {
                suite: (sorted(one.perturbations), sorted(one.severities))
                for suite, one in ledger.declared.items()
            }
            yield f"  declared {told}, sections {ledger.sections}, heard {ledger.heard}"
    ledger = Ledger()
    ledger.given = ("a/test_x.py::t", "b.py::u")
    ledger.plan_all()
    for failed_one in (True, False, True):
        collected: Any = SimpleNamespace(failed=failed_one, nodeid="f.py")
        ledger.take_collection(collected)
    yield f"all planned {ledger.planned}, not collected {ledger.not_collected}"


# --- Names, baselines, the hub ----------------------------------------------------------------------


def slips(root: Path) -> Iterator[str]:
    for name, text in {
        "test_a.py": "",
        "own/test_b.py": "@pytest.mark.clip_suite('marked')\n",
        "own/deep/test_c.py": "",
        "own/d_test.py": "",
        ".hidden/test_e.py": "",
        "node_modules/test_f.py": "",
        "venv/lib/site-packages/test_g.py": "",
        "test_h.txt": "",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    yield f"in: {sorted(known.suites_in([root]))}, {sorted(known.suites_in([root, root / 'own']))}"
    yield f"below: {sorted(known.suites_below([root]))}"
    told = known.NoSuite(["ood", "view"], [root])
    for pattern in ("ood", "odd", "o*", "z*", "marked", "markd", "c", "[x]", "*", "", "view?"):
        yield f"no suite {pattern!r}: {told(pattern)!r}"


def baselines(root: Path) -> Iterator[str]:
    run = a_run(figures(answers()))
    held = {(bare_key(r.measurement), r.model): r.figure for r in run.records}

    def provenance(**changes: Any) -> Provenance:
        base: dict[str, Any] = {
            "profile": "quick",
            "seed": 0,
            "precision": {"reference": "fp32"},
            "weights": {"reference": "ab12"},
            "templates": {"reference": "t"},
        }
        return Provenance(**{**base, **changes})

    toml = root / "t.toml"
    empty = parse_thresholds("schema = 1\n", str(toml))
    asked = parse_thresholds('schema = 1\n[policy]\nbaseline_model = "other"\n', str(toml))
    named_file = parse_thresholds(
        'schema = 1\n[policy]\nbaseline = "gone.safetensors"\n', str(toml)
    )
    for named, thresholds, path, history in (
        ("none", empty, toml, None),
        (None, empty, None, None),
        (None, empty, toml, None),
        (None, named_file, toml, None),
        ("gone.json", empty, toml, None),
        ("gone.json", empty, toml, root / "h.db"),
        ("last", empty, toml, root / "h.db"),
        ("lats", empty, toml, root / "h.db"),
        ("tag:x", empty, toml, None),
    ):
        found = tried(comparing.chosen_baseline, named, thresholds, path, history)
        yield f"{named}, {path is not None}, {history is not None}: {found}"
    for named, path in (("none", toml), (None, None), (None, toml), ("last", toml)):
        yield f"why none, {named}: {comparing.why_no_baseline(named, path)}"
    same, changed = provenance(), provenance(weights={"reference": "cd"}, seed=3, profile="full")
    two = {**held, **{(key, "other"): figure for (key, _), figure in held.items()}}
    for title, baseline in {
        "the same": Baseline("b", held, same, same),
        "other": Baseline("b", held, changed, same),
        "unknown": Baseline("b", held, None, same),
        "of two": Baseline("b", two, same, same),
        "empty": Baseline("b", {}, same, same),
    }.items():
        for models in (("reference",), ("mine",), ("reference", "mine")):
            for model in (None, "other"):
                told = comparing.comparison_lines(baseline, models, model)
                yield f"{title}, {models}, asked {model}: {told}"
        for thresholds in (empty, asked):
            yield f"{title}: {tried(comparing.check_compared, baseline, thresholds, ['reference'])}"
            for chosen in (("mine",), ("theirs",), ()):
                for count in (1, 50):
                    family = comparing.family_of(baseline, thresholds, ["reference"], chosen, count)
                    yield f"  family of {chosen}, {count} tests: {family}"
    yield f"family of no baseline: {comparing.family_of(None, empty, ['a'], ['b'], 3)}"
    pair = provenance(
        precision={"a": "fp32", "b": "bf16"},
        weights={"a": "1", "b": "2"},
        templates={"a": "t", "b": "u"},
    )
    yield f"twins: {comparing.twin_lines(pair, ['a', 'b'], 'a')}"
    yield f"twins: {comparing.twin_lines(pair, ['a'], 'a')}"
    versions = provenance(perturbations={"fog_3d": "1", "noise": "2"})
    measured = [record.measurement for record in run.records]
    yield f"used: {comparing.used(versions, measured).perturbations}"


def reached(root: Path) -> Iterator[str]:
    for cached in (False, True):
        for model, pretrained, data in (
            ("reference", None, "embedded"),
            ("ViT-B-32", None, "embedded"),
            ("ViT-B-32/openai", None, "embedded"),
            ("ViT-B-32/nosuchtag", None, "embedded"),
            ("ViT-B-32", "openai", "embedded"),
            ("ViT-B-32", "/x/y.pt", "embedded"),
            ("hf-hub:a/b", None, "embedded"),
            ("transformers:a/b", None, "embedded"),
            ("transformers:/a/b", None, "embedded"),
            ("reference", None, "hub:a/b"),
            ("reference", None, "hub:a/b@main"),
            ("reference", None, "shift=hub:a/b"),
            ("reference", None, "clean=hub:a/b"),
            ("reference", None, "hub:"),
        ):
            asked: list[str] = []
            sets = tried(read_sources, [data])
            if isinstance(sets, str):
                yield f"{data}: {sets}"
                continue
            config = RunConfig((model,), pretrained=pretrained, data=data, sets=tuple(sets))

            def has(name: str, kind: str = "model", asked: list[str] = asked) -> bool:
                asked.append(f"{kind} {name}")
                return cached  # noqa: B023 - called within this turn

            def require(wanted: str, remedy: str = "", asked: list[str] = asked) -> None:
                asked.append(f"NEEDS {wanted}")

            with (
                mock.patch.object(hub, "has_folder", has),
                mock.patch.object(hub, "require_hub", require),
            ):
                found = tried(reach.require_reach, config)
            some = asked if len(asked) < 6 else [f"{len(asked)} questions", asked[-1]]
            if "ViT" in model:  # which repositories open_clip knows differs by its version
                some = [one for one in asked if one.startswith("NEEDS")]
            yield f"cached {cached}, {model}, {pretrained}, {data}: {found}, {some}"


PARTS: dict[str, Callable[[Path], Iterator[str]]] = {
    "endings": endings,
    "required": wanted,
    "nothing evaluated": told_nothing,
    "suites": placing,
    "writing": writes,
    "tests and models": models_and_tests,
    "stopwatch": times,
    "progress": lines,
    "processes": joined,
    "ledger": ledgers,
    "names": slips,
    "baselines": baselines,
    "reach": reached,
}


def recorded(part: str) -> list[str]:
    """Return what is recorded of one part."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "there"
        root.mkdir()
        told = [str(line).replace(str(root), "ROOT") for line in PARTS[part](root)]
        return [line.replace(str(Path.cwd()), "HERE") for line in told]


@pytest.mark.parametrize("part", PARTS)
def test_what_is_said_is_what_the_record_says(part: str) -> None:
    records.check(RECORD, PARTS, part, recorded(part))

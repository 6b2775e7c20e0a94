"""Which tests run which lines of the package: what ``mutation.py`` chooses tests by.

Recorded by running the tests once with coverage, a context for each. Kept in a folder, the next run records
only the tests of files that have changed since, and those that run a changed module that is to be mutated.
What a fixture of a wider scope than one test runs is run by every test that uses it; what a cache of a
function holds is run by one test of each file.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mutators import PACKAGE, ROOT, Mutation

#: Name of the context of what importing and collecting run.
_IMPORTED = ""


@dataclass
class Ran:
    """What one test runs.

    Attributes:
        seconds: it took, recording.
        passed: without any mutation.
        lines: of each module, by its path: bit n of a number is line n. None where the module has changed
            since, and it is not known which.
    """

    seconds: float
    passed: bool
    lines: dict[str, int | None] = field(default_factory=dict)


@dataclass
class Map:
    """The tests of one kind, by their ids, and the lines that they run.

    Attributes:
        tests: what each runs.
        imported: the lines that importing modules runs, by path.
        digests: of the modules, and of the files of tests that have been recorded, by path.
    """

    tests: dict[str, Ran] = field(default_factory=dict)
    imported: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> Map:
        """Return the map in a file, an empty one if there is none."""
        if not file.exists():
            return cls()
        told = json.loads(file.read_text(encoding="utf-8"))
        tests = {name: Ran(**ran) for name, ran in told["tests"].items()}
        return cls(tests, told["imported"], told["digests"])

    def write(self, file: Path) -> None:
        """Write it to a file, whole or not at all."""
        part = file.with_suffix(".part")
        part.write_text(json.dumps(asdict(self)), encoding="utf-8")
        part.replace(file)

    def forget_changed(self, mutated: Iterable[str]) -> None:
        """Drop what is not so any more; what runs a changed module of ``mutated`` is dropped whole."""
        changed = {path for path, digest in self.digests.items() if digest_of(path) != digest}
        mutated = set(mutated)
        for name, ran in list(self.tests.items()):
            ran.lines.update(dict.fromkeys(ran.lines.keys() & changed))
            unknown = {path for path, lines in ran.lines.items() if lines is None}
            if unknown & mutated or file_of(name) in changed:
                del self.tests[name]
                self.digests.pop(file_of(name), None)
        for path in changed:
            self.digests.pop(path, None)
            self.imported.pop(path, None)

    def add(self, other: Map) -> None:
        """Take over what has been recorded anew."""
        self.tests |= other.tests
        self.digests |= other.digests
        for path, lines in other.imported.items():
            self.imported[path] = self.imported.get(path, 0) | lines

    def running(self, path: str, lines: int) -> list[str]:
        """Return the passing tests that run any of these lines of a module."""
        return [
            name
            for name, ran in self.tests.items()
            if ran.passed and (ran.lines.get(path) or 0) & lines
        ]

    def covering(self, mutation: Mutation) -> list[str]:
        """Return the passing tests that run what a mutation changes, the most promising first."""
        return self._sorted(self.running(mutation.path, statement_of(mutation)), mutation.path)

    def near(self, path: str) -> list[str]:
        """Return passing tests for what no test runs: those of the module's functions, then of its folder."""
        functions = self.running(path, ~self.imported.get(path, 0))
        folder = [name for name, ran in self.tests.items() if ran.passed and _of_folder(name, path)]
        others = set(folder) - set(functions)
        return [*self._sorted(functions, path), *self._sorted(others, path)]

    def _sorted(self, names: Iterable[str], path: str) -> list[str]:
        """Short tests before long ones, among them the module's own file, then folder, first."""

        def order(name: str) -> tuple[bool, bool, bool, float, str]:
            seconds = self.tests[name].seconds
            own = Path(file_of(name)).stem == f"test_{Path(path).stem}"
            return seconds > 1.5, not own, not _of_folder(name, path), seconds, name

        return sorted(names, key=order)


def file_of(test: str) -> str:
    """Return the file that a test stands in."""
    return test.partition("::")[0]


def _of_folder(test: str, path: str) -> bool:
    """Return whether a test's folder mirrors the module's."""
    inside = Path(path).relative_to(PACKAGE).parts[:-1]
    return Path(file_of(test)).parts[1:-1][:1] == inside[:1]


def digest_of(path: str, root: Path = ROOT) -> str:
    """Return what changes with a file of the checkout, or of a workspace; nothing if it is gone."""
    file = root / path
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


@functools.cache
def _statements(path: str) -> list[ast.stmt]:
    tree = ast.parse((ROOT / path).read_bytes())
    return [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]


def statement_of(mutation: Mutation) -> int:
    """Return the lines of the statement that a mutation changes, of a compound one its head."""
    line = mutation.line
    around = [s for s in _statements(mutation.path) if s.lineno <= line <= (s.end_lineno or 0)]
    inner = max(around, key=lambda s: (s.lineno, -(s.end_lineno or 0)))
    last = inner.end_lineno or inner.lineno
    body = getattr(inner, "body", None)
    if body:
        last = max(line, body[0].lineno - 1)
    return sum(1 << number for number in range(inner.lineno, last + 1))


# --- Recording --------------------------------------------------------------------------------------


def up_to_date(
    file: Path, tests: Sequence[str], marks: str, mutated: Iterable[str], folder: Path
) -> Map:
    """Return the map in ``file``, after recording what it lacks.

    Args:
        tests: files or folders of tests, relative to the checkout.
        marks: which of them, as ``pytest -m`` takes it.
        mutated: paths of the modules that are to be mutated.
        folder: workspace with a copy of the package.
    """
    known = Map.read(file)
    known.forget_changed(mutated)
    missing = [path for path in files_of(tests) if path not in known.digests]
    if missing:
        print(f"recording what the tests of {len(missing)} files run", flush=True)
        names = sorted(known.tests)
        found = folder / "recorded.json"
        context = multiprocessing.get_context("forkserver")
        process = context.Process(target=_record, args=(folder, missing, marks, names, found))
        process.start()
        process.join()
        if not found.exists():
            log = (folder / "mutation.log").read_text(errors="replace")
            raise SystemExit(f"the tests did not run without a mutation:\n{log[-3000:]}")
        known.add(Map.read(found))
        known.write(file)
        found.unlink()
    failing = sorted(name for name, ran in known.tests.items() if not ran.passed)
    for name in failing:
        print(f"left out, fails without a mutation: {name}", flush=True)
    return known


def files_of(tests: Sequence[str]) -> list[str]:
    """Return the files of tests that files or folders stand for, relative to the checkout."""
    found: set[Path] = set()
    for name in tests:
        place = (ROOT / name).resolve()
        found |= {place} if place.is_file() else set(place.rglob("test_*.py"))
    if not found:
        raise SystemExit(f"no tests in {' '.join(tests)}")
    return sorted(str(file.relative_to(ROOT)) for file in found)


def arguments(folder: Path, files: Sequence[str], marks: str) -> list[str]:
    """Return what pytest is started with in a workspace."""
    # Beside the workspace: below it, what tests make there would have our configuration.
    temporary = folder.with_name(f"{folder.name}-tmp")
    plugins = ["-p", "no:cacheprovider", "-p", "no:randomly"]
    return [*files, "-m", marks, "-q", "--no-header", *plugins, f"--basetemp={temporary}"]


def enter(folder: Path) -> None:
    """Make this process one that tests a workspace, its output in ``mutation.log``."""
    output = os.open(folder / "mutation.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    os.environ["CI"] = "1"  # the same examples in every run
    os.environ["PYTHONPATH"] = str(folder)  # what the tests start imports the mutated package, too
    sys.dont_write_bytecode = True  # two mutations of one second and one size would share a file
    sys.path.insert(0, str(folder))
    sys.argv = ["pytest"]


def forget_remembered() -> None:
    """Empty the caches of the package's functions."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == PACKAGE:
            for value in list(vars(module).values()):
                if isinstance(value, functools._lru_cache_wrapper):
                    value.cache_clear()


class _Recorder:
    """A plugin that tells coverage which test runs."""

    def __init__(self, coverage: Any, known: set[str]) -> None:
        self.coverage = coverage
        self.known = known
        self.tests: dict[str, Ran] = {}
        self.fixtures: dict[str, list[str]] = {}
        self.context = _IMPORTED
        self.file = ""

    def switch(self, context: str) -> None:
        self.context = context
        self.coverage.switch_context(context)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid not in self.known]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        if file_of(item.nodeid) != self.file:
            self.file = file_of(item.nodeid)
            forget_remembered()
        self.tests[item.nodeid] = Ran(0.0, True)
        self.fixtures[item.nodeid] = _wide_fixtures(item)
        self.switch(item.nodeid)
        begin = time.perf_counter()
        try:
            return (yield)
        finally:
            self.tests[item.nodeid].seconds = round(time.perf_counter() - begin, 4)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object]
    ) -> Generator[None, object, object]:
        if fixturedef.scope == "function":
            return (yield)
        outer = self.context
        self.switch(_named(fixturedef))
        try:
            return (yield)
        finally:
            self.switch(outer)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.tests[report.nodeid].passed = False


def _named(fixture: pytest.FixtureDef[Any]) -> str:
    return f"fixture {fixture.baseid}::{fixture.argname}"


def _wide_fixtures(item: pytest.Item) -> list[str]:
    """Return the fixtures of a test that others may use with it."""
    info = getattr(item, "_fixtureinfo", None)
    definitions = info.name2fixturedefs.values() if info else []
    return [_named(one[-1]) for one in definitions if one[-1].scope != "function"]


def _record(folder: Path, files: list[str], marks: str, known: list[str], found: Path) -> None:
    """Run the tests in this process, and write what they ran as a map of its own."""
    enter(folder)
    import torch
    from coverage import Coverage

    torch.set_num_threads(1)
    source = str(folder / PACKAGE)
    coverage = Coverage(
        data_file=str(folder / "recorded.db"), source=[source], config_file=False, branch=False
    )
    recorder = _Recorder(coverage, set(known))
    coverage.start()
    status = pytest.main(arguments(folder, files, marks), plugins=[recorder])
    coverage.stop()
    if status in (
        pytest.ExitCode.OK,
        pytest.ExitCode.TESTS_FAILED,
        pytest.ExitCode.NO_TESTS_COLLECTED,
    ):
        _gathered(recorder, coverage.get_data(), folder, files).write(found)
    sys.stdout.flush()
    os._exit(0)


def _gathered(recorder: _Recorder, data: Any, folder: Path, files: list[str]) -> Map:
    """Return what a recorder's tests have run."""
    ran: dict[str, dict[str, int]] = defaultdict(dict)  # context -> path -> lines
    modules = sorted((ROOT / PACKAGE).rglob("*.py"))
    paths = [str(module.relative_to(ROOT)) for module in modules]
    for path in paths:
        for line, contexts in data.contexts_by_lineno(str(folder / path)).items():
            for context in contexts:
                ran[context][path] = ran[context].get(path, 0) | 1 << line
    for name, test in recorder.tests.items():
        for context in (name, *recorder.fixtures[name]):
            for path, lines in ran[context].items():
                test.lines[path] = (test.lines.get(path) or 0) | lines
    digests = {path: digest_of(path, folder) for path in (*paths, *files)}
    return Map(recorder.tests, dict(ran[_IMPORTED]), digests)

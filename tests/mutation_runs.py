"""Run tests on a mutated package: in a fork of a session that has collected them, or in one from scratch.

A fork costs some milliseconds instead of the seconds that imports and collection take. In it the mutated
function's code takes the place of the unmutated; the file in the workspace is mutated, too, for what is
imported late and for the processes that tests start. Code that importing a module runs is out of a fork's
reach, and tested from scratch.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from inspect import CO_OPTIMIZED
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, TypeAlias

import pytest
from mutation_map import arguments, enter, file_of, forget_remembered
from mutators import PACKAGE, ROOT, Mutation

#: Imported once, before the sessions are forked off; never the package itself.
PRELOADED = [
    *(
        "pytest",
        "hypothesis",
        "coverage",
        "torch",
        "torchvision",
        "open_clip",
        "kornia.augmentation",
    ),
    *(
        "scipy.stats",
        "sklearn.metrics",
        "sklearn.covariance",
        "pytorch_ood.detector",
        "transformers",
    ),
    *("tomlkit", "jsonschema", "matplotlib", "PIL.Image", "xdist.plugin"),
]

#: What notices a mutation that lets tests run on and on.
TIME_LIMIT = "the time limit"

#: Functions by their names and first lines.
Live: TypeAlias = "Mapping[tuple[str, int], Sequence[FunctionType]]"

#: Functions, and the code that is to replace theirs.
Exchange: TypeAlias = "list[tuple[FunctionType, CodeType]]"


@dataclass(frozen=True)
class Outcome:
    """What the tests made of a mutation.

    Attributes:
        by: the first test that failed, or what else noticed it; nothing if they passed.
        reached: whether a fork could run the mutated code.
    """

    by: str = ""
    reached: bool = True


def workspace(folder: Path) -> Path:
    """Fill ``folder`` with a copy of the package's modules, and links to everything else."""
    folder.mkdir(exist_ok=True)
    for entry in ROOT.iterdir():
        if entry.name not in (PACKAGE, ".git", ".hypothesis", ".pytest_cache"):
            (folder / entry.name).symlink_to(entry)
    for file in (ROOT / PACKAGE).rglob("*"):
        target = folder / file.relative_to(ROOT)
        if file.is_file() and "__pycache__" not in file.parts:
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix == ".py":
                shutil.copyfile(file, target)
            else:
                target.symlink_to(file)
    return folder


@contextmanager
def mutated(folder: Path, mutation: Mutation | None) -> Iterator[None]:
    """Let the workspace's file be mutated for a while."""
    if mutation is None:
        yield
        return
    target = folder / mutation.path
    source = target.read_bytes()
    target.write_bytes(mutation.aligned(source))
    try:
        yield
    finally:
        target.write_bytes(source)


# --- Which functions' code a mutation changes -------------------------------------------------------


def exchange_of(folder: Path, mutation: Mutation, live: Live) -> Exchange | None:
    """Return the functions that get other code, None if that cannot bring the mutation about.

    It cannot where the change is in what importing the module runs, or where the function that holds it is
    not to be found.
    """
    source = (folder / mutation.path).read_bytes()
    file = str(folder / mutation.path)
    before = compile(source, file, "exec", dont_inherit=True)
    after = compile(mutation.aligned(source), file, "exec", dont_inherit=True)
    found: list[list[tuple[CodeType, CodeType]]] = []
    if not _changed(before, after, [], found):
        return None
    known = Counter(_key(code) for code in _all_codes(before))
    exchange: Exchange = []
    for nested in found:
        functions = [(f, new) for old, new in nested for f in live.get(_key(old), ())]
        unlike = any(f.__code__.co_freevars != new.co_freevars for f, new in functions)
        unclear = any(known[_key(old)] > 1 for old, _ in nested if _key(old) in live)
        if not functions or unlike or unclear:
            return None
        exchange += functions
    return exchange


def _key(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _nested(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _all_codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in _nested(code):
        yield from _all_codes(inner)


def _own(code: CodeType) -> tuple[object, ...]:
    """Return what a code does itself, without the functions in it."""
    # As text, for 1 and True are equal.
    constants = [repr(c) for c in code.co_consts if not isinstance(c, CodeType)]
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars


def _changed(
    before: CodeType,
    after: CodeType,
    around: list[tuple[CodeType, CodeType]],
    found: list[list[tuple[CodeType, CodeType]]],
) -> bool:
    """Append the chains of functions, outermost first, that end in a changed one.

    ``around``: the functions around these codes. Returns False if the change is in no function.
    """
    chain = [*around, (before, after)] if before.co_flags & CO_OPTIMIZED else around
    if _own(before) != _own(after):
        if not chain:
            return False
        found.append(chain)
    others: dict[tuple[str, int], list[CodeType]] = defaultdict(list)
    for inner in _nested(after):
        others[_key(inner)].append(inner)
    for inner in _nested(before):
        same = others[_key(inner)]  # none where the compiler has dropped what can no longer run
        if same and not _changed(inner, same.pop(0), chain, found):
            return False
    return True


def live_functions(folder: Path) -> dict[str, dict[tuple[str, int], list[FunctionType]]]:
    """Return the functions of the package that exist, by the paths of their modules."""
    found: dict[str, dict[tuple[str, int], list[FunctionType]]] = {}
    gc.unfreeze()
    start = f"{folder}{os.sep}"
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and thing.__code__.co_filename.startswith(start):
            functions = found.setdefault(thing.__code__.co_filename.removeprefix(start), {})
            functions.setdefault(_key(thing.__code__), []).append(thing)
    gc.freeze()
    return found


# --- Sessions that fork -----------------------------------------------------------------------------


class Session:
    """A process that has collected tests, and runs some of them in forks of itself.

    Args:
        folder: workspace with a copy of the package.
        files: of tests.
        marks: which of them, as ``pytest -m`` takes it.
    """

    def __init__(self, folder: Path, files: Sequence[str], marks: str) -> None:
        context = multiprocessing.get_context("forkserver")
        self.folder = folder
        self._channel, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(folder, list(files), marks, there))
        self._process.start()
        there.close()
        self.tests: set[str] = set(self._answer())

    def _answer(self) -> Any:
        try:
            return self._channel.recv()
        except EOFError:
            log = (self.folder / "mutation.log").read_text(errors="replace")
            raise SystemExit(f"the session ended:\n{log[-3000:]}") from None

    def run(self, mutation: Mutation | None, tests: Sequence[str], limit: float) -> Outcome:
        """Run tests until the first failure, for at most ``limit`` seconds."""
        self._channel.send((mutation, list(tests), limit))
        outcome = self._answer()
        assert isinstance(outcome, Outcome)
        return outcome

    def close(self) -> None:
        """End it."""
        with suppress(OSError):  # it may have ended
            self._channel.send(None)
        self._process.join()


def _serve(folder: Path, files: list[str], marks: str, channel: Connection) -> None:
    enter(folder)
    import torch

    torch.set_num_threads(1)  # threads do not survive a fork
    pytest.main(arguments(folder, files, marks), plugins=[_Server(folder, channel)])
    sys.stdout.flush()
    os._exit(0)


class _Server:
    """A plugin that runs tests when it is told to instead of all."""

    def __init__(self, folder: Path, channel: Connection) -> None:
        self.folder = folder
        self.channel = channel

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        live = live_functions(self.folder)
        self.channel.send(sorted(items))
        while (task := self.channel.recv()) is not None:
            mutation, tests, limit = task
            chosen = [items[name] for name in tests]
            self.channel.send(self.forked(chosen, mutation, live, limit))
        return True

    def forked(
        self,
        chosen: Sequence[pytest.Item],
        mutation: Mutation | None,
        live: Mapping[str, Live],
        limit: float,
    ) -> Outcome:
        exchange: Exchange | None = []
        if mutation is not None and _module_name(mutation.path) in sys.modules:
            exchange = exchange_of(self.folder, mutation, live.get(mutation.path, {}))
        if exchange is None:
            return Outcome(reached=False)
        context = multiprocessing.get_context("fork")
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_run_some, args=(chosen, exchange, there))
        with mutated(self.folder, mutation):
            process.start()
            there.close()
            return _outcome(process, here, limit)


def _module_name(path: str) -> str:
    return ".".join(Path(path).with_suffix("").parts).removesuffix(".__init__")


def _outcome(process: Any, channel: Connection, limit: float) -> Outcome:
    """Wait for a process that tells the first test that failed, or nothing."""
    by = TIME_LIMIT
    if channel.poll(limit):
        try:
            by = channel.recv()
        except EOFError:
            process.join()
            by = f"the end of the process, status {process.exitcode}"
    try:
        os.killpg(process.pid, signal.SIGKILL)  # with all that it has started
    except ProcessLookupError:
        process.kill()
    process.join()
    channel.close()
    return Outcome(by)


class _Watch:
    """A plugin that remembers the first failure."""

    def __init__(self) -> None:
        self.failed = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid


def _run_some(chosen: Sequence[pytest.Item], exchange: Exchange, channel: Connection) -> None:
    os.setpgid(0, 0)
    for function, code in exchange:
        function.__code__ = code
    forget_remembered()
    watch = _Watch()
    if chosen:
        chosen[0].config.pluginmanager.register(watch)
    for item, following in zip(chosen, [*chosen[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if watch.failed:
            break
    channel.send(watch.failed)
    os._exit(0)


# --- Sessions from scratch --------------------------------------------------------------------------


def from_scratch(
    folder: Path, mutation: Mutation | None, tests: Sequence[str], marks: str, limit: float
) -> Outcome:
    """Start a session with a mutated package, and run tests until the first failure."""
    context = multiprocessing.get_context("forkserver")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_run_anew, args=(folder, list(tests), marks, there))
    with mutated(folder, mutation):
        process.start()
        there.close()
        return _outcome(process, here, limit)


class _Only(_Watch):
    """A plugin that runs certain tests, in their order."""

    def __init__(self, tests: Sequence[str]) -> None:
        super().__init__()
        self.tests = tests

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        found = {item.nodeid: item for item in items}
        items[:] = [found[name] for name in self.tests if name in found]


def _run_anew(folder: Path, tests: list[str], marks: str, channel: Connection) -> None:
    os.setpgid(0, 0)
    enter(folder)
    only = _Only(tests)
    files = list(dict.fromkeys(map(file_of, tests)))
    status = pytest.main(["-x", *arguments(folder, files, marks)], plugins=[only])
    passed = status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    channel.send(only.failed or ("" if passed else f"pytest's status {int(status)}"))
    sys.stdout.flush()
    os._exit(0)

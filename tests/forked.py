"""Processes of their own, forked from one that has imported torch and open_clip and has done nothing else.

Importing these takes a new process some six seconds of a processor, most of what a small session needs. What
a process imports, and what it reads before it imports anything, is for a test with a process from scratch.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.popen_forkserver  # here, for pytester forgets what a test is the first to import
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import pytest

#: What every session with a model imports sooner or later, of other projects only: pytest looks for
#: assertions in its plugins while it imports them.
PRELOADED = [
    *("torch", "torchvision", "open_clip", "kornia.augmentation", "scipy.stats"),
    "sklearn.metrics",
]

#: Elsewhere the libraries of the system do not survive a fork.
AVAILABLE = sys.platform == "linux"


class Forked:
    """A running module or script, with the part of ``subprocess.Popen`` that pytester uses.

    Args:
        words: the module and its arguments, as ``python -m`` takes them, or ``python`` before a script.
        folder: where it runs.
        environment: all of it.
        out, err: files that exist, for what it prints.
    """

    stdin = None

    def __init__(
        self,
        words: Sequence[str],
        folder: str,
        environment: Mapping[str, str],
        out: str,
        err: str,
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        given = (list(words), folder, dict(environment), path_of_packages(), out, err)
        self._process = context.Process(target=_run, args=given)
        self._process.start()

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when it has ended; of a signal the negative number."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("a forked process", timeout or 0.0)
        return code

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


def popen(args: Sequence[str], stdout: TextIO, stderr: TextIO, **_: Any) -> Forked:
    """Start ``python -mpytest`` as ``Pytester.popen`` does: the working directory is on the path."""
    python, module, *arguments = args
    assert (python, module) == (sys.executable, "-mpytest")
    folder = os.getcwd()
    path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path}
    return Forked(["pytest", *arguments], folder, environment, stdout.name, stderr.name)


def session(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    """Run pytest with these arguments in a process of its own."""
    with pytest.MonkeyPatch.context() as patch:
        if AVAILABLE:
            patch.setattr(pytester, "popen", popen)
        return pytester.runpytest_subprocess(*args)


def command(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a module, or ``python`` and a script, and return exit code and output, errors last."""
    if not AVAILABLE:
        done = subprocess.run(
            [sys.executable, *(words[1:] if words[0] == "python" else ["-m", *words])],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        return done.returncode, done.stdout + done.stderr
    files = [folder.parent / f"{folder.name}-{name}" for name in ("out", "err")]
    for file in files:
        file.write_text("", encoding="utf-8")
    code = Forked(words, str(folder), environment, *map(str, files)).wait(600)
    return code, "".join(file.read_text(encoding="utf-8") for file in files)


@functools.cache
def path_of_packages() -> list[str]:
    """Return where a new process looks for modules when nobody tells it."""
    told = subprocess.run(
        [sys.executable, "-c", "import json, sys; print(json.dumps(sys.path[1:]))"],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[str] = json.loads(told.stdout)
    return found


def _run(
    words: list[str],
    folder: str,
    environment: dict[str, str],
    packages: list[str],
    out: str,
    err: str,
) -> None:
    for number, file in ((1, out), (2, err)):
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    given = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = [folder, *given, *packages]
    sys.argv = words[1:] if words[0] == "python" else words
    importlib.invalidate_caches()
    try:
        if words[0] == "python":
            runpy.run_path(words[1], run_name="__main__")
        else:
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()

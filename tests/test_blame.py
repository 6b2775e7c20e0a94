"""Whose line an error comes from: files of the user's, of this package and of libraries."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import pytest_cliprobust
from pytest_cliprobust import blame
from pytest_cliprobust.blame import (
    import_mistake,
    is_users,
    place_of,
    shown_frames,
    told,
    users_code,
)
from pytest_cliprobust.errors import ClipRobustError, NotRun, UserCodeError


def imported(path: Path, text: str) -> ModuleType:
    """Write a file and import it."""
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def raised(call: Callable[[], Any]) -> BaseException:
    """Return what a call raises."""
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_whose_a_file_is(here: Path) -> None:
    (here / "mine.py").touch()
    assert is_users(here / "mine.py")
    assert is_users("mine.py")
    assert not is_users(here / "none.py")
    assert not is_users("<string>")
    foreign = (pytest_cliprobust.__file__, json.__file__, np.__file__, pytest.__file__)
    assert [is_users(file) for file in foreign] == [False] * 4
    (here / "site-packages").mkdir()
    (here / "site-packages" / "theirs.py").touch()
    assert not is_users(here / "site-packages" / "theirs.py")


def test_the_innermost_line_of_the_users(here: Path) -> None:
    mine = imported(
        here / "mine.py",
        "import json\n\ndef outer():\n    return inner()\n\ndef inner():\n    return json.loads('{')\n",
    )
    error = raised(mine.outer)
    assert place_of(error) == "mine.py:7"
    assert told(error).startswith("JSONDecodeError: Expecting property name")
    assert told(error).endswith(", at mine.py:7")
    assert shown_frames(error).splitlines()[-4:] == [
        "mine.py:4: in outer",
        "    return inner()",
        "mine.py:7: in inner",
        "    return json.loads('{')",
    ]


def test_a_known_file_counts_wherever_it_lies(here: Path) -> None:
    (here / "site-packages").mkdir()
    file = here / "site-packages" / "theirs.py"
    error = raised(imported(file, "def f():\n    return 1 / 0\n").f)
    assert Path(place_of(error).rpartition(":")[0]).name == "test_blame.py"
    assert told(error, file) == (
        "ZeroDivisionError: division by zero, at site-packages/theirs.py:2"
    )


def test_a_file_that_is_no_python_has_a_place(here: Path) -> None:
    error = raised(lambda: imported(here / "mine.py", "x = 1\ndef (:\n"))
    assert told(error) == "SyntaxError: invalid syntax, at mine.py:2"


def test_an_error_without_a_line_of_the_users_is_told_without() -> None:
    error = ValueError("no way")  # never raised
    assert (place_of(error), told(error), shown_frames(error)) == ("", "ValueError: no way", "")


# --- While something of the user's runs ------------------------------------------------------------


def test_the_users_code_is_named_with_line_and_error(here: Path) -> None:
    mine = imported(here / "mine.py", "def sepia(images):\n    return images * amount\n")

    def run() -> None:
        with users_code("perturbation 'sepia'"):
            mine.sepia(1)

    error = raised(run)
    assert isinstance(error, UserCodeError)
    assert str(error) == (
        "perturbation 'sepia' fails (NameError: name 'amount' is not defined, at mine.py:2)"
    )
    assert isinstance(error.__cause__, NameError)
    lines = shown_frames(error).splitlines()
    assert lines[-2:] == ["mine.py:2: in sepia", "    return images * amount"]
    assert not [line for line in lines if "blame.py" in line and "test_blame" not in line]


def test_code_that_ends_the_process_ends_one_test(here: Path) -> None:
    mine = imported(here / "mine.py", "import sys\n\ndef sepia(images):\n    sys.exit(0)\n")

    def run() -> None:
        with users_code("perturbation 'sepia'"):
            mine.sepia(1)

    error = raised(run)
    assert isinstance(error, UserCodeError)
    assert str(error) == "perturbation 'sepia' fails (SystemExit: 0, at mine.py:4)"


@pytest.mark.parametrize("error", [NotRun("no depth"), MemoryError("full"), KeyboardInterrupt()])
def test_what_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, users_code("it", passing=(MemoryError,)):
        raise error
    assert caught.value is error


def test_a_mistake_of_ours_keeps_its_whole_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blame, "is_users", lambda path: False)

    def run() -> None:
        with users_code("perturbation 'fog'"):
            json.loads("{")

    error = raised(run)
    assert " fails (JSONDecodeError: " in str(error)
    assert ", at " not in str(error)
    cause = error.__cause__
    assert cause is not None
    functions = [frame.name for frame in traceback.extract_tb(cause.__traceback__)]
    assert [line.rpartition(" ")[2] for line in shown_frames(error).splitlines()[::2]] == functions
    assert functions[-1] == "raw_decode"


# --- While a file of the user's is imported --------------------------------------------------------

REGISTERS = "from pytest_cliprobust import register_perturbation\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{REGISTERS}x = y\n", "mine.py:2: NameError: name 'y' is not defined"),
        (f"{REGISTERS}def (:\n", "mine.py:2: SyntaxError: invalid syntax"),
        (
            f"{REGISTERS}@register_perturbation(inputs=('deepth',))\ndef f(images): ...\n",
            "mine.py:2: perturbation 'f' asks for an input 'deepth'",
        ),
        ("x = y\n", None),
        ("def (:\n", None),
    ],
)
def test_only_files_that_name_us_are_our_business(here: Path, text: str, line: str | None) -> None:
    error = raised(lambda: imported(here / "mine.py", text))
    error = error.with_traceback(_below(error))
    found = import_mistake(error)
    assert (found is None) if line is None else (found or "").startswith(line)
    assert "\n" not in (found or "")


@pytest.mark.parametrize(
    ("outer", "inner", "line"), [(REGISTERS, "\n", 2), ("\n", REGISTERS, 2), ("\n", "\n", None)]
)
@pytest.mark.parametrize("helper", ["blamed_helper", "blamed_other"])
def test_a_helper_or_its_user_names_us(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    outer: str,
    inner: str,
    line: int | None,
    helper: str,
) -> None:
    monkeypatch.syspath_prepend(here)
    (here / f"{helper}.py").write_text(f"{inner}x = y\n", encoding="utf-8")
    error = raised(lambda: imported(here / "mine.py", f"{outer}import {helper}\n"))
    error = error.with_traceback(_below(error))
    wanted = None if line is None else f"{helper}.py:{line}: NameError: name 'y' is not defined"
    assert import_mistake(error) == wanted


def test_any_file_on_its_way_may_name_us(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(here)
    names = ["blamed_first", "blamed_second", "blamed_third", "blamed_last"]
    for naming in (*names, None):
        for name, following in zip(names, (*names[1:], None), strict=True):
            text = f"import {following}\n" if following else "x = y\n"
            said = "# of pytest_cliprobust\n" if name == naming else "# of others\n"
            (here / f"{name}.py").write_text(said + text, encoding="utf-8")
        for name in names:
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        error = raised(lambda: importlib.import_module(names[0]))
        error = error.with_traceback(_below(error))
        wanted = "blamed_last.py:2: NameError: name 'y' is not defined" if naming else None
        assert import_mistake(error) == wanted


def test_a_file_that_is_gone_names_nobody(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = raised(lambda: imported(here / "mine.py", f"{REGISTERS}x = y\n"))
    error = error.with_traceback(_below(error))

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert import_mistake(error) is None


def test_what_was_told_from_another_error_is_not_told_again() -> None:
    error = ClipRobustError("it (NameError: …, at mine.py:2)")
    error.__cause__ = NameError()
    assert import_mistake(error) == str(error)


def _below(error: BaseException) -> Any:
    """Return the traceback without the lines of this file, which names us, too."""
    found = error.__traceback__
    while found is not None and found.tb_frame.f_code.co_filename == __file__:
        found = found.tb_next
    return found

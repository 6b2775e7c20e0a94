"""What every pytest session meets: which plugins are there, how many threads a worker has, who tells what."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from _pytest.config import ConftestImportFailure

import pytest_cliprobust.plugin as module
from pytest_cliprobust.plugin import fixtures
from pytest_cliprobust.plugin.exits import Exit
from pytest_cliprobust.plugin.state import IMPORTS, LACKING

pytestmark = pytest.mark.smoke  # none of them starts a session


def ended_by(hook: Generator[None, Any, Any], error: BaseException | None) -> Any:
    """Return what a wrapper makes of what it wraps: a result, or an error."""
    next(hook)
    with pytest.raises(StopIteration) as caught:
        hook.throw(error) if error is not None else hook.send("theirs")
    return caught.value.value


@pytest.mark.parametrize("model", [True, False])
def test_what_evaluates_models_is_there_where_a_model_is_named(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, model: bool
) -> None:
    for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    config = pytester.parseconfig(*(["--clip-model=reference"] if model else []))
    module.pytest_configure(config)
    has = config.pluginmanager.has_plugin
    assert (has("cliprobust-waiting"), has("cliprobust-no-model")) == (model, not model)
    assert has("cliprobust-fixtures")
    assert config.pluginmanager.get_plugin("cliprobust-imports") is config.stash[IMPORTS]
    marks = {line.partition(":")[0].partition("(")[0] for line in config.getini("markers")}
    assert {"clip_suite", "accuracy", "ood"} <= marks
    # Who tests no model keeps threads as they are.
    assert os.environ.get("OMP_WAIT_POLICY") == ("PASSIVE" if model else None)
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize(
    ("workers", "cores", "threads"),
    [
        (None, 8, None),
        (0, 8, None),
        (1, 8, None),
        (2, 8, "4"),
        (3, 8, "2"),
        (8, 8, "1"),
        (9, 8, "1"),
        (2, None, "1"),
    ],
)
def test_workers_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, workers: int | None, cores: int | None, threads: str | None
) -> None:
    config: Any = SimpleNamespace(option=SimpleNamespace(numprocesses=workers))
    for bound in (True, False):
        if bound:
            monkeypatch.setattr(
                os, "sched_getaffinity", lambda who: set(range(cores or 1)), raising=False
            )
            monkeypatch.setattr(os, "cpu_count", lambda: 99)
        else:  # a system that binds no process to cores
            monkeypatch.delattr(os, "sched_getaffinity")
            monkeypatch.setattr(os, "cpu_count", lambda: cores)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        module.share_cores(config)
        assert os.environ.get("OMP_NUM_THREADS") == threads
    # What the user says counts.
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    module.share_cores(config)
    assert os.environ["OMP_NUM_THREADS"] == "7"
    # Without pytest-xdist there is no such option.
    module.share_cores(SimpleNamespace(option=SimpleNamespace()))  # type: ignore[arg-type]


def test_a_conftest_that_is_ours_to_tell_of_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    config: Any = SimpleNamespace()
    failure = ConftestImportFailure(Path("conftest.py"), cause=ValueError("a slip"))
    assert ended_by(module.pytest_load_initial_conftests(config), None) == "theirs"
    monkeypatch.setattr(module, "conftest_mistake", lambda of, error: None)
    hook = module.pytest_load_initial_conftests(config)
    next(hook)
    with pytest.raises(ConftestImportFailure):
        hook.throw(failure)
    monkeypatch.setattr(module, "conftest_mistake", lambda of, error: f"line: {error.cause}")
    hook = module.pytest_load_initial_conftests(config)
    next(hook)
    with pytest.raises(pytest.UsageError, match=r"^line: a slip$") as caught:
        hook.throw(failure)
    assert caught.value.__cause__ is None


def test_what_the_environment_lacks_has_a_code_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain, lacking = (SimpleNamespace(stash={LACKING: one}) for one in (False, True))
    assert ended_by(module.pytest_cmdline_main(lacking), None) == "theirs"  # type: ignore[arg-type]
    error = pytest.UsageError("no hub")
    assert ended_by(module.pytest_cmdline_main(lacking), error) == Exit.ENVIRONMENT  # type: ignore[arg-type]
    assert capsys.readouterr().err == "ERROR: no hub\n\n"
    for config in (plain, SimpleNamespace(stash={})):
        hook = module.pytest_cmdline_main(config)  # type: ignore[arg-type]
        next(hook)
        with pytest.raises(pytest.UsageError, match="no hub"):
            hook.throw(error)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("count", "words"), [(1, "1 test evaluates"), (3, "3 tests evaluate")])
def test_tests_that_need_a_model_say_how_many_they_are(
    monkeypatch: pytest.MonkeyPatch, count: int, words: str
) -> None:
    monkeypatch.setattr(fixtures, "needs_model", lambda item: item == "ours")
    option = SimpleNamespace(collectonly=False)
    session: Any = SimpleNamespace(
        items=["theirs", *["ours"] * count], config=SimpleNamespace(option=option)
    )
    with pytest.raises(
        pytest.UsageError, match=f"^{words} a CLIP model and none is named: add --clip-model"
    ):
        module.NoModel().pytest_collection_finish(session)
    option.collectonly = True
    module.NoModel().pytest_collection_finish(session)
    option.collectonly, session.items = False, ["theirs"]
    module.NoModel().pytest_collection_finish(session)

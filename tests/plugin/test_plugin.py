"""The plugin as a user meets it: in pytest sessions of its own, on the bundled reference model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tomlkit  # noqa: F401 - sessions in this process must not be the first to import these
from helpers import SUITES

from pytest_cliprobust.perturbations import registry

registry.names()  # loads the families of perturbations, for the same reason

USER_SUITE = """
    from pytest_cliprobust.properties import accuracy

    def test_mine(clip, check):
        data = clip.dataset("clean")
        check(accuracy.accuracy_figure(clip.correct(data)))
"""

THRESHOLDS = """
schema = 1
[[threshold]]
suite = "mine"
metric = "accuracy"
min = {bound}  # what we promise
because = "chance is below 0.01"
"""


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One feature cache for all sessions below, so that the model runs once."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def run(pytester: pytest.Pytester, cache_dir: Path):
    """Run pytest on a user's suite with the reference model."""

    def _run(*args: str, bound: float = 0.01, suite: str = USER_SUITE, model: str = "reference"):
        pytester.makepyfile(test_mine=suite)
        (pytester.path / "thresholds.toml").write_text(THRESHOLDS.format(bound=bound))
        return again(*args, model=model)

    def again(*args: str, model: str = "reference"):
        return pytester.runpytest_inprocess(
            f"--clip-model={model}", "--clip-profile=quick", "--clip-limit=64",
            f"--clip-cache-dir={cache_dir}", *args,
        )  # fmt: skip

    _run.again = again  # type: ignore[attr-defined]

    return _run


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    code = (
        "import sys, pytest_cliprobust.plugin;"
        "print([m for m in ('torch', 'numpy', 'rich', 'open_clip') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_session_without_clip_never_imports_torch(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import sys\ndef test_it():\n    assert 'torch' not in sys.modules\n")
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_waiting_threads_sleep_and_the_users_own_choice_stays(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for own, wanted in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
        if own:
            monkeypatch.setenv("OMP_WAIT_POLICY", own)
        suite = f"""
            import os

            def test_mine(clip):
                assert os.environ["OMP_WAIT_POLICY"] == "{wanted}"
        """
        run(suite=suite).assert_outcomes(passed=1)


def test_suites_without_a_model_explain_themselves(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess(str(SUITES))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: * none is named: add --clip-model reference*"])
    assert "Traceback" not in result.stderr.str()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--clip-profile=huge"], "*--clip-profile huge: choose one of quick, standard, full"),
        (["--clip-batch-size=0"], "*--clip-batch-size 0: a whole number from 1 on is needed"),
        (["--clip-limit=many"], "*--clip-limit many: a whole number*"),
        (["--clip-thresholds=none.toml"], "*none.toml: no such threshold file*"),
    ],
)
def test_a_wrong_option_is_one_line(
    pytester: pytest.Pytester, args: list[str], message: str
) -> None:
    pytester.makepyfile(test_mine=USER_SUITE)
    result = pytester.runpytest_inprocess("--clip-model=reference", *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert "Traceback" not in result.stderr.str()


def test_a_users_suite_of_ten_lines(run) -> None:
    result = run("--junitxml=junit.xml", "--clip-report=report.json,report.md", "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["clip model: reference *", "clip data: embedded, profile quick*", "*CLIP robustness*"]
    )
    result.stdout.re_match_lines([r"  accuracy · clean\s+0\.\d+ \[.*\]\s+64\s+min 0\.01\s+pass"])
    document = json.loads(Path("report.json").read_text())
    assert document["schema"] == 1
    (record,) = document["measurements"]
    assert record["key"] == "mine/accuracy/clean/clean/reference"
    assert record["verdict"]["status"] == "pass"
    assert record["figure"]["n"] == 64
    assert "mine/accuracy/clean" in Path("report.md").read_text()
    assert 'name="mine/accuracy/clean/clean/reference"' in Path("junit.xml").read_text()


def test_a_missed_bound_says_all_that_a_stranger_needs(run) -> None:
    result = run(bound=0.999)
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "thresholds.toml:6" in text
    assert "chance is below 0.01" in text
    assert "pytest test_mine.py::test_mine[reference] --clip-model=reference" in text.replace(
        "'", ""
    )
    assert "Traceback" not in text


def test_a_misspelt_metric_is_an_error_with_its_line(run, pytester: pytest.Pytester) -> None:
    run()
    path = pytester.path / "thresholds.toml"
    path.write_text(path.read_text().replace('"accuracy"', '"acuracy"'))
    result = run.again()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: thresholds.toml:5: *acuracy*accuracy*"])


def test_an_unused_bound_is_reported(run, pytester: pytest.Pytester) -> None:
    run()
    path = pytester.path / "thresholds.toml"
    path.write_text(path.read_text() + '[[threshold]]\nsuite = "mine"\nmetric = "ece"\nmax = 1.0\n')
    result = run.again()
    result.stdout.fnmatch_lines(["warning: thresholds.toml:*ece*not used by any test"])


def test_recording_keeps_comments(run, pytester: pytest.Pytester) -> None:
    result = run("--clip-record", bound=0.999)
    result.assert_outcomes(passed=1)
    text = (pytester.path / "thresholds.toml").read_text()
    assert "# what we promise" in text
    result = run.again()
    result.assert_outcomes(passed=1)


def test_an_unknown_model_is_one_line(run) -> None:
    result = run(model="ViT-B-23")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *ViT-B-23*"])
    assert "Traceback" not in result.stderr.str()

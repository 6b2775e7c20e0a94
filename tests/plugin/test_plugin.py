"""The plugin as a user meets it: in pytest sessions of its own, on the bundled reference model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import ROOT, SUITES, Sessions, one_line, report, write_pictures

from pytest_cliprobust.plugin import share_cores
from pytest_cliprobust.plugin.exits import Exit

#: As the README shows it.
USER_SUITE = """
    from pytest_cliprobust.properties import accuracy

    def test_mine(clip, gate):
        clean, foggy = clip.on("clean"), clip.on("clean", "fog_3d", 3)
        gate(accuracy.accuracy_of(foggy), accuracy.accuracy_drop(clean, foggy))
"""

THRESHOLDS = """
schema = 1
[[threshold]]
suite = "mine"
metric = "accuracy"
min = {bound}  # what we promise
because = "chance is below 0.01"
"""
LOOSE = THRESHOLDS.format(bound=0.01)
TOO_STRICT = THRESHOLDS.format(bound=0.999)

#: A test that evaluates nothing, and sees whether anything heavy was imported for it.
PLAIN = """
    import sys

    def test_plain():
        assert not {"torch", "numpy", "open_clip"} & set(sys.modules)
"""


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


def test_a_model_in_the_ini_file_costs_plain_unit_tests_nothing(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeini("[pytest]\nclip_model = reference\nclip_report = report.json")
    pytester.makepyfile(PLAIN)
    for arguments in ((), ("-n2",)):
        result = pytester.runpytest_subprocess(*arguments)
        result.assert_outcomes(passed=1)
        result.stdout.no_fnmatch_line("*clip*model*")
        assert not list(pytester.path.glob("report*"))


def test_a_model_that_no_test_needs_is_told_at_the_end(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PLAIN)
    warning = "warning: --clip-model reference: nothing was evaluated*(1 collected)*--clip-suites*"
    result = pytester.runpytest_subprocess("--clip-model", "reference")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([warning])
    pytester.makepyfile("def test_plain(): pass")
    result = pytester.runpytest_subprocess("--clip-model=reference", "-n2")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([warning])


@pytest.mark.long
def test_a_model_in_the_ini_file_is_evaluated_by_workers_too(
    run: Sessions, shared_cache: Path
) -> None:
    run.pytester.makeini(
        "[pytest]\nclip_model = reference\nclip_limit = 40\nclip_profile = quick\n"
        f"clip_report = report.json\nclip_cache_dir = {shared_cache}"
    )
    run.pytester.makepyfile(test_mine=USER_SUITE)
    result = run.plain("-n2", process=True)
    result.assert_outcomes(passed=1)
    assert len(report()["measurements"]) == 2
    assert not Path("report.json.unfinished").exists()
    (run.path / "thresholds.toml").write_text(LOOSE.replace("accuracy", "acuracy"))
    one_line(run.plain("-n2", process=True), "thresholds.toml:5", "acuracy")


@pytest.mark.long
@pytest.mark.parametrize("model", ["reference", "ViT-B-23"])
def test_a_mistake_under_two_workers_is_told_once(run: Sessions, model: str) -> None:
    wrong = LOOSE.replace("accuracy", "acuracy")
    result = run(f"--clip-model={model}", "-n2", suite=USER_SUITE, thresholds=wrong, process=True)
    word = "acuracy" if model == "reference" else model
    one_line(result, word)
    lines = f"{result.stdout.str()}{result.stderr.str()}".splitlines()
    assert sum(word in line for line in lines) == 1
    assert not list(run.path.glob("*.unfinished"))


def test_waiting_threads_sleep_and_the_users_own_choice_stays(
    run: Sessions, monkeypatch: pytest.MonkeyPatch
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


@pytest.mark.parametrize(
    ("workers", "cores", "own", "threads"),
    [
        (None, 8, None, None),
        (1, 8, None, None),
        (2, 8, None, "4"),
        (3, 8, None, "2"),
        (4, 2, None, "1"),
        (2, 8, "8", "8"),
    ],
)
def test_workers_share_the_cores_and_the_users_own_choice_stays(
    monkeypatch: pytest.MonkeyPatch,
    workers: int | None,
    cores: int,
    own: str | None,
    threads: str | None,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", own or "unset below")
    if own is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(cores), raising=False)
    config: Any = SimpleNamespace(option=SimpleNamespace(numprocesses=workers))
    share_cores(config)
    assert os.environ.get("OMP_NUM_THREADS") == threads


def test_without_an_affinity_all_cores_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "unset below")
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    config: Any = SimpleNamespace(option=SimpleNamespace(numprocesses=2))
    share_cores(config)
    assert os.environ["OMP_NUM_THREADS"] == "3"


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
def test_a_wrong_option_is_one_line(run: Sessions, args: list[str], message: str) -> None:
    run.pytester.makepyfile(test_mine=USER_SUITE)
    result = run.plain("--clip-model=reference", *args)
    one_line(result)
    result.stderr.fnmatch_lines([message])


@pytest.mark.smoke
def test_a_users_suite_of_six_lines(run: Sessions) -> None:
    result = run(
        "--junitxml=junit.xml",
        "--clip-report=report.json,report.md",
        "-v",
        suite=USER_SUITE,
        thresholds=LOOSE,
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["clip model: reference *", "clip data: embedded, profile quick*", "*CLIP robustness*"]
    )
    result.stdout.re_match_lines([r"  accuracy · fog_3d@3\s+0\.\d+ \[.*\]\s+40\s+min 0\.01\s+pass"])
    document = report()
    assert document["schema"] == 2
    dropped, foggy = sorted(document["measurements"], key=lambda entry: -len(entry["key"]))
    assert dropped["key"] == "mine/accuracy_drop/clean/fog_3d@3/reference"
    assert foggy["key"] == "mine/accuracy/clean/fog_3d@3/reference"
    assert foggy["verdict"]["status"] == "pass"
    assert foggy["figure"]["n"] == 40
    assert foggy["figure"]["condition"] == {
        "dataset": "clean",
        "steps": [{"perturbation": "fog_3d", "severity": 3, "parameters": {}}],
    }
    assert dropped["verdict"]["status"] == "unbounded"
    assert "mine/accuracy/clean" in Path("report.md").read_text()
    assert 'name="mine/accuracy/clean/fog_3d@3/reference"' in Path("junit.xml").read_text()


@pytest.mark.smoke
def test_a_missed_bound_says_all_that_a_stranger_needs(run: Sessions) -> None:
    result = run(suite=USER_SUITE, thresholds=TOO_STRICT)
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "mine: accuracy of reference on clean, fog_3d at severity 3 breaks min 0.999" in text
    assert "thresholds.toml:6" in text
    assert "chance is below 0.01" in text
    command = "pytest test_mine.py::test_mine[reference] --clip-model=reference"
    assert command in text.replace("'", "")
    assert "Traceback" not in text


@pytest.mark.smoke
def test_a_misspelt_metric_is_an_error_with_its_line(run: Sessions) -> None:
    wrong = LOOSE.replace('"accuracy"', '"acuracy"')
    result = run(suite=USER_SUITE, thresholds=wrong)
    one_line(result, "thresholds.toml:5", "acuracy", "accuracy")


def test_an_unused_bound_is_reported(run: Sessions) -> None:
    more = LOOSE + '[[threshold]]\nsuite = "mine"\nmetric = "ece"\nmax = 0.9\n'
    result = run(suite=USER_SUITE, thresholds=more)
    assert result.ret == Exit.INCONCLUSIVE
    result.stdout.fnmatch_lines(["error: thresholds.toml:*ece*not used by any test: suite mine *"])


@pytest.mark.smoke
def test_recording_keeps_comments(run: Sessions) -> None:
    result = run("--clip-record", suite=USER_SUITE, thresholds=TOO_STRICT)
    result.assert_outcomes(passed=1)
    text = (run.path / "thresholds.toml").read_text()
    assert "# what we promise" in text
    assert "max_decrease = " in text
    # What a person has promised stays beside the margin, and is missed still.
    run.again().assert_outcomes(failed=1)


def test_recording_in_a_folder_of_ones_own_leaves_the_shipped_file_alone(run: Sessions) -> None:
    shipped = ROOT / "thresholds.toml"
    before = shipped.read_bytes()
    run("--clip-record", suite=USER_SUITE, thresholds=None).assert_outcomes(passed=1)
    assert shipped.read_bytes() == before
    assert 'suite = "mine"' in (run.path / "thresholds.toml").read_text()


@pytest.mark.smoke
def test_an_unknown_model_is_one_line(run: Sessions) -> None:
    one_line(run("--clip-model=ViT-B-23", suite=USER_SUITE), "ViT-B-23")


# --- Suites of one's own ---------------------------------------------------------------------------


def test_a_new_file_is_a_suite_with_a_marker_of_its_own(run: Sessions) -> None:
    run.pytester.makepyfile(test_other="def test_plain(): pass")
    result = run("--strict-markers", "-m", "mine", suite=USER_SUITE, thresholds=LOOSE)
    result.assert_outcomes(passed=1, deselected=1)
    without = run.plain("--collect-only", "-q", "--strict-markers", "-m", "mine")
    assert [line for line in without.outlines if "::" in line] == [
        "test_mine.py::test_mine[no-model]"
    ]


def test_a_bound_for_a_suite_of_ones_own_leaves_runs_of_others_alone(run: Sessions) -> None:
    run.pytester.makepyfile(test_yours=USER_SUITE)
    result = run(
        "test_yours.py",
        suite=USER_SUITE,
        thresholds=LOOSE + LOOSE.replace("schema = 1", "").replace("mine", "yours"),
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["note: 1 bound is for suites that were not run (mine)"])


def test_the_shipped_suites_are_listed_as_markers(run: Sessions) -> None:
    shown = run.plain("--markers").stdout.str()
    names = [path.stem.removeprefix("test_") for path in SUITES.glob("test_*.py")]
    assert len(names) >= 12
    for name in names:
        assert re.search(rf"^@pytest.mark.{name}: tests of the {name} suite", shown, re.MULTILINE)


# --- Beside other fixtures and plugins -------------------------------------------------------------

OWN_FIXTURES = """
    import pytest

    @pytest.fixture
    def clip_model():
        return "my own"

    @pytest.fixture(params=["a", "b"])
    def clip(request, clip_model):
        return clip_model + request.param

    @pytest.fixture
    def gate():
        return "gate of steel"

    @pytest.fixture
    def clean():
        return "soap"

    @pytest.fixture
    def shift():
        return "night"

    @pytest.fixture
    def check():
        return "mate"

    def test_own(clip, gate, clean, shift, check):
        assert clip in ("my owna", "my ownb")
        assert (gate, clean, shift, check) == ("gate of steel", "soap", "night", "mate")
"""


@pytest.mark.parametrize("model", [(), ("--clip-model=reference",)])
def test_a_projects_own_fixtures_of_our_names_stay_its_own(
    run: Sessions, model: tuple[str, ...]
) -> None:
    run.pytester.makepyfile(OWN_FIXTURES)
    result = run.plain(*model)
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("clip model:*")


def test_our_fixtures_and_a_check_of_another_plugin_work_in_one_test(run: Sessions) -> None:
    """pytest-check, which many projects use, has a fixture of that name."""
    run.pytester.makeconftest(
        "import pytest\n\n\nclass Check:\n    @pytest.fixture\n    def check(self):\n"
        "        return lambda value: value\n\n\n"
        "def pytest_configure(config):\n    config.pluginmanager.register(Check())\n"
    )
    suite = USER_SUITE.replace("(clip, gate)", "(clip, gate, check)").replace(
        "gate(accuracy.accuracy_of(foggy)", "check(gate)(accuracy.accuracy_of(foggy)"
    )
    run(suite=suite, thresholds=LOOSE).assert_outcomes(passed=1)
    run(suite=suite, thresholds=TOO_STRICT).assert_outcomes(failed=1)


# --- Options that pytest takes for test folders ----------------------------------------------------


@pytest.fixture
def project(run: Sessions) -> Sessions:
    """A project whose ini file names the model and a gate that fails."""
    run.pytester.makeini("[pytest]\nclip_model = reference\nclip_thresholds = strict.toml")
    run.pytester.makepyfile(test_mine=USER_SUITE)
    (run.path / "strict.toml").write_text(TOO_STRICT)
    return run


@pytest.mark.parametrize("option", ["--clip-cache-dir", "--clip-report", "--clip-model"])
def test_a_value_that_moves_the_root_is_one_line_with_the_remedy(
    project: Sessions, tmp_path: Path, option: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "pytest.ini").write_text("[pytest]\n")
    value = elsewhere / "report.json" if option == "--clip-report" else elsewhere
    if option == "--clip-report":
        value.write_text("{}")
    result = project.plain(option, str(value))
    one_line(result, f"{option} {value}", f"write {option}={value}")


def test_the_same_in_the_environment(
    project: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", f"--clip-cache-dir {tmp_path}")
    one_line(project.plain(), f"write --clip-cache-dir={tmp_path}")


def test_a_value_that_changes_nothing_works_with_a_space(
    project: Sessions, shared_cache: Path
) -> None:
    inside = project.path / "cache"
    inside.mkdir()
    result = project.plain(
        "--clip-cache-dir", "cache", "--clip-limit=4", "--clip-profile=quick", "test_mine.py"
    )
    result.assert_outcomes(failed=1)
    assert list(inside.rglob("*.features"))


# --- Data of one's own -----------------------------------------------------------------------------


def test_no_suite_asks_whether_data_is_embedded() -> None:
    words = re.compile(r"embedded|imagefolder|clip_data|config\.data", re.IGNORECASE)
    for path in SUITES.glob("*.py"):
        code = re.sub(r'""".*?"""', "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not words.search(code), path.name


def test_the_shipped_suites_on_an_image_folder(run: Sessions) -> None:
    write_pictures(run.path / "photos", each=3)
    suites = ("accuracy", "calibration", "corruption_2d", "corruption_3d", "occlusion", "ood")
    more = ("shape_bias", "shift", "typographic", "view")
    run(
        *(f"{SUITES}/test_{name}.py" for name in (*suites, *more)),
        "-k",
        "not (corruption or view or h265 or abr) or gaussian_noise or fog_3d or view_rotate or iso",
        "--clip-data=photos",
        "--clip-limit=4",
        "--clip-report=report.json",
    )
    document = report()
    measured = {
        entry["key"].rpartition("/imagefolder:photos/")[0] for entry in document["measurements"]
    }
    assert {"accuracy/accuracy", "calibration/ece", "typographic/attack_success"} <= measured
    assert {"corruption_2d/accuracy", "corruption_2d/mean_corruption_drop"} <= measured
    hidden = {e["perturbation"] for e in document["measurements"] if e["suite"] == "occlusion"}
    assert hidden == {"patch_occlusion"}
    reasons: dict[str, set[str]] = {}
    for entry in document["not_run"]:
        reasons.setdefault(entry["suite"], set()).add(entry["reason"])
    assert any(r.startswith("needs calibration (") for r in reasons["calibration"]), reasons
    assert any(r.startswith("needs shift (") for r in reasons["shift"])
    # The banks of kNN and Mahalanobis are calibration data, which a fifth of more pictures would be.
    asked = {"needs near_ood", "needs far_ood"}
    assert {r.partition(" (")[0] for r in reasons["ood"]} == asked
    assert {r.partition(" (")[0] for r in reasons["shape_bias"]} == {"needs cue_conflict"}
    assert all("depth" in r for r in reasons["corruption_3d"])
    assert "occluder" in str(reasons["occlusion"])
    assert not document["mistakes"]


def test_role_fixtures_run_a_test_once_for_each_data_set(run: Sessions) -> None:
    suite = """
        def test_mine(clip, gate, factors, near_ood):
            pass
    """
    shown = run("--collect-only", "-q", suite=suite).outlines
    tests = [line for line in shown if "::" in line]
    assert len(tests) > 5
    assert all("[reference-near_ood-factor-" in line or "factor-" in line for line in tests)
    write_pictures(run.path / "photos")
    result = run("--clip-data=photos", "-rs", suite=suite)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*needs *photos gives clean only; leave --clip-data out*"])

"""How runs end, whole or not: what is missing is told, the exit code says why, and nothing is left."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest
from helpers import Sessions, one_line, report, write_pictures

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.errors import Unavailable
from pytest_cliprobust.files import replace_file
from pytest_cliprobust.plugin.exits import Exit
from pytest_cliprobust.reporting import files
from pytest_cliprobust.results.journal import Journal
from pytest_cliprobust.results.run import Run

#: Three tests; the second one ends as the environment says.
SUITE = """
    import os, signal
    import pytest
    from pytest_cliprobust.errors import ClipRobustError, NotRun, Unavailable
    from pytest_cliprobust.perturbations.codec import MissingEncoder
    from pytest_cliprobust.properties import accuracy

    def test_first(clip, gate):
        gate(accuracy.accuracy_of(clip.on("clean")))

    def test_second(clip, gate):
        how = os.environ["HOW"]
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "interrupt":
            raise KeyboardInterrupt
        if how == "fail":
            raise AssertionError("worse than before")
        if how == "mistake":
            raise ClipRobustError("a slip of the user's")
        if how == "memory":
            raise MemoryError
        if how == "encoder":
            raise MissingEncoder("there is no encoder libx265")
        if how == "skip":
            pytest.skip("no lens cap")
        if how == "disk":
            raise OSError(28, "No space left on device", "picture.png")
        gate(accuracy.accuracy_of(clip.on("clipart")))

    def test_third(clip, gate):
        gate(accuracy.accuracy_of(clip.on("calibration")))
"""

#: Two tests, of which the second one misses its bound.
LAST_FAILS = """
    from pytest_cliprobust.properties import accuracy

    def test_a(clip, gate):
        gate(accuracy.accuracy_of(clip.on("clean")))

    def test_b(clip, gate):
        gate(accuracy.accuracy_of(clip.on("clipart")))
"""

SECOND = "test_mine.py::test_second[reference]"
THIRD = "test_mine.py::test_third[reference]"


def bounds(policy: str = "") -> str:
    """Return a bound for each of the three tests, which any model meets."""
    head = f"[policy]\n{policy}\n" if policy else ""
    rules = "".join(
        f'[[threshold]]\nsuite = "mine"\nmetric = "accuracy"\ndataset = "{name}"\nmin = 0.0075\n'
        for name in ("clean", "clipart", "calibration")
    )
    return f"schema = 1\n{head}{rules}"


#: Bounds that no model meets, for two of the three.
NOT_MET = bounds().replace("0.0075", "0.99").replace('"clean"\nmin = 0.99', '"clean"\nmin = 0.1')


@pytest.fixture
def end(run: Sessions, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the suite so that its second test ends in a way, with both reports."""

    def ended(how: str, *options: str, policy: str = "", process: bool = False) -> pytest.RunResult:
        monkeypatch.setenv("HOW", how)
        given = ("--clip-report=report.json", "--clip-report=report.md", *options)
        return run(*given, suite=SUITE, thresholds=bounds(policy), process=process)

    return ended


def nothing_left(folder: Path) -> None:
    """Check that no file but the reports is beside them."""
    left = {path.name for path in folder.iterdir() if path.is_file()}
    assert {name for name in left if name.startswith(".") or not name.isascii()} == set()
    assert not {name for name in left if name.endswith((".part", ".unfinished"))}


def lost(data: dict[str, Any]) -> dict[str, str]:
    return {entry["test"]: entry["reason"] for entry in data["missing"]}


def lines_of_bounds(data: dict[str, Any], words: str) -> list[str]:
    return [line for line in data["bounds_not_judged"] if words in line]


# --- Runs that are not whole ----------------------------------------------------------------------


def check_partial(folder: Path, code: int, missing: dict[str, str], cut: int) -> dict[str, Any]:
    """Check both reports of a run of which tests are missing, and return the first."""
    data = report()
    assert not data["complete"]
    assert data["exit_status"] == code
    told = lost(data)
    assert set(told) == set(missing)
    assert all(words in told[test] for test, words in missing.items()), told
    not_judged = lines_of_bounds(data, "did not come to its end") + lines_of_bounds(
        data, "a test broke off"
    )
    assert len(not_judged) == cut
    assert any(line.startswith(f"PARTIAL: {len(missing)} of 3 tests") for line in data["because"])
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert f"partial, exit code {code}**" in text
    assert "## Not run to the end" in text
    for test in missing:
        assert f"- {test}: " in text
    for line in not_judged:
        assert line in text
    nothing_left(folder)
    return data


@pytest.mark.long
def test_a_worker_that_dies_is_told_with_what_it_took_along(run: Sessions, end: Any) -> None:
    result = end("kill", "-n1", process=True)
    assert result.ret == Exit.ENVIRONMENT
    data = check_partial(run.path, 7, {SECOND: "crashed while running"}, 1)
    assert [record["dataset"] for record in data["measurements"]] == ["calibration", "clean"]
    assert data["ending"] == "environment"
    assert "worker gw0 died" in str(data["notes"])
    result.stdout.fnmatch_lines(
        [
            "not run to its end: *test_second*crashed while running*",
            "error: thresholds.toml:7: bound min 0.0075 * was not judged: *did not come to its end",
            "PARTIAL: 1 of 3 tests did not come to its end (mine 1); 1 bound not judged for it",
            "ENVIRONMENT: worker 'gw0' crashed while running*",
            "NOT GREEN: environment, exit code 7",
        ]
    )


@pytest.mark.long
def test_a_worker_that_is_not_replaced_leaves_the_rest_unrun(run: Sessions, end: Any) -> None:
    result = end("kill", "-n1", "--max-worker-restart=0", process=True)
    assert result.ret != 0
    missing = {SECOND: "crashed while running", THIRD: "the run ended before it began"}
    check_partial(run.path, result.ret, missing, 2)


@pytest.mark.long
@pytest.mark.parametrize("asked", ["command line", "ini file"])
def test_a_worker_that_dies_before_it_reports_names_all_that_was_not_run(
    run: Sessions, end: Any, shared_cache: Path, asked: str
) -> None:
    """Its first report would have said which tests evaluate a model; here nobody says it."""
    run.pytester.makeconftest(
        """
        import os, signal
        import pytest

        @pytest.fixture(autouse=True)
        def deadly():
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    alone = ["-n1", "--max-worker-restart=0"]
    if asked == "ini file":
        run.pytester.makeini("[pytest]\nclip_model = reference\n")
        run.pytester.makepyfile(test_mine=SUITE)
        (run.path / "thresholds.toml").write_text(bounds(), encoding="utf-8")
        reports = [f"--clip-report=report.{kind}" for kind in ("json", "md")]
        result = run.plain(*alone, *reports, f"--clip-cache-dir={shared_cache}", process=True)
    else:
        result = end("", *alone, process=True)
    assert result.ret == Exit.ENVIRONMENT
    first = "test_mine.py::test_first[reference]"
    missing = {first: "crashed while running", **dict.fromkeys((SECOND, THIRD), "before it began")}
    data = check_partial(run.path, 7, missing, 3)
    assert (data["ending"], data["measurements"]) == ("environment", [])
    assert "worker gw0 died" in str(data["notes"])
    assert "no worker lived to say which of the tests that were not run" in str(data["notes"])
    assert "nothing was evaluated" not in result.stdout.str()


@pytest.mark.long
@pytest.mark.parametrize("asked", ["command line", "ini file"])
def test_an_internal_error_in_a_worker_is_no_green_run(
    run: Sessions, shared_cache: Path, asked: str
) -> None:
    """pytest-xdist tells of it and goes on; where no test is left its own exit code is 0."""
    run.pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_makereport(item):
            yield
            raise RuntimeError("a slip in a hook")
        """
    )
    options = ["-n1", "--clip-report=report.json", f"--clip-cache-dir={shared_cache}"]
    if asked == "ini file":
        run.pytester.makeini("[pytest]\nclip_model = reference\n")
    else:
        options.append("--clip-model=reference")
    run.pytester.makepyfile(test_mine=SUITE)
    (run.path / "thresholds.toml").write_text(bounds(), encoding="utf-8")
    (run.path / "report.json").write_text("an earlier run's", encoding="utf-8")
    result = run.plain(*options, process=True)
    assert result.ret == Exit.INTERNAL_ERROR
    data = report("report.json")
    assert (data["ending"], data["complete"]) == ("internal error", False)
    assert [one["test"] for one in data["missing"]][1:] == [SECOND, THIRD]
    assert len(data["bounds_not_judged"]) == 3
    assert "nothing was evaluated" not in result.stdout.str()


def test_the_first_failure_that_ends_a_run_leaves_the_rest_unrun(run: Sessions, end: Any) -> None:
    result = end("fail", "-x")
    assert result.ret == Exit.REGRESSION
    data = check_partial(
        run.path, 1, {SECOND: "it broke off", THIRD: "the run ended before it began"}, 2
    )
    assert data["ending"] == "regression"
    # pytest's own last lines come before ours.
    assert result.outlines[-1].startswith(
        "PARTIAL: 2 of 3 tests did not come to their end (mine 2)"
    )


@pytest.mark.parametrize(
    "options", [("-x",), ("--maxfail=1",), pytest.param(("-x", "-n1"), marks=pytest.mark.long)]
)
def test_a_failure_of_the_last_test_leaves_nothing_unrun(
    run: Sessions, end: Any, options: tuple[str, ...]
) -> None:
    """Nothing is behind it, so that the run is as whole as without ``-x``."""
    run(
        *("--clip-report=report.json", *options),
        suite=LAST_FAILS,
        thresholds=NOT_MET,
        process="-n1" in options,
    )
    data = report()
    # pytest-xdist calls it an interruption.
    code = Exit.INTERRUPTED if "-n1" in options else Exit.REGRESSION
    assert (data["exit_status"], data["complete"], data["missing"]) == (code, True, [])
    assert len(data["measurements"]) == 2
    assert not any("PARTIAL" in line for line in data["because"])


@pytest.mark.parametrize(
    "options", [pytest.param(("-x", "-n1"), marks=pytest.mark.long), ("--maxfail=2",)]
)
def test_what_a_failure_keeps_from_running_is_told(
    run: Sessions, end: Any, options: tuple[str, ...]
) -> None:
    suite = LAST_FAILS + "".join(
        f"""
    def test_{name}(clip, gate):
        gate(accuracy.accuracy_of(clip.on({view})))
"""
        for name, view in zip(
            "cdef",
            (
                '"calibration"',
                '"clean", "contrast", 1',
                '"clean", "contrast", 2',
                '"clean", "contrast", 3',
            ),
            strict=True,
        )
    )
    run(
        *("--clip-report=report.json", *options),
        suite=suite,
        thresholds=NOT_MET,
        process="-n1" in options,
    )
    data = report()
    code = Exit.INTERRUPTED if "-n1" in options else Exit.REGRESSION
    assert (data["exit_status"], data["complete"]) == (code, False)
    ended, missing = (
        {test.partition("[")[0].rpartition("_")[2] for test in tests}
        for tests in ({record["test"] for record in data["measurements"]}, lost(data))
    )
    assert {"a", "b"} <= ended
    assert {"e", "f"} <= missing
    assert ended | missing == set("abcdef")
    assert not ended & missing
    assert set(lost(data).values()) == {"the run ended before it began"}


def test_where_an_error_ends_the_collection_what_lies_behind_it_is_told(
    run: Sessions, end: Any
) -> None:
    run.pytester.makepyfile(test_early="import nothing_of_this_name")
    end("well", "-x")
    data = report()
    assert (data["complete"], data["not_collected"]) == (False, ["test_early.py"])
    assert any("files behind it" in note for note in data["notes"])


def test_ctrl_c_stays_pytests(run: Sessions, end: Any) -> None:
    result = end("interrupt", process=True)
    assert result.ret == Exit.INTERRUPTED
    missing = {SECOND: "the run ended while it ran", THIRD: "the run ended before it began"}
    data = check_partial(run.path, 2, missing, 2)
    assert data["ending"] == "interrupted"


def test_ctrl_c_twice_is_told_as_ctrl_c(run: Sessions, end: Any) -> None:
    """The second one comes before pytest has noted the first, and ends pytest itself."""
    run.pytester.makeconftest("def pytest_keyboard_interrupt(excinfo): raise KeyboardInterrupt")
    result = end("interrupt", process=True)
    assert result.ret not in (Exit.PASSED, Exit.INCONCLUSIVE)
    missing = {SECOND: "the run ended while it ran", THIRD: "the run ended before it began"}
    data = check_partial(run.path, 2, missing, 2)
    assert data["ending"] == "interrupted"


def test_ctrl_c_while_tests_are_collected_leaves_no_older_report(run: Sessions, end: Any) -> None:
    """A report that is green would be taken for this run's."""
    assert end("well").ret == Exit.PASSED
    run.pytester.makepyfile(test_early="raise KeyboardInterrupt")
    result = run.again("--clip-report=report.json", "--clip-report=report.md", process=True)
    assert result.ret == Exit.INTERRUPTED
    data = report()
    assert (data["exit_status"], data["ending"], data["complete"]) == (2, "interrupted", False)
    assert data["measurements"] == []
    assert any("interrupted while tests were collected" in note for note in data["notes"])
    assert "interrupted, partial, exit code 2" in (run.path / "report.md").read_text()
    nothing_left(run.path)


def test_a_mistake_in_a_test_leaves_it_out(run: Sessions, end: Any) -> None:
    result = end("mistake")
    assert result.ret == Exit.MISTAKE
    data = check_partial(run.path, 4, {SECOND: "a slip of the user's"}, 1)
    assert data["mistakes"] == ["a slip of the user's"]
    assert "- **error**: a slip of the user's" in (run.path / "report.md").read_text()
    assert result.stdout.str().count("ERROR: a slip") == 1


@pytest.mark.parametrize(
    ("how", "words"), [("memory", "out of memory"), ("disk", "the disk is full (picture.png)")]
)
def test_what_the_environment_lacks_is_no_regression(
    run: Sessions, end: Any, how: str, words: str
) -> None:
    result = end(how)
    result.assert_outcomes(passed=2, failed=1)
    assert result.ret == Exit.ENVIRONMENT
    data = check_partial(run.path, 7, {SECOND: words}, 1)
    assert words in data["troubles"][0]
    assert result.outlines[-1] == "NOT GREEN: environment, exit code 7"


def test_files_that_cannot_be_collected_are_told(run: Sessions, end: Any) -> None:
    run.pytester.makepyfile(test_yours="import nothing_of_this_name")
    result = end("well", "--continue-on-collection-errors")
    assert result.ret == Exit.REGRESSION
    data = report()
    assert not data["complete"]
    assert data["not_collected"] == ["test_yours.py"]
    assert "test_yours.py: could not be collected" in (run.path / "report.md").read_text()
    assert any("1 file could not be collected" in line for line in data["because"])


def test_a_run_of_which_nothing_could_be_collected_leaves_no_older_report(run: Sessions) -> None:
    (run.path / "report.json").write_text('{"complete": true}')
    (run.path / "thresholds.toml").write_text(bounds())
    result = run("--clip-report=report.json", suite="import nothing_of_this_name", thresholds=None)
    assert result.ret == Exit.INTERRUPTED
    data = report()
    assert (data["complete"], data["ending"]) == (False, "interrupted")
    assert data["not_collected"] == ["test_mine.py"]
    assert len(lines_of_bounds(data, "did not come to its end")) == 3
    nothing_left(run.path)


def test_a_whole_run_says_so(run: Sessions, end: Any) -> None:
    result = end("well")
    assert result.ret == Exit.PASSED
    data = report()
    assert (data["complete"], data["ending"], data["because"]) == (True, "passed", [])
    assert (data["missing"], data["troubles"]) == ([], [])
    text = (run.path / "report.md").read_text()
    assert "- ending: **passed, exit code 0**" in text
    assert "Not run" not in text
    nothing_left(run.path)


# --- Sessions that do not begin --------------------------------------------------------------------


def test_a_start_that_fails_replaces_the_report_of_an_earlier_run(run: Sessions, end: Any) -> None:
    (run.path / "report.json").write_text('{"complete": true}')
    result = end("well", "--clip-model=./nowhere")
    one_line(result, "there is no such folder or checkpoint")
    data = check_refused(run.path, 4, "mistake")
    assert "./nowhere" in data["mistakes"][0]
    assert len(lines_of_bounds(data, "did not come to its end")) == 3


def check_refused(folder: Path, code: int, ending: str) -> dict[str, Any]:
    data = report()
    assert (data["complete"], data["exit_status"], data["ending"]) == (False, code, ending)
    assert data["measurements"] == []
    assert set(lost(data).values()) == {"the run ended before it began"}
    assert len(lost(data)) == 3
    nothing_left(folder)
    return data


def test_a_hub_out_of_reach_is_the_environments(
    run: Sessions, end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: Any, **__: Any) -> NoReturn:
        raise Unavailable("the model hub cannot be reached")

    monkeypatch.setattr(Evaluation, "__init__", unavailable)
    result = end("well")
    assert result.ret == Exit.ENVIRONMENT
    errors = [line for line in result.errlines if line.startswith("ERROR: ")]
    assert errors == ["ERROR: the model hub cannot be reached"]
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    data = check_refused(run.path, 7, "environment")
    assert (data["mistakes"], data["troubles"]) == ([], ["the model hub cannot be reached"])


def test_no_memory_for_the_model_is_the_environments(
    run: Sessions, end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(Evaluation, "__init__", full)
    assert end("well").ret == Exit.ENVIRONMENT
    assert "out of memory" in check_refused(run.path, 7, "environment")["troubles"][0]


# --- Reports that cannot be written ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("file/report.json", "file is a file"),
        ("folder.json", "it is a folder"),
        ("file/deeper/report.md", "file is a file"),
        (f"{'x' * 300}.json", "File name too long"),
    ],
)
def test_a_report_that_cannot_be_written_is_told_before_anything_runs(
    run: Sessions, path: str, words: str
) -> None:
    (run.path / "file").touch()
    (run.path / "folder.json").mkdir()
    before = {path.name for path in run.path.iterdir()}
    suite = "def test_mine(clip, gate):\n    raise AssertionError('it ran')\n"
    result = run("--clip-report=new/good.md", f"--clip-report={path}", suite=suite)
    line = one_line(result, f"--clip-report {path}: cannot be written", words)
    assert "it ran" not in result.stdout.str() + line
    made = {path.name for path in run.path.iterdir()} - before
    others = {"__pycache__", ".pytest_cache", ".benchmarks"}
    assert made - others == {"test_mine.py", "thresholds.toml", "new"}
    # The one that can be written says what happened.
    assert "cannot be written" in (run.path / "new" / "good.md").read_text()


def test_a_fault_of_ours_in_one_report_costs_no_other(
    run: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another model's figures may meet a case that nobody drew."""

    def breaks(_: Run, __: Path) -> str:
        raise ZeroDivisionError("no axis")

    monkeypatch.setattr(files, "FORMS", {**files.FORMS, ".html": breaks})
    options = ["--clip-report=page.html", "--clip-report=run.json", "--clip-history=kept.sqlite"]
    result = run(*options, suite=LAST_FAILS.split("def test_b", maxsplit=1)[0])
    (line,) = [one for one in result.outlines + result.errlines if one.startswith("ENVIRONMENT: ")]
    assert line.startswith("ENVIRONMENT: --clip-report page.html: could not be made")
    assert "ZeroDivisionError: no axis, test_ends.py:" in line
    told = json.loads((run.path / "run.json").read_text())
    assert told["measurements"]
    assert told["exit_status"] == result.ret == Exit.ENVIRONMENT
    assert (run.path / "kept.sqlite").exists()
    assert not (run.path / "page.html").exists()


SUITE_THAT_MUST_NOT_RUN = "def test_mine(clip, gate):\n    raise AssertionError('it ran')\n"


def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a session end that loads a model."""

    def load(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(Evaluation, "__init__", load)


@pytest.mark.parametrize(
    ("taken", "words"),
    [
        ("r.json.unfinished", "--clip-report r.json.unfinished: cannot be written: it is a folder"),
        ("r-pictures", "--clip-report r-pictures/picture.png: cannot be written"),
        ("gate.toml", "--clip-record gate.toml: cannot be written: it is a folder"),
        ("gate.baseline.safetensors", "--clip-record gate.baseline.safetensors: cannot be written"),
        ("h.sqlite", "--clip-history h.sqlite: cannot be written: it is a folder"),
    ],
)
@pytest.mark.parametrize("how", ["in its place", "read-only"])
def test_all_that_a_run_writes_is_tried_before_a_model_is_loaded(
    run: Sessions, monkeypatch: pytest.MonkeyPatch, taken: str, words: str, how: str
) -> None:
    place = run.path / taken
    if how == "in its place" and taken != "r-pictures":
        place.mkdir()
    else:
        place.touch()
        place.chmod(0o444)
        words = words.replace("it is a folder", "it is read-only")
    no_model(monkeypatch)
    options = ("--clip-record", "--clip-thresholds=gate.toml", "--clip-history=h.sqlite")
    result = run("--clip-report=r.json", *options, suite=SUITE_THAT_MUST_NOT_RUN, thresholds=None)
    one_line(result, words)


def test_where_nothing_can_be_recorded_is_told_before_a_model_is_loaded(
    run: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run.path / "file").touch()
    no_model(monkeypatch)
    options = ("--clip-record", "--clip-thresholds=file/gate.toml")
    result = run(*options, suite=SUITE_THAT_MUST_NOT_RUN, thresholds=None)
    one_line(result, "--clip-record file/gate.toml: cannot be written: ", "file is a file")


def test_a_gate_is_recorded_into_a_folder_that_is_made(run: Sessions) -> None:
    options = ("--clip-record", "--clip-thresholds=new/er/gate.toml")
    suite = """
        from pytest_cliprobust.properties import accuracy

        def test_mine(clip, gate):
            gate(accuracy.accuracy_of(clip.on("clean")))
    """
    run(*options, suite=suite, thresholds=None).assert_outcomes(passed=1)
    assert sorted(path.name for path in (run.path / "new" / "er").iterdir()) == [
        "gate.baseline.safetensors",
        "gate.toml",
    ]


@pytest.mark.long
def test_workers_tell_it_once_where_only_the_ini_file_asks_for_it(
    run: Sessions, shared_cache: Path
) -> None:
    run.pytester.makeini(
        "[pytest]\nclip_model = reference\nclip_limit = 40\nclip_profile = quick\n"
        f"clip_report = file/report.json\nclip_cache_dir = {shared_cache}"
    )
    run.pytester.makepyfile(test_mine="def test_mine(clip, gate):\n    raise AssertionError\n")
    (run.path / "file").touch()
    one_line(run.plain("-n2", process=True), "--clip-report file/report.json: cannot be written")


def test_a_folder_for_the_report_is_made_at_the_end(run: Sessions, end: Any) -> None:
    suite = """
        from pathlib import Path

        def test_mine(clip):
            assert [path.name for path in Path("new/er").iterdir()] == ["report.json.unfinished"]
    """
    run("--clip-report=new/er/report.json", suite=suite).assert_outcomes(passed=1)
    assert [path.name for path in (run.path / "new" / "er").iterdir()] == ["report.json"]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Reports of the endings in the set cannot be written."""
    endings: set[str] = set()

    def fill(path: Path, content: str) -> None:
        if path.suffix in endings:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace_file(path, content)

    monkeypatch.setattr("pytest_cliprobust.reporting.files.replace_file", fill)
    return endings


def test_a_disk_that_is_full_at_the_end_is_told_by_the_other_report(
    run: Sessions, end: Any, full_disk: set[str]
) -> None:
    full_disk.add(".md")
    result = end("well")
    assert result.ret == Exit.ENVIRONMENT
    data = report()
    assert data["exit_status"] == Exit.ENVIRONMENT
    assert data["troubles"] == [
        "--clip-report report.md: cannot be written: No space left on device; make room"
    ]
    assert result.outlines[-1] == "NOT GREEN: environment, exit code 7"
    # The figures are still beside the report that is missing; the next run takes them up.
    assert (run.path / "report.json.unfinished").exists()
    full_disk.clear()
    assert run.again("--clip-report=report.json").ret == Exit.PASSED
    nothing_left(run.path)


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="a device of Linux")
@pytest.mark.parametrize("lost", ["report.json", "report.md", "history.sqlite"])
def test_what_was_asked_for_and_is_lost_at_the_end_is_not_green(
    run: Sessions, end: Any, lost: str
) -> None:
    (run.path / lost).symlink_to("/dev/full")
    result = end("well", "--clip-history=history.sqlite")
    result.assert_outcomes(passed=3)
    assert result.ret == Exit.ENVIRONMENT
    assert result.outlines[-1] == "NOT GREEN: environment, exit code 7"
    result.stdout.fnmatch_lines([f"ENVIRONMENT: *{lost}*cannot be written: *make room"])
    if lost != "report.json":
        assert report()["exit_status"] == Exit.ENVIRONMENT
    if lost != "report.md":
        assert "environment, exit code 7" in (run.path / "report.md").read_text()
    assert Path("/dev/full").is_char_device()
    assert not [path.name for path in run.path.iterdir() if path.name.endswith(".part")]


def test_a_disk_that_is_full_on_the_way_ends_nothing(
    run: Sessions, end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def write(self, data: bytes) -> int:
            return len(data) // 2

        def close(self) -> None: ...

    begin = Journal.__init__

    def filled(self: Journal, path: Path) -> None:
        begin(self, path)
        self._file.close()
        self._file = Full()  # type: ignore[assignment]

    monkeypatch.setattr(Journal, "__init__", filled)
    result = end("well")
    result.assert_outcomes(passed=3)
    assert result.ret == Exit.ENVIRONMENT
    data = report()
    assert len(data["measurements"]) == 3
    (trouble,) = data["troubles"]
    assert "figures cannot be kept while the run lasts: No space left on device" in trouble
    nothing_left(run.path)


# --- Not judged, not decided -----------------------------------------------------------------------


def test_what_was_asked_for_and_not_measured_is_not_green(run: Sessions, end: Any) -> None:
    result = end("skip")
    assert result.ret == report()["exit_status"] == Exit.INCONCLUSIVE
    assert result.outlines[-2:] == [
        "NOT JUDGED: 1 of the bounds that were asked for, as their tests were skipped",
        "NOT GREEN: inconclusive, exit code 6",
    ]
    # For want of an encoder it is the environment's.
    result = end("encoder")
    result.assert_outcomes(passed=2, skipped=1)
    assert result.ret == Exit.ENVIRONMENT
    data = report()
    assert (data["complete"], data["ending"]) == (True, "environment")
    assert data["troubles"] == ["mine: there is no encoder libx265"]
    # If the policy does not mind, there is no news.
    assert end("encoder", policy='skipped = "warn"').ret == Exit.PASSED
    # A regression comes first.
    strict = bounds().replace("0.0075", "0.9999", 1)
    assert run("--clip-report=report.json", suite=SUITE, thresholds=strict).ret == Exit.REGRESSION
    assert any(line.startswith("ENVIRONMENT: ") for line in report()["because"])


ONE_OF = """
    from pytest_cliprobust.figures.figure import Figure
    from pytest_cliprobust.figures.condition import Condition

    def test_mine(clip, gate):
        for number in range({count}):
            low = 0.3 if number < {undecided} else 0.6
            figure = Figure("accuracy", 0.7, low, 0.8, 50)
            gate(figure.measured_on(Condition(f"data{{number}}")))
"""
HALF = '[[threshold]]\nsuite = "mine"\nmetric = "accuracy"\nmin = 0.5\n'


@pytest.mark.parametrize(
    ("undecided", "count", "policy", "code"),
    [
        (3, 20, "", Exit.PASSED),
        (4, 20, "", Exit.INCONCLUSIVE),
        (1, 1, "", Exit.INCONCLUSIVE),
        (1, 4, "inconclusive_share = 0.25", Exit.PASSED),
        (1, 20, "inconclusive_share = 0", Exit.INCONCLUSIVE),
        (4, 20, 'inconclusive = "pass"', Exit.INCONCLUSIVE),
        (20, 20, "inconclusive_share = 1", Exit.PASSED),
        (1, 20, 'inconclusive = "fail"', Exit.REGRESSION),
    ],
)
def test_a_run_that_decides_too_little_is_not_green(
    run: Sessions, undecided: int, count: int, policy: str, code: int
) -> None:
    head = f"[policy]\n{policy}\n" if policy else ""
    result = run(
        "--clip-report=report.json,report.md",
        suite=ONE_OF.format(undecided=undecided, count=count),
        thresholds=f"schema = 1\n{head}{HALF}",
    )
    assert result.ret == report()["exit_status"] == code
    text = (run.path / "report.md").read_text(encoding="utf-8")
    if code != Exit.INCONCLUSIVE:
        assert "NOT GREEN" not in result.stdout.str() + text
        return
    share = f"{undecided} of the {count} figures with a bound ({undecided / count:.0%})"
    assert result.outlines[-2].startswith(f"INCONCLUSIVE: {share} cannot tell")
    assert result.outlines[-1] == "NOT GREEN: inconclusive, exit code 6"
    assert report()["because"] == result.outlines[-2:]
    assert report()["ending"] == "inconclusive"
    assert "- ending: **inconclusive, exit code 6**" in text
    # What is said last in a terminal is said first where people begin to read.
    assert text.splitlines()[2] == "NOT GREEN: inconclusive, exit code 6"
    assert f"**INCONCLUSIVE: {share} cannot tell" in text


def test_recording_a_run_is_no_judgement(run: Sessions) -> None:
    suite = ONE_OF.format(undecided=5, count=5)
    result = run("--clip-record", suite=suite, thresholds=f"schema = 1\n{HALF}")
    assert result.ret == Exit.PASSED
    assert "NOT GREEN" not in result.stdout.str()


def test_a_run_without_a_bound_says_so_last(run: Sessions) -> None:
    suite = ONE_OF.format(undecided=0, count=2)
    options = ("--clip-report=report.json", "--clip-report=report.md")
    result = run(*options, suite=suite, thresholds="schema = 1\n")
    assert result.ret == Exit.PASSED
    told = (
        "warning: no bound is for any of these figures, so THIS RUN GATES NOTHING; --clip-record "
        "writes bounds for them"
    )
    assert result.outlines[-1] == told
    assert report()["because"] == [told]
    assert f"**{told}**\n" in (run.path / "report.md").read_text()
    required = "schema = 1\n[policy]\nrequire_bound = true\n"
    assert run(*options, suite=suite, thresholds=required).ret == Exit.REGRESSION
    # Nothing at all was measured: no test fails, and the run does.
    nothing = "def test_mine(clip):\n    pass\n"
    result = run(*options, suite=nothing, thresholds=required)
    assert result.ret == Exit.INCONCLUSIVE
    assert result.outlines[-2:] == [
        "ERROR: require_bound is set, and no figure was measured, so THIS RUN GATES NOTHING",
        "NOT GREEN: inconclusive, exit code 6",
    ]
    assert run(*options, suite=nothing, thresholds="schema = 1\n").ret == Exit.PASSED


def test_a_code_that_is_chosen_later_stands_in_the_report(run: Sessions) -> None:
    run.pytester.makeconftest(
        "import pytest\n\n\n@pytest.hookimpl(wrapper=True)\n"
        "def pytest_sessionfinish(session):\n    yield\n    session.exitstatus = 42\n"
    )
    suite = ONE_OF.format(undecided=0, count=1)
    result = run("--clip-report=report.json", suite=suite, thresholds=f"schema = 1\n{HALF}")
    assert result.ret == report()["exit_status"] == 42
    assert report()["ending"] == "other"
    nothing_left(run.path)


# --- Tests that run again --------------------------------------------------------------------------

#: It fails twice, with figures that no two attempts agree on, and then meets its bound.
FLAKY = """
    import pytest
    from pytest_cliprobust.errors import ClipRobustError
    from pytest_cliprobust.figures.figure import Figure
    from pytest_cliprobust.figures.condition import Condition

    TRIES = []

    def test_mine(clip, gate):
        TRIES.append(1)
        value = 0.2 * len(TRIES)
        figure = Figure("accuracy", value, value - 0.05, value + 0.05, 50)
        gate(figure.measured_on(Condition("clean")))
        if len(TRIES) == 2:
            raise ClipRobustError("a slip of the second attempt")
"""

#: What plugins do that run a test again: the whole protocol, with every report of every attempt.
AGAIN = """
    from _pytest.runner import runtestprotocol

    def pytest_runtest_protocol(item, nextitem):
        for attempt in range(3):
            for report in runtestprotocol(item, nextitem=nextitem, log=False):
                if report.failed and attempt < 2:
                    report.outcome = "rerun"
                item.ihook.pytest_runtest_logreport(report=report)
        return True
"""


@pytest.mark.parametrize("plugin", ["pytest-rerunfailures", "another"])
def test_of_a_test_that_runs_again_the_last_attempt_counts(run: Sessions, plugin: str) -> None:
    options = ["--junitxml=junit.xml", "--clip-report=report.json"]
    if plugin == "another":
        run.pytester.makeconftest(AGAIN)
        options += ["-p", "no:rerunfailures"]
    else:
        pytest.importorskip("pytest_rerunfailures")
        options += ["--reruns=5"]
    result = run(*options, suite=FLAKY, thresholds=f"schema = 1\n{HALF}")
    assert result.ret == Exit.PASSED, result.stdout.str()
    data = report()
    (record,) = data["measurements"]
    assert record["figure"]["value"] == pytest.approx(0.6)
    assert record["verdict"]["status"] == "pass"
    assert (data["complete"], data["mistakes"], data["missing"]) == (True, [], [])
    assert result.stdout.str().count("accuracy · clean") <= 1
    junit = (run.path / "junit.xml").read_text()
    assert junit.count('name="mine/accuracy/clean/clean/reference"') == 1
    nothing_left(run.path)


def test_a_test_that_keeps_failing_has_one_record(run: Sessions) -> None:
    pytest.importorskip("pytest_rerunfailures")
    strict = HALF.replace("0.5", "0.95")
    result = run(
        "--reruns=2", "--clip-report=report.json", suite=FLAKY, thresholds=f"schema = 1\n{strict}"
    )
    assert result.ret == Exit.REGRESSION
    (record,) = report()["measurements"]
    assert record["figure"]["value"] == pytest.approx(0.6)


def test_a_journal_keeps_the_last_attempt(run: Sessions) -> None:
    lines = [json.dumps({"key": "a", "value": value}) for value in (1, 2)]
    (run.path / "report.json.unfinished").write_text("\n".join(lines))
    result = run("--clip-report=report.json", suite="def test_mine(clip): pass\n")
    result.stdout.fnmatch_lines(["*an earlier run did not finish: its 1 figure is in*"])


def test_what_is_skipped_or_expected_to_fail_is_neither_missing_nor_a_mistake(
    run: Sessions,
) -> None:
    write_pictures(run.path / "photos")
    suite = """
        import pytest
        from pytest_cliprobust.errors import ClipRobustError

        @pytest.mark.xfail
        def test_expected(clip):
            raise ClipRobustError("known")

        @pytest.mark.xfail
        def test_memory(clip):
            raise MemoryError

        def test_role(clip, near_ood):
            pass
    """
    result = run("--clip-data=photos", "--clip-report=report.json", suite=suite)
    result.assert_outcomes(xfailed=2, skipped=1)
    data = report()
    assert (data["complete"], data["mistakes"], data["troubles"]) == (True, [], [])
    assert result.ret == Exit.PASSED

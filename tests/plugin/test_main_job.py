"""The main job end to end: figures that repeat, runs that survive, mistakes that are told in one line.

Sessions run in this process where they can (importing torch anew takes seconds), in one of their own where
a signal, a worker or an exit code is the point.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import SUITES, Sessions, one_line, report, write_pictures

import pytest_cliprobust.engine.encoding
import pytest_cliprobust.engine.evaluation
from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.engine.view import Classifier
from pytest_cliprobust.plugin.exits import Exit
from pytest_cliprobust.plugin.progress import duration
from pytest_cliprobust.properties import labels
from pytest_cliprobust.targets import reference

#: A little of everything: seeded and depth-based perturbations, a figure over two data sets, a fit.
SUITE = """
    import pytest
    from pytest_cliprobust.properties import accuracy, ood

    @pytest.mark.parametrize("changed", [(), ("fog_3d", 3), ("iso_noise", 3)])
    def test_accuracy(clip, gate, changed):
        gate(accuracy.accuracy_of(clip.on("clean", *changed)))

    def test_ood(clip, gate, near_ood):
        gate(ood.detection(clip.on("clean"), clip.on(near_ood), ["mcm"]))

    def test_temperature(clip, gate, calibration):
        from pytest_cliprobust.properties.calibration import temperature_of
        gate(temperature_of(clip.on(calibration)))
"""

ONE = """
    from pytest_cliprobust.properties import accuracy

    def test_mine(clip, gate):
        gate(accuracy.accuracy_of(clip.on("clean")))
"""

NO_BOUNDS = "schema = 1\n"
ONE_BOUND = (
    'schema = 1\n[[threshold]]\nsuite = "mine"\nmetric = "accuracy"\nmin = 0.01\n'
    'because = "any model will do"\n'
)


# --- Figures repeat --------------------------------------------------------------------------------


@pytest.mark.long
def test_figures_are_bit_identical_for_batch_sizes_orders_and_a_second_run(
    run: Sessions, pytester: pytest.Pytester, tmp_path: Path
) -> None:
    for size in (1, 7, 64):
        run(
            f"--clip-batch-size={size}",
            f"--clip-cache-dir={tmp_path}/{size}",
            f"--clip-report=batch{size}.json",
            suite=SUITE,
        ).assert_outcomes(passed=5)
    run.again(
        f"--clip-cache-dir={tmp_path}/1", "--clip-batch-size=7", "--clip-report=again.json"
    ).assert_outcomes(passed=5)
    pytester.makeconftest(
        "def pytest_collection_modifyitems(items):\n"
        "    items.reverse()\n"
        "    print('REVERSED', items[0].name)\n"
    )
    result = run.again(f"--clip-cache-dir={tmp_path}/reversed", "--clip-report=reversed.json", "-s")
    result.stdout.fnmatch_lines(["*REVERSED test_temperature*"])
    names = ["batch1", "batch7", "batch64", "again", "reversed"]
    reports = {name: report(f"{name}.json") for name in names}
    first = reports["batch1"]["measurements"]
    assert len(first) == 3 + 4 + 1
    for name in names[1:]:
        assert reports[name]["measurements"] == first, name
    work = {name: reports[name]["models"]["reference"]["images"] for name in names}
    assert work["batch1"]["encoded"] >= 5 * 40
    assert work["again"]["encoded"] == 0


@pytest.mark.long
def test_two_workers_measure_the_same_and_compute_nothing_twice(
    run: Sessions, tmp_path: Path
) -> None:
    one_by_one = (f"--clip-cache-dir={tmp_path}/one", "--clip-report=one.json")
    run(*one_by_one, suite=SUITE).assert_outcomes(passed=5)
    result = run.again(
        f"--clip-cache-dir={tmp_path}/two", "--clip-report=two.json", "-n2", process=True
    )
    result.assert_outcomes(passed=5)
    assert result.stdout.str().count("CLIP robustness") == 1
    one, two = report("one.json"), report("two.json")
    assert two["measurements"] == one["measurements"]
    encoded = [r["models"]["reference"]["images"]["encoded"] for r in (one, two)]
    assert encoded[0] == encoded[1] > 0


# --- Nothing measured is lost ----------------------------------------------------------------------

INTERRUPTED = (
    ONE
    + """
    def test_then(clip, gate):
        import os, signal
        how = os.environ.get("HOW")
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "interrupt":
            raise KeyboardInterrupt
        gate(accuracy.accuracy_of(clip.on("clipart")))
"""
)


def test_a_killed_run_leaves_its_figures_and_the_next_one_goes_on(
    run: Sessions, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = (f"--clip-cache-dir={tmp_path}/c", "--clip-report=report.json")
    monkeypatch.setenv("HOW", "kill")
    assert run(*options, suite=INTERRUPTED, process=True).ret == -signal.SIGKILL
    assert not Path("report.json").exists()
    lines = [json.loads(line) for line in Path("report.json.unfinished").read_text().splitlines()]
    assert [entry.get("key") for entry in lines] == [None, "mine/accuracy/clean/clean/reference"]
    # The last line may be cut short by the kill.
    with Path("report.json.unfinished").open("a") as file:
        file.write('{"key": "mine/acc')
    monkeypatch.setenv("HOW", "")
    result = run(*options, suite=INTERRUPTED)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*an earlier run did not finish: its 1 figure is in *unfinished*"])
    whole = report()
    assert whole["complete"]
    assert whole["models"]["reference"]["images"]["encoded"] == 40
    assert whole["measurements"][0] == {**lines[1], **whole["measurements"][0]}
    assert whole["measurements"][0]["figure"] == lines[1]["figure"]
    assert not Path("report.json.unfinished").exists()


def test_ctrl_c_writes_the_report_so_far_and_prints_the_summary(
    run: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOW", "interrupt")
    result = run("--clip-report=report.json", suite=INTERRUPTED, process=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    partial = report()
    assert not partial["complete"]
    assert [r["key"] for r in partial["measurements"]] == ["mine/accuracy/clean/clean/reference"]
    assert "CLIP robustness" in result.stdout.str()
    assert "\x1b" not in result.stdout.str()


# --- A broken model --------------------------------------------------------------------------------


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the bundled model's folder that ``reference`` loads from, to be broken by a test."""
    folder = tmp_path / "data" / "reference"
    shutil.copytree(reference.data_folder() / "reference", folder)
    monkeypatch.setattr(reference, "data_folder", lambda: folder.parent)
    return folder


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    path = folder / "open_clip_model.safetensors"
    weights = safetensors.torch.load_file(path)
    change(weights)
    safetensors.torch.save_file(weights, path)


def test_perturbed_weights_fail_the_shipped_accuracy_test(run: Sessions, bundled: Path) -> None:
    generator = torch.Generator().manual_seed(0)

    def add_noise(weights: dict[str, torch.Tensor]) -> None:
        for name, tensor in weights.items():
            if name.startswith("visual.") and tensor.is_floating_point() and tensor.ndim > 1:
                tensor += tensor.std() * torch.randn(tensor.shape, generator=generator)

    change_weights(bundled, add_noise)
    result = run(
        f"{SUITES}/test_accuracy.py::test_clean",
        "--clip-limit=134",
        f"--clip-baseline={SUITES.parent / 'thresholds.baseline.safetensors'}",
        thresholds=(SUITES.parent / "thresholds.toml").read_text(encoding="utf-8"),
    )
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "accuracy: accuracy of reference on clean breaks max_decrease" in text
    assert "measured " in text
    assert "n = 134" in text
    assert "thresholds.toml:" in text
    assert "run again pytest" in text


def test_two_classes_with_swapped_texts_are_found_and_named(
    run: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a perfect model: what a weak one confuses by itself is the next test's business."""
    data = EmbeddedDataset("clean", profile="quick")
    names = data.class_names
    features = torch.eye(len(names))
    evaluation = pytest_cliprobust.engine.evaluation.Evaluation
    classifier = Classifier(features.double(), 100.0, None, "softmax")
    monkeypatch.setattr(evaluation, "classifier", classifier)
    monkeypatch.setattr(
        pytest_cliprobust.engine.encoding.Encoder,
        "images",
        lambda self, data, *args, **kwargs: features[list(data.labels)],
    )
    monkeypatch.setattr(evaluation, "noise", (0.0, 0.0))
    bound = 'schema = 1\n[[threshold]]\nsuite = "accuracy"\nmetric = "swapped_labels"\nmax = 0\n'
    arguments = (f"{SUITES}/test_accuracy.py::test_labels", "--clip-limit=536")
    run(*arguments, thresholds=bound).assert_outcomes(passed=1)
    order = list(range(len(names)))
    order[3], order[7] = 7, 3
    swapped = Classifier(features[order].double(), 100.0, None, "softmax")
    monkeypatch.setattr(evaluation, "classifier", swapped)
    result = run(*arguments, thresholds=bound)
    result.assert_outcomes(failed=1)
    assert f"prefer each other's text: {names[3]!r} and {names[7]!r}" in result.stdout.str()


def test_swapped_labels_needs_significance_on_both_sides() -> None:
    generator = np.random.default_rng(0)
    classes = np.repeat(np.arange(6), 8)
    scores = generator.normal(size=(48, 6)) + 3.0 * np.eye(6)[classes]
    names = [f"class {i}" for i in range(6)]
    assert labels.swapped_labels_figure(scores, classes, names).value == 0
    swapped = scores[:, [0, 2, 1, 3, 4, 5]]
    figure = labels.swapped_labels_figure(swapped, classes, names)
    assert (figure.value, figure.low, figure.high, figure.n) == (1, 1, 1, 48)
    assert figure.details["pairs"] == [[1, 2]]
    # All of class 0 taken for class 1, but not the other way round: a confusion, no swap.
    one_way = scores.copy()
    one_way[classes == 0] = one_way[classes == 0][:, [1, 0, 2, 3, 4, 5]]
    assert labels.swapped_labels_figure(one_way, classes, names).value == 0
    # Chance: whatever noise prefers is not significant.
    assert labels.swapped_labels_figure(generator.normal(size=(48, 6)), classes, names).value == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("visual", ("reference", "NaN or infinite features", "--clip-precision fp32")),
        ("logit_scale", ("reference", "a logit scale of nan", "check its weights")),
    ],
)
def test_nan_is_one_line(run: Sessions, bundled: Path, name: str, words: tuple[str, ...]) -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> None:
        key = next(k for k in weights if k.startswith(name) and weights[k].is_floating_point())
        weights[key] = torch.full_like(weights[key], float("nan"))

    change_weights(bundled, spoil)
    one_line(run(suite=ONE), *words)


def test_a_truncated_checkpoint_is_one_line(run: Sessions, bundled: Path) -> None:
    path = bundled / "open_clip_model.safetensors"
    path.write_bytes(path.read_bytes()[:100_000])
    one_line(run(suite=ONE), "open_clip_model.safetensors")


# --- Broken data -----------------------------------------------------------------------------------


def test_an_empty_data_set_is_one_line(run: Sessions, pytester: pytest.Pytester) -> None:
    pytester.mkdir("photos")
    one_line(run("--clip-data=photos", suite=ONE), "photos", "no class folders")


def test_one_unreadable_image_is_one_line(run: Sessions, pytester: pytest.Pytester) -> None:
    folder = write_pictures(pytester.path / "photos")
    good = (folder / "dog" / "0.png").read_bytes()
    (folder / "dog" / "cut.png").write_bytes(good[: len(good) // 2])
    one_line(run("--clip-data=photos", suite=ONE), "dog/cut.png", "repair or remove")


@pytest.mark.filterwarnings("default:cache file:UserWarning")  # it is what is looked at
def test_a_cache_file_cut_short_is_named_and_the_figures_stay(
    run: Sessions, tmp_path: Path
) -> None:
    options = (f"--clip-cache-dir={tmp_path}/c", "--clip-report=report.json")
    run(*options, suite=ONE).assert_outcomes(passed=1)
    before = report()["measurements"]
    for path in (tmp_path / "c").rglob("*.features"):
        path.write_bytes(path.read_bytes()[:200])
    result = run(*options, suite=ONE)
    result.assert_outcomes(passed=1, warnings=None)
    result.stdout.fnmatch_lines(["*cache file *.features is damaged*computed anew*"])
    assert report()["measurements"] == before


# --- Never green -----------------------------------------------------------------------------------

SKIPPED = """
    import pytest

    def test_mine(clip, gate):
        pytest.skip("no lens cap")
"""


def test_a_bound_whose_test_was_skipped_fails_the_run(run: Sessions) -> None:
    result = run(suite=SKIPPED, thresholds=ONE_BOUND)
    result.assert_outcomes(skipped=1)
    assert result.ret == Exit.INCONCLUSIVE
    result.stdout.fnmatch_lines(
        [
            "error: thresholds.toml:2: bound min 0.01 * was not measured: skipped",
            "*(no lens cap)*fails",
        ]
    )
    policy = '[policy]\nskipped = "warn"\n'
    warned = run(suite=SKIPPED, thresholds=ONE_BOUND.replace("[[", f"{policy}[[", 1))
    assert warned.ret == pytest.ExitCode.OK
    warned.stdout.fnmatch_lines(["*not measured*1 of the bounds*a warning, as the policy says"])


def test_something_missing_is_not_run_and_its_bound_fails(run: Sessions) -> None:
    suite = """
        from pytest_cliprobust.errors import NotRun

        def test_mine(clip, gate):
            raise NotRun("no encoder here; install one")
    """
    result = run("--clip-report=report.json", suite=suite, thresholds=ONE_BOUND)
    result.assert_outcomes(skipped=1)
    assert result.ret == Exit.INCONCLUSIVE
    (entry,) = report()["not_run"]
    assert (entry["suite"], entry["reason"]) == ("mine", "no encoder here; install one")
    assert run(suite=suite).ret == pytest.ExitCode.OK


def test_a_figure_that_is_not_a_number_fails(run: Sessions) -> None:
    suite = """
        from pytest_cliprobust.figures.figure import Figure

        def test_mine(clip, gate):
            nothing = Figure("accuracy", float("nan"), 0.0, 1.0, 5)
            gate(nothing.measured_on(clip.on("clean").condition))
    """
    result = run("--clip-report=report.json", suite=suite, thresholds=ONE_BOUND)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*accuracy is nan, not a finite number*"])
    assert report()["measurements"][0]["figure"]["value"] == "nan"


def test_bounds_of_other_suites_and_models_are_counted_not_listed(run: Sessions) -> None:
    more = ONE_BOUND + "".join(
        f'[[threshold]]\nsuite = "{suite}"\nmetric = "accuracy"\nmodel = "{model}"\nmin = 0.01\n'
        for suite, model in (("ood", "reference"), ("mine", "ViT-B-32"))
    )
    result = run(suite=ONE, thresholds=more)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "note: 1 bound is for suites that were not run (ood)",
            "note: 1 bound is for other models",
        ]
    )
    assert "was not used" not in result.stdout.str()


def test_bounds_of_the_benchmark_are_none_for_the_users_own_data(
    run: Sessions, pytester: pytest.Pytester
) -> None:
    write_pictures(pytester.path / "photos")
    clean = ONE_BOUND + 'dataset = "clean"\n'
    options = ("--clip-data=photos", "--clip-report=report.json")
    result = run(*options, suite=ONE, thresholds=clean)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["note: 1 bound is for data that was not part of this run"])
    assert report()["measurements"][0]["key"] == "mine/accuracy/imagefolder:photos/clean/reference"
    own = clean.replace('"clean"', '"imagefolder:*"')
    run(*options, suite=ONE, thresholds=own).assert_outcomes(passed=1)
    assert report()["measurements"][0]["verdict"]["status"] == "pass"


def test_a_bound_whose_test_broke_off_is_told(run: Sessions) -> None:
    suite = """
        def test_mine(clip, gate):
            raise RuntimeError("a bug in the suite")
    """
    result = run(suite=suite, thresholds=ONE_BOUND)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["error: *min 0.01 * was not measured: a test broke off"])


def test_a_run_that_gates_nothing_says_so(run: Sessions) -> None:
    warning = "warning: no bound is for any of these figures*THIS RUN GATES NOTHING*--clip-record*"
    run(suite=ONE, thresholds="schema = 1\n").stdout.fnmatch_lines([warning])
    run(suite=ONE, thresholds=ONE_BOUND).stdout.no_fnmatch_line(warning)


def test_a_report_is_a_baseline_whose_samples_are_not_known(run: Sessions) -> None:
    run("--clip-report=before.json", suite=ONE, thresholds=ONE_BOUND)
    bound = ONE_BOUND.replace("min = 0.01", "max_decrease = 0.5").replace(
        "schema = 1", 'schema = 1\n[policy]\nbaseline = "before.json"'
    )
    result = run("--clip-report=report.json", suite=ONE, thresholds=bound)
    result.assert_outcomes(passed=1)
    (record,) = report()["measurements"]
    assert record["verdict"]["status"] == "pass"
    assert record["verdict"]["compared"].startswith("not paired: the earlier run kept no outcomes")
    # As wide as two runs that have nothing to do with each other, although it is the same model.
    assert record["verdict"]["low"] < -0.1
    # In the history its samples are kept, and the same comparison is one of pairs.
    kept = "--clip-history=h.sqlite"
    run(kept, suite=ONE, thresholds=ONE_BOUND)
    paired = run(kept, "--clip-baseline=last", "--clip-report=report.json", thresholds=bound)
    paired.assert_outcomes(passed=1)
    (record,) = report()["measurements"]
    assert record["verdict"]["explanation"] == "every outcome is the same as in the baseline"


def test_no_verdict_rests_on_less_than_the_numerical_noise(
    run: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--clip-report=report.json", suite=ONE, thresholds=ONE_BOUND).assert_outcomes(passed=1)
    share, nats = report()["models"]["reference"]["noise"]
    assert 0 <= share < 1e-4
    assert 0 <= nats < 1e-2
    low = report()["measurements"][0]["figure"]["low"]
    bound = ONE_BOUND.replace("min = 0.01", f"min = {low - 0.05}")
    statuses = {}
    for noise in (0.04, 0.06):
        monkeypatch.setattr(pytest_cliprobust.engine.evaluation.Evaluation, "noise", (noise, 0.5))
        run("--clip-report=report.json", suite=ONE, thresholds=bound).assert_outcomes(passed=1)
        verdict = report()["measurements"][0]["verdict"]
        statuses[noise] = verdict["status"]
        assert verdict["low"] == pytest.approx(low - noise)
    assert statuses == {0.04: "pass", 0.06: "inconclusive"}


# --- Options ---------------------------------------------------------------------------------------


def test_every_option_is_an_ini_key_too(
    loaded: None, pytester: pytest.Pytester, tmp_path: Path
) -> None:
    pytester.makepyfile(test_mine=ONE)
    (pytester.path / "bounds.toml").write_text(NO_BOUNDS)
    pytester.makeini(
        f"""
        [pytest]
        clip_model = reference
        clip_data = embedded
        clip_device = cpu
        clip_precision = fp32
        clip_batch_size = 5
        clip_limit = 11
        clip_thresholds = bounds.toml
        clip_cache_dir = {tmp_path}/ini
        clip_profile = quick
        clip_seed = 3
        clip_report = report.json
        """
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    config = report()["config"]
    assert config["models"] == ["reference"]
    assert (config["batch_size"], config["limit"], config["seed"]) == (5, 11, 3)
    assert (config["profile"], config["device"], config["precision"]) == ("quick", "cpu", "fp32")
    assert report()["thresholds"] == "bounds.toml"
    assert list((tmp_path / "ini").rglob("*.features"))
    # The command line wins.
    pytester.runpytest_inprocess("--clip-limit=9").assert_outcomes(passed=1)
    assert report()["config"]["limit"] == 9


def test_two_models_and_two_reports(run: Sessions, tmp_path: Path) -> None:
    copy = tmp_path / "mine"
    shutil.copytree(reference.data_folder() / "reference", copy)
    result = run(
        "--clip-model=reference",
        f"--clip-model={copy}",
        "--clip-report=report.json",
        "--clip-report=report.md",
        suite=ONE,
    )
    result.assert_outcomes(passed=2)
    found = report()
    assert list(found["models"]) == ["reference", "mine"]
    values = [record["figure"]["value"] for record in found["measurements"]]
    assert values[0] == values[1]
    # The same weights and tokens: the second model is served from the cache.
    assert found["models"]["mine"]["images"]["encoded"] == 0
    assert "mine" in Path("report.md").read_text()


def test_listing_tests_leaves_the_last_report_alone(run: Sessions) -> None:
    run("--clip-report=report.json", suite=ONE).assert_outcomes(passed=1)
    before = Path("report.json").read_bytes()
    run("--clip-report=report.json", "--collect-only", suite=ONE)
    assert Path("report.json").read_bytes() == before
    assert not Path("report.json.unfinished").exists()


def test_a_report_of_unknown_kind_is_told_before_anything_runs(run: Sessions) -> None:
    one_line(run("--clip-report=report.xls", suite=ONE), "report.xls", ".json or .md")


def test_markers_and_names_select(run: Sessions) -> None:
    def selected(*args: str) -> list[str]:
        result = run(str(SUITES), "--collect-only", "-q", *args)
        return [line.partition("/")[2] for line in result.outlines if "::" in line]

    corruption = selected("-m", "corruption")
    assert {name.partition("::")[0] for name in corruption} == {
        "test_corruption_2d.py",
        "test_corruption_3d.py",
    }
    assert selected("-m", "corruption_3d") == [n for n in corruption if "_3d.py" in n]
    assert all("near_ood" in name for name in selected("-k", "near_ood and mcm"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--pyargs", "pytest_cliprobust.suites"),
        ("--pyargs", "pytest_cliprobust.suites.test_ood"),
        ("--clip-suites",),
    ],
)
def test_the_shipped_suites_are_found_from_anywhere(
    run: Sessions, arguments: tuple[str, ...]
) -> None:
    result = run(*arguments, "--collect-only", "-q", thresholds=None)
    assert result.ret == pytest.ExitCode.OK
    tests = [line.rpartition("::")[2] for line in result.outlines if "::" in line]
    assert "test_near_ood[reference-near_ood-mcm]" in tests
    assert ("test_clean[reference]" in tests) != arguments[-1].endswith("test_ood")


def test_the_rerun_command_works(run: Sessions) -> None:
    result = run(suite=ONE, thresholds=ONE_BOUND.replace("0.0", "0.999"))
    # Under CI=true pytest's short summary repeats the message.
    line = next(x for x in result.outlines if "run again" in x)
    command = shlex.split(line.partition("run again")[2])
    assert command[0] == "pytest"
    assert not any(Path(word).is_dir() for word in command)
    run.plain(*command[1:]).assert_outcomes(failed=1)


def test_progress_is_drawn_on_a_terminal_only_and_what_was_there_comes_back(
    pytester: pytest.Pytester, tmp_path: Path
) -> None:
    """On a real pseudo-terminal, with pytest's own capture of a test's output in between."""
    import pty

    pytester.makepyfile(test_mine=ONE)
    command = [
        *(sys.executable, "-m", "pytest", "--clip-model=reference", "--clip-limit=60"),
        *("--clip-profile=quick", "--clip-batch-size=4", f"--clip-cache-dir={tmp_path}/c"),
    ]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    assert process.wait() == 0
    lines = shown.decode().split("\r\x1b[2K")
    assert len(lines) > 2
    assert any(re.match(r"  clean ━*╌* \d+/60, \d+ s left", line) for line in lines)
    assert lines[-1].startswith("test_mine.py ")


def test_durations_are_short() -> None:
    assert [duration(x) for x in (0.2, 99, 185, 7500)] == ["1 s", "99 s", "3:05 min", "2:05 h"]

"""Models and data by path: the name that bounds, reports and baselines show is no path."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from helpers import Sessions, one_line, report, write_pictures

from pytest_cliprobust.datasets.registry import LAYOUTS
from pytest_cliprobust.targets import reference

ONE = """
    from pytest_cliprobust.properties import accuracy

    def test_mine(clip, gate, clean, clip_model):
        assert "/" not in clip_model
        gate(accuracy.accuracy_of(clip.on(clean)))
"""

#: Of a metric that guesses at random pictures do not make worthless.
NLL = """
    from pytest_cliprobust.properties import calibration

    def test_mine(clip, gate, clean):
        gate(calibration.calibration_of(clip.on(clean))["nll"])
"""


def copy_model(folder: Path) -> Path:
    """Return a folder that holds the bundled model."""
    shutil.copytree(reference.data_folder() / "reference", folder)
    return folder


@pytest.fixture
def places(run: Sessions) -> tuple[Path, Path]:
    """Two places of the same model and pictures, as on two machines; one of them is here."""
    there = run.path.parent / f"{run.path.name}-there"
    for place in (run.path, there):
        copy_model(place / "v1")
        write_pictures(place / "photos", each=4)
    return run.path, there


def test_a_gate_recorded_in_one_place_holds_in_another(
    run: Sessions, places: tuple[Path, Path]
) -> None:
    here, there = places
    recorded = run(
        f"--clip-model={there}/v1",
        f"--clip-data={there}/photos",
        "--clip-record",
        suite=NLL,
        thresholds="schema = 1\n",
    )
    recorded.assert_outcomes(passed=1)
    text = (here / "thresholds.toml").read_text()
    # Of one model the name is left out: the gate fits the next release.
    assert "model =" not in text
    assert "max_increase = " in text
    assert 'dataset = "imagefolder:photos"' in text
    assert str(here.parent) not in text
    assert (here / "thresholds.baseline.safetensors").exists()
    for data, model in (
        ("photos", "v1"),
        (f"{here}/photos", f"{here}/v1/"),
        ("photos=imagefolder:./photos", "v1=reference"),
    ):
        result = run(
            f"--clip-data={data}",
            f"--clip-model={model}",
            "--clip-report=report.json",
            thresholds=text,
        )
        result.assert_outcomes(passed=1)
        assert result.ret == pytest.ExitCode.OK, result.stdout.str()
        (record,) = report()["measurements"]
        assert record["key"] == "mine/nll/imagefolder:photos/clean/v1"
        assert record["verdict"]["status"] == "pass"
        assert record["verdict"]["compared"].startswith("paired")
        assert list(report()["models"]) == ["v1"]
        assert record["test"] == "test_mine.py::test_mine[v1-imagefolder:photos]"


def test_a_name_of_the_users_own_is_what_a_rule_selects(run: Sessions) -> None:
    copy_model(run.path / "new")
    rules = "".join(
        f'[[threshold]]\nsuite = "mine"\nmetric = "accuracy"\nmodel = "{name}"\nmin = {bound}\n'
        for name, bound in (("candidate", 0.9999), ("last-release", 0.02))
    )
    result = run(
        "--clip-model=candidate=./new",
        "--clip-report=report.json",
        suite=ONE,
        thresholds=f"schema = 1\n{rules}",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "clip model: candidate (new, *",
            "*mine: accuracy of candidate on clean breaks min 0.9999*",
            "note: 1 bound is for other models",
        ]
    )
    # The command that runs the test again loads the same model under the same name.
    line = next(x for x in result.outlines if "run again" in x)
    command = shlex.split(line.partition("run again")[2])
    assert "--clip-model=candidate=./new" in command
    again = run.plain(*command[1:])
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*mine: accuracy of candidate on clean breaks min 0.9999*"])


def test_names_stand_in_the_ini_file_too(run: Sessions, shared_cache: Path) -> None:
    copy_model(run.path / "old" / "v1")
    run.pytester.makeini(
        "[pytest]\nclip_model = old=./old/v1 new=reference\nclip_limit = 40\nclip_profile = quick\n"
        f"clip_report = report.json\nclip_cache_dir = {shared_cache}"
    )
    run.pytester.makepyfile(test_mine=ONE)
    run.plain().assert_outcomes(passed=2)
    assert [record["model"] for record in report()["measurements"]] == ["new", "old"]
    assert report()["config"]["sources"] == {"old": "./old/v1", "new": "reference"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--clip-model=a/v1", "--clip-model=b/v1"], "two models are called 'v1', a/v1 and b/v1"),
        (["--clip-model=a b=./a/v1"], "'a b' is none; write NAME=PATH"),
        (["--clip-data=*=./a"], "--clip-data *=./a: a name may hold"),
        (["--clip-data=mine=embedded:clean"], "has a name of its own"),
        (
            ["--clip-model=reference", "--clip-model=v2=./a/v1", "--clip-pretrained=./w.pt"],
            "--clip-pretrained ./w.pt would go to all 2 models (reference, v2)",
        ),
        (["--clip-model=v3"], "write --clip-model v3=PATH"),
    ],
)
def test_what_cannot_be_meant_is_one_line(run: Sessions, options: list[str], words: str) -> None:
    for name in ("a/v1", "b/v1"):
        (run.path / name).mkdir(parents=True)
    line = one_line(run(*options, suite=ONE))
    assert words in line


def test_two_folders_of_one_name_are_told_in_one_line(run: Sessions) -> None:
    for name in ("a", "b"):
        write_pictures(run.path / name / "photos")
    suite = """
        from pytest_cliprobust.properties import accuracy

        def test_mine(clip, gate):
            for data in ("a/photos", "{}b/photos"):
                gate(accuracy.accuracy_of(clip.on(data)))
    """
    result = run(suite=suite.format(""))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(
        ["*two data sets are called 'imagefolder:photos', *write NAME=PATH*"]
    )
    run("--clip-report=report.json", suite=suite.format("other=")).assert_outcomes(passed=1)
    assert [record["dataset"] for record in report()["measurements"]] == [
        "imagefolder:other",
        "imagefolder:photos",
    ]


def test_a_layout_of_the_users_own_is_called_without_its_path(run: Sessions) -> None:
    folder = write_pictures(run.path / "inner" / "photos")
    suite = """
        from pytest_cliprobust import register_layout
        from pytest_cliprobust.datasets.layouts.imagefolder import ImageFolder
        from pytest_cliprobust.properties import accuracy

        @register_layout("mine")
        class Mine(ImageFolder):
            def __init__(self, root, **options):
                super().__init__(root, **options)
                self.name = f"mine:{root}"

        def test_mine(clip, gate):
            gate(accuracy.accuracy_of(clip.on("mine:PATH")))
            gate(accuracy.accuracy_of(clip.on("two=mine:PATH")))
    """
    with LAYOUTS.preserved():
        result = run("--clip-report=report.json", suite=suite.replace("PATH", str(folder)))
    result.assert_outcomes(passed=1)
    assert [record["dataset"] for record in report()["measurements"]] == ["mine:photos", "mine:two"]
    assert str(folder) not in json.dumps(report()["measurements"])

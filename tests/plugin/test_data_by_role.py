"""A user's own data meets every suite whose role it plays, under one name wherever it lies."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import Sessions, one_line, report, write_pictures
from photographs import write_disk

from pytest_cliprobust.datasets.roles import ROLES
from pytest_cliprobust.plugin.suites import shipped

#: Of suites over many perturbations, prompts and scores few.
CHOSEN = (
    "not (corruption_2d and not fog and not jpeg) and not (corruption_3d and not iso_noise) "
    "and not (unlabelled and not iso_noise) and not (calibration and corrupt and not iso_noise) "
    "and not (laion_c and not mosaic) and not (resampling and not aspect) and not few_samples"
)

ACCURACY = """
    from pytest_cliprobust.properties import accuracy

    def test_mine(clip, gate):
        gate(accuracy.accuracy_of(clip.on("clean")))
"""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder tree of photographs for every role, and a TOML file that names it."""
    return write_disk(tmp_path_factory.mktemp("disk")).parent


def verdicts() -> dict[str, str]:
    return {entry["key"]: entry["verdict"]["status"] for entry in report()["measurements"]}


GATE = """
    schema = 1
    [[perturbation]]
    name = "posterize"
    kornia = "RandomPosterize"
    parameters = { bits = [3, 3] }
"""


#: Suites that take their time, and no role that others do not take.
LONGER = (
    *("corruption_2d", "corruption_3d", "frontier", "kornia", "laion_c", "occlusion", "prompts"),
    *("resampling", "selective", "view", "worst_case"),
)


@pytest.mark.parametrize(
    "left_out",
    [
        pytest.param(LONGER, marks=pytest.mark.long, id="few"),
        pytest.param((), marks=pytest.mark.exhaustive, id="all"),
    ],
)
def test_all_suites_run_on_photographs_with_one_command(
    run: Sessions, disk: Path, left_out: tuple[str, ...]
) -> None:
    """And the same gate on a copy at another path gives the same verdicts."""
    gate = run.path / "gate.toml"  # recording must not find the shipped file
    gate.write_text(GATE, encoding="utf-8")
    chosen = " and not ".join([CHOSEN, *(f"test_{name}.py" for name in left_out)])
    options = ["--clip-suites", "-k", chosen, "--clip-report=report.json"]
    options += [f"--clip-thresholds={gate}", "--clip-limit=56"]

    def on(place: Path) -> list[str]:
        return [f"--clip-data={place}/data.toml", f"--clip-depth={place}/depth"]

    first = run(*options, *on(disk), "--clip-record", thresholds=None)
    assert not {"failed", "errors"} & set(first.parseoutcomes()), first.stdout.str()
    document = report()
    assert document["mistakes"] == document["troubles"] == []
    measured = {entry["suite"] for entry in document["measurements"]}
    # These two take a second model, and the full profile.
    assert measured == {*shipped()} - {"performance", "adversarial", *left_out}
    reasons = [entry["reason"] for entry in document["not_run"]]
    assert [reason for reason in reasons if reason.startswith("needs ")] == [
        reason for reason in reasons if "--clip-against MODEL" in reason
    ]
    assert set(document["data"]["roles"]) == set(ROLES) - {"calibration"}
    assert document["data"]["calibration_split"]["of"] == "imagenet"
    sets = {name for names in document["data"]["roles"].values() for name in names}
    found = {entry["figure"]["condition"]["dataset"] for entry in document["measurements"]}
    assert {name for name in sets if not any(one.startswith(name) for one in found)} == set()
    assert str(disk) not in str(document["measurements"])
    assert str(disk) not in gate.read_text(encoding="utf-8")

    there = run.path / "elsewhere" / "deeper"
    shutil.copytree(disk, there)
    runs = []
    for place in (disk, there):
        again = run.again(*options, *on(place))
        assert "failed" not in again.parseoutcomes(), again.stdout.str()
        runs.append((verdicts(), again.ret))
    assert runs[0] == runs[1]
    assert set(runs[0][0].values()) == {"pass", "unbounded"}  # not all figures can have a bound


def test_templates_and_the_split_are_told(run: Sessions) -> None:
    write_pictures(run.path / "photos", each=40)
    (run.path / "mine.txt").write_text("a photo of a {c}.\n{}\n", encoding="utf-8")
    options = ("--clip-data=photos", "--clip-report=report.json", "--clip-limit=56")
    result = run(*options, suite=ACCURACY)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*note: a fifth, by a hash of the ids, of imagefolder:photos calibrates*",
            "clip templates: imagefolder:photos: OpenAI's for ImageNet, as none are given (80, *",
        ]
    )
    before = report()
    result = run(*options, "--clip-templates=mine.txt")
    result.stdout.fnmatch_lines(["clip templates: imagefolder:photos: mine.txt (2, digest *"])
    after = report()
    assert before["data"]["templates"] != after["data"]["templates"]
    assert before["provenance"]["templates"] != after["provenance"]["templates"]
    (figure,) = (entry["figure"] for entry in after["measurements"])
    assert 50 < figure["n"] < 75  # four fifths of eighty


def test_several_sets_of_one_role_run_a_test_each(run: Sessions) -> None:
    for name in ("photos", "a", "b"):
        write_pictures(run.path / name)
    suite = """
        def test_mine(clip, shift):
            assert clip.on(shift).condition.dataset in ("imagefolder:a", "imagefolder:b")
    """
    given = ("--clip-data=photos", "--clip-data=shift=a", "--clip-data=shift=b")
    result = run(*given, "-v", suite=suite)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["*test_mine[[]reference-imagefolder:a[]]*", "*test_mine[[]reference-imagefolder:b[]]*"],
        consecutive=False,
    )


def test_data_in_the_ini_file(run: Sessions, shared_cache: Path) -> None:
    for name in ("my photos", "a"):
        write_pictures(run.path / name)
    run.pytester.makeini(
        "[pytest]\nclip_model = reference\nclip_limit = 40\nclip_profile = quick\n"
        f"clip_cache_dir = {shared_cache}\nclip_report = report.json\n"
        "clip_data =\n    my photos\n    shift=a\n"
    )
    run.pytester.makepyfile(test_mine=ACCURACY)
    run.plain().assert_outcomes(passed=1)
    assert report()["data"]["roles"] == {
        "clean": ["imagefolder:my photos"],
        "shift": ["imagefolder:a"],
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--clip-data=far-ood=x"], "'far-ood' is nearly the role 'far_ood'"),
        (["--clip-data=imagent:x"], "unknown layout 'imagent'. Did you mean 'imagenet'"),
        (["--clip-data=photos", "--clip-data=shift=nowhere"], "'nowhere' does not exist"),
        (["--clip-data=nowhere.toml"], "nowhere.toml cannot be read"),
        (["--clip-data=$NOT_SET_HERE/x"], "variable NOT_SET_HERE is not set"),
        (["--clip-data=photos", "--clip-templates=nowhere.txt"], "template file nowhere.txt"),
        (["--clip-require=far_odd"], "--clip-require far_odd: no role or suite"),
    ],
)
def test_mistakes_are_one_line(run: Sessions, options: list[str], words: str) -> None:
    write_pictures(run.path / "photos")
    one_line(run(*options, suite=ACCURACY), words)


def test_a_mistake_is_one_line_where_tests_ask_for_roles(run: Sessions) -> None:
    """Roles are looked up while tests are collected; it was an error of each file then, in a traceback."""
    suite = "def test_far(clip, gate, far_ood):\n    pass\n"
    words = "unknown layout 'imagent'. Did you mean 'imagenet'"
    one_line(run("--clip-data=imagent:x", "--clip-report=report.json", suite=suite), words)
    assert report()["ending"] == "mistake"
    result = run("--clip-data=imagent:x", "--collect-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{words}*"])


def test_what_is_required_and_missing_is_red(run: Sessions) -> None:
    write_pictures(run.path / "photos")
    given = ("--clip-data=photos", "--clip-report=report.json")
    suite = f"{ACCURACY}\n    def test_far(clip, gate, far_ood):\n        pass\n"
    result = run(*given, suite=suite)
    assert result.ret == pytest.ExitCode.OK
    for name in ("far_ood", "mine"):
        result = run(*given, f"--clip-require={name}")
        assert int(result.ret) == 6
        lines: list[Any] = report()["required_missing"]
        assert len(lines) == 1
        assert lines[0].startswith(f"{name}: needs far_ood (")
        result.stdout.fnmatch_lines(["REQUIRED: *far_ood=LAYOUT:PATH", "NOT GREEN: *code 6"])
    result = run(*given, "--clip-require=clean")
    assert result.ret == pytest.ExitCode.OK
    assert report()["required_missing"] == []

"""``cliprobust init``: what it writes is read, and its workflows end as the exit codes say."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_cliprobust import cli
from pytest_cliprobust.cli.init import WORKFLOWS
from pytest_cliprobust.datasets.sources import read_table
from pytest_cliprobust.gating.reading import load_thresholds, parse_thresholds

Capture = pytest.CaptureFixture[str]

#: A model whose name means something to a shell and to YAML.
ODD = "a='b: #\"c $HOME"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def steps() -> list[dict[str, Any]]:
    """Return the steps of GitHub's workflow."""
    made = yaml.safe_load(Path(".github/workflows/clip-robustness.yml").read_text())
    found: list[dict[str, Any]] = made["jobs"]["gate"]["steps"]
    return found


def step(name: str) -> str:
    """Return the shell of a step of GitHub's workflow."""
    (found,) = (str(one["run"]) for one in steps() if one.get("name") == name)
    return found


def bash(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the shell of a step as GitHub does."""
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_written_is_read(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["init", "--model", "mine=ViT-B-32", "--data"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == ["written: thresholds.toml", "written: data.toml"]
    read = load_thresholds("thresholds.toml")
    assert read.rules == ()
    assert read.policy.inconclusive_share == 0.15
    monkeypatch.setenv("DATA", "/data")
    assert [one.role for one in read_table(Path("data.toml"))] == ["clean"]
    shown = out[2].removeprefix("next: ")
    assert shown in Path("thresholds.toml").read_text()
    assert shlex.split(shown)[2:4] == ["--clip-model=mine=ViT-B-32", "--clip-data=data.toml"]


def test_what_comes_next_is_said_of_the_folder(folder: Path, capsys: Capture) -> None:
    """Another folder's thresholds.toml would be recorded over."""
    assert cli.main(["init", "--model", "mine=ViT-B-32", "--out", "new one"]) == 0
    out = capsys.readouterr().out
    assert "next: cd 'new one' && pytest --clip-suites " in out


def test_what_stands_there_as_a_comment_is_read_without_its_signs(folder: Path) -> None:
    assert cli.main(["init"]) == 0
    lines = Path("thresholds.toml").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line == "# [[waiver]]")
    own = "\n".join(line.removeprefix("# ") for line in lines[start:])
    (extends,) = (line.removeprefix("# ") for line in lines if line.startswith("# extends"))
    read = parse_thresholds(f"schema = 1\n{extends}\n{own}\n")
    assert read.policy.packs == ("pack release",)
    (waiver,) = read.waivers
    assert not waiver.expired
    assert set(waiver.selector.selectors) == {"suite", "metric"}


def test_no_file_is_touched_that_is_there(folder: Path, capsys: Capture) -> None:
    Path("thresholds.toml").write_text("mine")
    assert cli.main(["init", "--ci", "github"]) == 4
    assert "thresholds.toml is there already" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["thresholds.toml"]
    Path("thresholds.toml").rename("data.toml")  # not the first of its files
    assert cli.main(["init", "--data"]) == 4
    assert "data.toml is there already" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["data.toml"]
    assert cli.main(["init", "--out", "new"]) == 0
    assert Path("new/thresholds.toml").exists()


@pytest.mark.slow
@pytest.mark.parametrize("forge", ["github", "gitlab"])
def test_workflows_follow_their_schema(folder: Path, forge: str) -> None:
    assert cli.main(["init", "--ci", forge, "--model", ODD, "--data"]) == 0
    (workflow,) = (path for path in folder.rglob("*.yml"))
    told = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema", "--builtin-schema"),
            f"vendor.{'github-workflows' if forge == 'github' else 'gitlab-ci'}",
            str(workflow),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    made = yaml.safe_load(workflow.read_text())
    variables = (
        made["jobs"]["gate"]["env"] if forge == "github" else made["clip-robustness"]["variables"]
    )
    assert variables["CLIP_MODEL"] == ODD
    assert "@" not in workflow.read_text().replace("uses: actions/", "").replace("@v", "")


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not installed")
def test_actionlint_finds_nothing(folder: Path) -> None:
    assert cli.main(["init", "--ci", "github", "--data"]) == 0
    told = subprocess.run(
        ["actionlint", WORKFLOWS["github"]], capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stdout) == (0, "")


@pytest.mark.parametrize(
    ("status", "inconclusive", "code", "words"),
    [
        ("0", "fail", 0, "is kept"),
        ("1", "warn", 1, "a bound is missed"),
        ("2", "warn", 1, "broke off with exit code 2"),
        ("4", "warn", 1, "broke off with exit code 4"),
        ("6", "fail", 1, "inconclusive"),
        ("6", "warn", 0, "inconclusive"),
        ("7", "warn", 1, "run again"),
        ("", "warn", 1, "the gate did not run"),
    ],
)
def test_github_ends_as_the_exit_codes_say(
    folder: Path, status: str, inconclusive: str, code: int, words: str
) -> None:
    assert cli.main(["init", "--ci", "github"]) == 0
    ended = bash(step("Verdict"), STATUS=status, INCONCLUSIVE=inconclusive)
    assert ended.returncode == code
    assert words in ended.stdout


def test_github_says_where_there_is_no_report(folder: Path) -> None:
    assert cli.main(["init", "--ci", "github"]) == 0
    assert bash(step("Summary"), GITHUB_STEP_SUMMARY="summary").returncode == 0
    assert Path("summary").read_text().startswith("The gate did not run")
    Path("reports").mkdir()
    Path("reports/clip.md").write_text("# all is well\n")
    assert bash(step("Summary"), GITHUB_STEP_SUMMARY="other").returncode == 0
    assert Path("other").read_text() == "# all is well\n"
    always = {one["name"] for one in steps() if "always()" in str(one.get("if"))}
    assert {"Summary", "Reports", "Verdict"} <= always


def test_the_script_of_gitlab_runs_as_a_shell_reads_it(folder: Path) -> None:
    assert cli.main(["init", "--ci", "gitlab", "--model", ODD, "--data"]) == 0
    job = yaml.safe_load(Path(WORKFLOWS["gitlab"]).read_text())["clip-robustness"]
    called = folder / "called"
    called.mkdir()
    for name in (
        "pip",
        "pytest",
    ):  # each tells what it was given, an argument a line, and how it ended
        program = called / name
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@"\nexit ${{STATUS:-0}}\n')
        program.chmod(0o755)
    path = f"{called}:{os.environ['PATH']}"
    install, gate = job["script"]
    assert bash(install, PATH=path).stdout.splitlines() == [
        "pip",
        "install",
        "pytest-cliprobust[xdist]",
    ]
    for status in (0, 1, 6, 7):
        ended = bash(gate, PATH=path, CLIP_MODEL=job["variables"]["CLIP_MODEL"], STATUS=str(status))
        assert ended.returncode == status
        assert (status in job["allow_failure"]["exit_codes"]) == (status in (6, 7))
        given = ended.stdout.splitlines()
        assert given[:4] == [
            "pytest",
            "--clip-suites",
            f"--clip-model={ODD}",
            "--clip-data=data.toml",
        ]
        assert f"--junitxml={job['artifacts']['reports']['junit']}" in given


def test_the_shell_of_every_step_is_shell(folder: Path) -> None:
    assert cli.main(["init", "--ci", "github", "--model", ODD]) == 0
    scripts = [str(one["run"]) for one in steps() if "run" in one]
    assert len(scripts) == 5
    for script in scripts:
        told = subprocess.run(
            ["bash", "-n"], input=script, capture_output=True, text=True, check=False
        )
        assert (told.returncode, told.stderr) == (0, "")
        # What others write (a title, a branch) never stands in a script: it comes by the environment.
        assert "${{" not in script


@pytest.mark.slow
def test_the_step_that_evaluates_does(folder: Path, shared_cache: Path) -> None:
    assert cli.main(["init", "--ci", "github", "--model", "reference"]) == 0
    Path(".cliprobust").symlink_to(shared_cache)
    few = "-k test_clean --clip-limit=40 --clip-profile=quick -m accuracy -p no:cacheprovider"
    ended = bash(
        step("Evaluate"),
        CLIP_MODEL="reference",
        GITHUB_OUTPUT="output",
        GITHUB_ACTIONS="true",
        PYTEST_ADDOPTS=few,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert Path("output").read_text() in ("status=0\n", "status=6\n"), ended.stdout
    assert "::warning title=pytest-cliprobust::" in ended.stdout  # no bound is there yet
    names = {path.name for path in Path("reports").iterdir()}
    assert names >= {
        "clip.html",
        "clip.json",
        "clip.md",
        "clip.comment.md",
        "clip.sarif",
        "clip.xml",
    }
    assert "clip.intoto.jsonl" in names

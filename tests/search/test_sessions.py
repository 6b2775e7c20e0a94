"""Whole sessions of the suites that search, attack or take a user's perturbation."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Protocol

import forked
import pytest
from helpers import SUITES
from PIL import Image

from pytest_cliprobust.gating.reading import load_thresholds


class Run(Protocol):
    """Runs a session with the options that all of these share."""

    def __call__(self, *args: str, inside: bool = False) -> pytest.RunResult: ...


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def run(pytester: pytest.Pytester, cache_dir: Path) -> Run:
    def _run(*args: str, inside: bool = False) -> pytest.RunResult:
        # Inside this process a session starts faster, but leaves behind what it registers.
        start = pytester.runpytest_inprocess if inside else partial(forked.session, pytester)
        return start(
            "--clip-model=reference", "--clip-profile=quick", "--clip-limit=24",
            "--clip-thresholds=thresholds.toml", f"--clip-cache-dir={cache_dir}", *args,
        )  # fmt: skip

    return _run


MY_CONFTEST = """
    from pytest_cliprobust.perturbations.registry import register


    @register("tint", severities=({"amount": 0.2}, {"amount": 0.9}), envelope={"amount": (0.0, 1.0)})
    def tint(images, *, amount):
        keep = images.new_tensor([1.0, 1.0 - amount, 1.0 - amount])
        return images * keep[None, :, None, None]
"""
MY_SUITE = """
    from pytest_cliprobust.perturbations.registry import register
    from pytest_cliprobust.properties import accuracy
    from pytest_cliprobust.search.worst_case import worst_case_drop


    @register(severities=({"amount": 1.0},))
    def negative(images, *, amount):
        return images + amount * (1 - 2 * images)


    def test_features(clip):
        clean, tinted = clip.on("clean").features, clip.on("clean", "tint", 2).features
        assert tinted.shape == clean.shape
        assert not (tinted == clean).all(dim=1).any()
        assert (clip.on("clean", "tint", 0).features == clean).all()
        assert (clip.on("clean", "tint", amount=0.9).features == tinted).all()


    def test_accuracy(clip, gate):
        for name, severity in (("tint", 2), ("negative", 1)):
            gate(accuracy.accuracy_of(clip.on("clean", name, severity)))


    def test_worst(clip, gate):
        found = worst_case_drop(clip, clip.on("clean"), "tint", examples=3)
        gate(found.figure, explain=found.explain)
"""
MY_BOUNDS = """
schema = 1
[[threshold]]
suite = "mine"
metric = "accuracy"
perturbation = ["tint", "negative"]
min = 0.01
[[threshold]]
suite = "mine"
metric = "worst_case_drop"
perturbation = "tint"
max = -0.99
because = "no drop at all could keep this"
"""


@pytest.mark.long
def test_a_users_perturbation_by_name_in_suite_bounds_and_features(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(MY_CONFTEST)
    pytester.makepyfile(test_mine=MY_SUITE)
    bounds = pytester.path / "thresholds.toml"
    bounds.write_text(MY_BOUNDS)
    result = run("--clip-report=out/report.json,out/report.md")
    result.assert_outcomes(passed=2, failed=1)
    records = json.loads(Path("out/report.json").read_text())["measurements"]
    statuses = {record["key"]: record["verdict"]["status"] for record in records}
    assert statuses == {
        "mine/accuracy/clean/negative@1/reference": "pass",
        "mine/accuracy/clean/tint@2/reference": "pass",
        "mine/worst_case_drop/clean/tint/reference": "fail",
    }
    # The failure shows the mildest parameters, a picture, and a command that works as it stands.
    (evidence,) = [record["evidence"] for record in records if "evidence" in record]
    assert evidence["parameters"] == {"amount": 0.0}  # every drop breaks the bound
    picture = Path(evidence["picture"])
    assert picture.parent == Path("out/report-pictures")
    assert Image.open(picture).width > 6 * 128
    told = result.stdout.str()
    assert "the mildest that breaks the bound" in told
    assert f"picture   {picture}" in told
    assert f"see it    {evidence['reproduction']}" in told
    assert "run again pytest 'test_mine.py::test_worst[reference]'" in told
    markdown = Path("out/report.md").read_text()
    assert f"](<report-pictures/{picture.name}>)" in markdown
    assert evidence["reproduction"] in markdown
    words = shlex.split(evidence["reproduction"])
    assert words[0] == "cliprobust"
    assert words[words.index("--load") + 1] == "conftest.py"
    shown = subprocess.run(
        [sys.executable, "-m", "pytest_cliprobust.cli", *words[1:]],
        capture_output=True,
        text=True,
        check=True,
    )
    assert Image.open(shown.stdout.strip()).size[0] > 300
    # Whoever leaves out samples wants no picture of them, and no command that names one.
    result = run("--clip-no-samples", "--clip-report=bare/report.json")
    result.assert_outcomes(passed=2, failed=1)
    assert "the mildest that breaks the bound" in result.stdout.str()
    assert "see it" not in result.stdout.str()
    assert not Path("bare/report-pictures").exists()
    # A slip in the name is an error with its line before anything is measured.
    bounds.write_text(MY_BOUNDS.replace('"negative"', '"negativ"'))
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: thresholds.toml:6: *'negativ'*Did you mean 'negative'?*"])


TABLES = """
schema = 1
[[perturbation]]
name = "coarse"
kornia = "RandomPosterize"
parameters = { bits = [2, 2] }
[[perturbation]]
name = "turn"
kornia = "RandomRotation"
severities = [{ degrees = [5, 5] }, { degrees = [80, 80] }]
"""


@pytest.mark.long
def test_every_suite_records_its_bounds_and_keeps_them(run: Run, pytester: pytest.Pytester) -> None:
    bounds = pytester.path / "thresholds.toml"
    bounds.write_text(TABLES)
    names = ("occlusion", "typographic", "kornia", "worst_case", "frontier", "adversarial")
    files = [str(SUITES / f"test_{name}.py") for name in names]
    result = run("--clip-record", *files)
    assert result.ret == 0
    recorded = bounds.read_text()
    assert recorded.startswith(TABLES)
    for suite, metric, perturbation in (
        ("occlusion", "accuracy_drop", "occlusion"),
        ("typographic", "attack_success", "typographic"),
        ("kornia", "accuracy", "turn"),
        ("worst_case", "worst_case_drop", "saturate"),
        ("frontier", "frontier_strength", "contrast"),
        ("adversarial", "accuracy", "apgd"),
    ):
        wanted = {
            "suite": suite,
            "metric": metric,
            "dataset": "clean",
            "perturbation": perturbation,
        }
        assert any(
            all(rule.selectors[name] == (value,) for name, value in wanted.items())
            for rule in load_thresholds(bounds).rules
        )
    result = run("--clip-report=two.json", "-n1", *files)
    assert result.ret == 0
    records = json.loads(Path("two.json").read_text())["measurements"]
    assert {record["suite"] for record in records} == set(names)
    # Few samples as they are, they decide that nothing has changed, where a model can miss their margin.
    verdicts = Counter(record["verdict"]["status"] for record in records)
    assert set(verdicts) <= {"pass", "unbounded"}
    assert verdicts["pass"] > 2 * verdicts["unbounded"]
    figures = {(r["suite"], r["perturbation"], r["metric"]): r["figure"] for r in records}
    searched = figures["worst_case", "saturate", "worst_case_drop"]["details"]
    assert searched["searched_on"] == 8
    assert set(searched["parameters"]) == {"gain", "lift"}
    frontier = figures["frontier", "contrast", "frontier_strength"]
    assert frontier["details"]["curve"][0] == [0.0, frontier["details"]["clean_accuracy"]]
    robust = figures["adversarial", "apgd", "accuracy"]["value"]
    assert robust <= frontier["details"]["clean_accuracy"]


def test_a_frontier_takes_the_drop_that_the_file_allows(
    run: Run, pytester: pytest.Pytester
) -> None:
    (pytester.path / "thresholds.toml").write_text(
        'schema = 1\n[[threshold]]\nsuite = "frontier"\nmetric = "accuracy_drop"\n'
        'perturbation = "contrast"\nmax = -0.5\nbecause = "cannot be kept"\n'
        '[[threshold]]\nsuite = "frontier"\nmetric = "frontier_strength"\n'
        'perturbation = "contrast"\nmin = 0.95\n'
    )
    result = run(str(SUITES / "test_frontier.py"), "-k", "contrast", inside=True)
    result.assert_outcomes(failed=1)
    told = result.stdout.str()
    assert "a drop of -0.5 is broken at the mildest end already" in told
    assert "cliprobust/frontier-frontier_strength-clean-contrast-reference.png" in told


def test_the_adversarial_suite_waits_until_it_is_asked_for(
    run: Run, pytester: pytest.Pytester
) -> None:
    bounds = (
        'schema = 1\n[[threshold]]\nsuite = "adversarial"\nmetric = "accuracy"\nmin = 0.01\n'
        '[[threshold]]\nsuite = "typographic"\nmetric = "accuracy"\nmin = 0.01\n'
    )
    (pytester.path / "thresholds.toml").write_text(bounds)
    folder = pytester.mkdir("chosen")
    for name in ("conftest.py", "test_adversarial.py", "test_typographic.py"):
        (folder / name).write_text((SUITES / name).read_text())
    result = run(str(folder), inside=True)
    result.assert_outcomes(passed=2, deselected=1)
    assert result.ret == 0
    asked = run(str(folder), "-m", "adversarial", inside=True)
    asked.assert_outcomes(passed=1, deselected=2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("RandomPosterize", "RandomPosterise", "thresholds.toml:3: kornia *'RandomPosterize'*"),
        ("bits", "bit", "thresholds.toml:3: kornia:RandomPosterize has no parameter 'bit'*'bits'*"),
    ],
)
def test_a_slip_in_a_kornia_table_is_one_line(
    run: Run, pytester: pytest.Pytester, old: str, new: str, message: str
) -> None:
    (pytester.path / "thresholds.toml").write_text(TABLES.replace(old, new))
    pytester.makepyfile("def test_it(clip): pass")
    result = run(inside=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert "Traceback" not in result.stderr.str()

"""Worst cases, frontiers and attacks from a model to figures and evidence; a user's perturbations."""

from __future__ import annotations

import importlib.util
import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import SUITES
from PIL import Image

from pytest_cliprobust import cli
from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.datasets.subset import Subset
from pytest_cliprobust.engine.encoding import text_writer
from pytest_cliprobust.engine.evaluation import Evaluation, RunConfig
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.gating.reading import load_thresholds
from pytest_cliprobust.perturbations import contact_sheet, registry
from pytest_cliprobust.perturbations.typographic import distractors, render_text
from pytest_cliprobust.search import stress, worst_case

# --- Pieces ----------------------------------------------------------------------------------------


def test_the_first_crossing_is_interpolated_and_the_first_counts() -> None:
    strengths = np.array([0.0, 0.25, 0.5, 1.0])
    assert stress.first_crossing(strengths, np.array([0.0, 0.1, 0.3, 0.4]), 0.2) == 0.375
    assert stress.first_crossing(strengths, np.array([0.0, 0.3, 0.1, 0.4]), 0.2) < 0.25
    assert stress.first_crossing(strengths, np.array([0.0, 0.1, 0.2, 0.2]), 0.2) == 1.0
    assert stress.first_crossing(strengths, np.array([0.3, 0.1, 0.2, 0.2]), 0.2) == 0.0


def test_a_subset_is_a_data_set_of_its_own_and_loads_the_same_samples() -> None:
    whole = EmbeddedDataset("clean", limit=9, size=32)
    part = Subset(whole, [7, 2])
    assert part.ids == (whole.ids[7], whole.ids[2])
    assert part.labels == (whole.labels[7], whole.labels[2])
    assert part.groups["style"] == (whole.groups["style"][7], whole.groups["style"][2])
    assert torch.equal(part.load([1]).images, whole.load([2]).images)
    digests = {whole.digest, part.digest, Subset(whole, [2, 7]).digest, Subset(whole, [7]).digest}
    assert len(digests) == 4
    with pytest.raises(ClipRobustError, match="has 9 samples, too few"):
        Subset(whole, [9])


def test_samples_are_searched_on_or_confirmed_on_but_never_both() -> None:
    whole = EmbeddedDataset("clean", limit=30, size=32)
    search, confirm = stress.split(whole, 64)
    assert (len(search), len(confirm)) == (10, 20)
    assert not set(search.ids) & set(confirm.ids)
    assert len(stress.split(whole, 4)[0]) == 4
    with pytest.raises(ClipRobustError, match="too few for this property"):
        stress.split(EmbeddedDataset("clean", limit=2, size=32))


def test_text_is_written_on_any_data_set_and_only_where_asked_for() -> None:
    data = EmbeddedDataset("clean", limit=6, size=32)
    assert text_writer(registry.get("brightness"), data, 0) is None
    write = text_writer(registry.get("typographic"), data, 0)
    assert write is not None
    batch = write(data.load([4, 1]))
    chosen = distractors(data.ids, data.labels, data.class_names, 0)
    assert all(chosen[i] != data.labels[i] for i in range(6))
    expected = render_text(data.class_names)[[chosen[4], chosen[1]]]
    assert torch.equal(batch.extras["text"], expected)


def test_a_users_code_is_part_of_the_cache_key(tmp_path: Path) -> None:
    path = tmp_path / "my_perturbations.py"

    def code_of(gain: float) -> str:
        path.write_text(f"def darker(images):\n    return images * {gain}\n")
        spec = importlib.util.spec_from_file_location("my_perturbations", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        made = registry.Perturbation("darker", module.darker, "mine")
        assert made.origin == path
        return made.code

    assert code_of(0.5) == code_of(0.5) != code_of(0.6)
    assert registry.get("brightness").code == ""
    assert registry.get("brightness").origin is None


# --- In sessions of their own ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def run(pytester: pytest.Pytester, cache_dir: Path):
    def _run(*args: str, inside: bool = False):
        # Inside this process a session starts faster, but leaves behind what it registers.
        start = pytester.runpytest_inprocess if inside else pytester.runpytest_subprocess
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
    from pytest_cliprobust.search import stress
    from pytest_cliprobust.perturbations.registry import register
    from pytest_cliprobust.properties import accuracy


    @register(severities=({"amount": 1.0},))
    def negative(images, *, amount):
        return images + amount * (1 - 2 * images)


    def test_features(clip):
        data = clip.dataset("clean")
        clean, tinted = clip.features(data), clip.features(data, "tint", 2)
        assert tinted.shape == clean.shape
        assert not (tinted == clean).all(dim=1).any()
        assert (clip.features(data, "tint", 0) == clean).all()
        assert (clip.features(data, "tint", amount=0.9) == tinted).all()


    def test_accuracy(clip, check):
        data = clip.dataset("clean")
        for name, severity in (("tint", 2), ("negative", 1)):
            figure = accuracy.accuracy_figure(clip.correct(data, name, severity))
            check(figure, perturbation=name, severity=severity)


    def test_worst(clip, check):
        found = stress.worst_case_drop(clip, "tint", clip.dataset("clean"), examples=3)
        check(found.figure, perturbation="tint", explain=found.explain)
"""
MY_BOUNDS = """
schema = 1
[[threshold]]
suite = "mine"
metric = "accuracy"
perturbation = ["tint", "negative"]
min = 0.0
[[threshold]]
suite = "mine"
metric = "worst_case_drop"
perturbation = "tint"
max = -0.99
because = "no drop at all could keep this"
"""


def test_a_users_perturbation_by_name_in_suite_bounds_and_features(run, pytester) -> None:
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
    # A slip in the name is an error with its line before anything is measured.
    bounds.write_text(MY_BOUNDS.replace('"negative"', '"negativ"'))
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: thresholds.toml:6: *'negativ'*Did you mean 'negative'?*"])


FOLDER_SUITE = """
    from pytest_cliprobust.search import stress

    def test_fog(clip, check):
        found = stress.worst_case_drop(clip, "fog_3d", clip.dataset("clean"), examples=2)
        check(found.figure, perturbation="fog_3d", explain=found.explain)
"""
FOLDER_BOUNDS = """
schema = 1
[[threshold]]
suite = "mine"
metric = "worst_case_drop"
max = -0.99
"""


def test_the_command_draws_what_was_measured_on_a_users_own_data(
    run, pytester, monkeypatch
) -> None:
    generator = np.random.default_rng(0)
    for number in range(9):
        folder = Path("my photos", f"class {number % 3}")
        depth = Path("depth", folder.name)
        for place in (folder, depth):
            place.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((240, 180)).save(folder / f"{number}.png")
        np.save(depth / f"{number}.npy", generator.uniform(1, 9, (180, 240)).astype(np.float32))
    pytester.makepyfile(test_mine=FOLDER_SUITE)
    (pytester.path / "thresholds.toml").write_text(FOLDER_BOUNDS)
    result = run("--clip-report=report.json", "--clip-data=my photos", "--clip-depth=depth")
    result.assert_outcomes(failed=1)
    (record,) = json.loads(Path("report.json").read_text())["measurements"]
    words = shlex.split(record["evidence"]["reproduction"])
    name = words[words.index("--sample") + 1]
    assert words[3:5] == ["my photos", "--sample"]
    assert words[words.index("--clip-depth") + 1] == "depth"
    assert cli.main(words[1:]) == 0

    # With all that a run gives: the depth, noise by the same seed, the same word written on it.
    config = RunConfig(("reference",), data="my photos", depth="depth", cache_dir=Path("cache"))
    clip = Evaluation(config, "reference")
    data = clip.dataset("clean")
    row = data.ids.index(name)
    drawn: list[torch.Tensor] = []
    original = contact_sheet.contact_sheet

    def watch(rows, *arguments, **named):
        drawn.extend(row.images for row in rows)
        return original(rows, *arguments, **named)

    monkeypatch.setattr(contact_sheet, "contact_sheet", watch)
    for perturbation in ("fog_3d", "gaussian_noise", "typographic"):
        known = registry.get(perturbation)
        parameters = dict(known.parameters(3))
        line = worst_case.reproduction(
            perturbation, parameters, config.seed, image=stress.image_argument(clip, data, row)
        )
        assert cli.main(shlex.split(line)[1:]) == 0
        _, measured = clip.encoder.pictures(data, [row], known, parameters=parameters)
        torch.testing.assert_close(drawn.pop(), measured, rtol=0, atol=2 / 255)


def test_every_kind_of_data_has_its_words_for_the_command(tmp_path: Path) -> None:
    clip = Evaluation(RunConfig(("reference",), cache_dir=tmp_path), "reference")
    assert stress.image_argument(clip, clip.dataset("clean", 9), 1) == "--embedded clean-00001"
    pose = clip.dataset("factor-pose", 9)
    assert stress.image_argument(clip, pose, 1) == (
        f"--clip-data embedded:factor-pose --sample {pose.ids[1]}"
    )


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


def test_every_suite_records_its_bounds_and_keeps_them(run, pytester) -> None:
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
        ("frontier", "frontier_strength", "fog_3d"),
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
    assert {record["verdict"]["status"] for record in records} == {"pass"}
    figures = {(r["suite"], r["perturbation"], r["metric"]): r["figure"] for r in records}
    searched = figures["worst_case", "saturate", "worst_case_drop"]["details"]
    assert searched["searched_on"] == 8
    assert set(searched["parameters"]) == {"gain", "lift"}
    frontier = figures["frontier", "contrast", "frontier_strength"]
    assert frontier["details"]["curve"][0] == [0.0, frontier["details"]["clean_accuracy"]]
    robust = figures["adversarial", "apgd", "accuracy"]["value"]
    assert robust <= frontier["details"]["clean_accuracy"]


def test_a_frontier_takes_the_drop_that_the_file_allows(run, pytester) -> None:
    (pytester.path / "thresholds.toml").write_text(
        'schema = 1\n[[threshold]]\nsuite = "frontier"\nmetric = "accuracy_drop"\n'
        'perturbation = "contrast"\nmax = -0.5\nbecause = "cannot be kept"\n'
        '[[threshold]]\nsuite = "frontier"\nmetric = "frontier_strength"\n'
        'perturbation = "contrast"\nmin = 0.5\n'
    )
    result = run(str(SUITES / "test_frontier.py"), "-k", "contrast", inside=True)
    result.assert_outcomes(failed=1)
    told = result.stdout.str()
    assert "a drop of -0.5 is broken at the mildest end already" in told
    assert "cliprobust/frontier-frontier_strength-clean-contrast-reference.png" in told


def test_the_adversarial_suite_waits_until_it_is_asked_for(run, pytester) -> None:
    bounds = (
        'schema = 1\n[[threshold]]\nsuite = "adversarial"\nmetric = "accuracy"\nmin = 0.0\n'
        '[[threshold]]\nsuite = "typographic"\nmetric = "accuracy"\nmin = 0.0\n'
    )
    (pytester.path / "thresholds.toml").write_text(bounds)
    folder = pytester.mkdir("chosen")
    for name in ("conftest.py", "test_adversarial.py", "test_typographic.py"):
        (folder / name).write_text((SUITES / name).read_text())
    result = run(str(folder), inside=True)
    result.assert_outcomes(passed=1, deselected=1)
    assert result.ret == 0
    asked = run(str(folder), "-m", "adversarial", inside=True)
    asked.assert_outcomes(passed=1, deselected=1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("RandomPosterize", "RandomPosterise", "thresholds.toml:3: kornia *'RandomPosterize'*"),
        ("bits", "bit", "thresholds.toml:3: kornia:RandomPosterize has no parameter 'bit'*'bits'*"),
    ],
)
def test_a_slip_in_a_kornia_table_is_one_line(run, pytester, old, new, message) -> None:
    (pytester.path / "thresholds.toml").write_text(TABLES.replace(old, new))
    pytester.makepyfile("def test_it(clip): pass")
    result = run(inside=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert "Traceback" not in result.stderr.str()


def test_the_command_draws_the_very_pixels_that_the_model_saw(tmp_path: Path) -> None:
    from pytest_cliprobust import cli
    from pytest_cliprobust.engine.encoding import apply_perturbation, to_float

    data = EmbeddedDataset("clean", limit=30, size=40)
    batch = Subset(data, [21]).load([0])
    noise = registry.get("gaussian_noise")
    seen = apply_perturbation(
        noise, to_float(batch.images), batch, parameters={"deviation": 0.2}, seed=3
    )
    words = ["--perturbation", "gaussian_noise", "--set", "deviation=0.2", "--seed", "3"]
    sizes = ["--size", "40", "--cell", "40", "--out", str(tmp_path)]
    assert cli.main(["perturb", "--embedded", "clean-00021", *words, *sizes]) == 0
    sheet = np.asarray(Image.open(tmp_path / "clean-00021.png"))
    expected = (seen[0] * 255).round().byte().permute(1, 2, 0).numpy()
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (40, 40, 3))[:, :, 0]
    assert (windows == expected).all(axis=(2, 3, 4)).any()

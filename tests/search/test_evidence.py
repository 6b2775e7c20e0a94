"""What a failure shows: samples, pictures, and a command that draws what the model saw."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from search_helpers import MADE, GivingWay

from pytest_cliprobust import cli
from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.datasets.subset import Subset
from pytest_cliprobust.engine.encoding import apply_perturbation, to_float
from pytest_cliprobust.engine.evaluation import Evaluation, RunConfig
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.files import shown_path
from pytest_cliprobust.perturbations import contact_sheet, registry
from pytest_cliprobust.search.envelope import Drops, reproduction
from pytest_cliprobust.search.evidence import broken_maximum, evidence_of, image_argument
from pytest_cliprobust.search.worst_case import worst_case_drop


def verdict(**fields: Any) -> Any:
    return SimpleNamespace(status="fail", confidence=0.95, **fields)


def test_a_broken_maximum_is_taken_from_the_verdict() -> None:
    assert broken_maximum(verdict(kind="max", limit=0.25)) == 0.25
    assert broken_maximum(verdict(kind="min", limit=0.25)) is None
    assert broken_maximum(verdict(kind="max_increase", limit=0.25)) is None
    assert broken_maximum(verdict(kind=None, limit=None)) is None


@pytest.mark.slow
def test_the_samples_that_broke_come_first_and_captions_say_what_they_are_taken_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = Evaluation(RunConfig(("reference",), cache_dir=tmp_path / "cache"), "reference")
    clean = clip.on("clean", limit=24)
    drops = Drops(clip, clean, registry.get("contrast"))
    parameters = {"gain": 0.25}
    after = drops.view(parameters)
    broken = [int(i) for i in np.flatnonzero(clean.correct & ~after.correct)]
    kept = [int(i) for i in np.flatnonzero(clean.correct & after.correct)]
    wrong = [int(i) for i in np.flatnonzero(~clean.correct & ~after.correct)]
    assert broken
    assert kept
    shown = [*broken, *wrong, *kept][:6]
    evidence = evidence_of(drops, parameters, (("worst", "words"),))
    assert evidence.lines == (("worst", "words"),)
    assert evidence.parameters == parameters
    assert f"--embedded {clean.ids[shown[0]]} " in evidence.reproduction
    assert evidence.reproduction.endswith("--perturbation contrast --set gain=0.25 --seed 0")

    sheets: list[tuple[Sequence[contact_sheet.Row], Sequence[str]]] = []
    original = contact_sheet.contact_sheet

    def watch(
        rows: Sequence[contact_sheet.Row], columns: Sequence[str], **named: Any
    ) -> Image.Image:
        sheets.append((rows, columns))
        return original(rows, columns, **named)

    monkeypatch.setattr(contact_sheet, "contact_sheet", watch)
    path = evidence.draw(tmp_path / "new folder" / "picture.png")
    assert Image.open(path).width > 6 * 128
    (((before, changed), columns),) = sheets
    assert list(columns) == [clean.class_names[clean.labels[row]] for row in shown]
    assert torch.equal(before.images, to_float(clean.data.load(shown).images))
    assert (before.name, changed.name, changed.note) == ("before", "after", "gain=0.25")
    for sheet_row, view in ((before, clean), (changed, after)):
        assert sheet_row.captions == tuple(
            "right"
            if view.predictions[row] == view.labels[row]
            else f"taken for {view.class_names[view.predictions[row]]}"
            for row in shown
        )
    (tmp_path / "file").touch()
    with pytest.raises(ClipRobustError, match=r"file/x.png: cannot be written"):
        evidence.draw(tmp_path / "file" / "x.png")


def test_what_broke_comes_first_and_captions_say_what_it_is_taken_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Broken are 1, 3 and 6, wrong before are 0 and 4, the others stay right.
    clip = GivingWay([-1.0, 0.2, 2.0, 0.2, -1.0, 2.0, 0.2, 2.0])
    pictures: list[Any] = []

    def drawn(data: Any, rows: list[int], perturbation: Any, *, parameters: Any) -> Any:
        pictures.append((data, rows, perturbation, parameters))
        return torch.zeros(6, 3, 4, 4), torch.ones(6, 3, 4, 4)

    clip.encoder = SimpleNamespace(pictures=drawn)  # type: ignore[attr-defined]
    drops = Drops(clip.any, clip.clean(), MADE)
    evidence = evidence_of(drops, {"amount": 0.25}, (("worst", "words"),))
    assert (evidence.lines, evidence.parameters) == ((("worst", "words"),), {"amount": 0.25})
    command = "cliprobust perturb IMAGE --out worst-case --perturbation made --set amount=0.25"
    load = "" if MADE.origin is None else f" --load {shown_path(MADE.origin)}"
    assert evidence.reproduction == f"{command}{load} --seed 4"

    sheets: list[Any] = []

    def sheet(rows: Any, columns: Any, **named: Any) -> Image.Image:
        sheets.append((rows, columns, named))
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr(contact_sheet, "contact_sheet", sheet)
    path = evidence.draw(tmp_path / "new" / "picture.png")
    assert Image.open(path).size == (8, 8)
    assert pictures == [(clip.data, [1, 3, 6, 0, 4, 2], MADE, {"amount": 0.25})]
    ((before, after), columns, named) = sheets[0]
    assert named == {"title": "made, amount=0.25", "cell": 128}
    assert columns == ["dog", "cat", "cat", "cat", "dog", "sea"]
    assert (before.name, after.name, before.note, after.note) == (
        *("before", "after", "", "amount=0.25"),
    )
    assert (float(before.images.max()), float(after.images.min())) == (0.0, 1.0)
    assert before.captions == (*["right"] * 3, "taken for dog", "taken for sea", "right")
    assert after.captions == (
        *("taken for sea", "taken for dog", "taken for dog"),
        *("taken for dog", "taken for sea", "right"),
    )
    few = Drops(clip.any, clip.on(Subset(clip.data, [0, 2]), limit=2), MADE)
    evidence_of(few, {"amount": 0.25}, ()).draw(path)
    assert pictures[-1][1] == [0, 1]


def test_the_command_has_what_the_run_had() -> None:
    clip: Any = SimpleNamespace(config=SimpleNamespace(depth=None))
    mine: Any = SimpleNamespace(ids=("a", "b c"), source="imagefolder:my photos")
    words = ["--clip-data", "imagefolder:my photos", "--sample", "b c"]
    assert shlex.split(image_argument(clip, mine, 1)) == words
    mine.size = 224
    assert shlex.split(image_argument(clip, mine, 1)) == words
    mine.size = 225
    assert shlex.split(image_argument(clip, mine, 1)) == [*words, "--size", "225"]
    clip.config.depth = "my depth"
    depth = ["--clip-depth", "my depth"]
    assert shlex.split(image_argument(clip, mine, 1)) == [*words, "--size", "225", *depth]
    mine.has_depth = True
    assert "--clip-depth" not in image_argument(clip, mine, 1)
    mine.has_depth, mine.source, mine.root = False, "", Path("there")
    assert shlex.split(image_argument(clip, mine, 0))[:4] == (
        ["--clip-data", "there", "--sample", "a"]
    )


def test_every_kind_of_data_has_its_words_for_the_command(tmp_path: Path) -> None:
    clip = Evaluation(RunConfig(("reference",), cache_dir=tmp_path), "reference")
    clean = clip.dataset("clean", 9)
    assert image_argument(clip, clean, 1) == "--embedded clean-00001"
    assert image_argument(clip, Subset(clean, [4, 7]), 1) == "--embedded clean-00007"
    pose = clip.dataset("factor-pose", 9)
    assert image_argument(clip, pose, 1) == (
        f"--clip-data embedded:factor-pose --sample {pose.ids[1]}"
    )
    mine: Any = SimpleNamespace(ids=("a", "b"))
    assert image_argument(clip, mine, 1) == "IMAGE"


@pytest.mark.slow
def test_the_command_draws_what_was_measured_on_a_users_own_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for number in range(9):
        folder = Path("my photos", f"class {number % 3}")
        depth = Path("depth", folder.name)
        for place in (folder, depth):
            place.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((240, 180)).save(folder / f"{number}.png")
        np.save(depth / f"{number}.npy", generator.uniform(1, 9, (180, 240)).astype(np.float32))
    config = RunConfig(("reference",), data="my photos", depth="depth", cache_dir=Path("cache"))
    clip = Evaluation(config, "reference")
    found = worst_case_drop(clip, clip.on("clean"), "fog_3d", examples=2)
    evidence = found.explain(verdict(bound="max -0.99", kind="max", limit=-0.99))
    words = shlex.split(evidence.reproduction)
    name = words[words.index("--sample") + 1]
    assert words[3:5] == ["my photos", "--sample"]
    assert words[words.index("--clip-depth") + 1] == "depth"
    assert cli.main(words[1:]) == 0

    # With all that a run gives: the depth, noise by the same seed, the same word written on it.
    data = clip.dataset("clean")
    row = data.ids.index(name)
    drawn: list[torch.Tensor] = []
    original = contact_sheet.contact_sheet

    def watch(rows: Sequence[contact_sheet.Row], *arguments: Any, **named: Any) -> Image.Image:
        drawn.extend(row.images for row in rows)
        return original(rows, *arguments, **named)

    monkeypatch.setattr(contact_sheet, "contact_sheet", watch)
    for perturbation in ("fog_3d", "gaussian_noise", "typographic"):
        known = registry.get(perturbation)
        parameters = dict(known.parameters(3))
        line = reproduction(
            perturbation, parameters, config.seed, image=image_argument(clip, data, row)
        )
        assert cli.main(shlex.split(line)[1:]) == 0
        _, measured = clip.encoder.pictures(data, [row], known, parameters=parameters)
        torch.testing.assert_close(drawn.pop(), measured, rtol=0, atol=2 / 255)


@pytest.mark.slow
def test_the_command_draws_the_very_pixels_that_the_model_saw(tmp_path: Path) -> None:
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

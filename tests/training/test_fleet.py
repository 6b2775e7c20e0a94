"""The trainer of the fleet, on a handful of made-up sprites."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip import CLIP
from training_helpers import NAMES, write_archive

from pytest_cliprobust.study.cards import UNKNOWN, Card
from pytest_cliprobust.study.effects import design_of
from pytest_cliprobust.targets.loading import load_target
from pytest_cliprobust.training import fleet, reference
from pytest_cliprobust.training.fleet import FLEET, FleetConfig, thinned
from pytest_cliprobust.training.reference import Archive, Material

SMALL: dict[str, Any] = {
    "steps": 3,
    "horizon": 6,
    "cooldown": 1,
    "batch_size": 12,
    "warmup": 1,
    "ramp": 2,
    "styles": ("flat", "line"),
    "drawings": 8,
}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_archive(tmp_path / "training_sprites.npz", ("flat", "line", "other"))
    write_archive(tmp_path / "heldout_sprites.npz", ("unseen",))
    monkeypatch.setattr(reference, "CHECKPOINT_STEPS", 2)
    monkeypatch.setattr(reference, "BACKGROUNDS", 64)
    monkeypatch.setattr(fleet, "LABEL_PICTURES", 4)
    monkeypatch.setattr(fleet, "FOLDER", tmp_path / "fleet")
    nothing = {"all": {"value": 0.0, "low": 0.0, "high": 1.0, "n": 1}}
    monkeypatch.setattr(reference, "benchmark", lambda folder: nothing)
    return tmp_path


def cards() -> dict[str, Card]:
    """Return the cards that the fleet's models will have, with sizes made up for the smaller one."""
    made = {}
    for name, config in FLEET.items():
        size = 3e5 if config.width == 5 else 7e5
        facts = {k: v for k, v in fleet.tags(config).items() if v != ""}
        made[name] = UNKNOWN.updated(facts | {"parameters": size}, "here")
    return made


def test_each_sibling_differs_from_the_base_in_one_fact() -> None:
    made = cards()
    base = asdict(made["base"])
    for name, card in made.items():
        changed = {key for key, value in asdict(card).items() if value != base[key]} - {"base"}
        assert len(changed) == (0 if name == "base" else 1), name


def test_the_fleet_tells_all_its_factors_apart() -> None:
    design = design_of(list(cards().values()))
    assert {column.factor for column in design.columns} == {
        *("architecture", "parameters", "data", "set_size", "fine_tuning", "loss")
    }
    assert design.confounded == ()
    assert design.freedom == 2


def test_towers_are_small_and_about_equal() -> None:
    sizes = {}
    for name, config in FLEET.items():
        clip = CLIP(**config.model_config())
        sizes[name] = sum(p.numel() for p in clip.visual.parameters())
        assert sum(p.numel() for p in clip.parameters()) < 1.2e6, name
    for name in ("vit", "convnext"):
        assert 0.9 < sizes[name] / sizes["base"] < 1.1
    assert sizes["smaller"] < 0.6 * sizes["base"]


def test_styles_halves_and_caps_choose_the_same_drawings_for_every_seed(work: Path) -> None:
    archive = Archive(work / "training_sprites.npz")
    whole = FleetConfig(**SMALL)
    rows = whole.rows(archive).tolist()
    assert {archive.styles[row] for row in rows} == {"flat", "line"}
    assert len(rows) == 8
    half = replace(whole, fraction=0.5)
    assert set(half.rows(archive).tolist()) < set(rows)
    # Of each name half its drawings.
    assert sorted(archive.names[row] for row in half.rows(archive).tolist()) == sorted(NAMES)
    assert replace(half, seed=1).rows(archive).tolist() == half.rows(archive).tolist()
    assert len(replace(whole, drawings=5).rows(archive)) == 5


def test_thinning_is_even() -> None:
    assert thinned(range(10), 5) == [0, 2, 4, 6, 8]
    assert thinned(range(3), 3) == [0, 1, 2]
    assert thinned(range(3), 0) == []


@pytest.mark.parametrize("tower", ["resnet", "vit", "convnext"])
def test_folding_the_whitening_keeps_the_features(tower: str) -> None:
    torch.manual_seed(0)
    config = FleetConfig(tower=tower, width=96 if tower == "vit" else 8)
    training = fleet.FleetTraining(config.clip(), names=4, half=False)
    training.norm.running_mean = torch.randn(fleet.EMBEDDING)
    training.norm.running_var = torch.rand(fleet.EMBEDDING) + 0.5
    training.eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = training.norm(training.features(images))
        features = training.folded().encode_image(images)
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-3)


def test_pictures_are_made_once_and_drawn_from_mild_to_strong(work: Path) -> None:
    config = FleetConfig(**SMALL)
    reference.write_merges(work / "merges.txt.gz", config.merges)
    material = Material.load(config, work, work / "merges.txt.gz")
    pictures = config.augmentation(material)
    made = (work / "fleet-pictures-64.npy").stat()
    assert len(pictures.pictures) == 12 * 4
    rows = torch.arange(12)
    drawn = pictures(rows, torch.Generator().manual_seed(0), 0.8)
    assert drawn.shape == (12, 3, 64, 64)
    assert 0 <= drawn.min() < drawn.max() <= 1
    assert torch.equal(drawn, pictures(rows, torch.Generator().manual_seed(0), 0.8))
    # At the least strength there is one picture of each to draw.
    assert (pictures.counts * 0.2 / fleet.STRONGEST).ceil().tolist() == [1] * 12
    config.augmentation(material)
    assert (work / "fleet-pictures-64.npy").stat() == made


@pytest.mark.slow
def test_the_fleet_is_trained_resumed_and_left_alone(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {
        "base": FleetConfig(**SMALL),
        "sigmoid": FleetConfig(**SMALL, loss="sigmoid"),
        "finetuned": FleetConfig(**SMALL, start="base", label_share=1.0),
    }
    monkeypatch.setattr(fleet, "FLEET", members)
    fleet.train_fleet(list(members), work)
    folders = {name: work / "fleet" / name for name in members}
    for name, folder in folders.items():
        card = json.loads((folder / "model_card.json").read_text())
        assert card["training_styles"] == {"flat": 4, "line": 4}
        assert card["tags"]["loss"] == ("sigmoid" if name == "sigmoid" else "softmax")
        assert card["tags"]["parameters"] == card["parameters"]["all"]
        target = load_target(str(folder), device="cpu", precision="fp32")
        assert target.encode_text(["a cat.", "a dog."]).shape == (2, fleet.EMBEDDING)
        assert target.info.tags["set_size"] == "8"
    base, tuned = (load_target(str(folders[n]), device="cpu") for n in ("base", "finetuned"))
    texts = ["a cat.", "a dog."]
    # Fine-tuning leaves the text tower, and so the head, as it is.
    torch.testing.assert_close(base.encode_text(texts), tuned.encode_text(texts))
    pixels = base.preprocess(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert not torch.allclose(base.encode_image(pixels), tuned.encode_image(pixels), atol=1e-4)

    before = {name: (f / "open_clip_model.safetensors").stat() for name, f in folders.items()}
    fleet.train_fleet(list(members), work)
    assert before == {n: (f / "open_clip_model.safetensors").stat() for n, f in folders.items()}


def test_fine_tuning_needs_its_base(work: Path) -> None:
    with pytest.raises(SystemExit, match="train base first"):
        fleet.loaded(FleetConfig(**SMALL), work / "fleet" / "base")


def test_an_unknown_model_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["fleet", "nobody"])
    with pytest.raises(SystemExit):
        fleet.main()
    assert "no model nobody; there are base, " in capsys.readouterr().err


def test_a_drawn_picture_is_turned_moved_and_lit_as_a_whole() -> None:
    """Known from the same random numbers: one picture a sprite, with a mark that tells its place."""
    pictures: Any = object.__new__(fleet.Pictures)
    size, count = 24, 6
    pictures.pictures = np.full((count, 3, size, size), 64, np.uint8)
    pictures.pictures[:, :, 10, 5] = 255  # left of the middle
    pictures.counts, pictures.first = torch.ones(count, dtype=torch.long), torch.arange(count)
    found = pictures(torch.arange(count), torch.Generator().manual_seed(3))
    same = torch.Generator().manual_seed(3)
    torch.rand(count, generator=same)  # which of a sprite's pictures
    flipped = torch.rand(count, 1, 1, 1, generator=same).flatten() < 0.5
    down, right = ((torch.rand(2, generator=same) * 2 - 1) * 4).round().int().tolist()
    light = 0.85 + 0.3 * torch.rand(count, 1, 1, 1, generator=same)
    assert set(flipped.tolist()) == {True, False}
    assert light.min() < 1 < light.max()
    for own, turned, factor in zip(found, flipped.tolist(), light.flatten().tolist(), strict=True):
        place = (10 + down, (size - 1 - 5 if turned else 5) + right)
        assert own[:, place[0], place[1]].tolist() == pytest.approx([min(factor, 1.0)] * 3)
        own[:, place[0], place[1]] = 64 / 255 * factor
        assert torch.allclose(own, torch.full_like(own, 64 / 255 * factor), atol=1e-6)

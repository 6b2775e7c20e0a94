"""The trainer of the reference model, on a handful of made-up sprites."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip import CLIP
from training_helpers import write_archive

from pytest_cliprobust.targets.loading import load_target
from pytest_cliprobust.training import reference as training
from pytest_cliprobust.training.reference import SpriteAugmentation, TrainingConfig

CONFIG = TrainingConfig(
    steps=4,
    horizon=8,
    cooldown=2,
    batch_size=16,
    warmup=1,
    image_size=40,
    tower="test_resnet",
    mix_style=1.0,
    ramp=2,
    small_steps=2,
)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_archive(tmp_path / "training_sprites.npz", ("flat", "line"))
    write_archive(tmp_path / "heldout_sprites.npz", ("other",))
    monkeypatch.setattr(training, "CHECKPOINT_STEPS", 2)
    monkeypatch.setattr(training, "BACKGROUNDS", 64)
    return tmp_path


def weights(folder: Path) -> bytes:
    return (folder / "open_clip_model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(work: Path) -> None:
    training.train(CONFIG, work, work / "whole")
    checkpoint = next(work.glob("checkpoint-*.pt"))
    checkpoint.unlink()

    interrupted = RuntimeError("pulled the plug")
    step = training.Training.loss
    calls = []

    def fails_later(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) > 3:
            raise interrupted
        return step(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Training, "loss", fails_later)
        with pytest.raises(RuntimeError, match="pulled the plug"):
            training.train(CONFIG, work, work / "resumed")
    assert json.loads((work / "resumed" / "model_card.json").read_text())["steps_done"] == 2
    training.train(CONFIG, work, work / "resumed")
    assert weights(work / "resumed") == weights(work / "whole")


@pytest.mark.slow
def test_the_folder_is_an_ordinary_model_with_a_card(work: Path) -> None:
    card = training.train(CONFIG, work, work / "model")
    assert card["config"] == dataclasses.asdict(CONFIG)
    assert card["training_styles"] == ["flat", "line"]
    assert set(card["top1_heldout_sprites"]) == {"all", "other"}
    target = load_target(str(work / "model"), device="cpu", precision="fp32")
    assert target.encode_text(["a cat.", "a dog."]).shape == (2, 256)


@pytest.mark.slow
def test_another_seed_gives_another_model(work: Path) -> None:
    training.train(CONFIG, work, work / "one")
    training.train(dataclasses.replace(CONFIG, seed=1), work, work / "two")
    assert weights(work / "one") != weights(work / "two")


@pytest.mark.parametrize(
    ("names", "labels", "wanted"),
    [
        ("axby", "ab", [0.4, 0.1, 0.4, 0.1]),
        ("axyzw", "a", [0.8, 0.05, 0.05, 0.05, 0.05]),
        ("aab", "ab", [1 / 3] * 3),  # nothing else: a share of nothing is none
    ],
)
def test_a_share_of_each_batch_has_a_name_of_the_labels(
    names: str, labels: str, wanted: list[float]
) -> None:
    config = dataclasses.replace(CONFIG, label_share=0.8)
    found = training.draw_weights(list(names), iter(labels), config)
    assert found.tolist() == pytest.approx(wanted, abs=1e-12)


def test_a_missing_archive_names_the_build(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"embedded\.build"):
        training.train(CONFIG, tmp_path, tmp_path / "model")


def test_folding_the_whitening_keeps_the_features() -> None:
    clip = CLIP(**CONFIG.model_config())
    model = training.Training(clip, names=4)
    model.norm.running_mean = torch.randn(256)
    model.norm.running_var = torch.rand(256) + 0.5
    model.eval()
    images = torch.randn(2, 3, 40, 40)
    with torch.inference_mode():
        expected = model.norm(clip.eval().encode_image(images))
        torch.testing.assert_close(
            model.folded().encode_image(images), expected, rtol=1e-4, atol=1e-4
        )


def test_augmentation_keeps_the_thing_in_view_and_range() -> None:
    sprites = torch.full((1, 4, 32, 32), 255, dtype=torch.uint8)
    sprites[:, 1:3] = 0  # red
    augmentation = SpriteAugmentation(sprites, torch.zeros(4, 3, 48, 48), 48)
    rows = torch.zeros(64, dtype=torch.long)
    images = augmentation(rows, torch.Generator().manual_seed(0), 0.0)
    assert images.min() >= 0
    assert images.max() <= 1
    red = images[:, 0] > 0.5
    assert bool((red.flatten(1).float().mean(1) > 0.1).all())
    again = augmentation(rows, torch.Generator().manual_seed(0), 0.0)
    assert torch.equal(images, again)


def test_the_rate_warms_up_follows_the_cosine_and_cools_down() -> None:
    config = TrainingConfig(
        steps=60, horizon=100, cooldown=20, warmup=10, learning_rate=1.0, image_size=40
    )
    rates = [training.learning_rate(config, step) for step in range(60)]
    assert rates[0] == pytest.approx(0.1, rel=1e-2)
    assert rates[9] == max(rates)
    assert rates[39] == pytest.approx(0.5 * (1 + np.cos(0.39 * np.pi)) * 0.99 + 0.01)
    assert rates[50] == pytest.approx(0.5 * (0.5 * 0.99 + 0.01))
    assert 0 < rates[59] < 0.05

"""Known losses, planted in a copy of a model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets.base import Target
from pytest_cliprobust.targets.loading import load_target
from pytest_cliprobust.targets.multimodal import MultimodalInfo
from pytest_cliprobust.targets.planted import PLANTS, planted, planted_multimodal, swapped


@pytest.fixture(scope="module")
def target() -> Target:
    return load_target("reference", device="cpu")


@pytest.fixture(scope="module")
def images(target: Target) -> torch.Tensor:
    height, width = target.image_size
    return torch.rand(3, 3, height, width, generator=torch.Generator().manual_seed(0))


def features(target: Target, images: torch.Tensor) -> torch.Tensor:
    return target.encode_image(target.preprocess(images))


@pytest.mark.parametrize("name", ["light_noise", "heavy_noise", "other_preprocessing"])
def test_a_copy_is_damaged_and_the_model_is_not(
    target: Target, images: torch.Tensor, name: str
) -> None:
    before = features(target, images)
    damaged = planted(target, name)
    assert not torch.allclose(features(damaged, images), before, atol=1e-3)
    assert torch.equal(features(target, images), before)
    # Another digest: nothing of it is taken for the model's own in the cache.
    assert damaged.info.digest == f"{name}:{target.info.digest}"
    assert name in damaged.info.notes[-1]
    assert name not in " ".join(target.info.notes)


def test_a_multimodal_model_gets_the_noise_and_no_other_loss() -> None:
    """It sees with a tower of its own: what is planted in the CLIP alone moves none of its answers."""

    def load() -> Any:
        tower = torch.nn.Linear(8, 8, bias=False)
        torch.nn.init.constant_(tower.weight, 0.5)
        with torch.no_grad():
            tower.weight[0] = 1.0
        return SimpleNamespace(
            model=tower, info=MultimodalInfo(name="m", model_type="tiny", tower="t", digest="ab12")
        )

    before = load().model.weight
    moved = {}
    for name in PLANTS:
        found = planted_multimodal(load, name)
        moved[name] = float((found.model.weight - before).detach().norm())
        assert found.info.digest == ("ab12" if moved[name] == 0.0 else f"{name}:ab12")
    assert 0.0 < moved["light_noise"] < moved["heavy_noise"]
    assert [name for name, size in moved.items() if size > 0.0] == ["light_noise", "heavy_noise"]


def test_swapped_texts_leave_the_model_as_it_is(target: Target, images: torch.Tensor) -> None:
    """So what it encoded is taken from the cache."""
    damaged = planted(target, "swapped_texts")
    assert damaged.info.digest == target.info.digest
    assert "swapped_texts" in damaged.info.notes[-1]
    assert torch.equal(features(damaged, images), features(target, images))


def test_noise_is_the_same_again_and_heavier_noise_moves_more(
    target: Target, images: torch.Tensor
) -> None:
    before = features(target, images)
    light, again, heavy = (
        (features(planted(target, name), images) - before).norm()
        for name in ("light_noise", "light_noise", "heavy_noise")
    )
    assert light == again
    assert heavy > 1.5 * light


def weights(target: Target) -> list[torch.Tensor]:
    held = [value for value in vars(target).values() if isinstance(value, torch.nn.Module)]
    return [weight for module in held for weight in module.parameters()]


@pytest.mark.parametrize(("name", "share"), [("light_noise", 0.1), ("heavy_noise", 0.3)])
def test_noise_is_a_share_of_each_matrix_s_deviation(
    target: Target, name: str, share: float
) -> None:
    seen = 0
    for before, after in zip(weights(target), weights(planted(target, name)), strict=True):
        if before.ndim < 2:
            assert torch.equal(before, after)
        elif before.numel() > 2000:
            seen += 1
            assert float((after - before).std() / before.std()) == pytest.approx(share, rel=0.1)
    assert seen


def test_other_preprocessing_swaps_red_and_blue_about_a_half(
    target: Target, images: torch.Tensor
) -> None:
    found = planted(target, "other_preprocessing").preprocess(images)
    torch.testing.assert_close(found, 2.0 * images.flip(1) - 1.0, rtol=0, atol=1e-5)


def test_a_model_without_modules_cannot_be_damaged(target: Target) -> None:
    bare = SimpleNamespace(info=target.info)
    for name in ("light_noise", "training_mode"):
        with pytest.raises(ClipRobustError, match="shows no torch module"):
            planted(bare, name)
    bare.encoder = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.0))
    with pytest.raises(ClipRobustError, match=r"^nothing to plant: .*same in training mode"):
        planted(bare, "training_mode")


def test_texts_swap_places_in_pairs() -> None:
    texts = [str(number) for number in range(45)]
    moved = swapped(texts)
    changed = [i for i, (a, b) in enumerate(zip(texts, moved, strict=True)) if a != b]
    assert changed == [0, 1, 20, 21, 40, 41]
    assert sorted(moved) == sorted(texts)
    assert swapped(moved) == tuple(texts)
    assert swapped(["a", "b"]) == ("b", "a")
    assert swapped(["a"]) == ("a",)


def modes(target: Target) -> set[bool]:
    modules = [m for m in vars(target).values() if isinstance(m, torch.nn.Module)]
    return {layer.training for module in modules for layer in module.modules()}


def test_training_mode_is_the_copy_s_alone(target: Target) -> None:
    assert True in modes(planted(target, "training_mode"))
    assert modes(target) == {False}


def test_unknown_losses_are_one_line(target: Target) -> None:
    with pytest.raises(ClipRobustError, match=r"unknown planted loss 'heavy_nose'.*heavy_noise"):
        planted(target, "heavy_nose")
    assert set(PLANTS) == {
        "light_noise",
        "heavy_noise",
        "swapped_texts",
        "training_mode",
        "other_preprocessing",
    }

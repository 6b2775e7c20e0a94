"""Known losses, planted in a copy of a model."""

from __future__ import annotations

import pytest
import torch

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets.base import Target
from pytest_cliprobust.targets.loading import load_target
from pytest_cliprobust.targets.planted import PLANTS, planted, swapped


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

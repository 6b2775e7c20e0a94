"""The bundled fleet under ``fleet:NAME``."""

from __future__ import annotations

import pytest
import torch

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets.fleet import fleet_folder, fleet_names
from pytest_cliprobust.targets.loading import load_target
from pytest_cliprobust.targets.registry import listed_names

TEXTS = ["a drawing of a cat.", "a drawing of a dog."]


def test_the_base_comes_first_and_the_names_are_listed() -> None:
    assert fleet_names()[0] == "fleet:base"
    assert set(fleet_names()) <= set(listed_names())


@pytest.mark.parametrize("name", fleet_names())
def test_a_model_loads_under_its_name_with_its_tags(name: str) -> None:
    target = load_target(name, device="cpu", precision="fp32")
    assert target.info.name == name
    assert {"architecture", "data", "set_size", "fine_tuning", "loss", "seed"} <= set(
        target.info.tags
    )
    assert int(target.info.tags["parameters"]) <= 1.2e6
    images = torch.rand(2, 3, *target.image_size, generator=torch.Generator().manual_seed(0))
    features = target.encode_image(target.preprocess(images))
    assert features.shape == target.encode_text(TEXTS).shape == (2, target.embed_dim)
    assert torch.allclose(features.norm(dim=1), torch.ones(2), atol=1e-5)
    assert target.probability == target.info.tags["loss"]
    folder = fleet_folder() / name.removeprefix("fleet:")
    assert load_target(str(folder), device="cpu").info.digest == target.info.digest


def test_the_fleet_is_small_enough_to_ship() -> None:
    size = sum(path.stat().st_size for path in fleet_folder().rglob("*") if path.is_file())
    assert size <= 20e6


def test_an_unknown_model_of_the_fleet_is_a_mistake_in_one_line() -> None:
    with pytest.raises(ClipRobustError) as caught:
        load_target("fleet:bas", device="cpu")
    assert "no model 'bas'. Did you mean 'fleet:base'?" in str(caught.value)
    with pytest.raises(ClipRobustError, match="names nothing after fleet:"):
        load_target("fleet:", device="cpu")

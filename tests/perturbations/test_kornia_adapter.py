"""kornia's augmentations by name: per-sample seeds, refusals, names of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.perturbations import kornia_adapter as module
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.registry import Registry

IMAGES = torch.rand(4, 3, 24, 32, generator=torch.Generator().manual_seed(0))
SEEDS = torch.tensor([5, 2**62 + 1, 77, 123456789])

# Everything with arguments that it cannot do without, but for those that change the shape.
ARGUMENTS: dict[str, dict[str, object]] = {
    "CenterCrop": {"size": [24, 32]},
    "Denormalize": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    "LongestMaxSize": {"max_size": 32},
    "Normalize": {"mean": [0.1, 0.1, 0.1], "std": [0.9, 0.9, 0.9]},
    "PadTo": {"size": [24, 32]},
    "RandomAffine": {"degrees": 20.0},
    "RandomCrop": {"size": [24, 32], "padding": 4},
    "RandomFisheye": {"center_x": [-0.3, 0.3], "center_y": [-0.3, 0.3], "gamma": [0.9, 1.0]},
    "RandomGaussianBlur": {"kernel_size": [3, 3], "sigma": [0.5, 2.0]},
    "RandomMotionBlur": {"kernel_size": [3, 7], "angle": 35.0, "direction": 0.5},
    "RandomRain": {"number_of_drops": [5, 9], "drop_height": [3, 5], "drop_width": [-3, 3]},
    "RandomResizedCrop": {"size": [24, 32]},
    "RandomRotation": {"degrees": 30.0},
    "RandomRotation90": {"times": [2, 2]},
    "RandomShear": {"shear": 0.3},
    "Resize": {"size": [24, 32]},
    "SmallestMaxSize": {"max_size": 24},
}
# RandomDissolving fetches the weights of a diffusion model.
NAMES = [name for name in module.available() if name != "RandomDissolving"]


@pytest.fixture
def registered() -> Iterator[Registry[registry.Perturbation]]:
    with registry.PERTURBATIONS.preserved():
        yield registry.PERTURBATIONS


@pytest.mark.parametrize("name", NAMES)
def test_every_augmentation_is_independent_of_the_batch(name: str) -> None:
    perturbation = module.augmentation(name, parameters=ARGUMENTS.get(name))
    state = torch.get_rng_state()
    before = IMAGES.clone()
    whole = perturbation(IMAGES, seeds=SEEDS)
    assert torch.equal(IMAGES, before)  # some augmentations write into what they are given
    assert whole.shape == IMAGES.shape
    assert whole.min() >= 0
    assert whole.max() <= 1
    torch.rand(3)
    for order in ([2], [3, 0]):
        assert torch.equal(perturbation(IMAGES[order], seeds=SEEDS[order]), whole[order])
    torch.set_rng_state(state)


def test_seeds_decide_and_the_global_generator_is_left_alone() -> None:
    noise = module.augmentation("kornia:RandomGaussianNoise", parameters={"std": 0.1})
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    first = noise(IMAGES, seeds=SEEDS)
    assert torch.equal(torch.rand(2), expected)
    assert not torch.equal(first, noise(IMAGES, seeds=SEEDS + 1))
    same = noise(IMAGES[:1].expand(2, -1, -1, -1), seeds=torch.tensor([4, 4]))
    assert torch.equal(same[0], same[1])
    other = noise(IMAGES[:1].expand(2, -1, -1, -1), seeds=torch.tensor([4, 5]))
    assert not torch.equal(other[0], other[1])


def test_the_generator_is_put_back_after_an_error() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with pytest.raises(ClipRobustError, match=r"\(3, 24, 32\) into \(3, 8, 8\).*keeps the shape"):
        module.apply(IMAGES, "CenterCrop", {"size": [8, 8]}, SEEDS)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_probability_is_one() -> None:
    flipped = module.augmentation("RandomHorizontalFlip")(IMAGES, seeds=SEEDS)
    assert torch.equal(flipped, IMAGES.flip(-1))


def test_noise_is_clamped_and_half_precision_comes_back() -> None:
    result = module.apply(IMAGES.half(), "RandomGaussianNoise", {"std": 2.0}, SEEDS)
    assert result.dtype == torch.float16
    assert result.min() == 0
    assert result.max() == 1


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("kornia:RandomPosterise", {}, "Did you mean 'RandomPosterize'"),
        ("kornia:RandomMixUpV2", {}, "no 2D augmentation of a single image"),
        ("kornia:AugmentationSequential", {}, "no 2D augmentation of a single image"),
        ("kornia:RandomPosterize", {"bit": 3}, "no parameter 'bit'. Did you mean 'bits'"),
        ("kornia:RandomPosterize", {"p": 0.5}, "each image is perturbed, always"),
        ("kornia:RandomPosterize", {"same_on_batch": True}, "do not depend on each other"),
        ("kornia:RandomRotation", {}, "needs degrees; give it as"),
        ("kornia:RandomRotation", {"degrees": "ten"}, "refused by kornia"),
        # Not looked at before the call.
        ("kornia:RandomCrop", {"size": 16}, "kornia:RandomCrop(size=16) was refused by kornia"),
        ("kornia:PadTo", {"size": 16}, "kornia:PadTo(size=16) was refused by kornia"),
        ("kornia:RandomBoxBlur", {"kernel_size": 3.0}, "(kernel_size=3.0) was refused by kornia"),
        ("kornia:Resize", {"size": 16}, "augmentations that change the size are none"),
    ],
)
def test_mistakes_name_culprit_and_remedy(
    name: str, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ClipRobustError) as caught:
        module.augmentation(name, parameters=parameters)(IMAGES, seeds=SEEDS)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_parameters_are_refused_at_the_call_too() -> None:
    with pytest.raises(ClipRobustError, match="Did you mean 'bits'"):
        module.augmentation("RandomPosterize")(IMAGES, seeds=SEEDS, bots=3)


def test_the_registry_finds_augmentations_by_prefix() -> None:
    perturbation = registry.get("kornia:RandomSolarize")
    assert perturbation.name == "kornia:RandomSolarize"
    assert perturbation.inputs == {"seeds"}
    assert not perturbation.compilable
    assert perturbation.name not in registry.PERTURBATIONS
    with pytest.raises(ClipRobustError, match="Did you mean 'RandomSolarize'"):
        registry.get("kornia:RandomSolarise")


STEPS = tuple({"bits": [bits, bits]} for bits in (6, 5, 4, 3, 2))


def test_a_defined_augmentation_goes_by_its_name(
    registered: Registry[registry.Perturbation],
) -> None:
    posterize = module.define("my_posterize", "RandomPosterize", severities=STEPS)
    assert registry.get("my_posterize") is posterize
    assert "my_posterize" in registry.names("kornia_adapter")
    distances = [
        (posterize(IMAGES, severity, seeds=SEEDS) - IMAGES).abs().mean() for severity in range(6)
    ]
    assert distances[0] == 0
    assert distances[1:] == sorted(distances[1:])
    assert len(posterize(IMAGES, 5, seeds=SEEDS).unique()) <= 4
    module.define("my_posterize", "kornia:RandomPosterize", severities=STEPS[:2])
    assert len(registry.get("my_posterize").severities) == 2


def test_the_version_follows_the_fixed_parameters() -> None:
    one = module.augmentation("RandomAffine", parameters={"degrees": 15.0})
    two = module.augmentation("RandomAffine", parameters={"degrees": 16.0})
    assert one.version != two.version
    assert one.version == module.augmentation("RandomAffine", parameters={"degrees": 15.0}).version


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kornia": "RandomPosterise"}, "Did you mean 'RandomPosterize'"),
        ({"kornia": "RandomPosterize", "parameters": {"bit": 3}}, "Did you mean 'bits'"),
        ({"kornia": "RandomPosterize", "severities": ({"bit": 3},)}, "Did you mean 'bits'"),
        ({"kornia": "RandomPosterize", "envelope": {"bit": (8.0, 1.0)}}, "Did you mean 'bits'"),
        ({"kornia": "RandomRotation", "severities": ({"degrees": "ten"},)}, "refused by kornia"),
        (
            {"kornia": "RandomRotation", "severities": ({"degrees": 5.0}, {"degrees": "ten"})},
            "refused by kornia",
        ),
        (
            {
                "kornia": "RandomRotation",
                "severities": ({"degrees": 5.0},),
                "envelope": {"degrees": (0.0, -10.0)},
            },
            "refused by kornia",
        ),
        (
            {
                "kornia": "RandomRotation",
                "parameters": {"degrees": 10.0},
                "severities": ({"resample": "finest"},),
            },
            "refused by kornia",
        ),
        ({"kornia": "RandomRotation"}, "needs degrees"),
        (
            {"kornia": "RandomPosterize", "parameters": {"bits": {"a": 1}}},
            "'bits' cannot be { a = 1 };",
        ),
        ({"kornia": "RandomPosterize", "severities": ({"bits": [{}]},)}, "'bits' cannot be"),
    ],
)
def test_mistakes_in_a_definition_show_before_any_image(
    registered: Registry[registry.Perturbation], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ClipRobustError) as caught:
        module.define("mine", **arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "mine" not in registered


def test_a_definition_cannot_take_a_built_in_name(
    registered: Registry[registry.Perturbation],
) -> None:
    with pytest.raises(ClipRobustError, match="'occlusion' is registered already"):
        module.define("occlusion", "RandomPosterize")


def test_the_engine_may_back_off_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(image: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(module, "_build", lambda name, parameters: full)
    with pytest.raises(torch.OutOfMemoryError):
        module.apply(IMAGES, "RandomSolarize", {}, SEEDS)


@pytest.mark.parametrize("has_generators", [True, False])
def test_an_accelerator_s_generator_is_seeded_and_put_back_too(
    has_generators: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = [torch.Generator().manual_seed(n) for n in (5, 6)]
    device = SimpleNamespace(current_device=lambda: 1)
    if has_generators:
        device.default_generators = theirs
    else:
        device.get_rng_state = theirs[1].get_state
        device.set_rng_state = theirs[1].set_state
        device.manual_seed = theirs[1].manual_seed
    monkeypatch.setattr(torch, "get_device_module", lambda given: device)
    generators = [torch.default_generator, theirs[1]]
    before = [generator.get_state() for generator in (*generators, theirs[0])]
    with module._global_generators(torch.device("cuda")) as seed:
        seed(77)
        expected = torch.rand(3, generator=torch.Generator().manual_seed(77))
        for generator in generators:
            assert torch.equal(torch.rand(3, generator=generator), expected)
        assert torch.equal(theirs[0].get_state(), before[2])
    for generator, state in zip((*generators, theirs[0]), before, strict=True):
        assert torch.equal(generator.get_state(), state)

"""Encoders of the user's own: what they may leave out, and what they must give."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.targets.callable_target import CallableTarget, adapt
from pytest_cliprobust.targets.preprocessing import OPENAI_MEAN, OPENAI_STD, Preprocessing

CPU = torch.device("cpu")


class Own:
    """The least that an encoder has."""

    image_size = 8

    def encode_image(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1)[:, :4] + 3.0

    def encode_text(self, texts: list[str]) -> Tensor:
        return torch.tensor([[float(len(text)), 1.0, 2.0, 3.0] for text in texts])


def made(**attributes: Any) -> Own:
    own = Own()
    for name, value in attributes.items():
        setattr(own, name, value)
    return own


def adapted(value: Any, **options: Any) -> Any:
    settings: dict[str, Any] = {
        "pretrained": None,
        "device": CPU,
        "precision": "fp32",
        "explicit_precision": False,
        "activation": None,
        **options,
    }
    return adapt("own", value, **settings)


def test_what_may_be_left_out() -> None:
    target = adapted(made())
    assert isinstance(target, CallableTarget)
    assert target.preprocessing == Preprocessing((8, 8), mean=OPENAI_MEAN, std=OPENAI_STD)
    assert (target.logit_scale, target.logit_bias, target.probability) == (100.0, None, "softmax")
    assert (target.embed_dim, target.precision, target.device) == (4, "fp32", CPU)
    assert (target.info.name, target.info.architecture, target.info.pretrained) == (
        "own",
        "Own",
        "",
    )
    assert target.info.notes == ("the user's own encoder",)
    assert dict(target.info.tags) == {}
    assert len(target.info.digest) == 64
    del Own.image_size
    try:
        assert adapted(made()).image_size == (224, 224)
    finally:
        Own.image_size = 8


def test_what_may_be_said() -> None:
    target = adapted(
        made(
            image_size=(6, 8),
            mean=[0.1, 0.2, 0.3],
            std=[1.0, 2.0, 3.0],
            interpolation="bilinear",
            resize_mode="squash",
            logit_scale=7,
            logit_bias=-2,
            probability="softmax",
            pretrained="mine",
            tags={"data": 3},
        ),
        precision="bf16",
        explicit_precision=True,
    )
    assert target.preprocessing == Preprocessing(
        (6, 8), (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), "bilinear", "squash"
    )
    assert (target.logit_scale, target.logit_bias, target.probability) == (7.0, -2.0, "softmax")
    assert target.info.pretrained == "mine"
    assert dict(target.info.tags) == {"data": "3"}
    assert target.precision == "bf16"
    # Whatever "auto" is for other models, a user's encoder runs as it is.
    assert adapted(made(), precision="fp16").precision == "fp32"
    assert adapted(made(logit_bias=1.0)).probability == "sigmoid"


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"logit_scale": 0.0}, "must be positive and finite, got 0.0"),
        ({"logit_scale": -1.0}, "must be positive and finite"),
        ({"logit_scale": math.inf}, "must be positive and finite, got inf"),
        ({"logit_scale": math.nan}, "must be positive and finite"),
        ({"logit_scale": "much"}, "unusable attribute"),
        ({"logit_bias": "some"}, "unusable attribute"),
        ({"logit_scale": nn.Parameter(torch.ones(()))}, "logit_scale is a trainable parameter"),
        ({"logit_bias": nn.Parameter(torch.ones(()))}, "logit_bias is a trainable parameter"),
        ({"probability": "linear"}, "'softmax' or 'sigmoid', not 'linear'"),
        ({"mean": (0.0,)}, "three numbers"),
        ({"interpolation": "none"}, "interpolation 'none' is not supported"),
        ({"encode_text": lambda texts: torch.ones(2, 5)}, "4 dimensions and encode_text 5"),
        ({"encode_text": lambda texts: [1.0]}, r"must return a float tensor \(2, D\)"),
        ({"encode_text": lambda texts: torch.ones(2, 4).long()}, "got .* torch.int64"),
        ({"encode_text": lambda texts: torch.ones(2, 4, 1)}, r"got \(2, 4, 1\)"),
        ({"encode_text": lambda texts: torch.ones(3, 4)}, r"got \(3, 4\)"),
        ({"encode_text": lambda texts: torch.zeros(2, 4)}, "NaN, infinity or zero vectors"),
        (
            {"encode_text": lambda texts: torch.tensor([[1.0] * 4, [math.nan] * 4])},
            "NaN, infinity or zero vectors",
        ),
        (
            {"encode_image": lambda pixels: torch.tensor([[1.0] * 4, [0.0] * 4])},
            "encode_image returns NaN, infinity or zero vectors",
        ),
        ({"encode_text": lambda texts: 1 / 0}, "encode_text fails on a list of two strings"),
        ({"encode_image": lambda pixels: 1 / 0}, r"encode_image fails on pixels \(2, 3, 8, 8\)"),
    ],
)
def test_what_cannot_be_used_is_named(attributes: dict[str, Any], words: str) -> None:
    with pytest.raises(ClipRobustError, match=words):
        adapted(made(**attributes))


def test_factories_are_given_what_they_ask_for() -> None:
    given: list[dict[str, Any]] = []

    def all_of(pretrained: Any, device: Any, precision: Any, activation: Any) -> Own:
        given.append(
            {
                "pretrained": pretrained,
                "device": device,
                "precision": precision,
                "activation": activation,
            }
        )
        return made()

    plain = {"pretrained": None, "device": CPU, "activation": None}
    adapted(all_of)
    adapted(all_of, precision="bf16", explicit_precision=True, pretrained="x", activation="gelu")
    adapted(all_of, source="there")
    assert given == [
        {**plain, "precision": "auto"},
        {"pretrained": "x", "device": CPU, "precision": "bf16", "activation": "gelu"},
        {**plain, "precision": "fp32"},
    ]

    def named(name: str, source: str) -> Own:
        given.append({"name": name, "source": source})
        return made()

    adapted(named, source="there")
    assert given[-1] == {"name": "own", "source": "there"}


@pytest.mark.parametrize(
    ("value", "options", "words"),
    [
        (7, {}, "is a int; it must be a target"),
        (lambda: 7, {}, "gave a int without encode_image and encode_text"),
        (lambda: Own, {}, "gave a type"),
        (lambda: 1 / 0, {}, "could not be made"),
        (Own(), {"pretrained": "x"}, "drop --clip-pretrained"),
        (Own(), {"activation": "gelu"}, "drop --clip-activation"),
    ],
)
def test_what_is_no_encoder(value: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ClipRobustError, match=words):
        adapted(value, **options)


def test_classes_are_factories_and_targets_are_taken_as_they_are() -> None:
    target = adapted(Own)
    assert isinstance(target.encoder, Own)
    assert adapted(target) is target
    del target.logit_bias
    with pytest.raises(ClipRobustError, match="target 'own' lacks logit_bias"):
        adapted(target)


def test_dense_features_of_ones_own() -> None:
    pixels = torch.rand(2, 3, 8, 8)
    with pytest.raises(NotRun, match="no method dense_features"):
        adapted(made()).dense_features(pixels)
    last_only = adapted(made(dense_features=lambda pixels: pixels[:, :, ::2, ::4]))
    assert torch.equal(last_only.dense_features(pixels), pixels[:, :, ::2, ::4])
    with pytest.raises(NotRun, match="takes no argument layer"):
        last_only.dense_features(pixels, 3)
    chooses = adapted(made(dense_features=lambda pixels, layer: pixels * layer))
    assert torch.equal(chooses.dense_features(pixels, 3), pixels * 3)
    assert torch.equal(chooses.dense_features(pixels), -pixels)
    for wrong, words in (
        (lambda pixels: pixels[0], r"got \(3, 8, 8\)"),
        (lambda pixels: pixels[:1], r"got \(1, 3, 8, 8\)"),
        (lambda pixels: [1], "got list"),
    ):
        with pytest.raises(ClipRobustError, match=words):
            adapted(made(dense_features=wrong)).dense_features(pixels)


class Layered(nn.Module):
    """A module whose dropout must not act."""

    image_size = 8

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.layer = nn.Linear(192, 4)
        self.layer.weight = nn.Parameter(torch.randn(4, 192, generator=generator))
        self.drop = nn.Dropout(0.5)

    def encode_image(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.drop(self.layer(pixels.flatten(1)))
        return features

    def encode_text(self, texts: list[str]) -> Tensor:
        return torch.tensor([[float(len(text)), 1.0, 2.0, 3.0] for text in texts])


def test_modules_are_put_to_rest() -> None:
    module = Layered()
    target = adapted(module)
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    pixels = torch.rand(2, 3, 8, 8)
    assert torch.equal(target.encode_image(pixels), target.encode_image(pixels))


def test_a_digest_knows_weights_behaviour_settings_and_version() -> None:
    def digest(value: Any) -> str:
        found: str = adapted(value).info.digest
        return found

    base = digest(made())
    assert digest(made()) == base
    held = Layered()
    others = [
        made(version="2"),
        made(mean=(0.0, 0.0, 0.0)),
        made(encode_text=lambda texts: torch.tensor([[1.0, 1.0, 2.0, 3.0], [9.0, 1.0, 2.0, 3.0]])),
        Layered(0),
        Layered(1),
        made(inner=held),
    ]
    assert len({base, *map(digest, others)}) == len(others) + 1
    # Rounding differences between machines do not show, larger ones do.
    for step, same in ((1e-4, True), (0.02, False)):
        moved = made(
            encode_text=lambda texts, step=step: torch.tensor(
                [[float(len(text)), 1.0 + step * len(text), 2.0, 3.0] for text in texts]
            )
        )
        assert (digest(moved) == base) == same
    # How long the features are does not count: only their directions are looked at.
    longer = made(encode_text=lambda texts: 7.0 * Own().encode_text(texts))
    assert digest(longer) == base
    # A module beside the methods counts by its name and its weights.
    assert digest(made(other=held)) != digest(made(inner=held))
    assert digest(made(inner=Layered(1))) != digest(made(inner=held))

"""A checkpoint whose architecture nobody names: names and shapes of its tensors tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets import checkpoint_file
from pytest_cliprobust.targets.checkpoint_file import architectures_of, load_checkpoint_file
from pytest_cliprobust.targets.open_clip_target import build_model

#: Some of open_clip's own towers, two of which differ in the activation alone, and others'.
NAMES = ("RN50", "ViT-B-32", "ViT-B-32-quickgelu", "xlm-roberta-base-ViT-B-32", "convnext_base")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_file, "architectures", lambda: NAMES)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """The tensors of ViT-B-32, without memory for them."""
    from open_clip.factory import get_model_config

    with torch.device("meta"):
        model, _ = build_model(get_model_config("ViT-B-32"), "ViT-B-32")
    return model.state_dict()


def test_the_architecture_is_the_one_that_has_exactly_these_tensors(
    state: dict[str, Tensor],
) -> None:
    meta: Any = {"device": "meta"}
    assert architectures_of(state) == ["ViT-B-32"]
    # Saved by other versions: a scalar with a dimension, and numbers of positions.
    other = {
        **state,
        "logit_scale": torch.ones(1, **meta),
        "text.embeddings.position_ids": torch.ones(1, 77, **meta),
    }
    assert architectures_of(other) == ["ViT-B-32"]
    assert architectures_of({**state, "another": torch.ones(2, **meta)}) == []
    less: dict[str, Tensor] = dict(state)
    del less["visual.proj"]
    assert architectures_of(less) == []
    name = "visual.class_embedding"
    assert architectures_of({**state, name: torch.ones(769, **meta)}) == []
    for shape in ((512, 256), (256, 512)):  # another embedding, another width of texts
        assert architectures_of({**state, "text_projection": torch.ones(*shape, **meta)}) == []
    assert architectures_of({}) == []


def test_a_text_tower_of_another_width_than_the_embedding() -> None:
    """ViT-B-32 has one width for both; RN50's texts are half as wide as what they are projected to."""
    from open_clip.factory import get_model_config

    with torch.device("meta"):
        model, _ = build_model(get_model_config("RN50"), "RN50")
    assert architectures_of(model.state_dict()) == ["RN50"]


def test_what_is_wrong_is_told_with_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.pt"
    torch.save({"weight": torch.ones(2)}, path)

    def told(pretrained: str | None = None) -> str:
        with pytest.raises(ClipRobustError) as caught:
            load_checkpoint_file("mine", str(path), pretrained)
        return str(caught.value)

    assert told("openai") == (
        "--clip-model mine is a checkpoint, and --clip-pretrained names 'openai'; drop one"
    )
    assert told() == (
        "--clip-model mine is a file that does not tell its architecture (its tensors fit none of "
        f"open_clip's); write --clip-model mine.pt=ARCHITECTURE@{path}"
    )
    monkeypatch.setattr(checkpoint_file, "architectures_of", lambda state: ["a", "b"])
    assert "architecture (its tensors fit a and b); write" in told()
    asked: list[Any] = []

    def load(name: str, architecture: str, **options: Any) -> None:
        asked.append((name, architecture, options))

    monkeypatch.setattr(checkpoint_file, "architectures_of", lambda state: ["a"])
    monkeypatch.setattr(checkpoint_file, "load_architecture", load)
    load_checkpoint_file("mine", str(path), None, device="cpu")
    assert asked == [("mine", "a", {"pretrained": str(path), "device": "cpu"})]

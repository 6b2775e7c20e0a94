"""The bundled multimodal model: the reference's own tower, its size, and that it is an ordinary model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pytest_cliprobust.datasets.loading import load_dataset
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.properties.multimodal import QUESTION
from pytest_cliprobust.targets import bundled_multimodal
from pytest_cliprobust.targets.loading import load_target
from pytest_cliprobust.targets.multimodal import MultimodalModel
from pytest_cliprobust.targets.multimodal_loading import load_multimodal
from pytest_cliprobust.targets.open_clip_target import OpenClipTarget
from pytest_cliprobust.targets.reference import data_folder

#: Too long for the tight loop, but run with the lowest versions of those libraries.
pytestmark = pytest.mark.floors

CPU = torch.device("cpu")
FOLDER = data_folder() / bundled_multimodal.FOLDER


@pytest.fixture(scope="module")
def model() -> MultimodalModel:
    return load_multimodal("reference", device=CPU)


def test_it_is_small_and_its_card_tells_what_was_measured() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 5e6
    card = json.loads((FOLDER / "model_card.json").read_text())
    assert card["steps_done"] == card["config"]["steps"]
    by_order = [card["hard_choices"][f"true option {place}"] for place in ("first", "second")]
    assert all(share["value"] >= 0.75 for share in by_order)
    assert abs(by_order[0]["value"] - by_order[1]["value"]) <= 0.02
    assert not {"noto", "twemoji"} & set(card["training_styles"])


def test_its_tower_is_the_references_own(model: MultimodalModel) -> None:
    target = load_target("reference", device="cpu")
    assert isinstance(target, OpenClipTarget)
    assert model.info.tower == "timm ese_vovnet19b_slim"
    pixels = torch.rand(2, 3, 80, 80, generator=torch.Generator().manual_seed(0)) * 4 - 2
    with torch.inference_mode():
        own = model.model.model.vision_tower(pixels).last_hidden_state
    torch.testing.assert_close(own, target.dense_features(pixels))


def test_its_pictures_are_prepared_as_the_references_are(model: MultimodalModel) -> None:
    target = load_target("reference", device="cpu")
    images = load_dataset("clean", profile="quick", limit=4).load(range(4)).images
    inputs = model._inputs(images, ["What?"] * 4, 4)
    pixels = target.preprocess(images.float() / 255)
    # The processor rounds to whole steps of 255 after its resize.
    assert (inputs["pixel_values"] - pixels).abs().max() < 1.01 / 255 / 0.25


def test_it_is_an_ordinary_model_of_transformers(model: MultimodalModel, tmp_path: Path) -> None:
    """With its tower written beside it, the general loader reads it, to the same answers."""
    model.model.save_pretrained(tmp_path)
    model.processor.save_pretrained(tmp_path)
    ordinary = load_multimodal(str(tmp_path), device=CPU)
    data = load_dataset("clean", profile="quick", limit=8)
    images = data.load(range(8)).images
    options = [("an ant", "a bat")] * 8
    questions = [QUESTION.format(first="an ant", second="a bat")] * 8
    np.testing.assert_array_equal(
        ordinary.likelihoods(images, questions, options),
        model.likelihoods(images, questions, options),
    )
    assert ordinary.answers(images, questions) == model.answers(images, questions)
    assert ordinary.info.digest == model.info.digest


@pytest.mark.parametrize("true_first", [True, False])
def test_it_knows_a_thing_from_another(model: MultimodalModel, true_first: bool) -> None:
    data: Any = load_dataset("clean", profile="quick", limit=32)
    pairs = [(data.phrases[i], data.phrases[(i + 50) % 134]) for i in data.labels]
    questions = [
        QUESTION.format(first=pair[not true_first], second=pair[true_first]) for pair in pairs
    ]
    images = data.load(range(32)).images
    found = model.likelihoods(images, questions, pairs)
    assert (found[:, 0] > found[:, 1]).mean() > 0.9
    said = model.answers(images, questions)
    assert sum(a == pair[0] for a, pair in zip(said, pairs, strict=True)) > 0.85 * 32


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "cut"))
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:1000])
    with pytest.raises(ClipRobustError, match=r"is damaged .*install the package anew"):
        bundled_multimodal.load(CPU, folder)


def test_another_references_tower_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_multimodal, "tower_state", lambda reference: {})
    with pytest.raises(ClipRobustError, match=r"does not fit the reference model .*vision_tower"):
        bundled_multimodal.load(CPU)


def test_a_tower_keeps_whole_numbers_as_they_are() -> None:
    """Weights are computed with in fp32, whatever they were kept in; counters are no weights."""
    theirs, ours = bundled_multimodal._THEIRS, bundled_multimodal._OURS
    reference = {
        f"{theirs}a.weight": torch.ones(2, dtype=torch.float16),
        f"{theirs}a.num_batches_tracked": torch.tensor(3),
        "text.weight": torch.ones(1),
    }
    found = bundled_multimodal.tower_state(reference)
    assert {name: tensor.dtype for name, tensor in found.items()} == {
        f"{ours}a.weight": torch.float32,
        f"{ours}a.num_batches_tracked": torch.int64,
    }


# --- Parts, without the whole model ------------------------------------------------------------------


def test_the_tower_of_the_reference_by_a_fastvlms_names() -> None:
    given = {
        "visual.trunk.stem.weight": torch.ones(2).half(),
        "visual.trunk.count": torch.tensor(3),
        "visual.head.proj.weight": torch.ones(2),
        "logit_scale": torch.tensor(4.0),
    }
    found = bundled_multimodal.tower_state(given)
    prefix = "model.vision_tower.timm_model."
    assert set(found) == {f"{prefix}stem.weight", f"{prefix}count"}
    assert found[f"{prefix}stem.weight"].dtype == torch.float32
    assert found[f"{prefix}count"].dtype == torch.int64


def test_it_lies_in_the_package_unless_a_folder_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bundled_multimodal, "assembled", lambda folder: f"model of {folder}")
    monkeypatch.setattr(
        bundled_multimodal, "load_processor", lambda folder, name: f"{name} of {folder}"
    )
    monkeypatch.setattr(bundled_multimodal, "MultimodalModel", lambda *given: given)
    for given, folder in ((None, FOLDER), (tmp_path, tmp_path)):
        found: Any = bundled_multimodal.load(CPU, given)
        assert found[:4] == (f"model of {folder}", f"reference of {folder}", "reference", CPU)

"""A plain folder of pictures without labels, and the role that it plays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pytest_cliprobust.datasets.layouts.pictures import Pictures
from pytest_cliprobust.datasets.loading import load_dataset
from pytest_cliprobust.datasets.providers import provider_of
from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.properties import unlabelled


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Fourteen pictures at several depths, and something that is none."""
    root = tmp_path / "production"
    rng = np.random.default_rng(0)
    for number in range(14):
        place = root / ("a/b" if number % 3 else "")
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, size=(40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    (root / "notes.txt").write_text("nothing")
    (root / ".hidden.png").write_text("nothing")
    return root


def test_all_pictures_below_without_labels(folder: Path, tmp_path: Path) -> None:
    data = Pictures(folder, cache=tmp_path / "cache")
    assert len(data) == 14
    assert sorted(data.ids)[:2] == ["0.png", "12.png"]
    assert set(data.labels) == {-1}
    assert (data.class_names, data.groups, data.name) == ((), {}, "pictures:production")
    batch = data.load([0, 3])
    assert batch.images.shape == (2, 3, 224, 224)
    few = Pictures(folder, limit=5, cache=tmp_path / "cache")
    assert few.ids == data.ids[:5]
    assert few.digest != data.digest
    # Not in the order of the names: a prefix is a sample of all.
    assert list(data.ids) != sorted(data.ids)
    assert Pictures(folder, name="shop", cache=tmp_path / "cache").name == "pictures:shop"


def test_mistakes_are_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ClipRobustError, match="does not exist"):
        Pictures(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClipRobustError, match=r"has no pictures \(\.avif"):
        Pictures(tmp_path / "empty")
    with pytest.raises(ClipRobustError, match="limit of 0"):
        Pictures(folder, limit=0)


def test_roles(folder: Path) -> None:
    given = provider_of(f"pictures:{folder}")
    assert given.of("unlabelled") == (f"pictures:{folder}",)
    with pytest.raises(NotRun, match=r"needs clean \(.* gives unlabelled only"):
        given.require("clean")
    # Labelled pictures need not have their labels looked at.
    labelled = provider_of(str(folder))
    assert labelled.of("clean") == labelled.of("unlabelled") == (str(folder),)
    assert provider_of("embedded").of("unlabelled") == ("clean",)


@pytest.mark.slow
def test_as_a_model_sees_them(folder: Path, shared_cache: Path) -> None:
    options = RunConfig(("reference",), limit=24, profile="quick", cache_dir=shared_cache)
    clip = Evaluation(options, "reference")
    name = f"shop=pictures:{folder}"
    assert load_dataset(name).name == "pictures:shop"
    figures = unlabelled.perturbed_of(clip.on(name), clip.on(name, "gaussian_noise", 5))
    found = {figure.metric: figure for figure in figures}
    assert found["flip_rate"].n == 14
    assert found["embedding_drift"].value > 0
    condition = found["flip_rate"].condition
    assert condition is not None
    assert (condition.dataset, condition.perturbation) == ("pictures:shop", "gaussian_noise")

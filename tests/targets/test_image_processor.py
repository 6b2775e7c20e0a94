"""Image processors of transformers folders: each setting, its default, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets import image_processor
from pytest_cliprobust.targets.image_processor import read_preprocessing
from pytest_cliprobust.targets.naflex import NaFlexPreprocessing
from pytest_cliprobust.targets.preprocessing import OPENAI_MEAN, OPENAI_STD, Preprocessing


def config_of(size: Any = 224, model_type: str = "clip", patch: int = 16) -> Any:
    vision = SimpleNamespace(image_size=size, patch_size=patch)
    return SimpleNamespace(model_type=model_type, vision_config=vision)


def read(
    folder: Path, settings: dict[str, Any] | None, config: Any = None
) -> tuple[Preprocessing, str]:
    if settings is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return read_preprocessing(folder, config or config_of())


@pytest.mark.parametrize(
    ("model_type", "size", "expected", "called"),
    [
        ("clip", 224, {"mean": OPENAI_MEAN, "std": OPENAI_STD, "crop": "floor"}, "CLIP"),
        ("siglip", 224, {"mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "squash"}, "Siglip"),
        (
            "align",
            289,
            {
                "mean": (0.5,) * 3,
                "std": (0.25,) * 3,  # divided twice: include_top
                "resize_mode": "squash",
                "size": (346, 346),
            },
            "EfficientNet",
        ),
    ],
)
def test_defaults_where_a_folder_says_nothing(
    tmp_path: Path, model_type: str, size: int, expected: dict[str, Any], called: str
) -> None:
    if model_type == "align":
        found, note = read(tmp_path, None, config_of(346, model_type))
    else:
        found, note = read(tmp_path, None, config_of(size, model_type))
    assert found == Preprocessing(**{"size": (size, size), **expected})
    assert note == f"no preprocessor_config.json: took the defaults of {called}ImageProcessor"
    assert read(
        tmp_path, {"do_rescale": True}, config_of(size if size == 224 else 346, model_type)
    ) == (
        found,
        "",
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"size": (224, 224), "resize_mode": "shortest", "resize": None, "crop": "floor"}),
        (
            {"size": 256},
            {"size": (224, 224), "resize_mode": "shortest", "resize": 256, "crop": "floor"},
        ),
        (
            {"size": {"shortest_edge": 256}, "crop_size": 224},
            {"size": (224, 224), "resize_mode": "shortest", "resize": 256, "crop": "floor"},
        ),
        (
            {"size": 224, "crop_size": {"height": 224, "width": 192}},
            {"size": (224, 192), "resize_mode": "shortest", "resize": 224, "crop": "floor"},
        ),
        (
            {"size": {"height": 240, "width": 256}},
            {"size": (224, 224), "resize_mode": "squash", "resize": (240, 256), "crop": "floor"},
        ),
        (
            {"size": [240, 256], "crop_size": [224, 224]},
            {"size": (224, 224), "resize_mode": "squash", "resize": (240, 256), "crop": "floor"},
        ),
        ({"size": [224, 224]}, {"size": (224, 224), "resize_mode": "squash"}),
        (
            {"size": [224, 224], "do_center_crop": False},
            {"size": (224, 224), "resize_mode": "squash"},
        ),
        (
            {"do_resize": False},
            {"size": (224, 224), "resize_mode": "keep", "crop": "floor"},
        ),
        (
            {"do_resize": False, "crop_size": [224, 192]},
            {"size": (224, 192), "resize_mode": "keep", "crop": "floor"},
        ),
        (
            {"image_processor_type": "SiglipImageProcessor", "size": 224},
            {"size": (224, 224), "resize_mode": "squash"},
        ),
        (
            {"image_processor_type": "ViTImageProcessor"},
            {"size": (224, 224), "resize_mode": "squash"},
        ),
        (
            {"image_processor_type": "ViTImageProcessor", "size": 256, "do_center_crop": True},
            {"size": (224, 224), "resize_mode": "squash", "resize": (256, 256), "crop": "floor"},
        ),
    ],
)
def test_sizes(tmp_path: Path, settings: dict[str, Any], expected: dict[str, Any]) -> None:
    found, note = read(tmp_path, settings, config_of(list(expected["size"])))
    assert {name: getattr(found, name) for name in expected} == expected
    if "crop" not in expected:
        assert (found.crop, found.resize) == ("round", None)
    assert note == (
        "" if settings else "no preprocessor_config.json: took the defaults of CLIPImageProcessor"
    )


@pytest.mark.parametrize(
    ("settings", "mean", "std"),
    [
        ({}, OPENAI_MEAN, OPENAI_STD),
        ({"rescale_factor": 0.00392156862745098}, OPENAI_MEAN, OPENAI_STD),
        ({"do_normalize": False}, (0.0,) * 3, (1.0,) * 3),
        ({"image_mean": 0.25, "image_std": [2.0]}, (0.25,) * 3, (2.0,) * 3),
        ({"image_mean": [0.1, 0.2, 0.3]}, (0.1, 0.2, 0.3), OPENAI_STD),
        # Grey levels 0 to 255 as they are: mean and deviation are of those.
        ({"do_rescale": False, "image_mean": 51, "image_std": 255}, (0.2,) * 3, (1.0,) * 3),
        ({"rescale_factor": 2 / 255, "image_mean": 0.5, "image_std": 1.0}, (0.25,) * 3, (0.5,) * 3),
        (
            {"rescale_factor": 2 / 255, "rescale_offset": True, "image_mean": 0, "image_std": 1},
            (0.5,) * 3,
            (0.5,) * 3,
        ),
        ({"include_top": True, "image_mean": 0.5, "image_std": 0.5}, (0.5,) * 3, (0.25,) * 3),
        (
            {"rescale_offset": True, "do_rescale": False, "image_mean": 51, "image_std": 255},
            (0.2,) * 3,
            (1.0,) * 3,
        ),
    ],
)
def test_means_and_deviations_of_pictures_from_0_to_1(
    tmp_path: Path, settings: dict[str, Any], mean: Any, std: Any
) -> None:
    found, _ = read(tmp_path, settings)
    assert found.mean == pytest.approx(mean, abs=1e-12)
    assert found.std == pytest.approx(std, abs=1e-12)
    if not settings or ("rescale_factor" in settings and mean is OPENAI_MEAN):
        assert (found.mean, found.std) == (mean, std)  # to the last bit
    assert found.interpolation == "bicubic"


@pytest.mark.parametrize(
    ("number", "name"), [(0, "nearest"), (2, "bilinear"), (3, "bicubic"), (None, "bicubic")]
)
def test_filters_by_their_number(tmp_path: Path, number: Any, name: str) -> None:
    assert read(tmp_path, {"resample": number})[0].interpolation == name
    if number is not None:
        processor = {"image_processor_type": "ViTImageProcessor"}
        assert read(tmp_path, processor)[0].interpolation == "bilinear"


def test_patches_of_models_without_a_size(tmp_path: Path) -> None:
    for settings, edge in (
        ({"do_rescale": True}, 16 * 16),
        ({"max_num_patches": 100}, 10 * 16),
        ({"max_num_patches": 99}, 9 * 16),
    ):
        found, note = read(tmp_path, settings, config_of(7, "siglip2"))
        most = settings.get("max_num_patches", 256)
        assert found == NaFlexPreprocessing(
            size=(edge, edge),
            resize_mode="squash",
            interpolation="bilinear",
            mean=(0.5,) * 3,
            std=(0.5,) * 3,
            patch=16,
            most_patches=most,
        )
        assert note == f"NaFlex: photographs keep their shape, at most {most} patches each"
    (tmp_path / "preprocessor_config.json").unlink()
    assert read(tmp_path, None, config_of(7, "siglip2"))[1] == (
        "no preprocessor_config.json: took the defaults of Siglip2ImageProcessor; NaFlex: photographs "
        "keep their shape, at most 256 patches each"
    )
    with pytest.raises(ClipRobustError, match="makes patches of 14 pixels"):
        read(tmp_path, {"patch_size": 14}, config_of(7, "siglip2"))
    with pytest.raises(ClipRobustError, match="do_resize is false"):
        read(tmp_path, {"do_resize": False}, config_of(7, "siglip2"))
    with pytest.raises(ClipRobustError, match="'max_num_patches' is 0; it must be a whole number"):
        read(tmp_path, {"max_num_patches": 0}, config_of(7, "siglip2"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"resample": 1}, "resample 1"),
        ({"resample": "3"}, "resample '3'"),
        ({"rescale_factor": 0}, "rescale_factor must be above 0"),
        ({"rescale_factor": -1}, "rescale_factor must be above 0"),
        ({"rescale_factor": True}, "rescale_factor must be a number"),
        ({"rescale_factor": "1"}, "rescale_factor must be a number"),
        ({"image_mean": "grey"}, "image_mean must be three numbers"),
        ({"image_std": [1.0, 2.0]}, "expected three channels"),
        ({"image_std": {"red": 1}}, "image_std must be three numbers"),
        ({"size": {"longest_edge": 224}}, "give a shortest_edge, or height and width"),
        ({"size": {"shortest_edge": 0}}, "size must be a whole number above 0"),
        ({"size": [224, 224, 3]}, "is no height and width"),
        ({"size": [224, True]}, "must be a whole number above 0"),
        ({"size": "224"}, "must be a whole number above 0"),
        ({"size": 65537}, "must be a whole number above 0"),
        ({"crop_size": "224"}, "is no height and width"),
        ({"crop_size": {"height": 224}}, "is no height and width"),
        ({"size": 224, "do_center_crop": False}, "gives pictures of any shape"),
        ({"do_resize": False, "do_center_crop": False}, "set one to true"),
        ({"crop_size": 192}, "belong to different models"),
        ({"do_pad": True}, "do_pad and do_thumbnail are not supported"),
        ({"do_thumbnail": True}, "do_pad and do_thumbnail are not supported"),
        ({"do_flip": True}, "'do_flip' (True) is not supported"),
        ({"do_flip": 0.5}, "'do_flip' (0.5) is not supported"),
        ({"image_processor_type": "OddImageProcessor"}, "known are those of CLIP"),
    ],
)
def test_what_is_not_done_here_is_named(
    tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ClipRobustError) as caught:
        read(tmp_path, settings)
    assert words in str(caught.value)


@pytest.mark.parametrize("nothing", [None, False])
def test_what_asks_for_nothing_is_harmless(tmp_path: Path, nothing: Any) -> None:
    plain = read(tmp_path, {"do_rescale": True})
    assert read(tmp_path, {"do_flip": nothing, "crop_pct": 0.9, "device": "cpu"}) == plain


def test_the_largest_size_that_is_read() -> None:
    place = Path("x.json")
    assert image_processor._whole(2**16, "size", place) == 2**16
    assert image_processor._whole(1, "size", place) == 1
    assert image_processor._pair(7, "size", place) == (7, 7)
    assert image_processor._pair((7, 8), "size", place) == (7, 8)
    assert image_processor._number(0, "factor", place) == 0.0
    with pytest.raises(ClipRobustError, match="must be a number"):
        image_processor._number(math.inf, "factor", place)


def test_where_settings_are_looked_for(tmp_path: Path) -> None:
    newer = tmp_path / "processor_config.json"
    newer.write_text(json.dumps({"image_processor": {"size": 256}, "size": 300}))
    assert read(tmp_path, None)[0].resize == 256
    newer.write_text(json.dumps({"tokenizer": {}}))
    assert read(tmp_path, None)[1] == (
        "no preprocessor_config.json: took the defaults of CLIPImageProcessor"
    )
    newer.write_text(json.dumps({"image_processor": [1]}))
    with pytest.raises(ClipRobustError, match="image_processor must be an object"):
        read(tmp_path, None)
    assert read(tmp_path, {"size": 240})[0].resize == 240

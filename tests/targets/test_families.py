"""Every family of models, as a tiny random checkpoint in its real format, against its own library."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from helpers import SUITES, Sessions
from model_helpers import VIT, write_folder, write_tokenizer
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pytest_cliprobust.cache import FeatureCache
from pytest_cliprobust.engine.encoding import Encoder
from pytest_cliprobust.engine.evaluation import Evaluation, RunConfig
from pytest_cliprobust.engine.performance import Passes
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.search.adversarial import adversarial_of
from pytest_cliprobust.targets.base import Target
from pytest_cliprobust.targets.image_processor import _PROCESSORS, _defaults
from pytest_cliprobust.targets.loading import load_target

#: Too long for the tight loop, but run with the lowest versions of those libraries.
pytestmark = pytest.mark.floors

#: (height, width): a landscape whose margin beside the crop is 3 modulo 4, an upright one, a narrow one.
PHOTOS = ((427, 640), (500, 333), (90, 400))

#: Grey levels of 255.
MEAN = 0.4

TEXTS = ["a photo of a cat.", "two red cars", "a very long caption"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def photo(height: int, width: int) -> Image.Image:
    """A picture with smooth areas, edges and some noise, the same each time."""
    generator = torch.Generator().manual_seed(height)
    coarse = torch.rand(1, 3, 6, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0]
    smooth[:, height // 3 : height // 2, width // 4 : width // 2] = 0.9
    smooth += 0.05 * torch.randn(3, height, width, generator=generator)
    pixels = (smooth.clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def as_measured(target: Any, picture: Image.Image) -> Tensor:
    """The model's input as the harness makes it: framed at the model's own size, then normalised."""
    image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    framed = target.frame(image, max(target.image_size))
    pixels: Tensor = target.preprocess(framed[None].float() / 255)[0]
    return pixels


def assert_own_preprocessing(target: Any, own: Any) -> None:
    """Compare what the model sees with its own library's preprocessing, in grey levels."""
    spread = torch.tensor(target.preprocessing.std).view(3, 1, 1)
    for shape in PHOTOS:
        picture = photo(*shape)
        theirs = own(picture)
        ours = as_measured(target, picture)
        assert ours.shape == theirs.shape
        error = (ours - theirs).abs() * spread * 255
        assert float(error.mean()) <= MEAN, shape


def assert_unit_features(target: Target) -> None:
    seen = [as_measured(target, photo(*shape))[None] for shape in PHOTOS]
    together = len({one.shape for one in seen}) == 1
    pictures = target.encode_image(torch.cat(seen)) if together else alone(target, seen)
    for features in (pictures, target.encode_text(TEXTS)):
        assert features.shape == (3, target.embed_dim)
        assert torch.allclose(features.norm(dim=1), torch.ones(3), atol=1e-5)
        assert float((features[0] - features[1]).norm()) > 1e-5


def alone(target: Target, pictures: list[Tensor]) -> Tensor:
    return torch.cat([target.encode_image(picture) for picture in pictures])


# --- open_clip --------------------------------------------------------------------------------------

TEXT: dict[str, Any] = VIT["text_cfg"]
VISION: dict[str, Any] = VIT["vision_cfg"]
HF_TEXT = {**TEXT, "vocab_size": 40, "hf_tokenizer_name": "some/tokenizer"}
SIGLIP_TEXT = {
    **HF_TEXT,
    "tokenizer_kwargs": {"clean": "canonicalize"},
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
    "width": 64,
}
SIGLIP_IMAGES = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}


def timm_vision(name: str, size: int, pool: str, proj: str) -> dict[str, Any]:
    return {"timm_model_name": name, "image_size": size, "timm_pool": pool, "timm_proj": proj}


SIGLIP = {
    "embed_dim": 64,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": timm_vision("test_vit", 96, "map", "none"),
    "text_cfg": SIGLIP_TEXT,
}

#: Configuration and preprocessing by family.
OPEN_CLIP: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "vit": (VIT, {}),
    "vit at 384": ({**VIT, "vision_cfg": {**VISION, "image_size": 384, "patch_size": 32}}, {}),
    "coca": (
        {
            **VIT,
            "custom_text": True,
            "vision_cfg": {
                **VISION,
                "attentional_pool": True,
                "attn_pooler_heads": 2,
                "attn_pooler_queries": 4,
                "output_tokens": True,
            },
            "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
            "multimodal_cfg": {
                "context_length": 12,
                "vocab_size": TEXT["vocab_size"],
                "width": 24,
                "heads": 2,
                "layers": 1,
                "attn_pooler_heads": 2,
            },
        },
        {},
    ),
    "siglip": (SIGLIP, SIGLIP_IMAGES),
    "siglip 2": ({**SIGLIP, "text_cfg": {**SIGLIP_TEXT, "context_length": 16}}, SIGLIP_IMAGES),
    "mobileclip": (
        {**VIT, "custom_text": True, "vision_cfg": timm_vision("fastvit_mci0", 64, "avg", "None")},
        {"mean": [0.0] * 3, "std": [1.0] * 3, "interpolation": "bilinear"},
    ),
    "clipa": (
        {
            **VIT,
            "vision_cfg": {
                **VISION,
                "pool_type": "avg",
                "no_ln_pre": True,
                "final_ln_after_pool": True,
            },
            "text_cfg": {
                **HF_TEXT,
                "tokenizer_kwargs": {"strip_sep_token": True},
                "pool_type": "last",
                "no_causal_mask": True,
            },
        },
        {
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "interpolation": "bilinear",
            "resize_mode": "squash",
        },
    ),
    "eva": (
        {
            **VIT,
            "custom_text": True,
            "vision_cfg": timm_vision("eva02_tiny_patch14_224", 224, "token", "linear"),
        },
        {},
    ),
    "convnext": ({**VIT, "vision_cfg": timm_vision("test_convnext", 96, "avg", "linear")}, {}),
    "resnet": (
        {**VIT, "vision_cfg": {**VISION, "image_size": 64, "layers": [1, 1, 1, 1], "width": 8}},
        {},
    ),
    "longest": (VIT, {"resize_mode": "longest", "fill_color": 127}),
}


@pytest.mark.parametrize("family", OPEN_CLIP)
def test_families_of_open_clip(family: str, tmp_path: Path) -> None:
    config, preprocess = OPEN_CLIP[family]
    config = json.loads(json.dumps(config).replace('"None"', "null"))
    folder = write_folder(tmp_path / "model", config, **preprocess)
    if "hf_tokenizer_name" in config["text_cfg"]:
        write_tokenizer(folder)
    target = load_target(str(folder), device="cpu")
    assert_unit_features(target)
    model, own = open_clip.create_model_from_pretrained(
        f"local-dir:{folder}", return_transform=True
    )
    model.eval()
    assert_own_preprocessing(target, own)
    pixels = torch.stack([as_measured(target, photo(*shape)) for shape in PHOTOS])
    with torch.no_grad():
        expected = model.encode_image(pixels, normalize=True)
    assert torch.allclose(target.encode_image(pixels), expected, atol=1e-5)
    assert target.probability == ("sigmoid" if "siglip" in family else "softmax")


#: Towers whose input is no square, by what makes it: (height, width), configuration, preprocessing.
OBLONG: dict[str, tuple[tuple[int, int], dict[str, Any], dict[str, Any]]] = {
    "upright": ((48, 32), VIT, {}),
    "lying, bordered": ((32, 64), VIT, {"resize_mode": "longest", "fill_color": 127}),
    "upright, squeezed": ((64, 32), VIT, {"resize_mode": "squash", "interpolation": "bilinear"}),
    "timm": (
        (64, 96),
        {**VIT, "vision_cfg": timm_vision("test_convnext", 96, "avg", "linear")},
        {"mean": [0.5] * 3, "std": [0.5] * 3},
    ),
}


@pytest.mark.parametrize("kind", OBLONG)
def test_a_model_of_another_shape_is_shown_photographs_in_it(kind: str, tmp_path: Path) -> None:
    size, config, images = OBLONG[kind]
    config = {**config, "vision_cfg": {**config["vision_cfg"], "image_size": list(size)}}
    folder = write_folder(tmp_path / "model", config, **images)
    target: Any = load_target(str(folder), device="cpu")
    model, own = open_clip.create_model_from_pretrained(
        f"local-dir:{folder}", return_transform=True
    )
    model.eval()
    assert target.image_size == size
    assert "photographs are framed so" in target.info.notes[-1]
    assert_own_preprocessing(target, own)
    pixels = torch.stack([as_measured(target, photo(*shape)) for shape in PHOTOS])
    with torch.no_grad():
        expected = model.encode_image(pixels, normalize=True)
    assert torch.allclose(target.encode_image(pixels), expected, atol=1e-5)
    step = 32 if kind == "timm" else 8
    grid = (size[0] // step, size[1] // step)
    assert target.dense_features(pixels).shape[2:] == grid
    assert target.local_features(pixels).shape[1] == grid[0] * grid[1]


@pytest.mark.parametrize("size", [[224, 168], 168])
def test_a_timm_tower_of_another_size_than_its_configuration_says(
    size: Any, tmp_path: Path
) -> None:
    """open_clip does not tell timm the size: the forward pass of its own model fails."""
    vision = {**OPEN_CLIP["eva"][0]["vision_cfg"], "image_size": size}
    folder = write_folder(tmp_path / "eva", {**OPEN_CLIP["eva"][0], "vision_cfg": vision})
    told = refused(folder)
    assert "image_size (224, 168)" in told or "image_size (168, 168)" in told
    assert "its timm tower takes (224, 224) alone" in told


def on_photographs(folder: Path, tmp_path: Path) -> Evaluation:
    """Return a run of a model on photographs of three classes, one of each of the shapes."""
    photos = tmp_path / "photos"
    for number, shape in enumerate(PHOTOS):
        (photos / f"class {number}").mkdir(parents=True)
        photo(*shape).save(photos / f"class {number}" / "a.png")
    name = str(folder)
    config = RunConfig((name,), data=str(photos), device="cpu", cache_dir=tmp_path / "cache")
    return Evaluation(config, name)


def test_a_model_of_another_shape_on_photographs_and_scenes(tmp_path: Path) -> None:
    """Data, perturbations, stored pictures and pairs, all in the model's shape."""
    config = {**VIT, "vision_cfg": {**VISION, "image_size": [48, 32]}}
    folder = write_folder(tmp_path / "model", config)
    clip = on_photographs(folder, tmp_path)
    data: Any = clip.dataset("clean")
    assert data.load(range(3)).images.shape == (3, 3, 48, 32)
    assert data.framing.shape == (48, 32)
    clean, blurred = (clip.on("clean", name, n).features for name, n in (("", 0), ("fog", 3)))
    assert clean.shape == blurred.shape == (3, 24)
    assert float((clean - blurred).norm()) > 1e-4
    assert clip.on("embedded:clean", "fog_3d", 3, limit=2).features.shape == (2, 24)
    pairs = clip.dataset("embedded:two_view", 2)
    assert len(clip.encoder.matches(pairs)) == 2


def test_a_384_pixel_model_is_shown_photographs_at_384(tmp_path: Path) -> None:
    config, _ = OPEN_CLIP["vit at 384"]
    folder = write_folder(tmp_path / "model", config)
    clip = on_photographs(folder, tmp_path)
    images = clip.dataset("clean").load(range(3)).images
    assert images.shape == (3, 3, 384, 384)
    target: Any = clip.target
    _, own = open_clip.create_model_from_pretrained(f"local-dir:{folder}", return_transform=True)
    spread = torch.tensor(target.preprocessing.std).view(3, 1, 1)
    for image, shape in zip(images, PHOTOS, strict=True):
        seen = target.preprocess(image[None].float() / 255)[0]
        error = (seen - own(photo(*shape))).abs() * spread * 255
        assert float(error.mean()) <= MEAN
    # Pictures of the embedded benchmark, too; their scenes are the same, so that runs are paired.
    large, usual = clip.dataset("clipart", 2), load("clipart", 224)
    assert large.load([0]).images.shape == (1, 3, 384, 384)
    assert large.sample_digests == usual.sample_digests  # type: ignore[attr-defined]
    assert large.digest != usual.digest
    assert clip.on("clipart", "fog_3d", 3, limit=2).features.shape == (2, 24)


def load(name: str, size: int) -> Any:
    from pytest_cliprobust.datasets.loading import load_dataset

    return load_dataset(name, limit=2, size=size)


def test_pictures_of_the_embedded_benchmark_are_never_smaller_than_its_drawings() -> None:
    assert load("clean", 80).digest == load("clean", 224).digest == load("clean", 224).content


# --- transformers -----------------------------------------------------------------------------------

TOWER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
WORDS: dict[str, Any] = {**TOWER, "vocab_size": 40, "max_position_embeddings": 12}
EYES: dict[str, Any] = {**TOWER, "image_size": 48, "patch_size": 8}
CROPPED = {"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}}
SQUASHED = {"size": {"height": 48, "width": 48}}

#: A text tower that can tell the classes of the benchmark apart: it reads letters, and all of them.
READER = {"vocab_size": 128, "max_position_embeddings": 80, "eos_token_id": 97}

#: Class, configuration and image processor by family.
TRANSFORMERS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "clip": (
        "CLIP",
        {"text_config": {**WORDS, "eos_token_id": 13}, "projection_dim": 24},
        "CLIP",
        CROPPED,
    ),
    "chinese_clip": (
        "ChineseCLIP",
        {"text_config": WORDS, "projection_dim": 24},
        "ChineseCLIP",
        {**CROPPED, "size": {"height": 57, "width": 51}},
    ),
    "altclip": (
        "AltCLIP",
        {
            "text_config": {**WORDS, "project_dim": 24, "max_position_embeddings": 20},
            "projection_dim": 24,
        },
        "CLIP",
        CROPPED,
    ),
    "metaclip_2": (
        "MetaClip2",
        {"text_config": {**WORDS, "eos_token_id": 13}, "projection_dim": 24},
        "CLIP",
        CROPPED,
    ),
    "siglip": ("Siglip", {"text_config": {**WORDS, "projection_size": 32}}, "Siglip", SQUASHED),
    "siglip2": (
        "Siglip2",
        {
            "text_config": {**WORDS, "projection_size": 32},
            "vision_config": {**TOWER, "patch_size": 8, "num_patches": 16},
        },
        "Siglip2",
        {"max_num_patches": 16, "patch_size": 8},
    ),
    "align": (
        "Align",
        {
            "text_config": {**WORDS, "hidden_size": 32},
            "projection_dim": 32,
            "vision_config": {
                "image_size": 48,
                "width_coefficient": 1.0,
                "depth_coefficient": 1.0,
                "hidden_dim": 32,
                "kernel_sizes": [3],
                "in_channels": [32],
                "out_channels": [32],
                "depthwise_padding": [],
                "strides": [1],
                "num_block_repeats": [1],
                "expand_ratios": [1],
            },
        },
        "EfficientNet",
        {
            "size": {"height": 58, "width": 58},
            "crop_size": {"height": 48, "width": 48},
            "do_center_crop": True,
            "rescale_factor": 1 / 127.5,
            "rescale_offset": True,
            "do_normalize": False,
            "include_top": False,
            "resample": 2,
        },
    ),
}


def write_model(folder: Path, family: str, *, letters: bool = False, **changes: Any) -> Path:
    """A folder of transformers with random weights, its tokenizer and its image processor."""
    import transformers

    kind, settings, processor, images = TRANSFORMERS[family]
    settings = {
        **settings,
        "text_config": {**settings["text_config"], **(READER if letters else {})},
    }
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{"vision_config": EYES, **settings})
    model = getattr(transformers, f"{kind}Model")(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    write_tokenizer(folder, letters=letters)
    names = [f"{processor}ImageProcessor", f"{processor}ImageProcessorFast"]
    own = next(getattr(transformers, n) for n in names if hasattr(transformers, n))
    own(**{**images, **changes}).save_pretrained(folder)
    return folder


def processor_of(folder: Path) -> Any:
    import transformers

    processor = transformers.AutoImageProcessor.from_pretrained(folder)

    def own(picture: Image.Image) -> Tensor:
        pixels: Tensor = processor(images=picture, return_tensors="pt")["pixel_values"][0]
        return pixels

    return own


def unit(output: Any) -> Tensor:
    features = output if isinstance(output, Tensor) else output.pooler_output
    return torch.nn.functional.normalize(features, dim=-1)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": {"height": 60, "width": 80}},
        {"size": {"shortest_edge": 60}},
        {"size": {"shortest_edge": 40}},  # padded
        {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}},
    ],
    ids=str,
)
def test_a_processor_decides_the_shape_where_the_tower_takes_any(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    import transformers

    crop = {"height": 48, "width": 64}
    folder = write_model(tmp_path / "model", "align", **{"crop_size": crop, **changes})
    target: Any = load_target(str(folder), device="cpu")
    assert target.image_size[1] == 64
    assert_own_preprocessing(target, processor_of(folder))
    pixels = torch.stack([as_measured(target, photo(*shape)) for shape in PHOTOS])
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = unit(model.get_image_features(pixel_values=pixels))
    assert torch.allclose(target.encode_image(pixels), expected, atol=1e-5)


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_families_of_transformers(family: str, tmp_path: Path) -> None:
    import transformers

    if not hasattr(transformers, f"{TRANSFORMERS[family][0]}Model"):
        pytest.skip("this transformers has no such model")
    folder = write_model(tmp_path / "model", family)
    target: Any = load_target(str(folder), device="cpu")
    assert_unit_features(target)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if family == "siglip2":  # each in its own shape: see below
        pixels = torch.stack([as_measured(target, photo(40, 40 + n)) for n in range(3)])
    else:
        pixels = torch.stack([as_measured(target, photo(*shape)) for shape in PHOTOS])
        assert_own_preprocessing(target, processor_of(folder))
        with torch.no_grad():
            expected = unit(model.get_image_features(pixel_values=pixels))
        assert torch.allclose(target.encode_image(pixels), expected, atol=1e-5)
    texts = [text.rstrip(".") for text in TEXTS] if "siglip" in family else TEXTS
    length = target.context_length
    tokens = tokenizer(
        texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    if "siglip" in family:
        tokens.pop("attention_mask", None)
    tokens.pop("token_type_ids", None)
    with torch.no_grad():
        expected = unit(model.get_text_features(**tokens))
    assert torch.allclose(target.encode_text(TEXTS), expected, atol=1e-5)
    if family == "align":
        assert target.logit_scale == pytest.approx(1 / float(model.temperature.detach()))
        with pytest.raises(ClipRobustError, match="offers no patch features"):
            target.dense_features(pixels)
        with pytest.raises(ClipRobustError, match="gives no patch features in the space of"):
            target.local_features(pixels)
    else:
        assert target.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))
        grid = target.image_size[0] // 8
        assert target.dense_features(pixels).shape == (3, 32, grid, grid)
        assert_local_features(target, pixels, grid)


def test_naflex_models_see_photographs_in_their_own_shape(tmp_path: Path) -> None:
    """Pixels, features under a perturbation or none, attacks and pairs, against transformers' own."""
    import transformers

    if not hasattr(transformers, "Siglip2Model"):
        pytest.skip("this transformers has no such model")
    folder = write_model(tmp_path / "model", "siglip2", letters=True)
    clip = on_photographs(folder, tmp_path)
    target: Any = clip.target
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    expected = []
    for shape in PHOTOS:
        inputs = processor(images=photo(*shape), return_tensors="pt")
        with torch.no_grad():
            expected.append(unit(model.get_image_features(**inputs)))
        seen = target._vision_inputs(as_measured(target, photo(*shape))[None])
        count = seen["pixel_values"].shape[1]
        assert int(inputs["pixel_attention_mask"].sum()) == count
        error = (seen["pixel_values"] - inputs["pixel_values"][:, :count]).abs() * 127.5
        assert float(error.mean()) <= MEAN
    clean = clip.on("clean")
    cosines = (clean.features.double() * torch.cat(expected).double()).sum(dim=1)
    assert float((1 - cosines).max()) <= 1e-5
    data: Any = clip.dataset("clean")
    assert clip.encoder.by_shape(data) == {(16, 64): [2], (24, 40): [0], (40, 24): [1]}
    noisy = clip.on("clean", "gaussian_noise", 3)
    for row in range(3):
        _, after = clip.encoder.pictures(data, [row], registry.get("gaussian_noise"), 3)
        own = target.encode_image(target.preprocess(after))[0]
        torch.testing.assert_close(noisy.features[row], own, atol=1e-5, rtol=0)
    again = Encoder(target, FeatureCache(tmp_path / "other"), batch_size=2)
    assert torch.equal(again.images(data, noisy.condition.steps), noisy.features)
    assert clip.local_mcm(noisy).shape == (3,)
    assert [figure.n for figure in adversarial_of(clip, clean, epsilon=0.1, steps=1)] == [3, 3]
    assert clip.on("embedded:clean", "fog_3d", 3, limit=2).features.shape == (2, 32)
    assert len(clip.encoder.matches(clip.dataset("embedded:two_view", 2))) == 2
    Passes(target, clean)()


def assert_local_features(target: Any, pixels: Tensor, grid: int) -> None:
    """Compare with the tower's own end where the last block's output is one patch's value alone."""
    found = target.local_features(pixels)
    assert found.shape == (3, grid * grid, target.embed_dim)
    values = target.dense_features(pixels, layer="values").flatten(2).transpose(1, 2)
    tower = getattr(target.model.vision_model, "vision_model", target.model.vision_model)
    place = grid + 1
    inputs = target._vision_inputs(pixels)
    count = grid * grid + ("siglip" not in target.model_type)

    def alone(module: Any, given: Any, output: Any) -> Any:
        made = values[:, place, None].expand(-1, count, -1)
        return (made, *output[1:]) if isinstance(output, tuple) else made

    hook = tower.encoder.layers[-1].register_forward_hook(alone)
    try:
        with torch.no_grad():
            wanted = unit(target.model.get_image_features(**inputs))
    finally:
        hook.remove()
    torch.testing.assert_close(found[:, place], wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"rescale_factor": 1 / 127.5},
        {"do_rescale": False},
        {"do_normalize": False},
        {"do_rescale": False, "do_normalize": False},
        {"size": {"shortest_edge": 57}},
        {"size": {"height": 60, "width": 51}},
        {"size": {"height": 48, "width": 48}, "do_center_crop": False},
        {"resample": 2},
        {"do_resize": False},
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 1.0, 2.0]},
    ],
    ids=str,
)
def test_settings_of_an_image_processor_are_honoured(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", "clip", **changes)
    assert_own_preprocessing(load_target(str(folder), device="cpu"), processor_of(folder))


@pytest.mark.parametrize(
    ("settings", "model_type", "called"),
    [
        ({}, "clip", "CLIP"),
        ({}, "siglip", "Siglip"),
        ({}, "siglip2", "Siglip2"),
        ({}, "align", "EfficientNet"),
        ({"image_processor_type": "SiglipImageProcessor"}, "clip", "Siglip"),
        ({"image_processor_type": "ViTImageProcessorFast"}, "clip", "ViT"),
        ({"image_processor_type": "ChineseCLIPImageProcessorPil"}, "siglip", "ChineseCLIP"),
        ({"feature_extractor_type": "CLIPFeatureExtractor"}, "siglip", "CLIP"),
        (
            {"image_processor_type": "BitImageProcessor", "feature_extractor_type": "x"},
            "clip",
            "Bit",
        ),
        # Not a name at all: as if it were not there.
        ({"image_processor_type": 3}, "align", "EfficientNet"),
    ],
    ids=str,
)
def test_which_image_processor_is_meant(
    settings: dict[str, Any], model_type: str, called: str
) -> None:
    found = _defaults(settings, model_type, Path("x.json"))
    assert found == {**_PROCESSORS[called], "called": f"{called}ImageProcessor"}
    with pytest.raises(ClipRobustError, match=r"x.json: image processor 'Odd' is not supported"):
        _defaults({"image_processor_type": "Odd"}, model_type, Path("x.json"))


@pytest.mark.parametrize(
    ("family", "written", "meant"),
    [
        ("clip", 48, {"shortest_edge": 48}),
        ("clip", None, {"shortest_edge": 48}),
        ("clip", [48, 48], {"height": 48, "width": 48}),
        ("siglip", 48, {"height": 48, "width": 48}),
        ("siglip", None, {"height": 48, "width": 48}),
        ("siglip", [48, 48], {"height": 48, "width": 48}),
    ],
    ids=str,
)
def test_sizes_as_older_files_have_them(
    family: str, written: Any, meant: dict[str, int], tmp_path: Path
) -> None:
    def digest(name: str, size: Any) -> str:
        folder = write_model(tmp_path / name, family)
        path = folder / "preprocessor_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "size": size}))
        return load_target(str(folder), device="cpu").info.digest

    assert digest("written", written) == digest("meant", meant)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"do_resize": False, "do_center_crop": False}, "do_resize and do_center_crop are false"),
        ({"size": {"longest_edge": 48}}, "size {'longest_edge': 48} is not supported"),
        ({"size": {"shortest_edge": 48, "longest_edge": 90}}, "is not supported"),
        ({"size": "48"}, "size must be a whole number"),
        ({"size": [48]}, "is no height and width"),
        ({"size": {"shortest_edge": -3}}, "size must be a whole number above 0"),
        ({"do_center_crop": False}, "gives pictures of any shape"),
        ({"do_pad": True}, "do_pad"),
        ({"rescale_factor": 0}, "rescale_factor must be above 0"),
        ({"rescale_factor": "1/255"}, "rescale_factor must be a number"),
        ({"image_mean": [0.5, 0.5]}, "three channels"),
        ({"image_std": 0}, "std above 0"),
        ({"resample": 1}, "resample 1"),
        ({"resample": []}, "resample []"),
        (
            {"crop_size": {"height": 32, "width": 32}},
            "gives (32, 32) but config.json wants (48, 48)",
        ),
        ({"do_normalize": "no"}, "do_normalize must be true or false, not 'no'"),
        ({"do_resize": 0}, "do_resize must be true or false, not 0"),
        ({"rescale_offset": "false"}, "rescale_offset must be true or false"),
        ({"do_reduce_labels": True}, "'do_reduce_labels' (True) is not supported"),
        ({"image_processor_type": "PixtralImageProcessor"}, "is not supported; known are"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_honoured_are_named(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", "clip")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    assert words in refused(folder)


@pytest.mark.parametrize("shape", [(48, 48), (30, 47), (47, 31), (20, 200), (200, 20), (1, 1)])
def test_pictures_that_are_not_resized_are_cropped_and_padded(
    shape: tuple[int, int], tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", "clip", do_resize=False)
    target: Any = load_target(str(folder), device="cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    torch.testing.assert_close(as_measured(target, picture), processor_of(folder)(picture))


def refused(name: Path | str, **options: Any) -> str:
    """The one line that loading a model ends with."""
    with pytest.raises(ClipRobustError) as caught:
        load_target(str(name), device="cpu", **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


# --- the whole harness --------------------------------------------------------------------------------


def write_reader(folder: Path, family: str) -> Path:
    """A model of a family whose text tower reads whole prompts."""
    if family in TRANSFORMERS:
        return write_model(folder, family, letters=True)
    config, preprocess = OPEN_CLIP[family.removeprefix("open_clip ")]
    config = json.loads(json.dumps(config).replace('"None"', "null"))
    config["text_cfg"]["context_length"] = 64
    letters = "hf_tokenizer_name" in config["text_cfg"]
    if letters:
        config["text_cfg"]["vocab_size"] = 128
    write_folder(folder, config, **preprocess)
    if letters:
        write_tokenizer(folder, letters=True)
    return folder


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", [*(f"open_clip {name}" for name in OPEN_CLIP), *TRANSFORMERS])
def test_each_family_goes_through_the_suites(family: str, run: Sessions) -> None:
    folder = write_reader(run.path / "model", family)
    result = run.plain(
        str(SUITES),
        "-m",
        "accuracy or calibration or ood",
        "-k",
        # The first wants four pictures a class, the others are the same code once for each corruption.
        "not test_labels and not under_corruption and not corrupted",
        f"--clip-model={folder}",
        "--clip-device=cpu",
        "--clip-profile=quick",
        "--clip-limit=134",
        "--clip-history=none",
        f"--clip-cache-dir={run.path / 'cache'}",
    )
    outcomes = result.parseoutcomes()
    assert not outcomes.get("failed")
    assert not outcomes.get("errors")
    assert outcomes["passed"] >= 15


# --- weights in parts, adapters, other roots ----------------------------------------------------------


def test_sharded_folders_of_both_libraries(tmp_path: Path) -> None:
    for folder, whole in (
        (write_folder(tmp_path / "open_clip"), "open_clip_model"),
        (write_model(tmp_path / "transformers", "clip"), "model"),
    ):
        before = load_target(str(folder), device="cpu").info.digest
        state = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        names = sorted(state)
        parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
        for file, members in parts.items():
            save_file({n: state[n] for n in members}, folder / file, metadata={"format": "pt"})
        places = {name: file for file, members in parts.items() for name in members}
        (folder / f"{whole}.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
        assert load_target(str(folder), device="cpu").info.digest == before
        (folder / "two.safetensors").unlink()
        assert "names 'two.safetensors', which is not there" in refused(folder)
        index = folder / f"{whole}.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"a": "b" * 300 + ".safetensors"}}))
        assert "which is not there" in refused(folder)


def test_a_folder_of_sentence_transformers(tmp_path: Path) -> None:
    inner = write_model(tmp_path / "root" / "0_CLIPModel", "clip")
    module = {
        "idx": 0,
        "name": "0",
        "path": "0_CLIPModel",
        "type": "sentence_transformers.models.CLIPModel",
    }
    path = tmp_path / "root" / "modules.json"
    path.write_text(json.dumps([module]))
    whole = load_target(str(tmp_path / "root"), device="cpu")
    assert whole.info.digest == load_target(str(inner), device="cpu").info.digest
    for changed, words in (
        ([{**module, "path": "../elsewhere"}], "names a folder elsewhere"),
        ([{**module, "path": "1_CLIPModel"}], "has no config.json"),
        ([{**module, "path": "a" * 300}], "has no config.json"),
        ([{**module, "type": "sentence_transformers.models.Pooling"}], "a CLIPModel alone"),
        ([module, module], "a CLIPModel alone"),
        ([], "lists"),
        ({}, "lists"),
        ([3], "cannot be read"),
    ):
        path.write_text(json.dumps(changed))
        told = refused(tmp_path / "root")
        assert words in told or "cannot be read" in told
    # As sentence-transformers 6 saves it.
    later = {**module, "type": "sentence_transformers.base.modules.transformer.Transformer"}
    unit_length = {"idx": 1, "name": "1", "path": "1_Normalize", "type": "x.normalize.Normalize"}
    path.write_text(json.dumps([later, unit_length]))
    assert load_target(str(tmp_path / "root"), device="cpu").info.digest == whole.info.digest
    root = write_model(tmp_path / "siglip", "siglip")
    (root / "modules.json").write_text(json.dumps([{**later, "path": ""}]))
    assert "lists a Transformer of model_type 'siglip'" in refused(root)
    assert load_target(f"transformers:{root}", device="cpu").embed_dim == 32


def write_adapter(folder: Path, model: Path, **settings: Any) -> Any:
    """Save a LoRA adapter for a model of transformers, and return the model with it merged."""
    peft = pytest.importorskip("peft")
    import transformers

    torch.manual_seed(1)
    base = transformers.CLIPModel.from_pretrained(model)
    config = peft.LoraConfig(**{"r": 2, "target_modules": ["q_proj", "fc1"], **settings})
    wrapped: Any = peft.get_peft_model(base, config)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.3)
    wrapped.save_pretrained(folder)
    return wrapped.merge_and_unload().eval()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True, "lora_alpha": 3},
        {"use_dora": True},
        {"target_modules": ".*visual_projection|.*v_proj"},
    ],
    ids=str,
)
def test_an_adapter_is_merged_with_its_base(settings: dict[str, Any], tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", "clip")
    alone = load_target(str(base), device="cpu")
    merged = write_adapter(tmp_path / "delta", base, **settings)
    apart: Any = load_target(str(tmp_path / "delta"), device="cpu")
    pixels = torch.stack([as_measured(apart, photo(*shape)) for shape in PHOTOS])
    with torch.no_grad():
        expected = unit(merged.get_image_features(pixel_values=pixels))
    assert torch.allclose(apart.encode_image(pixels), expected, atol=1e-5)
    assert any("LoRA adapter of" in note for note in apart.info.notes)
    for file in (tmp_path / "delta").iterdir():
        shutil.copy(file, base)
    beside = load_target(str(base), device="cpu")
    assert beside.info.digest == apart.info.digest != alone.info.digest
    named = load_target(f"transformers:{base}", device="cpu")
    assert named.info.digest == apart.info.digest


@pytest.mark.slow
def test_adapters_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_model(tmp_path / "base", "clip")
    delta = tmp_path / "delta"
    write_adapter(delta, base)
    path = delta / "adapter_config.json"
    before = json.loads(path.read_text())
    for changes, words in (
        ({"peft_type": "IA3"}, "peft_type 'IA3' is not supported, LORA is"),
        ({"base_model_name_or_path": ""}, "does not name the model"),
        ({"base_model_name_or_path": "/no/such"}, "give the base's folder with --clip-pretrained"),
        ({"layer_replication": [[0, 1]]}, "'layer_replication'"),
        ({"rank_pattern": {"(a+)+$": 3}}, "'rank_pattern'"),
        ({"r": 3}, "cannot be merged"),
        ({"r": "many"}, "rank 'r' is 'many'"),
        ({"r": 0}, "rank 'r' is 0; it must be a whole number from 1 to"),
        ({"r": 10**9}, "rank 'r' is 1000000000"),
        ({"r": 2.5}, "rank 'r' is 2.5"),
        ({"rank_pattern": {"q_proj": 10**9}}, "rank 'q_proj' is 1000000000"),
        ({"lora_alpha": 0}, "scale 'lora_alpha' is 0; it must be a number above 0"),
        ({"lora_alpha": float("nan")}, "scale 'lora_alpha' is nan"),
        ({"lora_alpha": 10**400}, "scale 'lora_alpha' is 1000"),
        ({"alpha_pattern": {"q_proj": -1}}, "scale 'q_proj' is -1"),
    ):
        path.write_text(json.dumps({**before, **changes}))
        assert words in refused(delta)
    path.write_text(json.dumps({**before, "base_model_name_or_path": "/no/such"}))
    assert load_target(str(delta), pretrained=str(base), device="cpu").embed_dim == 24
    state = load_file(delta / "adapter_model.safetensors")
    save_file(
        {k.replace("layers.1", "layers.7"): v for k, v in state.items()},
        delta / "adapter_model.safetensors",
    )
    assert "it has no module" in refused(delta, pretrained=str(base))
    (delta / "adapter_model.safetensors").unlink()
    assert "no adapter_model.safetensors" in refused(delta, pretrained=str(base))
    # Never ignored: without peft the base with an adapter beside it is refused.
    save_file(state, delta / "adapter_model.safetensors")
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    assert "pip install pytest-cliprobust[peft]" in refused(delta, pretrained=str(base))
    folder = write_folder(tmp_path / "open_clip")
    for file in delta.iterdir():
        shutil.copy(file, folder)
    assert "pip install pytest-cliprobust[peft]" in refused(folder)


@pytest.mark.parametrize(
    "modules",
    [["c_fc"], [".*visual.*c_fc", "^transformer.*c_proj"], ["attn"], ["attn", "c_fc", "c_proj"]],
    ids=str,
)
def test_an_adapter_is_merged_with_an_open_clip_folder(modules: list[str], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = write_folder(tmp_path / "base")
    alone: Any = load_target(str(base), device="cpu")
    torch.manual_seed(1)
    wanted: Any = modules if "*" not in modules[0] else "|".join(modules)
    wrapped: Any = peft.get_peft_model(
        load_target(str(base), device="cpu").model,  # type: ignore[attr-defined]
        peft.LoraConfig(r=2, target_modules=wanted),
    )
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.3)
    wrapped.save_pretrained(tmp_path / "delta")
    merged = wrapped.merge_and_unload().eval()
    delta = str(tmp_path / "delta")
    assert "does not name the model" in refused(delta)
    apart: Any = load_target(delta, pretrained=str(base), device="cpu")
    pixels = torch.stack([as_measured(apart, photo(*shape)) for shape in PHOTOS])
    with torch.no_grad():
        images = merged.encode_image(pixels, normalize=True)
        texts = merged.encode_text(apart.tokens(TEXTS)["input_ids"], normalize=True)
    torch.testing.assert_close(apart.encode_image(pixels), images, atol=1e-5, rtol=0)
    torch.testing.assert_close(apart.encode_text(TEXTS), texts, atol=1e-5, rtol=0)
    assert not torch.allclose(apart.encode_text(TEXTS), alone.encode_text(TEXTS), atol=1e-3)
    assert any("LoRA adapter of" in note for note in apart.info.notes)
    for file in (tmp_path / "delta").iterdir():
        shutil.copy(file, base)
    beside = load_target(str(base), device="cpu")
    assert beside.info.digest == apart.info.digest != alone.info.digest


# --- tokenizers of SigLIP ---------------------------------------------------------------------------


def write_sentencepiece(path: Path) -> None:
    spm = pytest.importorskip("sentencepiece")
    words = path.parent / "words.txt"
    words.write_text("\n".join(["a photo of a cat", "two red cars", "a very long caption"] * 20))
    spm.SentencePieceTrainer.train(
        input=str(words),
        model_prefix=str(path.with_suffix("")),
        vocab_size=24,
        model_type="unigram",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    words.unlink()
    path.with_suffix(".vocab").unlink()


def test_a_siglip_folder_with_a_sentencepiece_model(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "siglip", "siglip")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    assert "holds no tokenizer files" in refused(folder)
    write_sentencepiece(folder / "spiece.model")
    target = load_target(str(folder), device="cpu")
    assert_unit_features(target)


def test_a_siglip_checkpoint_alone_says_where_its_tokenizer_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "Tiny-SigLIP.json").write_text(json.dumps(SIGLIP))
    before = list(open_clip.factory._MODEL_CONFIG_PATHS), dict(open_clip.factory._MODEL_CONFIGS)
    open_clip.add_model_config(configs)
    try:
        folder = write_folder(tmp_path / "run", SIGLIP)
        path = folder / "model.safetensors"
        told = refused(f"Tiny-SigLIP@{path}")
        assert "its tokenizer files are missing" in told
        assert f"into the folder {folder}" in told
        write_tokenizer(folder)
        assert load_target(f"Tiny-SigLIP@{path}", device="cpu").probability == "sigmoid"
    finally:
        open_clip.factory._MODEL_CONFIG_PATHS[:] = before[0]
        open_clip.factory._MODEL_CONFIGS = before[1]


@pytest.mark.parametrize("library", ["transformers", "open_clip"])
def test_tokenizer_files_run_nothing_and_have_an_end(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import builtins

    def forbidden(*_: Any) -> None:
        raise AssertionError("it asked")

    monkeypatch.setattr(builtins, "input", forbidden)
    folder = tmp_path / "model"
    if library == "transformers":
        write_model(folder, "clip")
    else:
        write_folder(folder, {**VIT, "text_cfg": HF_TEXT})
        write_tokenizer(folder)
    settings = folder / "tokenizer_config.json"
    before = json.loads(settings.read_text())
    (folder / "theirs.py").write_text(f"open({str(tmp_path / 'written')!r}, 'w')\n")
    code = {"auto_map": {"AutoTokenizer": ["theirs.T", "theirs.T"]}, "tokenizer_class": "T"}
    settings.write_text(json.dumps({**before, **code}))
    try:  # without it, as nothing else is known of it, or refused
        load_target(str(folder), device="cpu")
    except ClipRobustError as error:
        assert "\n" not in str(error)  # noqa: PT017
    assert not (tmp_path / "written").exists()
    settings.unlink()
    os.mkfifo(settings)
    assert "tokenizer_config.json is a pipe, not a file" in refused(folder)
    settings.unlink()
    with settings.open("wb") as file:
        file.truncate(2**28)
    assert "more than any tokenizer" in refused(folder)


# --- what is no model -------------------------------------------------------------------------------


def test_parts_of_pythons_own_library_are_no_models() -> None:
    for name in ("sys:exit", "os:abort", "builtins:exit", "os.path:join"):
        assert "a part of Python's own library" in refused(name)


def test_a_module_that_ends_the_process_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaves_at_once.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "leaves_later.py").write_text("import sys\ndef model():\n    sys.exit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "cannot be imported (SystemExit: 3, at" in refused("leaves_at_once:model")
    assert "could not be made (SystemExit: 3, at" in refused("leaves_later:model")


@pytest.mark.parametrize(
    "name",
    [
        *("a" * 300, "a" * 5000, "x\0y", "./x\0y", "ViT-B-32/" + "x" * 5000, "./" + "x" * 300),
        *("local-dir:" + "x" * 300, "transformers:./" + "x" * 300, "ViT-B-32@./" + "x" * 300),
        *("local-dir:\x1b[2J", "hf-hub:../../x", "/dev/zero", "ViT-B-32@/dev/zero", "\udcff"),
    ],
    ids=lambda name: repr(name[:20]),
)
def test_names_of_no_file_are_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    from pytest_cliprobust.targets.names import named_models

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert named_models([name]) is not None
    with pytest.raises(ClipRobustError) as caught:
        load_target(name, device="cpu")
    assert str(caught.value).isprintable()


def test_links_in_a_circle_are_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    os.mkfifo("pipe.pt")
    assert "there is no such folder or checkpoint" in refused("./loop")
    assert "there is no folder loop" in refused("local-dir:loop")
    assert "is a pipe, not a file" in refused("./pipe.pt")
    assert "is a pipe, not a file" in refused("ViT-B-32@pipe.pt")


# --- As trainers, hubs and other hands leave them -----------------------------------------------------


@pytest.mark.parametrize("average", ["model_ema.module.", "ema_model.", "averaged."])
def test_a_model_beside_its_moving_average_is_the_one_that_was_trained(
    average: str, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "model")
    state = load_file(folder / "model.safetensors")
    both = {f"model.{name}": value for name, value in state.items()}
    both |= {f"{average}{name}": value * 1.5 for name, value in state.items()}
    torch.save({"state_dict": both, "callbacks": {}}, tmp_path / "last.ckpt")
    target = load_target(str(folder), pretrained=str(tmp_path / "last.ckpt"), device="cpu")
    assert target.info.digest == load_target(str(folder), device="cpu").info.digest
    note = f"calls 'model.'; it holds a moving average as well ({average!r})"
    assert any(note in one for one in target.info.notes)


def test_what_libraries_have_quantised_is_called_so(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    state: dict[str, Any] = load_file(folder / "model.safetensors")
    packed = "visual.transformer.resblocks.0.mlp.c_fc._packed_params"
    torch.save({**state, f"{packed}.dtype": torch.qint8}, tmp_path / "dynamic.pt")
    with pytest.raises(ClipRobustError, match=r"holds quantised weights .*MODEL@int8"):
        load_target(str(folder), pretrained=str(tmp_path / "dynamic.pt"), device="cpu")
    four_bits = write_model(tmp_path / "nf4", "clip")
    state = load_file(four_bits / "model.safetensors")
    name = "text_model.encoder.layers.0.self_attn.q_proj.weight"
    state |= {name: torch.zeros(512, 1, dtype=torch.uint8), f"{name}.absmax": torch.ones(8)}
    save_file(state, four_bits / "model.safetensors", metadata={"format": "pt"})
    assert "holds quantised weights: 'text_model.encoder" in refused(four_bits)


@pytest.mark.parametrize(("name", "alone"), [("00001-of-00002", True), ("00001-of-00001", False)])
def test_a_shard_without_the_others_is_named(name: str, alone: bool, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "clip")
    (folder / "model.safetensors").rename(folder / f"model-{name}.safetensors")
    if alone:
        assert "one of several shards, and no index of them" in refused(folder)
    else:
        assert load_target(str(folder), device="cpu").embed_dim == 24


@pytest.mark.parametrize("prefix", ["net.", "student.", "model."])
def test_a_model_beside_other_weights_is_found_by_its_names(prefix: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    state = load_file(folder / "model.safetensors")
    wrapped = {f"{prefix}{name}": value for name, value in state.items()}
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {**wrapped, "loss.weight": torch.ones(2)}}, path)
    target = load_target(str(folder), pretrained=str(path), device="cpu")
    assert target.info.digest == load_target(str(folder), device="cpu").info.digest
    assert any(
        f"takes what the checkpoint calls '{prefix}', and leaves 1 other tensors out" in note
        for note in target.info.notes
    )
    torch.save({**wrapped, **{f"teacher.{name}": value for name, value in state.items()}}, path)
    with pytest.raises(ClipRobustError, match=f"several models, under '{prefix}' and 'teacher.'"):
        load_target(str(folder), pretrained=str(path), device="cpu")
    del wrapped[f"{prefix}logit_scale"]
    torch.save({**wrapped, "loss.weight": torch.ones(2)}, path)
    with pytest.raises(ClipRobustError, match="does not fit architecture"):
        load_target(str(folder), pretrained=str(path), device="cpu")


@pytest.mark.parametrize(
    ("family", "tower", "setting"),
    [
        ("align", "vision_config", {"batch_norm_eps": 0.5}),
        ("align", "vision_config", {"pooling_type": "max"}),
        ("altclip", "text_config", {"pad_token_id": 3}),
    ],
)
def test_settings_that_leave_no_trace_in_the_weights_are_part_of_the_digest(
    family: str, tower: str, setting: dict[str, Any], tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", family)
    before = load_target(str(folder), device="cpu")
    config = json.loads((folder / "config.json").read_text())
    config[tower] |= setting
    (folder / "config.json").write_text(json.dumps(config))
    after = load_target(str(folder), device="cpu")
    assert after.info.digest != before.info.digest


def test_a_tokenizer_without_padding_is_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "clip")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ClipRobustError, match="has no pad_token"):
        load_target(str(folder), device="cpu")


def test_a_repository_in_the_hubs_cache_names_its_snapshot(tmp_path: Path) -> None:
    """Files there are links to blobs, which are called by their digests."""
    root = tmp_path / "models--owner--name"
    snapshot = root / "snapshots" / "0a1b"
    made = write_model(tmp_path / "made", "clip")
    (root / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(made.iterdir())):
        path.rename(root / "blobs" / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert load_target(str(snapshot), device="cpu").image_size == (48, 48)
    with pytest.raises(ClipRobustError, match=r"give one of its snapshots, .*0a1b"):
        load_target(str(root), device="cpu")

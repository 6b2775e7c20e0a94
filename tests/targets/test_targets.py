"""Targets: names, checkpoints, activation, hub, precision, features; with tiny local models."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
from model_helpers import MERGES, VIT, write_folder, write_merges, write_tokenizer
from open_clip.pretrained import get_pretrained_cfg, list_pretrained
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.targets import (
    activation,
    callable_target,
    digest,
    hub,
    runtime,
    transformers_target,
)
from pytest_cliprobust.targets.activation import for_checkpoint, for_tag, for_transformers
from pytest_cliprobust.targets.base import DenseTarget, Target
from pytest_cliprobust.targets.checkpoint import read_checkpoint
from pytest_cliprobust.targets.loading import load_target
from pytest_cliprobust.targets.open_clip_target import build_model, default_tag, split_name
from pytest_cliprobust.targets.reference import data_folder, reference_names
from pytest_cliprobust.targets.registry import register_target

pytestmark = pytest.mark.floors

TEXTS = ["a photo of a cat.", "Two red CARS", "", "a very " + "long " * 40 + "caption"]

RESNET = {
    **VIT,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16},
}
CONVNEXT = {
    **VIT,
    "vision_cfg": {
        "image_size": 160,
        "timm_model_name": "test_convnext",
        "timm_pool": "avg",
        "timm_proj": "linear",
        "timm_model_pretrained": True,  # must not be downloaded
    },
}
TIMM_VIT = {
    **VIT,
    "custom_text": True,
    "init_logit_bias": -10,
    "vision_cfg": {
        "image_size": 224,
        "timm_model_name": "test_vit",
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "embed_dim": 64,
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models this small only lose time by sharing their work out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def error(name: str, **options: Any) -> str:
    """The message of the error that loading ``name`` raises: one line, whatever happens."""
    with pytest.raises(ClipRobustError) as caught:
        load_target(name, device="cpu", **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("models") / "vit")


@pytest.fixture(scope="module")
def architectures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Architectures added to open_clip's own: two activations of one, and two without a twin."""
    folder = tmp_path_factory.mktemp("configs")
    config = {**VIT, "text_cfg": {**VIT["text_cfg"], "vocab_size": 49408, "width": 8}}
    (folder / "Tiny-ViT.json").write_text(json.dumps(config))
    (folder / "Tiny-ViT-quickgelu.json").write_text(json.dumps({**config, "quick_gelu": True}))
    (folder / "Tiny-ViT-alone.json").write_text(json.dumps(config))
    resnet = {**config, "vision_cfg": RESNET["vision_cfg"]}
    (folder / "Tiny-ResNet.json").write_text(json.dumps(resnet))
    torch.manual_seed(0)
    torch.save(build_model(config, "test")[0].state_dict(), folder / "weights.pt")
    paths, known = (
        list(open_clip.factory._MODEL_CONFIG_PATHS),
        dict(open_clip.factory._MODEL_CONFIGS),
    )
    open_clip.add_model_config(folder)
    yield folder
    open_clip.factory._MODEL_CONFIG_PATHS[:] = paths
    open_clip.factory._MODEL_CONFIGS = known


def pictures(target: Target, count: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, *target.image_size, generator=generator)


# --- names ------------------------------------------------------------------------------------------


def test_the_bundled_model_loads_under_its_name_and_as_a_folder() -> None:
    assert reference_names()[0] == "reference"
    target = load_target("reference", device="cpu")
    assert isinstance(target, Target)
    assert target.info.name == "reference"
    assert re.fullmatch("[0-9a-f]{64}", target.info.digest)
    folder = load_target(str(data_folder() / "reference"), device="cpu")
    assert folder.info.digest == target.info.digest
    for features in (
        target.encode_image(target.preprocess(pictures(target))),
        target.encode_text(TEXTS),
    ):
        assert features.dtype == torch.float32
        assert features.shape[1] == target.embed_dim
        assert torch.allclose(features.norm(dim=1), torch.ones(len(features)), atol=1e-5)
    assert "no bundled model 'reference-nosuch'" in error("reference-nosuch")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ViT-B-32", ("ViT-B-32", None)),
        ("ViT-B/32", ("ViT-B-32", None)),
        ("ViT-B/32/openai", ("ViT-B-32", "openai")),
        ("ViT-B-16-SigLIP-i18n-256/webli", ("ViT-B-16-SigLIP-i18n-256", "webli")),
        ("ViT-L-14-336-quickgelu/openai", ("ViT-L-14-336-quickgelu", "openai")),
        ("xlm-roberta-base-ViT-B-32", ("xlm-roberta-base-ViT-B-32", None)),
        ("ViT-B-32/no/such", None),
        ("some/folder", None),
    ],
)
def test_architecture_and_tag(name: str, expected: tuple[str, str | None] | None) -> None:
    assert split_name(name) == expected


def test_default_tag_follows_the_stated_rule() -> None:
    assert default_tag("ViT-B-32") == "laion2b_s34b_b79k"
    assert default_tag("ViT-B-32-256") == "datacomp_s34b_b86k"
    assert default_tag("RN50") == "openai"
    assert default_tag("convnext_base") == "laion400m_s13b_b51k"
    assert default_tag("convnext_base_w") == "laion2b_s13b_b82k"  # first of two equals
    assert default_tag("ViT-S-16") is None


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("ViT-B-23", {}, ["unknown model 'ViT-B-23'", "Did you mean 'ViT-B-"]),
        ("ViTB32/openai", {}, ["unknown model", "/openai'?"]),
        ("refrence", {}, ["Did you mean 'reference'?"]),
        ("ViT-B-32/opena1", {}, ["no tag 'opena1'", "Did you mean 'openai'?"]),
        ("ViT-B-32", {"pretrained": "opena1"}, ["no tag 'opena1'", "Did you mean 'openai'?"]),
        ("ViT-B-32/openai", {"pretrained": "laion400m_e31"}, ["drop one"]),
        ("ViT-B-32", {"pretrained": "/no/such.pt"}, ["/no/such.pt does not exist"]),
        ("ViT-S-16", {}, ["no weights for architecture 'ViT-S-16'", "--clip-pretrained"]),
        (
            "ViT-B-32-quickgelu/laion2b_s34b_b79k",
            {},
            ["trained as 'ViT-B-32'", "--clip-model ViT-B-32/laion2b_s34b_b79k"],
        ),
        ("local-dir:", {}, ["names nothing after local-dir:"]),
        ("local-dir:/no/such", {}, ["no folder /no/such"]),
        ("transformers:/no/such", {}, ["no folder /no/such"]),
        ("", {}, ["--clip-model NAME"]),
        (
            "ViT-B-32",
            {"activation": "relu"},
            ["--clip-activation is gelu or quickgelu, not 'relu'"],
        ),
    ],
)
def test_mistakes_in_names_are_told_in_one_line(
    name: str, options: dict[str, str], words: list[str]
) -> None:
    message = error(name, **options)
    for word in words:
        assert word in message


def test_folder_and_file_mistakes(tmp_path: Path) -> None:
    assert "holds none of open_clip_config.json, adapter_config.json" in error(str(tmp_path))
    file = tmp_path / "weights.pt"
    file.write_bytes(b"x")
    assert "weights.pt is truncated or damaged" in error(str(file))
    assert "weights.pt is truncated or damaged" in error(str(tmp_path))
    (tmp_path / "open_clip_config.json").write_text("{")
    assert f"{tmp_path / 'open_clip_config.json'} cannot be read" in error(str(tmp_path))
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 3}}')
    assert "describes no model" in error(str(tmp_path))
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": VIT}))
    file.unlink()
    assert "holds no weights" in error(str(tmp_path))
    (tmp_path / "a.pt").write_bytes(b"x")
    (tmp_path / "b.pt").write_bytes(b"x")
    assert "several checkpoints (a.pt, b.pt)" in error(str(tmp_path))


def test_a_configuration_that_cannot_be_built(vit: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(vit, tmp_path / "bad")
    config = {**VIT, "vision_cfg": {**VIT["vision_cfg"], "patchsize": 8}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    message = error(str(folder))
    assert "cannot be built" in message
    assert "patchsize" in message


# --- features ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "kind"),
    [(VIT, "CLIP"), (RESNET, "CLIP"), (CONVNEXT, "CLIP"), (TIMM_VIT, "CustomTextCLIP")],
    ids=["vit", "resnet", "convnext", "timm-vit"],
)
def test_features_are_those_of_open_clip(config: dict[str, Any], kind: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", config, interpolation="bilinear", mean=[0.5] * 3)
    target = load_target(str(folder), device="cpu")
    assert isinstance(target, Target)
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    model.eval()
    assert type(model).__name__ == kind
    tokenizer = open_clip.SimpleTokenizer(bpe_path=str(folder / "merges.txt.gz"), context_length=12)
    pixels = target.preprocess(pictures(target))
    with torch.no_grad():
        image = model.encode_image(pixels, normalize=True)
        text = model.encode_text(tokenizer(TEXTS), normalize=True)
    # timm's tower differs in the last bit under torch 2.10.
    assert torch.allclose(target.encode_image(pixels), image, rtol=0, atol=3e-7)
    assert torch.equal(target.encode_text(TEXTS), text)
    assert target.embed_dim == image.shape[1]
    assert target.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))
    bias = config.get("init_logit_bias")
    assert target.logit_bias == bias
    assert target.probability == ("softmax" if bias is None else "sigmoid")
    normalize = preprocess.transforms[-1]
    assert target.preprocessing.mean == tuple(normalize.mean)  # type: ignore[attr-defined]
    assert target.preprocessing.interpolation == "bilinear"  # type: ignore[attr-defined]


def last_block(module: nn.Module, run: Any) -> Tensor:
    """What ``module`` puts out while ``run()`` runs."""
    kept: list[Any] = []
    hook = module.register_forward_hook(lambda _m, _i, output: kept.append(output))
    run()
    hook.remove()
    result: Tensor = kept[0][0] if isinstance(kept[0], tuple) else kept[0]
    return result


@pytest.mark.parametrize(
    ("config", "where", "prefix", "grid"),
    [
        (VIT, "transformer.resblocks.1", 1, 4),
        (RESNET, "layer4", None, 2),
        (CONVNEXT, "trunk.stages.3", None, 5),
        (TIMM_VIT, "trunk.blocks.5", None, 14),
    ],
    ids=["vit", "resnet", "convnext", "timm-vit"],
)
def test_dense_features_are_those_of_the_last_block(
    config: dict[str, Any], where: str, prefix: int | None, grid: int, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "m", config)
    target: Any = load_target(str(folder), device="cpu")
    pixels = target.preprocess(pictures(target, 2))
    dense = target.dense_features(pixels)
    assert dense.shape[0] == 2
    assert dense.shape[2:] == (grid, grid)
    module = target.model.visual.get_submodule(where)
    block = last_block(module, lambda: target.encode_image(pixels))
    if block.ndim == 3:
        tokens = block[:, -grid * grid :]
        assert prefix is None or block.shape[1] == grid * grid + prefix
        block = tokens.transpose(1, 2).reshape(dense.shape)
    # not bitwise: timm's ConvNeXt runs in channels_last for one of the two
    assert torch.allclose(dense, block, atol=1e-6)
    # By number, from either end; and what there is none of.
    assert torch.equal(target.dense_features(pixels, layer=-1), dense)
    assert target.dense_features(pixels, layer=0).shape != dense.shape or not torch.allclose(
        target.dense_features(pixels, layer=0), dense
    )
    with pytest.raises(NotRun, match="no patch features of layer 99"):
        target.dense_features(pixels, layer=99)


@pytest.mark.parametrize(
    ("config", "last"),
    [(VIT, "transformer.resblocks.1"), (TIMM_VIT, "trunk.blocks.5")],
    ids=["vit", "timm-vit"],
)
def test_value_features_by_the_weights(config: dict[str, Any], last: str, tmp_path: Path) -> None:
    target: Any = load_target(str(write_folder(tmp_path / "m", config)), device="cpu")
    pixels = target.preprocess(pictures(target, 2))
    block = target.model.visual.get_submodule(last)
    native = hasattr(block, "ln_1")
    tokens = last_block(block.ln_1 if native else block.norm1, lambda: target.encode_image(pixels))
    values = target.dense_features(pixels, layer="values")
    attention, width = block.attn, tokens.shape[-1]
    weight, bias = (
        (attention.in_proj_weight, attention.in_proj_bias)
        if native
        else (attention.qkv.weight, attention.qkv.bias)
    )
    with torch.no_grad():
        own = torch.nn.functional.linear(tokens, weight[2 * width :], bias[2 * width :])
        wanted = (attention.out_proj if native else attention.proj)(own)
    count = values.shape[2] * values.shape[3]
    torch.testing.assert_close(
        values.flatten(2).transpose(1, 2), wanted[:, -count:], rtol=0, atol=1e-5
    )


def test_a_convolutional_tower_has_no_values(tmp_path: Path) -> None:
    target: Any = load_target(str(write_folder(tmp_path / "m", CONVNEXT)), device="cpu")
    with pytest.raises(NotRun, match="no self-attention"):
        target.dense_features(target.preprocess(pictures(target)), layer="values")


def test_a_tower_without_patch_features_says_so(vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target: Any = load_target(str(vit), device="cpu")

    def refuse(*_: Any, **__: Any) -> None:
        raise AttributeError("forward_intermediates")

    monkeypatch.setattr(target.model.visual, "forward_intermediates", refuse)
    with pytest.raises(NotRun, match="offers no patch features"):
        target.dense_features(target.preprocess(pictures(target)))


def test_gradients_flow_to_the_image_and_nowhere_else(vit: Path) -> None:
    with torch.inference_mode():  # as a fixture of the user's may have it
        target: Any = load_target(str(vit), device="cpu")
    images = pictures(target, 2).double().requires_grad_()
    direction = torch.nn.functional.normalize(torch.ones(2, target.embed_dim), dim=1)

    def loss(x: Tensor) -> Tensor:
        features: Tensor = target.encode_image(target.preprocess(x))
        return (features * direction).sum()

    loss(images).backward()
    assert images.grad is not None
    step = images.grad / images.grad.norm()
    with torch.no_grad():
        slope = (loss(images + 0.02 * step) - loss(images - 0.02 * step)) / 0.04
    assert float(slope) == pytest.approx(float(images.grad.norm()), rel=0.05)
    assert all(p.grad is None and not p.requires_grad for p in target.model.parameters())
    # Without gradients asked for there are none, and results may meet autograd later all the same.
    plain = images.detach()
    for result in (
        target.preprocess(plain),
        target.encode_image(target.preprocess(plain)),
        target.encode_text(TEXTS),
        target.dense_features(target.preprocess(plain)),
    ):
        assert not result.requires_grad
        assert not result.is_inference()
    with torch.no_grad():
        assert not target.encode_image(target.preprocess(images)).requires_grad


def test_shape_mistakes_are_explained(vit: Path) -> None:
    target = load_target(str(vit), device="cpu")
    with pytest.raises(ClipRobustError, match=r"takes pixels \(B, 3, 32, 32\).*preprocess"):
        target.encode_image(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ClipRobustError, match=r"\(B, 3, H, W\) floats"):
        target.preprocess(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    for texts in ("a cat", [], [3]):
        with pytest.raises(ClipRobustError, match="list of strings"):
            target.encode_text(texts)  # type: ignore[arg-type]


def test_bf16_is_close_to_fp32_and_fp16_on_the_cpu_is_refused(vit: Path) -> None:
    exact, rough = (load_target(str(vit), device="cpu", precision=p) for p in ("auto", "bf16"))
    assert exact.precision == "fp32"  # type: ignore[attr-defined]
    assert exact.info.digest == rough.info.digest
    pixels = exact.preprocess(pictures(exact))
    a, b = exact.encode_image(pixels), rough.encode_image(pixels)
    assert b.dtype == torch.float32
    assert not torch.equal(a, b)
    assert float((a * b).sum(1).min()) > 0.999
    assert torch.allclose(b.norm(dim=1), torch.ones(len(b)), atol=1e-5)
    assert "fp16 needs an accelerator" in error(str(vit), precision="fp16")
    assert "unknown precision 'fp8'" in error(str(vit), precision="fp8")


def test_rows_do_not_depend_on_their_place_in_a_fixed_chunk(vit: Path) -> None:
    target = load_target(str(vit), device="cpu")
    pixels = target.preprocess(pictures(target, 16))
    together = target.encode_image(pixels)
    assert torch.equal(target.encode_image(pixels.flip(0)).flip(0), together)
    padded = torch.cat([pixels[:5], torch.zeros_like(pixels[5:])])
    assert torch.equal(target.encode_image(padded)[:5], together[:5])


# --- identity ---------------------------------------------------------------------------------------


def test_digest_changes_with_everything_that_changes_features(vit: Path, tmp_path: Path) -> None:
    def digest(change: Any = None, **options: Any) -> str:
        folder = shutil.copytree(vit, tmp_path / f"{len(list(tmp_path.iterdir()))}")
        if change:
            change(folder)
        return load_target(str(folder), device="cpu", **options).info.digest

    def as_torch_file(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, folder / "w.pt")

    def one_bit(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        state["ln_final.bias"].view(torch.int32)[3] ^= 1
        save_file(state, folder / "model.safetensors")

    def configured(**changes: Any) -> Any:
        def change(folder: Path) -> None:
            path = folder / "open_clip_config.json"
            content = json.loads(path.read_text())
            for key, value in changes.items():
                content[key].update(value)
            path.write_text(json.dumps(content))

        return change

    base = digest()
    assert digest(as_torch_file) == base
    assert digest(configured(model_cfg={"quick_gelu": False})) == base
    others = [
        digest(one_bit),
        digest(activation="quickgelu"),
        digest(configured(preprocess_cfg={"mean": [0.5, 0.5, 0.5]})),
        digest(configured(preprocess_cfg={"resize_mode": "squash"})),
        digest(lambda folder: write_merges(folder, MERGES - 1)),
    ]
    assert len({base, *others}) == 1 + len(others)


def test_model_card_tags_reach_the_study(vit: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(vit, tmp_path / "m")
    card = {"tags": {"training_data": "sprites", "loss": "x"}, "samples_seen": 7, "other": [1]}
    (folder / "model_card.json").write_text(json.dumps(card))
    tags = load_target(str(folder), device="cpu").info.tags
    assert tags["training_data"] == "sprites"
    assert tags["samples_seen"] == "7"
    assert tags["architecture"] == "ViT"
    assert tags["image_size"] == "32"


# --- checkpoints ------------------------------------------------------------------------------------


def broken(kind: str, weights: Path, folder: Path) -> Path:
    """A checkpoint with one fault, made of the good one."""
    state = torch.load(weights, weights_only=True)
    path = folder / f"{kind.replace(' ', '-')}.pt"
    if kind.startswith("truncated safetensors"):
        path = path.with_suffix(".safetensors")
        save_file(state, path)
        size = path.stat().st_size
        path.write_bytes(path.read_bytes()[: size // 2 if kind.endswith("body") else 20])
    elif kind == "truncated zip":
        path.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    elif kind == "truncated pickle":
        torch.save(state, path, _use_new_zipfile_serialization=False)
        path.write_bytes(path.read_bytes()[:-5000])
    elif kind == "no checkpoint at all":
        path.write_text("<html>not found</html>")
    elif kind == "empty":
        path.touch()
    elif kind == "git lfs":
        path.write_text("version https://git-lfs.example/spec/v1\noid sha256:00\nsize 1\n")
    elif kind == "pickled objects":
        torch.save({"model": nn.Linear(2, 2)}, path)
    elif kind == "no state dict":
        torch.save({"epoch": 3, "loss": [1.0]}, path)
    elif kind.startswith("quantised"):
        state = {k: (v * 64).round().to(torch.int8) if v.ndim > 1 else v for k, v in state.items()}
        if kind.endswith("safetensors"):
            path = path.with_suffix(".safetensors")
            save_file(state, path)
        else:
            torch.save(state, path)
    elif kind.startswith("scale"):
        value = float("nan") if kind.endswith("nan") else 1e4
        torch.save({**state, "logit_scale": torch.tensor(value)}, path)
    elif kind == "bits":
        torch.save({**state, "visual.proj": state["visual.proj"] > 0}, path)
    elif kind == "missing":
        del state["visual.proj"]
        torch.save(state, path)
    elif kind == "unexpected":
        torch.save({**state, "head.weight": torch.zeros(2)}, path)
    elif kind == "shape":
        torch.save({**state, "visual.proj": torch.zeros(32, 99)}, path)
    elif kind == "patch size":
        torch.save({**state, "visual.conv1.weight": torch.zeros(32, 3, 16, 16)}, path)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("truncated safetensors body", "truncated or damaged"),
        ("truncated safetensors header", "truncated or damaged"),
        ("truncated zip", "truncated or damaged"),
        ("truncated pickle", "truncated or damaged"),
        ("no checkpoint at all", "a page of HTML"),
        ("empty", "is empty"),
        ("git lfs", "Git LFS pointer"),
        ("pickled objects", "objects other than tensors are not loaded"),
        ("no state dict", "holds no state dict"),
        ("quantised", "holds quantised weights: 'positional_embedding' is stored as int8"),
        ("quantised safetensors", "is stored as int8, and the model computes with fractions"),
        ("scale", "has a logit scale of inf, with which no probability can be computed"),
        ("scale of nan", "has a logit scale of nan"),
        ("bits", "'visual.proj' is stored as bool"),
        ("missing", "tensors 1 missing (first 'visual.proj')"),
        ("unexpected", "tensors 1 unexpected (first 'head.weight')"),
        ("shape", "1 of another shape (first 'visual.proj': [32, 99] in the file, [32, 24]"),
        ("patch size", "(first 'visual.conv1.weight': [32, 3, 16, 16] in the file"),
    ],
)
def test_a_bad_checkpoint_is_named_with_its_fault(
    kind: str, words: str, architectures: Path, tmp_path: Path
) -> None:
    path = broken(kind, architectures / "weights.pt", tmp_path)
    message = error("Tiny-ViT-alone", pretrained=str(path))
    assert ("Tiny-ViT-alone" if kind.startswith("scale") else str(path)) in message
    assert words in message


def test_a_checkpoint_of_another_architecture_is_refused(architectures: Path) -> None:
    message = error("Tiny-ResNet", pretrained=str(architectures / "weights.pt"))
    assert "does not fit architecture 'Tiny-ResNet'" in message
    assert "name the architecture" in message


@pytest.mark.parametrize("key", ["state_dict_ema", "ema_state_dict", "model_ema", "ema"])
def test_a_moving_average_is_never_taken_for_the_weights_in_silence(
    key: str, architectures: Path, tmp_path: Path
) -> None:
    state = torch.load(architectures / "weights.pt", weights_only=True)
    average = {f"module.{k}": v / 2 for k, v in state.items()}
    torch.save({"state_dict": state, key: average, "epoch": 3}, tmp_path / "both.pt")
    torch.save({key: average, "epoch": 3}, tmp_path / "alone.pt")
    both = read_checkpoint(tmp_path / "both.pt")
    assert torch.equal(both.state["visual.proj"], state["visual.proj"])
    assert "holds a moving average as well" in both.notes[0]
    alone = read_checkpoint(tmp_path / "alone.pt")
    assert torch.equal(alone.state["visual.proj"], state["visual.proj"] / 2)
    assert "their moving average" in alone.notes[0]
    target = load_target("Tiny-ViT-alone", pretrained=str(tmp_path / "both.pt"), device="cpu")
    assert both.notes[0] in target.info.notes
    torch.save({"state_dict": state, key: 0.999}, tmp_path / "rate.pt")
    assert not read_checkpoint(tmp_path / "rate.pt").notes


@pytest.mark.slow
def test_checkpoint_formats_agree(architectures: Path, tmp_path: Path) -> None:
    state = torch.load(architectures / "weights.pt", weights_only=True)
    save_file(state, tmp_path / "w.safetensors")
    torch.save(
        {"epoch": 1, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "w.pt"
    )
    torch.save({f"_orig_mod.{k}": v for k, v in state.items()}, tmp_path / "w.bin")
    digests = {
        load_target("Tiny-ViT-alone", pretrained=str(path), device="cpu").info.digest
        for path in (architectures / "weights.pt", *sorted(tmp_path.iterdir()))
    }
    assert len(digests) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_openais_own_archives_mean_quickgelu(architectures: Path, tmp_path: Path) -> None:
    class Archive(nn.Module):
        def __init__(self, state: dict[str, Tensor]) -> None:
            super().__init__()
            for setting in ("input_resolution", "context_length", "vocab_size"):
                self.register_buffer(setting, torch.tensor(1))
            for name, value in state.items():
                *parents, leaf = name.split(".")
                module: nn.Module = self
                for parent in parents:
                    if parent not in dict(module.named_children()):
                        module.add_module(parent, nn.Module())
                    module = module.get_submodule(parent)
                module.register_buffer(leaf, value)

        def forward(self, x: Tensor) -> Tensor:
            return x

    state = torch.load(architectures / "weights.pt", weights_only=True)
    path = tmp_path / "openai.pt"
    torch.jit.script(Archive(state)).save(str(path))
    target = load_target("Tiny-ViT", pretrained=str(path), device="cpu")
    assert target.info.architecture == "Tiny-ViT-quickgelu"
    assert any("OpenAI's archives" in note for note in target.info.notes)
    path.write_bytes(path.read_bytes()[:-3000])
    assert "truncated or damaged" in error("Tiny-ViT", pretrained=str(path))


def test_interpolated_positions_are_reported(architectures: Path, tmp_path: Path) -> None:
    state = torch.load(architectures / "weights.pt", weights_only=True)
    state["visual.positional_embedding"] = torch.randn(1 + 36, 32)
    torch.save(state, tmp_path / "w.pt")
    target = load_target("Tiny-ViT-alone", pretrained=str(tmp_path / "w.pt"), device="cpu")
    assert any("interpolated from 37 to 17" in note for note in target.info.notes)


def test_a_local_checkpoint_replaces_a_folders_weights(vit: Path, tmp_path: Path) -> None:
    other = write_folder(tmp_path / "other", seed=1)
    path = other / "model.safetensors"
    replaced = load_target(str(vit), pretrained=str(path), device="cpu")
    assert replaced.info.digest == load_target(str(other), device="cpu").info.digest
    assert replaced.info.pretrained == str(path)


@pytest.mark.slow
def test_a_checkpoint_tells_its_architecture(architectures: Path, tmp_path: Path) -> None:
    path = tmp_path / "run" / "weights.pt"
    path.parent.mkdir()
    torch.manual_seed(1)
    model, _ = build_model(json.loads((architectures / "Tiny-ResNet.json").read_text()), "test")
    torch.save({"state_dict": model.state_dict()}, path)
    named = load_target("Tiny-ResNet", pretrained=str(path), device="cpu")
    for source in (str(path), str(path.parent), f"Tiny-ResNet@{path}"):
        found = load_target(source, device="cpu")
        assert found.info.architecture == "Tiny-ResNet", source
        assert found.info.digest == named.info.digest
    # Two that are alike, one that nobody knows, and a second checkpoint.
    alike = str(architectures / "weights.pt")
    told = error(alike)
    assert "(its tensors fit Tiny-ViT and Tiny-ViT-alone)" in told
    assert f"write --clip-model weights.pt=ARCHITECTURE@{alike}" in told
    torch.save({"weight": torch.zeros(3)}, path)
    assert "(its tensors fit none of open_clip's)" in error(str(path))
    for source in (str(path), f"Tiny-ResNet@{path}"):
        assert "drop one" in error(source, pretrained="other.pt")
    (path.parent / "more.pt").write_bytes(b"")
    assert "name one of them: --clip-model=" in error(str(path.parent))


def test_an_unknown_model_says_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = error("v1")
    assert f"No folder or checkpoint is called so in {tmp_path}" in told
    assert "write --clip-model v1=PATH" in told
    assert (
        f"--clip-model ./v1: there is no such folder or checkpoint; check the path (the working "
        f"folder is {tmp_path})" == error("./v1")
    )


def test_a_tag_of_a_mistyped_architecture_is_kept_in_the_hint() -> None:
    assert "Did you mean 'ViT-B-32/openai'?" in error("ViT-B-32x/openai")
    # A path is none of that, and neither is a name without a tag.
    assert "Did you mean" not in error("./ViT-B-32x/openai")
    assert "Did you mean 'reference'?" in error("referenc")


def test_the_preprocessing_of_a_bare_state_dict(architectures: Path) -> None:
    from pytest_cliprobust.targets.open_clip_target import _preprocessing_of

    found, note = _preprocessing_of("ViT-B-16-SigLIP", ["webli"])
    assert found["resize_mode"] == "squash"
    assert found["mean"] == (0.5, 0.5, 0.5)
    assert "ViT-B-16-SigLIP" in note
    target = load_target(
        "Tiny-ViT-alone", pretrained=str(architectures / "weights.pt"), device="cpu"
    )
    assert any("open_clip's default" in note for note in target.info.notes)


# --- activation -------------------------------------------------------------------------------------


def test_every_tag_gets_the_activation_it_was_trained_with() -> None:
    corrected = []
    for architecture, tag in list_pretrained():
        choice = for_tag(architecture, tag, None)
        flag = get_pretrained_cfg(architecture, tag).get("quick_gelu")
        if flag is not None:
            assert choice.quick_gelu == flag
        if choice.architecture != architecture:
            corrected.append((architecture, tag))
            assert tag in choice.note
            assert choice.architecture in (architecture + "-quickgelu", architecture[:-10])
    assert {("ViT-B-32", "openai"), ("ViT-B-32", "laion400m_e32"), ("RN50", "openai")} <= set(
        corrected
    )
    if open_clip.__version__.startswith("3.3."):
        assert len(corrected) == 27  # and roberta-ViT-B-32, whose tag is silent
    roberta = for_tag("roberta-ViT-B-32", "laion2b_s12b_b32k", None)
    assert roberta.quick_gelu
    assert for_tag("ViT-B-32", "laion2b_s34b_b79k", None) == activation.Choice(False, "ViT-B-32")
    forced = for_tag("ViT-B-32", "openai", "gelu")
    assert not forced.quick_gelu
    assert "although tag 'openai' was trained with QuickGELU" in forced.note


@pytest.mark.slow
def test_a_bare_state_dict_of_unknown_activation_is_refused(architectures: Path) -> None:
    weights = str(architectures / "weights.pt")
    message = error("Tiny-ViT", pretrained=weights)
    assert weights in message
    assert "--clip-activation gelu or --clip-activation quickgelu" in message
    gelu = load_target("Tiny-ViT", pretrained=weights, activation="gelu", device="cpu")
    quick = load_target("Tiny-ViT", pretrained=weights, activation="QuickGELU", device="cpu")
    named = load_target("Tiny-ViT-quickgelu", pretrained=weights, device="cpu")
    assert (gelu.info.architecture, quick.info.architecture) == ("Tiny-ViT", "Tiny-ViT-quickgelu")
    assert any("from --clip-activation" in note for note in quick.info.notes)
    assert any("from the architecture's name" in note for note in named.info.notes)
    assert quick.info.digest == named.info.digest != gelu.info.digest
    pixels = gelu.preprocess(pictures(gelu))
    assert torch.equal(quick.encode_image(pixels), named.encode_image(pixels))
    assert not torch.equal(quick.encode_image(pixels), gelu.encode_image(pixels))
    assert "drop one of the two" in error(
        "Tiny-ViT-quickgelu", pretrained=weights, activation="gelu"
    )


@pytest.mark.parametrize(
    ("vision", "text", "free"),
    [
        ({"layers": 12}, {}, True),
        # A ResNet's layers are a list, and timm's towers have activations of their own.
        ({"layers": [3, 4, 6, 3]}, {"act_kwargs": {}}, True),
        ({"layers": [3, 4, 6, 3]}, {"hf_model_name": "roberta"}, False),
        ({"layers": [3, 4, 6, 3]}, {"act_kwargs": {"approximate": "tanh"}}, False),
        ({"timm_model_name": "convnext"}, {"hf_model_name": "roberta"}, False),
        ({"timm_model_name": "convnext"}, {}, True),
        ({"layers": 12}, {"hf_model_name": "roberta"}, True),
    ],
    ids=str,
)
def test_the_activation_is_free_where_a_tower_is_open_clips_own(
    vision: dict[str, Any], text: dict[str, Any], free: bool
) -> None:
    told = contextlib.nullcontext()
    refused = pytest.raises(ClipRobustError, match="no meaning for 'mine', whose towers fix")
    with told if free else refused:
        activation.check_applicable("mine", {"vision_cfg": vision, "text_cfg": text})


@pytest.mark.parametrize(
    ("architecture", "ambiguous"),
    [
        ("ViT-B-32", True),
        ("RN50", True),  # OpenAI's use QuickGELU, what open_clip trains as RN50 does not
        ("ViT-L-14-worldwide", True),
        ("ViT-S-16", False),
        ("convnext_base", False),
        ("ViT-B-16-SigLIP", False),
        ("ViT-B-32-256", False),
    ],
)
def test_which_architectures_leave_the_activation_open(architecture: str, ambiguous: bool) -> None:
    assert activation.is_ambiguous(architecture) == ambiguous
    if ambiguous:
        with pytest.raises(ClipRobustError, match="--clip-activation"):
            for_checkpoint(architecture, None, source="x", openai_archive=False)
    else:
        choice = for_checkpoint(architecture, None, source="x", openai_archive=False)
        assert not choice.quick_gelu


def test_activation_of_folders_and_where_it_means_nothing(vit: Path, tmp_path: Path) -> None:
    quick = write_folder(tmp_path / "quick", {**VIT, "quick_gelu": True})
    assert "activation QuickGELU, from open_clip_config.json" in (
        load_target(str(quick), device="cpu").info.notes
    )
    forced = load_target(str(vit), activation="quickgelu", device="cpu")
    assert forced.info.digest == load_target(str(quick), device="cpu").info.digest
    assert any("although open_clip_config.json says GELU" in note for note in forced.info.notes)
    with pytest.raises(ClipRobustError, match="has no meaning for 'ViT-B-16-SigLIP2'"):
        for_checkpoint("ViT-B-16-SigLIP2", "quickgelu", source="x", openai_archive=False)


# --- hub --------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def put_into(cache: Path, repository: str, files: dict[str, Path]) -> None:
    base = cache / f"models--{repository.replace('/', '--')}"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text("0" * 40)
    for name, source in files.items():
        target = base / "snapshots" / ("0" * 40) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


NAMES_ON_THE_HUB = ("ViT-B-32/openai", "hf-hub:some/model", "transformers:some/model")


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("name", NAMES_ON_THE_HUB)
def test_offline_is_told_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    began = time.monotonic()
    message = error(name)
    assert time.monotonic() - began < 5
    assert name in message
    assert "HF_HUB_OFFLINE is set" in message
    assert "use --clip-model reference" in message
    assert ("--clip-pretrained PATH" in message) == (name == "ViT-B-32/openai")


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_a_hub_out_of_reach_is_told_quickly(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(hub, "REQUEST_TIMEOUT", 0.5)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with silent_server() as address:
        if kind == "refused":
            address = "http://127.0.0.1:9"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        for name in NAMES_ON_THE_HUB:
            began = time.monotonic()
            assert "the model hub cannot be reached (" in error(name)
            assert time.monotonic() - began < 5


@pytest.mark.slow
def test_cached_weights_need_no_hub(
    architectures: Path, cache: Path, vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants
    from open_clip import pretrained

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    tag = {**get_pretrained_cfg("ViT-B-32", "openai"), "hf_hub": "some/weights/"}
    monkeypatch.setitem(pretrained._PRETRAINED, "Tiny-ViT", {"openai": tag})
    put_into(cache, "some/weights", {"open_clip_pytorch_model.bin": architectures / "weights.pt"})
    target = load_target("Tiny-ViT", device="cpu")
    assert (target.info.architecture, target.info.pretrained) == ("Tiny-ViT-quickgelu", "openai")
    assert "no tag given: took 'openai' of open_clip's 1 for Tiny-ViT" in target.info.notes
    assert any("as tag 'openai' was trained with" in note for note in target.info.notes)
    assert target.info.tags["training_data"] == "WIT-400M"

    config = {**VIT, "text_cfg": {**VIT["text_cfg"], "vocab_size": 49408}}
    folder = write_folder(cache / "source", config)
    put_into(cache, "some/model", {p.name: p for p in folder.iterdir() if p.suffix != ".gz"})
    target = load_target("hf-hub:some/model", device="cpu")
    assert target.info.architecture == "some/model"
    assert "holds no" not in target.info.digest


# --- devices ----------------------------------------------------------------------------------------


def test_workers_take_the_visible_devices_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "accelerator", lambda: ("cuda", 2))
    places = []
    for worker in ("gw0", "gw1", "gw2", "gw3", ""):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        places.append(str(runtime.resolve_device("auto")))
        assert str(runtime.resolve_device("cuda:1")) == "cuda:1"
        assert str(runtime.resolve_device("cpu")) == "cpu"
    assert places == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]
    assert str(runtime.resolve_device("cuda")) == "cuda:0"
    with pytest.raises(
        ClipRobustError, match="'cuda:2' does not exist: 2 cuda devices are visible"
    ):
        runtime.resolve_device("cuda:2")
    with pytest.raises(ClipRobustError, match="this machine offers cuda"):
        runtime.resolve_device("mps")
    assert runtime.resolve_precision("auto", torch.device("cuda:0")) == "fp16"
    assert runtime.resolve_precision("auto", torch.device("hpu")) == "fp32"


def test_without_an_accelerator_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "accelerator", lambda: None)
    assert runtime.resolve_device("auto") == torch.device("cpu")
    assert runtime.resolve_precision("auto", torch.device("cpu")) == "fp32"
    with pytest.raises(ClipRobustError, match="torch finds no accelerator here"):
        runtime.resolve_device("cuda")
    with pytest.raises(ClipRobustError, match="'gpu' is not a device"):
        runtime.resolve_device("gpu")


# --- the user's own encoder -------------------------------------------------------------------------


class Colours:
    """An encoder of the mean colour; texts by their length."""

    image_size = 16
    scale = 1.0

    def encode_image(self, pixels: Tensor) -> Tensor:
        return pixels.mean((2, 3)) * self.scale + 1

    def encode_text(self, texts: list[str]) -> Tensor:
        return torch.tensor([[len(t), 1.0, 2.0] for t in texts])


def test_an_object_with_two_methods_becomes_a_target() -> None:
    register_target("colours")(Colours)
    target = load_target("colours", device="cpu")
    assert isinstance(target, DenseTarget)
    assert isinstance(target, Target)
    assert target.image_size == (16, 16)
    assert target.embed_dim == 3
    assert (target.logit_scale, target.logit_bias, target.probability) == (100.0, None, "softmax")
    pixels = target.preprocess(torch.rand(4, 3, 40, 50))
    features = target.encode_image(pixels)
    assert torch.allclose(features.norm(dim=1), torch.ones(4))
    with pytest.raises(NotRun, match="offers no patch features"):
        target.dense_features(pixels)
    # The digest sees a change of the code, which no weight shows, and nothing else.
    again = load_target("colours", device="cpu")
    assert again.info.digest == target.info.digest

    class Louder(Colours):
        scale = 3.0

    Louder.__qualname__ = Colours.__qualname__
    register_target("louder")(Louder)
    assert load_target("louder", device="cpu").info.digest != target.info.digest


def test_factories_get_the_options_that_they_name() -> None:
    seen: dict[str, Any] = {}

    def factory(device: torch.device, *, pretrained: str | None = None) -> Colours:
        seen.update(device=device, pretrained=pretrained)
        return Colours()

    register_target("factory")(factory)
    load_target("factory", pretrained="x", device="cpu")
    assert seen == {"device": torch.device("cpu"), "pretrained": "x"}
    register_target("plain")(lambda: Colours())
    assert "takes no --clip-pretrained" in error("plain", pretrained="x")


def test_an_encoder_says_where_it_is() -> None:
    def device_of(place: Any) -> torch.device:
        encoder: Any = Colours()
        encoder.device = place
        return callable_target._adapted("mine", encoder, torch.device("cpu"), "fp32").device

    for place in ("cpu:0", torch.device("cpu:0")):
        assert device_of(place) == torch.device("cpu:0") != torch.device("cpu")
    # Neither a name nor a device: where it was asked for.
    assert device_of(3) == torch.device("cpu")


def test_settings_are_told_in_one_order() -> None:
    assert digest.canonical({"b": [1, (2,)], "a": {"d": None, "c": Path("x")}}) == (
        '{"a":{"c":"x","d":null},"b":[1,[2]]}'
    )


def test_a_finished_target_is_taken_as_it_is(vit: Path) -> None:
    target = load_target(str(vit), device="cpu")
    register_target("finished")(lambda: target)
    assert load_target("finished", device="cpu") is target


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"encode_text": None}, "without encode_text"),
        ({"encode_image": lambda s, x: x.mean((1, 2, 3))}, "must return a float tensor (2, D)"),
        ({"encode_image": lambda s, x: [1, 2]}, "got list"),
        ({"encode_image": lambda s, x: x.mean((2, 3)) * float("nan")}, "NaN"),
        ({"encode_image": lambda s, x: 1 // 0}, "encode_image fails on pixels (2, 3, 16, 16)"),
        ({"encode_text": lambda s, t: torch.ones(2, 5)}, "3 dimensions and encode_text 5"),
        ({"logit_scale": -1.0}, "logit_scale must be positive"),
        ({"logit_scale": nn.Parameter(torch.tensor(4.6))}, "logit_scale is a trainable parameter"),
        ({"image_size": "big"}, "unusable attribute"),
        ({"probability": "tanh"}, "'softmax' or 'sigmoid'"),
        ({"interpolation": "lanczos"}, "interpolation 'lanczos'"),
    ],
)
def test_what_is_wrong_with_an_encoder_is_said(attributes: dict[str, Any], words: str) -> None:
    encoder = type("Wrong", (Colours,), attributes)
    if attributes.get("encode_text", ...) is None:
        encoder = type("Wrong", (), {"encode_image": Colours.encode_image})
    register_target("wrong")(encoder)
    assert words in error("wrong")


def test_module_attribute_and_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_encoders.py").write_text(
        "import torch\n"
        "class Encoder(torch.nn.Module):\n"
        "    image_size = (8, 12)\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.weight = torch.nn.Parameter(torch.ones(3, 3))\n"
        "    def encode_image(self, pixels):\n"
        "        return pixels.mean((2, 3)) @ self.weight + torch.arange(3.0)\n"
        "    def encode_text(self, texts):\n"
        "        return torch.ones(len(texts), 3)\n"
        "encoder = Encoder()\n"
        "number = 3\n"
        "def fails():\n"
        "    raise ValueError('no weights here')\n"
    )
    info = tmp_path / "my_encoders-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-encoders\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[pytest_cliprobust.targets]\nmine = my_encoders:Encoder\nbad = my_encoders:missing\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_encoders", raising=False)
    by_class = load_target("my_encoders:Encoder", device="cpu")
    by_object = load_target("my_encoders:encoder", device="cpu")
    by_entry = load_target("mine", device="cpu")
    assert by_class.image_size == (8, 12)
    assert "takes 8x12 pixels: photographs are framed so" in by_class.info.notes[-1]
    assert by_class.info.digest == by_object.info.digest == by_entry.info.digest
    assert "cannot be imported (AttributeError" in error("bad")
    assert "cannot be imported (ModuleNotFoundError" in error("no_such_module:thing")
    assert "is a int" in error("my_encoders:number")
    assert "could not be made (ValueError: no weights here, at " in error("my_encoders:fails")
    assert "drop --clip-pretrained" in error("my_encoders:encoder", pretrained="x")


# --- transformers -----------------------------------------------------------------------------------


TOWERS: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
TEXT_TOWER = {**TOWERS, "vocab_size": 40, "max_position_embeddings": 10, "eos_token_id": 2}


def write_transformers(folder: Path, kind: str, **preprocessor: Any) -> Path:
    import transformers

    torch.manual_seed(0)
    vision = {**TOWERS, "image_size": 32, "patch_size": 8}
    if kind == "siglip2":
        vision = {**TOWERS, "patch_size": 8, "num_patches": 16}
        preprocessor = {"max_num_patches": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    name = {"clip": "CLIP", "siglip": "Siglip", "siglip2": "Siglip2"}[kind]
    text = {**TEXT_TOWER, **({} if kind == "clip" else {"projection_size": 32})}
    config = getattr(transformers, f"{name}Config")(
        vision_config=vision, text_config=text, **({"projection_dim": 24} if kind == "clip" else {})
    )
    model = getattr(transformers, f"{name}Model")(config).eval()
    for parameter in model.parameters():  # their own start is close to zero: all features alike
        nn.init.normal_(parameter, std=0.2) if parameter.ndim > 1 else None
    model.save_pretrained(folder)
    write_tokenizer(folder)
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


CLIP_PROCESSOR = {
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
    "resample": 3,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
SIGLIP_PROCESSOR = {
    "size": {"height": 32, "width": 32},
    "resample": 2,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("transformers")
    return {
        "clip": write_transformers(base / "clip", "clip", **CLIP_PROCESSOR),
        "siglip": write_transformers(base / "siglip", "siglip", **SIGLIP_PROCESSOR),
        "siglip2": write_transformers(base / "siglip2", "siglip2"),
    }


def unit(output: Any) -> Tensor:
    features = output if isinstance(output, Tensor) else output.pooler_output
    return torch.nn.functional.normalize(features, dim=-1)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_transformers_features_are_the_models_own(kind: str, hf: dict[str, Path]) -> None:
    import transformers

    target = load_target(str(hf[kind]), device="cpu")
    assert isinstance(target, DenseTarget)
    assert isinstance(target, Target)
    model = transformers.AutoModel.from_pretrained(hf[kind]).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(hf[kind])
    pixels = target.preprocess(pictures(target))
    cleaned = ["a photo of a cat", "two red cars", "", "a very " + "long " * 40 + "caption"]
    texts = TEXTS if kind == "clip" else cleaned
    tokens = tokenizer(
        texts, padding="max_length", max_length=10, truncation=True, return_tensors="pt"
    )
    arguments = {"input_ids": tokens["input_ids"]}
    if kind == "clip":
        arguments["attention_mask"] = tokens["attention_mask"]
    with torch.no_grad():
        # Not to the last bit: where tensors lie in memory decides how some kernels sum.
        for ours, theirs in (
            (target.encode_image(pixels), model.get_image_features(pixels)),
            (target.encode_text(TEXTS), model.get_text_features(**arguments)),
        ):
            torch.testing.assert_close(ours, unit(theirs), rtol=0, atol=1e-6)
        hidden = model.vision_model(pixels, output_hidden_states=True)
    dense = target.dense_features(pixels)
    assert dense.shape == (3, 32, 4, 4)
    first = target.dense_features(pixels, layer=0).flatten(2).transpose(1, 2)
    with pytest.raises(NotRun, match="layer 9"):
        target.dense_features(pixels, layer=9)
    if hidden.hidden_states is None:  # as in transformers 5.0.0
        return
    assert torch.allclose(first, hidden.hidden_states[1][:, -16:], atol=1e-6)
    block = model.vision_model.encoder.layers[-1]
    with torch.no_grad():
        before = block.layer_norm1(hidden.hidden_states[-2][:, -16:])
        wanted = block.self_attn.out_proj(block.self_attn.v_proj(before))
    values = target.dense_features(pixels, layer="values").flatten(2).transpose(1, 2)
    torch.testing.assert_close(values, wanted, rtol=0, atol=1e-5)
    assert target.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))
    tokens_of = dense.flatten(2).transpose(1, 2)
    if kind == "clip":
        assert target.embed_dim == 24
        assert (target.logit_bias, target.probability) == (None, "softmax")
        assert torch.allclose(tokens_of, hidden.last_hidden_state[:, 1:], atol=1e-6)
        assert "activation QuickGELU, from config.json" in target.info.notes
        assert target.preprocessing.resize_mode == "shortest"  # type: ignore[attr-defined]
    else:
        assert target.embed_dim == 32
        assert target.logit_bias == pytest.approx(float(model.logit_bias.detach()))
        assert target.probability == "sigmoid"
        normed = model.vision_model.post_layernorm(tokens_of)
        assert torch.allclose(normed, hidden.last_hidden_state, atol=1e-5)
        assert target.preprocessing.resize_mode == "squash"  # type: ignore[attr-defined]
        assert target.preprocessing.interpolation == "bilinear"  # type: ignore[attr-defined]
        # case and punctuation carry no meaning for SigLIP
        assert torch.equal(target.encode_text(["A red, CAR!"]), target.encode_text(["a red car"]))


def test_siglip2_patches_are_those_of_its_own_processor(hf: dict[str, Path]) -> None:
    import transformers
    from transformers.models.siglip2 import image_processing_siglip2 as processors

    target: Any = load_target(str(hf["siglip2"]), device="cpu")
    assert target.image_size == (32, 32)
    assert "NaFlex: photographs keep their shape, at most 16 patches each" in target.info.notes
    image = (torch.rand(3, 16, 40, generator=torch.manual_seed(0)) * 255).round().to(torch.uint8)
    processor = next(
        getattr(processors, name)
        for name in ("Siglip2ImageProcessor", "Siglip2ImageProcessorFast")
        if hasattr(processors, name)
    )(patch_size=8, max_num_patches=16)
    expected = processor(images=[image], return_tensors="pt")
    pixels = target.preprocess(image[None].float() / 255)
    inputs = target._vision_inputs(pixels)
    assert pixels.shape == (1, 3, 16, 40)
    assert torch.allclose(inputs["pixel_values"], expected["pixel_values"][:, :10], atol=1e-5)
    with pytest.raises(ClipRobustError, match=r"takes pixels such as \(B, 3, 32, 32\), got"):
        target.encode_image(torch.zeros(1, 3, 16, 41))
    assert inputs["spatial_shapes"].tolist() == expected["spatial_shapes"].tolist()
    model = transformers.Siglip2Model.from_pretrained(hf["siglip2"]).eval()
    with torch.no_grad():
        features = unit(model.get_image_features(**expected))
    assert torch.allclose(target.encode_image(pixels), features, atol=1e-5)
    assert target.dense_features(pixels).shape == (1, 32, 2, 5)
    assert target.probability == "sigmoid"


def test_transformers_gradients(hf: dict[str, Path]) -> None:
    for kind in hf:
        target = load_target(str(hf[kind]), device="cpu")
        images = pictures(target, 2).requires_grad_()
        target.encode_image(target.preprocess(images))[:, 0].sum().backward()
        assert images.grad is not None
        assert float(images.grad.abs().sum()) > 0


def test_transformers_folder_mistakes(hf: dict[str, Path], tmp_path: Path) -> None:
    def changed(name: str, file: str, change: Any) -> str:
        folder = shutil.copytree(hf["clip"], tmp_path / name)
        change(folder / file)
        return str(folder)

    def with_config(**values: Any) -> Any:
        def change(path: Path) -> None:
            path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

        return change

    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def drop_tensor(path: Path) -> None:
        state = load_file(path)
        del state["visual_projection.weight"]
        save_file(state, path, metadata={"format": "pt"})

    def quantise(path: Path) -> None:
        state = load_file(path)
        state["visual_projection.weight"] = state["visual_projection.weight"].to(torch.int8)
        save_file(state, path, metadata={"format": "pt"})

    assert "holds quantised weights" in error(changed("int8", "model.safetensors", quantise))
    for kind in (["clip"], {"clip": 1}):
        folder = changed(f"{kind}", "config.json", with_config(model_type=kind))
        assert "supported are clip, siglip" in error(folder)
    folder = changed("bert", "config.json", with_config(model_type="bert"))
    assert "model_type 'bert'; supported are clip, siglip, siglip2" in error(folder)
    folder = changed("cut", "model.safetensors", cut)
    message = error(folder)
    assert f"{folder}/model.safetensors is truncated or damaged" in message
    folder = changed("gone", "model.safetensors", Path.unlink)
    assert "holds no weights" in error(folder)
    folder = changed("missing", "model.safetensors", drop_tensor)
    assert "1 missing (first 'visual_projection.weight')" in error(folder)
    folder = changed("dim", "config.json", with_config(projection_dim=48))
    assert "does not fit" in error(folder)
    folder = changed("notokens", "tokenizer.json", lambda path: path.write_text("{"))
    assert "tokenizer of model" in error(folder)
    folder = changed("json", "config.json", lambda path: path.write_text("{"))
    assert "config.json cannot be read" in error(folder)
    folder = changed("size", "preprocessor_config.json", with_config(crop_size=64, size=64))
    assert "gives (64, 64) but config.json wants (32, 32)" in error(folder)
    folder = changed("lanczos", "preprocessor_config.json", with_config(resample=1))
    assert "resample 1" in error(folder)
    assert "takes no --clip-pretrained" in error(str(hf["clip"]), pretrained="x.pt")
    assert "no meaning for SigLIP" in error(str(hf["siglip"]), activation="gelu")


@pytest.mark.parametrize(
    ("model_type", "family"),
    [
        ("siglip", "SigLIP"),
        ("siglip2", "SigLIP"),
        ("align", "AlignModel"),
        ("altclip", "AltCLIPModel"),
    ],
)
def test_families_without_a_choice_of_activation_are_named(model_type: str, family: str) -> None:
    config = SimpleNamespace(model_type=model_type)
    assert transformers_target._set_activation(config, ("mine", ""), None, "mine") == ""
    with pytest.raises(ClipRobustError) as caught:
        transformers_target._set_activation(config, ("mine", ""), "gelu", "mine")
    assert str(caught.value) == (
        f"--clip-activation has no meaning for {family} model 'mine'; leave it out"
    )


def test_a_folder_without_tokenizer_files_is_refused(hf: dict[str, Path], tmp_path: Path) -> None:
    for files in (("tokenizer.json", "tokenizer_config.json"), ("tokenizer.json",)):
        folder = tmp_path / str(len(files))
        shutil.copytree(hf["clip"], folder)
        for name in files:
            (folder / name).unlink()
        told = error(str(folder))
        assert str(folder) in told
        assert "tokenizer files" in told


def test_an_end_of_text_token_that_is_not_the_tokenizers_is_refused(
    hf: dict[str, Path], tmp_path: Path
) -> None:
    def told(token: int | None, words: str) -> None:
        folder = tmp_path / str(token)
        shutil.copytree(hf["clip"], folder)
        config = json.loads((folder / "config.json").read_text())
        config["text_config"]["eos_token_id"] = token
        (folder / "config.json").write_text(json.dumps(config))
        assert words in error(str(folder))

    assert load_target(str(hf["clip"]), device="cpu").embed_dim == 24
    told(None, "has no eos_token_id in its text_config, at which the text's features stand")
    told(39, "has eos_token_id 39 in its text_config, and the tokenizer ends a text with 13")
    # 2 means the largest token, and this tokenizer ends a text with another.
    folder = shutil.copytree(hf["clip"], tmp_path / "larger")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["zebra"] = 20
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert "has eos_token_id 20 in its text_config" in error(str(folder))


def test_transformers_preprocessing_variants(hf: dict[str, Path], tmp_path: Path) -> None:
    def loaded(name: str, settings: dict[str, Any] | None, file: str) -> Any:
        folder = shutil.copytree(hf["clip"], tmp_path / name)
        (folder / "preprocessor_config.json").unlink()
        if settings is not None:
            (folder / file).write_text(json.dumps(settings))
        return load_target(str(folder), device="cpu")

    base = load_target(str(hf["clip"]), device="cpu")
    plain = "preprocessor_config.json"
    old = loaded("old", {**CLIP_PROCESSOR, "size": 32, "crop_size": 32}, plain)
    nested = loaded("nested", {"image_processor": CLIP_PROCESSOR}, "processor_config.json")
    absent = loaded("absent", None, plain)
    larger = loaded("larger", {**CLIP_PROCESSOR, "size": {"shortest_edge": 40}}, plain)
    assert old.info.digest == nested.info.digest == absent.info.digest == base.info.digest
    assert (
        "no preprocessor_config.json: took the defaults of CLIPImageProcessor" in absent.info.notes
    )
    assert larger.preprocessing.resize == 40
    assert larger.info.digest != base.info.digest


def test_hidden_act_is_checked_against_what_is_published(
    hf: dict[str, Path], tmp_path: Path
) -> None:
    assert for_transformers(("x",), "gelu", "gelu", None) == (None, "")
    assert "gelu in the vision tower" in for_transformers(("x",), "gelu", "quick_gelu", None)[1]
    with pytest.raises(ClipRobustError, match="was trained with quick_gelu"):
        for_transformers(("me", "openai/clip-vit-base-patch32"), "gelu", "gelu", None)
    with pytest.raises(ClipRobustError, match="was trained with gelu"):
        for_transformers(("laion/CLIP-ViT-B-32-laion2B-s34B-b79K",), "quick_gelu", "gelu", None)
    folder = shutil.copytree(hf["clip"], tmp_path / "gelu")
    quick = load_target(str(folder), device="cpu")
    gelu = load_target(str(folder), activation="gelu", device="cpu")
    assert any("although config.json says quick_gelu" in note for note in gelu.info.notes)
    assert gelu.info.digest != quick.info.digest
    pixels = gelu.preprocess(pictures(gelu))
    assert not torch.equal(gelu.encode_image(pixels), quick.encode_image(pixels))
    config = json.loads((folder / "config.json").read_text())
    config["_name_or_path"] = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    (folder / "config.json").write_text(json.dumps(config))
    assert "was trained with gelu" in error(str(folder))


def test_open_clip_model_with_a_transformers_tokenizer(tmp_path: Path) -> None:
    text = {
        **VIT["text_cfg"],
        "vocab_size": 40,
        "hf_tokenizer_name": "some/tokenizer",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "pool_type": "last",
        "no_causal_mask": True,
    }
    config = {**VIT, "text_cfg": text, "custom_text": True, "init_logit_bias": -10}
    folder = write_folder(tmp_path / "siglip", config)
    write_tokenizer(folder)
    target = load_target(str(folder), device="cpu")
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    assert tokens.shape == (len(TEXTS), 12)  # padded to the full length
    with torch.no_grad():
        expected = model.encode_text(tokens, normalize=True)
    assert torch.equal(target.encode_text(TEXTS), expected)
    assert torch.equal(target.encode_text(["A red, CAR!"]), target.encode_text(["a red car"]))
    assert target.probability == "sigmoid"
    digest = target.info.digest
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"].update({"cat": 7, "of": 6})
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert load_target(str(folder), device="cpu").info.digest != digest


def test_vocabulary_larger_than_the_text_tower_is_refused(vit: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(vit, tmp_path / "m")
    (folder / "merges.txt.gz").unlink()
    assert "has 49408 tokens, its text tower 814" in error(str(folder))

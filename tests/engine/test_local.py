"""Patch features in the space of texts, against attention that sees nothing else, and GL-MCM's local part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.errors import NotRun
from pytest_cliprobust.properties import ood
from pytest_cliprobust.targets.open_clip_target import OpenClipTarget
from pytest_cliprobust.targets.preprocessing import Preprocessing

TEXT: dict[str, Any] = {"context_length": 8, "vocab_size": 99, "width": 16, "heads": 2, "layers": 1}
VIT: dict[str, Any] = {"image_size": 32, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8}


def target_of(vision: dict[str, Any]) -> OpenClipTarget:
    torch.manual_seed(0)
    model = CLIP(24, vision, TEXT).eval().requires_grad_(False)
    from pytest_cliprobust.targets.base import TargetInfo

    return OpenClipTarget(
        model,
        None,
        info=TargetInfo("tiny", "tiny", "", "0"),
        preprocessing=Preprocessing.from_open_clip({}, vision["image_size"]),
        device=torch.device("cpu"),
        precision="fp32",
        embed_dim=24,
        logit_scale=100.0,
        logit_bias=None,
    )


def test_a_vit_gives_what_its_last_attention_would_if_each_token_saw_itself_alone() -> None:
    target = target_of(VIT)
    pixels = torch.randn(2, 3, 32, 32)
    visual = target.model.visual
    last, rest = visual.transformer.resblocks[-1], visual.transformer.resblocks[:-1]
    with torch.no_grad():
        tokens = visual._embeds(pixels)
        for block in rest:
            tokens = block(tokens)
        seen = last.ln_1(tokens)
        alone = torch.full((17, 17), -torch.inf).fill_diagonal_(0.0)
        values = last.attn(seen, seen, seen, attn_mask=alone, need_weights=False)[0]
        want = F.normalize(visual.ln_post(values)[:, 1:] @ visual.proj, dim=-1)
    found = target.local_features(pixels)
    assert found.shape == (2, 16, 24)
    torch.testing.assert_close(found, want, atol=1e-5, rtol=1e-4)


def test_towers_without_such_features_are_not_run() -> None:
    resnet = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}
    with pytest.raises(NotRun, match=r"'tiny' gives no patch features .* ModifiedResNet"):
        target_of(resnet).local_features(torch.randn(1, 3, 64, 64))


def test_pooling_by_attention_sees_one_token_at_a_time() -> None:
    pooled = {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 4}
    target = target_of({**VIT, **pooled})
    visual = target.model.visual
    pixels = torch.randn(2, 3, 32, 32)
    values = target.dense_features(pixels, layer="values").flatten(2).transpose(1, 2)
    with torch.no_grad():
        alone = [visual._pool(values[:, i : i + 1])[0] @ visual.proj for i in range(16)]
    want = F.normalize(torch.stack(alone, dim=1), dim=-1)
    torch.testing.assert_close(target.local_features(pixels), want, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("trunk", "size", "pool", "places"),
    [
        ("test_vit3", 160, "map", 100),
        ("test_vit", 160, "avg", 100),
        ("test_vit", 160, "token", 100),
        ("test_convnext", 160, "avg", 25),
        pytest.param(*("swin_tiny_patch4_window7_224", 224, "avg", 49), marks=pytest.mark.slow),
    ],
)
def test_towers_of_timm(trunk: str, size: int, pool: str, places: int) -> None:
    vision = {"image_size": size, "timm_model_name": trunk, "timm_pool": pool}
    target = target_of({**vision, "timm_proj": "linear"})
    pixels = torch.randn(2, 3, size, size)
    found = target.local_features(pixels)
    assert found.shape == (2, places, 24)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(2, places))
    visual = target.model.visual
    with torch.no_grad():
        if "vit" in trunk:
            values = target.dense_features(pixels, layer="values").flatten(2).transpose(1, 2)
            tokens = visual.trunk.norm(values[:, 7, None].expand(-1, 3, -1))
            want = visual.head(visual.trunk.forward_head(tokens))
            torch.testing.assert_close(found[:, 7], F.normalize(want, dim=-1), atol=1e-5, rtol=0)
        elif "swin" in trunk:
            last = visual.trunk.forward_features(pixels)[:, 0, 3]
            want = visual.head(visual.trunk.forward_head(last[:, None, None]))
            torch.testing.assert_close(found[:, 3], F.normalize(want, dim=-1), atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def clip(shared_cache: Path) -> Evaluation:
    options = RunConfig(("reference",), limit=24, profile="quick", cache_dir=shared_cache)
    return Evaluation(options, "reference")


def test_places_of_an_averaged_map_average_to_the_feature(clip: Evaluation) -> None:
    target: Any = clip.target
    images = torch.rand(3, 3, 224, 224)
    pixels = target.preprocess(images)
    with torch.inference_mode():
        places = target._local_features(pixels)
        whole = F.normalize(places.mean(dim=1), dim=-1)
    torch.testing.assert_close(whole, target.encode_image(pixels), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_local_mcm_is_that_of_the_patches_and_cached(clip: Evaluation) -> None:
    view = clip.on("clean", "iso_noise", 2)
    found = clip.local_mcm(view)
    assert found.shape == (24,)
    forwarded = clip.encoder.forwarded
    np.testing.assert_array_equal(clip.local_mcm(view), found)
    assert clip.encoder.forwarded == forwarded
    target: Any = clip.target
    clean = clip.on("clean")
    images = torch.from_numpy(clean.data.load(range(4)).images.numpy()) / 255
    patches = target.local_features(target.preprocess(images)).double()
    cosines = np.clip((patches @ clip.classifier.weights.T).numpy(), -1, 1)
    np.testing.assert_allclose(clip.local_mcm(clean)[:4], ood.local_mcm(cosines), atol=1e-5)
    assert not np.allclose(found, clip.local_mcm(clean))


def test_a_target_of_ones_own_may_lack_them(clip: Evaluation, monkeypatch: Any) -> None:
    monkeypatch.setattr(type(clip.target), "local_features", None)
    with pytest.raises(NotRun, match=r"give it a method local_features\(pixels\)"):
        clip.local_mcm(clip.on("clean", limit=10))

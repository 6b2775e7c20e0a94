"""Embedded data sets, image folders, loading by name, captions, cue-conflict fill."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import mostly_slow
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from pytest_cliprobust.datasets import embedded
from pytest_cliprobust.datasets.base import Batch, Dataset
from pytest_cliprobust.datasets.embedded import CUE_CONFLICT_CLASSES, SIZES, EmbeddedDataset
from pytest_cliprobust.datasets.layouts.imagefolder import ImageFolder, natural_key, read_image
from pytest_cliprobust.datasets.loading import load_dataset, load_source
from pytest_cliprobust.datasets.profiles import PROFILES
from pytest_cliprobust.datasets.registry import LAYOUTS
from pytest_cliprobust.datasets.sources import read_sources
from pytest_cliprobust.datasets.subset import Subset
from pytest_cliprobust.embedded import captions, composer, sprites
from pytest_cliprobust.errors import ClipRobustError, NotRun, UserCodeError
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.perturbations.cue_conflict import texture_fill

pytestmark = pytest.mark.floors

SIZE = 64


def make(name: str, **options: object) -> EmbeddedDataset:
    return EmbeddedDataset(name, **{"profile": "quick", "size": SIZE, **options})  # type: ignore[arg-type]


def tensors(batch: Batch) -> dict[str, Tensor]:
    found = {"images": batch.images, **batch.extras}
    found |= {k: v for k, v in (("depth", batch.depth), ("mask", batch.mask)) if v is not None}
    return found


# --------------------------------------------------------------------------------------------------
# Embedded
# --------------------------------------------------------------------------------------------------


def test_every_profile_calibrates_on_the_same_samples() -> None:
    """Else figures of one model differed between profiles on the samples that both have."""
    first, *others = [make("calibration", profile=name) for name in PROFILES]
    assert len(first) == 536
    assert all(other.sample_digests == first.sample_digests for other in others)


def test_profiles_are_of_whole_rounds_or_of_whole_forward_passes() -> None:
    """Known: 134 classes, 58 things near them, 15 × 16 conflicts; 32 pictures a pass; others as told."""
    assert SIZES["clean"] == (4 * 134, 8 * 134, 32 * 134)
    assert SIZES["calibration"] == (4 * 134,) * 3
    assert SIZES["near_ood"] == (2 * 58, 8 * 58, 36 * 58)
    assert SIZES["cue_conflict"] == (15 * 16, 40 * 16, 80 * 16)
    assert SIZES["captioned"] == (134,) * 3
    assert SIZES["style"] == (134, 2 * 134, 8 * 134)
    assert SIZES["compositional"] == (3 * 32, 2 * 134, 8 * 134)
    assert (SIZES["written"], SIZES["two_view"]) == ((32, 134, 1072), (64, 134, 600))
    assert (SIZES["far_ood"], SIZES["clipart"]) == ((4 * 32, 520, 2080), (200, 400, 800))
    assert SIZES["factor"] == (32, 201, 2144)


def test_every_data_set_keeps_the_contract() -> None:
    count = len(sprites.load_label_classes())
    for name in embedded.names():
        data = make(name)
        assert isinstance(data, Dataset)
        assert data.name == name
        assert len(data) == len(data.ids) == len(set(data.ids)) == len(data.labels)
        family = name.split("-")[0]
        expected = SIZES[family][0]
        assert 0.5 * expected <= len(data) <= expected
        assert len(data.class_names) == len(data.phrases) == count
        assert all(len(column) == len(data) for column in data.groups.values())
        without = name.endswith("_ood") or name == "compositional"
        assert set(data.labels) <= ({-1} if without else set(range(count)))
        assert re.fullmatch("[0-9a-f]{64}", data.digest)
    assert len({make(n).digest for n in embedded.names()}) == len(embedded.names())


@pytest.mark.parametrize("name", ["clean", "calibration", "factor-pose", "two_view"])
def test_every_prefix_is_balanced(name: str) -> None:
    data = make(name, profile="full") if name == "clean" else make(name)
    for n in (10, 50, 134, 200, 268, len(data)):
        counts = Counter(data.labels[:n])
        assert max(counts.values()) - min(counts.get(c, 0) for c in range(134)) <= 1
        styles = Counter(data.groups["style"][:n])
        assert max(styles.values()) - min(styles.values()) <= 2
    if len(data) >= 268:
        pairs = Counter(zip(data.labels[:268], data.groups["style"][:268], strict=True))
        assert set(pairs.values()) == {1}


def test_held_out_styles_alone_are_evaluated() -> None:
    held_out = {style.name for style in sprites.load_styles() if style.split == "held-out"}
    assert len(held_out) == 2
    for name in ("clean", "calibration", "near_ood", "two_view", "cue_conflict", "factor-color"):
        assert set(make(name).groups["style"]) == held_out
    assert set(make("factor-style").groups["style"]) - held_out


@pytest.mark.parametrize(
    "name",
    mostly_slow(
        ("clean", "far_ood", "clipart", "cue_conflict", "two_view", "factor-object_blocking"),
        {"clean", "far_ood", "clipart"},
    ),
)
def test_grouping_changes_no_bit(name: str) -> None:
    data = make(name)

    @settings(max_examples=3, deadline=None)
    @given(
        indices=st.lists(st.integers(0, min(40, len(data) - 1)), min_size=2, max_size=5),
        threads=st.sampled_from([1, 2]),
    )
    def check(indices: list[int], threads: int) -> None:
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(threads)
            together = tensors(data.load(indices))
        finally:
            torch.set_num_threads(before)
        for row, index in enumerate(indices):
            for key, value in tensors(data.load([index])).items():
                assert torch.equal(together[key][row : row + 1], value), key

    check()


def test_more_samples_than_are_composed_at_once() -> None:
    data = make("far_ood")
    count = 2 * embedded._CHUNK
    assert len(data) == count
    whole = data.load(range(count))
    assert whole.ids == data.ids
    assert len(whole.images) == count
    for row in (embedded._CHUNK - 1, embedded._CHUNK, count - 1):
        assert torch.equal(whole.images[row], data.load([row]).images[0])


def test_loading_gives_types_shapes_and_ranges() -> None:
    batch = make("clean").load([3, 0])
    assert batch.ids == ("clean-00003", "clean-00000")
    assert batch.images.shape == (2, 3, SIZE, SIZE)
    assert batch.images.dtype == torch.uint8
    assert batch.depth is not None
    assert batch.mask is not None
    assert batch.depth.shape == batch.mask.shape == (2, 1, SIZE, SIZE)
    assert batch.depth.dtype == batch.mask.dtype == torch.float32
    assert 0.1 < float(batch.depth.min()) < float(batch.depth.max()) < 100
    assert 0.02 < float(batch.mask.mean()) < 0.5
    assert batch.extras["occluder"].shape == (2, 4, 224, 224)
    assert batch.extras["texture"].shape == (2, 3, SIZE, SIZE)
    for key in ("occluder", "texture"):
        assert 0 <= float(batch.extras[key].min()) < float(batch.extras[key].max()) <= 1
    assert bool((batch.extras["focal"] > SIZE * 0.9).all())
    empty = make("clean").load([])
    assert empty.images.shape == (0, 3, SIZE, SIZE)


@pytest.mark.slow
def test_another_process_draws_the_same() -> None:
    code = (
        "import hashlib, torch\n"
        "from pytest_cliprobust.datasets.embedded import EmbeddedDataset\n"
        "d = EmbeddedDataset('factor-texture', profile='quick', size=64)\n"
        "b = d.load([5, 2])\n"
        "h = hashlib.sha256(b.images.numpy().tobytes() + b.depth.numpy().tobytes())\n"
        "print(d.digest, h.hexdigest())"
    )

    def run(seed: str) -> str:
        env = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        ).stdout

    first = run("1")
    assert len(first.split()) == 2
    data = make("factor-texture")
    assert first.split()[0] == data.digest
    import hashlib

    batch = data.load([5, 2])
    assert batch.depth is not None
    here = hashlib.sha256(batch.images.numpy().tobytes() + batch.depth.numpy().tobytes())
    assert first.split()[1] == here.hexdigest()


def test_digest_depends_on_what_is_drawn() -> None:
    same, again = make("clean"), make("clean")
    assert same.digest == again.digest
    others = [make("clean", limit=10), make("clean", size=96), make("calibration")]
    assert len({same.digest, *(d.digest for d in others)}) == 4


def test_digest_follows_the_sprites(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make("clean").digest
    monkeypatch.setattr(sprites, "digest", lambda: "something else")
    assert make("clean").digest != before


def test_calibration_shares_no_picture_with_clean() -> None:
    clean, calibration = make("clean"), make("calibration")
    assert not set(clean.ids) & set(calibration.ids)
    a, b = clean.load(range(20)).images, calibration.load(range(20)).images
    difference = (a[:, None].int() - b[None].int()).abs().float().mean(dim=(2, 3, 4))
    assert float(difference.min()) > 3


@pytest.mark.parametrize("factor", composer.FACTORS)
def test_factors_change_the_clean_scenes_alone(factor: str) -> None:
    clean, changed = make("clean"), make(f"factor-{factor}")
    n = len(changed)
    assert changed.ids == clean.ids[:n]
    assert changed.labels == clean.labels[:n]
    assert set(changed.groups["factor"]) == {factor}
    indices = [1, 17, 30]
    before, after = clean.load(indices), changed.load(indices)
    change = (before.images.int() - after.images.int()).abs().float().mean(dim=(1, 2, 3))
    assert bool((change > 0.4).all())
    assert torch.equal(before.extras["focal"], after.extras["focal"])
    if factor in ("color", "texture", "pattern", "brighter", "darker", "background"):
        assert before.mask is not None
        assert after.mask is not None
        assert torch.equal(before.mask, after.mask)
        assert before.depth is not None
        assert after.depth is not None
        assert torch.equal(before.depth, after.depth)


def test_styles_share_their_scenes() -> None:
    noto, line = make("style-noto"), make("style-fluent-emoji-high-contrast")
    shared = [i for i in noto.ids if i in set(line.ids)]
    assert len(shared) > 100
    for identity in shared:
        assert noto.labels[noto.ids.index(identity)] == line.labels[line.ids.index(identity)]
    assert set(line.groups["style"]) == {"fluent-emoji-high-contrast"}
    index = [(noto.ids.index(i), line.ids.index(i)) for i in shared[:4]]
    a, b = noto.load([i for i, _ in index]), line.load([j for _, j in index])
    # The sky is the same, the drawings are not.
    assert torch.equal(a.images[..., :4, :], b.images[..., :4, :])
    assert not torch.equal(a.images, b.images)


def test_ood_sets() -> None:
    labels = {item.name for item in sprites.load_label_classes()}
    near, far = make("near_ood"), make("far_ood")
    assert not labels & set(near.groups["class"])
    assert not labels & set(far.groups["class"])
    assert set(near.groups["category"]) <= {item.category for item in sprites.load_label_classes()}
    assert Counter(far.groups["kind"][:60]) == {"symbol": 30, "pattern": 30}
    batch = far.load([0, 1])
    assert batch.mask is not None
    assert batch.depth is not None
    assert float(batch.mask[0].max()) > 0.9
    assert float(batch.mask[1].max()) == 0.0
    assert float(batch.depth[1].min()) == float(batch.depth[1].max())


def test_two_views_correspond() -> None:
    data = make("two_view", size=96)
    batch = data.load([0, 1, 2, 3])
    extras = batch.extras
    assert extras["second_image"].dtype == torch.uint8
    assert extras["visible"].dtype == torch.bool
    angles = [float(a) for a in data.groups["angle"]]
    assert min(angles) >= 5
    assert max(angles) <= 40
    assert max(angles) - min(angles) > 20
    assert batch.mask is not None
    seen = extras["visible"] & (batch.mask > 0.99)
    assert float(seen.sum()) > 0.7 * float((batch.mask > 0.99).sum())
    grid = (extras["correspondence"] / 96 * 2 - 1).permute(0, 2, 3, 1)
    landed = torch.nn.functional.grid_sample(extras["second_mask"], grid, align_corners=False)
    # What is on the object in one view is on the object in the other.
    assert float(landed[seen].mean()) > 0.95


def test_pairs_link_what_the_views_show() -> None:
    data = make("two_view")
    pairs = data.load_pairs([0, 3, 5])
    whole = make("two_view", size=embedded.PAIR_SIDE).load([0, 3, 5])
    assert torch.equal(pairs.first.images, whole.images)
    assert torch.equal(pairs.second.images, whole.extras["second_image"])
    assert pairs.first.ids == pairs.second.ids == whole.ids
    for i, links in enumerate(pairs.links):
        assert links.candidates is not None
        assert len(links.points) == len(links.truth) > 20
        assert len(links.candidates) > 20
        column, row = (links.points.T - 0.5).long()
        assert bool(whole.extras["visible"][i, 0, row, column].all())
        assert torch.equal(whole.extras["correspondence"][i][:, row, column].T, links.truth)
        assert whole.mask is not None
        assert bool((whole.mask[i, 0, row, column] > 0.5).all())
        column, row = (links.candidates.T - 0.5).long()
        assert bool((whole.extras["second_mask"][i, 0, row, column] > 0.5).all())
        # Each true place has a candidate near by: the lattice is three pixels wide.
        near = torch.cdist(links.truth, links.candidates).min(dim=1).values
        assert float((near < 3).float().mean()) > 0.9
        # And in space: a pixel shows some centimetres of a thing.
        assert links.truth_3d is not None
        assert links.candidates_3d is not None
        assert links.truth_3d.shape == (len(links.points), 3)
        assert links.candidates_3d.shape == (len(links.candidates), 3)
        near = torch.cdist(links.truth_3d, links.candidates_3d).min(dim=1).values
        assert float((near < 0.1).float().mean()) > 0.9
        # Looked at by the second camera, the place of a point is the truth, and that of a candidate itself.
        scene = embedded._pair_scene(data._recipes[[0, 3, 5][i]], embedded.PAIR_SIDE)
        camera, _ = composer.second_camera(scene, pairs.first.ids[i])
        for place, pixels in (
            (links.truth_3d, links.truth),
            (links.candidates_3d, links.candidates),
        ):
            x, y, _ = camera.project_points(tuple(place.T))
            assert torch.allclose(torch.stack([x, y], 1), pixels, atol=0.02)
    # In any company the same.
    alone = data.load_pairs([3])
    assert torch.equal(alone.second.images[0], pairs.second.images[1])
    assert torch.equal(alone.links[0].truth, pairs.links[1].truth)
    with pytest.raises(NotRun, match="'clean' are no pairs"):
        make("clean").load_pairs([0])


def test_mistakes_in_names_are_told() -> None:
    with pytest.raises(ClipRobustError, match="Did you mean 'clean'"):
        make("claen")
    with pytest.raises(ClipRobustError, match="Did you mean 'quick'"):
        make("clean", profile="quik")
    with pytest.raises(ClipRobustError, match="limit of 0"):
        make("clean", limit=0)


# --------------------------------------------------------------------------------------------------
# Cue conflicts
# --------------------------------------------------------------------------------------------------


def test_conflicts_are_never_congruent_and_balanced() -> None:
    assert len(set(CUE_CONFLICT_CLASSES)) == 16
    by_label = {item.label: item.name for item in sprites.load_label_classes()}
    data = make("cue_conflict", profile="full")
    shapes, textures = data.groups["shape_label"], data.groups["texture_label"]
    assert all(s != t for s, t in zip(shapes, textures, strict=True))
    assert {by_label[s] for s in shapes} == set(CUE_CONFLICT_CLASSES)
    for start in range(0, len(data), 16):
        block = slice(start, start + 16)
        assert len(set(shapes[block])) == len(shapes[block])
        assert len(set(textures[block])) == len(textures[block])
    pairs = Counter(zip(shapes[:240], textures[:240], strict=True))
    assert len(pairs) == 240
    for identity, shape, texture, label in zip(
        data.ids, shapes, textures, data.labels, strict=True
    ):
        assert re.fullmatch(rf"{by_label[shape]}\d+-{by_label[texture]}\d+", identity)
        assert data.class_names[label] == shape


def test_conflicts_show_the_texture_in_the_shape() -> None:
    data = make("cue_conflict", size=96)
    batch = data.load(range(16))
    assert batch.mask is not None
    texture = batch.extras["texture"]
    for row in range(16):
        inside = batch.mask[row, 0] > 0.99
        got = batch.images[row][:, inside].float() / 255
        wanted = texture[row][:, inside]
        # Shading scales all three channels alike: hue and saturation are the texture's own.
        colourful = wanted.amax(0) > 0.25
        ratio = got[:, colourful] / got[:, colourful].amax(0)
        expected = wanted[:, colourful] / wanted[:, colourful].amax(0)
        assert float((ratio - expected).abs().median()) < 0.03


def fill_inputs(rows: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images, texture = (torch.rand(rows, 3, 48, 40, generator=generator) for _ in range(2))
    y, x = torch.meshgrid(torch.linspace(-1, 1, 48), torch.linspace(-1, 1, 40), indexing="ij")
    mask = ((0.7 - (x * x + y * y).sqrt()) * 20 + 0.5).clamp(0, 1)[None, None].repeat(rows, 1, 1, 1)
    return images, mask, texture


def test_texture_fill_replaces_surface_and_keeps_shading() -> None:
    images, mask, texture = fill_inputs()
    full = texture_fill(images, mask=mask, texture=texture, strength=1.0)
    outside = (mask == 0).expand_as(images)
    assert torch.equal(full[outside], images[outside])
    assert torch.equal(texture_fill(images, mask=mask, texture=texture, strength=0.0), images)
    half = texture_fill(images, mask=mask, texture=texture, strength=0.5)
    assert torch.allclose(half, (images + full) / 2, atol=1e-6)
    # An evenly lit object leaves the texture as it is.
    even = texture_fill(torch.full_like(images, 0.4), mask=mask, texture=texture, strength=1.0)
    inside = (mask == 1).expand_as(images)
    assert torch.allclose(even[inside], texture[inside], atol=1e-4)
    # One that is lit from the left stays brighter on the left.
    ramp = torch.linspace(0.9, 0.1, 40).expand_as(images)
    lit = texture_fill(ramp, mask=mask, texture=torch.full_like(texture, 0.5), strength=1.0)
    assert float(lit[0, 0, 24, 8]) > float(lit[0, 0, 24, 20]) > float(lit[0, 0, 24, 32])
    # Its own hue is gone: a thing half in colour, half in grey of the same lightness is evenly lit.
    for channel, weight in enumerate((0.299, 0.587, 0.114)):
        own = torch.full_like(images, 0.1)
        own[..., :20] = 0
        own[:, channel, :, :20] = 0.1 / weight
        filled = texture_fill(own, mask=mask, texture=texture, strength=1.0)
        assert torch.allclose(filled[inside], texture[inside], atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_texture_fill_keeps_the_registry_contract(threads: int) -> None:
    images, mask, texture = fill_inputs(5)
    perturbation = registry.get("texture_fill")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        together = perturbation(images, 4, mask=mask, texture=texture, depth=None)
        alone = torch.cat(
            [
                perturbation(images[i : i + 1], 4, mask=mask[i : i + 1], texture=texture[i : i + 1])
                for i in range(5)
            ]
        )
    finally:
        torch.set_num_threads(before)
    assert torch.equal(together, alone)
    assert together.dtype == images.dtype
    assert 0 <= float(together.min()) <= float(together.max()) <= 1
    half = perturbation(images.half(), 2, mask=mask, texture=texture)
    assert half.dtype == torch.float16
    with pytest.raises(ClipRobustError, match="mask"):
        perturbation(images, 1, texture=texture)
    images.requires_grad_()
    perturbation(images, 3, mask=mask, texture=texture).sum().backward()
    assert images.grad is not None
    assert float(images.grad.abs().sum()) > 0


# --------------------------------------------------------------------------------------------------
# Captions
# --------------------------------------------------------------------------------------------------


def test_captions_are_stable_and_distinct() -> None:
    five = captions.captions("clean-00001", "a dog")
    assert five == captions.captions("clean-00001", "a dog")
    assert len(set(five)) == 5
    assert all("a dog" in text for text in five)
    assert captions.caption("clean-00001", "a dog") == five[0]
    data = make("clean")
    assert all(
        data.phrases[label] in text
        for label, text in zip(data.labels, data.groups["caption"], strict=True)
    )


# --------------------------------------------------------------------------------------------------
# Image folders
# --------------------------------------------------------------------------------------------------


def picture(
    path: Path, colour: tuple[int, int, int] = (10, 200, 30), size: tuple[int, int] = (40, 30)
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for name in ("img10.png", "img2.png", "img1.JPG"):
        picture(root / "class10" / name, (255, 0, 0))
    picture(root / "class2" / "only.webp", (0, 0, 255))
    picture(root / "class2" / "deeper" / "x.bmp", (0, 255, 0))
    (root / "class2" / "notes.txt").write_text("no image")
    (root / ".hidden").mkdir()
    return root


def load(root: Path, **options: object) -> ImageFolder:
    return ImageFolder(root, **{"size": 16, "cache": root.parent / "cache", **options})  # type: ignore[arg-type]


def test_image_folder_order_labels_and_frames(folder: Path) -> None:
    data = load(folder)
    assert isinstance(data, Dataset)
    assert data.class_names == ("class2", "class10")
    assert data.ids == (
        "class2/deeper/x.bmp",
        "class10/img1.JPG",
        "class2/only.webp",
        "class10/img2.png",
        "class10/img10.png",
    )
    assert data.labels == (0, 1, 0, 1, 1)
    assert data.groups["folder"] == ("class2", "class10", "class2", "class10", "class10")
    batch = data.load([4, 0])
    assert batch.images.shape == (2, 3, 16, 16)
    assert batch.images.dtype == torch.uint8
    assert batch.images[0, :, 8, 8].tolist() == [255, 0, 0]
    assert batch.images[1, :, 8, 8].tolist() == [0, 255, 0]
    assert batch.depth is None
    assert load(folder, limit=2).ids == data.ids[:2]
    assert Counter(load(folder, limit=4).labels) == {0: 2, 1: 2}
    assert data.load([]).images.shape == (0, 3, 16, 16)


def test_image_folder_uses_the_frame_of_the_target(folder: Path) -> None:
    calls = []

    def frame(image: Tensor, size: int) -> Tensor:
        calls.append((tuple(image.shape), image.dtype, size))
        return image[:, :size, :size]

    load(folder, frame=frame).load([0])
    assert calls == [((3, 30, 40), torch.uint8, 16)]


def test_human_names(folder: Path) -> None:
    (folder / "classes.txt").write_text(
        "# folder\tname\nclass10\tgreat tit\nclass2\tcrane\n", "utf-8"
    )
    assert load(folder).class_names == ("crane", "great tit")
    (folder / "classes.txt").write_text("class10\tcrane\nclass2\tcrane\n")
    assert load(folder).class_names == ("crane", "crane")
    (folder / "classes.txt").write_text("class10\tcrane\nclass22\tcrane\n")
    with pytest.raises(ClipRobustError, match=r"'class2'.*Did you mean 'class22'"):
        load(folder)
    (folder / "classes.txt").write_text("class10 crane\n")
    with pytest.raises(ClipRobustError, match="line 1"):
        load(folder)


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "CMYK", "1", "LA"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode).save(path)
    pixels = read_image(path)
    assert pixels.shape == (3, 4, 5)
    assert pixels.dtype == torch.uint8
    assert float(pixels.float().mean()) > 250


def test_sixteen_bits_are_scaled_and_exif_turns(tmp_path: Path) -> None:
    deep = np.array([[0, 257 * 100], [257 * 200, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png")[1].tolist() == [[0, 100], [200, 255]]
    wide = Image.new("RGB", (6, 2), (255, 0, 0))
    wide.putpixel((0, 0), (0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to show
    wide.save(tmp_path / "turned.png", exif=exif)
    turned = read_image(tmp_path / "turned.png")
    assert turned.shape == (3, 6, 2)
    assert turned[:, 0, 1].tolist() == [0, 0, 255]


def test_greys_of_32_bits_are_scaled_and_end_at_white(tmp_path: Path) -> None:
    deep = np.array([[0, 255, 256], [100 * 257, 65535, 255 * 256]], np.int32)
    image = Image.fromarray(deep)
    assert image.mode == "I"
    image.save(tmp_path / "deep.tif")
    pixels = read_image(tmp_path / "deep.tif")
    assert pixels.dtype == torch.uint8
    assert pixels.tolist() == [[[0, 0, 1], [100, 255, 255]]] * 3


def test_contents_are_hashed_once(folder: Path) -> None:
    """What has the size and the time that the cache knows is not read again; all else is."""
    first = load(folder).digest
    target = folder / "class10" / "img2.png"
    status, content = target.stat(), target.read_bytes()

    def write(data: bytes, time_ns: int) -> None:
        target.write_bytes(data)
        os.utime(target, ns=(time_ns, time_ns))

    other = content[:-1] + bytes([content[-1] ^ 1])
    write(other, status.st_mtime_ns)
    assert load(folder).digest == first
    fresh = ImageFolder(folder, size=16, cache=folder.parent / "elsewhere").digest
    assert fresh != first
    write(other, status.st_mtime_ns + 10**9)
    assert load(folder).digest == fresh
    write(other + b"more", status.st_mtime_ns + 10**9)
    assert load(folder).digest not in (first, fresh)
    # A part of the folder does not make the cache forget the rest.
    write(content, status.st_mtime_ns)
    assert load(folder).digest == first
    picture(folder / "class2" / "deeper" / "x.bmp", (1, 2, 3))
    load(folder, limit=1)
    write(other, status.st_mtime_ns)
    (store,) = (folder.parent / "cache").glob("*.json")
    assert set(json.loads(store.read_text())) == set(load(folder).ids)
    picture(folder / "class2" / "deeper" / "x.bmp", (0, 255, 0))
    assert load(folder).digest == first


@pytest.mark.parametrize(
    "content", ["[]", '{"class10/img2.png": 3}', '{"class10/img2.png": [1, 2]}', "null", "\xff"]
)
def test_a_digest_cache_with_other_contents_is_written_anew(folder: Path, content: str) -> None:
    first = load(folder).digest
    (store,) = (folder.parent / "cache").glob("*.json")
    good = json.loads(store.read_bytes())
    shortened = json.dumps({path: entry[:2] for path, entry in good.items()})
    for text in (content, shortened):
        store.write_bytes(text.encode("latin-1"))
        assert load(folder).digest == first
        assert json.loads(store.read_bytes()) == good
    assert sorted(p.name for p in store.parent.iterdir()) == [store.name]


def test_a_file_that_vanishes_while_it_is_hashed_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = ImageFolder._digest

    def late(self: ImageFolder, cache: Path | None) -> str:
        (folder / "class2" / "only.webp").unlink()
        return really(self, cache)

    monkeypatch.setattr(ImageFolder, "_digest", late)
    data = load(folder)
    assert re.search(r"only\.webp' \(No such file.*repair or remove", str(data.unreadable))


def test_image_folder_digest(folder: Path) -> None:
    first = load(folder).digest
    assert load(folder).digest == first
    assert ImageFolder(folder, size=16, cache=folder.parent / "elsewhere").digest == first
    assert load(folder, size=24).digest != first
    assert load(folder, limit=3).digest != first
    target = folder / "class10" / "img2.png"
    picture(target, (1, 2, 3))
    os.utime(target, ns=(1, 1))
    changed = load(folder).digest
    assert changed != first
    target.rename(target.with_name("img3.png"))
    assert load(folder).digest not in (first, changed)


def test_a_damaged_or_unwritable_digest_cache_does_no_harm(folder: Path) -> None:
    first = load(folder).digest
    (store,) = (folder.parent / "cache").glob("*.json")
    store.write_text("{broken")
    assert load(folder).digest == first
    store.unlink()
    os.mkfifo(store)
    assert load(folder).digest == first
    blocked = folder.parent / "file"
    blocked.write_text("")
    assert load(folder, cache=blocked / "below").digest == first


def test_image_folder_mistakes(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ClipRobustError, match="does not exist"):
        load(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ClipRobustError, match="no class folders"):
        load(empty)
    picture(empty / "loose.png")
    with pytest.raises(ClipRobustError, match="no class folders"):
        load(empty)
    (empty / "cats").mkdir()
    with pytest.raises(ClipRobustError, match="no images"):
        load(empty)
    with pytest.raises(ClipRobustError, match="is a file"):
        load(empty / "loose.png")
    with pytest.raises(ClipRobustError, match="limit of -1"):
        load(folder, limit=-1)
    (folder / "class2" / "broken.png").write_bytes(b"\x89PNG no more")
    data = load(folder)
    with pytest.raises(ClipRobustError, match=r"broken\.png") as caught:
        data.load(range(len(data)))
    assert "\n" not in str(caught.value)


def test_a_subset_is_rows_of_the_whole(folder: Path) -> None:
    whole = load(folder)
    part = Subset(whole, [4, 0])
    assert len(part) == 2
    assert part.ids == (whole.ids[4], whole.ids[0])
    assert part.labels == (whole.labels[4], whole.labels[0])
    assert part.groups == {"folder": ("class10", "class2")}
    assert part.load([1]).ids == whole.ids[:1]
    assert len({whole.digest, part.digest, Subset(whole, [0, 4]).digest}) == 3
    for rows in ([], [-1], [0, -1], [5], [0, 5]):
        with pytest.raises(ClipRobustError, match=r"has 5 samples, too few .*--clip-limit"):
            Subset(whole, rows)


def test_natural_order() -> None:
    names = ["b", "a10", "a2", "A2", "a", "10", "9"]
    assert sorted(names, key=natural_key) == ["9", "10", "a", "A2", "a2", "a10", "b"]


# --------------------------------------------------------------------------------------------------
# Loading by name
# --------------------------------------------------------------------------------------------------


def test_load_dataset_finds_what_is_meant(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: folder.parent / name)
    assert load_dataset("clean", profile="quick").name == "clean"
    assert len(load_dataset("embedded:near_ood", profile="quick", limit=7)) == 7
    assert len(load_dataset("clean")) == SIZES["clean"][1]
    assert load_dataset(f"imagefolder:{folder}").ids == load(folder).ids
    assert load_dataset(folder, limit=3, size=16).digest == load(folder, limit=3).digest
    monkeypatch.chdir(folder.parent)
    assert isinstance(load_dataset("set"), ImageFolder)
    (folder.parent / "clean" / "a").mkdir(parents=True)
    picture(folder.parent / "clean" / "a" / "x.png")
    assert isinstance(load_dataset("clean"), EmbeddedDataset)
    assert isinstance(load_dataset("./clean"), ImageFolder)


@pytest.mark.parametrize(("asked", "drawn"), [(32, 224), (224, 224), (300, 300)])
def test_the_benchmark_is_never_drawn_smaller_than_its_drawings(asked: int, drawn: int) -> None:
    found = load_dataset("clean", limit=1, size=asked)
    assert found.digest == EmbeddedDataset("clean", limit=1, size=drawn).digest


def test_the_benchmark_keeps_its_names() -> None:
    for own in ("mine=clean", "mine=embedded:clean"):
        with pytest.raises(ClipRobustError, match=r"has a name of its own .* drop mine=$"):
            load_dataset(own)
    (source, *_) = read_sources(["mine=embedded:clean"])
    with pytest.raises(ClipRobustError, match=r"has a name of its own .* drop mine=$"):
        load_source(source)
    (source, *_) = read_sources(["embedded:clean"])
    assert load_source(source, limit=2).digest == load_dataset("clean", limit=2).digest


def test_data_of_the_users_own_are_called_after_their_folder_or_as_he_says(folder: Path) -> None:
    own = f"imagefolder:{folder.name}"
    assert load_dataset(f"imagefolder:{folder}").name == own
    assert load_dataset(f"mine=imagefolder:{folder}").name == "imagefolder:mine"
    assert load_dataset(f"mine={folder}").name == "imagefolder:mine"
    assert load_dataset(f"pictures:{folder}").name == f"pictures:{folder.name}"
    assert load_dataset(f"mine=pictures:{folder}").name == "pictures:mine"


def test_whose_fault_a_layout_is(tmp_path: Path) -> None:
    """One of ours has met its forms, so that the files are damaged; a user's is told with his line."""

    def breaks(root: str, **_: object) -> Dataset:
        raise KeyError("gone")

    with LAYOUTS.preserved():
        LAYOUTS.add("own", breaks, module="theirs")  # type: ignore[arg-type]
        with pytest.raises(UserCodeError, match=r"^layout 'own' on '/x' fails \(KeyError"):
            load_dataset("own:/x")
        breaks.__module__ = "pytest_cliprobust.datasets.layouts.scam"
        LAYOUTS.add("scam", breaks, module=breaks.__module__)  # type: ignore[arg-type]
        with pytest.raises(ClipRobustError, match=r"'scam:/x' cannot be read \(KeyError") as caught:
            load_dataset("scam:/x")
        assert type(caught.value) is ClipRobustError


def test_load_dataset_names_the_nearest() -> None:
    with pytest.raises(ClipRobustError) as caught:
        load_dataset("clear")
    assert "Did you mean 'clean'?" in str(caught.value)
    assert all(f"{layout}:PATH" in str(caught.value) for layout in LAYOUTS)
    with pytest.raises(ClipRobustError, match="Did you mean 'cue_conflict'"):
        load_dataset("cue-conflict")
    with pytest.raises(ClipRobustError, match="Did you mean 'factor-pose'"):
        load_dataset("embedded:factor-poze")
    with pytest.raises(ClipRobustError, match="names no folder"):
        load_dataset("imagefolder:")
    with pytest.raises(ClipRobustError, match="does not exist"):
        load_dataset("/no/such/folder")

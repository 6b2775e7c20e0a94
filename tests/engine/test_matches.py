"""Matches of pairs through the engine: the same in any company, kept, and refused in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pytest_cliprobust.cache import FeatureCache
from pytest_cliprobust.datasets.base import Batch, Links, PairBatch
from pytest_cliprobust.datasets.subset import Subset
from pytest_cliprobust.engine.encoding import Encoder, seen_whole
from pytest_cliprobust.engine.view import View
from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.properties.correspondence import errors_of
from pytest_cliprobust.targets.base import LAST, Layer, TargetInfo
from pytest_cliprobust.targets.preprocessing import Preprocessing

SIDE, GRID, SHIFT = 32, 8, 4


class Shifted:
    """Pairs of noise; the second picture is the first, one patch to the right."""

    name, digest = "shifted", "1"
    class_names: tuple[str, ...] = ("a",)
    labels: tuple[int, ...] = (0,) * 40
    limits: tuple[float, ...] = (1.0, 5.0)
    angle_edges: tuple[float, ...] = ()

    def __init__(self) -> None:
        self.ids = tuple(f"p{i}" for i in range(40))
        self.groups: dict[str, tuple[str, ...]] = {"half": ("a",) * 20 + ("b",) * 20}
        self.loaded = 0

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, indices: Sequence[int]) -> Batch:
        return self.load_pairs(indices).first

    def load_pairs(self, indices: Sequence[int]) -> PairBatch:
        self.loaded += len(indices)
        first = torch.stack([self._picture(i) for i in indices])
        ids = tuple(self.ids[i] for i in indices)
        second = Batch(ids, torch.roll(first, SHIFT, dims=3))
        centres = torch.arange(2, SIDE - SHIFT, 4) + 0.0
        links = []
        for i in indices:
            points = torch.cartesian_prod(centres, centres)[: 10 + i % 3]
            links.append(Links(points, points + torch.tensor([float(SHIFT), 0.0])))
        return PairBatch(Batch(ids, first), second, tuple(links))

    @staticmethod
    def _picture(index: int) -> Tensor:
        generator = torch.Generator().manual_seed(index)
        patches = torch.randint(0, 256, (3, GRID, GRID), dtype=torch.uint8, generator=generator)
        return patches.repeat_interleave(4, 1).repeat_interleave(4, 2)


class Colours:
    """A model without patch features: the picture's mean colour."""

    info = TargetInfo("patches", "", "", "d")
    device, image_size, embed_dim = torch.device("cpu"), (SIDE, SIDE), 3
    logit_scale, logit_bias, probability = 1.0, None, "softmax"

    def frame(self, image: Tensor, size: int) -> Tensor:
        return image

    def preprocess(self, images: Tensor) -> Tensor:
        return images - 0.5

    def encode_image(self, pixels: Tensor) -> Tensor:
        return torch.nn.functional.normalize(pixels.mean((2, 3)) + 1, dim=1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return torch.ones(len(texts), 3)


class Patches(Colours):
    """A model whose patch features are the patches' mean colours."""

    broken = False

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.layers: list[object] = []

    def dense_features(self, pixels: Tensor, layer: Layer = LAST) -> Tensor:
        self.sizes.append(len(pixels))
        self.layers.append(layer)
        dense = torch.nn.functional.avg_pool2d(pixels, 4)
        return dense * torch.nan if self.broken else dense


def encoder(target: Any, root: Path) -> Encoder:
    return Encoder(target, FeatureCache(root))


def test_a_shifted_picture_is_matched_exactly_and_once(tmp_path: Path) -> None:
    data, target = Shifted(), Patches()
    engine = encoder(target, tmp_path)
    found = engine.matches(data)
    assert [len(rows) for rows in found] == [10 + i % 3 for i in range(40)]
    for rows in found:
        assert rows.shape[1] == 9 + 2
        assert np.isinf(rows[:, 8]).all()
        assert (errors_of(rows) == 0).all()
    # Passes of one size, the last one padded; counted; and no second time from the cache.
    assert set(target.sizes) == {32}
    assert engine.forwarded == 80
    assert all(np.array_equal(a, b) for a, b in zip(engine.matches(data), found, strict=True))
    assert engine.forwarded == 80
    # Another layer is another pass over pairs that were loaded already.
    engine.matches(data, -2)
    assert engine.forwarded == 160
    assert target.layers[-1] == -2
    assert data.loaded == 40


def test_pairs_are_the_same_in_any_company(tmp_path: Path) -> None:
    whole = encoder(Patches(), tmp_path / "a").matches(Shifted())
    some = encoder(Patches(), tmp_path / "b").matches(Subset(Shifted(), [33, 2]))
    assert np.array_equal(some[0], whole[33])
    assert np.array_equal(some[1], whole[2])


def test_out_of_memory_takes_fewer(tmp_path: Path) -> None:
    class Small(Patches):
        def dense_features(self, pixels: Tensor, layer: Layer = LAST) -> Tensor:
            if len(pixels) > 8:
                raise torch.OutOfMemoryError
            return super().dense_features(pixels, layer)

    target = Small()
    found = encoder(target, tmp_path / "a").matches(Shifted())
    assert set(target.sizes) == {8}
    usual = encoder(Patches(), tmp_path / "b").matches(Shifted())
    assert all(np.array_equal(a, b) for a, b in zip(found, usual, strict=True))


def test_what_cannot_be_matched_says_why(tmp_path: Path) -> None:
    with pytest.raises(NotRun, match=r"'patches' offers no patch features of layer -1 \(it has no"):
        encoder(Colours(), tmp_path).matches(Shifted())

    class Broken(Patches):
        broken = True

    with pytest.raises(ClipRobustError, match="infinite patch features on shifted, for 'p0'"):
        encoder(Broken(), tmp_path).matches(Shifted())

    class Single:
        name, digest, ids = "single", "2", ("a",)

        def __len__(self) -> int:
            return 1

    with pytest.raises(NotRun, match="'single' are no pairs"):
        encoder(Patches(), tmp_path).matches(Single())  # type: ignore[arg-type]


def view_of(data: Shifted, engine: Encoder, *steps: Step) -> View:
    def nothing() -> Any:
        raise NotImplementedError

    return View(
        Condition("shifted", steps),
        data,
        nothing,
        nothing,
        matches=lambda layer: engine.matches(data, layer),
    )


def test_a_view_of_pairs(tmp_path: Path) -> None:
    engine = encoder(Patches(), tmp_path)
    view = view_of(Shifted(), engine)
    assert (view.limits, view.angle_edges) == ((1.0, 5.0), ())
    part = view.where("half", "b")
    assert len(part.matches()) == 20
    assert np.array_equal(part.matches()[0], view.matches()[20])
    assert part.limits == (1.0, 5.0)
    with pytest.raises(NotRun, match="without perturbations"):
        view_of(Shifted(), engine, Step("contrast", 3)).matches()
    with pytest.raises(NotRun, match="without perturbations"):
        View(Condition("shifted"), Shifted(), lambda: None, lambda: None).matches()  # type: ignore[arg-type, return-value]


class Oblong(Patches):
    """The same of pictures half as high, by a preprocessing that would cut the rest away."""

    image_size = (SIDE // 2, SIDE)

    def preprocess(self, images: Tensor) -> Tensor:
        return Preprocessing(self.image_size).fit(images)

    def dense_features(self, pixels: Tensor, layer: Layer = LAST) -> Tensor:
        self.seen = pixels
        return super().dense_features(pixels, layer)


@pytest.mark.parametrize("own", [None, Preprocessing((SIDE // 2, SIDE))])
def test_pairs_reach_a_model_of_another_shape_whole(
    own: Preprocessing | None, tmp_path: Path
) -> None:
    """Pairs are squares: were they cropped, no patch would lie where places are looked for."""
    target: Any = Oblong()
    if own is not None:
        target.preprocessing = own
    encoder(target, tmp_path).matches(Subset(Shifted(), [0]))
    picture = Shifted().load_pairs([0]).first.images.float() / 255
    halved = torch.nn.functional.avg_pool2d(picture, (2, 1))
    away = [
        float((seen - halved).abs().mean())
        for seen in (target.seen[:1], target.preprocess(picture))
    ]
    assert away[0] < 0.05 < 0.1 < away[1]


def test_pictures_are_squeezed_only_where_they_would_be_cut() -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    target: Any = Colours()
    for settings, squeezed in (
        ({"size": (32, 32)}, False),
        ({"size": (64, 64), "resize": 80}, False),
        ({"size": (32, 32), "resize": 40}, True),
        ({"size": (32, 32), "resize_mode": "keep"}, True),
        ({"size": (32, 16)}, True),
        ({"size": (32, 16), "resize_mode": "longest"}, True),
        ({"size": (32, 16), "resize_mode": "squash"}, False),
    ):
        own = Preprocessing(**settings)
        target.preprocessing, target.image_size, target.preprocess = own, own.size, own.fit
        seen = seen_whole(target, images)
        assert seen.shape[2:] == own.size
        assert torch.equal(seen, own.fit(images)) == (not squeezed)

"""The engine: independence of the batch size, caching, back-off, and errors that name the culprit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pytest_cliprobust.cache import FeatureCache
from pytest_cliprobust.datasets.base import Batch, LazyExtras
from pytest_cliprobust.engine.encoding import FORWARD_CHUNK, Encoder
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import Step
from pytest_cliprobust.targets.base import TargetInfo


class TinyTarget:
    """A random convolution with the interface of a target."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.randn(16, 3, 8, 8, generator=generator)
        self.info = TargetInfo("tiny", "conv", "random", "0" * 64)
        self.device = torch.device("cpu")
        self.image_size = (32, 32)
        self.embed_dim = 16
        self.logit_scale, self.logit_bias, self.probability = 10.0, None, "softmax"
        self.sizes: list[int] = []
        self.memory = 10**9

    def preprocess(self, images: Tensor) -> Tensor:
        return images - 0.5

    def encode_image(self, pixels: Tensor) -> Tensor:
        self.sizes.append(len(pixels))
        if len(pixels) > self.memory:
            raise torch.OutOfMemoryError("made up")
        features = torch.nn.functional.conv2d(pixels, self.weight, stride=8).relu().mean((2, 3))
        return torch.nn.functional.normalize(features, dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        rows = [[float(len(text)), *map(float, range(15))] for text in texts]
        return torch.nn.functional.normalize(torch.tensor(rows), dim=-1)


class RandomPictures:
    """A data set of random pictures, each from its own index."""

    def __init__(self, count: int) -> None:
        self.name, self.digest = "random", f"random-{count}"
        self.ids = tuple(f"r/{i}" for i in range(count))
        self.labels = (0,) * count
        self.class_names: tuple[str, ...] = ("thing",)
        self.groups: dict[str, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, indices: Sequence[int]) -> Batch:
        images = [
            torch.randint(
                0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(i)
            )
            for i in indices
        ]
        return Batch(tuple(self.ids[i] for i in indices), torch.stack(images))


def encoder(path: Path, target: TinyTarget | None = None, **options: int) -> Encoder:
    return Encoder(target or TinyTarget(), FeatureCache(path), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, FORWARD_CHUNK, 71])
def test_features_are_bit_identical_for_every_batch_size(tmp_path: Path, count: int) -> None:
    data = RandomPictures(count)
    results = [encoder(tmp_path / str(size), batch_size=size).images(data) for size in (1, 7, 64)]
    assert results[0].shape == (count, 16)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_the_model_always_sees_full_chunks(tmp_path: Path) -> None:
    target = TinyTarget()
    encoder(tmp_path, target, batch_size=7).images(RandomPictures(71))
    assert set(target.sizes) == {FORWARD_CHUNK}
    assert len(target.sizes) == -(-71 // FORWARD_CHUNK)


def test_a_second_request_comes_from_the_cache(tmp_path: Path) -> None:
    first = encoder(tmp_path)
    second = encoder(tmp_path)
    assert torch.equal(first.images(RandomPictures(9)), second.images(RandomPictures(9)))
    assert (first.forwarded, second.forwarded) == (9, 0)


def test_severity_zero_is_clean(tmp_path: Path) -> None:
    engine = encoder(tmp_path)
    clean = engine.images(RandomPictures(5))
    assert torch.equal(engine.images(RandomPictures(5), [Step("patch_occlusion", 0)]), clean)
    assert engine.forwarded == 5
    assert not torch.equal(engine.images(RandomPictures(5), [Step("patch_occlusion", 5)]), clean)


def test_out_of_memory_halves_the_chunk_and_is_noted(tmp_path: Path) -> None:
    target = TinyTarget()
    target.memory = FORWARD_CHUNK // 3
    engine = encoder(tmp_path / "small", target)
    features = engine.images(RandomPictures(40))
    assert engine.chunk == FORWARD_CHUNK // 4
    assert len(engine.notes) == 2
    torch.testing.assert_close(features, encoder(tmp_path / "large").images(RandomPictures(40)))


def test_out_of_memory_with_one_image_is_one_clear_line(tmp_path: Path) -> None:
    target = TinyTarget()
    target.memory = 0
    with pytest.raises(ClipRobustError, match="--clip-device"):
        encoder(tmp_path, target).images(RandomPictures(3))


def test_features_that_are_not_finite_name_the_sample(tmp_path: Path) -> None:
    target = TinyTarget()
    target.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ClipRobustError, match=r"'tiny' gives NaN .* random, .*'r/0'"):
        encoder(tmp_path, target).images(RandomPictures(3))


def test_texts_are_cached_in_order(tmp_path: Path) -> None:
    engine = encoder(tmp_path)
    features = engine.text(["a", "bbb", "cc"])
    assert torch.equal(features, encoder(tmp_path).text(["a", "bbb", "cc"]))
    assert torch.equal(engine.text(["cc", "a"]), features[[2, 0]])


def test_an_interrupted_pass_goes_on_where_it_stopped(tmp_path: Path) -> None:
    data = RandomPictures(5 * FORWARD_CHUNK + 3)
    whole = encoder(tmp_path / "whole").images(data)

    def stop(description: str, done: int, total: int) -> None:
        if FORWARD_CHUNK * 2 < done < total:
            raise KeyboardInterrupt

    first = encoder(tmp_path / "c", batch_size=20)
    first.progress = stop
    with pytest.raises(KeyboardInterrupt):
        first.images(data)
    assert list((tmp_path / "c").rglob("*.unfinished"))
    second = encoder(tmp_path / "c", batch_size=7)
    assert torch.equal(second.images(data), whole)
    assert first.forwarded > 0
    assert first.forwarded + second.forwarded == len(data)
    assert not list((tmp_path / "c").rglob("*.unfinished"))


def test_a_long_pass_is_saved_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a SIGKILL leaves: nothing can be saved at that moment."""
    monkeypatch.setattr("pytest_cliprobust.engine.encoding.SAVE_SECONDS", 0.0)
    found: list[int] = []
    engine = encoder(tmp_path)
    engine.progress = lambda *_: found.append(len(list(tmp_path.rglob("*.unfinished"))))
    engine.images(RandomPictures(3 * FORWARD_CHUNK))
    assert found[1] == 1


def test_features_that_are_not_finite_are_never_stored(tmp_path: Path) -> None:
    target = TinyTarget()
    target.weight[0, 0, 0, 0] = float("nan")
    for _ in range(2):
        with pytest.raises(ClipRobustError, match="NaN"):
            encoder(tmp_path, target).images(RandomPictures(3))
    assert not list(tmp_path.rglob("*.features"))


def test_samples_with_equal_keys_are_loaded_once_and_extras_only_on_demand(tmp_path: Path) -> None:
    loaded: list[int] = []
    made: list[str] = []

    def texture() -> Tensor:
        made.append("x")
        return torch.zeros(1)

    class Prefix(RandomPictures):
        def __init__(self, count: int) -> None:
            super().__init__(count)
            self.sample_keys = self.ids

        def load(self, indices: Sequence[int]) -> Batch:
            loaded.extend(indices)
            batch = super().load(indices)
            return replace(batch, extras=LazyExtras({}, {"texture": texture}))

    engine = encoder(tmp_path)
    engine.images(Prefix(2 * FORWARD_CHUNK))
    engine.images(Prefix(FORWARD_CHUNK), [Step("patch_occlusion", 2)])
    assert loaded == list(range(2 * FORWARD_CHUNK))
    assert made == []


@pytest.mark.parametrize("change", ["precision", "torch"])
def test_precision_and_torch_are_part_of_every_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    first, second = encoder(tmp_path), encoder(tmp_path)
    first.images(RandomPictures(3))
    first.text(["a"])
    if change == "precision":
        second.precision = "bf16"
    else:
        monkeypatch.setattr(torch, "__version__", "0.0")
    stored = len(list(tmp_path.rglob("*.features")))
    second.images(RandomPictures(3))
    second.text(["a"])
    assert second.forwarded == 3
    assert len(list(tmp_path.rglob("*.features"))) == 2 * stored


def test_regrouped_passes_are_smaller_and_leave_the_chunk_alone(tmp_path: Path) -> None:
    target = TinyTarget()
    engine = encoder(tmp_path, target)
    other = engine.regrouped(RandomPictures(40), 8)
    assert set(target.sizes) == {8}
    assert engine.chunk == FORWARD_CHUNK
    torch.testing.assert_close(other, engine.images(RandomPictures(40)))

"""The engine: independence of the batch size, caching, back-off, and errors that name the culprit."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pytest_cliprobust.cache import FeatureCache
from pytest_cliprobust.datasets.base import Batch, LazyExtras
from pytest_cliprobust.datasets.depth.base import MissingDepth
from pytest_cliprobust.datasets.framing import Framing
from pytest_cliprobust.datasets.subset import Subset
from pytest_cliprobust.engine import encoding, transfer
from pytest_cliprobust.engine.encoding import (
    ACCELERATOR_CHUNK,
    FORWARD_CHUNK,
    SHAPED_CHUNK,
    Encoder,
    on_white,
    require_inputs,
)
from pytest_cliprobust.engine.memory import part_of
from pytest_cliprobust.errors import ClipRobustError, NotRun, Unavailable, UserCodeError
from pytest_cliprobust.figures.condition import Step
from pytest_cliprobust.perturbations import lettering, registry, typographic
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


@pytest.mark.parametrize(
    ("device", "chunk"),
    [("cpu", FORWARD_CHUNK), ("cuda:1", ACCELERATOR_CHUNK), ("mps", ACCELERATOR_CHUNK)],
)
def test_the_kind_of_device_decides_how_many_a_pass_takes(
    tmp_path: Path, device: str, chunk: int
) -> None:
    target = TinyTarget()
    target.device = torch.device(device)
    engine = encoder(tmp_path, target)
    assert (engine.chunk, engine.batch_size) == (chunk, chunk)
    given = encoder(tmp_path, target, chunk=4, batch_size=9)
    assert (given.chunk, given.batch_size) == (4, 9)


def test_the_size_of_passes_is_part_of_the_key_unless_it_is_the_cpus(tmp_path: Path) -> None:
    data = RandomPictures(3)
    for chunk, forwarded in ((0, 3), (ACCELERATOR_CHUNK, 3), (FORWARD_CHUNK, 0)):
        engine = encoder(tmp_path, chunk=chunk)
        engine.images(data)
        assert engine.forwarded == forwarded


class Crowded(TinyTarget):
    """Memory for few pixels at a time: there is no room to put those of many pictures together."""

    def __init__(self, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        real = torch.cat

        def cat(tensors: list[Tensor], *rest: Any, **named: Any) -> Tensor:
            pictures = [tensor for tensor in tensors if tensor.ndim == 4]
            if sum(map(len, pictures)) > most:
                raise torch.OutOfMemoryError("made up")
            return real(tensors, *rest, **named)

        monkeypatch.setattr(torch, "cat", cat)


def test_out_of_memory_while_pictures_are_put_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an accelerator whose memory holds them in parts, but not as a whole beside the parts."""
    data = RandomPictures(150)
    whole = encoder(tmp_path / "large").images(data)
    engine = encoder(tmp_path / "small", Crowded(60, monkeypatch), batch_size=50)
    assert torch.equal(engine.images(data), whole)  # fewer are loaded, and no pass is smaller
    assert (engine.chunk, engine.batch_size) == (FORWARD_CHUNK, 25)
    assert engine.notes == ["out of memory on cpu: 25 pictures loaded at a time"]
    assert 0 < engine.cached < engine.forwarded  # what was done before is not done again
    assert engine.forwarded + engine.cached == 150
    engine = encoder(tmp_path / "smallest", Crowded(20, monkeypatch), batch_size=25)
    torch.testing.assert_close(engine.images(data), whole)
    assert (engine.chunk, engine.batch_size) == (FORWARD_CHUNK // 4, 12)
    assert sum("last digits" in note for note in engine.notes) == 2
    assert engine.forwarded == 150


def test_a_second_request_comes_from_the_cache(tmp_path: Path) -> None:
    first = encoder(tmp_path)
    second = encoder(tmp_path)
    assert torch.equal(first.images(RandomPictures(9)), second.images(RandomPictures(9)))
    assert (first.forwarded, second.forwarded) == (9, 0)


def test_an_encoder_has_counted_nothing_yet(tmp_path: Path) -> None:
    new = encoder(tmp_path)
    assert (new.forwarded, new.cached, new.probed) == (0, 0, 0)
    assert (new.precision, new.seed, new.notes) == ("fp32", 0, [])
    assert (new.chunk, new.batch_size, new.text_chunk) == (32, 32, 32)


def test_what_a_perturbation_needs_must_be_there() -> None:
    def needing(*inputs: str) -> registry.Perturbation:
        return registry.Perturbation("x", torch.relu, "own", inputs=frozenset(inputs))

    bare = Batch(("a",), torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    whole = replace(bare, depth=torch.ones(1, 1, 4, 4), mask=torch.ones(1, 1, 4, 4))
    require_inputs(needing("seeds"), bare, "mine")
    require_inputs(needing("seeds", "depth", "mask"), whole, "mine")
    with pytest.raises(NotRun, match="'mine' has no depth and no mask, which 'x' needs"):
        require_inputs(needing("mask", "depth"), bare, "mine")
    for name, part in (
        ("depth", replace(whole, depth=None)),
        ("mask", replace(whole, mask=None)),
    ):
        with pytest.raises(NotRun, match=f"'mine' has no {name}, which 'x' needs"):
            require_inputs(needing("depth", "mask"), part, "mine")


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


def test_a_failure_that_somebody_keeps_leaves_no_thread_behind(tmp_path: Path) -> None:
    """Its frames would hold the one that loads, for the garbage collector to end at any time."""
    target = TinyTarget()
    target.preprocess = lambda images: images[:, :, 0]  # type: ignore[method-assign]
    before = set(threading.enumerate())
    with pytest.raises(UserCodeError) as kept:
        encoder(tmp_path, target, batch_size=2).images(RandomPictures(9))
    assert set(threading.enumerate()) <= before
    assert kept.value.__traceback__ is not None


KINDS = [
    torch.OutOfMemoryError("made up"),
    MemoryError(),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: x"
    ),
    RuntimeError("[enforce fail at alloc_cpu.cpp:80] . DefaultCPUAllocator: not enough memory: x"),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB). Tried to allocate 2 GB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("HIP out of memory. Tried to allocate 2 GB"),
]


@pytest.mark.parametrize("error", KINDS, ids=str)
def test_every_kind_of_too_little_memory_backs_off(error: Exception, tmp_path: Path) -> None:
    target = TinyTarget()
    really, texts = target.encode_image, target.encode_text

    def image(pixels: Tensor) -> Tensor:
        if len(pixels) > 8:
            raise error
        return really(pixels)

    def text(words: Sequence[str]) -> Tensor:
        if len(words) > 20:
            raise error
        return texts(words)

    target.encode_image = image  # type: ignore[method-assign]
    target.encode_text = text  # type: ignore[method-assign,assignment]
    engine = encoder(tmp_path, target)
    assert engine.images(RandomPictures(40)).shape == (40, 16)
    assert (engine.chunk, engine.forwarded, engine.cached) == (8, 40, 0)
    words = [str(number) for number in range(100)]
    assert torch.equal(engine.text(words), texts(words))
    assert engine.text_chunk == 16
    assert len(engine.notes) == 3


def test_another_error_does_not_pass_for_too_little_memory(tmp_path: Path) -> None:
    target = TinyTarget()

    def fail(pixels: Tensor) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    target.encode_image = fail  # type: ignore[method-assign]
    with pytest.raises(UserCodeError, match="cannot be multiplied"):
        encoder(tmp_path, target).images(RandomPictures(3))


@pytest.mark.parametrize(("asked", "given"), [(3, 1), (1, 0), (2, 3)])
def test_other_than_one_picture_a_sample_names_the_data_set(
    tmp_path: Path, asked: int, given: int
) -> None:
    data = RandomPictures(asked)

    def load(indices: Sequence[int]) -> Batch:
        return Batch(data.ids[:asked], torch.zeros(given, 3, 32, 32, dtype=torch.uint8))

    data.load = load  # type: ignore[method-assign]
    told = (
        rf"loading samples of data set '{data.name}' gave {given} pictures? for {asked} samples?:"
    )
    with pytest.raises(ClipRobustError, match=told):
        encoder(tmp_path, TinyTarget()).images(data)


def test_rows_of_small_passes_are_no_other_runs(tmp_path: Path) -> None:
    """Where memory ran out in the middle, everything is computed in passes of the smaller size."""
    target = TinyTarget()
    really, asked = target.encode_image, []

    def image(pixels: Tensor) -> Tensor:
        asked.append(len(pixels))
        if len(pixels) > 16 and len(asked) > 1:
            raise torch.OutOfMemoryError("made up")
        return really(pixels)

    target.encode_image = image  # type: ignore[method-assign]
    data = RandomPictures(70)
    small = encoder(tmp_path, target)
    features = small.images(data)
    assert asked == [32, 32, 16, 16, 16, 16, 16]
    assert small.forwarded == 70
    again = encoder(tmp_path, target, chunk=16)
    assert torch.equal(again.images(data), features)
    assert again.forwarded == 0
    usual = encoder(tmp_path)  # with more memory
    usual.images(data)
    assert usual.forwarded > 0
    assert small.images(data) is not None
    assert small.forwarded == 70


@pytest.mark.parametrize("error", KINDS, ids=str)
def test_too_little_memory_for_a_perturbation_takes_fewer_pictures(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = registry.get("patch_occlusion")
    sizes: list[int] = []

    class Hungry:
        def __getattr__(self, name: str) -> Any:
            return getattr(apply, name)

        def __call__(self, images: Tensor, *arguments: Any, **options: Any) -> Tensor:
            sizes.append(len(images))
            if len(images) > 5:
                raise error
            return apply(images, *arguments, **options)

    expected = encoder(tmp_path / "plain").images(RandomPictures(40), [Step("patch_occlusion", 3)])
    monkeypatch.setattr(registry, "get", lambda name: Hungry())
    engine = encoder(tmp_path / "hungry", batch_size=20)
    found = engine.images(RandomPictures(40), [Step("patch_occlusion", 3)])
    assert torch.equal(found, expected)  # row by row, so that they are the same to the last bit
    assert sizes == [20, 10, *[5] * 8]
    assert engine.chunk == FORWARD_CHUNK
    assert engine.notes == [
        "out of memory on cpu: 10 pictures perturbed at a time",
        "out of memory on cpu: 5 pictures perturbed at a time",
    ]


@pytest.mark.parametrize("error", KINDS, ids=str)
def test_too_little_memory_while_loading_loads_fewer(error: Exception, tmp_path: Path) -> None:
    data = RandomPictures(70)
    expected = encoder(tmp_path / "plain").images(data)
    really, sizes = data.load, []

    def load(indices: Sequence[int]) -> Batch:
        sizes.append(len(indices))
        if len(indices) > 20:
            raise error
        return really(indices)

    data.load = load  # type: ignore[method-assign]
    engine = encoder(tmp_path / "hungry", batch_size=64)
    assert torch.equal(engine.images(data), expected)  # passes are as large as before
    assert (engine.chunk, engine.batch_size, engine.forwarded) == (FORWARD_CHUNK, 16, 70)
    assert engine.notes == [
        f"out of memory on cpu: {count} pictures loaded at a time" for count in (32, 16)
    ]


def test_a_picture_too_large_to_be_loaded_is_one_line(tmp_path: Path) -> None:
    data = RandomPictures(3)

    def load(indices: Sequence[int]) -> Batch:
        raise MemoryError

    data.load = load  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="with a single image or text"):
        encoder(tmp_path).images(data)


def test_a_part_of_a_batch_has_a_part_of_everything() -> None:
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    extras = LazyExtras(
        {"focal": torch.arange(4.0)},
        {"texture": [partial(torch.arange, 2.0 * i, 2.0 * i + 2) for i in range(4)]},
    )
    batch = Batch(("a", "b", "c", "d"), images, images[:, :1].float(), None, extras)
    part = part_of(batch, slice(1, 3))
    assert part.ids == ("b", "c")
    assert part.images[:, 0, 0, 0].tolist() == [1, 2]
    assert part.depth is not None
    assert part.depth[:, 0, 0, 0].tolist() == [1, 2]
    assert part.mask is None
    assert part.extras["focal"].tolist() == [1, 2]
    assert part.extras["texture"].tolist() == [[2, 3], [4, 5]]
    masked = part_of(replace(batch, depth=None, mask=images[:, :1].float()), slice(1, 3))
    assert masked.depth is None
    assert masked.mask is not None
    assert masked.mask[:, 0, 0, 0].tolist() == [1, 2]
    plain = part_of(replace(batch, extras={"focal": torch.arange(4.0)}), slice(3, 4))
    assert plain.extras["focal"].tolist() == [3]


class MadeDepth:
    """A source of depth that says what it was asked for: metres as the number in each id."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def key(self, dataset: RandomPictures) -> dict[str, str]:
        return {"made": dataset.digest}

    def depth(self, dataset: RandomPictures, ids: Sequence[str]) -> Tensor:
        self.asked.append(tuple(ids))
        metres = torch.tensor([float(name.split("/")[1]) for name in ids]) + 1
        return metres.view(-1, 1, 1, 1).expand(-1, 1, 32, 32)


def test_depth_is_asked_for_where_it_is_used_and_lacking(tmp_path: Path) -> None:
    data, source = RandomPictures(3), MadeDepth()
    engine = Encoder(TinyTarget(), FeatureCache(tmp_path), depth=source)  # type: ignore[arg-type]
    fog, noise = registry.get("fog_3d"), registry.get("patch_occlusion")
    batch = data.load([0, 2])
    added = engine._with_depth(data, batch, fog)
    assert added.depth is not None
    assert added.depth[:, 0, 0, 0].tolist() == [1, 3]
    assert engine._with_depth(data, batch, noise).depth is None
    own = replace(batch, depth=torch.ones(2, 1, 32, 32))
    assert engine._with_depth(data, own, fog) is own
    assert source.asked == [("r/0", "r/2")]
    without = Encoder(TinyTarget(), FeatureCache(tmp_path))  # type: ignore[arg-type]
    assert without._with_depth(data, batch, noise) is batch
    with pytest.raises(MissingDepth, match=r"'random' has no depth, which 'fog_3d' needs"):
        without._with_depth(data, batch, fog)


def test_features_that_are_not_finite_name_the_sample(tmp_path: Path) -> None:
    target = TinyTarget()
    really = target.encode_image

    def spoil(pixels: Tensor) -> Tensor:
        features = really(pixels)
        # Rows of the second chunk; the first of them has one bad number, not the first of its row.
        if len(target.sizes) == 2:
            features[2, 5], features[4] = float("inf"), float("nan")
        return features

    target.encode_image = spoil  # type: ignore[method-assign]
    count = FORWARD_CHUNK + 6
    with pytest.raises(ClipRobustError) as caught:
        encoder(tmp_path, target).images(RandomPictures(count))
    assert str(caught.value) == (
        "model 'tiny' gives NaN or infinite features on random, for 2 of "
        f"{count} samples (first: 'r/{FORWARD_CHUNK + 2}'); check the weights, or try "
        "--clip-precision fp32"
    )


@pytest.mark.parametrize(("rows", "width"), [(1, 16), (FORWARD_CHUNK - 1, 16), (FORWARD_CHUNK, 1)])
def test_features_of_another_shape_are_refused(tmp_path: Path, rows: int, width: int) -> None:
    target = TinyTarget()
    target.encode_image = lambda pixels: torch.ones(rows, width)  # type: ignore[method-assign]
    words = rf"'tiny': encode_image returns \({rows}, {width}\) for 32 inputs instead of \(32, 16\)"
    with pytest.raises(ClipRobustError, match=words):
        encoder(tmp_path, target).images(RandomPictures(3))
    target.encode_text = lambda texts: torch.ones(1, 16)  # type: ignore[method-assign]
    with pytest.raises(ClipRobustError, match=r"encode_text returns \(1, 16\) for 32 inputs"):
        encoder(tmp_path, target).text(["a", "b"])


def test_texts_are_cached_in_order(tmp_path: Path) -> None:
    engine = encoder(tmp_path)
    features = engine.text(["a", "bbb", "cc"])
    assert torch.equal(features, encoder(tmp_path).text(["a", "bbb", "cc"]))
    assert torch.equal(engine.text(["cc", "a"]), features[[2, 0]])


@pytest.mark.parametrize("count", [1, 31, 32, 33, 300])
def test_many_texts_go_in_passes_of_one_size(tmp_path: Path, count: int) -> None:
    target = TinyTarget()
    really, sizes = target.encode_text, []

    def encode_text(texts: Sequence[str]) -> Tensor:
        sizes.append(len(texts))
        return really(texts)

    target.encode_text = encode_text  # type: ignore[method-assign]
    texts = ["a" * i for i in range(count)]
    assert torch.equal(encoder(tmp_path, target).text(texts), really(texts))
    looking = 2  # whether a text's features depend on its company
    assert sizes == [32] * (-(-count // 32) + looking)


def test_a_text_without_features_is_named(tmp_path: Path) -> None:
    target = TinyTarget()
    target.encode_text = lambda texts: torch.tensor(  # type: ignore[method-assign]
        [[1.0, float("nan") if text == "bad" else 0.0, *[0.0] * 14] for text in texts]
    )
    with pytest.raises(ClipRobustError, match=r"on text, for 1 of 3 samples \(first: 'bad'\)"):
        encoder(tmp_path, target).text(["good", "bad", "fine"])


@pytest.mark.parametrize(
    ("shape", "taken"),
    [
        ((FORWARD_CHUNK + 5, 16), FORWARD_CHUNK),  # whole chunks only
        ((2 * FORWARD_CHUNK, 16), 2 * FORWARD_CHUNK),
        ((FORWARD_CHUNK - 1, 16), 0),
        ((FORWARD_CHUNK, 15), 0),  # of another model
        ((4 * FORWARD_CHUNK, 16), 0),  # of a larger data set
    ],
)
def test_what_is_taken_from_an_interrupted_pass(
    tmp_path: Path, shape: tuple[int, int], taken: int
) -> None:
    unfinished = FeatureCache(tmp_path).unfinished({"a": 1})
    features = np.full((3 * FORWARD_CHUNK, 16), 7, np.float32)
    assert Encoder._resume(unfinished, features) == 0
    unfinished._path.parent.mkdir()
    unfinished.save(np.ones(shape, np.float32))
    assert Encoder._resume(unfinished, features) == taken
    assert (features[:taken] == 1).all()
    assert (features[taken:] == 7).all()


def test_samples_are_kept_as_far_as_memory_is_granted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[int] = []

    class Counted(RandomPictures):
        def load(self, indices: Sequence[int]) -> Batch:
            loaded.extend(indices)
            return super().load(indices)

    # Two batches of ten pictures are kept, the third is loaded anew each time.
    monkeypatch.setattr("pytest_cliprobust.engine.encoding.KEPT_BYTES", 25 * 3 * 32 * 32)
    engine = encoder(tmp_path, batch_size=10)
    data = Counted(30)
    first = engine.images(data, [Step("patch_occlusion", 1)])
    assert loaded == list(range(30))
    engine.images(data, [Step("patch_occlusion", 2)])
    assert loaded == [*range(30), *range(20, 30)]
    assert torch.equal(
        first, encoder(tmp_path / "other").images(data, [Step("patch_occlusion", 1)])
    )


@pytest.mark.parametrize(("memory", "left"), [(8, FORWARD_CHUNK), (3, 2)])
def test_out_of_memory_in_regrouped_passes(tmp_path: Path, memory: int, left: int) -> None:
    target = TinyTarget()
    target.memory = memory
    engine = encoder(tmp_path, target)
    features = engine.regrouped(RandomPictures(20), 8)
    assert engine.chunk == left
    assert len(features) == 20
    assert len(engine.notes) == (0 if left == FORWARD_CHUNK else 2)
    # A larger group than usual is the usual one.
    target.memory = 10**9
    engine.regrouped(RandomPictures(20), 100)
    assert target.sizes[-1] == left


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
            return replace(batch, extras=LazyExtras({}, {"texture": [texture] * len(indices)}))

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


class Noted(FeatureCache):
    """A cache that notes the keys that it is asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.keys: list[dict[str, Any]] = []

    def get_or_compute(self, key: Any, compute: Any) -> Any:
        self.keys.append(dict(key))
        return super().get_or_compute(key, compute)


def test_a_key_has_all_that_features_depend_on_and_nothing_else(tmp_path: Path) -> None:
    cache, data = Noted(tmp_path), RandomPictures(3)
    engine = Encoder(TinyTarget(), cache, seed=7)  # type: ignore[arg-type]
    one, two = Step("patch_occlusion", 5), Step("brightness", 2)
    described = [
        {
            "perturbation": step.perturbation,
            "version": registry.get(step.perturbation).version,
            "parameters": dict(registry.get(step.perturbation).parameters(step.severity or 0)),
            "seed": 7,
        }
        for step in (one, two)
    ]
    for steps in ((), (Step("fog", 0),), (one,), (one, Step("fog", 0), two)):
        engine.images(data, steps)
    engine.text(["a", "b"])
    engine.rows(data, [two], {"kind": "mean"}, lambda pixels: pixels.mean((2, 3)), 3)
    model = {
        "target": "0" * 64,
        "precision": "fp32",
        "device": "cpu",
        "torch": torch.__version__,
    }
    pictures = {**model, "kind": "image", "data": "random-3", "ids": 3}
    assert cache.keys == [
        pictures,
        pictures,
        {**pictures, **described[0]},
        {**pictures, "chain": described},
        {**model, "kind": "texts apart"},
        {**model, "kind": "texts", "block": 0},
        {**pictures, "kind": "mean", "chain": described[1:]},
    ]
    assert (engine.forwarded, engine.cached) == (12, 3)


def test_features_are_those_of_what_the_model_is_shown(tmp_path: Path) -> None:
    data, target = RandomPictures(5), TinyTarget()
    pictures = data.load(range(5)).images.float() / 255
    changed = registry.get("brightness")(pictures, 4)
    changed = registry.get("contrast")(changed, 2)
    steps = [Step("brightness", 4), Step("contrast", 2)]
    for images, under in ((pictures, ()), (changed, steps)):
        expected = target.encode_image(target.preprocess(images))
        torch.testing.assert_close(encoder(tmp_path).images(data, under), expected)
        shown = encoder(tmp_path).shown(data, [3, 1], under)
        assert torch.equal(shown, (images[[3, 1]].clamp(0, 1) * 255).round().to(torch.uint8))
    before, after = encoder(tmp_path).pictures(data, [2], registry.get("brightness"), 4)
    assert torch.equal(before, pictures[2:3])
    assert torch.equal(after, registry.get("brightness")(pictures[2:3], 4))
    rows = encoder(tmp_path).rows(data, [], {"kind": "mean"}, lambda p: p.mean((2, 3)), 3)
    torch.testing.assert_close(torch.from_numpy(rows), (pictures - 0.5).mean((2, 3)))


class ShapedPictures(RandomPictures):
    """The same, of three shapes in turn, which cannot be loaded together."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.digest = f"shaped-{count}"
        self.framing = Framing("own", None)
        self.loads = 0

    def load(self, indices: Sequence[int]) -> Batch:
        self.loads += 1
        whole = super().load(indices)
        (shape,) = {((32, 32), (16, 24), (24, 16))[i % 3] for i in indices}
        return replace(whole, images=whole.images[..., : shape[0], : shape[1]])


def test_pictures_of_one_shape_go_through_together(tmp_path: Path) -> None:
    """Rows come back at their places, whatever the batch size, and each picture is perturbed as it is."""
    data, target = ShapedPictures(3 * SHAPED_CHUNK + 7), TinyTarget()
    for steps in ([], [Step("brightness", 4), Step("gaussian_noise", 2)]):
        found = [
            encoder(tmp_path / str(size), target, batch_size=size).images(data, steps)
            for size in (1, 5, 100)
        ]
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2])
        assert set(target.sizes) == {SHAPED_CHUNK}
    for row in (0, 1, 2, 50):
        picture = data.load([row]).images.float() / 255
        expected = target.encode_image(target.preprocess(picture))[0]
        torch.testing.assert_close(encoder(tmp_path / "1").images(data)[row], expected)
    engine = encoder(tmp_path / "1")
    data.loads = 0
    part = Subset(data, [4, 0, 2, 1])
    torch.testing.assert_close(engine.images(part), engine.images(data)[[4, 0, 2, 1]])
    assert engine.forwarded == 4
    assert data.loads == 4 + 3  # to see the shapes, and those of each
    assert list(engine.alike(part, 1)) == [[0], [3], [2], [1]]
    assert list(engine.alike(part, 9)) == [[0, 3], [2], [1]]
    assert list(engine.alike(RandomPictures(5), 2)) == [[0, 1], [2, 3], [4]]


#: Conditions, and which of them is whose of 70 samples: two of three have some.
CONDITIONS = (
    [Step("brightness", 4)],
    [Step("contrast", 1)],
    [Step("gaussian_noise", 2), Step("fog", 3)],
)
OWN = np.array([0, 2, 2, 0, 2] * 14)


def test_samples_each_under_a_condition_of_its_own_share_passes(tmp_path: Path) -> None:
    data, target = RandomPictures(70), TinyTarget()
    alone = [encoder(tmp_path / "alone", target).images(data, steps) for steps in CONDITIONS]
    expected = torch.stack(alone)[OWN, range(70)]
    target.sizes.clear()
    for size in (1, 5, 100):
        engine = encoder(tmp_path / str(size), target, batch_size=size)
        found = engine.mixed(data, CONDITIONS, OWN, "mixed_mine")
        torch.testing.assert_close(found, expected)
        assert (engine.forwarded, engine.cached) == (70, 0)
        # Two whole passes and one of six samples, not one and two for each condition.
        assert target.sizes == [FORWARD_CHUNK] * 3
        target.sizes.clear()
        again = encoder(tmp_path / str(size), target)
        assert torch.equal(again.mixed(data, CONDITIONS, OWN, "mixed_mine"), found)
        assert (again.forwarded, again.cached) == (0, 70)
    other = encoder(tmp_path / "1", target)
    moved = other.mixed(data, CONDITIONS, (OWN + 1) % 3, "mixed_mine")
    assert other.forwarded == 70
    assert not torch.equal(moved, found)
    # A condition that is nobody's is not looked at.
    nobodys = (CONDITIONS[0], [Step("contrast", 5)], CONDITIONS[2])
    assert torch.equal(other.mixed(data, nobodys, OWN, "mixed_mine"), found)
    assert other.forwarded == 70


def test_samples_of_several_shapes_each_under_a_condition_of_its_own(tmp_path: Path) -> None:
    data, target = ShapedPictures(20), TinyTarget()
    engine, own = encoder(tmp_path, target), OWN[:20]
    alone = torch.stack([engine.images(data, steps) for steps in CONDITIONS])
    found = engine.mixed(data, CONDITIONS, own, "mixed_mine")
    torch.testing.assert_close(found, alone[own, range(20)])


def test_pictures_of_several_shapes_together(tmp_path: Path) -> None:
    engine, data, apply = encoder(tmp_path), ShapedPictures(4), registry.get("brightness")
    before, after = engine.pictures(data, [0, 1, 2], apply, 4)
    own, changed = engine.pictures(data, [1], apply, 4)
    assert before.shape == after.shape == (3, 3, 32, 32)
    assert own.shape == (1, 3, 16, 24)
    assert torch.equal(before[1:2, :, 8:24, 4:28], own)
    assert torch.equal(after[1:2, :, 8:24, 4:28], changed)
    assert float(before[1, :, :8].min()) == 1
    odd = on_white([torch.zeros(1, 3, 2, 5), torch.zeros(1, 3, 5, 2)])
    assert odd.sum(dim=(1, 2, 3)).tolist() == [45, 45]
    with pytest.raises(NotRun, match="needs pictures of one shape: model 'tiny' is shown those of"):
        engine.shown(data, [0, 1])
    engine.probe(data)
    assert engine.probed > 0


@pytest.mark.parametrize(("count", "probed"), [(3, 3), (8, 8), (20, 8)])
def test_as_many_pictures_are_probed_as_there_are(
    tmp_path: Path, count: int, probed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def check(target: Any, images: Tensor, precision: str) -> int:
        seen.append(images)
        return 11

    monkeypatch.setattr(encoding, "check_target", check)
    engine, data = encoder(tmp_path), RandomPictures(count)
    engine.probe(data)
    engine.probe(data)
    assert torch.equal(seen[0], data.load(range(probed)).images.float() / 255)
    assert engine.probed == 22


def test_what_a_perturbation_uses_is_given_to_it_and_nothing_else() -> None:
    given: list[dict[str, Any]] = []

    def apply(images: Tensor, **inputs: Any) -> Tensor:
        given.append(inputs)
        return images

    def using(inputs: tuple[str, ...], optional: tuple[str, ...]) -> registry.Perturbation:
        return registry.Perturbation(
            "own", apply, "own", inputs=frozenset(inputs), optional=frozenset(optional)
        )

    images = torch.zeros(2, 3, 4, 4)
    depth, mask = torch.ones(2, 1, 4, 4), torch.full((2, 1, 4, 4), 0.5)
    extras = {"texture": torch.full((2, 3, 4, 4), 0.2), "occluder": torch.zeros(2, 4, 4, 4)}
    whole = Batch(("a", "b"), images.byte(), depth=depth, mask=mask, extras=LazyExtras(extras))
    bare = Batch(("a", "b"), images.byte())
    seeds = registry.sample_seeds(("a", "b"), "own", 0)
    for inputs, optional, batch, expected in (
        (("depth",), ("texture",), whole, {"depth": depth, "texture": extras["texture"]}),
        ((), ("mask",), whole, {"mask": mask}),
        (("seeds",), ("mask", "depth", "occluder"), bare, {"seeds": seeds}),
        ((), (), whole, {}),
    ):
        encoding.apply_perturbation(using(inputs, optional), images, batch, parameters={"x": 3.0})
        seen = given.pop()
        assert seen.pop("x") == 3.0
        assert seen.keys() == expected.keys()
        assert all(torch.equal(seen[name], expected[name]) for name in seen)
    other = encoding.apply_perturbation(using(("seeds",), ()), images, bare, seed=3)
    assert torch.equal(other, images)
    assert torch.equal(given.pop()["seeds"], registry.sample_seeds(("a", "b"), "own", 3))


def test_a_mistake_in_a_perturbation_names_it_and_its_severity() -> None:
    def broken(images: Tensor) -> Tensor:
        raise ValueError("made up")

    apply = registry.Perturbation("own", broken, "own", severities=({}, {}))
    batch = Batch(("a",), torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ClipRobustError, match="perturbation 'own' at severity 2") as at:
        encoding.apply_perturbation(apply, torch.zeros(1, 3, 4, 4), batch, 2)
    with pytest.raises(ClipRobustError, match="perturbation 'own'") as without:
        encoding.apply_perturbation(apply, torch.zeros(1, 3, 4, 4), batch)
    assert "severity" in str(at.value)
    assert "at severity" not in str(without.value)


def test_all_that_a_chain_uses_goes_to_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []
    real = transfer.pinned

    def pinned(batch: Batch, device: torch.device, beside: Any) -> Batch:
        seen.append(set(beside))
        return real(batch, device, beside)

    monkeypatch.setattr(encoding, "pinned", pinned)
    own = {
        "first": registry.Perturbation(
            "first", lambda images, **_: images, "own", ({},), optional=frozenset({"mask", "depth"})
        ),
        "second": registry.Perturbation(
            "second", lambda images, **_: images, "own", ({},), inputs=frozenset({"seeds"})
        ),
    }
    monkeypatch.setattr(registry, "get", own.__getitem__)
    encoder(tmp_path).images(RandomPictures(2), [Step("first", 1), Step("second", 1)])
    assert seen == [{"mask", "depth", "seeds"}]


def test_progress_is_told_batch_by_batch(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    engine = encoder(tmp_path, batch_size=20)
    engine.progress = lambda *said: told.append(said)
    engine.images(RandomPictures(70), [Step("fog", 0), Step("brightness", 1)])
    # Rows are given pass by pass, of 32 pictures each.
    name = f"random · {Step('brightness', 1)}"
    assert told == [(name, done, 70) for done in (0, 32, 32, 70, 70)]


def test_half_of_an_odd_number_is_rounded_down(tmp_path: Path) -> None:
    engine = encoder(tmp_path)
    assert engine.halved(7, "images") == 3
    assert engine.halved(2, encoding.LOADED) == 1
    assert engine.notes == [
        "out of memory on cpu: 3 images at a time, so that figures may differ in the last digits "
        "from a run with more memory",
        "out of memory on cpu: 1 pictures loaded at a time",
    ]
    with pytest.raises(ClipRobustError, match="with a single image or text"):
        engine.halved(1, "images")


@pytest.mark.parametrize("beside", ["depth", "mask", "extras"])
def test_whatever_lies_beside_pictures_keeps_them_out_of_the_store(
    tmp_path: Path, beside: str
) -> None:
    class Stores:
        """A store that decodes whatever it is asked for."""

        forgotten = 0

        def of(self, dataset: Any) -> Any:
            return self

        def get(self, rows: list[int], decode: Any) -> Tensor:
            images: Tensor = decode(rows)
            return images + 1

        def forget(self, dataset: Any) -> None:
            self.forgotten += 1

    data, stores = RandomPictures(3), Stores()
    engine = encoder(tmp_path)
    engine.stores = stores  # type: ignore[assignment]
    plain = data.load([0, 2]).images
    assert torch.equal(engine._stored(data, [0, 2]).images, plain + 1)
    assert stores.forgotten == 0
    more = torch.ones(2, 1, 32, 32)
    part = {"extras": LazyExtras({"texture": more})} if beside == "extras" else {beside: more}
    load = data.load
    data.load = lambda indices: replace(load(indices), **part)  # type: ignore[method-assign]
    stored = engine._stored(data, [0, 2])
    assert torch.equal(stored.images, plain)
    assert getattr(stored, beside) is part[beside]
    assert stores.forgotten == 1
    engine.stores = None
    assert torch.equal(engine._stored(data, [0, 2]).images, plain)


def test_a_word_that_is_there_already_is_not_written_anew() -> None:
    data = RandomPictures(4)
    data.class_names, data.labels = ("cat", "dog", "sea"), (0, 1, 2, 0)
    write = encoding.text_writer(registry.get("typographic"), data, 5)
    assert write is not None
    batch = data.load([3, 1])
    written = write(batch)
    chosen = typographic.distractors(data.ids, data.labels, data.class_names, 5)
    expected = typographic.render_text(data.class_names, rows=[chosen[3], chosen[1]])
    assert torch.equal(written.extras["text"], expected)
    assert write(written) is written
    texture = torch.ones(2, 3, 4, 4)
    for extras in ({"texture": texture}, LazyExtras({"texture": texture})):
        joined = write(replace(batch, extras=extras)).extras
        assert set(joined) == {"text", "texture"}
    assert encoding.text_writer(registry.get("brightness"), data, 5) is None


def test_pictures_of_any_shapes_stand_in_the_middle_of_white() -> None:
    flat, high = torch.full((1, 3, 2, 7), 0.25), torch.full((1, 3, 5, 4), 0.5)
    first, second = on_white([flat, high])
    assert first.shape == second.shape == (3, 5, 7)
    assert torch.equal(first[:, 1:3], flat[0])
    assert torch.equal(second[:, :, 1:5], high[0])
    for framed, own in ((first, flat), (second, high)):
        assert int((framed == 1.0).sum()) == framed.numel() - own.numel()


def test_written_words_hang_on_their_font_and_borrowed_depth_on_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, source = RandomPictures(3), MadeDepth()
    data.class_names = ("cat", "dog")
    engine = Encoder(TinyTarget(), FeatureCache(tmp_path), depth=source)  # type: ignore[arg-type]
    asked: list[Any] = []

    def font_for(names: Any, given: Any) -> Path:
        asked.append((names, given))
        return tmp_path / "font"

    monkeypatch.setattr(lettering, "font_for", font_for)
    monkeypatch.setattr(lettering, "identity", lambda font: f"digest of {font.name}")

    def more(name: str) -> dict[str, Any]:
        (found,) = engine.described(data, [Step(name, 2)])
        return {k: v for k, v in found.items() if k in ("font", "depth", "code")}

    assert more("brightness") == {}
    assert more("typographic") == {"font": "digest of font"}
    assert more("fog_3d") == {"depth": {"made": "random-3"}}
    assert asked == [(("cat", "dog"), None)]
    data.has_depth = True  # type: ignore[attr-defined]
    assert more("fog_3d") == {}
    del data.has_depth  # type: ignore[attr-defined]
    engine.depth = None
    assert more("fog_3d") == {}
    monkeypatch.setattr(lettering, "font_for", lambda names, given: None)
    assert more("typographic") == {}
    data.class_names = ()
    assert more("typographic") == {}


def test_a_gallery_shows_words_as_a_run_does(tmp_path: Path) -> None:
    data = RandomPictures(4)
    data.class_names, data.labels = ("cat", "dog", "sea"), (0, 1, 2, 0)
    engine = encoder(tmp_path)
    typographic_attack = registry.get("typographic")
    before, after = engine.pictures(data, [3, 1], typographic_attack, 3)
    assert torch.equal(before, data.load([3, 1]).images.float() / 255)
    shown = engine.shown(data, [3, 1], [Step("typographic", 3)])
    assert torch.equal((after * 255).round().to(torch.uint8), shown)
    assert not torch.equal(before, after)


def test_memory_of_the_device_is_given_back_before_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed: list[int] = []
    monkeypatch.setattr(torch.cpu, "empty_cache", lambda: freed.append(1), raising=False)
    assert encoder(tmp_path).halved(5, "images") == 2
    assert freed == [1]

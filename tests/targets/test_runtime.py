"""Devices, precisions, and what every target of torch modules does around its towers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.targets import runtime
from pytest_cliprobust.targets.base import LAST, Layer, TargetInfo
from pytest_cliprobust.targets.naflex import NaFlexPreprocessing
from pytest_cliprobust.targets.preprocessing import Preprocessing
from pytest_cliprobust.targets.runtime import TorchTarget, resolve_device, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "number"), [("gw0", 0), ("gw7", 7), ("gw12", 12), ("", 0), ("master", 0), ("xgw3", 0)]
)
def test_workers_by_their_name(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime.worker_number(name) == number
    monkeypatch.setenv("PYTEST_XDIST_WORKER", name)
    assert runtime.worker_number() == number
    monkeypatch.delenv("PYTEST_XDIST_WORKER")
    assert runtime.worker_number() == 0


@pytest.mark.parametrize(
    ("there", "worker", "asked", "given"),
    [
        (None, "", "auto", "cpu"),
        (None, "gw3", "cpu", "cpu"),
        (("cuda", 4), "", "auto", "cuda:0"),
        (("cuda", 4), "gw3", "auto", "cuda:3"),
        (("cuda", 4), "gw4", "auto", "cuda:0"),
        (("cuda", 4), "gw6", "cuda", "cuda:2"),
        (("cuda", 4), "gw6", "cuda:3", "cuda:3"),
        (("cuda", 4), "gw6", "cpu", "cpu"),
        (("cuda", 1), "gw6", "auto", "cuda:0"),
        (("cuda", 0), "gw6", "auto", "cuda:0"),
        (("mps", 1), "", "mps", "mps:0"),
    ],
)
def test_workers_take_accelerators_in_turn(
    there: Any, worker: str, asked: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "accelerator", lambda: there)
    monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
    assert resolve_device(asked) == torch.device(given)


@pytest.mark.parametrize(
    ("there", "asked", "words"),
    [
        (None, "cuda", "torch finds no accelerator here"),
        (("mps", 1), "cuda", "this machine offers mps"),
        (("cuda", 1), "meta", "is not available: this machine offers cuda"),
        (("cuda", 1), "cuda:1", "1 cuda device is visible"),
        (("cuda", 2), "cuda:2", "2 cuda devices are visible"),
        (("cuda", 2), "gpu", "'gpu' is not a device"),
    ],
)
def test_devices_that_are_not_there(
    there: Any, asked: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "accelerator", lambda: there)
    with pytest.raises(ClipRobustError, match=words):
        resolve_device(asked)


@pytest.mark.parametrize(
    ("asked", "device", "given"),
    [
        ("auto", "cpu", "fp32"),
        ("auto", "cuda:0", "fp16"),
        ("auto", "xpu", "fp16"),
        ("auto", "mps", "fp16"),
        ("auto", "meta", "fp32"),
        ("fp32", "cuda", "fp32"),
        ("fp16", "cuda", "fp16"),
        ("bf16", "cuda", "bf16"),
        ("bf16", "cpu", "bf16"),
    ],
)
def test_precisions(asked: str, device: str, given: str) -> None:
    assert resolve_precision(asked, torch.device(device)) == given


def test_precisions_that_are_none() -> None:
    with pytest.raises(ClipRobustError, match="fp16 needs an accelerator"):
        resolve_precision("fp16", CPU)
    with pytest.raises(ClipRobustError, match=r"unknown precision 'fp8'.*Give --clip-precision"):
        resolve_precision("fp8", torch.device("cuda"))


class Plain(TorchTarget):
    """Channel means as image features, lengths of texts as text features."""

    def __init__(self, precision: Any = "fp32", **more: Any) -> None:
        settings = {"logit_scale": 5.0, "logit_bias": None, **more}
        super().__init__(
            TargetInfo("plain", "means", "", "0" * 64),
            preprocessing=Preprocessing((4, 6), mean=(0.5, 0.25, 0.0), std=(0.5, 2.0, 1.0)),
            device=CPU,
            precision=precision,
            embed_dim=3,
            **settings,
        )
        self.within: list[tuple[bool, bool, torch.dtype]] = []

    def _note(self) -> None:
        autocast = torch.is_autocast_enabled("cpu")
        kind = torch.get_autocast_dtype("cpu") if autocast else torch.float32
        self.within.append((torch.is_inference_mode_enabled(), autocast, kind))

    def _encode_image(self, pixels: Tensor) -> Tensor:
        self._note()
        return pixels.mean((2, 3)).double()

    def _encode_text(self, texts: list[str]) -> Tensor:
        self._note()
        return torch.tensor([[float(len(text)), 3.0, 4.0] for text in texts])

    def _dense_features(self, pixels: Tensor, layer: Layer) -> Tensor:
        self._note()
        return pixels[:, :1] * (2.0 if layer == LAST else 1.0)


def test_features_are_normalised_and_ordinary() -> None:
    target = Plain()
    pixels = torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    image, text = target.encode_image(pixels), target.encode_text(["", "abcdefghijkl"])
    means = pixels.mean((2, 3))
    torch.testing.assert_close(image, means / means.norm(dim=1, keepdim=True))
    torch.testing.assert_close(text, torch.tensor([[0.0, 0.6, 0.8], [12 / 13, 3 / 13, 4 / 13]]))
    dense = target.dense_features(pixels)
    assert torch.equal(dense, pixels[:, :1] * 2)
    assert torch.equal(target.dense_features(pixels, 3), pixels[:, :1])
    for features in (image, text, dense):
        assert features.dtype == torch.float32
        assert not features.is_inference()
    assert target.within == [(True, False, torch.float32)] * 4
    with pytest.raises(NotRun, match="'plain' gives no patch features in the space of its texts"):
        target.local_features(pixels)


def test_gradients_flow_where_they_are_wanted_and_only_there() -> None:
    target = Plain()
    images = torch.rand(2, 3, 4, 6).requires_grad_()
    target.encode_image(target.preprocess(images)).sum().backward()
    assert images.grad is not None
    assert target.within.pop() == (False, False, torch.float32)
    for call in (target.encode_image, target.dense_features):
        with torch.no_grad():
            assert not call(target.preprocess(images)).requires_grad
        assert target.within.pop()[0]
        assert call(target.preprocess(images)).requires_grad
    assert not target.encode_text(["a"]).requires_grad


@pytest.mark.parametrize(("precision", "kind"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_half_precision_is_autocast(precision: str, kind: torch.dtype) -> None:
    target = Plain(precision)
    target.encode_text(["a"])
    assert target.within == [(True, True, kind)]


def test_pictures_become_pixels() -> None:
    target = Plain()
    images = torch.rand(2, 3, 4, 6)
    for given in (images, images.double()):
        seen = target.preprocess(given)
        expected = (images - torch.tensor([0.5, 0.25, 0]).view(3, 1, 1)) / torch.tensor(
            [0.5, 2.0, 1.0]
        ).view(3, 1, 1)
        torch.testing.assert_close(seen, expected)
        assert seen.dtype == torch.float32
    for wrong in (images[0], images[:, :2], (images * 255).byte()):
        with pytest.raises(ClipRobustError, match=r"must be \(B, 3, H, W\) floats"):
            target.preprocess(wrong)


@pytest.mark.parametrize("shape", [(3, 4, 6), (1, 3, 6, 4), (1, 1, 4, 6), (1, 3, 4, 5)])
def test_pixels_of_another_shape(shape: tuple[int, ...]) -> None:
    target = Plain()
    calls: list[Callable[[Tensor], Tensor]] = [
        target.encode_image,
        target.dense_features,
        target.local_features,
    ]
    for call in calls:
        with pytest.raises(ClipRobustError, match=r"takes pixels \(B, 3, 4, 6\)"):
            call(torch.zeros(shape))


@pytest.mark.parametrize("texts", ["a text", [], [7], ["a", None]])
def test_texts_that_are_none(texts: Any) -> None:
    with pytest.raises(ClipRobustError, match="wants a list of strings"):
        Plain().encode_text(texts)


def test_a_bias_means_a_sigmoid_unless_it_is_said() -> None:
    assert Plain().probability == "softmax"
    assert Plain(logit_bias=-3.0).probability == "sigmoid"
    assert Plain(logit_bias=0.0).probability == "sigmoid"
    assert Plain(logit_bias=-3.0, probability="softmax").probability == "softmax"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"logit_scale": 0.0}, "'plain' has a logit scale of 0, with which no probability"),
        ({"logit_scale": -2.5}, "a logit scale of -2.5"),
        ({"logit_scale": float("inf")}, "a logit scale of inf"),
        ({"logit_scale": float("nan")}, "a logit scale of nan"),
        ({"logit_bias": float("nan")}, "'plain' has a logit bias of nan; check its weights"),
        ({"logit_bias": float("-inf")}, "a logit bias of -inf"),
    ],
)
def test_a_scale_and_a_bias_are_numbers(settings: dict[str, float], told: str) -> None:
    with pytest.raises(ClipRobustError, match=told):
        Plain(**settings)
    Plain(logit_scale=1e-6, logit_bias=0.0)


class Accelerators:
    """torch.accelerator of a machine with some devices of one kind."""

    def __init__(self, kind: str | None, count: int) -> None:
        self.kind, self.count = kind, count

    def is_available(self) -> bool:
        return self.kind is not None

    def current_accelerator(self) -> Any:
        assert self.kind is not None
        return torch.device(self.kind)

    def device_count(self) -> int:
        return self.count


@pytest.mark.parametrize(
    ("kind", "count", "found"), [("cuda", 3, ("cuda", 3)), ("xpu", 1, ("xpu", 1)), (None, 0, None)]
)
def test_accelerators_as_torch_tells_them(
    kind: Any, count: int, found: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "accelerator", Accelerators(kind, count))
    assert runtime.accelerator() == found


@pytest.mark.parametrize(
    ("cuda", "mps", "found"),
    [(2, False, ("cuda", 2)), (2, True, ("cuda", 2)), (0, True, ("mps", 1)), (0, False, None)],
)
def test_accelerators_of_an_older_torch(
    cuda: int, mps: bool, found: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch, "accelerator")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert runtime.accelerator() == found


def test_a_model_of_any_shape_says_such_as() -> None:
    target = Plain()
    target.preprocessing = NaFlexPreprocessing(size=(32, 32), patch=8, most_patches=16)
    target.image_size = (32, 32)
    assert target.encode_image(torch.ones(1, 3, 8, 128)).shape == (1, 3)
    with pytest.raises(ClipRobustError, match=r"takes pixels such as \(B, 3, 32, 32\), got"):
        target.encode_image(torch.zeros(1, 3, 8, 12))

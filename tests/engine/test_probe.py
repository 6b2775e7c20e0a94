"""Wrong figures are refused: training mode, rows that are not there, texts that all look the same."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Sessions, one_line, report
from torch import Tensor, nn

from pytest_cliprobust.engine import evaluation as engine
from pytest_cliprobust.engine import probe, texts
from pytest_cliprobust.engine.evaluation import Evaluation, RunConfig
from pytest_cliprobust.errors import ClipRobustError, UserCodeError
from pytest_cliprobust.targets.base import TargetInfo
from pytest_cliprobust.targets.registry import register_target

pytestmark = pytest.mark.floors

WORDS = 2**17


class Towers:
    """A user's encoder: a small convolution, and a sum of random words; evaluation mode or not."""

    image_size = 32
    layer: Any = nn.Identity
    training = False

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.image = nn.Sequential(nn.Conv2d(3, 16, 8, stride=8), nn.ReLU(), self.layer())
        self.words = nn.Embedding(WORDS, 16)
        self.image.train(self.training)
        self.words.eval()

    def encode_image(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.image(pixels).mean((2, 3))
        return features

    def encode_text(self, texts: list[str]) -> Tensor:
        return torch.stack([self.words(torch.tensor(numbers(text))).sum(0) for text in texts])


def numbers(text: str) -> list[int]:
    return [zlib.crc32(word.encode()) % WORDS for word in text.split() or ["?"]]


def evaluated(tmp_path: Path, **attributes: Any) -> Evaluation:
    """The evaluation of an encoder with other attributes."""
    register_target("probed")(type("Own", (Towers,), attributes))
    options = RunConfig(("probed",), limit=24, profile="quick", cache_dir=tmp_path)
    return Evaluation(options, "probed")


def refused(tmp_path: Path, **attributes: Any) -> str:
    """The one line that refuses it, before any figure."""
    evaluation = evaluated(tmp_path, **attributes)
    with pytest.raises(ClipRobustError) as caught:
        _ = evaluation.on("clean").features
    assert (evaluation.encoder.forwarded, evaluation.encoder.cached) == (0, 0)
    message = str(caught.value)
    assert "\n" not in message
    assert "'probed'" in message
    return message


def dropout() -> nn.Module:
    return nn.Dropout(0.1)


def batch_norm() -> nn.Module:
    return nn.BatchNorm2d(16)


def test_the_first_module_is_named_that_computes_otherwise_in_training_mode() -> None:
    target: Any = SimpleNamespace(
        steady=nn.Linear(2, 2).eval(),
        tower=nn.Sequential(nn.Identity(), nn.Dropout(), nn.Dropout()),
    )
    assert "; tower.1 (Dropout) is in training mode" in probe._in_training(target)
    target.tower.eval()
    assert probe._in_training(target) == ""
    target.tower[0].train()
    assert "; tower.0 (Identity) is in training mode" in probe._in_training(target)


@pytest.mark.parametrize("features", [[[0.0] * 16] * 8, np.zeros((8, 16))])
def test_what_is_no_tensor_is_named_by_its_kind(features: Any) -> None:
    target: Any = SimpleNamespace(info=TargetInfo("own", "a", "b", "c"), embed_dim=16)
    kind = type(features).__name__
    with pytest.raises(ClipRobustError, match=rf"encode_image returns {kind} for 8 inputs"):
        probe.checked_rows(target, "encode_image", features, 8)
    assert probe.checked_rows(target, "encode_image", torch.zeros(8, 16), 8).shape == (8, 16)


@pytest.mark.parametrize("layer", [nn.Identity, dropout, batch_norm])
def test_a_sound_encoder_is_probed_once_and_apart(tmp_path: Path, layer: Any) -> None:
    first = evaluated(tmp_path, layer=staticmethod(layer))
    _ = first.on("clean").logits
    first.check()
    assert (first.encoder.probed, first.encoder.forwarded) == (3 * probe.PICTURES, 24)
    again = evaluated(tmp_path, layer=staticmethod(layer))
    _ = again.on("clean").logits
    # Features come from the cache; whether the model is sound does not.
    assert (again.encoder.probed, again.encoder.forwarded) == (3 * probe.PICTURES, 0)


def test_training_mode_is_refused_by_name(tmp_path: Path) -> None:
    told = refused(tmp_path, layer=staticmethod(dropout), training=True)
    assert "encode_image gives the same picture other features each time (0." in told
    assert told.endswith("image.2 (Dropout) is in training mode: call eval() after loading it")
    told = refused(tmp_path, layer=staticmethod(batch_norm), training=True)
    assert "encode_image gives a picture other features alone than in a batch of 8 (1." in told
    assert told.endswith("image.2 (BatchNorm2d) is in training mode: call eval() after loading it")
    # Training mode alone changes nothing where no module minds.
    evaluated(tmp_path, training=True).check()


def test_a_text_tower_in_training_mode_is_refused(tmp_path: Path) -> None:
    def spoilt(self: Any, texts: list[str]) -> Tensor:
        return nn.functional.dropout(Towers.encode_text(self, texts), 0.1, training=True)

    told = refused(tmp_path, encode_text=spoilt)
    assert "encode_text gives the same text other features each time" in told
    # No module is in training mode: the remedy is said in general.
    assert "call eval() on its modules after loading" in told


def test_batch_norm_that_fails_on_one_picture_alone_is_one_line(tmp_path: Path) -> None:
    def spoilt(self: Any, pixels: Tensor) -> Tensor:
        features: Tensor = self.image(pixels).mean((2, 3))
        return nn.functional.batch_norm(features, None, None, training=True)

    told = refused(tmp_path, encode_image=spoilt)
    assert "encode_image fails on 1 picture (ValueError: Expected more than 1 value per" in told


def test_an_encoder_that_ends_the_process_is_one_line(tmp_path: Path) -> None:
    def leaves(self: Any, pixels: Tensor) -> Tensor:
        if len(pixels) == 1:
            raise SystemExit(0)
        return Towers.encode_image(self, pixels)

    told = refused(tmp_path, encode_image=leaves)
    assert "encode_image fails on 1 picture (SystemExit: 0, at" in told


@pytest.mark.parametrize("error", [RuntimeError("no way"), SystemExit(0)], ids=repr)
@pytest.mark.parametrize("method", ["encode_image", "encode_text"])
def test_an_encoder_that_fails_later_is_one_line(
    method: str, error: BaseException, tmp_path: Path
) -> None:
    def fails(self: Any, inputs: Any) -> Any:
        if len(inputs) > 8:  # more than the probe takes
            raise error
        return getattr(Towers, method)(self, inputs)

    evaluation = evaluated(tmp_path, **{method: fails})
    with pytest.raises(UserCodeError) as caught:
        _ = evaluation.on("clean").cosines
    message = str(caught.value)
    assert f"{method} of model 'probed' fails ({type(error).__name__}: " in message
    assert ", at " in message


def test_a_constant_and_one_row_for_a_batch_are_refused(tmp_path: Path) -> None:
    told = refused(tmp_path, encode_image=lambda self, x: torch.ones(len(x), 16))
    assert "the same features for 8 different pictures, so no figure means anything" in told
    told = refused(tmp_path, encode_text=lambda self, x: torch.ones(len(x), 16))
    assert "encode_text gives the same features for different texts ('a photo of a cat.'," in told
    assert "eos_token_id" in told

    # Two pictures are what the encoder is tried with when it is loaded.
    def one_row(self: Any, pixels: Tensor) -> Tensor:
        features = Towers.encode_image(self, pixels)
        return features if len(features) == 2 else features[:1]

    told = refused(tmp_path, encode_image=one_row)
    assert "encode_image returns (1, 16) for 8 inputs instead of (8, 16)" in told


def test_equal_pictures_may_have_equal_features(tmp_path: Path) -> None:
    evaluation = evaluated(tmp_path)
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    probe.check_target(evaluation.target, picture.expand(4, 3, 32, 32), "fp32")
    probe.check_target(evaluation.target, picture, "fp32")


@pytest.mark.parametrize(
    ("precision", "rounding", "size", "fine"),
    [
        ("fp32", None, 1e-3, True),
        ("fp32", None, 4e-3, False),
        ("fp16", None, 8e-3, True),
        ("fp16", None, 2e-2, False),
        ("bf16", None, 4e-2, True),
        ("bf16", None, 8e-2, False),
        ("fp32", "bf16", 4e-2, True),  # a user's code may compute in half precision
        ("fp32", "bf16", 8e-2, False),
    ],
)
def test_tolerances_are_those_of_the_precision(
    precision: str, rounding: str | None, size: float, fine: bool
) -> None:
    def encode_image(pixels: Tensor) -> Tensor:
        features = nn.functional.normalize(pixels.flatten(1)[:, :16], dim=1)
        side = torch.zeros_like(features)
        side[:, 0] = size if len(features) == 1 else 0.0
        return features + side

    target: Any = SimpleNamespace(
        info=TargetInfo("tiny", "", "", ""),
        embed_dim=16,
        preprocess=lambda x: x,
        encode_image=encode_image,
        encode_text=lambda texts: torch.eye(16)[[len(text) % 16 for text in texts]],
    )
    if rounding:
        target.rounding = rounding
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    if fine:
        assert probe.check_target(target, images, precision) == 12
        return
    with pytest.raises(ClipRobustError, match="alone than in a batch of 4"):
        probe.check_target(target, images, precision)


def test_noise_above_the_ceiling_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = evaluated(tmp_path)
    real = evaluation.encoder.images
    share, _ = evaluation.noise
    assert share < 1e-4
    data = evaluation.dataset("clean", engine.NOISE_SAMPLES)
    other = real(data).flip(0)
    monkeypatch.setattr(evaluation.encoder, "regrouped", lambda *_: other)
    del evaluation.noise
    with pytest.raises(
        ClipRobustError, match=r"with the size of the forward pass alone, more than"
    ):
        _ = evaluation.noise


# --- Whole runs ------------------------------------------------------------------------------------

OWN = """
import torch
from torch import nn

class Encoder:
    image_size = 32

    def __init__(self):
        torch.manual_seed(0)
        self.image = nn.Sequential(nn.Conv2d(3, 16, 8, stride=8), nn.Dropout(0.5))

    def encode_image(self, pixels):
        return self.image(pixels).mean((2, 3))

    def encode_text(self, texts):
        return torch.randn(len(texts), 16, generator=torch.Generator().manual_seed(0))
"""
SUITE = """
    from pytest_cliprobust.properties import accuracy

    def test_clean(clip, gate):
        gate(accuracy.accuracy_of(clip.on("clean")))
"""


def test_a_run_with_a_module_in_training_mode_ends_before_any_test(
    run: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "left_training", raising=False)
    monkeypatch.syspath_prepend(str(run.path))
    (run.path / "left_training.py").write_text(OWN)
    result = run("--clip-model=left_training:Encoder", "--clip-report=x.json", suite=SUITE)
    one_line(result, "'left_training:Encoder'", "image.1 (Dropout) is in training mode", "eval()")
    # Whoever reads the report must not take an earlier run's for this one's.
    told = report("x.json")
    assert (told["complete"], told["exit_status"], told["measurements"]) == (False, 4, [])


def test_noise_that_matters_is_told(run: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = 'schema = 1\n[[threshold]]\nmetric = "accuracy"\nmin = 0.999\n'
    for noise, told in ((2e-4, True), (5e-5, False)):
        monkeypatch.setattr(Evaluation, "noise", (noise, 0.001))
        result = run("--clip-report=x.json", suite=SUITE, thresholds=bound)
        words = f"note: numerical noise of reference: {noise:.2g} of a share or probability"
        assert (words in result.stdout.str()) == told
        assert report("x.json")["models"]["reference"]["noise"] == [noise, 0.001]


# --- Texts that a model cannot tell apart ----------------------------------------------------------

ENDS = ("ab", "cd", "ef", "gh", "ij", "kl", "mn", "op", "qr", "st")
SHARED = "a very long name that says the same thing over and over again " * 6


def test_ten_names_that_differ_after_the_last_token(tmp_path: Path) -> None:
    clip = Evaluation(RunConfig(("reference",), limit=8, cache_dir=tmp_path), "reference")
    names = [*(f"{SHARED}{word}" for word in ENDS), "a cat"]
    clip.phrases = tuple(names)
    with pytest.raises(ClipRobustError) as caught:
        _ = clip.classifier
    message = str(caught.value)
    assert message.startswith("model 'reference' cannot tell 'a very long name that sa…")
    assert "again ab', 'a very long" in message
    assert "and 7 more apart: these texts have the same features; they differ only after" in message
    assert "\n" not in message
    assert len(message) < 600


def test_names_that_differ_in_case_alone(tmp_path: Path) -> None:
    clip = Evaluation(RunConfig(("reference",), limit=8, cache_dir=tmp_path), "reference")
    clip.phrases = ("a cat", "a Dog", "a dog", "a cat")
    words = r"cannot tell 'a Dog' and 'a dog' apart: these .* only in case, spaces or punctuation"
    with pytest.raises(ClipRobustError, match=words):
        _ = clip.classifier
    # The same name twice is no mistake, whatever becomes of it (ImageNet's two cranes).
    twice = Evaluation(RunConfig(("reference",), limit=8, cache_dir=tmp_path), "reference")
    twice.phrases = ("a cat", "a dog", "a dog")
    assert twice.classifier.weights.shape[0] == 3


def test_words_that_a_model_does_not_know(tmp_path: Path) -> None:
    def known(self: Any, texts: list[str]) -> Tensor:
        kept = [text.replace("wug", "?").replace("blicket", "?") for text in texts]
        return Towers.encode_text(self, kept)

    clip = evaluated(tmp_path, encode_text=known)
    clip.phrases = ("a wug", "a cat", "a blicket")
    words = "'a wug' and 'a blicket' apart: these texts have .*; its tokenizer may not know these"
    with pytest.raises(ClipRobustError, match=words):
        _ = clip.classifier


@pytest.mark.parametrize("count", [1, 2, 300])
def test_equal_rows_are_found_among_near_ones(count: int) -> None:
    rows = np.random.default_rng(0).normal(size=(count, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert texts.equal_rows(rows) == []
    twice = np.concatenate([rows, rows[::-1] + 1e-7, rows + 1e-4])
    found = [group.tolist() for group in texts.equal_rows(twice)]
    assert found == [[i, 2 * count - 1 - i] for i in range(count)]
    (all_of_them,) = texts.equal_rows(np.ones((count + 1, 8)))
    assert all_of_them.tolist() == list(range(count + 1))


def test_modules_are_looked_for_in_a_module_and_in_what_it_adapts(tmp_path: Path) -> None:
    class Adapter(nn.Module):
        """A target that is a module itself, in evaluation mode, around an encoder that is not."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = SimpleNamespace(tower=nn.Sequential(nn.Dropout(0.5)))
            self.eval()

    adapter: Any = Adapter()
    names = [name for name, _ in probe._modules(adapter)]
    assert names == ["", "tower", "tower.0"]
    assert "tower.0 (Dropout) is in training mode" in probe._in_training(adapter)

"""The trainer of the reference model, on a handful of made-up sprites."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import multiprocessing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from safetensors.torch import load_file
from training_helpers import NAMES, write_archive

from pytest_cliprobust.embedded import procedural
from pytest_cliprobust.embedded.captions import TRAINING_TEMPLATES
from pytest_cliprobust.engine import evaluation
from pytest_cliprobust.targets.loading import load_target
from pytest_cliprobust.training import reference as training
from pytest_cliprobust.training.reference import SpriteAugmentation, TrainingConfig

CONFIG = TrainingConfig(
    steps=4,
    horizon=8,
    cooldown=2,
    batch_size=16,
    warmup=1,
    image_size=40,
    tower="test_resnet",
    mix_style=1.0,
    ramp=2,
    small_steps=2,
)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_archive(tmp_path / "training_sprites.npz", ("flat", "line"))
    write_archive(tmp_path / "heldout_sprites.npz", ("other",))
    monkeypatch.setattr(training, "CHECKPOINT_STEPS", 2)
    monkeypatch.setattr(training, "BACKGROUNDS", 64)
    return tmp_path


def weights(folder: Path) -> bytes:
    return (folder / "open_clip_model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(work: Path) -> None:
    others = set(multiprocessing.active_children())
    training.train(CONFIG, work, work / "whole")
    checkpoint = next(work.glob("checkpoint-*.pt"))
    checkpoint.unlink()

    interrupted = RuntimeError("pulled the plug")
    step = training.Training.loss
    calls = []

    def fails_later(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) > 3:
            raise interrupted
        return step(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Training, "loss", fails_later)
        with pytest.raises(RuntimeError, match="pulled the plug"):
            training.train(CONFIG, work, work / "resumed")
    # The error is kept, and with it all that its functions had: no process goes on drawing for it.
    assert set(multiprocessing.active_children()) <= others
    assert json.loads((work / "resumed" / "model_card.json").read_text())["steps_done"] == 2
    training.train(CONFIG, work, work / "resumed")
    assert weights(work / "resumed") == weights(work / "whole")


@pytest.mark.slow
def test_the_folder_is_an_ordinary_model_with_a_card(work: Path) -> None:
    card = training.train(CONFIG, work, work / "model")
    assert card["config"] == dataclasses.asdict(CONFIG)
    assert card["training_styles"] == ["flat", "line"]
    assert set(card["top1_heldout_sprites"]) == {"all", "other"}
    target = load_target(str(work / "model"), device="cpu", precision="fp32")
    assert target.encode_text(["a cat.", "a dog."]).shape == (2, 256)


@pytest.mark.slow
def test_another_seed_gives_another_model(work: Path) -> None:
    training.train(CONFIG, work, work / "one")
    training.train(dataclasses.replace(CONFIG, seed=1), work, work / "two")
    assert weights(work / "one") != weights(work / "two")


@pytest.mark.parametrize(
    ("names", "labels", "wanted"),
    [
        ("axby", "ab", [0.4, 0.1, 0.4, 0.1]),
        ("axyzw", "a", [0.8, 0.05, 0.05, 0.05, 0.05]),
        ("aab", "ab", [1 / 3] * 3),  # nothing else: a share of nothing is none
    ],
)
def test_a_share_of_each_batch_has_a_name_of_the_labels(
    names: str, labels: str, wanted: list[float]
) -> None:
    config = dataclasses.replace(CONFIG, label_share=0.8)
    found = training.draw_weights(list(names), iter(labels), config)
    assert found.tolist() == pytest.approx(wanted, abs=1e-12)


def test_a_missing_archive_names_the_build(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"embedded\.build"):
        training.train(CONFIG, tmp_path, tmp_path / "model")


def test_folding_the_whitening_keeps_the_features() -> None:
    clip = CLIP(**CONFIG.model_config())
    model = training.Training(clip, names=4)
    model.norm.running_mean = torch.randn(256)
    model.norm.running_var = torch.rand(256) + 0.5
    model.eval()
    images = torch.randn(2, 3, 40, 40)
    with torch.inference_mode():
        expected = model.norm(clip.eval().encode_image(images))
        torch.testing.assert_close(
            model.folded().encode_image(images), expected, rtol=1e-4, atol=1e-4
        )


def test_augmentation_keeps_the_thing_in_view_and_range() -> None:
    sprites = torch.full((1, 4, 32, 32), 255, dtype=torch.uint8)
    sprites[:, 1:3] = 0  # red
    augmentation = SpriteAugmentation(sprites, torch.zeros(4, 3, 48, 48), 48)
    rows = torch.zeros(64, dtype=torch.long)
    images = augmentation(rows, torch.Generator().manual_seed(0), 0.0)
    assert images.min() >= 0
    assert images.max() <= 1
    red = images[:, 0] > 0.5
    assert bool((red.flatten(1).float().mean(1) > 0.1).all())
    again = augmentation(rows, torch.Generator().manual_seed(0), 0.0)
    assert torch.equal(images, again)


def test_the_rate_warms_up_follows_the_cosine_and_cools_down() -> None:
    config = TrainingConfig(
        steps=60, horizon=100, cooldown=20, warmup=10, learning_rate=1.0, image_size=40
    )
    rates = [training.learning_rate(config, step) for step in range(60)]
    assert rates[0] == pytest.approx(0.1, rel=1e-2)
    assert rates[9] == max(rates)
    assert rates[39] == pytest.approx(0.5 * (1 + np.cos(0.39 * np.pi)) * 0.99 + 0.01)
    assert rates[50] == pytest.approx(0.5 * (0.5 * 0.99 + 0.01))
    assert 0 < rates[59] < 0.05


# --- Settings -------------------------------------------------------------------------------------


def test_a_share_of_the_sprites_is_drawn_by_the_seed_and_kept_in_order() -> None:
    archive: Any = SimpleNamespace(names=["x"] * 11)
    assert CONFIG.rows(archive).tolist() == list(range(11))
    some = {
        seed: dataclasses.replace(CONFIG, fraction=0.5, seed=seed).rows(archive).tolist()
        for seed in range(4)
    }
    for rows in some.values():
        assert len(rows) == 5
        assert rows == sorted(set(rows))
        assert set(rows) < set(range(11))
    assert len({tuple(rows) for rows in some.values()}) > 1
    # All but one: the border of "all".
    assert len(dataclasses.replace(CONFIG, fraction=0.999).rows(archive)) == 10


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_the_scale_begins_at_15_and_only_a_sigmoid_has_a_bias(loss: str) -> None:
    clip = dataclasses.replace(CONFIG, loss=loss).clip()
    assert clip.logit_scale.exp().item() == pytest.approx(15)
    bias: Any = clip.logit_bias
    assert (None if bias is None else bias.item()) == (-6.0 if loss == "sigmoid" else None)


def test_the_vocabulary_is_the_first_merges_in_the_same_file_each_time(tmp_path: Path) -> None:
    path = tmp_path / "merges.txt.gz"
    training.write_merges(path, 20)
    assert path.read_bytes()[4:8] == bytes(4)  # no time of its own
    kept = gzip.decompress(path.read_bytes()).decode().split("\n")
    whole = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")
    assert kept == whole[:21]  # a line of comment, and the merges
    tokenizer = SimpleTokenizer(bpe_path=str(path), context_length=5)
    assert tokenizer.vocab_size == 512 + 20 + 2


def test_each_configuration_has_a_checkpoint_of_its_own() -> None:
    digests = {
        training.digest_of(config)
        for config in (CONFIG, dataclasses.replace(CONFIG, seed=1), TrainingConfig())
    }
    assert len(digests) == 3
    assert {len(digest) for digest in digests} == {12}
    assert training.digest_of(dataclasses.replace(CONFIG)) in digests


# --- Losses and aids ------------------------------------------------------------------------------


def log_softmax(logits: Any) -> Any:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_the_loss_of_clip_with_two_pictures_of_one_name() -> None:
    image, text = unit_vectors(3, 5), unit_vectors(2, 5, seed=1)
    targets = torch.tensor([0, 1, 0])
    logits = 4.0 * (image @ text.T).double().numpy()
    forward = log_softmax(logits)
    right = -forward[np.arange(3), targets].mean()
    smooth = 0.95 * right - 0.05 * forward.mean()
    backward = log_softmax(logits.T)
    back = -(0.5 * backward[0, 0] + 0.5 * backward[0, 2] + backward[1, 1]) / 2
    found = training.contrastive_loss(image, text, targets, torch.tensor(4.0), None)
    assert found.item() == pytest.approx(smooth + 0.5 * back, rel=1e-5)


def test_the_loss_of_siglip_is_a_sum_over_pairs_by_picture() -> None:
    image, text = unit_vectors(3, 5), unit_vectors(2, 5, seed=1)
    logits = 4.0 * (image @ text.T).double().numpy() - 1.5
    signs = np.array([[1, -1], [-1, 1], [1, -1]])
    want = np.log1p(np.exp(-signs * logits)).sum() / 3
    found = training.contrastive_loss(
        image, text, torch.tensor([0, 1, 0]), torch.tensor(4.0), torch.tensor(-1.5)
    )
    assert found.item() == pytest.approx(want, rel=1e-5)


def unit_vectors(count: int, size: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(count, size, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=-1)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_what_is_minimised_is_the_contrastive_loss_and_the_name(loss: str) -> None:
    torch.manual_seed(0)
    clip = dataclasses.replace(CONFIG, loss=loss).clip()
    model = training.Training(clip, names=4).eval()
    model.norm.running_mean = torch.randn(256)
    pixels = torch.randn(3, 3, 40, 40)
    captions = torch.randint(1, 500, (2, 24))
    present, positions = torch.tensor([1, 3]), torch.tensor([0, 1, 1])
    with torch.inference_mode():
        found = model.loss(pixels, captions, present, positions).item()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            trunk = clip.visual.trunk(pixels)
        white = model.norm(clip.visual.head(trunk.float()))
        image = torch.nn.functional.normalize(white, dim=-1)
        text = clip.encode_text(captions, normalize=True)
        pairs = training.contrastive_loss(
            image, text, positions, torch.tensor(15.0), clip.logit_bias
        ).item()
        named = log_softmax(model.classifier(trunk.float()).double().numpy())
    right = -named[[0, 1, 2], [1, 3, 3]].mean()
    assert found == pytest.approx(pairs + 0.95 * right - 0.05 * named.mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("tower", "levels"),
    [("test_resnet", ["act1", "layer1"]), ("ese_vovnet19b_slim", ["stem", "stages.0"])],
)
def test_styles_are_mixed_after_the_stem_and_the_first_stage(tower: str, levels: list[str]) -> None:
    config = dataclasses.replace(CONFIG, tower=tower)

    def hooked(share: float) -> list[str]:
        model = training.Training(config.clip(), names=2, mix_style=share)
        trunk = model.clip.visual.trunk
        return [name for name, module in trunk.named_modules() if module._forward_hooks]

    assert hooked(0.5) == levels
    assert hooked(0.0) == []


def test_mixed_styles_keep_the_content_and_share_one_weight() -> None:
    """Samples in two styles, of mean 0 and deviation 1, and of mean 10 and deviation 3."""
    count = 4000
    module = torch.nn.Identity()
    content = torch.tensor([-1.0, 1.0, -1.0, 1.0]).view(1, 1, 2, 2) * math.sqrt(3 / 4)
    far = torch.arange(count).view(-1, 1, 1, 1) % 2
    given = torch.where(far == 1, 10 + 3 * content, content).expand(count, 2, 2, 2)
    torch.manual_seed(0)
    found = training.MixStyle(1.0)(module, None, given)
    mean, deviation = found.mean((2, 3)), found.std((2, 3))
    shared = mean[:, 0] / 10  # of the other style
    torch.testing.assert_close(mean[:, 0], mean[:, 1])
    torch.testing.assert_close(deviation[:, 0], 1 + 2 * shared, atol=1e-3, rtol=0)
    normal = (found - mean[..., None, None]) / deviation[..., None, None]
    torch.testing.assert_close(normal, content.expand_as(normal), atol=1e-3, rtol=0)
    # Half meet a sample of their own style; of the others the weight is drawn from Beta(0.3, 0.3).
    partner = (shared > 1e-6) & (shared < 1 - 1e-6)
    assert partner.float().mean().item() == pytest.approx(0.5, abs=0.03)
    inner = shared[partner]
    want = scipy.stats.beta(0.3, 0.3)
    for border in (0.05, 0.25, 0.5, 0.8):
        share = (inner < border).float().mean().item()
        assert share == pytest.approx(want.cdf(border), abs=0.035)


def test_styles_are_mixed_in_training_and_in_a_share_of_the_calls() -> None:
    module, given = torch.nn.Identity(), torch.randn(8, 2, 3, 3).bfloat16()
    torch.manual_seed(0)
    mix = training.MixStyle(0.25)
    changed = [not torch.equal(mix(module, None, given), given) for _ in range(400)]
    assert np.mean(changed) == pytest.approx(0.25, abs=0.06)
    always = training.MixStyle(1.0)
    assert always(module, None, given).dtype == torch.bfloat16
    assert always(module.eval(), None, given) is given
    assert training.MixStyle(0.0)(module.train(), None, given) is given


# --- Batches --------------------------------------------------------------------------------------


class Noted:
    """An augmentation whose pictures are all of the row's number / 8; it notes the strengths."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []
        self.strengths: list[float] = []

    def __call__(
        self, indices: torch.Tensor, generator: torch.Generator, strength: float = 1.0
    ) -> torch.Tensor:
        self.rows.append(indices.tolist())
        self.strengths.append(strength)
        return (indices / 8).view(-1, 1, 1, 1).expand(-1, 3, 20, 20)


def drawn(start: int = 0, **more: Any) -> tuple[Noted, list[tuple[torch.Tensor, ...]]]:
    settings = {"steps": 6, "ramp": 4, "small_steps": 2, "image_size": 20, "batch_size": 7, **more}
    config = dataclasses.replace(CONFIG, **settings)
    noted = Noted()
    # Sprites 1, 2, 5 and 6 of eight; the names of a sprite are its number halved.
    tokens = torch.arange(3)[:, None, None] * 100 + torch.arange(4)[None, :, None] + torch.zeros(2)
    batches = training.Batches(
        config,
        start,
        torch.tensor([1, 2, 5, 6]),
        torch.tensor([0.4, 0.3, 0.0, 0.3]),
        torch.arange(8) // 2,
        tokens,
        noted,
    )
    return noted, list(batches)


def test_a_batch_is_pictures_captions_and_which_belong_together() -> None:
    noted, found = drawn()
    assert len(found) == len(noted.rows) == 6
    templates = set()
    for step, (pixels, captions, present, positions) in enumerate(found):
        rows = noted.rows[step]
        assert len(rows) == 7
        assert set(rows) <= {1, 2, 6}  # 5 has no weight
        size = 16 if step < 2 else 20
        assert pixels.shape == (7, 3, size, size)
        want = (torch.tensor(rows) / 8 - 0.5) / 0.25
        torch.testing.assert_close(pixels, want.view(-1, 1, 1, 1).expand_as(pixels))
        assert present.tolist() == sorted({row // 2 for row in rows})
        assert present[positions].tolist() == [row // 2 for row in rows]
        assert (captions[:, 0] % 100).tolist() == present.tolist()
        templates |= set((captions[:, 0] // 100).int().tolist())
    assert templates == {0, 1, 2}
    assert noted.strengths == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_a_resumed_run_draws_what_was_left_and_another_seed_something_else() -> None:
    noted, whole = drawn()
    later, rest = drawn(start=4)
    assert later.rows == noted.rows[4:]
    assert later.strengths == noted.strengths[4:]
    assert len(rest) == 2
    for ours, theirs in zip(rest, whole[4:], strict=True):
        assert all(map(torch.equal, ours, theirs))
    assert noted.rows != drawn(seed=1)[0].rows
    assert len({tuple(rows) for rows in noted.rows}) == 6


def test_material_is_read_from_the_archives(work: Path) -> None:
    archive = training.Archive(work / "training_sprites.npz")
    assert archive.images.shape == (8, 4, 32, 32)
    assert archive.images[0, :, 16, 16].tolist() == [255, 0, 0, 255]  # a cat: red
    assert archive.images[2, :, 16, 16].tolist() == [0, 255, 0, 255]  # a dog: green
    assert archive.images[0, 3, 0, 0] == 0
    assert archive.names == [name for name in NAMES for _ in range(2)]
    assert archive.styles == ["flat", "line"] * 4
    assert archive.phrases == {name: f"a {name}" for name in NAMES}

    training.write_merges(work / "merges.txt.gz", CONFIG.merges)
    material = training.Material.load(CONFIG, work, work / "merges.txt.gz")
    assert material.names == sorted(NAMES)
    assert material.rows.tolist() == list(range(8))
    assert material.weights.sum().item() == pytest.approx(1)
    assert material.backgrounds.shape == (64, 3, 40, 40)
    assert material.heldout.styles == ["other"] * 4
    batches = material.batches(CONFIG, 3)
    assert (batches.start, batches.targets.tolist()) == (3, [1, 1, 2, 2, 3, 3, 0, 0])
    assert batches.tokens.shape == (len(TRAINING_TEMPLATES), 4, training.CONTEXT)
    said = material.tokenizer(TRAINING_TEMPLATES[2].format("a dog"))[0]
    assert torch.equal(batches.tokens[2, 2], said)


def test_a_name_without_an_article_has_no_blank(work: Path) -> None:
    data = dict(np.load(work / "training_sprites.npz"))
    data["article"] = np.array([""] * len(data["article"]))
    np.savez(work / "training_sprites.npz", **data)
    assert training.Archive(work / "training_sprites.npz").phrases["cat"] == "cat"


def test_backgrounds_are_procedural_pictures_of_numbers_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "BACKGROUNDS", 128)
    found = training.backgrounds(8)
    assert found.shape == (128, 3, 8, 8)
    want = procedural.backgrounds(torch.arange(10**6, 10**6 + 128), 8, 8)
    torch.testing.assert_close(found, want)


# --- Steps ----------------------------------------------------------------------------------------


class Tiny(torch.nn.Module):
    """What a course trains, with a loss whose gradient is known: ``push`` for each weight."""

    def __init__(self) -> None:
        super().__init__()
        self.clip: Any = torch.nn.Module()
        self.clip.visual = torch.nn.Linear(2, 3)
        self.clip.logit_scale = torch.nn.Parameter(torch.tensor(1.0))
        self.norm = torch.nn.BatchNorm1d(2, affine=False)
        self.push = 0.0

    def loss(self, pixels: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        self.norm(pixels[:, :2, 0, 0])
        self.seen = (torch.rand(()).item(), pixels.is_contiguous(memory_format=torch.channels_last))
        pushed: torch.Tensor = self.push * self.clip.visual.weight.sum()
        scale: torch.Tensor = self.clip.logit_scale
        return pushed + 7.0 + 0.0 * scale


def course_of(**more: Any) -> training.Course:
    class Config(TrainingConfig):
        def training(self, material: Any) -> Any:
            torch.manual_seed(0)
            return Tiny()

    settings: dict[str, Any] = {"learning_rate": 0.1, "warmup": 2, "weight_decay": 0.5, **more}
    nothing: Any = None
    return training.Course(Config(steps=50, horizon=100, cooldown=10, **settings), nothing)


BATCH = [torch.randn(4, 3, 5, 6), *[torch.zeros(2)] * 3]


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (4, 5 / 14), (26, 0.75), (49, 0.75)])
def test_a_step_moves_the_weights_and_their_average(step: int, decay: float) -> None:
    course = course_of(ema=0.75)
    tiny: Any = course.training
    tiny.push = 1e-3
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    assert course.advance(step, BATCH) == pytest.approx(
        7 + 1e-3 * before["clip.visual.weight"].sum().item()
    )
    now, mean = tiny.state_dict(), course.averaged.state_dict()
    for name, value in now.items():
        if value.dtype.is_floating_point:
            torch.testing.assert_close(mean[name], decay * before[name] + (1 - decay) * value)
        else:
            assert mean[name] == value == 1  # a count is no average
    rate = training.learning_rate(course.config, step)
    # AdamW's first step: the decay, and the rate against the gradient's sign; vectors do not decay.
    torch.testing.assert_close(
        now["clip.visual.weight"], before["clip.visual.weight"] * (1 - 0.5 * rate) - rate
    )
    torch.testing.assert_close(now["clip.visual.bias"], before["clip.visual.bias"])
    assert not course.averaged.training
    assert not any(parameter.requires_grad for parameter in course.averaged.parameters())


def test_a_step_clips_its_gradient_and_forgets_the_one_before() -> None:
    course = course_of()
    tiny: Any = course.training
    weight = tiny.clip.visual.weight
    for step, push, norm in (
        (0, 100.0, 1.0),
        (1, 0.1, 0.1 * math.sqrt(6)),
        (2, 0.1, 0.1 * math.sqrt(6)),
    ):
        tiny.push = push
        course.advance(step, BATCH)
        assert weight.grad.norm().item() == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize(("scale", "kept"), [(9.0, math.log(100)), (-0.5, 0.0), (3.0, 3.0)])
def test_the_scale_stays_between_1_and_100(scale: float, kept: float) -> None:
    course = course_of()
    with torch.no_grad():
        course.training.clip.logit_scale.fill_(scale)
    course.advance(0, BATCH)
    assert course.training.clip.logit_scale.item() == pytest.approx(kept)


def test_what_a_step_draws_is_decided_by_the_seed_and_the_step() -> None:
    def seen(step: int, seed: int = 0) -> Any:
        course = course_of(seed=seed)
        course.training.eval()
        torch.manual_seed(step + 5)
        course.advance(step, BATCH)
        tiny: Any = course.training
        assert tiny.training
        assert tiny.seen[1]
        return tiny.seen[0]

    assert seen(3) == seen(3)
    assert len({seen(3), seen(4), seen(3, seed=1), seen(2, seed=1)}) == 4


def test_matrices_decay_and_vectors_do_not() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    model.register_parameter("scale", torch.nn.Parameter(torch.tensor(1.0)))
    found = training.optimiser_of(model, 0.25, 0.5)
    decaying, others = found.param_groups
    assert [tuple(p.shape) for p in decaying["params"]] == [(2, 3)]
    assert sorted(tuple(p.shape) for p in others["params"]) == [(), (2,), (2,), (2,)]
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    for group in (decaying, others):
        assert (group["lr"], group["betas"]) == (0.25, (0.9, 0.98))


def test_a_checkpoint_holds_the_states_and_the_step(tmp_path: Path) -> None:
    path = tmp_path / "kept.pt"
    one, two, other = torch.nn.Linear(2, 2), torch.nn.Linear(3, 1), torch.nn.Linear(2, 2)
    assert training.take_up(path, {"one": one}) == 0
    training.write_checkpoint(path, {"one": one, "two": two}, 17)
    assert [file.name for file in tmp_path.iterdir()] == ["kept.pt"]
    assert training.take_up(path, {"one": other, "two": torch.nn.Linear(3, 1)}) == 17
    assert torch.equal(other.weight, one.weight)


def test_the_rate_at_every_step() -> None:
    config = TrainingConfig(steps=60, horizon=50, cooldown=20, warmup=10, learning_rate=3.0)

    def cosine(step: int) -> float:
        return 0.01 + 0.99 * math.cos(math.pi * step / 100) ** 2  # of half the angle

    for step in range(60):
        want = 3.0 * (cosine(step) if step < 50 else 0.01)
        if step < 9:
            want *= (step + 1) / 10
        if step > 40:
            want *= (60 - step) / 20
        assert training.learning_rate(config, step) == pytest.approx(want, rel=1e-9)
    sudden = dataclasses.replace(config, cooldown=0)
    assert training.learning_rate(sudden, 45) == pytest.approx(3.0 * cosine(45))
    assert training.learning_rate(sudden, 59) == pytest.approx(0.03)


# --- What is written ------------------------------------------------------------------------------


class Sees:
    """A made-up CLIP: a text says its class by its last word, a picture by its brightest channel.

    ``seen`` has the pictures, ``read`` the texts.
    """

    names = ("bus", "cat", "dog")

    def __init__(self) -> None:
        self.seen = torch.empty(0)
        self.read: list[list[str]] = []

    def eval(self) -> Any:
        return self

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        self.read.append(texts)
        rows = torch.eye(3)[[self.names.index(text.split()[-1].strip(".")) for text in texts]]
        # The first template says "bus" of everything, and very loudly: normalised it is outvoted.
        return torch.eye(3)[[0] * 3] * 100 if len(self.read) == 1 else rows

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        self.seen = pixels
        return pixels[:, :, 5, 5] + 2.0


def test_validation_is_zero_shot_on_sprites_before_backgrounds() -> None:
    archive: Any = SimpleNamespace(
        names=["dog", "cat", "bus", "cat", "dog"],
        styles=["line", "line", "flat", "line", "flat"],
        phrases={"dog": "a dog", "cat": "a cat", "bus": "a bus"},
        images=torch.zeros(5, 4, 14, 14, dtype=torch.uint8),
    )
    archive.images[:, 3] = 255
    archive.images[4, 3] = 51  # a fifth of it is opaque
    for row, channel in enumerate([2, 1, 0, 2, 2]):  # the fourth is taken for a dog
        archive.images[row, channel] = 255
    backgrounds = torch.tensor([0.25, 0.75]).view(2, 1, 1, 1).expand(2, 3, 10, 10)
    model: Any = Sees()
    found = training.validate(model, lambda texts: texts, archive, backgrounds, 10)
    assert model.read == [
        [template.format(f"a {name}") for name in Sees.names] for template in TRAINING_TEMPLATES[:4]
    ]
    assert {style: (part["value"], part["n"]) for style, part in found.items()} == {
        "all": (0.8, 5),
        "flat": (1.0, 2),
        "line": (pytest.approx(2 / 3), 3),
    }
    pictures = model.seen * 0.25 + 0.5
    assert pictures.shape == (5, 3, 10, 10)
    # Seven of ten pixels wide, one pixel from the top and the left, two from the other sides.
    for row, under in enumerate([0.25, 0.75, 0.25, 0.75, 0.25]):
        where = (pictures[row] - under).abs().amax(0) > 1e-6
        assert where.nonzero().amin(0).tolist() == [1, 1]
        assert where.nonzero().amax(0).tolist() == [7, 7]
    assert pictures[0, :, 1, 7].tolist() == pytest.approx([0, 0, 1], abs=1e-6)
    assert pictures[4, :, 4, 4].tolist() == pytest.approx([0.2, 0.2, 0.4], abs=1e-6)


def test_a_share_has_the_ends_of_its_wilson_interval() -> None:
    found = training.share_of(np.array([True, True, False, True]))
    assert found == {
        "value": 0.75,
        "low": pytest.approx(0.30064, abs=1e-5),
        "high": pytest.approx(0.95441, abs=1e-5),
        "n": 4,
    }


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_a_folder_has_half_precision_its_configuration_and_a_card(
    tmp_path: Path, loss: str
) -> None:
    config = dataclasses.replace(CONFIG, loss=loss)
    clip = config.clip()
    archive: Any = SimpleNamespace(
        names=["cat"] * 7, phrases={"cat": "", "dog": ""}, styles=["line", "flat", "line"]
    )
    figures = {"all": {"value": 0.5}}
    card = training.write_folder(clip, config, archive, figures, 3, tmp_path)
    assert json.loads((tmp_path / "model_card.json").read_text()) == card
    assert card == card | {
        "steps_done": 3,
        "samples_seen": 48,
        "sprites": 7,
        "names": 2,
        "training_styles": ["flat", "line"],
        "top1_heldout_sprites": figures,
        "config": dataclasses.asdict(config),
        "torch": torch.__version__,
    }
    state = load_file(tmp_path / "open_clip_model.safetensors")
    assert set(state) == set(clip.state_dict())
    for name, value in clip.state_dict().items():
        whole = not value.dtype.is_floating_point
        assert state[name].dtype == (value.dtype if whole else torch.float16)
        torch.testing.assert_close(state[name].to(value), value, atol=1e-3, rtol=1e-3)
    told = json.loads((tmp_path / "open_clip_config.json").read_text())
    assert told["model_cfg"].pop("init_logit_bias", None) == (-6.0 if loss == "sigmoid" else None)
    assert told["model_cfg"] == config.model_config()
    assert told["preprocess_cfg"] == {
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }


def test_the_command_trains_what_its_options_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def train(*given: Any) -> dict[str, Any]:
        asked.append(given)
        return {"model": "mine"}

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(training, "benchmark", lambda folder: {"all": folder.name})
    out = tmp_path / "made"
    out.mkdir()
    options = "--steps 5 --seed 2 --loss sigmoid --fraction 0.5 --tower test_resnet --image-size 32"
    monkeypatch.setattr(
        "sys.argv", ["reference", *options.split(), f"--work={tmp_path}", f"--out={out}"]
    )
    training.main()
    config = TrainingConfig(
        steps=5, seed=2, loss="sigmoid", fraction=0.5, tower="test_resnet", image_size=32
    )
    assert asked == [(config, tmp_path, out)]
    card = {"model": "mine", "top1_clean_set": {"all": "made"}}
    assert json.loads((out / "model_card.json").read_text()) == card
    assert json.loads(capsys.readouterr().out) == card
    monkeypatch.setattr("sys.argv", ["reference", f"--out={out}"])
    training.main()
    assert asked[1] == (TrainingConfig(), Path("build/embedded"), out)


def test_the_card_has_the_accuracy_on_the_clean_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Made:
        def __init__(self, config: Any, name: str) -> None:
            assert (config.models, name) == ((str(tmp_path),), str(tmp_path))
            assert (config.profile, config.data, config.limit) == ("standard", "embedded", None)

        def on(self, name: str) -> Any:
            assert name == "clean"
            correct = np.array([True, False, True, True, False])
            return SimpleNamespace(correct=correct, groups={"style": ("b", "a", "b", "a", "a")})

    monkeypatch.setattr(evaluation, "Evaluation", Made)
    found = training.benchmark(tmp_path)
    shares = {style: (part["value"], part["n"]) for style, part in found.items()}
    assert shares == {"all": (0.6, 5), "a": (pytest.approx(1 / 3), 3), "b": (1.0, 2)}
    assert list(found) == ["all", "a", "b"]

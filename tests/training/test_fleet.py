"""The trainer of the fleet, on a handful of made-up sprites."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file
from training_helpers import NAMES, write_archive

from pytest_cliprobust.embedded.captions import EMBEDDED_TEMPLATES
from pytest_cliprobust.study.cards import UNKNOWN, Card
from pytest_cliprobust.study.effects import design_of
from pytest_cliprobust.targets.loading import load_target
from pytest_cliprobust.training import fleet, reference
from pytest_cliprobust.training.fleet import FLEET, FleetConfig, thinned
from pytest_cliprobust.training.reference import Archive, Material

SMALL: dict[str, Any] = {
    "steps": 3,
    "horizon": 6,
    "cooldown": 1,
    "batch_size": 12,
    "warmup": 1,
    "ramp": 2,
    "styles": ("flat", "line"),
    "drawings": 8,
}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_archive(tmp_path / "training_sprites.npz", ("flat", "line", "other"))
    write_archive(tmp_path / "heldout_sprites.npz", ("unseen",))
    monkeypatch.setattr(reference, "CHECKPOINT_STEPS", 2)
    monkeypatch.setattr(reference, "BACKGROUNDS", 64)
    monkeypatch.setattr(fleet, "LABEL_PICTURES", 4)
    monkeypatch.setattr(fleet, "FOLDER", tmp_path / "fleet")
    nothing = {"all": {"value": 0.0, "low": 0.0, "high": 1.0, "n": 1}}
    monkeypatch.setattr(reference, "benchmark", lambda folder: nothing)
    return tmp_path


def cards() -> dict[str, Card]:
    """Return the cards that the fleet's models will have, with sizes made up for the smaller one."""
    made = {}
    for name, config in FLEET.items():
        size = 3e5 if config.width == 5 else 7e5
        facts = {k: v for k, v in fleet.tags(config).items() if v != ""}
        made[name] = UNKNOWN.updated(facts | {"parameters": size}, "here")
    return made


def test_each_sibling_differs_from_the_base_in_one_fact() -> None:
    made = cards()
    base = asdict(made["base"])
    for name, card in made.items():
        changed = {key for key, value in asdict(card).items() if value != base[key]} - {"base"}
        assert len(changed) == (0 if name == "base" else 1), name


def test_the_fleet_tells_all_its_factors_apart() -> None:
    design = design_of(list(cards().values()))
    assert {column.factor for column in design.columns} == {
        *("architecture", "parameters", "data", "set_size", "fine_tuning", "loss")
    }
    assert design.confounded == ()
    assert design.freedom == 2


def test_towers_are_small_and_about_equal() -> None:
    sizes = {}
    for name, config in FLEET.items():
        clip = CLIP(**config.model_config())
        sizes[name] = sum(p.numel() for p in clip.visual.parameters())
        assert sum(p.numel() for p in clip.parameters()) < 1.2e6, name
    for name in ("vit", "convnext"):
        assert 0.9 < sizes[name] / sizes["base"] < 1.1
    assert sizes["smaller"] < 0.6 * sizes["base"]


def test_styles_halves_and_caps_choose_the_same_drawings_for_every_seed(work: Path) -> None:
    archive = Archive(work / "training_sprites.npz")
    whole = FleetConfig(**SMALL)
    rows = whole.rows(archive).tolist()
    assert {archive.styles[row] for row in rows} == {"flat", "line"}
    assert len(rows) == 8
    half = replace(whole, fraction=0.5)
    assert set(half.rows(archive).tolist()) < set(rows)
    # Of each name half its drawings.
    assert sorted(archive.names[row] for row in half.rows(archive).tolist()) == sorted(NAMES)
    assert replace(half, seed=1).rows(archive).tolist() == half.rows(archive).tolist()
    assert len(replace(whole, drawings=5).rows(archive)) == 5


def test_thinning_is_even() -> None:
    assert thinned(range(10), 5) == [0, 2, 4, 6, 8]
    assert thinned(range(3), 3) == [0, 1, 2]
    assert thinned(range(3), 0) == []


@pytest.mark.parametrize("tower", ["resnet", "vit", "convnext"])
def test_folding_the_whitening_keeps_the_features(tower: str) -> None:
    torch.manual_seed(0)
    config = FleetConfig(tower=tower, width=96 if tower == "vit" else 8)
    training = fleet.FleetTraining(config.clip(), names=4, half=False)
    training.norm.running_mean = torch.randn(fleet.EMBEDDING)
    training.norm.running_var = torch.rand(fleet.EMBEDDING) + 0.5
    training.eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = training.norm(training.features(images))
        features = training.folded().encode_image(images)
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-3)


def test_pictures_are_made_once_and_drawn_from_mild_to_strong(work: Path) -> None:
    config = FleetConfig(**SMALL)
    reference.write_merges(work / "merges.txt.gz", config.merges)
    material = Material.load(config, work, work / "merges.txt.gz")
    pictures = config.augmentation(material)
    made = (work / "fleet-pictures-64.npy").stat()
    assert len(pictures.pictures) == 12 * 4
    rows = torch.arange(12)
    drawn = pictures(rows, torch.Generator().manual_seed(0), 0.8)
    assert drawn.shape == (12, 3, 64, 64)
    assert 0 <= drawn.min() < drawn.max() <= 1
    assert torch.equal(drawn, pictures(rows, torch.Generator().manual_seed(0), 0.8))
    # At the least strength there is one picture of each to draw.
    assert (pictures.counts * 0.2 / fleet.STRONGEST).ceil().tolist() == [1] * 12
    config.augmentation(material)
    assert (work / "fleet-pictures-64.npy").stat() == made


@pytest.mark.slow
def test_the_fleet_is_trained_resumed_and_left_alone(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {
        "base": FleetConfig(**SMALL),
        "sigmoid": FleetConfig(**SMALL, loss="sigmoid"),
        "finetuned": FleetConfig(**SMALL, start="base", label_share=1.0),
    }
    monkeypatch.setattr(fleet, "FLEET", members)
    fleet.train_fleet(list(members), work)
    folders = {name: work / "fleet" / name for name in members}
    for name, folder in folders.items():
        card = json.loads((folder / "model_card.json").read_text())
        assert card["training_styles"] == {"flat": 4, "line": 4}
        assert card["tags"]["loss"] == ("sigmoid" if name == "sigmoid" else "softmax")
        assert card["tags"]["parameters"] == card["parameters"]["all"]
        target = load_target(str(folder), device="cpu", precision="fp32")
        assert target.encode_text(["a cat.", "a dog."]).shape == (2, fleet.EMBEDDING)
        assert target.info.tags["set_size"] == "8"
    base, tuned = (load_target(str(folders[n]), device="cpu") for n in ("base", "finetuned"))
    texts = ["a cat.", "a dog."]
    # Fine-tuning leaves the text tower, and so the head, as it is.
    torch.testing.assert_close(base.encode_text(texts), tuned.encode_text(texts))
    pixels = base.preprocess(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert not torch.allclose(base.encode_image(pixels), tuned.encode_image(pixels), atol=1e-4)

    before = {name: (f / "open_clip_model.safetensors").stat() for name, f in folders.items()}
    fleet.train_fleet(list(members), work)
    assert before == {n: (f / "open_clip_model.safetensors").stat() for n, f in folders.items()}


def test_fine_tuning_needs_its_base(work: Path) -> None:
    with pytest.raises(SystemExit, match="train base first"):
        fleet.loaded(FleetConfig(**SMALL), work / "fleet" / "base")


def test_an_unknown_model_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["fleet", "nobody"])
    with pytest.raises(SystemExit):
        fleet.main()
    assert "no model nobody; there are base, " in capsys.readouterr().err


def test_a_drawn_picture_is_turned_moved_and_lit_as_a_whole() -> None:
    """Known from the same random numbers: one picture a sprite, with a mark that tells its place."""
    pictures: Any = object.__new__(fleet.Pictures)
    size, count = 24, 6
    pictures.pictures = np.full((count, 3, size, size), 64, np.uint8)
    pictures.pictures[:, :, 10, 5] = 255  # left of the middle
    pictures.counts, pictures.first = torch.ones(count, dtype=torch.long), torch.arange(count)
    found = pictures(torch.arange(count), torch.Generator().manual_seed(3))
    same = torch.Generator().manual_seed(3)
    torch.rand(count, generator=same)  # which of a sprite's pictures
    flipped = torch.rand(count, 1, 1, 1, generator=same).flatten() < 0.5
    down, right = ((torch.rand(2, generator=same) * 2 - 1) * 4).round().int().tolist()
    light = 0.85 + 0.3 * torch.rand(count, 1, 1, 1, generator=same)
    assert set(flipped.tolist()) == {True, False}
    assert light.min() < 1 < light.max()
    for own, turned, factor in zip(found, flipped.tolist(), light.flatten().tolist(), strict=True):
        place = (10 + down, (size - 1 - 5 if turned else 5) + right)
        assert own[:, place[0], place[1]].tolist() == pytest.approx([min(factor, 1.0)] * 3)
        own[:, place[0], place[1]] = 64 / 255 * factor
        assert torch.allclose(own, torch.full_like(own, 64 / 255 * factor), atol=1e-6)


def sees(**held: Any) -> Any:
    """Material of three names, two of them labels."""
    return SimpleNamespace(
        names=["bus", "cat", "dog"],
        heldout=SimpleNamespace(names=["dog", "bus"], phrases={"dog": "a dog", "bus": "a bus"}),
        tokenizer=SimpleTokenizer(context_length=reference.CONTEXT),
        **held,
    )


def small_clip(loss: str = "softmax") -> Any:
    torch.manual_seed(0)
    clip = FleetConfig(**SMALL, loss=loss).clip()
    # The tokens of the whole vocabulary, so that nothing has to be written first.
    clip.token_embedding = torch.nn.Embedding(49408, 96)
    return clip.eval()


def log_softmax(logits: Any) -> Any:
    logits = logits.double().numpy()
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_the_head_is_the_normalised_mean_over_templates() -> None:
    clip, material = small_clip(), sees()
    found = fleet.zero_shot_head(clip, material, ["a dog", "a bus"])
    assert not found.requires_grad
    assert found.shape == (2, fleet.EMBEDDING)
    each = []
    for template in EMBEDDED_TEMPLATES:
        text = material.tokenizer([template.format("a bus")])
        each.append(clip.encode_text(text, normalize=True)[0].detach())
    want = torch.stack(each).sum(0)
    torch.testing.assert_close(found[1], want / want.norm(), atol=1e-5, rtol=0)


def test_fine_tuning_is_cross_entropy_over_the_labels_by_that_head() -> None:
    clip, material = small_clip(), sees()
    tuned = fleet.FineTuning(clip, material).eval()
    assert tuned.labels.tolist() == [0, -1, 1]  # "bus" and "dog" of three names
    torch.testing.assert_close(tuned.head, fleet.zero_shot_head(clip, material, ["a bus", "a dog"]))
    image = {name for name, p in clip.visual.named_parameters() if p.requires_grad}
    assert image == {name for name, _ in clip.visual.named_parameters()}
    learned = {name for name, p in clip.named_parameters() if p.requires_grad}
    assert learned == {f"visual.{name}" for name in image} | {"logit_scale"}
    assert not any(p.requires_grad for p in tuned.classifier.parameters())
    pixels = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = tuned.loss(pixels, torch.zeros(2), torch.tensor([0, 2]), torch.tensor([1, 0, 1]))
        features = torch.nn.functional.normalize(tuned.features(pixels), dim=-1)
        scores = log_softmax(15.0 * features @ tuned.head.T)
    right = -scores[[0, 1, 2], [1, 0, 1]].mean()
    # Smoothing takes a twentieth from the right class and spreads it over both.
    assert found.item() == pytest.approx(0.95 * right - 0.05 * scores.mean(), rel=1e-4)
    # Nothing is folded into what had no batch norm.
    for name, value in tuned.folded().state_dict().items():
        assert torch.equal(value, clip.state_dict()[name])


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_the_classifier_of_names_reads_the_whitened_embedding(loss: str) -> None:
    clip = small_clip(loss)
    model = fleet.FleetTraining(clip, names=4, half=False).eval()
    model.norm.running_mean = torch.randn(fleet.EMBEDDING)
    pixels = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    captions = torch.randint(1, 500, (2, reference.CONTEXT))
    with torch.inference_mode():
        found = model.loss(pixels, captions, torch.tensor([1, 3]), torch.tensor([0, 1, 1]))
        white = model.norm(clip.encode_image(pixels))
        pairs = reference.contrastive_loss(
            torch.nn.functional.normalize(white, dim=-1),
            clip.encode_text(captions, normalize=True),
            torch.tensor([0, 1, 1]),
            torch.tensor(15.0),
            clip.logit_bias,
        )
        named = log_softmax(model.classifier(white))
    right = -named[[0, 1, 2], [1, 3, 3]].mean()
    want = pairs.item() + 0.95 * right - 0.05 * named.mean()
    assert found.item() == pytest.approx(want, rel=1e-4)


def test_convolutions_are_in_half_precision_and_transformers_are_not() -> None:
    material: Any = SimpleNamespace(names=["cat", "dog"])
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for tower, width in (("resnet", 8), ("vit", 96), ("convnext", 8)):
        model: Any = FleetConfig(tower=tower, width=width).training(material).eval()
        assert model.classifier.out_features == 2
        with torch.inference_mode():
            found, exact = model.features(pixels), model.clip.encode_image(pixels)
        assert found.dtype == torch.float32
        assert torch.equal(found, exact) == (tower == "vit")
        torch.testing.assert_close(found, exact, atol=0.05 * float(exact.abs().max()), rtol=0)


def test_the_weights_of_the_base_are_where_fine_tuning_begins(work: Path) -> None:
    config = FleetConfig(**SMALL)
    base = config.clip()
    (work / "fleet" / "base").mkdir(parents=True)
    half = {name: value.half().contiguous() for name, value in base.state_dict().items()}
    save_file(half, work / "fleet" / "base" / "open_clip_model.safetensors")
    found = fleet.loaded(config, work / "fleet" / "base")
    for name, value in found.state_dict().items():
        if value.dtype.is_floating_point:
            assert value.dtype == torch.float32
        torch.testing.assert_close(value, base.state_dict()[name], atol=2e-3, rtol=2e-3)
    reference.write_merges(work / "merges.txt.gz", config.merges)
    material = Material.load(config, work, work / "merges.txt.gz")
    tuned = replace(config, start="base").training(material)
    assert isinstance(tuned, fleet.FineTuning)
    assert tuned.half_towers
    torch.testing.assert_close(tuned.clip.state_dict(), found.state_dict())


def test_pictures_of_a_sprite_stand_in_the_order_of_their_strength(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made by an augmentation whose pictures say of which sprite they are, and how strong."""
    monkeypatch.setattr(fleet, "OTHER_PICTURES", 2)

    class Says:
        size = 5

        def __init__(self, *given: Any) -> None:
            pass

        def __call__(self, indices: Any, generator: Any, strength: float) -> Any:
            made = torch.zeros(len(indices), 3, 5, 5)
            made[:, 0] = (indices / 255).view(-1, 1, 1)
            made[:, 1] = strength
            return made

    monkeypatch.setattr(reference, "SpriteAugmentation", Says)
    names = ["cat", "dog"] * 128
    material: Any = SimpleNamespace(
        archive=SimpleNamespace(names=names, images=None),
        heldout=SimpleNamespace(names=["cat"]),
        backgrounds=None,
        work=work,
    )
    found = fleet.Pictures(material, 5)
    assert found.counts.tolist() == [4, 2] * 128
    assert found.first.tolist() == [6 * (i // 2) + 4 * (i % 2) for i in range(256)]
    assert found.pictures.shape == (768, 3, 5, 5)
    sprites = [i for i in range(256) for _ in range([4, 2][i % 2])]
    assert found.pictures[:, 0, 2, 2].tolist() == sprites
    strengths = found.pictures[:, 1, 2, 2].reshape(128, 6) / 255
    # Of a label, then of another; as many of each as a whole number of batches takes.
    want = np.array([0.2, 0.4, 0.6, 0.8, 0.4, 0.8])
    np.testing.assert_allclose(strengths, np.tile(want, (128, 1)), atol=0.003)
    assert [path.name for path in work.glob("fleet-pictures*")] == ["fleet-pictures-5.npy"]


def test_up_to_which_picture_is_drawn_grows_with_the_strength() -> None:
    pictures: Any = object.__new__(fleet.Pictures)
    # Two sprites with 4 and 8 pictures, which say their number.
    pictures.counts, pictures.first = torch.tensor([4, 8]), torch.tensor([0, 4])
    numbers = np.arange(1, 13, dtype=np.uint8)[:, None, None, None] * 10
    pictures.pictures = np.broadcast_to(numbers, (12, 3, 2, 2))
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(2).repeat(300)
    for strength, most in ((0.2, (1, 2)), (0.41, (3, 5)), (0.8, (4, 8)), (1.0, (4, 8))):
        found = pictures(rows, generator, strength)[:, 0, 0, 0] * 255 / 10
        for sprite in (0, 1):
            own = found[rows == sprite]
            first = 4 * sprite + 1
            # Its brightness is between 0.85 and 1.15 of its own.
            assert 0.85 * first - 1e-3 <= own.min() < 0.95 * first
            last = first + most[sprite] - 1
            assert 1.05 * last < own.max() <= 1.15 * last + 1e-3


def test_a_card_is_completed_with_what_was_trained(work: Path) -> None:
    config = FleetConfig(**SMALL)
    folder = work / "fleet" / "mine"
    folder.mkdir(parents=True)
    (folder / "model_card.json").write_text(json.dumps({"steps_done": 3, "sprites": "old"}))
    state = {
        "visual.a": torch.zeros(3, 4),
        "visual.b": torch.zeros(5),
        "text.visual": torch.ones(7),
    }
    save_file(state, folder / "open_clip_model.safetensors")
    card = fleet.finish("mine", replace(config, styles=("flat", "none")), work)
    assert card == json.loads((folder / "model_card.json").read_text())
    assert card == {
        "steps_done": 3,
        "sprites": 4,
        "names": 4,
        "training_styles": {"flat": 4, "none": 0},
        "parameters": {"image": 17, "all": 24},
        "tags": {**fleet.tags(config), "parameters": 24},
        "top1_clean_set": reference.benchmark(folder),
    }


def test_a_model_is_trained_where_card_and_settings_say_so() -> None:
    config = FleetConfig(**SMALL)
    told = json.loads(json.dumps(asdict(config)))
    assert fleet.is_trained({"config": told, "steps_done": 3}, config)
    assert not fleet.is_trained({"config": told, "steps_done": 2}, config)
    assert not fleet.is_trained({"config": told | {"seed": 1}, "steps_done": 3}, config)
    assert not fleet.is_trained({}, config)


def test_what_is_done_is_left_alone_and_a_lost_end_is_caught_up(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        fleet, "FLEET", {name: FleetConfig(**SMALL, seed=i) for i, name in enumerate("abc")}
    )
    done: list[str] = []
    for name, state in (("a", "finished"), ("b", "trained")):
        config = fleet.FLEET[name]
        card: dict[str, Any] = {"config": asdict(config), "steps_done": 3}
        if state == "finished":
            card["tags"] = fleet.tags(config) | {"parameters": 1}
        (work / "fleet" / name).mkdir(parents=True)
        (work / "fleet" / name / "model_card.json").write_text(json.dumps(card))

    def train(config: FleetConfig, folder: Path, out: Path) -> None:
        assert (config, folder) == (fleet.FLEET[out.name], work)
        done.append(f"trained {out.name}")

    def finish(name: str, config: FleetConfig, folder: Path) -> dict[str, Any]:
        assert (config, folder) == (fleet.FLEET[name], work)
        done.append(f"finished {name}")
        return {"top1_clean_set": {"all": name.upper()}}

    monkeypatch.setattr(reference, "train", train)
    monkeypatch.setattr(fleet, "finish", finish)
    monkeypatch.setattr("sys.argv", ["fleet", f"--work={work}"])
    fleet.main()
    assert done == ["finished b", "trained c", "finished c"]
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in said] == ["b", "c", "c"]
    assert said[0] == "b: top-1 on the clean set B"
    done.clear()
    monkeypatch.setattr("sys.argv", ["fleet", f"--work={work}", "c"])
    fleet.main()
    assert done == ["trained c", "finished c"]

"""The trainer of the bundled multimodal model, on a handful of scenes."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file

from pytest_cliprobust.embedded.sprites import load_styles
from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.properties.multimodal import Answer, ChoiceAnswers
from pytest_cliprobust.targets import bundled_multimodal
from pytest_cliprobust.training import multimodal as training
from pytest_cliprobust.training.multimodal import (
    IGNORED,
    QUESTIONS,
    Asker,
    Course,
    Learner,
    MultimodalConfig,
    Questions,
    Scenes,
    build_config,
    build_processor,
    build_tokenizer,
    learning_rate,
    prompt_of,
    wrong_options,
)

CONFIG = MultimodalConfig(steps=4, batch_size=6, warmup=2, width=32, layers=2, heads=2)
PHRASES = tuple(f"a {thing}" for thing in ("cat", "dog", "pair of skis", "key", "bus"))
TOWER, CHANNELS = "ese_vovnet19b_slim", 512


def scenes_of(count: int = 20) -> Scenes:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % len(PHRASES)
    logits = torch.randn(count, len(PHRASES), generator=generator)
    return Scenes(torch.randn(count, 4, CHANNELS, generator=generator).half(), labels, logits)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer(PHRASES, 500)


@pytest.fixture
def model(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    return transformers.FastVlmForConditionalGeneration(
        build_config(CONFIG, tokenizer, TOWER, CHANNELS)
    )


def test_every_word_of_a_phrase_is_a_token_and_any_text_can_be_read(tokenizer: Any) -> None:
    for phrase in PHRASES:
        assert len(tokenizer.tokenize(f" {phrase}")) == len(phrase.split())
    odd = "Zürich 東京 \N{SNOWMAN}"
    assert tokenizer.decode(tokenizer(odd, add_special_tokens=False)["input_ids"]) == odd


def test_a_question_is_what_the_processor_makes_of_it(tokenizer: Any) -> None:
    processor = build_processor(tokenizer, 80, 2)
    content = [{"type": "image"}, {"type": "text", "text": "What?"}]
    chat = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    assert chat == prompt_of("What?") == "USER: <image>\nWhat? ASSISTANT:"
    ids, targets = Asker(tokenizer, PHRASES, 4).tokens([("What?", "a cat")])
    inputs = processor(
        images=[np.zeros((80, 80, 3), np.uint8)], text=[chat + " a cat</s>"], return_tensors="pt"
    )
    assert ids.tolist() == inputs["input_ids"].tolist()
    answer = targets[0][targets[0] != IGNORED]
    assert tokenizer.decode(answer) == " a cat</s>"


def test_losses_are_those_of_the_whole_model(model: Any, tokenizer: Any) -> None:
    """One row at a time, through transformers' own forward pass with its own tower."""
    torch.manual_seed(1)
    pixels = torch.randn(3, 3, 80, 80)
    model.eval()
    with torch.inference_mode():
        maps = model.model.vision_tower(pixels).last_hidden_state
        features = maps.flatten(2).transpose(1, 2)
        turns = [("What?", "a cat"), (QUESTIONS[1].format(first="x", second="y"), "a pair of skis")]
        turns.append(("Who is there?", "a dog"))
        ids, targets = Asker(tokenizer, PHRASES, 4).tokens(turns)
        found = Learner(model, 0.5).eval().losses(features, ids, targets)
        for row in range(3):
            length = int((ids[row] != tokenizer.pad_token_id).sum())
            logits = model(
                input_ids=ids[row : row + 1, :length], pixel_values=pixels[row : row + 1]
            ).logits[0]
            expected = F.cross_entropy(
                logits[:-1], targets[row, 1:length], ignore_index=IGNORED, reduction="sum"
            )
            torch.testing.assert_close(found[row], expected, atol=1e-4, rtol=1e-4)


def test_both_orders_of_a_choice_are_asked_and_the_answer_is_right(tokenizer: Any) -> None:
    scenes = scenes_of()
    asker = Asker(tokenizer, PHRASES, 4)
    features, ids, targets = next(Questions(CONFIG, scenes, asker).from_step(0))
    size = CONFIG.batch_size
    assert len(ids) == len(targets) == len(features) == 2 * size + size // 2
    torch.testing.assert_close(features[:size], features[size : 2 * size])
    texts = [tokenizer.decode(row, skip_special_tokens=True) for row in ids]
    answers = [
        tokenizer.decode(row[row != IGNORED], skip_special_tokens=True).strip() for row in targets
    ]
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(len(scenes.labels), (size,), generator=generator)
    true = [PHRASES[label] for label in scenes.labels[rows].tolist()]
    assert answers == [*true, *true, *true[: size // 2]]
    for first, second, right in zip(texts[:size], texts[size : 2 * size], true, strict=True):
        assert right in first.partition(" or ")[0]
        assert right in second.partition(" or ")[2]


def test_wrong_options_follow_the_references_ranking_and_are_never_right() -> None:
    logits = torch.tensor([[5.0, 4.0, 0.0, -1.0, -9.0]]).repeat(2000, 1)
    scenes = Scenes(torch.empty(2000, 0), torch.zeros(2000, dtype=torch.long), logits)
    generator = torch.Generator().manual_seed(0)
    hard = MultimodalConfig(temperature=1.0, uniform=0.0)
    drawn = torch.bincount(wrong_options(scenes, hard, generator), minlength=5) / 2000
    expected = torch.tensor([0.0, 4.0, 0.0, -1.0, -9.0]).exp()
    expected[0] = 0.0
    torch.testing.assert_close(drawn, expected / expected.sum(), atol=0.02, rtol=0)
    alike = MultimodalConfig(temperature=1.0, uniform=1.0)
    drawn = torch.bincount(wrong_options(scenes, alike, generator), minlength=5) / 2000
    torch.testing.assert_close(drawn, torch.tensor([0, 0.25, 0.25, 0.25, 0.25]), atol=0.04, rtol=0)


def test_a_reference_without_doubts_leaves_all_classes(model: Any) -> None:
    logits = torch.tensor([[1e4, -1e4, -1e4]])
    scenes = Scenes(torch.empty(1, 0), torch.zeros(1, dtype=torch.long), logits)
    config = MultimodalConfig(uniform=0.1)
    assert int(wrong_options(scenes, config, torch.Generator().manual_seed(0))) in (1, 2)


def test_the_rate_rises_and_falls() -> None:
    config = MultimodalConfig(steps=100, warmup=10, learning_rate=1.0)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0, abs=0.05)
    assert rates[-1] < 0.001


@pytest.mark.slow
def test_it_learns(model: Any, tokenizer: Any) -> None:
    """Scenes whose features tell the class: likelihood finds the right option after some steps."""
    labels = torch.arange(40) % 5
    features = torch.zeros(40, 4, CHANNELS)
    features[torch.arange(40), :, labels * 100] = 6.0
    logits = torch.zeros(40, 5)
    logits[torch.arange(40), (labels + 1) % 5] = 3.0  # each is taken for the next
    scenes = Scenes(features.half(), labels, logits)
    asker = Asker(tokenizer, PHRASES, 4)
    config = MultimodalConfig(
        steps=150,
        batch_size=16,
        warmup=10,
        width=32,
        layers=2,
        heads=2,
        learning_rate=6e-3,
        dropout=0.1,
    )
    course = Course(config, model)
    questions = Questions(config, scenes, asker).from_step(0)
    losses = [course.advance(step, next(questions)) for step in range(config.steps)]
    assert losses[-1] < 0.5 * losses[0]
    figures = training.validate(course.averaged, asker, scenes)
    assert list(figures) == ["true option first", "true option second"]
    assert all(share["n"] == 40 for share in figures.values())
    assert min(share["value"] for share in figures.values()) > 0.8


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_STEPS", 2)
    monkeypatch.setattr(training, "training_styles", lambda: ["streamline-emojis"])
    monkeypatch.setattr(training, "RunConfig", partial(RunConfig, limit=30))
    config = MultimodalConfig(
        steps=4, batch_size=4, warmup=2, width=32, layers=1, heads=2, profile="quick"
    )
    save, advance, done = Course.save, Course.advance, list[tuple[str, int]]()

    def saved(self: Course, path: Path, step: int) -> None:
        done.append(("saved", step))
        save(self, path, step)

    def advanced(self: Course, step: int, *more: Any) -> float:
        done.append(("step", step))
        return advance(self, step, *more)

    with monkeypatch.context() as patch:
        patch.setattr(Course, "save", saved)
        patch.setattr(Course, "advance", advanced)
        card = training.train(config, tmp_path, tmp_path / "whole")
    assert card["steps_done"] == 4
    first, last = [("step", 0), ("step", 1)], [("step", 2), ("step", 3)]
    assert done == [*first, ("saved", 2), *last, ("saved", 4)]
    next(tmp_path.glob("multimodal-*.pt")).unlink()
    calls = []

    def fails_later(self: Course, *arguments: Any) -> float:
        calls.append(1)
        if len(calls) > 3:
            raise RuntimeError("pulled the plug")
        return advance(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Course, "advance", fails_later)
        with pytest.raises(RuntimeError, match="pulled the plug"):
            training.train(config, tmp_path, tmp_path / "resumed")
    written = json.loads((tmp_path / "resumed" / "model_card.json").read_text())
    assert written["steps_done"] == 2
    training.train(config, tmp_path, tmp_path / "resumed")
    assert (tmp_path / "resumed" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()
    # What was written is the bundled format.
    model = bundled_multimodal.load(torch.device("cpu"), tmp_path / "whole")
    assert model.answers(torch.zeros(1, 3, 80, 80, dtype=torch.uint8), ["What?"])[0] is not None


def test_only_training_styles_are_trained_on() -> None:
    held_out = {style.name for style in load_styles() if style.split == "held-out"}
    assert held_out
    assert not held_out & set(training.training_styles())


# --- Parts, each by itself ------------------------------------------------------------------------


def test_the_rate_at_every_step() -> None:
    config = MultimodalConfig(steps=40, warmup=8, learning_rate=3.0)
    for step in range(40):
        want = 3.0 * math.cos(math.pi * step / 80) ** 2 * ((step + 1) / 8 if step < 7 else 1)
        assert learning_rate(config, step) == pytest.approx(want, rel=1e-9)


def test_the_processor_prepares_pictures_as_the_reference_does(tokenizer: Any) -> None:
    processor = build_processor(tokenizer, 80, 2)
    picture = np.full((80, 80, 3), 255, np.uint8)
    picture[:, 40:] = 51
    found = processor.image_processor(images=[picture], return_tensors="pt")["pixel_values"]
    assert found.shape == (1, 3, 80, 80)
    assert found[0, :, 5, 5].tolist() == pytest.approx([2.0] * 3, abs=1e-5)
    assert found[0, :, 5, 75].tolist() == pytest.approx([-1.2] * 3, abs=1e-5)
    wide = processor.image_processor(images=[np.zeros((80, 200, 3), np.uint8)], return_tensors="pt")
    assert wide["pixel_values"].shape == (1, 3, 80, 80)
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "What?"}, {"type": "image"}]},
        {"role": "assistant", "content": "a cat"},
    ]
    said = processor.apply_chat_template(messages)
    assert said == "USER: <image>\nWhat? ASSISTANT: a cat</s>"


def test_the_model_is_of_the_size_that_was_asked_for(model: Any, tokenizer: Any) -> None:
    text, vision = model.config.text_config, model.config.vision_config
    assert (text.hidden_size, text.intermediate_size) == (32, 64)
    assert (text.num_hidden_layers, text.num_attention_heads, text.num_key_value_heads) == (2, 2, 2)
    assert text.vocab_size == len(tokenizer) <= 500
    assert (text.pad_token_id, text.bos_token_id, text.eos_token_id) == (0, 1, 2)
    assert text.max_position_embeddings == tokenizer.model_max_length == 256
    assert (vision.architecture, vision.hidden_size) == (TOWER, CHANNELS)
    assert model.config.image_token_index == tokenizer.convert_tokens_to_ids("<image>") == 3
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight
    # Features go in as they are, not pooled.
    assert not vision.do_pooling


def test_what_is_asked_is_padded_on_the_right_and_only_answers_are_learned(tokenizer: Any) -> None:
    turns = [("What?", "a cat"), ("What is this odd thing?", "a pair of skis")]
    ids, targets = Asker(tokenizer, PHRASES, 3).tokens(turns)
    assert ids.shape == targets.shape
    lengths = []
    for row, (question, answer) in enumerate(turns):
        images = "<image>" * 3
        text = f"USER: {images}\n{question} ASSISTANT: {answer}</s>"
        want = tokenizer(text, add_special_tokens=False)["input_ids"]
        lengths.append(len(want))
        assert ids[row].tolist() == want + [0] * (ids.shape[1] - len(want))
        learned = tokenizer(f" {answer}</s>", add_special_tokens=False)["input_ids"]
        rest = ids.shape[1] - len(want)
        before = [IGNORED] * (len(want) - len(learned))
        assert targets[row].tolist() == before + learned + [IGNORED] * rest
    assert max(lengths) == ids.shape[1] > min(lengths)


def test_a_choice_names_both_and_its_answer() -> None:
    asker = Asker(None, PHRASES, 4)
    found = asker.choice("{second} or {first}?", 1, 3, answer=3)
    assert found == ("a key or a dog?", "a key")


def test_a_resumed_run_asks_what_was_left(tokenizer: Any) -> None:
    def asked(start: int, seed: int = 0) -> list[Any]:
        config = dataclasses.replace(CONFIG, seed=seed)
        made = Questions(config, scenes_of(), Asker(tokenizer, PHRASES, 4))
        return [
            (features, tokenizer.batch_decode(ids)) for features, ids, _ in made.from_step(start)
        ]

    whole, rest, other = asked(0), asked(2), asked(0, seed=1)
    assert len(whole) == 4
    assert [texts for _, texts in rest] == [texts for _, texts in whole[2:]]
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(rest, whole[2:], strict=True))
    assert whole[0][0].dtype == torch.float32
    said = [text for _, texts in whole + other for text in texts]
    assert len({tuple(texts) for _, texts in whole + other}) == 8
    # Every kind of question comes, and captions are asked for a half of the scenes.
    for question in (*QUESTIONS, *training.CAPTION_QUESTIONS):
        begin = question.partition("{")[0]
        assert any(f"\n{begin}" in text for text in said)
    captions = [any(q in text for q in training.CAPTION_QUESTIONS) for text in whole[0][1]]
    assert captions == [False] * 12 + [True] * 3


def test_wrong_options_are_as_likely_as_temperature_and_share_say() -> None:
    count = 20_000
    logits = torch.tensor([[0.5, 9.0, -1.0, 2.0]]).repeat(count, 1)
    scenes = Scenes(torch.empty(count, 0), torch.ones(count, dtype=torch.long), logits)
    config = MultimodalConfig(temperature=2.0, uniform=0.3)
    drawn = wrong_options(scenes, config, torch.Generator().manual_seed(0))
    ranked = np.exp([0.25, -0.5, 1.0])
    want = 0.7 * ranked / ranked.sum() + 0.1
    found = torch.bincount(drawn, minlength=4) / count
    assert found.tolist() == pytest.approx([want[0], 0.0, want[1], want[2]], abs=0.012)


class Told:
    """A learner that finds an answer the likelier the smaller its number, in one order as in both."""

    def __init__(self, seen: list[Any]) -> None:
        self.seen = seen

    def losses(self, features: torch.Tensor, ids: torch.Tensor, targets: Any) -> torch.Tensor:
        self.seen.append((features, ids))
        return ids[:, 2].float() + 0.5 * (ids[:, 0] > ids[:, 1])


class Numbers:
    """Puts a choice into three numbers: the first option, the second, the answer."""

    def choice(self, question: str, first: int, second: int, answer: int) -> Any:
        assert question == QUESTIONS[0]
        return first, second, answer

    def tokens(self, turns: Any) -> Any:
        return torch.tensor(turns), None


def test_validation_asks_every_hard_choice_in_both_orders() -> None:
    """Class 0 is taken for 1, 1 for 0, 2 for 1; 3 is never seen."""
    labels = torch.tensor([0, 1, 2] * 50)
    logits = torch.zeros(150, 4)
    logits[torch.arange(150), torch.tensor([1, 0, 1] * 50)] = 5.0
    features = torch.arange(150.0)[:, None, None]
    seen: list[Any] = []
    learner: Any = Told(seen)
    asker: Any = Numbers()
    found = training.validate(learner, asker, Scenes(features, labels, logits))
    # The right one of 0 is the smaller number; of 1 and 2 the other option is.
    assert list(found) == ["true option first", "true option second"]
    for share in found.values():
        assert share["value"] == pytest.approx(1 / 3)
        assert share["n"] == 150
    assert [len(ids) for _, ids in seen] == [128, 128, 128, 128, 44, 44]
    for features, ids in seen:
        assert torch.equal(features[::2], features[1::2])
        assert ids[:, :2].amin() >= 0
        right = labels[features[::2, 0, 0].long()]
        assert torch.equal(ids[::2, 2], right)
        assert not (ids[1::2, 2] == right).any()
    first, second = seen[0][1], seen[1][1]
    assert torch.equal(first[:, 0], second[:, 1])
    assert torch.equal(first[::2, 0], first[::2, 2])
    assert seen[0][1][:6].tolist() == [
        *([0, 1, 0], [0, 1, 1]),
        *([1, 0, 1], [1, 0, 0]),
        *([2, 1, 2], [2, 1, 1]),
    ]


def test_a_step_moves_the_decoder_and_its_average(model: Any, tokenizer: Any) -> None:
    config = dataclasses.replace(CONFIG, steps=40, ema=0.3)
    asker = Asker(tokenizer, PHRASES, 4)
    batch = next(Questions(config, scenes_of(), asker).from_step(0))
    for step, decay in ((0, 0.1), (20, 0.3)):
        course = Course(config, copy.deepcopy(model))
        before = {k: v.clone() for k, v in course.learner.state_dict().items()}
        torch.manual_seed(step)  # as a step does: dropout is the same
        with torch.no_grad():
            want = course.learner.train().losses(*batch).mean().item()
        course.learner.eval()
        torch.manual_seed(99)
        assert course.advance(step, batch) == pytest.approx(want, rel=1e-5)
        assert course.learner.training
        assert not any(parameter.requires_grad for parameter in course.averaged.parameters())
        mean = course.averaged.state_dict()
        for name, value in course.learner.state_dict().items():
            if "weight" in name:
                assert not torch.equal(value, before[name])
            torch.testing.assert_close(mean[name], decay * before[name] + (1 - decay) * value)
        gradient = torch.nn.utils.parameters_to_vector(
            [p.grad for p in course.learner.parameters() if p.grad is not None]
        )
        assert gradient.norm().item() <= 1.0 + 1e-4
        rates = {group["lr"] for group in course.optimiser.param_groups}
        assert rates == {learning_rate(config, step)}


def test_a_folder_has_all_but_the_tower(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    course = Course(CONFIG, model)
    with torch.no_grad():
        for parameter in course.averaged.parameters():
            parameter.add_(0.25)  # what is written is the average
    processor = build_processor(tokenizer, 80, 2)
    card = training.write_folder(course, processor, {"mine": 1.0}, 7, tmp_path / "made")
    state = load_file(tmp_path / "made" / "model.safetensors")
    own = {k: v for k, v in model.state_dict().items() if "vision_tower" not in k}
    own.pop("lm_head.weight")  # tied
    assert set(state) == set(own)
    for name, value in own.items():
        assert state[name].dtype == torch.float16
        torch.testing.assert_close(state[name].float(), value + 0.25, atol=1e-3, rtol=1e-3)
    assert card == json.loads((tmp_path / "made" / "model_card.json").read_text())
    assert card == card | {
        "config": dataclasses.asdict(CONFIG),
        "steps_done": 7,
        "hard_choices": {"mine": 1.0},
        "new_parameters": sum(value.numel() for value in own.values()),
        "training_styles": training.training_styles(),
    }
    config = json.loads((tmp_path / "made" / "config.json").read_text())
    assert config["architectures"] == ["FastVlmForConditionalGeneration"]


def test_scenes_are_kept_and_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = scenes_of(6)
    monkeypatch.setattr(training, "scenes_of", lambda evaluation, names: made)
    evaluation: Any = None
    assert training.kept(tmp_path / "scenes.pt", evaluation, []) is made
    monkeypatch.delattr(training, "scenes_of")
    again = training.kept(tmp_path / "scenes.pt", evaluation, [])
    for field in dataclasses.fields(Scenes):
        assert torch.equal(getattr(again, field.name), getattr(made, field.name))
    some = made[torch.tensor([4, 1])]
    assert torch.equal(some.features, made.features[[4, 1]])
    assert torch.equal(some.labels, made.labels[[4, 1]])
    assert torch.equal(some.logits, made.logits[[4, 1]])


def test_scenes_are_those_of_all_data_sets_whatever_their_length() -> None:
    """Pictures of 2x3 pixels that say their number; the tower's map says it, and where it stands."""

    class Tower:
        def preprocess(self, images: torch.Tensor) -> torch.Tensor:
            return images * 255

        def dense_features(self, pixels: torch.Tensor, layer: str = "last") -> torch.Tensor:
            own = pixels[:, :1, :1, :1].expand(-1, 1, 2, 3)
            return torch.cat([own, torch.arange(6.0).view(1, 1, 2, 3).expand_as(own)], 1)

        def __getattr__(self, name: str) -> Any:
            return None

    class View:
        def __init__(self, first: int, count: int) -> None:
            self.count = count
            self.labels = np.arange(first, first + count)
            self.logits = self.labels[:, None] * np.ones(2)
            images = torch.arange(first, first + count, dtype=torch.uint8)
            whole = images.view(-1, 1, 1, 1).expand(-1, 3, 2, 3)
            self.data = SimpleNamespace(load=lambda rows: SimpleNamespace(images=whole[list(rows)]))

        def __len__(self) -> int:
            return self.count

    views = {"one": View(0, 130), "two": View(130, 3)}
    evaluation: Any = SimpleNamespace(target=Tower(), on=views.__getitem__)
    found = training.scenes_of(evaluation, ["one", "two"])
    assert found.features.shape == (133, 6, 2)
    assert found.features.dtype == torch.float16
    assert torch.equal(found.features[:, 4, 0].int(), torch.arange(133).int())
    assert found.features[7, :, 1].tolist() == [0, 1, 2, 3, 4, 5]
    assert found.labels.tolist() == list(range(133))
    assert torch.equal(found.logits[:, 1], torch.arange(133.0))


def test_the_command_trains_what_its_options_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def train(*given: Any) -> dict[str, Any]:
        asked.append(given)
        return {"model": "mine", "hard_choices": 0}

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(training, "benchmark", lambda folder: {"hard_choices": folder.name})
    options = f"--steps=5 --seed=2 --work={tmp_path / 'work'} --out={tmp_path}"
    monkeypatch.setattr("sys.argv", ["multimodal", *options.split()])
    training.main()
    monkeypatch.setattr("sys.argv", ["multimodal", f"--out={tmp_path}"])
    training.main()
    assert asked == [
        (MultimodalConfig(steps=5, seed=2), tmp_path / "work", tmp_path),
        (MultimodalConfig(), Path("build/multimodal"), tmp_path),
    ]
    card = {"model": "mine", "hard_choices": tmp_path.name}
    assert json.loads((tmp_path / "model_card.json").read_text()) == card
    assert capsys.readouterr().out == 2 * (json.dumps(card, indent=1) + "\n")


def test_the_card_has_what_the_suite_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four choices, of which likelihood decides three and one rightly, and words two and none."""
    answers = ChoiceAnswers(
        np.array([[[1, 0], [0, 1]], [[1, 0], [1, 0]], [[1, 0], [0, 1]], [[0, 0], [0, 1]]], float),
        np.array([[Answer.TRUE, Answer.OTHER]] * 2 + [[Answer.BOTH, Answer.NEITHER]] * 2),
    )
    view, choices = object(), object()
    clip = SimpleNamespace(
        on={"clean": view}.__getitem__, phrases=("a cat", "a dog"), encoder="its encoder"
    )
    asked: list[Any] = []

    class Asks:
        def __init__(self, load: Any, encoder: Any, phrases: Any, precision: str) -> None:
            asked.append((load.func, load.args, encoder, phrases, precision))

        def answers(self, *given: Any) -> Any:
            assert given == (view, choices)
            return answers

    def evaluation(config: Any, name: str) -> Any:
        assert (config.models, config.profile, name) == (("reference",), "standard", "reference")
        return clip

    figure = SimpleNamespace(value=0.5, low=0.4, high=0.6, n=4)
    monkeypatch.setattr(training, "Evaluation", evaluation)
    monkeypatch.setattr(training, "hard_choices", lambda *given: choices)
    monkeypatch.setattr(training, "Interviewer", Asks)
    monkeypatch.setattr(training, "multimodal_of", lambda *given: {"mine": figure})
    found = training.benchmark(tmp_path)
    cpu = torch.device("cpu")
    assert asked == [
        (bundled_multimodal.load, (cpu, tmp_path), "its encoder", ("a cat", "a dog"), "fp32")
    ]
    orders = ("true option first", "true option second")
    for key, shares in (("hard_choices", (0.75, 0.25)), ("hard_choices_in_words", (0.5, 0.0))):
        told = {name: (part["value"], part["n"]) for name, part in found[key].items()}
        assert told == dict(zip(orders, ((share, 4) for share in shares), strict=True))
    assert found["figures"] == {"mine": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 4}}

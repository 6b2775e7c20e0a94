"""The trainer of the bundled multimodal model, on a handful of scenes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers

from pytest_cliprobust.embedded.sprites import load_styles
from pytest_cliprobust.engine.config import RunConfig
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

"""Trains the bundled multimodal model: ``python -m pytest_cliprobust.training.multimodal``.

A FastVLM (Vasu et al. 2025; transformers' ``FastVlmForConditionalGeneration``) whose vision tower is the
reference model's own, frozen: what is trained is the projector and a small Llama decoder with a small
vocabulary of its own. It learns to name the thing in a picture and to choose between two names, from
the label classes in the *training* styles of ``styles.toml`` alone, composed into scenes by the
embedded benchmark. Wrong options are drawn as the reference itself ranks them on those pictures.

As the tower is frozen, its features are computed once for each scene and kept. The training is
deterministic for a given seed and number of threads, resumes from its last checkpoint, and writes a
folder as transformers reads it, less the tower's weights, which
:mod:`pytest_cliprobust.targets.bundled_multimodal` takes from the reference.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from pytest_cliprobust.embedded.sprites import load_styles
from pytest_cliprobust.engine.evaluation import Evaluation, RunConfig
from pytest_cliprobust.engine.multimodal import Interviewer
from pytest_cliprobust.properties.multimodal import (
    ORDERS,
    QUESTION,
    Answer,
    confused_classes,
    hard_choices,
    multimodal_of,
)
from pytest_cliprobust.targets import bundled_multimodal
from pytest_cliprobust.targets.base import DenseTarget
from pytest_cliprobust.training.reference import (
    DATA,
    optimiser_of,
    progress_bar,
    share_of,
    take_up,
    write_checkpoint,
    write_tensors,
)

REFERENCE = "reference"
CHECKPOINT_STEPS = 250
"""Steps between two checkpoints, each with a validation and a model folder."""

QUESTIONS = (
    QUESTION,
    "What is in the picture: {first} or {second}?",
    "Is this {first} or {second}?",
    "Does the picture show {first} or {second}?",
)
"""Forced choices; the first is what the suite asks."""

CAPTION_QUESTIONS = ("What is in the picture?", "Name the thing in the picture.")

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper }}: "
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% endif %}{% if message['role'] == 'assistant' %}</s>{% else %} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
"""As LLaVA 1.5 (Liu et al. 2024) frames a turn."""

PAD, START, END, IMAGE = "<pad>", "<s>", "</s>", "<image>"
IGNORED = -100
"""Marks positions that are not learned."""


@dataclass(frozen=True)
class MultimodalConfig:
    """Everything that decides the outcome of a training run.

    Attributes:
        steps: optimiser steps.
        batch_size: scenes a step; each is asked one forced choice in both orders, and every second
            one is named as well.
        learning_rate: peak of the schedule (AdamW): a line up, a cosine down to zero.
        weight_decay: of the matrices; vectors are exempt.
        warmup: steps of linear warm-up.
        seed: of initialisation, order and dropout.
        dropout: share of the tower's features that a scene loses.
        ema: decay of the averaged weights that are shipped.
        width: of the decoder.
        layers: of the decoder.
        heads: of its attention.
        temperature: that the reference's logits are divided by when a wrong option is drawn; the
            higher, the less hard.
        uniform: share of the wrong options that are drawn from all classes alike.
        vocabulary: entries of the tokenizer, at most.
        profile: of the data sets that the scenes come from.
    """

    steps: int = 1500
    batch_size: int = 40
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    warmup: int = 150
    seed: int = 0
    dropout: float = 0.4
    ema: float = 0.998
    width: int = 160
    layers: int = 3
    heads: int = 4
    temperature: float = 3.0
    uniform: float = 0.25
    vocabulary: int = 1000
    profile: str = "full"


# --------------------------------------------------------------------------------------------------
# Text
# --------------------------------------------------------------------------------------------------


def prompt_of(question: str) -> str:
    """Return a user's turn with a picture and a question, up to where the answer begins."""
    return f"USER: {IMAGE}\n{question} ASSISTANT:"


def build_tokenizer(phrases: Sequence[str], size: int) -> Any:
    """Return a byte-level BPE tokenizer for questions about ``phrases``: each word of theirs is a token.

    Bytes are its alphabet, so that it reads whatever it is given.
    """
    corpus = [
        f" {text}"
        for phrase in phrases
        for text in (
            prompt_of("").replace(IMAGE, ""),
            *(question.format(first=phrase, second=phrase) for question in QUESTIONS),
            *CAPTION_QUESTIONS,
        )
    ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[PAD, START, END, IMAGE],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        padding_side="left",
        extra_special_tokens={"image_token": IMAGE},
        model_max_length=256,
    )


def build_processor(tokenizer: Any, image_size: int, grid: int) -> Any:
    """Return LLaVA's processor with the reference's preprocessing; a picture is grid² tokens."""
    images = transformers.CLIPImageProcessor(
        size={"shortest_edge": image_size},
        crop_size={"height": image_size, "width": image_size},
        image_mean=[0.5] * 3,
        image_std=[0.25] * 3,
    )
    return transformers.LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=image_size // grid,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE,
        num_additional_image_tokens=0,
    )


# --------------------------------------------------------------------------------------------------
# Model
# --------------------------------------------------------------------------------------------------


def build_config(config: MultimodalConfig, tokenizer: Any, tower: str, channels: int) -> Any:
    """Return the FastVLM configuration with a timm ``tower`` whose map has ``channels``."""
    vision = transformers.TimmWrapperConfig(architecture=tower, do_pooling=False)
    vision.hidden_size = channels  # timm's number of features; transformers reads it off no model
    text = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.width,
        intermediate_size=2 * config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return transformers.FastVlmConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        tie_word_embeddings=True,
    )


class Learner(torch.nn.Module):
    """Projector and decoder of a FastVLM, fed with features that its tower has made before."""

    def __init__(self, model: Any, dropout: float) -> None:
        super().__init__()
        self.projector = model.model.multi_modal_projector
        self.decoder = model.model.language_model
        self.image_token: int = model.config.image_token_index
        self.dropout = dropout

    def losses(self, features: Tensor, ids: Tensor, targets: Tensor) -> Tensor:
        """Return the negative log-likelihood of each row's answer (B,), a sum over its tokens.

        Args:
            features: (B, T, C) of the tower.
            ids: (B, L) tokens, padded on the right.
            targets: (B, L) the same where the answer stands, :data:`IGNORED` elsewhere.
        """
        embedded = self.decoder.embed_tokens(ids)
        image = self.projector(F.dropout(features, self.dropout, self.training))
        embedded = embedded.masked_scatter(
            (ids == self.image_token)[..., None], image.to(embedded.dtype)
        )
        hidden = self.decoder(inputs_embeds=embedded, use_cache=False).last_hidden_state
        answered = targets[:, 1:] != IGNORED
        logits = F.linear(hidden[:, :-1][answered], self.decoder.embed_tokens.weight)
        each = F.cross_entropy(logits.float(), targets[:, 1:][answered], reduction="none")
        rows = answered.nonzero()[:, 0]
        return torch.zeros(len(ids)).index_add(0, rows, each)


# --------------------------------------------------------------------------------------------------
# Data
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenes:
    """Pictures as the tower and the reference see them.

    Attributes:
        features: (N, T, C) of the tower, half precision.
        labels: (N,) classes.
        logits: (N, classes) of the reference.
    """

    features: Tensor
    labels: Tensor
    logits: Tensor

    def __getitem__(self, rows: Tensor) -> Scenes:
        """Return some of the scenes."""
        return Scenes(self.features[rows], self.labels[rows], self.logits[rows])


def scenes_of(evaluation: Evaluation, names: Sequence[str]) -> Scenes:
    """Return the scenes of several data sets, one after the other."""
    target = evaluation.target
    assert isinstance(target, DenseTarget)
    features, labels, logits = [], [], []
    for name in names:
        view = evaluation.on(name)
        for start in range(0, len(view), 128):
            rows = range(start, min(start + 128, len(view)))
            pixels = evaluation.target.preprocess(view.data.load(rows).images.float() / 255)
            maps = target.dense_features(pixels)
            features.append(maps.flatten(2).transpose(1, 2).half().clone())
        labels.append(torch.from_numpy(view.labels))
        logits.append(torch.from_numpy(view.logits).float())
    return Scenes(torch.cat(features), torch.cat(labels), torch.cat(logits))


def kept(path: Path, evaluation: Evaluation, names: Sequence[str]) -> Scenes:
    """Return :func:`scenes_of`, from ``path`` if an earlier run has left them there."""
    if path.is_file():
        return Scenes(**torch.load(path, weights_only=True))
    scenes = scenes_of(evaluation, names)
    write_tensors(path, vars(scenes))
    return scenes


def wrong_options(scenes: Scenes, config: MultimodalConfig, generator: torch.Generator) -> Tensor:
    """Draw a wrong class for each scene (N,): as the reference ranks them, or any of them."""
    weights = (scenes.logits / config.temperature).softmax(1)
    weights.scatter_(1, scenes.labels[:, None], 0.0)
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-12)
    others = torch.ones_like(weights).scatter_(1, scenes.labels[:, None], 0.0)
    others = others / others.sum(1, keepdim=True)
    mixed = (1 - config.uniform) * weights + config.uniform * others
    return torch.multinomial(mixed, 1, generator=generator)[:, 0]


class Asker:
    """Puts questions and answers into tokens.

    Args:
        tokenizer: of the model.
        phrases: what each class is called in a sentence.
        image_tokens: places that a picture takes.
    """

    def __init__(self, tokenizer: Any, phrases: Sequence[str], image_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.phrases = phrases
        self.image_tokens = image_tokens

    def tokens(self, turns: Sequence[tuple[str, str]]) -> tuple[Tensor, Tensor]:
        """Return ids and targets (B, L) of pairs of question and answer, padded on the right."""
        rows = []
        for question, answer in turns:
            prompt = prompt_of(question).replace(IMAGE, IMAGE * self.image_tokens)
            before = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
            after = self.tokenizer(f" {answer}{END}", add_special_tokens=False)["input_ids"]
            rows.append((before, after))
        length = max(len(before) + len(after) for before, after in rows)
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id)
        targets = torch.full_like(ids, IGNORED)
        for row, (before, after) in enumerate(rows):
            end = len(before) + len(after)
            ids[row, :end] = torch.tensor(before + after)
            targets[row, len(before) : end] = torch.tensor(after)
        return ids, targets

    def choice(self, question: str, first: int, second: int, answer: int) -> tuple[str, str]:
        """Return a forced choice between two classes, and its answer."""
        named = question.format(first=self.phrases[first], second=self.phrases[second])
        return named, self.phrases[answer]


@dataclass(frozen=True)
class Questions:
    """The questions of every step from ``start`` on, each a pure function of the seed and its step."""

    config: MultimodalConfig
    scenes: Scenes
    asker: Asker

    def from_step(self, start: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield features (B, T, C), ids and targets (B, L): both orders of each choice, then names."""
        config, asker = self.config, self.asker
        for step in range(start, config.steps):
            generator = torch.Generator().manual_seed(config.seed * 10**9 + step)
            rows = torch.randint(len(self.scenes.labels), (config.batch_size,), generator=generator)
            chosen = self.scenes[rows]
            wrong = wrong_options(chosen, config, generator).tolist()
            templates = torch.randint(len(QUESTIONS), (len(rows),), generator=generator).tolist()
            naming = torch.randint(len(CAPTION_QUESTIONS), (len(rows),), generator=generator)
            true = chosen.labels.tolist()
            turns = [
                asker.choice(QUESTIONS[t], *pair, answer=right)
                for swap in (False, True)
                for right, other, t in zip(true, wrong, templates, strict=True)
                for pair in [(other, right) if swap else (right, other)]
            ]
            half = len(rows) // 2
            turns += [
                (CAPTION_QUESTIONS[number], asker.phrases[right])
                for right, number in zip(true[:half], naming[:half].tolist(), strict=True)
            ]
            features = torch.cat([chosen.features, chosen.features, chosen.features[:half]])
            yield features.float(), *asker.tokens(turns)


# --------------------------------------------------------------------------------------------------
# Training
# --------------------------------------------------------------------------------------------------


def learning_rate(config: MultimodalConfig, step: int) -> float:
    """Return the rate of ``step``: a line up, then a cosine down to zero."""
    rise = min(1.0, (step + 1) / config.warmup)
    return config.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / config.steps))


class Course:
    """What changes in the course of a training: the model, its running average, the optimiser."""

    def __init__(self, config: MultimodalConfig, model: Any) -> None:
        self.config = config
        self.model = model
        self.learner = Learner(model, config.dropout)
        self.averaged = copy.deepcopy(self.learner).eval().requires_grad_(False)
        self.optimiser = optimiser_of(self.learner, config.learning_rate, config.weight_decay)

    def advance(self, step: int, batch: tuple[Tensor, Tensor, Tensor]) -> float:
        """Take a step, and return the mean loss of an answer before it."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, step)
        torch.manual_seed(self.config.seed * 10**9 + step)  # dropout
        self.learner.train()
        loss = self.learner.losses(*batch).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.learner.parameters(), 1.0)
        self.optimiser.step()
        decay = min(self.config.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, value in zip(
                self.averaged.parameters(), self.learner.parameters(), strict=True
            ):
                mean.lerp_(value, 1 - decay)
        return loss.item()

    def save(self, path: Path, steps_done: int) -> None:
        """Write a checkpoint, in one step."""
        write_checkpoint(path, self._parts(), steps_done)

    def resume(self, path: Path) -> int:
        """Take up a checkpoint if there is one, and return the number of steps done."""
        return take_up(path, self._parts())

    def _parts(self) -> dict[str, Any]:
        return {"learner": self.learner, "averaged": self.averaged, "optimiser": self.optimiser}


@torch.inference_mode()
def validate(learner: Learner, asker: Asker, scenes: Scenes) -> dict[str, dict[str, float]]:
    """Return the share of hard choices that likelihood decides rightly, by order."""
    found, _ = confused_classes(scenes.logits.numpy(), scenes.labels.numpy())
    pairs = found.tolist()
    rows = torch.tensor([r for r, label in enumerate(scenes.labels.tolist()) if pairs[label] >= 0])
    hits: dict[str, list[bool]] = {name: [] for name in ORDERS}
    for part in rows.split(64):
        some = scenes[part]
        for order, name in enumerate(hits):
            turns = []
            for right in some.labels.tolist():
                pair = (pairs[right], right) if order else (right, pairs[right])
                turns += [asker.choice(QUESTION, *pair, answer=a) for a in (right, pairs[right])]
            features = some.features.float().repeat_interleave(2, 0)
            true, other = learner.losses(features, *asker.tokens(turns)).view(-1, 2).T
            hits[name] += (true < other).tolist()
    return {name: share_of(np.array(values)) for name, values in hits.items()}


def digest_of(config: MultimodalConfig) -> str:
    """Return a short name of ``config``, for its checkpoint."""
    return hashlib.sha256(json.dumps(asdict(config)).encode()).hexdigest()[:12]


def write_folder(
    course: Course, processor: Any, figures: dict[str, Any], steps_done: int, out: Path
) -> dict[str, Any]:
    """Write what transformers reads (half precision; no tower) and the model card to ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    course.model.config.architectures = [type(course.model).__name__]
    course.model.config.save_pretrained(out)
    course.model.generation_config.save_pretrained(out)
    processor.save_pretrained(out)
    names = {"projector": "model.multi_modal_projector", "decoder": "model.language_model"}
    state = {}
    for name, value in course.averaged.state_dict().items():
        part, _, rest = name.partition(".")
        state[f"{names[part]}.{rest}"] = value.half().contiguous()
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    card = {
        "model": "a small multimodal model on the reference's own vision tower, for "
        "pytest-cliprobust's offline benchmark; weak by design",
        "config": asdict(course.config),
        "steps_done": steps_done,
        "training_styles": training_styles(),
        "new_parameters": sum(value.numel() for value in state.values()),
        "hard_choices": figures,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }
    (out / "model_card.json").write_text(json.dumps(card, indent=1) + "\n")
    return card


def benchmark(folder: Path) -> dict[str, Any]:
    """Return what the model in ``folder`` makes of the hard choices of the clean set, as the suite asks.

    The standard profile, in the held-out styles: the share settled by order, by likelihood and in words,
    and the suite's figures.
    """
    evaluation = Evaluation(RunConfig(models=(REFERENCE,)), REFERENCE)
    view = evaluation.on("clean")
    choices = hard_choices(view, evaluation.phrases)
    interviewer = Interviewer(
        partial(bundled_multimodal.load, torch.device("cpu"), folder),
        evaluation.encoder,
        evaluation.phrases,
        "fp32",
    )
    answers = interviewer.answers(view, choices)
    likely, named = answers.scores > 0.5, answers.words == Answer.TRUE
    figures = multimodal_of(view, choices, answers)
    return {
        "hard_choices": {name: share_of(likely[:, i]) for i, name in enumerate(ORDERS)},
        "hard_choices_in_words": {name: share_of(named[:, i]) for i, name in enumerate(ORDERS)},
        "figures": {
            name: {"value": figure.value, "low": figure.low, "high": figure.high, "n": figure.n}
            for name, figure in figures.items()
        },
    }


def training_styles() -> list[str]:
    """Return the drawing styles that may be trained on."""
    return [style.name for style in load_styles() if style.split == "train"]


def train(config: MultimodalConfig, work: Path, out: Path) -> dict[str, Any]:
    """Train, write the folder ``out`` and return the model card."""
    torch.manual_seed(config.seed)
    work.mkdir(parents=True, exist_ok=True)
    evaluation = Evaluation(RunConfig(models=(REFERENCE,), profile=config.profile), REFERENCE)
    held_out = Evaluation(RunConfig(models=(REFERENCE,)), REFERENCE)
    names = [f"style-{style}" for style in training_styles()]
    scenes = kept(work / f"scenes-{config.profile}.pt", evaluation, names)
    validation = kept(work / "scenes-held-out.pt", held_out, ["clean"])

    phrases = evaluation.phrases
    tokenizer = build_tokenizer(phrases, config.vocabulary)
    _, tokens, channels = scenes.features.shape
    size = evaluation.target.image_size[0]
    processor = build_processor(tokenizer, size, math.isqrt(tokens))
    reference: Any = evaluation.target  # an open_clip model with a tower of timm's
    tower = reference.model.visual.trunk.default_cfg["architecture"]
    model = transformers.FastVlmForConditionalGeneration(
        build_config(config, tokenizer, tower, channels)
    )
    asker = Asker(tokenizer, phrases, tokens)
    course = Course(config, model)
    checkpoint = work / f"multimodal-{digest_of(config)}.pt"
    start = course.resume(checkpoint)
    questions = Questions(config, scenes, asker).from_step(start)
    began = time.monotonic()
    with progress_bar() as progress:
        bar = progress.add_task("training", total=config.steps, completed=start)
        for step in range(start, config.steps):
            loss = course.advance(step, next(questions))
            done = step + 1
            if done % CHECKPOINT_STEPS == 0 or done == config.steps:
                course.save(checkpoint, done)
                figures = validate(course.averaged, asker, validation)
                write_folder(course, processor, figures, done, out)
                shown = ", ".join(f"{k} {v['value']:.3f}" for k, v in figures.items())
                minutes = (time.monotonic() - began) / 60
                progress.console.print(f"step {done}: loss {loss:.3f}, {shown} ({minutes:.1f} min)")
            elif done % 50 == 0:
                progress.console.print(f"step {done}: loss {loss:.3f}")
            progress.update(bar, completed=done, description=f"training, loss {loss:.2f}")
    figures = validate(course.averaged, asker, validation)
    return write_folder(course, processor, figures, max(start, config.steps), out)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m pytest_cliprobust.training.multimodal")
    parser.add_argument("--work", type=Path, default=Path("build/multimodal"))
    parser.add_argument("--out", type=Path, default=DATA / "multimodal")
    defaults = MultimodalConfig()
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    options = parser.parse_args()
    config = MultimodalConfig(steps=options.steps, seed=options.seed)
    card = train(config, options.work, options.out) | benchmark(options.out)
    (options.out / "model_card.json").write_text(json.dumps(card, indent=1) + "\n")
    print(json.dumps(card, indent=1))


if __name__ == "__main__":
    main()

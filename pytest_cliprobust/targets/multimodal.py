"""Large multimodal models of transformers, asked about pictures: ``--clip-lmm MODEL``.

Any model that transformers' auto classes for "image-text-to-text" know: LLaVA 1.5, NeXT and OneVision,
FastVLM, Idefics3 and SmolVLM, PaliGemma, InternVL … Pictures and texts go through the model's own
processor; the prompt is that of its chat template, or where it has none, its family's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError, Unavailable, brief
from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.targets.digest import canonical, model_digest, tokenizer_identity

FLAG = "--clip-lmm"
REMEDY = (
    f"give a local folder as {FLAG} PATH, or test --clip-model reference, which has one of its own"
)

CHUNK = 16
"""Rows of a forward pass, always: answers must not depend on how many are asked for at a time."""

NEW_TOKENS = 24
"""Tokens of an answer in words, at most."""

FAMILY_PROMPTS: Mapping[str, str] = {
    "llava": "USER: {image}\n{question} ASSISTANT:",
    "llava_next": "USER: {image}\n{question} ASSISTANT:",
    "vipllava": "USER: {image}\n{question} ASSISTANT:",
    "paligemma": "{image}answer en {question}",
}
"""Prompts of models without a chat template, by ``model_type``; others get LLaVA 1.5's."""

_BOOKKEEPING = frozenset(
    {"_name_or_path", "name_or_path", "transformers_version", "dtype", "architectures"}
)

OWN_ENDING: Mapping[str, str] = {"paligemma": "\n"}
"""What a processor puts behind the prompt by itself, by ``model_type``."""


@dataclass(frozen=True)
class MultimodalInfo:
    """The identity of a multimodal model, as reports and cache keys use it.

    Attributes:
        name: what the user asked for.
        model_type: the family, as transformers calls it.
        tower: the vision tower, in words.
        digest: hex sha256 over weights, configuration, processor and prompt.
        notes: what a reader of the report must know, one sentence each.
    """

    name: str
    model_type: str
    tower: str
    digest: str
    notes: tuple[str, ...] = ()


class MultimodalModel:
    """A multimodal model on one device, in evaluation mode.

    Args:
        model: of transformers, with a language-model head.
        processor: its own.
        name: what the user asked for.
        device: where it runs.
        notes: see :class:`MultimodalInfo`.

    Raises:
        ClipRobustError: the processor cannot make a prompt with a picture.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        name: str,
        device: torch.device,
        notes: Sequence[str] = (),
    ) -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.device = device
        self.chunk = CHUNK
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        config = model.config
        self.info = MultimodalInfo(
            name=name,
            model_type=config.model_type,
            tower=tower_of(config),
            digest=model_digest(
                model.state_dict(),
                _settled(config.to_dict()),
                canonical(_settled(processor.to_dict())),
                tokenizer_identity(self.tokenizer, {"prompt": _prompt(processor, config, "?")}),
            ),
            notes=tuple(notes),
        )

    def prompt(self, question: str) -> str:
        """Return a turn with one picture and a question, up to where the answer begins."""
        return _prompt(self.processor, self.model.config, question)

    def likelihoods(
        self, images: Tensor, questions: Sequence[str], options: Sequence[Sequence[str]]
    ) -> Floats:
        """Return the log-likelihood of each option as the answer: (N, K), sums over the option's tokens.

        Args:
            images: (N, 3, H, W) uint8.
            questions: one for each image.
            options: for each image K texts, as they would stand in a sentence.

        Raises:
            ClipRobustError: the model or its processor fails, in one line.
        """
        count = len(options[0])
        per = max(1, self.chunk // count)
        parts = [
            self._likelihoods(
                images[i : i + per], questions[i : i + per], options[i : i + per], per
            )
            for i in range(0, len(questions), per)
        ]
        return np.concatenate(parts)

    def answers(self, images: Tensor, questions: Sequence[str]) -> list[str]:
        """Return what the model says to each question, greedily, :data:`NEW_TOKENS` at most.

        Args:
            images: (N, 3, H, W) uint8.
            questions: one for each image.

        Raises:
            ClipRobustError: the model or its processor fails, in one line.
        """
        said: list[str] = []
        for start in range(0, len(questions), self.chunk):
            rows = slice(start, start + self.chunk)
            inputs = self._inputs(images[rows], questions[rows], self.chunk)
            with self._running():
                tokens = self.model.generate(
                    **inputs,
                    max_new_tokens=NEW_TOKENS,
                    do_sample=False,
                    num_beams=1,
                    pad_token_id=self.tokenizer.pad_token_id,
                )
            new = tokens[: len(questions[rows]), inputs["input_ids"].shape[1] :]
            said += self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return [text.strip() for text in said]

    def _likelihoods(
        self,
        images: Tensor,
        questions: Sequence[str],
        options: Sequence[Sequence[str]],
        rows: int,
    ) -> Floats:
        """Return (n, K) of at most ``rows`` questions, in one forward pass of rows · K rows."""
        count, asked = len(options[0]), len(questions)
        inputs = self._inputs(images, questions, rows)
        prompts = [*questions, *[questions[-1]] * (rows - asked)]
        continued = [*options, *[options[-1]] * (rows - asked)]
        tokens = [
            self._continuation(self.prompt(question), option)
            for question, own in zip(prompts, continued, strict=True)
            for option in own
        ]
        inputs = {name: _repeated(value, count, rows) for name, value in inputs.items()}
        length = max(map(len, tokens))
        added = torch.full((len(tokens), length), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(added)
        for row, ids in enumerate(tokens):
            added[row, : len(ids)] = torch.tensor(ids)
            mask[row, : len(ids)] = 1
        added, mask = added.to(self.device), mask.to(self.device)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], added], 1)
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], mask], 1)
        # PaliGemma reads its prompt (type 0) in both directions and the answer (type 1) from the left;
        # other families' types tell pictures from text, which is 0.
        for name, kind in (("token_type_ids", 1), ("mm_token_type_ids", 0)):
            if name in inputs:
                inputs[name] = torch.cat([inputs[name], torch.full_like(added, kind)], 1)
        with self._running():
            logits = self._logits(inputs, length + 1)
        scores = logits[:, :-1].float().log_softmax(-1).double()
        each = scores.gather(-1, added[..., None])[..., 0] * mask
        found: Floats = each.sum(1).view(rows, count)[:asked].cpu().numpy()
        return found

    def _logits(self, inputs: dict[str, Any], last: int) -> Tensor:
        """Return the logits at the ``last`` positions, (B, last, V)."""
        try:
            logits: Tensor = self.model(**inputs, logits_to_keep=last).logits
        except TypeError:  # a model whose forward pass does not know the argument
            logits = self.model(**inputs).logits
        return logits[:, -last:]

    def _continuation(self, prompt: str, option: str) -> list[int]:
        """Return the tokens of an option as they follow a prompt."""
        prompt += OWN_ENDING.get(self.model.config.model_type, "")
        between = "" if prompt[-1:].isspace() else " "
        before = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        whole = self.tokenizer(prompt + between + option, add_special_tokens=False)["input_ids"]
        if whole[: len(before)] == before:
            return list(whole[len(before) :])
        # The last token of the prompt grows into the option: it is taken as a text of its own.
        return list(self.tokenizer(between + option, add_special_tokens=False)["input_ids"])

    def _inputs(self, images: Tensor, questions: Sequence[str], rows: int) -> dict[str, Any]:
        """Return the model's input for questions about one picture each, the last repeated up to ``rows``."""
        from torchvision.transforms.v2.functional import to_pil_image

        pictures: list[Any] = [[to_pil_image(image)] for image in images.cpu()]
        prompts = [self.prompt(question) for question in questions]
        more = rows - len(prompts)
        pictures, prompts = [*pictures, *pictures[-1:] * more], [*prompts, *prompts[-1:] * more]
        try:
            inputs = self.processor(
                images=pictures,
                text=prompts,
                padding=True,
                padding_side="left",
                return_tensors="pt",
            )
        except Exception as error:  # whatever a processor of the day raises
            raise ClipRobustError(
                f"{FLAG} {self.info.name}: its processor cannot make an input ({brief(error)})"
            ) from error
        return {
            name: _moved(value, self.device, self.model.dtype)
            for name, value in inputs.items()
            if name != "labels"  # PaliGemma's, of which a loss would be made
        }

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Tell whatever goes wrong in a forward pass in one line."""
        try:
            with torch.inference_mode():
                yield
        except torch.OutOfMemoryError:
            raise Unavailable(
                f"{FLAG} {self.info.name}: out of memory on {self.device} with {self.chunk} rows; choose "
                "another device with --clip-device, or --clip-precision bf16"
            ) from None
        except Exception as error:  # RuntimeError, ValueError: whatever the model raises
            raise ClipRobustError(
                f"{FLAG} {self.info.name}: its forward pass fails ({brief(error)}); processor and model "
                "may not belong together"
            ) from error


def _prompt(processor: Any, config: Any, question: str) -> str:
    if getattr(processor, "chat_template", None):
        content = [{"type": "image"}, {"type": "text", "text": question}]
        try:
            prompt: str = processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
        except Exception as error:  # a template is a program; Jinja runs it in its sandbox
            raise ClipRobustError(
                f"{FLAG}: the processor's chat template fails ({brief(error)}); check its chat_template"
            ) from None
        # A template may write the start token that the tokenizer puts in front by itself.
        tokenizer = processor.tokenizer
        start = tokenizer.bos_token
        twice = start and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
        return prompt.removeprefix(start) if twice else prompt
    template = FAMILY_PROMPTS.get(config.model_type, FAMILY_PROMPTS["llava"])
    image = getattr(processor, "image_token", None) or "<image>"
    return template.format(image=image, question=question)


def _settled(value: Any) -> Any:
    """Return a configuration without where it came from, and what the weights themselves tell."""
    if isinstance(value, Mapping):
        return {key: _settled(part) for key, part in value.items() if key not in _BOOKKEEPING}
    return [_settled(part) for part in value] if isinstance(value, list | tuple) else value


def _repeated(value: Any, count: int, rows: int) -> Any:
    """Return the entry of each row ``count`` times; pictures may have several entries a row (tiles)."""
    if not isinstance(value, Tensor):
        return [part for part in value for _ in range(count)]
    each = value.view(rows, len(value) // rows, *value.shape[1:])
    return each.repeat_interleave(count, 0).flatten(0, 1)


def _moved(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.to(device, dtype) if value.is_floating_point() else value.to(device)


def tower_of(config: Any) -> str:
    """Return a vision tower in words: ``clip_vision_model, 24 layers of 1024, 336 px``."""
    vision = getattr(config, "vision_config", None)
    if vision is None:
        return "unknown"
    if getattr(vision, "architecture", None):
        return f"timm {vision.architecture}"
    parts = [str(vision.model_type)]
    layers, width = (getattr(vision, name, None) for name in ("num_hidden_layers", "hidden_size"))
    if layers and width:
        parts.append(f"{layers} layers of {width}")
    size = getattr(vision, "image_size", None)
    if size:
        parts.append(f"{size[0] if isinstance(size, list | tuple) else size} px")
    return ", ".join(parts)

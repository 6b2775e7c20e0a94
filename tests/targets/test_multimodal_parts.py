"""What a multimodal model is asked at a time, without a model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.targets import multimodal
from pytest_cliprobust.targets.multimodal import MultimodalModel


@pytest.mark.parametrize(
    ("chunk", "parts"),
    [(4, [[0, 1], [2, 3], [4]]), (5, [[0, 1], [2, 3], [4]]), (1, [[0], [1], [2], [3], [4]])],
)
def test_each_question_has_its_own_picture_and_options(chunk: int, parts: list[list[int]]) -> None:
    """Passes have ``chunk`` rows, and a question of two options takes two of them."""
    model: Any = object.__new__(MultimodalModel)
    model.chunk = chunk
    asked = []

    def likelihoods(images: Any, questions: Any, options: Any, rows: int) -> Any:
        numbers = [int(question) for question in questions]
        assert images[:, 0, 0, 0].tolist() == numbers
        assert options == [[f"{number}a", f"{number}b"] for number in numbers]
        assert rows == max(1, chunk // 2)
        asked.append(numbers)
        return np.array([[number, -number] for number in numbers], dtype=np.float64)

    model._likelihoods = likelihoods
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 3, 2, 2)
    options = [[f"{number}a", f"{number}b"] for number in range(5)]
    found = model.likelihoods(images, list(map(str, range(5))), options)
    assert asked == parts
    assert found.tolist() == [[number, -number] for number in range(5)]


# --- With a made-up model, whose logits are known -----------------------------------------------------

LETTERS = "\0 abcdefghijklmnopqrstuvwxyz?\n"


class Letters:
    """A tokenizer of letters; the first is padding."""

    pad_token_id = 0
    pad_token = "\0"

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        assert not add_special_tokens
        return {"input_ids": [LETTERS.index(letter) for letter in text]}

    def batch_decode(self, rows: Tensor, skip_special_tokens: bool) -> list[str]:
        assert skip_special_tokens
        return ["".join(LETTERS[i] for i in row if i) for row in rows.tolist()]


class Words(Letters):
    """One whose letters at the border of prompt and option are one token: 'b c' is 29."""

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        first, joined, rest = text.partition("b c")
        parts = [super(Words, self).__call__(part, False)["input_ids"] for part in (first, rest)]
        return {"input_ids": parts[0] + ([29] if joined else []) + parts[1]}


class Processor:
    """Puts padding on the left; a picture is its mean."""

    chat_template = None
    image_token = ""

    def __init__(self) -> None:
        self.tokenizer = Letters()

    def __call__(self, images: Any, text: list[str], **options: Any) -> dict[str, Any]:
        assert options == {"padding": True, "padding_side": "left", "return_tensors": "pt"}
        ids = [self.tokenizer(one, False)["input_ids"] for one in text]
        width = max(map(len, ids))
        rows = torch.tensor([[0] * (width - len(own)) + own for own in ids])
        means = [float(np.asarray(own[0]).mean()) for own in images]
        return {
            "input_ids": rows,
            "attention_mask": (rows > 0).long(),
            "pixel_values": torch.tensor(means, dtype=torch.float64)[:, None],
            "token_type_ids": torch.zeros_like(rows),
            "mm_token_type_ids": torch.full_like(rows, 2),
            "labels": rows,
            "names": text,
        }


def logits_of(previous: Tensor, pixels: Tensor) -> Tensor:
    """(…,) tokens and pictures to logits (…, V)."""
    return torch.sin(torch.arange(31.0) * (previous[..., None] + 1.0) + pixels[..., None])


class Known:
    """A model whose next token hangs on the one before and the picture; it notes its inputs."""

    dtype = torch.float32
    config = SimpleNamespace(model_type="tiny", vision_config=None)

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def __call__(self, *, logits_to_keep: int, **inputs: Any) -> Any:
        self.seen.append(inputs)
        logits = logits_of(inputs["input_ids"], inputs["pixel_values"])
        return SimpleNamespace(logits=logits[:, -logits_to_keep:])

    def generate(self, **inputs: Any) -> Tensor:
        self.seen.append(inputs)
        ids: Tensor = inputs["input_ids"]
        assert (inputs["do_sample"], inputs["num_beams"]) == (False, 1)
        assert (inputs["max_new_tokens"], inputs["pad_token_id"]) == (24, 0)
        for _ in range(3):
            logits = logits_of(ids[:, -1], inputs["pixel_values"][:, 0])
            ids = torch.cat([ids, logits[:, :28].argmax(1, keepdim=True)], 1)
        return ids


def known(chunk: int = 4, **more: Any) -> tuple[Any, Known]:
    model: Any = object.__new__(MultimodalModel)
    own = Known()
    vars(model).update(
        model=own,
        processor=Processor(),
        tokenizer=Letters(),
        device=torch.device("cpu"),
        chunk=chunk,
    )
    model.info = SimpleNamespace(name="tiny")
    model.prompt = lambda question: question
    vars(model).update(more)
    return model, own


QUESTIONS = ["which is it?", "a", "is it a dog or a cat?", "what", "who?"]
OPTIONS = [("a", "dog"), ("cat", "ab"), ("it", "a zebra"), ("x", "y"), ("abc", "ab")]
PICTURES = (torch.arange(5, dtype=torch.uint8) * 40)[:, None, None, None].expand(5, 3, 2, 2)


@pytest.mark.parametrize("chunk", [1, 4, 6, 100])
def test_a_likelihood_is_the_sum_over_the_options_letters(chunk: int) -> None:
    model, own = known(chunk)
    found = model.likelihoods(PICTURES, QUESTIONS, OPTIONS)
    assert found.shape == (5, 2)
    for row, (question, options) in enumerate(zip(QUESTIONS, OPTIONS, strict=True)):
        for column, option in enumerate(options):
            ids = torch.tensor([LETTERS.index(c) for c in f"{question[-1]} {option}"])
            scores = logits_of(ids[:-1], torch.tensor(40.0 * row)).log_softmax(-1)
            want = scores.gather(-1, ids[1:, None]).sum().item()
            assert found[row, column] == pytest.approx(want, abs=1e-4)
    rows = max(1, chunk // 2) * 2
    for inputs in own.seen:
        assert len(inputs["input_ids"]) == len(inputs["names"]) == rows
        added = inputs["token_type_ids"] == 1
        assert torch.equal(inputs["mm_token_type_ids"] == 0, added)  # what was added is text
        assert added.any(1).all()
        # Real letters and padding, on both sides.
        assert torch.equal(inputs["attention_mask"] > 0, inputs["input_ids"] > 0)
        assert inputs["pixel_values"].dtype == torch.float32
        assert "labels" not in inputs


@pytest.mark.parametrize("chunk", [1, 2, 5, 7])
def test_answers_are_what_was_said_after_each_question(chunk: int) -> None:
    model, own = known(chunk)
    found = model.answers(PICTURES, QUESTIONS)
    for row, question in enumerate(QUESTIONS):
        last, said = torch.tensor(LETTERS.index(question[-1])), ""
        for _ in range(3):
            last = logits_of(last, torch.tensor(40.0 * row))[:28].argmax()
            said += LETTERS[int(last)] if last else ""
        assert found[row] == said.strip()
    assert [len(inputs["input_ids"]) for inputs in own.seen] == [chunk] * -(-5 // chunk)


@pytest.mark.parametrize(
    ("prompt", "option", "family", "tokenizer", "letters"),
    [
        ("a b", "dog", "tiny", Letters, " dog"),
        ("a b ", "dog", "tiny", Letters, "dog"),
        ("a b\n", "dog", "tiny", Letters, "dog"),
        ("", "dog", "tiny", Letters, " dog"),
        ("a b", "dog", "paligemma", Letters, "dog"),  # its processor ends the prompt with a line
        ("a b", "cat", "tiny", Words, " cat"),  # grown together: a text of its own
        ("a b ", "cat", "tiny", Words, "cat"),
    ],
)
def test_an_option_as_it_follows_a_prompt(
    prompt: str, option: str, family: str, tokenizer: Any, letters: str
) -> None:
    model, _ = known(tokenizer=tokenizer())
    model.model = SimpleNamespace(config=SimpleNamespace(model_type=family))
    found = model._continuation(prompt, option)
    assert found == [LETTERS.index(letter) for letter in letters]


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            torch.OutOfMemoryError("x"),
            Unavailable,
            "tiny: out of memory on cpu with 4 rows; choose",
        ),
        (
            RuntimeError("odd\nshape"),
            ClipRobustError,
            r"its forward pass fails \(RuntimeError: odd",
        ),
    ],
)
def test_passes_that_fail_are_one_line(error: Exception, kind: Any, words: str) -> None:
    class Fails(Known):
        def __call__(self, **inputs: Any) -> Any:
            raise error

        def generate(self, **inputs: Any) -> Tensor:
            raise error

    model, _ = known(model=Fails())
    for method, more in ((model.likelihoods, [OPTIONS]), (model.answers, [])):
        with pytest.raises(kind, match=words) as caught:
            method(PICTURES, QUESTIONS, *more)
        assert "\n" not in str(caught.value)


def test_a_forward_pass_that_keeps_all_logits_is_cut() -> None:
    class All(Known):
        def __call__(self, **inputs: Any) -> Any:
            if "logits_to_keep" in inputs:
                raise TypeError("unexpected keyword")
            return super().__call__(logits_to_keep=10**6, **inputs)

    plain, other = known()[0], known(model=All())[0]
    found = other.likelihoods(PICTURES, QUESTIONS, OPTIONS)
    np.testing.assert_array_equal(found, plain.likelihoods(PICTURES, QUESTIONS, OPTIONS))


def test_bookkeeping_is_no_part_of_a_configuration() -> None:
    given = {"_name_or_path": "x", "a": [{"dtype": "y", "b": 1}, ("c",)], "architectures": ["z"]}
    assert multimodal._settled(given) == {"a": [{"b": 1}, ["c"]]}
    for name in ("name_or_path", "transformers_version"):
        assert multimodal._settled({name: 1, "kept": None}) == {"kept": None}


def test_rows_with_several_tiles_are_repeated_as_a_whole() -> None:
    tiles = torch.arange(6).view(6, 1)
    assert multimodal._repeated(tiles, 2, 3).flatten().tolist() == [
        0,
        1,
        0,
        1,
        2,
        3,
        2,
        3,
        4,
        5,
        4,
        5,
    ]
    assert multimodal._repeated(["a", "b"], 3, 2) == ["a"] * 3 + ["b"] * 3


class Template:
    """A processor with a chat template that writes a start token, or fails."""

    chat_template = "a template"

    def __init__(self, starts: bool = True, error: Exception | None = None) -> None:
        self.error = error
        ids = {"input_ids": [7 if starts else 8, 9]}

        class Tokenizer:
            bos_token, bos_token_id = "<s>", 7

            def __call__(self, text: str) -> dict[str, list[int]]:
                return ids

        self.tokenizer = Tokenizer()

    def apply_chat_template(self, turns: Any, **options: Any) -> str:
        if self.error is not None:
            raise self.error
        assert options == {"add_generation_prompt": True, "tokenize": False}
        ((turn),) = turns
        kinds = [part["type"] for part in turn["content"]]
        assert (turn["role"], kinds) == ("user", ["image", "text"])
        return f"<s>{turn['content'][1]['text']}:"


def test_prompts_of_templates_and_families() -> None:
    config = Known.config
    assert multimodal._prompt(Template(), config, "Who?") == "Who?:"  # the tokenizer adds the start
    assert multimodal._prompt(Template(starts=False), config, "Who?") == "<s>Who?:"
    with pytest.raises(ClipRobustError, match=r"chat template fails \(ValueError: odd\); check"):
        multimodal._prompt(Template(error=ValueError("odd")), config, "Who?")
    plain = SimpleNamespace(chat_template="", image_token="<pic>")
    usual = "USER: <pic>\nWho? ASSISTANT:"
    for family in ("tiny", "llava", "llava_next", "vipllava"):
        assert multimodal._prompt(plain, SimpleNamespace(model_type=family), "Who?") == usual
    pali = SimpleNamespace(model_type="paligemma")
    assert multimodal._prompt(plain, pali, "Who?") == "<pic>answer en Who?"
    plain.image_token = None
    assert multimodal._prompt(plain, pali, "Who?") == "<image>answer en Who?"

"""Multimodal models of every family: likelihoods and answers against one row at a time, and mistakes."""

from __future__ import annotations

import functools
import json
import os
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from multimodal_helpers import FAMILIES, write
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.targets import hub, multimodal, multimodal_folder
from pytest_cliprobust.targets.multimodal import MultimodalModel
from pytest_cliprobust.targets.multimodal_folder import load_folder
from pytest_cliprobust.targets.multimodal_loading import load_multimodal

#: Too long for the tight loop, but run with the lowest versions of those libraries.
pytestmark = pytest.mark.floors

CPU = torch.device("cpu")
QUESTIONS = [
    "Which is it: a cat or a dog?",
    "What?",
    "Is this a dog, or is it a zebra?",
    "A",
    "Who?",
]
OPTIONS = [
    ("a cat", "a dog"),
    ("a dog", "a zebra crossing"),
    ("cat", "dog"),
    ("the picture", "a"),
    ("a cat", "a dog"),
]
IMAGES = torch.randint(
    0, 256, (5, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, folders: Path) -> MultimodalModel:
    """Each family, as it is loaded from its files."""
    if request.param == "smolvlm":
        pytest.importorskip("num2words")
    folder = folders / request.param
    if not folder.exists():
        write(request.param, folder)
    return load_multimodal(str(folder), device=CPU)


@pytest.fixture(scope="module")
def llava(folders: Path) -> Path:
    folder = folders / "llava"
    return folder if folder.exists() else write("llava", folder)


def alone(model: MultimodalModel, row: int, option: str) -> float:
    """Return an option's log-likelihood from one row without padding, all logits, token by token."""
    prompt = model.prompt(QUESTIONS[row])
    given = model.processor(images=[to_pil_image(IMAGES[row])], text=[prompt], return_tensors="pt")
    ending = "\n" if model.info.model_type == "paligemma" else ""
    between = "" if (prompt + ending)[-1].isspace() else " "
    option_ids = model.tokenizer(between + option, add_special_tokens=False)["input_ids"]
    before = given["input_ids"].shape[1]
    inputs: dict[str, Any] = {k: v for k, v in given.items() if k != "labels"}
    inputs["input_ids"] = torch.cat([given["input_ids"], torch.tensor([option_ids])], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "token_type_ids" in inputs:
        kinds = torch.ones(1, len(option_ids), dtype=torch.long)
        inputs["token_type_ids"] = torch.cat([given["token_type_ids"], kinds], 1)
    with torch.inference_mode():
        logits = model.model(**inputs).logits[0]
    total = 0.0
    for place, token in enumerate(option_ids):
        row_logits = logits[before - 1 + place].double()
        total += float(row_logits[token] - torch.logsumexp(row_logits, 0))
    return total


def test_likelihoods_are_sums_over_the_options_tokens(family: MultimodalModel) -> None:
    found = family.likelihoods(IMAGES, QUESTIONS, OPTIONS)
    expected = [[alone(family, row, option) for option in OPTIONS[row]] for row in range(5)]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    # Longer options have lower likelihoods with random weights: nothing is divided by the length.
    assert found[1, 1] < found[1, 0]


def test_answers_do_not_depend_on_what_else_is_asked(
    family: MultimodalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of 4 rows: two of answers, three of likelihoods, of which the last are not full."""
    monkeypatch.setattr(family, "chunk", 4)
    monkeypatch.setattr(multimodal, "NEW_TOKENS", 6)
    said = family.answers(IMAGES, QUESTIONS)
    assert said == [family.answers(IMAGES[i : i + 1], [QUESTIONS[i]])[0] for i in range(5)]
    found = family.likelihoods(IMAGES, QUESTIONS, OPTIONS)
    apart = [
        family.likelihoods(IMAGES[i : i + 1], QUESTIONS[i : i + 1], OPTIONS[i : i + 1])[0]
        for i in range(5)
    ]
    np.testing.assert_allclose(found, apart, atol=2e-5)


def test_every_forward_pass_has_as_many_rows(llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked: 4 rows, or those of one question where it has more options than that."""
    model = load_multimodal(str(llava), device=CPU)
    monkeypatch.setattr(model, "chunk", 4)
    monkeypatch.setattr(multimodal, "NEW_TOKENS", 1)
    forward, rows = model.model.forward, []

    @functools.wraps(forward)  # the library asks which arguments it takes
    def counted(**inputs: Any) -> Any:
        rows.append(len(inputs["input_ids"]))
        return forward(**inputs)

    monkeypatch.setattr(model.model, "forward", counted)
    for asked, options, expected in (
        (5, OPTIONS, [4, 4, 4]),
        (1, OPTIONS, [4]),
        (2, [("a", "b", "c", "d", "e")] * 2, [5, 5]),
        (3, [("a", "b", "c")] * 3, [3, 3, 3]),
    ):
        found = model.likelihoods(IMAGES[:asked], QUESTIONS[:asked], options[:asked])
        assert found.shape == (asked, len(options[0]))
        assert rows == expected
        rows.clear()
    assert len(model.answers(IMAGES, QUESTIONS)) == 5
    assert rows == [4, 4]


def test_answers_are_greedy_and_at_most_24_tokens(llava: Path) -> None:
    """The most likely token each time, worked out with a forward pass of the whole text for each."""
    model = load_multimodal(str(llava), device=CPU)
    given = model.processor(
        images=[to_pil_image(IMAGES[0])], text=[model.prompt("Who?")], return_tensors="pt"
    )
    tokens = given["input_ids"]
    before = tokens.shape[1]
    with torch.inference_mode():
        # 2 is the end of a text.
        while tokens.shape[1] < before + 24 and (tokens.shape[1] == before or tokens[0, -1] != 2):
            mask = torch.ones_like(tokens)
            inputs = {"pixel_values": given["pixel_values"], "attention_mask": mask}
            logits = model.model(input_ids=tokens, **inputs).logits
            tokens = torch.cat([tokens, logits[:, -1:].argmax(-1)], 1)
    expected = model.tokenizer.decode(tokens[0, before:], skip_special_tokens=True).strip()
    assert model.answers(IMAGES[:1], ["Who?"]) == [expected]


def test_pictures_and_questions_count(family: MultimodalModel) -> None:
    found = family.likelihoods(IMAGES, QUESTIONS, OPTIONS)
    other = family.likelihoods(255 - IMAGES, QUESTIONS, OPTIONS)
    assert np.abs(found - other).min() > 0
    asked = family.likelihoods(IMAGES, ["Is it?"] * 5, OPTIONS)
    assert np.abs(found - asked).min() > 0


def test_the_tower_is_named(family: MultimodalModel) -> None:
    assert family.info.tower.endswith("2 layers of 32, 28 px")
    assert family.info.model_type in family.info.name
    assert len(family.info.digest) == 64


def test_a_prompt_is_the_chat_templates_or_the_familys(llava: Path, tmp_path: Path) -> None:
    plain = load_multimodal(str(llava), device=CPU)
    assert plain.prompt("Who?") == "USER: <image>\nWho? ASSISTANT:"
    folder = shutil.copytree(llava, tmp_path / "templated")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}[{{ m['role'] }}]{% for c in m['content'] %}{% if c['type'] == 'image' %}"
        "<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}[bot]{% endif %}"
    )
    templated = load_multimodal(str(folder), device=CPU)
    assert templated.prompt("Who?") == "[user]<image>Who?[bot]"
    assert templated.info.digest != plain.info.digest


def test_there_is_one_start_token(llava: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llava, tmp_path / "started")
    (folder / "chat_template.jinja").write_text("<s><image>{{ messages[0].content[1].text }}>")
    plain = load_multimodal(str(folder), device=CPU)
    assert plain.prompt("Who?") == "<s><image>Who?>"
    adding = load_multimodal(str(folder), device=CPU)
    adding.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    assert adding.prompt("Who?") == "<image>Who?>"
    for model in (plain, adding):
        ids = model._inputs(IMAGES[:1], ["Who?"], 1)["input_ids"][0].tolist()
        assert ids[:2] == [1, 3]
        assert ids.count(1) == 1


def test_the_digest_tells_weights_apart(llava: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llava, tmp_path / "other")
    before = load_multimodal(str(llava), device=CPU).info.digest
    assert load_multimodal(str(folder), device=CPU).info.digest == before
    state = load_file(folder / "model.safetensors")
    name = next(name for name in state if "layers.0.mlp" in name)
    state[name] = state[name] + 1e-3
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_multimodal(str(folder), device=CPU).info.digest != before


def test_precision_is_the_users_choice(llava: Path) -> None:
    assert load_multimodal(str(llava), device=CPU).model.dtype == torch.float32
    half = load_multimodal(str(llava), device=CPU, precision="bf16")
    assert half.model.dtype == torch.bfloat16
    whole = load_multimodal(str(llava), device=CPU)
    np.testing.assert_allclose(
        half.likelihoods(IMAGES, QUESTIONS, OPTIONS),
        whole.likelihoods(IMAGES, QUESTIONS, OPTIONS),
        atol=0.5,
    )


def test_a_token_that_grows_into_the_option_is_left_alone(llava: Path) -> None:
    model = load_multimodal(str(llava), device=CPU)

    class Merging:
        """Puts the prompt's last character and the option's first into one token."""

        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": [ord(c) for c in text.replace(": a", "\N{SNOWMAN}")]}

    model.tokenizer = Merging()
    assert model._continuation("x:", "ab") == [ord(c) for c in " ab"]
    assert model._continuation("x:\n", "b") == [ord("b")]


def refused(name: str, match: str, kind: type[ClipRobustError] = ClipRobustError) -> None:
    """Check that a model is refused in one line."""
    with pytest.raises(kind, match=match) as caught:
        load_multimodal(name, device=CPU)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(("--clip-lmm", "multimodal model"))


def test_folders_that_hold_no_such_model(llava: Path, tmp_path: Path) -> None:
    refused("./nowhere", "there is no folder nowhere")
    refused("nowhere", "OWNER/NAME of a hub repository")
    (tmp_path / "empty").mkdir()
    refused(str(tmp_path / "empty"), "has no config.json")
    (tmp_path / "empty" / "config.json").write_text(json.dumps({"model_type": "clip"}))
    refused(str(tmp_path / "empty"), "loaded .* a clip model does not talk about pictures")
    (tmp_path / "empty" / "config.json").write_text(json.dumps({"model_type": "own"}))
    refused(str(tmp_path / "empty"), "no multimodal model can be loaded")

    folder = shutil.copytree(llava, tmp_path / "cut")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    refused(str(folder), "model.safetensors is truncated or damaged")
    (folder / "model.safetensors").unlink()
    refused(str(folder), "holds no weights; expected model.safetensors")

    folder = shutil.copytree(llava, tmp_path / "part")
    state = load_file(folder / "model.safetensors")
    gone = next(name for name in state if "mlp" in name and "vision" not in name)
    del state[gone]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    refused(str(folder), "does not fit its config.json: 1 tensors are missing")

    folder = shutil.copytree(llava, tmp_path / "no processor")
    for file in ("processor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()
    refused(str(folder), "processor")


def test_a_folder_runs_no_code_and_asks_nobody(
    llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import builtins
    import socket

    def forbidden(*_: object) -> None:
        raise AssertionError("it asked")

    monkeypatch.setattr(builtins, "input", forbidden)
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    written = tmp_path / "written"
    code = {"auto_map": {"AutoModelForImageTextToText": "theirs.M", "AutoConfig": "theirs.C"}}
    cases: tuple[tuple[str, dict[str, Any] | str, str], ...] = (
        ("config.json", {**code, "model_type": "theirs"}, "no multimodal model can be loaded"),
        ("config.json", {"attn_implementation": "owner/kernel"}, "code from elsewhere"),
        ("config.json", {"quantization_config": {"quant_method": "fp8"}}, "weights are quantised"),
        ("config.json", {"num_hidden_layers": 10**9}, "'num_hidden_layers' is 1000000000"),
        ("config.json", {"backbone": "owner/name"}, "does not lie in the folder"),
        (
            "config.json",
            {
                "vision_config": {
                    "model_type": "timm_wrapper",
                    "architecture": "test_vit",
                    "model_args": {"checkpoint_path": str(tmp_path / "theirs.pth")},
                }
            },
            "model_args has 'checkpoint_path'",
        ),
        (
            "processor_config.json",
            {
                "audio_tokenizer": {
                    "audio_tokenizer_class": "DacModel",
                    "audio_tokenizer_name_or_path": "owner/name",
                }
            },
            "names a model for sound",
        ),
        (
            "config.json",
            {"vision_config": {"model_type": "timm_wrapper", "architecture": "hf-hub:o/n"}},
            "architecture 'hf-hub:o/n' is no architecture of the installed timm",
        ),
        (
            "chat_template.jinja",
            "{{ ''.__class__.__mro__[1].__subclasses__() }}",
            "sandbox|unsafe",
        ),
        ("chat_template.jinja", "{% for i in range(10**9) %}a{% endfor %}", "Range too big"),
        ("chat_template.jinja", "{{ 1 / 0 }}", "chat template fails"),
    )
    for number, (file, changes, words) in enumerate(cases):
        folder = shutil.copytree(llava, tmp_path / str(number))
        (folder / "theirs.py").write_text(f"open({str(written)!r}, 'w')\n")
        path = folder / file
        if isinstance(changes, dict):
            path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        else:
            path.write_text(changes)
        with pytest.raises(ClipRobustError, match=words) as caught:
            load_multimodal(str(folder), device=CPU)
        assert "\n" not in str(caught.value)
    assert not written.exists()


class Writes:
    """An object whose pickle writes a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "written")


def test_weights_of_torch_are_read_and_run_nothing(llava: Path, tmp_path: Path) -> None:
    before = load_multimodal(str(llava), device=CPU)
    state = load_file(llava / "model.safetensors")
    folder = shutil.copytree(llava, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    for legacy in (False, True):
        torch.save(state, path, _use_new_zipfile_serialization=not legacy)
        assert load_multimodal(str(folder), device=CPU).info.digest == before.info.digest
    written = tmp_path / "written"
    for content in ({**state, "more": Writes(written)}, Writes(written)):
        for legacy in (False, True):
            torch.save(content, path, _use_new_zipfile_serialization=not legacy)
            refused(str(folder), "no state dict|objects? other than tensors|is not loaded")
    with path.open("wb") as file:
        pickle.dump(Writes(written), file)
    refused(str(folder), "never loaded, as it may run code")
    assert not written.exists()
    pickle.loads(path.read_bytes())  # this is what it would have done
    assert written.exists()


def test_shards_beside_their_index_and_nothing_else(llava: Path, tmp_path: Path) -> None:
    before = load_multimodal(str(llava), device=CPU)
    state = load_file(llava / "model.safetensors")
    folder = shutil.copytree(llava, tmp_path / "sharded")
    (folder / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    shards = {"a.safetensors": sorted(state)[::2], "b.safetensors": sorted(state)[1::2]}
    for file, names in shards.items():
        save_file({n: state[n] for n in names}, folder / file, metadata={"format": "pt"})
    index = folder / "model.safetensors.index.json"
    places = {name: file for file, names in shards.items() for name in names}
    index.write_text(json.dumps({"weight_map": places}))
    assert load_multimodal(str(folder), device=CPU).info.digest == before.info.digest
    index.write_text(json.dumps({"weight_map": dict.fromkeys(state, "../elsewhere.safetensors")}))
    refused(str(folder), "names a file elsewhere")


@pytest.mark.parametrize(
    "file", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"]
)
def test_a_pipe_or_a_file_without_end_is_one_line(file: str, llava: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llava, tmp_path / "model")
    (folder / file).unlink(missing_ok=True)
    os.mkfifo(folder / file)
    refused(str(folder), "has no config.json" if file == "config.json" else "is a pipe, not a file")
    (folder / file).unlink()
    (folder / file).symlink_to("/dev/zero")
    refused(str(folder), "has no config.json" if file == "config.json" else "is a device, not a")


def test_how_a_model_generates_is_its_folders_word(llava: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llava, tmp_path / "model")
    settings = json.loads((folder / "generation_config.json").read_text())
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**settings, "eos_token_id": [2, 5]}))
    assert load_multimodal(str(folder), device=CPU).model.generation_config.eos_token_id == [2, 5]
    path.write_text("{")
    refused(str(folder), "generation_config.json cannot be read")


def test_a_hub_name_without_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise Unavailable("multimodal model 'some/model' is not in the local cache; give a folder")

    monkeypatch.setattr(hub, "require_hub", unreachable)
    refused("some/model", "not in the local cache", Unavailable)


def test_failures_of_a_model_are_one_line(llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_multimodal(str(llava), device=CPU)

    def breaks(error: Exception) -> Any:
        def fail(*_: object, **__: object) -> None:
            raise error

        return fail

    monkeypatch.setattr(model.model, "forward", breaks(RuntimeError("shapes\nand more")))
    with pytest.raises(ClipRobustError, match=r"forward pass fails \(RuntimeError: shapes\)"):
        model.likelihoods(IMAGES, QUESTIONS, OPTIONS)
    with pytest.raises(ClipRobustError, match="forward pass fails"):
        model.answers(IMAGES, QUESTIONS)
    monkeypatch.setattr(model.model, "forward", breaks(torch.OutOfMemoryError("full")))
    with pytest.raises(Unavailable, match="out of memory on cpu with 16 rows"):
        model.likelihoods(IMAGES, QUESTIONS, OPTIONS)
    model.processor = breaks(ValueError("no such picture"))
    monkeypatch.setattr(model, "prompt", lambda question: question)
    with pytest.raises(ClipRobustError, match=r"processor cannot make an input .*no such picture"):
        model.answers(IMAGES, QUESTIONS)


def test_a_model_that_cannot_keep_few_logits(llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_multimodal(str(llava), device=CPU)
    expected = model.likelihoods(IMAGES, QUESTIONS, OPTIONS)
    forward = model.model.forward

    def old(**inputs: Any) -> Any:
        if "logits_to_keep" in inputs:
            raise TypeError("forward() got an unexpected keyword argument 'logits_to_keep'")
        return forward(**inputs)

    monkeypatch.setattr(model.model, "forward", old)
    np.testing.assert_allclose(model.likelihoods(IMAGES, QUESTIONS, OPTIONS), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (None, "unknown"),
        ({"model_type": "timm_wrapper", "architecture": "vit_a"}, "timm vit_a"),
        ({"model_type": "a", "architecture": ""}, "a"),
        ({"model_type": "a", "num_hidden_layers": 2}, "a"),
        ({"model_type": "a", "hidden_size": 8, "image_size": 28}, "a, 28 px"),
        ({"model_type": "a", "num_hidden_layers": 2, "hidden_size": 8}, "a, 2 layers of 8"),
        ({"model_type": "a", "image_size": [448, 336]}, "a, 448 px"),
        ({"model_type": "a", "image_size": (336, 448)}, "a, 336 px"),
    ],
)
def test_towers_in_words(told: dict[str, Any] | None, expected: str) -> None:
    vision = None if told is None else SimpleNamespace(**told)
    assert multimodal.tower_of(SimpleNamespace(vision_config=vision)) == expected


def test_a_tokenizer_without_padding_pads_with_its_end(llava: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llava, tmp_path / "model")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "pad_token": None}))
    before, model = (load_multimodal(str(place), device=CPU) for place in (llava, folder))
    assert before.tokenizer.pad_token == "<pad>"
    assert model.tokenizer.pad_token == "</s>"
    np.testing.assert_allclose(
        model.likelihoods(IMAGES, QUESTIONS, OPTIONS),
        before.likelihoods(IMAGES, QUESTIONS, OPTIONS),
        atol=2e-5,
    )


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"dtype": "bfloat16"}, torch.bfloat16),
        ({"dtype": None, "torch_dtype": "float16"}, torch.float16),
        ({"dtype": {"text_config": "float16"}}, torch.float32),
        ({"dtype": "bfloat16", "torch_dtype": "float16"}, torch.bfloat16),
    ],
)
def test_the_type_of_the_weights_is_the_configurations(
    named: dict[str, Any], expected: torch.dtype, llava: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(llava, tmp_path / "model")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **named}))
    assert load_folder(folder, "m", "auto")[0].dtype == expected
    assert load_folder(folder, "m", torch.float32)[0].dtype == torch.float32


def test_a_type_of_weights_that_is_none_is_one_line(llava: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llava, tmp_path / "model")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "dtype": ["float16"]}))
    with pytest.raises(ClipRobustError, match="--clip-lmm m: ") as caught:
        load_folder(folder, "m", "auto")
    assert "\n" not in str(caught.value)


def test_a_chat_template_has_a_megabyte_at_most(llava: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llava, tmp_path / "model")
    path = folder / "chat_template.jinja"
    path.write_text("a" * 2**20)
    multimodal_folder._check_processor(folder)
    path.write_text("a" * (2**20 + 1))
    refused(str(folder), "has more than 1048576 bytes, as no template")


def test_weights_of_another_shape_are_counted(llava: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llava, tmp_path / "model")
    state = {name: value.clone() for name, value in load_file(folder / "model.safetensors").items()}

    def write(tensors: dict[str, Tensor]) -> None:
        # Into a new file: an earlier safetensors has mapped the one that is there.
        (folder / "model.safetensors").unlink()
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    head = next(name for name in state if "lm_head" in name)
    write({name: value for name, value in state.items() if name != head})
    load_folder(folder, "m", torch.float32)  # it may be tied to the embedding
    norm = next(name for name in state if name.endswith("norm.weight"))
    write({**state, norm: state[norm][:-1].clone()})
    refused(str(folder), "does not fit .* and 1 have another shape")


def test_what_tells_a_models_settings_apart_and_what_does_not() -> None:
    """All entries at any depth, but for where a configuration came from."""
    marks = dict.fromkeys(multimodal._BOOKKEEPING, "here")
    config = {"a": 1, **marks, "b": {**marks, "c": (2, {"d": 3, **marks}), "e": [4, 5]}}
    assert marks
    assert multimodal._settled(config) == {"a": 1, "b": {"c": [2, {"d": 3}], "e": [4, 5]}}
    assert multimodal._settled("text") == "text"


def test_each_row_has_its_tiles_as_often_as_it_is_asked_for() -> None:
    """Two rows of two tiles each, of three numbers."""
    tiles = torch.arange(12).view(4, 3)
    first, second = tiles[:2].tolist(), tiles[2:].tolist()
    found = multimodal._repeated(tiles, 3, 2)
    assert found.tolist() == first * 3 + second * 3
    assert multimodal._repeated(["x", "y"], 2, 2) == ["x", "x", "y", "y"]


def test_only_floats_change_their_type() -> None:
    cpu = torch.device("cpu")
    assert multimodal._moved(torch.ones(2), cpu, torch.bfloat16).dtype == torch.bfloat16
    assert (
        multimodal._moved(torch.ones(2, dtype=torch.int32), cpu, torch.bfloat16).dtype
        == torch.int32
    )
    assert multimodal._moved("text", cpu, torch.bfloat16) == "text"

"""The files of a multimodal model's folder: what is looked at before anything of it is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets import multimodal_folder
from pytest_cliprobust.targets.multimodal_folder import (
    MAX_TEMPLATE,
    TEMPLATE,
    load_folder,
    load_processor,
)

FILES = (
    *("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"),
    "chat_template.json",
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """What transformers is asked for a processor; it gives one of pictures and text."""
    calls: list[tuple[Any, dict[str, Any]]] = []

    def from_pretrained(folder: Any, **options: Any) -> Any:
        calls.append((folder, options))
        return SimpleNamespace(tokenizer=1, image_processor=2)

    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", from_pretrained)
    return calls


def refused(folder: Path) -> str:
    with pytest.raises(ClipRobustError) as caught:
        load_processor(folder, "mine")
    message = str(caught.value)
    assert message.startswith("--clip-lmm mine: ")
    assert "\n" not in message
    return message


def test_a_processor_comes_from_its_folder_alone(tmp_path: Path, asked: list[Any]) -> None:
    for file in FILES:
        (tmp_path / file).write_text(json.dumps({"audio_tokenizer": None, "size": 3}))
    found = load_processor(tmp_path, "mine")
    assert (found.tokenizer, found.image_processor) == (1, 2)
    assert asked == [(tmp_path, {"local_files_only": True, "trust_remote_code": False})]


@pytest.mark.parametrize("file", FILES)
def test_a_model_for_sound_is_not_loaded(tmp_path: Path, asked: list[Any], file: str) -> None:
    (tmp_path / FILES[0]).write_text("{}")
    (tmp_path / file).write_text(json.dumps({"audio_tokenizer": {"name": "owner/name"}}))
    told = f"{tmp_path / file} names a model for sound (audio_tokenizer), which is not loaded"
    assert told in refused(tmp_path)
    assert asked == []


def test_a_file_of_such_a_model_is_enough(tmp_path: Path, asked: list[Any]) -> None:
    (tmp_path / "audio_tokenizer_config.json").write_text("{}")
    assert f"{tmp_path / 'audio_tokenizer_config.json'} names a model for sound" in refused(
        tmp_path
    )
    assert asked == []


def test_a_template_has_an_end(tmp_path: Path, asked: list[Any]) -> None:
    (tmp_path / TEMPLATE).write_bytes(b"x" * MAX_TEMPLATE)
    load_processor(tmp_path, "mine")
    (tmp_path / TEMPLATE).write_bytes(b"x" * (MAX_TEMPLATE + 1))
    assert f"has more than {MAX_TEMPLATE} bytes, as no template" in refused(tmp_path)
    assert len(asked) == 1


@pytest.mark.parametrize("has", [{}, {"tokenizer": 1}, {"image_processor": 1}])
def test_a_processor_has_a_tokenizer_and_one_of_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has: dict[str, int]
) -> None:
    def from_pretrained(folder: Any, **options: Any) -> Any:
        return SimpleNamespace(**has)

    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", from_pretrained)
    assert "holds no processor of pictures and text" in refused(tmp_path)


@pytest.mark.parametrize("error", [OSError("not there"), ValueError("odd"), ImportError("no x")])
def test_a_processor_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def from_pretrained(folder: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", from_pretrained)
    told = refused(tmp_path)
    assert f"its processor cannot be loaded from {tmp_path} (" in told
    assert str(error) in told


def test_what_a_folder_lacks_is_told_in_its_order(tmp_path: Path) -> None:
    def told() -> str:
        with pytest.raises(ClipRobustError) as caught:
            load_folder(tmp_path, "mine", torch.float32)
        message = str(caught.value)
        assert message.startswith("--clip-lmm mine: ")
        return message

    assert told().endswith(f"folder {tmp_path} has no config.json")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava"}))
    assert "holds no weights; expected model.safetensors" in told()
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    assert "model.safetensors" in told() or str(tmp_path) in told()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    assert "a clip model does not talk about pictures" in told()


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"torch_dtype": "float16"}, "float16"),
        ({"dtype": "float32", "torch_dtype": "float16"}, "float32"),
        ({}, None),
    ],
)
def test_the_type_of_the_weights_is_taken_from_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: dict[str, Any], kept: str | None
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava", **raw}))
    seen: list[Any] = []

    def model(folder: Path, name: str, config: Any, dtype: Any) -> str:
        seen.append((folder, name, config.get("dtype"), dtype))
        return "a model"

    monkeypatch.setattr(multimodal_folder, "_model", model)
    monkeypatch.setattr(multimodal_folder, "load_processor", lambda folder, name: "a processor")
    assert load_folder(tmp_path, "mine", "auto") == ("a model", "a processor")
    assert seen == [(tmp_path, "mine", kept, "auto")]

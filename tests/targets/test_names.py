"""What models are called: the same on every machine, and never a path."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets.names import (
    check_pretrained,
    is_architecture,
    named,
    named_models,
    split_checkpoint,
    split_twin,
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model, a checkpoint and a folder called like no name can be."""
    for name in ("v1", "runs/v1", "a/model", "ViT-B-32/openai", "lr=0.1"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "w.pt").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "runs"))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "name", "source"),
    [
        ("reference", "reference", "reference"),
        ("v2=./v1", "v2", "./v1"),
        ("v-2.0+x=hf-hub:o/n", "v-2.0+x", "hf-hub:o/n"),
        ("candidate=ViT-B-32/laion2b", "candidate", "ViT-B-32/laion2b"),
        ("./v1", "v1", "./v1"),
        ("v1", "v1", "v1"),
        ("v1/", "v1", "v1/"),
        ("runs/v1", "v1", "runs/v1"),
        ("../nowhere/v9", "v9", "../nowhere/v9"),
        ("~/v1", "v1", "~/v1"),
        ("w.pt", "w.pt", "w.pt"),
        ("local-dir:a/model", "model", "local-dir:a/model"),
        ("transformers:a/model", "model", "transformers:a/model"),
        ("runs:/of/mine/7", "7", "runs:/of/mine/7"),
        ("ViT-B-32@/x/w.pt", "w.pt", "ViT-B-32@/x/w.pt"),
        ("c=ViT-B-32@w.pt", "c", "ViT-B-32@w.pt"),
        ("ViT-B-32/openai@int8", "ViT-B-32/openai@int8", "ViT-B-32/openai@int8"),
        ("runs/v1@compile", "v1@compile", "runs/v1@compile"),
        ("ViT-B-32@/x/w.pt@int8", "w.pt@int8", "ViT-B-32@/x/w.pt@int8"),
        ("ViT-B-32@onnx:/x/graphs", "graphs", "ViT-B-32@onnx:/x/graphs"),
        ("q=reference@int8", "q", "reference@int8"),
        # What is no path keeps its whole name, also where a folder is called so.
        ("transformers:openai/clip", "transformers:openai/clip", "transformers:openai/clip"),
        ("hf-hub:o/n@main", "hf-hub:o/n@main", "hf-hub:o/n@main"),
        ("my.module:Encoder", "my.module:Encoder", "my.module:Encoder"),
        ("ViT-B-32/openai", "ViT-B-32/openai", "ViT-B-32/openai"),
        ("ViT-B/32", "ViT-B/32", "ViT-B/32"),
        # A sign in a path is no name's.
        ("lr=0.1", "lr=0.1", "lr=0.1"),
        ("./lr=0.2", "lr=0.2", "./lr=0.2"),
        ("runs/lr=0.2", "runs/lr=0.2", "runs/lr=0.2"),
    ],
)
def test_a_model_is_called_by_its_name_or_the_end_of_its_path(
    text: str, name: str, source: str
) -> None:
    assert named(text) == (name, source)


def test_a_folder_that_is_here_is_called_as_it_is(here: Path) -> None:
    assert named(".") == (here.name, ".")
    assert named(str(here / "v1")) == ("v1", str(here / "v1"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("=./v1", "something is missing; write NAME=PATH"),
        ("v2=", "something is missing; write NAME=PATH"),
        ("a b=./v1", "and 'a b' is none; write NAME=PATH"),
        ("*=./v1", "and '*' is none"),
        ("/", "/ has no name of its own; write --clip-model NAME=/"),
    ],
)
def test_a_name_that_is_none_is_told(text: str, words: str) -> None:
    with pytest.raises(ClipRobustError, match=r"^--clip-model ") as caught:
        named(text)
    assert words in str(caught.value)


def test_two_models_of_one_name_are_told(here: Path) -> None:
    with pytest.raises(
        ClipRobustError, match=r"two models are called 'v1', \./v1 and runs/v1: write"
    ):
        named_models(["./v1", "runs/v1"])
    with pytest.raises(ClipRobustError, match="two models are called 'a'"):
        named_models(["a=ViT-B-32", "a=ViT-B-16"])
    # The same folder twice is one model.
    assert named_models(["./v1", str(here / "v1"), "reference"]) == {
        "v1": "./v1",
        "reference": "reference",
    }


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("ViT-B-32@./x", ("ViT-B-32", "./x")),
        ("ViT-B-32@x.safetensors", ("ViT-B-32", "x.safetensors")),
        ("./v1@w.pt", ("./v1", "w.pt")),
        ("hf-hub:o/n@v2", ("hf-hub:o/n@v2", None)),
        ("@w.pt", ("@w.pt", None)),
        ("w.pt", ("w.pt", None)),
    ],
)
def test_a_checkpoint_behind_a_model(source: str, expected: tuple[str, str | None]) -> None:
    assert split_checkpoint(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("reference@int8", ("reference", "int8")),
        ("ViT-B-32@w.pt@compile", ("ViT-B-32@w.pt", "compile")),
        ("ViT-B-32@onnx:a@b", ("ViT-B-32", "onnx:a@b")),
        ("./v1@onnx:./v1", ("./v1", "onnx:./v1")),
        ("reference", ("reference", None)),
        ("@int8", ("@int8", None)),
        ("@onnx:x", ("@onnx:x", None)),
        ("reference@INT8", ("reference@INT8", None)),
        ("hf-hub:o/n@v2", ("hf-hub:o/n@v2", None)),
    ],
)
def test_a_twin_behind_a_model(source: str, expected: tuple[str, str | None], here: Path) -> None:
    assert split_twin(source) == expected
    (here / "run@int8").mkdir()
    assert split_twin("run@int8") == ("run@int8", None)


def test_models_of_one_path_are_one_only_if_the_rest_is_the_same() -> None:
    for one, two in (
        ("ViT-B-32@./w.pt", "ViT-B-16@./w.pt"),
        ("ViT-B-32@onnx:./v1", "ViT-B-16@onnx:./v1"),
    ):
        with pytest.raises(ClipRobustError, match="two models are called"):
            named_models([one, two])
        assert len(named_models([one, one.replace("./", "")])) == 1
    assert list(named_models(["./v1", "./v1@int8"])) == ["v1", "v1@int8"]


def test_a_folder_with_the_sign_in_its_name_is_a_folder(here: Path) -> None:
    (here / "run@w.pt").mkdir()
    assert split_checkpoint("run@w.pt") == ("run@w.pt", None)


def test_architectures_are_known_without_open_clip() -> None:
    assert is_architecture("ViT-B-32")
    assert is_architecture("ViT-B/32/openai")
    assert not is_architecture("runs/v1")
    assert not is_architecture("v1")


@pytest.mark.parametrize("pretrained", ["w.pt", "./x", "x.safetensors", "openai"])
def test_a_checkpoint_is_no_default_for_several_models(pretrained: str) -> None:
    models = {"reference": "reference", "v2": "ViT-B-32"}
    with pytest.raises(ClipRobustError) as caught:
        check_pretrained(models, pretrained)
    told = str(caught.value)
    assert told.startswith(
        f"--clip-pretrained {pretrained} would go to all 2 models (reference, v2)"
    )
    assert "--clip-model NAME=PATH" in told
    assert "--clip-model NAME=ARCHITECTURE@CHECKPOINT" in told
    check_pretrained({"v2": "ViT-B-32"}, pretrained)
    check_pretrained(models, None)


def test_a_tag_may_go_to_several_architectures() -> None:
    check_pretrained({"a": "ViT-B-32", "b": "ViT-B-16"}, "openai")
    with pytest.raises(ClipRobustError):
        check_pretrained({"a": "ViT-B-32", "b": "ViT-B-16"}, "w.pt")
    for models in ({"a": "ViT-B-32", "b": "reference"}, {"a": "reference", "b": "ViT-B-32"}):
        with pytest.raises(ClipRobustError):
            check_pretrained(models, "openai")
    check_pretrained({"a": "ViT-B-32@int8", "b": "ViT-B-16"}, "openai")


def test_without_open_clip_there_is_no_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not is_architecture("ViT-B-32")


def test_an_architecture_may_lie_in_any_part_of_open_clip(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [str(here / "one"), str(here / "two")]
    for place, name in zip(places, ("A", "B-1"), strict=True):
        folder = Path(place, "model_configs")
        folder.mkdir(parents=True)
        (folder / f"{name}.json").touch()
    spec = SimpleNamespace(submodule_search_locations=places)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    found = [name for name in ("A", "B/1", "B-1/tag", "C", "A/b/c") if is_architecture(name)]
    assert found == ["A", "B/1", "B-1/tag"]

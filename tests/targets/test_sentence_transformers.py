"""Which folders of sentence-transformers hold one CLIP model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets.sentence_transformers import _module, load_sentence_transformers

CLIP = {"type": "sentence_transformers.models.CLIPModel", "path": "0_CLIPModel"}
TEXT = {"type": "sentence_transformers.models.Transformer", "path": "0_Transformer"}
SCALED = {"type": "sentence_transformers.models.Normalize", "path": "1_Normalize"}
POOLED = {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}


def write(folder: Path, modules: Any) -> Path:
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder / "modules.json"


@pytest.mark.parametrize("modules", [[CLIP], [CLIP, SCALED], [TEXT], [TEXT, SCALED]])
def test_one_model_and_what_changes_no_direction(tmp_path: Path, modules: Any) -> None:
    kind = modules[0]["path"].removeprefix("0_")
    assert _module(write(tmp_path, modules)) == (kind, modules[0]["path"])
    assert _module(write(tmp_path, [{**CLIP, "path": ""}])) == ("CLIPModel", "")


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        ([TEXT, POOLED], "lists Transformer, Pooling; of sentence-transformers a CLIPModel alone"),
        ([CLIP, CLIP], "lists CLIPModel, CLIPModel"),
        ([SCALED], "lists Normalize"),
        ([{**CLIP, "path": "../x"}], "names a folder elsewhere, '../x'"),
        ([{**CLIP, "path": "a/b"}], "names a folder elsewhere"),
        ([{**CLIP, "path": "/a"}], "names a folder elsewhere"),
        ([{**CLIP, "path": "."}], "names a folder elsewhere"),
        ([{**CLIP, "path": ".."}], "names a folder elsewhere"),
        ([{**CLIP, "path": 3}], "names a folder elsewhere, 3"),
        ([{"type": "CLIPModel"}], "cannot be read (KeyError: 'path')"),
        ([], "cannot be read (IndexError"),
        ({"a": 1}, "cannot be read (TypeError"),
    ],
)
def test_other_lists_of_modules(tmp_path: Path, modules: Any, words: str) -> None:
    with pytest.raises(ClipRobustError) as caught:
        _module(write(tmp_path, modules))
    assert words in str(caught.value)


def test_the_model_lies_in_its_folder_and_is_clip(tmp_path: Path) -> None:
    def told() -> str:
        with pytest.raises(ClipRobustError) as caught:
            load_sentence_transformers("m", str(tmp_path))
        return str(caught.value)

    write(tmp_path, [TEXT])
    assert "names '0_Transformer', which has no config.json" in told()
    (tmp_path / "0_Transformer").mkdir()
    (tmp_path / "0_Transformer" / "config.json").write_text('{"model_type": "bert"}')
    assert "lists a Transformer of model_type 'bert', whose texts it may prepare" in told()


def test_a_list_is_read_as_far_as_any_is_long(tmp_path: Path) -> None:
    text = json.dumps([CLIP])
    for more, fine in ((0, True), (1, False)):
        blanks = " " * (2**20 - len(text) + more)
        (tmp_path / "modules.json").write_text(text[:-1] + blanks + text[-1])
        if fine:
            assert _module(tmp_path / "modules.json") == ("CLIPModel", "0_CLIPModel")
        else:
            with pytest.raises(ClipRobustError, match="cannot be read"):
                _module(tmp_path / "modules.json")

"""Configurations from anywhere: what would harm is named, and nothing is built from it."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import open_clip
import pytest
import torch
from model_helpers import VIT, write_folder

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets.configuration import (
    _LIMITS,
    check_open_clip,
    check_values,
    limit_of,
    plain_transformers,
)
from pytest_cliprobust.targets.loading import load_target


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("models") / "vit")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may ask for anything elsewhere."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a configuration asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def refused(name: Path | str, **options: Any) -> str:
    """The one line that loading ends with, soon."""
    began = time.monotonic()
    with pytest.raises(ClipRobustError) as caught:
        load_target(str(name), device="cpu", **options)
    assert time.monotonic() - began < 10
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(json.dumps(VIT))
    *parents, last = path
    place = config
    for parent in parents:
        place = place[parent]
    place[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("vision_cfg", "layers"), 10**7, "'layers' is 10000000; it must be a whole number from 1"),
        (("vision_cfg", "layers"), "twelve", "'twelve' for 'layers'"),
        (("vision_cfg", "layers"), True, "True for 'layers'"),
        (("vision_cfg", "width"), 2**40, "'width' is 1099511627776, which no model has"),
        (("vision_cfg", "width"), 16384, "does not fit architecture"),
        (("vision_cfg", "width"), -1, "must be a whole number"),
        (("vision_cfg", "width"), 32.5, "must be a whole number"),
        (("vision_cfg", "width"), "32", "'32' for 'width'"),
        (("vision_cfg", "width"), None, "None for 'width'"),
        (("vision_cfg", "head_width"), 0, "must be a whole number"),
        (("vision_cfg", "image_size"), 10**6, "'image_size' is 1000000"),
        (("vision_cfg", "image_size"), [32, [32]], "for 'image_size'"),
        (("vision_cfg", "mlp_ratio"), float("inf"), "is inf, which no model has"),
        (("vision_cfg", "mlp_ratio"), float("nan"), "is nan, which no model has"),
        (("vision_cfg", "mlp_ratio"), 10**9, "which no model has"),
        (("vision_cfg", "mlp_ratio"), 10**400, "'mlp_ratio' is 1000"),
        (("embed_dim",), -(10**400), "'embed_dim' is -1000"),
        (("vision_cfg", "no_ln_pre"), "yes", "'yes' for 'no_ln_pre'"),
        (
            ("vision_cfg", "patchsize"),
            8,
            "'patchsize' that open_clip does not know. Did you mean 'patch_size'?",
        ),
        (("vision_cfg",), [], "vision_cfg must be an object"),
        (("text_cfg", "vocab_size"), 2**31, "which no model has"),
        (("text_cfg", "vocab_size"), 2_000_000, "does not fit architecture"),
        (("text_cfg", "heads"), 0, "must be a whole number"),
        (("text_cfg", "act_kwargs"), "gelu", "'gelu' for 'act_kwargs'"),
        (
            ("text_cfg", "tokenizer_kwargs"),
            {"bpe_path": "/dev/zero"},
            "tokenizer_kwargs has 'bpe_path'",
        ),
        (("text_cfg", "tokenizer_kwargs"), {"trust_remote_code": True}, "has 'trust_remote_code'"),
        (("text_cfg", "hf_tokenizer_name"), 3, "hf_tokenizer_name 3 is no name"),
        (("text_cfg", "hf_model_name"), "a" * 300, "text tower of"),
        (("quick_gelu",), "no", "quick_gelu must be true or false, not 'no'"),
        (("custom_text",), 1, "custom_text must be true or false, not 1"),
        (("output_dict",), None, "output_dict must be true or false, not None"),
        (("embed_dim",), "24", "embed_dim must be a whole number"),
        (("embed_dim",), 2**20, "'embed_dim' is 1048576"),
        (
            ("custom_txt",),
            True,
            "'custom_txt' that open_clip does not know. Did you mean 'custom_text'?",
        ),
        (("init_logit_scale",), [[[[[[[[[1]]]]]]]]], "holds more than any model's configuration"),
        (("text_cfg", "pool_type"), "x" * 10_000, "10000 letters long"),
    ],
    ids=str,
)
def test_settings_that_no_model_has_are_named(
    path: tuple[str, ...], value: Any, words: str, vit: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(vit, tmp_path / "m")
    config = {"model_cfg": changed(path, value)}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert words in refused(folder)


@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:someone/some-model",
        "hf_hub:someone/some-model",
        "local-dir:/tmp",
        "someone/some-model",
        "vit_base_patch16_2244",
        "resnet50.no_such_tag:",
        7,
    ],
)
def test_an_image_tower_is_one_of_timms_own(name: Any, vit: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(vit, tmp_path / "m")
    config = {**VIT, "vision_cfg": {"timm_model_name": name, "image_size": 32}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    told = refused(folder)
    assert "timm_model_name" in told


def test_every_configuration_of_open_clip_passes() -> None:
    import open_clip
    from open_clip.factory import get_model_config

    for name in open_clip.list_models():
        check_open_clip(get_model_config(name), Path(name))


@pytest.mark.parametrize(
    ("preprocess", "words"),
    [
        ({"mean": "grey"}, "preprocessing"),
        ({"mean": [0.5, None, 0.5]}, "preprocessing"),
        ({"std": 0}, "std above 0"),
        ({"std": [1e400] * 3}, "which no model has"),
        ({"interpolation": ["bicubic"]}, "interpolation"),
        ({"resize_mode": {"shortest": 1}}, "resize_mode"),
        ({"fill_color": [300, 0, 0]}, "from 0 to 255"),
        ({"fill_color": "red"}, "preprocessing"),
        ([], None),
        ("bicubic", "preprocess_cfg must be an object"),
    ],
    ids=str,
)
def test_preprocessing_of_other_types(
    preprocess: Any, words: str | None, vit: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(vit, tmp_path / "m")
    content = {"model_cfg": VIT, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    if words is None:
        assert load_target(str(folder), device="cpu").embed_dim == 24
    else:
        assert words in refused(folder)


def pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("file", "write", "words"),
    [
        ("open_clip_config.json", pipe, "is a pipe"),
        ("open_clip_config.json", lambda path: path.write_text("[" * 100_000), "cannot be read"),
        ("open_clip_config.json", lambda path: path.write_text("[]"), "must hold a JSON object"),
        ("open_clip_config.json", lambda path: path.write_bytes(b"\xff\xfe{}"), "cannot be read"),
        ("open_clip_config.json", lambda path: path.write_text("9" * 5000), "cannot be read"),
        ("open_clip_config.json", lambda path: os.truncate(path, 2**25), "more than"),
        ("open_clip_config.json", lambda path: path.symlink_to("/dev/zero"), "is a device"),
        ("open_clip_config.json", lambda path: path.symlink_to(path), ""),
        ("open_clip_config.json", lambda path: path.mkdir(), ""),
        ("merges.txt.gz", pipe, "is a pipe"),
        ("merges.txt.gz", lambda path: path.symlink_to("/dev/zero"), "is a device"),
        (
            "merges.txt.gz",
            lambda path: path.write_bytes(gzip.compress(bytes(2**27))),
            "unpacks to more",
        ),
        ("merges.txt.gz", lambda path: path.write_bytes(b"no gzip"), "cannot be read"),
        (
            "merges.txt.gz",
            lambda path: path.write_bytes(gzip.compress(b"\xff\xff")),
            "tokenizer of",
        ),
        ("model_card.json", pipe, "is a pipe"),
        ("model_card.json", lambda path: path.write_text('{"tags": 3}'), "its tags are no object"),
        ("model.safetensors", pipe, "is a pipe"),
        ("model.safetensors", lambda path: path.symlink_to(path), ""),
        (
            "model.safetensors",
            lambda path: path.write_bytes((2**60).to_bytes(8, "little") + b"{"),
            "damaged",
        ),
    ],
    ids=lambda value: "" if callable(value) else str(value),  # a function's text holds its address
)
def test_files_of_a_folder_that_are_none(
    file: str, write: Callable[[Path], Any], words: str, vit: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(vit, tmp_path / "m")
    path = folder / file
    if file == "open_clip_config.json" and "truncate" in str(write.__code__.co_names):
        write(path)
    else:
        path.unlink(missing_ok=True)
        write(path)
    assert words in refused(folder)


def test_a_configuration_larger_than_its_checkpoint_takes_no_memory(
    vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(vit, tmp_path / "m")
    config = changed(("vision_cfg", "layers"), 200)
    config["vision_cfg"]["width"] = 4096
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    taken: list[int] = []
    empty = torch.empty

    def counted(*size: Any, **options: Any) -> Any:
        made = empty(*size, **options)
        taken.append(0 if made.is_meta else made.numel())
        return made

    monkeypatch.setattr(torch, "empty", counted)
    assert "parameters, the file" in refused(folder)
    assert sum(taken) < 2**22


def test_what_chooses_code_is_left_out_of_a_transformers_configuration() -> None:
    path = Path("config.json")
    config = {
        "model_type": "clip",
        "auto_map": {"AutoModel": "code.Model"},
        "_attn_implementation": "someone/kernel",
        "text_config": {"attn_implementation": "someone/kernel", "hidden_size": 32},
        "torch_dtype": "float16",
    }
    assert plain_transformers(config, path) == {
        "model_type": "clip",
        "text_config": {"hidden_size": 32},
    }
    with pytest.raises(ClipRobustError, match="quantised"):
        plain_transformers({"quantization_config": {"bits": 4}}, path)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"num_block_repeats": [10**6]}, "'num_block_repeats' is 1000000"),
        (
            {"depth_coefficient": 10**6},
            "'depth_coefficient' is 1000000; it must be above 0, and 10",
        ),
        ({"width_coefficient": 0}, "above 0"),
        ({"kernel_sizes": [3] * 1000}, "'kernel_sizes' is a list of 1000"),
        ({str(number): 0 for number in range(60_000)}, "more than any model's configuration"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_towers_that_take_for_ever_are_not_built(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ClipRobustError, match=words):
        check_values({"vision_config": config}, Path("config.json"))


def numbers(content: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of a configuration with its key."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from numbers(value, name)
    elif isinstance(content, list):
        for value in content:
            yield from numbers(value, key)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield key, content


def test_limits_have_room_for_open_clips_own_models_and_little_more() -> None:
    largest: dict[str, float] = {}
    for path in sorted((Path(open_clip.__file__).parent / "model_configs").glob("*.json")):
        config = json.loads(path.read_text())
        check_values(config, path)
        for key, value in numbers(config):
            if limit := limit_of(key):
                largest[limit] = max(largest.get(limit, 0.0), value)
    assert {"layers", "heads", "width", "dim_head", "vocab_size", "image_size"} <= set(largest)
    for limit, value in largest.items():
        assert 2 * value <= _LIMITS[limit] <= 128 * value, limit


def test_the_largest_factor_is_one_that_may_be() -> None:
    check_values({"width_coefficient": 10, "depth_coefficient": 1e-3}, Path("config.json"))


@pytest.mark.parametrize(
    ("key", "limit"),
    [
        ("num_hidden_layers", "layers"),
        ("layers", "layers"),
        ("vision_embed_dim", "embed_dim"),
        ("num_attention_heads", "heads"),
        ("attn_pooler_queries", "queries"),
        ("players", None),
        ("eps", None),
    ],
)
def test_limits_by_the_end_of_a_name(key: str, limit: str | None) -> None:
    assert limit_of(key) == limit

"""Limits of configurations: each setting at its limit, and one beyond."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets import configuration
from pytest_cliprobust.targets.configuration import check_size_of, check_values, limit_of

PLACE = Path("config.json")

#: The largest value of each setting, and the least, as the documentation of the format has them.
LIMITS = {
    "layers": (1, 256),
    "depth": (1, 256),
    "repeats": (1, 8),
    "heads": (1, 512),
    "embed_dim": (0, 16384),
    "width": (1, 16384),
    "dim_head": (1, 4096),
    "hidden_size": (1, 16384),
    "hidden_dim": (1, 16384),
    "intermediate_size": (1, 131072),
    "projection_dim": (1, 16384),
    "projection_size": (1, 16384),
    "context_length": (1, 8192),
    "max_position_embeddings": (1, 32768),
    "type_vocab_size": (1, 1024),
    "vocab_size": (0, 2097152),
    "image_size": (1, 4096),
    "patch_size": (0, 1024),
    "num_patches": (1, 65536),
    "num_channels": (1, 3),
    "queries": (1, 4096),
}


def refused(values: dict[str, Any], check: Any = check_values) -> str:
    with pytest.raises(ClipRobustError) as caught:
        check(values, PLACE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def nested(depth: int, value: Any = 1) -> dict[str, Any]:
    """Return a value so many levels deep; 1: in the object itself."""
    for _ in range(depth - 1):
        value = {"x": value}
    return {"x": value}


@pytest.mark.parametrize("name", LIMITS)
def test_each_setting_at_its_limits_and_beyond(name: str) -> None:
    least, most = LIMITS[name]
    assert limit_of(name) == limit_of(f"num_{name}") == name
    assert limit_of(f"num{name}") != name
    for value in (least, most, float(most)):
        check_values({f"num_{name}": value}, PLACE)
    for value in (least - 1, most + 1, least + 0.5):
        words = f"'num_{name}' is {value!r:.30}; it must be a whole number from {least} to {most}"
        assert words in refused({f"num_{name}": value})
    check_values({name: True}, PLACE)


def test_all_limits_are_held() -> None:
    assert set(configuration._LIMITS) == set(LIMITS)
    assert limit_of("min_depth") is None
    assert limit_of("max_depth") is None
    assert limit_of("my_max_depth") == "depth"


@pytest.mark.parametrize("factor", [1e-9, 1, 1.5, 10])
def test_factors_that_may_be(factor: float) -> None:
    check_values({"width_coefficient": factor}, PLACE)


@pytest.mark.parametrize("factor", [0, -1, 10.0001])
def test_factors_that_may_not_be(factor: float) -> None:
    assert "above 0, and 10 at most" in refused({"width_coefficient": factor})


def test_numbers_texts_lists_and_levels_that_no_model_has() -> None:
    for fine in (10**8, -(10**8), "x" * 4096, [1] * 64, False, None):
        check_values({"a": {"b": fine}}, PLACE)
    for number in (10**8 + 1, -(10**8) - 1, math.inf, -math.inf, math.nan):
        assert "which no model has" in refused({"a": {"b": number}})
        assert "which no model has" in refused({"a": [1, [number]]})
    assert "'b' is 4097 letters long" in refused({"a": {"b": "x" * 4097}})
    assert "is a list of 65" in refused({"a": [[1] * 65]})
    check_values(nested(8), PLACE)
    assert "holds more than any model's" in refused(nested(9))
    deep: Any = 1
    for _ in range(8):
        deep = [deep]
    assert "holds more than any model's" in refused({"x": deep})
    # A list of 64 lists of 64 is 4,161 entries with itself.
    many = {str(i): [[0] * 64] * 64 for i in range(12)}
    assert sum(1 + 64 + 64 * 64 for _ in many) == 49_932
    check_values({**many, **{f"y{i}": 0 for i in range(68)}}, PLACE)
    assert "holds more than" in refused({**many, **{f"y{i}": 0 for i in range(69)}})


def test_a_name_is_cut_where_it_is_told() -> None:
    assert f"{'k' * 60!r} is" in refused({"k" * 70: math.nan})


def test_only_layers_are_limited_where_the_rest_is_left_to_the_library() -> None:
    for name, most in (("num_layers", 256), ("depth", 256), ("repeats", 256)):
        for fine in (most, 0, -1, True):
            check_size_of({name: fine, "parts": [{name: fine}]}, PLACE)
        assert f"'{name}' is 257; it must be 256 at most" in refused({name: 257}, check_size_of)
        assert "at most" in refused({"a": [[{name: math.nan}]]}, check_size_of)
    check_size_of({"hidden_size": 10**9, "text": "x" * 10**5, "many": [0] * 1000}, PLACE)
    check_size_of(nested(8), PLACE)
    assert "holds more than any model's" in refused(nested(9), check_size_of)
    check_size_of({"x": [0] * 49_999}, PLACE)
    assert "holds more than any model's" in refused({"x": [0] * 50_000}, check_size_of)


@pytest.mark.parametrize(
    ("value", "is_size"),
    [
        *((fine, True) for fine in (7, [7], (7, 8), [1, 2, 3, 4])),
        *((wrong, False) for wrong in ([1, 2, 3, 4, 5], [], True, [True], "7", 7.0, None)),
    ],
)
def test_what_is_a_size(value: Any, is_size: bool) -> None:
    assert configuration._is_size(value) == is_size


@pytest.mark.parametrize("value", [0, -3, True, 1.0, "1", None])
def test_what_is_no_count(value: Any) -> None:
    configuration._whole({"embed_dim": 1}, "embed_dim", PLACE)
    with pytest.raises(ClipRobustError, match="embed_dim must be a whole number above 0"):
        configuration._whole({"embed_dim": value}, "embed_dim", PLACE)


def test_what_chooses_code_is_left_out_on_every_level() -> None:
    config = dict.fromkeys(configuration._IMPLEMENTATION, 1)
    plain = configuration.plain_transformers(
        {"a": 1, **config, "b": {"c": [2], **config}, "quantization_config": None}, PLACE
    )
    assert plain == {"a": 1, "b": {"c": [2]}, "quantization_config": None}
    with pytest.raises(ClipRobustError, match="its weights are quantised"):
        configuration.plain_transformers({"b": {"quantization_config": {"bits": 4}}}, PLACE)


@pytest.mark.parametrize(
    "config",
    [
        {"attn_implementation": "owner/kernel"},
        {"b": {"use_kernels": "hub:kernel"}},
        {"backbone": "resnet50"},
        {"model_type": "timm_wrapper", "architecture": "no-such-tower"},
        {"model_type": "timm_backbone", "backbone": "hub:resnet50"},
        {"model_type": "timm_wrapper", "architecture": "a/resnet50"},
        {"model_type": "timm_wrapper", "architecture": 7},
        {"model_type": "timm_wrapper", "architecture": "resnet18", "model_args": {"cache_dir": 1}},
        {"model_type": "timm_wrapper", "model_args": {"depth": 2, "checkpoint_path": "x"}},
        {"model_type": "timm_wrapper", "model_args": {"pretrained": False}},
    ],
)
def test_names_that_are_asked_elsewhere(config: dict[str, Any]) -> None:
    refused(config, configuration.check_names)
    refused({"inside": config}, configuration.check_names)


@pytest.mark.parametrize(
    "config",
    [
        {"attn_implementation": "sdpa", "use_kernels": True, "name": "owner/name"},
        {"backbone": None},
        {"model_type": "timm_wrapper", "architecture": "resnet18", "model_args": {"depth": 2}},
        {"model_type": "timm_backbone", "backbone": "resnet18"},
        {"model_type": "timm_backbone", "model_args": None},
    ],
)
def test_names_that_are_known_here(config: dict[str, Any]) -> None:
    configuration.check_names({"inside": config, **config}, PLACE)


def test_files_are_as_large_as_they_may_be(tmp_path: Path) -> None:
    place = tmp_path / "config.json"
    content = json.dumps({"a": 1})
    for extra, fits in ((0, True), (1, False)):
        place.write_text(content + " " * (2**24 - len(content) + extra))
        if fits:
            assert configuration.read_configuration(place) == {"a": 1}
        else:
            with pytest.raises(ClipRobustError):
                configuration.read_configuration(place)
    for name in ("tokenizer.json", "tokenizer.model", "merges.txt"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**27)
        configuration.check_tokenizer_files(tmp_path)
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**27 + 1)
        with pytest.raises(ClipRobustError, match=f"{name} has 134217729 bytes"):
            configuration.check_tokenizer_files(tmp_path)
        (tmp_path / name).unlink()


@pytest.mark.parametrize("key", ["hf_tokenizer_name", "hf_model_name"])
def test_names_of_the_hub_are_texts(key: str) -> None:
    for name in ("owner/name", None):
        configuration._check_tokenizer({key: name}, PLACE)
    with pytest.raises(ClipRobustError, match=f"{key} 7 is no name of the model hub"):
        configuration._check_tokenizer({key: 7}, PLACE)


def test_only_names_that_may_be_slips_are_compared_with_all_towers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def did_you_mean(name: str, known: list[str]) -> str:
        asked.append(name)
        return ""

    monkeypatch.setattr(configuration, "did_you_mean", did_you_mean)
    for name in ("a" * 59, "a" * 60):
        with pytest.raises(ClipRobustError, match="no architecture of the installed timm"):
            configuration._check_timm({"timm_model_name": name}, PLACE)
    assert asked == ["a" * 59]

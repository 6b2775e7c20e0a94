"""What of an adapter's configuration and tensors is looked at before peft sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets.adapter import _check, _check_numbers, _settings, base_of, merged
from pytest_cliprobust.targets.adapter_folder import _base, load_adapter

PLACE = Path("adapter_config.json")

#: The tensors of an adapter of rank 4 on a layer of 8 by 16.
STATE = {
    "base_model.model.text.fc.lora_A.weight": torch.zeros(4, 16),
    "base_model.model.text.fc.lora_B.weight": torch.zeros(8, 4),
}


def write(folder: Path, **settings: Any) -> Path:
    """Write a configuration of an adapter."""
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **settings}))
    return folder


def refused(call: Any, *given: Any) -> str:
    """Return the one line that a call ends with."""
    with pytest.raises(ClipRobustError) as caught:
        call(*given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_an_adapter_belongs_to(tmp_path: Path) -> None:
    assert base_of(write(tmp_path, base_model_name_or_path="o/n")) == "o/n"
    for none in (None, "", 7):
        write(tmp_path, base_model_name_or_path=none)
        assert "does not name the model that the adapter belongs to" in refused(base_of, tmp_path)


def test_a_base_may_lie_beside_its_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As paths in a training script are, it is relative to somewhere; the working directory wins."""
    folder = tmp_path / "delta"
    (folder / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert _base("m", folder, "base") == folder / "base"
    (tmp_path / "base").mkdir()
    assert _base("m", folder, "base").resolve() == tmp_path / "base"
    assert "is an adapter for './none', which is not found" in refused(_base, "m", folder, "./none")


def test_a_folder_with_its_own_weights_takes_no_other_base(tmp_path: Path) -> None:
    (write(tmp_path) / "config.json").write_text("{}")

    def load() -> None:
        load_adapter(
            "m",
            str(tmp_path),
            pretrained="other",
            device=torch.device("cpu"),
            precision="fp32",
            activation=None,
        )

    assert "holds the weights that its adapter belongs to; drop --clip-pretrained" in refused(load)


def test_settings_that_decide_the_weights_are_kept() -> None:
    used = {
        "r": 4,
        "lora_alpha": 8.0,
        "use_rslora": True,
        "bias": "none",
        "rank_pattern": {"text.fc": 2},
        "alpha_pattern": {},
    }
    given = {
        "peft_type": "LORA",
        **used,
        "use_dora": None,
        "lora_dropout": 0.1,
        "target_modules": ["fc"],
        "something_new": None,
        "something_off": False,
    }
    assert _settings(given, PLACE) == used


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"peft_type": "IA3"}, "peft_type 'IA3' is not supported, LORA is"),
        ({"peft_type": None}, "peft_type None is not supported"),
        ({"something_new": 1}, "'something_new' (1) is not supported"),
        ({"r": [4]}, "'r' ([4]) is not supported"),
        ({"rank_pattern": [4]}, "'rank_pattern' ([4]) is not supported"),
        ({"rank_pattern": None}, "'rank_pattern' (None) is not supported"),
        ({"rank_pattern": {"a": 1, ".*+": 4}}, "'rank_pattern'"),
        ({"alpha_pattern": {"a": 1, "fc": "4"}}, "'alpha_pattern'"),
    ],
)
def test_settings_that_are_not_known(settings: dict[str, Any], words: str) -> None:
    assert words in refused(_settings, {"peft_type": "LORA", **settings}, PLACE)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"r": 1, "lora_alpha": 1e-9},
        {"r": 16, "lora_alpha": 10**6},
        {"rank_pattern": {"a": 16}, "alpha_pattern": {"a": 0.5, "b": 10**6}},
    ],
)
def test_ranks_and_scales_that_may_be(settings: dict[str, Any]) -> None:
    _check_numbers(settings, {**STATE, "other": torch.zeros(99)}, PLACE)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"r": 0}, "rank 'r' is 0; it must be a whole number from 1 to 16"),
        ({"r": 17}, "rank 'r' is 17"),
        ({"r": True}, "rank 'r' is True"),
        ({"r": 4.0}, "rank 'r' is 4.0"),
        ({"r": 4, "rank_pattern": {"a": 4, "b": 99}}, "rank 'b' is 99"),
        ({"lora_alpha": 0}, "scale 'lora_alpha' is 0; it must be a number above 0"),
        ({"lora_alpha": -1.0}, "scale 'lora_alpha' is -1.0"),
        ({"lora_alpha": 10**6 + 1}, "scale 'lora_alpha' is 1000001"),
        ({"lora_alpha": float("nan")}, "scale 'lora_alpha' is nan"),
        ({"lora_alpha": True}, "scale 'lora_alpha' is True"),
        ({"lora_alpha": "8"}, "scale 'lora_alpha' is '8'"),
        ({"alpha_pattern": {"a": 1, "b": 0}}, "scale 'b' is 0"),
    ],
)
def test_ranks_and_scales_that_may_not_be(settings: dict[str, Any], words: str) -> None:
    assert words in refused(_check_numbers, settings, STATE, PLACE)


def test_without_tensors_only_a_rank_of_one_may_be() -> None:
    _check_numbers({"r": 1}, {}, PLACE)
    assert "from 1 to 1, as" in refused(_check_numbers, {"r": 2}, {}, PLACE)


class Model(nn.Module):
    """A model with one module that an adapter may be for."""

    def __init__(self) -> None:
        super().__init__()
        self.text = nn.ModuleDict({"fc": nn.Linear(16, 8)})


def test_every_tensor_of_an_adapter_has_its_module() -> None:
    model = Model()
    _check(model, STATE, ["text.fc"], PLACE)
    told = refused(_check, model, STATE, ["text.fc", "text.other"], PLACE)
    assert "it has no module 'text.other'; it belongs to another model" in told
    assert "it holds no LoRA tensors" in refused(_check, model, {}, [], PLACE)
    whole = {**STATE, "base_model.model.head.weight": torch.zeros(1)}
    told = refused(_check, model, whole, ["text.fc"], PLACE)
    assert "holds whole weights ('base_model.model.head.weight', modules_to_save)" in told
    _check(model, {**STATE, "elsewhere.weight": torch.zeros(1)}, ["text.fc"], PLACE)


def test_weights_of_an_adapter_lie_beside_its_configuration(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    write(tmp_path, r=4)
    told = refused(merged, Model(), tmp_path, "m")
    assert told == f"folder {tmp_path} has adapter_config.json, and no adapter_model.safetensors"
    other: dict[str, Tensor] = {
        "base_model.model.text.fc.lora_A.weight": torch.zeros(4, 16),
        "base_model.model.vision.fc.lora_A.weight": torch.zeros(4, 16),
    }
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        path = tmp_path / name
        torch.save(other, path) if name.endswith("bin") else save_file(other, path)
        assert "it has no module 'vision.fc'" in refused(merged, Model(), tmp_path, "m")
        path.unlink()

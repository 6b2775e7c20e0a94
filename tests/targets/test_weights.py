"""Which files a model's weights came from: what a verdict belongs to."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from model_helpers import VIT, write_folder
from safetensors.torch import load_file, save_file

from pytest_cliprobust.files import sha256_of
from pytest_cliprobust.plugin.processes import weights_of
from pytest_cliprobust.results.run import ModelSummary
from pytest_cliprobust.targets.checkpoint import note_file, noting_files
from pytest_cliprobust.targets.loading import load_target


def named(target: object) -> list[str]:
    return [path.name for path in target.info.weights]  # type: ignore[attr-defined]


def test_a_folder_has_its_file_and_shards_are_all_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", VIT)
    whole = load_target(str(folder))
    (file,) = whole.info.weights
    assert sha256_of(file) == hashlib.sha256(file.read_bytes()).hexdigest()
    state = load_file(file)
    file.unlink()
    halves = {"a.safetensors": list(state)[::2], "b.safetensors": list(state)[1::2]}
    for name, keys in halves.items():
        save_file({key: state[key] for key in keys}, folder / name)
    places = {key: name for name, keys in halves.items() for key in keys}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    sharded = load_target(str(folder))
    assert sorted(named(sharded)) == ["a.safetensors", "b.safetensors"]
    assert sharded.info.digest == whole.info.digest


def test_a_checkpoint_beside_the_model_takes_the_place_of_its_own(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", VIT)
    (file,) = load_target(str(folder)).info.weights
    other = tmp_path / "other.pt"
    torch.save(load_file(file), other)
    assert named(load_target(f"{folder}@{other}")) == ["other.pt"]


def test_the_bundled_model_has_one_file_and_a_twin_that_of_its_parent() -> None:
    parent = load_target("reference")
    assert len(parent.info.weights) == 1
    assert load_target("reference@int8").info.weights == parent.info.weights


def test_files_are_noted_each_once_and_by_whoever_asks(tmp_path: Path) -> None:
    note_file(tmp_path)  # nobody asks
    with noting_files() as outer:
        note_file(tmp_path / "a")
        with noting_files() as inner:
            note_file(tmp_path / "b")
            note_file(tmp_path / "b")
        assert inner == [tmp_path / "b"]
    assert outer == [tmp_path / "a", tmp_path / "b"]


def test_a_file_that_changes_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "w"
    file.write_bytes(b"one")
    first = sha256_of(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))
    assert sha256_of(file) == hashlib.sha256(b"two").hexdigest() != first
    with pytest.raises(OSError, match="No such file"):
        sha256_of(tmp_path / "none")


def test_reports_name_files_apart_and_leave_out_what_has_gone(tmp_path: Path) -> None:
    paths = [tmp_path / "base" / "w", tmp_path / "lora" / "w", tmp_path / "gone"]
    for number, path in enumerate(paths[:2]):
        path.parent.mkdir()
        path.write_bytes(bytes([number]))
    found = weights_of(paths)
    assert found == {
        "base/w": hashlib.sha256(b"\0").hexdigest(),
        "lora/w": hashlib.sha256(b"\1").hexdigest(),
    }
    summary = ModelSummary("m", "a", "p", "d", (), {}, "cpu", "fp32", weights=found)
    told = json.loads(json.dumps(summary.as_dict()))
    assert ModelSummary.from_dict(told) == summary
    del told["weights"]
    assert ModelSummary.from_dict(told).weights == {}

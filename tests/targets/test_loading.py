"""What a name may mean, and what it is told where it means nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets import (
    bundled_multimodal,
    multimodal_loading,
    open_clip_target,
    reference,
)
from pytest_cliprobust.targets.folder import load_any_folder
from pytest_cliprobust.targets.loading import load_target
from pytest_cliprobust.targets.multimodal_loading import load_multimodal
from pytest_cliprobust.targets.open_clip_target import _downloaded, _tag_facts
from pytest_cliprobust.targets.registry import TARGETS, kind_of, listed_names, register_target


def refused(name: str) -> str:
    with pytest.raises(ClipRobustError) as caught:
        load_target(name, device="cpu")
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mine:a-b", "unknown model 'mine:a-b'"),
        ("mi-ne:ab", "unknown model 'mi-ne:ab'"),
        ("mine.x-y:ab", "unknown model"),
        ("mine:a.b-c", "unknown model"),
        ("mine:", "unknown model 'mine:'"),
        ("mine", "unknown model 'mine'"),
        ("json:loads", "is a part of Python's own library, and no encoder"),
        ("os.path:join", "is a part of Python's own library, and no encoder"),
        ("no_such_module_here.inner:a.b", "cannot be imported (ModuleNotFoundError"),
    ],
)
def test_only_a_module_and_its_attribute_are_imported(name: str, words: str) -> None:
    assert words in refused(name)


def test_a_module_in_the_working_directory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``python -m`` finds it, although pytest runs as a script."""
    (tmp_path / "encoders_beside.py").write_text("class Outer:\n    number = 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    assert "is a int" in refused("encoders_beside:Outer.number")
    assert sys.path.count(str(tmp_path)) == 1
    assert "is a int" in refused("encoders_beside:Outer.number")
    assert sys.path.count(str(tmp_path)) == 1
    monkeypatch.delitem(sys.modules, "encoders_beside")


def test_folders_that_are_no_model(tmp_path: Path) -> None:
    def told(folder: Path) -> str:
        with pytest.raises(ClipRobustError) as caught:
            load_any_folder("m", str(folder))
        return str(caught.value)

    assert "there is no folder" in told(tmp_path / "none")
    (tmp_path / "file").touch()
    assert "there is no folder" in told(tmp_path / "file")
    assert "which tell its format, nor one checkpoint" in told(tmp_path)
    (tmp_path / "snapshots").mkdir()
    assert told(tmp_path).endswith(f"give one of its snapshots, {tmp_path / 'snapshots'}")
    for name in ("b", "a"):
        (tmp_path / "snapshots" / name).mkdir()
    assert told(tmp_path).endswith(f"give one of its snapshots, {tmp_path / 'snapshots' / 'a'}")


def test_kinds_of_models_are_found_by_name_prefix_and_looks() -> None:
    with TARGETS.preserved():
        register_target("own_name")(lambda: None)
        register_target("own_prefix:")(lambda source: None)
        register_target(
            "own looks", recognise=lambda name: name.startswith("looks"), names=lambda: ("looks-1",)
        )(lambda source: None)

        def found(name: str) -> tuple[str, str | None] | None:
            kind = kind_of(name)
            return None if kind is None else (kind[0].name, kind[1])

        assert found("own_name") == ("own_name", None)
        assert found("own_prefix:a:b") == ("own_prefix:", "a:b")
        assert found("looks-7") == ("own looks", "looks-7")
        assert found("own_prefix") is None
        assert found("own looks") is None
        with pytest.raises(ClipRobustError, match="names nothing after own_prefix:"):
            kind_of("own_prefix:")
        listed = list(listed_names())
        assert {"own_name", "looks-1"} <= set(listed)
        assert not {"own_prefix:", "own looks"} & set(listed)


def test_bundled_models_are_named_the_first_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "data_folder", lambda: tmp_path)
    for name in ("reference-b", "reference", "reference-a", "other", "reference-none"):
        (tmp_path / name).mkdir()
        if name != "reference-none":
            (tmp_path / name / "open_clip_config.json").touch()
    assert reference.reference_names() == ("reference", "reference-a", "reference-b")


# --- Tags of open_clip ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "facts"),
    [
        ("openai", {"fine_tuned": "no", "training_data": "WIT-400M"}),
        (
            "laion2b_s34b_b79k",
            {"fine_tuned": "no", "training_data": "LAION-2B", "samples_seen": "3.4e+10"},
        ),
        (
            "mscoco_finetuned_laion2B-s13B-b90k",
            {"fine_tuned": "yes", "training_data": "LAION-2B", "samples_seen": "1.3e+10"},
        ),
        ("laion400m_e32_ft", {"fine_tuned": "yes", "training_data": "LAION-400M"}),
        ("datacompdr", {"fine_tuned": "no", "training_data": "DataCompDR"}),
        ("dfn2b", {"fine_tuned": "no", "training_data": "DFN"}),
        ("metaclip2_worldwide", {"fine_tuned": "no", "training_data": "MetaCLIP 2"}),
        ("frozen_laion5b_e3", {"fine_tuned": "no", "training_data": "LAION-5B"}),
        ("mine_s128m", {"fine_tuned": "no", "samples_seen": "1.28e+08"}),
        ("mine", {"fine_tuned": "no"}),
    ],
)  # fmt: skip
def test_what_a_tag_tells(tag: str, facts: dict[str, str]) -> None:
    assert _tag_facts(tag) == facts


def test_which_files_of_a_repository_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Safetensors first: they are read without running anything."""
    asked: list[Any] = []
    monkeypatch.setattr(open_clip_target, "hub_file", lambda *given: asked.append(given))
    monkeypatch.setattr(open_clip_target, "read_checkpoint", lambda path: path)
    _downloaded("m", "laion/CLIP/")
    _downloaded("m", "laion/CLIP/other.pt")
    assert asked == [
        ("laion/CLIP", ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"), "m"),
        ("laion/CLIP", ("other.safetensors", "other.pt"), "m"),
    ]


# --- Multimodal models ------------------------------------------------------------------------------


def test_where_a_multimodal_model_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    asked: list[Any] = []
    monkeypatch.setattr(bundled_multimodal, "load", lambda device: f"bundled on {device}")
    monkeypatch.setattr(
        multimodal_loading, "hub_folder", lambda name, *_: tmp_path / name.replace("/", "-")
    )

    def load_folder(*given: Any) -> tuple[str, str]:
        asked.append(given)
        return "model", "processor"

    monkeypatch.setattr(multimodal_loading, "load_folder", load_folder)
    monkeypatch.setattr(multimodal_loading, "MultimodalModel", lambda *given: given)
    load: Any = load_multimodal
    assert load(bundled_multimodal.NAME, device=cpu) == "bundled on cpu"
    assert load("o/n", device=cpu) == ("model", "processor", "o/n", cpu)
    load(str(tmp_path), device=gpu)
    load(str(tmp_path), device=gpu, precision="bf16")
    assert asked == [
        (tmp_path / "o-n", "o/n", torch.float32),
        (tmp_path, str(tmp_path), "auto"),
        (tmp_path, str(tmp_path), torch.bfloat16),
    ]
    for name in ("n", "a/b/c", "./o/n", "/none", "~/none"):
        with pytest.raises(ClipRobustError, match="there is no folder"):
            load(name, device=cpu)


def test_a_checkpoint_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.touch()
    with pytest.raises(
        ClipRobustError, match=r"names a checkpoint, and --clip-pretrained names 'x'"
    ):
        load_target(f"ViT-B-32@{path}", pretrained="x", device="cpu")


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("reference", True),
        ("reference-", True),
        ("reference-small", True),
        ("references", False),
        ("a-reference", False),
        ("Reference", False),
    ],
)
def test_names_of_bundled_models(name: str, means: bool) -> None:
    assert reference.is_reference(name) == means


def test_a_bundled_model_that_is_none_is_told_with_those_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ClipRobustError, match=r"no bundled model 'reference-x'\..*Bundled are: ref"
    ):
        load_target("reference-x", device="cpu")
    monkeypatch.setattr(reference, "data_folder", lambda: tmp_path)
    with pytest.raises(ClipRobustError, match=r"Bundled are: none \(the package is incomplete"):
        load_target("reference", device="cpu")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ViT-B-3/openai", "Did you mean 'ViT-B-32/openai'?"),
        ("VIT-B-32/a/b", ""),
        ("referenze", "Did you mean 'reference'?"),
        ("nothing like it at all", ""),
    ],
)
def test_a_near_name_is_offered_with_its_tag(name: str, hint: str) -> None:
    told = refused(name)
    assert told.startswith(f"unknown model {name!r}.")
    assert hint in told
    assert ("Did you mean" in told) == bool(hint) or name.startswith("VIT")

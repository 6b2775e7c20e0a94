"""A model hub out of reach is told before anything heavy is imported, where it is sure that it is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import Sessions
from huggingface_hub import constants

from pytest_cliprobust.datasets.sources import read_sources
from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.errors import Unavailable
from pytest_cliprobust.plugin.reach import require_reach
from pytest_cliprobust.targets import hub


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def config(model: str, data: str = "embedded", **more: Any) -> RunConfig:
    sets = () if data == "embedded" else read_sources([data])
    return RunConfig((model,), data=data, sets=sets, **more)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (config("ViT-B-32"), "model 'ViT-B-32' is not in the local cache"),
        (config("ViT-B-32/openai"), "model 'ViT-B-32/openai' is not in the local cache"),
        (config("ViT-B/32", pretrained="openai"), "model 'ViT-B/32' is not"),
        (config("hf-hub:a/b"), "model 'hf-hub:a/b' is not .*; give a local folder as --clip-model"),
        (config("transformers:a/b"), "model 'transformers:a/b' is not"),
        (config("mine", sources={"mine": "hf-hub:a/b"}), "model 'hf-hub:a/b' is not"),
        (config("reference", "hub:a/b@main"), "data set 'hub:a/b@main' is not .*--clip-data ROLE="),
        (config("reference", "hub"), "djghosh/wds_imagenet1k_test' is not"),
    ],
)
def test_what_lies_on_the_hub_is_asked_for_first(given: RunConfig, words: str) -> None:
    with pytest.raises(Unavailable, match=words):
        require_reach(given)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    "given",
    [
        config("reference"),
        config("module:model"),
        config("ViT-B-32/nonsense"),  # a mistake, which its loader tells
        config("ViT-B-32", pretrained="mine.pt"),
        config("ViT-B-32@mine.pt"),
        config("transformers:./a"),
        config("hf-hub:a"),
        config(
            "reference", "far_ood=hub:a/b"
        ),  # a test that needs it may not be among those chosen
        config("reference", "hub:a"),
    ],
)
def test_what_is_not_sure_is_left_to_those_who_load(given: RunConfig) -> None:
    require_reach(given)


def test_what_is_in_the_cache_needs_no_hub(cache: Path) -> None:
    for name in (
        "models--a--b",
        "datasets--a--b",
        "models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K",
    ):
        (cache / name).mkdir()
    for given in (config("hf-hub:a/b"), config("reference", "hub:a/b"), config("ViT-B-32")):
        require_reach(given)
    with pytest.raises(Unavailable, match="model 'hf-hub:a/c'"):
        require_reach(config("hf-hub:a/c"))


def test_it_is_told_before_torch_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys, pytest; code = pytest.main(['--clip-model=ViT-B-32', '--clip-suites']); "
        "print(int(code), 'torch' in sys.modules)"
    )
    own = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | own,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "7 False"
    errors = [line for line in done.stderr.splitlines() if line]
    assert len(errors) == 1
    assert errors[0].startswith(
        "ERROR: model 'ViT-B-32' is not in the local cache and the model hub"
    )


@pytest.mark.usefixtures("cache")
def test_listing_and_reports_are_as_before(run: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report of a run that did not begin is written, which takes what evaluates models."""

    def refuse(wanted: str, remedy: str = "") -> None:
        raise Unavailable(f"{wanted}: no hub")

    monkeypatch.setattr(hub, "require_hub", refuse)
    suite = "def test_mine(clip): pass"
    result = run("--clip-model=hf-hub:a/b", suite=suite)
    assert result.ret == 7
    assert [line for line in result.errlines if line] == ["ERROR: model 'hf-hub:a/b': no hub"]
    assert run.again("--clip-model=hf-hub:a/b", "--co", "-q").ret == 0
    again = run.again("--clip-model=hf-hub:a/b", "--clip-report=r.json")
    assert again.ret == 7
    assert '"troubles": [' in (run.path / "r.json").read_text()

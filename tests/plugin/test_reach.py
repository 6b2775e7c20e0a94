"""A model hub out of reach is told before anything heavy is imported, where it is sure that it is needed."""

from __future__ import annotations

import json
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
        (config("reference", "clean=hub:a/b"), "data set 'hub:a/b' is not"),
        (config("reference", "hub"), "data set 'hub:djghosh/wds_imagenet1k_test' is not"),
        (config("reference", "clean=hub"), "djghosh/wds_imagenet1k_test' is not"),
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
        config("ViT-Q-99/openai"),
        config("ViT-Q-99", pretrained="openai"),
        config("ViT-B-32", pretrained="mine.pt"),
        config("ViT-B-32@mine.pt"),
        config("transformers:./a"),
        config("hf-hub:a"),
        config(
            "reference", "far_ood=hub:a/b"
        ),  # a test that needs it may not be among those chosen
        config("reference", "far_ood=hub"),
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


def test_every_model_and_every_data_set_of_clean_is_looked_at(cache: Path) -> None:
    """Also behind one that lies on the disk, in the cache, or is none of the hub's."""
    (cache / "models--a--b").mkdir()
    (cache / "datasets--a--b").mkdir()
    for first in ("./mine.pt", "reference", "hf-hub:a/b"):
        for second, words in (
            ("hf-hub:a/c", "model 'hf-hub:a/c'"),
            ("ViT-B-32", "model 'ViT-B-32'"),
        ):
            with pytest.raises(Unavailable, match=words):
                require_reach(RunConfig((first, second)))
        require_reach(RunConfig((first, "reference")))
    for first in ("imagefolder:x", "far_ood=hub:a/c", "clean=hub:a/b"):
        with pytest.raises(Unavailable, match="data set 'hub:a/d'"):
            require_reach(RunConfig(("reference",), sets=read_sources([first, "clean=hub:a/d"])))
        require_reach(RunConfig(("reference",), sets=read_sources([first])))


def started(tmp_path: Path, *options: str) -> tuple[list[str], list[str]]:
    """Run a session in its own process, offline, which ends with a word on torch: both outputs' lines."""
    code = (
        "import sys, pytest\n"
        "class Listener:\n"
        "    def pytest_collection(self): print('collecting', file=sys.stderr, flush=True)\n"
        f"code = pytest.main({list(options)!r}, plugins=[Listener()])\n"
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
    return done.stdout.splitlines(), [line for line in done.stderr.splitlines() if line]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--clip-model=ViT-B-32"], "ERROR: model 'ViT-B-32' is not in the local cache"),
        (
            ["--clip-model=reference", "--clip-data=hub"],
            "ERROR: data set 'hub:djghosh/wds_imagenet1k_test' is not in the local cache",
        ),
    ],
)
def test_it_is_told_before_torch_is_imported(
    tmp_path: Path, options: list[str], words: str
) -> None:
    out, errors = started(tmp_path, *options, "--clip-suites")
    assert out[-1] == "7 False"
    assert len(errors) == 1
    assert errors[0].startswith(words)


def test_it_is_told_first_where_a_report_was_asked_for(tmp_path: Path) -> None:
    """What the report takes is imported behind the line, which is said once."""
    (tmp_path / "test_plain.py").write_text("def test_plain(): pass")
    out, errors = started(tmp_path, "--clip-model=ViT-B-32", "--clip-report=r.json")
    assert out[-1] == "7 False"
    assert [line.partition(" is not")[0] for line in errors] == [
        "ERROR: model 'ViT-B-32'",
        "collecting",
    ]


@pytest.mark.usefixtures("cache")
def test_listing_goes_on_and_a_report_is_written(
    run: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert [line for line in again.errlines if line] == ["ERROR: model 'hf-hub:a/b': no hub"]
    told = json.loads((run.path / "r.json").read_text())
    assert told["troubles"] == ["model 'hf-hub:a/b': no hub"]
    assert [one["test"] for one in told["missing"]] == ["test_mine.py::test_mine[hf-hub:a/b]"]
    unwritable = run.again("--clip-model=hf-hub:a/b", "--clip-report=test_mine.py/r.json")
    assert unwritable.ret == 4
    assert [line.partition(":")[0] for line in unwritable.errlines if line] == ["ERROR", "ERROR"]
